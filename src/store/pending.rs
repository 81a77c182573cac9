//! What the acceptance sides have not answered yet, as operators look at it: page by page, each a
//! transaction of its own.

use super::{Books, Notice, StoreError, load, schema::sqlite};
use crate::model::BatchNo;
use rusqlite::{Connection, OptionalExtension as _, params};

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchState {
    /// It has no receipt yet.
    Open,
    /// It has its receipt.
    Answered,
    /// The acceptance would not take it as it was: what is in it goes out in other batches.
    Split,
}

impl Books {
    /// What waits for a batch, after a notice; ascending, fewer than asked for at the end.
    ///
    /// # Errors
    /// When rows cannot be read or do not add up, or the writer hangs.
    pub fn waiting_page(
        &self,
        after: Option<Notice>,
        count_max: usize,
    ) -> Result<Vec<Notice>, StoreError> {
        let after = after.map_or(0, Notice::code);
        let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
        self.durable(|connection| {
            let mut page = connection
                .prepare_cached(
                    "SELECT notice FROM outbox WHERE notice > ? ORDER BY notice LIMIT ?",
                )
                .map_err(sqlite("prepare to read the outbox"))?;
            let rows = page
                .query_map(params![after, count_max], |row| row.get(0))
                .map_err(sqlite("begin to read the outbox"))?;
            rows.map(|code| Notice::from_code(code.map_err(sqlite("read the outbox"))?)).collect()
        })
    }

    /// The batches without a receipt, ascending.
    ///
    /// # Errors
    /// When rows cannot be read, or the writer hangs.
    pub fn open_batches(&self) -> Result<Vec<BatchNo>, StoreError> {
        let sql = "SELECT batch FROM open_batch ORDER BY batch";
        let numbers = self.durable(|connection| load::ids(connection, sql))?;
        Ok(numbers.into_iter().map(BatchNo).collect())
    }

    /// The batch of an id, and where it stands; none when no batch has the id.
    ///
    /// # Errors
    /// When rows cannot be read, or the writer hangs.
    pub fn batch_of_id(&self, id: [u8; 16]) -> Result<Option<(BatchNo, BatchState)>, StoreError> {
        self.durable(|connection| {
            connection
                .prepare_cached(
                    "SELECT no, EXISTS (SELECT 1 FROM receipt WHERE receipt.batch = batch.no),
                        EXISTS (SELECT 1 FROM open_batch WHERE open_batch.batch = batch.no)
                     FROM batch WHERE id = ?",
                )
                .and_then(|mut find| {
                    let found = |row: &rusqlite::Row<'_>| {
                        let state = match (row.get(1)?, row.get(2)?) {
                            (true, _) => BatchState::Answered,
                            (false, true) => BatchState::Open,
                            (false, false) => BatchState::Split,
                        };
                        Ok((BatchNo(row.get(0)?), state))
                    };
                    find.query_row([id], found).optional()
                })
                .map_err(sqlite("look a batch up"))
        })
    }

    /// Whether there is a batch of a number.
    ///
    /// # Errors
    /// When rows cannot be read, or the writer hangs.
    pub fn has_batch(&self, no: BatchNo) -> Result<bool, StoreError> {
        self.durable(|connection: &Connection| {
            connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM batch WHERE no = ?)")
                .and_then(|mut find| find.query_row([no.0], |row| row.get(0)))
                .map_err(sqlite("look a batch up"))
        })
    }
}
