//! The credit quota (授信额度): how much a taxpayer may issue in a month, and how much it has. Kept by
//! the assigning commit, so that it is what the claims say. Source: docs/domain.md, rule 45.

use super::{StoreError, load, rows, verify::Findings};
use crate::model::{CstTime, Fen, TaxpayerNo};
use chrono::Datelike as _;
use rows::Column::Int;
use rusqlite::{Connection, Row};
use std::{collections::BTreeMap, fmt};

/// A calendar month, China Standard Time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32);

impl Month {
    /// The month of a moment.
    #[must_use]
    pub fn of(at: CstTime) -> Self {
        let day = at.day();
        let month = i32::try_from(day.month0()).unwrap_or_default();
        Self(day.year().saturating_mul(12).saturating_add(month))
    }

    /// Reads `2026-11`; years 2000 to 9999. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if (year.len(), month.len()) != (4, 2) || !digits(year) || !digits(month) {
            return None;
        }
        let (year, month): (i32, i32) = (year.parse().ok()?, month.parse().ok()?);
        ((2000..=9999).contains(&year) && (1..=12).contains(&month))
            .then(|| Self(year * 12 + month - 1))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

/// The quota of one taxpayer and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Whose.
    pub taxpayer: TaxpayerNo,
    /// When.
    pub month: Month,
    /// What an operator granted.
    pub granted: Fen,
    /// Amounts without tax of the claims that count against it: open ones, and invoices that are
    /// not voided.
    pub spent: Fen,
}

impl Credit {
    /// What is left; negative when less was granted than is spent.
    #[must_use]
    pub fn left(self) -> Fen {
        Fen(self.granted.0.saturating_sub(self.spent.0))
    }
}

/// What a claim takes of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditUse {
    /// Whose.
    pub taxpayer: TaxpayerNo,
    /// The month of the claim, whatever becomes of it later.
    pub month: Month,
    /// The amount without tax.
    pub amount: Fen,
}

const SQL: &str = "SELECT taxpayer, month, granted, spent, crc FROM credit";

/// A row's columns, without its CRC.
pub(super) fn columns(credit: &Credit) -> [rows::Column<'static>; 4] {
    [
        Int(Some(credit.taxpayer.0)),
        Int(Some(i64::from(credit.month.0))),
        Int(Some(credit.granted.0)),
        Int(Some(credit.spent.0)),
    ]
}

/// Every quota, as committed.
pub(super) fn stored(connection: &Connection) -> Result<Vec<Credit>, StoreError> {
    load::all(connection, SQL, read)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Result<Credit, StoreError>> {
    let credit = Credit {
        taxpayer: TaxpayerNo(row.get(0)?),
        month: Month(row.get(1)?),
        granted: Fen(row.get(2)?),
        spent: Fen(row.get(3)?),
    };
    let key = format!("{} {}", credit.taxpayer, credit.month);
    Ok(rows::check_crc("credit", &key, &columns(&credit), row.get(4)?).map(|()| credit))
}

/// What claims take of the quotas, by the walk of `verify`.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<(TaxpayerNo, Month), i64>);

impl Taken {
    /// A claim that stands.
    pub(super) fn note(&mut self, taken: Option<CreditUse>) {
        if let Some(CreditUse { taxpayer, month, amount }) = taken {
            let sum = self.0.entry((taxpayer, month)).or_default();
            *sum = sum.saturating_add(amount.0);
        }
    }

    /// Each quota is spent as its claims say.
    pub(super) fn check(
        mut self,
        connection: &Connection,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        for read in load::all(connection, SQL, |row| read(row).map(Ok))? {
            let Some(credit) = findings.take(read) else { continue };
            let taken = self.0.remove(&(credit.taxpayer, credit.month)).unwrap_or_default();
            if taken != credit.spent.0 {
                let Credit { taxpayer, month, spent, .. } = credit;
                findings.problem(format!(
                    "taxpayer {taxpayer} spent {} fen of its credit in {month}, but its claims \
                     say {taken}",
                    spent.0
                ));
            }
        }
        for (taxpayer, month) in self.0.keys() {
            findings.problem(format!("claims take of taxpayer {taxpayer}'s credit in {month}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_printed_as_it_is_read_and_nothing_else_is_read() {
        for text in ["2026-01", "2026-12", "2000-01", "9999-12"] {
            assert_eq!(Month::parse(text).unwrap().to_string(), text);
        }
        for text in ["2026-00", "2026-13", "2026-1", "202601", "1999-12", "+026-01", "2026-+1", ""]
        {
            assert_eq!(Month::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_month_is_that_of_china() {
        for (time, month) in [
            ("2026-10-31T23:59:59+08:00", "2026-10"),
            ("2026-10-31T16:00:00Z", "2026-11"),
            ("2026-12-31T16:00:00Z", "2027-01"),
        ] {
            assert_eq!(Month::of(CstTime::parse(time).unwrap()).to_string(), month);
        }
    }
}
