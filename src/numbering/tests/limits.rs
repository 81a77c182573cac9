//! Backlogs, clocks and read-only stores.

use super::house::{D2, House, PATIENCE, draft, drawn, number, ours, refused, request};
use crate::{
    clock::Clock,
    model::{ClaimId, CstTime},
    numbering::{Assigned, Known, Limits, Outcome, StartError},
    refusal::Reason,
    store::Fate,
};
use std::time::Duration;

#[tokio::test]
async fn a_series_with_too_many_open_claims_takes_no_more_until_they_end() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { open_claims_max: 2, ..Limits::default() };
    let house = House::fresh(dir.path(), limits).await;
    drop(house.plug_copying());
    for serial in ["S1", "S2"] {
        assert!(matches!(house.assign(ours(serial)).await, Ok(Assigned::Wait(_))));
    }
    refused(house.assign(ours("S3")).await, Reason::SeriesBacklog);
    assert!(matches!(house.assign(ours("S1")).await, Ok(Assigned::Wait(_))), "a bound serial");
    house.plug();
    house.until("both are issued", || house.is_issued("S1") && house.is_issued("S2")).await;
    assert_eq!(number(house.issue(ours("S3")).await), 3, "the refused one spent nothing");
    house.end();
}

#[tokio::test]
async fn a_series_whose_oldest_open_claim_is_too_old_takes_no_more_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { oldest_open_max_s: 10, ..Limits::default() };
    let house = House::fresh(dir.path(), limits).await;
    drop(house.plug_copying());
    assert!(matches!(house.assign(ours("S1")).await, Ok(Assigned::Wait(_))));
    assert!(matches!(house.assign(ours("S2")).await, Ok(Assigned::Wait(_))));
    house.clock.shift(20);
    refused(house.assign(ours("S3")).await, Reason::SeriesBacklog);
    house.plug();
    house.until("both are issued", || house.is_issued("S1") && house.is_issued("S2")).await;
    assert_eq!(number(house.issue(ours("S3")).await), 3);
    house.end();
}

#[tokio::test]
async fn a_clock_that_jumped_stamps_nothing_until_it_is_back() {
    for jump in [3600, -3600] {
        let dir = tempfile::tempdir().unwrap();
        let house = House::fresh(dir.path(), Limits::default()).await;
        let gate = house.plug_gated();
        let Ok(Assigned::Wait(wait)) = house.assign(ours("S1")).await else { panic!("new") };
        gate.wait();
        house.clock.shift(jump);
        refused(house.assign(ours("S2")).await, Reason::ClockSkew);
        assert!(matches!(house.assign(ours("S1")).await, Ok(Assigned::Wait(_))), "a bound serial");
        gate.open();
        assert_eq!(number(house.ticking(wait.within(PATIENCE)).await), 1, "what is begun is ended");
        refused(house.assign(ours("S2")).await, Reason::ClockSkew);
        house.clock.shift(-jump);
        gate.open();
        assert_eq!(number(house.issue(ours("S2")).await), 2);
        house.end();
    }
}

#[tokio::test]
async fn a_start_refuses_a_clock_before_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    house.plug();
    assert_eq!(number(house.issue(ours("S1")).await), 1);
    house.end();
    let clock = Clock::system();
    clock.shift(-3600);
    let refused = House::start(dir.path(), Limits::default(), clock.clone()).map(drop).unwrap_err();
    assert!(matches!(refused, StartError::ClockBehind { .. }), "{refused}");
    clock.shift(3600);
    House::start(dir.path(), Limits::default(), clock).unwrap().end();
}

#[tokio::test]
async fn a_clock_that_leaves_its_authority_stamps_nothing_for_that_province() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    house.plug();
    let at = |seconds| CstTime::from_unix(house.clock.now().unix() + seconds).unwrap();
    for (seconds, is_right) in [(20, true), (60, false), (-60, false), (0, true)] {
        house.numbering.authority_time("44", at(seconds));
        house.numbering.authority_time("31", at(9999));
        match house.issue(ours(&format!("S{seconds}"))).await {
            Ok(_) => assert!(is_right, "{seconds}"),
            Err(refusal) => {
                assert_eq!((refusal.reason, is_right), (Reason::ClockSkew, false), "{seconds}");
            }
        }
    }
    assert_eq!(number(house.issue(ours("S9")).await), 3, "what was refused spent nothing");
    house.end();
}

/// The clock of a device that draws numbers stamps its own series; it must not close all others.
#[tokio::test]
async fn a_device_whose_clock_is_ahead_closes_no_series_but_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::fresh(dir.path(), Limits::default()).await;
    let ours_clock = std::mem::take(&mut house.clock);
    house.clock.shift(7200);
    house.plug_simulated(dir.path()).await;
    assert_eq!(number(house.issue(drawn("S1")).await), 50);
    house.clock = ours_clock;
    refused(house.issue(drawn("S2")).await, Reason::ClockSkew);
    house.plug();
    assert_eq!(number(house.issue(ours("S3")).await), 1);
    house.end();
    let house = House::start(dir.path(), Limits::default(), Clock::system()).unwrap();
    house.plug();
    assert_eq!(number(house.issue(ours("S4")).await), 2);
    house.finisher.pool().remove_device(D2);
    house.end();
}

#[tokio::test]
async fn a_read_only_store_refuses_everything_new_and_answers_what_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    house.plug();
    assert_eq!(number(house.issue(ours("S1")).await), 1);
    drop(house.plug_copying());
    assert!(matches!(house.assign(ours("S2")).await, Ok(Assigned::Wait(_))));
    house.end();
    std::fs::remove_file(dir.path().join("watermark")).unwrap();

    let house = House::start(dir.path(), Limits::default(), Clock::system()).unwrap();
    house.plug();
    assert!(house.numbering.stalled().is_some_and(|why| why.contains("read-only")));
    for serial in ["S1", "S2", "S3"] {
        refused(house.assign(ours(serial)).await, Reason::StoreReadOnly);
    }
    let resolved = house.numbering.resolve(request("S3"), PATIENCE).await;
    refused(resolved, Reason::StoreReadOnly);
    refused(house.change(|round| round.put_setting("test", vec![1])).await, Reason::StoreReadOnly);
    let completed = house.numbering.complete(|round| Ok(round.freeze_batch("44", 9))).await;
    refused(completed, Reason::StoreReadOnly);

    let known = |serial| house.numbering.look_up(&request(serial), &draft(serial)).unwrap();
    assert!(matches!(known("S1"), Some(Known::Done(Outcome::Issued(_)))));
    assert!(matches!(known("S2"), Some(Known::Open(ClaimId(2)))));
    assert!(known("S3").is_none());
    let Ok(Assigned::Wait(wait)) = house.numbering.wait(ClaimId(2), PATIENCE).await else {
        panic!("it is open")
    };
    let told = house.ticking(wait.within(Duration::from_millis(50))).await;
    assert_eq!(told.unwrap(), Outcome::in_doubt());
    assert_eq!(house.found("S2").unwrap().fate, Fate::Open, "nothing is signed");
    house.end();
}
