//! Limits and locks of a series (限额与锁死): what monitor data and the books together forbid. Pure:
//! judged in the assigning commit, and by the watch over idle series. Source: docs/domain.md 3.10;
//! rules 32 to 35.
//!
//! Invariants: everything claimed and not known to be delivered counts as offline (离线), from its
//! claim on; what frees it is a verified receipt, where the device draws its numbers the confirmed
//! write-back, a void before signing, or proof that nothing was issued.

use super::book::{Book, Round};
use crate::{
    contract::Checked,
    model::{ClaimId, Color, CstTime, DeviceNo, Fen, Kind, SeriesNo},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::{MonitorFacts, ZeroLimit},
    store::{OfflineItem, Period},
};
use chrono::Datelike as _;
use dashmap::DashMap;
use std::collections::{BTreeSet, HashMap};

const HOUR_S: i64 = 3600;

/// What of a series the authority does not know yet. Amounts are without tax, red ones positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offline {
    /// Invoices, signed or about to be.
    pub count: u64,
    /// In blue invoices.
    pub blue: Fen,
    /// In red invoices.
    pub red: Fen,
    /// When the oldest was claimed.
    pub oldest: Option<CstTime>,
}

impl Offline {
    fn add(&mut self, amount: Fen, at: CstTime) {
        self.count = self.count.saturating_add(1);
        let side = if amount.0 < 0 { &mut self.red } else { &mut self.blue };
        *side = plus(*side, absolute(amount));
        self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
    }

    fn take(&mut self, amount: Fen) {
        self.count = self.count.saturating_sub(1);
        let side = if amount.0 < 0 { &mut self.red } else { &mut self.blue };
        *side = Fen(side.0.saturating_sub(absolute(amount).0));
    }

    fn plus(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            blue: plus(self.blue, other.blue),
            red: plus(self.red, other.red),
            oldest: self.oldest.into_iter().chain(other.oldest).min(),
        }
    }
}

fn plus(one: Fen, other: Fen) -> Fen {
    Fen(one.0.saturating_add(other.0))
}

fn absolute(amount: Fen) -> Fen {
    Fen(amount.0.saturating_abs())
}

/// What is left until a series locks; `None` is what is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Until the oldest undelivered invoice has waited too long, or the issue deadline, whichever
    /// is first. Unit: seconds.
    pub seconds: Option<i64>,
    /// Invoices.
    pub count: Option<u64>,
    /// In blue invoices, without tax.
    pub blue: Option<Fen>,
    /// In red invoices, without tax, positive.
    pub red: Option<Fen>,
}

/// The limits of a series and what counts against them.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// What was told; `None` before anything was.
    pub facts: Option<&'a MonitorFacts>,
    /// What a limit of zero means.
    pub zero: ZeroLimit,
    /// What is offline.
    pub offline: Offline,
    /// What counts against the cumulative limits.
    pub period: Period,
}

impl Load<'_> {
    /// Why nothing more may be issued at `now`, whatever its amount; `None` when something may.
    #[must_use]
    pub fn lock(&self, now: CstTime) -> Option<Refusal> {
        let reported = self.period.reported_until.filter(|until| now.day() <= *until);
        if let Some(until) = reported {
            let text = format!("the period up to {until} is reported (抄报)");
            return Some(Refusal::new(Reason::PeriodLocked, text));
        }
        let facts = self.facts?;
        if let Some(deadline) = facts.issue_deadline.filter(|deadline| now >= *deadline) {
            let text = format!("the issue deadline {deadline} has passed: report and clear first");
            return Some(Refusal::new(Reason::PeriodLocked, text));
        }
        let Offline { count, oldest, .. } = self.offline;
        if let (Some(oldest), Some(until)) = (oldest, self.offline_until())
            && now >= until
        {
            let text = format!("an invoice of {oldest} is undelivered; the limit ended at {until}");
            return Some(Refusal::new(Reason::OfflineTime, text));
        }
        if let (Some(oldest), Some(day)) = (oldest, facts.upload_day.filter(|day| *day > 0)) {
            let month = |at: CstTime| (at.day().year(), at.day().month());
            if month(oldest) < month(now) && u64::from(now.day().day()) > day {
                let text = format!("an invoice of {oldest} had to be delivered by day {day}");
                return Some(Refusal::new(Reason::UploadDeadline, text));
            }
        }
        let left = self.budget(now);
        if left.count == Some(0) {
            let text = format!("{count} invoices are undelivered, as many as may be");
            return Some(Refusal::new(Reason::OfflineCount, text));
        }
        None
    }

    /// Why an invoice may not be issued at `now`.
    ///
    /// # Errors
    /// The first of rules 34, 35, 32 and 33 that it violates, with the figures.
    pub fn judge(&self, amount: Fen, color: Color, now: CstTime) -> Result<(), Refusal> {
        if let Some(refusal) = self.lock(now) {
            return Err(refusal);
        }
        let Some(facts) = self.facts else { return Ok(()) };
        let size = absolute(amount);
        let refuse = |reason, what: &str, limit: Fen| {
            let (size, limit) = (size.0, limit.0);
            let text = format!("{what}; with {size} fen more it would be above {limit} fen");
            Err(Refusal::new(reason, text))
        };
        if let Some(limit) = self.fen(facts.single_limit).filter(|limit| size > *limit) {
            let (size, limit) = (size.0, limit.0);
            let text = format!("the amount without tax, {size} fen, is above {limit} fen");
            return Err(Refusal::new(Reason::SingleLimitExceeded, text));
        }
        let Period { blue, red, reported_blue, reported_red, .. } = self.period;
        let (offline, offline_limit, used, limit) = match color {
            Color::Blue => {
                (self.offline.blue, facts.offline_blue, plus(blue, reported_blue), facts.blue_limit)
            }
            Color::Red => {
                (self.offline.red, facts.offline_red, plus(red, reported_red), facts.red_limit)
            }
        };
        if let Some(limit) = self.fen(offline_limit).filter(|limit| plus(offline, size) > *limit) {
            let what = format!("{} fen are undelivered", offline.0);
            return refuse(Reason::OfflineAmount, &what, limit);
        }
        if let Some(limit) = self.fen(limit).filter(|limit| plus(used, size) > *limit) {
            let what = format!("{} fen were issued in the period", used.0);
            return refuse(Reason::CumulativeLimitExceeded, &what, limit);
        }
        Ok(())
    }

    /// What is left at `now`.
    #[must_use]
    pub fn budget(&self, now: CstTime) -> Budget {
        let Some(facts) = self.facts else { return Budget::default() };
        let until = self.offline_until().into_iter().chain(facts.issue_deadline).min();
        let left = |limit: Option<Fen>, used: Fen| {
            self.fen(limit).map(|limit| Fen(limit.0.saturating_sub(used.0).max(0)))
        };
        let count = self.zero.limit(facts.offline_count, |count| count == 0);
        Budget {
            seconds: until.map(|until| until.unix().saturating_sub(now.unix()).max(0)),
            count: count.map(|limit| limit.saturating_sub(self.offline.count)),
            blue: left(facts.offline_blue, self.offline.blue),
            red: left(facts.offline_red, self.offline.red),
        }
    }

    /// What is left at `now`, as every contract has it.
    #[must_use]
    pub fn budget_to_wire(&self, now: CstTime) -> pb::OfflineBudget {
        let left = self.budget(now);
        let fen = |amount: Option<Fen>| amount.map(|amount| amount.0);
        pb::OfflineBudget {
            seconds_left: left.seconds,
            count_left: left.count,
            blue_fen_left: fen(left.blue),
            red_fen_left: fen(left.red),
            undelivered: self.offline.count,
            oldest: self.offline.oldest.map_or_else(String::new, CstTime::rfc3339),
        }
    }

    /// When the oldest undelivered invoice has waited too long.
    fn offline_until(&self) -> Option<CstTime> {
        let hours = self.zero.limit(self.facts?.offline_hours, |hours| hours == 0)?;
        let hours = i64::try_from(hours).unwrap_or(i64::MAX);
        let seconds = hours.saturating_mul(HOUR_S);
        CstTime::from_unix(self.offline.oldest?.unix().saturating_add(seconds))
    }

    fn fen(&self, limit: Option<Fen>) -> Option<Fen> {
        self.zero.limit(limit, |limit| limit.0 == 0)
    }
}

/// What is offline, by series, as committed.
#[derive(Debug, Default)]
pub(super) struct OfflineBook {
    items: HashMap<ClaimId, OfflineItem>,
    /// With the claims by time: a clock that was set back may stamp a later claim earlier.
    series: HashMap<SeriesNo, (Offline, BTreeSet<(CstTime, ClaimId)>)>,
}

impl OfflineBook {
    pub(super) fn put(&mut self, claim: ClaimId, item: OfflineItem) {
        if self.items.insert(claim, item).is_none() {
            let (sums, claims) = self.series.entry(item.series).or_default();
            sums.add(item.amount, item.at);
            claims.insert((item.at, claim));
        }
    }

    /// It is delivered, or will never be issued. Nothing happens to one that was taken before.
    pub(super) fn take(&mut self, claim: ClaimId) -> Option<SeriesNo> {
        let item = self.items.remove(&claim)?;
        let (sums, claims) = self.series.get_mut(&item.series)?;
        claims.remove(&(item.at, claim));
        sums.take(item.amount);
        sums.oldest = claims.first().map(|(at, _)| *at);
        Some(item.series)
    }

    pub(super) fn series_of(&self, claim: ClaimId) -> Option<SeriesNo> {
        self.items.get(&claim).map(|item| item.series)
    }

    pub(super) fn of(&self, series: SeriesNo) -> Offline {
        self.series.get(&series).map_or_else(Offline::default, |(sums, _)| *sums)
    }
}

impl Book {
    /// What of a series the authority does not know yet, as committed.
    #[must_use]
    pub fn offline(&self, series: SeriesNo) -> Offline {
        self.offline.of(series)
    }

    /// Shows what counts against the limits of the series that have changed since the last time.
    pub(super) fn show_loads(&mut self, loads: &DashMap<(DeviceNo, Kind), (Offline, Period)>) {
        for no in std::mem::take(&mut self.touched) {
            if let Some(series) = self.series.get(&no) {
                let state = &series.state;
                loads.insert((state.device, state.kind), (self.offline(no), state.period));
            }
        }
    }
}

impl Round<'_> {
    /// Rules 32 to 35, for a claim of `stamp`.
    ///
    /// # Errors
    /// As `Load::judge`.
    pub(super) fn within_limits(
        &self,
        no: SeriesNo,
        checked: &Checked,
        stamp: CstTime,
    ) -> Result<(), Refusal> {
        let monitor = self.registry().monitor(checked.device, checked.kind);
        let opened = self.claimed.get(&no).copied().unwrap_or_default();
        let load = Load {
            facts: monitor.map(|monitor| &monitor.facts),
            zero: checked.zero_limit,
            offline: self.book.offline(no).plus(opened),
            period: self.series(no).map_or_else(Period::default, |series| series.state.period),
        };
        load.judge(checked.totals.amount, checked.color, stamp)
    }

    /// Counts a new claim against the limits of its series.
    pub(super) fn count_claim(&mut self, no: SeriesNo, amount: Fen, at: CstTime) {
        self.claimed.entry(no).or_default().add(amount, at);
        self.count_period(no, amount, 1);
    }

    /// Gives back what a claim took of the cumulative limits, when it ends without an invoice.
    pub(super) fn uncount_period(&mut self, no: SeriesNo, amount: Fen) {
        self.count_period(no, amount, -1);
    }

    fn count_period(&mut self, no: SeriesNo, amount: Fen, times: i64) {
        let Ok(series) = self.series_mut(no) else { return };
        let Period { blue, red, .. } = &mut series.state.period;
        let side = if amount.0 < 0 { red } else { blue };
        let change = absolute(amount).0.saturating_mul(times);
        *side = Fen(side.0.saturating_add(change).max(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    fn at(text: &str) -> CstTime {
        CstTime::parse(&format!("{text}+08:00")).unwrap()
    }

    /// What a blue invoice of `amount` fen meets, under facts and with three undelivered invoices
    /// of 2026-11-01T10:00:00, 600 fen in blue and 50 in red.
    #[track_caller]
    fn check(facts: MonitorFacts, amount: i64, now: &str, expect: Option<Reason>) {
        let offline = Offline {
            count: 3,
            blue: Fen(600),
            red: Fen(50),
            oldest: Some(at("2026-11-01T10:00:00")),
        };
        let period = Period { blue: Fen(700), reported_blue: Fen(300), ..Period::default() };
        let zero = ZeroLimit::Unlimited;
        let load = Load { facts: Some(&facts), zero, offline, period };
        let color = if amount < 0 { Color::Red } else { Color::Blue };
        let judged = load.judge(Fen(amount), color, at(now)).map_err(|refusal| refusal.reason);
        assert_eq!(judged.err(), expect, "{facts:?} {amount} {now}");
    }

    fn facts(change: impl FnOnce(&mut MonitorFacts)) -> MonitorFacts {
        let mut facts = MonitorFacts::default();
        change(&mut facts);
        facts
    }

    const NOON: &str = "2026-11-02T12:00:00";

    #[test]
    fn each_limit_holds_to_the_fen_and_the_invoice() {
        use Reason::{CumulativeLimitExceeded, OfflineAmount, OfflineCount, SingleLimitExceeded};
        check(MonitorFacts::default(), i64::MAX, NOON, None);
        let single = |limit| facts(|it| it.single_limit = Some(Fen(limit)));
        check(single(100), 100, NOON, None);
        check(single(100), 101, NOON, Some(SingleLimitExceeded));
        check(single(100), -101, NOON, Some(SingleLimitExceeded));
        let count = |limit| facts(|it| it.offline_count = Some(limit));
        check(count(4), 1, NOON, None);
        check(count(3), 1, NOON, Some(OfflineCount));
        let blue = |limit| facts(|it| it.offline_blue = Some(Fen(limit)));
        check(blue(700), 100, NOON, None);
        check(blue(700), 101, NOON, Some(OfflineAmount));
        check(blue(1), -100, NOON, None);
        let red = |limit| facts(|it| it.offline_red = Some(Fen(limit)));
        check(red(150), -100, NOON, None);
        check(red(150), -101, NOON, Some(OfflineAmount));
        let sum = |limit| facts(|it| it.blue_limit = Some(Fen(limit)));
        check(sum(1100), 100, NOON, None);
        check(sum(1100), 101, NOON, Some(CumulativeLimitExceeded));
        let sum = |limit| facts(|it| it.red_limit = Some(Fen(limit)));
        check(sum(100), -100, NOON, None);
        check(sum(100), -101, NOON, Some(CumulativeLimitExceeded));
    }

    #[test]
    fn each_lock_begins_at_its_second() {
        use Reason::{OfflineTime, PeriodLocked, UploadDeadline};
        let deadline = || facts(|it| it.issue_deadline = Some(at("2026-11-02T12:00:00")));
        check(deadline(), 1, "2026-11-02T11:59:59", None);
        check(deadline(), 1, "2026-11-02T12:00:00", Some(PeriodLocked));
        let hours = || facts(|it| it.offline_hours = Some(24));
        check(hours(), 1, "2026-11-02T09:59:59", None);
        check(hours(), 1, "2026-11-02T10:00:00", Some(OfflineTime));
        let day = |day| facts(|it| it.upload_day = Some(day));
        check(day(15), 1, "2026-11-30T23:59:59", None);
        check(day(15), 1, "2026-12-15T23:59:59", None);
        check(day(15), 1, "2026-12-16T00:00:00", Some(UploadDeadline));
        check(day(15), 1, "2027-01-16T00:00:00", Some(UploadDeadline));
        check(day(0), 1, "2027-01-31T00:00:00", None);
    }

    #[test]
    fn what_is_reported_stays_closed_even_without_monitor_data() {
        let until = NaiveDate::from_ymd_opt(2026, 10, 31);
        let period = Period { reported_until: until, ..Period::default() };
        let zero = ZeroLimit::Unlimited;
        let load = Load { facts: None, zero, offline: Offline::default(), period };
        let lock = |now| load.lock(at(now)).map(|refusal| refusal.reason);
        assert_eq!(lock("2026-10-31T23:59:59"), Some(Reason::PeriodLocked));
        assert_eq!(lock("2026-11-01T00:00:00"), None);
    }

    #[test]
    fn what_zero_means_is_the_profiles_word() {
        let facts = MonitorFacts {
            single_limit: Some(Fen(0)),
            blue_limit: Some(Fen(0)),
            offline_hours: Some(0),
            offline_count: Some(0),
            offline_blue: Some(Fen(0)),
            ..MonitorFacts::default()
        };
        let load = |zero| Load {
            facts: Some(&facts),
            zero,
            offline: Offline::default(),
            period: Period::default(),
        };
        let judge = |zero| load(zero).judge(Fen(1), Color::Blue, at(NOON)).err();
        assert!(judge(ZeroLimit::Unlimited).is_none());
        let refused = judge(ZeroLimit::Nothing).map(|refusal| refusal.reason);
        assert_eq!(refused, Some(Reason::OfflineCount));
        assert_eq!(load(ZeroLimit::Unlimited).budget(at(NOON)), Budget::default());
    }

    #[test]
    fn what_is_left_is_told_before_it_is_gone() {
        let facts = MonitorFacts {
            issue_deadline: Some(at("2026-11-03T00:00:00")),
            offline_hours: Some(24),
            offline_count: Some(10),
            offline_blue: Some(Fen(1000)),
            ..MonitorFacts::default()
        };
        let offline = |oldest| Offline { count: 3, blue: Fen(600), red: Fen(50), oldest };
        let left = |oldest| {
            let (facts, zero, period) = (Some(&facts), ZeroLimit::Unlimited, Period::default());
            Load { facts, zero, offline: offline(oldest), period }.budget(at(NOON))
        };
        let (count, blue, red) = (Some(7), Some(Fen(400)), None);
        let budget = |seconds| Budget { seconds: Some(seconds), count, blue, red };
        assert_eq!(left(None), budget(12 * HOUR_S));
        assert_eq!(left(Some(at("2026-11-01T14:00:00"))), budget(2 * HOUR_S));
        assert_eq!(left(Some(at("2026-11-01T10:00:00"))), budget(0));
    }

    #[test]
    fn sums_follow_what_comes_and_goes_in_any_order() {
        let mut book = OfflineBook::default();
        let item = |amount, second| OfflineItem {
            series: SeriesNo(1),
            at: at(&format!("2026-11-01T10:00:0{second}")),
            amount: Fen(amount),
        };
        for (claim, amount) in [(1, 100), (2, -30), (3, 200)] {
            book.put(ClaimId(claim), item(amount, claim));
            book.put(ClaimId(claim), item(amount, claim));
        }
        let now = |count, blue, red, second: Option<i64>| Offline {
            count,
            blue: Fen(blue),
            red: Fen(red),
            oldest: second.map(|second| at(&format!("2026-11-01T10:00:0{second}"))),
        };
        assert_eq!(book.of(SeriesNo(1)), now(3, 300, 30, Some(1)));
        assert_eq!(book.take(ClaimId(2)), Some(SeriesNo(1)));
        assert_eq!(book.take(ClaimId(2)), None);
        assert_eq!(book.of(SeriesNo(1)), now(2, 300, 0, Some(1)));
        book.take(ClaimId(1));
        assert_eq!(book.of(SeriesNo(1)), now(1, 200, 0, Some(3)));
        book.take(ClaimId(3));
        assert_eq!(book.of(SeriesNo(1)), now(0, 0, 0, None));
    }
}
