//! Voids of issued invoices (作废): an event of its own in the series' chain. The number and the
//! invoice's bytes stay; what a red letter took of its blue invoice is given back.
//!
//! Invariants: a void is decided in the commit that keeps it, by the rules of that commit's time;
//! an invoice is voided once, and a request id stands for one void.

use super::{
    Numbering, VoidedClaim,
    book::{Round, unreadable},
};
use crate::{
    contract::{VoidCase, may_void},
    model::{CstTime, Fen, InvoiceNumber, RequestKey},
    refusal::{Reason, Refusal},
    registry::Operation,
    store::{Balance, Counted, EventKind, Fate, Found, InvoiceVoid, Notice, OutboxItem, UsageKey},
};

/// A platform's wish to void an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidWish {
    /// Who asks, for whom, and the id of this request in the place of a serial.
    pub request: RequestKey,
    /// The invoice.
    pub number: InvoiceNumber,
    /// Why; kept for ever.
    pub reason: String,
    /// Total without tax of the invoice that is meant; `None`: it was not said.
    pub amount: Option<Fen>,
}

impl VoidWish {
    fn is_whose(&self, found: &Found) -> bool {
        let owner = found.request();
        (owner.platform, owner.taxpayer) == (self.request.platform, self.request.taxpayer)
    }

    /// What a void that was made before says to this wish: `bound` is the claim that its request
    /// id voided, `found` the one that its number belongs to.
    fn known(
        &self,
        bound: Option<&Found>,
        found: Option<&Found>,
    ) -> Result<Option<VoidedClaim>, Refusal> {
        if let Some(bound) = bound {
            let made = voided_of(bound).filter(|made| {
                (made.number.as_ref(), &made.reason) == (Some(&self.number), &self.reason)
            });
            return made.map(Some).ok_or_else(conflict);
        }
        Ok(found.filter(|found| self.is_whose(found)).and_then(voided_of))
    }
}

/// The void of a claim; none when it is not voided.
pub(super) fn voided_of(found: &Found) -> Option<VoidedClaim> {
    match &found.fate {
        Fate::Voided(voided) => Some(VoidedClaim::unsigned(voided)),
        Fate::InvoiceVoided(_, void) => Some(VoidedClaim {
            claim: found.id(),
            number: found.issued_number().cloned(),
            reason: void.reason.clone(),
            at: void.at,
            invoice: found.invoice(),
        }),
        Fate::Open | Fate::Issued(_) | Fate::Released => None,
    }
}

fn conflict() -> Refusal {
    let hint =
        "this request id already stands for the void of another number or for another reason";
    Refusal::new(Reason::SerialConflict, hint)
}

fn not_allowed(hint: impl Into<String>) -> Refusal {
    Refusal::new(Reason::VoidNotAllowed, hint)
}

/// Whether the invoice has the amount that the wish names.
fn is_meant(wish: &VoidWish, found: &Found) -> Result<(), Refusal> {
    let (said, is) = (wish.amount, found.totals().amount);
    let Some(said) = said.filter(|said| *said != is) else { return Ok(()) };
    let off = i128::from(said.0).abs_diff(is.0.into());
    let hint = format!("amount_fen: differs by {off} fen from the invoice's total without tax");
    Err(Refusal::new(Reason::TotalAmountMismatch, hint))
}

impl Numbering {
    /// Voids an issued invoice, or says how it was voided before.
    ///
    /// # Errors
    /// `SerialConflict`, `NotFound`, `VoidNotAllowed`, `OperationNotAllowed`, what `change` refuses
    /// with, or when the books cannot be read. Safe to repeat after each.
    pub async fn void_invoice(&self, wish: VoidWish) -> Result<VoidedClaim, Refusal> {
        let asked = wish.clone();
        let looked = self.read(move |books| {
            let bound = books.void_requested(&asked.request)?;
            Ok((bound, books.numbered(&asked.number)?))
        });
        let (bound, found) = looked.await?;
        // Also where nothing new is taken: a read-only store, a full disk, a suspended platform.
        if let Some(known) = wish.known(bound.as_ref(), found.as_ref())? {
            return Ok(known);
        }
        self.change(move |round| round.void_invoice(&wish)).await
    }
}

impl Round<'_> {
    /// Voids an issued invoice, or says how it was voided before.
    ///
    /// # Errors
    /// `SerialConflict`, `NotFound`, `VoidNotAllowed`, `OperationNotAllowed`,
    /// `TotalAmountMismatch`, the round's gate, or when the books cannot be read. Nothing was
    /// changed.
    pub fn void_invoice(&mut self, wish: &VoidWish) -> Result<VoidedClaim, Refusal> {
        let (found, known) = self.looked_up(wish)?;
        if let Some(known) = known {
            return Ok(known);
        }
        self.gate.all.clone()?;
        let Some(found) = found.filter(|found| wish.is_whose(found)) else {
            let hint = "no invoice of this taxpayer that the platform issued has this number";
            return Err(Refusal::new(Reason::NotFound, hint));
        };
        let (Some((_, place)), Some(invoice)) = (found.listed_as(), found.invoice()) else {
            let hint = "the number is in doubt; ask ResolveInvoice what became of its serial";
            return Err(not_allowed(hint));
        };
        self.may_act(wish)?;
        let at = self.now.max(place.at);
        may_void(self.void_case(&found, place.at), at)?;
        self.not_drawn(&found)?;
        is_meant(wish, &found)?;
        let draft = found.draft().map_err(|error| unreadable(&error))?;
        self.no_red_stands(&found, &Balance::of(&draft))?;
        self.give_back(found.red_of(), &draft)?;
        let body = InvoiceVoid::body(&invoice, &wish.request, (&wish.reason, at));
        self.put_invoice_void(&found, wish, (at, &body))?;
        let voided = VoidedClaim {
            claim: found.id(),
            number: Some(wish.number.clone()),
            reason: wish.reason.clone(),
            at,
            invoice: Some(invoice),
        };
        self.voided.insert(found.id(), voided.clone());
        Ok(voided)
    }

    /// The claim that holds the wish's number, and the void that there is already, of this round
    /// or before.
    fn looked_up(&self, wish: &VoidWish) -> Result<(Option<Found>, Option<VoidedClaim>), Refusal> {
        let made = self.batch.invoice_voids.iter().find(|void| void.request == wish.request);
        if let Some(made) = made.and_then(|made| self.voided.get(&made.claim)) {
            let same = made.number.as_ref() == Some(&wish.number) && made.reason == wish.reason;
            return if same { Ok((None, Some(made.clone()))) } else { Err(conflict()) };
        }
        let looked = || {
            let found = |claim| self.store.found(claim);
            let bound = self.store.void_requested(&wish.request)?.map(found).transpose()?;
            let holder = self.store.holder(&wish.number)?.map(found).transpose()?;
            Ok((bound, holder))
        };
        let (bound, holder) = looked().map_err(|error| unreadable(&error))?;
        if let Some(known) = wish.known(bound.as_ref(), holder.as_ref())? {
            return Ok((holder, Some(known)));
        }
        let ours = holder.as_ref().filter(|found| wish.is_whose(found));
        let made = ours.and_then(|found| self.voided.get(&found.id())).cloned();
        Ok((holder, made))
    }

    /// The grants, looked at again inside the commit.
    fn may_act(&self, wish: &VoidWish) -> Result<(), Refusal> {
        let registry = self.registry();
        let platform = registry.platforms.get(&wish.request.platform);
        if !platform.is_some_and(|platform| platform.enabled) {
            return Err(Refusal::new(Reason::PlatformSuspended, "the platform is suspended"));
        }
        registry.may((wish.request.platform, wish.request.taxpayer), Operation::Void)
    }

    /// What the rules look at. Reports (抄报) of periods are not kept yet: the report of the
    /// invoice's series and month is to be asked for here. A signature that was found wrong never
    /// left.
    fn void_case(&self, found: &Found, issued_at: CstTime) -> VoidCase {
        let (kind, _) = found.kind();
        VoidCase { kind, issued_at, reported: false, signing_failed: false }
    }

    /// A device that draws numbers keeps books of its own, which must void it too.
    fn not_drawn(&self, found: &Found) -> Result<(), Refusal> {
        let device = self.registry().devices.get(&found.device());
        if device.is_none_or(|device| !device.backend.draws_numbers()) {
            return Ok(());
        }
        let hint = "the device that issued it keeps its own numbers, and voids through it are not \
                    offered yet; void it at the device, or issue a red-letter invoice";
        Err(Refusal::new(Reason::OperationNotAllowed, hint))
    }

    /// Whether red letters, issued or under way, still take of a blue invoice.
    fn no_red_stands(&self, found: &Found, whole: &Balance) -> Result<(), Refusal> {
        let Some(left) = self.balance(found.id())? else { return Ok(()) };
        if left.parts() == whole.parts() {
            return Ok(());
        }
        let taken = whole.clone().plus(&left.negated()).total.amount.0;
        Err(not_allowed(format!(
            "red letters over {taken} fen without tax stand against it; void them first"
        )))
    }

    fn put_invoice_void(
        &mut self,
        found: &Found,
        wish: &VoidWish,
        (at, body): (CstTime, &[u8]),
    ) -> Result<(), Refusal> {
        let (claim, no) = (found.id(), found.series());
        let event = self.series_mut(no)?.event(EventKind::InvoiceVoided, claim, body);
        let (kind, color) = found.kind();
        let key = UsageKey {
            day: at.day(),
            platform: wish.request.platform,
            taxpayer: wish.request.taxpayer,
            kind,
            color,
            counted: Counted::Voided,
        };
        self.batch.usage.entry(key).or_default().add(found.totals());
        let (notice, red_of) = (Notice::invoice_void(claim), found.red_of());
        self.void_notices.push(OutboxItem { notice, series: no, red_of, offline: None });
        self.batch.invoice_voids.push(InvoiceVoid {
            claim,
            series: no,
            request: wish.request.clone(),
            reason: wish.reason.clone(),
            at,
            event,
        });
        Ok(())
    }
}
