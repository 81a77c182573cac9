//! A virtual device's private key, ready to sign. It lives in memory only, is never printed, and
//! carries the device's HMAC key, which follows from the private key and so survives every restart.

use crate::{pb::v1 as pb, registry::BackendKind, secret::Secret};
use aws_lc_rs::{hkdf, hmac, rand::SystemRandom, signature};
use sm2::{
    dsa::signature::Signer as _, elliptic_curve::sec1::ToSec1Point as _,
    pkcs8::EncodePublicKey as _,
};
use std::fmt;

/// SM2 identity (可辨别标识) of every signature: 16 bytes. Source: GB/T 35276 §10.
pub const SM2_IDENTITY: &str = "1234567812345678";

/// Length of a private key, a big-endian scalar. Unit: bytes.
pub(crate) const SCALAR_LEN: usize = 32;

/// Separates the HMAC key from any other use of the private key. Part of the stored format: another
/// label gives other check codes.
const HMAC_SALT: &[u8] = b"skproxy device hmac v1";

/// Why a private key is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are no private key of the curve.
    #[error("the bytes are no private key")]
    NoKey,
    /// The backend keeps its key to itself.
    #[error("a {} has no software key", .0.name())]
    NoSoftwareKey(BackendKind),
    /// The library failed to sign.
    #[error("the cryptographic library failed to sign")]
    Sign,
}

/// A device's private key, its public half and its HMAC key.
pub struct DeviceKey {
    private: Private,
    spki: Vec<u8>,
    hmac: hmac::Key,
}

enum Private {
    P256(Box<signature::EcdsaKeyPair>),
    Sm2(Box<sm2::dsa::SigningKey>),
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey").field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}

impl DeviceKey {
    /// Reads a private key: a big-endian scalar of 32 bytes.
    ///
    /// # Errors
    /// `NoKey` when the scalar is zero or not below the curve's order, `NoSoftwareKey` when
    /// `kind` keeps its key to itself.
    pub fn from_scalar(
        kind: BackendKind,
        scalar: &Secret<[u8; SCALAR_LEN]>,
    ) -> Result<Self, KeyError> {
        let (private, spki) = match kind {
            BackendKind::SoftwareP256 => p256_pair(scalar.expose())?,
            BackendKind::SoftwareSm2 => sm2_pair(scalar.expose())?,
            BackendKind::Pkcs11
            | BackendKind::Sdf
            | BackendKind::Skf
            | BackendKind::SkServer
            | BackendKind::SimulatedDevice => return Err(KeyError::NoSoftwareKey(kind)),
        };
        Ok(Self { private, spki, hmac: hmac_key(scalar.expose()) })
    }

    /// SubjectPublicKeyInfo, DER (RFC 5480; SM2: GM/T 0009).
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.spki
    }

    /// What `sign` makes.
    #[must_use]
    pub fn algorithm(&self) -> pb::SignatureAlgorithm {
        match self.private {
            Private::P256(_) => pb::SignatureAlgorithm::EcdsaP256Sha256,
            Private::Sm2(_) => pb::SignatureAlgorithm::Sm2Sm3,
        }
    }

    /// Signs a message (not its digest). ASN.1 DER, at most 72 bytes.
    ///
    /// # Errors
    /// `Sign` when the library fails, for P-256 also when there is no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.private {
            Private::P256(pair) => {
                let signature =
                    pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Sign)?;
                Ok(signature.as_ref().to_vec())
            }
            Private::Sm2(key) => {
                let signature = key.try_sign(message).map_err(|_| KeyError::Sign)?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
        }
    }

    /// The device's HMAC-SHA256 key, for check code and cipher text.
    pub(crate) fn hmac(&self) -> &hmac::Key {
        &self.hmac
    }

    /// Puts a foreign public key in, so that tests see what a damaged key does.
    #[cfg(test)]
    pub(crate) fn with_public_key_of(mut self, other: &Self) -> Self {
        self.spki = other.spki.clone();
        self
    }
}

fn p256_pair(scalar: &[u8]) -> Result<(Private, Vec<u8>), KeyError> {
    let public = p256::SecretKey::from_slice(scalar).map_err(|_| KeyError::NoKey)?.public_key();
    let pair = signature::EcdsaKeyPair::from_private_key_and_public_key(
        &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        scalar,
        public.to_sec1_point(false).as_bytes(),
    )
    .map_err(|_| KeyError::NoKey)?;
    let spki = public.to_public_key_der().map_err(|_| KeyError::NoKey)?.into_vec();
    Ok((Private::P256(Box::new(pair)), spki))
}

fn sm2_pair(scalar: &[u8]) -> Result<(Private, Vec<u8>), KeyError> {
    let secret = sm2::SecretKey::from_slice(scalar).map_err(|_| KeyError::NoKey)?;
    let key = sm2::dsa::SigningKey::new(SM2_IDENTITY, &secret).map_err(|_| KeyError::NoKey)?;
    let spki = secret.public_key().to_public_key_der().map_err(|_| KeyError::NoKey)?.into_vec();
    Ok((Private::Sm2(Box::new(key)), spki))
}

fn hmac_key(scalar: &[u8]) -> hmac::Key {
    hkdf::Salt::new(hkdf::HKDF_SHA256, HMAC_SALT)
        .extract(scalar)
        .expand(&[b"check code and cipher text"], hmac::HMAC_SHA256)
        .expect("32 bytes are within HKDF's limit")
        .into()
}

/// A fresh private key for `kind`, from the cryptographic generator.
///
/// # Errors
/// `NoSoftwareKey` when the backend keeps its key to itself.
pub(crate) fn fresh_scalar(kind: BackendKind) -> Result<Secret<[u8; SCALAR_LEN]>, KeyError> {
    loop {
        // One draw in 2^32 lies outside the curve's order; drawing again keeps the rest uniform.
        let scalar = Secret::new(crate::clock::random());
        match DeviceKey::from_scalar(kind, &scalar) {
            Ok(_) => return Ok(scalar),
            Err(KeyError::NoKey) => {}
            Err(error @ (KeyError::NoSoftwareKey(_) | KeyError::Sign)) => return Err(error),
        }
    }
}
