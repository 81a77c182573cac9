//! The acceptance side's books: one SQLite file, every change synced before it is answered, so that
//! a restart forgets nothing. One call is one transaction.
//!
//! Invariants: a (code, number) has at most one content, issued or voided unsigned, for ever; an
//! issued one has at most one void; a batch id has one receipt; segments never overlap each other
//! or a number that is known.

use super::{
    receipt::ReceiptKey,
    segments,
    verify::{DeviceKey, Flaw, RegisteredDevice, check_form, check_number, check_signature},
};
use crate::{
    clock::{Clock, random_text},
    convert::{sha256, to_u64},
    model::{CstTime, Kind},
    pb::{
        authority::v1::{
            BatchItem, ItemVerdict, Receipt, ReceiptStatement, SubmitBatchRequest, Verdict,
            VoidedNumber,
        },
        v1 as pb,
    },
};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::{path::Path, time::Duration};

/// Version of the tables below.
const SCHEMA_VERSION: i64 = 2;
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE devices (
        id TEXT PRIMARY KEY, taxpayer TEXT NOT NULL, public_key BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE numbers (
        code TEXT NOT NULL, number TEXT NOT NULL, voided INTEGER NOT NULL, digest BLOB NOT NULL,
        device TEXT NOT NULL, kind INTEGER NOT NULL, PRIMARY KEY (code, number)
    ) WITHOUT ROWID;
    CREATE TABLE invoice_voids (
        code TEXT NOT NULL, number TEXT NOT NULL, digest BLOB NOT NULL, voided_at TEXT NOT NULL,
        PRIMARY KEY (code, number)
    ) WITHOUT ROWID;
    CREATE INDEX numbers_series ON numbers (device, kind, code, number);
    CREATE TABLE batches (
        id BLOB PRIMARY KEY, digest BLOB NOT NULL, statement BLOB NOT NULL, signature BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE segments (
        request BLOB PRIMARY KEY, device TEXT NOT NULL, kind INTEGER NOT NULL,
        count INTEGER NOT NULL, code TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX segments_code ON segments (code, last);
";
/// How long a second process holds us up before a call fails.
const BUSY: Duration = Duration::from_secs(5);
/// The books' file.
const FILE: &str = "authority.sqlite";
/// Where the books remember the receipt key.
const RECEIPT_KEY: &str = "receipt-key";

/// Why the books did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum BooksError {
    #[error("{what} exists with other content")]
    Conflict { what: &'static str },
    #[error("{what} is not known")]
    NotFound { what: &'static str },
    #[error("device {device} is not registered")]
    UnknownDevice { device: String },
    #[error("every code of this kind and year is used up")]
    UsedUp,
    #[error("the receipt key is not the one that signed the receipts in these books")]
    OtherReceiptKey,
    #[error("the books have schema {found}, this program knows {SCHEMA_VERSION}")]
    Schema { found: i64 },
    #[error("sign the receipt")]
    Sign(#[source] super::AuthorityError),
    #[error("use the books")]
    Sqlite(#[source] rusqlite::Error),
}

// One cause for every statement, the books' file: naming each statement would tell an operator no
// more.
impl From<rusqlite::Error> for BooksError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A series as the books know it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// How many numbers, issued and voided.
    pub(super) count: u64,
    /// Highest code and the highest number under it; empty when there is none.
    pub(super) highest: (String, String),
    /// Every code with its highest number, ascending by code.
    pub(super) codes: Vec<(String, String)>,
}

/// The open books.
#[derive(Debug)]
pub(super) struct Books {
    connection: Connection,
    receipt_key: ReceiptKey,
    clock: Clock,
    region: String,
}

impl Books {
    /// Opens or makes the books in `dir`. `region` is the four-digit region of the codes handed
    /// out.
    ///
    /// # Errors
    /// `OtherReceiptKey` and `Schema` when the directory contradicts itself; SQLite's own.
    pub(super) fn open(
        dir: &Path,
        receipt_key: ReceiptKey,
        clock: Clock,
        region: String,
    ) -> Result<Self, BooksError> {
        let mut connection = Connection::open(dir.join(FILE))?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let change = write(&mut connection)?;
        match change.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            0 => {
                change.execute_batch(SCHEMA)?;
                change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                let insert = "INSERT INTO meta VALUES (?, ?)";
                change.execute(insert, params![RECEIPT_KEY, receipt_key.public_der])?;
            }
            SCHEMA_VERSION => {}
            found => return Err(BooksError::Schema { found }),
        }
        let find = "SELECT value FROM meta WHERE name = ?";
        let known: Vec<u8> = change.query_row(find, [RECEIPT_KEY], |row| row.get(0))?;
        if known != receipt_key.public_der {
            return Err(BooksError::OtherReceiptKey);
        }
        change.commit()?;
        Ok(Self { connection, receipt_key, clock, region })
    }

    /// Registers a device; the same registration again changes nothing.
    ///
    /// # Errors
    /// `Conflict` when the id is taken by another key or taxpayer.
    pub(super) fn register(
        &mut self,
        id: &str,
        device: &RegisteredDevice,
    ) -> Result<(), BooksError> {
        let change = write(&mut self.connection)?;
        match find_device(&change, id)? {
            Some(known) if known == *device => {}
            Some(_) => return Err(BooksError::Conflict { what: "the device" }),
            None => {
                let insert = "INSERT INTO devices VALUES (?, ?, ?)";
                change.execute(insert, params![id, device.taxpayer, device.public_key])?;
            }
        }
        Ok(change.commit()?)
    }

    /// Issues a segment; the same request again gets the same segment.
    ///
    /// # Errors
    /// `Conflict` when the request id asked for something else, `UnknownDevice`, `UsedUp`.
    pub(super) fn acquire(
        &mut self,
        wanted: &segments::Wanted,
    ) -> Result<segments::Segment, BooksError> {
        let now = self.clock.now();
        let change = write(&mut self.connection)?;
        if find_device(&change, &wanted.device)?.is_none() {
            return Err(BooksError::UnknownDevice { device: wanted.device.clone() });
        }
        let segment = segments::acquire(&change, wanted, &self.region, now)?;
        change.commit()?;
        Ok(segment)
    }

    /// Judges every item of a batch, in order, and signs the verdicts; a batch that is known with
    /// the same bytes gets the same receipt.
    ///
    /// # Errors
    /// `Conflict` when the batch id is known with other bytes.
    pub(super) fn submit(&mut self, request: &SubmitBatchRequest) -> Result<Receipt, BooksError> {
        let digest = sha256(&request.encode_to_vec());
        let accepted_at = self.clock.now().rfc3339();
        let change = write(&mut self.connection)?;
        if let Some((known, receipt)) = find_batch(&change, &request.batch_id)? {
            return match known == digest {
                true => Ok(receipt),
                false => Err(BooksError::Conflict { what: "the batch" }),
            };
        }
        let verdicts = request.items.iter().map(|item| judge(&change, item));
        let statement = ReceiptStatement {
            acceptance_serial: random_text(32),
            batch_id: request.batch_id.clone(),
            accepted_at,
            verdicts: verdicts.collect::<Result<_, _>>()?,
            ..ReceiptStatement::default()
        }
        .encode_to_vec();
        let signature = self.receipt_key.sign(&statement).map_err(BooksError::Sign)?;
        let insert = "INSERT INTO batches VALUES (?, ?, ?, ?)";
        change.execute(insert, params![request.batch_id, digest, statement, signature])?;
        change.commit()?;
        Ok(Receipt { statement, signature })
    }

    /// The receipt of a batch.
    ///
    /// # Errors
    /// `NotFound` when the batch never arrived.
    pub(super) fn receipt(&self, batch_id: &[u8]) -> Result<Receipt, BooksError> {
        let found = find_batch(&self.connection, batch_id)?;
        found.map(|(_, receipt)| receipt).ok_or(BooksError::NotFound { what: "the batch" })
    }

    /// What the books know of a series.
    pub(super) fn series_head(&self, device: &str, kind: Kind) -> Result<Head, BooksError> {
        let series = params![device, kind.legacy_code()];
        let count = self.connection.query_row(
            "SELECT COUNT(*) FROM numbers WHERE device = ? AND kind = ?",
            series,
            |row| row.get(0),
        )?;
        let mut codes = self.connection.prepare_cached(
            "SELECT code, max(number) FROM numbers WHERE device = ? AND kind = ?
             GROUP BY code ORDER BY code",
        )?;
        let codes = codes.query_map(series, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let codes: Vec<(String, String)> = codes.collect::<rusqlite::Result<_>>()?;
        let highest = codes.last().cloned().unwrap_or_default();
        Ok(Head { count: to_u64(count), highest, codes })
    }

    /// The books' time.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}

fn write(connection: &mut Connection) -> Result<Transaction<'_>, BooksError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

fn find_device(connection: &Connection, id: &str) -> Result<Option<RegisteredDevice>, BooksError> {
    let mut find =
        connection.prepare_cached("SELECT taxpayer, public_key FROM devices WHERE id = ?")?;
    let device = |row: &rusqlite::Row<'_>| -> rusqlite::Result<_> {
        Ok(RegisteredDevice { taxpayer: row.get(0)?, public_key: row.get(1)? })
    };
    Ok(find.query_row([id], device).optional()?)
}

fn find_batch(
    connection: &Connection,
    id: &[u8],
) -> Result<Option<([u8; 32], Receipt)>, BooksError> {
    let mut find = connection
        .prepare_cached("SELECT digest, statement, signature FROM batches WHERE id = ?")?;
    let batch = |row: &rusqlite::Row<'_>| -> rusqlite::Result<_> {
        Ok((row.get(0)?, Receipt { statement: row.get(1)?, signature: row.get(2)? }))
    };
    Ok(find.query_row([id], batch).optional()?)
}

/// Judges one item and, when it is accepted, enters its number.
fn judge(change: &Transaction<'_>, item: &BatchItem) -> Result<ItemVerdict, BooksError> {
    let entry = Entry::read(item);
    let flaw = match &entry.content {
        Ok(content) => enter(change, &entry, content)?,
        Err(flaw) => Some(flaw.clone()),
    };
    let verdict = if flaw.is_none() { Verdict::Accepted } else { Verdict::Rejected };
    Ok(ItemVerdict {
        code: entry.code,
        number: entry.number,
        digest: entry.digest.to_vec(),
        verdict: verdict.into(),
        message: flaw.map(|flaw| flaw.to_string()).unwrap_or_default(),
    })
}

/// An item as it would be entered.
struct Entry {
    code: String,
    number: String,
    digest: [u8; 32],
    content: Result<Content, Flaw>,
}

enum Content {
    Issued(Box<pb::Invoice>),
    Voided(VoidedNumber),
}

impl Entry {
    fn read(item: &BatchItem) -> Self {
        let bad = |flaw, bytes: &[u8]| Self {
            code: String::new(),
            number: String::new(),
            digest: sha256(bytes),
            content: Err(flaw),
        };
        match (item.invoice.is_empty(), &item.voided) {
            (true, None) => bad(Flaw::Empty, &[]),
            (false, Some(_)) => bad(Flaw::Both, &item.invoice),
            (true, Some(voided)) => Self {
                code: voided.code.clone(),
                number: voided.number.clone(),
                digest: sha256(&voided.encode_to_vec()),
                content: Ok(Content::Voided(voided.clone())),
            },
            (false, None) => match pb::Invoice::decode(item.invoice.clone()) {
                Err(_) => bad(Flaw::Undecodable, &item.invoice),
                Ok(invoice) => Self {
                    code: invoice.code.clone(),
                    number: invoice.number.clone(),
                    digest: sha256(&item.invoice),
                    content: Ok(Content::Issued(Box::new(invoice))),
                },
            },
        }
    }
}

/// Enters an item's number; the flaw that keeps it out, if any.
fn enter(
    change: &Transaction<'_>,
    entry: &Entry,
    content: &Content,
) -> Result<Option<Flaw>, BooksError> {
    if let Content::Voided(voided) = content
        && !voided.invoice_digest.is_empty()
    {
        return void_issued(change, entry, voided);
    }
    let voids = matches!(content, Content::Voided(_));
    let find = "SELECT voided, digest FROM numbers WHERE code = ? AND number = ?";
    let known: Option<(bool, [u8; 32])> = change
        .prepare_cached(find)?
        .query_row([&entry.code, &entry.number], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some((voided, digest)) if voided == voids && digest == entry.digest => return Ok(None),
        Some((true, _)) if !voids => return Ok(Some(Flaw::IsVoided)),
        Some((false, _)) if voids => return Ok(Some(Flaw::IsIssued)),
        Some(_) => return Ok(Some(Flaw::OtherContent)),
        None => {}
    }
    let checked = match content {
        Content::Issued(invoice) => check_invoice(change, invoice)?,
        Content::Voided(voided) => check_void(change, voided)?,
    };
    let (device, kind) = match checked {
        Ok(series) => series,
        Err(flaw) => return Ok(Some(flaw)),
    };
    let (code, number) = (&entry.code, &entry.number);
    change.prepare_cached("INSERT INTO numbers VALUES (?, ?, ?, ?, ?, ?)")?.execute(params![
        code,
        number,
        voids,
        entry.digest,
        device,
        kind.legacy_code()
    ])?;
    Ok(None)
}

/// Enters the void of an issued invoice: of the very one that is known, and once.
fn void_issued(
    change: &Transaction<'_>,
    entry: &Entry,
    voided: &VoidedNumber,
) -> Result<Option<Flaw>, BooksError> {
    let of = params![voided.code, voided.number];
    let find = "SELECT voided, digest, device FROM numbers WHERE code = ? AND number = ?";
    let known: Option<(bool, Vec<u8>, String)> = change
        .prepare_cached(find)?
        .query_row(of, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match known {
        None => return Ok(Some(Flaw::NotIssued)),
        Some((true, ..)) => return Ok(Some(Flaw::IsVoided)),
        Some((false, digest, device))
            if digest != voided.invoice_digest || device != voided.device_id =>
        {
            return Ok(Some(Flaw::OtherInvoice));
        }
        Some((false, ..)) => {}
    }
    if CstTime::parse(&voided.voided_at).is_none() {
        return Ok(Some(Flaw::Field { field: "voided_at" }));
    }
    let find = "SELECT digest FROM invoice_voids WHERE code = ? AND number = ?";
    let before: Option<[u8; 32]> =
        change.prepare_cached(find)?.query_row(of, |row| row.get(0)).optional()?;
    match before {
        Some(digest) if digest == entry.digest => return Ok(None),
        Some(_) => return Ok(Some(Flaw::OtherVoid)),
        None => {}
    }
    let (code, number, at) = (&voided.code, &voided.number, &voided.voided_at);
    change.prepare_cached("INSERT INTO invoice_voids VALUES (?, ?, ?, ?)")?.execute(params![
        code,
        number,
        entry.digest,
        at
    ])?;
    Ok(None)
}

/// The series that a good invoice belongs to.
fn check_invoice<'a>(
    change: &Transaction<'_>,
    invoice: &'a pb::Invoice,
) -> Result<Result<(&'a str, Kind), Flaw>, BooksError> {
    let id = invoice.device_id.as_str();
    let kind = match check_form(invoice) {
        Ok(kind) => kind,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let Some(device) = find_device(change, id)? else {
        return Ok(Err(Flaw::UnknownDevice { device: id.to_owned() }));
    };
    if let Err(flaw) = check_signature(invoice, &device) {
        return Ok(Err(flaw));
    }
    let fits = segments::fits(change, &invoice.code, &invoice.number, id)?;
    Ok(match fits {
        segments::Fit::Unknown => Ok((id, kind)),
        segments::Fit::Issued(of) if of == kind => Ok((id, kind)),
        segments::Fit::Issued(_) | segments::Fit::Outside => Err(Flaw::OutsideSegments),
    })
}

/// The series that a good void belongs to. A void names no kind: the segment or the code tells it.
fn check_void<'a>(
    change: &Transaction<'_>,
    voided: &'a VoidedNumber,
) -> Result<Result<(&'a str, Kind), Flaw>, BooksError> {
    let id = voided.device_id.as_str();
    if let Err(flaw) = check_number(&voided.code, &voided.number) {
        return Ok(Err(flaw));
    }
    if find_device(change, id)?.is_none() {
        return Ok(Err(Flaw::UnknownDevice { device: id.to_owned() }));
    }
    Ok(match segments::fits(change, &voided.code, &voided.number, id)? {
        segments::Fit::Issued(kind) => Ok((id, kind)),
        segments::Fit::Outside => Err(Flaw::OutsideSegments),
        segments::Fit::Unknown => Ok((id, segments::kind_of(&voided.code))),
    })
}

/// Whether bytes are a key that a device may register.
pub(super) fn is_device_key(spki: &[u8]) -> bool {
    DeviceKey::parse(spki).is_some()
}
