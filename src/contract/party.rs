//! Seller and buyer: presence, texts and taxpayer ids (纳税人识别号). Source: docs/domain.md 1.4 and 3.1.

use super::{
    check::{Limit, Rules, text},
    findings::{Field, Findings},
    profile::Profile,
};
use crate::{pb::v1 as pb, refusal::Reason, registry::Taxpayer};

/// Checks the seller: complete, and the taxpayer that the device belongs to.
pub(super) fn seller(
    findings: &mut Findings<'_>,
    party: Option<&pb::Party>,
    taxpayer: &Taxpayer,
    profile: &Profile,
) {
    const ID: Field = Field::of("seller.taxpayer_id");
    const NAME: Field = Field::of("seller.name");
    let empty = pb::Party::default();
    let party = party.unwrap_or(&empty);
    let (lengths, rules) = (&profile.lengths, &profile.taxpayer_id);
    taxpayer_id(findings, ID, &party.taxpayer_id, &rules.seller_lengths);
    // Its check character is not looked at: it must be the registered id, whatever that ends in.
    if party.taxpayer_id != taxpayer.id {
        mismatch(findings, ID, ("id", "识别号"));
    }
    text(findings, NAME, &party.name, Limit::required(lengths.party_name));
    if !party.name.is_empty() && party.name != taxpayer.name {
        mismatch(findings, NAME, ("name", "名称"));
    }
    let address =
        Limit { max: lengths.address_phone, required: profile.required.seller_address_phone };
    text(findings, Field::of("seller.address_phone"), &party.address_phone, address);
    let bank = Limit::optional(lengths.bank_account);
    text(findings, Field::of("seller.bank_account"), &party.bank_account, bank);
}

/// Checks the buyer. One without an id is a person; special kinds (专票) need all details.
pub(super) fn buyer(findings: &mut Findings<'_>, party: Option<&pb::Party>, rules: Rules<'_>) {
    const ID: Field = Field::of("buyer.taxpayer_id");
    const ADDRESS: Field = Field::of("buyer.address_phone");
    const BANK: Field = Field::of("buyer.bank_account");
    let empty = pb::Party::default();
    let party = party.unwrap_or(&empty);
    let (lengths, ids) = (&rules.profile.lengths, &rules.profile.taxpayer_id);
    if !party.taxpayer_id.is_empty() {
        taxpayer_id(findings, ID, &party.taxpayer_id, &ids.buyer_lengths);
        buyer_id(findings, ID, &party.taxpayer_id, &ids.refused);
    }
    text(findings, Field::of("buyer.name"), &party.name, Limit::required(lengths.party_name));
    text(findings, ADDRESS, &party.address_phone, Limit::optional(lengths.address_phone));
    text(findings, BANK, &party.bank_account, Limit::optional(lengths.bank_account));
    if rules.profile.required.special_buyer_details && rules.is_special() {
        let details = [
            (ID, &party.taxpayer_id),
            (ADDRESS, &party.address_phone),
            (BANK, &party.bank_account),
        ];
        for (field, _) in details.into_iter().filter(|(_, value)| value.trim().is_empty()) {
            findings.add(
                field,
                Reason::SpecialKindRule,
                "is missing, and a special invoice needs it",
                "专用发票须填写此项",
            );
        }
    }
}

/// What holds for the buyer's id beyond its shape.
fn buyer_id(findings: &mut Findings<'_>, field: Field, id: &str, refused: &[String]) {
    if refused.iter().any(|refused| refused == id) {
        let (en, zh) = ("is an id that devices refuse", "设备不接受该识别号");
        findings.add(field, Reason::TaxpayerIdFormat, en, zh);
    }
    if id.len() == 18 && is_alphabet(id) && !has_check_character(id.as_bytes()) {
        findings.add(
            field,
            Reason::TaxpayerIdChecksum,
            "its last character does not match the others",
            "末位校验码不正确",
        );
    }
}

fn is_alphabet(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

fn mismatch(findings: &mut Findings<'_>, field: Field, (en, zh): (&str, &str)) {
    findings.add(
        field,
        Reason::SellerMismatch,
        format!("is not the {en} that the device's taxpayer is registered with"),
        format!("与设备所属纳税人登记的{zh}不一致"),
    );
}

fn taxpayer_id(findings: &mut Findings<'_>, field: Field, id: &str, lengths: &[usize]) {
    if !is_alphabet(id) {
        findings.add(
            field,
            Reason::TaxpayerIdFormat,
            "must be upper-case letters and digits",
            "须为大写字母和数字",
        );
    }
    let count = id.chars().count();
    if !lengths.contains(&count) {
        findings.add(
            field,
            Reason::TaxpayerIdFormat,
            format!("is {count} characters long, allowed are {lengths:?}"),
            format!("长度 {count} 位，允许的长度为 {lengths:?}"),
        );
    }
}

/// Whether 18 characters end in the check character of a unified social credit code (统一社会信用代码,
/// GB 32100-2015) or of an identity card number (公民身份号码, GB 11643-1999), which persons trade under.
fn has_check_character(id: &[u8]) -> bool {
    credit_code_check(id) || identity_card_check(id)
}

fn credit_code_check(id: &[u8]) -> bool {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
    const WEIGHTS: [usize; 17] = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28];
    let value = |byte: &u8| ALPHABET.iter().position(|letter| letter == byte);
    let Some((check, body)) = id.split_last() else { return false };
    let mut sum = 0;
    for (byte, weight) in body.iter().zip(WEIGHTS) {
        let Some(value) = value(byte) else { return false };
        sum += value * weight;
    }
    value(check) == Some((31 - sum % 31) % 31)
}

fn identity_card_check(id: &[u8]) -> bool {
    const CHECKS: &[u8; 11] = b"10X98765432";
    const WEIGHTS: [usize; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let Some((check, body)) = id.split_last() else { return false };
    let mut sum = 0;
    for (byte, weight) in body.iter().zip(WEIGHTS) {
        if !byte.is_ascii_digit() {
            return false;
        }
        sum += usize::from(byte - b'0') * weight;
    }
    CHECKS[sum % 11] == *check
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes are made up: region 000000 does not exist. Checks were computed apart from this
    /// code.
    #[test]
    fn the_check_character_of_a_credit_code_is_the_standard_s() {
        for (id, expect) in [
            ("91000000MATE5T00X8", true),
            ("91000000MATE5T00X9", false),
            ("91000000TEST000001", false),
        ] {
            assert_eq!(credit_code_check(id.as_bytes()), expect, "{id}");
        }
        assert!(!credit_code_check(b"9100000OMA00000000"), "O is not in the alphabet");
    }

    #[test]
    fn the_check_character_of_an_identity_card_is_the_standard_s() {
        for (id, expect) in [
            ("000000190001010009", true),
            ("00000019000101005X", true),
            ("000000190001010000", false),
        ] {
            assert_eq!(identity_card_check(id.as_bytes()), expect, "{id}");
        }
    }
}
