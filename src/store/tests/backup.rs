//! Backups: what the last commit left behind, whole or not there at all, and nobody else disturbed.

use super::{
    Author, BOOKS, Batch, ClaimId, CommitCounter, CommitError, EmbeddedStore, Options, Path,
    commit_all, embedded, folder, fs, open, verified,
};
use crate::store::{
    RegistryChange, Store as _,
    backup::{BackedUp, BackupError, Destination},
    verify::{Subject, verify},
};
use std::{
    ops::ControlFlow::{Break, Continue},
    os::unix::fs::PermissionsExt as _,
};

/// A commit that fills pages: many slices of a backup.
fn bulk(byte: u8) -> Batch {
    let value = vec![byte; 8 << 20];
    Batch { registry: vec![RegistryChange::Setting("bulk".into(), value)], ..Batch::default() }
}

/// A store that takes several slices, and who goes on with its story.
fn long_store(dir: &Path) -> (EmbeddedStore, Author) {
    let author = Author::new();
    let mut store = open(dir).store;
    commit_all(&mut store, [author.registry(), bulk(1)]);
    (store, author)
}

/// What is in a backup that adds up.
fn well(dir: &Path) -> embedded::Opened {
    let problems =
        verify(&Options::in_dir(dir), Subject::Backup, &|_, _, _| Ok(())).unwrap().problems;
    assert_eq!(problems, Vec::<String>::new());
    open(dir)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Backs up into `to`, with a commit of `batches` after each slice, the first one first.
fn back_up(
    store: &mut EmbeddedStore,
    to: &Path,
    batches: &mut dyn Iterator<Item = Batch>,
) -> Result<BackedUp, BackupError> {
    let copier = store.copier().unwrap();
    let copied = copier.run(Destination::prepare(to)?, |progress| {
        assert!(progress.pages_done < progress.pages_total, "{progress:?}");
        if let Some(batch) = batches.next() {
            store.commit(batch).unwrap();
        }
        Continue(())
    });
    copied?.expect("nobody breaks off").finish()
}

#[test]
fn a_backup_holds_every_commit_made_while_it_was_copied() {
    let (dir, to) = (folder(), folder());
    let (mut store, mut author) = long_store(dir.path());
    let mut batches = vec![author.claims(&["S1", "S2"]), author.issue(1), bulk(2)];
    batches.extend([author.claims(&["S3"]), author.issue(3)]);
    let count = batches.len();
    let mut batches = batches.into_iter();
    let to = to.path().join("copy");
    let made = back_up(&mut store, &to, &mut batches).unwrap();
    assert!(batches.len() < count - 2, "the copy took too few slices: {} are left", batches.len());
    commit_all(&mut store, batches);
    let path = to.join(BOOKS);
    let size_bytes = fs::metadata(&path).unwrap().len();
    assert_eq!((&made.path, made.size_bytes), (&path, size_bytes));
    assert_eq!(names(&to), [BOOKS], "nothing but the books is in a backup");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&to), mode(&path)), (0o700, 0o600));
    let copy = well(&to);
    assert_eq!((copy.report.commits, copy.report.dropped_frames), (made.commits, 0));
    let why = copy.report.read_only.unwrap_or_default();
    assert!(why.contains("the watermark is lost"), "{why}");
    assert_eq!(copy.store.found(ClaimId(1)).unwrap(), store.found(ClaimId(1)).unwrap());
    drop((copy.store, copy.books));
    assert_eq!(verified(&to).unwrap().problems.len(), 1, "a data directory needs its watermark");
    drop(store);
    assert_eq!(verified(dir.path()).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_short_story_is_one_slice() {
    let (dir, to) = (folder(), folder());
    let mut store = open(dir.path()).store;
    commit_all(&mut store, Author::new().story());
    let made = back_up(&mut store, to.path(), &mut std::iter::empty()).unwrap();
    assert_eq!(made.commits, CommitCounter(14));
    assert_eq!(well(to.path()).report.commits, CommitCounter(14));
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_and_left_as_it_is() {
    let dir = folder();
    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("something"), "").unwrap();
    for (to, expect) in [
        (Path::new("relative").to_owned(), "is not an absolute path"),
        (full.clone(), "is not empty"),
        (full.join("something"), "look into"),
        (dir.path().join("no/such/parent"), "make"),
    ] {
        let refused = Destination::prepare(&to).unwrap_err();
        assert!(refused.to_string().contains(expect), "{}: {refused}", to.display());
    }
    assert_eq!((names(dir.path()), names(&full)), (vec!["full".into()], vec!["something".into()]));
}

#[test]
fn a_copy_that_runs_out_of_space_is_removed_and_disturbs_no_commit() {
    // There is no room for what was there, or for what the commits add.
    for pages_max in [300, 2_150] {
        let (dir, to) = (folder(), folder());
        let (mut store, mut author) = long_store(dir.path());
        let more = RegistryChange::Setting("more".into(), vec![3; 1 << 20]);
        let more = Batch { registry: vec![more], ..author.claims(&["S1"]) };
        let mut batches = vec![more, author.issue(1)].into_iter();
        let destination = Destination::prepare(to.path()).unwrap();
        destination.limit_pages(pages_max);
        let copier = store.copier().unwrap();
        let copied = copier.run(destination, |_| {
            if let Some(batch) = batches.next() {
                store.commit(batch).unwrap();
            }
            Continue(())
        });
        assert!(matches!(copied, Err(BackupError::Full)), "{copied:?}");
        assert_eq!(names(to.path()), Vec::<String>::new());
        commit_all(&mut store, batches);
        assert_eq!(store.counter(), CommitCounter(4));
        drop(store);
        assert_eq!(verified(dir.path()).unwrap().problems, Vec::<String>::new());
    }
}

#[test]
fn a_commit_that_is_rolled_back_meanwhile_is_not_in_the_backup() {
    let (dir, to) = (folder(), folder());
    let (mut store, mut author) = long_store(dir.path());
    let mut full = Some(bulk(2));
    let copier = store.copier().unwrap();
    let copied = copier.run(Destination::prepare(to.path()).unwrap(), |_| {
        if let Some(batch) = full.take() {
            store.limit_pages(1);
            let mut other = Batch { segments: author.claims(&["S1"]).segments, ..batch };
            other.registry.push(RegistryChange::Setting("more".into(), vec![3; 9 << 20]));
            let committed = store.commit(other);
            assert!(matches!(committed, Err(CommitError::Full)), "{committed:?}");
            store.limit_pages(u32::MAX);
        }
        Continue(())
    });
    copied.unwrap().unwrap().finish().unwrap();
    let copy = well(to.path());
    assert_eq!(copy.report.commits, CommitCounter(2));
    assert_eq!(copy.books.setting("bulk").unwrap(), Some(vec![1; 8 << 20]));
}

#[test]
fn a_backup_that_is_broken_off_leaves_nothing() {
    let (dir, to) = (folder(), folder());
    let (mut store, mut author) = long_store(dir.path());
    let copier = store.copier().unwrap();
    let copied = copier.run(Destination::prepare(to.path()).unwrap(), |_| Break(()));
    assert!(copied.unwrap().is_none());
    assert_eq!(names(to.path()), Vec::<String>::new());
    drop(Destination::prepare(to.path()).unwrap());
    assert_eq!(names(to.path()), Vec::<String>::new());
    commit_all(&mut store, [author.claims(&["S1"])]);
    back_up(&mut store, to.path(), &mut std::iter::empty()).unwrap();
    assert_eq!(well(to.path()).report.commits, CommitCounter(3));
}

#[test]
fn read_only_books_can_be_backed_up_as_evidence() {
    let (dir, to) = (folder(), folder());
    let mut store = open(dir.path()).store;
    commit_all(&mut store, Author::new().story());
    drop(store);
    fs::remove_file(dir.path().join("watermark")).unwrap();
    let opened = open(dir.path());
    assert!(opened.report.read_only.is_some());
    let mut store = opened.store;
    back_up(&mut store, to.path(), &mut std::iter::empty()).unwrap();
    assert_eq!(well(to.path()).report.commits, CommitCounter(14));
}
