//! Power cuts: what a life did to its files is replayed up to each sync and each answer, what was
//! not synced is dropped, and everything acknowledged until then must be there.

use crate::{
    checker,
    faults::{Disk, Faults, Lost, Op, Trace},
    ledger::{self, Answer},
    world::{Orders, World},
};
use skproxy::store::embedded::BOOKS;
use std::{env, fs, path::PathBuf};
use tempfile::TempDir;

/// Cuts of each kind when `SKPROXY_CUTS` is not `all`.
const CUTS: usize = 60;
const SEEDED: u64 = 2;

/// A traced life.
struct Life {
    world: World,
    trace: Trace,
    _root: TempDir,
}

/// Whether the disk of a traced life keeps what it is told to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Kept,
    Skipped,
}

impl Life {
    fn lived(orders: Orders, syncs: Syncs) -> Self {
        let root = tempfile::tempdir().unwrap();
        let world = World::new(root.path());
        let faults = Faults {
            dirs: vec![world.data(), world.device()],
            trace: Some(world.root.join("trace")),
            mark: Some(world.ledger()),
            skip_sync: syncs == Syncs::Skipped,
            ..Faults::default()
        };
        let output = world.worker(orders, Some(&faults)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let trace = Trace::read(&world.root.join("trace")).unwrap();
        Self { world, trace, _root: root }
    }

    /// The ledger as of record `upto`.
    fn ledger(&self, upto: usize) -> String {
        let marks = self.trace.marks().filter(|(index, _)| *index < upto);
        marks.map(|(_, line)| std::str::from_utf8(line).unwrap()).collect()
    }

    /// The world after the first `upto` records and a power cut.
    fn cut(&self, upto: usize, lost: Lost) -> (TempDir, World) {
        let root = tempfile::tempdir().unwrap();
        let world = World::new(root.path());
        let disk = Disk::default().after(&self.trace, upto, lost);
        disk.write_to(&self.world.root, &world.root).unwrap();
        fs::write(world.ledger(), self.ledger(upto)).unwrap();
        (root, world)
    }

    /// Looks for what was acknowledged before the cut.
    fn looked(&self, upto: usize, lost: Lost) -> Vec<String> {
        let (_root, world) = self.cut(upto, lost);
        let problems = checker::look(&world, &ledger::read(&self.ledger(upto)));
        at(upto, lost, problems)
    }

    /// Starts the proxy after the cut, with its keys and devices, and checks everything.
    fn checked(&self, upto: usize, lost: Lost) -> Vec<String> {
        let (_root, world) = self.cut(upto, lost);
        at(upto, lost, checker::check(&world))
    }

    /// Records after which a cut is worth trying: every sync, and every invoice that was told.
    fn cuts(&self) -> Vec<usize> {
        let told = self.trace.indices(
            |op| matches!(op, Op::Mark(line) if line.windows(7).any(|part| part == b"issued ")),
        );
        let mut cuts: Vec<_> = self.trace.syncs().chain(told).map(|index| index + 1).collect();
        cuts.sort_unstable();
        cuts
    }
}

fn at(upto: usize, lost: Lost, problems: Vec<String>) -> Vec<String> {
    problems.into_iter().map(|problem| format!("cut at {upto}, {lost:?}: {problem}")).collect()
}

/// Every n-th, so that about `CUTS` are left; all of them when asked for.
fn sample(cuts: &[usize]) -> impl Iterator<Item = usize> {
    let all = env::var("SKPROXY_CUTS").is_ok_and(|cuts| cuts == "all");
    let step = if all { 1 } else { cuts.len().div_ceil(CUTS).max(1) };
    cuts.iter().copied().step_by(step)
}

const LOADED: Orders = Orders { life: 7, tasks: 16, calls: 12, device_faults: 40 };

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut_at_any_sync() {
    let life = Life::lived(LOADED, Syncs::Kept);
    let cuts = life.cuts();
    assert!(cuts.len() > 100, "only {} cuts", cuts.len());
    let mut problems: Vec<_> = cuts.iter().flat_map(|&upto| life.looked(upto, Lost::All)).collect();
    for upto in sample(&cuts) {
        problems.extend(life.checked(upto, Lost::All));
        let seeds = u64::try_from(upto).unwrap() * SEEDED;
        problems.extend(
            (seeds..seeds + SEEDED).flat_map(|seed| life.checked(upto, Lost::Seeded(seed))),
        );
    }
    assert!(problems.is_empty(), "{} problems, such as {:#?}", problems.len(), problems.first());
}

#[test]
fn a_power_cut_finds_what_is_lost_when_syncs_do_nothing() {
    let life = Life::lived(LOADED, Syncs::Skipped);
    let cuts = life.cuts();
    let lost = cuts.iter().filter(|&&upto| !life.looked(upto, Lost::All).is_empty()).count();
    assert_eq!(lost, cuts.len(), "every cut after an answer loses something");
    assert!(lost > 0);
}

/// A life of one client: between two marks there is one invoice.
#[track_caller]
fn each_step_is_synced_before_the_next(life: &Life) {
    let data = life.world.data();
    let (log, mark) = (data.join(format!("{BOOKS}-wal")), data.join("watermark"));
    let device = life.world.device().join("ukey-1.device.jsonl");
    let mut sent = 0;
    let mut invoices = 0;
    for (index, line) in life.trace.marks() {
        match ledger::parse(std::str::from_utf8(line).unwrap()).1 {
            None => sent = index,
            Some(Answer::Issued(_)) => {
                let steps = commits(life, (&log, &mark), sent..index);
                // What the device says of its next number may be a third.
                assert!(steps.len() >= 2, "its claim and its end, at {sent}..{index}");
                let drawn = life.trace.records[sent..index].iter();
                let drawn = drawn.clone().position(|record| record.path == device);
                assert!(drawn.is_none_or(|drawn| sent + drawn > steps[0]), "drawn unsaved");
                invoices += 1;
            }
            Some(other) => assert_eq!(other, Answer::Doubt, "at {index}"),
        }
    }
    assert!(invoices > 10, "{invoices} invoices");
}

/// Where commits became durable: the log was written and synced, then the watermark, and nothing of
/// either is left unsynced at the end.
fn commits(
    life: &Life,
    (log, mark): (&PathBuf, &PathBuf),
    range: std::ops::Range<usize>,
) -> Vec<usize> {
    let mut done = Vec::new();
    let mut dirty: Vec<&PathBuf> = Vec::new();
    let mut log_synced = false;
    for index in range {
        let record = &life.trace.records[index];
        let Some(path) = [log, mark].into_iter().find(|path| **path == record.path) else {
            continue;
        };
        match record.op {
            Op::Write { .. } => {
                assert!(path == log || (log_synced && dirty.is_empty()), "watermark too early");
                dirty.push(path);
            }
            Op::Sync => {
                dirty.retain(|dirty| *dirty != path);
                if path == mark && log_synced {
                    done.push(index);
                }
                log_synced = path == log;
            }
            _ => {}
        }
    }
    assert_eq!(dirty, Vec::<&PathBuf>::new(), "something is not synced");
    done
}

#[test]
fn no_answer_comes_before_the_syncs_of_its_commits_and_watermarks() {
    let one = Orders { life: 9, tasks: 1, calls: 40, device_faults: 0 };
    each_step_is_synced_before_the_next(&Life::lived(one, Syncs::Kept));
}
