//! Voids of issued invoices (正数废票, 负数废票): the rows, the index of the requests that made them,
//! and the part of `verify` that proves both. The invoice itself stays what it was, to the byte.

use super::{
    Balance, Books, Event, Found, StoreError, load, reader,
    rows::{
        self,
        Column::{self, Bytes, Int},
        EventBody,
    },
    schema::sqlite,
    verify::Findings,
};
use crate::{
    convert::sha256,
    model::{ClaimId, CstTime, PlatformNo, RequestKey, Serial, SeriesNo, TaxpayerNo},
};
use prost::Message;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeMap;

/// The void of an issued invoice: makes its claim VOIDED. The signature row stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceVoid {
    /// The claim.
    pub claim: ClaimId,
    /// Its series.
    pub series: SeriesNo,
    /// Who asked for it. The serial is the caller's request id; voids have a name space of their
    /// own, in which it stands for this void for ever.
    pub request: RequestKey,
    /// The caller's reason.
    pub reason: String,
    /// When; never before the invoice was issued.
    pub at: CstTime,
    /// The chained event.
    pub event: Event,
}

impl InvoiceVoid {
    /// What the event's hash covers: the very invoice, who voided it, why and when.
    #[must_use]
    pub fn body(invoice: &[u8], request: &RequestKey, (reason, at): (&str, CstTime)) -> Vec<u8> {
        rows::canonical(&[
            Bytes(&sha256(invoice)),
            Int(Some(request.platform.0)),
            Int(Some(request.taxpayer.0)),
            Bytes(request.serial.as_str().as_bytes()),
            Bytes(reason.as_bytes()),
            Int(Some(at.unix())),
        ])
    }
}

/// Body of a row.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InvoiceVoidBody {
    #[prost(int64, tag = "1")]
    platform: i64,
    #[prost(int64, tag = "2")]
    taxpayer: i64,
    #[prost(string, tag = "3")]
    request_id: String,
    #[prost(string, tag = "4")]
    reason: String,
    #[prost(int64, tag = "5")]
    at: i64,
    #[prost(message, optional, tag = "6")]
    event: Option<EventBody>,
}

pub(super) fn body(void: &InvoiceVoid) -> InvoiceVoidBody {
    InvoiceVoidBody {
        platform: void.request.platform.0,
        taxpayer: void.request.taxpayer.0,
        request_id: void.request.serial.as_str().to_owned(),
        reason: void.reason.clone(),
        at: void.at.unix(),
        event: Some(EventBody::of(void.event)),
    }
}

pub(super) fn invoice_void(
    claim: ClaimId,
    series: SeriesNo,
    body: InvoiceVoidBody,
) -> Result<InvoiceVoid, StoreError> {
    let range = || StoreError::damaged(format!("the void of claim {claim} is out of its range"));
    let request = RequestKey {
        platform: PlatformNo(body.platform),
        taxpayer: TaxpayerNo(body.taxpayer),
        serial: Serial::parse(&body.request_id).ok_or_else(range)?,
    };
    let at = CstTime::from_unix(body.at).ok_or_else(range)?;
    let event = body.event.as_ref().ok_or_else(range)?.event()?;
    Ok(InvoiceVoid { claim, series, request, reason: body.reason, at, event })
}

/// The columns of a void request that its CRC covers.
pub(super) fn request_columns(key: &RequestKey, claim: ClaimId) -> [Column<'_>; 4] {
    [
        Int(Some(key.platform.0)),
        Int(Some(key.taxpayer.0)),
        Bytes(key.serial.as_str().as_bytes()),
        Int(Some(claim.0)),
    ]
}

/// The claim whose invoice a void request voided.
pub(super) fn requested(
    connection: &Connection,
    key: &RequestKey,
) -> Result<Option<ClaimId>, StoreError> {
    let row: Option<(i64, i64)> = connection
        .prepare_cached(
            "SELECT claim, crc FROM void_request
             WHERE platform = ? AND taxpayer = ? AND request_id = ?",
        )
        .and_then(|mut statement| {
            let key = params![key.platform.0, key.taxpayer.0, key.serial.as_str()];
            statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(sqlite("look up a void request"))?;
    let Some((claim, crc)) = row else { return Ok(None) };
    let claim = ClaimId(claim);
    rows::check_crc("void_request", key.serial.as_str(), &request_columns(key, claim), crc)?;
    Ok(Some(claim))
}

impl Books {
    /// The claim whose invoice a void request voided, with its fate; none when the request id is
    /// free.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn void_requested(&self, key: &RequestKey) -> Result<Option<Found>, StoreError> {
        self.durable(|connection| {
            let claim = requested(connection, key)?;
            claim.map(|claim| reader::found(connection, claim)).transpose()
        })
    }
}

/// What `verify` gathers about voids while it walks the claims.
#[derive(Debug, Default)]
pub(super) struct Voids {
    requests: BTreeMap<RequestKey, ClaimId>,
    claims: BTreeMap<ClaimId, CstTime>,
}

impl Voids {
    /// Notes the void of an invoice that was issued at `issued_at`.
    pub(super) fn note(&mut self, void: &InvoiceVoid, issued_at: CstTime, findings: &mut Findings) {
        let claim = void.claim;
        if void.at < issued_at {
            findings.problem(format!("claim {claim} was voided before it was issued"));
        }
        if let Some(other) = self.requests.insert(void.request.clone(), claim) {
            findings.problem(format!("the voids of claims {other} and {claim} have one id"));
        }
        self.claims.insert(claim, void.at);
    }

    /// Every void is one of an issued invoice that no red letter stands against (`taken`), and the
    /// index of void requests names exactly the voids.
    pub(super) fn check(
        &self,
        connection: &Connection,
        taken: &BTreeMap<ClaimId, Balance>,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        for id in load::ids(connection, "SELECT claim FROM invoice_void ORDER BY claim")? {
            if !self.claims.contains_key(&ClaimId(id)) {
                findings.problem(format!("the void of claim {id} is of no issued invoice"));
            }
        }
        for blue in self.claims.keys().filter(|claim| taken.contains_key(claim)) {
            findings.problem(format!("red letters reverse invoice {blue}, which is voided"));
        }
        let mut left = self.requests.clone();
        let sql = "SELECT platform, taxpayer, request_id, claim, crc FROM void_request";
        let entries = load::all(connection, sql, |row| {
            let serial: String = row.get(2)?;
            let Some(serial) = Serial::parse(&serial) else {
                return Ok(Err(StoreError::damaged("a void request has a malformed id")));
            };
            let (platform, taxpayer) = (PlatformNo(row.get(0)?), TaxpayerNo(row.get(1)?));
            let key = RequestKey { platform, taxpayer, serial };
            let (claim, crc) = (ClaimId(row.get(3)?), row.get(4)?);
            let columns = request_columns(&key, claim);
            let checked = rows::check_crc("void_request", key.serial.as_str(), &columns, crc);
            Ok(checked.map(|()| (key, claim)))
        })?;
        for (key, claim) in entries {
            if left.remove(&key) != Some(claim) {
                findings.problem(format!("the void index gives a request id to claim {claim}"));
            }
        }
        for claim in left.values() {
            findings.problem(format!("the void index misses the void of claim {claim}"));
        }
        Ok(())
    }
}
