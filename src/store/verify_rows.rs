//! The part of `verify` for rows that the walk over claims does not read: their CRCs, and that
//! deliveries are what the frozen batches say and the meter is what the journal says.

use super::{
    Notice, StoreError, UsageDelta, UsageKey, columns, load, reader,
    rows::{
        self,
        Column::{Bytes, Int},
    },
    upload,
    verify::Findings,
};
use crate::model::BatchNo;
use rusqlite::{Connection, Row, types::ValueRef};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// Tables with the columns that their CRC covers, in its order, and the CRC last.
const TABLES: [(&str, &str); 4] = [
    ("setting", "SELECT key, value, crc FROM setting"),
    ("receipt", "SELECT batch, serial, receipt, stored_at, crc FROM receipt"),
    ("rejection", "SELECT notice, message, crc FROM rejection"),
    ("delivery", "SELECT notice, batch, position, crc FROM delivery"),
];

/// Checks every row's CRC in `TABLES`, and the deliveries.
pub(super) fn check(connection: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
    for (table, sql) in TABLES.into_iter().chain(upload::ROWS) {
        let checks = load::all(connection, sql, |row| Ok(Ok(crc(table, row)?)))?;
        for checked in checks {
            findings.take(checked);
        }
    }
    deliveries(connection, findings)
}

fn crc(table: &'static str, row: &Row<'_>) -> rusqlite::Result<Result<(), StoreError>> {
    let last = row.as_ref().column_count().saturating_sub(1);
    let columns = columns_of(row, 0..last)?;
    let name = match columns.first() {
        Some(Int(Some(value))) => value.to_string(),
        Some(Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Int(None)) | None => String::new(),
    };
    Ok(rows::check_crc(table, &name, &columns, row.get(last)?))
}

/// A row's columns as they go into its CRC.
pub(super) fn columns_of<'a>(
    row: &'a Row<'_>,
    places: Range<usize>,
) -> rusqlite::Result<Vec<rows::Column<'a>>> {
    let column = |at| {
        row.get_ref(at).map(|value| match value {
            ValueRef::Null => Int(None),
            ValueRef::Integer(value) => Int(Some(value)),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Bytes(bytes),
            ValueRef::Real(_) => Bytes(b"no column of ours is real"),
        })
    };
    places.map(column).collect()
}

/// Every member of a batch has its delivery row, in its place, and nobody else has one.
fn deliveries(connection: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
    let mut expected: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let standing = "SELECT no FROM batch WHERE no NOT IN (SELECT batch FROM split) ORDER BY no";
    for no in load::ids(connection, standing)? {
        // A batch that does not read is reported by the walk.
        let Ok(batch) = reader::batch(connection, BatchNo(no)) else { continue };
        let places = (0_i64..).zip(batch.members);
        expected.extend(places.map(|(position, notice)| (notice.code(), (no, position))));
    }
    let sql = "SELECT notice, batch, position FROM delivery";
    let stored: BTreeMap<i64, (i64, i64)> =
        load::all(connection, sql, |row| Ok(Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))))?
            .into_iter()
            .collect();
    for code in expected.keys().chain(stored.keys()) {
        if expected.get(code) != stored.get(code)
            && let Some(notice) = findings.take(Notice::from_code(*code))
        {
            findings.problem(format!("the delivery of {notice} is not what its batch says"));
        }
    }
    Ok(())
}

/// The meter equals what was counted over the journal, to the fen.
pub(super) fn usage(
    connection: &Connection,
    counted: &BTreeMap<UsageKey, UsageDelta>,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let rows = load::all(connection, "SELECT * FROM usage", |row| {
        let values = (0..11).map(|column| row.get::<_, i64>(column));
        let values: Vec<i64> = values.collect::<Result<_, _>>()?;
        let columns: Vec<_> = values[..10].iter().map(|value| Int(Some(*value))).collect();
        let checked = rows::check_crc("usage", &values[0].to_string(), &columns, values[10]);
        Ok(checked.map(|()| values))
    })?;
    let journal: BTreeSet<_> =
        counted.iter().map(|(key, delta)| columns::usage_values(key, delta)).collect();
    let meter: BTreeSet<_> = rows
        .into_iter()
        .filter_map(|values| <[i64; 10]>::try_from(values.get(..10)?).ok())
        .collect();
    for row in journal.symmetric_difference(&meter) {
        findings.problem(format!("usage differs from the journal: {row:?}"));
    }
    Ok(())
}
