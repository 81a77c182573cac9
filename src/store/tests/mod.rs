//! The embedded store from outside: what is committed comes back, and what is lost, old or damaged
//! is noticed. The story that the tests tell is in `fixtures`.

mod backup;
mod damage;
mod fixtures;
mod ledger;
mod listing;
mod start;

use super::{
    Batch, CommitError, Fate, Store as _, StoreError,
    embedded::{self, BOOKS, EmbeddedStore, Opened, Options},
    memory::MemoryStore,
    verify::{Findings, Subject, verify},
};
use crate::model::{ClaimId, CommitCounter};
use fixtures::{Author, key};
use rusqlite::Connection;
use std::{fs, path::Path, sync::mpsc, time::Duration};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(dir: &Path) -> Opened {
    embedded::open(&Options::in_dir(dir)).unwrap()
}

fn commit_all(store: &mut EmbeddedStore, batches: impl IntoIterator<Item = Batch>) {
    for batch in batches {
        store.commit(batch).unwrap();
    }
}

/// A folder that holds the whole story, its log moved into the books.
fn told() -> TempDir {
    let dir = folder();
    commit_all(&mut open(dir.path()).store, Author::new().story());
    drop(open(dir.path()));
    dir
}

fn verified(dir: &Path) -> Result<Findings, StoreError> {
    verify(&Options::in_dir(dir), Subject::DataDirectory, &|_, _, _| Ok(()))
}

/// The books, to be spoilt by hand.
fn spoil(dir: &Path, sql: &str) {
    let books = Connection::open(dir.join(BOOKS)).unwrap();
    books.execute_batch(sql).unwrap();
    books.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

#[test]
fn a_fresh_store_is_empty_and_well() {
    let dir = folder();
    let opened = open(dir.path());
    assert_eq!(opened.report, embedded::StartReport::default());
    assert_eq!(opened.loaded.last, super::LastIds::default());
    assert!(opened.loaded.series.is_empty() && opened.loaded.open.is_empty());
    drop(opened);
    assert_eq!(verified(dir.path()).unwrap(), Findings::default());
}

#[test]
fn what_is_committed_comes_back_as_from_the_store_in_memory() {
    let dir = told();
    let mut memory = MemoryStore::default();
    for batch in Author::new().story() {
        memory.commit(batch).unwrap();
    }
    let (opened, expect) = (open(dir.path()), memory.load().unwrap());
    let loaded = &opened.loaded;
    assert_eq!(opened.report.commits, memory.counter());
    assert_eq!(opened.report.read_only, None);
    assert_eq!(loaded.series, expect.series);
    assert_eq!(loaded.segments, expect.segments);
    assert_eq!(loaded.outbox, expect.outbox);
    assert_eq!(loaded.open_batches, expect.open_batches);
    assert_eq!(loaded.last, expect.last);
    let open: Vec<_> = loaded.open.iter().map(|claim| &**claim).collect();
    assert_eq!(open, expect.open.iter().map(|claim| &**claim).collect::<Vec<_>>());
    let (registry, expect) = (&loaded.registry, &expect.registry);
    assert_eq!(registry.platforms, expect.platforms);
    assert_eq!(registry.certificates, expect.certificates);
    assert_eq!(registry.taxpayers, expect.taxpayers);
    assert_eq!(registry.bindings, expect.bindings);
    assert_eq!(registry.devices, expect.devices);
    assert_eq!(registry.routes, expect.routes);
    let ids: Vec<ClaimId> = memory.disk().claim_ids().collect();
    for id in ids {
        let found = opened.store.found(id).unwrap();
        assert_eq!(found, memory.disk().found(id).unwrap());
        assert_eq!(opened.books.claim(id).unwrap(), found);
    }
    for serial in ["S1", "S2", "S3", "S4", "S5", "S7", "MARK-REQUEST", "S9"] {
        let key = key(serial);
        assert_eq!(opened.store.binding(&key).unwrap(), memory.disk().binding(&key), "{serial}");
    }
    for (id, expect) in [("V4", Some(ClaimId(4))), ("V9", None), ("S1", None)] {
        assert_eq!(opened.store.void_requested(&key(id)).unwrap(), expect, "{id}");
        assert_eq!(memory.void_requested(&key(id)).unwrap(), expect, "{id}");
        let found = opened.books.void_requested(&key(id)).unwrap();
        assert_eq!(found.map(|found| found.id()), expect, "{id}");
    }
    assert_eq!(opened.books.setting("statement").unwrap(), Some(b"MARK-SETTING".to_vec()));
}

#[test]
fn books_that_add_up_have_no_problem() {
    let findings = verified(told().path()).unwrap();
    let expect =
        Findings { claims: 7, issued: 2, voided: 2, open: 2, commits: 14, problems: vec![] };
    assert_eq!(findings, expect);
}

#[test]
fn a_data_directory_has_one_user() {
    let dir = folder();
    let opened = open(dir.path());
    let again = embedded::open(&Options::in_dir(dir.path()));
    assert!(matches!(again, Err(StoreError::Locked { .. })), "{again:?}");
    assert!(matches!(verified(dir.path()), Err(StoreError::Locked { .. })));
    drop(opened);
    assert_eq!(open(dir.path()).report.read_only, None);
}

#[test]
fn a_full_disk_stores_nothing_and_the_store_goes_on() {
    let dir = folder();
    let mut author = Author::new();
    let mut story = author.story();
    let mut opened = open(dir.path());
    let last = story.pop().unwrap();
    commit_all(&mut opened.store, story);
    let serials: Vec<String> = (0..2_000).map(|n| format!("LONG-SERIAL-{n}")).collect();
    let serials: Vec<&str> = serials.iter().map(String::as_str).collect();
    opened.store.limit_pages(1);
    let mut other = Author::new();
    drop(other.story());
    let full = opened.store.commit(other.claims(&serials));
    assert!(matches!(full, Err(CommitError::Full)), "{full:?}");
    assert_eq!(opened.store.counter(), CommitCounter(13));
    assert_eq!(opened.store.binding(&key(serials[0])).unwrap(), None);
    opened.store.limit_pages(u32::MAX);
    opened.store.commit(last).unwrap();
    drop(opened);
    assert_eq!(open(dir.path()).report.commits, CommitCounter(14));
    assert_eq!(verified(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_commit_waits_for_whoever_else_writes() {
    let dir = folder();
    let mut store = open(dir.path()).store;
    store.be_impatient();
    let other = Connection::open(dir.path().join(BOOKS)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (done, committed) = mpsc::sync_channel(1);
    let commit = std::thread::spawn(move || {
        done.send(store.commit(Author::new().registry()).map(|done| done.counter)).unwrap();
    });
    assert!(committed.recv_timeout(Duration::from_millis(100)).is_err(), "nobody waited");
    other.execute_batch("ROLLBACK").unwrap();
    let counter = committed.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(counter, CommitCounter(1));
    commit.join().unwrap();
}

#[test]
fn a_damaged_meter_is_not_counted_on() {
    let dir = told();
    spoil(dir.path(), "UPDATE usage SET total = total + 1");
    let mut author = Author::new();
    drop(author.story());
    let mut store = open(dir.path()).store;
    let committed = store.commit(author.issue(3));
    assert!(matches!(committed, Err(CommitError::Fatal { .. })), "{committed:?}");
}

#[test]
fn an_event_that_does_not_follow_the_one_before_it_is_noticed() {
    let dir = told();
    let mut author = Author::new();
    drop(author.story());
    let mut batch = author.issue(3);
    let event = &mut batch.issued[0].event;
    event.hash.0[0] ^= 1;
    batch.series[0].event = Some(*event);
    commit_all(&mut open(dir.path()).store, [batch]);
    let problems = verified(dir.path()).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("breaks the chain")), "{problems:?}");
}

#[test]
fn an_issued_invoice_is_voided_once_and_keeps_its_bytes() {
    let dir = told();
    let mut author = Author::new();
    drop(author.story());
    let mut opened = open(dir.path());
    let before = opened.store.found(ClaimId(1)).unwrap().invoice();
    opened.store.commit(author.void_issued(1, "V1")).unwrap();
    let found = opened.store.found(ClaimId(1)).unwrap();
    assert!(matches!(&found.fate, Fate::InvoiceVoided(_, void) if void.request == key("V1")));
    assert!(found.invoice().is_some() && found.invoice() == before);
    let again = opened.store.commit(author.void_issued(1, "V2"));
    assert!(matches!(again, Err(CommitError::Fatal { .. })), "{again:?}");
    drop(opened);
    let mut author = Author::new();
    drop(author.story());
    drop(author.void_issued(1, "V1"));
    let mut store = open(dir.path()).store;
    assert!(store.commit(author.void_issued(3, "V1")).is_err(), "one id, two voids");
    drop(store);
    assert_eq!(verified(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_claim_ends_once() {
    let dir = told();
    let mut author = Author::new();
    drop(author.story());
    let mut store = open(dir.path()).store;
    assert!(matches!(store.found(ClaimId(1)).unwrap().fate, Fate::Issued(_)));
    let again = store.commit(author.issue(1));
    assert!(matches!(again, Err(CommitError::Fatal { .. })), "{again:?}");
}

/// Name and bytes of files that make a store.
type Files = Vec<(String, Vec<u8>)>;

fn files(dir: &Path, names: &[&str]) -> Files {
    let read = |name: &&str| Some(((*name).to_owned(), fs::read(dir.join(name)).ok()?));
    names.iter().filter_map(read).collect()
}
