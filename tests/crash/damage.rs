//! Damage at rest: a flipped bit in mid-log, a zeroed page, an older copy, a lost watermark. Each
//! is noticed by the start or by `verify`, and nothing is repaired silently.

use crate::{
    checker,
    world::{LOG_STAYS, Orders, World},
};
use skproxy::store::{
    embedded::{self, BOOKS},
    verify,
};
use std::{fs, path::Path};
use tempfile::TempDir;

/// SQLite's page. Unit: bytes.
const PAGE: usize = 4096;

/// A world that has issued some invoices.
fn issued() -> (TempDir, World) {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(root.path());
    live(&world, 1);
    (root, world)
}

fn live(world: &World, life: u64) {
    let orders = Orders { life, tasks: 4, calls: 12, device_faults: 0 };
    // A part of the log that is in the books already is not read again: its damage loses nothing.
    let output = world.worker(orders, None).env(LOG_STAYS, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn copy(from: &World) -> (TempDir, World) {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(root.path());
    for entry in fs::read_dir(from.data()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), world.data().join(entry.file_name())).unwrap();
    }
    (root, world)
}

/// What the start alone has against the books.
fn start_says(world: &World) -> Option<String> {
    match embedded::open(&world.options()) {
        Ok(opened) => opened.report.read_only,
        Err(error) => Some(error.to_string()),
    }
}

/// What `verify` has against the books.
fn verify_says(world: &World) -> Option<String> {
    match verify::verify(&world.options(), verify::Subject::DataDirectory, &checker::signature) {
        Ok(findings) => findings.problems.first().cloned(),
        Err(error) => Some(error.to_string()),
    }
}

fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn undamaged_books_are_called_good() {
    let (_root, world) = issued();
    assert_eq!((verify_says(&world), start_says(&world)), (None, None));
}

#[test]
fn a_flipped_bit_in_the_middle_of_the_log_is_noticed_by_the_start() {
    let (_root, world) = issued();
    let wal = format!("{BOOKS}-wal");
    let len = fs::read(world.data().join(&wal)).unwrap().len();
    assert!(len > 20 * PAGE, "a log of {len} bytes");
    for part in 1..10 {
        let (_root, world) = copy(&world);
        patch(&world.data().join(&wal), |bytes| bytes[len * part / 10] ^= 4);
        let (offline, start) = (verify_says(&world), start_says(&world));
        assert!(offline.is_some() && start.is_some(), "part {part}: {offline:?}, {start:?}");
    }
}

#[test]
fn a_zeroed_page_is_noticed() {
    let (_root, world) = issued();
    // The start moves the log into the books.
    assert_eq!(start_says(&world), None);
    let books = fs::read(world.data().join(BOOKS)).unwrap();
    assert!(books.len() > 30 * PAGE);
    for page in 0..books.len() / PAGE {
        let (_root, world) = copy(&world);
        patch(&world.data().join(BOOKS), |bytes| bytes[page * PAGE..][..PAGE].fill(0));
        let (offline, start) = (verify_says(&world), start_says(&world));
        assert!(offline.is_some() || start.is_some(), "page {page} of {}", books.len() / PAGE);
    }
}

#[test]
fn an_older_copy_is_noticed_by_the_start() {
    let (_root, world) = issued();
    let (_older_root, older) = copy(&world);
    live(&world, 2);
    fs::copy(world.data().join("watermark"), older.data().join("watermark")).unwrap();
    let (offline, start) = (verify_says(&older), start_says(&older).unwrap());
    assert!(offline.is_some() && start.contains("older copy"), "{offline:?}, {start}");
}

#[test]
fn a_lost_or_foreign_watermark_is_noticed_by_the_start() {
    let (_root, world) = issued();
    let (_other_root, other) = issued();
    for (what, from) in [("lost", None), ("foreign", Some(other.data().join("watermark")))] {
        let (_root, world) = copy(&world);
        let path = world.data().join("watermark");
        match from {
            None => fs::remove_file(path).unwrap(),
            Some(from) => drop(fs::copy(from, path).unwrap()),
        }
        let (offline, start) = (verify_says(&world), start_says(&world));
        assert!(offline.is_some() && start.is_some(), "{what}: {offline:?}, {start:?}");
    }
}
