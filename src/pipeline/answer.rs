//! Outcomes as the wire has them. An invoice's bytes are what is stored; delivery travels beside
//! it.

use super::Pipeline;
use crate::{
    convert::millis,
    model::{ClaimId, CstTime},
    numbering::{ASK_AFTER, Outcome},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    store::{Delivered, Notice},
};
use bytes::Bytes;
use prost::Message as _;
use std::time::Duration;

/// IN_DOUBT, with the usual time to ask again.
pub(super) fn in_doubt() -> pb::Outcome {
    in_doubt_for(ASK_AFTER)
}

fn in_doubt_for(ask_after: Duration) -> pb::Outcome {
    let ask_after_ms = millis(ask_after);
    let result = pb::outcome::Result::InDoubt(pb::InDoubt { ask_after_ms });
    pb::Outcome { result: Some(result) }
}

fn unreadable(claim: ClaimId, text: &str) -> Refusal {
    tracing::error!(claim = claim.0, text, "a stored invoice cannot be answered");
    Refusal::new(Reason::Internal, "the stored invoice cannot be read; it stays issued")
}

impl Pipeline {
    /// The outcome as the wire has it; delivery is looked up, since it travels beside the invoice.
    pub(super) fn wire(&self, outcome: Outcome) -> Result<pb::Outcome, Refusal> {
        use pb::outcome::Result as Wire;
        let result = match outcome {
            Outcome::Issued(issued) => {
                let delivered = self.delivered(Notice::end(issued.claim))?;
                let mut told = self.issued(issued.claim, &issued.bytes, &delivered)?;
                told.budget = told.invoice.as_ref().and_then(|it| self.budget_of(it)).map(Box::new);
                Wire::Issued(told)
            }
            Outcome::InDoubt { ask_after } => return Ok(in_doubt_for(ask_after)),
            Outcome::Voided(voided) => Wire::Voided(self.voided(&voided)?),
            Outcome::Closed { at } => Wire::Closed(pb::Closed { closed_at: at.rfc3339() }),
            Outcome::Unknown => Wire::Unknown(pb::Unknown {}),
        };
        Ok(pb::Outcome { result: Some(result) })
    }

    /// An issued invoice as the wire has it.
    pub(super) fn issued(
        &self,
        claim: ClaimId,
        bytes: &Bytes,
        delivered: &Delivered,
    ) -> Result<pb::Issued, Refusal> {
        let invoice = pb::Invoice::decode(bytes.clone())
            .map_err(|error| unreadable(claim, &error.to_string()))?;
        let issued_at = CstTime::parse(&invoice.issue_time);
        let delivery = self.delivery(delivered, issued_at);
        Ok(pb::Issued { invoice: Some(invoice), delivery: Some(delivery), budget: None })
    }

    pub(super) fn delivered(&self, notice: Notice) -> Result<Delivered, Refusal> {
        let delivered = self.numbering.books().delivered(notice);
        delivered.map_err(|error| unreadable(notice.claim, &crate::refusal::chain(&error)))
    }

    /// Where delivery stands of what happened at `since`.
    pub(super) fn delivery(
        &self,
        delivered: &Delivered,
        since: Option<CstTime>,
    ) -> pb::DeliveryState {
        match delivered {
            Delivered::Pending => {
                let since = since.map_or(0, CstTime::unix);
                let age_s = self.clock.now().unix().saturating_sub(since).max(0);
                pb::DeliveryState {
                    state: pb::Delivery::Pending.into(),
                    receipt: None,
                    pending_ms: age_s.saturating_mul(1000),
                }
            }
            Delivered::Answered { serial, index, rejected } => pb::DeliveryState {
                state: match rejected {
                    None => pb::Delivery::Accepted.into(),
                    Some(_) => pb::Delivery::Rejected.into(),
                },
                // Only verified receipts are ever stored.
                receipt: Some(pb::ReceiptReference {
                    id: serial.clone(),
                    index: *index,
                    verified: true,
                }),
                pending_ms: 0,
            },
        }
    }
}
