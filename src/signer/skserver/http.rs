//! One keep-alive HTTP/1.1 connection to a tax server, used by one plain thread. Knows no XML.
//!
//! Invariants: whoever hears `NotSent` may be sure that no byte of the request was written; a
//! connection that has seen a failure, a deadline or an unexpected byte is never used again, so
//! that a late answer meets no other request.

use super::config::{Address, Scheme, SkServerConfig};
use crate::{
    clock,
    refusal::chain,
    transport::{TlsError, provider, roots},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::yield_now,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Longest answer. Unit: bytes. The longest known, a stock of hundreds of segments, has 100 KiB.
const ANSWER_MAX: usize = 1 << 20;
/// Longest head of an answer. Unit: bytes.
const HEAD_MAX: usize = 64 << 10;
/// A connection that was idle for longer is replaced: servers close idle ones after 5 s and more,
/// and a request that meets the close would be in doubt for nothing.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No byte of the request was written.
    NotSent(String),
    /// The request may have arrived.
    Lost(String),
}

/// Whether a request may be sent a second time when its first answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes something.
    Never,
    /// It asks something.
    Once,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes; `None` when the connection is over.
    driver: Option<Driver>,
    idle_since: Instant,
}

/// The way to one server.
pub(super) struct Link {
    /// Taken only when this is dropped.
    runtime: Option<Runtime>,
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connection: Option<Connection>,
    /// Bytes of the current request handed to the connection.
    written: Arc<AtomicUsize>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Link {
    /// Reads the settings; connects with the first call.
    ///
    /// # Errors
    /// What is wrong with the address, the CA or the machine.
    pub(super) fn new(config: &SkServerConfig) -> Result<Self, String> {
        let address = Address::parse(&config.url)?;
        let tls = match address.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(tls(config, &address)?),
        };
        // A runtime of the session's own: its thread is blocked in here anyway, and no other
        // session, nor the daemon's drain, can hold up a call that is under way.
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("start a runtime: {error}"))?;
        let written = Arc::default();
        Ok(Self { runtime: Some(runtime), address, tls, connection: None, written })
    }

    /// Sends one request and reads its answer, both before `deadline`.
    ///
    /// # Errors
    /// `Failure`.
    pub(super) fn call(
        &mut self,
        body: &Bytes,
        deadline: Instant,
        repeat: Repeat,
    ) -> Result<Bytes, Failure> {
        let reused = self.connection.is_some();
        let result = self.attempt(body, deadline);
        let may_repeat = match &result {
            Err(Failure::NotSent(_)) => reused,
            Err(Failure::Lost(_)) => reused && repeat == Repeat::Once,
            Ok(_) => false,
        };
        // A timer of no time at all still lets a quick server answer: the deadline says when to
        // stop, not the second attempt.
        if may_repeat && clock::monotonic() < deadline {
            return self.attempt(body, deadline);
        }
        result
    }

    /// Ends the connection; the next call makes a new one.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    fn attempt(&mut self, body: &Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        self.written.store(0, Ordering::SeqCst);
        let left = deadline.saturating_duration_since(clock::monotonic());
        let kept = self.connection.take();
        let kept = kept.filter(|kept| kept.idle_since.elapsed() <= IDLE_MAX);
        let Some(runtime) = &self.runtime else {
            return Err(Failure::NotSent("the session is over".into()));
        };
        // On a deadline the future is dropped, and the connection with it.
        let result = runtime.block_on(async {
            match timeout(left, self.exchange(kept, body.clone())).await {
                Ok(result) => result,
                Err(_) => Err("no answer within the deadline".to_owned()),
            }
        });
        match result {
            Ok((answer, connection)) => {
                self.connection = connection;
                Ok(answer)
            }
            Err(detail) if self.written.load(Ordering::SeqCst) == 0 => {
                Err(Failure::NotSent(detail))
            }
            Err(detail) => Err(Failure::Lost(detail)),
        }
    }

    async fn exchange(
        &self,
        kept: Option<Connection>,
        body: Bytes,
    ) -> Result<(Bytes, Option<Connection>), String> {
        let kept = match kept {
            Some(kept) => kept.checked().await,
            None => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let request = http::Request::post(&self.address.path)
            .header(http::header::HOST, &self.address.authority)
            .header(http::header::CONTENT_TYPE, "text/xml; charset=GBK")
            .body(Full::new(body))
            .map_err(|error| format!("make the request: {error}"))?;
        let driver = &mut connection.driver;
        let sent = drive(driver, connection.sender.send_request(request)).await;
        let response = sent.map_err(|error| format!("send the request: {}", chain(&error)))?;
        let status = response.status();
        if status != http::StatusCode::OK {
            return Err(format!("it answers with HTTP status {}", status.as_u16()));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect();
        let body = drive(driver, body).await;
        let body = body.map_err(|error| format!("read the answer: {}", chain(error.as_ref())))?;
        connection.idle_since = clock::monotonic();
        let keeps = connection.driver.is_some();
        Ok((body.to_bytes(), keeps.then_some(connection)))
    }

    async fn connect(&self) -> Result<Connection, String> {
        let target = (self.address.host.as_str(), self.address.port);
        let failed = |error: io::Error| format!("connect: {error}");
        let stream = TcpStream::connect(target).await.map_err(failed)?;
        // Without it a second small segment waits for an acknowledgement.
        stream.set_nodelay(true).map_err(failed)?;
        match &self.tls {
            None => self.handshake(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                self.handshake(stream.map_err(|error| format!("TLS: {error}"))?).await
            }
        }
    }

    async fn handshake<T>(&self, stream: T) -> Result<Connection, String>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let counted = Counted { inner: stream, written: Arc::clone(&self.written) };
        let made = http1::Builder::new()
            .max_buf_size(HEAD_MAX)
            .handshake(TokioIo::new(counted))
            .await
            .map_err(|error| format!("open the connection: {}", chain(&error)))?;
        let (sender, driver) = made;
        let driver: Driver = Box::pin(driver);
        Ok(Connection { sender, driver: Some(driver), idle_since: clock::monotonic() })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A runtime must not be dropped where tasks run, as at the daemon's end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Connection {
    /// The connection, unless the server has closed it or said something unasked meanwhile.
    async fn checked(mut self) -> Option<Self> {
        // Lets the runtime hear of what arrived while no call ran.
        yield_now().await;
        let driver = self.driver.as_mut()?;
        let over =
            std::future::poll_fn(|context| Poll::Ready(driver.as_mut().poll(context).is_ready()));
        (!over.await && self.sender.is_ready()).then_some(self)
    }
}

/// Waits for `wanted` while the connection moves its bytes.
async fn drive<F: Future>(driver: &mut Option<Driver>, wanted: F) -> F::Output {
    let mut wanted = pin!(wanted);
    while let Some(running) = driver {
        tokio::select! {
            biased;
            output = &mut wanted => return output,
            _ = running => *driver = None,
        }
    }
    // Its connection is over, so it has its answer or its error.
    wanted.await
}

fn tls(
    config: &SkServerConfig,
    address: &Address,
) -> Result<(TlsConnector, ServerName<'static>), String> {
    let ca = config.ca.as_deref().ok_or("https needs the server's CA")?;
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| "the address names no host that a certificate can name".to_owned())?;
    let failed = |error: TlsError| chain(&error);
    // Tax servers of 2015 know no TLS 1.3; nothing of the older one's weak choices is offered.
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(ca).map_err(failed)?)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(client)), name))
}

/// Counts what is written. It stands above TLS, so that a handshake is no byte of a request.
struct Counted<T> {
    inner: T,
    written: Arc<AtomicUsize>,
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        // A failed write may have left some; only one that is to be tried again left none.
        if result.is_ready() {
            self.written.fetch_add(bytes.len(), Ordering::SeqCst);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}
