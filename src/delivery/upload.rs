//! One batch on its way (上传): submit → acceptance serial → result → receipt, each step durable
//! before the next, and resumable after a crash at any point.
//!
//! Invariants: a batch whose fate is not known is asked for before it is sent again; it is sent
//! again under the same id with the same bytes; only what the acceptance refuses for good, or
//! provably never keeps, is split.

use super::{
    DeliveryError,
    backoff::Backoff,
    receipt::{BatchId, ItemName, Verdict, VerifiedReceipt},
    upstream::{Submitted, Upstream, UpstreamError},
    worker::Delivery,
};
use crate::{
    convert::{len_u64, sha256},
    metrics::metrics,
    model::{CstTime, DeviceNo, Kind},
    numbering::{Heard, Round, Taken},
    pb::authority::v1::{BatchItem, MonitorData, VoidedNumber},
    registry::{Monitor, MonitorFacts, Registry, ToldBy},
    store::{DeliveryBatch, Fate, Found, Notice, ReceiptRecord, Rejection, Told},
};
use prost::Message as _;

/// Refusals for good after which a batch is split: one may be a fault of the other side.
const REFUSALS_MAX: u32 = 3;
/// Times that a sent batch is not there when asked for, after which it is split: something in it
/// may fell whoever reads it.
const VANISHED_MAX: u32 = 5;

/// A batch, and how far it has come.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) batch: DeliveryBatch,
    /// It may have been sent before.
    in_doubt: bool,
    /// The acceptance serial, once it is known.
    serial: Option<String>,
    refusals: u32,
    vanished: u32,
    /// Times that it was asked for while it was being judged.
    pub(super) polls: u32,
    /// An incident is open about a lie that was told of it.
    reported: bool,
}

/// What one step came to.
#[derive(Debug)]
pub(super) enum Step {
    /// It has its receipt, or was split; these are to go instead.
    Ended(Vec<DeliveryBatch>),
    /// It is being judged: ask again later.
    Judging,
}

impl Upload {
    /// A batch that was frozen just now.
    pub(super) fn fresh(batch: DeliveryBatch) -> Self {
        let (in_doubt, serial, reported) = (false, None, false);
        Self { batch, in_doubt, serial, refusals: 0, vanished: 0, polls: 0, reported }
    }

    /// A batch of an earlier life.
    pub(super) fn resumed(batch: DeliveryBatch, serial: Option<String>) -> Self {
        Self { in_doubt: true, serial, ..Self::fresh(batch) }
    }

    /// The pause before it is tried again, after a failure of its own.
    pub(super) fn pause(&self) -> std::time::Duration {
        Backoff::poll(self.refusals.max(self.vanished))
    }

    /// One step: asks or sends, and keeps what was answered.
    pub(super) async fn step(
        &mut self,
        delivery: &Delivery,
        upstream: &Upstream,
    ) -> Result<Step, DeliveryError> {
        let (items, names) = self.items(delivery).await?;
        match self.answer(upstream, items, &names).await {
            Ok(Submitted::Judged(receipt)) => {
                self.store(delivery, &receipt).await?;
                Ok(Step::Ended(Vec::new()))
            }
            Ok(Submitted::Judging(serial)) => {
                if self.serial.as_ref() != Some(&serial) {
                    let (batch, kept) = (self.batch.no, serial.clone());
                    let accepted = move |round: &mut Round<'_>| {
                        round.put_acceptance(batch, kept);
                        Ok(())
                    };
                    delivery.complete(accepted).await?;
                    self.serial = Some(serial);
                }
                self.polls = self.polls.saturating_add(1);
                Ok(Step::Judging)
            }
            Err(error) => self.failed(delivery, error).await,
        }
    }

    /// Asks first when it may have been sent; sends it when it is not there.
    async fn answer(
        &mut self,
        upstream: &Upstream,
        items: Vec<BatchItem>,
        names: &[ItemName],
    ) -> Result<Submitted, UpstreamError> {
        let id = BatchId(self.batch.id);
        if self.in_doubt || self.serial.is_some() {
            if let Some(known) = upstream.find_batch(id, names).await? {
                return Ok(known);
            }
            self.vanished = self.vanished.saturating_add(u32::from(self.in_doubt));
            self.serial = None;
        }
        self.in_doubt = true;
        upstream.submit_batch(id, items, names).await
    }

    async fn failed(
        &mut self,
        delivery: &Delivery,
        error: UpstreamError,
    ) -> Result<Step, DeliveryError> {
        match &error {
            UpstreamError::Refused { .. } if error.is_about_the_batch() => {
                self.refusals = self.refusals.saturating_add(1);
                if self.refusals >= REFUSALS_MAX {
                    return self.split(delivery, &error).await;
                }
            }
            UpstreamError::Unreachable { .. } if self.vanished >= VANISHED_MAX => {
                return self.split(delivery, &error).await;
            }
            UpstreamError::Lying { .. } => {
                metrics().lies.increment(1);
                if !self.reported {
                    self.reported = true;
                    let (batch, text) = (self.batch.no, error.to_string());
                    let report = move |round: &mut Round<'_>| {
                        round.report_batch(batch, &text);
                        Ok(())
                    };
                    delivery.complete(report).await?;
                }
            }
            UpstreamError::Refused { .. } | UpstreamError::Unreachable { .. } => {}
        }
        Err(DeliveryError::Upstream(error))
    }

    async fn split(
        &self,
        delivery: &Delivery,
        error: &UpstreamError,
    ) -> Result<Step, DeliveryError> {
        metrics().splits.increment(1);
        let (batch, message) = (self.batch.clone(), error.to_string());
        let count = batch.members.len();
        tracing::warn!(batch = batch.no.0, count, message, "a batch is split");
        let split = move |round: &mut Round<'_>| round.split_batch(&batch, &message);
        delivery.complete(split).await.map(Step::Ended)
    }

    /// The batch's items and what they must be called, from the books: the same bytes each time.
    pub(super) async fn items(
        &self,
        delivery: &Delivery,
    ) -> Result<(Vec<BatchItem>, Vec<ItemName>), DeliveryError> {
        let members = self.batch.members.clone();
        let found = delivery.numbering.read(move |books| books.told(&members)).await;
        let found = found.map_err(DeliveryError::Store)?;
        let registry = delivery.numbering.registry();
        let mut pairs = Vec::with_capacity(found.len());
        for (notice, found) in self.batch.members.iter().zip(&found) {
            let pair = item(&registry, *notice, found);
            let made = || DeliveryError::NotMade { batch: self.batch.no, notice: *notice };
            pairs.push(pair.ok_or_else(made)?);
        }
        Ok(pairs.into_iter().unzip())
    }

    pub(super) async fn store(
        &self,
        delivery: &Delivery,
        receipt: &VerifiedReceipt,
    ) -> Result<(), DeliveryError> {
        let record = self.record(receipt);
        metrics().batches.increment(1);
        metrics().delivered.increment(len_u64(self.batch.members.len()));
        metrics().rejected.increment(len_u64(record.rejected.len()));
        let (batch, told_at) = (self.batch.no, delivery.clock.now());
        let (write_backs, monitors) = (receipt.write_backs().to_vec(), receipt.monitors().to_vec());
        let keep = move |round: &mut Round<'_>| {
            let heard: Vec<Heard> = write_backs
                .into_iter()
                .filter_map(|it| {
                    let series = round.series_named(&it.device_id, &it.kind)?.state.no;
                    Some(Heard { series, result: it.result })
                })
                .collect();
            round.put_write_backs(batch, &record.acceptance_serial, &heard);
            for data in &monitors {
                take_monitor(round, data, told_at);
            }
            round.put_receipt(record);
            Ok(())
        };
        delivery.complete(keep).await?;
        delivery.write_backs_changed.notify_one();
        Ok(())
    }

    fn record(&self, receipt: &VerifiedReceipt) -> ReceiptRecord {
        let verdicts = self.batch.members.iter().zip(receipt.verdicts());
        let rejected = verdicts.filter_map(|(notice, verdict)| match verdict {
            Verdict::Accepted => None,
            Verdict::Rejected { message } => {
                Some(Rejection { notice: *notice, message: message.clone() })
            }
        });
        ReceiptRecord {
            batch: self.batch.no,
            acceptance_serial: receipt.acceptance_serial().to_owned(),
            receipt: receipt.receipt().encode_to_vec(),
            rejected: rejected.collect(),
            at: receipt.accepted_at(),
        }
    }
}

/// Takes over monitor data that a receipt or an answer brought. What is malformed, or about nobody
/// here, is logged: the receipt itself stands.
pub(super) fn take_monitor(round: &mut Round<'_>, data: &MonitorData, told_at: CstTime) {
    let Some(series) = round.series_named(&data.device_id, &data.kind) else {
        tracing::warn!(device = data.device_id, "monitor data of an unknown device is ignored");
        return;
    };
    let (device, kind) = (series.state.device, series.state.kind);
    let facts = match MonitorFacts::parse(data) {
        Ok(facts) => facts,
        Err(flaw) => {
            metrics().monitor_refused.increment(1);
            return put_refused_monitor(round, (device, kind), &flaw.to_string());
        }
    };
    put_monitor(round, Monitor { device, kind, told_by: ToldBy::Authority, told_at, facts });
}

/// Takes over monitor data that is malformed: as an incident, once.
pub(super) fn put_refused_monitor(round: &mut Round<'_>, of: (DeviceNo, Kind), why: &str) {
    round.refuse_monitor(of, why);
}

/// Takes over monitor data; what contradicts is counted, and an incident of its own.
pub(super) fn put_monitor(round: &mut Round<'_>, monitor: Monitor) {
    match round.put_monitor(monitor) {
        Ok(Taken::Refused(_)) => metrics().monitor_refused.increment(1),
        Ok(Taken::New | Taken::Known | Taken::Stale) => {}
        Err(refusal) => tracing::warn!(%refusal, "monitor data is ignored"),
    }
}

/// An item with its name; none when what it tells has not happened.
fn item(registry: &Registry, notice: Notice, found: &Found) -> Option<(BatchItem, ItemName)> {
    let invoice = match notice.told {
        Told::End => found.invoice(),
        Told::InvoiceVoid => None,
    };
    if let (Some(invoice), Some(number)) = (invoice, found.issued_number()) {
        let (code, number) = (number.code.clone(), number.number_text());
        let name = ItemName { code, number, digest: sha256(&invoice) };
        return Some((BatchItem { invoice, voided: None }, name));
    }
    let voided = voided(found, notice.told, registry)?;
    let item = BatchItem { invoice: bytes::Bytes::new(), voided: Some(voided) };
    let name = ItemName::of(&item);
    Some((item, name))
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
