//! What a machine may do with a PIN: present it when its last result was good, once per lost
//! session, and never gamble (docs/protocol.md 12).

use crate::secret::Secret;
use std::fmt;

/// What became of a presented PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinResult {
    /// The token took it.
    Good,
    /// The token refused it, or is locked.
    Bad,
    /// No answer came: it may have cost a try.
    Unknown,
}

/// A PIN that may be presented now, once: its record is durable and says PENDING.
#[derive(Debug)]
pub struct PinAttempt {
    /// The token.
    pub token: String,
    /// Keyed digest of the PIN, which tells nothing of it.
    pub digest: [u8; 32],
}

/// Where PIN records are kept. Called from plain threads; both calls block until the record is
/// durable.
pub trait PinRecords: fmt::Debug + Send + Sync {
    /// Makes the durable record "PENDING" for a token and a PIN.
    ///
    /// # Errors
    /// Why the PIN must not be presented, and what the operator does; nothing was presented.
    fn begin(&self, token: &str, pin: &Secret<String>) -> Result<PinAttempt, String>;

    /// Keeps the result. Without it the record stays PENDING, which bars the token.
    ///
    /// # Errors
    /// When it could not be made durable; the token is barred until an operator unlocks it.
    fn end(&self, attempt: PinAttempt, result: PinResult) -> Result<(), String>;
}
