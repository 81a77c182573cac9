//! Where to send invoices: reads what `skproxy demo --format json` printed, and opens connections.

use anyhow::{Context as _, anyhow};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// The keys of the demo's JSON value that a client needs; others are ignored.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Demo {
    /// Host and port of the platform listener, with or without `https://`.
    pub(crate) platform_address: String,
    /// File with the certificate that the server's chain ends in. PEM.
    pub(crate) ca: PathBuf,
    /// File with the platform's certificate chain. PEM.
    pub(crate) client_certificate: PathBuf,
    /// File with its key. PEM.
    pub(crate) client_key: PathBuf,
    /// Taxpayer that the platform may issue for.
    pub(crate) taxpayer_id: String,
    /// Its name.
    pub(crate) seller_name: String,
    /// Its virtual device.
    pub(crate) device_id: String,
}

impl Demo {
    /// Reads the value from a file, or from standard input for `-`.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = if path == Path::new("-") {
            io::read_to_string(io::stdin())?
        } else {
            fs::read_to_string(path)?
        };
        Ok(serde_json::from_str(&text)?)
    }

    fn authority(&self) -> &str {
        self.platform_address.strip_prefix("https://").unwrap_or(&self.platform_address)
    }

    /// Opens one connection, TLS 1.3 with the client certificate, HTTP/2.
    pub(crate) async fn connect(&self, tls: TlsConnector) -> anyhow::Result<Channel> {
        let authority = self.authority().trim_end_matches('/').to_owned();
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        // The scheme only fills `:scheme`; the connector below does the TLS.
        let endpoint = Endpoint::from_shared(format!("https://{authority}"))?;
        let connector = tower::service_fn(move |_: Uri| {
            let (tls, name, authority) = (tls.clone(), name.clone(), authority.clone());
            async move {
                let socket = TcpStream::connect(&authority).await?;
                socket.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(tls.connect(name, socket).await?))
            }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        channel.with_context(|| format!("connect to {}", self.authority()))
    }

    /// The TLS settings that all connections share.
    pub(crate) fn tls(&self) -> anyhow::Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate)?;
        }
        let key = PrivateKeyDer::from_pem_file(&self.client_key)
            .map_err(|error| anyhow!("read {}: {error}", self.client_key.display()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&self.client_certificate)?, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    read().map_err(|error| anyhow!("read {}: {error}", path.display()))
}
