//! The acceptance side's books: one SQLite file, every change synced before it is answered, so that
//! a restart forgets nothing. One call is one transaction.
//!
//! Invariants: what `judge`, `segments`, `periods` and `monitor` say of their tables; a batch id
//! has one receipt, decided when the batch comes, however late it is told.

use super::{
    batch::{self, Orders, Told},
    held::{self, Held, Window},
    monitor,
    periods::{self, Report},
    receipt::ReceiptKey,
    segments,
    verify::{DeviceKey, RegisteredDevice},
};
use crate::{
    clock::Clock,
    convert::{millis, to_u64},
    model::{CstTime, Kind},
    pb::authority::v1::{MonitorData, PeriodSummary, SegmentRequestState, SubmitBatchRequest},
};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::{path::Path, time::Duration};

/// Version of the tables below.
const SCHEMA_VERSION: i64 = 3;
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE devices (
        id TEXT PRIMARY KEY, taxpayer TEXT NOT NULL, public_key BLOB NOT NULL,
        draws_numbers INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE numbers (
        code TEXT NOT NULL, number TEXT NOT NULL, voided INTEGER NOT NULL, digest BLOB NOT NULL,
        device TEXT NOT NULL, kind INTEGER NOT NULL, color INTEGER NOT NULL,
        amount INTEGER NOT NULL, tax INTEGER NOT NULL, issue_at INTEGER NOT NULL,
        PRIMARY KEY (code, number)
    ) WITHOUT ROWID;
    CREATE INDEX numbers_series ON numbers (device, kind, code, number);
    CREATE INDEX numbers_time ON numbers (device, kind, issue_at);
    CREATE TABLE invoice_voids (
        code TEXT NOT NULL, number TEXT NOT NULL, digest BLOB NOT NULL, voided_at TEXT NOT NULL,
        PRIMARY KEY (code, number)
    ) WITHOUT ROWID;
    CREATE TABLE batches (
        id BLOB PRIMARY KEY, digest BLOB NOT NULL, serial TEXT NOT NULL,
        statement BLOB NOT NULL, signature BLOB NOT NULL, told_from_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE segments (
        request BLOB PRIMARY KEY, device TEXT NOT NULL, kind INTEGER NOT NULL,
        count INTEGER NOT NULL, code TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        confirmed INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX segments_code ON segments (code, last);
    CREATE TABLE returns (
        request BLOB PRIMARY KEY, device TEXT NOT NULL, kind INTEGER NOT NULL, code TEXT NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX returns_code ON returns (code, last);
    CREATE TABLE monitors (
        device TEXT NOT NULL, kind INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (device, kind)
    ) WITHOUT ROWID;
    CREATE TABLE reports (
        request BLOB PRIMARY KEY, device TEXT NOT NULL, kind INTEGER NOT NULL,
        from_day TEXT NOT NULL, until_day TEXT NOT NULL,
        from_at INTEGER NOT NULL, until_at INTEGER NOT NULL,
        summary BLOB NOT NULL, serial TEXT NOT NULL, cleared BLOB
    ) WITHOUT ROWID;
    CREATE INDEX reports_series ON reports (device, kind, until_at);
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
    #[error("{why}")]
    State { why: String },
    #[error("the books hold what this program did not write")]
    Damaged,
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

/// How the books are kept.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// Its time.
    pub(super) clock: Clock,
    /// The four-digit region of the codes handed out.
    pub(super) region: String,
    /// Monitor data of a series that nobody set any for.
    pub(super) monitors: monitor::Defaults,
    /// Added to the clock. Unit: seconds.
    pub(super) skew_s: i64,
}

/// The open books.
#[derive(Debug)]
pub(super) struct Books {
    connection: Connection,
    receipt_key: ReceiptKey,
    setting: Setting,
    /// The machine's time at the opening, and the clock's elapsed time then. Judging is measured
    /// with them, so that neither skew nor a whole second counts.
    opened: (i64, Duration),
}

impl Books {
    /// Opens or makes the books in `dir`.
    ///
    /// # Errors
    /// `OtherReceiptKey` and `Schema` when the directory contradicts itself; SQLite's own.
    pub(super) fn open(
        dir: &Path,
        receipt_key: ReceiptKey,
        setting: Setting,
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
        let opened_ms = setting.clock.now().unix().saturating_mul(1000);
        let opened = (opened_ms, setting.clock.elapsed());
        Ok(Self { connection, receipt_key, setting, opened })
    }

    /// Registers a device; the same registration again changes nothing.
    ///
    /// # Errors
    /// `Conflict` when the id is taken by another key, taxpayer or way of numbering.
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
                let insert = "INSERT INTO devices VALUES (?, ?, ?, ?)";
                let row = params![id, device.taxpayer, device.public_key, device.draws_numbers];
                change.execute(insert, row)?;
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
        let now = self.now();
        let change = write(&mut self.connection)?;
        registered(&change, &wanted.device)?;
        let segment = segments::acquire(&change, wanted, &self.setting.region, now)?;
        change.commit()?;
        Ok(segment)
    }

    /// Notes that a segment arrived; again changes nothing.
    ///
    /// # Errors
    /// `NotFound` when the request acquired nothing, `State` when the segment was returned.
    pub(super) fn confirm(&mut self, request: &[u8]) -> Result<(), BooksError> {
        let change = write(&mut self.connection)?;
        segments::confirm(&change, request)?;
        Ok(change.commit()?)
    }

    /// Takes numbers back; the same request again changes nothing.
    ///
    /// # Errors
    /// `Conflict` when the request id means something else, `UnknownDevice`, `State` when one
    /// of the numbers was used, returned before, or never issued to the device and kind.
    pub(super) fn give_back(&mut self, given: &segments::GivenBack) -> Result<(), BooksError> {
        let change = write(&mut self.connection)?;
        registered(&change, &given.device)?;
        segments::give_back(&change, given)?;
        Ok(change.commit()?)
    }

    /// What became of a request that acquired or returned numbers.
    pub(super) fn segment_request(
        &self,
        request: &[u8],
    ) -> Result<(SegmentRequestState, Option<segments::Segment>), BooksError> {
        segments::state(&self.connection, request)
    }

    /// Judges every item of a batch, in order, and signs the verdicts; a batch that is known with
    /// the same bytes gets the same receipt. `orders` is asked when the batch is new.
    ///
    /// # Errors
    /// `Conflict` when the batch id is known with other bytes.
    pub(super) fn submit(
        &mut self,
        request: &SubmitBatchRequest,
        orders: impl FnOnce() -> Orders,
    ) -> Result<Told, BooksError> {
        let (now, machine_ms) = (self.now(), self.machine_ms());
        let change = write(&mut self.connection)?;
        if let Some(known) = batch::find_same(&change, request)? {
            return Ok(known.told(machine_ms));
        }
        let (orders, setting) = (orders(), (&self.receipt_key, &self.setting.monitors, now));
        let told_from_ms = match orders.judging.is_zero() {
            true => 0,
            false => machine_ms.saturating_add(millis(orders.judging)),
        };
        let accepted = batch::take(&change, request, &orders, setting)?.from(told_from_ms);
        batch::keep(&change, &request.batch_id, &accepted)?;
        change.commit()?;
        Ok(accepted.told(machine_ms))
    }

    /// The receipt of a batch, unless it is still being judged.
    ///
    /// # Errors
    /// `NotFound` when the batch never arrived.
    pub(super) fn receipt(&self, batch_id: &[u8]) -> Result<Told, BooksError> {
        let found = batch::find(&self.connection, batch_id)?;
        let found = found.ok_or(BooksError::NotFound { what: "the batch" })?;
        Ok(found.told(self.machine_ms()))
    }

    /// Ends the judging of every batch.
    pub(super) fn end_judging(&mut self) -> Result<(), BooksError> {
        let change = write(&mut self.connection)?;
        batch::end_judging(&change)?;
        Ok(change.commit()?)
    }

    /// Signs what a fault changed in a receipt.
    pub(super) fn receipt_key(&self) -> &ReceiptKey {
        &self.receipt_key
    }

    /// The monitor data in force of a device whose numbers the proxy draws.
    ///
    /// # Errors
    /// `UnknownDevice`, `State` for a device that draws its numbers.
    pub(super) fn monitor(
        &mut self,
        device: &str,
        kind: Kind,
        fault: impl FnOnce() -> Option<super::Fault>,
    ) -> Result<MonitorData, BooksError> {
        let now = self.now();
        let change = write(&mut self.connection)?;
        if registered(&change, device)?.draws_numbers {
            let why = "the device draws its numbers itself, and keeps its own limits".to_owned();
            return Err(BooksError::State { why });
        }
        let series = (device, kind);
        let fault = fault();
        let defaults = &self.setting.monitors;
        let data = batch::monitor_after(&change, series, fault.as_ref(), (defaults, now))?;
        change.commit()?;
        Ok(data)
    }

    /// Puts monitor data in force; its version.
    ///
    /// # Errors
    /// `UnknownDevice`.
    pub(super) fn set_monitor(&mut self, data: MonitorData) -> Result<u64, BooksError> {
        let change = write(&mut self.connection)?;
        registered(&change, &data.device_id)?;
        let data = monitor::set(&change, data)?;
        change.commit()?;
        Ok(data.version)
    }

    /// Takes the report of a period; its acceptance serial.
    ///
    /// # Errors
    /// `Conflict` when the request id reported something else, `UnknownDevice`, `State` when the
    /// figures are not those held or the period is reported.
    pub(super) fn report(&mut self, report: &Report) -> Result<String, BooksError> {
        let change = write(&mut self.connection)?;
        let serial = periods::report(&change, report)?;
        change.commit()?;
        Ok(serial)
    }

    /// Clears a reported period; the monitor data of the next one.
    ///
    /// # Errors
    /// `State` before the report.
    pub(super) fn clear(&mut self, request: &[u8]) -> Result<MonitorData, BooksError> {
        let now = self.now();
        let change = write(&mut self.connection)?;
        let data = periods::clear(&change, request, &self.setting.monitors, now)?;
        change.commit()?;
        Ok(data)
    }

    /// Counts and amounts of a window.
    pub(super) fn summary(&self, window: &Window) -> Result<PeriodSummary, BooksError> {
        held::summary(&self.connection, window)
    }

    /// The next page of a window after a code and number.
    pub(super) fn page(
        &self,
        window: &Window,
        after: (&str, &str),
    ) -> Result<Vec<Held>, BooksError> {
        held::page(&self.connection, window, after)
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

    /// The books' time, skew included.
    pub(super) fn now(&self) -> CstTime {
        let now = self.setting.clock.now();
        CstTime::from_unix(now.unix().saturating_add(self.setting.skew_s)).unwrap_or(now)
    }

    /// Sets what is added to the clock. Unit: seconds.
    pub(super) fn set_skew(&mut self, seconds: i64) {
        self.setting.skew_s = seconds;
    }

    /// Does `work` by a clock that is off by so many seconds more.
    pub(super) fn skewed<T>(&mut self, seconds: i64, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.setting.skew_s;
        self.setting.skew_s = before.saturating_add(seconds);
        let done = work(self);
        self.setting.skew_s = before;
        done
    }

    /// The machine's time, without skew. Unit: milliseconds since the Unix epoch.
    fn machine_ms(&self) -> i64 {
        let (opened_ms, opened) = self.opened;
        opened_ms.saturating_add(millis(self.setting.clock.elapsed().saturating_sub(opened)))
    }
}

fn write(connection: &mut Connection) -> Result<Transaction<'_>, BooksError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// A registered device.
pub(super) fn find_device(
    connection: &Connection,
    id: &str,
) -> Result<Option<RegisteredDevice>, BooksError> {
    let find = "SELECT taxpayer, public_key, draws_numbers FROM devices WHERE id = ?";
    let device = |row: &rusqlite::Row<'_>| -> rusqlite::Result<_> {
        let (taxpayer, public_key) = (row.get(0)?, row.get(1)?);
        Ok(RegisteredDevice { taxpayer, public_key, draws_numbers: row.get(2)? })
    };
    Ok(connection.prepare_cached(find)?.query_row([id], device).optional()?)
}

fn registered(connection: &Connection, id: &str) -> Result<RegisteredDevice, BooksError> {
    let found = find_device(connection, id)?;
    found.ok_or_else(|| BooksError::UnknownDevice { device: id.to_owned() })
}

/// Whether bytes are a key that a device may register.
pub(super) fn is_device_key(spki: &[u8]) -> bool {
    DeviceKey::parse(spki).is_some()
}
