//! Watches what nobody asks for: locks that begin while a series is idle, budgets that run out at
//! the present rate, and undelivered invoices that grow old. Apart from the delivery workers, so
//! that one that hangs is noticed.

use super::Core;
use crate::{
    clock::Clock,
    contract::Profiles,
    convert::metric,
    metrics::{self, metrics},
    model::{CstTime, DeviceNo, Kind},
    numbering::{Load, Numbering},
    refusal::Reason,
    registry::{Device, Registry, ZeroLimit},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// How often everything is looked at.
pub const WATCH_EVERY: Duration = Duration::from_secs(5);
/// A lock that is nearer than this is warned of.
const WARN_BEFORE_S: u64 = 3600;
/// Weight of the newest rate in the mean, of 1: it forgets in about a minute.
const NEWEST: f64 = 0.2;

/// Says every limit that may lock.
pub const LOCKS: [Reason; 4] =
    [Reason::PeriodLocked, Reason::OfflineTime, Reason::UploadDeadline, Reason::OfflineCount];

/// What the limits of a device and kind leave, as committed.
#[must_use]
pub fn load_of<'a>(
    (numbering, profiles): (&Numbering, &Profiles),
    registry: &'a Registry,
    device: &Device,
    kind: Kind,
) -> Load<'a> {
    let facts = registry.monitor(device.no, kind).map(|monitor| &monitor.facts);
    let profile = profiles.get(&device.profile);
    let zero = profile.map_or_else(ZeroLimit::default, |profile| profile.limits.zero);
    numbering.load_of(device.no, kind, (facts, zero))
}

impl Core {
    /// What the limits of a device and kind leave, as committed.
    #[must_use]
    pub fn load_of<'a>(&self, registry: &'a Registry, device: &Device, kind: Kind) -> Load<'a> {
        load_of((&self.numbering, &self.profiles), registry, device, kind)
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> CstTime {
        self.clock.now()
    }
}

/// How a series stood at the last look.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    lock: Option<Reason>,
    warned: bool,
    undelivered: u64,
    /// Mean growth of what is undelivered. Unit: invoices per second.
    rate: f64,
}

/// The watch.
#[derive(Debug)]
pub struct Watch {
    numbering: Numbering,
    profiles: Profiles,
    clock: Clock,
    alarm_age: Duration,
    before: HashMap<(DeviceNo, Kind), Before>,
    looked: Option<Duration>,
    alarmed: bool,
}

/// What one look found, over all series.
#[derive(Debug, Default, PartialEq)]
pub struct Look {
    /// Series that issue nothing, by what locks them.
    pub locked: BTreeMap<&'static str, u64>,
    /// Until the first of the others locks, at the present rate. Unit: seconds.
    pub next_lock_s: Option<u64>,
    /// Age of the oldest undelivered invoice. Unit: seconds.
    pub oldest_s: u64,
}

impl Watch {
    /// Watches what `numbering` shows. An alarm is raised when the oldest undelivered invoice is
    /// older than `alarm_age`.
    #[must_use]
    pub fn new(
        numbering: Numbering,
        profiles: Profiles,
        clock: Clock,
        alarm_age: Duration,
    ) -> Self {
        let (before, looked, alarmed) = (HashMap::new(), None, false);
        Self { numbering, profiles, clock, alarm_age, before, looked, alarmed }
    }

    /// Looks at every series once; says and measures what has changed.
    pub fn look(&mut self) -> Look {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let since = self.looked.replace(elapsed).map(|looked| elapsed.saturating_sub(looked));
        let registry = self.numbering.registry();
        let mut look = Look::default();
        for device in registry.devices.values() {
            for kind in device.kinds.iter().copied() {
                let load = load_of((&self.numbering, &self.profiles), &registry, device, kind);
                let before = self.before.entry((device.no, kind)).or_default();
                one(&mut look, before, (device, kind), (&load, now, since));
            }
        }
        self.measure(&look);
        look
    }

    fn measure(&mut self, look: &Look) {
        for reason in LOCKS {
            let count = look.locked.get(reason.name()).copied().unwrap_or_default();
            metrics::series_locked(reason.name(), count);
        }
        metrics().oldest_undelivered.set(metric(look.oldest_s));
        let next = look.next_lock_s.map_or(f64::INFINITY, metric);
        metrics().next_lock.set(next);
        let old = Duration::from_secs(look.oldest_s) > self.alarm_age;
        if old && !self.alarmed {
            let age_s = look.oldest_s;
            tracing::error!(age_s, "ALARM: the oldest undelivered invoice is older than it may be");
        }
        self.alarmed = old;
    }
}

fn one(
    look: &mut Look,
    before: &mut Before,
    (device, kind): (&Device, Kind),
    (load, now, since): (&Load<'_>, CstTime, Option<Duration>),
) {
    let (id, kind) = (&device.id, kind.legacy_code());
    let lock = load.lock(now);
    if let Some(why) = &lock {
        let count = look.locked.entry(why.reason.name()).or_default();
        *count = count.saturating_add(1);
    }
    let reason = lock.as_ref().map(|why| why.reason);
    if reason != before.lock {
        match &lock {
            Some(why) => tracing::error!(device = id, kind, "LOCKED: {why}"),
            None => tracing::warn!(device = id, kind, "unlocked"),
        }
    }
    before.lock = reason;
    let undelivered = load.offline.count;
    if let Some(since) = since.filter(|since| !since.is_zero()) {
        let grown = metric(undelivered) - metric(before.undelivered);
        before.rate += NEWEST * (grown / since.as_secs_f64() - before.rate);
    }
    before.undelivered = undelivered;
    let age = load.offline.oldest.map_or(0, |oldest| now.unix().saturating_sub(oldest.unix()));
    look.oldest_s = look.oldest_s.max(u64::try_from(age).unwrap_or_default());
    if lock.is_none() {
        let next = predicted_s(load, now, before.rate);
        let near = next.is_some_and(|next| next < WARN_BEFORE_S);
        if near && !before.warned {
            let left_s = next.unwrap_or_default();
            tracing::warn!(device = id, kind, left_s, "at the present rate the series locks soon");
        }
        before.warned = near;
        look.next_lock_s = look.next_lock_s.into_iter().chain(next).min();
    }
}

/// Until the series locks when what is undelivered goes on growing by `rate` invoices a second.
/// Unit: seconds.
fn predicted_s(load: &Load<'_>, now: CstTime, rate: f64) -> Option<u64> {
    let budget = load.budget(now);
    let by_time = budget.seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let by_count = budget.count.filter(|_| rate > 0.0).map(|left| {
        let seconds = (metric(left) / rate).min(metric(i64::MAX.unsigned_abs() >> 11));
        Duration::from_secs_f64(seconds).as_secs()
    });
    by_time.into_iter().chain(by_count).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{numbering::Offline, registry::MonitorFacts, store::Period};

    fn at(unix: i64) -> CstTime {
        CstTime::from_unix(unix).unwrap()
    }

    /// What the watch predicts ten seconds after an invoice of second 0.
    #[track_caller]
    fn check(facts: &MonitorFacts, rate: f64, expect: Option<u64>) {
        let offline = Offline { count: 5, oldest: Some(at(0)), ..Offline::default() };
        let (zero, period) = (ZeroLimit::Unlimited, Period::default());
        let load = Load { facts: Some(facts), zero, offline, period };
        assert_eq!(predicted_s(&load, at(10), rate), expect);
    }

    #[test]
    fn the_lock_that_comes_first_is_predicted() {
        let hours = MonitorFacts { offline_hours: Some(1), ..MonitorFacts::default() };
        check(&MonitorFacts::default(), 2.0, None);
        check(&hours, 0.0, Some(3590));
        let both = MonitorFacts { offline_count: Some(105), ..hours };
        check(&both, 0.0, Some(3590));
        check(&both, 2.0, Some(50));
        check(&both, -2.0, Some(3590));
        check(&both, 1e-300, Some(3590));
        let deadline = MonitorFacts { issue_deadline: Some(at(20)), ..both };
        check(&deadline, 2.0, Some(10));
    }
}
