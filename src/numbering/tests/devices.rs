//! Devices that draw their numbers: lost requests and answers, late and wrong ones, and requests
//! that wait for a busy device.

use super::house::{D2, House, PATIENCE, QUIESCENCE, drawn, number, refused, to};
use crate::{
    clock::{Clock, monotonic},
    model::{ClaimId, InvoiceNumber, Kind},
    numbering::{Assigned, Limits, Outcome},
    refusal::Reason,
    signer::Fault,
    store::Fate,
};
use std::{fs, future::Future as _, path::Path, task::Poll, time::Duration};

#[tokio::test]
async fn the_device_draws_numbers_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    refused(house.assign(drawn("S0")).await, Reason::DeviceUnavailable);
    house.plug_simulated(dir.path()).await;
    for (serial, expect) in [("S1", 50), ("S2", 51), ("S1", 50), ("S3", 52)] {
        assert_eq!(number(house.issue(drawn(serial)).await), expect);
    }
    assert_eq!(number(house.issue(to("S4", D2, Kind::ESpecial)).await), 500);
    house.end();
}

#[tokio::test]
async fn a_device_that_says_it_has_no_number_left_has_none_until_it_says_another() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    house.plug_simulated(dir.path()).await;
    assert_eq!(number(house.issue(drawn("S1")).await), 50);
    let says = |next: Option<InvoiceNumber>| {
        house.change(move |round| {
            let series = round.series_of(D2, Kind::ENormal).unwrap();
            round.device_next(series, next);
            round.unfreeze("t", ("D2", Kind::ENormal), "it was asked in the test").unwrap();
        })
    };
    let stored = house.change(|round| {
        let series = round.series_of(D2, Kind::ENormal).unwrap();
        round.series(series).unwrap().state.device_next.clone()
    });
    let next = stored.await.unwrap();
    says(None).await.unwrap();
    refused(house.assign(drawn("S2")).await, Reason::NoNumbers);
    says(next).await.unwrap();
    assert_eq!(number(house.issue(drawn("S2")).await), 51);
    house.end();
}

/// Waits until the device has issued one. The finisher is not driven, so nobody asks what became of
/// it.
fn wait_for_the_device(dir: &Path) {
    let begun = monotonic();
    while fs::read_to_string(dir.join("D2.device.jsonl")).unwrap().lines().count() < 2 {
        assert!(begun.elapsed() < PATIENCE, "the device has issued nothing");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_lost_answer_is_adopted_with_the_number_that_was_drawn() {
    for restart in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut house = House::fresh(dir.path(), Limits::default()).await;
        let faults = house.plug_simulated(dir.path()).await;
        faults.push(Fault::LoseAnswerAfterIssuing);
        if restart {
            assert!(matches!(
                house.numbering.assign(drawn("S1"), PATIENCE).await,
                Ok(Assigned::Wait(_))
            ));
            wait_for_the_device(dir.path());
            house.end();
            house = House::start(dir.path(), Limits::default(), Clock::system()).unwrap();
            house.plug_simulated(dir.path()).await;
        }
        assert_eq!(number(house.issue(drawn("S1")).await), 50);
        assert_eq!(number(house.issue(drawn("S2")).await), 51);
        assert_eq!(house.frozen(D2, Kind::ENormal).await, None);
        house.end();
    }
}

#[tokio::test]
async fn a_lost_request_is_released_after_the_quiescence_time_and_its_serial_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let faults = house.plug_simulated(dir.path()).await;
    faults.push(Fault::LoseRequest);
    let begun = monotonic();
    refused(house.issue(drawn("S1")).await, Reason::NotIssued);
    assert!(begun.elapsed() >= QUIESCENCE, "{:?}", begun.elapsed());
    assert_eq!(house.numbering.books().claim(ClaimId(1)).unwrap().fate, Fate::Released);
    assert!(house.found("S1").is_none());
    assert_eq!(number(house.issue(drawn("S1")).await), 50, "the same serial, sent again");
    house.end();
}

#[tokio::test]
async fn a_device_that_issues_late_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let faults = house.plug_simulated(dir.path()).await;
    faults.push(Fault::IssueLate(QUIESCENCE / 2));
    assert_eq!(number(house.issue(drawn("S1")).await), 50);
    assert_eq!(number(house.issue(drawn("S2")).await), 51);
    house.end();
}

/// The request of one kind waits behind a slow one of the other: the quiescence time runs from when
/// it was sent, not from when it was queued.
#[tokio::test]
async fn the_quiescence_time_begins_when_the_device_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let faults = house.plug_simulated(dir.path()).await;
    faults.push(Fault::Delay(QUIESCENCE * 2));
    faults.push(Fault::IssueLate(QUIESCENCE * 3 / 4));
    let slow = house.assign(to("S1", D2, Kind::ESpecial)).await.unwrap();
    assert_eq!(number(house.issue(drawn("S2")).await), 50);
    assert_eq!(number(house.issue(to("S1", D2, Kind::ESpecial)).await), 500);
    drop(slow);
    assert_eq!(house.frozen(D2, Kind::ENormal).await, None);
    house.end();
}

/// What a fault does to a claim, to the series and to the next request.
async fn check(fault: Fault, is_released: bool) {
    let name = format!("{fault:?}");
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let faults = house.plug_simulated(dir.path()).await;
    assert_eq!(number(house.issue(drawn("S1")).await), 50);
    faults.push(fault);
    let Ok(Assigned::Wait(wait)) = house.assign(drawn("S2")).await else { panic!("a new claim") };
    let begun = monotonic();
    let why = loop {
        match house.ticking(house.frozen(D2, Kind::ENormal)).await {
            Some(why) => break why,
            None => assert!(begun.elapsed() < PATIENCE, "{name}: the series is not frozen"),
        }
    };
    assert_eq!(house.is_issued("S2"), is_released, "{name}: {why}");
    refused(house.issue(drawn("S3")).await, Reason::SeriesFrozen);
    if !is_released {
        assert_eq!(house.found("S2").unwrap().fate, Fate::Open, "{name}: not denied either");
        let told = house.ticking(wait.within(Duration::from_millis(20))).await;
        assert_eq!(told.unwrap(), Outcome::in_doubt(), "{name}");
        // Asked again, the device tells the truth: the wish is refused and the claim ends.
        let void = house.finisher.blank_void(ClaimId(2), "no".into(), "t".into()).await;
        refused(void, Reason::VoidNotAllowed);
        assert!(house.is_issued("S2"), "{name}");
    }
    assert_eq!(number(house.issue(to("S4", D2, Kind::ESpecial)).await), 500, "{name}");
    house.end();
}

#[tokio::test]
async fn an_answer_that_does_not_match_freezes_the_series_and_is_not_released() {
    check(Fault::WrongSerial, false).await;
    check(Fault::WrongTotals, false).await;
    check(Fault::AnswerTwice, false).await;
}

#[tokio::test]
async fn a_device_that_issued_past_us_is_adopted_and_freezes_the_series() {
    check(Fault::IssuedByAnother, true).await;
    check(Fault::NumberOutOfSegment, true).await;
}

#[tokio::test]
async fn a_claim_that_the_device_holds_cannot_be_voided_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let faults = house.plug_simulated(dir.path()).await;
    faults.push(Fault::LoseAnswerAfterIssuing);
    let Ok(Assigned::Wait(wait)) = house.assign(drawn("S1")).await else { panic!("a new claim") };
    let void = house.finisher.blank_void(ClaimId(1), "no".into(), "t".into()).await;
    refused(void, Reason::VoidNotAllowed);
    assert_eq!(number(house.ticking(wait.within(PATIENCE)).await), 50);
    house.end();
}

/// The device issued under our serial, for another total, and stands by it.
#[tokio::test]
async fn a_claim_that_its_device_contradicts_for_good_is_voided_with_the_drawn_number() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    house.plug_lying(dir.path()).await;
    let Ok(Assigned::Wait(wait)) = house.assign(drawn("S1")).await else { panic!("a new claim") };
    let void = || house.finisher.blank_void(ClaimId(1), "misprint".into(), "t".into());
    let begun = monotonic();
    // Refused while the device is at it.
    let voided = loop {
        match house.ticking(void()).await {
            Ok(voided) => break voided,
            Err(why) => assert!(begun.elapsed() < PATIENCE, "{why}"),
        }
    };
    assert!(house.frozen(D2, Kind::ENormal).await.is_some());
    assert_eq!(voided.number.map(|number| number.number), Some(50));
    let told = house.ticking(wait.within(PATIENCE)).await.unwrap();
    assert!(matches!(&told, Outcome::Voided(voided) if voided.number.is_some()), "{told:?}");
    assert_eq!(house.issue(drawn("S1")).await.unwrap(), told, "for ever");
    refused(house.issue(drawn("S2")).await, Reason::SeriesFrozen);
    house.end();
}

#[tokio::test]
async fn what_a_device_drew_while_we_were_down_freezes_its_series() {
    for drew in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let house = House::fresh(dir.path(), Limits::default()).await;
        house.plug_simulated(dir.path()).await;
        assert_eq!(number(house.issue(drawn("S1")).await), 50);
        house.end();
        if drew {
            super::house::draw_behind_our_back(dir.path());
        }
        let house = House::start(dir.path(), Limits::default(), Clock::system()).unwrap();
        house.plug_simulated(dir.path()).await;
        if drew {
            let begun = monotonic();
            while house.ticking(house.frozen(D2, Kind::ENormal)).await.is_none() {
                assert!(begun.elapsed() < PATIENCE, "the series is not frozen");
            }
            refused(house.issue(drawn("S2")).await, Reason::SeriesFrozen);
        } else {
            assert_eq!(number(house.issue(drawn("S2")).await), 51);
        }
        assert_eq!(number(house.issue(to("S3", D2, Kind::ESpecial)).await), 500, "no other one");
        house.end();
    }
}

#[tokio::test]
async fn requests_for_a_busy_device_wait_in_order_and_are_dropped_with_their_callers() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::fresh(dir.path(), Limits::default()).await;
    let faults = house.plug_simulated(dir.path()).await;
    faults.push(Fault::LoseRequest);
    let numbering = house.numbering.clone();
    // The finisher is not driven until all others wait, so this claim cannot end before.
    let first = numbering.assign(drawn("S0"), PATIENCE).await;
    let Ok(Assigned::Wait(first)) = first else { panic!("a new claim") };
    let assign = |serial| Box::pin(numbering.assign(drawn(serial), PATIENCE));
    let mut waiting = ["S1", "GONE", "S2", "S3"].map(assign);
    std::future::poll_fn(|context| {
        let pending = waiting.iter_mut().all(|one| one.as_mut().poll(context).is_pending());
        assert!(pending, "the device is busy");
        Poll::Ready(())
    })
    .await;
    // A change that comes after them: they are parked when it is done.
    house.change(|_| ()).await.unwrap();
    let [s1, gone, s2, s3] = waiting;
    drop(gone);
    refused(house.ticking(first.within(PATIENCE)).await, Reason::NotIssued);
    for (waiting, expect) in [(s1, 50), (s2, 51), (s3, 52)] {
        let Ok(Assigned::Wait(wait)) = house.ticking(waiting).await else { panic!("claimed") };
        assert_eq!(number(house.ticking(wait.within(PATIENCE)).await), expect);
    }
    assert!(house.found("GONE").is_none());
    house.end();
}

#[tokio::test]
async fn a_busy_device_lets_no_more_requests_wait_than_claims_may_be_open() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { open_claims_max: 2, ..Limits::default() };
    let house = House::fresh(dir.path(), limits).await;
    let faults = house.plug_simulated(dir.path()).await;
    faults.push(Fault::LoseRequest);
    let numbering = house.numbering.clone();
    let first = numbering.assign(drawn("S0"), PATIENCE).await;
    assert!(matches!(first, Ok(Assigned::Wait(_))), "a new claim");
    let mut waiting =
        ["S1", "S2"].map(|serial| Box::pin(numbering.assign(drawn(serial), PATIENCE)));
    std::future::poll_fn(|context| {
        let pending = waiting.iter_mut().all(|one| one.as_mut().poll(context).is_pending());
        assert!(pending, "the device is busy");
        Poll::Ready(())
    })
    .await;
    let over = numbering.assign(drawn("S3"), PATIENCE).await;
    assert_eq!(over.unwrap_err().reason, Reason::SeriesBacklog);
    drop(waiting);
    house.end();
}
