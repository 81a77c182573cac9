//! Calls that fail: an error or a short write at the n-th write and the n-th sync, and a disk that
//! stays full. Whatever the process makes of it, the next start must know everything that was
//! acknowledged. A kill alone proves little: it passes with syncs switched off.

use crate::{
    checker,
    faults::{Call, Fail, Faults, Injected, Sticky},
    ledger,
    worker::NOT_STARTED,
    world::{Orders, World},
};
use std::{collections::BTreeMap, env, fs, os::unix::process::ExitStatusExt as _, process::Output};

/// Calls that fail, from the first on.
const CALLS: u64 = 200;
const SIGABRT: i32 = 6;

const MENU: [(Call, Injected); 5] = [
    (Call::Write, Injected::Enospc),
    (Call::Sync, Injected::Eio),
    (Call::Write, Injected::Eio),
    (Call::Sync, Injected::Enospc),
    (Call::Write, Injected::Short),
];

/// How a life under a fault ended: in order, not started, or aborted.
fn ending(output: &Output) -> Result<&'static str, String> {
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => Ok("in order"),
        (Some(NOT_STARTED), _) => Ok("not started"),
        (None, Some(SIGABRT)) => Ok("aborted"),
        _ => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stdout))),
    }
}

fn orders(life: u64) -> Orders {
    Orders { life, tasks: 6, calls: 8, device_faults: 0 }
}

/// Lives through one fault, in a new world or in one that has issued before, then checks it.
fn live_through(fail: Fail) -> (&'static str, Vec<String>) {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(root.path());
    let mut problems = Vec::new();
    if fail.nth.is_multiple_of(2) {
        let before = world.worker(Orders { calls: 2, ..orders(1) }, None).output().unwrap();
        assert!(before.status.success(), "{}", String::from_utf8_lossy(&before.stdout));
    }
    let faults = Faults { dirs: vec![world.data()], fail: Some(fail), ..Faults::default() };
    let output = world.worker(orders(2), Some(&faults)).output().unwrap();
    let ending = ending(&output).unwrap_or_else(|why| {
        problems.push(why);
        "oddly"
    });
    problems.extend(checker::check(&world));
    (ending, problems.into_iter().map(|problem| format!("{fail}, {ending}: {problem}")).collect())
}

fn faults() -> Vec<Fail> {
    let all = env::var("SKPROXY_FAULTS").is_ok_and(|faults| faults == "all");
    (1..=CALLS)
        .flat_map(|nth| MENU.iter().zip(0..).map(move |(pick, at)| (nth, pick, at)))
        // By default each call fails in one way, and neighbours of a kind in all of them.
        .filter(|(nth, _, at)| all || (nth / 2) % 5 == *at)
        .map(|(nth, &(call, error), _)| Fail { call, nth, error, sticky: Sticky::Once })
        .collect()
}

/// Lives through every fault whose number leaves `rest` when divided by two; as in `kill`, one
/// process at a time.
#[track_caller]
fn check(rest: usize) {
    let mut endings: BTreeMap<&str, usize> = BTreeMap::new();
    let mut problems = Vec::new();
    for fail in faults().into_iter().skip(rest).step_by(2) {
        let (ending, found) = live_through(fail);
        *endings.entry(ending).or_default() += 1;
        problems.extend(found);
    }
    assert!(problems.is_empty(), "{} problems: {problems:#?}", problems.len());
    let aborted = endings.get("aborted").copied().unwrap_or_default();
    assert!(aborted > 5, "the faults meet commits: {endings:?}");
}

#[test]
fn no_failed_write_or_sync_makes_the_proxy_forget_or_double_an_invoice() {
    check(0);
}

#[test]
fn nor_does_any_of_the_other_half_of_the_faults() {
    check(1);
}

#[test]
fn a_full_disk_is_refused_and_forgets_nothing() {
    for nth in [60, 80, 100, 120] {
        let (call, error) = (Call::Write, Injected::Enospc);
        let fail = Fail { call, nth, error, sticky: Sticky::FromThenOn };
        let root = tempfile::tempdir().unwrap();
        let world = World::new(root.path());
        let faults = Faults { dirs: vec![world.data()], fail: Some(fail), ..Faults::default() };
        let output = world.worker(orders(3), Some(&faults)).output().unwrap();
        let ended = ending(&output);
        assert!(ended.is_ok(), "{fail}: {ended:?}");
        let known = ledger::read(&fs::read_to_string(world.ledger()).unwrap_or_default());
        let problems = checker::check(&world);
        assert!(problems.is_empty(), "{fail}, {ended:?}, {} serials: {problems:#?}", known.len());
    }
}
