//! Signs with a key in memory what we numbered. Signing again gives the same check code and cipher
//! text (a P-256 signature differs each time; an SM2 one does not).
//!
//! Invariant: no signature leaves a signer whose key has failed a check. A key is checked when it
//! is loaded and again on one record of 1024, by an implementation that did not make the signature
//! where there is one.

use super::{
    ProxyNumbered, Signed, SignerError,
    derive::{self, CipherForm, Record},
    key::{DeviceKey, SM2_IDENTITY},
};
use crate::{
    pb::v1 as pb,
    store::{Claim, Durable},
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use sm2::{dsa::signature::Verifier as _, pkcs8::DecodePublicKey as _};

/// What the self-test signs; no record begins like it.
const SELF_TEST: &[u8] = b"skproxy self-test of a software key";

/// A software backend of one virtual device.
#[derive(Debug)]
pub struct SoftwareSigner {
    device_id: String,
    key: DeviceKey,
    key_hash: [u8; 32],
    form: CipherForm,
    /// Set for good when a check fails; a key that lies once is not asked again.
    broken: bool,
}

impl SoftwareSigner {
    /// Takes a device's key into service, after a signature of it was verified.
    ///
    /// # Errors
    /// `Unavailable` when the key does not fit its public half.
    pub fn new(device_id: &str, key: DeviceKey, form: CipherForm) -> Result<Self, SignerError> {
        let key_hash = crate::convert::sha256(key.public_key());
        let mut signer =
            Self { device_id: device_id.to_owned(), key, key_hash, form, broken: false };
        let signature = signer.signature(SELF_TEST)?;
        signer.check(SELF_TEST, &signature)?;
        Ok(signer)
    }

    /// SubjectPublicKeyInfo of the signing key, DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        if self.broken {
            return Err(self.unavailable("its key failed a check: replace the key"));
        }
        self.key.sign(message).map_err(|error| self.unavailable(&error.to_string()))
    }

    fn check(&mut self, message: &[u8], signature: &[u8]) -> Result<(), SignerError> {
        let (algorithm, public_key) = (self.key.algorithm(), self.key.public_key());
        if verify_independently(algorithm, public_key, message, signature) {
            return Ok(());
        }
        self.broken = true;
        Err(self.unavailable("a signature of its key does not verify: replace the key"))
    }

    fn unavailable(&self, detail: &str) -> SignerError {
        SignerError::Unavailable { device: self.device_id.clone(), detail: detail.to_owned() }
    }
}

impl ProxyNumbered for SoftwareSigner {
    fn sign(&mut self, claim: &Durable<Claim>) -> Result<Signed, SignerError> {
        let record = Record::of(claim).ok_or_else(|| SignerError::Refused {
            device: self.device_id.clone(),
            detail: "the claim has no number, and a software device draws none".into(),
        })?;
        let signature = self.signature(&claim.head.0)?;
        if is_sampled(&record.digest) {
            self.check(&claim.head.0, &signature)?;
        }
        let check_code = derive::check_code(self.key.hmac(), &record);
        Ok(Signed {
            cipher_text: derive::cipher_text(self.key.hmac(), self.form, &record),
            qr_text: derive::qr_text(&record, &check_code),
            check_code,
            algorithm: self.key.algorithm(),
            signature,
            signer_key: self.key_hash,
        })
    }
}

/// One record of 1024. The digest chooses, not a counter, so that devices which sign little are met
/// too.
fn is_sampled(digest: &[u8; 32]) -> bool {
    digest[0] == 0 && digest[1] & 3 == 0
}

/// Whether `signature` (ASN.1 DER) is one of the key's over `message`. `spki_der` is a
/// SubjectPublicKeyInfo. The fast way, for every received invoice; false for an algorithm not
/// named.
#[must_use]
pub fn verify(
    algorithm: pb::SignatureAlgorithm,
    spki_der: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    match algorithm {
        pb::SignatureAlgorithm::EcdsaP256Sha256 => {
            // The library would also take a bare point; only a SubjectPublicKeyInfo is a key here.
            spki_der.first() == Some(&0x30)
                && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki_der)
                    .verify(message, signature)
                    .is_ok()
        }
        pb::SignatureAlgorithm::Sm2Sm3 => verify_sm2(spki_der, message, signature),
        pb::SignatureAlgorithm::Unspecified => false,
    }
}

/// The same by an implementation that did not make our signatures (P-256: RustCrypto's; six times
/// slower). SM2 has only the one.
#[must_use]
pub fn verify_independently(
    algorithm: pb::SignatureAlgorithm,
    spki_der: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    match algorithm {
        pb::SignatureAlgorithm::EcdsaP256Sha256 => {
            let key = p256::ecdsa::VerifyingKey::from_public_key_der(spki_der);
            let signature = p256::ecdsa::Signature::from_der(signature);
            matches!((key, signature), (Ok(key), Ok(signature))
                if key.verify(message, &signature).is_ok())
        }
        pb::SignatureAlgorithm::Sm2Sm3 => verify_sm2(spki_der, message, signature),
        pb::SignatureAlgorithm::Unspecified => false,
    }
}

fn verify_sm2(spki_der: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(public) = sm2::PublicKey::from_public_key_der(spki_der) else { return false };
    let key = sm2::dsa::VerifyingKey::new(SM2_IDENTITY, public);
    let signature = sm2::dsa::Signature::from_der(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registry::BackendKind,
        signer::{fixtures, key::fresh_scalar},
    };
    use std::{path::Path, process::Command};

    const KINDS: [BackendKind; 2] = [BackendKind::SoftwareP256, BackendKind::SoftwareSm2];

    fn key(kind: BackendKind) -> DeviceKey {
        DeviceKey::from_scalar(kind, &fresh_scalar(kind).unwrap()).unwrap()
    }

    fn signer(kind: BackendKind) -> SoftwareSigner {
        SoftwareSigner::new("vd-1", key(kind), CipherForm::Baiwang).unwrap()
    }

    #[test]
    fn a_signed_claim_verifies_in_both_ways_and_only_as_it_was_signed() {
        for kind in KINDS {
            let mut signer = signer(kind);
            let claim = fixtures::numbered(1, 1);
            let signed = signer.sign(&claim).unwrap();
            let spki = signer.public_key().to_vec();
            assert!(signed.signature.len() <= 72);
            assert_eq!(signed.signer_key, crate::convert::sha256(&spki));
            let other = self::signer(kind);
            for verify in [verify, verify_independently] {
                let ok = |spki: &[u8], message: &[u8], signature: &[u8]| {
                    verify(signed.algorithm, spki, message, signature)
                };
                assert!(ok(&spki, &claim.head.0, &signed.signature), "{kind:?}");
                assert!(!ok(&spki, b"another record", &signed.signature), "{kind:?}");
                assert!(!ok(other.public_key(), &claim.head.0, &signed.signature), "{kind:?}");
                assert!(!ok(&spki, &claim.head.0, b""), "{kind:?}");
                assert!(!ok(b"", &claim.head.0, &signed.signature), "{kind:?}");
                let bare_point = &spki[spki.len() - 65..];
                assert!(!ok(bare_point, &claim.head.0, &signed.signature), "{kind:?}");
                let mut flipped = signed.signature.clone();
                *flipped.last_mut().unwrap() ^= 1;
                assert!(!ok(&spki, &claim.head.0, &flipped), "{kind:?}");
                for algorithm in [
                    pb::SignatureAlgorithm::Unspecified,
                    pb::SignatureAlgorithm::EcdsaP256Sha256,
                    pb::SignatureAlgorithm::Sm2Sm3,
                ] {
                    let accepted = verify(algorithm, &spki, &claim.head.0, &signed.signature);
                    assert_eq!(accepted, algorithm == signed.algorithm, "{kind:?} {algorithm:?}");
                }
            }
        }
    }

    #[test]
    fn signing_again_after_a_restart_changes_neither_check_code_nor_cipher_text() {
        for kind in KINDS {
            let scalar = fresh_scalar(kind).unwrap();
            let sign = |number| {
                let key = DeviceKey::from_scalar(kind, &scalar).unwrap();
                let mut signer = SoftwareSigner::new("vd-1", key, CipherForm::Aisino).unwrap();
                signer.sign(&fixtures::numbered(1, number)).unwrap()
            };
            let (one, two, other) = (sign(1), sign(1), sign(2));
            assert_eq!(one.check_code, two.check_code, "{kind:?}");
            assert_eq!(one.cipher_text, two.cipher_text, "{kind:?}");
            assert_eq!(one.qr_text, two.qr_text, "{kind:?}");
            assert_ne!(one.check_code, other.check_code, "{kind:?}");
            assert!(one.qr_text.contains(&one.check_code), "{kind:?}");
        }
    }

    #[test]
    fn a_key_that_does_not_fit_its_public_half_is_not_taken_into_service() {
        for kind in KINDS {
            let damaged = key(kind).with_public_key_of(&key(kind));
            let error = SoftwareSigner::new("vd-1", damaged, CipherForm::Baiwang).unwrap_err();
            assert!(matches!(error, SignerError::Unavailable { .. }), "{kind:?} {error}");
        }
    }

    #[test]
    fn a_key_that_goes_bad_is_found_by_the_sample_and_not_asked_again() {
        let mut signer = signer(BackendKind::SoftwareP256);
        signer.key = key(BackendKind::SoftwareP256).with_public_key_of(&signer.key);
        let sampled = (1..100_000)
            .find(|&number| {
                let claim = fixtures::numbered(1, number);
                is_sampled(&crate::convert::sha256(&claim.head.0))
            })
            .expect("one record of 1024 is sampled");
        let first_error = (1..=sampled).find_map(|number| {
            signer.sign(&fixtures::numbered(1, number)).err().map(|error| (number, error))
        });
        let (number, error) = first_error.expect("the sample finds it");
        assert_eq!(number, sampled);
        assert!(error.to_string().contains("does not verify"), "{error}");
        let again = signer.sign(&fixtures::numbered(1, sampled + 1)).unwrap_err();
        assert!(again.to_string().contains("replace the key"), "{again}");
    }

    #[test]
    fn a_claim_without_a_number_is_refused() {
        let error = signer(BackendKind::SoftwareP256).sign(&fixtures::by_device(1, 1)).unwrap_err();
        assert!(matches!(error, SignerError::Refused { .. }), "{error}");
    }

    fn openssl(directory: &Path, arguments: &[&str]) -> bool {
        let output = Command::new("openssl").args(arguments).current_dir(directory).output();
        output.expect("the openssl command runs").status.success()
    }

    #[test]
    fn openssl_accepts_our_signatures_and_no_others() {
        let sm2 = ["-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678"];
        let p256 = ["-rawin", "-digest", "sha256"];
        for (kind, options) in
            [(BackendKind::SoftwareP256, &p256[..]), (BackendKind::SoftwareSm2, &sm2)]
        {
            let directory = tempfile::tempdir().unwrap();
            let mut signer = signer(kind);
            let claim = fixtures::numbered(1, 7);
            let signature = signer.sign(&claim).unwrap().signature;
            let write = |name: &str, bytes: &[u8]| {
                std::fs::write(directory.path().join(name), bytes).unwrap();
            };
            write("key", signer.public_key());
            write("record", &claim.head.0);
            write("altered", b"another record");
            write("signature", &signature);
            for (message, expect) in [("record", true), ("altered", false)] {
                let verify = ["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key"];
                let files = ["-in", message, "-sigfile", "signature"];
                let arguments = [&verify[..], options, &files].concat();
                assert_eq!(openssl(directory.path(), &arguments), expect, "{kind:?} {message}");
            }
        }
    }

    #[test]
    fn we_accept_sm2_signatures_of_openssl() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join("record"), b"record").unwrap();
        for arguments in [
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:SM2 -out private",
            "pkey -in private -pubout -outform DER -out key",
            "pkeyutl -sign -inkey private -rawin -digest sm3 -pkeyopt distid:1234567812345678 \
             -in record -out signature",
        ] {
            assert!(openssl(path, &arguments.split_whitespace().collect::<Vec<_>>()));
        }
        let read = |name| std::fs::read(path.join(name)).unwrap();
        let algorithm = pb::SignatureAlgorithm::Sm2Sm3;
        assert!(verify(algorithm, &read("key"), b"record", &read("signature")));
        assert!(!verify(algorithm, &read("key"), b"recorD", &read("signature")));
    }
}
