//! CA mode (CA 模式): content of an `<interface>` within a signature. Opens it for the caller who
//! signed it, with ECDSA P-256 over SHA-256 or SM2 over SM3.
//!
//! Invariants: the certificate of the connection alone says who calls, so no other key's signature
//! counts, whoever certified it; no byte is returned that the signature does not cover.

use super::cms::{Algorithm, ContentInfo, SignedData, SignerId, SignerInfo};
use crate::{
    convert::sha256,
    identity::PeerCertificate,
    pb::v1::SignatureAlgorithm,
    refusal::{Reason, Refusal},
    signer,
};
use der::{Decode as _, asn1::ObjectIdentifier, asn1::OctetStringRef};
use sm3::{Digest as _, Sm3};
use std::borrow::Cow;
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, prelude::FromDer as _,
};

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// SignedData: RFC 5652 §5.1 and GM/T 0010.
const SIGNED: [ObjectIdentifier; 2] = [oid("1.2.840.113549.1.7.2"), oid("1.2.156.10197.6.1.4.2.2")];

/// Data within: RFC 5652 §4 and GM/T 0010.
const DATA: [ObjectIdentifier; 2] = [oid("1.2.840.113549.1.7.1"), oid("1.2.156.10197.6.1.4.2.1")];

/// What is encrypted: enveloped (also with a signature within), encrypted and authenticated data.
const ENCRYPTED: [ObjectIdentifier; 7] = [
    oid("1.2.840.113549.1.7.3"),
    oid("1.2.840.113549.1.7.4"),
    oid("1.2.840.113549.1.7.6"),
    oid("1.2.840.113549.1.9.16.1.23"),
    oid("1.2.156.10197.6.1.4.2.3"),
    oid("1.2.156.10197.6.1.4.2.4"),
    oid("1.2.156.10197.6.1.4.2.5"),
];

const CONTENT_TYPE: ObjectIdentifier = oid("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = oid("1.2.840.113549.1.9.4");

const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
const ECDSA_WITH_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
const SM3: ObjectIdentifier = oid("1.2.156.10197.1.401");

/// SM2 as signers write it: the curve, the scheme, the scheme with SM3. Source: GM/T 0006.
const SM2: [ObjectIdentifier; 3] =
    [oid("1.2.156.10197.1.301"), oid("1.2.156.10197.1.301.1"), oid("1.2.156.10197.1.501")];

/// The content of a SignedData in strict DER that `peer` signed.
///
/// # Errors
/// ENCRYPTION_UNSUPPORTED for enveloped data; MALFORMED_MESSAGE for what is no SignedData with its
/// content and exactly one signer; DIGEST_MISMATCH when the signed attributes belong to other
/// content; SIGNATURE_INVALID when the peer's key did not sign it with one of our algorithms.
pub(super) fn verify(cms: &[u8], peer: &PeerCertificate) -> Result<Vec<u8>, Refusal> {
    let signed = opened(cms)?;
    let content =
        signed.content.ok_or_else(|| malformed("the signature has no content with it"))?;
    let [signer] = signed.signers.as_slice() else {
        return Err(malformed("there must be exactly one signer"));
    };
    let signer = SignerInfo::read(signer).map_err(|_| malformed("the signer's part is not DER"))?;
    let algorithm = algorithm(&signer.digest, &signer.algorithm)
        .ok_or_else(|| invalid("only ECDSA P-256 with SHA-256 and SM2 with SM3 are taken"))?;
    let named = |digest: &Algorithm<'_>| digest.plain() == signer.digest.plain();
    if !signed.digests.iter().any(named) {
        return Err(malformed("the signer's digest is not among the message's"));
    }
    let key = key_of_peer(&signed.certificates, &signer.id, peer)?;
    let message = covered(&signer, algorithm, signed.content_type, content)?;
    if signer::verify(algorithm, key, &message, signer.signature) {
        return Ok(content.to_vec());
    }
    Err(invalid("the signature does not verify"))
}

fn opened(cms: &[u8]) -> Result<SignedData<'_>, Refusal> {
    let info = ContentInfo::read(cms).map_err(|_| malformed("is not a CMS message in DER"))?;
    if ENCRYPTED.contains(&info.content_type) {
        let hint = "interface/Data/content: encrypted content is not taken; sign it only";
        return Err(Refusal::new(Reason::EncryptionUnsupported, hint));
    }
    if !SIGNED.contains(&info.content_type) {
        return Err(malformed("is no SignedData"));
    }
    let signed =
        SignedData::read(info.content).map_err(|_| malformed("is not a SignedData in DER"))?;
    if DATA.contains(&signed.content_type) {
        return Ok(signed);
    }
    Err(malformed("what is signed is not data"))
}

fn algorithm(digest: &Algorithm<'_>, signature: &Algorithm<'_>) -> Option<SignatureAlgorithm> {
    match (digest.plain()?, signature.plain()?) {
        (SHA256, ECDSA_WITH_SHA256) => Some(SignatureAlgorithm::EcdsaP256Sha256),
        (SM3, scheme) if SM2.contains(&scheme) => Some(SignatureAlgorithm::Sm2Sm3),
        _ => None,
    }
}

/// The SubjectPublicKeyInfo, DER, of the certificate that the signer names, which must be the
/// peer's. Dates and chain were the handshake's to check: the same key is the same caller.
fn key_of_peer<'a>(
    certificates: &[&'a [u8]],
    id: &SignerId<'_>,
    peer: &PeerCertificate,
) -> Result<&'a [u8], Refusal> {
    // Issuers other than ours may give a name and a serial number twice, so all that fit are tried.
    let parsed = certificates.iter().filter_map(|der| X509Certificate::from_der(der).ok());
    let named = parsed.filter(|(_, certificate)| is_named(certificate, id));
    let mut keys = named.map(|(_, one)| one.tbs_certificate.subject_pki.raw).peekable();
    if keys.peek().is_none() {
        return Err(invalid("the signer's certificate is not in the message"));
    }
    keys.find(|key| sha256(key) == peer.key.0)
        .ok_or_else(|| invalid("the signer's key is not that of the connection's certificate"))
}

fn is_named(certificate: &X509Certificate<'_>, id: &SignerId<'_>) -> bool {
    match id {
        SignerId::Serial { issuer, serial } => {
            certificate.issuer().as_raw() == *issuer && certificate.raw_serial() == *serial
        }
        SignerId::KeyId(id) => certificate.extensions().iter().any(|extension| {
            matches!(extension.parsed_extension(),
                ParsedExtension::SubjectKeyIdentifier(known) if known.0 == *id)
        }),
    }
}

/// What the signature is over: the signed attributes, once they are those of this content, or the
/// content itself (RFC 5652 §5.4). The one cannot pass for the other: attributes are a SET, which
/// no body and no gzip of one begins like.
fn covered<'a>(
    signer: &SignerInfo<'a>,
    algorithm: SignatureAlgorithm,
    content_type: ObjectIdentifier,
    content: &'a [u8],
) -> Result<Cow<'a, [u8]>, Refusal> {
    let Some(attributes) = &signer.attributes else { return Ok(Cow::Borrowed(content)) };
    let given = attributes.only(CONTENT_TYPE).and_then(|der| ObjectIdentifier::from_der(der).ok());
    if given != Some(content_type) {
        return Err(malformed("the signed content type is not that of the content"));
    }
    let given = attributes
        .only(MESSAGE_DIGEST)
        .and_then(|der| <&OctetStringRef>::from_der(der).ok())
        .ok_or_else(|| malformed("the signed attributes have no message digest"))?;
    if given.as_bytes() != digest(algorithm, content) {
        let hint = "interface/Data/content: the signed digest is not that of the content";
        return Err(Refusal::new(Reason::DigestMismatch, hint));
    }
    Ok(Cow::Owned(attributes.signed.clone()))
}

fn digest(algorithm: SignatureAlgorithm, content: &[u8]) -> [u8; 32] {
    match algorithm {
        SignatureAlgorithm::Sm2Sm3 => Sm3::digest(content).into(),
        SignatureAlgorithm::EcdsaP256Sha256 | SignatureAlgorithm::Unspecified => sha256(content),
    }
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Reason::MalformedMessage, format!("interface/Data/content: {what}"))
}

fn invalid(what: &str) -> Refusal {
    Refusal::new(Reason::SignatureInvalid, format!("interface/Data/content: {what}"))
}
