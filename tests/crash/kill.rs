//! SIGKILL under load: many lives on a few directories, each ended after a seeded number of
//! answers.

use crate::{
    checker,
    worker::ACK,
    world::{Guarded, Orders, Random, World},
};
use std::{
    env,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

/// Directories, each with a history of its own; as many as run at once.
const DIRECTORIES: u64 = 4;
/// Lives altogether when `SKPROXY_KILLS` does not say otherwise.
const KILLS: u64 = 100;
/// Answers after which a life ends at the latest.
const ANSWERS: u64 = 60;

/// Runs one life and kills it after `answers` answers. Gives what it printed when it ended before.
fn live_and_die(world: &World, orders: Orders, answers: u64) -> Result<(), String> {
    let mut child = world.worker(orders, None);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut child = Guarded(child);
    let mut printed = String::new();
    let mut told = 0;
    for line in BufReader::new(child.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        told += u64::from(line.contains(ACK));
        if told >= answers {
            return Ok(());
        }
        printed.push_str(&line);
    }
    Err(format!("life {} ended by itself: {printed}", orders.life))
}

fn history(directory: u64, lives: u64) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(root.path());
    let mut random = Random(directory);
    for life in 0..lives {
        let life = life * DIRECTORIES + directory;
        let orders = Orders { life, tasks: 16, calls: 100_000, device_faults: 40 };
        let died = live_and_die(&world, orders, 1 + random.below(ANSWERS));
        let mut problems: Vec<_> = died.err().into_iter().collect();
        problems.extend(checker::check(&world));
        if !problems.is_empty() {
            problems.insert(0, format!("directory {directory}, life {life}"));
            return problems;
        }
    }
    Vec::new()
}

/// One process never spawns while it holds a world's lock: a child holds it too until it has become
/// another program. Hence no threads here; the runner gives each test a process of its own.
#[track_caller]
fn check(directories: std::ops::Range<u64>) {
    let kills = env::var("SKPROXY_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let lives = kills.div_ceil(DIRECTORIES);
    let problems: Vec<_> = directories.flat_map(|at| history(at, lives)).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_the_process_is_killed() {
    check(0..DIRECTORIES / 2);
}

#[test]
fn nor_is_anything_in_other_directories_with_other_seeds() {
    check(DIRECTORIES / 2..DIRECTORIES);
}
