//! The acceptance side's receipt key: made at the first start, kept beside the books, its public
//! half exported for the proxies. It never changes silently: the books remember it.

use super::AuthorityError;
use crate::secret::Secret;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use p256::pkcs8::EncodePublicKey as _;
use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// The private key: PKCS#8, DER, mode 0600.
const PRIVATE_FILE: &str = "receipt-key.p8";
/// The public key: SubjectPublicKeyInfo, DER.
const PUBLIC_FILE: &str = "receipt-key.der";

/// Signs receipts, ECDSA P-256 with SHA-256.
#[derive(Debug)]
pub(super) struct ReceiptKey {
    pair: EcdsaKeyPair,
    /// SubjectPublicKeyInfo, DER.
    pub(super) public_der: Vec<u8>,
}

impl ReceiptKey {
    /// Loads the key in `dir`; makes one when there is none.
    ///
    /// # Errors
    /// `Key` when it does not read as a P-256 key, `File` when it is not read or written.
    pub(super) fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let path = dir.join(PRIVATE_FILE);
        if !path.exists() {
            let fresh =
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                    .map_err(|_| AuthorityError::Key { path: path.clone() })?;
            write_whole(&path, fresh.as_ref(), 0o600)?;
        }
        let read = |source| AuthorityError::File { path: path.clone(), source };
        let bytes = Secret::new(fs::read(&path).map_err(read)?);
        let key = || AuthorityError::Key { path: path.clone() };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, bytes.expose())
            .map_err(|_| key())?;
        let public_der = p256::PublicKey::from_sec1_bytes(pair.public_key().as_ref())
            .ok()
            .and_then(|public| public.to_public_key_der().ok())
            .ok_or_else(key)?
            .into_vec();
        write_whole(&dir.join(PUBLIC_FILE), &public_der, 0o644)?;
        Ok(Self { pair, public_der })
    }

    /// Signs a statement; ASN.1 DER. ECDSA is randomised: each call gives other bytes.
    ///
    /// # Errors
    /// `Sign` when the generator fails.
    pub(super) fn sign(&self, statement: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        let signature = self.pair.sign(&SystemRandom::new(), statement);
        Ok(signature.map_err(|_| AuthorityError::Sign)?.as_ref().to_vec())
    }
}

/// Writes a file under another name, syncs it and moves it into place.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file =
            tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_kept_private_and_exported() {
        let dir = tempfile::tempdir().unwrap();
        let first = ReceiptKey::open(dir.path()).unwrap();
        let again = ReceiptKey::open(dir.path()).unwrap();
        assert_eq!(first.public_der, again.public_der);
        assert_eq!(fs::read(dir.path().join(PUBLIC_FILE)).unwrap(), first.public_der);
        let mode = fs::metadata(dir.path().join(PRIVATE_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_broken_key_file_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PRIVATE_FILE), b"no key").unwrap();
        assert!(matches!(ReceiptKey::open(dir.path()), Err(AuthorityError::Key { .. })));
    }
}
