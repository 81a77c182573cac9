//! Sessions of one device in its sidecar, and what their failures mean for the pool.
//!
//! Invariant: a session signs only with the key that the device is bound to, and dies with the
//! process that it was opened in.

use super::{
    client::Supervisor,
    life::{CallError, Life},
    module::Class,
    wire::{Answer, Ask, Sign},
};
use crate::{
    pb::v1 as pb,
    signer::{KeySession, SignerError},
};
use std::sync::Arc;

/// The key that a device is registered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundKey {
    /// How the module finds it (PKCS#11 `CKA_LABEL`, SKF container, SDF key index in digits).
    pub label: String,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// What it makes.
    pub algorithm: pb::SignatureAlgorithm,
}

/// Why a device's key is not the registered one, or could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyCheckError {
    /// The token holds another key under this label: nothing may be signed with it, and the start
    /// is refused.
    #[error("device {device}: the token's key {label} is not the registered one")]
    Contradicts {
        /// Device id.
        device: String,
        /// Label of the key.
        label: String,
    },
    /// The key could not be looked at. It says nothing about the key.
    #[error(transparent)]
    Signer(SignerError),
}

/// Opens sessions of one device.
#[derive(Debug, Clone)]
pub struct SidecarSessions {
    supervisor: Arc<Supervisor>,
    device_id: String,
    key: BoundKey,
}

/// A failure, before it is known whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) class: Class,
    pub(super) detail: String,
}

impl Trouble {
    pub(super) fn new(class: Class, detail: &str) -> Self {
        Self { class, detail: detail.to_owned() }
    }

    pub(super) fn of(self, device_id: &str) -> SignerError {
        let (device, detail) = (device_id.to_owned(), self.detail);
        match self.class {
            Class::Transient => SignerError::Unavailable { device, detail },
            Class::SessionLost => SignerError::SessionLost { device, detail },
            Class::Permanent => SignerError::Refused { device, detail },
            Class::InDoubt => SignerError::InDoubt { device, detail },
            Class::Pin => SignerError::Pin { device, detail },
        }
    }
}

impl From<CallError> for Trouble {
    /// As seen by who has no session yet: nothing of his can be lost or in doubt.
    fn from(error: CallError) -> Self {
        let class = match &error {
            CallError::Module(error) => match error.class {
                Class::SessionLost | Class::InDoubt | Class::Transient => Class::Transient,
                kept @ (Class::Permanent | Class::Pin) => kept,
            },
            CallError::Ended(_) => Class::Transient,
        };
        Self::new(class, &error.to_string())
    }
}

impl SidecarSessions {
    pub(super) fn new(supervisor: Arc<Supervisor>, device_id: &str, key: BoundKey) -> Self {
        Self { supervisor, device_id: device_id.to_owned(), key }
    }

    /// Opens a session: starts the process and logs in if need be, finds the key, compares it with
    /// the registered one.
    ///
    /// # Errors
    /// `Unavailable` while the process, its token or a free session is missing; `Pin` when the PIN
    /// may not be presented or was refused; `Refused` when something has to be repaired or the key
    /// is another one. Nothing is in doubt.
    pub fn open(&self) -> Result<Box<dyn KeySession>, SignerError> {
        let life = self.checked().map_err(|error| match error {
            KeyCheckError::Signer(error) => error,
            contradicts @ KeyCheckError::Contradicts { .. } => {
                Trouble::new(Class::Permanent, &format!("a contradicting key: {contradicts}"))
                    .of(&self.device_id)
            }
        })?;
        let handle = self
            .supervisor
            .open_session(&life, &self.key.label)
            .map_err(|trouble| trouble.of(&self.device_id))?;
        self.supervisor.counters().sessions_opened.increment(1);
        let (supervisor, device_id) = (Arc::clone(&self.supervisor), self.device_id.clone());
        Ok(Box::new(SidecarSession { supervisor, life, device_id, handle, proven: false }))
    }

    /// Looks whether the token holds the registered key, as a start does.
    ///
    /// # Errors
    /// `Contradicts` when it holds another one, which refuses the start; else why it cannot be
    /// said, which only closes the device.
    pub fn check(&self) -> Result<(), KeyCheckError> {
        self.checked().map(drop)
    }

    fn checked(&self) -> Result<Arc<Life>, KeyCheckError> {
        let signer = |trouble: Trouble| KeyCheckError::Signer(trouble.of(&self.device_id));
        let life = self.supervisor.ready().map_err(signer)?;
        let found = self.supervisor.find_key(&life, &self.key.label).map_err(signer)?;
        if found.public_key != self.key.public_key || found.algorithm != self.key.algorithm {
            let (device, label) = (self.device_id.clone(), self.key.label.clone());
            return Err(KeyCheckError::Contradicts { device, label });
        }
        Ok(life)
    }
}

/// A session in one life of a sidecar.
#[derive(Debug)]
struct SidecarSession {
    supervisor: Arc<Supervisor>,
    life: Arc<Life>,
    device_id: String,
    handle: u64,
    /// It has signed.
    proven: bool,
}

impl KeySession for SidecarSession {
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], SignerError> {
        let ask = Ask::Sign(Sign { session: self.handle, digest: digest.to_vec() });
        let answer = self.life.call(ask, self.supervisor.spec().call_deadline);
        let error = match answer {
            Ok(Answer::Signature(raw)) => match raw.try_into() {
                Ok(raw) => {
                    if !self.proven {
                        self.proven = true;
                        self.life.works();
                    }
                    return Ok(raw);
                }
                Err(_) => self.life.end("its signature is not of 64 bytes"),
            },
            Ok(_) => self.life.nonsense(),
            Err(error) => error,
        };
        let trouble = match error {
            // Nothing was released, and signing again is harmless.
            CallError::Ended(_) => Trouble::new(Class::SessionLost, &error.to_string()),
            CallError::Module(error) => {
                if error.class == Class::SessionLost {
                    self.life.session_lost(self.proven, &error.to_string());
                }
                Trouble::new(error.class, &error.to_string())
            }
        };
        Err(trouble.of(&self.device_id))
    }
}

impl Drop for SidecarSession {
    fn drop(&mut self) {
        // It waits: who closes a session of a token with only one may open the next right after. A
        // session whose process has ended was closed by that.
        let closed =
            self.life.call(Ask::CloseSession(self.handle), self.supervisor.spec().call_deadline);
        if let Err(error) = closed {
            tracing::debug!(device = self.device_id, %error, "a session ended with its process");
        }
        self.supervisor.counters().sessions_closed.increment(1);
    }
}
