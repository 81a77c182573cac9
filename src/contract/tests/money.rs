//! Amounts: lines, totals, signs, discounts. One fen beyond each side of each tolerance.

use super::*;
use crate::contract::findings::VIOLATIONS_MAX;

#[test]
fn quantity_and_price_come_together_as_plain_decimals() {
    use Reason::{FieldInvalid, FieldTooLong, QuantityPricePair};
    let set = |draft: &mut pb::InvoiceDraft, quantity: &str, price: &str| {
        draft.lines[0].quantity = quantity.into();
        draft.lines[0].unit_price = price.into();
    };
    check(|draft| set(draft, "", ""), &[]);
    check(|draft| set(draft, "1", ""), &[("draft.lines[0].unit_price", QuantityPricePair)]);
    check(|draft| set(draft, "", "100"), &[("draft.lines[0].quantity", QuantityPricePair)]);
    for text in ["1e0", "+1", "NaN", "inf", ".1", "1.", " 1", "1,0", "１", "0x1"] {
        check(|draft| set(draft, text, "100"), &[("draft.lines[0].quantity", FieldInvalid)]);
    }
    check(|draft| set(draft, "0000000000000001", "100"), &[]);
    let too_long = [("draft.lines[0].quantity", FieldTooLong)];
    check(|draft| set(draft, "00000000000000001", "100"), &too_long);
    check(|draft| set(draft, "1.000000", "100.000000"), &[]);
    let places = [("draft.lines[0].quantity", QuantityPricePair)];
    check_with("baiwang", |draft| set(draft, "1.0000000", "100"), &places);
    check_with("aisino", |draft| set(draft, "1.00000000000000", "100"), &[]);
}

#[test]
fn a_line_s_amount_is_quantity_times_price_within_one_fen() {
    let refused = [("draft.lines[0].amount_fen", Reason::LineAmountMismatch)];
    for (price, expect) in [
        ("99.98", &refused[..]),
        ("99.99", &[]),
        ("100", &[]),
        ("100.01", &[]),
        ("100.014999", &[]),
        ("100.015", &refused),
    ] {
        check(|draft| draft.lines[0].unit_price = price.into(), expect);
    }
}

#[test]
fn a_line_s_tax_is_amount_times_rate_within_the_profile_s_tolerance() {
    let set = |draft: &mut pb::InvoiceDraft, off: i64| {
        draft.lines[0].tax_fen += off;
        total_up(draft);
    };
    let expect = [("draft.lines[0].tax_fen", Reason::LineTaxMismatch)];
    for off in [-1, 1] {
        check_with("baiwang", |draft| set(draft, off), &expect);
        check_with("aisino", |draft| set(draft, off), &[]);
        check_with("aisino", |draft| set(draft, off * 6), &[]);
        check_with("aisino", |draft| set(draft, off * 7), &expect);
    }
}

#[test]
fn half_a_fen_of_tax_rounds_away_from_zero() {
    let set = |draft: &mut pb::InvoiceDraft, tax| {
        let line = &mut draft.lines[0];
        (line.quantity, line.unit_price) = (String::new(), String::new());
        (line.amount_fen, line.rate_millionths, line.tax_fen) = (50, 50_000, tax);
        total_up(draft);
    };
    check_with("baiwang", |draft| set(draft, 3), &[]);
    check_with(
        "baiwang",
        |draft| set(draft, 2),
        &[("draft.lines[0].tax_fen", Reason::LineTaxMismatch)],
    );
}

#[test]
fn totals_fit_the_lines_and_each_other() {
    use Reason::{TotalAmountMismatch, TotalSumMismatch, TotalTaxMismatch};
    for off in [-1, 1] {
        check(|draft| draft.total_fen += off, &[("draft.total_fen", TotalSumMismatch)]);
        let set = |draft: &mut pb::InvoiceDraft, off: i64| {
            draft.amount_fen += off;
            draft.total_fen += off;
        };
        check(|draft| set(draft, off), &[("draft.amount_fen", TotalAmountMismatch)]);
        let set = |draft: &mut pb::InvoiceDraft, off: i64| {
            draft.tax_fen += off;
            draft.total_fen += off;
        };
        check(|draft| set(draft, off * 127), &[]);
        check(|draft| set(draft, off * 128), &[("draft.tax_fen", TotalTaxMismatch)]);
    }
}

#[test]
fn a_mismatch_tells_the_exact_difference_in_both_languages() {
    let mut draft = sample();
    draft.total_fen += 1;
    let (right, wrong) = (draft.total_fen - 1, draft.total_fen);
    let refusal = verdict(draft, PROFILES.get("baiwang").unwrap()).unwrap_err();
    let violation = &refusal.violations[0];
    assert_eq!(violation.en, format!("differs by 1 fen: expected {right}, got {wrong}"));
    assert_eq!(violation.zh, format!("相差 1 分：应为 {right}，实为 {wrong}"));
}

#[test]
fn blue_amounts_are_above_zero() {
    use Reason::AmountSign as Sign;
    let line = |draft: &mut pb::InvoiceDraft, amount: i64| {
        let line = &mut draft.lines[0];
        (line.quantity, line.unit_price) = (String::new(), String::new());
        line.amount_fen = amount * 100;
        line.tax_fen = amount * 13;
        total_up(draft);
    };
    check(|draft| line(draft, 1), &[]);
    check(|draft| line(draft, 0), &[("draft.lines[0].amount_fen", Sign)]);
    let both = [("draft.lines[0].amount_fen", Sign), ("draft.lines[0].tax_fen", Sign)];
    check(|draft| line(draft, -1), &both);
    let numbers = [("draft.lines[0].quantity", Sign), ("draft.lines[0].unit_price", Sign)];
    check(
        |draft| {
            draft.lines[0].quantity.insert(0, '-');
            draft.lines[0].unit_price.insert(0, '-');
        },
        &numbers,
    );
    check(
        |draft| (draft.amount_fen, draft.tax_fen, draft.total_fen) = (0, 0, 0),
        &[
            ("draft.amount_fen", Sign),
            ("draft.total_fen", Sign),
            ("draft.amount_fen", Reason::TotalAmountMismatch),
            ("draft.tax_fen", Reason::TotalTaxMismatch),
        ],
    );
}

#[test]
fn amounts_have_a_bound_that_keeps_sums_from_overflowing() {
    let set = |draft: &mut pb::InvoiceDraft, amount: i64| {
        draft.lines.truncate(1);
        let line = &mut draft.lines[0];
        (line.quantity, line.unit_price) = (String::new(), String::new());
        (line.amount_fen, line.rate_millionths, line.tax_fen) = (amount, 0, 0);
        line.zero_rate_kind = pb::ZeroRateKind::Ordinary.into();
        total_up(draft);
    };
    let max = 99_999_999_999_999;
    check(|draft| set(draft, max), &[]);
    let fields = ["draft.amount_fen", "draft.total_fen", "draft.lines[0].amount_fen"];
    check(|draft| set(draft, max + 1), &fields.map(|field| (field, Reason::FieldInvalid)));
}

/// Line 0 discounted by a new line 1.
pub(super) fn discounted(draft: &mut pb::InvoiceDraft) {
    let line = &mut draft.lines[0];
    line.kind = pb::LineKind::Discounted.into();
    let discount = pb::InvoiceLine {
        kind: pb::LineKind::Discount.into(),
        tax_code: line.tax_code.clone(),
        name: line.name.clone(),
        amount_fen: -line.amount_fen,
        rate_millionths: line.rate_millionths,
        tax_fen: -line.tax_fen,
        ..Default::default()
    };
    draft.lines.insert(1, discount);
    total_up(draft);
}

#[test]
fn a_discount_line_follows_its_line_and_looks_like_it() {
    use Reason::DiscountLineOrder as Order;
    let check = |change: Change, expect: &[(&str, Reason)]| {
        check(
            |draft| {
                discounted(draft);
                change(draft);
                total_up(draft);
            },
            expect,
        );
    };
    check(|_| {}, &[]);
    check(|draft| draft.lines[0].kind = 1, &[("draft.lines[1].kind", Order)]);
    check(|draft| draft.lines[2].kind = 3, &[("draft.lines[2].kind", Order)]);
    let swapped = [("draft.lines[0].kind", Order), ("draft.lines[1].kind", Order)];
    check(|draft| draft.lines.swap(0, 1), &swapped);
    let twice = [("draft.lines[2].kind", Order)];
    check(|draft| draft.lines.insert(2, draft.lines[1].clone()), &twice);
    check(|draft| draft.lines[1].name.push('x'), &[("draft.lines[1].name", Order)]);
    let code = [("draft.lines[1].tax_code", Order)];
    check(|draft| draft.lines[1].tax_code = "2".repeat(19), &code);
    check(
        |draft| (draft.lines[1].rate_millionths, draft.lines[1].tax_fen) = (60_000, -600),
        &[("draft.lines[1].rate_millionths", Order)],
    );
}

#[test]
fn a_discount_is_negative_and_at_most_its_line() {
    use Reason::{AmountSign, DiscountLineAmount};
    #[track_caller]
    fn amount(fen: i64, expect: &[(&str, Reason)]) {
        check(
            |draft| {
                discounted(draft);
                draft.lines[1].amount_fen = fen;
                draft.lines[1].tax_fen = i64::try_from(decimal::tax_fen(fen, 130_000)).unwrap();
                total_up(draft);
            },
            expect,
        );
    }
    let field = "draft.lines[1].amount_fen";
    amount(-1, &[]);
    amount(-10_000, &[]);
    amount(-10_001, &[(field, DiscountLineAmount)]);
    amount(0, &[(field, AmountSign)]);
    amount(1, &[(field, DiscountLineAmount)]);
    amount(4, &[(field, DiscountLineAmount), ("draft.lines[1].tax_fen", AmountSign)]);
}

#[test]
fn a_discount_line_is_bare_where_the_profile_says_so() {
    let dressed = |draft: &mut pb::InvoiceDraft| {
        discounted(draft);
        draft.lines[1].unit = "箱".into();
        draft.lines[1].quantity = "-1".into();
        draft.lines[1].unit_price = "100".into();
    };
    let fields = ["draft.lines[1].quantity", "draft.lines[1].unit_price", "draft.lines[1].unit"];
    check_with("baiwang", dressed, &fields.map(|field| (field, Reason::FieldInvalid)));
    check_with("aisino", dressed, &[]);
}

#[test]
fn everything_is_reported_at_once_up_to_a_bound() {
    let mut draft = sample();
    draft.drawer.clear();
    draft.remark = "😀".into();
    draft.lines[1].tax_fen += 1;
    let refusal = verdict(draft, PROFILES.get("baiwang").unwrap()).unwrap_err();
    let reasons: Vec<_> = refusal.violations.iter().map(|found| found.reason).collect();
    let expect = [Reason::FieldMissing, Reason::TextNotGbk, Reason::LineTaxMismatch];
    assert_eq!(reasons, expect);
    assert_eq!(refusal.reason, Reason::FieldMissing);

    let mut draft = sample();
    draft.lines = vec![pb::InvoiceLine::default(); 100];
    let refusal = verdict(draft, PROFILES.get("baiwang").unwrap()).unwrap_err();
    assert_eq!(refusal.violations.len(), VIOLATIONS_MAX);
}
