//! The balance of a blue invoice: what of it red letters may still reverse, net, tax and per rate.
//!
//! A blue invoice has no row until its first red letter: what it was issued for is its balance.

use super::StoreError;
use crate::{
    model::{ClaimId, Fen},
    pb::v1 as pb,
};
use prost::Message;
use std::collections::BTreeMap;

/// Net and tax. Unit: fen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetAndTax {
    /// Without tax.
    pub amount: Fen,
    /// Tax.
    pub tax: Fen,
}

impl NetAndTax {
    fn plus(self, other: Self) -> Self {
        // The contract's limits keep every sum far below an i64.
        Self {
            amount: Fen(self.amount.0.saturating_add(other.amount.0)),
            tax: Fen(self.tax.0.saturating_add(other.tax.0)),
        }
    }

    fn negated(self) -> Self {
        Self { amount: Fen(self.amount.0.saturating_neg()), tax: Fen(self.tax.0.saturating_neg()) }
    }
}

/// What is left of a blue invoice, or what an invoice takes of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balance {
    /// By its totals.
    pub total: NetAndTax,
    /// By the rate of its lines, in millionths. Tax by rate may differ from the total's, as the
    /// contract allows.
    pub rates: BTreeMap<i32, NetAndTax>,
}

impl Balance {
    /// What a draft is for; negative for a red one.
    #[must_use]
    pub fn of(draft: &pb::InvoiceDraft) -> Self {
        let part = |amount, tax| NetAndTax { amount: Fen(amount), tax: Fen(tax) };
        let mut rates: BTreeMap<i32, NetAndTax> = BTreeMap::new();
        for line in &draft.lines {
            let rate = rates.entry(line.rate_millionths).or_default();
            *rate = rate.plus(part(line.amount_fen, line.tax_fen));
        }
        Self { total: part(draft.amount_fen, draft.tax_fen), rates }
    }

    /// Its parts that are not zero: a rate that was given back whole is as good as none.
    #[must_use]
    pub fn parts(&self) -> (NetAndTax, BTreeMap<i32, NetAndTax>) {
        let mut rates = self.rates.clone();
        rates.retain(|_, part| *part != NetAndTax::default());
        (self.total, rates)
    }

    /// The sum; a red draft's balance is negative, so adding it takes away.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.total = self.total.plus(other.total);
        for (rate, part) in &other.rates {
            let sum = self.rates.entry(*rate).or_default();
            *sum = sum.plus(*part);
        }
        self
    }

    /// What it is with the opposite sign.
    #[must_use]
    pub fn negated(&self) -> Self {
        let rates = self.rates.iter().map(|(rate, part)| (*rate, part.negated())).collect();
        Self { total: self.total.negated(), rates }
    }

    /// How far the first part that went below zero is below it: its rate (none for the totals),
    /// then net or tax. None when nothing is overdrawn.
    #[must_use]
    pub fn overdrawn(&self) -> Option<(Option<i32>, &'static str, Fen)> {
        let rates = self.rates.iter().map(|(rate, part)| (Some(*rate), part));
        let mut parts = std::iter::once((None, &self.total)).chain(rates);
        parts.find_map(|(rate, part)| {
            let values = [("amount", part.amount), ("tax", part.tax)];
            let below = values.into_iter().find(|(_, value)| value.0 < 0);
            below.map(|(what, value)| (rate, what, Fen(value.0.saturating_neg())))
        })
    }
}

/// The balance of one blue invoice after a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedBalance {
    /// The blue invoice.
    pub blue: ClaimId,
    /// What is left of it.
    pub left: Balance,
}

/// Body of a balance row.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BalanceBody {
    #[prost(sint64, tag = "1")]
    amount: i64,
    #[prost(sint64, tag = "2")]
    tax: i64,
    #[prost(message, repeated, tag = "3")]
    rates: Vec<RateBody>,
}

#[derive(Clone, PartialEq, Message)]
struct RateBody {
    #[prost(int32, tag = "1")]
    rate: i32,
    #[prost(sint64, tag = "2")]
    amount: i64,
    #[prost(sint64, tag = "3")]
    tax: i64,
}

pub(super) fn body(balance: &Balance) -> BalanceBody {
    let rates = balance.rates.iter().map(|(rate, part)| RateBody {
        rate: *rate,
        amount: part.amount.0,
        tax: part.tax.0,
    });
    BalanceBody { amount: balance.total.amount.0, tax: balance.total.tax.0, rates: rates.collect() }
}

pub(super) fn balance(body: &BalanceBody) -> Result<Balance, StoreError> {
    let part = |amount, tax| NetAndTax { amount: Fen(amount), tax: Fen(tax) };
    let rates: BTreeMap<i32, NetAndTax> =
        body.rates.iter().map(|rate| (rate.rate, part(rate.amount, rate.tax))).collect();
    if rates.len() != body.rates.len() {
        return Err(StoreError::damaged("a balance names a rate twice"));
    }
    Ok(Balance { total: part(body.amount, body.tax), rates })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(lines: &[(i32, i64, i64)]) -> pb::InvoiceDraft {
        let line = |&(rate_millionths, amount_fen, tax_fen): &(i32, i64, i64)| pb::InvoiceLine {
            rate_millionths,
            amount_fen,
            tax_fen,
            ..Default::default()
        };
        pb::InvoiceDraft {
            amount_fen: lines.iter().map(|line| line.1).sum(),
            tax_fen: lines.iter().map(|line| line.2).sum(),
            lines: lines.iter().map(line).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_red_takes_no_more_than_is_left_of_net_tax_and_each_rate() {
        let blue = Balance::of(&draft(&[(130_000, 1000, 130), (60_000, 500, 30)]));
        for (red, expect) in [
            (vec![(130_000, -1000, -130), (60_000, -500, -30)], None),
            (vec![(130_000, -1000, -129)], None),
            (vec![(130_000, -1001, -130)], Some((Some(130_000), "amount", Fen(1)))),
            (vec![(130_000, -1000, -131)], Some((Some(130_000), "tax", Fen(1)))),
            (vec![(60_000, -501, -30)], Some((Some(60_000), "amount", Fen(1)))),
            (vec![(90_000, -100, -9)], Some((Some(90_000), "amount", Fen(100)))),
            (vec![(130_000, -1501, -130)], Some((None, "amount", Fen(1)))),
        ] {
            let red = Balance::of(&draft(&red));
            let left = blue.clone().plus(&red);
            assert_eq!(left.overdrawn(), expect, "{red:?}");
            assert_eq!(balance(&body(&left)).unwrap(), left);
            let back = left.plus(&red.negated());
            assert_eq!((back.total, back.overdrawn()), (blue.total, None), "given back");
        }
    }
}
