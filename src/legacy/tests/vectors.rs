//! The files of tests/vectors/legacy and tests/vectors/fuzz/legacy_*: the golden messages as a set,
//! and what the fuzzer found. The name of a found one begins with what becomes of it.

use super::*;
use crate::{
    contract::{
        self, Profiles, Target,
        sample::{SELLER, Seller},
    },
    legacy::{Answer, Content},
    model::{CstTime, DeviceNo, Kind, PlatformNo, TaxpayerNo},
    registry::{BackendKind, Device, Taxpayer},
};
use std::{fs, path::PathBuf};

fn files(directory: &str) -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(directory);
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    };
    fs::read_dir(directory).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// A seller's taxpayer and a device of every kind.
pub(super) fn house(seller: Seller<'_>) -> (Taxpayer, Device) {
    let (id, name) = (seller.taxpayer_id.to_owned(), seller.name.to_owned());
    let province = "44".to_owned();
    let forbidden = crate::registry::Forbidden::default();
    let taxpayer = Taxpayer { no: TaxpayerNo(1), id, name, province, forbidden };
    let device = Device {
        no: DeviceNo(1),
        id: "D".to_owned(),
        taxpayer: TaxpayerNo(1),
        machine_number: "000000000001".to_owned(),
        backend: BackendKind::SoftwareP256,
        kinds: Kind::ALL.into(),
        profile: String::new(),
        enabled: true,
        test: true,
        public_key: Vec::new(),
        connection: None,
    };
    (taxpayer, device)
}

fn decoded(bytes: &[u8], is_envelope: bool) -> Result<Call, Fault> {
    if !is_envelope {
        return decode_business(bytes);
    }
    let opened = decode_interface(bytes)?;
    let (Content::Plain(body) | Content::Cms(body)) = opened.content.clone();
    opened.read(&body)
}

#[test]
fn every_found_message_ends_in_its_own_reason_and_is_answered() {
    for (directory, is_envelope) in
        [("fuzz/legacy_business", false), ("fuzz/legacy_interface", true)]
    {
        for (name, bytes) in files(directory) {
            let expect = name.split_once(['-', '.']).unwrap().0;
            let (end, reply, answer) = match decoded(&bytes, is_envelope) {
                Ok(call) => ("ok".to_owned(), call.reply, Answer::InDoubt),
                Err(fault) => {
                    let reason = fault.refusal.reason.name().to_owned();
                    (reason, *fault.reply, Answer::Refused(fault.refusal))
                }
            };
            assert_eq!(end, expect, "{name}");
            drop(reply.print(&answer));
        }
    }
}

/// The golden messages that issue would be issued: they meet every rule of both profiles.
#[test]
fn every_golden_issue_meets_the_rules_of_both_profiles() {
    let profiles = Profiles::embedded();
    let (taxpayer, device) = house(SELLER);
    let (taxpayer, device) = (&taxpayer, &device);
    let target = Target {
        platform: PlatformNo(1),
        taxpayer,
        device,
        red_offered: true,
        authorised_rates: &[],
    };
    let now = CstTime::parse("2026-06-01T12:00:00+08:00").unwrap();
    let mut issues = 0;
    for (name, bytes) in files("legacy") {
        let Ok(call) = decoded(&bytes, name.starts_with("interface")) else { continue };
        let LegacyRequest::Issue(issue) = call.request else { continue };
        // A character that GBK lacks is refused by both profiles.
        let foreign = name == "common_flat_gb18030.xml";
        for profile in ["baiwang", "aisino"] {
            let draft = contract::normalise(Some(issue.draft.clone())).unwrap();
            let verdict = contract::check(draft, target, profiles.get(profile).unwrap(), now);
            assert_eq!(verdict.is_err(), foreign, "{name} {profile}: {verdict:?}");
        }
        issues += 1;
    }
    assert_eq!(issues, 9);
}
