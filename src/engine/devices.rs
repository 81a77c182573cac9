//! Gives every virtual device (虚拟设备) its sessions: keys in memory, tokens behind sidecars,
//! tax-control servers.
//!
//! Invariants: an absent device closes its own series alone; a device whose key contradicts the
//! registered one never signs, and refuses a start that sees it.

use super::{Core, EngineError, pin};
use crate::{
    clock::Clock,
    model::TaxpayerNo,
    refusal::chain,
    registry::{BackendKind, Device, DeviceConnection, Via},
    signer::{
        Backend, CipherForm, DeviceKey, RemoteKey, RemoteSigner, Setup, SignerError,
        SoftwareSigner, Source, WrappedKey,
        sidecar::{
            BoundKey, HardwareSpec, KeyCheckError, ModuleSpec, SidecarSessions, TokenSelector,
        },
        skserver::{SkServer, SkServerConfig},
    },
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long a start looks at tokens, all at once; those that say nothing until then are absent.
const LOOK: Duration = Duration::from_secs(10);
/// A tax server's deadline unless given. Shorter than a caller waits.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A tax server's quiescence time unless given.
const QUIESCENCE: Duration = Duration::from_secs(30);

/// Why a device is not bound to what its connection names.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Ours.
    #[error("{0}")]
    Internal(String),
    /// The device's, with what to do.
    #[error("{0}")]
    Device(String),
}

/// A key in hardware: which sidecar, and which key there.
struct Hardware {
    spec: HardwareSpec,
    label: String,
    sessions_max: usize,
}

/// Where a device's key is.
enum Place {
    Memory,
    Hardware(Hardware),
    Server(SkServerConfig),
}

/// Opens sessions with a key in hardware.
struct HardwareSource {
    sessions: SidecarSessions,
    key: Arc<RemoteKey>,
}

impl Source for HardwareSource {
    fn open(&self) -> Result<Backend, SignerError> {
        let session = self.sessions.open()?;
        Ok(Backend::Proxy(Box::new(RemoteSigner::new(Arc::clone(&self.key), session))))
    }
}

/// Opens sessions with a tax server. Each proves itself by the device's own description.
struct ServerSource {
    config: SkServerConfig,
    key: Arc<DeviceKey>,
    clock: Clock,
}

impl Source for ServerSource {
    fn open(&self) -> Result<Backend, SignerError> {
        let key = Arc::clone(&self.key);
        let mut server = SkServer::new(self.config.clone(), key, self.clock.clone())?;
        server.device_info().map_err(|error| SignerError::Unavailable {
            device: self.config.device_id.clone(),
            detail: chain(&error),
        })?;
        Ok(Backend::Device(Box::new(server)))
    }
}

impl Core {
    /// Makes what a new device is bound to: a software key, or the key that its hardware holds.
    /// Every other device gets a software key too, which derives its texts or attests its answers.
    ///
    /// # Errors
    /// `BindError`; nothing was kept.
    pub async fn bind(
        &self,
        backend: BackendKind,
        id: &str,
        connection: Option<DeviceConnection>,
    ) -> Result<(WrappedKey, Vec<u8>), BindError> {
        let kind = match backend {
            BackendKind::SoftwareSm2 => BackendKind::SoftwareSm2,
            _ => BackendKind::SoftwareP256,
        };
        let made = self.keys.generate(kind, id);
        let (key, public_key) = made.map_err(|error| BindError::Internal(chain(&error)))?;
        match connection.and_then(|to| hardware(&self.lock_dir, to)) {
            None => Ok((key, public_key)),
            Some(hardware) => Ok((key, self.found(id, hardware).await?)),
        }
    }

    /// Looks whether a device's registered key is where it is to be reached from now on.
    ///
    /// # Errors
    /// `BindError`.
    pub async fn verify_binding(
        &self,
        device: &Device,
        connection: DeviceConnection,
    ) -> Result<(), BindError> {
        let Some(hardware) = hardware(&self.lock_dir, connection) else { return Ok(()) };
        let found = self.found(&device.id, hardware).await?;
        let hint = "the key there is not the registered one; nothing was changed";
        let is_same = found == device.public_key;
        is_same.then_some(()).ok_or_else(|| BindError::Device(hint.into()))
    }

    async fn found(&self, id: &str, hardware: Hardware) -> Result<Vec<u8>, BindError> {
        let (sidecars, id) = (Arc::clone(&self.sidecars), id.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            sidecars.bind(&id, &hardware.spec, &hardware.label)
        });
        match found.await {
            Ok(Ok(found)) => Ok(found.public_key),
            Ok(Err(error)) => Err(BindError::Device(chain(&error))),
            Err(error) => Err(BindError::Internal(chain(&error))),
        }
    }

    /// The PIN record that an operator's unlocking writes; `None` for a device whose
    /// PIN we do not present.
    #[must_use]
    pub fn pin_record(&self, device: &Device) -> Option<(String, Vec<u8>)> {
        let hardware = hardware(&self.lock_dir, device.connection.clone()?)?;
        Some(pin::unlocked(&hardware.spec.module.record_name()))
    }

    /// Why a device takes no claims now.
    #[must_use]
    pub fn unusable_reason(&self, device: &Device) -> Option<String> {
        let broken = self.unusable().get(&device.id).cloned();
        broken.or_else(|| self.finisher.pool().takes(device.no).refusal())
    }

    /// Gives a device its sessions. An absent key or token closes the device's series alone.
    ///
    /// # Errors
    /// `KeyContradicts` for a software key.
    pub fn load_device(&self, device: &Device) -> Result<(), EngineError> {
        match self.setup(device)? {
            Ok(setup) => {
                self.finisher.pool().attach(device.no, setup);
                if device.backend.draws_numbers() {
                    self.finisher.watch_device(device.no, device.kinds.iter().copied());
                }
                self.unusable().remove(&device.id);
            }
            Err(why) => {
                tracing::error!(device = device.id, why, "the device cannot sign");
                self.unusable().insert(device.id.clone(), why);
            }
        }
        Ok(())
    }

    /// Looks at the keys of all tokens, before any session signs.
    ///
    /// # Errors
    /// `KeyContradicts`.
    pub(super) async fn check_tokens(&self) -> Result<(), EngineError> {
        let mut looks = tokio::task::JoinSet::new();
        for device in self.numbering.registry().devices.values() {
            if let Ok(Place::Hardware(hardware)) = self.place(device)
                && let Ok(sessions) = self.sessions(device, &hardware)
            {
                let device = device.id.clone();
                looks.spawn_blocking(move || (device, sessions.check()));
            }
        }
        let all = async {
            while let Some(look) = looks.join_next().await {
                if let Ok((device, Err(KeyCheckError::Contradicts { .. }))) = look {
                    return Err(EngineError::KeyContradicts { device });
                }
            }
            Ok(())
        };
        // Those that are late are looked at again before they sign.
        tokio::time::timeout(LOOK, all).await.unwrap_or(Ok(()))
    }

    fn setup(&self, device: &Device) -> Result<Result<Setup, String>, EngineError> {
        let place = match self.place(device) {
            Ok(place) => place,
            Err(why) => return Ok(Err(why)),
        };
        let (key, form) = match self.key(device) {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let queue_len_max = self.queue_len_max;
        let of = |source: Arc<dyn Source>, sessions_max| Setup {
            sessions: Vec::new(),
            source: Some(source),
            sessions_max,
            queue_len_max,
        };
        Ok(match place {
            Place::Memory => {
                let signer = match SoftwareSigner::new(&device.id, key, form) {
                    Ok(signer) => signer,
                    Err(error) => return Ok(Err(error.to_string())),
                };
                if signer.public_key() != device.public_key {
                    return Err(EngineError::KeyContradicts { device: device.id.clone() });
                }
                let sessions = vec![Backend::Proxy(Box::new(signer))];
                Ok(Setup { sessions, source: None, sessions_max: 1, queue_len_max })
            }
            Place::Hardware(hardware) => self
                .hardware_source(device, &hardware, (key, form))
                .map(|source| of(Arc::new(source), hardware.sessions_max)),
            Place::Server(config) => {
                if key.public_key() != device.public_key {
                    return Err(EngineError::KeyContradicts { device: device.id.clone() });
                }
                let config = SkServerConfig { cipher_form: form, ..config };
                let (key, clock) = (Arc::new(key), self.clock.clone());
                Ok(of(Arc::new(ServerSource { config, key, clock }), 1))
            }
        })
    }

    fn hardware_source(
        &self,
        device: &Device,
        hardware: &Hardware,
        (derive, form): (DeviceKey, CipherForm),
    ) -> Result<HardwareSource, String> {
        let sessions = self.sessions(device, hardware)?;
        let bound = (device.backend.algorithm(), device.public_key.clone());
        let key = RemoteKey::new(&device.id, bound, derive, form);
        let key = Arc::new(key.map_err(|error| error.to_string())?);
        Ok(HardwareSource { sessions, key })
    }

    fn sessions(&self, device: &Device, hardware: &Hardware) -> Result<SidecarSessions, String> {
        let bound = BoundKey {
            label: hardware.label.clone(),
            public_key: device.public_key.clone(),
            algorithm: device.backend.algorithm(),
        };
        let sessions = self.sidecars.sessions(&device.id, &hardware.spec, bound);
        sessions.map_err(|error| error.to_string())
    }

    /// The device's software key and the form of its cipher texts.
    fn key(&self, device: &Device) -> Result<(DeviceKey, CipherForm), String> {
        let wrapped = self.numbering.books().wrapped_key(device.no);
        let wrapped = wrapped.map_err(|error| chain(&error))?;
        let wrapped = wrapped.ok_or("the books hold no key for it")?;
        let key = self.keys.unwrap(&WrappedKey(wrapped), &device.id);
        let key = key.map_err(|error| error.to_string())?;
        let cipher = self.profiles.get(&device.profile).map(|profile| &profile.cipher);
        let cipher = cipher.ok_or_else(|| format!("there is no profile {:?}", device.profile))?;
        let form = CipherForm::of(cipher.length, &cipher.prefix)
            .ok_or_else(|| format!("profile {:?} has an impossible cipher form", device.profile))?;
        Ok((key, form))
    }

    fn place(&self, device: &Device) -> Result<Place, String> {
        let lost = || format!("the registry has no connection for this {}", device.backend.name());
        match device.backend {
            BackendKind::SoftwareP256 | BackendKind::SoftwareSm2 => Ok(Place::Memory),
            BackendKind::SimulatedDevice => {
                Err("simulated devices are attached by tests alone".into())
            }
            BackendKind::Pkcs11 | BackendKind::Sdf | BackendKind::Skf => {
                let connection = device.connection.clone().ok_or_else(lost)?;
                hardware(&self.lock_dir, connection).map(Place::Hardware).ok_or_else(lost)
            }
            BackendKind::SkServer => {
                let to = device.connection.clone().and_then(|to| to.via).ok_or_else(lost)?;
                let Via::Skserver(to) = to else { return Err(lost()) };
                let millis = |given: u32, default| match given {
                    0 => default,
                    given => Duration::from_millis(given.into()),
                };
                Ok(Place::Server(SkServerConfig {
                    device_id: device.id.clone(),
                    url: to.url,
                    ca: (!to.ca_file.is_empty()).then(|| PathBuf::from(&to.ca_file)),
                    kpzdbs: to.kpzdbs,
                    taxpayer_id: self.taxpayer_id(device.taxpayer),
                    machine_number: device.machine_number.clone(),
                    timeout: millis(to.timeout_ms, TIMEOUT),
                    quiescence: millis(to.quiescence_ms, QUIESCENCE),
                    cipher_form: CipherForm::default(),
                }))
            }
        }
    }

    fn taxpayer_id(&self, no: TaxpayerNo) -> String {
        let registry = self.numbering.registry();
        registry.taxpayers.get(&no).map(|taxpayer| taxpayer.id.clone()).unwrap_or_default()
    }
}

/// What a connection names in hardware; `None` when it names none.
fn hardware(lock_dir: &Path, connection: DeviceConnection) -> Option<Hardware> {
    let (module, token, label, pin_file, sessions_max) = match connection.via? {
        Via::Pkcs11(to) => {
            let token = TokenSelector::Pkcs11 { label: to.token_label, serial: None };
            (to.module_path, token, to.key_label, to.pin_file, to.sessions_max)
        }
        Via::Sdf(to) => {
            let label = to.key_index.to_string();
            let token = TokenSelector::Sdf { key: label.clone() };
            (to.module_path, token, label, to.pin_file, to.sessions_max)
        }
        Via::Skf(to) => {
            let token = TokenSelector::Skf { device: to.device_name, application: to.application };
            (to.module_path, token, to.container, to.pin_file, 1)
        }
        Via::Skserver(_) => return None,
    };
    let module = ModuleSpec { module: module.into(), token };
    let pin_file = (!pin_file.is_empty()).then(|| PathBuf::from(pin_file));
    let spec = HardwareSpec::new(module, pin_file, lock_dir.to_owned());
    let sessions_max = usize::try_from(sessions_max.max(1)).unwrap_or(1);
    Some(Hardware { spec, label, sessions_max })
}
