//! Composition root: builds the parts, runs them, drains them. The only file that knows every part.

use crate::{
    admin,
    admission::Admission,
    clock::Clock,
    config::{Config, ConfigMistake},
    contract::gbk_len,
    delivery::{self, worker::Delivery},
    engine::watch::{WATCH_EVERY, Watch},
    health::Ops,
    legacy::{Edge, Seal, SealError, SealFiles},
    listener::{
        GrpcSettings, HealthHandle, Limits as ListenerLimits, Listener, TlsFiles, TlsState, routes,
    },
    metrics::Exporter,
    numbering::{self, Numbering, finisher::Finisher},
    pipeline::Pipeline,
    secret::Secret,
    store::embedded::{Checkpointer, Options, StartReport},
    tasks::Tasks,
    transport::{ClientTls, TlsError},
};
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch};

pub use crate::engine::{Core, EngineError, load_profiles, open_core};

/// Pause between two looks at claims that are due again.
const TICK: Duration = Duration::from_millis(20);
/// Pause between two passive checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
/// How long open claims get to be signed when the daemon ends; the rest is signed at the next
/// start.
const FINISH_LIMIT: Duration = Duration::from_secs(5);
/// How long a start waits to hear what the acceptances hold.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// Calls under way at once. At 100 KB a call this is 1.6 GB at the very worst.
const CALLS_MAX: usize = 16_384;

/// Why the daemon does not start. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Books, numbering or keys.
    #[error(transparent)]
    Engine(EngineError),
    /// Rule profiles.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Profiles(Vec<ConfigMistake>),
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
    /// The signature of the legacy interface's answers.
    #[error("prepare signed answers of the legacy interface")]
    Seal(#[source] SealError),
    /// TLS towards the acceptance.
    #[error("prepare TLS towards the acceptance")]
    Upstream(#[source] TlsError),
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

/// A running daemon.
pub struct Daemon {
    /// Where platforms connect.
    pub platform_address: SocketAddr,
    /// Where platforms of the legacy interface connect, when it is served.
    pub legacy_address: Option<SocketAddr>,
    /// The ops port.
    pub ops_address: SocketAddr,
    /// What was noticed at the start.
    pub report: StartReport,
    numbering: Numbering,
    finisher: Arc<Finisher>,
    listener: Arc<Listener>,
    legacy: Option<Legacy>,
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
    let profiles = load_profiles(config.profiles_dir.as_deref()).map_err(BuildError::Profiles)?;
    let options = Options {
        dir: config.data_dir.clone(),
        watermark: config.watermark_path.clone(),
        reserve_bytes: config.store_reserve_bytes,
    };
    let tls = Arc::new(TlsState::load(tls_files(config)).map_err(BuildError::Tls)?);
    let upstream = &config.upstream;
    let upstream = ClientTls::load(&upstream.ca, &upstream.cert, &upstream.key)
        .map_err(BuildError::Upstream)?;
    let platform_socket = listen(config.platform_address).await?;
    let ops_socket = listen(config.ops_address).await?;
    let core = open_core(&options, &passphrase, numbering_limits(config), &clock, profiles)
        .await
        .map_err(BuildError::Engine)?;
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
        (numbering.clone(), Arc::clone(&finisher)),
        (upstream, clock.clone()),
        delivery_settings(config),
        core.open_batches.clone(),
        stopped.clone(),
    );
    let pipeline = Arc::new(Pipeline {
        numbering: numbering.clone(),
        profiles: core.profiles.clone(),
        admission: Admission::new(CALLS_MAX),
        clock: clock.clone(),
    });
    let legacy = Legacy::bind(config, &pipeline, clock.clone()).await?;
    let settings = GrpcSettings { message_len_max: config.limits.message_bytes_max };
    let (routes, health) = routes(pipeline, settings).await;
    let listener = Listener::new(Arc::clone(&tls), routes, listener_limits(config));
    let io = |source| BuildError::Listen { address: "a bound socket".into(), source };
    let platform_address = platform_socket.local_addr().map_err(io)?;
    let ops_address = ops_socket.local_addr().map_err(io)?;
    let probe = {
        let (numbering, unusable) = (numbering.clone(), Arc::clone(&unusable));
        let finisher = Arc::clone(&finisher);
        Arc::new(move || Core::readiness(&numbering, &finisher, &unusable))
    };
    let admin_socket = config.admin_socket.clone();
    let admin = admin::bind(&admin_socket).map_err(|source| BuildError::Listen {
        address: admin_socket.display().to_string(),
        source,
    })?;
    tasks.spawn("finisher", tick(Arc::clone(&finisher), stopped.clone()));
    // A store that does not add up is evidence and stays as it is.
    if report.read_only.is_none() {
        tasks.spawn("checkpoint", checkpoint(core.checkpointer.clone(), stopped.clone()));
    }
    tasks.spawn("ops", Ops::new(exporter.clone(), probe).run(ops_socket, stop_of(&stopped)));
    drop(crate::tasks::spawn_detached(exporter.upkeep()));
    tasks.spawn("certificates", Arc::clone(&tls).watch(stop_of(&stopped)));
    start_delivery((config, &core), (&delivery, &tasks), (&clock, &stopped));
    let parts = admin::Parts { core: Arc::new(core), delivery: Arc::clone(&delivery) };
    tasks.spawn("admin", admin::serve(admin, parts, stop_of(&stopped)));
    // Who connects meanwhile waits in the socket's queue.
    delivery.first_look(FIRST_LOOK).await;
    tasks.spawn("listener", Arc::clone(&listener).run(platform_socket));
    let legacy = legacy.map(|legacy| legacy.run(&tasks, &stopped));
    // Load balancers must not send work to a proxy that cannot issue.
    if numbering.stalled().is_none() {
        health.serving().await;
    }
    Ok(Daemon {
        platform_address,
        legacy_address: legacy.as_ref().map(|legacy| legacy.address),
        ops_address,
        report,
        numbering,
        finisher,
        listener,
        legacy,
        tls,
        health,
        tasks,
        stop,
        drain_timeout: config.limits.drain_timeout,
        admin_socket,
    })
}

/// Delivery and what watches it.
fn start_delivery(
    (config, core): (&Config, &Core),
    (delivery, tasks): (&Arc<Delivery>, &Arc<Tasks>),
    (clock, stopped): (&Clock, &watch::Receiver<bool>),
) {
    tasks.spawn("delivery supervisor", Arc::clone(delivery).run(Arc::clone(tasks)));
    tasks.spawn("write-backs", Arc::clone(delivery).write_back());
    tasks.spawn("monitor data", Arc::clone(delivery).refresh());
    let (numbering, profiles) = (core.numbering.clone(), core.profiles.clone());
    let watch = Watch::new(numbering, profiles, clock.clone(), config.delivery.alarm_age);
    tasks.spawn("limits", watch_limits(watch, stopped.clone()));
}

/// The port of the legacy interface.
struct Legacy {
    address: SocketAddr,
    listener: Arc<Listener>,
    tls: Arc<TlsState>,
    seal: Option<Arc<Seal>>,
    /// Until it runs.
    socket: Option<TcpListener>,
}

impl Legacy {
    /// None when it is not set up.
    async fn bind(
        config: &Config,
        pipeline: &Arc<Pipeline>,
        clock: Clock,
    ) -> Result<Option<Self>, BuildError> {
        let Some(address) = config.legacy_address else { return Ok(None) };
        let tls = TlsState::load_legacy(tls_files(config)).map_err(BuildError::Tls)?;
        let (tls, socket) = (Arc::new(tls), listen(address).await?);
        let source = |source| BuildError::Listen { address: address.to_string(), source };
        let address = socket.local_addr().map_err(source)?;
        let numbering = pipeline.numbering.clone();
        let api = Arc::<Pipeline>::clone(pipeline);
        let files = config
            .legacy_answer
            .as_ref()
            .map(|answer| SealFiles { certificate: answer.cert.clone(), key: answer.key.clone() });
        let seal = files.map(Seal::load).transpose().map_err(BuildError::Seal)?.map(Arc::new);
        let registry = Arc::new(move || numbering.registry());
        let edge = Edge::new(api, registry, clock, seal.clone());
        let listener = Listener::legacy(Arc::clone(&tls), Arc::new(edge), listener_limits(config));
        Ok(Some(Self { address, listener, tls, seal, socket: Some(socket) }))
    }

    fn run(mut self, tasks: &Tasks, stopped: &watch::Receiver<bool>) -> Self {
        if let Some(socket) = self.socket.take() {
            tasks.spawn("legacy listener", Arc::clone(&self.listener).run(socket));
            tasks.spawn("legacy certificates", Arc::clone(&self.tls).watch(stop_of(stopped)));
            if let Some(seal) = &self.seal {
                tasks.spawn("answer certificate", Arc::clone(seal).watch(stop_of(stopped)));
            }
        }
        self
    }
}

fn tls_files(config: &Config) -> TlsFiles {
    TlsFiles {
        certificate: config.tls.server_cert.clone(),
        key: config.tls.server_key.clone(),
        client_ca: config.tls.client_ca.clone(),
    }
}

fn delivery_settings(config: &Config) -> delivery::Settings {
    delivery::Settings {
        batch_max: config.delivery.batch_max,
        interval: config.delivery.interval,
        in_flight: config.delivery.in_flight,
        monitor_every: config.delivery.monitor_every,
    }
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

async fn watch_limits(mut watch: Watch, stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(WATCH_EVERY);
    let mut stop = std::pin::pin!(stop_of(&stopped));
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = every.tick() => drop(watch.look()),
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

    /// The way to the signers, for whoever runs the daemon in its own process: a device that no
    /// operator can add (a simulated one) is attached here.
    #[must_use]
    pub fn finisher(&self) -> &Arc<Finisher> {
        &self.finisher
    }

    /// Reads certificates again, for SIGHUP.
    pub fn reload(&self) {
        // What went wrong is logged and counted; the old certificates stay.
        drop(self.tls.reload());
        if let Some(legacy) = &self.legacy {
            drop(legacy.tls.reload());
            if let Some(seal) = &legacy.seal {
                drop(seal.reload());
            }
        }
    }

    /// Ends without losing a call: clients are told to go elsewhere, calls under way are answered,
    /// open claims are signed, then the books close.
    pub async fn drain(self) {
        tracing::info!("draining");
        self.health.not_serving().await;
        let legacy = async {
            match &self.legacy {
                Some(legacy) => legacy.listener.drain(self.drain_timeout).await,
                None => 0,
            }
        };
        let (cut, legacy) = tokio::join!(self.listener.drain(self.drain_timeout), legacy);
        let cut = cut.saturating_add(legacy);
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
