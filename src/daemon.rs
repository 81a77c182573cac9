//! Composition root: builds the parts, runs them, drains them. The only file that knows every part.

use crate::{
    admin,
    admission::Admission,
    clock::Clock,
    config::Config,
    contract::{Profiles, gbk_len},
    delivery::{
        connector::{ClientTls, ClientTlsError},
        worker::{Delivery, Settings},
    },
    health::{Ops, Readiness},
    listener::{
        GrpcSettings, HealthHandle, Limits as ListenerLimits, Listener, TlsError, TlsFiles,
        TlsState, routes,
    },
    metrics::Exporter,
    numbering::{self, Numbering, Parts, StartError, finisher::Finisher},
    pipeline::Pipeline,
    refusal::Refusal,
    registry::{BackendKind, Device},
    secret::Secret,
    signer::{
        Backend, CipherForm, KeyStore, KeyStoreError, KeyStoreHeader, SoftwareSigner, WrappedKey,
    },
    store::{
        StoreError,
        embedded::{self, Checkpointer, Options, StartReport},
    },
    tasks::Tasks,
};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};

/// Key of the setting that holds the key store's header.
pub const KEY_STORE: &str = "key_store";
/// Pause between two looks at claims that are due again.
const TICK: Duration = Duration::from_millis(20);
/// Pause between two passive checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
/// How long open claims get to be signed when the daemon ends; the rest is signed at the next start.
const FINISH_LIMIT: Duration = Duration::from_secs(5);
/// Calls under way at once. At 100 KB a call this is 1.6 GB at the very worst.
const CALLS_MAX: usize = 16_384;

/// Why the daemon does not start. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
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
    /// A setting could not be stored.
    #[error("store the key store's header")]
    Setting(#[source] Refusal),
    /// A file.
    #[error("read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS towards platforms.
    #[error("prepare TLS towards platforms")]
    Tls(#[source] TlsError),
    /// TLS towards the acceptance.
    #[error("prepare TLS towards the acceptance")]
    Upstream(#[source] ClientTlsError),
    /// A port or socket.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why devices cannot sign, by device id.
pub type Unusable = Arc<Mutex<BTreeMap<String, String>>>;

/// A running daemon.
pub struct Daemon {
    /// Where platforms connect.
    pub platform_address: SocketAddr,
    /// The ops port.
    pub ops_address: SocketAddr,
    /// What was noticed at the start.
    pub report: StartReport,
    numbering: Numbering,
    finisher: Arc<Finisher>,
    listener: Arc<Listener>,
    tls: Arc<TlsState>,
    health: HealthHandle,
    tasks: Arc<Tasks>,
    stop: watch::Sender<bool>,
    drain_timeout: Duration,
    admin_socket: PathBuf,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("platform_address", &self.platform_address).finish()
    }
}

/// The books, numbering and signers: the part of the daemon that keeps the promises, without ports.
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
    pub open_batches: Vec<crate::model::BatchNo>,
    /// Moves the log into the books.
    pub checkpointer: Checkpointer,
    /// Devices that cannot sign.
    pub unusable: Unusable,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("report", &self.report).finish_non_exhaustive()
    }
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
) -> Result<Core, BuildError> {
    let opened = embedded::open(options).map_err(BuildError::Store)?;
    say(&opened.report);
    let header = opened.books.setting(KEY_STORE).map_err(BuildError::Store)?;
    let (keys, fresh) = open_keys(header.as_deref(), passphrase)?;
    let checkpointer = opened.store.checkpointer().map_err(BuildError::Store)?;
    let open_batches = opened.loaded.open_batches.clone();
    let parts = Parts {
        store: opened.store,
        books: opened.books,
        loaded: opened.loaded,
        limits,
        clock: clock.clone(),
        read_only: opened.report.read_only.clone(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (numbering, finisher) =
        Numbering::start(parts, |completions| Finisher::new(completions, clock.clone(), threads))
            .map_err(BuildError::Numbering)?;
    if let (Some(header), None) = (fresh, &opened.report.read_only) {
        let value = header.to_bytes();
        numbering
            .change(move |round| {
                round.put_setting(KEY_STORE, value);
                Ok(())
            })
            .await
            .map_err(BuildError::Setting)?;
    }
    let core = Core {
        numbering,
        finisher,
        keys: Arc::new(keys),
        profiles: Profiles::embedded(),
        report: opened.report,
        open_batches,
        checkpointer,
        unusable: Unusable::default(),
    };
    for device in core.numbering.registry().devices.values() {
        core.load_device(device)?;
    }
    Ok(core)
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
) -> Result<(KeyStore, Option<KeyStoreHeader>), BuildError> {
    match header {
        Some(bytes) => {
            let header = KeyStoreHeader::from_bytes(bytes).map_err(BuildError::KeyStore)?;
            let keys = KeyStore::open(&header, passphrase).map_err(BuildError::KeyStore)?;
            Ok((keys, None))
        }
        None => {
            let (keys, header) = KeyStore::create(passphrase);
            Ok((keys, Some(header)))
        }
    }
}

impl Core {
    /// Gives a device its backend. An absent key closes the device's series alone; a contradicting one
    /// refuses the start.
    ///
    /// # Errors
    /// `KeyContradicts`.
    pub fn load_device(&self, device: &Device) -> Result<(), BuildError> {
        match self.backend(device) {
            Ok(signer) => {
                if signer.public_key() != device.public_key {
                    return Err(BuildError::KeyContradicts { device: device.id.clone() });
                }
                let queue_len_max = numbering::Limits::default().open_claims_max;
                self.finisher.pool().add_device(
                    device.no,
                    Backend::Proxy(Box::new(signer)),
                    queue_len_max,
                );
                self.unusable().remove(&device.id);
            }
            Err(why) => {
                tracing::error!(device = device.id, why, "the device cannot sign");
                self.unusable().insert(device.id.clone(), why);
            }
        }
        Ok(())
    }

    fn unusable(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.unusable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn backend(&self, device: &Device) -> Result<SoftwareSigner, String> {
        if device.backend == BackendKind::SimulatedDevice {
            return Err("simulated devices are attached by tests alone".into());
        }
        let wrapped = self.numbering.books().wrapped_key(device.no);
        let wrapped = wrapped.map_err(|error| crate::refusal::chain(&error))?;
        let wrapped = wrapped.ok_or("the books hold no key for it")?;
        let key = self.keys.unwrap(&WrappedKey(wrapped), &device.id);
        let key = key.map_err(|error| error.to_string())?;
        let cipher = self.profiles.get(&device.profile).map(|profile| &profile.cipher);
        let cipher = cipher.ok_or_else(|| format!("there is no profile {:?}", device.profile))?;
        let form = CipherForm::of(cipher.length, &cipher.prefix)
            .ok_or_else(|| format!("profile {:?} has an impossible cipher form", device.profile))?;
        SoftwareSigner::new(&device.id, key, form).map_err(|error| error.to_string())
    }

    /// Whether the daemon issues, and what stands against it.
    #[must_use]
    pub fn readiness(numbering: &Numbering, unusable: &Unusable) -> Readiness {
        let mut reasons: Vec<String> = numbering.stalled().into_iter().collect();
        let broken = unusable.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.extend(broken.iter().map(|(id, why)| format!("device {id}: {why}")));
        let registry = numbering.registry();
        let mut usable =
            registry.devices.values().filter(|device| !broken.contains_key(&device.id));
        let issues = numbering.stalled().is_none() && usable.any(|device| device.enabled);
        if !issues && reasons.is_empty() {
            reasons.push("no virtual device is registered and in use; add one".into());
        }
        Readiness { ready: issues, reasons }
    }
}

/// Builds everything and begins to serve.
///
/// # Errors
/// Whatever cannot be opened, read or bound, with what to do.
pub async fn start(
    config: &Config,
    exporter: Exporter,
    clock: Clock,
) -> Result<Daemon, BuildError> {
    // The table is built on first use, a millisecond that no request should pay.
    let warmed = gbk_len("税");
    tracing::debug!(warmed, "GBK table built");
    let passphrase = read_passphrase(config)?;
    let options = Options {
        dir: config.data_dir.clone(),
        watermark: config.watermark_path.clone(),
        reserve_bytes: config.store_reserve_bytes,
    };
    let tls = TlsFiles {
        certificate: config.tls.server_cert.clone(),
        key: config.tls.server_key.clone(),
        client_ca: config.tls.client_ca.clone(),
    };
    let tls = Arc::new(TlsState::load(tls).map_err(BuildError::Tls)?);
    let upstream = &config.upstream;
    let upstream = ClientTls::load(&upstream.ca, &upstream.cert, &upstream.key)
        .map_err(BuildError::Upstream)?;
    let platform_socket = listen(config.platform_address).await?;
    let ops_socket = listen(config.ops_address).await?;
    let core = open_core(&options, &passphrase, numbering_limits(config), &clock).await?;
    serve(config, core, (platform_socket, ops_socket), (tls, upstream), (exporter, clock)).await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BuildError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BuildError::Listen { address: address.to_string(), source })
}

fn numbering_limits(config: &Config) -> numbering::Limits {
    numbering::Limits {
        open_claims_max: config.limits.open_claims_max,
        oldest_open_max_s: i64::try_from(config.limits.oldest_open_claim.as_secs())
            .unwrap_or(i64::MAX),
        work_max: config.limits.queue_len_max,
        ..numbering::Limits::default()
    }
}

fn read_passphrase(config: &Config) -> Result<Secret<String>, BuildError> {
    let path = &config.passphrase_file;
    let text = std::fs::read_to_string(path)
        .map_err(|source| BuildError::File { path: path.clone(), source })?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

async fn serve(
    config: &Config,
    core: Core,
    (platform_socket, ops_socket): (TcpListener, TcpListener),
    (tls, upstream): (Arc<TlsState>, ClientTls),
    (exporter, clock): (Exporter, Clock),
) -> Result<Daemon, BuildError> {
    let tasks = Arc::new(Tasks::default());
    let (stop, stopped) = watch::channel(false);
    let Core { numbering, finisher, report, unusable, .. } = &core;
    let (numbering, finisher, report) = (numbering.clone(), Arc::clone(finisher), report.clone());
    let unusable = Arc::clone(unusable);
    let delivery = Delivery::new(
        numbering.clone(),
        upstream,
        Settings { batch_max: config.delivery.batch_max, interval: config.delivery.interval },
        core.open_batches.clone(),
        stopped.clone(),
    );
    let pipeline = Arc::new(Pipeline {
        numbering: numbering.clone(),
        profiles: core.profiles.clone(),
        admission: Admission::new(CALLS_MAX),
        clock,
    });
    let settings = GrpcSettings { message_len_max: config.limits.message_bytes_max };
    let (routes, health) = routes(pipeline, settings).await;
    let listener = Listener::new(Arc::clone(&tls), routes, listener_limits(config));
    let io = |source| BuildError::Listen { address: "a bound socket".into(), source };
    let platform_address = platform_socket.local_addr().map_err(io)?;
    let ops_address = ops_socket.local_addr().map_err(io)?;
    let probe = {
        let (numbering, unusable) = (numbering.clone(), Arc::clone(&unusable));
        Arc::new(move || Core::readiness(&numbering, &unusable))
    };
    let admin_socket = config.admin_socket.clone();
    let admin = admin::bind(&admin_socket).map_err(|source| BuildError::Listen {
        address: admin_socket.display().to_string(),
        source,
    })?;
    tasks.spawn("finisher", tick(Arc::clone(&finisher), stopped.clone()));
    tasks.spawn("checkpoint", checkpoint(core.checkpointer.clone(), stopped.clone()));
    tasks.spawn("ops", Ops::new(exporter.clone(), probe).run(ops_socket, stop_of(&stopped)));
    drop(crate::tasks::spawn_detached(exporter.upkeep()));
    tasks.spawn("certificates", Arc::clone(&tls).watch(stop_of(&stopped)));
    tasks.spawn("delivery supervisor", delivery.run(Arc::clone(&tasks)));
    tasks.spawn("admin", admin::serve(admin, Arc::new(core), stop_of(&stopped)));
    tasks.spawn("listener", Arc::clone(&listener).run(platform_socket));
    health.serving().await;
    Ok(Daemon {
        platform_address,
        ops_address,
        report,
        numbering,
        finisher,
        listener,
        tls,
        health,
        tasks,
        stop,
        drain_timeout: config.limits.drain_timeout,
        admin_socket,
    })
}

fn listener_limits(config: &Config) -> ListenerLimits {
    ListenerLimits {
        handshake_timeout: config.limits.handshake_timeout,
        handshakes_max: config.limits.pending_handshakes_max,
        connections_max: config.limits.connections_max,
        streams_max: config.limits.streams_max,
        connection_age: config.limits.connection_age,
        ..ListenerLimits::default()
    }
}

fn stop_of(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stopped = stopped.clone();
    // An error means that the daemon is gone, which is a stop too.
    async move { drop(stopped.wait_for(|stop| *stop).await) }
}

async fn tick(finisher: Arc<Finisher>, stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(TICK);
    let mut stop = std::pin::pin!(stop_of(&stopped));
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = every.tick() => finisher.tick(),
        }
    }
}

async fn checkpoint(checkpointer: Checkpointer, stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(CHECKPOINT_EVERY);
    let mut stop = std::pin::pin!(stop_of(&stopped));
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = every.tick() => {
                let checkpointer = checkpointer.clone();
                let done = tokio::task::spawn_blocking(move || checkpointer.run()).await;
                if let Ok(Err(error)) = done {
                    let error = crate::refusal::chain(&error);
                    tracing::warn!(error, "the log was not moved into the books; it grows");
                }
            }
        }
    }
}

impl Daemon {
    /// The way to the numbers, for whoever runs the daemon in its own process.
    #[must_use]
    pub fn numbering(&self) -> &Numbering {
        &self.numbering
    }

    /// Reads certificates again, for SIGHUP.
    pub fn reload(&self) {
        // What went wrong is logged and counted; the old certificates stay.
        drop(self.tls.reload());
    }

    /// Ends without losing a call: clients are told to go elsewhere, calls under way are answered, open
    /// claims are signed, then the books close.
    pub async fn drain(self) {
        tracing::info!("draining");
        self.health.not_serving().await;
        let cut = self.listener.drain(self.drain_timeout).await;
        if cut > 0 {
            tracing::warn!(cut, "connections were cut at the end of the drain");
        }
        self.numbering.close();
        let finished = tokio::time::timeout(FINISH_LIMIT, async {
            let mut every = tokio::time::interval(TICK);
            while self.numbering.counts().1 > 0 {
                every.tick().await;
            }
        });
        if finished.await.is_err() {
            let open = self.numbering.counts().1;
            tracing::warn!(open, "claims stay open; they are signed after the next start");
        }
        self.stop.send_replace(true);
        let late = self.tasks.join(FINISH_LIMIT).await;
        if !late.is_empty() {
            tracing::warn!(?late, "tasks were aborted");
        }
        let (finisher, numbering) = (self.finisher, self.numbering);
        let ended = tokio::task::spawn_blocking(move || {
            finisher.end();
            numbering.stop();
        });
        if ended.await.is_err() {
            tracing::error!("the books were not closed in order; the next start recovers");
        }
        // The socket's file is of no use to anybody now.
        drop(std::fs::remove_file(&self.admin_socket));
        tracing::info!("ended");
    }
}
