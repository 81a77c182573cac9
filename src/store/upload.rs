//! What the books keep of a batch on its way to the authority, beside its membership and its
//! receipt: that it was accepted for judging, what is to be written back into devices, that it was
//! split, and what was set aside.
//!
//! A batch ends in one of two ways, by a receipt or by a split, and keeps its row for ever. What
//! was split off goes into new batches; an item that cannot be handed in even alone is set aside
//! until an operator sends it again.

use super::{
    Notice, OutboxItem, StoreError, load, reader,
    rows::{
        self,
        Column::{Bytes, Int},
    },
    write::Writer,
};
use crate::model::{BatchNo, CstTime, SeriesNo};
use rusqlite::{Connection, params};

type Result<T> = std::result::Result<T, StoreError>;

/// That the acceptance has a batch and judges it (受理).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The batch.
    pub batch: BatchNo,
    /// Acceptance serial (受理序列号).
    pub serial: String,
    /// When.
    pub at: CstTime,
}

/// The result of an upload that a device must hear of (回写): until then it counts the batch's
/// invoices as offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBack {
    /// The batch.
    pub batch: BatchNo,
    /// The device's series.
    pub series: SeriesNo,
    /// Acceptance serial (受理序列号) that it belongs to.
    pub serial: String,
    /// Cipher text (明细监控密文, MXJGMW); empty when the receipt has none, which nobody can write
    /// back.
    pub result: String,
    /// When the device confirmed it; none until then.
    pub done_at: Option<CstTime>,
}

/// A batch that the acceptance cannot take as it is: its members go on without each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The batch.
    pub batch: BatchNo,
    /// The province that it went to.
    pub province: String,
    /// What it told.
    pub members: Vec<Notice>,
    /// The acceptance's words.
    pub message: String,
    /// When.
    pub at: CstTime,
    /// Whether its one member is set aside, rather than handed in in other batches.
    pub aside: bool,
}

/// A write-back that is not confirmed, as a start finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWriteBack {
    /// It.
    pub write_back: WriteBack,
    /// What counts as offline until it is confirmed.
    pub items: Vec<OutboxItem>,
}

pub(super) const TABLES: &str = "
CREATE TABLE acceptance(batch INTEGER PRIMARY KEY, serial TEXT NOT NULL, at INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE write_back(batch INTEGER NOT NULL, series INTEGER NOT NULL, serial TEXT NOT NULL,
    result TEXT NOT NULL, done_at INTEGER, crc INTEGER NOT NULL, PRIMARY KEY (batch, series))
    WITHOUT ROWID;
CREATE INDEX write_back_open ON write_back(batch) WHERE done_at IS NULL;
CREATE TABLE split(batch INTEGER PRIMARY KEY, message TEXT NOT NULL, at INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE aside(notice INTEGER PRIMARY KEY, batch INTEGER NOT NULL, crc INTEGER NOT NULL);
";

/// Tables of one shape each, for `verify`: every row's CRC is checked.
pub(super) const ROWS: [(&str, &str); 4] = [
    ("acceptance", "SELECT batch, serial, at, crc FROM acceptance"),
    ("write_back", "SELECT batch, series, serial, result, done_at, crc FROM write_back"),
    ("split", "SELECT batch, message, at, crc FROM split"),
    ("aside", "SELECT notice, batch, crc FROM aside"),
];

fn write_back_columns(write_back: &WriteBack) -> [rows::Column<'_>; 5] {
    [
        Int(Some(write_back.batch.0)),
        Int(Some(write_back.series.0)),
        Bytes(write_back.serial.as_bytes()),
        Bytes(write_back.result.as_bytes()),
        Int(write_back.done_at.map(CstTime::unix)),
    ]
}

impl Writer<'_> {
    pub(super) fn acceptance(&mut self, acceptance: &Acceptance) -> rusqlite::Result<()> {
        let (batch, serial, at) = (acceptance.batch.0, &acceptance.serial, acceptance.at.unix());
        let columns = [Int(Some(batch)), Bytes(serial.as_bytes()), Int(Some(at))];
        let crc = self.crc("acceptance", &columns);
        self.statement("INSERT OR REPLACE INTO acceptance VALUES (?, ?, ?, ?)")?
            .execute(params![batch, serial, at, crc])
            .map(drop)
    }

    pub(super) fn write_back(&mut self, write_back: &WriteBack) -> rusqlite::Result<()> {
        let crc = self.crc("write_back", &write_back_columns(write_back));
        self.statement("INSERT OR REPLACE INTO write_back VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                write_back.batch.0,
                write_back.series.0,
                write_back.serial,
                write_back.result,
                write_back.done_at.map(CstTime::unix),
                crc
            ])
            .map(drop)
    }

    pub(super) fn split(&mut self, split: &Split) -> rusqlite::Result<()> {
        let (batch, at) = (split.batch.0, split.at.unix());
        if self.statement("DELETE FROM open_batch WHERE batch = ?")?.execute([batch])? != 1 {
            return Err(rusqlite::Error::StatementChangedRows(0));
        }
        let columns = [Int(Some(batch)), Bytes(split.message.as_bytes()), Int(Some(at))];
        let crc = self.crc("split", &columns);
        self.statement("INSERT INTO split VALUES (?, ?, ?, ?)")?.execute(params![
            batch,
            split.message,
            at,
            crc
        ])?;
        for notice in &split.members {
            let code = notice.code();
            self.statement("DELETE FROM delivery WHERE notice = ?")?.execute([code])?;
            if split.aside {
                let crc = self.crc("aside", &[Int(Some(code)), Int(Some(batch))]);
                self.statement("INSERT INTO aside VALUES (?, ?, ?)")?
                    .execute(params![code, batch, crc])?;
            } else {
                self.wait_for_batch(*notice)?;
            }
        }
        Ok(())
    }

    /// What was set aside waits for a batch again.
    pub(super) fn sent_again(&mut self, notice: Notice) -> rusqlite::Result<()> {
        match self.statement("DELETE FROM aside WHERE notice = ?")?.execute([notice.code()])? {
            1 => self.wait_for_batch(notice),
            changed => Err(rusqlite::Error::StatementChangedRows(changed)),
        }
    }
}

/// The acceptance serial of a batch that is being judged; none before it was accepted.
pub(super) fn acceptance(connection: &Connection, batch: BatchNo) -> Result<Option<String>> {
    let sql = format!("SELECT serial, at, crc FROM acceptance WHERE batch = {}", batch.0);
    let rows = load::all(connection, &sql, |row| {
        let (serial, at): (String, i64) = (row.get(0)?, row.get(1)?);
        let columns = [Int(Some(batch.0)), Bytes(serial.as_bytes()), Int(Some(at))];
        let checked = rows::check_crc("acceptance", &batch.to_string(), &columns, row.get(2)?);
        Ok(checked.map(|()| serial))
    })?;
    Ok(rows.into_iter().next())
}

/// Everything that was set aside, ascending, with what a start needs of it.
pub(super) fn asides(connection: &Connection) -> Result<Vec<OutboxItem>> {
    load::ids(connection, "SELECT notice FROM aside ORDER BY notice")?
        .into_iter()
        .map(|code| {
            let notice = Notice::from_code(code)?;
            Ok(OutboxItem::of(notice, &reader::found(connection, notice.claim)?))
        })
        .collect()
}

/// Write-backs that no device has confirmed.
pub(super) fn open_write_backs(connection: &Connection) -> Result<Vec<OpenWriteBack>> {
    let sql = "SELECT batch, series, serial, result, crc FROM write_back
               WHERE done_at IS NULL ORDER BY batch, series";
    let open = load::all(connection, sql, |row| {
        let write_back = WriteBack {
            batch: BatchNo(row.get(0)?),
            series: SeriesNo(row.get(1)?),
            serial: row.get(2)?,
            result: row.get(3)?,
            done_at: None,
        };
        let (columns, name) = (write_back_columns(&write_back), write_back.batch.to_string());
        Ok(rows::check_crc("write_back", &name, &columns, row.get(4)?).map(|()| write_back))
    })?;
    open.into_iter()
        .map(|write_back| {
            let batch = reader::batch(connection, write_back.batch)?;
            let item = |notice: Notice| {
                let found = reader::found(connection, notice.claim)?;
                Ok(OutboxItem::of(notice, &found))
            };
            let items: Result<Vec<_>> = batch.members.into_iter().map(item).collect();
            let mut items = items?;
            items.retain(|item| item.series == write_back.series);
            Ok(OpenWriteBack { write_back, items })
        })
        .collect()
}
