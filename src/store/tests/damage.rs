//! Damage: whatever is changed in the books by anybody but a commit is noticed by a start or by
//! `verify`.

use super::{BOOKS, Options, Path, embedded, fs, spoil, told, verified};
use crate::store::{rows, verify_rows};

/// What a start or `verify` says is wrong; none when nothing is.
fn noticed(dir: &Path) -> Option<String> {
    let opened = embedded::open(&Options::in_dir(dir));
    let at_start = match &opened {
        Err(error) => Some(error.to_string()),
        Ok(opened) => opened.report.read_only.clone(),
    };
    drop(opened);
    let offline = || match verified(dir) {
        Err(error) => Some(error.to_string()),
        Ok(findings) => findings.problems.first().cloned(),
    };
    at_start.or_else(offline)
}

#[test]
fn healthy_books_raise_no_alarm() {
    assert_eq!(noticed(told().path()), None);
}

#[test]
fn a_flipped_byte_is_noticed_in_every_table_with_text() {
    let dir = told();
    let healthy = fs::read(dir.path().join(BOOKS)).unwrap();
    for mark in [
        "PLATFORM",
        "CERTIFICATE",
        "TAXPAYER",
        "DEVICE",
        "ROUTE",
        "SETTING",
        "SIGNATURE",
        "VOID",
        "WITHDRAWN",
        "RELEASE",
        "BATCH",
        "RECEIPT",
        "REJECTION",
        "AUDIT",
        "INCIDENT",
        "REQUEST",
    ] {
        let text = format!("MARK-{mark}");
        let places: Vec<usize> =
            (0..healthy.len()).filter(|at| healthy[*at..].starts_with(text.as_bytes())).collect();
        assert!(!places.is_empty(), "{mark} is nowhere");
        for at in places {
            let mut bytes = healthy.clone();
            bytes[at + 5] ^= 1;
            fs::write(dir.path().join(BOOKS), &bytes).unwrap();
            // A page's free space may keep what a row was before; a row's own place is never free.
            let in_use = row_holds(dir.path(), &text, &bytes[at..at + text.len()]);
            assert!(!in_use || noticed(dir.path()).is_some(), "{mark} at {at}");
        }
    }
}

/// Whether any row lost `text` to what stands in its place now.
fn row_holds(dir: &Path, text: &str, now: &[u8]) -> bool {
    let books = rusqlite::Connection::open(dir.join(BOOKS)).unwrap();
    let sql = "SELECT EXISTS (
        SELECT 1 FROM platform WHERE instr(name, ?1)
        UNION SELECT 1 FROM taxpayer WHERE instr(name, ?1)
        UNION SELECT 1 FROM certificate WHERE instr(CAST(key AS TEXT), ?1)
        UNION SELECT 1 FROM device WHERE instr(CAST(public_key AS TEXT), ?1)
        UNION SELECT 1 FROM route WHERE instr(address, ?1)
        UNION SELECT 1 FROM setting WHERE instr(CAST(value AS TEXT), ?1)
        UNION SELECT 1 FROM signature WHERE instr(CAST(body AS BLOB), CAST(?1 AS BLOB))
        UNION SELECT 1 FROM void WHERE instr(body, CAST(?1 AS BLOB))
        UNION SELECT 1 FROM invoice_void WHERE instr(body, CAST(?1 AS BLOB))
        UNION SELECT 1 FROM release WHERE instr(body, CAST(?1 AS BLOB))
        UNION SELECT 1 FROM batch WHERE instr(province, ?1)
        UNION SELECT 1 FROM receipt WHERE instr(CAST(receipt AS TEXT), ?1)
        UNION SELECT 1 FROM rejection WHERE instr(message, ?1)
        UNION SELECT 1 FROM journal WHERE instr(text, ?1) OR instr(serial, ?1)
        UNION SELECT 1 FROM request WHERE instr(serial, ?1))";
    let now = String::from_utf8(now.to_vec()).unwrap();
    assert_ne!(now, text);
    books.query_row(sql, [now], |row| row.get(0)).unwrap()
}

#[test]
fn a_zeroed_page_is_noticed_wherever_it_is() {
    const PAGE: usize = 4096;
    let dir = told();
    let healthy = fs::read(dir.path().join(BOOKS)).unwrap();
    assert_eq!(healthy.len() % PAGE, 0);
    for page in 0..healthy.len() / PAGE {
        let mut bytes = healthy.clone();
        bytes[page * PAGE..(page + 1) * PAGE].fill(0);
        fs::write(dir.path().join(BOOKS), &bytes).unwrap();
        assert!(noticed(dir.path()).is_some(), "page {page} of zeros went unnoticed");
    }
}

#[test]
fn a_changed_value_is_noticed_in_every_table() {
    let dir = told();
    let healthy = fs::read(dir.path().join(BOOKS)).unwrap();
    for sql in [
        "UPDATE head SET counter = counter - 1",
        "UPDATE setting SET value = x'00'",
        "UPDATE platform SET enabled = 0",
        "UPDATE certificate SET revoked = 1",
        "UPDATE taxpayer SET province = '45'",
        "UPDATE binding SET crc = crc + 1",
        "UPDATE device SET enabled = 0 WHERE no = 1",
        "UPDATE device SET wrapped_key = NULL WHERE no = 1",
        "UPDATE route SET address = 'elsewhere:1'",
        "UPDATE series SET next_position = 0 WHERE no = 1",
        "UPDATE series SET frozen = 'no reason' WHERE no = 1",
        "UPDATE segment SET next = next - 1",
        "UPDATE claim SET body = x'01' WHERE id = 3",
        "UPDATE claim SET series = 2 WHERE id = 3",
        "UPDATE request SET claim = 2 WHERE serial = 'S1'",
        "UPDATE request SET closed_at = 0 WHERE claim IS NULL",
        "UPDATE code SET code = '044002600119' WHERE no = 1",
        "UPDATE number SET claim = 3 WHERE claim = 1",
        "UPDATE number SET claim = 5 - claim WHERE claim IN (1, 4)",
        "UPDATE signature SET body = (SELECT body FROM signature WHERE claim = 4) WHERE claim = 1",
        "UPDATE void SET claim = 3",
        "UPDATE invoice_void SET claim = 1",
        "UPDATE invoice_void SET body = x'01'",
        "UPDATE void_request SET claim = 1",
        "UPDATE void_request SET request_id = 'V5'",
        "UPDATE release SET body = x'01'",
        "UPDATE batch SET members = x'' WHERE no = 1",
        "UPDATE receipt SET serial = 'A2'",
        "UPDATE delivery SET position = 5 WHERE notice = 2",
        "UPDATE rejection SET notice = 2",
        "UPDATE rejection SET message = 'yes'",
        "UPDATE usage SET total = total - 1 WHERE counted = 0",
        "UPDATE usage SET total = total - 1 WHERE counted = 1",
        "UPDATE usage SET day = day + 1 WHERE counted = 1",
        "UPDATE listing SET issue_time = issue_time + 1 WHERE claim = 1",
        "UPDATE listing SET platform = 2 WHERE claim = 1",
        "UPDATE journal SET text = '' WHERE kind = 6",
        "UPDATE journal SET actor = 'somebody else' WHERE kind = 7",
        "UPDATE journal SET at = at + 1 WHERE kind = 5",
        "UPDATE journal SET kind = 6 WHERE kind = 7",
        "UPDATE journal SET hash = zeroblob(32) WHERE sequence = 3",
        "UPDATE journal_head SET sequence = 2",
    ] {
        spoil(dir.path(), sql);
        assert!(noticed(dir.path()).is_some(), "{sql}");
        fs::write(dir.path().join(BOOKS), &healthy).unwrap();
        fs::remove_file(dir.path().join("books.db-wal")).ok();
        fs::remove_file(dir.path().join("books.db-shm")).ok();
    }
}

/// Every CRC is right here, and so is SQLite's own view: only the whole does not add up.
#[test]
fn a_lost_or_swapped_row_is_noticed() {
    let dir = told();
    let healthy = fs::read(dir.path().join(BOOKS)).unwrap();
    for (sql, expect) in [
        ("DELETE FROM claim WHERE id = 3", "claim 3"),
        ("DELETE FROM claim WHERE id = 7", "claim 7"),
        ("DELETE FROM signature WHERE claim = 1", ""),
        ("DELETE FROM void", ""),
        ("DELETE FROM release", "event"),
        ("DELETE FROM number WHERE claim = 1", "the number index has"),
        ("DELETE FROM request WHERE claim = 1", "the request index has"),
        ("DELETE FROM open_claim WHERE claim = 3", "listed open"),
        ("INSERT INTO open_claim VALUES (1)", "listed open"),
        ("DELETE FROM outbox", "claim 4 is delivered and not made"),
        ("DELETE FROM outbox WHERE notice = 9", "the void of claim 4 is delivered and not made"),
        ("INSERT INTO outbox VALUES (3)", "the void of claim 1 is delivered and not made"),
        ("INSERT INTO outbox VALUES (2)", "claim 1 is to be delivered twice"),
        ("DELETE FROM invoice_void", "series 1: event 8 is missing"),
        ("DELETE FROM invoice_void", "the void of claim 4 is delivered and not made"),
        ("DELETE FROM invoice_void", "usage differs"),
        ("DELETE FROM invoice_void", "the void index gives a request id to claim 4"),
        ("DELETE FROM void_request", "the void index misses the void of claim 4"),
        ("DELETE FROM signature WHERE claim = 4", "the void of claim 4 is of no issued invoice"),
        ("DELETE FROM claim WHERE id = 4", "the void of claim 4 is of no issued invoice"),
        ("DELETE FROM usage WHERE counted = 1", "usage differs"),
        ("DELETE FROM batch WHERE no = 1", ""),
        ("DELETE FROM open_batch", "neither open nor answered"),
        ("DELETE FROM receipt", "neither open nor answered"),
        ("DELETE FROM delivery WHERE notice = 4", "the delivery of claim 2"),
        ("DELETE FROM usage", "usage differs"),
        (
            "DELETE FROM listing WHERE claim = 4",
            "the list index differs from the journal at claim 4",
        ),
        ("INSERT INTO listing VALUES (1, 1, 0, 3)", "differs from the journal at claim 3"),
        ("DELETE FROM segment", ""),
        ("DELETE FROM request WHERE claim IS NULL", "the journal closes serial MARK-REQUEST"),
        ("DELETE FROM journal WHERE kind = 5", "the journal does not"),
        ("DELETE FROM journal WHERE kind = 5", "journal: event 2 is missing"),
        ("DELETE FROM journal WHERE kind = 6", "journal: event 1 is missing"),
        ("DELETE FROM journal WHERE sequence = 3", "ends elsewhere"),
        ("DELETE FROM journal", "ends elsewhere"),
        ("DELETE FROM journal_head", "the head of the journal"),
    ] {
        spoil(dir.path(), sql);
        let problems = match verified(dir.path()) {
            Ok(findings) => findings.problems,
            Err(error) => vec![error.to_string()],
        };
        let found = problems.iter().any(|problem| problem.contains(expect));
        assert!(found && !problems.is_empty(), "{sql}: {problems:?}");
        fs::write(dir.path().join(BOOKS), &healthy).unwrap();
        fs::remove_file(dir.path().join("books.db-wal")).ok();
        fs::remove_file(dir.path().join("books.db-shm")).ok();
    }
}

/// Gives every row of the journal and its head the CRC that fits, as somebody would who knows how.
fn forge(dir: &Path, sql: &str) {
    spoil(dir, sql);
    let books = rusqlite::Connection::open(dir.join(BOOKS)).unwrap();
    for (table, key, columns) in [
        (
            "journal",
            "sequence",
            "sequence, kind, at, platform, taxpayer, serial, series, claim, actor, text, hash",
        ),
        ("journal_head", "id", "sequence, hash"),
    ] {
        let query = format!("SELECT {columns}, {key} FROM {table}");
        let mut read = books.prepare(&query).unwrap();
        let count = read.column_count() - 1;
        let mut rows = read.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let crc = rows::crc(table, &verify_rows::columns_of(row, 0..count).unwrap());
            let key_value: i64 = row.get(count).unwrap();
            let sql = format!("UPDATE {table} SET crc = ? WHERE {key} = ?");
            books.execute(&sql, [crc, key_value]).unwrap();
        }
    }
}

/// What only the chain can tell: every CRC is right.
#[test]
fn a_forged_row_of_the_journal_breaks_its_chain() {
    let dir = told();
    let healthy = fs::read(dir.path().join(BOOKS)).unwrap();
    let cases: [(&str, &[&str]); 9] = [
        ("SELECT 1", &[]),
        ("UPDATE journal SET text = '' WHERE kind = 6", &["journal: event 1 breaks the chain"]),
        ("UPDATE journal SET actor = 'x' WHERE kind = 7", &["journal: event 3 breaks the chain"]),
        ("UPDATE journal SET kind = 6 WHERE kind = 7", &["journal: event 3 breaks the chain"]),
        ("UPDATE journal SET kind = 1 WHERE kind = 7", &["journal: event 3 breaks the chain"]),
        (
            "UPDATE journal SET hash = zeroblob(32) WHERE sequence = 1",
            &["journal: event 1 breaks the chain", "journal: event 2 breaks the chain"],
        ),
        (
            "DELETE FROM journal WHERE sequence = 3; UPDATE journal_head SET sequence = 2",
            &["journal: the chain ends elsewhere than the head says"],
        ),
        (
            "DELETE FROM journal WHERE sequence = 1;
             UPDATE journal SET sequence = sequence - 1;
             UPDATE journal_head SET sequence = 2",
            &["journal: event 1 breaks the chain", "journal: event 2 breaks the chain"],
        ),
        (
            "UPDATE journal SET serial = 'OTHER' WHERE kind = 5",
            &[
                "journal: event 2 breaks the chain",
                "the journal closes serial OTHER of platform 1 and taxpayer 1, its request row \
                 does not",
                "a request row closes serial MARK-REQUEST of platform 1 and taxpayer 1, the \
                 journal does not",
            ],
        ),
    ];
    for (sql, expect) in cases {
        forge(dir.path(), sql);
        assert_eq!(verified(dir.path()).unwrap().problems, expect, "{sql}");
        fs::write(dir.path().join(BOOKS), &healthy).unwrap();
        fs::remove_file(dir.path().join("books.db-wal")).ok();
        fs::remove_file(dir.path().join("books.db-shm")).ok();
    }
}
