//! The acceptance simulator (受理端模拟器): a server of its own for `skproxy.authority.v1`, for demos,
//! tests and drills. It is never imported by a stage, and it imports none.
//!
//! What it accepted it remembers through restarts, and it checks every invoice on its own, so that
//! it can stand as a witness beside the proxy's books.

mod batch;
mod books;
mod call;
mod faults;
mod held;
mod judge;
mod monitor;
mod package;
mod periods;
mod receipt;
mod script;
mod segments;
mod server;
mod service;
mod simulator;
mod spoil;
mod status;
mod verify;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;

pub use faults::{Fault, Faults, Operation, Strike, menu, operations};
pub use held::Held;
pub use package::{ImportError, ImportedPackage, import_package};
pub use script::{Script, read_faults};
pub use server::{TlsFiles, serve};
pub use service::Acceptance;

use crate::{clock::Clock, tasks::spawn_detached};
use books::{Books, BooksError, Setting};
use call::House;
use held::Window;
use receipt::ReceiptKey;
use std::{
    fs,
    future::Future,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// Why the simulator does not run.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file was not read or written.
    #[error("use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The receipt key is none.
    #[error(
        "{} is no P-256 key; restore it from a backup (a new key needs new books)",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// A receipt was not signed.
    #[error("sign with the receipt key")]
    Sign,
    /// A PEM file was not read.
    #[error("read {} as PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The TLS files do not fit.
    #[error("set TLS up")]
    Tls {
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The books were not opened.
    #[error("open the books in {}", dir.display())]
    Books {
        /// Their directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The region is no region.
    #[error("region {region:?} is not four digits")]
    Region {
        /// What was given.
        region: String,
    },
    /// The script has more faults than may wait.
    #[error("take the faults of the script: {why}")]
    Faults {
        /// Why not.
        why: String,
    },
    /// The books were not read.
    #[error("read the books")]
    Read,
    /// The address is not to be had.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server failed.
    #[error("serve the acceptance service")]
    Serve {
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The server's task panicked.
    #[error("the acceptance server failed")]
    Panicked,
}

/// How the simulator runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where its books and receipt key are; made when missing.
    pub dir: PathBuf,
    /// Its TLS files.
    pub tls: TlsFiles,
    /// Region of the codes that it hands out, four digits, for example "4400".
    pub region: String,
    /// Its time.
    pub clock: Clock,
    /// How it behaves.
    pub script: Script,
}

/// The acceptance simulator.
#[derive(Debug)]
pub struct AuthoritySim;

impl AuthoritySim {
    /// Starts it in the background, for demos and tests.
    ///
    /// # Errors
    /// When the address, the TLS files, the books or the receipt key cannot be used.
    pub async fn start(options: Options) -> Result<RunningAuthority, AuthorityError> {
        let faults = Arc::new(Faults::default());
        let waiting = options.script.faults.iter().cloned();
        faults.extend(waiting).map_err(|why| AuthorityError::Faults { why })?;
        let tls = options.tls.load()?;
        let listen = |source| AuthorityError::Listen { address: options.address, source };
        let (service, receipt_key_der) = open(&options, Arc::clone(&faults))?;
        let listener = TcpListener::bind(options.address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let house = service.house.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (report, result) = oneshot::channel();
        let task = spawn_detached(async move {
            // Ends when the handle is stopped or dropped.
            let shutdown = async move { drop(stopped.await) };
            // Nobody may be left to hear it when the handle was dropped.
            drop(report.send(serve(listener, tls, service, shutdown).await));
        });
        Ok(RunningAuthority { address, receipt_key_der, faults, house, stop, result, task })
    }

    /// Runs it until `shutdown` ends, for `skproxy authority-sim`. `ready` hears the address and
    /// the receipt key once it serves.
    ///
    /// # Errors
    /// As `start`, and when the server fails.
    pub async fn run(
        options: Options,
        shutdown: impl Future<Output = ()> + Send,
        ready: impl FnOnce(&RunningAuthority),
    ) -> Result<(), AuthorityError> {
        let mut running = Self::start(options).await?;
        tracing::info!(address = %running.address, "acceptance simulator ready");
        ready(&running);
        tokio::select! {
            () = shutdown => running.stop().await,
            result = &mut running.result => result.unwrap_or(Err(AuthorityError::Panicked)),
        }
    }
}

/// Opens the books and the receipt key. Short and once, so it may block the starting task.
fn open(options: &Options, faults: Arc<Faults>) -> Result<(Acceptance, Vec<u8>), AuthorityError> {
    let region = options.region.clone();
    if region.len() != 4 || !region.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AuthorityError::Region { region });
    }
    let dir: &Path = &options.dir;
    fs::create_dir_all(dir)
        .map_err(|source| AuthorityError::File { path: dir.to_owned(), source })?;
    let receipt_key = ReceiptKey::open(dir)?;
    let public_der = receipt_key.public_der.clone();
    let setting = Setting {
        clock: options.clock.clone(),
        region,
        monitors: options.script.monitors.clone(),
        skew_s: options.script.clock_skew_s,
    };
    let books = Books::open(dir, receipt_key, setting).map_err(|source: BooksError| {
        AuthorityError::Books { dir: dir.to_owned(), source: source.into() }
    })?;
    let house = House::new(books, faults, options.script.judging);
    Ok((Acceptance { house }, public_der))
}

/// A simulator that runs in the background; it stops when this is dropped.
#[derive(Debug)]
pub struct RunningAuthority {
    /// Where it listens.
    pub address: SocketAddr,
    /// SubjectPublicKeyInfo of its receipt key (P-256), DER; also in `receipt-key.der` of its
    /// directory.
    pub receipt_key_der: Vec<u8>,
    /// Its fault switches.
    pub faults: Arc<Faults>,
    house: House,
    stop: oneshot::Sender<()>,
    result: oneshot::Receiver<Result<(), AuthorityError>>,
    task: JoinHandle<()>,
}

impl RunningAuthority {
    /// Everything that it holds, ascending by code and number, so that a drill can compare invoice
    /// by invoice.
    ///
    /// # Errors
    /// `Read` when the books fail.
    pub async fn ledger(&self) -> Result<Vec<Held>, AuthorityError> {
        let mut all = Vec::new();
        let keep = |page: Vec<Held>| {
            all.extend(page);
            std::future::ready(true)
        };
        let read = self.house.pages(Window::all(), keep).await;
        read.map(|()| all).map_err(|_| AuthorityError::Read)
    }

    /// Ends the judging of every batch: receipts that were to come later are there.
    ///
    /// # Errors
    /// `Read` when the books fail.
    pub async fn end_judging(&self) -> Result<(), AuthorityError> {
        self.house.work(|books| books.end_judging()).await.map_err(|_| AuthorityError::Read)
    }

    /// Stops it and waits until running calls are answered, at most five seconds. Calls that a
    /// fault holds fail.
    ///
    /// # Errors
    /// When the server had failed.
    pub async fn stop(self) -> Result<(), AuthorityError> {
        self.faults.stop();
        drop(self.stop);
        self.task.await.map_err(|_| AuthorityError::Panicked)?;
        self.result.await.unwrap_or(Err(AuthorityError::Panicked))
    }
}
