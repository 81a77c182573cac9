//! Rates by the day of issue, and the fields that must tell one story about a preference.

use super::*;
use crate::refusal::Severity;
use Reason::{FieldInvalid, PreferenceInconsistent, RateNotAuthorised, RateOutOfDate};

/// Every line of the sample at `rate_millionths`, on a day.
#[track_caller]
fn rate_on(day: &str, rate_millionths: i32, expect: Option<Reason>) -> Option<Checked> {
    let mut draft = sample();
    (0..draft.lines.len()).for_each(|line| put_rate(&mut draft, line, rate_millionths));
    let count = draft.lines.len();
    let now = format!("{day}T12:00:00+08:00");
    let verdict = verdict_at(draft, PROFILES.get("baiwang").unwrap(), &now);
    let found = verdict.as_ref().map_or_else(|refusal| refusal.violations.clone(), |_| Vec::new());
    let reasons: Vec<_> = found.iter().map(|found| found.reason).collect();
    assert_eq!(reasons, vec![expect; count].into_iter().flatten().collect::<Vec<_>>(), "{day}");
    verdict.ok()
}

/// Source: docs/domain.md 3.4, each change on both of its days.
#[test]
fn rates_change_on_the_day_of_their_notice() {
    for (rate, before, first_day) in
        [(130_000, "2019-03-31", "2019-04-01"), (90_000, "2019-03-31", "2019-04-01")]
    {
        rate_on(before, rate, Some(RateOutOfDate));
        rate_on(first_day, rate, None);
    }
    for (rate, before, first_day) in [
        (160_000, "2018-04-30", "2018-05-01"),
        (100_000, "2018-04-30", "2018-05-01"),
        (10_000, "2020-02-29", "2020-03-01"),
        (5_000, "2020-04-30", "2020-05-01"),
    ] {
        rate_on(before, rate, Some(RateOutOfDate));
        rate_on(first_day, rate, None);
    }
    for (rate, last_day, after) in [
        (170_000, "2018-04-30", "2018-05-01"),
        (110_000, "2018-04-30", "2018-05-01"),
        (160_000, "2019-03-31", "2019-04-01"),
        (100_000, "2019-03-31", "2019-04-01"),
    ] {
        rate_on(last_day, rate, None);
        rate_on(after, rate, Some(RateOutOfDate));
    }
    for rate in [0, 15_000, 30_000, 50_000, 60_000, 90_000, 130_000] {
        rate_on("2026-06-01", rate, None);
    }
}

#[test]
fn a_rate_in_no_list_is_not_authorised_and_one_out_of_range_is_no_rate() {
    for rate in [1, 129_999, 130_001, 169_999] {
        rate_on("2026-06-01", rate, Some(RateNotAuthorised));
    }
    for rate in [-1, 170_001] {
        let field = "draft.lines[0].rate_millionths";
        check(|draft| put_rate(draft, 0, rate), &[(field, FieldInvalid)]);
    }
}

/// The day is China's: 16:00 UTC is midnight there.
#[test]
fn the_day_of_issue_is_a_day_in_china() {
    let profile = PROFILES.get("baiwang").unwrap();
    assert!(verdict_at(sample(), profile, "2019-03-31T15:59:59Z").is_err());
    assert!(verdict_at(sample(), profile, "2019-03-31T16:00:00Z").is_ok());
}

#[test]
fn what_was_checked_stays_valid_to_the_end_of_the_earliest_rate_used() {
    let until = |day, rate| {
        let checked = rate_on(day, rate, None).unwrap();
        checked.valid_until.map(CstTime::rfc3339)
    };
    assert_eq!(until("2026-06-01", 130_000), None, "a rate without an end");
    assert_eq!(until("2019-03-01", 160_000).as_deref(), Some("2019-03-31T23:59:59+08:00"));
    assert_eq!(until("2019-03-31", 160_000).as_deref(), Some("2019-03-31T23:59:59+08:00"));
    assert_eq!(until("2026-06-01", 10_000).as_deref(), Some("2027-12-31T23:59:59+08:00"));

    let mut mixed = sample();
    put_rate(&mut mixed, 1, 10_000);
    let profile = PROFILES.get("baiwang").unwrap();
    let checked = verdict(mixed, profile).unwrap();
    assert_eq!(checked.valid_until, Some(at("2027-12-31T23:59:59+08:00")));
}

#[test]
fn of_two_rates_that_end_the_earlier_end_counts() {
    let mut profile = PROFILES.get("baiwang").unwrap().clone();
    let six = profile.rates.periods.iter_mut().find(|period| period.rate_millionths == 60_000);
    six.unwrap().until = Some(Day::try_from("2026-12-31".to_owned()).unwrap());
    for rates in [[10_000, 60_000], [60_000, 10_000]] {
        let mut draft = sample();
        rates.into_iter().enumerate().for_each(|(line, rate)| put_rate(&mut draft, line, rate));
        let checked = verdict(draft, &profile).unwrap();
        assert_eq!(checked.valid_until, Some(at("2026-12-31T23:59:59+08:00")), "{rates:?}");
    }
}

/// Else the assigning commit would refuse what the profile lets pass.
#[test]
fn a_rule_that_does_not_refuse_sets_no_end() {
    let mut profile = PROFILES.get("baiwang").unwrap().clone();
    let mut draft = sample();
    put_rate(&mut draft, 0, 10_000);
    for (severity, ends) in [
        (Severity::Refuse, true),
        (Severity::Warn, false),
        (Severity::Shadow, false),
        (Severity::Off, false),
    ] {
        profile.severity.set(RateOutOfDate, severity);
        let checked = verdict(draft.clone(), &profile).unwrap();
        assert_eq!(checked.valid_until.is_some(), ends, "{severity:?}");
    }
}

#[test]
fn the_reduced_rate_stands_alone() {
    check(
        |draft| {
            put_rate(draft, 0, 15_000);
            put_rate(draft, 1, 15_000);
        },
        &[],
    );
    for line in [0, 1] {
        let field = format!("draft.lines[{line}].rate_millionths");
        check(|draft| put_rate(draft, line, 15_000), &[(&field, RateNotAuthorised)]);
    }
}

/// What line 0 says about its rate, as (rate, zero-rate kind, preference used, its text).
#[track_caller]
fn story((rate, kind, used, text): (i32, pb::ZeroRateKind, bool, &str), expect: &[&str]) {
    let set = |draft: &mut pb::InvoiceDraft| {
        put_rate(draft, 0, rate);
        let line = &mut draft.lines[0];
        (line.zero_rate_kind, line.preference) = (kind.into(), used);
        line.preference_text = text.into();
    };
    let fields: Vec<_> = expect.iter().map(|field| format!("draft.lines[0].{field}")).collect();
    let expect: Vec<_> =
        fields.iter().map(|field| (field.as_str(), PreferenceInconsistent)).collect();
    check(set, &expect);
}

#[test]
fn a_zero_rate_says_why_and_no_other_rate_does() {
    use pb::ZeroRateKind as Zero;
    story((0, Zero::Unspecified, false, ""), &["zero_rate_kind"]);
    story((0, Zero::Ordinary, false, ""), &[]);
    story((0, Zero::Export, false, ""), &[]);
    story((0, Zero::Exempt, true, "免税"), &[]);
    story((0, Zero::NotTaxed, true, "不征税"), &[]);
    story((130_000, Zero::Unspecified, false, ""), &[]);
    for kind in [Zero::Ordinary, Zero::Export] {
        story((130_000, kind, false, ""), &["zero_rate_kind"]);
    }
}

#[test]
fn exempt_and_not_taxed_are_preferences_and_an_ordinary_zero_rate_is_none() {
    use pb::ZeroRateKind as Zero;
    story((0, Zero::Exempt, false, ""), &["preference"]);
    story((0, Zero::NotTaxed, false, ""), &["preference"]);
    story((0, Zero::Ordinary, true, "先征后退"), &["preference"]);
    story((0, Zero::Exempt, true, "不征税"), &["preference_text"]);
    story((0, Zero::NotTaxed, true, "免税"), &["preference_text"]);
    story((130_000, Zero::Unspecified, true, "免税"), &["preference_text"]);
}

#[test]
fn a_preference_has_a_text_of_the_list_and_nothing_else_has_one() {
    use pb::ZeroRateKind::Unspecified;
    for text in &PROFILES.get("baiwang").unwrap().preferences.texts {
        if !text.ends_with("税") || text.contains('收') {
            story((30_000, Unspecified, true, text), &[]);
        }
    }
    story((30_000, Unspecified, true, ""), &["preference_text"]);
    story((30_000, Unspecified, true, "按4%简易征收"), &["preference_text"]);
    story((30_000, Unspecified, true, "简易征收 "), &["preference_text"]);
    story((30_000, Unspecified, false, "简易征收"), &["preference_text"]);
}
