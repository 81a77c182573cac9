//! Presence, texts, codes, ids: what a field may hold at all.

use super::*;
use crate::refusal::Severity;

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
            ("draft.buyer.taxpayer_id", Reason::SpecialKindRule),
            ("draft.buyer.address_phone", Reason::SpecialKindRule),
            ("draft.buyer.bank_account", Reason::SpecialKindRule),
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
    let long = [
        ("draft.lines[1].preference_text", Reason::FieldTooLong),
        ("draft.lines[1].preference_text", Reason::PreferenceInconsistent),
    ];
    check(|draft| draft.lines[1].preference_text = "a".repeat(51), &long);
    check(|draft| draft.lines[1].preference_text = "a".repeat(50), &long[1..]);
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
    for text in ["1".repeat(18), format!("{}x", "1".repeat(18)), "0".repeat(19)] {
        let expect = [("draft.lines[0].tax_code", Reason::TaxCodeInvalid)];
        check(|draft| draft.lines[0].tax_code = text.clone(), &expect);
    }
    let too_long = [("draft.lines[0].tax_code", Reason::FieldTooLong)];
    check(|draft| draft.lines[0].tax_code = "1".repeat(20), &too_long);
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
fn an_id_that_devices_refuse_is_refused() {
    let expect = [("draft.buyer.taxpayer_id", Reason::TaxpayerIdFormat)];
    check(|draft| buyer(draft).taxpayer_id = "000000123456789".into(), &expect);
    check(|draft| buyer(draft).taxpayer_id = "000000123456788".into(), &[]);
    check(|draft| buyer(draft).taxpayer_id = "0".repeat(15), &[]);
}

#[test]
fn the_buyer_s_check_character_counts_as_the_profile_says() {
    let mut profile = PROFILES.get("baiwang").unwrap().clone();
    profile.severity.set(Reason::TaxpayerIdChecksum, Severity::Refuse);
    let with = |id: &str| {
        let mut draft = sample();
        buyer(&mut draft).taxpayer_id = id.into();
        draft
    };
    for (id, right) in [
        ("91000000MATE5T00X8", true),
        ("91000000MATE5T00X9", false),
        ("000000190001010009", true),
        ("000000190001010008", false),
        // Only 18 characters have a check character.
        ("9100000000000009", true),
    ] {
        let verdict = verdict(with(id), &profile);
        let found = verdict.map_err(|refusal| pairs(refusal.violations)).err();
        let expect = [("draft.buyer.taxpayer_id".to_owned(), Reason::TaxpayerIdChecksum)];
        assert_eq!(found, (!right).then(|| expect.to_vec()), "{id}");
    }
}

#[test]
fn the_seller_is_the_device_s_taxpayer() {
    let expect = [("draft.seller.name", Reason::SellerMismatch)];
    check(|draft| seller(draft).name.push('店'), &expect);
}

#[test]
fn a_kind_must_be_approved_for_the_device() {
    let (taxpayer, device) = (taxpayer(), device(&[Kind::ESpecial]));
    let (taxpayer, device) = (&taxpayer, &device);
    let target = Target {
        platform: PlatformNo(1),
        taxpayer,
        device,
        red_offered: false,
        authorised_rates: &[],
    };
    let draft = normalise(Some(sample())).unwrap();
    let profile = PROFILES.get("baiwang").unwrap();
    let refusal = crate::contract::check(draft, target, profile, at(TODAY)).unwrap_err();
    assert_eq!(refusal.reason, Reason::KindNotApproved);
}
