//! The simulator of a networked tax-control server (税控服务器模拟器, SKServer), with a fault menu:
//! for tests, drills and integrators. It is never imported by a stage, and it imports none.
//!
//! Invariant: what it issued is on disk before it is answered, and outlives every restart, so that
//! it can stand as a judge beside the proxy's books.

mod devices;
mod faults;
mod memory;
mod operations;
mod rules;
mod server;
mod wire;

#[cfg(test)]
mod tests;

pub use faults::{Chance, Change, Fault, Faults, Strike};

use crate::{
    clock::Clock,
    tasks::spawn_detached,
    transport::{TlsError, certificates, private_key, provider},
};
use memory::Memory;
use operations::Operations;
use rustls::{
    ServerConfig,
    version::{TLS12, TLS13},
};
use server::Server;
use std::{
    fs,
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// Why the simulator does not run.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A file was not read or its folder not made.
    #[error("use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The devices file is wrong.
    #[error("{}:\n{mistakes}", path.display())]
    Devices {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it, a line each.
        mistakes: String,
    },
    /// The state file was not opened: it is no such file, or another process has it.
    #[error("open the state file {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A PEM file was not read.
    #[error("set TLS up")]
    Pem {
        /// Why.
        #[source]
        source: TlsError,
    },
    /// The certificate and the key do not fit.
    #[error("set TLS up")]
    Tls {
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The address is not to be had.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server's task panicked.
    #[error("the simulator failed")]
    Panicked,
}

/// How the simulator runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Its devices, TOML as in `deploy/skserver-sim.toml`.
    pub devices: PathBuf,
    /// Its state, a SQLite file; made when missing.
    pub state: PathBuf,
    /// Certificate chain and key, PEM; HTTP without them.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Its devices' time.
    pub clock: Clock,
}

/// A simulator that runs in the background; it stops when this is dropped.
#[derive(Debug)]
pub struct RunningSim {
    /// Where it listens.
    pub address: SocketAddr,
    /// The address that a device's settings name.
    pub url: String,
    /// Its fault menu.
    pub faults: Arc<Faults>,
    task: JoinHandle<()>,
}

impl Drop for RunningSim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts it in the background.
///
/// # Errors
/// When the devices, the state, the TLS files or the address cannot be used.
pub async fn start(options: &Options) -> Result<RunningSim, SimError> {
    let path = &options.devices;
    let file = |source| SimError::File { path: path.clone(), source };
    let text = fs::read_to_string(path).map_err(file)?;
    let devices = devices::read(&text)
        .map_err(|mistakes| SimError::Devices { path: path.clone(), mistakes })?;
    let memory = open(&options.state)?;
    let tls = options.tls.as_ref().map(|(cert, key)| acceptor(cert, key)).transpose()?;
    let listen = |source| SimError::Listen { address: options.address, source };
    let listener = TcpListener::bind(options.address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}{}", server::PATH);
    let faults = Arc::new(Faults::default());
    let operations = Operations::new(devices, memory, options.clock.clone());
    let server = Arc::new(Server::new(operations, Arc::clone(&faults)));
    let task = spawn_detached(server.serve(listener, tls));
    Ok(RunningSim { address, url, faults, task })
}

/// Runs it until `shutdown` ends. `ready` hears the address once it serves, and may fill the fault
/// menu.
///
/// # Errors
/// As `start`, and when the server fails.
pub async fn run(
    options: &Options,
    shutdown: impl Future<Output = ()> + Send,
    ready: impl FnOnce(&RunningSim),
) -> Result<(), SimError> {
    let mut running = start(options).await?;
    tracing::info!(address = %running.address, "tax server simulator ready");
    ready(&running);
    tokio::select! {
        () = shutdown => Ok(()),
        // It accepts for ever.
        _ = &mut running.task => Err(SimError::Panicked),
    }
}

fn open(path: &Path) -> Result<Memory, SimError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)
            .map_err(|source| SimError::File { path: folder.to_owned(), source })?;
    }
    Memory::open(path)
        .map_err(|source| SimError::State { path: path.to_owned(), source: source.into() })
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, SimError> {
    let pem = |source| SimError::Pem { source };
    let tls = |source| SimError::Tls { source };
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(certificates(certificate).map_err(pem)?, private_key(key).map_err(pem)?)
        .map_err(tls)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
