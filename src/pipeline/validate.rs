//! ValidateInvoice (校验): the way of IssueInvoice up to the number, which stays where it is.

use super::Pipeline;
use crate::{
    identity::PeerCertificate,
    numbering::{Known, Outcome},
    pb::v1 as pb,
    refusal::{Refusal, Violation},
};
use std::time::Duration;

impl Pipeline {
    /// Checks an invoice: whatever would refuse it now refuses it here, and nothing is spent or
    /// bound. A serial that stands for this content already is valid as what it has become.
    pub(super) async fn validate_invoice(
        &self,
        peer: Option<&PeerCertificate>,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::ValidateInvoiceResponse, Refusal> {
        let asked = self.asked(peer, draft)?;
        let permit = self.admission.admit(deadline)?;
        if let Some(known) = self.numbering.look_up(&asked.key, &asked.draft)? {
            let known = self.wire(match known {
                Known::Done(outcome) => outcome,
                Known::Open(_) => Outcome::in_doubt(),
            })?;
            return Ok(pb::ValidateInvoiceResponse { known: Some(known), warnings: Vec::new() });
        }
        let checked = self.checked(asked)?;
        let warnings = checked.warned().map(warning).collect();
        self.numbering.validate(checked).await?;
        drop(permit);
        Ok(pb::ValidateInvoiceResponse { known: None, warnings })
    }
}

fn warning(found: &Violation) -> pb::RuleWarning {
    pb::RuleWarning {
        field: found.field.clone(),
        reason: found.reason.name().to_owned(),
        message: found.en.clone(),
        message_zh: found.zh.clone(),
    }
}
