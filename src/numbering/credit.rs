//! The credit quota (授信额度): counted in the commit that assigns, given back by the one that ends a
//! claim without an invoice or voids the invoice. A red letter neither takes nor gives back.

use super::{book::Round, operate::absent};
use crate::{
    contract::Checked,
    model::{CstTime, Fen, TaxpayerNo},
    refusal::{Reason, Refusal},
    store::{Credit, CreditUse, Month},
};

impl Round<'_> {
    /// The quota of a taxpayer and month as this round leaves it; none when none was granted.
    #[must_use]
    pub fn credit(&self, taxpayer: TaxpayerNo, month: Month) -> Option<Credit> {
        let key = (taxpayer, month);
        self.credits.get(&key).or_else(|| self.book.credits.get(&key)).copied()
    }

    /// Every quota, as committed, ascending by taxpayer and month.
    pub fn all_credits(&self) -> impl Iterator<Item = &Credit> {
        self.book.credits.values()
    }

    /// Whether a request fits into what is left, where its amount counts.
    ///
    /// # Errors
    /// `QuotaExhausted`, with the exact difference.
    pub(super) fn credit_left(&self, checked: &Checked, at: CstTime) -> Result<(), Refusal> {
        if !checked.counts_credit {
            return Ok(());
        }
        let (month, wanted) = (Month::of(at), checked.totals.amount.0);
        let left = self.credit(checked.taxpayer, month).map_or(0, |credit| credit.left().0);
        if wanted <= left {
            return Ok(());
        }
        let over = i128::from(wanted) - i128::from(left);
        let hint = format!("the invoice is {over} fen more than the credit left for {month}");
        Err(Refusal::new(Reason::QuotaExhausted, hint))
    }

    /// Takes what a claim counts.
    pub(super) fn take_credit(&mut self, taken: Option<CreditUse>) {
        self.add_credit(taken, 1);
    }

    /// Gives back what a claim took that makes no invoice, or whose invoice is voided.
    pub(super) fn return_credit(&mut self, taken: Option<CreditUse>) {
        self.add_credit(taken, -1);
    }

    fn add_credit(&mut self, taken: Option<CreditUse>, sign: i64) {
        let Some(CreditUse { taxpayer, month, amount }) = taken else { return };
        let none = Credit { taxpayer, month, granted: Fen(0), spent: Fen(0) };
        let mut credit = self.credit(taxpayer, month).unwrap_or(none);
        // The contract's limits keep every sum far below an i64.
        credit.spent.0 = credit.spent.0.saturating_add(amount.0.saturating_mul(sign));
        self.credits.insert((taxpayer, month), credit);
    }

    /// Grants a taxpayer its quota of a month, in the place of what was granted before.
    ///
    /// # Errors
    /// `NotFound` for the taxpayer.
    pub fn grant_credit(
        &mut self,
        actor: &str,
        (id, month): (&str, Month),
        granted: Fen,
    ) -> Result<Credit, Refusal> {
        let taxpayer = self.registry().taxpayer_by_id(id);
        let taxpayer = taxpayer.ok_or_else(|| absent("taxpayer", id))?.no;
        let spent = self.credit(taxpayer, month).map_or(Fen(0), |credit| credit.spent);
        let credit = Credit { taxpayer, month, granted, spent };
        self.credits.insert((taxpayer, month), credit);
        self.audit(actor, format!("grant taxpayer {id} {} fen of credit in {month}", granted.0));
        Ok(credit)
    }
}
