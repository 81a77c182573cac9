//! PIN records in the books: what a machine may do with a PIN, across restarts of sidecar and
//! daemon (docs/protocol.md 12).
//!
//! Invariant: a PIN is presented only after a record that says PENDING is durable; unless its
//! result was good, nothing is presented to that token again until an operator unlocks it.

use crate::{
    numbering::Numbering,
    secret::Secret,
    signer::{KeyStore, PinAttempt, PinRecords, PinResult},
};
use std::{fmt, sync::Arc};
use tokio::runtime::Handle;

/// Version byte of a record.
const VERSION: u8 = 1;
/// version, state, digest. Unit: bytes.
const LEN: usize = 2 + 32;

/// What is known of the PIN that was last presented to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Presented, or about to be; no result is known.
    Pending,
    /// The token took it.
    Good,
    /// The token refused it.
    Bad,
    /// An operator lets one PIN be presented.
    Unlocked,
}

/// A record as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    state: State,
    digest: [u8; 32],
}

impl State {
    const ALL: [(Self, u8); 4] =
        [(Self::Pending, 1), (Self::Good, 2), (Self::Bad, 3), (Self::Unlocked, 4)];

    fn code(self) -> u8 {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or(0, |(_, code)| *code)
    }

    fn of(code: u8) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == code).map(|(state, _)| *state)
    }
}

impl Record {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.state.code()];
        bytes.extend(self.digest);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let digest = bytes[2..].try_into().ok()?;
        (bytes[0] == VERSION).then_some(())?;
        Some(Self { state: State::of(bytes[1])?, digest })
    }

    /// Why a PIN must not be presented; `None` when it may.
    fn bars(self) -> Option<&'static str> {
        match self.state {
            State::Good | State::Unlocked => None,
            State::Bad => Some("the token refused the PIN that was last presented"),
            State::Pending => Some("nobody knows what became of the PIN that was last presented"),
        }
    }
}

/// The records of a daemon. Its calls block; they are made from plain threads alone.
pub(super) struct PinBook {
    numbering: Numbering,
    keys: Arc<KeyStore>,
    runtime: Handle,
}

impl fmt::Debug for PinBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinBook")
    }
}

fn setting(token: &str) -> String {
    format!("pin/{token}")
}

impl PinBook {
    /// The records in these books. `runtime` runs what waits for the books.
    #[must_use]
    pub(super) fn new(numbering: Numbering, keys: Arc<KeyStore>, runtime: Handle) -> Self {
        Self { numbering, keys, runtime }
    }

    fn keep(&self, token: &str, record: Record) -> Result<(), String> {
        let (key, value) = (setting(token), record.to_bytes());
        let kept = self.numbering.change(move |round| {
            round.put_setting(key, value);
            Ok(())
        });
        self.runtime.block_on(kept).map_err(|refusal| refusal.hint)
    }
}

/// Lets one PIN be presented to a token, whatever came of the last. For an operator, with an audit
/// entry of its own.
pub(super) fn unlocked(token: &str) -> (String, Vec<u8>) {
    (setting(token), Record { state: State::Unlocked, digest: [0; 32] }.to_bytes())
}

impl PinRecords for PinBook {
    fn begin(&self, token: &str, pin: &Secret<String>) -> Result<PinAttempt, String> {
        let stored = self.numbering.books().setting(&setting(token));
        let stored = stored.map_err(|error| crate::refusal::chain(&error))?;
        if let Some(bytes) = stored {
            let record = Record::from_bytes(&bytes).ok_or_else(|| {
                format!("the PIN record of {token} is not readable; run the newer skproxy")
            })?;
            if let Some(why) = record.bars() {
                return Err(format!(
                    "{why}; see to it at the device, then run `skproxy device unlock`"
                ));
            }
        }
        let digest = self.keys.pin_digest(token, pin);
        self.keep(token, Record { state: State::Pending, digest })?;
        Ok(PinAttempt { token: token.to_owned(), digest })
    }

    fn end(&self, attempt: PinAttempt, result: PinResult) -> Result<(), String> {
        let state = match result {
            PinResult::Good => State::Good,
            PinResult::Bad => State::Bad,
            PinResult::Unknown => State::Pending,
        };
        tracing::info!(token = attempt.token, ?result, "a PIN was presented");
        self.keep(&attempt.token, Record { state, digest: attempt.digest })
    }
}
