//! The part of `verify` for the journal: its chain, and that it and the request index close the
//! same serials. Rows are read one by one and not kept.

use super::{
    Event, EventHash, EventKind, StoreError, journal, load,
    rows::{self, Column},
    verify::Findings,
    verify_rows,
};
use crate::convert::to_u64;
use rusqlite::{Connection, Row};

const ROWS: &str = "SELECT sequence, kind, at, platform, taxpayer, serial, series, claim, actor,
    text, hash, crc FROM journal ORDER BY sequence";

/// SQLite sorts either side in a temporary file when it is long.
const UNBOUND: &str = "SELECT platform, taxpayer, serial, at FROM journal WHERE kind = 5
    EXCEPT SELECT platform, taxpayer, serial, closed_at FROM request WHERE claim IS NULL";
const UNSAID: &str = "SELECT platform, taxpayer, serial, closed_at FROM request
    WHERE claim IS NULL OR closed_at IS NOT NULL
    EXCEPT SELECT platform, taxpayer, serial, at FROM journal WHERE kind = 5";

/// Walks the journal and compares its closings with the request index.
pub(super) fn check(connection: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
    let mut walk = Walk { last: 0, before: Some(EventHash::default()) };
    load::each(connection, ROWS, |row| walk.row(row, findings).map(Ok))?;
    if let Some(head) = findings.take(journal::head(connection)) {
        walk.end(head, findings);
    }
    load::each(connection, UNBOUND, |row| {
        let serial = serial(row)?;
        findings.problem(format!("the journal closes serial {serial}, its request row does not"));
        Ok(Ok(()))
    })?;
    load::each(connection, UNSAID, |row| {
        let serial = serial(row)?;
        findings.problem(format!("a request row closes serial {serial}, the journal does not"));
        Ok(Ok(()))
    })
}

fn serial(row: &Row<'_>) -> rusqlite::Result<String> {
    let (platform, taxpayer): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
    let serial: Option<String> = row.get(2)?;
    let (platform, taxpayer) = (platform.unwrap_or_default(), taxpayer.unwrap_or_default());
    let serial = serial.unwrap_or_default();
    Ok(format!("{serial} of platform {platform} and taxpayer {taxpayer}"))
}

/// Where the walk stands.
struct Walk {
    /// Sequence of the last row.
    last: u64,
    /// Its hash; none when it is not known what the next one follows.
    before: Option<EventHash>,
}

impl Walk {
    fn row(&mut self, row: &Row<'_>, findings: &mut Findings) -> rusqlite::Result<()> {
        let columns = verify_rows::columns_of(row, 0..11)?;
        let (sequence, crc): (i64, i64) = (row.get(0)?, row.get(11)?);
        findings.take(rows::check_crc("journal", &sequence.to_string(), &columns, crc));
        let sequence = to_u64(sequence);
        let missing = self.last.saturating_add(1);
        if sequence != missing {
            findings.problem(format!("journal: event {missing} is missing"));
            self.before = None;
        }
        let hash = match columns.last() {
            Some(Column::Bytes(bytes)) => <[u8; 32]>::try_from(*bytes).ok().map(EventHash),
            Some(Column::Int(_)) | None => None,
        };
        let kind = row.get::<_, u8>(1).ok().and_then(EventKind::of_journal);
        let follows = self.before.zip(kind).map(|(before, kind)| {
            let body = journal::body(&columns[2..10]);
            hash == Some(Event::chain_journal(before, sequence, kind, &body))
        });
        if kind.is_none() || follows == Some(false) {
            findings.problem(format!("journal: event {sequence} breaks the chain"));
        }
        // The walk goes on from what is stored, so that one bad row is one problem.
        (self.last, self.before) = (sequence, hash);
        Ok(())
    }

    fn end(&self, head: Option<Event>, findings: &mut Findings) {
        let head = head.map_or((0, EventHash::default()), |event| (event.sequence, event.hash));
        if self.last != head.0 || self.before != Some(head.1) {
            findings.problem("journal: the chain ends elsewhere than the head says");
        }
    }
}
