//! The acceptance simulator's own small mTLS server. It shares nothing with the proxy's listener,
//! so that a fault in one cannot hide in the other.

use super::{AuthorityError, service::Acceptance, simulator::Controls};
use crate::{
    pb::authority::v1::{
        acceptance_service_server::AcceptanceServiceServer,
        simulator_service_server::SimulatorServiceServer,
    },
    tasks::spawn_detached,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Server, server::Connected};

/// A peer that has not finished its handshake by then is cut off.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at a time; more wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 64;
/// Accepted connections that wait for the server to take them.
const ACCEPTED_MAX: usize = 16;
/// Largest message: 1000 invoices of 100 long lines. Unit: bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// How long running calls may take after the stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after a failed accept (no file descriptor left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the server's TLS files are, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA of the proxies' client certificates.
    pub client_ca: PathBuf,
    /// The server's certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// TLS 1.3 with client certificates and no session resumption, which would skip the verifier.
    ///
    /// # Errors
    /// `Pem` when a file does not read, `Tls` when its content does not fit.
    pub fn load(&self) -> Result<Arc<ServerConfig>, AuthorityError> {
        let tls = |source| AuthorityError::Tls { source };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for cert in certificates(&self.client_ca)? {
            roots.add(cert).map_err(tls)?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| tls(rustls::Error::General(error.to_string())))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(pem_error(&self.key))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.cert)?, key)
            .map_err(tls)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(pem_error(path))
}

fn pem_error(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> AuthorityError {
    move |source| AuthorityError::Pem { path: path.to_owned(), source: Box::new(source) }
}

/// Serves until `shutdown` ends, then lets running calls finish for at most five seconds.
///
/// # Errors
/// `Serve` when the HTTP/2 server fails.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    service: Acceptance,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AuthorityError> {
    let (accepted, incoming) = mpsc::channel(ACCEPTED_MAX);
    let accepting = spawn_detached(accept(listener, TlsAcceptor::from(tls), accepted));
    let controls = SimulatorServiceServer::new(Controls { house: service.house.clone() });
    let service =
        AcceptanceServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (stopping, stopped) = oneshot::channel::<()>();
    let signal = async move {
        shutdown.await;
        drop(stopping);
    };
    let running = Server::builder()
        .add_service(service)
        .add_service(controls)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), signal);
    let late = async {
        // Ends when the sender is dropped, which is the stop.
        drop(stopped.await);
        tokio::time::sleep(DRAIN).await;
    };
    let served = tokio::select! {
        served = running => served,
        () = late => Ok(()),
    };
    accepting.abort();
    served.map_err(|source| AuthorityError::Serve { source })
}

/// Accepts until the server stops taking connections. A slow handshake holds up nobody else.
async fn accept(listener: TcpListener, tls: TlsAcceptor, accepted: mpsc::Sender<io::Result<Peer>>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await {
        let stream = tokio::select! {
            () = accepted.closed() => return,
            stream = listener.accept() => stream,
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, accepted) = (tls.clone(), accepted.clone());
        spawn_detached(async move {
            match timeout(HANDSHAKE, shake_hands(tls, stream)).await {
                // A closed channel is the stop; the connection is dropped with it.
                Ok(Ok(peer)) => drop(accepted.send(Ok(peer)).await),
                Ok(Err(error)) => tracing::debug!(%error, "handshake failed"),
                Err(_) => tracing::debug!("handshake took too long"),
            }
            drop(permit);
        });
    }
}

async fn shake_hands(tls: TlsAcceptor, stream: TcpStream) -> io::Result<Peer> {
    stream.set_nodelay(true)?;
    Ok(Peer { stream: tls.accept(stream).await?, line: Line::default() })
}

/// A connection as its calls see it: they can cut it off.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<LineState>);

#[derive(Debug, Default)]
struct LineState {
    cut: AtomicBool,
    /// Whoever waits for bytes, to be told of the cut.
    reader: Mutex<Option<Waker>>,
}

impl Line {
    /// Resets the connection; every call on it fails.
    pub(super) fn cut(&self) {
        self.0.cut.store(true, Ordering::SeqCst);
        let reader = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::SeqCst)
    }

    fn check(&self) -> io::Result<()> {
        if self.is_cut() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

/// A connection whose client certificate is verified.
struct Peer {
    stream: TlsStream<TcpStream>,
    line: Line,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.line.is_cut()
            && let Err(error) = self.stream.get_ref().0.set_zero_linger()
        {
            tracing::debug!(%error, "the connection ends without a reset");
        }
    }
}

impl Connected for Peer {
    type ConnectInfo = Line;

    fn connect_info(&self) -> Line {
        self.line.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Registered before it is checked, so that no cut goes unseen.
        let waker = context.waker().clone();
        self.line.0.reader.lock().unwrap_or_else(PoisonError::into_inner).replace(waker);
        self.line.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
