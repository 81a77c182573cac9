//! Numbers handed out and taken back: which code comes next, and whether a number may be used.
//!
//! Invariants: a new segment lies above every number of its code that is known, handed out or
//! handed in, returned or not; a returned number was never used and never is.

use super::books::BooksError;
use crate::{
    model::{CstTime, InvoiceNumber, Kind},
    pb::authority::v1::{AcquireSegmentResponse, SegmentRequestState},
};
use chrono::Datelike as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

/// Highest number under a code.
const NUMBER_MAX: u32 = 99_999_999;
/// Batches of one kind and year; three digits of the code.
const BATCH_MAX: u16 = 999;

/// What a proxy asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Chosen by the proxy, 16 bytes.
    pub(super) request: Vec<u8>,
    /// Virtual device id.
    pub(super) device: String,
    /// Kind.
    pub(super) kind: Kind,
    /// How many numbers, at least 1.
    pub(super) count: u32,
}

/// Consecutive numbers under one code, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Invoice code.
    pub(super) code: String,
    /// First number.
    pub(super) first: u32,
    /// Last number.
    pub(super) last: u32,
}

impl Segment {
    /// How many numbers.
    fn len(&self) -> i64 {
        i64::from(self.last).saturating_sub(self.first.into()).saturating_add(1)
    }
}

impl From<Segment> for AcquireSegmentResponse {
    fn from(segment: Segment) -> Self {
        let (first, last) = (number_text(segment.first), number_text(segment.last));
        Self { first, last, code: segment.code }
    }
}

fn number_text(number: u32) -> String {
    InvoiceNumber { code: String::new(), number }.number_text()
}

/// Numbers that a proxy gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GivenBack {
    /// Chosen by the proxy, 16 bytes.
    pub(super) request: Vec<u8>,
    /// Virtual device id.
    pub(super) device: String,
    /// Kind.
    pub(super) kind: Kind,
    /// The numbers, `first` not above `last`.
    pub(super) segment: Segment,
}

/// Issues a segment, or finds the one that this request got before.
pub(super) fn acquire(
    change: &Transaction<'_>,
    wanted: &Wanted,
    region: &str,
    now: CstTime,
) -> Result<Segment, BooksError> {
    let (kind, count) = (wanted.kind.legacy_code(), wanted.count);
    if let Some((asked, segment)) = find_acquired(change, &wanted.request)? {
        return match asked == (wanted.device.clone(), kind, count) {
            true => Ok(segment),
            false => Err(BooksError::Conflict { what: "the segment request" }),
        };
    }
    if find_returned(change, &wanted.request)?.is_some() {
        return Err(BooksError::Conflict { what: "the segment request" });
    }
    let segment = next(change, wanted, region, now)?;
    let (code, first, last) = (&segment.code, segment.first, segment.last);
    change.execute(
        "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
        params![wanted.request, wanted.device, kind, count, code, first, last],
    )?;
    Ok(segment)
}

/// Device, kind and count of an acquiring request, and what it got.
type Acquired = ((String, u16, u32), Segment);

fn find_acquired(connection: &Connection, request: &[u8]) -> Result<Option<Acquired>, BooksError> {
    let find = "SELECT device, kind, count, code, first, last FROM segments WHERE request = ?";
    let known = connection.query_row(find, [request], |row| {
        let asked: (String, u16, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((asked, Segment { code: row.get(3)?, first: row.get(4)?, last: row.get(5)? }))
    });
    Ok(known.optional()?)
}

/// Device and kind of a returning request, and what it returned.
type Returned = ((String, u16), Segment);

fn find_returned(connection: &Connection, request: &[u8]) -> Result<Option<Returned>, BooksError> {
    let find = "SELECT device, kind, code, first, last FROM returns WHERE request = ?";
    let known = connection.query_row(find, [request], |row| {
        let whose: (String, u16) = (row.get(0)?, row.get(1)?);
        Ok((whose, Segment { code: row.get(2)?, first: row.get(3)?, last: row.get(4)? }))
    });
    Ok(known.optional()?)
}

/// Notes that a segment arrived, so that its numbers may be used; again changes nothing.
pub(super) fn confirm(change: &Transaction<'_>, request: &[u8]) -> Result<(), BooksError> {
    let Some((_, segment)) = find_acquired(change, request)? else {
        return Err(BooksError::NotFound { what: "the segment request" });
    };
    if returned(change, &segment)? == segment.len() {
        return Err(BooksError::State { why: "the segment was returned".to_owned() });
    }
    change.execute("UPDATE segments SET confirmed = 1 WHERE request = ?", [request])?;
    Ok(())
}

/// Takes numbers back, or finds that this request did so before.
pub(super) fn give_back(change: &Transaction<'_>, given: &GivenBack) -> Result<(), BooksError> {
    let (kind, segment) = (given.kind.legacy_code(), &given.segment);
    match find_returned(change, &given.request)? {
        Some(known) if known == ((given.device.clone(), kind), segment.clone()) => return Ok(()),
        Some(_) => return Err(BooksError::Conflict { what: "the segment request" }),
        None if find_acquired(change, &given.request)?.is_some() => {
            return Err(BooksError::Conflict { what: "the segment request" });
        }
        None => {}
    }
    let state = |why: &str| Err(BooksError::State { why: why.to_owned() });
    let (code, first, last) = (&segment.code, segment.first, segment.last);
    let issued = "SELECT COALESCE(SUM(MIN(last, ?5) - MAX(first, ?4) + 1), 0) FROM segments
                  WHERE code = ?1 AND device = ?2 AND kind = ?3 AND last >= ?4 AND first <= ?5";
    let whole = params![code, given.device, kind, first, last];
    let issued: i64 = change.query_row(issued, whole, |row| row.get(0))?;
    if issued != segment.len() {
        return state("not every number of it was issued to this device and kind");
    }
    if returned(change, segment)? > 0 {
        return state("a number of it was returned before");
    }
    let used = "SELECT number FROM numbers WHERE code = ? AND number BETWEEN ? AND ? LIMIT 1";
    let bounds = [code, &number_text(first), &number_text(last)];
    let used: Option<String> = change.query_row(used, bounds, |row| row.get(0)).optional()?;
    if let Some(number) = used {
        return state(&format!("number {number} is known as used"));
    }
    change.execute(
        "INSERT INTO returns VALUES (?, ?, ?, ?, ?, ?)",
        params![given.request, given.device, kind, code, first, last],
    )?;
    Ok(())
}

/// How many numbers of a segment were returned.
fn returned(connection: &Connection, segment: &Segment) -> Result<i64, BooksError> {
    let sum = "SELECT COALESCE(SUM(MIN(last, ?3) - MAX(first, ?2) + 1), 0) FROM returns
               WHERE code = ?1 AND last >= ?2 AND first <= ?3";
    let within = params![segment.code, segment.first, segment.last];
    Ok(connection.query_row(sum, within, |row| row.get(0))?)
}

/// What became of a request that acquired or returned numbers.
pub(super) fn state(
    connection: &Connection,
    request: &[u8],
) -> Result<(SegmentRequestState, Option<Segment>), BooksError> {
    if let Some((_, segment)) = find_returned(connection, request)? {
        return Ok((SegmentRequestState::Returned, Some(segment)));
    }
    let Some((_, segment)) = find_acquired(connection, request)? else {
        return Ok((SegmentRequestState::Unknown, None));
    };
    let find = "SELECT confirmed FROM segments WHERE request = ?";
    let confirmed: bool = connection.query_row(find, [request], |row| row.get(0))?;
    let state = match (returned(connection, &segment)? == segment.len(), confirmed) {
        (true, _) => SegmentRequestState::Returned,
        (false, true) => SegmentRequestState::Confirmed,
        (false, false) => SegmentRequestState::Acquired,
    };
    Ok((state, Some(segment)))
}

fn next(
    change: &Transaction<'_>,
    wanted: &Wanted,
    region: &str,
    now: CstTime,
) -> Result<Segment, BooksError> {
    for batch in 1..=BATCH_MAX {
        let code = code(wanted.kind, region, now, batch);
        let used = highest(change, &code)?;
        if let Some(last) = used.checked_add(wanted.count).filter(|last| *last <= NUMBER_MAX) {
            return Ok(Segment { code, first: used.saturating_add(1), last });
        }
    }
    Err(BooksError::UsedUp)
}

/// The highest number known under a code; 0 when none is.
fn highest(change: &Transaction<'_>, code: &str) -> Result<u32, BooksError> {
    let highest = "SELECT MAX(
        (SELECT COALESCE(MAX(last), 0) FROM segments WHERE code = ?1),
        (SELECT COALESCE(MAX(CAST(number AS INTEGER)), 0) FROM numbers WHERE code = ?1))";
    Ok(change.query_row(highest, [code], |row| row.get(0))?)
}

/// The invoice code. 12 digits: 0, region, year, batch, kind; special invoices on paper have 10:
/// region, year, batch, 0. Source: docs/domain.md 3.2.
fn code(kind: Kind, region: &str, now: CstTime, batch: u16) -> String {
    let year = now.day().year().rem_euclid(100);
    match kind {
        Kind::SpecialPaper => format!("{region}{year:02}{batch:03}0"),
        Kind::NormalPaper => format!("0{region}{year:02}{batch:03}04"),
        Kind::Roll => format!("0{region}{year:02}{batch:03}06"),
        Kind::ENormal => format!("0{region}{year:02}{batch:03}11"),
        Kind::ESpecial => format!("0{region}{year:02}{batch:03}13"),
    }
}

/// The kind that a code belongs to. Source: docs/domain.md 3.2.
pub(super) fn kind_of(code: &str) -> Kind {
    match (code.len(), code.get(10..)) {
        (10, _) => Kind::SpecialPaper,
        (12, Some("13")) => Kind::ESpecial,
        (12, Some("06" | "07")) => Kind::Roll,
        (12, Some("04" | "05")) => Kind::NormalPaper,
        _ => Kind::ENormal,
    }
}

/// How a number stands to the segments of its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// No segment of this code was issued here; the number may come from elsewhere.
    Unknown,
    /// Within a confirmed segment issued to the device, for this kind.
    Issued(Kind),
    /// Within a segment whose arrival was not confirmed.
    Unconfirmed,
    /// It was returned.
    Returned,
    /// The code is ours, the number was not issued to the device.
    Outside,
}

/// Looks a number up among the segments.
pub(super) fn fits(
    change: &Transaction<'_>,
    code: &str,
    number: &str,
    device: &str,
) -> Result<Fit, BooksError> {
    let Some(number) = InvoiceNumber::parse_number(number) else { return Ok(Fit::Unknown) };
    let find = "SELECT kind, confirmed, EXISTS (SELECT 1 FROM returns
                    WHERE code = ?1 AND first <= ?3 AND last >= ?3)
                FROM segments WHERE code = ?1 AND device = ?2 AND first <= ?3 AND last >= ?3";
    let known: Option<(u16, bool, bool)> = change
        .prepare_cached(find)?
        .query_row(params![code, device, number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match known {
        Some((_, _, true)) => return Ok(Fit::Returned),
        Some((_, false, _)) => return Ok(Fit::Unconfirmed),
        Some((kind, ..)) => {
            return Ok(Kind::from_legacy_code(kind).map_or(Fit::Outside, Fit::Issued));
        }
        None => {}
    }
    let any = "SELECT EXISTS (SELECT 1 FROM segments WHERE code = ?)";
    let ours = change.prepare_cached(any)?.query_row([code], |row| row.get(0))?;
    Ok(if ours { Fit::Outside } else { Fit::Unknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_its_kind() {
        let now = CstTime::parse("2026-01-01T00:00:00+08:00").unwrap();
        for (kind, expect) in [
            (Kind::SpecialPaper, "4400260070"),
            (Kind::NormalPaper, "044002600704"),
            (Kind::Roll, "044002600706"),
            (Kind::ENormal, "044002600711"),
            (Kind::ESpecial, "044002600713"),
        ] {
            let code = code(kind, "4400", now, 7);
            assert_eq!(code, expect);
            assert_eq!(kind_of(&code), kind);
        }
    }
}
