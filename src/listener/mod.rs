//! 1  Listener: connections, TLS, limits, proto ↔ domain.
//!
//! `serve` accepts and looks after connections, `tls` says who may connect, `grpc` turns calls into
//! `PlatformApi` and its answers into wire messages. Nothing here knows a rule or touches the
//! books.
//!
//! Invariant: a call that reached a handler is answered, through drain, certificate reload and the
//! end of a connection's age.

mod call;
mod connections;
mod grpc;
mod handshake;
mod http;
mod serve;
mod session;
mod streams;
mod tls;

pub use call::{CallDeadline, PeerService, REQUEST_ID_HEADER, StreamDeadline, Streams};
pub use connections::{ConnectionInfo, Connections};
pub use grpc::{GrpcSettings, HealthHandle, routes};
pub use http::{HttpAnswer, HttpApi};
pub use serve::{Limits, Listener};
pub use tls::{TlsFiles, TlsState};
