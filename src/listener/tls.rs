//! Who may connect: TLS 1.3, a certificate of ours, and a client certificate under one of the
//! configured CAs. Whose key it is decides `identity`, at every call, so that a stranger can read
//! why he is refused.
//!
//! Invariants: no session store and no tickets, since a resumed session skips the client's
//! certificate; a reload that fails leaves the configuration in force.

use crate::{
    metrics::metrics,
    transport::{
        ALPN_H2, Stamp, TlsError, certificates, private_key, provider, roots, stamps, watch,
    },
};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// Where the server's certificate and the client CAs are, all PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, leaf first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CAs under which client certificates must be.
    pub client_ca: PathBuf,
}

impl TlsFiles {
    fn paths(&self) -> [&Path; 3] {
        [&self.certificate, &self.key, &self.client_ca]
    }
}

/// Which protocol is spoken behind the handshake.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Grpc,
    Legacy,
}

type Stamps = [Stamp; 3];

/// The server's TLS configuration, which can be read again while it serves. Open connections stay.
#[derive(Debug)]
pub struct TlsState {
    files: TlsFiles,
    edge: Edge,
    current: ArcSwap<ServerConfig>,
    stamps: Mutex<Stamps>,
}

impl TlsState {
    /// Reads the files, for gRPC: TLS 1.3 alone.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        Self::load_for(files, Edge::Grpc)
    }

    /// Reads the files, for the legacy edge: HTTP/1.1 over TLS 1.3, or 1.2 with ECDHE and AEAD,
    /// which is all that rustls has of it.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load_legacy(files: TlsFiles) -> Result<Self, TlsError> {
        Self::load_for(files, Edge::Legacy)
    }

    fn load_for(files: TlsFiles, edge: Edge) -> Result<Self, TlsError> {
        // The stamps come first: a file that changes in between is read again.
        let stamps = Mutex::new(stamps(files.paths()));
        let current = ArcSwap::from_pointee(server_config(&files, edge)?);
        Ok(Self { files, edge, current, stamps })
    }

    /// The configuration for the next handshake.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the files again, for SIGHUP. New handshakes use what was read.
    ///
    /// # Errors
    /// When a file cannot be read or used; the configuration in force stays, and the failure is
    /// logged and counted.
    pub fn reload(&self) -> Result<(), TlsError> {
        if let Ok(mut known) = self.stamps.lock() {
            *known = stamps(self.files.paths());
        }
        match server_config(&self.files, self.edge) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                metrics().certificate_reloads.of("done").increment(1);
                tracing::info!("certificates reloaded");
                Ok(())
            }
            Err(error) => {
                metrics().certificate_reloads.of("failed").increment(1);
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "certificates not reloaded; the old ones stay");
                Err(error)
            }
        }
    }

    /// Reads the files again if one of them changed since they were read last. Says whether one
    /// did.
    ///
    /// # Errors
    /// As `reload`; once for each change.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let changed = self.stamps.lock().is_ok_and(|known| *known != stamps(self.files.paths()));
        if changed {
            self.reload()?;
        }
        Ok(changed)
    }

    /// Looks at the files every five seconds, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        // What went wrong is logged and counted by `reload`.
        watch(self, |state| drop(state.reload_if_changed()), stop).await;
    }
}

fn server_config(files: &TlsFiles, edge: Edge) -> Result<ServerConfig, TlsError> {
    let roots = Arc::new(roots(&files.client_ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(TlsError::Verifier)?;
    let versions: &[&SupportedProtocolVersion] = match edge {
        Edge::Grpc => &[&TLS13],
        Edge::Legacy => &[&TLS13, &TLS12],
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(TlsError::Refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&files.certificate)?, private_key(&files.key)?)
        .map_err(TlsError::Refused)?;
    config.alpn_protocols = match edge {
        Edge::Grpc => vec![ALPN_H2.to_vec()],
        Edge::Legacy => vec![b"http/1.1".to_vec()],
    };
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
