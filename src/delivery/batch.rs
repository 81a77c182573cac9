//! A frozen batch as it leaves, and its receipt as it is kept: the same for the wire and for a
//! package, whose bytes must not differ.

use super::receipt::{Verdict, VerifiedReceipt};
use crate::{
    convert::{len_u64, sha256},
    metrics::metrics,
    model::{BatchNo, DeviceNo},
    numbering::Numbering,
    pb::authority::v1::{BatchItem, VoidedNumber},
    refusal::Refusal,
    registry::Registry,
    store::{DeliveryBatch, Fate, Found, Notice, ReceiptRecord, Rejection, StoreError, Told},
};
use prost::Message as _;

/// Why a batch's items cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum ItemsError {
    /// The books.
    #[error("read the books")]
    Books(#[source] StoreError),
    /// The batch tells of what the books do not have.
    #[error("batch {batch} tells of {notice}, which has not happened")]
    NotMade {
        /// The batch.
        batch: BatchNo,
        /// What it tells.
        notice: Notice,
    },
}

/// The batch's items, from the books: the same bytes each time.
///
/// # Errors
/// When the books cannot be read, or do not have what the batch tells.
pub fn items(numbering: &Numbering, batch: &DeliveryBatch) -> Result<Vec<BatchItem>, ItemsError> {
    let books = numbering.books();
    let registry = numbering.registry();
    let item = |notice: &Notice| {
        let found = books.claim(notice.claim).map_err(ItemsError::Books)?;
        let told = match notice.told {
            Told::End => found.invoice(),
            Told::InvoiceVoid => None,
        };
        if let Some(invoice) = told {
            return Ok(BatchItem { invoice, voided: None });
        }
        let voided = voided(&found, notice.told, &registry);
        let made = ItemsError::NotMade { batch: batch.no, notice: *notice };
        Ok(BatchItem { invoice: bytes::Bytes::new(), voided: Some(voided.ok_or(made)?) })
    };
    batch.members.iter().map(item).collect()
}

/// The void that a notice tells of; none when there is no such void. The bytes are the same each
/// time: all of it comes from the books.
pub(super) fn voided(found: &Found, told: Told, registry: &Registry) -> Option<VoidedNumber> {
    let (number, reason, at, invoice_digest) = match (&found.fate, told) {
        (Fate::Voided(void), Told::End) => {
            (void.number.as_ref(), &void.reason, void.at, Vec::new())
        }
        (Fate::InvoiceVoided(_, void), Told::InvoiceVoid) => {
            let digest = sha256(&found.invoice()?).to_vec();
            (found.issued_number(), &void.reason, void.at, digest)
        }
        _ => return None,
    };
    Some(VoidedNumber {
        device_id: device_id(registry, found.device()),
        code: number.map(|number| number.code.clone()).unwrap_or_default(),
        number: number.map(|number| number.number_text()).unwrap_or_default(),
        reason: reason.clone(),
        invoice_digest,
        voided_at: at.rfc3339(),
    })
}

fn device_id(registry: &Registry, device: DeviceNo) -> String {
    registry.devices.get(&device).map(|device| device.id.clone()).unwrap_or_default()
}

/// Stores a verified receipt of a batch.
///
/// # Errors
/// When the books take nothing now; the batch stays open.
pub async fn store(
    numbering: &Numbering,
    batch: &DeliveryBatch,
    receipt: &VerifiedReceipt,
) -> Result<(), Refusal> {
    let verdicts = batch.members.iter().zip(receipt.verdicts());
    let rejected: Vec<_> = verdicts
        .filter_map(|(notice, verdict)| match verdict {
            Verdict::Accepted => None,
            Verdict::Rejected { message } => {
                Some(Rejection { notice: *notice, message: message.clone() })
            }
        })
        .collect();
    metrics().batches.increment(1);
    metrics().delivered.increment(len_u64(batch.members.len()));
    metrics().rejected.increment(len_u64(rejected.len()));
    let record = ReceiptRecord {
        batch: batch.no,
        acceptance_serial: receipt.acceptance_serial().to_owned(),
        receipt: receipt.receipt().encode_to_vec(),
        rejected,
        at: receipt.accepted_at(),
    };
    numbering
        .complete(move |round| {
            round.put_receipt(record);
            Ok(())
        })
        .await
}
