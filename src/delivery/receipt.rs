//! Receipts that were checked. `VerifiedReceipt` can only be made by checking the signature with
//! the route's receipt key and the verdicts against the very list that was submitted.

use crate::{
    convert::sha256,
    model::CstTime,
    pb::{
        authority::v1::{
            BatchItem, ItemVerdict, MonitorData, Receipt, ReceiptStatement, Verdict as Wire,
            WriteBack,
        },
        v1::Invoice,
    },
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use p256::pkcs8::DecodePublicKey as _;
use prost::Message as _;

/// Id of a delivery batch: 16 random bytes, chosen once and kept through resends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub [u8; 16]);

/// Length of an acceptance serial. Unit: characters.
const ACCEPTANCE_SERIAL_LEN: usize = 32;
/// Longest result to write back. Unit: characters.
const WRITE_BACK_MAX: usize = 4000;

/// Whether a text is an acceptance serial: 32 visible ASCII characters.
pub(super) fn is_acceptance_serial(text: &str) -> bool {
    text.len() == ACCEPTANCE_SERIAL_LEN && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The acceptance side's public receipt key (P-256).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptKey(Box<[u8]>);

impl ReceiptKey {
    /// Reads a SubjectPublicKeyInfo, DER. `None` when it is no P-256 key.
    #[must_use]
    pub fn parse(spki: &[u8]) -> Option<Self> {
        Some(Self(p256::PublicKey::from_public_key_der(spki).ok()?.to_sec1_bytes()))
    }

    fn signed(&self, statement: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0)
            .verify(statement, signature)
            .is_ok()
    }
}

/// What a batch item must be called in its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemName {
    /// Invoice code.
    pub code: String,
    /// Invoice number.
    pub number: String,
    /// SHA-256 over the invoice's bytes, or over the encoded void.
    pub digest: [u8; 32],
}

impl ItemName {
    /// The name of an item. Code and number are empty when its bytes are no invoice.
    #[must_use]
    pub fn of(item: &BatchItem) -> Self {
        if let (true, Some(voided)) = (item.invoice.is_empty(), &item.voided) {
            let (code, number) = (voided.code.clone(), voided.number.clone());
            return Self { code, number, digest: sha256(&voided.encode_to_vec()) };
        }
        let digest = sha256(&item.invoice);
        let invoice = Invoice::decode(item.invoice.clone()).unwrap_or_default();
        Self { code: invoice.code, number: invoice.number, digest }
    }
}

/// What the acceptance says about one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted (已受理).
    Accepted,
    /// Rejected for good.
    Rejected {
        /// Why, in the acceptance's words.
        message: String,
    },
}

/// Why a receipt is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// It is signed with another key, or altered.
    #[error("the receipt's signature does not verify with the route's receipt key")]
    Signature,
    /// The signed bytes are no statement, or a field of it has no possible value.
    #[error("the receipt's statement is malformed: {what}")]
    Malformed {
        /// What.
        what: &'static str,
    },
    /// It is the receipt of another batch.
    #[error("the receipt is another batch's")]
    OtherBatch,
    /// It has more or fewer verdicts than the batch has items.
    #[error("the receipt has {verdicts} verdicts for {items} items")]
    Length {
        /// Verdicts in it.
        verdicts: usize,
        /// Items submitted.
        items: usize,
    },
    /// A verdict is about another invoice than the one submitted there.
    #[error("verdict {index} of the receipt is about another item")]
    OtherItem {
        /// Place in the batch, from 0.
        index: usize,
    },
}

/// A receipt whose signature, batch and verdicts are checked. Only `check` makes one.
///
/// ```compile_fail
/// use skproxy::delivery::receipt::VerifiedReceipt;
/// fn forged(receipt: VerifiedReceipt) -> VerifiedReceipt {
///     VerifiedReceipt { ..receipt }
/// }
/// ```
///
/// The twin that hands it on compiles:
///
/// ```
/// use skproxy::delivery::receipt::VerifiedReceipt;
/// fn passed_on(receipt: VerifiedReceipt) -> VerifiedReceipt {
///     VerifiedReceipt::from(receipt)
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedReceipt {
    batch: BatchId,
    receipt: Receipt,
    acceptance_serial: String,
    accepted_at: CstTime,
    verdicts: Vec<Verdict>,
    monitors: Vec<MonitorData>,
    write_backs: Vec<WriteBack>,
}

impl VerifiedReceipt {
    /// Checks a receipt: signature first, then that it answers this batch with these items in this
    /// order.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(
        receipt: Receipt,
        key: &ReceiptKey,
        batch: BatchId,
        items: &[ItemName],
    ) -> Result<Self, Lie> {
        if !key.signed(&receipt.statement, &receipt.signature) {
            return Err(Lie::Signature);
        }
        let statement = ReceiptStatement::decode(receipt.statement.as_slice())
            .map_err(|_| Lie::Malformed { what: "it does not decode" })?;
        if statement.batch_id != batch.0 {
            return Err(Lie::OtherBatch);
        }
        if !is_acceptance_serial(&statement.acceptance_serial) {
            return Err(Lie::Malformed { what: "acceptance_serial" });
        }
        let accepted_at =
            CstTime::parse(&statement.accepted_at).ok_or(Lie::Malformed { what: "accepted_at" })?;
        if statement.verdicts.len() != items.len() {
            let verdicts = statement.verdicts.len();
            return Err(Lie::Length { verdicts, items: items.len() });
        }
        let mut statement = statement;
        let pairs = std::mem::take(&mut statement.verdicts).into_iter().zip(items).enumerate();
        let verdicts = pairs
            .map(|(index, (verdict, item))| read_verdict(verdict, item, index))
            .collect::<Result<_, _>>()?;
        let ReceiptStatement { acceptance_serial, monitors, write_backs, .. } = statement;
        if write_backs.iter().any(|it| it.result.chars().count() > WRITE_BACK_MAX) {
            return Err(Lie::Malformed { what: "write_backs" });
        }
        Ok(Self { batch, receipt, acceptance_serial, accepted_at, verdicts, monitors, write_backs })
    }

    /// The batch that it answers.
    #[must_use]
    pub fn batch(&self) -> BatchId {
        self.batch
    }

    /// The statement's bytes and their signature, to be stored as they are.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Acceptance serial (受理序列号, SLXLH), 32 visible ASCII characters.
    #[must_use]
    pub fn acceptance_serial(&self) -> &str {
        &self.acceptance_serial
    }

    /// When the batch was accepted, by the acceptance's clock.
    #[must_use]
    pub fn accepted_at(&self) -> CstTime {
        self.accepted_at
    }

    /// Monitor data in force after the batch; signed, but not looked at yet.
    #[must_use]
    pub fn monitors(&self) -> &[MonitorData] {
        &self.monitors
    }

    /// What is to be written back into devices that draw their numbers.
    #[must_use]
    pub fn write_backs(&self) -> &[WriteBack] {
        &self.write_backs
    }

    /// One verdict per submitted item, in the batch's order.
    #[must_use]
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }
}

fn read_verdict(verdict: ItemVerdict, item: &ItemName, index: usize) -> Result<Verdict, Lie> {
    let same =
        verdict.code == item.code && verdict.number == item.number && verdict.digest == item.digest;
    if !same {
        return Err(Lie::OtherItem { index });
    }
    match Wire::try_from(verdict.verdict) {
        Ok(Wire::Accepted) => Ok(Verdict::Accepted),
        Ok(Wire::Rejected) => Ok(Verdict::Rejected { message: verdict.message }),
        Ok(Wire::Unspecified) | Err(_) => Err(Lie::Malformed { what: "verdict" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::authority::v1::VoidedNumber;
    use p256::{
        ecdsa::{Signature, SigningKey, signature::Signer as _},
        pkcs8::EncodePublicKey as _,
    };

    const BATCH: BatchId = BatchId([7; 16]);

    fn signing_key() -> SigningKey {
        SigningKey::from_slice(&crate::clock::random::<32>()).unwrap()
    }

    fn public(key: &SigningKey) -> ReceiptKey {
        ReceiptKey::parse(key.verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap()
    }

    fn items() -> Vec<ItemName> {
        ["00000001", "00000002"]
            .map(|number| {
                let voided = VoidedNumber { number: number.to_owned(), ..Default::default() };
                ItemName::of(&BatchItem { voided: Some(voided), ..BatchItem::default() })
            })
            .to_vec()
    }

    fn honest() -> ReceiptStatement {
        let verdicts = items().into_iter().map(|item| ItemVerdict {
            code: item.code,
            number: item.number,
            digest: item.digest.to_vec(),
            verdict: Wire::Accepted.into(),
            message: String::new(),
        });
        ReceiptStatement {
            acceptance_serial: "S".repeat(32),
            batch_id: BATCH.0.to_vec(),
            accepted_at: "2026-01-02T03:04:05+08:00".to_owned(),
            verdicts: verdicts.collect(),
            ..ReceiptStatement::default()
        }
    }

    fn sign(statement: &ReceiptStatement, key: &SigningKey) -> Receipt {
        let statement = statement.encode_to_vec();
        let signature: Signature = key.sign(&statement);
        Receipt { statement, signature: signature.to_der().as_bytes().to_vec() }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut ReceiptStatement), expect: Result<Vec<Verdict>, Lie>) {
        let (key, mut statement) = (signing_key(), honest());
        change(&mut statement);
        let receipt = sign(&statement, &key);
        let checked = VerifiedReceipt::check(receipt, &public(&key), BATCH, &items());
        assert_eq!(checked.map(|receipt| receipt.verdicts().to_vec()), expect);
    }

    #[test]
    fn a_receipt_must_answer_the_submitted_list_item_by_item() {
        let malformed = |what| Err(Lie::Malformed { what });
        check(|_| {}, Ok(vec![Verdict::Accepted, Verdict::Accepted]));
        check(|s| s.verdicts.swap(0, 1), Err(Lie::OtherItem { index: 0 }));
        check(|s| s.verdicts[1].digest[31] ^= 1, Err(Lie::OtherItem { index: 1 }));
        check(|s| s.verdicts[1].number = "00000003".into(), Err(Lie::OtherItem { index: 1 }));
        check(|s| s.verdicts[0].code.push('0'), Err(Lie::OtherItem { index: 0 }));
        check(|s| drop(s.verdicts.pop()), Err(Lie::Length { verdicts: 1, items: 2 }));
        check(|s| s.verdicts.clear(), Err(Lie::Length { verdicts: 0, items: 2 }));
        check(
            |s| s.verdicts.push(s.verdicts[0].clone()),
            Err(Lie::Length { verdicts: 3, items: 2 }),
        );
        check(|s| s.batch_id[0] ^= 1, Err(Lie::OtherBatch));
        check(|s| s.batch_id.clear(), Err(Lie::OtherBatch));
        check(|s| s.verdicts[0].verdict = 0, malformed("verdict"));
        check(|s| s.verdicts[0].verdict = 3, malformed("verdict"));
        check(|s| s.acceptance_serial.truncate(31), malformed("acceptance_serial"));
        check(|s| s.accepted_at.clear(), malformed("accepted_at"));
        let rejected = Verdict::Rejected { message: "no".into() };
        check(
            |s| (s.verdicts[1].verdict, s.verdicts[1].message) = (2, "no".into()),
            Ok(vec![Verdict::Accepted, rejected]),
        );
    }

    #[test]
    fn a_receipt_must_be_signed_with_the_routes_key_over_exactly_its_bytes() {
        let (key, other) = (signing_key(), signing_key());
        let good = sign(&honest(), &key);
        let check = |receipt: Receipt, key: &SigningKey| {
            VerifiedReceipt::check(receipt, &public(key), BATCH, &items()).map(drop)
        };
        assert_eq!(check(good.clone(), &key), Ok(()));
        assert_eq!(check(good.clone(), &other), Err(Lie::Signature));
        let mut altered = good.clone();
        altered.statement.extend([0x3a, 0]); // an unknown field that a decoder would skip
        assert_eq!(check(altered, &key), Err(Lie::Signature));
        assert_eq!(check(Receipt { signature: Vec::new(), ..good }, &key), Err(Lie::Signature));
        assert_eq!(check(Receipt::default(), &key), Err(Lie::Signature));
    }
}
