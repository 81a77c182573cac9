//! What every call gets on its way in and out: its connection's certificate, its deadline, a
//! request id on the answer, a slot for the undecoded message, and a refusal in place of a panic.

use crate::{
    clock,
    identity::PeerCertificate,
    metrics::metrics,
    pb::codec,
    refusal::{Reason, Refusal},
    status,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service as _;
use tracing::Instrument as _;

/// Carries the request id on every answer: 16 characters `0-9A-Z`. Support asks for it.
pub const REQUEST_ID_HEADER: &str = "skproxy-request-id";

/// Length of a request id.
const REQUEST_ID_LEN: usize = 16;

/// The longest a caller may wait, and the wait of one who says nothing.
const DEADLINE_MAX: Duration = Duration::from_secs(30);

/// Time kept back so that the answer can travel; a tenth of the deadline when that is less.
const DEADLINE_MARGIN: Duration = Duration::from_millis(50);

/// How long a call may take from now: the caller's `grpc-timeout` less the margin, 0 to 30 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallDeadline(pub Duration);

/// When the caller of a streaming call gives it up: its `grpc-timeout`; none when it did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamDeadline(pub Option<Instant>);

/// Streaming calls at once on a connection. Each may hold 64 answers that nobody reads, so this
/// bounds what one connection can make the proxy keep.
const STREAMING_MAX: usize = 16;

/// What a streaming call must know of its connection.
#[derive(Debug, Clone)]
pub struct Streams {
    closing: watch::Receiver<bool>,
    slots: Arc<Semaphore>,
}

impl Streams {
    /// Of a connection that `closing` says the end of.
    #[must_use]
    pub fn new(closing: watch::Receiver<bool>) -> Self {
        Self { closing, slots: Arc::new(Semaphore::new(STREAMING_MAX)) }
    }

    /// Waits until the connection is going away.
    pub(super) async fn closing(&self) {
        // An error means that the connection is gone already.
        drop(self.closing.clone().wait_for(|closing| *closing).await);
    }

    /// A place for one more streaming call.
    ///
    /// # Errors
    /// `SessionLimit`.
    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let hint = format!("a connection takes {STREAMING_MAX} streaming calls at once");
            Refusal::new(Reason::SessionLimit, hint)
        })
    }
}

/// One connection's service: adds what its calls need and hands them to the routes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerService {
    routes: Routes,
    peer: PeerCertificate,
    streams: Streams,
}

impl PeerService {
    /// Serves `routes` to the holder of `peer`, over the connection of `streams`.
    #[must_use]
    pub fn new(routes: Routes, peer: PeerCertificate, streams: Streams) -> Self {
        Self { routes, peer, streams }
    }
}

impl<B> hyper::service::Service<Request<B>> for PeerService
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        let id = clock::random_text(REQUEST_ID_LEN);
        let ours = request.uri().path().starts_with("/skproxy.");
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let duration = metrics().call_duration.of(name);
        let span = tracing::debug_span!("call", request_id = %id, call = known_call(name));
        let deadline = CallDeadline(deadline(request.headers()));
        let until = timeout(request.headers()).and_then(|at| clock::monotonic().checked_add(at));
        request.extensions_mut().insert(self.peer.clone());
        request.extensions_mut().insert(deadline);
        request.extensions_mut().insert(StreamDeadline(until));
        request.extensions_mut().insert(self.streams.clone());
        let mut routes = self.routes.clone();
        let call = async move {
            let started = clock::monotonic();
            // The call itself runs under the guard too: routing may panic as well as a handler.
            let call = async { codec::with_raw_message(routes.call(request)).await };
            let response = match caught(call).await {
                Some(Ok(response)) if ours => explained(response),
                Some(Ok(response)) => response,
                None => panicked(&id),
            };
            let response = identified(response, &id);
            metrics().answers.of(code_name(code(response.headers()))).increment(1);
            duration.record(started.elapsed());
            Ok(response)
        };
        Box::pin(call.instrument(span))
    }
}

fn known_call(name: &str) -> &'static str {
    let known = crate::metrics::CALLS.iter().find(|known| **known == name);
    known.copied().unwrap_or("other")
}

/// Runs `call`; `None` when it panicked.
pub(super) async fn caught<F: Future>(call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    poll_fn(|cx| {
        // A call that panicked is dropped and never polled again, so nobody sees what it left
        // behind; the books are the actor's, which runs elsewhere.
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

fn panicked(id: &str) -> Response<Body> {
    metrics().panics.increment(1);
    tracing::error!("a handler panicked");
    let hint = format!("an internal error; report {id}");
    status::refused(&Refusal::new(Reason::Internal, hint)).into_http()
}

fn identified(mut response: Response<Body>, id: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(HeaderName::from_static(REQUEST_ID_HEADER), value);
    }
    response
}

/// tonic refuses a message that is too long or broken before any code of ours runs, and says so
/// without details. Ours always have details; so what has none becomes MALFORMED_MESSAGE.
fn explained(response: Response<Body>) -> Response<Body> {
    let of_tonic = Status::from_header_map(response.headers()).filter(is_of_tonic);
    of_tonic.map_or(response, |status| unreadable(&status).into_http())
}

fn is_of_tonic(status: &Status) -> bool {
    let codes = [Code::OutOfRange, Code::ResourceExhausted, Code::Internal];
    status.details().is_empty() && codes.contains(&status.code())
}

fn unreadable(status: &Status) -> Status {
    let hint = format!("the message cannot be read: {}", status.message());
    status::refused(&Refusal::new(Reason::MalformedMessage, hint))
}

/// The same for a message within a stream.
pub(super) fn explained_item(status: Status) -> Status {
    if is_of_tonic(&status) { unreadable(&status) } else { status }
}

/// The code of an answer. An answer that began well has its code in its trailers, which come later.
fn code(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// One of `metrics::CODES`.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::NotFound => "NOT_FOUND",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        _ => "other",
    }
}

fn deadline(headers: &HeaderMap) -> Duration {
    let limit = timeout(headers).unwrap_or(DEADLINE_MAX).min(DEADLINE_MAX);
    limit.saturating_sub(DEADLINE_MARGIN.min(limit / 10))
}

fn timeout(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?))
}

/// Reads `grpc-timeout`: 1 to 8 digits and a unit. Source: gRPC over HTTP/2, "Timeout".
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let well_formed =
        (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = well_formed.then(|| digits.parse().ok()).flatten()?;
    match unit {
        "H" => Some(Duration::from_secs(count.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(count.saturating_mul(60))),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_what_the_caller_said_less_a_margin_and_thirty_seconds_at_most() {
        let whole = DEADLINE_MAX - DEADLINE_MARGIN;
        for (text, expect) in [
            (None, whole),
            (Some("1S"), Duration::from_millis(950)),
            (Some("100m"), Duration::from_millis(90)),
            (Some("1000u"), Duration::from_micros(900)),
            (Some("0n"), Duration::ZERO),
            (Some("99999999H"), whole),
            (Some("1M"), whole),
            (Some(""), whole),
            (Some("S"), whole),
            (Some("123456789n"), whole),
            (Some("-1S"), whole),
            (Some("+1S"), whole),
            (Some("1s"), whole),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(text) = text {
                headers.insert("grpc-timeout", HeaderValue::from_static(text));
            }
            assert_eq!(deadline(&headers), expect, "{text:?}");
        }
    }

    #[test]
    fn every_code_has_a_known_name() {
        for number in 0..=16 {
            assert!(crate::metrics::CODES.contains(&code_name(Code::from_i32(number))), "{number}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_caught_wherever_it_happens() {
        assert_eq!(caught(async { 1 }).await, Some(1));
        assert_eq!(caught(async { panic!("at once") }).await, None::<()>);
        let later = async {
            tokio::task::yield_now().await;
            panic!("later")
        };
        assert_eq!(caught(later).await, None::<()>);
    }

    #[test]
    fn what_tonic_refuses_without_details_becomes_a_malformed_message() {
        for (status, expect) in [
            (Status::out_of_range("too large"), Code::InvalidArgument),
            (Status::internal("protocol error"), Code::InvalidArgument),
            (Status::unimplemented("no such call"), Code::Unimplemented),
            (status::refused(&Refusal::new(Reason::Internal, "ours")), Code::Internal),
            (status::refused(&Refusal::new(Reason::RateLimited, "ours")), Code::ResourceExhausted),
        ] {
            let what = status.message().to_owned();
            assert_eq!(code(explained(status.into_http()).headers()), expect, "{what}");
        }
        assert_eq!(code(explained(Response::new(Body::empty())).headers()), Code::Ok);
    }
}
