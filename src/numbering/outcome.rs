//! What became of a request, and waiting for it.

use crate::{
    model::{ClaimId, CstTime, InvoiceNumber},
    refusal::Refusal,
    store::Voided,
};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::oneshot;

/// What became of a request. A time-out is `InDoubt`, never a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Issued, signed and saved.
    Issued(IssuedInvoice),
    /// Not known yet.
    InDoubt {
        /// When to ask `ResolveInvoice`.
        ask_after: Duration,
    },
    /// The number was voided, before it was signed or after the invoice was issued.
    Voided(VoidedClaim),
    /// The serial is closed unused.
    Closed {
        /// When.
        at: CstTime,
    },
    /// Nothing is known. Not final.
    Unknown,
}

/// An issued invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedInvoice {
    /// Its claim, which names its delivery.
    pub claim: ClaimId,
    /// The stored `skproxy.v1.Invoice`, the same bytes in every answer.
    pub bytes: Bytes,
}

/// A claim whose number was voided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidedClaim {
    /// The claim, which names its deliveries.
    pub claim: ClaimId,
    /// The number, when one was drawn.
    pub number: Option<InvoiceNumber>,
    /// The reason of whoever voided it.
    pub reason: String,
    /// When.
    pub at: CstTime,
    /// The invoice, when it was issued before: the same bytes as in every answer. None when the
    /// number was never signed.
    pub invoice: Option<Bytes>,
}

impl VoidedClaim {
    /// Of a number that was never signed.
    #[must_use]
    pub fn unsigned(voided: &Voided) -> Self {
        Self {
            claim: voided.claim,
            number: voided.number.clone(),
            reason: voided.reason.clone(),
            at: voided.at,
            invoice: None,
        }
    }
}

/// When a caller in doubt should ask.
pub const ASK_AFTER: Duration = Duration::from_secs(1);

impl Outcome {
    /// The answer of whoever does not know.
    #[must_use]
    pub fn in_doubt() -> Self {
        Self::InDoubt { ask_after: ASK_AFTER }
    }
}

/// What a waiter is told: the outcome, or why a device provably issued nothing.
pub type Told = Result<Outcome, Refusal>;

/// Waits for a claim to end.
#[derive(Debug)]
pub struct Wait(pub(super) oneshot::Receiver<Told>);

impl Wait {
    /// Waits at most `limit`; what is not known by then, or not told because the daemon ends, is in
    /// doubt.
    ///
    /// # Errors
    /// When a device provably issued nothing under the claim.
    pub async fn within(self, limit: Duration) -> Told {
        match tokio::time::timeout(limit, self.0).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) | Err(_) => Ok(Outcome::in_doubt()),
        }
    }
}
