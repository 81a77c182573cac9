//! Takes a batch in: judges its items, says what goes back to the devices, signs the receipt and
//! keeps it.
//!
//! Invariant: the receipt is decided and signed when the batch comes; judging that takes long only
//! delays its telling.

use super::{
    books::{BooksError, find_device},
    faults::Fault,
    judge::{self, Judged},
    monitor,
    receipt::ReceiptKey,
};
use crate::{
    clock::random_text,
    convert::sha256,
    model::{CstTime, Kind},
    pb::authority::v1::{
        MonitorData, Receipt, ReceiptStatement, SubmitBatchRequest, Verdict, WriteBack,
    },
};
use aws_lc_rs::hmac;
use base64::Engine as _;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use std::{collections::BTreeMap, time::Duration};

/// What is to be done with a new batch beside judging it.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders {
    /// A fault that rejects.
    pub(super) reject: Option<Fault>,
    /// A fault that changes the monitor data.
    pub(super) monitor: Option<Fault>,
    /// How long the receipt is not told.
    pub(super) judging: Duration,
}

/// What a proxy hears of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// Acceptance serial.
    pub(super) acceptance_serial: String,
    /// The receipt; absent while the batch is being judged.
    pub(super) receipt: Option<Receipt>,
}

/// A batch that was taken in.
#[derive(Debug)]
pub(super) struct Accepted {
    digest: [u8; 32],
    acceptance_serial: String,
    receipt: Receipt,
    /// When the receipt is told. Unit: milliseconds since the Unix epoch.
    told_from_ms: i64,
}

impl Accepted {
    /// The batch, told from a time on.
    pub(super) fn from(self, told_from_ms: i64) -> Self {
        Self { told_from_ms, ..self }
    }

    /// What the proxy hears at a time.
    pub(super) fn told(self, now_ms: i64) -> Told {
        let receipt = (now_ms >= self.told_from_ms).then_some(self.receipt);
        Told { acceptance_serial: self.acceptance_serial, receipt }
    }
}

/// Finds a batch.
pub(super) fn find(connection: &Connection, id: &[u8]) -> Result<Option<Accepted>, BooksError> {
    let find =
        "SELECT digest, serial, statement, signature, told_from_ms FROM batches WHERE id = ?";
    let batch = |row: &rusqlite::Row<'_>| -> rusqlite::Result<_> {
        Ok(Accepted {
            digest: row.get(0)?,
            acceptance_serial: row.get(1)?,
            receipt: Receipt { statement: row.get(2)?, signature: row.get(3)? },
            told_from_ms: row.get(4)?,
        })
    };
    Ok(connection.prepare_cached(find)?.query_row([id], batch).optional()?)
}

/// Finds the batch that a request sends again.
pub(super) fn find_same(
    change: &Transaction<'_>,
    request: &SubmitBatchRequest,
) -> Result<Option<Accepted>, BooksError> {
    match find(change, &request.batch_id)? {
        Some(known) if known.digest != sha256(&request.encode_to_vec()) => {
            Err(BooksError::Conflict { what: "the batch" })
        }
        found => Ok(found),
    }
}

/// Judges a new batch and signs its receipt.
pub(super) fn take(
    change: &Transaction<'_>,
    request: &SubmitBatchRequest,
    orders: &Orders,
    (key, defaults, now): (&ReceiptKey, &monitor::Defaults, CstTime),
) -> Result<Accepted, BooksError> {
    let places = (1..).zip(&request.items);
    let judged = places.map(|(at, item)| judge::judge(change, item, at, orders.reject.as_ref()));
    let judged: Vec<Judged> = judged.collect::<Result<_, _>>()?;
    let acceptance_serial = random_text(32);
    let (mut monitors, mut write_backs) = (Vec::new(), Vec::new());
    for ((device, kind), counts) in count(&judged) {
        let series = (device.as_str(), kind);
        if find_device(change, &device)?.is_some_and(|device| device.draws_numbers) {
            write_backs.push(write_back(key, series, &acceptance_serial, counts));
        } else {
            let data = monitor_after(change, series, orders.monitor.as_ref(), (defaults, now))?;
            monitors.push(data);
        }
    }
    let statement = ReceiptStatement {
        acceptance_serial: acceptance_serial.clone(),
        batch_id: request.batch_id.clone(),
        accepted_at: now.rfc3339(),
        verdicts: judged.into_iter().map(|judged| judged.verdict).collect(),
        monitors,
        write_backs,
    }
    .encode_to_vec();
    let signature = key.sign(&statement).map_err(BooksError::Sign)?;
    let receipt = Receipt { statement, signature };
    let digest = sha256(&request.encode_to_vec());
    Ok(Accepted { digest, acceptance_serial, receipt, told_from_ms: 0 })
}

/// Keeps a batch.
pub(super) fn keep(
    change: &Transaction<'_>,
    id: &[u8],
    accepted: &Accepted,
) -> Result<(), BooksError> {
    let insert = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)";
    change.prepare_cached(insert)?.execute(params![
        id,
        accepted.digest,
        accepted.acceptance_serial,
        accepted.receipt.statement,
        accepted.receipt.signature,
        accepted.told_from_ms
    ])?;
    Ok(())
}

/// Tells every receipt from now on.
pub(super) fn end_judging(change: &Transaction<'_>) -> Result<(), BooksError> {
    change.execute("UPDATE batches SET told_from_ms = 0 WHERE told_from_ms > 0", [])?;
    Ok(())
}

/// How many items of each series were accepted and rejected.
fn count(judged: &[Judged]) -> BTreeMap<(String, Kind), [u32; 2]> {
    let mut counts = BTreeMap::<_, [u32; 2]>::new();
    for judged in judged {
        let Some(series) = &judged.series else { continue };
        let [accepted, rejected] = counts.entry(series.clone()).or_default();
        let of = match judged.verdict.verdict() {
            Verdict::Accepted => accepted,
            Verdict::Rejected | Verdict::Unspecified => rejected,
        };
        *of = of.saturating_add(1);
    }
    counts
}

/// The data of a series in force, after a fault changed it.
pub(super) fn monitor_after(
    change: &Transaction<'_>,
    series: (&str, Kind),
    fault: Option<&Fault>,
    (defaults, now): (&monitor::Defaults, CstTime),
) -> Result<MonitorData, BooksError> {
    let data = monitor::in_force(change, series, defaults, now)?;
    match fault {
        Some(Fault::LockedPeriod) => monitor::set(change, monitor::locked(data, now)),
        Some(Fault::MonitorBackwards) => monitor::set(change, monitor::backwards(data, now)),
        _ => Ok(data),
    }
}

/// What a device that draws its numbers is told: 40 bytes in Base64, the way a cipher text looks.
/// Whoever reads it knows nothing; the same upload gives the same text.
fn write_back(
    key: &ReceiptKey,
    (device, kind): (&str, Kind),
    acceptance_serial: &str,
    counts: [u32; 2],
) -> WriteBack {
    let kind = kind.to_wire().as_str_name().to_owned();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.public_der);
    let about = format!("{device}\n{kind}\n{acceptance_serial}");
    let mut bytes = hmac::sign(&key, about.as_bytes()).as_ref().to_vec();
    bytes.extend(counts.into_iter().flat_map(u32::to_be_bytes));
    let result = base64::engine::general_purpose::STANDARD.encode(bytes);
    WriteBack { device_id: device.to_owned(), kind, result }
}
