//! The journal as reports and reconciliation read it: invoices by their place in lists or by their
//! number, voids by their claim, and the meter beside them. Each page is a transaction of its own,
//! so that a report of any size holds no reader between two pages.

use super::{
    Books, Counted, Fate, Found, ListOwner, ListPage, Notice, StoreError, UsageDelta, UsageKey,
    columns, listing, load,
    reader::found,
    rows::{self, Column::Int},
    schema::sqlite,
};
use crate::{
    convert::to_u64,
    model::{
        ClaimId, Color, CstTime, DeviceNo, Fen, InvoiceNumber, Kind, PlatformNo, RequestKey,
        TaxpayerNo, Totals,
    },
};
use chrono::{Datelike as _, NaiveDate};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

/// A number that was used for good: issued, voided since or not, or voided unsigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The claim.
    pub claim: ClaimId,
    /// Its number.
    pub number: InvoiceNumber,
    /// Who asked for it.
    pub request: RequestKey,
    /// The device that signed, or was to sign.
    pub device: DeviceNo,
    /// Its kind.
    pub kind: Kind,
    /// Its colour.
    pub color: Color,
    /// Issue time; of a number that was voided unsigned, the time of the void.
    pub at: CstTime,
    /// Its totals, also of a number that was voided unsigned: what was asked for.
    pub totals: Totals,
    /// How it ended.
    pub end: End,
}

/// How a number ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Issued.
    Issued,
    /// Issued, and voided after that.
    Voided(CstTime),
    /// Voided unsigned (空白作废).
    Blank,
}

impl Found {
    /// What a report says of it; none of a claim that is open, was released, or was voided before
    /// a device drew its number.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        let (number, at, end) = match &self.fate {
            Fate::Open | Fate::Released => return None,
            Fate::Issued(_) => (self.issued_number()?, self.issued_at()?, End::Issued),
            Fate::InvoiceVoided(_, void) => {
                (self.issued_number()?, self.issued_at()?, End::Voided(void.at))
            }
            Fate::Voided(void) => (void.number.as_ref()?, void.at, End::Blank),
        };
        let (kind, color) = self.kind();
        Some(Entry {
            claim: self.id(),
            number: number.clone(),
            request: self.request().clone(),
            device: self.device(),
            kind,
            color,
            at,
            totals: self.totals(),
            end,
        })
    }
}

/// Voids, by what they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoidTable {
    /// Of numbers that were never signed.
    Blank,
    /// Of issued invoices.
    Invoice,
}

impl Books {
    /// The first owner of a list after another; the first of all after none.
    ///
    /// # Errors
    /// When rows cannot be read, or the writer hangs.
    pub fn next_owner(&self, after: Option<ListOwner>) -> Result<Option<ListOwner>, StoreError> {
        let after =
            after.map_or((i64::MIN, i64::MIN), |owner| (owner.taxpayer.0, owner.platform.0));
        self.durable(|connection| {
            connection
                .prepare_cached(
                    "SELECT taxpayer, platform FROM listing WHERE (taxpayer, platform) > (?, ?)
                     ORDER BY taxpayer, platform LIMIT 1",
                )
                .and_then(|mut next| next.query_row(params![after.0, after.1], owner).optional())
                .map_err(sqlite("look for whose lists there are"))
        })
    }

    /// The issued invoices of one page of a list, ascending; fewer than asked for at its end.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn issued_page(&self, page: &ListPage) -> Result<Vec<Found>, StoreError> {
        self.durable(|connection| {
            let places = listing::places(connection, page)?;
            let found = |place| listing::found_at(connection, page.owner, place);
            places.into_iter().map(found).collect()
        })
    }

    /// The claims that hold the numbers after one, ascending by code and number; the first of all
    /// after none. Fewer than asked for at the end. Open claims are among them.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn numbered_page(
        &self,
        after: Option<&InvoiceNumber>,
        count_max: usize,
    ) -> Result<Vec<(InvoiceNumber, Found)>, StoreError> {
        self.durable(|connection| {
            let numbers = numbers(connection, after, count_max)?;
            numbers
                .into_iter()
                .map(|(number, claim)| Ok((number, found(connection, claim)?)))
                .collect()
        })
    }

    /// The voided claims after one, ascending; fewer than asked for at the end.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn voided_page(
        &self,
        table: VoidTable,
        after: ClaimId,
        count_max: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let sql = match table {
            VoidTable::Blank => "SELECT claim FROM void WHERE claim > ? ORDER BY claim LIMIT ?",
            VoidTable::Invoice => {
                "SELECT claim FROM invoice_void WHERE claim > ? ORDER BY claim LIMIT ?"
            }
        };
        self.durable(|connection| {
            let mut claims = connection.prepare_cached(sql).map_err(sqlite("prepare for voids"))?;
            let rows = claims
                .query_map(params![after.0, limit(count_max)], |row| row.get(0))
                .map_err(sqlite("begin to read voids"))?;
            rows.map(|claim| found(connection, ClaimId(claim.map_err(sqlite("read a void"))?)))
                .collect()
        })
    }

    /// The meter of one day.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn usage_of(&self, day: NaiveDate) -> Result<Vec<(UsageKey, UsageDelta)>, StoreError> {
        let sql = format!("SELECT * FROM usage WHERE day = {}", day.num_days_from_ce());
        self.durable(|connection| load::all(connection, &sql, |row| usage(day, row)))
    }

    /// When the receipt for a notice was stored; none while there is none.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn heard_at(&self, notice: Notice) -> Result<Option<CstTime>, StoreError> {
        let at: Option<i64> = self.durable(|connection| {
            connection
                .prepare_cached(
                    "SELECT stored_at FROM receipt
                     WHERE batch = (SELECT batch FROM delivery WHERE notice = ?)",
                )
                .and_then(|mut at| at.query_row([notice.code()], |row| row.get(0)).optional())
                .map_err(sqlite("look up when a receipt came"))
        })?;
        Ok(at.and_then(CstTime::from_unix))
    }
}

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn owner(row: &Row<'_>) -> rusqlite::Result<ListOwner> {
    Ok(ListOwner { taxpayer: TaxpayerNo(row.get(0)?), platform: PlatformNo(row.get(1)?) })
}

fn numbers(
    connection: &Connection,
    after: Option<&InvoiceNumber>,
    count_max: usize,
) -> Result<Vec<(InvoiceNumber, ClaimId)>, StoreError> {
    let first = after.map_or("", |number| number.code.as_str());
    let mut codes = connection
        .prepare_cached("SELECT no, code FROM code WHERE code >= ? ORDER BY code")
        .map_err(sqlite("prepare to read codes"))?;
    let mut codes = codes.query([first]).map_err(sqlite("begin to read codes"))?;
    let mut out = Vec::new();
    while let Some(row) = codes.next().map_err(sqlite("read a code"))? {
        let (no, code): (i64, String) =
            row.get(0).and_then(|no| Ok((no, row.get(1)?))).map_err(sqlite("read a code"))?;
        let above = after.filter(|number| number.code == code).map(|number| number.number);
        let wanted = (no, above.map_or(-1, i64::from), count_max.saturating_sub(out.len()));
        numbers_of(connection, wanted, &code, &mut out)?;
        if out.len() >= count_max {
            break;
        }
    }
    Ok(out)
}

fn numbers_of(
    connection: &Connection,
    (no, above, count_max): (i64, i64, usize),
    code: &str,
    out: &mut Vec<(InvoiceNumber, ClaimId)>,
) -> Result<(), StoreError> {
    let mut rows = connection
        .prepare_cached(
            "SELECT number, claim, crc FROM number WHERE code = ? AND number > ?
             ORDER BY number LIMIT ?",
        )
        .map_err(sqlite("prepare to read numbers"))?;
    let mut rows = rows
        .query(params![no, above, limit(count_max)])
        .map_err(sqlite("begin to read numbers"))?;
    while let Some(row) = rows.next().map_err(sqlite("read a number"))? {
        let (number, claim, crc): (u32, i64, i64) = row
            .get(0)
            .and_then(|number| Ok((number, row.get(1)?, row.get(2)?)))
            .map_err(sqlite("read a number"))?;
        let columns = [Int(Some(no)), Int(Some(i64::from(number))), Int(Some(claim))];
        rows::check_crc("number", &format!("{code} {number:08}"), &columns, crc)?;
        out.push((InvoiceNumber { code: code.to_owned(), number }, ClaimId(claim)));
    }
    Ok(())
}

fn usage(
    day: NaiveDate,
    row: &Row<'_>,
) -> rusqlite::Result<Result<(UsageKey, UsageDelta), StoreError>> {
    let (kind, color, counted): (u16, u8, u8) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let kind = Kind::from_legacy_code(kind);
    let color = [Color::Blue, Color::Red].into_iter().find(|it| it.code() == color);
    let counted = [Counted::Issued, Counted::Voided].into_iter().find(|it| it.code() == counted);
    let (Some(kind), Some(color), Some(counted)) = (kind, color, counted) else {
        return Ok(Err(StoreError::damaged("table usage holds a value out of its range")));
    };
    let (platform, taxpayer) = (PlatformNo(row.get(1)?), TaxpayerNo(row.get(2)?));
    let key = UsageKey { day, platform, taxpayer, kind, color, counted };
    let (amount, tax, total) = (Fen(row.get(7)?), Fen(row.get(8)?), Fen(row.get(9)?));
    let count = to_u64(row.get(6)?);
    let delta = UsageDelta { count, totals: Totals { amount, tax, total } };
    let columns = columns::usage_values(&key, &delta).map(|value| Int(Some(value)));
    Ok(rows::check_crc("usage", &day.to_string(), &columns, row.get(10)?).map(|()| (key, delta)))
}
