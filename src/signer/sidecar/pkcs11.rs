//! A PKCS#11 module with one of its tokens (OASIS PKCS#11 2.40 and later), through cryptoki. P-256
//! only: tokens have no common mechanism for SM2.
//!
//! Invariants: one login in a process, held by a session that is never handed out; a key handle is
//! used only in the session that found it.

use super::{
    module::{Class, FoundKey, Module, ModuleError, ModuleSession, Tries},
    pkcs11_codes::classed,
};
use crate::{pb::v1 as pb, secret::Secret};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
    types::AuthPin,
};
use p256::pkcs8::EncodePublicKey as _;
use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// `namedCurve` of P-256, DER: 1.2.840.10045.3.1.7.
const P256_PARAMS: &[u8] = &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];

/// Tag and length of an OCTET STRING around an uncompressed point of P-256, which is of 65 bytes.
const POINT_PREFIX: &[u8] = &[0x04, 0x41];

/// A loaded module with its token.
#[derive(Debug)]
pub(super) struct Pkcs11Module {
    /// Holds the login: a token logs out when the last session of a process closes. Opened before
    /// any PIN is presented, so that a token without a free session costs no try. It comes first,
    /// so it closes first.
    login: Mutex<Option<Session>>,
    slot: Slot,
    /// Model and serial number: the label can be changed.
    token: String,
    module: Initialized,
}

/// The library between `C_Initialize` and `C_Finalize`.
#[derive(Debug)]
struct Initialized(Pkcs11);

impl Drop for Initialized {
    fn drop(&mut self) {
        // The process ends with it; there is nobody to tell.
        drop(self.0.clone().finalize());
    }
}

impl Pkcs11Module {
    /// Loads a module and finds a token by its label, and by its serial number when that is given.
    ///
    /// # Errors
    /// Of class `Transient` while no such token is there: it may be plugged in again. Of class
    /// `Permanent` when it is no PKCS#11 module, or when several tokens fit.
    pub(super) fn load(
        path: &Path,
        label: &str,
        serial: Option<&str>,
    ) -> Result<Self, ModuleError> {
        let library = Pkcs11::new(path).doing("load the module")?;
        library
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .doing("initialise the module")?;
        let module = Initialized(library);
        let (slot, info) = find_token(&module.0, label, serial)?;
        let login = module.0.open_ro_session(slot).doing("open the session that logs in")?;
        let token = format!("{} {}", info.model().trim(), info.serial_number().trim());
        Ok(Self { login: Mutex::new(Some(login)), slot, token, module })
    }

    fn login(&self) -> MutexGuard<'_, Option<Session>> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Module for Pkcs11Module {
    fn token(&self) -> String {
        self.token.clone()
    }

    fn tries(&self) -> Result<Tries, ModuleError> {
        let info = self.module.0.get_token_info(self.slot).doing("read the token's flags")?;
        Ok(if info.user_pin_locked() {
            Tries::Locked
        } else if info.user_pin_final_try() || info.user_pin_count_low() {
            Tries::Low
        } else {
            Tries::Enough
        })
    }

    fn log_in(&self, pin: &Secret<String>) -> Result<(), ModuleError> {
        let login = self.login();
        let session = login.as_ref().ok_or_else(|| ours(Class::SessionLost, "no session"))?;
        match session.login(UserType::User, Some(&AuthPin::from(pin.expose().clone()))) {
            // Somebody in this process was faster, and the PIN was not looked at.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => Err(classed(&error, "log in")),
        }
    }

    fn find_key(&self, label: &str) -> Result<FoundKey, ModuleError> {
        let login = self.login();
        let session = login.as_ref().ok_or_else(|| ours(Class::SessionLost, "no session"))?;
        let private = private_key(session, label)?;
        let public_key = public_key(session, private, label)?;
        Ok(FoundKey { public_key, algorithm: pb::SignatureAlgorithm::EcdsaP256Sha256 })
    }

    fn open_session(&self, label: &str) -> Result<Box<dyn ModuleSession>, ModuleError> {
        let session = self.module.0.open_ro_session(self.slot).doing("open a session")?;
        let key = private_key(&session, label)?;
        Ok(Box::new(Pkcs11Session { session, key }))
    }
}

/// A session with the handle of its key.
#[derive(Debug)]
struct Pkcs11Session {
    session: Session,
    key: ObjectHandle,
}

impl ModuleSession for Pkcs11Session {
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], ModuleError> {
        let raw = self.session.sign(&Mechanism::Ecdsa, self.key, digest).doing("sign")?;
        let len = raw.len();
        raw.try_into().map_err(|_| {
            ours(Class::SessionLost, &format!("sign: a signature of {len} bytes instead of 64"))
        })
    }
}

fn find_token(
    library: &Pkcs11,
    label: &str,
    serial: Option<&str>,
) -> Result<(Slot, TokenInfo), ModuleError> {
    let (mut fitting, mut failure) = (Vec::new(), None);
    for slot in library.get_slots_with_token().doing("list the slots")? {
        match library.get_token_info(slot).doing("read a token's label") {
            Ok(info) => {
                let same_serial = serial.is_none_or(|serial| info.serial_number().trim() == serial);
                if info.label().trim_end() == label && same_serial {
                    fitting.push((slot, info));
                }
            }
            // Another slot may still hold the token.
            Err(error) => failure = Some(error),
        }
    }
    match fitting.len() {
        0 => Err(failure.unwrap_or_else(|| {
            ours(Class::Transient, &format!("no token labelled {label:?} is there"))
        })),
        1 => Ok(fitting.swap_remove(0)),
        several => Err(ours(
            Class::Permanent,
            &format!("{several} tokens are labelled {label:?}; give the serial number too"),
        )),
    }
}

fn private_key(session: &Session, label: &str) -> Result<ObjectHandle, ModuleError> {
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let found = session.find_objects(&template).doing("find the private key")?;
    match found[..] {
        [key] => Ok(key),
        [] => Err(ours(Class::Permanent, &format!("no private EC key is labelled {label:?}"))),
        _ => Err(ours(
            Class::Permanent,
            &format!("{} private EC keys are labelled {label:?}", found.len()),
        )),
    }
}

/// SubjectPublicKeyInfo of a private key: from the public key or the certificate that shares its
/// id, or its label when it has no id.
fn public_key(
    session: &Session,
    private: ObjectHandle,
    label: &str,
) -> Result<Vec<u8>, ModuleError> {
    let id = match attribute(session, private, AttributeType::Id)? {
        Some(Attribute::Id(id)) if !id.is_empty() => Attribute::Id(id),
        _ => Attribute::Label(label.as_bytes().to_vec()),
    };
    let of = |class| {
        let template = [Attribute::Class(class), id.clone()];
        session.find_objects(&template).doing("find the public key")
    };
    let mut keys = Vec::new();
    for object in of(ObjectClass::PUBLIC_KEY)? {
        keys.push(key_of_public_key(session, object)?);
    }
    if keys.is_empty() {
        for object in of(ObjectClass::CERTIFICATE)? {
            keys.push(key_of_certificate(session, object)?);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    match keys.len() {
        1 => Ok(keys.swap_remove(0)),
        0 => Err(ours(
            Class::Permanent,
            &format!("neither public key nor certificate goes with the private key {label:?}"),
        )),
        _ => Err(ours(
            Class::Permanent,
            &format!("several different public keys go with the private key {label:?}"),
        )),
    }
}

fn key_of_public_key(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, ModuleError> {
    let params = attribute(session, object, AttributeType::EcParams)?;
    if !matches!(&params, Some(Attribute::EcParams(params)) if params == P256_PARAMS) {
        return Err(ours(Class::Permanent, "the key is not on P-256"));
    }
    let Some(Attribute::EcPoint(point)) = attribute(session, object, AttributeType::EcPoint)?
    else {
        return Err(ours(Class::Permanent, "the public key shows no point"));
    };
    spki_of_point(&point).ok_or_else(|| ours(Class::Permanent, "the public key's point is none"))
}

/// Reads a point in its OCTET STRING, as the standard has it, or bare, as some tokens give it.
fn spki_of_point(point: &[u8]) -> Option<Vec<u8>> {
    let point = match point.strip_prefix(POINT_PREFIX) {
        Some(inner) if inner.len() == 65 => inner,
        _ => point,
    };
    let key = p256::PublicKey::from_sec1_bytes(point).ok()?;
    Some(key.to_public_key_der().ok()?.into_vec())
}

fn key_of_certificate(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, ModuleError> {
    let value = attribute(session, object, AttributeType::Value)?;
    let Some(Attribute::Value(certificate)) = value else {
        return Err(ours(Class::Permanent, "the certificate shows no value"));
    };
    spki_of_certificate(&certificate)
        .ok_or_else(|| ours(Class::Permanent, "the certificate holds no key on P-256"))
}

fn spki_of_certificate(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    spki_of_point(&certificate.public_key().subject_public_key.data).filter(|key| {
        // Another curve's point has another length; another algorithm's key is no point.
        certificate.public_key().raw == key.as_slice()
    })
}

/// An attribute of an object; `None` when it has none of this type.
fn attribute(
    session: &Session,
    object: ObjectHandle,
    kind: AttributeType,
) -> Result<Option<Attribute>, ModuleError> {
    let found = session.get_attributes(object, &[kind]).doing("read an attribute of a key")?;
    Ok(found.into_iter().next())
}

/// A failure that is no code of the module.
fn ours(class: Class, detail: &str) -> ModuleError {
    ModuleError { class, code: 0, name: "PKCS11".into(), detail: detail.to_owned() }
}

/// Classes a result of the library.
trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, ModuleError>;
}

impl<T> Doing<T> for Result<T, Error> {
    fn doing(self, what: &str) -> Result<T, ModuleError> {
        self.map_err(|error| classed(&error, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_with_and_without_its_octet_string() {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let spki = secret.public_key().to_public_key_der().unwrap().into_vec();
        let point = &spki[spki.len() - 65..];
        let wrapped = [POINT_PREFIX, point].concat();
        assert_eq!(spki_of_point(point).as_ref(), Some(&spki));
        assert_eq!(spki_of_point(&wrapped).as_ref(), Some(&spki));
        let mut off_curve = point.to_vec();
        off_curve[64] ^= 1;
        for bad in [&b""[..], &point[..64], &wrapped[..66], &off_curve] {
            assert_eq!(spki_of_point(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_certificate_gives_its_key_and_only_one_on_p256() {
        for (algorithm, expect) in
            [(&rcgen::PKCS_ECDSA_P256_SHA256, true), (&rcgen::PKCS_ECDSA_P384_SHA384, false)]
        {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let parameters = rcgen::CertificateParams::new(vec!["token.example".into()]).unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
            let found = spki_of_certificate(certificate.der());
            assert_eq!(found, expect.then_some(spki));
        }
        assert_eq!(spki_of_certificate(b"no certificate"), None);
    }

    #[test]
    fn what_is_no_module_says_so_and_stays_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.so");
        std::fs::write(&text, "no library").unwrap();
        for path in [text, dir.path().join("missing.so")] {
            let error = Pkcs11Module::load(&path, "t", None).unwrap_err();
            assert_eq!(error.class, Class::Permanent, "{error}");
            assert!(error.detail.contains(".so"), "{error}");
        }
    }
}
