//! Outcomes as the wire has them. An invoice's bytes are what is stored; delivery travels beside
//! it.

use super::Pipeline;
use crate::{
    convert::millis,
    model::{ClaimId, CstTime, InvoiceNumber},
    numbering::{ASK_AFTER, Outcome, VoidedClaim},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    store::{Delivered, InvoiceVoid, Notice},
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
                Wire::Issued(self.issued(issued.claim, &issued.bytes, &delivered)?)
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
        Ok(pb::Issued { invoice: Some(invoice), delivery: Some(delivery) })
    }

    /// A voided number as the wire has it.
    pub(super) fn voided(&self, voided: &VoidedClaim) -> Result<pb::Voided, Refusal> {
        let number = voided.number.as_ref();
        let end = Notice::end(voided.claim);
        let (issued, told) = match &voided.invoice {
            Some(bytes) => {
                let issued = self.issued(voided.claim, bytes, &self.delivered(end)?)?;
                (Some(issued), Some(Notice::invoice_void(voided.claim)))
            }
            None => (None, number.map(|_| end)),
        };
        let delivered = told.map(|notice| self.delivered(notice)).transpose()?;
        Ok(pb::Voided {
            code: number.map(|number| number.code.clone()).unwrap_or_default(),
            number: number.map(InvoiceNumber::number_text).unwrap_or_default(),
            reason: voided.reason.clone(),
            voided_at: voided.at.rfc3339(),
            issued,
            delivery: delivered.map(|delivered| self.delivery(&delivered, Some(voided.at))),
        })
    }

    /// The void of a listed invoice as the wire has it; the invoice stands beside it.
    pub(super) fn listed_void(
        &self,
        invoice: &pb::Invoice,
        (void, delivered): &(InvoiceVoid, Delivered),
    ) -> pb::Voided {
        pb::Voided {
            code: invoice.code.clone(),
            number: invoice.number.clone(),
            reason: void.reason.clone(),
            voided_at: void.at.rfc3339(),
            issued: None,
            delivery: Some(self.delivery(delivered, Some(void.at))),
        }
    }

    fn delivered(&self, notice: Notice) -> Result<Delivered, Refusal> {
        let delivered = self.numbering.books().delivered(notice);
        delivered.map_err(|error| unreadable(notice.claim, &crate::refusal::chain(&error)))
    }

    /// Where delivery stands of what happened at `since`.
    fn delivery(&self, delivered: &Delivered, since: Option<CstTime>) -> pb::DeliveryState {
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
