//! The tables of the embedded store, and the settings of every connection to it.
//!
//! Shapes (measured 24-32 µs per invoice, against 106-139 µs for one wide row clustered by number):
//! records append by rowid, (code, number) is a narrow unique index, the request index is clustered
//! on its key, the signature is a second append, a receipt is one row per batch. The list index is
//! four integers without a CRC: one more µs per invoice when a taxpayer issues alone, six when
//! 5,000 of them take turns, nearly all of it for the pages touched. What the authority is told is
//! numbered by notice: twice the claim, one more for the void of an issued invoice.

use super::{StoreError, upload};
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use std::{cmp::Ordering, path::Path, time::Duration};

/// Version of the tables. A newer one refuses an older binary; older ones were never released.
pub(super) const VERSION: u32 = 5;

const TABLES: &str = "
CREATE TABLE head(id INTEGER PRIMARY KEY CHECK (id = 1), counter INTEGER NOT NULL,
    hash BLOB NOT NULL, previous BLOB NOT NULL, store_id BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE setting(key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE platform(no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    enabled INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE certificate(key BLOB PRIMARY KEY, platform INTEGER NOT NULL REFERENCES platform,
    not_after INTEGER NOT NULL, revoked INTEGER NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE taxpayer(no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    province TEXT NOT NULL, forbidden TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE binding(platform INTEGER NOT NULL REFERENCES platform,
    taxpayer INTEGER NOT NULL REFERENCES taxpayer, operations TEXT NOT NULL,
    crc INTEGER NOT NULL, PRIMARY KEY (platform, taxpayer)) WITHOUT ROWID;
CREATE TABLE device(no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    taxpayer INTEGER NOT NULL REFERENCES taxpayer, machine_number TEXT NOT NULL,
    backend TEXT NOT NULL, kinds TEXT NOT NULL, profile TEXT NOT NULL, enabled INTEGER NOT NULL,
    test INTEGER NOT NULL, public_key BLOB NOT NULL, wrapped_key BLOB,
    connection BLOB, crc INTEGER NOT NULL);
CREATE TABLE route(province TEXT PRIMARY KEY, address TEXT NOT NULL, server_name TEXT NOT NULL,
    receipt_key BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE monitor(device INTEGER NOT NULL REFERENCES device, kind INTEGER NOT NULL,
    told_by INTEGER NOT NULL, told_at INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (device, kind)) WITHOUT ROWID;
CREATE TABLE series(no INTEGER PRIMARY KEY, device INTEGER NOT NULL REFERENCES device,
    kind INTEGER NOT NULL, next_position INTEGER NOT NULL, event_sequence INTEGER NOT NULL,
    event_hash BLOB NOT NULL, last_issue INTEGER, frozen TEXT, device_code TEXT,
    device_number INTEGER, blue INTEGER NOT NULL, red INTEGER NOT NULL,
    reported_blue INTEGER NOT NULL, reported_red INTEGER NOT NULL, reported_until INTEGER,
    crc INTEGER NOT NULL, UNIQUE (device, kind));
CREATE TABLE segment(no INTEGER PRIMARY KEY, series INTEGER NOT NULL REFERENCES series,
    code TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, next INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE lost(no INTEGER PRIMARY KEY, series INTEGER NOT NULL REFERENCES series,
    code TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, at INTEGER NOT NULL,
    event_sequence INTEGER NOT NULL, event_hash BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE claim(id INTEGER PRIMARY KEY, series INTEGER NOT NULL, body BLOB NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE request(platform INTEGER NOT NULL, taxpayer INTEGER NOT NULL, serial TEXT NOT NULL,
    claim INTEGER, closed_at INTEGER, crc INTEGER NOT NULL,
    PRIMARY KEY (platform, taxpayer, serial)) WITHOUT ROWID;
CREATE TABLE code(no INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE);
CREATE TABLE number(code INTEGER NOT NULL, number INTEGER NOT NULL, claim INTEGER NOT NULL,
    crc INTEGER NOT NULL, PRIMARY KEY (code, number)) WITHOUT ROWID;
CREATE TABLE listing(taxpayer INTEGER NOT NULL, platform INTEGER NOT NULL,
    issue_time INTEGER NOT NULL, claim INTEGER NOT NULL,
    PRIMARY KEY (taxpayer, platform, issue_time, claim)) WITHOUT ROWID;
CREATE TABLE balance(blue INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE open_claim(claim INTEGER PRIMARY KEY);
CREATE TABLE signature(claim INTEGER PRIMARY KEY, series INTEGER NOT NULL, body BLOB NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE void(claim INTEGER PRIMARY KEY, series INTEGER NOT NULL, body BLOB NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE release(claim INTEGER PRIMARY KEY, series INTEGER NOT NULL, body BLOB NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE invoice_void(claim INTEGER PRIMARY KEY, series INTEGER NOT NULL, body BLOB NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE void_request(platform INTEGER NOT NULL, taxpayer INTEGER NOT NULL,
    request_id TEXT NOT NULL, claim INTEGER NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (platform, taxpayer, request_id)) WITHOUT ROWID;
CREATE TABLE outbox(notice INTEGER PRIMARY KEY);
CREATE TABLE batch(no INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, province TEXT NOT NULL,
    frozen_at INTEGER NOT NULL, members BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE open_batch(batch INTEGER PRIMARY KEY);
CREATE TABLE receipt(batch INTEGER PRIMARY KEY, serial TEXT NOT NULL, receipt BLOB NOT NULL,
    stored_at INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE answered(no INTEGER PRIMARY KEY, batch INTEGER NOT NULL UNIQUE);
CREATE TABLE delivery(notice INTEGER PRIMARY KEY, batch INTEGER NOT NULL, position INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE rejection(notice INTEGER PRIMARY KEY, message TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE usage(day INTEGER NOT NULL, platform INTEGER NOT NULL, taxpayer INTEGER NOT NULL,
    kind INTEGER NOT NULL, color INTEGER NOT NULL, counted INTEGER NOT NULL,
    count INTEGER NOT NULL, amount INTEGER NOT NULL, tax INTEGER NOT NULL, total INTEGER NOT NULL,
    crc INTEGER NOT NULL, PRIMARY KEY (day, platform, taxpayer, kind, color, counted))
    WITHOUT ROWID;
CREATE TABLE journal(sequence INTEGER PRIMARY KEY, kind INTEGER NOT NULL, at INTEGER NOT NULL,
    platform INTEGER, taxpayer INTEGER, serial TEXT, series INTEGER, claim INTEGER, actor TEXT,
    text TEXT, hash BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE journal_head(id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL,
    hash BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE VIEW incident AS SELECT sequence, at, series, claim, text FROM journal WHERE kind = 6;
CREATE VIEW audit AS SELECT sequence, at, actor, text AS action FROM journal WHERE kind = 7;
";

/// How long a connection waits for another's lock. Only checkpoints hold one, and briefly.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn sqlite(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Sqlite { doing, source }
}

/// Opens a connection with the settings that every one of them needs.
pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(sqlite("open the books"))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite("set the busy time-out"))?;
    // Closing must not checkpoint: a store that does not add up is evidence.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(sqlite("keep the log at close"))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Settings of the one connection that writes.
///
/// SQLite answers a switch to the log that failed with the old mode, not with an error: it is
/// compared.
pub(super) fn prepare_writer(connection: &Connection) -> Result<(), StoreError> {
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(sqlite("switch the books to a write-ahead log"))?;
    if mode != "wal" {
        return Err(StoreError::Io {
            doing: "switch the books to a write-ahead log".into(),
            source: std::io::Error::other(format!("SQLite stayed in mode {mode:?}")),
        });
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = ON;
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536;",
        )
        .map_err(sqlite("prepare the writer"))
}

/// The version of the tables; 0 in an empty file.
pub(super) fn version(connection: &Connection) -> Result<u32, StoreError> {
    connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(sqlite("read the schema version"))
}

/// Refuses books of another version.
pub(super) fn check(found: u32) -> Result<(), StoreError> {
    match found.cmp(&VERSION) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(StoreError::Older { found, known: VERSION }),
        Ordering::Greater => Err(StoreError::Newer { found, known: VERSION }),
    }
}

/// Makes the tables in an empty file, within the caller's transaction.
pub(super) fn create(connection: &Connection) -> Result<(), StoreError> {
    connection
        .execute_batch(&format!("{TABLES} {} PRAGMA user_version = {VERSION};", upload::TABLES))
        .map_err(sqlite("make the tables"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_that_cannot_have_a_write_ahead_log_are_not_used() {
        let connection = Connection::open_in_memory().unwrap();
        assert!(prepare_writer(&connection).is_err());
    }
}
