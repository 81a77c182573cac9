//! Red-letter invoices: the pure part of their rules.

use super::*;
use Reason::{AmountSign, FieldInvalid, RedNoticeInvalid, RedOriginalMissing, RemarkInvalid};

/// The change on a red draft is refused for exactly this.
#[track_caller]
fn on(base: pb::InvoiceDraft, change: impl Fn(&mut pb::InvoiceDraft), expect: &[(&str, Reason)]) {
    for profile in ["baiwang", "aisino"] {
        let mut draft = base.clone();
        change(&mut draft);
        check_draft(profile, draft, expect);
    }
}

fn red() -> pb::InvoiceDraft {
    red_of(sample())
}

#[test]
fn a_red_invoice_passes_and_carries_the_blue_one_s_number() {
    for (draft, code) in [
        (red(), "044002600111"),
        (red_of(special()), "044002600113"),
        (red_of(differential()), "044002600111"),
    ] {
        let checked = verdict(draft, PROFILES.get("baiwang").unwrap()).unwrap();
        let original = InvoiceNumber { code: code.into(), number: 42 };
        assert_eq!((checked.color, checked.original), (Color::Red, Some(original)));
    }
}

/// The switch in `Target`: nothing else lets a red invoice through.
#[test]
fn a_red_invoice_is_refused_where_red_letters_are_not_offered() {
    let (taxpayer, device) = (taxpayer(), device(&Kind::ALL));
    let (taxpayer, device) = (&taxpayer, &device);
    let target = Target {
        platform: PlatformNo(1),
        taxpayer,
        device,
        red_offered: false,
        authorised_rates: &[],
    };
    let draft = normalise(Some(red())).unwrap();
    let profile = PROFILES.get("baiwang").unwrap();
    let refusal = crate::contract::check(draft, target, profile, at(TODAY)).unwrap_err();
    let expect = [("draft.color".to_owned(), Reason::OperationNotAllowed)];
    assert_eq!(pairs(refusal.violations), expect);
}

#[test]
fn a_red_invoice_names_a_blue_one_of_its_kind() {
    let code = [("draft.original_code", RedOriginalMissing)];
    for text in ["", "044002600113", "04400260011", "0440026001111", "04400260x111", "4400260001"] {
        on(red(), |draft| draft.original_code = text.into(), &code);
    }
    on(red(), |draft| draft.original_code = "044002600112".into(), &[]);
    let number = [("draft.original_number", RedOriginalMissing)];
    for text in ["", "42", "000000042", "0000004x", "+0000042", "00000000000000000042"] {
        on(red(), |draft| draft.original_number = text.into(), &number);
    }
    let on_blue: [(&str, Change); 3] = [
        ("draft.original_code", |draft| draft.original_code = "0".repeat(12)),
        ("draft.original_number", |draft| draft.original_number = "0".repeat(8)),
        ("draft.red_notice", |draft| draft.red_notice = "0".repeat(16)),
    ];
    for (field, change) in on_blue {
        check(change, &[(field, FieldInvalid)]);
    }
}

#[test]
fn special_kinds_have_a_red_notice_with_its_check_digit_and_others_have_none() {
    let wrong = [("draft.red_notice", RedNoticeInvalid)];
    for (text, right) in [
        ("1234567890123450", true),
        ("0000000000000000", true),
        ("9999999999999995", true),
        ("1234567890123451", false),
        ("1234567890123459", false),
        ("123456789012345", false),
        ("123456789012345x", false),
        ("", false),
    ] {
        let expect = if right { &[][..] } else { &wrong };
        on(red_of(special()), |draft| draft.red_notice = text.into(), expect);
    }
    let too_long = [("draft.red_notice", Reason::FieldTooLong)];
    on(red_of(special()), |draft| draft.red_notice.push('0'), &too_long);
    on(red(), |draft| draft.red_notice = "1234567890123450".into(), &wrong);

    let mut paper = red_of(special());
    paper.kind = pb::InvoiceKind::SpecialPaper.into();
    paper.original_code = "4400260001".into();
    on(paper.clone(), |_| {}, &[]);
    on(paper, |draft| draft.red_notice.clear(), &wrong);
}

#[test]
fn red_amounts_are_below_zero() {
    on(red(), |draft| put_amount(draft, 0, -1), &[]);
    let zero = [("draft.lines[0].amount_fen", AmountSign)];
    on(red(), |draft| put_amount(draft, 0, 0), &zero);
    let positive =
        [("draft.lines[0].amount_fen", AmountSign), ("draft.lines[0].tax_fen", AmountSign)];
    on(red(), |draft| put_amount(draft, 0, 100), &positive);
    let totals = |draft: &mut pb::InvoiceDraft| {
        draft.lines.iter_mut().for_each(|line| line.amount_fen = -line.amount_fen);
        draft.lines.iter_mut().for_each(|line| line.tax_fen = -line.tax_fen);
        draft.lines.iter_mut().for_each(|line| line.quantity.clear());
        draft.lines.iter_mut().for_each(|line| line.unit_price.clear());
        total_up(draft);
    };
    let fields = ["amount_fen", "total_fen", "tax_fen"].map(|field| format!("draft.{field}"));
    let lines =
        [0, 1].map(|line| ["amount_fen", "tax_fen"].map(|f| format!("draft.lines[{line}].{f}")));
    let expect: Vec<_> = fields.iter().chain(lines.as_flattened()).collect();
    let expect: Vec<_> = expect.into_iter().map(|field| (field.as_str(), AmountSign)).collect();
    on(red(), totals, &expect);
}

#[test]
fn no_quantity_or_price_is_zero_or_minus_zero() {
    for (base, text) in [(red(), "0"), (red(), "-0.00"), (sample(), "0"), (sample(), "-0.00")] {
        for line in 0..2 {
            let field = format!("draft.lines[{line}].quantity");
            let mut draft = base.clone();
            draft.lines[line].quantity = text.into();
            let found = found(draft, "baiwang");
            assert!(found.contains(&(field, AmountSign)), "{text}: {found:?}");
        }
    }
}

/// A rate that ended may come back on a red invoice; one that never was may not.
#[test]
fn a_red_invoice_may_carry_an_old_rate() {
    let rate = |rate: i32| move |draft: &mut pb::InvoiceDraft| put_rate(draft, 0, rate);
    for old in [170_000, 160_000, 110_000, 100_000] {
        on(red(), rate(old), &[]);
    }
    let field = "draft.lines[0].rate_millionths";
    on(red(), rate(120_000), &[(field, Reason::RateNotAuthorised)]);
    let mut early = red();
    (0..2).for_each(|line| put_rate(&mut early, line, 90_000));
    let profile = PROFILES.get("baiwang").unwrap();
    let verdict = verdict_at(early, profile, "2019-03-31T23:59:59+08:00");
    assert_eq!(verdict.unwrap_err().reason, Reason::RateOutOfDate, "not before its first day");
    let mut ends = red();
    put_rate(&mut ends, 0, 10_000);
    assert_eq!(super::verdict(ends, profile).unwrap().valid_until, None);
}

#[test]
fn discount_lines_on_a_red_invoice_are_for_the_profile_to_allow() {
    let mut draft = sample();
    super::money::discounted(&mut draft);
    // A full discount nets to nothing, a red invoice of half of it does not.
    draft.lines[1].amount_fen /= 2;
    draft.lines[1].tax_fen /= 2;
    total_up(&mut draft);
    let draft = red_of(draft);
    check_draft("baiwang", draft.clone(), &[("draft.lines[1].kind", Reason::DiscountLineOrder)]);
    check_draft("aisino", draft.clone(), &[]);
    let mut same_sign = draft;
    put_amount(&mut same_sign, 1, -100);
    let expect = [
        ("draft.lines[1].amount_fen", Reason::DiscountLineAmount),
        ("draft.lines[1].tax_fen", AmountSign),
    ];
    check_draft("aisino", same_sign, &expect);
}

#[test]
fn a_red_remark_names_its_own_blue_invoice_and_notice_or_none() {
    let wrong = [("draft.remark", RemarkInvalid)];
    for (text, right) in [
        ("示例", true),
        ("对应正数发票代码:044002600111号码:00000042", true),
        ("退货 对应正数发票代码:044002600111号码:00000042 示例", true),
        ("对应正数发票代码:044002600111号码:00000043", false),
        ("对应正数发票代码:044002600112号码:00000042", false),
        ("对应正数发票代码:", false),
        ("发票信息表编号1234567890123450", false),
        ("差额征税：1。", true),
    ] {
        let expect = if right { &[][..] } else { &wrong };
        on(red(), |draft| draft.remark = text.into(), expect);
    }
    for (text, right) in [
        ("开具红字增值税专用发票信息表编号1234567890123450", true),
        ("开具红字增值税专用发票信息表编号1234567890123451", false),
        ("发票信息表编号", false),
    ] {
        let expect = if right { &[][..] } else { &wrong };
        on(red_of(special()), |draft| draft.remark = text.into(), expect);
    }
}

/// Vendors do not check it, so it is the profile's to ask for.
#[test]
fn a_red_differential_s_tax_is_checked_where_the_profile_asks() {
    let mut draft = red_of(differential());
    draft.lines[0].tax_fen -= 100;
    draft.lines[0].amount_fen += 100;
    total_up(&mut draft);
    on(draft.clone(), |_| {}, &[]);
    on(draft.clone(), |draft| draft.deduction_fen = -draft.deduction_fen, &[]);
    on(
        draft.clone(),
        |draft| draft.deduction_fen = 0,
        &[("draft.deduction_fen", Reason::DifferentialRule)],
    );
    let mut strict = PROFILES.get("baiwang").unwrap().clone();
    strict.amounts.red_differential_tax = true;
    assert_eq!(super::verdict(draft, &strict).unwrap_err().reason, Reason::LineTaxMismatch);
    assert!(super::verdict(red_of(differential()), &strict).is_ok());
}
