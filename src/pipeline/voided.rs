//! Voided numbers as the wire has them: the void, the invoice that it is of, and where the delivery
//! of each stands.

use super::Pipeline;
use crate::{
    model::InvoiceNumber,
    numbering::VoidedClaim,
    pb::v1 as pb,
    refusal::Refusal,
    store::{Delivered, InvoiceVoid, Notice},
};

impl Pipeline {
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
}
