//! A disk that is really full: a small file system of its own. Without the right to mount one, the
//! injected full disk of `fault` is all there is, and the test says so.

use crate::{
    checker,
    ledger::{Answer, Ledger},
    world::{Live, World},
};
use skproxy::signer::RandomFaults;
use std::{fs, path::PathBuf, process::Command, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// Clients at once.
const CLIENTS: usize = 8;

/// A small file system, unmounted when dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn at(path: PathBuf) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&path);
        mount.output().is_ok_and(|done| done.status.success()).then_some(Self(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, so that a failed test leaves none behind.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// Issues until it hears that the disk is full.
async fn client(live: Arc<Live>, ledger: Arc<Ledger>, client: usize) {
    for call in 0..5000 {
        let device = if client % 4 == 3 { 'D' } else { 'S' };
        let serial = format!("{device}f{client}c{call}");
        ledger.sent(&serial);
        let answer = live.issue(&serial).await;
        ledger.told(&serial, &answer);
        match answer {
            Answer::Issued(_) => {}
            Answer::Refused(reason) if reason == "DEVICE_UNAVAILABLE" => {}
            Answer::Refused(reason) if reason == "STORE_FULL" => return,
            other => panic!("{serial}: {other:?}"),
        }
    }
    panic!("four megabytes are never full");
}

async fn fill_and_make_space(world: &World) {
    let ballast = world.data().join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let live = world.enter(RandomFaults { seed: 0, per_mille: 0 }).await.unwrap();
    let (live, ledger) = (Arc::new(live), Arc::new(Ledger::open(&world.ledger())));
    let mut clients = JoinSet::new();
    for at in 0..CLIENTS {
        clients.spawn(client(Arc::clone(&live), Arc::clone(&ledger), at));
    }
    // All may hold a claim whose signature waits for space, and then nobody asks for anything new:
    // more clients come until one is refused.
    let mut more = tokio::time::interval(Duration::from_millis(100));
    let mut next = CLIENTS;
    loop {
        tokio::select! {
            ended = clients.join_next() => {
                ended.expect("there are clients").unwrap();
                break;
            }
            _ = more.tick() => {
                clients.spawn(client(Arc::clone(&live), Arc::clone(&ledger), next));
                next += 1;
            }
        }
    }
    let commits = live.core.numbering.counts().0;
    assert!(commits > 20, "{commits} commits fit");
    // Whoever has a claim waits for space, and gets its invoice once there is some.
    fs::remove_file(ballast).unwrap();
    clients.abort_all();
    while let Some(ended) = clients.join_next().await {
        assert!(ended.is_ok() || ended.unwrap_err().is_cancelled());
    }
    live.settle().await.unwrap();
    ledger.sent("Sagain");
    let again = live.issue("Sagain").await;
    assert!(matches!(again, Answer::Issued(_)), "{again:?}");
    ledger.told("Sagain", &again);
    Arc::into_inner(live).unwrap().leave().await;
}

#[test]
fn a_really_full_disk_refuses_new_work_and_finishes_what_was_begun_once_there_is_space() {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(root.path());
    let Some(_mounted) = Mounted::at(world.data()) else {
        println!("no right to mount a small file system: not tested here");
        return;
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(fill_and_make_space(&world));
    assert_eq!(checker::check(&world), Vec::<String>::new());
}
