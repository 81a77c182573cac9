//! The engine: books, numbering and signers together, without ports. What keeps the promises, and
//! what the operators' service and the crash tests work on.

mod devices;
mod pin;
mod statement;
pub mod watch;

pub use devices::BindError;

use crate::{
    clock::Clock,
    config::ConfigMistake,
    contract::{Profiles, TaxCodes},
    health::Readiness,
    model::{BatchNo, Kind},
    numbering::{self, Numbering, Parts, StartError, finisher::Finisher},
    refusal::Refusal,
    secret::Secret,
    signer::{
        CipherForm, DeviceKey, KeyStore, KeyStoreError, KeyStoreHeader, Threads, sidecar::Sidecars,
    },
    store::{
        StoreError,
        embedded::{self, Checkpointer, Options, StartReport},
    },
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::OnceCell;

/// Reasons that one answer names; the rest is counted.
const REASONS_MAX: usize = 20;

/// Threads for devices that have work at the same time: one for each, so that many may stall before
/// another waits for them.
const DEVICE_THREADS_MAX: usize = 4096;

/// Key of the setting that holds the key store's header.
pub const KEY_STORE: &str = "key_store";

/// Why the engine does not start. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The books.
    #[error("open the books")]
    Store(#[source] StoreError),
    /// The numbering actor.
    #[error("start numbering")]
    Numbering(#[source] StartError),
    /// The key store.
    #[error("open the key store")]
    KeyStore(#[source] KeyStoreError),
    /// A device's key contradicts what is registered: nothing may be signed with it.
    #[error("device {device}: its key is not the registered one; restore the right books or key")]
    KeyContradicts {
        /// Device id.
        device: String,
    },
    /// There are devices, but no header to open their keys with.
    #[error(
        "the key store's header is lost, so the key of device {device} and all others cannot be \
         opened; restore the data directory from a backup"
    )]
    KeyStoreLost {
        /// The first device concerned.
        device: String,
    },
    /// A setting could not be stored.
    #[error("store the key store's header")]
    Setting(#[source] Refusal),
}

/// Why devices cannot sign, by device id.
pub type Unusable = Arc<Mutex<BTreeMap<String, String>>>;

/// Books, numbering and signers, running.
pub struct Core {
    /// Who owns the numbers.
    pub numbering: Numbering,
    /// Who owns open claims.
    pub finisher: Arc<Finisher>,
    /// Wraps and unwraps device keys.
    pub keys: Arc<KeyStore>,
    /// Rules by profile.
    pub profiles: Profiles,
    /// What was noticed at the start.
    pub report: StartReport,
    /// Batches of an earlier life without a receipt.
    pub open_batches: Vec<BatchNo>,
    /// Moves the log into the books.
    pub checkpointer: Checkpointer,
    /// Devices that cannot sign.
    pub unusable: Unusable,
    /// Processes of foreign modules.
    sidecars: Arc<Sidecars>,
    /// Where sidecars hold their locks.
    lock_dir: PathBuf,
    /// Opened, or made, when it is first needed.
    statement: OnceCell<Arc<DeviceKey>>,
    clock: Clock,
    /// Jobs that wait for one device: its open claims, and what is asked beside them.
    queue_len_max: usize,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("report", &self.report).finish_non_exhaustive()
    }
}

/// The rule profiles: the embedded ones, and every `*.toml` of an operator's directory, with the
/// tables of tax codes beside them that they name.
///
/// # Errors
/// Every file that cannot be read or is no profile, with line and column.
pub fn load_profiles(dir: Option<&Path>) -> Result<Profiles, Vec<ConfigMistake>> {
    let Some(dir) = dir else { return Ok(Profiles::embedded()) };
    let mistake = |key: &Path, problem: String| ConfigMistake {
        key: key.display().to_string(),
        problem,
        hint: "deploy/profiles has profiles to start from".to_owned(),
    };
    let unreadable =
        |path: &Path, error: io::Error| mistake(path, format!("cannot be read: {error}"));
    let paths = profile_paths(dir).map_err(|error| vec![unreadable(dir, error)])?;
    let (mut texts, mut mistakes) = (Vec::new(), Vec::new());
    for path in paths {
        match fs::read_to_string(&path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(error) => mistakes.push(unreadable(&path, error)),
        }
    }
    let files = texts.iter().map(|(file, text)| (file.as_str(), text.as_str()));
    match Profiles::with_files(files) {
        Ok(mut profiles) => {
            for file in profiles.tax_code_files() {
                let path = dir.join(&file);
                match read_tax_codes(&path) {
                    Ok(table) => profiles = profiles.with_tax_codes(&file, &table),
                    Err(problem) => mistakes.push(mistake(&path, problem)),
                }
            }
            let why = "no device makes a cipher text of that length and prefix";
            let bad = formless(&profiles).map(|name| mistake(dir, format!("{name:?}: {why}")));
            mistakes.extend(bad);
            if mistakes.is_empty() { Ok(profiles) } else { Err(mistakes) }
        }
        Err(bad) => {
            mistakes.extend(bad.into_iter().map(|bad| mistake(Path::new(&bad.file), bad.problem)));
            Err(mistakes)
        }
    }
}

fn read_tax_codes(path: &Path) -> Result<TaxCodes, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    TaxCodes::parse(&text)
}

/// The profiles whose cipher text no signer knows how to make.
fn formless(profiles: &Profiles) -> impl Iterator<Item = &str> {
    profiles.names().filter(|name| {
        let cipher = profiles.get(name).map(|profile| &profile.cipher);
        cipher.is_none_or(|cipher| CipherForm::of(cipher.length, &cipher.prefix).is_none())
    })
}

/// The profiles of a directory, by name, so that complaints come in one order.
fn profile_paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<_>> =
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let mut paths: Vec<_> = entries?.into_iter().filter(is_toml).collect();
    paths.sort_unstable();
    Ok(paths)
}

/// Opens the books and starts numbering and signers.
///
/// # Errors
/// When the books do not open, the clock is behind them, or the passphrase or a key is wrong.
pub async fn open_core(
    options: &Options,
    passphrase: &Secret<String>,
    limits: numbering::Limits,
    clock: &Clock,
    profiles: Profiles,
) -> Result<Core, EngineError> {
    let opened = embedded::open(options).map_err(EngineError::Store)?;
    say(&opened.report);
    let header = opened.books.setting(KEY_STORE).map_err(EngineError::Store)?;
    let (keys, fresh) = open_keys(header.as_deref(), passphrase)?;
    let checkpointer = opened.store.checkpointer().map_err(EngineError::Store)?;
    let open_batches = opened.loaded.open_batches.iter().map(|(no, _)| *no).collect();
    let parts = Parts {
        store: opened.store,
        books: opened.books,
        loaded: opened.loaded,
        limits,
        clock: clock.clone(),
        read_only: opened.report.read_only.clone(),
        profiles: Arc::new(profiles.clone()),
    };
    let threads = Threads {
        software: std::thread::available_parallelism().map_or(1, usize::from),
        devices_max: DEVICE_THREADS_MAX,
    };
    let (numbering, finisher) =
        Numbering::start(parts, |completions| Finisher::new(completions, clock.clone(), threads))
            .map_err(EngineError::Numbering)?;
    let keys = Arc::new(keys);
    let runtime = tokio::runtime::Handle::current();
    let pins = pin::PinBook::new(numbering.clone(), Arc::clone(&keys), runtime);
    let core = Core {
        numbering,
        finisher,
        keys,
        sidecars: Arc::new(Sidecars::new(Arc::new(pins))),
        lock_dir: options.dir.clone(),
        statement: OnceCell::new(),
        clock: clock.clone(),
        profiles,
        report: opened.report,
        open_batches,
        checkpointer,
        unusable: Unusable::default(),
        // Beside the claims, one question for the next number of each kind.
        queue_len_max: limits.open_claims_max.saturating_add(Kind::ALL.len()),
    };
    match core.begin(fresh).await {
        Ok(()) => Ok(core),
        Err(error) => {
            // The actor holds the books and their lock; whoever tries again must find them free.
            core.finisher.end();
            core.numbering.stop();
            Err(error)
        }
    }
}

fn say(report: &StartReport) {
    if report.dropped_frames > 0 {
        let frames = report.dropped_frames;
        tracing::warn!(frames, "an unfinished commit was dropped; nobody was told of it");
    }
    match &report.read_only {
        Some(why) => tracing::error!(why, "the books are READ-ONLY: nothing is issued"),
        None => tracing::info!(commits = report.commits.0, "books open"),
    }
}

fn open_keys(
    header: Option<&[u8]>,
    passphrase: &Secret<String>,
) -> Result<(KeyStore, Option<KeyStoreHeader>), EngineError> {
    match header {
        Some(bytes) => {
            let header = KeyStoreHeader::from_bytes(bytes).map_err(EngineError::KeyStore)?;
            let keys = KeyStore::open(&header, passphrase).map_err(EngineError::KeyStore)?;
            Ok((keys, None))
        }
        None => {
            let (keys, header) = KeyStore::create(passphrase);
            Ok((keys, Some(header)))
        }
    }
}

impl Core {
    /// Keeps a fresh key store's header and gives every device its backend.
    async fn begin(&self, fresh: Option<KeyStoreHeader>) -> Result<(), EngineError> {
        let registry = self.numbering.registry();
        if let (Some(header), None) = (fresh, &self.report.read_only) {
            let mut keyed = registry.devices.values().filter(|d| !d.backend.draws_numbers());
            if let Some(device) = keyed.next() {
                return Err(EngineError::KeyStoreLost { device: device.id.clone() });
            }
            let value = header.to_bytes();
            self.numbering
                .change(move |round| {
                    round.put_setting(KEY_STORE, value);
                    Ok(())
                })
                .await
                .map_err(EngineError::Setting)?;
        }
        self.check_tokens().await?;
        registry.devices.values().try_for_each(|device| self.load_device(device))
    }

    fn unusable(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.unusable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the daemon issues, and what stands against it.
    #[must_use]
    pub fn readiness(numbering: &Numbering, finisher: &Finisher, unusable: &Unusable) -> Readiness {
        let mut reasons: Vec<String> = numbering.stalled().into_iter().collect();
        let broken = unusable.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = numbering.registry();
        let (mut usable, mut enabled) = (0_usize, 0_usize);
        for device in registry.devices.values() {
            let why = broken.get(&device.id).cloned();
            let why = why.or_else(|| finisher.pool().takes(device.no).refusal());
            enabled = enabled.saturating_add(usize::from(device.enabled));
            match why {
                None => usable = usable.saturating_add(usize::from(device.enabled)),
                Some(why) if reasons.len() < REASONS_MAX => {
                    reasons.push(format!("device {}: {why}", device.id));
                }
                Some(_) => {}
            }
        }
        let issues = numbering.stalled().is_none() && usable > 0;
        if enabled == 0 {
            reasons.push("no virtual device is registered and in use; add one".into());
        } else if usable < enabled {
            reasons.push(format!("{usable} of {enabled} devices in use can sign"));
        }
        Readiness { ready: issues, reasons }
    }
}
