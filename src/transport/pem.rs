//! TLS 1.3 out of PEM files, for either side of a connection: one provider, one protocol, no
//! resumption.

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::VerifierBuilderError,
    version::TLS13,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The only protocol spoken.
pub const ALPN_H2: &[u8] = b"h2";

/// Why certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read, or is not PEM.
    #[error("read {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{path} holds no certificate")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// TLS refuses a certificate or key: one that does not parse, or a key of another certificate.
    #[error("use the certificates and the key")]
    Refused(#[source] rustls::Error),
    /// The CAs make no verifier.
    #[error("use the client CAs")]
    Verifier(#[source] VerifierBuilderError),
}

/// The provider of every TLS connection, handed over explicitly: a process-wide default could be
/// another.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The client's configuration for TLS 1.3 with a client certificate.
pub(super) fn client(
    ca: &Path,
    certificate: &Path,
    key: &Path,
) -> Result<rustls::ClientConfig, TlsError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Refused)?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
        .map_err(TlsError::Refused)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The CAs of a file.
///
/// # Errors
/// `TlsError`.
pub fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(TlsError::Refused)?;
    }
    Ok(roots)
}

/// The certificates of a file, at least one.
///
/// # Errors
/// `TlsError`.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |source| TlsError::File { path: path.to_owned(), source };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(file)?;
    if found.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned() });
    }
    Ok(found)
}

/// The first private key of a file.
///
/// # Errors
/// `TlsError`.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|source| TlsError::File { path: path.to_owned(), source })
}
