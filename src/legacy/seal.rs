//! The proxy's own signature around answers in CA mode (CA 模式): a CMS SignedData (RFC 5652) with
//! the answer in it, ECDSA P-256 over SHA-256. The key is apart from those of TLS and of devices:
//! it says that this proxy answered, not that an invoice exists.
//!
//! Invariant: a reload that fails leaves the identity in force.

use crate::{
    convert::sha256,
    model::CstTime,
    pb::v1::SignatureAlgorithm,
    signer,
    transport::{Stamp, TlsError, certificates, private_key, stamps, watch},
};
use arc_swap::ArcSwap;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use der::{
    AnyRef, Encode as _, Result as DerResult, Tag, TagNumber,
    asn1::{ObjectIdentifier, UtcTime},
};
use rustls::pki_types::PrivateKeyDer;
use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_TIME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.5");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// Where certificate and key are, both PEM.
#[derive(Debug, Clone)]
pub struct SealFiles {
    /// The certificate, leaf first; those above it go along.
    pub certificate: PathBuf,
    /// Its private key, P-256.
    pub key: PathBuf,
}

impl SealFiles {
    fn paths(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }
}

/// Why answers cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A file cannot be read.
    #[error("read certificate and key of the answers' signature")]
    Files(#[source] TlsError),
    /// Not a key that is used here.
    #[error("{} holds no P-256 key", .0.display())]
    Key(PathBuf),
    /// Not a certificate, or another key's.
    #[error("the first certificate of {} is not of the key", .0.display())]
    Certificate(PathBuf),
    /// The message cannot be built, or the library failed.
    #[error("sign an answer")]
    Sign,
}

/// Signs answers.
#[derive(Debug)]
pub struct Seal {
    files: SealFiles,
    current: ArcSwap<Identity>,
    stamps: Mutex<Stamps>,
}

type Stamps = [Stamp; 2];

impl Seal {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, the key is not P-256, or the certificate is not the key's.
    pub fn load(files: SealFiles) -> Result<Self, SealError> {
        // The stamps come first: a file that changes in between is read again.
        let stamps = Mutex::new(stamps(files.paths()));
        let current = ArcSwap::from_pointee(Identity::read(&files)?);
        Ok(Self { files, current, stamps })
    }

    /// Reads the files again, for SIGHUP.
    ///
    /// # Errors
    /// As `load`; the identity in force stays, and the failure is logged.
    pub fn reload(&self) -> Result<(), SealError> {
        if let Ok(mut known) = self.stamps.lock() {
            *known = stamps(self.files.paths());
        }
        match Identity::read(&self.files) {
            Ok(identity) => {
                self.current.store(Arc::new(identity));
                tracing::info!("certificate of signed answers reloaded");
                Ok(())
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "signed answers keep their old certificate");
                Err(error)
            }
        }
    }

    /// Looks at the files every five seconds, until `stop`.
    pub async fn watch(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        watch(self, Self::reload_if_changed, stop).await;
    }

    /// Reads the files again if one of them changed since they were read last.
    pub(super) fn reload_if_changed(&self) {
        if self.stamps.lock().is_ok_and(|known| *known != stamps(self.files.paths())) {
            // What went wrong is logged by `reload`.
            drop(self.reload());
        }
    }

    /// A SignedData in DER around `content`, with content type, digest and time as signed
    /// attributes and the certificates with it.
    ///
    /// # Errors
    /// `Sign`.
    pub(super) fn sign(&self, content: &[u8], at: CstTime) -> Result<Vec<u8>, SealError> {
        self.current.load().sign(content, at)
    }
}

struct Identity {
    key: EcdsaKeyPair,
    /// Each DER, in DER's order of a set.
    certificates: Vec<Vec<u8>>,
    /// issuerAndSerialNumber of the first one, DER.
    name: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    fn read(files: &SealFiles) -> Result<Self, SealError> {
        let chain = certificates(&files.certificate).map_err(SealError::Files)?;
        let key = key_pair(&files.key)?;
        let wrong = || SealError::Certificate(files.certificate.clone());
        let leaf = chain.first().ok_or_else(wrong)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| wrong())?;
        let probe = key.sign(&SystemRandom::new(), b"").map_err(|_| SealError::Sign)?;
        let (p256, spki) = (SignatureAlgorithm::EcdsaP256Sha256, leaf.public_key().raw);
        if !signer::verify(p256, spki, b"", probe.as_ref()) {
            return Err(wrong());
        }
        let serial = tlv(Tag::Integer, &[leaf.raw_serial()]).map_err(|_| wrong())?;
        let name = tlv(Tag::Sequence, &[leaf.issuer().as_raw(), &serial]).map_err(|_| wrong())?;
        let mut certificates: Vec<_> = chain.iter().map(|der| der.to_vec()).collect();
        certificates.sort_unstable();
        Ok(Self { key, certificates, name })
    }

    fn sign(&self, content: &[u8], at: CstTime) -> Result<Vec<u8>, SealError> {
        let attributes = attributes(content, at).map_err(|_| SealError::Sign)?;
        let covered = tlv(Tag::Set, &[&attributes]).map_err(|_| SealError::Sign)?;
        let signature =
            self.key.sign(&SystemRandom::new(), &covered).map_err(|_| SealError::Sign)?;
        self.message(content, &attributes, signature.as_ref()).map_err(|_| SealError::Sign)
    }

    fn message(&self, content: &[u8], attributes: &[u8], signature: &[u8]) -> DerResult<Vec<u8>> {
        let version = 1_u8.to_der()?;
        let digest = tlv(Tag::Sequence, &[&SHA256.to_der()?])?;
        let signer = tlv(
            Tag::Sequence,
            &[
                &version,
                &self.name,
                &digest,
                &tlv(tagged(0), &[attributes])?,
                &tlv(Tag::Sequence, &[&ECDSA_SHA256.to_der()?])?,
                &tlv(Tag::OctetString, &[signature])?,
            ],
        )?;
        let octets = tlv(Tag::OctetString, &[content])?;
        let signed = tlv(
            Tag::Sequence,
            &[
                &version,
                &tlv(Tag::Set, &[&digest])?,
                &tlv(Tag::Sequence, &[&DATA.to_der()?, &tlv(tagged(0), &[&octets])?])?,
                &tlv(tagged(0), &[&self.certificates.concat()])?,
                &tlv(Tag::Set, &[&signer])?,
            ],
        )?;
        tlv(Tag::Sequence, &[&SIGNED_DATA.to_der()?, &tlv(tagged(0), &[&signed])?])
    }
}

/// PKCS#8, or SEC 1 as `openssl ecparam` writes it.
fn key_pair(path: &Path) -> Result<EcdsaKeyPair, SealError> {
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pair = match private_key(path).map_err(SealError::Files)? {
        PrivateKeyDer::Pkcs8(der) => {
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der()).ok()
        }
        PrivateKeyDer::Sec1(der) => {
            EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der()).ok()
        }
        _ => None,
    };
    pair.ok_or_else(|| SealError::Key(path.to_owned()))
}

/// The elements of the set of signed attributes, in DER's order.
fn attributes(content: &[u8], at: CstTime) -> DerResult<Vec<u8>> {
    let time = Duration::from_secs(u64::try_from(at.unix()).unwrap_or_default());
    let mut all = [
        attribute(CONTENT_TYPE, &DATA.to_der()?)?,
        attribute(SIGNING_TIME, &UtcTime::from_unix_duration(time)?.to_der()?)?,
        attribute(MESSAGE_DIGEST, &tlv(Tag::OctetString, &[&sha256(content)])?)?,
    ];
    all.sort_unstable();
    Ok(all.concat())
}

fn attribute(id: ObjectIdentifier, value: &[u8]) -> DerResult<Vec<u8>> {
    tlv(Tag::Sequence, &[&id.to_der()?, &tlv(Tag::Set, &[value])?])
}

fn tlv(tag: Tag, parts: &[&[u8]]) -> DerResult<Vec<u8>> {
    AnyRef::new(tag, &parts.concat())?.to_der()
}

fn tagged(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}
