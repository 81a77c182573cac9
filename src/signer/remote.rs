//! A proxy-numbered signer whose key lives elsewhere: in a token or a crypto machine. It hashes,
//! hands the digest to the session, and lets nothing out that does not verify against the bound
//! key.

use super::{
    CipherForm, DeviceKey, ProxyNumbered, SM2_IDENTITY, Signed, SignerError,
    derive::{self, Record},
    software::verify,
};
use crate::{
    pb::v1 as pb,
    store::{Claim, Durable},
};
use sm2::{elliptic_curve::sec1::ToSec1Point as _, pkcs8::DecodePublicKey as _};
use sm3::{Digest as _, Sm3};
use std::{fmt, sync::Arc};

/// A session of a key that lives elsewhere. Dropping it closes it.
pub trait KeySession: fmt::Debug + Send {
    /// Signs a digest: SHA-256 of the message for P-256, SM3(Z ‖ message) for SM2. Gives r ‖ s,
    /// each 32 bytes, big-endian.
    ///
    /// # Errors
    /// Any but `AnswerInvalid`; `SessionLost` asks for another session.
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], SignerError>;
}

/// What every session of a device shares.
pub struct RemoteKey {
    /// Device id.
    device_id: String,
    /// SubjectPublicKeyInfo of the bound key, DER.
    public_key: Vec<u8>,
    algorithm: pb::SignatureAlgorithm,
    key_hash: [u8; 32],
    /// Z of GB/T 32918.2 §5.5; `None` for P-256.
    z: Option<[u8; 32]>,
    /// Only its HMAC key is used, for check code and cipher text: a token signs nothing else.
    derive: DeviceKey,
    form: CipherForm,
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKey").field("device_id", &self.device_id).finish_non_exhaustive()
    }
}

impl RemoteKey {
    /// The bound key of a device. `derive` is the device's software key, which never signs.
    ///
    /// # Errors
    /// `Refused` when the public key is no key of the algorithm.
    pub fn new(
        device_id: &str,
        (algorithm, public_key): (pb::SignatureAlgorithm, Vec<u8>),
        derive: DeviceKey,
        form: CipherForm,
    ) -> Result<Self, SignerError> {
        let no_key = || SignerError::Refused {
            device: device_id.to_owned(),
            detail: "the registered public key is no key of its algorithm".to_owned(),
        };
        let z = match algorithm {
            pb::SignatureAlgorithm::EcdsaP256Sha256 => {
                p256::PublicKey::from_public_key_der(&public_key).map_err(|_| no_key())?;
                None
            }
            pb::SignatureAlgorithm::Sm2Sm3 => Some(sm2_z(&public_key).ok_or_else(no_key)?),
            pb::SignatureAlgorithm::Unspecified => return Err(no_key()),
        };
        let key_hash = crate::convert::sha256(&public_key);
        let device_id = device_id.to_owned();
        Ok(Self { device_id, public_key, algorithm, key_hash, z, derive, form })
    }

    fn digest(&self, message: &[u8]) -> [u8; 32] {
        match self.z {
            None => crate::convert::sha256(message),
            Some(z) => Sm3::new().chain_update(z).chain_update(message).finalize().into(),
        }
    }

    /// Reads r ‖ s and lets it pass only when it is the bound key's over the message.
    fn checked(&self, message: &[u8], raw: &[u8; 64]) -> Result<Vec<u8>, SignerError> {
        let invalid = |detail: &str| SignerError::AnswerInvalid {
            device: self.device_id.clone(),
            detail: format!("{detail}; r and s: {}", crate::convert::hex(raw)),
        };
        // Both curves have scalars of 32 bytes, and DER knows no curve.
        let signature = p256::ecdsa::Signature::from_slice(raw)
            .map(|signature| signature.to_der().as_bytes().to_vec())
            .or_else(|_| {
                sm2::dsa::Signature::from_slice(raw)
                    .map(|signature| signature.to_der().as_bytes().to_vec())
            })
            .map_err(|_| invalid("the signature is no pair of scalars"))?;
        if verify(self.algorithm, &self.public_key, message, &signature) {
            Ok(signature)
        } else {
            Err(invalid("the signature does not verify against the bound key"))
        }
    }
}

/// A session of a device, as the pool uses it.
#[derive(Debug)]
pub struct RemoteSigner {
    key: Arc<RemoteKey>,
    session: Box<dyn KeySession>,
}

impl RemoteSigner {
    /// A signer over one session.
    #[must_use]
    pub fn new(key: Arc<RemoteKey>, session: Box<dyn KeySession>) -> Self {
        Self { key, session }
    }
}

impl ProxyNumbered for RemoteSigner {
    fn sign(&mut self, claim: &Durable<Claim>) -> Result<Signed, SignerError> {
        let key = &self.key;
        let record = Record::of(claim).ok_or_else(|| SignerError::Refused {
            device: key.device_id.clone(),
            detail: "the claim has no number, and a token draws none".into(),
        })?;
        let raw = self.session.sign(&key.digest(&claim.head.0))?;
        let signature = key.checked(&claim.head.0, &raw)?;
        let check_code = derive::check_code(key.derive.hmac(), &record);
        Ok(Signed {
            cipher_text: derive::cipher_text(key.derive.hmac(), key.form, &record),
            qr_text: derive::qr_text(&record, &check_code),
            check_code,
            algorithm: key.algorithm,
            signature,
            signer_key: key.key_hash,
        })
    }
}

/// a, b and the base point of the SM2 curve. Source: GB/T 32918.5 (GM/T 0003.5).
const SM2_CURVE: [&[u8; 32]; 4] = [
    &hex32(b"FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFC"),
    &hex32(b"28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93"),
    &hex32(b"32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7"),
    &hex32(b"BC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0"),
];

const fn hex32(text: &[u8; 64]) -> [u8; 32] {
    const fn digit(byte: u8) -> u8 {
        if byte <= b'9' { byte - b'0' } else { byte - b'A' + 10 }
    }
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = digit(text[2 * at]) << 4 | digit(text[2 * at + 1]);
        at += 1;
    }
    bytes
}

/// Z = SM3(ENTL ‖ ID ‖ a ‖ b ‖ G ‖ P). Source: GB/T 32918.2 §5.5.
fn sm2_z(public_key: &[u8]) -> Option<[u8; 32]> {
    let point = sm2::PublicKey::from_public_key_der(public_key).ok()?.to_sec1_point(false);
    let bits = u16::try_from(SM2_IDENTITY.len().checked_mul(8)?).ok()?;
    let mut hash = Sm3::new();
    hash.update(bits.to_be_bytes());
    hash.update(SM2_IDENTITY);
    for part in SM2_CURVE {
        hash.update(part);
    }
    hash.update(point.as_bytes().get(1..)?);
    Some(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registry::BackendKind,
        signer::{fixtures, key::fresh_scalar},
    };

    fn key(kind: BackendKind) -> DeviceKey {
        DeviceKey::from_scalar(kind, &fresh_scalar(kind).unwrap()).unwrap()
    }

    /// Signs digests with keys in memory, as a token would.
    #[derive(Debug)]
    enum Token {
        P256(p256::ecdsa::SigningKey),
        Sm2(sm2::dsa::SigningKey),
        Liar([u8; 64]),
    }

    impl KeySession for Token {
        fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], SignerError> {
            use p256::ecdsa::signature::hazmat::PrehashSigner as _;
            Ok(match self {
                Self::P256(key) => {
                    let signature: p256::ecdsa::Signature = key.sign_prehash(digest).unwrap();
                    signature.to_bytes().into()
                }
                Self::Sm2(key) => {
                    let signature: sm2::dsa::Signature = key.sign_prehash(digest).unwrap();
                    signature.to_bytes().into()
                }
                Self::Liar(answer) => *answer,
            })
        }
    }

    fn tokens() -> [(pb::SignatureAlgorithm, Vec<u8>, Token); 2] {
        use p256::pkcs8::EncodePublicKey as _;
        let p256 =
            p256::SecretKey::from_slice(fresh_scalar(BackendKind::SoftwareP256).unwrap().expose())
                .unwrap();
        let sm2 =
            sm2::SecretKey::from_slice(fresh_scalar(BackendKind::SoftwareSm2).unwrap().expose())
                .unwrap();
        [
            (
                pb::SignatureAlgorithm::EcdsaP256Sha256,
                p256.public_key().to_public_key_der().unwrap().into_vec(),
                Token::P256(p256.into()),
            ),
            (
                pb::SignatureAlgorithm::Sm2Sm3,
                sm2.public_key().to_public_key_der().unwrap().into_vec(),
                Token::Sm2(sm2::dsa::SigningKey::new(SM2_IDENTITY, &sm2).unwrap()),
            ),
        ]
    }

    fn signer(
        (algorithm, public_key): (pb::SignatureAlgorithm, Vec<u8>),
        token: Token,
    ) -> RemoteSigner {
        let derive = key(BackendKind::SoftwareP256);
        let key =
            RemoteKey::new("hw-1", (algorithm, public_key), derive, CipherForm::UKey).unwrap();
        RemoteSigner::new(Arc::new(key), Box::new(token))
    }

    #[test]
    fn a_token_signs_what_a_software_key_would() {
        for (algorithm, public_key, token) in tokens() {
            let claim = fixtures::numbered(1, 1);
            let signed = signer((algorithm, public_key.clone()), token).sign(&claim).unwrap();
            assert!(verify(algorithm, &public_key, &claim.head.0, &signed.signature));
            assert_eq!(signed.signer_key, crate::convert::sha256(&public_key));
            assert!(signed.cipher_text.starts_with("00"));
        }
    }

    #[test]
    fn what_does_not_verify_is_never_released() {
        for (algorithm, public_key, _) in tokens() {
            let [other_p256, other_sm2] = tokens();
            for liar in [Token::Liar([0; 64]), Token::Liar([0x11; 64]), other_p256.2, other_sm2.2] {
                let mut signer = signer((algorithm, public_key.clone()), liar);
                let error = signer.sign(&fixtures::numbered(1, 1)).unwrap_err();
                assert!(matches!(error, SignerError::AnswerInvalid { .. }), "{error}");
            }
        }
    }
}
