//! Backups beside issuing.

use super::house::{House, PATIENCE, ours, request};
use crate::{
    numbering::{BackupNews, Limits, Round},
    refusal::{Reason, Refusal},
    store::{
        backup::{BackedUp, Destination},
        embedded::{self, Options},
        verify::{Subject, verify},
    },
};
use std::{fs, path::Path};
use tokio::sync::mpsc::Receiver;

type News = Receiver<Result<BackupNews, Refusal>>;

/// A house whose books take several slices.
async fn long_house(dir: &Path) -> House {
    let house = House::fresh(dir, Limits::default()).await;
    house.plug();
    // Bit by bit: a slow disk must take each before its commit counts as stalled.
    for part in 0..16 {
        let put = move |round: &mut Round<'_>| {
            round.put_setting(format!("bulk-{part}"), vec![1; 1 << 20]);
        };
        house.change(put).await.unwrap();
    }
    house
}

/// How far the next news say it is; none when they are the last.
async fn copying(news: &mut News) -> Option<Result<BackedUp, Refusal>> {
    let told = tokio::time::timeout(PATIENCE, news.recv()).await.expect("news in time");
    match told.expect("the last of the news is an end") {
        Ok(BackupNews::Copying(_)) => None,
        Ok(BackupNews::Copied(copied)) => Some(Ok(copied.finish().unwrap())),
        Err(refusal) => Some(Err(refusal)),
    }
}

fn destination(to: &Path) -> Destination {
    Destination::prepare(to).unwrap()
}

#[tokio::test]
async fn a_backup_made_while_invoices_are_issued_holds_what_was_issued_before_it() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let house = long_house(dir.path()).await;
    for serial in ["A1", "A2", "A3"] {
        house.issue(ours(serial)).await.unwrap();
    }
    let mut news = house.numbering.back_up(destination(to.path())).unwrap();
    let (mut meanwhile, mut ended) = (0, None);
    while ended.is_none() {
        house.issue(ours(&format!("B{meanwhile}"))).await.unwrap();
        meanwhile += 1;
        ended = copying(&mut news).await;
    }
    let made = ended.unwrap().unwrap();
    assert!(meanwhile > 1, "nothing was issued while it was copied");
    house.issue(ours("C1")).await.unwrap();
    let after = house.numbering.counts().0;
    assert!(made.commits.0 < after, "{made:?} holds commits from after its end: {after}");
    house.end();
    let options = Options::in_dir(to.path());
    let findings = verify(&options, Subject::Backup, &|_, _, _| Ok(())).unwrap();
    assert_eq!(findings.problems, Vec::<String>::new());
    assert_eq!(findings.commits, made.commits.0);
    let copy = embedded::open(&options).unwrap().books;
    for serial in ["A1", "A2", "A3"] {
        let (_, found) = copy.find(&request(serial)).unwrap().unwrap();
        assert!(found.unwrap().invoice().is_some(), "{serial} is not in the backup");
    }
    assert!(copy.find(&request("C1")).unwrap().is_none(), "C1 came after it");
}

#[tokio::test]
async fn there_is_one_backup_at_a_time() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let house = long_house(dir.path()).await;
    let (one, two) = (to.path().join("one"), to.path().join("two"));
    let mut first = None;
    house
        .in_one_batch(|_| {
            first = Some(house.numbering.back_up(destination(&one)).unwrap());
            let second = house.numbering.back_up(destination(&two)).map(drop).unwrap_err();
            assert_eq!(second.reason, Reason::AlreadyExists, "{second}");
        })
        .await;
    let mut first = first.unwrap();
    while copying(&mut first).await.is_none() {}
    // The actor frees its place a moment after it has told the end.
    let mut second = house.numbering.back_up(destination(&two));
    while let Err(refusal) = second {
        assert_eq!(refusal.reason, Reason::AlreadyExists, "{refusal}");
        house.change(|_| ()).await.unwrap();
        second = house.numbering.back_up(destination(&two));
    }
    let mut second = second.unwrap();
    while copying(&mut second).await.is_none() {}
    house.end();
}

#[tokio::test]
async fn whoever_hangs_up_ends_its_backup_and_a_stop_ends_every_one() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let house = long_house(dir.path()).await;
    let one = to.path().join("one");
    drop(house.numbering.back_up(destination(&one)).unwrap());
    let left = || fs::read_dir(&one).unwrap().count();
    house.until("the copy that nobody wants is gone", || left() == 0).await;
    house.issue(ours("A1")).await.unwrap();
    let mut news = house.numbering.back_up(destination(&one)).unwrap();
    let numbering = house.numbering.clone();
    house.end();
    let mut last = None;
    while let Some(told) = news.recv().await {
        last = Some(told);
    }
    // Which of the two comes first is the thread's choice.
    match last {
        None | Some(Ok(BackupNews::Copied(_))) => {}
        Some(Err(refusal)) => assert_eq!(refusal.reason, Reason::Draining, "{refusal}"),
        Some(Ok(BackupNews::Copying(_))) => panic!("the end was not told"),
    }
    drop(news);
    assert_eq!(left(), 0, "a copy that is not whole stays");
    let late = numbering.back_up(destination(&one)).map(drop).unwrap_err();
    assert_eq!(late.reason, Reason::Draining, "{late}");
}
