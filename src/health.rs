//! The ops port: `/metrics`, `/livez` and `/readyz` over plain HTTP, meant for the loopback
//! address. It says nothing about callers and changes nothing.

use crate::{metrics::Exporter, tasks};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, fmt, future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

/// Connections at once: a scraper, a probe and an operator need few.
const CONNECTIONS_MAX: usize = 32;

/// How long a request's headers may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may stand; scrapers come back.
const CONNECTION_AGE: Duration = Duration::from_secs(300);

/// Pause after accept failed.
const BACKOFF: Duration = Duration::from_millis(200);

/// Whether calls are taken, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Readiness {
    /// Whether calls are taken.
    pub ready: bool,
    /// What stands against it, for people; may name what is worth knowing while ready.
    pub reasons: Vec<String>,
}

/// Asks for the state of the daemon; called for each `/readyz`, so it must be quick.
pub type Probe = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// The ops port.
#[derive(Clone)]
pub struct Ops {
    exporter: Exporter,
    probe: Probe,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").finish_non_exhaustive()
    }
}

impl Ops {
    /// Serves what `exporter` measured and what `probe` says.
    #[must_use]
    pub fn new(exporter: Exporter, probe: Probe) -> Self {
        Self { exporter, probe }
    }

    /// Serves until `stop`, then closes the socket. Connections end by themselves.
    pub async fn run(self, socket: TcpListener, stop: impl Future<Output = ()> + Send) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.admit(stream, &slots),
                Err(error) => {
                    tracing::warn!(%error, "no connection to the ops port can be accepted");
                    tokio::select! {
                        () = &mut stop => return,
                        () = sleep(BACKOFF) => {}
                    }
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, slots: &Arc<Semaphore>) {
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            tracing::warn!("too many connections to the ops port");
            return;
        };
        let ops = self.clone();
        drop(tasks::spawn_detached(async move {
            let service = service_fn(move |request| {
                let ops = ops.clone();
                async move { Ok::<_, Infallible>(ops.answer(&request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // How such a connection ends is of no interest.
            drop(tokio::time::timeout(CONNECTION_AGE, connection).await);
            drop(slot);
        }));
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n");
        }
        match request.uri().path() {
            "/livez" => page(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => ready((self.probe)()),
            "/metrics" => self.render().await,
            _ => page(StatusCode::NOT_FOUND, TEXT, "not found\n"),
        }
    }

    async fn render(&self) -> Response<Full<Bytes>> {
        let exporter = self.exporter.clone();
        match tokio::task::spawn_blocking(move || exporter.render()).await {
            Ok(text) => page(StatusCode::OK, METRICS, text),
            Err(error) => {
                tracing::error!(%error, "metrics not rendered");
                page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "metrics not rendered\n")
            }
        }
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

fn ready(readiness: Readiness) -> Response<Full<Bytes>> {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = serde_json::json!(readiness).to_string();
    page(status, JSON, text)
}

fn page(status: StatusCode, kind: HeaderValue, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
