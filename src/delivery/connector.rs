//! How a connection to the acceptance is made: TCP without delay, TLS 1.3 with our client
//! certificate, the server checked against the route's CA and name. Nothing here knows calls or
//! batches.

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version::TLS13,
};
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

/// How long a connection may take, handshake included; half of a call's deadline.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a route cannot be connected to as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A PEM file was not read.
    #[error("read {} as PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// CA, certificate and key do not fit.
    #[error("set TLS up for the acceptance")]
    Tls {
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The address is no `host:port`.
    #[error("address {address:?} is no host:port")]
    Address {
        /// What the route says.
        address: String,
    },
    /// The server name is neither a host name nor an address.
    #[error("server name {name:?} is no name")]
    ServerName {
        /// What the route says.
        name: String,
    },
    /// The receipt key is no P-256 key in DER.
    #[error("the receipt key of route {province} is no P-256 key in DER")]
    ReceiptKey {
        /// The route's province.
        province: String,
    },
}

/// Who the proxy is to the acceptance, and whom it trusts there. One for all routes.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Reads the CA, our certificate chain and its key, all PEM.
    ///
    /// # Errors
    /// `Pem` when a file does not read, `Tls` when their content does not fit.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self, ClientTlsError> {
        let tls = |source| ClientTlsError::Tls { source };
        let mut roots = RootCertStore::empty();
        for trusted in certificates(ca)? {
            roots.add(trusted).map_err(tls)?;
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(pem_error(key))?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[&TLS13])
                .map_err(tls)?
                .with_root_certificates(roots)
                .with_client_auth_cert(certificates(cert)?, key)
                .map_err(tls)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Connections live long; a resumed one would skip the check of the server's certificate.
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// The connector to one address, `host:port`, whose certificate must name `server_name`.
    ///
    /// # Errors
    /// `ServerName`.
    pub(super) fn connector(
        &self,
        address: &str,
        server_name: &str,
    ) -> Result<Connector, ClientTlsError> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| ClientTlsError::ServerName { name: server_name.to_owned() })?;
        let tls = TlsConnector::from(Arc::clone(&self.0));
        Ok(Connector { address: address.into(), name, tls })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(pem_error(path))
}

fn pem_error(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> ClientTlsError {
    move |source| ClientTlsError::Pem { path: path.to_owned(), source: Box::new(source) }
}

/// Makes connections for a tonic channel, one at a time, whenever the last one broke.
#[derive(Clone)]
pub(super) struct Connector {
    address: Arc<str>,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Connector {
    async fn connect(self) -> io::Result<Wire> {
        let connecting = async {
            let stream = TcpStream::connect(&*self.address).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(self.name, stream).await
        };
        let stream = tokio::time::timeout(CONNECT, connecting).await??;
        Ok(wrap(stream))
    }
}

impl Service<http::Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Wire>>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(TokioIo::new(connector.connect().await?)) })
    }
}

/// What HTTP/2 reads and writes.
type Wire = TlsStream<TcpStream>;

/// The one place where a connection can be dressed, such as with coalesced flushes.
fn wrap(stream: TlsStream<TcpStream>) -> Wire {
    stream
}
