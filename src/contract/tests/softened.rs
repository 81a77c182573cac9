//! Rules that a profile softens: what is noted, what is not, and how much of it.

use super::*;
use crate::{contract::findings::WARNINGS_MAX, refusal::Severity};

fn softened(rules: &[(Reason, Severity)]) -> Profile {
    let mut profile = PROFILES.get("baiwang").unwrap().clone();
    profile.severity.set(Reason::TaxpayerIdChecksum, Severity::Off);
    rules.iter().for_each(|(reason, severity)| profile.severity.set(*reason, *severity));
    profile
}

/// A sample with a wrong line tax and a blank at the end of the remark.
fn wrong_twice() -> pb::InvoiceDraft {
    let mut draft = sample();
    draft.lines[1].tax_fen += 1;
    total_up(&mut draft);
    draft.remark.push(' ');
    draft
}

#[test]
fn a_softened_rule_is_noted_as_its_severity_says() {
    for severity in [Severity::Refuse, Severity::Warn, Severity::Shadow, Severity::Off] {
        let mut draft = sample();
        draft.remark.push(' ');
        let verdict = verdict(draft, &softened(&[(Reason::RemarkInvalid, severity)]));
        match severity {
            Severity::Refuse => assert_eq!(verdict.unwrap_err().reason, Reason::RemarkInvalid),
            Severity::Warn | Severity::Shadow => {
                let checked = verdict.unwrap();
                let told = (checked.warned().count(), checked.shadowed().count());
                let expect = if severity == Severity::Warn { (1, 0) } else { (0, 1) };
                assert_eq!(told, expect);
                let found = &checked.warnings[0];
                assert_eq!((found.reason, found.severity), (Reason::RemarkInvalid, severity));
                assert_eq!(found.field, "draft.remark");
                assert!(!found.en.is_empty() && !found.zh.is_empty());
            }
            Severity::Off => assert_eq!(verdict.unwrap().warnings, []),
        }
    }
}

#[test]
fn a_shadowed_rule_hides_no_other_and_stands_in_no_refusal() {
    let shadowed = softened(&[(Reason::LineTaxMismatch, Severity::Shadow)]);
    let refusal = verdict(wrong_twice(), &shadowed).unwrap_err();
    let expect = [("draft.remark".to_owned(), Reason::RemarkInvalid)];
    assert_eq!(pairs(refusal.violations), expect);

    let both = softened(&[
        (Reason::LineTaxMismatch, Severity::Shadow),
        (Reason::RemarkInvalid, Severity::Warn),
    ]);
    let checked = verdict(wrong_twice(), &both).unwrap();
    assert_eq!(checked.warned().count(), 1);
    let shadowed: Vec<_> = checked.shadowed().map(|found| found.en.as_str()).collect();
    assert_eq!(shadowed, ["differs by 1 fen: expected 6500, got 6501"]);
}

#[test]
fn warnings_are_bounded_and_crowd_out_no_refusal() {
    let profile = softened(&[(Reason::RateOutOfDate, Severity::Shadow)]);
    let mut draft = sample::draft_with_lines("T-1", SELLER, 100);
    (0..100).for_each(|line| put_rate(&mut draft, line, 160_000));
    let checked = verdict(draft.clone(), &profile).unwrap();
    assert_eq!(checked.warnings.len(), WARNINGS_MAX);
    draft.lines[99].tax_fen += 1;
    total_up(&mut draft);
    let refusal = verdict(draft, &profile).unwrap_err();
    let expect = [("draft.lines[99].tax_fen".to_owned(), Reason::LineTaxMismatch)];
    assert_eq!(pairs(refusal.violations), expect);
}

/// Puts a text into one field.
type SetText = fn(&mut pb::InvoiceDraft, &str);

/// Whatever a profile softens, the device and the books get nothing endless and nothing
/// unprintable.
#[test]
fn what_no_profile_softens_keeps_every_text_within_its_bounds() {
    let soft: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| softening(**reason).allowed.contains(&Severity::Off))
        .map(|reason| (*reason, Severity::Off))
        .collect();
    let profile = softened(&soft);
    let endless = "x".repeat(1000);
    let changes: [(&str, SetText); 6] = [
        ("draft.lines[0].tax_code", |draft, text| draft.lines[0].tax_code = text.into()),
        ("draft.lines[0].preference_text", |draft, text| {
            draft.lines[0].preference_text = text.into();
        }),
        ("draft.lines[0].quantity", |draft, text| draft.lines[0].quantity = text.into()),
        ("draft.remark", |draft, text| draft.remark = text.into()),
        ("draft.red_notice", |draft, text| draft.red_notice = text.into()),
        ("draft.buyer.taxpayer_id", |draft, text| buyer(draft).taxpayer_id = text.into()),
    ];
    for (field, change) in changes {
        for text in [endless.as_str(), "票\u{1}€"] {
            let mut draft = red_of(special());
            change(&mut draft, text);
            let refusal = verdict(draft, &profile).unwrap_err();
            assert_eq!(refusal.violations[0].field, field, "{text}");
        }
    }
}
