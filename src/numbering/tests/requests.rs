//! Callers that wait, repeat themselves or hang up, and operators who void.

use super::house::{D1, House, PATIENCE, number, ours, refused, request};
use crate::{
    model::ClaimId,
    numbering::{Assigned, Limits, Outcome},
    refusal::Reason,
    signer::ProxyNumbered as _,
    store::{Fate, durable_for_tests},
};
use std::future::Future as _;

fn issued(outcome: Outcome) -> bytes::Bytes {
    match outcome {
        Outcome::Issued(invoice) => invoice.bytes,
        other => panic!("{other:?} is not issued"),
    }
}

#[tokio::test]
async fn a_caller_is_told_what_is_durable_and_hears_the_same_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let gate = house.plug_gated();
    let Ok(Assigned::Wait(first)) = house.assign(ours("S1")).await else { panic!("a new claim") };
    gate.wait();
    assert_eq!(house.found("S1").unwrap().fate, Fate::Open, "saved before it is signed");
    let Ok(Assigned::Wait(twin)) = house.assign(ours("S1")).await else { panic!("the same claim") };
    let late = house.numbering.wait(ClaimId(1), PATIENCE).await.unwrap();
    gate.open();
    let bytes = issued(house.ticking(first.within(PATIENCE)).await.unwrap());
    assert_eq!(house.found("S1").unwrap().invoice(), Some(bytes.clone()), "saved before told");
    assert_eq!(issued(house.ticking(twin.within(PATIENCE)).await.unwrap()), bytes);
    let Assigned::Wait(late) = late else { panic!("it was open") };
    assert_eq!(issued(house.ticking(late.within(PATIENCE)).await.unwrap()), bytes);
    assert_eq!(issued(house.issue(ours("S1")).await.unwrap()), bytes);
    house.end();
    let house = House::start(dir.path(), Limits::default(), crate::clock::Clock::system()).unwrap();
    assert_eq!(issued(house.issue(ours("S1")).await.unwrap()), bytes);
    house.end();
}

#[tokio::test]
async fn whoever_hangs_up_before_its_turn_spends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    house.plug();
    let numbering = house.numbering.clone();
    let mut gone = Box::pin(numbering.assign(ours("GONE"), PATIENCE));
    house
        .in_one_batch(move |context| {
            assert!(gone.as_mut().poll(context).is_pending(), "it waits for its turn");
            drop(gone);
        })
        .await;
    assert_eq!(number(house.issue(ours("S1")).await), 1, "no number was spent");
    assert!(house.found("GONE").is_none());
    house.end();
}

#[tokio::test]
async fn a_claim_is_finished_after_its_caller_hung_up() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let gate = house.plug_gated();
    let wait = house.assign(ours("S1")).await.unwrap();
    gate.wait();
    drop(wait);
    gate.open();
    house.until("S1 is issued", || house.is_issued("S1")).await;
    house.end();
}

#[tokio::test]
async fn an_open_claim_is_finished_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    drop(house.plug_copying());
    for serial in ["S1", "S2", "S3"] {
        assert!(matches!(house.assign(ours(serial)).await, Ok(Assigned::Wait(_))));
    }
    house.end();
    let house = House::start(dir.path(), Limits::default(), crate::clock::Clock::system()).unwrap();
    house.plug();
    for (serial, expect) in [("S3", 3), ("S1", 1), ("S2", 2), ("S4", 4)] {
        assert_eq!(number(house.issue(ours(serial)).await), expect);
    }
    house.end();
}

#[tokio::test]
async fn a_waiting_claim_is_voided_with_its_number_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    refused(house.assign(ours("S0")).await, Reason::DeviceUnavailable);
    let copies = house.plug_copying();
    let Ok(Assigned::Wait(wait)) = house.assign(ours("S1")).await else { panic!("a new claim") };
    house.until("its attempt failed", || !copies.lock().unwrap().is_empty()).await;
    house.finisher.pool().remove_device(D1);
    let void = |claim| house.finisher.blank_void(ClaimId(claim), "misprint".into(), "t".into());
    refused(void(2).await, Reason::VoidNotAllowed);
    let voided = void(1).await.unwrap();
    assert_eq!(voided.number.map(|number| number.number), Some(1));
    let told = house.ticking(wait.within(PATIENCE)).await.unwrap();
    assert!(matches!(&told, Outcome::Voided(voided) if voided.reason == "misprint"), "{told:?}");
    refused(void(1).await, Reason::VoidNotAllowed);
    house.plug();
    assert_eq!(number(house.issue(ours("S2")).await), 2, "a voided number is not given out again");
    assert_eq!(house.issue(ours("S1")).await.unwrap(), told);
    house.end();
}

#[tokio::test]
async fn a_claim_that_is_being_signed_cannot_be_voided() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let gate = house.plug_gated();
    let Ok(Assigned::Wait(wait)) = house.assign(ours("S1")).await else { panic!("a new claim") };
    gate.wait();
    let void = house.finisher.blank_void(ClaimId(1), "misprint".into(), "t".into()).await;
    refused(void, Reason::VoidNotAllowed);
    gate.open();
    assert_eq!(number(house.ticking(wait.within(PATIENCE)).await), 1);
    house.end();
}

#[tokio::test]
async fn a_signature_that_comes_after_a_void_never_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let copies = house.plug_copying();
    assert!(matches!(house.assign(ours("S1")).await, Ok(Assigned::Wait(_))));
    let void = || house.finisher.blank_void(ClaimId(1), "misprint".into(), "t".into());
    house.until("the device saw it", || !copies.lock().unwrap().is_empty()).await;
    let voided = house
        .ticking(async {
            loop {
                match void().await {
                    Ok(voided) => return voided,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
    let late = durable_for_tests(copies.lock().unwrap().remove(0));
    let signed = super::house::signer().sign(&late).unwrap();
    let commits = house.numbering.counts().0;
    house.completions.signed(late, signed);
    house.until("the incident is saved", || house.numbering.counts().0 > commits).await;
    assert_eq!(house.found("S1").unwrap().fate, Fate::Voided(voided));
    let told = house.issue(ours("S1")).await.unwrap();
    assert!(matches!(told, Outcome::Voided(_)), "{told:?}");
    house.finisher.pool().remove_device(D1);
    house.end();
}

#[tokio::test]
async fn an_unused_serial_is_closed_for_ever_and_a_bound_one_never() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    house.plug();
    let resolve = |serial: &str| house.numbering.resolve(request(serial), PATIENCE);
    let Ok(Assigned::Done(closed @ Outcome::Closed { .. })) = resolve("NEVER").await else {
        panic!("it is closed")
    };
    assert!(matches!(resolve("NEVER").await, Ok(Assigned::Done(again)) if again == closed));
    refused(house.issue(ours("NEVER")).await, Reason::SerialClosed);
    assert_eq!(number(house.issue(ours("S1")).await), 1);
    assert!(matches!(resolve("S1").await, Ok(Assigned::Done(Outcome::Issued(_)))));
    house.end();
}
