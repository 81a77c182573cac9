//! Laws over arbitrary drafts: valid ones pass, one mutation is refused for its own reason, and
//! nothing makes the checks panic.

use super::{
    findings::VIOLATIONS_MAX,
    tests::{
        Change, PROFILES, buyer, differential, found, red_of, sample, seller, special, tax,
        total_up, verdict,
    },
};
use crate::{pb::v1 as pb, refusal::Reason};
use proptest::prelude::*;

prop_compose! {
    fn any_party()(taxpayer_id: String, name: String, address_phone: String, bank_account: String)
        -> pb::Party { pb::Party { taxpayer_id, name, address_phone, bank_account } }
}

prop_compose! {
    fn any_line()(
        kind: i32, tax_code: String, name: String, quantity in number(), unit_price in number(),
        amount_fen in amount(), rate_millionths: i32, tax_fen in amount(), preference: bool,
        zero_rate_kind: i32,
    ) -> pb::InvoiceLine {
        pb::InvoiceLine {
            kind: kind.rem_euclid(6), tax_code, name, quantity, unit_price, amount_fen,
            rate_millionths, tax_fen, preference, zero_rate_kind, ..Default::default()
        }
    }
}

prop_compose! {
    fn any_draft()(
        serial in "[!-~]{1,20}", kind in -1..8, color in -1..4, seller in any_party(),
        buyer in prop::option::of(any_party()), remark in any_remark(),
        amounts in (amount(), amount(), amount(), amount()), tax_method in -1..5,
        red in (".{0,20}", "[0-9]{0,10}", "[0-9]{0,18}"),
        lines in prop::collection::vec(any_line(), 0..8),
    ) -> pb::InvoiceDraft {
        let (amount_fen, tax_fen, total_fen, deduction_fen) = amounts;
        let (original_code, original_number, red_notice) = red;
        pb::InvoiceDraft {
            serial, kind, color, seller: Some(seller), buyer, remark, amount_fen, tax_fen,
            total_fen, deduction_fen, tax_method, original_code, original_number, red_notice,
            lines, ..Default::default()
        }
    }
}

fn any_remark() -> impl Strategy<Value = String> {
    let phrases = "(差额征税：|对应正数发票代码:|号码:|发票信息表编号|。|-?[0-9]{1,20}|.){0,8}";
    prop_oneof![any::<String>(), phrases]
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), Just(0), -200_i64..200]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "-?[0-9]{1,25}(\\.[0-9]{1,25})?", Just(String::new())]
}

/// Ways in which right invoices differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Normal lines.
    Plain,
    /// Each second line discounts the one before.
    Discount,
    /// A paper invoice with more lines than its face has room for.
    List,
    /// Ordinary zero rate.
    Zero,
    /// Exempt, with the preference's text.
    Exempt,
    /// A simplified levy, with the preference's text.
    Preference,
    /// A special kind.
    Special,
    /// Differential taxing.
    Differential,
    /// Red, of a normal kind.
    Red,
    /// Red, of a special kind.
    RedSpecial,
}

const SHAPES: [Shape; 10] = [
    Shape::Plain,
    Shape::Discount,
    Shape::List,
    Shape::Zero,
    Shape::Exempt,
    Shape::Preference,
    Shape::Special,
    Shape::Differential,
    Shape::Red,
    Shape::RedSpecial,
];

/// Quantity, price in fen, which rate, name.
type Goods = (u32, u32, usize, String);

prop_compose! {
    /// A draft that obeys every rule.
    fn valid_draft()(
        shape in prop::sample::select(SHAPES.to_vec()),
        goods in prop::collection::vec(
            (1_u32..10_000, 1_u32..1_000_000, 0_usize..4, "[a-z税票]{1,20}"), 1..20,
        ),
        remark in "([!-~票据]([ -~票据]{0,58}[!-~票据])?)?",
    ) -> (Shape, pb::InvoiceDraft) {
        (shape, shaped(shape, &goods, remark))
    }
}

fn shaped(shape: Shape, goods: &[Goods], remark: String) -> pb::InvoiceDraft {
    let base = match shape {
        Shape::Special | Shape::RedSpecial => special(),
        Shape::List => pb::InvoiceDraft { kind: pb::InvoiceKind::SpecialPaper.into(), ..special() },
        Shape::Differential => differential(),
        Shape::Plain
        | Shape::Discount
        | Shape::Zero
        | Shape::Exempt
        | Shape::Preference
        | Shape::Red => sample(),
    };
    let remark = if shape == Shape::Differential { base.remark + &remark } else { remark };
    let mut draft = pb::InvoiceDraft { remark, ..base };
    if shape != Shape::Differential {
        let sold = goods.iter().cycle().take(if shape == Shape::List { 9 } else { goods.len() });
        draft.lines = sold.flat_map(|goods| lines(shape, goods)).collect();
    }
    total_up(&mut draft);
    if matches!(shape, Shape::Red | Shape::RedSpecial) { red_of(draft) } else { draft }
}

fn lines(shape: Shape, (quantity, price_fen, rate, name): &Goods) -> Vec<pb::InvoiceLine> {
    use pb::ZeroRateKind as Zero;
    let (rate_millionths, zero, text) = match shape {
        Shape::Zero => (0, Zero::Ordinary, ""),
        Shape::Exempt => (0, Zero::Exempt, "免税"),
        Shape::Preference => (30_000, Zero::Unspecified, "按3%简易征收"),
        Shape::Plain
        | Shape::Discount
        | Shape::List
        | Shape::Special
        | Shape::Differential
        | Shape::Red
        | Shape::RedSpecial => ([30_000, 60_000, 90_000, 130_000][*rate], Zero::Unspecified, ""),
    };
    let amount_fen = i64::from(*quantity) * i64::from(*price_fen);
    let line = |kind: pb::LineKind, amount_fen| pb::InvoiceLine {
        kind: kind.into(),
        tax_code: "1".repeat(19),
        name: name.clone(),
        amount_fen,
        rate_millionths,
        tax_fen: tax(amount_fen, rate_millionths),
        preference: !text.is_empty(),
        preference_text: text.into(),
        zero_rate_kind: zero.into(),
        ..Default::default()
    };
    let discount = shape == Shape::Discount && amount_fen > 1;
    let kind = if discount { pb::LineKind::Discounted } else { pb::LineKind::Normal };
    let sold = pb::InvoiceLine {
        quantity: quantity.to_string(),
        unit_price: format!("{}.{:02}", price_fen / 100, price_fen % 100),
        ..line(kind, amount_fen)
    };
    let less = line(pb::LineKind::Discount, 1 - amount_fen);
    if discount { vec![sold, less] } else { vec![sold] }
}

/// One wrong thing each on any shape, with the reason it must be refused for.
const MUTATIONS: [(Reason, Change); 21] = [
    (Reason::FieldMissing, |draft| draft.drawer.clear()),
    (Reason::FieldMissing, |draft| draft.lines[0].name.clear()),
    (Reason::FieldInvalid, |draft| draft.remark.push('\u{1}')),
    (Reason::FieldTooLong, |draft| draft.remark = "x".repeat(231)),
    (Reason::TextNotGbk, |draft| draft.remark.push('€')),
    (Reason::TaxpayerIdFormat, |draft| buyer(draft).taxpayer_id = "9".into()),
    (Reason::SellerMismatch, |draft| seller(draft).name.push('x')),
    (Reason::TaxCodeInvalid, |draft| draft.lines[0].tax_code.truncate(18)),
    (Reason::RateNotAuthorised, |draft| draft.lines[0].rate_millionths = 120_000),
    (Reason::PreferenceInconsistent, |draft| draft.lines[0].preference ^= true),
    (Reason::QuantityPricePair, |draft| {
        draft.lines[0].quantity = "1".into();
        draft.lines[0].unit_price.clear();
    }),
    (Reason::LineAmountMismatch, |draft| {
        draft.lines[0].quantity = "99999".into();
        draft.lines[0].unit_price = "99999.99".into();
    }),
    (Reason::TotalAmountMismatch, |draft| draft.amount_fen += 1),
    (Reason::TotalTaxMismatch, |draft| draft.tax_fen += 128),
    (Reason::TotalSumMismatch, |draft| draft.total_fen += 1),
    (Reason::AmountSign, |draft| draft.total_fen = -draft.total_fen),
    (Reason::AmountSign, |draft| draft.lines[0].amount_fen = 0),
    (Reason::DiscountLineOrder, |draft| draft.lines[0].kind = pb::LineKind::Discount.into()),
    (Reason::LineCount, |draft| draft.lines = vec![draft.lines[0].clone(); 2001]),
    (Reason::LineCount, |draft| draft.lines.clear()),
    (Reason::RemarkInvalid, |draft| draft.remark.push(' ')),
];

/// One wrong thing on the shape that it is about.
const OF_SHAPE: [(Shape, Reason, Change); 16] = [
    (Shape::Plain, Reason::LineTaxMismatch, |draft| draft.lines[0].tax_fen += 7),
    (Shape::Plain, Reason::RateOutOfDate, |draft| draft.lines[0].rate_millionths = 170_000),
    (Shape::Plain, Reason::FieldInvalid, |draft| draft.original_code = "0".repeat(12)),
    (Shape::Discount, Reason::DiscountLineOrder, |draft| draft.lines.swap(0, 1)),
    (Shape::Discount, Reason::DiscountLineAmount, |draft| {
        draft.lines[1].amount_fen = -draft.lines[0].amount_fen - 1;
    }),
    (Shape::Zero, Reason::PreferenceInconsistent, |draft| draft.lines[0].zero_rate_kind = 0),
    (Shape::Zero, Reason::SpecialKindRule, |draft| draft.kind = 5),
    (Shape::Exempt, Reason::PreferenceInconsistent, |draft| draft.lines[0].zero_rate_kind = 4),
    (Shape::Preference, Reason::PreferenceInconsistent, |draft| {
        draft.lines[0].preference_text.push('x');
    }),
    (Shape::Special, Reason::SpecialKindRule, |draft| buyer(draft).bank_account.clear()),
    (Shape::Differential, Reason::DifferentialRule, |draft| draft.deduction_fen += 1),
    (Shape::Differential, Reason::LineTaxMismatch, |draft| draft.lines[0].tax_fen += 8),
    (Shape::Red, Reason::RedOriginalMissing, |draft| draft.original_number.push('0')),
    (Shape::Red, Reason::RemarkInvalid, |draft| draft.remark.push_str("对应正数发票代码:1")),
    (Shape::RedSpecial, Reason::RedNoticeInvalid, |draft| draft.red_notice = "1".repeat(16)),
    (Shape::List, Reason::LineCount, |draft| draft.lines = vec![draft.lines[0].clone(); 2001]),
];

proptest! {
    #[test]
    fn valid_drafts_of_every_shape_pass_both_profiles((_, draft) in valid_draft()) {
        for profile in ["baiwang", "aisino"] {
            prop_assert_eq!(found(draft.clone(), profile), Vec::new());
        }
    }

    #[test]
    fn one_wrong_thing_is_refused_with_its_own_reason(
        (_, mut draft) in valid_draft(),
        (reason, change) in prop::sample::select(MUTATIONS.to_vec()),
    ) {
        change(&mut draft);
        for profile in ["baiwang", "aisino"] {
            let found = found(draft.clone(), profile);
            prop_assert!(found.iter().any(|(_, named)| *named == reason), "{reason}: {found:?}");
        }
    }

    #[test]
    fn one_wrong_thing_of_a_shape_is_refused_with_its_own_reason(
        (shape, mut draft) in valid_draft(), pick in 0_usize..16,
    ) {
        let of_shape: Vec<_> = OF_SHAPE.iter().filter(|(of, ..)| *of == shape).collect();
        let (_, reason, change) = of_shape[pick % of_shape.len()];
        change(&mut draft);
        for profile in ["baiwang", "aisino"] {
            let found = found(draft.clone(), profile);
            prop_assert!(found.iter().any(|(_, named)| named == reason), "{reason}: {found:?}");
        }
    }

    /// Money that was accepted adds up, whatever the shape.
    #[test]
    fn what_is_checked_adds_up((_, draft) in valid_draft()) {
        let checked = verdict(draft, PROFILES.get("baiwang").unwrap()).unwrap();
        let totals = checked.totals;
        prop_assert_eq!(totals.amount.0 + totals.tax.0, totals.total.0);
    }

    #[test]
    fn no_draft_makes_the_checks_panic(draft in any_draft()) {
        for profile in ["baiwang", "aisino"] {
            prop_assert!(found(draft.clone(), profile).len() <= VIOLATIONS_MAX);
        }
    }
}
