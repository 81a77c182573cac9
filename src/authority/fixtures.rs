//! Devices and invoices for the tests of the acceptance side and of delivery. Keys are made on the
//! spot.

use crate::{
    convert::sha256,
    pb::{authority::v1::BatchItem, v1 as pb},
};
use p256::ecdsa::signature::Signer as _;
use prost::Message as _;
use sm2::pkcs8::EncodePublicKey as _;

/// A made-up taxpayer with the right form.
pub(crate) const TAXPAYER: &str = "91440000TEST00001X";

enum Key {
    P256(p256::ecdsa::SigningKey),
    Sm2(sm2::dsa::SigningKey),
}

/// A device that signs.
pub(crate) struct Device {
    /// Device id.
    pub(crate) id: String,
    /// SubjectPublicKeyInfo, DER.
    pub(crate) public_key: Vec<u8>,
    key: Key,
}

impl Device {
    /// A device with a fresh P-256 key.
    pub(crate) fn p256(id: &str) -> Self {
        let key = p256::ecdsa::SigningKey::from_slice(&crate::clock::random::<32>()).unwrap();
        let public_key = key.verifying_key().to_public_key_der().unwrap().into_vec();
        Self { id: id.to_owned(), public_key, key: Key::P256(key) }
    }

    /// A device with a fresh SM2 key.
    pub(crate) fn sm2(id: &str) -> Self {
        let secret = sm2::SecretKey::from_slice(&crate::clock::random::<32>()).unwrap();
        let public_key = secret.public_key().to_public_key_der().unwrap().into_vec();
        let key = sm2::dsa::SigningKey::new("1234567812345678", &secret).unwrap();
        Self { id: id.to_owned(), public_key, key: Key::Sm2(key) }
    }

    /// Signs the invoice in this device's name.
    pub(crate) fn signed(&self, mut invoice: pb::Invoice) -> pb::Invoice {
        invoice.device_id = self.id.clone();
        let record = invoice.encode_to_vec();
        let (algorithm, signature) = match &self.key {
            Key::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(&record);
                let der = signature.to_der().as_bytes().to_vec();
                (pb::SignatureAlgorithm::EcdsaP256Sha256, der)
            }
            Key::Sm2(key) => {
                let signature: sm2::dsa::Signature = key.sign(&record);
                (pb::SignatureAlgorithm::Sm2Sm3, signature.to_der().as_bytes().to_vec())
            }
        };
        invoice.check_code = "0".repeat(20);
        invoice.signature_algorithm = algorithm.into();
        invoice.signature = signature;
        invoice.signer_key = sha256(&self.public_key).to_vec();
        invoice
    }

    /// A signed invoice as a batch item.
    pub(crate) fn item(&self, code: &str, number: u32) -> BatchItem {
        item(&self.signed(invoice(code, number)))
    }
}

/// An unsigned electronic normal invoice with a total of one yuan.
pub(crate) fn invoice(code: &str, number: u32) -> pb::Invoice {
    let seller = pb::Party { taxpayer_id: TAXPAYER.to_owned(), ..pb::Party::default() };
    let draft = pb::InvoiceDraft {
        serial: format!("S{number}"),
        kind: pb::InvoiceKind::ENormal.into(),
        color: pb::InvoiceColor::Blue.into(),
        seller: Some(seller),
        total_fen: 100,
        ..pb::InvoiceDraft::default()
    };
    pb::Invoice {
        draft: Some(draft),
        code: code.to_owned(),
        number: format!("{number:08}"),
        issue_time: "2026-01-02T03:04:05+08:00".to_owned(),
        machine_number: "661000000001".to_owned(),
        record_version: 1,
        ..pb::Invoice::default()
    }
}

/// An invoice as a batch item.
pub(crate) fn item(invoice: &pb::Invoice) -> BatchItem {
    BatchItem { invoice: invoice.encode_to_vec().into(), voided: None }
}
