//! What depends on kind and way of taxing: line counts, special kinds, differential taxing,
//! remarks.

use super::*;
use Reason::{DifferentialRule, FieldInvalid, LineCount, LineTaxMismatch, RemarkInvalid};

/// The change on an otherwise right draft is refused for exactly this.
#[track_caller]
fn on(base: &pb::InvoiceDraft, change: impl Fn(&mut pb::InvoiceDraft), expect: &[(&str, Reason)]) {
    for profile in ["baiwang", "aisino"] {
        let mut draft = base.clone();
        change(&mut draft);
        check_draft(profile, draft, expect);
    }
}

#[test]
fn an_invoice_has_as_many_lines_as_its_kind_allows() {
    use pb::InvoiceKind as K;
    for (kind, max) in [
        (K::ENormal, 100),
        (K::ESpecial, 100),
        (K::Roll, 100),
        (K::NormalPaper, 2000),
        (K::SpecialPaper, 2000),
    ] {
        let mut base = special();
        base.kind = kind.into();
        let with = |count| {
            move |draft: &mut pb::InvoiceDraft| {
                draft.lines = vec![draft.lines[0].clone(); count];
                total_up(draft);
            }
        };
        on(
            &base,
            with(0),
            &[
                ("draft.amount_fen", Reason::AmountSign),
                ("draft.total_fen", Reason::AmountSign),
                ("draft.lines", LineCount),
            ],
        );
        on(&base, with(1), &[]);
        on(&base, with(max), &[]);
        on(&base, with(max + 1), &[("draft.lines", LineCount)]);
    }
}

#[test]
fn a_special_invoice_has_the_buyer_s_details_and_no_zero_rate() {
    use Reason::SpecialKindRule;
    on(&special(), |_| {}, &[]);
    let missing: [(Change, &str); 4] = [
        (|draft| buyer(draft).taxpayer_id.clear(), "draft.buyer.taxpayer_id"),
        (|draft| buyer(draft).address_phone.clear(), "draft.buyer.address_phone"),
        (|draft| buyer(draft).bank_account.clear(), "draft.buyer.bank_account"),
        (|draft| put_rate(draft, 1, 0), "draft.lines[1].rate_millionths"),
    ];
    for (change, field) in missing {
        on(&special(), change, &[(field, SpecialKindRule)]);
    }
    check(|draft| put_rate(draft, 1, 0), &[]);
}

#[test]
fn differential_taxing_has_a_single_line_and_a_deduction_up_to_the_total() {
    on(&differential(), |_| {}, &[]);
    let deduct = |fen: i64| {
        move |draft: &mut pb::InvoiceDraft| {
            draft.deduction_fen = fen;
            draft.remark = format!("差额征税：{}.{:02}。", fen / 100, fen % 100);
            // The price with tax stays; what is taxed of it is less.
            let total = draft.total_fen;
            let tax = decimal::tax_within_fen(i128::from(total - fen.abs()), 60_000).unwrap();
            let line = &mut draft.lines[0];
            line.tax_fen = i64::try_from(tax).unwrap();
            line.amount_fen = total - line.tax_fen;
            total_up(draft);
        }
    };
    on(&differential(), deduct(1), &[]);
    on(&differential(), deduct(21_200), &[]);
    let field = [("draft.deduction_fen", DifferentialRule)];
    on(&differential(), deduct(0), &field);
    on(&differential(), deduct(21_201), &field);
    on(
        &differential(),
        |draft| {
            draft.lines.push(sample().lines[0].clone());
            total_up(draft);
        },
        &[("draft.lines", DifferentialRule)],
    );
    check(|draft| draft.deduction_fen = 1, &[("draft.deduction_fen", FieldInvalid)]);
}

#[test]
fn differential_tax_is_on_what_remains_within_the_profile_s_tolerance() {
    let off = |fen: i64| {
        move |draft: &mut pb::InvoiceDraft| {
            // The price with tax stays.
            draft.lines[0].tax_fen += fen;
            draft.lines[0].amount_fen -= fen;
            total_up(draft);
        }
    };
    let expect = [("draft.lines[0].tax_fen", LineTaxMismatch)];
    for sign in [-1, 1] {
        for (profile, tolerance) in [("baiwang", 0), ("aisino", 6)] {
            for (fen, expect) in [(tolerance, &[][..]), (tolerance + 1, &expect)] {
                let mut draft = differential();
                off(fen * sign)(&mut draft);
                check_draft(profile, draft, expect);
            }
        }
    }
}

#[test]
fn a_differential_remark_starts_with_its_deduction() {
    let remark =
        |text: &'static str| move |draft: &mut pb::InvoiceDraft| draft.remark = text.into();
    for text in ["差额征税：106.00。", "差额征税：106。示例", "差额征税：106.0。。"]
    {
        on(&differential(), remark(text), &[]);
    }
    let rule = ("draft.remark", DifferentialRule);
    for text in [
        "差额征税：106.01。",
        "差额征税：105.99。",
        "差额征税：10600。",
        "差额征税：1.06e2。",
        "差额征税：。",
    ] {
        on(&differential(), remark(text), &[rule]);
    }
    for text in ["", "示例", "差额征税106.00。"] {
        on(&differential(), remark(text), &[rule]);
    }
    let reserved = ("draft.remark", RemarkInvalid);
    on(&differential(), remark("差额征税：106.00"), &[rule, reserved]);
    on(&differential(), remark("示例差额征税：106.00。"), &[rule, reserved]);
    on(&differential(), remark("差额征税：106.00。差额征税：1。"), &[reserved]);
}

#[test]
fn a_blue_remark_holds_no_reserved_phrase_and_no_blank_at_its_edges() {
    let expect = [("draft.remark", RemarkInvalid)];
    for text in [
        "对应正数发票代码:044002600111号码:00000042",
        "x差额征税：1。",
        "开具红字增值税专用发票信息表编号1234567890123450",
        " x",
        "x ",
        "\u{3000}x",
        "x\u{3000}",
        " ",
    ] {
        check(|draft| draft.remark = text.into(), &expect);
    }
    for text in ["", "x x", "对应正数发票代码", "差额征税", "信息表编号", "对应正数发票代码："]
    {
        check(|draft| draft.remark = text.into(), &[]);
    }
    let both = [("draft.remark", FieldInvalid), expect[0]];
    for text in ["x\n", "\r\nx"] {
        check(|draft| draft.remark = text.into(), &both);
    }
}

#[test]
fn a_profile_may_reserve_further_phrases() {
    let mut profile = PROFILES.get("baiwang").unwrap().clone();
    profile.remark.reserved = vec!["示例".into()];
    let refusal = verdict(sample(), &profile).unwrap_err();
    assert_eq!(refusal.reason, RemarkInvalid);
}

#[test]
fn reduced_taxing_is_not_offered_yet() {
    let reduced = i32::from(pb::TaxMethod::Reduced);
    check(|draft| draft.tax_method = reduced, &[("draft.tax_method", Reason::OperationNotAllowed)]);
}
