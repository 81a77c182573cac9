//! Two-dimensional codes that contradict their invoices, from devices that draw numbers and from
//! those that sign ours.

use super::house::{D1, D2, House, PATIENCE, drawn, number, ours, refused, register};
use crate::{
    clock::{Clock, monotonic},
    contract::Profiles,
    model::{ClaimId, DeviceNo, Kind},
    numbering::{Assigned, Limits, Outcome},
    refusal::Reason,
    signer::Fault,
};
use std::{path::Path, time::Duration};

/// The default profile, with its last table, `[severity]`, one line longer.
fn profiles(severity: &str) -> Profiles {
    let default = include_str!("../../../deploy/profiles/baiwang.toml");
    let text = format!("{default}\nQR_INVALID = \"{severity}\"\n");
    Profiles::with_files([("test.toml", text.as_str())]).unwrap()
}

async fn house(dir: &Path, severity: &str) -> House {
    let parts = (Limits::default(), profiles(severity));
    let house = House::start_under(dir, parts, Clock::system()).unwrap();
    house.change(register).await.unwrap();
    house
}

/// Waits until the series is frozen; says why.
async fn frozen(house: &House, device: DeviceNo) -> String {
    let begun = monotonic();
    loop {
        match house.ticking(house.frozen(device, Kind::ENormal)).await {
            Some(why) => return why,
            None => assert!(begun.elapsed() < PATIENCE, "the series is not frozen"),
        }
    }
}

#[tokio::test]
async fn a_code_that_contradicts_its_invoice_is_adopted_where_the_profile_only_notes_it() {
    for severity in ["warn", "shadow", "off"] {
        let dir = tempfile::tempdir().unwrap();
        let house = house(dir.path(), severity).await;
        house.plug_miscoding();
        let faults = house.plug_simulated(dir.path()).await;
        faults.push(Fault::WrongQr);
        assert_eq!(number(house.issue(drawn("S1")).await), 50, "{severity}");
        assert_eq!(number(house.issue(ours("S2")).await), 1, "{severity}");
        assert_eq!(house.frozen(D2, Kind::ENormal).await, None, "{severity}");
        assert_eq!(house.frozen(D1, Kind::ENormal).await, None, "{severity}");
        house.end();
    }
}

#[tokio::test]
async fn a_code_that_contradicts_its_invoice_freezes_the_series_where_the_profile_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(dir.path(), "refuse").await;
    let faults = house.plug_simulated(dir.path()).await;
    assert_eq!(number(house.issue(drawn("S1")).await), 50, "a right code passes");
    faults.push(Fault::WrongQr);
    let Ok(Assigned::Wait(wait)) = house.assign(drawn("S2")).await else { panic!("a new claim") };
    let why = frozen(&house, D2).await;
    for part in [Reason::SignerAnswerInvalid, Reason::QrInvalid] {
        assert!(why.contains(part.name()), "{why}");
    }
    assert!(why.contains("its CRC is wrong"), "{why}");
    assert!(!house.is_issued("S2"), "nothing of the answer is released");
    let told = house.ticking(wait.within(Duration::from_millis(20))).await;
    assert_eq!(told.unwrap(), Outcome::in_doubt());
    refused(house.issue(drawn("S3")).await, Reason::SeriesFrozen);
    // Asked again, the device answers with the right code: the claim ends as the invoice it is.
    let void = house.finisher.blank_void(ClaimId(2), "no".into(), "t".into()).await;
    refused(void, Reason::VoidNotAllowed);
    assert_eq!(number(house.issue(drawn("S2")).await), 51);
    house.end();
}

#[tokio::test]
async fn a_signature_with_a_code_that_is_refused_is_not_saved_and_made_again_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let one = house(dir.path(), "refuse").await;
    one.plug_miscoding();
    let made = one.assign(ours("S1")).await;
    assert!(matches!(made, Ok(Assigned::Wait(_))), "a new claim");
    let why = frozen(&one, D1).await;
    assert!(why.contains(Reason::SignerAnswerInvalid.name()), "{why}");
    assert!(why.contains("its type is not the kind's") || why.contains("its CRC"), "{why}");
    assert!(!one.is_issued("S1"));
    one.end();
    let parts = (Limits::default(), profiles("refuse"));
    let again = House::start_under(dir.path(), parts, Clock::system()).unwrap();
    again.plug();
    assert_eq!(number(again.issue(ours("S1")).await), 1);
    again.end();
}
