//! Our own side of a connection to another server: the acceptance service, or skproxy itself from
//! the command line. The same TLS, the same coalesced flushes.

use super::{
    coalesce::CoalesceIo,
    pem::{self, TlsError},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use std::{future::Future, io, path::Path, pin::Pin, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::Service;

/// How long a connection may take to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Quiet time after which the peer is asked whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to say so.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client's connection.
pub type ClientIo = CoalesceIo<TlsStream<TcpStream>>;

/// Why no connection stands.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name to check in the server's certificate is no name.
    #[error("the server name {name:?} is no DNS name and no address")]
    ServerName {
        /// The name given.
        name: String,
        /// Why.
        #[source]
        source: InvalidDnsNameError,
    },
    /// TCP did not connect, or TLS failed.
    #[error("connect to {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// HTTP/2 did not start.
    #[error("open a channel to {address}")]
    Channel {
        /// `host:port`.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// The CA to trust and the certificate to show. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<rustls::ClientConfig>);

impl ClientTls {
    /// Reads the CA of the server and the client's own certificate and key, all PEM.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(pem::client(ca, certificate, key)?)))
    }
}

/// Connects to `address` (`host:port`), without delay on small segments, and checks `server_name`
/// in the server's certificate. Takes ten seconds at most.
///
/// A server that refuses our certificate says so only after this succeeded: the first call fails
/// then.
///
/// # Errors
/// When the name is none, or TCP or TLS do not connect in time.
pub async fn connect(
    address: &str,
    server_name: &str,
    tls: &ClientTls,
) -> Result<ClientIo, ConnectError> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|source| ConnectError::ServerName { name: server_name.to_owned(), source })?;
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, dial(address, name, tls)).await;
    connected
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map(CoalesceIo::new)
        .map_err(|source| ConnectError::Connect { address: address.to_owned(), source })
}

async fn dial(
    address: &str,
    name: ServerName<'static>,
    tls: &ClientTls,
) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    // Without it a unary call takes 45 ms: two small segments, and an acknowledgement that waits.
    socket.set_nodelay(true)?;
    TlsConnector::from(Arc::clone(&tls.0)).connect(name, socket).await
}

/// A gRPC channel over `connect`. It connects once now and again by itself whenever the connection
/// ends.
///
/// # Errors
/// When the first connection does not stand.
pub async fn channel(
    address: &str,
    server_name: &str,
    tls: &ClientTls,
) -> Result<Channel, ConnectError> {
    let failed = |source| ConnectError::Channel { address: address.to_owned(), source };
    let connector = connector(address, server_name, tls);
    endpoint(address, server_name)?.connect_with_connector(connector).await.map_err(failed)
}

/// As `channel`, but connects when it is first used.
///
/// # Errors
/// When the server name is none.
pub fn lazy_channel(
    address: &str,
    server_name: &str,
    tls: &ClientTls,
) -> Result<Channel, ConnectError> {
    let connector = connector(address, server_name, tls);
    Ok(endpoint(address, server_name)?.connect_with_connector_lazy(connector))
}

fn endpoint(address: &str, server_name: &str) -> Result<Endpoint, ConnectError> {
    ServerName::try_from(server_name)
        .map_err(|source| ConnectError::ServerName { name: server_name.to_owned(), source })?;
    // TLS is the connector's, so the scheme tonic sees is the plain one.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| ConnectError::Channel { address: address.to_owned(), source })?;
    Ok(endpoint
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

type Connected = TokioIo<ClientIo>;
type Connecting = Pin<Box<dyn Future<Output = Result<Connected, ConnectError>> + Send>>;

fn connector(
    address: &str,
    server_name: &str,
    tls: &ClientTls,
) -> impl Service<http::Uri, Response = Connected, Error = ConnectError, Future = Connecting>
+ Send
+ use<> {
    let target = Arc::new((address.to_owned(), server_name.to_owned(), tls.clone()));
    tower::service_fn(move |_: http::Uri| -> Connecting {
        let target = Arc::clone(&target);
        Box::pin(async move {
            let (address, server_name, tls) = &*target;
            connect(address, server_name, tls).await.map(TokioIo::new)
        })
    })
}
