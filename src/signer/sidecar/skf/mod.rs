//! A cryptographic key (智能密码钥匙, UKey) behind SKF, GM/T 0016: SM2 keys in containers, one
//! session at a time.
//!
//! A key does one thing at a time: all calls are under one lock, and a second session is refused.
//! Invariants: a handle is used only within the connection that it came from; a login ends with its
//! connection; a connection made again is to the same key, or to none.

mod codes;
mod ffi;

use super::{
    gm,
    module::{Class, FoundKey, Module, ModuleError, ModuleSession, Tries},
};
use crate::secret::Secret;
use ffi::{Api, Handle};
use std::{
    ffi::CString,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

/// Which key, and which application on it. Empty text means the only one there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkfToken {
    /// The device's name, as `SKF_EnumDev` lists it.
    pub device: String,
    /// The application's name, as `SKF_EnumApplication` lists it.
    pub application: String,
}

/// A loaded SKF library with its key.
#[derive(Debug)]
pub struct Skf {
    /// Serial number of the key and name of its application: what its PIN belongs to.
    token: String,
    shared: Arc<Shared>,
}

/// What module and session share.
#[derive(Debug)]
struct Shared {
    api: Api,
    wanted: SkfToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connection: Option<Connection>,
    /// Counts connections; a session lives in one.
    generation: u64,
    is_in_session: bool,
}

impl Skf {
    /// Loads a library and connects to its key.
    ///
    /// # Errors
    /// `Permanent` when the library cannot be loaded or lacks functions, or the token is not
    /// unique; `SessionLost` when the key is not plugged in; else what the key answers.
    pub fn load(library: &Path, wanted: SkfToken) -> Result<Self, ModuleError> {
        let api = Api::load(library)?;
        let connection = Connection::open(api, &wanted)?;
        let token = connection.token.clone();
        let state = State { connection: Some(connection), generation: 0, is_in_session: false };
        Ok(Self { token, shared: Arc::new(Shared { api, wanted, state: Mutex::new(state) }) })
    }

    /// Does something within the connection, which is made first where there is none, and dropped
    /// when it turns out to be dead.
    fn within<T>(
        &self,
        act: impl FnOnce(&mut Connection) -> Result<T, ModuleError>,
    ) -> Result<T, ModuleError> {
        let mut state = self.shared.state();
        self.act(&mut state, act)
    }

    fn act<T>(
        &self,
        state: &mut State,
        act: impl FnOnce(&mut Connection) -> Result<T, ModuleError>,
    ) -> Result<T, ModuleError> {
        let connection = match &mut state.connection {
            Some(connection) => connection,
            None => state.connection.insert(self.reconnected()?),
        };
        let done = act(connection);
        // Not a login that is missing: it leaves the connection as good as it was.
        let is_dead = |error: &ModuleError| {
            error.class == Class::SessionLost && error.code != u64::from(codes::NOT_LOGGED_IN)
        };
        if done.as_ref().is_err_and(is_dead) {
            state.disconnect();
        }
        done
    }

    fn reconnected(&self) -> Result<Connection, ModuleError> {
        let connection = Connection::open(self.shared.api, &self.shared.wanted)?;
        if connection.token == self.token {
            return Ok(connection);
        }
        // Its PIN and its count of tries are others.
        let detail = format!("{} is plugged in instead of {}", connection.token, self.token);
        Err(gm::failure(Class::Permanent, "ANOTHER_KEY", detail))
    }
}

impl Module for Skf {
    fn token(&self) -> String {
        self.token.clone()
    }

    fn tries(&self) -> Result<Tries, ModuleError> {
        match self.within(|connection| connection.api.tries_left(connection.application)) {
            Ok(0) => Ok(Tries::Locked),
            Ok(left) => Ok(Tries::Left(u32::try_from(left).unwrap_or(u32::MAX))),
            Err(error) if error.code == codes::NOT_SUPPORTED => Ok(Tries::Unknown),
            Err(error) => Err(error),
        }
    }

    fn log_in(&self, pin: &Secret<String>) -> Result<(), ModuleError> {
        self.within(|connection| {
            let mut text = Zeroizing::new(Vec::with_capacity(pin.expose().len() + 1));
            text.extend_from_slice(pin.expose().as_bytes());
            text.push(0);
            match connection.api.verify_pin(connection.application, &mut text) {
                Err(error) if error.code != codes::ALREADY_LOGGED_IN => Err(error),
                _ => {
                    connection.is_logged_in = true;
                    Ok(())
                }
            }
        })
    }

    fn find_key(&self, label: &str) -> Result<FoundKey, ModuleError> {
        self.within(|connection| {
            let name = connection.container(label)?;
            let handle = connection.api.open_container(connection.application, &name)?;
            let exported = connection.api.export_key(handle);
            connection.api.close_container(handle);
            let blob = exported?;
            let (bits, fields) = blob.point().ok_or_else(|| {
                let detail = format!("{label:?} holds no SM2 key, its blob has {}", blob.len());
                gm::failure(Class::Permanent, "PUBLIC_KEY_INVALID", detail)
            })?;
            gm::sm2_key(bits, &fields)
        })
    }

    fn open_session(&self, label: &str) -> Result<Box<dyn ModuleSession>, ModuleError> {
        let mut state = self.shared.state();
        if state.is_in_session {
            let detail = "a key has one session at a time";
            return Err(gm::failure(Class::Transient, "SESSION_LIMIT", detail));
        }
        let container = self.act(&mut state, |connection| {
            if !connection.is_logged_in {
                let detail = "the connection is new: log in first";
                return Err(codes::error(codes::NOT_LOGGED_IN, detail));
            }
            let name = connection.container(label)?;
            connection.api.open_container(connection.application, &name)
        })?;
        state.is_in_session = true;
        let (shared, generation) = (Arc::clone(&self.shared), state.generation);
        Ok(Box::new(Session { shared, container, generation }))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No invariant spans two of its fields, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the connection, and with it the handles of the session that may still be there.
    fn disconnect(&mut self) {
        self.connection = None;
        self.generation += 1;
    }

    /// The key forgot the login.
    fn log_out(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.is_logged_in = false;
        }
    }

    /// Whether the connection of a generation still stands.
    fn holds(&self, generation: u64) -> bool {
        self.connection.is_some() && self.generation == generation
    }
}

/// A connected key with its application open. Dropping it closes both.
#[derive(Debug)]
struct Connection {
    api: Api,
    token: String,
    device: Handle,
    application: Handle,
    is_logged_in: bool,
}

impl Connection {
    fn open(api: Api, wanted: &SkfToken) -> Result<Self, ModuleError> {
        let name = device_name(api, &wanted.device)?;
        let device = api.connect(&name)?;
        let opened = application(api, device, &wanted.application);
        match opened {
            Ok((token, application)) => {
                Ok(Self { api, token, device, application, is_logged_in: false })
            }
            Err(error) => {
                api.disconnect(device);
                Err(error)
            }
        }
    }

    /// The name of the one container of a label.
    fn container(&self, label: &str) -> Result<CString, ModuleError> {
        let names = self.api.containers(self.application)?;
        match names.iter().filter(|name| name.as_slice() == label.as_bytes()).count() {
            1 => c_string(label.as_bytes()),
            0 => Err(not_found(&format!("no container {label:?}, but"), &names)),
            _ => Err(not_found(&format!("{label:?} more than once:"), &names)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.api.close_application(self.application);
        self.api.disconnect(self.device);
    }
}

/// The name of the wanted device, which is plugged in.
fn device_name(api: Api, wanted: &str) -> Result<CString, ModuleError> {
    let absent = || codes::error(codes::DEVICE_REMOVED, "the key is not plugged in");
    let names = api.devices()?;
    if names.is_empty() || !(wanted.is_empty() || names.iter().any(|name| is(name, wanted))) {
        return Err(absent());
    }
    let name = only("device", &names, wanted)?;
    if api.is_absent(&name)? { Err(absent()) } else { Ok(name) }
}

/// Opens the wanted application. Gives the token's name too.
fn application(api: Api, device: Handle, wanted: &str) -> Result<(String, Handle), ModuleError> {
    let serial = api.serial_number(device)?;
    let name = only("application", &api.applications(device)?, wanted)?;
    let handle = api.open_application(device, &name)?;
    Ok((format!("skf {serial} {}", name.to_string_lossy()), handle))
}

/// The wanted name, or the only one.
fn only(what: &str, names: &[Vec<u8>], wanted: &str) -> Result<CString, ModuleError> {
    match names {
        [one] if wanted.is_empty() => c_string(one),
        _ if names.iter().any(|name| is(name, wanted)) => c_string(wanted.as_bytes()),
        _ if wanted.is_empty() => Err(not_found(&format!("name the {what}, of"), names)),
        _ => Err(not_found(&format!("no {what} {wanted:?}, but"), names)),
    }
}

fn is(name: &[u8], wanted: &str) -> bool {
    name == wanted.as_bytes()
}

fn not_found(what: &str, names: &[Vec<u8>]) -> ModuleError {
    let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
    gm::failure(Class::Permanent, "NOT_FOUND", format!("{what} {names:?}"))
}

fn c_string(name: &[u8]) -> Result<CString, ModuleError> {
    CString::new(name).map_err(|_| gm::failure(Class::Permanent, "NOT_FOUND", "a name has a NUL"))
}

/// The one session of a key: an open container.
#[derive(Debug)]
struct Session {
    shared: Arc<Shared>,
    container: Handle,
    generation: u64,
}

impl ModuleSession for Session {
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], ModuleError> {
        let mut state = self.shared.state();
        if !state.holds(self.generation) {
            let detail = "the session's connection has ended";
            return Err(gm::failure(Class::SessionLost, "CONNECTION_LOST", detail));
        }
        let signed = self.shared.api.sign(self.container, digest);
        match &signed {
            Err(error) if codes::is_connection_lost(error) => state.disconnect(),
            Err(error) if error.code == u64::from(codes::NOT_LOGGED_IN) => state.log_out(),
            _ => {}
        }
        signed.map(|fields| gm::pair(&fields))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.holds(self.generation) {
            self.shared.api.close_container(self.container);
        }
        state.is_in_session = false;
    }
}
