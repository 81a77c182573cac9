//! A crypto machine (密码机) behind SDF, GM/T 0018: SM2 keys by index, sessions that sign side by
//! side.
//!
//! The right to a private key belongs to one session, so every session presents the key's password.
//! Invariant: only a password that a login has just proven is presented again, once for each
//! session that is opened; the first one that fails, for whatever reason, ends that until the next
//! login.

mod codes;
mod ffi;

use super::{
    gm,
    module::{Class, FoundKey, Module, ModuleError, ModuleSession, Tries},
};
use crate::secret::Secret;
use ffi::{Api, DeviceHandle, SessionHandle};
use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use zeroize::Zeroizing;

/// A loaded SDF library with its machine, and the key whose password a login presents.
#[derive(Debug)]
pub struct Sdf {
    api: Api,
    key: u32,
    /// Manufacturer, model and serial of the machine, which must not change.
    machine: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    device: Option<Arc<Device>>,
    login: Login,
}

/// What may be presented to a new session.
#[derive(Debug)]
enum Login {
    /// Nothing was presented yet: the machine may need no password.
    Never,
    /// The password that a login proved, and the session that it was proven on, until it is used.
    Proven { password: Secret<String>, session: Option<Session> },
    /// A presentation failed. Only a login ends this.
    Barred,
}

impl Sdf {
    /// Loads a library and finds its machine. `key` is the index, in decimal digits, of the key
    /// whose private key access password is the PIN.
    ///
    /// # Errors
    /// `Permanent` when the library cannot be loaded or lacks functions, or `key` is no index;
    /// else what the machine answers.
    pub fn load(library: &Path, key: &str) -> Result<Self, ModuleError> {
        let key = index(key)?;
        let api = Api::load(library)?;
        let (device, machine) = Device::open(api)?;
        let state = Mutex::new(State { device: Some(device), login: Login::Never });
        Ok(Self { api, key, machine, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No invariant spans two of its fields, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh session, on a device that is opened again when the old one is lost.
    fn session(&self, state: &mut State, key: u32) -> Result<Session, ModuleError> {
        // With sessions still open on it, a suspect device gets the benefit of the doubt: closing
        // it under them is undefined, and they fail by themselves when it is dead.
        if state.device.as_ref().is_some_and(|device| device.is_suspect()) {
            state.device = None;
        }
        let device = match &state.device {
            Some(device) => Arc::clone(device),
            None => Arc::clone(state.device.insert(self.reopened()?)),
        };
        let opened = Session::open(device, key);
        if opened.as_ref().is_err_and(|error| error.class == Class::SessionLost) {
            state.device = None;
        }
        opened
    }

    fn reopened(&self) -> Result<Arc<Device>, ModuleError> {
        let (device, machine) = Device::open(self.api)?;
        if machine == self.machine {
            return Ok(device);
        }
        // Its keys and its count of tries are others.
        let detail = format!("{machine} answers instead of {}", self.machine);
        Err(gm::failure(Class::Permanent, "ANOTHER_MACHINE", detail))
    }
}

impl Module for Sdf {
    fn token(&self) -> String {
        format!("sdf {} key {}", self.machine, self.key)
    }

    fn tries(&self) -> Result<Tries, ModuleError> {
        Ok(Tries::Unknown)
    }

    fn log_in(&self, pin: &Secret<String>) -> Result<(), ModuleError> {
        let mut state = self.state();
        // Whatever was proven before, this one presentation decides.
        state.login = Login::Barred;
        let mut session = self.session(&mut state, self.key)?;
        session.acquire_right(pin)?;
        let password = Secret::new(pin.expose().clone());
        state.login = Login::Proven { password, session: Some(session) };
        Ok(())
    }

    fn find_key(&self, label: &str) -> Result<FoundKey, ModuleError> {
        let key = index(label)?;
        let session = self.session(&mut self.state(), key)?;
        let (bits, fields) = self.api.export_key(session.handle, key)?;
        gm::sm2_key(bits.into(), &fields)
    }

    fn open_session(&self, label: &str) -> Result<Box<dyn ModuleSession>, ModuleError> {
        let key = index(label)?;
        let mut state = self.state();
        match &mut state.login {
            Login::Never => return Ok(Box::new(self.session(&mut state, key)?)),
            Login::Barred => {
                let detail = "the last presentation of the password failed: log in again";
                return Err(gm::failure(Class::Pin, "PASSWORD_BARRED", detail));
            }
            Login::Proven { .. } if key != self.key => {
                let detail = format!("the password is that of key {}, not {key}", self.key);
                return Err(gm::failure(Class::Permanent, "KEY_INDEX_INVALID", detail));
            }
            Login::Proven { session, .. } => {
                if let Some(proven) = session.take().filter(|proven| !proven.device.is_lost()) {
                    return Ok(Box::new(proven));
                }
            }
        }
        let mut session = self.session(&mut state, key)?;
        let Login::Proven { password, .. } = &state.login else { return Ok(Box::new(session)) };
        if let Err(error) = session.acquire_right(password) {
            state.login = Login::Barred;
            // Whatever it says: the last presentation has no good result.
            return Err(ModuleError { class: Class::Pin, ..error });
        }
        Ok(Box::new(session))
    }
}

/// Reads a key index: decimal digits, nothing else.
fn index(label: &str) -> Result<u32, ModuleError> {
    let digits = !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let index = label.parse().ok().filter(|_| digits);
    index.ok_or_else(|| {
        let detail = format!("{label:?} is no key index in decimal digits");
        gm::failure(Class::Permanent, "KEY_INDEX_INVALID", detail)
    })
}

/// An open device. Dropping the last reference closes it; each session holds one.
#[derive(Debug)]
struct Device {
    api: Api,
    handle: DeviceHandle,
    /// A session of it was lost: the machine may have restarted.
    lost: AtomicBool,
}

impl Device {
    /// Opens the device and asks for its names.
    fn open(api: Api) -> Result<(Arc<Self>, String), ModuleError> {
        let handle = api.open_device()?;
        let device = Arc::new(Self { api, handle, lost: AtomicBool::new(false) });
        let session = Session::open(Arc::clone(&device), 0)?;
        let info = api.info(session.handle)?;
        Ok((device, format!("{} {} {}", info.issuer, info.device, info.serial)))
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn is_suspect(self: &Arc<Self>) -> bool {
        self.is_lost() && Arc::strong_count(self) == 1
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.api.close_device(self.handle);
    }
}

/// An open session for one key.
#[derive(Debug)]
struct Session {
    device: Arc<Device>,
    handle: SessionHandle,
    key: u32,
    has_right: bool,
}

impl Session {
    fn open(device: Arc<Device>, key: u32) -> Result<Self, ModuleError> {
        let handle = device.api.open_session(device.handle)?;
        Ok(Self { device, handle, key, has_right: false })
    }

    /// Presents the password, once.
    fn acquire_right(&mut self, password: &Secret<String>) -> Result<(), ModuleError> {
        let mut copy = Zeroizing::new(password.expose().as_bytes().to_vec());
        self.device.api.acquire_right(self.handle, self.key, &mut copy)?;
        self.has_right = true;
        Ok(())
    }
}

impl ModuleSession for Session {
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], ModuleError> {
        let signed = self.device.api.sign(self.handle, self.key, digest);
        if signed.as_ref().is_err_and(|error| error.class == Class::SessionLost) {
            self.device.lost.store(true, Ordering::Relaxed);
        }
        signed.map(|fields| gm::pair(&fields))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.has_right {
            self.device.api.release_right(self.handle, self.key);
        }
        self.device.api.close_session(self.handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_index_is_decimal_digits_and_nothing_else() {
        for (label, expect) in [("0", Some(0)), ("17", Some(17)), ("007", Some(7))] {
            assert_eq!(index(label).ok(), expect, "{label}");
        }
        for label in ["", "+1", "-1", " 1", "1 ", "0x1", "1.0", "一", "4294967296"] {
            let error = index(label).unwrap_err();
            assert_eq!(error.class, Class::Permanent, "{label}");
        }
    }
}
