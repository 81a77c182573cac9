//! Starts: the watermark against the books, torn logs, strange files.

use super::{
    Author, BOOKS, Batch, CommitCounter, CommitError, Connection, EmbeddedStore, Files, Options,
    Path, StoreError, commit_all, embedded, files, folder, fs, key, open, told, verified,
};
use crate::store::{Store as _, schema};

const LOG: &str = "books.db-wal";
const MARK: &str = "watermark";

/// Makes the folder's files of these names be what was saved, and nothing else.
fn restore(dir: &Path, names: &[&str], saved: &Files) {
    for name in names.iter().copied().chain(["books.db-shm"]) {
        let path = dir.join(name);
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
    for (name, bytes) in saved {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Tells the story with every commit kept; returns (books, watermark) after each commit, from 0.
fn history(dir: &Path) -> Vec<[Files; 2]> {
    let keep = || [files(dir, &[BOOKS, LOG]), files(dir, &[MARK])];
    let mut store: EmbeddedStore = open(dir).store;
    let mut kept = vec![keep()];
    for batch in Author::new().story() {
        store.commit(batch).unwrap();
        kept.push(keep());
    }
    kept
}

#[track_caller]
fn read_only(dir: &Path, expect: Option<&str>) {
    let evidence = files(dir, &[BOOKS, LOG]);
    let opened = open(dir);
    let kept = expect.is_none() || files(dir, &[BOOKS, LOG]) == evidence;
    assert!(kept, "a start changed books that do not add up");
    match (&opened.report.read_only, expect) {
        (None, None) => {}
        (Some(why), Some(expect)) => assert!(why.contains(expect), "{why}"),
        (found, expect) => panic!("{found:?} is not {expect:?}"),
    }
    drop(opened);
    let problems = verified(dir).unwrap().problems;
    assert_eq!(problems.is_empty(), expect.is_none(), "{problems:?}");
}

#[test]
fn books_and_watermark_that_do_not_meet_open_for_reading_alone() {
    const OLDER: &str = "an older copy was restored";
    for (books, mark, expect) in [
        (14, 14, None),
        (14, 13, None), // a commit whose watermark was not written yet
        (14, 12, Some("is not the one that the watermark")),
        (13, 14, Some(OLDER)),
        (3, 14, Some(OLDER)),
        (1, 0, None),
        (2, 0, Some("is not the one that the watermark")),
    ] {
        let dir = folder();
        let kept = history(dir.path());
        restore(dir.path(), &[BOOKS, LOG], &kept[books][0]);
        restore(dir.path(), &[MARK], &kept[mark][1]);
        read_only(dir.path(), expect);
    }
}

#[test]
fn a_store_one_commit_ahead_goes_on() {
    let dir = folder();
    let kept = history(dir.path());
    restore(dir.path(), &[MARK], &kept[13][1]);
    let mut author = Author::new();
    drop(author.story());
    commit_all(&mut open(dir.path()).store, [author.issue(3)]);
    let opened = open(dir.path());
    assert_eq!((opened.report.commits, opened.report.read_only), (CommitCounter(15), None));
}

#[test]
fn another_history_of_the_same_length_is_noticed() {
    let dir = folder();
    let mut author = Author::new();
    let mut store = open(dir.path()).store;
    store.commit(author.registry()).unwrap();
    let before = files(dir.path(), &[BOOKS, LOG, MARK]);
    store.commit(author.claims(&["A"])).unwrap();
    let told = files(dir.path(), &[MARK]);
    drop(store);
    restore(dir.path(), &[BOOKS, LOG, MARK], &before);
    let mut author = Author::new();
    commit_all(&mut open(dir.path()).store, [author.claims(&["B"])]);
    restore(dir.path(), &[MARK], &told);
    read_only(dir.path(), Some("is not the one that the watermark"));
}

#[test]
fn a_lost_or_foreign_watermark_is_noticed() {
    let dir = told();
    let mine = files(dir.path(), &[MARK]);
    restore(dir.path(), &[MARK], &Files::new());
    read_only(dir.path(), Some("the watermark is lost"));
    restore(dir.path(), &[MARK], &files(told().path(), &[MARK]));
    read_only(dir.path(), Some("belongs to other books"));
    restore(dir.path(), &[MARK], &vec![(MARK.into(), vec![0; 8192])]);
    read_only(dir.path(), Some("the watermark is lost"));
    restore(dir.path(), &[MARK], &mine);
    read_only(dir.path(), None);
}

#[test]
fn a_read_only_store_answers_and_commits_nothing() {
    let dir = told();
    restore(dir.path(), &[MARK], &Files::new());
    let mut opened = open(dir.path());
    assert!(opened.books.find(&key("S1")).unwrap().is_some());
    let committed = opened.store.commit(Batch::default());
    assert!(matches!(committed, Err(CommitError::Fatal { .. })), "{committed:?}");
}

#[test]
fn lost_books_refuse_the_start_and_fresh_ones_are_made() {
    for (commits, fresh) in [(0, true), (1, false), (14, false)] {
        let dir = folder();
        let kept = history(dir.path());
        restore(dir.path(), &[BOOKS, LOG, MARK], &kept[commits][1]);
        let opened = embedded::open(&Options::in_dir(dir.path()));
        assert_eq!(opened.is_ok(), fresh, "{commits} commits: {opened:?}");
        drop(opened);
        // A file without tables is no better than none.
        restore(dir.path(), &[BOOKS, LOG, MARK], &kept[commits][1]);
        fs::write(dir.path().join(BOOKS), b"").unwrap();
        let opened = embedded::open(&Options::in_dir(dir.path()));
        assert_eq!(opened.is_ok(), fresh, "{commits} commits, empty file: {opened:?}");
    }
}

#[test]
fn a_newer_schema_refuses_an_older_binary() {
    let dir = told();
    let newer = schema::VERSION + 1;
    super::spoil(dir.path(), &format!("PRAGMA user_version = {newer}"));
    let opened = embedded::open(&Options::in_dir(dir.path()));
    let refused = opened.map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found, .. } if found == newer), "{refused:?}");
    let refused = verified(dir.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found, .. } if found == newer), "{refused:?}");
}

#[test]
fn the_books_of_a_pre_release_are_refused_and_left_as_they_are() {
    let dir = told();
    super::spoil(dir.path(), "PRAGMA user_version = 1");
    let before = files(dir.path(), &[BOOKS, MARK]);
    let opened = embedded::open(&Options::in_dir(dir.path()));
    let refused = opened.map(drop).unwrap_err();
    assert!(matches!(refused, StoreError::Older { found: 1, .. }), "{refused:?}");
    assert!(refused.to_string().contains("a pre-release made them"), "{refused}");
    assert!(matches!(verified(dir.path()), Err(StoreError::Older { found: 1, .. })));
    assert!(files(dir.path(), &[BOOKS, MARK]) == before, "books that were refused were changed");
}

#[test]
fn a_flipped_bit_in_the_log_is_noticed() {
    let dir = folder();
    let kept = history(dir.path());
    let (_, log) = &kept[14][0][1];
    for eighth in 1..8 {
        let mut log = log.clone();
        let at = log.len() * eighth / 8;
        log[at] ^= 1;
        let (books, mark) = (kept[14][0][0].clone(), kept[14][1][0].clone());
        restore(dir.path(), &[BOOKS, LOG, MARK], &vec![books, (LOG.into(), log), mark]);
        let opened = open(dir.path());
        assert!(opened.report.dropped_frames > 0, "{:?}", opened.report);
        drop(opened);
        read_only(dir.path(), Some("the end of the log is damaged"));
    }
}

#[test]
fn the_tail_of_an_unfinished_commit_is_dropped_and_reported() {
    let dir = told();
    let mut author = Author::new();
    drop(author.story());
    let store = {
        let mut store = open(dir.path()).store;
        commit_all(&mut store, [author.issue(3)]);
        store
    };
    let writer = Connection::open(dir.path().join(BOOKS)).unwrap();
    writer.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
    for no in 1_000..1_400 {
        let sql = "INSERT INTO setting VALUES (?, zeroblob(800), 0)";
        writer.execute(sql, [no]).unwrap();
    }
    let copy = folder();
    restore(copy.path(), &[], &files(dir.path(), &[BOOKS, LOG, MARK]));
    drop((writer, store));
    let opened = open(copy.path());
    assert!(opened.report.dropped_frames > 0, "{:?}", opened.report);
    assert_eq!((opened.report.commits, &opened.report.read_only), (CommitCounter(15), &None));
    drop(opened);
    assert_eq!(verified(copy.path()).unwrap().problems, Vec::<String>::new());
    assert_eq!(open(copy.path()).report.dropped_frames, 0, "the tail is gone after one start");
}

#[test]
fn a_checkpoint_that_does_nothing_counts_frames_and_moves_none() {
    let dir = folder();
    let kept = history(dir.path());
    let books = Connection::open(dir.path().join(BOOKS)).unwrap();
    let (busy, frames, moved): (i64, i64, i64) = books
        .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!((busy, moved), (0, 0));
    assert!(frames > 0);
    assert_eq!(files(dir.path(), &[BOOKS, LOG]), kept[14][0]);
}
