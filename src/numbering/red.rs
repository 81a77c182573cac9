//! Red letters (红字): what a red draft takes of its blue invoice, claimed in the assigning commit
//! and given back by a void or by proof that nothing was issued. Source: docs/domain.md 3.8.

use super::{
    Numbering,
    book::{Round, unreadable},
};
use crate::{
    contract::Checked,
    model::{ClaimId, Color, InvoiceNumber, Kind, PlatformNo, TaxpayerNo},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    store::{Balance, Claim, Fate, Found, StoreError},
};

/// A red draft's hold on its blue invoice.
pub(super) struct Hold {
    pub(super) blue: ClaimId,
    /// What is left once the red one is issued.
    left: Balance,
}

fn unknown(hint: String) -> Refusal {
    Refusal::new(Reason::RedOriginalUnknown, hint)
}

fn not_here(number: &InvoiceNumber) -> Refusal {
    unknown(format!("no invoice {number} was issued here"))
}

fn not_full(left: &Balance, number: &InvoiceNumber) -> Result<(), Refusal> {
    if left.total.amount.0 != 0 {
        return Ok(());
    }
    let hint = format!("invoice {number} is reversed in full already");
    Err(Refusal::new(Reason::RedAlreadyFull, hint))
}

/// Whether an invoice may be reversed at all by whoever asks.
///
/// # Errors
/// `RedOriginalUnknown`.
fn reversible(
    found: &Found,
    (platform, taxpayer): (PlatformNo, TaxpayerNo),
    kind: Option<Kind>,
    rejected: bool,
) -> Result<(), Refusal> {
    let request = found.request();
    if (request.platform, request.taxpayer) != (platform, taxpayer) {
        // Another platform's invoice is as unknown as none: who holds what is nobody's business.
        return Err(unknown("no such blue invoice of this platform and seller".into()));
    }
    let (its_kind, color) = found.kind();
    if color != Color::Blue || kind.is_some_and(|kind| kind != its_kind) {
        return Err(unknown("the original is not a blue invoice of this kind".into()));
    }
    match found.fate {
        Fate::Issued(_) if rejected => Err(unknown("the authority rejected the original".into())),
        Fate::Issued(_) => Ok(()),
        Fate::Open => Err(unknown("the original is not issued yet; look it up first".into())),
        Fate::InvoiceVoided(..) => Err(unknown("the original is voided".into())),
        Fate::Voided(_) | Fate::Released => Err(unknown("the original was never issued".into())),
    }
}

/// What is left of a blue invoice: its balance, or before the first red letter all of it.
///
/// # Errors
/// When its stored draft does not decode.
fn left(found: &Found, balance: Option<Balance>) -> Result<Balance, StoreError> {
    match balance {
        Some(balance) => Ok(balance),
        None => Ok(Balance::of(&found.draft()?)),
    }
}

impl Numbering {
    /// What may still be reversed of an invoice of this platform and seller, as committed; a red
    /// letter may be under way.
    ///
    /// # Errors
    /// `RedOriginalUnknown`, `RedAlreadyFull`, or when the books cannot be read.
    pub fn red_balance(
        &self,
        asker: (PlatformNo, TaxpayerNo),
        number: &InvoiceNumber,
    ) -> Result<Balance, Refusal> {
        let found = self.books.reversible(number).map_err(|error| unreadable(&error))?;
        let Some((found, balance, rejected)) = found else { return Err(not_here(number)) };
        reversible(&found, asker, None, rejected)?;
        let left = left(&found, balance).map_err(|error| unreadable(&error))?;
        not_full(&left, number)?;
        Ok(left)
    }
}

impl Round<'_> {
    /// What a red draft would take of its blue invoice; none for a blue draft.
    ///
    /// # Errors
    /// `RedOriginalMissing`, `RedOriginalUnknown`, `RedAlreadyFull`, or `RedExceedsBalance` with
    /// the exact difference.
    pub(super) fn hold(&self, checked: &Checked) -> Result<Option<Hold>, Refusal> {
        if checked.color == Color::Blue {
            return Ok(None);
        }
        let wire = &checked.draft.wire;
        let Some(number) = checked.original.clone() else {
            let hint = "a red invoice names the code and number of its blue one";
            return Err(Refusal::new(Reason::RedOriginalMissing, hint));
        };
        let holder = self.store.holder(&number).map_err(|error| unreadable(&error))?;
        let Some(blue) = holder else {
            return Err(not_here(&number));
        };
        let found = self.store.found(blue).map_err(|error| unreadable(&error))?;
        let rejected = self.store.is_rejected(blue).map_err(|error| unreadable(&error))?;
        let asker = (checked.platform, checked.taxpayer);
        reversible(&found, asker, Some(checked.kind), rejected)?;
        if self.voided.contains_key(&blue) {
            return Err(unknown("the original is voided".into()));
        }
        self.in_red_period(checked, &found)?;
        let before = left(&found, self.balance(blue)?).map_err(|error| unreadable(&error))?;
        not_full(&before, &number)?;
        let left = before.plus(&Balance::of(wire));
        match left.overdrawn() {
            None => Ok(Some(Hold { blue, left })),
            Some((rate, what, over)) => {
                let place = rate.map_or_else(String::new, |rate| format!(" at rate {rate}"));
                let hint = format!(
                    "the {what}{place} is {} fen more than what is left of invoice {number}",
                    over.0
                );
                Err(Refusal::new(Reason::RedExceedsBalance, hint))
            }
        }
    }

    /// Whether the device still reverses an original of this age and origin (fsfpts, fsfpbz).
    ///
    /// # Errors
    /// `RedPeriod`, or `RedOriginalUnknown` when the device wants its own.
    fn in_red_period(&self, checked: &Checked, original: &Found) -> Result<(), Refusal> {
        let monitor = self.registry().monitor(checked.device, checked.kind);
        let Some(facts) = monitor.map(|monitor| &monitor.facts) else { return Ok(()) };
        if facts.red_needs_original == Some(true) && original.device() != checked.device {
            return Err(unknown("the original was issued by another virtual device".into()));
        }
        let limit = checked.zero_limit.limit(facts.red_days, |days| days == 0);
        let Some((days, issued)) = limit.zip(original.issued_at()) else { return Ok(()) };
        let age = self.now.day().signed_duration_since(issued.day()).num_days();
        if u64::try_from(age).is_ok_and(|age| age > days) {
            let hint = format!("the original of {issued} is {age} days old, {days} are allowed");
            return Err(Refusal::new(Reason::RedPeriod, hint));
        }
        Ok(())
    }

    /// A blue invoice's balance as this round leaves it; none before its first red letter.
    pub(super) fn balance(&self, blue: ClaimId) -> Result<Option<Balance>, Refusal> {
        match self.balances.get(&blue) {
            Some(balance) => Ok(Some(balance.clone())),
            None => self.store.balance(blue).map_err(|error| unreadable(&error)),
        }
    }

    /// Claims what a red draft takes.
    pub(super) fn take_hold(&mut self, hold: Option<Hold>) {
        if let Some(Hold { blue, left }) = hold {
            self.balances.insert(blue, left);
        }
    }

    /// Gives back what a claim took, of its blue invoice or of a credit quota, when it ends without
    /// an invoice.
    ///
    /// # Errors
    /// When the books cannot be read; the claim must not end then.
    pub(super) fn give_back_open(&mut self, claim: &Claim) -> Result<(), Refusal> {
        if claim.red_of.is_some() {
            let draft = claim.head.draft().map_err(|error| {
                tracing::error!(claim = claim.id.0, %error, "a stored draft does not decode");
                Refusal::new(Reason::Internal, "the claim's draft cannot be read")
            })?;
            self.give_back(claim.red_of, &draft)?;
        }
        self.return_credit(claim.credit());
        Ok(())
    }

    /// Gives back what a red letter took of its blue invoice; nothing for a blue one.
    ///
    /// # Errors
    /// When the books cannot be read; the red letter must stand then.
    pub(super) fn give_back(
        &mut self,
        red_of: Option<ClaimId>,
        draft: &pb::InvoiceDraft,
    ) -> Result<(), Refusal> {
        let Some(blue) = red_of else { return Ok(()) };
        // A red claim has made it.
        let before = self.balance(blue)?.ok_or_else(|| {
            Refusal::new(Reason::Internal, "the blue invoice's balance is missing")
        })?;
        self.balances.insert(blue, before.plus(&Balance::of(draft).negated()));
        Ok(())
    }
}
