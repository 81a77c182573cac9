//! What a simulated tax server remembers, through every restart: invoices, voids, numbers drawn,
//! results written back. A SQLite file of its own; no book of the proxy's.
//!
//! Invariant: a serial is booked at most once for a device, a number at most once at all, and what
//! was booked is on disk before it is answered.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How long another process may hold the file. Unit: milliseconds.
const BUSY_MS: u32 = 1000;

const SCHEMA: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS booked (
        device TEXT NOT NULL, serial TEXT NOT NULL, code TEXT NOT NULL, number INTEGER NOT NULL,
        body TEXT NOT NULL, PRIMARY KEY (device, serial), UNIQUE (code, number)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS drawn (
        device TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (device, kind)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS written_back (
        device TEXT NOT NULL, kind TEXT NOT NULL, serial TEXT NOT NULL, result TEXT NOT NULL,
        PRIMARY KEY (device, kind, serial)
    ) STRICT;
    BEGIN EXCLUSIVE; COMMIT;
";

/// An invoice or a void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Booked {
    /// kpzdbs.
    pub(super) device: String,
    /// Three digits.
    pub(super) kind: String,
    /// fpqqlsh; made up for a void of an unused number.
    pub(super) serial: String,
    pub(super) code: String,
    pub(super) number: u32,
    /// fpzt: 0 blue, 1 red, 2 blank void, 3 and 4 those voided.
    pub(super) status: u8,
    /// Seconds since the Unix epoch.
    pub(super) at: i64,
    /// hjje, hjse, jshj, as they were written.
    pub(super) totals: [String; 3],
    pub(super) buyer_id: String,
    pub(super) buyer_name: String,
    pub(super) check_code: String,
    pub(super) cipher_text: String,
    pub(super) qr_text: String,
    /// SHA-256 over the request's body, hex: a second request with the serial is the same or not.
    pub(super) request: String,
}

impl Booked {
    /// Eight digits.
    pub(super) fn number_text(&self) -> String {
        format!("{:08}", self.number)
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct Memory(Connection);

impl Memory {
    /// Opens or makes the file, for one process at a time.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "busy_timeout", BUSY_MS)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(connection))
    }

    /// How many numbers of a kind's stock are drawn.
    pub(super) fn drawn(&self, device: &str, kind: &str) -> rusqlite::Result<u64> {
        let sql = "SELECT count FROM drawn WHERE device = ?1 AND kind = ?2";
        let count = self.0.query_row(sql, params![device, kind], |row| row.get::<_, i64>(0));
        Ok(count.optional()?.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }

    /// Books an invoice or a void; `from_stock` draws a number of its kind's stock.
    pub(super) fn book(&mut self, booked: &Booked, from_stock: bool) -> rusqlite::Result<()> {
        let body = serde_json::to_string(booked)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let transaction = self.0.transaction()?;
        let row = params![booked.device, booked.serial, booked.code, booked.number, body];
        transaction.execute("INSERT INTO booked VALUES (?1, ?2, ?3, ?4, ?5)", row)?;
        if from_stock {
            let sql = "INSERT INTO drawn VALUES (?1, ?2, 1)
                       ON CONFLICT DO UPDATE SET count = count + 1";
            transaction.execute(sql, params![booked.device, booked.kind])?;
        }
        transaction.commit()
    }

    /// Changes what is booked under its serial.
    pub(super) fn rebook(&self, booked: &Booked) -> rusqlite::Result<()> {
        let body = serde_json::to_string(booked)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let sql = "UPDATE booked SET body = ?3 WHERE device = ?1 AND serial = ?2";
        self.0.execute(sql, params![booked.device, booked.serial, body]).map(drop)
    }

    /// What is booked under a serial.
    pub(super) fn by_serial(&self, device: &str, serial: &str) -> rusqlite::Result<Option<Booked>> {
        let sql = "SELECT body FROM booked WHERE device = ?1 AND serial = ?2";
        self.0.query_row(sql, params![device, serial], read).optional()
    }

    /// What is booked under a number.
    pub(super) fn by_number(&self, code: &str, number: u32) -> rusqlite::Result<Option<Booked>> {
        let sql = "SELECT body FROM booked WHERE code = ?1 AND number = ?2";
        self.0.query_row(sql, params![code, number], read).optional()
    }

    /// Everything that was booked, in this order.
    pub(super) fn all(&self) -> rusqlite::Result<Vec<Booked>> {
        let mut statement = self.0.prepare("SELECT body FROM booked ORDER BY rowid")?;
        statement.query_map([], read)?.collect()
    }

    /// Keeps the result of an upload.
    pub(super) fn write_back(&self, row: [&str; 4]) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO written_back VALUES (?1, ?2, ?3, ?4)";
        self.0.execute(sql, row).map(drop)
    }

    /// The result that was kept for an acceptance serial.
    pub(super) fn written_back(
        &self,
        [device, kind, serial]: [&str; 3],
    ) -> rusqlite::Result<Option<String>> {
        let sql = "SELECT result FROM written_back WHERE device = ?1 AND kind = ?2 AND serial = ?3";
        self.0.query_row(sql, [device, kind, serial], |row| row.get(0)).optional()
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Booked> {
    let body: String = row.get(0)?;
    serde_json::from_str(&body).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
