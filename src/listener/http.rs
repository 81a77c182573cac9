//! HTTP/1.1 for the legacy edge: one POST, one answer, or the connection ends unanswered.

use crate::{clock, identity::PeerCertificate, metrics::metrics};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

/// How long a caller may take to send its message.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// An answer to a POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Its Content-Type.
    pub content_type: String,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// What answers the POSTs of one port.
#[tonic::async_trait]
pub trait HttpApi: Send + Sync + std::fmt::Debug + 'static {
    /// Whether something is served at `path`.
    fn knows(&self, path: &str) -> bool;

    /// Longest message. Unit: bytes.
    fn body_len_max(&self) -> usize;

    /// Answers one message; `None` ends the connection unanswered.
    async fn post(&self, peer: PeerCertificate, path: &str, body: Bytes) -> Option<HttpAnswer>;
}

/// One connection's service.
#[derive(Debug, Clone)]
pub(super) struct HttpService {
    api: Arc<dyn HttpApi>,
    peer: PeerCertificate,
}

impl HttpService {
    pub(super) fn new(api: Arc<dyn HttpApi>, peer: PeerCertificate) -> Self {
        Self { api, peer }
    }
}

type Answered = Pin<Box<dyn Future<Output = io::Result<Response<Full<Bytes>>>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for HttpService {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = Answered;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.answer(request).await })
    }
}

impl HttpService {
    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        if !self.api.knows(&path) {
            return Ok(plain(StatusCode::NOT_FOUND, "no such service"));
        }
        if request.method() != Method::POST {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "POST the message");
            answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
            return Ok(answer);
        }
        let body = Limited::new(request.into_body(), self.api.body_len_max()).collect();
        let body = match tokio::time::timeout(BODY_LIMIT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the message is too long"));
            }
            Ok(Err(error)) => return Err(io::Error::other(error)),
            Err(_) => return Ok(plain(StatusCode::REQUEST_TIMEOUT, "the message came too slowly")),
        };
        let begun = clock::monotonic();
        let answer = self.api.post(self.peer, &path, body).await;
        metrics().call_duration.of("Legacy").record(begun.elapsed());
        match answer {
            Some(HttpAnswer { content_type, body }) => Response::builder()
                .header(header::CONTENT_TYPE, content_type)
                .body(Full::new(body.into()))
                .map_err(io::Error::other),
            None => Err(io::Error::other("in doubt: the caller is not answered")),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}
