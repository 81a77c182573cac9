//! The simulated device: what it issues, what it remembers, and that each fault does what its name
//! says.

use super::*;
use crate::{
    clock::Clock,
    model::{DeviceSerial, InvoiceNumber, Kind},
    pb::v1 as pb,
    signer::{
        DeviceAnswer, DeviceNumbered as _, Signed, SignerError, fixtures, verify_independently,
    },
    store::{Assignment, Claim},
};
use prost::Message as _;
use std::{fs, path::Path, time::Duration};

fn config(directory: &Path) -> SimulatedConfig {
    let segment =
        |first, last| Segment { kind: Kind::ENormal, code: fixtures::CODE.into(), first, last };
    SimulatedConfig {
        directory: directory.to_owned(),
        device_id: "ukey-1".into(),
        machine_number: "016000000001".into(),
        segments: vec![segment(11, 12), segment(50, 51)],
        quiescence: Duration::from_secs(5),
        clock: Clock::system(),
    }
}

fn open(directory: &Path) -> (SimulatedDevice, Faults) {
    let faults = Faults::default();
    (SimulatedDevice::open(config(directory), faults.clone()).unwrap(), faults)
}

fn number(number: u32) -> Option<InvoiceNumber> {
    Some(InvoiceNumber { code: fixtures::CODE.into(), number })
}

fn serial(claim: &Claim) -> DeviceSerial {
    match &claim.assignment {
        Assignment::ByDevice { device_serial, .. } => device_serial.clone(),
        Assignment::Numbered { .. } => panic!("not a device's claim"),
    }
}

fn query(device: &mut SimulatedDevice, claim: &Claim) -> Option<DeviceAnswer> {
    device.query(claim.kind, &serial(claim)).unwrap()
}

#[test]
fn it_draws_its_segments_in_order_and_then_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let (mut device, _) = open(directory.path());
    for (nth, drawn, next) in
        [(1, 11, number(12)), (2, 12, number(50)), (3, 50, number(51)), (4, 51, None)]
    {
        let answer = device.issue(&fixtures::by_device(1, nth)).unwrap();
        assert_eq!(answer.number.number, drawn);
        assert_eq!(answer.next, next);
        assert_eq!(device.next_number(Kind::ENormal).unwrap(), next);
    }
    let error = device.issue(&fixtures::by_device(1, 5)).unwrap_err();
    assert!(matches!(error, SignerError::Refused { .. }), "{error}");
    assert_eq!(device.next_number(Kind::ESpecial).unwrap(), None);
    let error = device.issue(&fixtures::numbered(1, 6)).unwrap_err();
    assert!(matches!(error, SignerError::Refused { .. }), "{error}");
}

#[test]
fn its_answer_matches_the_claim_and_its_signature_covers_head_and_tail() {
    let directory = tempfile::tempdir().unwrap();
    let (mut device, _) = open(directory.path());
    let claim = fixtures::by_device(1, 1);
    let answer = device.issue(&claim).unwrap();
    let buyer = claim.head.draft().unwrap().buyer.unwrap();
    assert_eq!(answer.device_serial, serial(&claim));
    assert_eq!((answer.kind, answer.totals), (claim.kind, claim.totals));
    assert_eq!((answer.buyer_taxpayer_id, answer.buyer_name), (buyer.taxpayer_id, buyer.name));
    assert!(answer.signed.cipher_text.starts_with("00"));
    let tail = pb::Invoice {
        code: answer.number.code.clone(),
        number: answer.number.number_text(),
        issue_time: answer.issue_time.rfc3339(),
        device_id: "ukey-1".into(),
        machine_number: "016000000001".into(),
        record_version: 1,
        ..pb::Invoice::default()
    };
    let record = [&claim.head.0[..], &tail.encode_to_vec()].concat();
    let Signed { algorithm, signature, .. } = answer.signed;
    assert!(verify_independently(algorithm, device.public_key(), &record, &signature));
}

/// What a power cut leaves of a line that was not synced: its beginning, or its end behind sectors
/// that were never written.
#[test]
fn what_it_issued_survives_the_proxy_and_a_torn_last_line() {
    let tears: [fn(&mut Vec<u8>); 2] = [|line| line.truncate(900), |line| line[..512].fill(0)];
    for tear in tears {
        let directory = tempfile::tempdir().unwrap();
        let claims = [1, 2].map(|nth| fixtures::by_device(1, nth));
        let (mut device, _) = open(directory.path());
        let before = claims.each_ref().map(|claim| device.issue(claim).unwrap());
        let key = device.public_key().to_vec();
        drop(device);
        let path = directory.path().join("ukey-1.device.jsonl");
        let mut torn =
            format!("{{\"Issued\":{{\"serial\":\"{}\"}}}}\n", "0".repeat(5000)).into_bytes();
        tear(&mut torn);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &torn[..]].concat()).unwrap();
        let (mut device, _) = open(directory.path());
        assert_eq!(fs::read(&path).unwrap(), whole);
        assert_eq!(device.public_key(), key);
        let after = claims.each_ref().map(|claim| query(&mut device, claim).unwrap());
        assert_eq!(after[1], before[1]);
        assert_eq!(after[0].signed, before[0].signed);
        assert_eq!(device.issue(&claims[0]).unwrap().number, before[0].number, "no second number");
        assert_eq!(device.issue(&fixtures::by_device(1, 3)).unwrap().number.number, 50);
        drop(device);
        let (mut device, _) = open(directory.path());
        assert_eq!(device.next_number(Kind::ENormal).unwrap(), number(51));
    }
}

#[test]
fn it_is_open_once_and_not_with_a_damaged_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (device, _) = open(directory.path());
    assert!(SimulatedDevice::open(config(directory.path()), Faults::default()).is_err());
    drop(device);
    let path = directory.path().join("ukey-1.device.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] = b'!';
    fs::write(&path, [&bytes[..], &bytes[..]].concat()).unwrap();
    assert!(SimulatedDevice::open(config(directory.path()), Faults::default()).is_err());
    for device_id in ["", "../ukey-1", "a.b"] {
        let config = SimulatedConfig { device_id: device_id.into(), ..config(directory.path()) };
        assert!(SimulatedDevice::open(config, Faults::default()).is_err(), "{device_id}");
    }
}

/// What a request meets with a fault: the answer's kind, whether a query then finds it, what is
/// next.
#[track_caller]
fn check(fault: Fault, expect: &str) {
    let directory = tempfile::tempdir().unwrap();
    let (mut device, faults) = open(directory.path());
    let first = device.issue(&fixtures::by_device(1, 1)).unwrap();
    faults.push(fault.clone());
    let claim = fixtures::by_device(1, 2);
    let result = match device.issue(&claim) {
        Ok(answer) if answer.device_serial == first.device_serial => "first again",
        Ok(answer) if answer.device_serial != serial(&claim) => "other serial",
        Ok(answer) if answer.totals != claim.totals => "other totals",
        Ok(answer) if answer.number.number > 51 => "outside",
        Ok(answer) if answer.number.number != 12 => "later number",
        Ok(_) => "right",
        Err(SignerError::InDoubt { .. }) => "in doubt",
        Err(SignerError::Refused { .. }) => "refused",
        Err(SignerError::Unavailable { .. }) => "unavailable",
        Err(error) => panic!("{error}"),
    };
    let found = if query(&mut device, &claim).is_some() { "found" } else { "not found" };
    let next = device.next_number(Kind::ENormal).unwrap().unwrap().number;
    assert_eq!(format!("{result}, {found}, next {next}"), expect, "{fault:?}");
}

#[test]
fn each_fault_does_what_its_name_says() {
    check(Fault::LoseRequest, "in doubt, not found, next 12");
    check(Fault::LoseAnswerAfterIssuing, "in doubt, found, next 50");
    check(Fault::IssueLate(Duration::from_secs(3600)), "in doubt, not found, next 12");
    check(Fault::IssueLate(Duration::ZERO), "in doubt, found, next 50");
    check(Fault::Delay(Duration::from_millis(1)), "right, found, next 50");
    check(Fault::Refuse, "refused, not found, next 12");
    check(Fault::WrongSerial, "other serial, found, next 50");
    check(Fault::WrongTotals, "other totals, found, next 50");
    check(Fault::NumberOutOfSegment, "outside, found, next 12");
    check(Fault::AnswerTwice, "first again, found, next 50");
    check(Fault::IssuedByAnother, "later number, found, next 51");
}

#[test]
fn a_disconnected_device_hears_nothing_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (mut device, faults) = open(directory.path());
    let claim = fixtures::by_device(1, 1);
    faults.disconnect();
    let error = device.issue(&claim).unwrap_err();
    assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");
    assert!(device.query(claim.kind, &serial(&claim)).is_err());
    assert!(device.next_number(claim.kind).is_err());
    faults.reconnect();
    assert_eq!(query(&mut device, &claim), None);
    assert_eq!(device.next_number(claim.kind).unwrap(), number(11));
}

#[test]
fn a_seed_gives_the_same_faults_and_about_as_many_as_asked_for() {
    let run = |seed| {
        let faults = Faults::at_random(RandomFaults { seed, per_mille: 100 });
        (0..2000).map(|_| faults.next()).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    let count = run(7).iter().flatten().count();
    assert!((120..=280).contains(&count), "{count} of 2000");
    let faults = Faults::at_random(RandomFaults { seed: 7, per_mille: 0 });
    faults.push(Fault::Refuse);
    assert_eq!((faults.next(), faults.next()), (Some(Fault::Refuse), None));
}
