//! Outcomes as the wire has them. An invoice's bytes are what is stored; delivery travels beside
//! it.

use super::Pipeline;
use crate::{
    model::CstTime,
    numbering::{IssuedInvoice, Outcome},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    store::Delivered,
};
use prost::Message as _;

impl Pipeline {
    /// The outcome as the wire has it; delivery is looked up, since it travels beside the invoice.
    pub(super) fn wire(&self, outcome: Outcome) -> Result<pb::Outcome, Refusal> {
        use pb::outcome::Result as Wire;
        let result = match outcome {
            Outcome::Issued(issued) => Wire::Issued(self.issued(&issued)?),
            Outcome::InDoubt { ask_after } => {
                Wire::InDoubt(pb::InDoubt { ask_after_ms: crate::convert::millis(ask_after) })
            }
            Outcome::Voided { number, reason } => Wire::Voided(pb::Voided {
                code: number.as_ref().map(|number| number.code.clone()).unwrap_or_default(),
                number: number.map(|number| number.number_text()).unwrap_or_default(),
                reason,
            }),
            Outcome::Closed { at } => Wire::Closed(pb::Closed { closed_at: at.rfc3339() }),
            Outcome::Unknown => Wire::Unknown(pb::Unknown {}),
        };
        Ok(pb::Outcome { result: Some(result) })
    }

    fn issued(&self, issued: &IssuedInvoice) -> Result<pb::Issued, Refusal> {
        let unreadable = |text: String| {
            tracing::error!(claim = issued.claim.0, text, "a stored invoice cannot be answered");
            Refusal::new(Reason::Internal, "the stored invoice cannot be read; it stays issued")
        };
        let invoice = pb::Invoice::decode(issued.bytes.clone())
            .map_err(|error| unreadable(error.to_string()))?;
        let delivered = self.numbering.books().delivered(issued.claim);
        let delivered = delivered.map_err(|error| unreadable(crate::refusal::chain(&error)))?;
        let delivery = match delivered {
            Delivered::Pending => {
                let issued_at = CstTime::parse(&invoice.issue_time).map_or(0, CstTime::unix);
                let age_s = self.clock.now().unix().saturating_sub(issued_at).max(0);
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
                receipt: Some(pb::ReceiptReference { id: serial, index, verified: true }),
                pending_ms: 0,
            },
        };
        Ok(pb::Issued { invoice: Some(invoice), delivery: Some(delivery) })
    }
}
