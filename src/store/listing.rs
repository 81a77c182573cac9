//! The list index: issued invoices by taxpayer, platform and issue time, filled with the signature.
//! A list reads it page by page, each page a transaction of its own, so that a caller who pauses
//! holds no reader and the log can be moved into the books meanwhile.
//!
//! Its rows follow from claims and signatures and carry no CRC: a reader compares every row with
//! the claim that it names, and `verify` the whole index with the journal.

use super::{
    Batch, Books, Delivered, Fate, Found, InvoiceVoid, Notice, StoreError, load,
    reader::{delivered, found, holder},
    schema::sqlite,
    verify::Findings,
};
use crate::model::{ClaimId, CstTime, InvoiceNumber, PlatformNo, TaxpayerNo};
use bytes::Bytes;
use rusqlite::{Connection, params};
use std::collections::BTreeSet;

/// Where an issued invoice stands in lists: by issue time, then by claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Issue time.
    pub at: CstTime,
    /// The claim.
    pub claim: ClaimId,
}

/// Whose invoices a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListOwner {
    /// The seller.
    pub taxpayer: TaxpayerNo,
    /// The platform that issued them.
    pub platform: PlatformNo,
}

/// One page wanted of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPage {
    /// Whose.
    pub owner: ListOwner,
    /// What comes after this place.
    pub after: Place,
    /// Issue time to stop before.
    pub until: CstTime,
    /// How many invoices at most.
    pub count_max: u32,
}

/// One listed invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its place.
    pub place: Place,
    /// Its bytes.
    pub invoice: Bytes,
    /// Where its delivery stands.
    pub delivered: Delivered,
    /// Its void, when it was voided since, and where the void's delivery stands.
    pub voided: Option<(InvoiceVoid, Delivered)>,
}

/// Writes the rows of one batch, within its transaction.
pub(super) fn write(connection: &Connection, batch: &Batch) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT INTO listing VALUES (?, ?, ?, ?)")?;
    for (owner, place) in &batch.listed {
        let (at, claim) = (place.at.unix(), place.claim.0);
        statement.execute([owner.taxpayer.0, owner.platform.0, at, claim])?;
    }
    Ok(())
}

/// Compares the index with what the journal says: exactly the issued invoices, at their issue time.
pub(super) fn compare(
    connection: &Connection,
    expected: &BTreeSet<(ListOwner, Place)>,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    for (_, place) in expected.symmetric_difference(&all(connection)?) {
        let claim = place.claim;
        findings.problem(format!("the list index differs from the journal at claim {claim}"));
    }
    Ok(())
}

fn all(connection: &Connection) -> Result<BTreeSet<(ListOwner, Place)>, StoreError> {
    let sql = "SELECT taxpayer, platform, issue_time, claim FROM listing";
    let rows = load::all(connection, sql, |row| {
        let owner =
            ListOwner { taxpayer: TaxpayerNo(row.get(0)?), platform: PlatformNo(row.get(1)?) };
        Ok(place(row.get(2)?, row.get(3)?).map(|place| (owner, place)))
    })?;
    Ok(rows.into_iter().collect())
}

fn place(at: i64, claim: i64) -> Result<Place, StoreError> {
    let at = CstTime::from_unix(at)
        .ok_or_else(|| StoreError::damaged("the list index holds a time out of its range"))?;
    Ok(Place { at, claim: ClaimId(claim) })
}

impl Books {
    /// One page of a list, ascending; fewer than asked for at its end. One transaction, gone when
    /// this returns.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn listed(&self, page: &ListPage) -> Result<Vec<Listed>, StoreError> {
        self.durable(|connection| {
            let places = places(connection, page)?;
            places.into_iter().map(|place| listed(connection, page.owner, place)).collect()
        })
    }

    /// The claim that holds a number, with its fate; none when no claim of these books does.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn numbered(&self, number: &InvoiceNumber) -> Result<Option<Found>, StoreError> {
        self.durable(|connection| {
            let claim = holder(connection, number)?;
            claim.map(|claim| found(connection, claim)).transpose()
        })
    }
}

pub(super) fn places(connection: &Connection, page: &ListPage) -> Result<Vec<Place>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT issue_time, claim FROM listing
             WHERE taxpayer = ? AND platform = ? AND (issue_time, claim) > (?, ?)
                AND issue_time < ? ORDER BY issue_time, claim LIMIT ?",
        )
        .map_err(sqlite("prepare to list"))?;
    let (owner, after) = (page.owner, page.after);
    let bounds = params![
        owner.taxpayer.0,
        owner.platform.0,
        after.at.unix(),
        after.claim.0,
        page.until.unix(),
        page.count_max
    ];
    let rows = statement
        .query_map(bounds, |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(sqlite("begin to list"))?;
    rows.map(|row| row.map_err(sqlite("list")).and_then(|(at, claim)| place(at, claim))).collect()
}

fn stray(claim: ClaimId) -> StoreError {
    StoreError::damaged(format!("the list index misplaces claim {claim}"))
}

/// The claim at a place of a list, which must say the same.
pub(super) fn found_at(
    connection: &Connection,
    owner: ListOwner,
    place: Place,
) -> Result<Found, StoreError> {
    let found = found(connection, place.claim)?;
    let there = found.listed_as() == Some((owner, place));
    there.then_some(found).ok_or_else(|| stray(place.claim))
}

fn listed(connection: &Connection, owner: ListOwner, place: Place) -> Result<Listed, StoreError> {
    let found = found_at(connection, owner, place)?;
    let invoice = found.invoice().ok_or_else(|| stray(place.claim))?;
    let voided = match found.fate {
        Fate::InvoiceVoided(_, void) => {
            let notice = Notice::invoice_void(place.claim);
            Some((void, delivered(connection, notice)?))
        }
        Fate::Open | Fate::Issued(_) | Fate::Voided(_) | Fate::Released => None,
    };
    let delivered = delivered(connection, Notice::end(place.claim))?;
    Ok(Listed { place, invoice, delivered, voided })
}

impl Found {
    /// Where it stands in whose list; none when it is not issued.
    #[must_use]
    pub fn listed_as(&self) -> Option<(ListOwner, Place)> {
        let issued = self.issued()?;
        let request = self.request();
        let owner = ListOwner { taxpayer: request.taxpayer, platform: request.platform };
        let at = issued.drawn.as_ref().map_or(self.claimed_at(), |(.., time)| *time);
        Some((owner, Place { at, claim: self.id() }))
    }
}
