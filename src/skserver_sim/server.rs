//! The simulated server's own HTTP and HTTPS listener: one path for devices, two for admin calls.
//! Acts out the faults of the transport. It shares nothing with the proxy's listener or client.

use super::{
    faults::{Change, Fault, Faults},
    operations::Operations,
    wire::{self, Refused, Request},
};
use crate::{
    tasks::{Group, spawn_detached},
    xml::Charset,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// Where devices are.
pub(super) const PATH: &str = "/SKServer/SKDo";
/// Longest message. Unit: bytes.
const MESSAGE_MAX: usize = 2 << 20;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 1024;
/// A peer that has not finished its TLS handshake, or a request's head, by then is cut off.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection is held whose answer is dropped.
const SILENCE: Duration = Duration::from_secs(600);
/// Pause after a failed accept (no file descriptor left), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a request is answered with.
enum Reply {
    Answer(Vec<u8>),
    Status(http::StatusCode),
    /// Nothing, on an open connection.
    Silence,
    /// Nothing, and the connection is cut.
    Reset,
}

/// The connection is cut instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the fault menu cuts the connection")]
struct Cut;

/// The server's state.
#[derive(Debug)]
pub(super) struct Server {
    operations: Operations,
    faults: Arc<Faults>,
    /// The last answer of each operation, for those that come twice.
    previous: Mutex<HashMap<String, String>>,
}

impl Server {
    pub(super) fn new(operations: Operations, faults: Arc<Faults>) -> Self {
        Self { operations, faults, previous: Mutex::default() }
    }

    /// Accepts until it is dropped; connections end with it.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = Group::new();
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while connections.try_join_next().is_some() {}
            let (server, tls) = (Arc::clone(&self), tls.clone());
            connections.spawn(async move {
                if let Err(error) = server.connection(stream, tls).await {
                    tracing::debug!(%error, "a connection ended");
                }
                drop(slot);
            });
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        stream.set_nodelay(true)?;
        let cut = Arc::new(AtomicBool::new(false));
        let stream = Cuttable { inner: stream, cut: Arc::clone(&cut) };
        match tls {
            None => self.requests(stream, cut).await,
            Some(tls) => {
                let stream = timeout(HANDSHAKE, tls.accept(stream)).await??;
                self.requests(stream, cut).await
            }
        }
    }

    async fn requests<T>(
        self: Arc<Self>,
        stream: T,
        cut: Arc<AtomicBool>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let (server, cut) = (Arc::clone(&self), Arc::clone(&cut));
            async move {
                let response = server.request(request).await;
                if response.is_err() {
                    cut.store(true, Ordering::SeqCst);
                }
                response
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        Ok(served?)
    }

    async fn request(
        self: Arc<Self>,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, Cut> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MESSAGE_MAX).collect().await else {
            return Ok(status(http::StatusCode::PAYLOAD_TOO_LARGE));
        };
        let body = body.to_bytes();
        match (head.method, head.uri.path()) {
            (http::Method::POST, PATH) => match self.answer(&body).await {
                Reply::Answer(bytes) => Ok(response("text/xml; charset=GBK", bytes)),
                Reply::Status(code) => Ok(status(code)),
                Reply::Reset => Err(Cut),
                Reply::Silence => {
                    tokio::time::sleep(SILENCE).await;
                    Err(Cut)
                }
            },
            (http::Method::POST, "/sim/faults") => Ok(self.change(&body)),
            (http::Method::GET, "/sim/faults") => Ok(json(&self.faults.pending())),
            (http::Method::GET, "/sim/issued") => Ok(self.issued()),
            (_, PATH | "/sim/faults" | "/sim/issued") => {
                Ok(status(http::StatusCode::METHOD_NOT_ALLOWED))
            }
            _ => Ok(status(http::StatusCode::NOT_FOUND)),
        }
    }

    fn change(&self, body: &[u8]) -> http::Response<Full<Bytes>> {
        let change = serde_json::from_slice::<Change>(body).map_err(|error| error.to_string());
        match change.and_then(|change| self.faults.change(change)) {
            Ok(()) => json(&self.faults.pending()),
            Err(error) => {
                let mut response = json(&serde_json::json!({ "error": error }));
                *response.status_mut() = http::StatusCode::BAD_REQUEST;
                response
            }
        }
    }

    fn issued(&self) -> http::Response<Full<Bytes>> {
        match self.operations.all() {
            Ok(all) => json(&all),
            Err(error) => {
                tracing::error!(%error, "the state file cannot be read");
                status(http::StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    async fn answer(self: &Arc<Self>, body: &Bytes) -> Reply {
        let text = match wire::decoded(body) {
            Ok(text) => text,
            Err(refused) => return Reply::Answer(refusal(&refused)),
        };
        let id = match Request::read(&text) {
            Ok(request) => request.id,
            Err(refused) => return Reply::Answer(refusal(&refused)),
        };
        let fault = self.faults.next(&id);
        if fault != Fault::None {
            tracing::info!(operation = id, ?fault, "the fault menu strikes");
        }
        match fault {
            Fault::DropRequest => return Reply::Silence,
            Fault::ResetBefore => return Reply::Reset,
            Fault::Http500 => return Reply::Status(http::StatusCode::INTERNAL_SERVER_ERROR),
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Late(time) => {
                let (server, text) = (Arc::clone(self), text.clone());
                drop(spawn_detached(async move {
                    tokio::time::sleep(time).await;
                    // Whoever asked has gone.
                    drop(server.perform(&text, Fault::None));
                }));
                return Reply::Silence;
            }
            _ => {}
        }
        let before = self.previous().get(&id).cloned();
        let done = self.perform(&text, fault);
        self.previous().insert(id, done.clone());
        match fault {
            Fault::DropAnswer => Reply::Silence,
            Fault::ResetAfter => Reply::Reset,
            Fault::Http500After => Reply::Status(http::StatusCode::INTERNAL_SERVER_ERROR),
            Fault::Garbage => Reply::Answer(b"<business><body><returncode>0".to_vec()),
            // UTF-8 under a declaration that says gbk.
            Fault::WrongEncoding => Reply::Answer(done.into_bytes()),
            Fault::AnswerTwice => Reply::Answer(Charset::Gbk.encode(&before.unwrap_or(done))),
            _ => Reply::Answer(Charset::Gbk.encode(&done)),
        }
    }

    fn previous(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.previous.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer's text. Requests are short and devices slow, so it may block its task.
    fn perform(&self, text: &str, fault: Fault) -> String {
        let request = match Request::read(text) {
            Ok(request) => request,
            Err(Refused(code, why)) => return wire::text(("", ""), (code, &why), |_| {}),
        };
        let about = (request.id.as_str(), request.comment.as_str());
        match fault {
            Fault::Locked => return wire::text(about, ("0x0963c0", "PIN locked"), |_| {}),
            Fault::Busy => return wire::text(about, ("-10314", "税盘正在被使用"), |_| {}),
            _ => {}
        }
        match self.operations.perform(&request, fault) {
            Ok(_) if fault == Fault::UnknownCode => {
                wire::text(about, ("31337", "未知错误"), |_| {})
            }
            Ok(data) => wire::text(about, ("0", "成功"), data),
            Err(Refused(code, why)) => wire::text(about, (code, &why), |_| {}),
        }
    }
}

/// The answer to what is no request.
fn refusal(Refused(code, why): &Refused) -> Vec<u8> {
    Charset::Gbk.encode(&wire::text(("", ""), (code, why), |_| {}))
}

fn response(content_type: &'static str, body: Vec<u8>) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::new(Full::new(body.into()));
    let value = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    response
}

fn json(value: &impl serde::Serialize) -> http::Response<Full<Bytes>> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    response("application/json", text)
}

fn status(code: http::StatusCode) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::new(Full::default());
    *response.status_mut() = code;
    response
}

/// A connection that can end with a reset instead of a farewell.
struct Cuttable {
    inner: TcpStream,
    cut: Arc<AtomicBool>,
}

impl Drop for Cuttable {
    fn drop(&mut self) {
        if self.cut.load(Ordering::SeqCst)
            && let Err(error) = self.inner.set_zero_linger()
        {
            tracing::debug!(%error, "the connection ends without a reset");
        }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
