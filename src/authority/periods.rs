//! Report periods: a report that agrees with what is held closes its period, clearing it opens the
//! next one.
//!
//! Invariant: reported periods of a device and kind do not overlap, and what is held of one does
//! not change any more.

use super::{
    books::{BooksError, find_device},
    held::{self, Whose, Window},
    monitor,
};
use crate::{
    clock::random_text,
    model::{CstTime, Kind},
    pb::authority::v1::{MonitorData, PeriodSummary},
};
use chrono::{Days, NaiveDate};
use prost::Message as _;
use rusqlite::{OptionalExtension as _, Transaction, params};

/// What a proxy reports.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    /// Chosen by the proxy, 16 bytes.
    pub(super) request: Vec<u8>,
    /// Virtual device id.
    pub(super) device: String,
    /// Kind.
    pub(super) kind: Kind,
    /// First day.
    pub(super) from: NaiveDate,
    /// Last day, not before the first.
    pub(super) until: NaiveDate,
    /// Its figures.
    pub(super) summary: PeriodSummary,
}

/// Whether a time lies in a reported period of a device and kind.
pub(super) fn is_reported(
    change: &Transaction<'_>,
    device: &str,
    kind: Kind,
    at: CstTime,
) -> Result<bool, BooksError> {
    let find = "SELECT EXISTS (SELECT 1 FROM reports
                WHERE device = ?1 AND kind = ?2 AND until_at > ?3 AND from_at <= ?3)";
    let of = params![device, kind.legacy_code(), at.unix()];
    Ok(change.prepare_cached(find)?.query_row(of, |row| row.get(0))?)
}

/// Takes a report; its acceptance serial, the same one for the same report again.
pub(super) fn report(change: &Transaction<'_>, report: &Report) -> Result<String, BooksError> {
    let (from_day, until_day) = (report.from.to_string(), report.until.to_string());
    let (kind, summary) = (report.kind.legacy_code(), report.summary.encode_to_vec());
    let find = "SELECT device = ?2 AND kind = ?3 AND from_day = ?4 AND until_day = ?5
                    AND summary = ?6, serial FROM reports WHERE request = ?1";
    let of = params![report.request, report.device, kind, from_day, until_day, summary];
    let known: Option<(bool, String)> =
        change.query_row(find, of, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match known {
        Some((true, serial)) => return Ok(serial),
        Some((false, _)) => return Err(BooksError::Conflict { what: "the report" }),
        None => {}
    }
    if find_device(change, &report.device)?.is_none() {
        return Err(BooksError::UnknownDevice { device: report.device.clone() });
    }
    let (from, until) = (start_of(report.from)?, start_of(day_after(report.until)?)?);
    let overlaps = "SELECT EXISTS (SELECT 1 FROM reports
                    WHERE device = ? AND kind = ? AND until_at > ? AND from_at < ?)";
    let of = params![report.device, kind, from, until];
    if change.query_row(overlaps, of, |row| row.get(0))? {
        return Err(BooksError::State { why: "the period overlaps one that is reported".into() });
    }
    let whose = Whose::Series(report.device.clone(), report.kind);
    let held = held::summary(change, &Window { whose, from, until })?;
    if let Some(why) = difference(&report.summary, &held) {
        return Err(BooksError::State { why });
    }
    let serial = random_text(32);
    change.execute(
        "INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
        params![
            report.request,
            report.device,
            kind,
            from_day,
            until_day,
            from,
            until,
            summary,
            serial
        ],
    )?;
    Ok(serial)
}

/// Which figures differ; `None` when none does.
fn difference(reported: &PeriodSummary, held: &PeriodSummary) -> Option<String> {
    let figures = |summary: &PeriodSummary| {
        [
            ("blue_count", i128::from(summary.blue_count)),
            ("blue_amount_fen", summary.blue_amount_fen.into()),
            ("blue_tax_fen", summary.blue_tax_fen.into()),
            ("red_count", summary.red_count.into()),
            ("red_amount_fen", summary.red_amount_fen.into()),
            ("red_tax_fen", summary.red_tax_fen.into()),
            ("void_count", summary.void_count.into()),
        ]
    };
    let pairs = figures(reported).into_iter().zip(figures(held));
    let differences: Vec<_> = pairs
        .filter(|(reported, held)| reported != held)
        .map(|((name, reported), (_, held))| format!("{name}: reported {reported}, held {held}"))
        .collect();
    (!differences.is_empty()).then(|| differences.join("; "))
}

/// Clears a reported period: puts the monitor data of the next one in force, once.
pub(super) fn clear(
    change: &Transaction<'_>,
    request: &[u8],
    defaults: &monitor::Defaults,
    now: CstTime,
) -> Result<MonitorData, BooksError> {
    let find = "SELECT device, kind, until_day, cleared FROM reports WHERE request = ?";
    let found: Option<(String, u16, String, Option<Vec<u8>>)> = change
        .query_row(find, [request], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let state = |why: &str| BooksError::State { why: why.to_owned() };
    let (device, kind, until, cleared) =
        found.ok_or_else(|| state("nothing is reported with this request id"))?;
    if let Some(bytes) = cleared {
        return MonitorData::decode(bytes.as_slice()).map_err(|_| BooksError::Damaged);
    }
    let kind = Kind::from_legacy_code(kind).ok_or(BooksError::Damaged)?;
    let until: NaiveDate = until.parse().map_err(|_| BooksError::Damaged)?;
    let before = monitor::in_force(change, (&device, kind), defaults, now)?;
    let next = monitor::set(change, monitor::next_period(before, day_after(until)?, now.day()))?;
    let update = "UPDATE reports SET cleared = ? WHERE request = ?";
    change.execute(update, params![next.encode_to_vec(), request])?;
    Ok(next)
}

/// The first second of a day in China.
fn start_of(day: NaiveDate) -> Result<i64, BooksError> {
    let last = CstTime::last_of(day).ok_or_else(far)?;
    Ok(last.unix().saturating_sub(86_399))
}

fn day_after(day: NaiveDate) -> Result<NaiveDate, BooksError> {
    day.checked_add_days(Days::new(1)).ok_or_else(far)
}

fn far() -> BooksError {
    BooksError::State { why: "the day is outside what a calendar holds".into() }
}
