//! The model's part for voids of issued invoices: when one may be made, and what it changes. Shares
//! no code with what it judges.

use super::{
    promises::{Known, Law, Model, State, Void, holds, is_void},
    world::TARGETS,
};
use crate::{
    model::{CstTime, Kind},
    numbering::{Outcome, VoidWish, VoidedClaim},
    refusal::{Reason, Refusal},
    store::{Counted, Notice},
};
use bytes::Bytes;

/// What a wish must come to.
enum Expect {
    /// A void of this invoice, at this time.
    Made(String, Bytes, CstTime),
    /// The void that there is.
    Known,
    Refused(Reason),
}

impl Model {
    /// Judges what was decided about a wish; `made` is how many voids were written for it.
    pub(super) fn invoice_voided(
        &mut self,
        wish: &VoidWish,
        decided: &Result<VoidedClaim, Refusal>,
        made: usize,
    ) -> Law {
        let id = self.numbers[&wish.number];
        let law = "an invoice is voided once, where the rules allow it";
        let wrong = || format!("{:?}: {decided:?}, {made} made", self.claims[&id]);
        match (self.expect_void(wish), decided) {
            (Expect::Refused(reason), Err(refusal)) => {
                holds(refusal.reason == reason && made == 0, law, || {
                    format!("{refusal} instead of {reason}")
                })
            }
            (Expect::Known, Ok(voided)) => {
                let right = match &self.claims[&id].state {
                    State::InvoiceVoided(_, bytes, void) => {
                        is_void(&Outcome::Voided(voided.clone()), id, (bytes, void))
                    }
                    State::Voided(_) => voided.invoice.is_none(),
                    _ => false,
                };
                holds(right && made == 0, law, wrong)
            }
            (Expect::Made(code, bytes, at), Ok(voided)) => {
                let void = Void { reason: wish.reason.clone(), at };
                let outcome = Outcome::Voided(voided.clone());
                holds(is_void(&outcome, id, (&bytes, &void)) && made == 1, law, wrong)?;
                self.end(id, State::InvoiceVoided(code, bytes, void));
                self.count(id, Counted::Voided, at);
                self.told_now.insert(Notice::invoice_void(id));
                self.void_requests.insert(wish.request.clone(), (id, wish.reason.clone()));
                Ok(())
            }
            _ => holds(false, law, wrong),
        }
    }

    fn expect_void(&self, wish: &VoidWish) -> Expect {
        let id = self.numbers[&wish.number];
        let known = &self.claims[&id];
        if let Some((bound, reason)) = self.void_requests.get(&wish.request) {
            let same = (*bound, reason) == (id, &wish.reason);
            return if same { Expect::Known } else { Expect::Refused(Reason::SerialConflict) };
        }
        if known.key.platform != wish.request.platform || !self.durable.contains(&wish.number) {
            return Expect::Refused(Reason::NotFound);
        }
        match &known.state {
            State::Voided(true) | State::InvoiceVoided(..) => Expect::Known,
            State::Issued(code, Some(bytes)) => self.may_be_voided(known, (code, bytes)),
            State::Open | State::Issued(_, None) | State::Voided(false) | State::Released => {
                Expect::Refused(Reason::VoidNotAllowed)
            }
        }
    }

    fn may_be_voided(&self, known: &Known, (code, bytes): (&str, &Bytes)) -> Expect {
        let platform = usize::try_from(known.key.platform.0).unwrap() - 1;
        let at = self.now.max(known.claimed_at);
        let month = |at: CstTime| at.rfc3339()[..7].to_owned();
        if !self.platforms[platform] {
            return Expect::Refused(Reason::PlatformSuspended);
        }
        if TARGETS[known.target].1 != Kind::NormalPaper || month(at) != month(known.claimed_at) {
            return Expect::Refused(Reason::VoidNotAllowed);
        }
        Expect::Made(code.to_owned(), bytes.clone(), at)
    }
}
