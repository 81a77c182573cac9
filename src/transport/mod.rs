//! Connections for either side: TLS out of PEM files, flushes that coalesce, our own side of a
//! channel to another server. Knows no call.

mod client;
mod coalesce;
mod pem;
mod watch;

pub use client::{ClientIo, ClientTls, ConnectError, channel, connect, lazy_channel};
pub use coalesce::CoalesceIo;
pub use pem::{ALPN_H2, TlsError, certificates, private_key, provider, roots};
pub use watch::{Stamp, stamps, watch};
