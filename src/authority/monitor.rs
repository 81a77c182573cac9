//! Monitor data (监控数据): limits, locks and rates of a device and kind. Made from the defaults when a
//! series is first asked about, then kept.
//!
//! Invariant: the version of a series rises by one with each change and stays without one.

use super::books::BooksError;
use crate::{
    model::{CstTime, Kind},
    pb::{authority::v1::MonitorData, v1 as pb},
};
use chrono::{Datelike as _, Days, Months, NaiveDate};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeMap;

/// Rates that are in use today. Unit: millionths.
const RATES: [i32; 9] = [0, 5_000, 10_000, 15_000, 30_000, 50_000, 60_000, 90_000, 130_000];
/// Highest rate. Unit: millionths.
const RATE_MAX: i32 = 1_000_000;
/// Day of the month at whose end issuing stops for whoever has not reported the month before.
const DEADLINE_DAY: u32 = 15;
/// One day. Unit: seconds.
const DAY_S: i64 = 86_400;

/// What a series is told before anybody set its data; built-in, or from the script.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Defaults {
    /// Of every series.
    pub(super) all: Changes,
    /// Of single ones, over those.
    pub(super) series: BTreeMap<(String, Kind), Changes>,
}

/// Changes of the built-in data: what is `Some` replaces, and may say "not limited".
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Changes {
    pub(super) issue_deadline: Option<String>,
    pub(super) single_limit_fen: Option<Option<i64>>,
    pub(super) blue_limit_fen: Option<Option<i64>>,
    pub(super) red_limit_fen: Option<Option<i64>>,
    pub(super) red_days: Option<Option<u32>>,
    pub(super) red_needs_original: Option<Option<bool>>,
    pub(super) upload_day: Option<Option<u32>>,
    pub(super) offline_hours: Option<Option<u64>>,
    pub(super) offline_count: Option<Option<u64>>,
    pub(super) offline_blue_fen: Option<Option<i64>>,
    pub(super) offline_red_fen: Option<Option<i64>>,
    pub(super) rates_millionths: Option<Vec<i32>>,
}

impl Changes {
    pub(super) fn apply(&self, data: &mut MonitorData) {
        fn put<T: Clone>(change: &Option<T>, value: &mut T) {
            if let Some(change) = change {
                value.clone_from(change);
            }
        }
        put(&self.issue_deadline, &mut data.issue_deadline);
        put(&self.single_limit_fen, &mut data.single_limit_fen);
        put(&self.blue_limit_fen, &mut data.blue_limit_fen);
        put(&self.red_limit_fen, &mut data.red_limit_fen);
        put(&self.red_days, &mut data.red_days);
        put(&self.red_needs_original, &mut data.red_needs_original);
        put(&self.upload_day, &mut data.upload_day);
        put(&self.offline_hours, &mut data.offline_hours);
        put(&self.offline_count, &mut data.offline_count);
        put(&self.offline_blue_fen, &mut data.offline_blue_fen);
        put(&self.offline_red_fen, &mut data.offline_red_fen);
        put(&self.rates_millionths, &mut data.rates_millionths);
    }
}

impl Defaults {
    /// The first data of a series.
    fn of(&self, series: (&str, Kind), now: CstTime) -> MonitorData {
        let mut data = built_in(series, now);
        self.all.apply(&mut data);
        if let Some(changes) = self.series.get(&(series.0.to_owned(), series.1)) {
            changes.apply(&mut data);
        }
        data
    }
}

/// Generous data of the month that `now` is in.
pub(super) fn built_in((device, kind): (&str, Kind), now: CstTime) -> MonitorData {
    let first = now.day().with_day(1).unwrap_or(now.day());
    let next = first.checked_add_months(Months::new(1)).unwrap_or(first);
    let deadline = next.with_day(DEADLINE_DAY).and_then(CstTime::last_of);
    MonitorData {
        device_id: device.to_owned(),
        kind: kind.to_wire().as_str_name().to_owned(),
        version: 1,
        issue_deadline: deadline.map(CstTime::rfc3339).unwrap_or_default(),
        single_limit_fen: Some(9_999_999_999),
        blue_limit_fen: None,
        red_limit_fen: None,
        red_days: None,
        red_needs_original: None,
        upload_day: Some(0),
        offline_hours: Some(72),
        offline_count: Some(100_000),
        offline_blue_fen: Some(500_000_000_000),
        offline_red_fen: Some(500_000_000_000),
        rates_millionths: RATES.to_vec(),
        report_from: first.to_string(),
        report_until: last_of_month(first).to_string(),
        last_report: String::new(),
    }
}

fn last_of_month(day: NaiveDate) -> NaiveDate {
    let first = day.with_day(1).unwrap_or(day);
    let next = first.checked_add_months(Months::new(1));
    next.and_then(|next| next.checked_sub_days(Days::new(1))).unwrap_or(day)
}

/// The data in force; made and kept when there is none.
pub(super) fn in_force(
    change: &Connection,
    series: (&str, Kind),
    defaults: &Defaults,
    now: CstTime,
) -> Result<MonitorData, BooksError> {
    if let Some(known) = find(change, series.0, series.1)? {
        return Ok(known);
    }
    let data = defaults.of(series, now);
    put(change, &data, series.1)?;
    Ok(data)
}

fn find(
    connection: &Connection,
    device: &str,
    kind: Kind,
) -> Result<Option<MonitorData>, BooksError> {
    let find = "SELECT data FROM monitors WHERE device = ? AND kind = ?";
    let of = params![device, kind.legacy_code()];
    let data: Option<Vec<u8>> =
        connection.prepare_cached(find)?.query_row(of, |row| row.get(0)).optional()?;
    let decode = |bytes: Vec<u8>| MonitorData::decode(bytes.as_slice());
    data.map(decode).transpose().map_err(|_| BooksError::Damaged)
}

fn put(change: &Connection, data: &MonitorData, kind: Kind) -> Result<(), BooksError> {
    let put = "INSERT OR REPLACE INTO monitors VALUES (?, ?, ?)";
    let row = params![data.device_id, kind.legacy_code(), data.encode_to_vec()];
    change.prepare_cached(put)?.execute(row)?;
    Ok(())
}

/// Puts data in force and tells it with its version, which is what was before when nothing changed.
pub(super) fn set(change: &Connection, mut data: MonitorData) -> Result<MonitorData, BooksError> {
    let kind = read_kind(&data.kind).ok_or(BooksError::Damaged)?;
    match find(change, &data.device_id, kind)? {
        None => data.version = 1,
        Some(before) => {
            data.version = before.version;
            if data == before {
                return Ok(before);
            }
            data.version = before.version.saturating_add(1);
        }
    }
    put(change, &data, kind)?;
    Ok(data)
}

/// Reads the name of a kind.
pub(super) fn read_kind(name: &str) -> Option<Kind> {
    pb::InvoiceKind::from_str_name(name).and_then(|kind| Kind::from_wire(kind.into()))
}

/// The data of the period that begins on a day: the issue deadline a month later, to the second.
/// `reported` is the day of the report before.
pub(super) fn next_period(
    mut data: MonitorData,
    begins: NaiveDate,
    reported: NaiveDate,
) -> MonitorData {
    if let Some(deadline) = CstTime::parse(&data.issue_deadline) {
        data.issue_deadline = month_later(deadline).rfc3339();
    }
    data.report_from = begins.to_string();
    data.report_until = last_of_month(begins).to_string();
    data.last_report = reported.to_string();
    data
}

/// A month later at the same time of day; on the last day of a month that is shorter.
fn month_later(time: CstTime) -> CstTime {
    let to_end = |day| CstTime::last_of(day).map(|end| end.unix().saturating_sub(time.unix()));
    let later = time.day().checked_add_months(Months::new(1)).and_then(CstTime::last_of);
    let moved = to_end(time.day())
        .zip(later)
        .and_then(|(left, end)| CstTime::from_unix(end.unix().saturating_sub(left)));
    moved.unwrap_or(time)
}

/// The data with its issue deadline a day before `now`.
pub(super) fn locked(mut data: MonitorData, now: CstTime) -> MonitorData {
    data.issue_deadline = day_before(now);
    data
}

/// The data with its issue deadline a day earlier; tomorrow's time when it had none.
pub(super) fn backwards(mut data: MonitorData, now: CstTime) -> MonitorData {
    data.issue_deadline = match CstTime::parse(&data.issue_deadline) {
        Some(deadline) => day_before(deadline),
        None => CstTime::from_unix(now.unix().saturating_add(DAY_S)).unwrap_or(now).rfc3339(),
    };
    data
}

fn day_before(time: CstTime) -> String {
    CstTime::from_unix(time.unix().saturating_sub(DAY_S)).unwrap_or(time).rfc3339()
}

/// What makes monitor data unreadable, for a fault: times, days and version.
pub(super) fn spoil(data: &mut MonitorData) {
    data.version = 0;
    data.issue_deadline = "the fifteenth".to_owned();
    data.report_from = "2026-13-01".to_owned();
    data.upload_day = Some(32);
}

/// Checks data that somebody wants in force.
///
/// # Errors
/// The first field that is malformed.
pub(super) fn check(data: &MonitorData) -> Result<(), &'static str> {
    let fen = |value: Option<i64>| value.is_none_or(|value| value >= 0);
    let day = |text: &str| text.is_empty() || read_day(text).is_some();
    let period = match (read_day(&data.report_from), read_day(&data.report_until)) {
        (Some(from), Some(until)) => from <= until,
        (from, until) => from == until,
    };
    let rates = &data.rates_millionths;
    let ascending = rates.windows(2).all(|pair| pair[0] < pair[1]);
    let checks = [
        (read_kind(&data.kind).is_some(), "kind"),
        (
            data.issue_deadline.is_empty() || CstTime::parse(&data.issue_deadline).is_some(),
            "issue_deadline",
        ),
        (fen(data.single_limit_fen), "single_limit_fen"),
        (fen(data.blue_limit_fen), "blue_limit_fen"),
        (fen(data.red_limit_fen), "red_limit_fen"),
        (fen(data.offline_blue_fen), "offline_blue_fen"),
        (fen(data.offline_red_fen), "offline_red_fen"),
        (data.upload_day.is_none_or(|day| day <= 31), "upload_day"),
        (ascending && rates.iter().all(|rate| (0..=RATE_MAX).contains(rate)), "rates_millionths"),
        (day(&data.report_from), "report_from"),
        (day(&data.report_until), "report_until"),
        (period, "report_until"),
        (day(&data.last_report), "last_report"),
    ];
    match checks.into_iter().find(|(good, _)| !good) {
        Some((_, field)) => Err(field),
        None => Ok(()),
    }
}

/// Reads `yyyy-MM-dd`.
pub(super) fn read_day(text: &str) -> Option<NaiveDate> {
    let day: NaiveDate = text.parse().ok()?;
    // chrono also reads days without leading zeros.
    (day.to_string() == text).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn at(text: &str) -> CstTime {
        CstTime::parse(text).unwrap()
    }

    #[test]
    fn the_built_in_data_is_of_the_month_and_passes_its_own_check() {
        let now = at("2026-12-31T23:59:59+08:00");
        let data = built_in(("d1", Kind::ENormal), now);
        assert_eq!(data.issue_deadline, "2027-01-15T23:59:59+08:00");
        assert_eq!((&*data.report_from, &*data.report_until), ("2026-12-01", "2026-12-31"));
        assert_eq!(check(&data), Ok(()));
    }

    #[test]
    fn the_next_period_is_a_month_later() {
        for (deadline, begins, expect) in [
            (
                "2026-01-15T23:59:59+08:00",
                "2026-01-01",
                ("2026-02-15T23:59:59+08:00", "2026-01-31"),
            ),
            (
                "2026-01-31T12:00:00+08:00",
                "2026-02-01",
                ("2026-02-28T12:00:00+08:00", "2026-02-28"),
            ),
            (
                "2026-12-15T00:00:00+08:00",
                "2026-12-16",
                ("2027-01-15T00:00:00+08:00", "2026-12-31"),
            ),
            ("", "2026-02-01", ("", "2026-02-28")),
        ] {
            let now = at("2026-01-02T03:04:05+08:00");
            let mut data = built_in(("d1", Kind::ENormal), now);
            data.issue_deadline = deadline.to_owned();
            let next = next_period(data, begins.parse().unwrap(), now.day());
            assert_eq!(next.last_report, "2026-01-02");
            assert_eq!((&*next.issue_deadline, &*next.report_until), expect);
            assert_eq!(next.report_from, begins);
        }
    }

    #[test]
    fn malformed_data_is_not_put_in_force() {
        let check_field = |change: fn(&mut MonitorData), expect| {
            let mut data = built_in(("d1", Kind::Roll), at("2026-01-02T03:04:05+08:00"));
            change(&mut data);
            assert_eq!(check(&data), expect);
        };
        check_field(|data| data.kind.push('X'), Err("kind"));
        check_field(|data| data.issue_deadline = "soon".into(), Err("issue_deadline"));
        check_field(|data| data.issue_deadline.clear(), Ok(()));
        check_field(|data| data.single_limit_fen = Some(-1), Err("single_limit_fen"));
        check_field(|data| data.single_limit_fen = None, Ok(()));
        check_field(|data| data.upload_day = Some(32), Err("upload_day"));
        check_field(|data| data.rates_millionths.push(0), Err("rates_millionths"));
        check_field(|data| data.rates_millionths = vec![2_000_000], Err("rates_millionths"));
        check_field(|data| data.report_until = "2026-2-1".into(), Err("report_until"));
        check_field(spoil, Err("issue_deadline"));
    }

    #[test]
    fn a_script_changes_the_built_in_data_and_a_series_the_script() {
        let now = at("2026-01-02T03:04:05+08:00");
        let all = Changes { offline_hours: Some(Some(5)), ..Changes::default() };
        let one = Changes { offline_hours: Some(None), red_days: Some(Some(9)), ..all.clone() };
        let series = [(("d2".to_owned(), Kind::Roll), one)].into();
        let defaults = Defaults { all, series };
        let hours = |device, kind| defaults.of((device, kind), now).offline_hours;
        assert_eq!(hours("d1", Kind::Roll), Some(5));
        assert_eq!(hours("d2", Kind::ENormal), Some(5));
        assert_eq!(hours("d2", Kind::Roll), None);
        assert_eq!(defaults.of(("d2", Kind::Roll), now).red_days, Some(9));
    }
}
