//! What 乐企 asks for: the machine that asked and the confirmation of a red letter.

use super::*;
use Reason::{
    FieldInvalid, FieldTooLong, OriginInfoMissing, RedConfirmationMissing, RedNoticeInvalid,
};

fn origin() -> pb::Origin {
    pb::Origin {
        ip_address: "192.0.2.17".into(),
        mac_address: "00-00-5E-00-53-01".into(),
        cpu_id: "TEST-CPU-1".into(),
        board_serial: String::new(),
    }
}

fn blue() -> pb::InvoiceDraft {
    pb::InvoiceDraft { origin: Some(origin()), ..sample() }
}

fn red() -> pb::InvoiceDraft {
    pb::InvoiceDraft {
        red_confirmation: "44002606000000000001".into(),
        red_confirmation_uuid: "0123456789abcdef0123456789abcdef".into(),
        ..red_of(blue())
    }
}

#[track_caller]
fn on(profile: &str, base: pb::InvoiceDraft, change: Change, expect: &[(&str, Reason)]) {
    let mut draft = base;
    change(&mut draft);
    check_draft(profile, draft, expect);
}

fn of(draft: &mut pb::InvoiceDraft) -> &mut pb::Origin {
    draft.origin.as_mut().unwrap()
}

#[test]
fn the_machine_that_asked_is_named_where_the_profile_asks_for_it() {
    let missing = ["draft.origin.ip_address", "draft.origin.mac_address", "draft.origin.cpu_id"]
        .map(|field| (field, OriginInfoMissing));
    let cases: [(Change, &[(&str, Reason)]); 5] = [
        (|_| {}, &[]),
        (|draft| draft.origin = None, &missing),
        (|draft| of(draft).ip_address.clear(), &missing[..1]),
        (|draft| of(draft).mac_address.clear(), &missing[1..2]),
        (|draft| of(draft).cpu_id.clear(), &missing[2..]),
    ];
    for (change, expect) in cases {
        on("leqi", blue(), change, expect);
        on("baiwang", blue(), change, &[]);
        on("aisino", blue(), change, &[]);
    }
}

#[test]
fn what_is_told_of_the_machine_has_its_shape_under_every_profile() {
    let cases: [(Change, &[(&str, Reason)]); 6] = [
        (|draft| of(draft).ip_address = "1".repeat(20), &[]),
        (
            |draft| of(draft).ip_address = "1".repeat(21),
            &[("draft.origin.ip_address", FieldTooLong)],
        ),
        (
            |draft| of(draft).mac_address = "a".repeat(21),
            &[("draft.origin.mac_address", FieldTooLong)],
        ),
        (|draft| of(draft).cpu_id = "a".repeat(65), &[("draft.origin.cpu_id", FieldTooLong)]),
        (|draft| of(draft).cpu_id = "a b".into(), &[("draft.origin.cpu_id", FieldInvalid)]),
        (
            |draft| of(draft).board_serial = "主板".into(),
            &[("draft.origin.board_serial", FieldInvalid)],
        ),
    ];
    for (change, expect) in cases {
        for profile in ["leqi", "baiwang", "aisino"] {
            on(profile, blue(), change, expect);
        }
    }
}

#[test]
fn a_red_letter_names_its_confirmation_where_the_profile_asks_for_it() {
    let number = ("draft.red_confirmation", RedConfirmationMissing);
    let uuid = ("draft.red_confirmation_uuid", RedConfirmationMissing);
    on("leqi", red(), |_| {}, &[]);
    on("leqi", red(), |draft| draft.red_confirmation.clear(), &[number]);
    on("leqi", red(), |draft| draft.red_confirmation_uuid.clear(), &[uuid]);
    let without: Change = |draft| {
        draft.red_confirmation.clear();
        draft.red_confirmation_uuid.clear();
    };
    on("leqi", red(), without, &[number, uuid]);
    on("baiwang", red(), without, &[]);
    // Half of it is as good as none, whoever asks.
    on("baiwang", red(), |draft| draft.red_confirmation.clear(), &[number]);
}

#[test]
fn a_confirmation_is_letters_and_digits_of_a_red_letter_alone() {
    for profile in ["leqi", "baiwang"] {
        let cases: [(Change, &[(&str, Reason)]); 3] = [
            (
                |draft| draft.red_confirmation = "1".repeat(21),
                &[("draft.red_confirmation", FieldTooLong)],
            ),
            (
                |draft| draft.red_confirmation_uuid = "1".repeat(33),
                &[("draft.red_confirmation_uuid", FieldTooLong)],
            ),
            (
                |draft| draft.red_confirmation = "4400-26".into(),
                &[("draft.red_confirmation", FieldInvalid)],
            ),
        ];
        for (change, expect) in cases {
            on(profile, red(), change, expect);
        }
        let on_blue: Change = |draft| draft.red_confirmation = "44".into();
        on(profile, blue(), on_blue, &[("draft.red_confirmation", FieldInvalid)]);
    }
}

#[test]
fn a_confirmed_red_letter_of_a_special_kind_has_no_red_notice() {
    let special = || {
        let base = pb::InvoiceDraft { origin: Some(origin()), ..special() };
        let mut draft = red_of(base);
        draft.red_confirmation = "44002606000000000001".into();
        draft.red_confirmation_uuid = "0123456789abcdef0123456789abcdef".into();
        draft.red_notice.clear();
        draft
    };
    on("leqi", special(), |_| {}, &[]);
    let notice: Change = |draft| draft.red_notice = "1234567890123450".into();
    on("leqi", special(), notice, &[("draft.red_notice", RedNoticeInvalid)]);
    on("baiwang", special(), notice, &[]);
}

#[test]
fn a_profile_may_soften_what_is_missing() {
    let mut profile = PROFILES.get("leqi").unwrap().clone();
    profile.severity.set(OriginInfoMissing, crate::refusal::Severity::Warn);
    let checked = verdict(sample(), &profile).unwrap();
    let warned = checked.warned().filter(|found| found.reason == OriginInfoMissing);
    assert_eq!(warned.count(), 3);
}
