//! The air gap (离线导出): what is pending leaves in a signed package, and receipts come back one by
//! one. A package holds frozen batches, the very bytes that a line would carry: when the line is
//! back, the same batches go out over it.

use super::{
    DeliveryError,
    receipt::{BatchId, ReceiptKey, Verdict, VerifiedReceipt},
    upload::Upload,
    worker::Delivery,
};
use crate::{
    convert::{hex, len_u64, sha256},
    model::DeviceNo,
    package::{Tally, VERSION, framed},
    pb::{
        admin::v1::{self as pb, ReceiptFate},
        authority::v1::{
            PackageBatch, PackageHeader, PackageSeal, Receipt, ReceiptStatement,
            RegisterDeviceRequest, SubmitBatchRequest, package_record::Record,
        },
    },
    refusal::{Reason, Refusal, chain},
    signer::DeviceKey,
    store::{BatchState, DeliveryBatch},
};
use prost::Message as _;
use std::collections::{BTreeSet, HashSet};
use tokio::sync::mpsc;

/// Bytes of one chunk.
const CHUNK_LEN: usize = 256 * 1024;

/// Where a package goes, chunk by chunk.
pub type Chunks = mpsc::Sender<pb::ExportOutboxResponse>;

/// Freezes what is pending into batches and writes every batch without a receipt.
///
/// # Errors
/// When the books take or give nothing now, or nobody takes the package; what was frozen until then
/// stays, and goes out with the next package or over the line.
pub async fn export(
    delivery: &Delivery,
    key: &DeviceKey,
    province: &str,
    chunks: &Chunks,
) -> Result<pb::Exported, Refusal> {
    freeze(delivery, province).await?;
    let numbering = delivery.numbering();
    let open = numbering.read(|books| books.open_batches()).await?;
    let mut writer = Writer { tally: Tally::default(), chunks, known: HashSet::new() };
    let package_id: [u8; 16] = crate::clock::random();
    let mut begun = false;
    for no in open {
        let batch = numbering.read(move |books| books.batch(no)).await?;
        if !province.is_empty() && batch.province != province {
            continue;
        }
        if !std::mem::replace(&mut begun, true) {
            let header = PackageHeader {
                version: VERSION,
                package_id: package_id.to_vec(),
                made_at: delivery.clock.now().rfc3339(),
                statement_key: key.public_key().to_vec(),
            };
            writer.put(Record::Header(header)).await?;
        }
        writer.batch(delivery, batch).await?;
    }
    if !begun {
        let left = numbering.counts().2;
        return Ok(pb::Exported { left, ..pb::Exported::default() });
    }
    let statement = writer.tally.statement(&package_id);
    let failed = |error: crate::signer::KeyError| Refusal::new(Reason::Internal, chain(&error));
    let signature = key.sign(&statement).map_err(failed)?;
    let Tally { batches, items, .. } = writer.tally;
    writer.put(Record::Seal(PackageSeal { statement, signature })).await?;
    Ok(pb::Exported {
        package_id: hex(&package_id),
        batches,
        items,
        left: numbering.counts().2,
        statement_key: hex(&sha256(key.public_key())),
    })
}

/// Freezes everything that may be told now. Each batch is handed to its worker at once, as one of
/// an earlier life is.
async fn freeze(delivery: &Delivery, province: &str) -> Result<(), Refusal> {
    let registry = delivery.numbering().registry();
    let provinces: BTreeSet<String> =
        registry.taxpayers.values().map(|taxpayer| taxpayer.province.clone()).collect();
    let count_max = delivery.settings.batch_max;
    for name in provinces.into_iter().filter(|name| province.is_empty() || name == province) {
        loop {
            let of = name.clone();
            let frozen = delivery
                .numbering()
                .complete(move |round| Ok(round.freeze_batch(&of, count_max)))
                .await?;
            let Some(batch) = frozen else { break };
            delivery.resume(batch.no);
        }
    }
    Ok(())
}

struct Writer<'a> {
    tally: Tally,
    chunks: &'a Chunks,
    /// Devices that the package has introduced.
    known: HashSet<DeviceNo>,
}

impl Writer<'_> {
    async fn batch(&mut self, delivery: &Delivery, batch: DeliveryBatch) -> Result<(), Refusal> {
        self.devices(delivery, &batch).await?;
        let (id, province) = (batch.id, batch.province.clone());
        let (items, _) = Upload::fresh(batch).items(delivery).await.map_err(broken)?;
        let count = items.len();
        let batch = Some(SubmitBatchRequest { batch_id: id.to_vec(), items });
        self.put(Record::Batch(PackageBatch { province, batch })).await?;
        self.tally.batch(count);
        Ok(())
    }

    /// Introduces the devices of a batch.
    async fn devices(&mut self, delivery: &Delivery, batch: &DeliveryBatch) -> Result<(), Refusal> {
        let members = batch.members.clone();
        let devices = delivery.numbering().read(move |books| {
            members.iter().map(|notice| Ok(books.claim(notice.claim)?.device())).collect()
        });
        let devices: BTreeSet<DeviceNo> = devices.await?;
        let registry = delivery.numbering().registry();
        for device in devices.into_iter().filter_map(|no| registry.devices.get(&no)) {
            if !self.known.insert(device.no) {
                continue;
            }
            let taxpayer = registry.taxpayers.get(&device.taxpayer);
            let request = RegisterDeviceRequest {
                device_id: device.id.clone(),
                taxpayer_id: taxpayer.map(|taxpayer| taxpayer.id.clone()).unwrap_or_default(),
                public_key: device.public_key.clone(),
                draws_numbers: device.backend.draws_numbers(),
            };
            self.put(Record::Device(request)).await?;
        }
        Ok(())
    }

    async fn put(&mut self, record: Record) -> Result<(), Refusal> {
        let bytes = framed(record);
        self.tally.bytes(&bytes);
        for chunk in bytes.chunks(CHUNK_LEN) {
            let chunk = pb::ExportOutboxResponse { chunk: chunk.to_vec(), exported: None };
            let left = |_| Refusal::new(Reason::NotFound, "nobody takes the package any more");
            self.chunks.send(chunk).await.map_err(left)?;
        }
        Ok(())
    }
}

/// What an operator hears of a package that cannot be made or answered.
fn broken(error: DeliveryError) -> Refusal {
    match error {
        DeliveryError::Store(refusal) => refusal,
        error => Refusal::new(Reason::Internal, chain(&error)),
    }
}

/// Takes a receipt in that came without a line: verified as over the wire, stored once.
///
/// # Errors
/// When the books take nothing now; the receipt can be handed in again.
pub async fn import(
    delivery: &Delivery,
    receipt: Receipt,
) -> Result<pb::ImportReceiptResponse, Refusal> {
    let refused = |batch: u64, text: String| pb::ImportReceiptResponse {
        fate: ReceiptFate::Refused.into(),
        batch,
        text,
        ..pb::ImportReceiptResponse::default()
    };
    // Nothing of it is believed yet: it only says which batch to hold it against.
    let claimed = ReceiptStatement::decode(receipt.statement.as_slice()).ok();
    let id = claimed.and_then(|statement| <[u8; 16]>::try_from(statement.batch_id).ok());
    let Some(id) = id else { return Ok(refused(0, "it names no batch".to_owned())) };
    let known = delivery.numbering.read(move |books| books.batch_of_id(id)).await?;
    let Some((no, state)) = known else {
        return Ok(refused(0, format!("batch {} is none of these books'", hex(&id))));
    };
    let shown = crate::convert::to_u64(no.0);
    let batch = delivery.numbering.read(move |books| books.batch(no)).await?;
    let upload = Upload::fresh(batch);
    let verified = match verify(delivery, receipt, &upload).await? {
        Ok(verified) => verified,
        Err(why) => return Ok(refused(shown, why)),
    };
    let fate = match state {
        BatchState::Answered => ReceiptFate::Known,
        BatchState::Split => {
            let text = "the batch was split since; what is in it goes out in other batches";
            return Ok(refused(shown, text.to_owned()));
        }
        BatchState::Open => {
            upload.store(delivery, &verified).await.map_err(broken)?;
            delivery.settled(no);
            ReceiptFate::Stored
        }
    };
    let verdicts = verified.verdicts();
    let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count();
    Ok(pb::ImportReceiptResponse {
        fate: fate.into(),
        batch: shown,
        accepted: len_u64(accepted),
        rejected: len_u64(verdicts.len().saturating_sub(accepted)),
        text: String::new(),
    })
}

/// The receipt, when it is its batch's and signed with the key of the batch's route; else why not.
async fn verify(
    delivery: &Delivery,
    receipt: Receipt,
    upload: &Upload,
) -> Result<Result<VerifiedReceipt, String>, Refusal> {
    let (registry, batch) = (delivery.numbering.registry(), &upload.batch);
    let Some(route) = registry.route(&batch.province) else {
        return Ok(Err(format!("province {} has no route, and so no key", batch.province)));
    };
    let Some(key) = ReceiptKey::parse(&route.receipt_key) else {
        return Ok(Err(format!("the receipt key of {} is none", route.province)));
    };
    let (_, names) = upload.items(delivery).await.map_err(broken)?;
    let checked = VerifiedReceipt::check(receipt, &key, BatchId(batch.id), &names);
    Ok(checked.map_err(|lie| lie.to_string()))
}
