//! Taking over monitor data (监控数据): what a device or the acceptance side says of limits, locks and
//! rates goes into the registry in a commit of its own, unless it contradicts what was said before.
//!
//! Invariant: data that is refused changes nothing; what was in force stays in force.

use super::book::Round;
use crate::{
    model::{DeviceNo, Kind, SeriesNo},
    refusal::{Reason, Refusal},
    registry::{Monitor, ToldBy},
    store::RegistryChange,
};

/// What became of monitor data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is in force from this commit on.
    New,
    /// It says what is in force already.
    Known,
    /// It is older than what is in force.
    Stale,
    /// It contradicts what is in force: a person must look.
    Refused(String),
}

impl Round<'_> {
    /// Takes over monitor data. What contradicts is an incident, once per version.
    ///
    /// # Errors
    /// `NotFound` for a device or kind that is not registered.
    pub fn put_monitor(&mut self, monitor: Monitor) -> Result<Taken, Refusal> {
        let Monitor { device, kind, .. } = monitor;
        let Some(series) = self.series_of(device, kind) else {
            return Err(Refusal::new(Reason::NotFound, "no such device or kind"));
        };
        let known = self.registry().monitor(device, kind).cloned();
        let taken = known.as_ref().map_or(Taken::New, |known| judge(known, &monitor));
        match &taken {
            Taken::New => {
                self.registry_mut().put_monitor(monitor.clone());
                self.batch.registry.push(RegistryChange::Monitor(monitor));
            }
            Taken::Refused(why) => self.report_monitor((series, key(&monitor)), why),
            Taken::Known | Taken::Stale => {}
        }
        Ok(taken)
    }
}

impl Round<'_> {
    /// Notes that monitor data of a device and kind cannot be read: an incident, once until the
    /// next start.
    pub fn refuse_monitor(&mut self, (device, kind): (DeviceNo, Kind), why: &str) {
        if let Some(series) = self.series_of(device, kind) {
            self.report_monitor((series, (device, kind, u64::MAX)), why);
        }
    }

    fn report_monitor(&mut self, (series, key): (SeriesNo, RefusedMonitor), why: &str) {
        if !self.book.refused_monitors.contains(&key) && self.refused_monitors.insert(key) {
            self.put_incident((series, None), &format!("monitor data refused: {why}"));
        }
    }
}

/// What tells refused data apart: the same again is no new incident.
pub(super) type RefusedMonitor = (DeviceNo, Kind, u64);

fn key(monitor: &Monitor) -> RefusedMonitor {
    (monitor.device, monitor.kind, monitor.facts.version)
}

fn judge(known: &Monitor, told: &Monitor) -> Taken {
    if known.facts == told.facts && known.told_by == told.told_by {
        return Taken::Known;
    }
    let (ours, theirs) = (&known.facts, &told.facts);
    if told.told_by == ToldBy::Authority && known.told_by == ToldBy::Authority {
        if theirs.version < ours.version {
            return Taken::Stale;
        }
        if theirs.version == ours.version {
            return Taken::Refused(format!("version {} was told with other data", ours.version));
        }
    }
    match (ours.issue_deadline, theirs.issue_deadline) {
        (Some(before), Some(after)) if after < before => {
            Taken::Refused(format!("the issue deadline would move back from {before} to {after}"))
        }
        _ => Taken::New,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::CstTime,
        registry::{MonitorFacts, monitor::tests::facts},
    };

    fn monitor(told_by: ToldBy, change: impl FnOnce(&mut MonitorFacts)) -> Monitor {
        let mut facts = facts();
        change(&mut facts);
        let told_at = CstTime::from_unix(0).unwrap();
        Monitor { device: DeviceNo(1), kind: Kind::ENormal, told_by, told_at, facts }
    }

    #[track_caller]
    fn check(told_by: ToldBy, change: impl FnOnce(&mut MonitorFacts), expect: &str) {
        let known = monitor(told_by, |_| {});
        let taken = match judge(&known, &monitor(told_by, change)) {
            Taken::New => "new".to_owned(),
            Taken::Known => "known".to_owned(),
            Taken::Stale => "stale".to_owned(),
            Taken::Refused(why) => why,
        };
        assert_eq!(taken, expect);
    }

    #[test]
    fn newer_data_is_taken_unless_it_contradicts() {
        use ToldBy::{Authority, Device};
        check(Authority, |_| {}, "known");
        check(Authority, |it| it.version = 8, "new");
        check(Authority, |it| it.version = 6, "stale");
        let other = "version 7 was told with other data";
        check(Authority, |it| it.offline_count = Some(1), other);
        let earlier = CstTime::parse("2026-12-15T23:59:58+08:00");
        let back = "the issue deadline would move back from 2026-12-15T23:59:59+08:00 to \
                    2026-12-15T23:59:58+08:00";
        check(Authority, |it| (it.version, it.issue_deadline) = (8, earlier), back);
        check(Device, |it| it.issue_deadline = earlier, back);
        check(Device, |it| it.offline_count = Some(1), "new");
        let later = CstTime::parse("2027-01-15T23:59:59+08:00");
        check(Device, |it| it.issue_deadline = later, "new");
    }
}
