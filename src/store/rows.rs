//! How rows are encoded: a version byte, then protobuf; and the CRC that each row carries, since
//! SQLite does not notice a damaged page on its own.

use super::{
    Assignment, Claim, ClaimHead, Event, EventHash, Issued, OfflineItem, SignedTail, StoreError,
    Voided,
};
use crate::{
    contract::ContentDigest,
    model::{
        ClaimId, Color, CstTime, DeviceNo, DeviceSerial, Fen, InvoiceNumber, Kind, PlatformNo,
        Position, RequestKey, Serial, SeriesNo, TaxpayerNo, Totals,
    },
};
use prost::Message;
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};

/// Version byte of every blob.
const VERSION: u8 = 1;

/// One column as it goes into a row's CRC.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column<'a> {
    /// An integer; absent is a value of its own.
    Int(Option<i64>),
    /// Text or blob.
    Bytes(&'a [u8]),
}

impl ToSql for Column<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(Some(value)) => ValueRef::Integer(*value),
            Self::Int(None) => ValueRef::Null,
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// CRC-32 over the table's name and every column, so that a row moved to another key is noticed
/// too.
pub(super) fn crc(table: &str, columns: &[Column<'_>]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.as_bytes());
    feed(columns, |bytes| hasher.update(bytes));
    i64::from(hasher.finalize())
}

/// Columns as bytes that no other columns have.
pub(super) fn canonical(columns: &[Column<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    feed(columns, |bytes| out.extend_from_slice(bytes));
    out
}

fn feed(columns: &[Column<'_>], mut into: impl FnMut(&[u8])) {
    for column in columns {
        match column {
            Column::Int(Some(value)) => {
                into(&[1]);
                into(&value.to_be_bytes());
            }
            Column::Int(None) => into(&[0]),
            Column::Bytes(bytes) => {
                into(&[2]);
                into(&crate::convert::len_u64(bytes.len()).to_be_bytes());
                into(bytes);
            }
        }
    }
}

/// Refuses a row whose CRC does not match.
pub(super) fn check_crc(
    table: &'static str,
    key: &str,
    columns: &[Column<'_>],
    stored: i64,
) -> Result<(), StoreError> {
    if crc(table, columns) == stored {
        return Ok(());
    }
    Err(StoreError::damaged(format!("row {key} of table {table} does not match its CRC")))
}

/// Encodes a blob with its version byte.
pub(super) fn seal(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.encoded_len().saturating_add(1));
    bytes.push(VERSION);
    message.encode(&mut bytes).expect("a Vec has room for what it grows to");
    bytes
}

/// Decodes what `seal` made.
pub(super) fn unseal<M: Message + Default>(bytes: &[u8]) -> Result<M, StoreError> {
    let Some((&VERSION, body)) = bytes.split_first() else {
        return Err(StoreError::damaged("a blob has an unknown version byte"));
    };
    M::decode(body).map_err(|error| StoreError::damaged(format!("a blob does not decode: {error}")))
}

fn range(what: &str) -> StoreError {
    StoreError::damaged(format!("a stored {what} is out of its range"))
}

fn time(unix: i64) -> Result<CstTime, StoreError> {
    CstTime::from_unix(unix).ok_or_else(|| range("time"))
}

fn kind(code: u32) -> Result<Kind, StoreError> {
    u16::try_from(code).ok().and_then(Kind::from_legacy_code).ok_or_else(|| range("kind"))
}

fn hash32(bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| range("hash"))
}

/// Body of a claim row.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ClaimBody {
    #[prost(int64, tag = "1")]
    device: i64,
    #[prost(int64, tag = "2")]
    platform: i64,
    #[prost(int64, tag = "3")]
    taxpayer: i64,
    #[prost(string, tag = "4")]
    serial: String,
    #[prost(uint32, tag = "5")]
    digest_version: u32,
    #[prost(bytes = "vec", tag = "6")]
    digest: Vec<u8>,
    #[prost(string, tag = "7")]
    code: String,
    #[prost(uint32, tag = "8")]
    number: u32,
    /// Present on a numbered claim.
    #[prost(uint64, optional, tag = "9")]
    position: Option<u64>,
    /// Present on a device's claim.
    #[prost(string, optional, tag = "10")]
    device_serial: Option<String>,
    #[prost(int64, tag = "11")]
    claimed_at: i64,
    #[prost(uint32, tag = "12")]
    kind: u32,
    #[prost(bool, tag = "13")]
    red: bool,
    #[prost(sint64, tag = "14")]
    amount: i64,
    #[prost(sint64, tag = "15")]
    tax: i64,
    #[prost(sint64, tag = "16")]
    total: i64,
    #[prost(bytes = "bytes", tag = "17")]
    head: bytes::Bytes,
    #[prost(message, optional, tag = "18")]
    event: Option<EventBody>,
    /// Present on a red letter.
    #[prost(int64, optional, tag = "19")]
    red_of: Option<i64>,
    #[prost(bool, tag = "20")]
    counts_credit: bool,
}

/// A chained event.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EventBody {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    hash: Vec<u8>,
}

impl EventBody {
    pub(super) fn of(event: Event) -> Self {
        Self { sequence: event.sequence, hash: event.hash.0.to_vec() }
    }

    pub(super) fn event(&self) -> Result<Event, StoreError> {
        Ok(Event { sequence: self.sequence, hash: EventHash(hash32(&self.hash)?) })
    }
}

pub(super) fn claim_body(claim: &Claim) -> ClaimBody {
    let (number, position, device_serial) = match &claim.assignment {
        Assignment::Numbered { number, position } => (number, Some(position.0), None),
        Assignment::ByDevice { device_serial, next } => (next, None, Some(device_serial.0.clone())),
    };
    ClaimBody {
        device: claim.device.0,
        platform: claim.request.platform.0,
        taxpayer: claim.request.taxpayer.0,
        serial: claim.request.serial.as_str().to_owned(),
        digest_version: u32::from(claim.digest.version),
        digest: claim.digest.bytes.to_vec(),
        code: number.code.clone(),
        number: number.number,
        position,
        device_serial,
        claimed_at: claim.claimed_at.unix(),
        kind: u32::from(claim.kind.legacy_code()),
        red: claim.color == Color::Red,
        amount: claim.totals.amount.0,
        tax: claim.totals.tax.0,
        total: claim.totals.total.0,
        head: claim.head.0.clone(),
        event: claim.event.map(EventBody::of),
        red_of: claim.red_of.map(|blue| blue.0),
        counts_credit: claim.counts_credit,
    }
}

/// What a start needs of a claim row that is told to the authority: the blue invoice that its red
/// letter reverses, and what of it is offline.
pub(super) fn told_of(
    series: SeriesNo,
    sealed: &[u8],
) -> Result<(Option<ClaimId>, OfflineItem), StoreError> {
    let body: ClaimBody = unseal(sealed)?;
    let offline = OfflineItem { series, at: time(body.claimed_at)?, amount: Fen(body.amount) };
    Ok((body.red_of.map(ClaimId), offline))
}

pub(super) fn claim(id: ClaimId, series: SeriesNo, body: ClaimBody) -> Result<Claim, StoreError> {
    let number = InvoiceNumber { code: body.code, number: body.number };
    let assignment = match (body.position, body.device_serial) {
        (Some(position), None) => Assignment::Numbered { number, position: Position(position) },
        (None, Some(serial)) => {
            Assignment::ByDevice { device_serial: DeviceSerial(serial), next: number }
        }
        _ => return Err(StoreError::damaged(format!("claim {id} is of no known kind"))),
    };
    Ok(Claim {
        id,
        series,
        device: DeviceNo(body.device),
        request: RequestKey {
            platform: PlatformNo(body.platform),
            taxpayer: TaxpayerNo(body.taxpayer),
            serial: Serial::parse(&body.serial).ok_or_else(|| range("serial"))?,
        },
        digest: ContentDigest {
            version: u8::try_from(body.digest_version).map_err(|_| range("digest version"))?,
            bytes: hash32(&body.digest)?,
        },
        assignment,
        claimed_at: time(body.claimed_at)?,
        kind: kind(body.kind)?,
        color: if body.red { Color::Red } else { Color::Blue },
        totals: Totals { amount: Fen(body.amount), tax: Fen(body.tax), total: Fen(body.total) },
        red_of: body.red_of.map(ClaimId),
        counts_credit: body.counts_credit,
        head: ClaimHead(body.head),
        event: body.event.as_ref().map(EventBody::event).transpose()?,
    })
}

/// Body of a signature row.
#[derive(Clone, PartialEq, Message)]
pub(super) struct IssuedBody {
    #[prost(bytes = "bytes", tag = "1")]
    tail: bytes::Bytes,
    #[prost(message, optional, tag = "2")]
    event: Option<EventBody>,
    /// What the device drew; absent where the claim has it.
    #[prost(message, optional, tag = "3")]
    drawn: Option<DrawnBody>,
}

/// Code, number, position and time that a device drew.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DrawnBody {
    #[prost(string, tag = "1")]
    code: String,
    #[prost(uint32, tag = "2")]
    number: u32,
    #[prost(uint64, tag = "3")]
    position: u64,
    #[prost(int64, tag = "4")]
    issue_time: i64,
}

pub(super) fn issued_body(issued: &Issued) -> IssuedBody {
    IssuedBody {
        tail: issued.tail.0.clone(),
        event: Some(EventBody::of(issued.event)),
        drawn: issued.drawn.as_ref().map(|(number, position, issue_time)| DrawnBody {
            code: number.code.clone(),
            number: number.number,
            position: position.0,
            issue_time: issue_time.unix(),
        }),
    }
}

pub(super) fn issued(
    claim: ClaimId,
    series: SeriesNo,
    body: IssuedBody,
) -> Result<Issued, StoreError> {
    let drawn = body.drawn.map(|drawn| {
        let number = InvoiceNumber { code: drawn.code, number: drawn.number };
        time(drawn.issue_time).map(|issue_time| (number, Position(drawn.position), issue_time))
    });
    let event = body.event.ok_or_else(|| range("event"))?.event()?;
    Ok(Issued { claim, series, tail: SignedTail(body.tail), drawn: drawn.transpose()?, event })
}

/// Body of a void or release row.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EndBody {
    /// Present on a void whose number is known.
    #[prost(string, optional, tag = "1")]
    code: Option<String>,
    #[prost(uint32, tag = "2")]
    number: u32,
    /// The operator's reason, or the evidence.
    #[prost(string, tag = "3")]
    pub(super) reason: String,
    #[prost(int64, tag = "4")]
    at: i64,
    #[prost(message, optional, tag = "5")]
    pub(super) event: Option<EventBody>,
    /// Present on a void whose number a device drew.
    #[prost(uint64, optional, tag = "6")]
    position: Option<u64>,
}

impl EndBody {
    pub(super) fn of_void(voided: &Voided) -> Self {
        Self {
            code: voided.number.as_ref().map(|number| number.code.clone()),
            number: voided.number.as_ref().map_or(0, |number| number.number),
            reason: voided.reason.clone(),
            at: voided.at.unix(),
            event: Some(EventBody::of(voided.event)),
            position: voided.drawn.map(|position| position.0),
        }
    }

    pub(super) fn of_release(released: &super::Released) -> Self {
        Self {
            code: None,
            number: 0,
            reason: released.evidence.clone(),
            at: released.at.unix(),
            event: Some(EventBody::of(released.event)),
            position: None,
        }
    }

    pub(super) fn voided(self, claim: ClaimId, series: SeriesNo) -> Result<Voided, StoreError> {
        let number = self.number;
        Ok(Voided {
            claim,
            series,
            number: self.code.map(|code| InvoiceNumber { code, number }),
            drawn: self.position.map(Position),
            reason: self.reason,
            at: time(self.at)?,
            event: self.event.ok_or_else(|| range("event"))?.event()?,
        })
    }
}
