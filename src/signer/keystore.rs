//! Wraps device keys for the store: one slow key derivation opens the key store, AES-256-GCM does
//! the rest, so that 100,000 devices load in seconds. Pure: bytes in, bytes out; who keeps them is
//! not its business.
//!
//! Invariants: a private key leaves this file only as a `DeviceKey`; a wrapped key opens only for
//! the device and backend it was made for; nothing here prints a secret.

use super::key::{self, DeviceKey, KeyError, SCALAR_LEN};
use crate::{registry::BackendKind, secret::Secret};
use aws_lc_rs::{
    aead::{self, Aad, Nonce},
    constant_time, hkdf, hmac, pbkdf2,
};
use std::{fmt, num::NonZeroU32};

/// Version byte of the header.
const HEADER_VERSION: u8 = 1;
/// Version byte of a wrapped key.
const WRAPPED_VERSION: u8 = 1;
/// The only key derivation so far: PBKDF2-HMAC-SHA256.
const KDF_PBKDF2_SHA256: u8 = 1;
/// OWASP's number for PBKDF2-HMAC-SHA256 (2023).
const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");
/// A header that asks for more is damaged: it would keep a start busy for minutes.
const ITERATIONS_MAX: u32 = 20_000_000;
/// Unit: bytes.
const SALT_LEN: usize = 16;
/// Unit: bytes.
const CHECK_LEN: usize = 16;
/// version, KDF, iterations, salt, check, CRC. Unit: bytes.
const HEADER_LEN: usize = 1 + 1 + 4 + SALT_LEN + CHECK_LEN + 4;
/// version, backend, nonce, ciphertext, tag. Unit: bytes.
const WRAPPED_LEN: usize = 2 + aead::NONCE_LEN + SCALAR_LEN + 16;

/// Why the key store or a key in it does not open. Every message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyStoreError {
    /// The header is whole, the passphrase is not the one it was made with.
    #[error("the passphrase is wrong: give the one that the key store was made with")]
    WrongPassphrase,
    /// The header's bytes are not what was written.
    #[error("the key store's header is damaged: restore the data directory from a backup")]
    HeaderDamaged,
    /// A wrapped key's bytes are not what was written, or were written for another device.
    #[error(
        "the key of device {device} does not open: it is damaged or was wrapped for another device \
         or key store; restore the data directory from a backup"
    )]
    KeyDamaged {
        /// Device id.
        device: String,
    },
    /// Written by a newer version.
    #[error("version {found} of the {what} is unknown: run the newer skproxy that wrote it")]
    UnsupportedVersion {
        /// "key store header", "key derivation" or "wrapped key".
        what: &'static str,
        /// The version byte found.
        found: u8,
    },
    /// The backend keeps its key to itself.
    #[error("no software key belongs to a {}: choose a software backend", .0.name())]
    NoSoftwareKey(BackendKind),
}

/// What is needed to open the key store besides the passphrase. Not secret, but as dear as the
/// keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStoreHeader {
    iterations: NonZeroU32,
    salt: [u8; SALT_LEN],
    /// Follows from the passphrase by a branch of its own, so it tells nothing of the wrapping key.
    check: [u8; CHECK_LEN],
}

impl KeyStoreHeader {
    /// 42 bytes: version, KDF, iterations (big-endian), salt, check value, CRC-32 of all before.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend([HEADER_VERSION, KDF_PBKDF2_SHA256]);
        bytes.extend(self.iterations.get().to_be_bytes());
        bytes.extend(self.salt);
        bytes.extend(self.check);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// Reads `to_bytes`.
    ///
    /// # Errors
    /// `UnsupportedVersion` for another version or KDF, `HeaderDamaged` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyStoreError> {
        let (&version, _) = bytes.split_first().ok_or(KeyStoreError::HeaderDamaged)?;
        if version != HEADER_VERSION {
            let what = "key store header";
            return Err(KeyStoreError::UnsupportedVersion { what, found: version });
        }
        let bytes: &[u8; HEADER_LEN] =
            bytes.try_into().map_err(|_| KeyStoreError::HeaderDamaged)?;
        let (body, crc) = bytes.split_last_chunk().expect("the length is fixed");
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return Err(KeyStoreError::HeaderDamaged);
        }
        if body[1] != KDF_PBKDF2_SHA256 {
            let what = "key derivation";
            return Err(KeyStoreError::UnsupportedVersion { what, found: body[1] });
        }
        let (iterations, rest) = body[2..].split_first_chunk().expect("the length is fixed");
        let (salt, rest) = rest.split_first_chunk().expect("the length is fixed");
        let (check, _) = rest.split_first_chunk().expect("the length is fixed");
        let iterations = u32::from_be_bytes(*iterations);
        if !(ITERATIONS.get()..=ITERATIONS_MAX).contains(&iterations) {
            return Err(KeyStoreError::HeaderDamaged);
        }
        let iterations = NonZeroU32::new(iterations).ok_or(KeyStoreError::HeaderDamaged)?;
        Ok(Self { iterations, salt: *salt, check: *check })
    }
}

/// A device key as the store keeps it: 62 bytes, version byte first, useless without the key store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey(pub Vec<u8>);

/// An open key store: wraps and unwraps device keys.
pub struct KeyStore {
    key_encryption_key: aead::LessSafeKey,
    pin_key: hmac::Key,
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyStore([redacted])")
    }
}

impl KeyStore {
    /// Makes a key store under a passphrase. Takes a few tenths of a second.
    #[must_use]
    pub fn create(passphrase: &Secret<String>) -> (Self, KeyStoreHeader) {
        let salt = crate::clock::random();
        let (store, check) = derive(ITERATIONS, &salt, passphrase);
        (store, KeyStoreHeader { iterations: ITERATIONS, salt, check })
    }

    /// Opens a key store. Takes a few tenths of a second, once per start.
    ///
    /// # Errors
    /// `WrongPassphrase`.
    pub fn open(
        header: &KeyStoreHeader,
        passphrase: &Secret<String>,
    ) -> Result<Self, KeyStoreError> {
        let (store, check) = derive(header.iterations, &header.salt, passphrase);
        constant_time::verify_slices_are_equal(&check, &header.check)
            .map_err(|_| KeyStoreError::WrongPassphrase)?;
        Ok(store)
    }

    /// Makes a key for a device: the wrapped key and its SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    /// `NoSoftwareKey` when the backend keeps its key to itself.
    pub fn generate(
        &self,
        kind: BackendKind,
        device_id: &str,
    ) -> Result<(WrappedKey, Vec<u8>), KeyStoreError> {
        let no_key = |_: KeyError| KeyStoreError::NoSoftwareKey(kind);
        let backend = backend_code(kind).ok_or(KeyStoreError::NoSoftwareKey(kind))?;
        let scalar = key::fresh_scalar(kind).map_err(no_key)?;
        let spki = DeviceKey::from_scalar(kind, &scalar).map_err(no_key)?.public_key().to_vec();
        Ok((self.wrap(backend, device_id, &scalar), spki))
    }

    /// Opens a device's key.
    ///
    /// # Errors
    /// `KeyDamaged` when it was altered or belongs to another device or key store,
    /// `UnsupportedVersion` when a newer version wrote it.
    pub fn unwrap(
        &self,
        wrapped: &WrappedKey,
        device_id: &str,
    ) -> Result<DeviceKey, KeyStoreError> {
        let damaged = || KeyStoreError::KeyDamaged { device: device_id.to_owned() };
        match wrapped.0.first() {
            Some(&WRAPPED_VERSION) => {}
            Some(&found) => {
                return Err(KeyStoreError::UnsupportedVersion { what: "wrapped key", found });
            }
            None => return Err(damaged()),
        }
        let bytes: &[u8; WRAPPED_LEN] = wrapped.0.as_slice().try_into().map_err(|_| damaged())?;
        let kind = backend_of(bytes[1]).ok_or_else(damaged)?;
        let (nonce, sealed) = bytes[2..].split_first_chunk().expect("the length is fixed");
        let mut sealed = zeroize::Zeroizing::new(sealed.to_vec());
        let aad = aad(bytes[1], device_id);
        let opened = self
            .key_encryption_key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut sealed)
            .map_err(|_| damaged())?;
        let scalar: [u8; SCALAR_LEN] = (&*opened).try_into().map_err(|_| damaged())?;
        DeviceKey::from_scalar(kind, &Secret::new(scalar)).map_err(|_| damaged())
    }

    /// A digest of a token's PIN that tells nothing of it without the key store, 32 bytes.
    #[must_use]
    pub fn pin_digest(&self, token: &str, pin: &Secret<String>) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.pin_key);
        context.update(token.as_bytes());
        context.update(&[0]);
        context.update(pin.expose().as_bytes());
        context.sign().as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
    }

    fn wrap(&self, backend: u8, device_id: &str, scalar: &Secret<[u8; SCALAR_LEN]>) -> WrappedKey {
        let nonce = crate::clock::random();
        let mut sealed = *scalar.expose();
        let tag = self
            .key_encryption_key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                aad(backend, device_id),
                &mut sealed,
            )
            .expect("32 bytes are within GCM's limit");
        let mut bytes = Vec::with_capacity(WRAPPED_LEN);
        bytes.extend([WRAPPED_VERSION, backend]);
        bytes.extend(nonce);
        bytes.extend(sealed);
        bytes.extend(tag.as_ref());
        WrappedKey(bytes)
    }
}

/// The one slow step. HKDF then parts the wrapping key from the check value.
fn derive(
    iterations: NonZeroU32,
    salt: &[u8; SALT_LEN],
    passphrase: &Secret<String>,
) -> (KeyStore, [u8; CHECK_LEN]) {
    let mut master = zeroize::Zeroizing::new([0; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        passphrase.expose().as_bytes(),
        master.as_mut_slice(),
    );
    let branches = hkdf::Salt::new(hkdf::HKDF_SHA256, b"skproxy key store v1").extract(&*master);
    let wrapping = branches
        .expand(&[b"wrap device keys"], &aead::AES_256_GCM)
        .expect("32 bytes are within HKDF's limit");
    let mut check = [0; 32];
    branches
        .expand(&[b"check the passphrase"], hkdf::HKDF_SHA256)
        .and_then(|branch| branch.fill(&mut check))
        .expect("32 bytes are within HKDF's limit");
    let (check, _) = check.split_first_chunk().expect("32 bytes hold 16");
    let pin_key = branches
        .expand(&[b"digest PINs"], hmac::HMAC_SHA256)
        .expect("32 bytes are within HKDF's limit")
        .into();
    (KeyStore { key_encryption_key: aead::LessSafeKey::new(wrapping.into()), pin_key }, *check)
}

/// Binds a wrapped key to its version, backend and device.
fn aad(backend: u8, device_id: &str) -> Aad<Vec<u8>> {
    Aad::from([&[WRAPPED_VERSION, backend], device_id.as_bytes()].concat())
}

fn backend_code(kind: BackendKind) -> Option<u8> {
    match kind {
        BackendKind::SoftwareP256 => Some(1),
        BackendKind::SoftwareSm2 => Some(2),
        BackendKind::Pkcs11
        | BackendKind::Sdf
        | BackendKind::Skf
        | BackendKind::SkServer
        | BackendKind::SimulatedDevice => None,
    }
}

fn backend_of(code: u8) -> Option<BackendKind> {
    [BackendKind::SoftwareP256, BackendKind::SoftwareSm2]
        .into_iter()
        .find(|&kind| backend_code(kind) == Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    fn passphrase() -> Secret<String> {
        Secret::new("a long example passphrase".into())
    }

    /// The derivation is slow on purpose, so the tests share one.
    static OPEN: LazyLock<(KeyStore, KeyStoreHeader)> =
        LazyLock::new(|| KeyStore::create(&passphrase()));

    #[test]
    fn a_wrapped_key_opens_after_a_restart_and_signs_alike() {
        let (store, header) = &*OPEN;
        let header = KeyStoreHeader::from_bytes(&header.to_bytes()).unwrap();
        let reopened = KeyStore::open(&header, &passphrase()).unwrap();
        for kind in [BackendKind::SoftwareP256, BackendKind::SoftwareSm2] {
            let (wrapped, spki) = store.generate(kind, "vd-1").unwrap();
            assert_eq!(wrapped.0.len(), WRAPPED_LEN);
            let (one, two) = (
                store.unwrap(&wrapped, "vd-1").unwrap(),
                reopened.unwrap(&wrapped, "vd-1").unwrap(),
            );
            assert_eq!(one.public_key(), spki, "{kind:?}");
            assert_eq!(two.public_key(), spki, "{kind:?}");
            let tags = [&one, &two].map(|key| aws_lc_rs::hmac::sign(key.hmac(), b"x"));
            assert_eq!(tags[0].as_ref(), tags[1].as_ref(), "the HMAC key follows from the key");
        }
    }

    #[test]
    fn a_wrong_passphrase_is_told_apart_from_damage() {
        let bytes = OPEN.1.to_bytes();
        let wrong = KeyStore::open(&OPEN.1, &Secret::new("another".into())).unwrap_err();
        assert_eq!(wrong, KeyStoreError::WrongPassphrase);
        for at in 1..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let error = KeyStoreHeader::from_bytes(&damaged).unwrap_err();
            assert_eq!(error, KeyStoreError::HeaderDamaged, "byte {at}");
        }
        for end in [0, 1, bytes.len() - 1] {
            let error = KeyStoreHeader::from_bytes(&bytes[..end]).unwrap_err();
            assert_eq!(error, KeyStoreError::HeaderDamaged, "cut at {end}");
        }
    }

    #[test]
    fn a_header_of_another_version_or_with_odd_parameters_is_refused() {
        let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = OPEN.1.to_bytes();
            change(&mut bytes);
            bytes.truncate(HEADER_LEN - 4);
            bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
            KeyStoreHeader::from_bytes(&bytes).unwrap_err()
        };
        let version = |what, found| KeyStoreError::UnsupportedVersion { what, found };
        assert_eq!(sealed(&|bytes| bytes[0] = 2), version("key store header", 2));
        assert_eq!(sealed(&|bytes| bytes[1] = 9), version("key derivation", 9));
        assert_eq!(sealed(&|bytes| bytes[2] = 0xff), KeyStoreError::HeaderDamaged);
        assert_eq!(sealed(&|bytes| bytes[2..6].fill(0)), KeyStoreError::HeaderDamaged);
    }

    #[test]
    fn a_wrapped_key_opens_only_unaltered_for_its_device_in_its_key_store() {
        let (store, _) = &*OPEN;
        let (wrapped, _) = store.generate(BackendKind::SoftwareP256, "vd-1").unwrap();
        let damaged = |device: &str| KeyStoreError::KeyDamaged { device: device.into() };
        assert_eq!(store.unwrap(&wrapped, "vd-2").unwrap_err(), damaged("vd-2"));
        for at in 1..wrapped.0.len() {
            let mut altered = wrapped.clone();
            altered.0[at] ^= 3; // turns backend 1 into 2, too
            assert_eq!(store.unwrap(&altered, "vd-1").unwrap_err(), damaged("vd-1"), "byte {at}");
        }
        let short = WrappedKey(wrapped.0[..10].to_vec());
        assert_eq!(store.unwrap(&short, "vd-1").unwrap_err(), damaged("vd-1"));
        assert_eq!(store.unwrap(&WrappedKey(vec![]), "vd-1").unwrap_err(), damaged("vd-1"));
        let newer = store.unwrap(&WrappedKey(vec![7]), "vd-1").unwrap_err();
        assert_eq!(newer, KeyStoreError::UnsupportedVersion { what: "wrapped key", found: 7 });
        let (other, _) = KeyStore::create(&passphrase());
        assert_eq!(other.unwrap(&wrapped, "vd-1").unwrap_err(), damaged("vd-1"));
    }

    #[test]
    fn a_device_that_keeps_its_key_gets_none_from_us() {
        let kind = BackendKind::SimulatedDevice;
        let error = OPEN.0.generate(kind, "vd-1").unwrap_err();
        assert_eq!(error, KeyStoreError::NoSoftwareKey(kind));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (store, _) = &*OPEN;
        let (wrapped, _) = store.generate(BackendKind::SoftwareSm2, "vd-1").unwrap();
        let key = store.unwrap(&wrapped, "vd-1").unwrap();
        assert_eq!(format!("{store:?}"), "KeyStore([redacted])");
        assert_eq!(format!("{key:?}"), "DeviceKey { algorithm: Sm2Sm3, .. }");
    }
}
