//! Reads what was committed: short read-only transactions over a few connections of their own.
//!
//! A reader can see a commit a moment before its watermark is synced; `Books` waits for that before
//! it hands anything found to a caller, so that no answer runs ahead of promise 3.

use super::{
    Assignment, Balance, Binding, Claim, DeliveryBatch, InvoiceVoid, Issued, Notice, OfflineItem,
    StoreError, Voided, columns, invoice_void, red,
    rows::{
        self,
        Column::{Bytes, Int},
    },
    schema::sqlite,
    upload,
};
use crate::{
    contract::ContentDigest,
    convert::to_u64,
    model::{
        BatchNo, ClaimId, Color, CommitCounter, CstTime, InvoiceNumber, Kind, RequestKey, SeriesNo,
        Totals,
    },
};
use bytes::{Bytes as Buffer, BytesMut};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What became of a claim.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// No signature yet.
    Open,
    /// Issued.
    Issued(Issued),
    /// Voided before it was signed.
    Voided(Voided),
    /// Issued, and voided after that.
    InvoiceVoided(Issued, InvoiceVoid),
    /// Released: the device proved that it issued nothing.
    Released,
}

/// A claim and its fate, as committed.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The claim. Not a `Durable<Claim>`: what is found by asking cannot be signed.
    claim: Claim,
    /// Its fate.
    pub fate: Fate,
}

impl Found {
    pub(super) fn new(claim: Claim, fate: Fate) -> Self {
        Self { claim, fate }
    }

    /// The claim's id.
    #[must_use]
    pub fn id(&self) -> ClaimId {
        self.claim.id
    }

    /// Who asked for what.
    #[must_use]
    pub fn request(&self) -> &RequestKey {
        &self.claim.request
    }

    /// Its kind and colour.
    #[must_use]
    pub fn kind(&self) -> (Kind, Color) {
        (self.claim.kind, self.claim.color)
    }

    /// Its series.
    #[must_use]
    pub fn series(&self) -> SeriesNo {
        self.claim.series
    }

    /// The device that signs, or signed.
    #[must_use]
    pub fn device(&self) -> crate::model::DeviceNo {
        self.claim.device
    }

    /// Its totals.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.claim.totals
    }

    /// What of it counts as offline until the authority knows of it.
    #[must_use]
    pub fn offline(&self) -> OfflineItem {
        OfflineItem::of(&self.claim)
    }

    /// The blue invoice that a red one reverses.
    #[must_use]
    pub fn red_of(&self) -> Option<ClaimId> {
        self.claim.red_of
    }

    /// The number of an issued invoice, voided since or not; none when it is not issued.
    #[must_use]
    pub fn issued_number(&self) -> Option<&InvoiceNumber> {
        let issued = self.issued()?;
        match (&self.claim.assignment, &issued.drawn) {
            (Assignment::Numbered { number, .. }, _) | (_, Some((number, ..))) => Some(number),
            (Assignment::ByDevice { .. }, None) => None,
        }
    }

    /// When it was issued, by whoever drew the number; none when it is not issued.
    #[must_use]
    pub fn issued_at(&self) -> Option<CstTime> {
        let issued = self.issued()?;
        let drawn = issued.drawn.as_ref().map(|(.., at)| *at);
        Some(drawn.unwrap_or(self.claim.claimed_at))
    }

    /// What signing made of it, voided since or not; none when it is not issued.
    #[must_use]
    pub fn issued(&self) -> Option<&Issued> {
        match &self.fate {
            Fate::Issued(issued) | Fate::InvoiceVoided(issued, _) => Some(issued),
            Fate::Open | Fate::Voided(_) | Fate::Released => None,
        }
    }

    /// Digest of the content that it stands for.
    #[must_use]
    pub fn digest(&self) -> ContentDigest {
        self.claim.digest
    }

    /// When it was claimed.
    #[must_use]
    pub fn claimed_at(&self) -> CstTime {
        self.claim.claimed_at
    }

    /// The draft that it was made from.
    ///
    /// # Errors
    /// When the stored bytes do not decode.
    pub fn draft(&self) -> Result<crate::pb::v1::InvoiceDraft, StoreError> {
        self.claim
            .head
            .draft()
            .map_err(|error| StoreError::damaged(format!("claim {}: {error}", self.claim.id)))
    }

    /// The invoice's bytes: the stored head and the stored tail, also when it was voided since.
    /// `None` when it is not issued.
    #[must_use]
    pub fn invoice(&self) -> Option<Buffer> {
        self.issued().map(|issued| joined(&self.claim.head.0, &issued.tail.0))
    }
}

pub(super) fn joined(head: &[u8], tail: &[u8]) -> Buffer {
    let mut bytes = BytesMut::with_capacity(head.len().saturating_add(tail.len()));
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(tail);
    bytes.freeze()
}

/// Where delivery of a notice stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// No verified receipt yet.
    Pending,
    /// Accepted, or rejected when there is a message.
    Answered {
        /// Acceptance serial of the batch.
        serial: String,
        /// Index in the batch, from 0.
        index: u32,
        /// The authority's words when it rejected the invoice.
        rejected: Option<String>,
    },
}

/// What is durable, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    durable: Mutex<CommitCounter>,
    changed: Condvar,
}

impl Progress {
    pub(super) fn reached(&self, counter: CommitCounter) {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = counter;
        self.changed.notify_all();
    }

    fn wait_for(&self, counter: CommitCounter, limit: Duration) -> Result<(), StoreError> {
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let (durable, _) = self
            .changed
            .wait_timeout_while(durable, limit, |durable| *durable < counter)
            .unwrap_or_else(PoisonError::into_inner);
        if *durable < counter { Err(StoreError::Slow) } else { Ok(()) }
    }
}

/// How long a reader waits for a commit that it can see to become durable.
const DURABLE_WAIT: Duration = Duration::from_secs(5);

/// The books, for reading. Shared by every call.
#[derive(Debug)]
pub struct Books {
    pool: Vec<Mutex<Connection>>,
    turn: AtomicUsize,
    progress: std::sync::Arc<Progress>,
}

impl Books {
    pub(super) fn new(pool: Vec<Connection>, progress: std::sync::Arc<Progress>) -> Self {
        let pool = pool.into_iter().map(Mutex::new).collect();
        Self { pool, turn: AtomicUsize::new(0), progress }
    }

    fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let free = (0..self.pool.len())
            .filter_map(|step| self.pool.get(start.wrapping_add(step) % self.pool.len()))
            .find_map(|slot| slot.try_lock().ok());
        let connection = match free {
            Some(connection) => connection,
            None => {
                self.pool[start % self.pool.len()].lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        read(&connection)
    }

    /// What a request key is bound to, with the claim's fate. Answers nothing that is not durable.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn find(&self, key: &RequestKey) -> Result<Option<(Binding, Option<Found>)>, StoreError> {
        let (result, seen) = self.with(|connection| {
            let transaction = begin(connection)?;
            let Some(binding) = binding(&transaction, key)? else {
                return Ok((None, CommitCounter(0)));
            };
            let found = match binding {
                Binding::Claim(claim) => Some(found(&transaction, claim)?),
                Binding::Closed(_) => None,
            };
            Ok((Some((binding, found)), counter(&transaction)?))
        })?;
        if result.is_some() {
            self.progress.wait_for(seen, DURABLE_WAIT)?;
        }
        Ok(result)
    }

    /// A claim by its id, with its fate.
    ///
    /// # Errors
    /// As `find`; also when there is no such claim.
    pub fn claim(&self, claim: ClaimId) -> Result<Found, StoreError> {
        self.durable(|connection| found(connection, claim))
    }

    /// Reads in one transaction; what is found is durable before it is handed out.
    pub(super) fn durable<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (value, seen) = self.with(|connection| {
            let transaction = begin(connection)?;
            Ok((read(&transaction)?, counter(&transaction)?))
        })?;
        self.progress.wait_for(seen, DURABLE_WAIT)?;
        Ok(value)
    }

    /// What the notices of a batch tell of, in their order.
    ///
    /// # Errors
    /// As `claim`.
    pub fn told(&self, members: &[Notice]) -> Result<Vec<Found>, StoreError> {
        let claims = members.iter().map(|notice| notice.claim);
        self.durable(|connection| claims.map(|claim| found(connection, claim)).collect())
    }

    /// The acceptance serial of a batch that is being judged; `None` before it was accepted.
    ///
    /// # Errors
    /// As `find`.
    pub fn acceptance(&self, batch: BatchNo) -> Result<Option<String>, StoreError> {
        self.durable(|connection| upload::acceptance(connection, batch))
    }

    /// The issued invoice of a number, what red letters may still reverse of it (none before the
    /// first one), and whether the authority rejected it.
    ///
    /// # Errors
    /// As `find`.
    pub fn reversible(
        &self,
        number: &InvoiceNumber,
    ) -> Result<Option<(Found, Option<Balance>, bool)>, StoreError> {
        self.durable(|connection| {
            let Some(claim) = holder(connection, number)? else { return Ok(None) };
            let found = found(connection, claim)?;
            let left = balance(connection, claim)?;
            Ok(Some((found, left, is_rejected(connection, claim)?)))
        })
    }

    /// Where delivery of a notice stands.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up.
    pub fn delivered(&self, notice: Notice) -> Result<Delivered, StoreError> {
        self.with(|connection| delivered(connection, notice))
    }

    /// A frozen batch.
    ///
    /// # Errors
    /// When it is absent, cannot be read or does not add up.
    pub fn batch(&self, no: BatchNo) -> Result<DeliveryBatch, StoreError> {
        self.with(|connection| batch(connection, no))
    }

    /// A value of the daemon's own.
    ///
    /// # Errors
    /// When it cannot be read or does not add up.
    pub fn setting(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|connection| setting(connection, key))
    }

    /// The wrapped key of a device; `None` when it has none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn wrapped_key(
        &self,
        device: crate::model::DeviceNo,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT wrapped_key FROM device WHERE no = ?")
                .and_then(|mut statement| {
                    statement.query_row([device.0], |row| row.get(0)).optional()
                })
                .map(Option::flatten)
                .map_err(sqlite("read a wrapped key"))
        })
    }
}

fn begin(connection: &Connection) -> Result<rusqlite::Transaction<'_>, StoreError> {
    connection.unchecked_transaction().map_err(sqlite("begin to read"))
}

pub(super) fn counter(connection: &Connection) -> Result<CommitCounter, StoreError> {
    connection
        .prepare_cached("SELECT counter FROM head")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map(|counter: i64| CommitCounter(to_u64(counter)))
        .map_err(sqlite("read the commit counter"))
}

pub(super) fn binding(
    connection: &Connection,
    key: &RequestKey,
) -> Result<Option<Binding>, StoreError> {
    let row = connection
        .prepare_cached(
            "SELECT claim, closed_at, crc FROM request
             WHERE platform = ? AND taxpayer = ? AND serial = ?",
        )
        .and_then(|mut statement| {
            let key = params![key.platform.0, key.taxpayer.0, key.serial.as_str()];
            statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
        })
        .map_err(sqlite("look up a request"))?;
    let Some((claim, closed_at, crc)) = row else { return Ok(None) };
    let name = key.serial.as_str();
    rows::check_crc("request", name, &columns::request_columns(key, claim, closed_at), crc)?;
    match (claim, closed_at.and_then(CstTime::from_unix)) {
        (Some(claim), None) => Ok(Some(Binding::Claim(ClaimId(claim)))),
        (None, Some(at)) => Ok(Some(Binding::Closed(at))),
        _ => Err(StoreError::damaged(format!("request {name} is bound to nothing"))),
    }
}

/// A row of claim, signature, void or release: (series, body, crc).
type BodyRow = (i64, Vec<u8>, i64);

fn body_row(row: &Row<'_>) -> rusqlite::Result<BodyRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn body(
    connection: &Connection,
    (table, sql): (&'static str, &'static str),
    claim: ClaimId,
) -> Result<Option<(SeriesNo, Vec<u8>)>, StoreError> {
    let row = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([claim.0], body_row).optional())
        .map_err(sqlite("read a record"))?;
    let Some((series, bytes, crc)) = row else { return Ok(None) };
    let columns = [Int(Some(claim.0)), Int(Some(series)), Bytes(&bytes)];
    rows::check_crc(table, &claim.to_string(), &columns, crc)?;
    Ok(Some((SeriesNo(series), bytes)))
}

const CLAIM: (&str, &str) = ("claim", "SELECT series, body, crc FROM claim WHERE id = ?");
const SIGNATURE: (&str, &str) =
    ("signature", "SELECT series, body, crc FROM signature WHERE claim = ?");
const INVOICE_VOID: (&str, &str) =
    ("invoice_void", "SELECT series, body, crc FROM invoice_void WHERE claim = ?");
const VOID: (&str, &str) = ("void", "SELECT series, body, crc FROM void WHERE claim = ?");
const RELEASE: (&str, &str) = ("release", "SELECT series, body, crc FROM release WHERE claim = ?");

pub(super) fn claim_row(connection: &Connection, id: ClaimId) -> Result<Claim, StoreError> {
    let Some((series, bytes)) = body(connection, CLAIM, id)? else {
        return Err(StoreError::damaged(format!("claim {id} is referred to and absent")));
    };
    rows::claim(id, series, rows::unseal(&bytes)?)
}

pub(super) fn fate(connection: &Connection, id: ClaimId) -> Result<Fate, StoreError> {
    if let Some((series, bytes)) = body(connection, SIGNATURE, id)? {
        let issued = rows::issued(id, series, rows::unseal(&bytes)?)?;
        let Some((series, bytes)) = body(connection, INVOICE_VOID, id)? else {
            return Ok(Fate::Issued(issued));
        };
        let void = invoice_void::invoice_void(id, series, rows::unseal(&bytes)?)?;
        return Ok(Fate::InvoiceVoided(issued, void));
    }
    if let Some((series, bytes)) = body(connection, VOID, id)? {
        return Ok(Fate::Voided(rows::unseal::<rows::EndBody>(&bytes)?.voided(id, series)?));
    }
    Ok(if body(connection, RELEASE, id)?.is_some() { Fate::Released } else { Fate::Open })
}

pub(super) fn found(connection: &Connection, id: ClaimId) -> Result<Found, StoreError> {
    Ok(Found::new(claim_row(connection, id)?, fate(connection, id)?))
}

pub(super) fn holder(
    connection: &Connection,
    number: &InvoiceNumber,
) -> Result<Option<ClaimId>, StoreError> {
    let row: Option<(i64, i64, i64)> = connection
        .prepare_cached(
            "SELECT number.code, number.claim, number.crc FROM number
             JOIN code ON code.no = number.code WHERE code.code = ? AND number.number = ?",
        )
        .and_then(|mut statement| {
            let place = params![number.code, number.number];
            statement.query_row(place, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
        })
        .map_err(sqlite("look up a number"))?;
    let Some((code, claim, crc)) = row else { return Ok(None) };
    let columns = [Int(Some(code)), Int(Some(i64::from(number.number))), Int(Some(claim))];
    rows::check_crc("number", &number.to_string(), &columns, crc)?;
    Ok(Some(ClaimId(claim)))
}

pub(super) fn balance(
    connection: &Connection,
    blue: ClaimId,
) -> Result<Option<Balance>, StoreError> {
    let row: Option<(Vec<u8>, i64)> = connection
        .prepare_cached("SELECT body, crc FROM balance WHERE blue = ?")
        .and_then(|mut statement| {
            statement.query_row([blue.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(sqlite("look up a balance"))?;
    let Some((body, crc)) = row else { return Ok(None) };
    rows::check_crc("balance", &blue.to_string(), &[Int(Some(blue.0)), Bytes(&body)], crc)?;
    red::balance(&rows::unseal(&body)?).map(Some)
}

pub(super) fn is_rejected(connection: &Connection, claim: ClaimId) -> Result<bool, StoreError> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM rejection WHERE notice = ?)")
        .and_then(|mut statement| {
            statement.query_row([Notice::end(claim).code()], |row| row.get(0))
        })
        .map_err(sqlite("look up a rejection"))
}

pub(super) fn any_number(
    connection: &Connection,
    number: &InvoiceNumber,
    last: u32,
) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM number JOIN code ON code.no = number.code
             WHERE code.code = ? AND number.number BETWEEN ? AND ?)",
        )
        .and_then(|mut statement| {
            statement.query_row(params![number.code, number.number, last], |row| row.get(0))
        })
        .map_err(sqlite("look up numbers"))
}

pub(super) fn delivered(connection: &Connection, notice: Notice) -> Result<Delivered, StoreError> {
    let code = notice.code();
    let place: Option<(i64, i64, i64)> = connection
        .prepare_cached("SELECT batch, position, crc FROM delivery WHERE notice = ?")
        .and_then(|mut statement| {
            statement
                .query_row([code], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()
        })
        .map_err(sqlite("look up a delivery"))?;
    let Some((batch, position, crc)) = place else { return Ok(Delivered::Pending) };
    let columns = [Int(Some(code)), Int(Some(batch)), Int(Some(position))];
    rows::check_crc("delivery", &code.to_string(), &columns, crc)?;
    let serial: Option<String> = connection
        .prepare_cached("SELECT serial FROM receipt WHERE batch = ?")
        .and_then(|mut statement| statement.query_row([batch], |row| row.get(0)).optional())
        .map_err(sqlite("look up a receipt"))?;
    let Some(serial) = serial else { return Ok(Delivered::Pending) };
    let rejected = connection
        .prepare_cached("SELECT message FROM rejection WHERE notice = ?")
        .and_then(|mut statement| statement.query_row([code], |row| row.get(0)).optional())
        .map_err(sqlite("look up a rejection"))?;
    let index = u32::try_from(position)
        .map_err(|_| StoreError::damaged("a delivery's position is out of its range"))?;
    Ok(Delivered::Answered { serial, index, rejected })
}

/// (id, province, frozen at, members, CRC).
type BatchRow = (Vec<u8>, String, i64, Vec<u8>, i64);

pub(super) fn batch(connection: &Connection, no: BatchNo) -> Result<DeliveryBatch, StoreError> {
    let row: Option<BatchRow> = connection
        .prepare_cached("SELECT id, province, frozen_at, members, crc FROM batch WHERE no = ?")
        .and_then(|mut statement| {
            statement
                .query_row([no.0], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })
                .optional()
        })
        .map_err(sqlite("read a batch"))?;
    let absent = || StoreError::damaged(format!("batch {no} is absent or out of its range"));
    let (id, province, at, members, crc) = row.ok_or_else(absent)?;
    let notice = |bytes: &[u8]| {
        let code = bytes.try_into().map(i64::from_be_bytes).map_err(|_| absent())?;
        Notice::from_code(code)
    };
    let delivery = DeliveryBatch {
        no,
        id: id.try_into().map_err(|_| absent())?,
        province,
        members: members.chunks(8).map(notice).collect::<Result<_, _>>()?,
        at: CstTime::from_unix(at).ok_or_else(absent)?,
    };
    rows::check_crc("batch", &no.to_string(), &columns::batch_columns(&delivery, &members), crc)?;
    Ok(delivery)
}

pub(super) fn setting(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<(Vec<u8>, i64)> = connection
        .prepare_cached("SELECT value, crc FROM setting WHERE key = ?")
        .and_then(|mut statement| {
            statement.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(sqlite("read a setting"))?;
    let Some((value, crc)) = row else { return Ok(None) };
    rows::check_crc("setting", key, &[Bytes(key.as_bytes()), Bytes(&value)], crc)?;
    Ok(Some(value))
}
