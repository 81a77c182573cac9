//! 2  Identity: peer certificate → platform.
//!
//! A caller is the key of its certificate, never a name in it. Chains are checked in the handshake;
//! what is decided here is whose key it is and whether it is still good, at every call, so that a
//! revocation meets open connections. A disabled platform is known all the same: it keeps its
//! queries.

use crate::{
    convert,
    model::CstTime,
    refusal::{Reason, Refusal},
    registry::{KeyHash, Platform, Registry},
};
use std::sync::Arc;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// Longest subject that is kept for logs. Unit: characters.
const SUBJECT_LEN_MAX: usize = 256;

/// Why a certificate cannot name a caller.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is not an X.509 certificate.
    #[error("read the peer's certificate")]
    Unreadable(#[source] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// Its validity ends in a year that no calendar holds.
    #[error("the certificate's notAfter is out of range")]
    NotAfter,
}

/// What a call needs to know of its connection's client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key: KeyHash,
    /// The last second at which the certificate is valid.
    pub not_after: CstTime,
    /// The subject, for logs only; at most 256 characters.
    pub subject: String,
}

impl PeerCertificate {
    /// Reads a leaf certificate, DER.
    ///
    /// # Errors
    /// When it is no X.509 certificate, or its notAfter is out of range.
    pub fn parse(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(IdentityError::Unreadable)?;
        let not_after = CstTime::from_unix(certificate.validity().not_after.timestamp())
            .ok_or(IdentityError::NotAfter)?;
        Ok(Self {
            key: KeyHash(convert::sha256(certificate.public_key().raw)),
            not_after,
            subject: certificate.subject().to_string().chars().take(SUBJECT_LEN_MAX).collect(),
        })
    }
}

/// The platform that a certificate's key names. A disabled platform is returned; who issues looks
/// at `enabled`.
///
/// # Errors
/// PLATFORM_CERT_UNKNOWN without a certificate or when its key is registered for nobody,
/// PLATFORM_CERT_REVOKED, and PLATFORM_CERT_EXPIRED after the notAfter of the certificate shown or
/// of the one registered, whichever is earlier.
pub fn platform(
    registry: &Registry,
    peer: Option<&PeerCertificate>,
    now: CstTime,
) -> Result<Arc<Platform>, Refusal> {
    let peer = peer.ok_or_else(|| {
        Refusal::new(Reason::PlatformCertUnknown, "the call came without a client certificate")
    })?;
    let unknown = || {
        Refusal::new(
            Reason::PlatformCertUnknown,
            format!("no platform is registered for key {}", peer.key.hex()),
        )
    };
    let registered = registry.certificates.get(&peer.key).ok_or_else(unknown)?;
    if registered.revoked {
        return Err(Refusal::new(Reason::PlatformCertRevoked, "the certificate's key is revoked"));
    }
    let not_after = peer.not_after.min(registered.not_after);
    if now > not_after {
        return Err(Refusal::new(
            Reason::PlatformCertExpired,
            format!("the certificate was valid until {not_after}"),
        ));
    }
    registry.platforms.get(&registered.platform).cloned().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::PlatformNo, registry::Certificate};
    use rcgen::PublicKeyData as _;

    fn at(seconds: i64) -> CstTime {
        CstTime::from_unix(seconds).unwrap()
    }

    fn peer(key: u8, not_after: i64) -> PeerCertificate {
        PeerCertificate {
            key: KeyHash([key; 32]),
            not_after: at(not_after),
            subject: "CN=a".into(),
        }
    }

    /// Key 1: platform 1, until 1000. Key 2: revoked. Key 3: disabled platform. Key 4: no platform
    /// row.
    fn registry() -> Registry {
        let mut registry = Registry::default();
        for (no, enabled) in [(1, true), (3, false)] {
            registry.put_platform(Platform {
                no: PlatformNo(no),
                id: format!("P{no}"),
                name: String::new(),
                enabled,
            });
        }
        for (key, platform, revoked) in [(1, 1, false), (2, 1, true), (3, 3, false), (4, 4, false)]
        {
            registry.put_certificate(Certificate {
                key: KeyHash([key; 32]),
                platform: PlatformNo(platform),
                not_after: at(1000),
                revoked,
            });
        }
        registry
    }

    #[test]
    fn a_key_names_its_platform_while_it_is_good() {
        let registry = registry();
        for (what, peer, now, expect) in [
            ("good", Some(peer(1, 1000)), 999, Ok("P1")),
            ("the last second is good", Some(peer(1, 1000)), 1000, Ok("P1")),
            ("disabled is known", Some(peer(3, 1000)), 0, Ok("P3")),
            ("no certificate", None, 0, Err(Reason::PlatformCertUnknown)),
            ("unknown key", Some(peer(9, 1000)), 0, Err(Reason::PlatformCertUnknown)),
            ("no platform row", Some(peer(4, 1000)), 0, Err(Reason::PlatformCertUnknown)),
            ("revoked", Some(peer(2, 1000)), 0, Err(Reason::PlatformCertRevoked)),
            ("revoked and expired", Some(peer(2, 5)), 9, Err(Reason::PlatformCertRevoked)),
            ("shown one expired", Some(peer(1, 5)), 6, Err(Reason::PlatformCertExpired)),
            ("registered one expired", Some(peer(1, 5000)), 1001, Err(Reason::PlatformCertExpired)),
        ] {
            let found = platform(&registry, peer.as_ref(), at(now));
            let found = found.as_ref().map(|platform| platform.id.as_str());
            assert_eq!(found.map_err(|refusal| refusal.reason), expect, "{what}");
        }
    }

    #[test]
    fn a_renewed_certificate_over_the_same_key_is_the_same_caller() {
        let key = rcgen::KeyPair::generate().unwrap();
        let make = |name: &str, year| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            PeerCertificate::parse(params.self_signed(&key).unwrap().der()).unwrap()
        };
        let (old, new) = (make("old", 2030), make("new", 2031));
        assert_eq!(old.key, new.key);
        assert_eq!(old.key.0, convert::sha256(&key.subject_public_key_info()));
        assert_eq!(old.not_after.rfc3339(), "2030-01-01T08:00:00+08:00");
        assert!(new.subject.contains("new"), "{}", new.subject);
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        for der in [b"".as_slice(), b"garbage", &[0x30, 0x82, 0xff, 0xff]] {
            assert!(PeerCertificate::parse(der).is_err(), "{der:?}");
        }
    }
}
