//! Numbers handed out: which code comes next, and whether a number lies within what was handed out.
//!
//! Invariant: a new segment lies above every number of its code that is known, handed out or handed
//! in.

use super::books::BooksError;
use crate::{
    model::{CstTime, InvoiceNumber, Kind},
    pb::authority::v1::AcquireSegmentResponse,
};
use chrono::Datelike as _;
use rusqlite::{OptionalExtension as _, Transaction, params};

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

impl From<Segment> for AcquireSegmentResponse {
    fn from(segment: Segment) -> Self {
        let text = |number| InvoiceNumber { code: String::new(), number }.number_text();
        Self { first: text(segment.first), last: text(segment.last), code: segment.code }
    }
}

/// Issues a segment, or finds the one that this request got before.
pub(super) fn acquire(
    change: &Transaction<'_>,
    wanted: &Wanted,
    region: &str,
    now: CstTime,
) -> Result<Segment, BooksError> {
    let (kind, count) = (wanted.kind.legacy_code(), wanted.count);
    let find = "SELECT device, kind, count, code, first, last FROM segments WHERE request = ?";
    let known = change.query_row(find, [&wanted.request], |row| {
        let asked: (String, u16, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((asked, Segment { code: row.get(3)?, first: row.get(4)?, last: row.get(5)? }))
    });
    if let Some((asked, segment)) = known.optional()? {
        return match asked == (wanted.device.clone(), kind, count) {
            true => Ok(segment),
            false => Err(BooksError::Conflict { what: "the segment request" }),
        };
    }
    let segment = next(change, wanted, region, now)?;
    change.execute(
        "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![
            wanted.request,
            wanted.device,
            kind,
            count,
            segment.code,
            segment.first,
            segment.last
        ],
    )?;
    Ok(segment)
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
    /// Within a segment issued to the device, for this kind.
    Issued(Kind),
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
    let find = "SELECT kind FROM segments
                WHERE code = ? AND device = ? AND first <= ? AND last >= ?";
    let kind: Option<u16> = change
        .prepare_cached(find)?
        .query_row(params![code, device, number, number], |row| row.get(0))
        .optional()?;
    if let Some(kind) = kind.and_then(Kind::from_legacy_code) {
        return Ok(Fit::Issued(kind));
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
