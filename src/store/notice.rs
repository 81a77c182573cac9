//! What the authority is told of a claim: how it ended, and later perhaps that its invoice was
//! voided. Each is delivered on its own, with a receipt of its own.

use super::{Claim, Found, StoreError};
use crate::model::{ClaimId, CstTime, Fen, SeriesNo};
use std::fmt;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Told {
    /// How the claim ended: the invoice, or the number that was voided unsigned.
    End,
    /// That the issued invoice was voided.
    InvoiceVoid,
}

/// One thing to tell the authority. Ascending by claim, an invoice before its void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Notice {
    /// The claim.
    pub claim: ClaimId,
    /// What of it.
    pub told: Told,
}

impl Notice {
    /// Of how a claim ended.
    #[must_use]
    pub fn end(claim: ClaimId) -> Self {
        Self { claim, told: Told::End }
    }

    /// Of the void of a claim's invoice.
    #[must_use]
    pub fn invoice_void(claim: ClaimId) -> Self {
        Self { claim, told: Told::InvoiceVoid }
    }

    /// How the store keeps it: twice the claim, one more for a void, so that one integer is the
    /// key of a narrow table.
    pub(super) fn code(self) -> i64 {
        let void = i64::from(self.told == Told::InvoiceVoid);
        // Claims are counted from 1; there are never 2^62 of them.
        self.claim.0.saturating_mul(2).saturating_add(void)
    }

    /// From what the store keeps.
    pub(super) fn from_code(code: i64) -> Result<Self, StoreError> {
        if code < 2 {
            return Err(StoreError::damaged(format!("notice {code} is out of its range")));
        }
        let claim = ClaimId(code.div_euclid(2));
        let told = if code.rem_euclid(2) == 0 { Told::End } else { Told::InvoiceVoid };
        Ok(Self { claim, told })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.told {
            Told::End => write!(f, "claim {}", self.claim),
            Told::InvoiceVoid => write!(f, "the void of claim {}", self.claim),
        }
    }
}

/// What the authority is to be told, with what its order depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxItem {
    /// What is told.
    pub notice: Notice,
    /// Its series.
    pub series: SeriesNo,
    /// The blue invoice that it reverses.
    pub red_of: Option<ClaimId>,
    /// What of it counts as offline; none for voids.
    pub offline: Option<OfflineItem>,
}

impl OutboxItem {
    /// Of a claim that has ended.
    #[must_use]
    pub fn of(notice: Notice, found: &Found) -> Self {
        let counts = notice.told == Told::End && found.issued().is_some();
        let offline = counts.then(|| found.offline());
        Self { notice, series: found.series(), red_of: found.red_of(), offline }
    }
}

/// What counts as offline of a claim until the authority knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfflineItem {
    /// Series.
    pub series: SeriesNo,
    /// When it was claimed.
    pub at: CstTime,
    /// Amount without tax, negative on a red letter.
    pub amount: Fen,
}

impl OfflineItem {
    /// Of a claim.
    #[must_use]
    pub fn of(claim: &Claim) -> Self {
        Self { series: claim.series, at: claim.claimed_at, amount: claim.totals.amount }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_one_integer_that_sorts_a_void_after_its_invoice() {
        let notices = [
            Notice::end(ClaimId(1)),
            Notice::invoice_void(ClaimId(1)),
            Notice::end(ClaimId(2)),
            Notice::invoice_void(ClaimId(2)),
        ];
        assert_eq!(notices.map(Notice::code), [2, 3, 4, 5]);
        assert!(notices.is_sorted());
        for notice in notices {
            assert_eq!(Notice::from_code(notice.code()).unwrap(), notice);
        }
        for code in [1, 0, -1, i64::MIN] {
            assert!(Notice::from_code(code).is_err(), "{code}");
        }
    }
}
