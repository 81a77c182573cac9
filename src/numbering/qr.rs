//! Whether the two-dimensional code of an answer says what its invoice says, under the profile of
//! the device that made it. Source: docs/domain.md 3.3, rule 41. A code that contradicts its
//! invoice never changes it: the answer is taken with a warning, or not taken at all.

use super::book::Round;
use crate::{
    contract::{QrFacts, check_qr},
    metrics::metrics,
    model::{CstTime, InvoiceNumber},
    refusal::{Severity, Violation},
    signer::Signed,
    store::Claim,
};

impl Round<'_> {
    /// What an answer's code contradicts: its claim, the number and the issue time. `None` when it
    /// is right, when the profile does not ask, or when the device's profile is not there any more.
    pub(super) fn qr_contradiction(
        &self,
        claim: &Claim,
        (number, issued_at): (&InvoiceNumber, CstTime),
        signed: &Signed,
    ) -> Option<Violation> {
        let device = self.registry().devices.get(&claim.device)?;
        let profile = self.book.profiles.get(&device.profile)?;
        let facts = QrFacts {
            kind: claim.kind,
            number,
            amount: claim.totals.amount,
            issued_at,
            check_code: &signed.check_code,
        };
        check_qr(&signed.qr_text, facts, profile)
    }

    /// Notes a code that is adopted although it contradicts its invoice.
    pub(super) fn note_qr(&self, claim: &Claim, found: &Violation) {
        metrics().qr_contradictions.increment(1);
        let (what, claim_no) = (&found.en, claim.id.0);
        match found.severity {
            Severity::Warn | Severity::Refuse => {
                tracing::warn!(claim = claim_no, what, "QR_INVALID: the invoice was issued so");
            }
            Severity::Shadow | Severity::Off => {
                tracing::info!(claim = claim_no, what, "QR_INVALID would have been refused");
            }
        }
    }
}

/// What is kept of a code that its profile does not let pass.
pub(super) fn qr_evidence(found: &Violation) -> String {
    format!("{}: {} {}", found.reason, found.field, found.en)
}
