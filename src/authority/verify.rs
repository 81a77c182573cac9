//! Checks an invoice as the acceptance side would: form, seller, key and signature. An independent
//! checker, so it shares no code with `signer`; it decides about one invoice and knows no books.

use crate::{
    convert::sha256,
    model::{Color, CstTime, InvoiceNumber, Kind},
    pb::v1 as pb,
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use p256::pkcs8::DecodePublicKey as _;
use prost::Message as _;
use sm2::dsa::{Signature as Sm2Signature, VerifyingKey as Sm2Key, signature::Verifier as _};

/// SM2 identity of the signer. Source: GM/T 0009 §10.
const SM2_IDENTITY: &str = "1234567812345678";
/// The record layout that this checker knows.
const RECORD_VERSION: u32 = 1;

/// A device's public key, read from its SubjectPublicKeyInfo.
#[derive(Debug)]
pub(super) enum DeviceKey {
    /// P-256, as an uncompressed point.
    P256(Box<[u8]>),
    /// SM2.
    Sm2(Box<Sm2Key>),
    /// The device keeps its signatures to itself, so none can be checked.
    Withheld,
}

impl DeviceKey {
    /// Reads DER; empty bytes are a key that the device keeps. `None` when it is no key of either
    /// curve.
    pub(super) fn parse(spki: &[u8]) -> Option<Self> {
        if spki.is_empty() {
            return Some(Self::Withheld);
        }
        if let Ok(key) = p256::PublicKey::from_public_key_der(spki) {
            return Some(Self::P256(key.to_sec1_bytes()));
        }
        let key = sm2::PublicKey::from_public_key_der(spki).ok()?;
        Some(Self::Sm2(Box::new(Sm2Key::new(SM2_IDENTITY, key).ok()?)))
    }
}

/// A device as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegisteredDevice {
    /// Whose it is.
    pub(super) taxpayer: String,
    /// SubjectPublicKeyInfo, DER; empty when the device keeps its key.
    pub(super) public_key: Vec<u8>,
    /// Whether it draws its numbers itself.
    pub(super) draws_numbers: bool,
}

/// What is wrong with an invoice. The text goes into the verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("the item is neither an invoice nor a void")]
    Empty,
    #[error("the item is an invoice and a void at once")]
    Both,
    #[error("the invoice does not decode")]
    Undecodable,
    #[error("{field} is missing or malformed")]
    Field { field: &'static str },
    #[error("device {device} is not registered")]
    UnknownDevice { device: String },
    #[error("the seller is not the taxpayer of the device")]
    Seller,
    #[error("the invoice names another signing key than the registered one")]
    OtherKey,
    #[error("the signature algorithm does not fit the device's key")]
    Algorithm,
    #[error("the signature does not verify (验签失败)")]
    Signature,
    #[error("the number is outside every segment issued to this device and kind under its code")]
    OutsideSegments,
    #[error("the number is known with other content")]
    OtherContent,
    #[error("the number is voided")]
    IsVoided,
    #[error("the invoice that is to be voided is not known here")]
    NotIssued,
    #[error("the void is of another invoice than the one that is known under its number")]
    OtherInvoice,
    #[error("the invoice is voided already, with other content")]
    OtherVoid,
    #[error("the number is issued")]
    IsIssued,
    #[error("the segment of the number was never confirmed")]
    Unconfirmed,
    #[error("the number was returned")]
    Returned,
    #[error("the period of the invoice is reported (已抄报)")]
    Reported,
    #[error("rejected on purpose")]
    OnPurpose,
}

/// What the books keep of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Kind.
    pub(super) kind: Kind,
    /// Blue or red.
    pub(super) color: Color,
    /// Without tax.
    pub(super) amount_fen: i64,
    /// Tax.
    pub(super) tax_fen: i64,
    /// When it was issued.
    pub(super) issued_at: CstTime,
}

/// The form of an invoice, before its device is looked up.
///
/// # Errors
/// The first malformed field.
pub(super) fn check_form(invoice: &pb::Invoice) -> Result<Form, Flaw> {
    let field = |field| Flaw::Field { field };
    let draft = invoice.draft.as_ref().ok_or(field("draft"))?;
    let kind = Kind::from_wire(draft.kind).ok_or(field("draft.kind"))?;
    check_number(&invoice.code, &invoice.number)?;
    let color = match draft.color() {
        pb::InvoiceColor::Blue => Color::Blue,
        pb::InvoiceColor::Red => Color::Red,
        pb::InvoiceColor::Unspecified => return Err(field("draft.color")),
    };
    let issued_at = CstTime::parse(&invoice.issue_time).ok_or(field("issue_time"))?;
    match invoice.record_version {
        RECORD_VERSION => Ok(Form {
            kind,
            color,
            amount_fen: draft.amount_fen,
            tax_fen: draft.tax_fen,
            issued_at,
        }),
        _ => Err(field("record_version")),
    }
}

/// The form of a code and number. Source: docs/domain.md 3.2.
///
/// # Errors
/// `Field`.
pub(super) fn check_number(code: &str, number: &str) -> Result<(), Flaw> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(code.len(), 0 | 10 | 12) || !digits(code) {
        return Err(Flaw::Field { field: "code" });
    }
    let fits = match code.len() {
        0 => number.len() == 20 && digits(number),
        _ => InvoiceNumber::parse_number(number).is_some(),
    };
    if fits { Ok(()) } else { Err(Flaw::Field { field: "number" }) }
}

/// Whether the device signed the invoice for its own taxpayer.
///
/// # Errors
/// `Seller`, `OtherKey`, `Algorithm`, `Signature`.
pub(super) fn check_signature(
    invoice: &pb::Invoice,
    device: &RegisteredDevice,
) -> Result<(), Flaw> {
    let seller = invoice.draft.as_ref().and_then(|draft| draft.seller.as_ref());
    if seller.is_none_or(|seller| seller.taxpayer_id != device.taxpayer) {
        return Err(Flaw::Seller);
    }
    let key = DeviceKey::parse(&device.public_key).ok_or(Flaw::OtherKey)?;
    let named = invoice.signer_key == sha256(&device.public_key);
    let record = record(invoice);
    let good = match (key, invoice.signature_algorithm()) {
        (DeviceKey::Withheld, _) => return withheld(invoice),
        _ if !named => return Err(Flaw::OtherKey),
        (DeviceKey::P256(point), pb::SignatureAlgorithm::EcdsaP256Sha256) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(&record, &invoice.signature)
                .is_ok()
        }
        (DeviceKey::Sm2(key), pb::SignatureAlgorithm::Sm2Sm3) => {
            Sm2Signature::from_der(&invoice.signature)
                .is_ok_and(|signature| key.verify(&record, &signature).is_ok())
        }
        _ => return Err(Flaw::Algorithm),
    };
    if good { Ok(()) } else { Err(Flaw::Signature) }
}

/// An unregistered key cannot vouch for a signature, so there must be none.
fn withheld(invoice: &pb::Invoice) -> Result<(), Flaw> {
    if invoice.signature.is_empty() { Ok(()) } else { Err(Flaw::OtherKey) }
}

/// The signed record: fields 1 to 7 of the invoice, encoded again from what was decoded, so that
/// nothing beside them (unknown fields, a second draft) can hide under the signature.
fn record(invoice: &pb::Invoice) -> Vec<u8> {
    pb::Invoice {
        draft: invoice.draft.clone(),
        code: invoice.code.clone(),
        number: invoice.number.clone(),
        issue_time: invoice.issue_time.clone(),
        device_id: invoice.device_id.clone(),
        machine_number: invoice.machine_number.clone(),
        record_version: invoice.record_version,
        ..pb::Invoice::default()
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::fixtures::{Device, TAXPAYER, invoice};

    #[track_caller]
    fn check(device: &Device, change: impl FnOnce(&mut pb::Invoice), expect: Result<(), Flaw>) {
        let mut invoice = device.signed(invoice("044002611111", 7));
        change(&mut invoice);
        let registered = RegisteredDevice {
            taxpayer: TAXPAYER.to_owned(),
            public_key: device.public_key.clone(),
            draws_numbers: false,
        };
        assert_eq!(check_signature(&invoice, &registered), expect);
    }

    #[test]
    fn a_signature_of_either_algorithm_covers_the_record_and_nothing_else() {
        for device in [Device::p256("d1"), Device::sm2("d1")] {
            check(&device, |_| {}, Ok(()));
            check(&device, |i| i.qr_text.push('x'), Ok(()));
            check(&device, |i| i.number = "00000008".into(), Err(Flaw::Signature));
            check(&device, |i| i.machine_number.push('0'), Err(Flaw::Signature));
            check(&device, |i| i.draft.as_mut().unwrap().total_fen += 1, Err(Flaw::Signature));
            check(&device, |i| i.signature.truncate(20), Err(Flaw::Signature));
            check(&device, |i| i.signature.clear(), Err(Flaw::Signature));
            check(&device, |i| i.signature_algorithm = 0, Err(Flaw::Algorithm));
            check(&device, |i| i.signer_key = vec![0; 32], Err(Flaw::OtherKey));
            check(&device, |i| i.draft = None, Err(Flaw::Seller));
        }
        let p256 = Device::p256("d1");
        check(&p256, |i| i.signature_algorithm = 2, Err(Flaw::Algorithm));
    }

    #[test]
    fn a_device_without_a_registered_key_cannot_have_a_signature() {
        let withheld = RegisteredDevice {
            taxpayer: TAXPAYER.to_owned(),
            public_key: Vec::new(),
            draws_numbers: false,
        };
        let mut signed = Device::p256("d1").signed(invoice("044002611111", 7));
        assert_eq!(check_signature(&signed, &withheld), Err(Flaw::OtherKey));
        signed.signature.clear();
        assert_eq!(check_signature(&signed, &withheld), Ok(()));
    }

    #[test]
    fn the_form_of_code_and_number_follows_the_kind_of_number() {
        for (code, number, expect) in [
            ("044002611111", "00000001", Ok(())),
            ("4400261110", "00000001", Ok(())),
            ("", "26442000000000000001", Ok(())),
            ("", "00000001", Err("number")),
            ("044002611111", "1", Err("number")),
            ("04400261111", "00000001", Err("code")),
            ("04400261111a", "00000001", Err("code")),
        ] {
            let expect = expect.map_err(|field| Flaw::Field { field });
            assert_eq!(check_number(code, number), expect, "{code} {number}");
        }
    }

    #[test]
    fn only_keys_of_the_two_curves_are_keys() {
        assert!(matches!(DeviceKey::parse(&[]), Some(DeviceKey::Withheld)));
        assert!(matches!(DeviceKey::parse(&Device::sm2("d").public_key), Some(DeviceKey::Sm2(_))));
        assert!(DeviceKey::parse(b"no key").is_none());
    }
}
