//! What the acceptance side holds: sums of a window of issue time, and everything in it one by one.
//! Reads only; a page is one statement, so that no reader holds up the books for longer.

use super::books::BooksError;
use crate::{
    convert::to_u64,
    model::{CstTime, Fen, Kind},
    pb::authority::v1::{HeldItem, PeriodSummary},
};
use rusqlite::{Connection, params};

/// Items of one page.
pub(super) const PAGE: usize = 500;

/// Whose invoices, and of which time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) whose: Whose,
    /// First issue time. Unit: seconds since the Unix epoch.
    pub(super) from: i64,
    /// Issue time to stop before.
    pub(super) until: i64,
}

/// Whose invoices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of a taxpayer, of every one when the id is empty; of a kind or of all.
    Taxpayer(String, Option<Kind>),
    /// Of one device and kind.
    Series(String, Kind),
}

impl Window {
    /// Everything.
    pub(super) fn all() -> Self {
        Self { whose: Whose::Taxpayer(String::new(), None), from: i64::MIN, until: i64::MAX }
    }

    /// The condition over `numbers`, and what it names ?1 and ?2; ?3 and ?4 are the times.
    fn condition(&self) -> (&'static str, &str, u16) {
        match &self.whose {
            Whose::Taxpayer(taxpayer, kind) => (
                "(?1 = '' OR numbers.device IN (SELECT id FROM devices WHERE taxpayer = ?1))
                 AND (?2 = 0 OR numbers.kind = ?2)
                 AND numbers.issue_at >= ?3 AND numbers.issue_at < ?4",
                taxpayer,
                kind.map_or(0, Kind::legacy_code),
            ),
            Whose::Series(device, kind) => (
                "numbers.device = ?1 AND numbers.kind = ?2
                 AND numbers.issue_at >= ?3 AND numbers.issue_at < ?4",
                device,
                kind.legacy_code(),
            ),
        }
    }
}

/// One invoice or unsigned void that the acceptance side holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Invoice code.
    pub code: String,
    /// Invoice number, as it was handed in.
    pub number: String,
    /// SHA-256 over the invoice's bytes, or over the encoded void.
    pub digest: [u8; 32],
    /// Whether the number was voided without ever being signed.
    pub blank: bool,
    /// Whether the issued invoice was voided.
    pub voided: bool,
    /// Without tax; 0 for an unsigned void.
    pub amount: Fen,
    /// Tax.
    pub tax: Fen,
    /// Issue time; the time of the void for an unsigned one.
    pub issued_at: CstTime,
}

impl From<Held> for HeldItem {
    fn from(held: Held) -> Self {
        Self {
            code: held.code,
            number: held.number,
            digest: held.digest.to_vec(),
            blank: held.blank,
            voided: held.voided,
            amount_fen: held.amount.0,
            tax_fen: held.tax.0,
            issue_time: held.issued_at.rfc3339(),
        }
    }
}

/// Counts and amounts of a window.
pub(super) fn summary(
    connection: &Connection,
    window: &Window,
) -> Result<PeriodSummary, BooksError> {
    let (condition, whose, kind) = window.condition();
    let of = params![whose, kind, window.from, window.until];
    let sums = format!(
        "SELECT color, COUNT(*), SUM(amount), SUM(tax) FROM numbers
         WHERE voided = 0 AND {condition} GROUP BY color"
    );
    let mut summary = PeriodSummary::default();
    let mut sums = connection.prepare_cached(&sums)?;
    let mut rows = sums.query(of)?;
    while let Some(row) = rows.next()? {
        let (count, amount, tax) = (to_u64(row.get(1)?), row.get(2)?, row.get(3)?);
        match row.get::<_, u8>(0)? {
            0 => {
                summary.blue_count = count;
                (summary.blue_amount_fen, summary.blue_tax_fen) = (amount, tax);
            }
            _ => {
                summary.red_count = count;
                (summary.red_amount_fen, summary.red_tax_fen) = (amount, tax);
            }
        }
    }
    let voids = format!(
        "SELECT COUNT(*) FROM numbers WHERE {condition} AND (voided = 1 OR EXISTS (
            SELECT 1 FROM invoice_voids
            WHERE invoice_voids.code = numbers.code AND invoice_voids.number = numbers.number))"
    );
    let voids = connection.prepare_cached(&voids)?.query_row(of, |row| row.get(0))?;
    summary.void_count = to_u64(voids);
    Ok(summary)
}

/// The next page of a window after a code and number, ascending; at most `PAGE` items.
pub(super) fn page(
    connection: &Connection,
    window: &Window,
    after: (&str, &str),
) -> Result<Vec<Held>, BooksError> {
    let (condition, whose, kind) = window.condition();
    let page = format!(
        "SELECT numbers.code, numbers.number, numbers.digest, numbers.voided,
                invoice_voids.code IS NOT NULL, amount, tax, issue_at
         FROM numbers LEFT JOIN invoice_voids
            ON invoice_voids.code = numbers.code AND invoice_voids.number = numbers.number
         WHERE (numbers.code, numbers.number) > (?5, ?6) AND {condition}
         ORDER BY numbers.code, numbers.number LIMIT {PAGE}"
    );
    let of = params![whose, kind, window.from, window.until, after.0, after.1];
    let mut page = connection.prepare_cached(&page)?;
    let rows = page.query_map(of, |row| {
        Ok(Held {
            code: row.get(0)?,
            number: row.get(1)?,
            digest: row.get(2)?,
            blank: row.get(3)?,
            voided: row.get(4)?,
            amount: Fen(row.get(5)?),
            tax: Fen(row.get(6)?),
            issued_at: CstTime::from_unix(row.get(7)?).ok_or_else(|| {
                rusqlite::Error::IntegralValueOutOfRange(7, row.get(7).unwrap_or_default())
            })?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
