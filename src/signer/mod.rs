//! 6  Signer: turns a durable claim into a signature. Takes nothing that is not saved.
//!
//! Two kinds of backend: *proxy-numbered* ones sign what we numbered; *device-numbered* ones draw
//! code, number and time themselves. A backend belongs to one virtual device and is used by one
//! thread at a time.

pub mod derive;
#[cfg(test)]
mod fixtures;
mod key;
mod keystore;
mod pin;
mod pool;
mod remote;
pub mod sidecar;
mod simulated;
pub mod skserver;
mod software;

pub use derive::CipherForm;
pub use key::{DeviceKey, KeyError, SM2_IDENTITY};
pub use keystore::{KeyStore, KeyStoreError, KeyStoreHeader, WrappedKey};
pub use pin::{PinAttempt, PinRecords, PinResult};
pub use pool::{
    Finished, Job, Pool, Question, Report, Results, Said, Setup, Source, Takes, Threads,
};
pub use remote::{KeySession, RemoteKey, RemoteSigner};
pub use simulated::{Fault, Faults, RandomFaults, Segment, SimulatedConfig, SimulatedDevice};
pub use software::{SoftwareSigner, verify, verify_independently};

use crate::{
    model::{CstTime, DeviceSerial, InvoiceNumber, Kind, Totals},
    pb::v1 as pb,
    registry::MonitorFacts,
    store::{Assignment, Claim, Durable},
};
use std::time::Duration;

/// What signing makes of a numbered claim: the tail of the invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Check code (JYM), 20 digits.
    pub check_code: String,
    /// Cipher text (FP_MW), 108 or 112 characters.
    pub cipher_text: String,
    /// Text of the two-dimensional code (EWM).
    pub qr_text: String,
    /// Algorithm.
    pub algorithm: pb::SignatureAlgorithm,
    /// Signature over the claim's head, ASN.1 DER.
    pub signature: Vec<u8>,
    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub signer_key: [u8; 32],
}

/// What a device answers that drew the number itself. Nothing of it is believed before it is
/// compared with the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAnswer {
    /// The serial that it issued under.
    pub device_serial: DeviceSerial,
    /// Kind.
    pub kind: Kind,
    /// Buyer's taxpayer id as on the device.
    pub buyer_taxpayer_id: String,
    /// Buyer's name as on the device.
    pub buyer_name: String,
    /// Totals as on the device.
    pub totals: Totals,
    /// Code and number drawn.
    pub number: InvoiceNumber,
    /// Issue time by the device's clock.
    pub issue_time: CstTime,
    /// Check code, cipher text, QR text and signature.
    pub signed: Signed,
    /// The device's next number after this one; `None` when its stock is used up.
    pub next: Option<InvoiceNumber>,
}

/// Why a signature was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The backend is not there; the claim stays open and is tried again.
    #[error("device {device} is not available: {detail}")]
    Unavailable {
        /// Device id.
        device: String,
        /// What the backend said.
        detail: String,
    },
    /// The outcome is not known: the device may or may not have issued. Never sent again.
    #[error("device {device} gave no answer: {detail}")]
    InDoubt {
        /// Device id.
        device: String,
        /// What the backend said.
        detail: String,
    },
    /// The backend refuses this claim for good; it stays open until an operator voids it.
    #[error("device {device} refuses the claim: {detail}")]
    Refused {
        /// Device id.
        device: String,
        /// What the backend said.
        detail: String,
    },
    /// The session is dead and nothing was released: another one is opened, and the claim tried
    /// again there.
    #[error("device {device} lost its session: {detail}")]
    SessionLost {
        /// Device id.
        device: String,
        /// What the backend said.
        detail: String,
    },
    /// PIN or password: the device stops until an operator unlocks it.
    #[error("device {device} stopped, because of its PIN: {detail}")]
    Pin {
        /// Device id.
        device: String,
        /// What the backend said.
        detail: String,
    },
    /// What the backend answered does not verify. Nothing of it is released, and the series
    /// freezes.
    #[error("device {device} answered wrongly: {detail}")]
    AnswerInvalid {
        /// Device id.
        device: String,
        /// The evidence.
        detail: String,
    },
}

/// A backend that signs what we numbered.
pub trait ProxyNumbered: Send {
    /// Signs the claim's head. Signing again gives the same check code and cipher text.
    ///
    /// ```compile_fail
    /// # use skproxy::{signer::{ProxyNumbered, Signed, SignerError}, store::{Claim, Durable}};
    /// fn unsaved(
    ///     signer: &mut dyn ProxyNumbered,
    ///     claim: &Claim,
    /// ) -> Result<Signed, SignerError> {
    ///     signer.sign(claim)
    /// }
    /// ```
    ///
    /// The twin that differs in one type compiles:
    ///
    /// ```
    /// # use skproxy::{signer::{ProxyNumbered, Signed, SignerError}, store::{Claim, Durable}};
    /// fn saved(
    ///     signer: &mut dyn ProxyNumbered,
    ///     claim: &Durable<Claim>,
    /// ) -> Result<Signed, SignerError> {
    ///     signer.sign(claim)
    /// }
    /// ```
    ///
    /// # Errors
    /// `Unavailable` and `Refused`; never in doubt, since signing again is harmless.
    fn sign(&mut self, claim: &Durable<Claim>) -> Result<Signed, SignerError>;
}

/// A backend that draws code, number and time itself.
pub trait DeviceNumbered: Send {
    /// The next number the device would draw for `kind`; `None` when its stock is used up.
    ///
    /// # Errors
    /// `Unavailable`.
    fn next_number(&mut self, kind: Kind) -> Result<Option<InvoiceNumber>, SignerError>;

    /// Issues under the claim's device serial. Sent once per claim, ever.
    ///
    /// # Errors
    /// `InDoubt` when the answer was lost; `Unavailable` only when nothing was sent.
    fn issue(&mut self, claim: &Durable<Claim>) -> Result<DeviceAnswer, SignerError>;

    /// What the device issued under a serial, if anything.
    ///
    /// # Errors
    /// `Unavailable`.
    fn query(
        &mut self,
        kind: Kind,
        serial: &DeviceSerial,
    ) -> Result<Option<DeviceAnswer>, SignerError>;

    /// What the device issued under a claim's serial, if anything. A backend that signs for its
    /// device needs the claim's record for it and overrides this: after a restart nothing else has
    /// the record.
    ///
    /// # Errors
    /// `Unavailable`; `Refused` when the device does not number the claim.
    fn recover(&mut self, claim: &Durable<Claim>) -> Result<Option<DeviceAnswer>, SignerError> {
        match &claim.assignment {
            Assignment::ByDevice { device_serial, .. } => self.query(claim.kind, device_serial),
            Assignment::Numbered { .. } => Err(SignerError::Refused {
                device: claim.device.to_string(),
                detail: "the claim has its number already".into(),
            }),
        }
    }

    /// Its limits, locks and rates of a kind (监控数据, 核定税率).
    ///
    /// # Errors
    /// `Unavailable`; `Refused` by a device that tells none.
    fn monitor(&mut self, kind: Kind) -> Result<MonitorFacts, SignerError> {
        Err(tells_none(kind))
    }

    /// Takes the result of an upload (回写). Harmless when it is repeated.
    ///
    /// # Errors
    /// `Unavailable`; `Refused` by a device that takes none.
    fn write_back(
        &mut self,
        kind: Kind,
        _acceptance_serial: &str,
        _result: &str,
    ) -> Result<(), SignerError> {
        Err(tells_none(kind))
    }

    /// How long after sending the device may still be at work; "not issued" holds only after it.
    fn quiescence(&self) -> Duration;
}

fn tells_none(kind: Kind) -> SignerError {
    SignerError::Refused {
        device: String::new(),
        detail: format!("its backend answers no such question of kind {:03}", kind.legacy_code()),
    }
}

/// A device's backend.
pub enum Backend {
    /// Signs what we numbered.
    Proxy(Box<dyn ProxyNumbered>),
    /// Draws numbers itself.
    Device(Box<dyn DeviceNumbered>),
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Proxy(_) => "Backend::Proxy",
            Self::Device(_) => "Backend::Device",
        })
    }
}
