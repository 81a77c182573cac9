//! The rules as tables, each with its boundary on both sides.

use super::{findings::VIOLATIONS_MAX, sample::SELLER, *};
use crate::refusal::{Reason, Refusal};
use std::{collections::BTreeSet, sync::LazyLock};

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::embedded);

pub(super) type Change = fn(&mut pb::InvoiceDraft);

pub(super) fn sample() -> pb::InvoiceDraft {
    sample::draft("T-1", SELLER)
}

fn taxpayer() -> Taxpayer {
    Taxpayer {
        no: TaxpayerNo(1),
        id: SELLER.taxpayer_id.into(),
        name: SELLER.name.into(),
        province: "00".into(),
    }
}

fn device(kinds: &[Kind]) -> Device {
    Device {
        no: DeviceNo(1),
        id: "D1".into(),
        taxpayer: TaxpayerNo(1),
        machine_number: "000000000001".into(),
        backend: crate::registry::BackendKind::SoftwareP256,
        kinds: BTreeSet::from_iter(kinds.iter().copied()),
        profile: DEFAULT_PROFILE.into(),
        enabled: true,
        test: true,
        public_key: Vec::new(),
    }
}

fn verdict(draft: pb::InvoiceDraft, profile: &Profile) -> Result<Checked, Refusal> {
    let (taxpayer, device) = (taxpayer(), device(&Kind::ALL));
    let target = Target { platform: PlatformNo(1), taxpayer: &taxpayer, device: &device };
    super::check(normalise(Some(draft))?, target, profile)
}

pub(super) fn found(draft: pb::InvoiceDraft, profile: &str) -> Vec<(String, Reason)> {
    match verdict(draft, PROFILES.get(profile).unwrap()) {
        Ok(_) => Vec::new(),
        Err(refusal) => {
            refusal.violations.into_iter().map(|found| (found.field, found.reason)).collect()
        }
    }
}

/// The changed sample is refused for exactly these fields and reasons; none: it is accepted.
#[track_caller]
fn check_with(profile: &str, change: impl Fn(&mut pb::InvoiceDraft), expect: &[(&str, Reason)]) {
    let mut draft = sample();
    change(&mut draft);
    let found = found(draft, profile);
    let found: Vec<_> = found.iter().map(|(field, reason)| (field.as_str(), *reason)).collect();
    assert_eq!(found, expect, "{profile}");
}

#[track_caller]
fn check(change: impl Fn(&mut pb::InvoiceDraft), expect: &[(&str, Reason)]) {
    check_with("baiwang", &change, expect);
    check_with("aisino", &change, expect);
}

pub(super) fn seller(draft: &mut pb::InvoiceDraft) -> &mut pb::Party {
    draft.seller.as_mut().unwrap()
}

pub(super) fn buyer(draft: &mut pb::InvoiceDraft) -> &mut pb::Party {
    draft.buyer.as_mut().unwrap()
}

/// Makes the totals fit the lines.
pub(super) fn total_up(draft: &mut pb::InvoiceDraft) {
    draft.amount_fen = draft.lines.iter().map(|line| line.amount_fen).sum();
    draft.tax_fen = draft.lines.iter().map(|line| line.tax_fen).sum();
    draft.total_fen = draft.amount_fen + draft.tax_fen;
}

#[test]
fn the_sample_passes_and_carries_what_later_stages_need() {
    for profile in ["baiwang", "aisino"] {
        let checked = verdict(sample(), PROFILES.get(profile).unwrap()).unwrap();
        assert_eq!((checked.kind, checked.color), (Kind::ENormal, Color::Blue));
        assert_eq!(checked.totals.total.0, sample().total_fen);
        assert_eq!(checked.draft.wire, sample());
    }
}

#[test]
fn mandatory_fields_must_be_there() {
    use Reason::FieldMissing as Missing;
    check(|draft| draft.kind = 0, &[("draft.kind", Missing)]);
    check(|draft| draft.color = 0, &[("draft.color", Missing)]);
    check(|draft| draft.drawer.clear(), &[("draft.drawer", Missing)]);
    check(|draft| draft.drawer = "  ".into(), &[("draft.drawer", Missing)]);
    check(|draft| draft.tax_code_version.clear(), &[("draft.tax_code_version", Missing)]);
    check(|draft| seller(draft).name.clear(), &[("draft.seller.name", Missing)]);
    let address = "draft.seller.address_phone";
    check(|draft| seller(draft).address_phone.clear(), &[(address, Missing)]);
    check(|draft| seller(draft).bank_account.clear(), &[]);
    check(|draft| draft.buyer = None, &[("draft.buyer.name", Missing)]);
    check(|draft| draft.lines[1].name.clear(), &[("draft.lines[1].name", Missing)]);
    check(|draft| draft.lines[1].tax_code.clear(), &[("draft.lines[1].tax_code", Missing)]);
    check(|draft| draft.lines[0].preference = true, &[("draft.lines[0].preference_text", Missing)]);
}

#[test]
fn a_person_buys_without_an_id_but_not_on_special_kinds() {
    let person = |draft: &mut pb::InvoiceDraft| {
        draft.buyer = Some(pb::Party { name: "个人".into(), ..Default::default() });
    };
    check(person, &[]);
    check(
        |draft| {
            person(draft);
            draft.kind = pb::InvoiceKind::ESpecial.into();
        },
        &[
            ("draft.buyer.taxpayer_id", Reason::FieldMissing),
            ("draft.buyer.address_phone", Reason::FieldMissing),
            ("draft.buyer.bank_account", Reason::FieldMissing),
        ],
    );
}

#[test]
fn lengths_are_counted_in_gbk_bytes_up_to_the_limit() {
    #[track_caller]
    fn limit(max: usize, field: &str, set: impl Fn(&mut pb::InvoiceDraft, String)) {
        let wide = format!("{}{}", "票".repeat(max / 2), "a".repeat(max % 2));
        for text in ["a".repeat(max), wide] {
            check(|draft| set(draft, text.clone()), &[]);
            check(|draft| set(draft, format!("{text}a")), &[(field, Reason::FieldTooLong)]);
        }
    }
    limit(8, "draft.drawer", |draft, text| draft.drawer = text);
    limit(8, "draft.payee", |draft, text| draft.payee = text);
    limit(8, "draft.checker", |draft, text| draft.checker = text);
    limit(20, "draft.tax_code_version", |draft, text| draft.tax_code_version = text);
    limit(30, "draft.terminal", |draft, text| draft.terminal = text);
    limit(100, "draft.buyer.name", |draft, text| buyer(draft).name = text);
    limit(100, "draft.seller.bank_account", |draft, text| seller(draft).bank_account = text);
    limit(100, "draft.buyer.address_phone", |draft, text| buyer(draft).address_phone = text);
    limit(90, "draft.lines[0].name", |draft, text| draft.lines[0].name = text);
    limit(40, "draft.lines[0].specification", |draft, text| draft.lines[0].specification = text);
    limit(20, "draft.lines[1].unit", |draft, text| draft.lines[1].unit = text);
    limit(20, "draft.lines[1].own_code", |draft, text| draft.lines[1].own_code = text);
    limit(50, "draft.lines[1].preference_text", |draft, text| {
        draft.lines[1].preference_text = text
    });
}

#[test]
fn the_remark_s_limit_depends_on_kind_and_profile() {
    use pb::InvoiceKind as K;
    for (profile, kind, max) in [
        ("baiwang", K::ENormal, 130),
        ("baiwang", K::ESpecial, 130),
        ("baiwang", K::NormalPaper, 138),
        ("baiwang", K::SpecialPaper, 184),
        ("aisino", K::ENormal, 230),
        ("aisino", K::ESpecial, 230),
        ("aisino", K::SpecialPaper, 184),
    ] {
        let set = |draft: &mut pb::InvoiceDraft, length| {
            draft.kind = kind.into();
            draft.remark = "a".repeat(length);
            buyer(draft).address_phone = "示例路2号".into();
            buyer(draft).bank_account = "示例银行".into();
        };
        check_with(profile, |draft| set(draft, max), &[]);
        let too_long = [("draft.remark", Reason::FieldTooLong)];
        check_with(profile, |draft| set(draft, max + 1), &too_long);
    }
}

#[test]
fn text_outside_gbk_and_control_characters_are_refused() {
    for text in ["€", "😀", "㐂", "\u{e000}"] {
        check(|draft| draft.remark = text.into(), &[("draft.remark", Reason::TextNotGbk)]);
    }
    for text in ["\u{0}", "a\tb", "a\nb", "票\u{7f}", "\u{85}"] {
        check(|draft| draft.remark = text.into(), &[("draft.remark", Reason::FieldInvalid)]);
    }
}

#[test]
fn codes_have_their_shape() {
    use Reason::FieldInvalid as Invalid;
    check(|draft| draft.special_kind = "00".into(), &[]);
    for text in ["0", "000", "0a", "０"] {
        check(|draft| draft.special_kind = text.into(), &[("draft.special_kind", Invalid)]);
    }
    for text in ["1".repeat(18), "1".repeat(20), format!("{}x", "1".repeat(18))] {
        let expect = [("draft.lines[0].tax_code", Invalid)];
        check(|draft| draft.lines[0].tax_code = text.clone(), &expect);
    }
    check(|draft| draft.device_id = "d".repeat(32), &[]);
    let too_long = [("draft.device_id", Reason::FieldTooLong)];
    check(|draft| draft.device_id = "d".repeat(33), &too_long);
    check(|draft| draft.device_id = "a b".into(), &[("draft.device_id", Invalid)]);
}

#[test]
fn unknown_enum_values_are_refused() {
    use Reason::FieldInvalid as Invalid;
    check(|draft| draft.kind = 6, &[("draft.kind", Invalid)]);
    check(|draft| draft.color = 3, &[("draft.color", Invalid)]);
    check(|draft| draft.tax_method = -1, &[("draft.tax_method", Invalid)]);
    check(|draft| draft.lines[0].kind = 4, &[("draft.lines[0].kind", Invalid)]);
    check(|draft| draft.lines[0].zero_rate_kind = 5, &[("draft.lines[0].zero_rate_kind", Invalid)]);
}

#[test]
fn taxpayer_ids_have_their_lengths_and_alphabet() {
    let field = "draft.buyer.taxpayer_id";
    for length in 15..=20 {
        check(|draft| buyer(draft).taxpayer_id = "9".repeat(length), &[]);
    }
    for text in ["9".repeat(14), "9".repeat(21), "a".repeat(15), "票".repeat(15)] {
        let expect = [(field, Reason::TaxpayerIdFormat)];
        check(|draft| buyer(draft).taxpayer_id = text.clone(), &expect);
    }
    for (length, right) in
        [(14, false), (15, true), (16, false), (17, true), (19, false), (20, true)]
    {
        let field = "draft.seller.taxpayer_id";
        let mismatch = (field, Reason::SellerMismatch);
        let both = [(field, Reason::TaxpayerIdFormat), mismatch];
        let expect = if right { &both[1..] } else { &both };
        check(|draft| seller(draft).taxpayer_id = "9".repeat(length), expect);
    }
}

#[test]
fn the_check_character_counts_only_where_the_profile_says_so() {
    let mut strict = PROFILES.get("baiwang").unwrap().clone();
    strict.taxpayer_id.checksum = Severity::Refuse;
    let refusal = verdict(sample(), &strict).unwrap_err();
    assert!(refusal.violations.iter().all(|found| found.reason == Reason::TaxpayerIdChecksum));
    assert_eq!(refusal.violations.len(), 2);
    check(|_| {}, &[]);
}

#[test]
fn the_seller_is_the_device_s_taxpayer() {
    let expect = [("draft.seller.name", Reason::SellerMismatch)];
    check(|draft| seller(draft).name.push('店'), &expect);
}

#[test]
fn a_kind_must_be_approved_for_the_device() {
    let (taxpayer, device) = (taxpayer(), device(&[Kind::ESpecial]));
    let target = Target { platform: PlatformNo(1), taxpayer: &taxpayer, device: &device };
    let draft = normalise(Some(sample())).unwrap();
    let profile = PROFILES.get("baiwang").unwrap();
    assert_eq!(super::check(draft, target, profile).unwrap_err().reason, Reason::KindNotApproved);
}

#[test]
fn red_letters_and_special_taxing_are_not_offered_yet() {
    use Reason::OperationNotAllowed as NotAllowed;
    check(|draft| draft.color = 2, &[("draft.color", NotAllowed)]);
    check(|draft| draft.tax_method = 2, &[("draft.tax_method", NotAllowed)]);
    check(|draft| draft.tax_method = 3, &[("draft.tax_method", NotAllowed)]);
    let invalid = |field| [(field, Reason::FieldInvalid)];
    check(|draft| draft.deduction_fen = 1, &invalid("draft.deduction_fen"));
    check(|draft| draft.original_code = "0".repeat(12), &invalid("draft.original_code"));
    check(|draft| draft.original_number = "0".repeat(8), &invalid("draft.original_number"));
    check(|draft| draft.red_notice = "0".repeat(16), &invalid("draft.red_notice"));
}

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
fn rates_stay_within_the_profile_s_range() {
    let set = |draft: &mut pb::InvoiceDraft, rate: i32| {
        let tax = decimal::tax_fen(draft.lines[0].amount_fen, rate);
        draft.lines[0].rate_millionths = rate;
        draft.lines[0].tax_fen = i64::try_from(tax).unwrap();
        total_up(draft);
    };
    check(|draft| set(draft, 0), &[]);
    check(|draft| set(draft, 170_000), &[]);
    check(|draft| set(draft, 170_001), &[("draft.lines[0].rate_millionths", Reason::FieldInvalid)]);
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
        total_up(draft);
    };
    let max = 99_999_999_999_999;
    check(|draft| set(draft, max), &[]);
    let fields = ["draft.amount_fen", "draft.total_fen", "draft.lines[0].amount_fen"];
    check(|draft| set(draft, max + 1), &fields.map(|field| (field, Reason::FieldInvalid)));
}

/// Line 0 discounted by a new line 1.
fn discounted(draft: &mut pb::InvoiceDraft) {
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
fn an_invoice_has_1_to_100_lines() {
    let with = |count| {
        move |draft: &mut pb::InvoiceDraft| {
            *draft = sample::draft_with_lines("T-1", SELLER, count);
        }
    };
    check(with(1), &[]);
    check(with(100), &[]);
    check(with(101), &[("draft.lines", Reason::LineCount)]);
    check(|draft| draft.lines.clear(), &[("draft.lines", Reason::LineCount)]);
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
