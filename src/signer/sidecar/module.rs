//! What a foreign C module offers once it is loaded, whatever its standard: a token that is logged
//! in to, keys that are found, sessions that sign. It runs in a sidecar process only.
//!
//! Invariant: nothing here retries, and nothing presents a PIN that it was not just handed.

use crate::{pb::v1 as pb, secret::Secret};
use std::fmt;

/// What a failure means for the claim, the session and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Busy or short of something: the same session may be asked again later.
    Transient,
    /// The session is dead, the token may be: another one is opened, nothing was released.
    SessionLost,
    /// Asking again changes nothing until somebody repairs or configures something.
    Permanent,
    /// The device may or may not have acted. For a signature of a proxy-numbered claim this is
    /// harmless, for an issue it is not.
    InDoubt,
    /// PIN or password wrong, locked or expired: the device stops at once.
    Pin,
}

/// A failure of a module, as its table of codes classes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} (0x{code:08X}): {detail}")]
pub struct ModuleError {
    /// What it means.
    pub class: Class,
    /// The module's code; 0 when the failure is ours.
    pub code: u64,
    /// The code's name in its standard, such as `CKR_SESSION_HANDLE_INVALID`.
    pub name: String,
    /// What was being done. No PIN, no key.
    pub detail: String,
}

/// What a token says of its PIN before a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// So many are left.
    Left(u32),
    /// Enough, without a number (PKCS#11 with no flag set).
    Enough,
    /// Too few: a "count low" or "final try" flag.
    Low,
    /// The PIN is locked.
    Locked,
    /// The token has no counter that can be asked.
    Unknown,
}

/// A key that a module holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// What it makes.
    pub algorithm: pb::SignatureAlgorithm,
}

/// A loaded module with its token found. Used by several threads.
pub trait Module: fmt::Debug + Send + Sync {
    /// Name of the token that does not change while it is in use; part of the key of its PIN
    /// record.
    fn token(&self) -> String;

    /// Tries that are left.
    ///
    /// # Errors
    /// What the module answers.
    fn tries(&self) -> Result<Tries, ModuleError>;

    /// Presents the PIN, once.
    ///
    /// # Errors
    /// What the module answers; of class `Pin` when the PIN is wrong or locked.
    fn log_in(&self, pin: &Secret<String>) -> Result<(), ModuleError>;

    /// Finds a key by its label (PKCS#11 `CKA_LABEL`, SKF container, SDF key index in digits).
    ///
    /// # Errors
    /// Of class `Permanent` when there is none, or more than one.
    fn find_key(&self, label: &str) -> Result<FoundKey, ModuleError>;

    /// Opens a session that signs with a key.
    ///
    /// # Errors
    /// What the module answers; of class `Transient` when the token's session limit is reached.
    fn open_session(&self, label: &str) -> Result<Box<dyn ModuleSession>, ModuleError>;
}

/// A session. Used by one thread at a time; dropping it closes it.
pub trait ModuleSession: fmt::Debug + Send {
    /// Signs a digest: SHA-256 of the message for P-256, SM3(Z ‖ message) for SM2. Gives r ‖ s,
    /// each 32 bytes, big-endian.
    ///
    /// # Errors
    /// What the module answers.
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], ModuleError>;
}
