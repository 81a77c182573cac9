//! Tax classification codes against a table, and without one.

use super::*;
use Reason::TaxCodeInvalid;

/// The default profile with the sample table.
fn with_table() -> Profile {
    let table = include_str!("../../../deploy/profiles/tax-codes.sample.csv");
    let mut profile = PROFILES.get("baiwang").unwrap().clone();
    profile.tax_codes.version = "33.0".into();
    profile.tax_codes.any_code_rates = vec![30_000];
    profile.tax_codes.table = Some(TaxCodes::parse(table).unwrap());
    profile
}

/// The first line at another code, rate and preference; tax and totals are right for it.
fn draft(code: &str, rate: i32, preference: &str) -> pb::InvoiceDraft {
    let mut draft = sample();
    draft.lines.truncate(1);
    let line = &mut draft.lines[0];
    (line.tax_code, line.rate_millionths) = (code.into(), rate);
    line.tax_fen = line.amount_fen * i64::from(rate) / 1_000_000;
    line.preference = !preference.is_empty();
    line.preference_text = preference.into();
    if preference == "免税" {
        line.zero_rate_kind = pb::ZeroRateKind::Exempt.into();
    }
    total_up(&mut draft);
    draft
}

#[track_caller]
fn check(profile: &Profile, draft: pb::InvoiceDraft, expect: Option<&str>) {
    let what = format!("{:?}", draft.lines[0]);
    let found = verdict(draft, profile).err().map(|refusal| refusal.violations);
    let found = found.unwrap_or_default();
    let texts: Vec<_> = found.iter().map(|found| (found.reason, found.en.as_str())).collect();
    let expect: Vec<_> = expect.into_iter().map(|text| (TaxCodeInvalid, text)).collect();
    assert_eq!(texts, expect, "{what}");
}

#[test]
fn a_code_is_a_leaf_of_the_table_and_has_the_line_s_rate() {
    let profile = with_table();
    let (paper, book, software) =
        ("1060105040000000000", "1060105050000000000", "3040201020000000000");
    for (code, rate, preference, expect) in [
        (paper, 130_000, "", None),
        (book, 90_000, "", None),
        (book, 0, "免税", None),
        (software, 60_000, "即征即退100%", None),
        // Levy rates stand beside every code's own.
        (paper, 30_000, "", None),
        (paper, 60_000, "", Some("does not have the line's rate")),
        (software, 130_000, "", Some("does not have the line's rate")),
        (software, 60_000, "先征后退", Some("does not have the line's preference")),
        // A preference may have a rate of its own; which it is, other rules say.
        (paper, 50_000, "简易征收", None),
        ("1060105000000000000", 130_000, "", Some("is a group of codes, not a code of goods")),
        ("1000000000000000000", 130_000, "", Some("is a group of codes, not a code of goods")),
        ("1060105990000000000", 130_000, "", Some("is not in the table of tax codes")),
    ] {
        check(&profile, draft(code, rate, preference), expect);
        check(PROFILES.get("baiwang").unwrap(), draft(code, rate, preference), None);
    }
}

#[test]
fn a_draft_that_names_another_table_is_refused() {
    let profile = with_table();
    let other = pb::InvoiceDraft {
        tax_code_version: "34.0".into(),
        ..draft("1060105040000000000", 130_000, "")
    };
    check(&profile, other.clone(), Some("the table of codes here has version 33.0"));
    let any = Profile {
        tax_codes: TaxCodeRules { version: String::new(), ..profile.tax_codes.clone() },
        ..profile
    };
    check(&any, other, None);
}

#[test]
fn a_red_invoice_repeats_a_code_that_the_table_has_no_more() {
    let old = pb::InvoiceDraft {
        tax_code_version: "12.0".into(),
        ..red_of(draft("1060105990000000000", 130_000, ""))
    };
    check(&with_table(), old, None);
}

#[test]
fn a_profile_may_soften_the_table() {
    let mut profile = with_table();
    profile.severity.set(TaxCodeInvalid, crate::refusal::Severity::Warn);
    let checked = verdict(draft("1060105990000000000", 130_000, ""), &profile).unwrap();
    assert!(checked.warned().any(|found| found.reason == TaxCodeInvalid));
}
