//! Full disks: nothing new is begun, and nothing that was begun is lost or denied.

use super::house::{House, PATIENCE, number, ours, refused, request};
use crate::{
    clock::Clock,
    numbering::{Assigned, Limits, Outcome},
    refusal::Reason,
    store::Fate,
};
use std::{future::Future as _, sync::atomic::Ordering};

#[tokio::test]
async fn a_full_disk_refuses_what_is_new_and_finishes_what_was_begun_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let gate = house.plug_gated();
    let Ok(Assigned::Wait(wait)) = house.assign(ours("S1")).await else { panic!("a new claim") };
    gate.wait();
    house.disk.full.store(true, Ordering::SeqCst);
    refused(house.assign(ours("S2")).await, Reason::StoreFull);
    gate.open(); // its signature cannot be saved yet
    refused(house.assign(ours("S2")).await, Reason::StoreFull);
    refused(house.change(|round| round.put_setting("test", vec![1])).await, Reason::StoreFull);
    refused(house.numbering.resolve(request("S2"), PATIENCE).await, Reason::StoreFull);
    assert_eq!(house.found("S1").unwrap().fate, Fate::Open);
    assert!(house.found("S2").is_none());
    house.disk.full.store(false, Ordering::SeqCst);
    assert_eq!(number(house.ticking(wait.within(PATIENCE)).await), 1);
    gate.open();
    assert_eq!(number(house.issue(ours("S2")).await), 2, "the refusals spent nothing");
    house.end();
}

/// Whoever asks for a bound serial in a batch that fails must not hear that nothing was spent.
#[tokio::test]
async fn a_full_disk_does_not_deny_a_claim_that_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let gate = house.plug_gated();
    assert!(matches!(house.assign(ours("S1")).await, Ok(Assigned::Wait(_))));
    gate.wait();
    house.disk.full.store(true, Ordering::SeqCst);
    let numbering = house.numbering.clone();
    let mut twin = Box::pin(numbering.assign(ours("S1"), PATIENCE));
    let mut resolved = Box::pin(numbering.resolve(request("S1"), PATIENCE));
    let mut new = Box::pin(numbering.assign(ours("S2"), PATIENCE));
    house
        .in_one_batch(|context| {
            assert!(twin.as_mut().poll(context).is_pending());
            assert!(resolved.as_mut().poll(context).is_pending());
            assert!(new.as_mut().poll(context).is_pending());
        })
        .await;
    let (twin, resolved, new) = tokio::join!(twin, resolved, new);
    refused(new, Reason::StoreFull);
    assert!(matches!(twin, Ok(Assigned::Wait(_))), "{twin:?}");
    assert!(matches!(resolved, Ok(Assigned::Wait(_))), "{resolved:?}");
    house.disk.full.store(false, Ordering::SeqCst);
    gate.open();
    house.until("S1 is issued", || house.is_issued("S1")).await;
    house.end();
}

#[tokio::test]
async fn below_the_reserve_nothing_new_is_begun_and_a_bound_serial_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let gate = house.plug_gated();
    let Ok(Assigned::Wait(wait)) = house.assign(ours("S1")).await else { panic!("a new claim") };
    gate.wait();
    house.disk.scarce.store(true, Ordering::SeqCst);
    refused(house.assign(ours("S2")).await, Reason::StoreFull);
    assert!(matches!(house.assign(ours("S1")).await, Ok(Assigned::Wait(_))));
    gate.open();
    assert_eq!(number(house.ticking(wait.within(PATIENCE)).await), 1);
    assert!(matches!(house.assign(ours("S1")).await, Ok(Assigned::Done(Outcome::Issued(_)))));
    refused(house.assign(ours("S2")).await, Reason::StoreFull);
    house.disk.scarce.store(false, Ordering::SeqCst);
    gate.open();
    assert_eq!(number(house.issue(ours("S2")).await), 2);
    house.end();
}

#[tokio::test]
async fn a_proxy_with_a_full_disk_can_be_stopped_and_finishes_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let gate = house.plug_gated();
    assert!(matches!(house.assign(ours("S1")).await, Ok(Assigned::Wait(_))));
    gate.wait();
    house.disk.full.store(true, Ordering::SeqCst);
    gate.open();
    let (ended, is_ended) = std::sync::mpsc::sync_channel(1);
    let ending = std::thread::spawn(move || {
        house.end();
        ended.send(()).unwrap();
    });
    is_ended.recv_timeout(PATIENCE).expect("it ends");
    ending.join().unwrap();
    let house = House::start(dir.path(), Limits::default(), Clock::system()).unwrap();
    house.plug();
    assert_eq!(number(house.issue(ours("S1")).await), 1);
    house.end();
}
