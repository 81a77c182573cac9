//! From an accepted socket to a caller: TLS, the client's certificate, the HTTP/2 preface, all
//! within one deadline. In TLS 1.3 a refused client sees a connection that stood and then broke, so
//! the reason counted and logged here is the only place where it can be found.

use super::session::Session;
use crate::{
    identity::{IdentityError, PeerCertificate},
    metrics::metrics,
};
use rustls::CertificateError;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What every HTTP/2 client says first. Source: RFC 9113 §3.4.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why a handshake was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// TLS failed, or the socket did.
    #[error("TLS handshake")]
    Tls(#[source] io::Error),
    /// The client's certificate cannot be read.
    #[error("the client's certificate names no key")]
    Certificate(#[source] IdentityError),
    /// The session carries no client certificate, which the verifier rules out.
    #[error("no client certificate")]
    NoCertificate,
    /// The caller does not speak HTTP/2.
    #[error("no HTTP/2 preface")]
    Preface,
    /// It took too long.
    #[error("not done within {0:?}")]
    Timeout(Duration),
    /// Too many connections, or handshakes under way.
    #[error("too many {0}")]
    TooMany(&'static str),
}

impl HandshakeError {
    /// The label value, one of `metrics::HANDSHAKE_REASONS`.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Tls(error) => tls_reason(error),
            Self::Certificate(_) => "bad_certificate",
            Self::NoCertificate => "no_certificate",
            Self::Preface => "other",
            Self::Timeout(_) => "timeout",
            Self::TooMany(_) => "too_many",
        }
    }

    /// Counts the refusal and logs it.
    pub(super) fn report(&self, address: SocketAddr) {
        metrics().handshakes_refused.of(self.reason()).increment(1);
        let cause = std::error::Error::source(self).map(ToString::to_string);
        tracing::warn!(%address, reason = self.reason(), error = %self, cause, "handshake refused");
    }
}

/// rustls's errors are many and may grow; this is where they become our few.
fn tls_reason(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. }) => {
            "not_tls"
        }
        Some(rustls::Error::NoCertificatesPresented) => "no_certificate",
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::UnknownIssuer => "unknown_ca",
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "expired",
            _ => "bad_certificate",
        },
        _ => "other",
    }
}

/// What a client must say first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// The HTTP/2 preface.
    Preface,
    /// Anything: an HTTP/1.1 request.
    Request,
}

/// Makes a session of a socket, within `limit`.
pub(super) async fn handshake(
    socket: TcpStream,
    (tls, first): (Arc<rustls::ServerConfig>, First),
    limit: Duration,
) -> Result<(Session<TlsStream<TcpStream>>, PeerCertificate), HandshakeError> {
    let late = |_| HandshakeError::Timeout(limit);
    tokio::time::timeout(limit, greet(socket, tls, first)).await.map_err(late)?
}

async fn greet(
    socket: TcpStream,
    tls: Arc<rustls::ServerConfig>,
    first: First,
) -> Result<(Session<TlsStream<TcpStream>>, PeerCertificate), HandshakeError> {
    socket.set_nodelay(true).map_err(HandshakeError::Tls)?;
    let mut stream = TlsAcceptor::from(tls).accept(socket).await.map_err(HandshakeError::Tls)?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = PeerCertificate::parse(leaf.ok_or(HandshakeError::NoCertificate)?)
        .map_err(HandshakeError::Certificate)?;
    if first == First::Request {
        return Ok((Session::new(stream, b""), peer));
    }
    // hyper waits for the preface without a limit, and a connection in that wait hears no shutdown.
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.map_err(HandshakeError::Tls)?;
    if preface != *PREFACE {
        return Err(HandshakeError::Preface);
    }
    Ok((Session::new(stream, PREFACE), peer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::HANDSHAKE_REASONS;
    use rustls::{Error, InvalidMessage};

    #[test]
    fn every_refusal_has_one_of_the_known_reasons() {
        let tls = |error: Error| HandshakeError::Tls(io::Error::other(error));
        let bad = |error| tls(Error::InvalidCertificate(error));
        for (error, expect) in [
            (tls(Error::InvalidMessage(InvalidMessage::InvalidContentType)), "not_tls"),
            (tls(Error::NoCertificatesPresented), "no_certificate"),
            (bad(CertificateError::UnknownIssuer), "unknown_ca"),
            (bad(CertificateError::Expired), "expired"),
            (bad(CertificateError::NotValidYet), "expired"),
            (bad(CertificateError::BadSignature), "bad_certificate"),
            (tls(Error::DecryptError), "other"),
            (HandshakeError::Tls(io::ErrorKind::UnexpectedEof.into()), "other"),
            (HandshakeError::Certificate(IdentityError::NotAfter), "bad_certificate"),
            (HandshakeError::NoCertificate, "no_certificate"),
            (HandshakeError::Preface, "other"),
            (HandshakeError::Timeout(Duration::ZERO), "timeout"),
            (HandshakeError::TooMany("connections"), "too_many"),
        ] {
            assert_eq!(error.reason(), expect, "{error:?}");
            assert!(HANDSHAKE_REASONS.contains(&expect), "{expect}");
        }
    }
}
