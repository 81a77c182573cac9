//! What became of a request, and waiting for it.

use crate::{
    model::{ClaimId, CstTime, InvoiceNumber},
    refusal::Refusal,
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
    /// The number was voided before it was signed.
    Voided {
        /// The number, when one was drawn.
        number: Option<InvoiceNumber>,
        /// The operator's reason.
        reason: String,
    },
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
