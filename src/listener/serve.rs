//! The accept loop and the life of a connection. It is our own because tonic's cuts connections at
//! the end of their age without a GOAWAY, which loses calls.
//!
//! Invariants: a connection ends with a GOAWAY and then only when its calls are answered or its
//! grace is over; nothing a client does keeps others from being accepted; every bound is in
//! `Limits`.

use super::{
    call::{PeerService, Streams},
    connections::{Connections, Entry},
    handshake::{First, HandshakeError, handshake},
    http::{HttpApi, HttpService},
    tls::TlsState,
};
use crate::{clock, identity::PeerCertificate, metrics::metrics, tasks, transport::CoalesceIo};
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};
use tonic::service::Routes;

/// What calls under way get when their key was revoked; the promise is one second altogether.
const KEY_GRACE: Duration = Duration::from_millis(500);

/// What a handshake under way gets when drain begins.
const HANDSHAKE_DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Headers of an HTTP/1.1 request.
const HEADERS_MAX: usize = 64;

/// First and longest pause after accept failed, doubling in between.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The bounds of a listener. Those of messages are in `GrpcSettings`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From accept to the first HTTP/2 bytes. Default 10 s.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once; each costs a signature. Default 256.
    pub handshakes_max: usize,
    /// Connections at once, those in handshake included; one costs about 50 KB. Default 10,000.
    pub connections_max: usize,
    /// Calls under way at once on a connection. Default 256.
    pub streams_max: u32,
    /// What a call may have sent before we read it. Unit: bytes. Default 128 KiB: a dozen invoices.
    pub stream_window: u32,
    /// The same for all calls of a connection. Unit: bytes. Default 4 MiB: twice what its streaming
    /// calls can leave unread, so that those never keep the others from being heard.
    pub connection_window: u32,
    /// Quiet time after which the client is asked whether it lives. Default 30 s.
    pub keepalive_interval: Duration,
    /// How long it may take to say so. Default 10 s.
    pub keepalive_timeout: Duration,
    /// Headers of one call. Unit: bytes. Default 16 KiB.
    pub header_list_len_max: u32,
    /// Streams that a client reset before we looked at them; above it the connection ends (rapid
    /// reset, CVE-2023-44487). Default 20.
    pub resets_pending_max: usize,
    /// Streams that we reset because of the client's faults; above it the connection ends. Default
    /// 64.
    pub resets_local_max: usize,
    /// Age at which a connection is ended, give or take a tenth, so that clients spread over
    /// instances and new CAs and certificates take hold. Default 1 h.
    pub connection_age: Duration,
    /// What calls under way get at the end of the age. Default 60 s, twice the longest deadline.
    pub connection_age_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            handshakes_max: 256,
            connections_max: 10_000,
            streams_max: 256,
            stream_window: 128 << 10,
            connection_window: 4 << 20,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            header_list_len_max: 16 * 1024,
            resets_pending_max: 20,
            resets_local_max: 64,
            connection_age: Duration::from_secs(3600),
            connection_age_grace: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Cut,
}

/// What is spoken on a port.
#[derive(Debug)]
enum Protocol {
    Grpc(Routes),
    Http(Arc<dyn HttpApi>),
}

/// Serves one protocol over mutual TLS.
#[derive(Debug)]
pub struct Listener {
    tls: Arc<TlsState>,
    protocol: Protocol,
    limits: Limits,
    connections: Arc<Connections>,
    phase: watch::Sender<Phase>,
    /// One permit for each connection, from accept to its end.
    slots: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

impl Listener {
    /// A listener that serves gRPC `routes`; `run` makes it accept.
    #[must_use]
    pub fn new(tls: Arc<TlsState>, routes: Routes, limits: Limits) -> Arc<Self> {
        Self::over(tls, Protocol::Grpc(routes.prepare()), limits)
    }

    /// A listener whose POSTs `api` answers, over HTTP/1.1.
    #[must_use]
    pub fn legacy(tls: Arc<TlsState>, api: Arc<dyn HttpApi>, limits: Limits) -> Arc<Self> {
        Self::over(tls, Protocol::Http(api), limits)
    }

    fn over(tls: Arc<TlsState>, protocol: Protocol, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            tls,
            protocol,
            connections: Arc::default(),
            phase: watch::Sender::new(Phase::Serving),
            slots: Arc::new(Semaphore::new(limits.connections_max)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes_max)),
            limits,
        })
    }

    /// The connections that stand.
    #[must_use]
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Accepts until drain begins, then closes the socket.
    pub async fn run(self: Arc<Self>, socket: TcpListener) {
        let mut pause = BACKOFF.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.reached(Phase::Draining) => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    pause = BACKOFF.0;
                    self.admit(stream, address);
                }
                // The client was gone before we came: nobody's trouble, and no reason to pause.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    metrics().accept_errors.increment(1);
                    tracing::error!(%error, "no connection can be accepted");
                    tokio::select! {
                        () = self.reached(Phase::Draining) => return,
                        () = sleep(pause) => pause = pause.saturating_mul(2).min(BACKOFF.1),
                    }
                }
            }
        }
    }

    /// Stops accepting, tells every client to go elsewhere, and waits until all calls are answered
    /// and all connections closed, at most `limit`. Says how many connections had to be cut.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.advance(Phase::Draining);
        if tokio::time::timeout(limit, self.emptied()).await.is_ok() {
            return 0;
        }
        let late = self.connections.count();
        self.advance(Phase::Cut);
        self.emptied().await;
        late
    }

    async fn emptied(&self) {
        let all = u32::try_from(self.limits.connections_max).unwrap_or(u32::MAX);
        drop(self.slots.acquire_many(all).await);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = *phase < to;
            *phase = to.max(*phase);
            later
        });
    }

    async fn reached(&self, wanted: Phase) {
        // The sender lives in `self`, so the wait ends only with the phase.
        drop(self.phase.subscribe().wait_for(|phase| *phase >= wanted).await);
    }

    fn admit(self: &Arc<Self>, socket: TcpStream, address: SocketAddr) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return HandshakeError::TooMany("connections").report(address);
        };
        let Ok(permit) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            return HandshakeError::TooMany("handshakes").report(address);
        };
        let this = Arc::clone(self);
        drop(tasks::spawn_detached(async move {
            this.connection(socket, address, permit).await;
            drop(slot);
        }));
    }

    async fn connection(
        self: Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) {
        let limit = self.limits.handshake_timeout;
        let first = match self.protocol {
            Protocol::Grpc(_) => First::Preface,
            Protocol::Http(_) => First::Request,
        };
        let draining = async {
            self.reached(Phase::Draining).await;
            sleep(HANDSHAKE_DRAIN_GRACE).await;
        };
        let greeted = tokio::select! {
            greeted = handshake(socket, (self.tls.current(), first), limit) => greeted,
            () = draining => Err(HandshakeError::Timeout(HANDSHAKE_DRAIN_GRACE)),
        };
        drop(permit);
        let (session, peer) = match greeted {
            Ok(greeted) => greeted,
            Err(error) => return error.report(address),
        };
        metrics().handshakes.increment(1);
        let entry = self.connections.enter(peer.key, address);
        tracing::debug!(connection = entry.id(), %address, subject = peer.subject, "connected");
        let reason = self.http(CoalesceIo::new(session), peer, &entry).await;
        metrics().connections_closed.of(reason).increment(1);
        tracing::debug!(connection = entry.id(), reason, "disconnected");
    }

    /// Serves one connection to its end, and says why it ended: one of `metrics::CLOSE_REASONS`.
    async fn http<T>(&self, io: T, peer: PeerCertificate, entry: &Entry) -> &'static str
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (closing, streams) = watch::channel(false);
        match &self.protocol {
            Protocol::Grpc(routes) => {
                let service = PeerService::new(routes.clone(), peer, Streams::new(streams));
                let connection = self.http2().serve_connection(TokioIo::new(io), service);
                self.to_its_end(connection, closing, entry).await
            }
            Protocol::Http(api) => {
                let service = HttpService::new(Arc::clone(api), peer);
                let connection = self.http1().serve_connection(TokioIo::new(io), service);
                self.to_its_end(connection, closing, entry).await
            }
        }
    }

    async fn to_its_end<C>(
        &self,
        connection: C,
        closing: watch::Sender<bool>,
        entry: &Entry,
    ) -> &'static str
    where
        C: GracefulConnection,
    {
        let mut connection = pin!(connection);
        let (reason, grace) = tokio::select! {
            ended = connection.as_mut() => return if ended.is_ok() { "peer" } else { "error" },
            () = sleep(jittered(self.limits.connection_age)) => {
                ("age", self.limits.connection_age_grace)
            }
            () = entry.closed() => ("key", KEY_GRACE),
            // Whoever drains sets the limit, and then cuts.
            () = self.reached(Phase::Draining) => ("drain", Duration::MAX),
        };
        connection.as_mut().graceful_shutdown();
        closing.send_replace(true);
        let revoked = async {
            entry.closed().await;
            sleep(KEY_GRACE).await;
        };
        tokio::select! {
            // That a client leaves without a farewell is its own affair by now.
            ended = connection => drop(ended),
            () = sleep(grace) => {}
            () = revoked => {}
            () = self.reached(Phase::Cut) => {}
        }
        reason
    }

    /// A quiet HTTP/1.1 connection is ended like a slow handshake: its client makes another.
    fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.keepalive_interval)
            .max_headers(HEADERS_MAX)
            .half_close(false);
        builder
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams_max)
            .initial_stream_window_size(self.limits.stream_window)
            .initial_connection_window_size(self.limits.connection_window)
            .keep_alive_interval(self.limits.keepalive_interval)
            .keep_alive_timeout(self.limits.keepalive_timeout)
            .max_header_list_size(self.limits.header_list_len_max)
            .max_pending_accept_reset_streams(self.limits.resets_pending_max)
            .max_local_error_reset_streams(self.limits.resets_local_max);
        builder
    }
}

/// `age`, give or take up to a tenth.
fn jittered(age: Duration) -> Duration {
    let [part] = clock::random::<1>();
    let tenth = age / 10;
    let spread = tenth.saturating_mul(2).saturating_mul(u32::from(part)) / u32::from(u8::MAX);
    age.saturating_sub(tenth).saturating_add(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_connections_differs_by_a_tenth_at_most() {
        let ages: Vec<_> = (0..200).map(|_| jittered(Duration::from_secs(100))).collect();
        let bounds = Duration::from_secs(90)..=Duration::from_secs(110);
        assert!(ages.iter().all(|age| bounds.contains(age)), "{ages:?}");
        assert!(ages.iter().any(|age| *age != ages[0]), "they all end at once");
    }
}
