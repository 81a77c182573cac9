//! Laws over arbitrary drafts: valid ones pass, one mutation is refused for its own reason, and
//! nothing makes the checks panic.

use super::{
    decimal,
    findings::VIOLATIONS_MAX,
    tests::{Change, buyer, found, sample, seller, total_up},
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
        buyer in prop::option::of(any_party()), remark: String, amount_fen in amount(),
        tax_fen in amount(), total_fen in amount(),
        lines in prop::collection::vec(any_line(), 0..8),
    ) -> pb::InvoiceDraft {
        pb::InvoiceDraft {
            serial, kind, color, seller: Some(seller), buyer, remark, amount_fen, tax_fen,
            total_fen, lines, ..Default::default()
        }
    }
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), Just(0), -200_i64..200]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "-?[0-9]{1,25}(\\.[0-9]{1,25})?", Just(String::new())]
}

prop_compose! {
    /// A draft that obeys every rule: prices in fen, a rate, some lines discounted.
    fn valid_draft()(
        goods in prop::collection::vec(
            (1_u32..10_000, 1_u32..1_000_000, 0_usize..4, any::<bool>(), "[a-z税票]{1,20}"), 1..20,
        ),
        remark in "[ -~票据]{0,60}",
    ) -> pb::InvoiceDraft {
        let mut draft = pb::InvoiceDraft { remark, ..sample() };
        draft.lines = goods.into_iter().flat_map(valid_lines).collect();
        total_up(&mut draft);
        draft
    }
}

fn valid_lines(
    (quantity, price_fen, rate, discount, name): (u32, u32, usize, bool, String),
) -> Vec<pb::InvoiceLine> {
    let rate_millionths = [0, 30_000, 60_000, 130_000][rate];
    let amount_fen = i64::from(quantity) * i64::from(price_fen);
    let line = |kind: pb::LineKind, amount_fen| pb::InvoiceLine {
        kind: kind.into(),
        tax_code: "1".repeat(19),
        name: name.clone(),
        amount_fen,
        rate_millionths,
        tax_fen: i64::try_from(decimal::tax_fen(amount_fen, rate_millionths)).unwrap(),
        ..Default::default()
    };
    let kind = if discount { pb::LineKind::Discounted } else { pb::LineKind::Normal };
    let sold = pb::InvoiceLine {
        quantity: quantity.to_string(),
        unit_price: format!("{}.{:02}", price_fen / 100, price_fen % 100),
        ..line(kind, amount_fen)
    };
    if discount { vec![sold, line(pb::LineKind::Discount, -amount_fen)] } else { vec![sold] }
}

/// One wrong thing each, with the reason it must be refused for.
const MUTATIONS: [(Reason, Change); 14] = [
    (Reason::FieldMissing, |draft| draft.drawer.clear()),
    (Reason::FieldInvalid, |draft| draft.remark.push('\u{1}')),
    (Reason::FieldTooLong, |draft| draft.remark = "x".repeat(231)),
    (Reason::TextNotGbk, |draft| draft.remark.push('€')),
    (Reason::TaxpayerIdFormat, |draft| buyer(draft).taxpayer_id = "9".into()),
    (Reason::SellerMismatch, |draft| seller(draft).name.push('x')),
    (Reason::QuantityPricePair, |draft| draft.lines[0].unit_price.clear()),
    (Reason::LineAmountMismatch, |draft| draft.lines[0].quantity = "99999".into()),
    (Reason::LineTaxMismatch, |draft| draft.lines[0].tax_fen += 7),
    (Reason::TotalAmountMismatch, |draft| draft.amount_fen += 1),
    (Reason::TotalTaxMismatch, |draft| draft.tax_fen += 128),
    (Reason::TotalSumMismatch, |draft| draft.total_fen += 1),
    (Reason::DiscountLineOrder, |draft| draft.lines[0].kind = pb::LineKind::Discount.into()),
    (Reason::LineCount, |draft| draft.lines = vec![draft.lines[0].clone(); 101]),
];

proptest! {
    #[test]
    fn valid_drafts_pass_both_profiles(draft in valid_draft()) {
        prop_assume!(draft.amount_fen > 0);
        for profile in ["baiwang", "aisino"] {
            prop_assert_eq!(found(draft.clone(), profile), Vec::new());
        }
    }

    #[test]
    fn one_wrong_thing_is_refused_with_its_own_reason(
        mut draft in valid_draft(), (reason, change) in prop::sample::select(MUTATIONS.to_vec()),
    ) {
        change(&mut draft);
        for profile in ["baiwang", "aisino"] {
            let found = found(draft.clone(), profile);
            prop_assert!(found.iter().any(|(_, named)| *named == reason), "{reason}: {found:?}");
        }
    }

    #[test]
    fn no_draft_makes_the_checks_panic(draft in any_draft()) {
        for profile in ["baiwang", "aisino"] {
            prop_assert!(found(draft.clone(), profile).len() <= VIOLATIONS_MAX);
        }
    }
}
