//! Backups of a proxy at work: the ledger is the judge of what the copy must hold. And a disk that
//! is full of the copy alone.

use crate::{
    checker,
    full::Mounted,
    ledger::{self, Answer, Ledger},
    world::{BOUND, Live, World},
};
use skproxy::{
    numbering::BackupNews,
    refusal::Refusal,
    signer::RandomFaults,
    store::{
        backup::{BackedUp, Destination},
        embedded::Options,
        verify::{Subject, verify},
    },
};
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::task::JoinSet;

/// Clients at once.
const CLIENTS: usize = 4;

/// Issues until it is told to end.
async fn client(live: Arc<Live>, ledger: Arc<Ledger>, (name, end): (usize, Arc<AtomicBool>)) {
    for call in 0.. {
        if end.load(Ordering::Acquire) {
            return;
        }
        let serial = format!("S{name}c{call}");
        ledger.sent(&serial);
        let answer = live.issue(&serial).await;
        ledger.told(&serial, &answer);
        assert!(matches!(answer, Answer::Issued(_)), "{serial}: {answer:?}");
    }
}

async fn back_up(live: &Live, to: &Path) -> Result<BackedUp, Refusal> {
    let destination = Destination::prepare(to).unwrap();
    let mut news = live.core.numbering.back_up(destination).unwrap();
    let ended = async {
        loop {
            let told = news.recv().await.expect("an end is told")?;
            if let BackupNews::Copied(copied) = told {
                return Ok(copied.finish().unwrap());
            }
        }
    };
    // One that began again at each commit would never end.
    tokio::time::timeout(BOUND, ended).await.expect("a backup ends under load")
}

/// Lets the books grow, so that a copy takes many slices.
async fn bulk(live: &Live, size_mib: usize) {
    // Bit by bit: a slow disk must take each before its commit counts as stalled.
    for part in 0..size_mib {
        let put = live.core.numbering.change(move |round| {
            round.put_setting(format!("bulk-{part}"), vec![7; 1 << 20]);
            Ok(())
        });
        put.await.unwrap();
    }
}

async fn enter(world: &World) -> (Arc<Live>, Arc<Ledger>) {
    let live = world.enter(RandomFaults { seed: 0, per_mille: 0 }).await.unwrap();
    (Arc::new(live), Arc::new(Ledger::open(&world.ledger())))
}

/// Backs up in the midst of work; gives the ledger as it was when the backup began.
async fn work_and_back_up(world: &World, to: &Path) -> ledger::Known {
    let (live, ledger) = enter(world).await;
    bulk(&live, 32).await;
    let (mut clients, end) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    for at in 0..CLIENTS {
        let orders = (at, Arc::clone(&end));
        clients.spawn(client(Arc::clone(&live), Arc::clone(&ledger), orders));
    }
    let begun = live.core.numbering.counts().0;
    while live.core.numbering.counts().0 < begun + 100 {
        tokio::task::yield_now().await;
    }
    let before = ledger::read(&fs::read_to_string(world.ledger()).unwrap());
    let issuing = live.core.numbering.counts().0;
    let made = back_up(&live, to).await.unwrap();
    let now = live.core.numbering.counts().0;
    assert!(made.commits.0 > issuing, "nothing was committed while it was copied: {made:?}");
    assert!(made.commits.0 <= now, "{made:?} is ahead of the books, {now}");
    end.store(true, Ordering::Release);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    Arc::into_inner(live).unwrap().leave().await;
    before
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_backup_in_the_midst_of_work_holds_whatever_was_acknowledged_before_it() {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(root.path());
    let to = root.path().join("backup");
    let before = runtime().block_on(work_and_back_up(&world, &to));
    let findings = verify(&Options::in_dir(&to), Subject::Backup, &checker::signature).unwrap();
    assert_eq!(findings.problems, Vec::<String>::new());
    let lost = checker::look_in(&Options::in_dir(&to), &before);
    let (why, lost) = lost.split_first().expect("a backup is read-only");
    assert!(why.contains("the watermark is lost") && lost.is_empty(), "{why}, {lost:?}");
    assert_eq!(checker::check(&world), Vec::<String>::new());
}

#[test]
fn a_disk_that_is_full_of_the_copy_ends_the_backup_alone() {
    let root = tempfile::tempdir().unwrap();
    let world = World::new(root.path());
    let small = root.path().join("small");
    fs::create_dir(&small).unwrap();
    let Some(_mounted) = Mounted::at(small.clone()) else {
        println!("no right to mount a small file system: not tested here");
        return;
    };
    let to = small.join("copy");
    runtime().block_on(async {
        let (live, ledger) = enter(&world).await;
        bulk(&live, 8).await;
        let refused = back_up(&live, &to).await.unwrap_err();
        assert_eq!(refused.reason.name(), "BACKUP_FAILED", "{refused}");
        assert!(refused.hint.contains("is full"), "{refused}");
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "what was copied stays");
        ledger.sent("Sagain");
        let again = live.issue("Sagain").await;
        ledger.told("Sagain", &again);
        assert!(matches!(again, Answer::Issued(_)), "{again:?}");
        Arc::into_inner(live).unwrap().leave().await;
    });
    assert_eq!(checker::check(&world), Vec::<String>::new());
}
