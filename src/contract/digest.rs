//! The content digest: what makes two drafts "the same content". Pinned by golden vectors; a change
//! of the encoding is a new version, because stored digests are compared with the version used
//! then.
//!
//! A draft has the lowest version that holds all that it says, and no other, so that what was
//! stored before a field existed still compares. `origin` is in none: it tells which machine asked,
//! and the same request may be repeated from another one.
//!
//! Version 1 is SHA-256 over a domain string and every field of the draft in ascending field
//! number. Each value has a tag, and what can vary in length has its length in front, so no two
//! drafts share an encoding. Decimals go in by value, defaults of enums as the default, an absent
//! message as an empty one. Version 2 is the same with a domain string of its own and the red
//! confirmation (红字确认单) behind the last field.

use crate::{
    contract::{ContentDigest, decimal::Parts},
    convert,
    pb::v1 as pb,
};

/// The version of a draft without a red confirmation.
const PLAIN: u8 = 1;
/// The version of a draft with one.
const CONFIRMED: u8 = 2;

const DOMAIN: &[u8] = b"skproxy invoice draft, digest version ";

/// Capacity for an 8-line invoice, so that the usual one allocates once. Unit: bytes.
const CAPACITY: usize = 3072;

mod tag {
    pub(super) const TEXT: u8 = 1;
    pub(super) const INTEGER: u8 = 2;
    pub(super) const DECIMAL: u8 = 3;
    pub(super) const COUNT: u8 = 4;
}

/// The digest of a draft as `version` defines it. `None` when the draft is of another version, or
/// this program does not know it.
#[must_use]
pub fn digest(version: u8, draft: &pb::InvoiceDraft) -> Option<ContentDigest> {
    (version == version_of(draft)).then(|| current(draft))
}

/// The digest that new claims store.
pub(super) fn current(draft: &pb::InvoiceDraft) -> ContentDigest {
    let version = version_of(draft);
    let mut encoding = Encoding(Vec::with_capacity(CAPACITY));
    encoding.0.extend_from_slice(DOMAIN);
    encoding.0.extend_from_slice(version.to_string().as_bytes());
    encoding.draft(draft);
    if version == CONFIRMED {
        encoding.texts([&draft.red_confirmation, &draft.red_confirmation_uuid]);
    }
    ContentDigest { version, bytes: convert::sha256(&encoding.0) }
}

fn version_of(draft: &pb::InvoiceDraft) -> u8 {
    let plain = draft.red_confirmation.is_empty() && draft.red_confirmation_uuid.is_empty();
    if plain { PLAIN } else { CONFIRMED }
}

struct Encoding(Vec<u8>);

impl Encoding {
    fn draft(&mut self, draft: &pb::InvoiceDraft) {
        // No `..`: a new field does not compile until a new version takes it in, as `current` does
        // the red confirmation.
        let pb::InvoiceDraft {
            serial,
            kind,
            color,
            seller,
            buyer,
            drawer,
            payee,
            checker,
            amount_fen,
            tax_fen,
            total_fen,
            remark,
            tax_method,
            deduction_fen,
            tax_code_version,
            special_kind,
            original_code,
            original_number,
            red_notice,
            lines,
            device_id,
            terminal,
            origin: _,
            red_confirmation: _,
            red_confirmation_uuid: _,
        } = draft;
        self.text(serial);
        self.integer(*kind);
        self.integer(*color);
        self.party(seller.as_ref());
        self.party(buyer.as_ref());
        self.texts([drawer, payee, checker]);
        self.integer(*amount_fen);
        self.integer(*tax_fen);
        self.integer(*total_fen);
        self.text(remark);
        self.integer(or_default(*tax_method, pb::TaxMethod::Ordinary.into()));
        self.integer(*deduction_fen);
        self.texts([tax_code_version, special_kind, original_code, original_number, red_notice]);
        self.length(tag::COUNT, lines.len());
        for line in lines {
            self.line(line);
        }
        self.texts([device_id, terminal]);
    }

    fn party(&mut self, party: Option<&pb::Party>) {
        let empty = pb::Party::default();
        let pb::Party { taxpayer_id, name, address_phone, bank_account } = party.unwrap_or(&empty);
        self.texts([taxpayer_id, name, address_phone, bank_account]);
    }

    fn line(&mut self, line: &pb::InvoiceLine) {
        let pb::InvoiceLine {
            kind,
            tax_code,
            own_code,
            name,
            specification,
            unit,
            quantity,
            unit_price,
            amount_fen,
            rate_millionths,
            tax_fen,
            preference,
            zero_rate_kind,
            preference_text,
        } = line;
        self.integer(or_default(*kind, pb::LineKind::Normal.into()));
        self.texts([tax_code, own_code, name, specification, unit]);
        self.decimal(quantity);
        self.decimal(unit_price);
        self.integer(*amount_fen);
        self.integer(*rate_millionths);
        self.integer(*tax_fen);
        self.integer(*preference);
        self.integer(*zero_rate_kind);
        self.text(preference_text);
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) {
        for text in texts {
            self.text(text);
        }
    }

    fn text(&mut self, text: &str) {
        self.length(tag::TEXT, text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn integer(&mut self, value: impl Into<i64>) {
        self.0.push(tag::INTEGER);
        self.0.extend_from_slice(&value.into().to_be_bytes());
    }

    /// A decimal in its shortest form; what is no decimal goes in as the text that it is.
    fn decimal(&mut self, text: &str) {
        let Some(parts) = Parts::parse(text).map(Parts::shortest) else { return self.text(text) };
        self.length(tag::DECIMAL, parts.whole.len());
        self.0.push(u8::from(parts.negative));
        self.0.extend_from_slice(parts.whole.as_bytes());
        self.length(tag::DECIMAL, parts.fraction.len());
        self.0.extend_from_slice(parts.fraction.as_bytes());
    }

    fn length(&mut self, tag: u8, length: usize) {
        self.0.push(tag);
        self.0.extend_from_slice(&convert::len_u64(length).to_be_bytes());
    }
}

/// "Not given" means the default.
fn or_default(value: i32, default: i32) -> i32 {
    if value == 0 { default } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample;
    use proptest::prelude::*;

    fn sample() -> pb::InvoiceDraft {
        sample::draft("GOLDEN-1", sample::SELLER)
    }

    #[track_caller]
    fn check(change: impl Fn(&mut pb::InvoiceDraft), same: bool) {
        let mut changed = sample();
        change(&mut changed);
        assert_eq!(current(&changed) == current(&sample()), same, "{changed:?}");
    }

    /// Computed by a second program from the description above.
    #[test]
    fn the_golden_vectors_stay() {
        let empty = current(&pb::InvoiceDraft::default());
        assert_eq!(
            convert::hex(&empty.bytes),
            "7bda6ae38a04882228d4b7ca1d5f430a024d04526e5e49750ad8e8ec40ebbe6d"
        );
        assert_eq!(
            convert::hex(&current(&sample()).bytes),
            "842718b34393d2749256187dcda7dd0b2f51803662ece2405348f27a9fc28f85"
        );
    }

    #[test]
    fn an_unknown_version_has_no_digest() {
        assert_eq!(digest(1, &sample()), Some(current(&sample())));
        assert_eq!(digest(0, &sample()), None);
        assert_eq!(digest(2, &sample()), None);
    }

    #[test]
    fn decimals_count_by_value() {
        for text in ["2", "2.0", "02", "2.000", "0002.0"] {
            check(|draft| draft.lines[1].quantity = text.into(), true);
        }
        for text in ["-2", "2.1", "20", "+2", "2.", "2e0", " 2", "２", ""] {
            check(|draft| draft.lines[1].quantity = text.into(), false);
        }
    }

    #[test]
    fn zero_has_no_sign_and_is_not_nothing() {
        let of = |text: &str| {
            let mut draft = sample();
            draft.lines[0].quantity = text.into();
            current(&draft)
        };
        assert_eq!(of("-0.00"), of("0"));
        assert_ne!(of(""), of("0"));
    }

    #[test]
    fn the_default_of_an_enum_is_the_same_content() {
        check(|draft| draft.tax_method = 0, true);
        check(|draft| draft.tax_method = 1, true);
        check(|draft| draft.tax_method = 2, false);
        check(|draft| draft.lines[0].kind = 0, true);
        check(|draft| draft.lines[0].kind = 1, true);
        check(|draft| draft.lines[0].kind = 2, false);
    }

    #[test]
    fn an_absent_buyer_is_an_empty_buyer() {
        let with = |buyer| pb::InvoiceDraft { buyer, ..sample() };
        assert_eq!(current(&with(None)), current(&with(Some(pb::Party::default()))));
    }

    #[test]
    fn text_that_moves_between_fields_is_other_content() {
        check(
            |draft| {
                draft.payee = String::new();
                draft.checker = format!("{}{}", sample().payee, sample().checker);
            },
            false,
        );
        check(|draft| draft.lines.swap(0, 1), false);
        check(|draft| draft.lines.truncate(1), false);
        check(|draft| std::mem::swap(&mut draft.seller, &mut draft.buyer), false);
    }

    #[test]
    fn a_draft_has_the_one_version_that_holds_what_it_says() {
        let confirmed =
            pb::InvoiceDraft { red_confirmation: "44002606000000000001".into(), ..sample() };
        for (draft, version) in [(sample(), 1), (confirmed, 2)] {
            for asked in 0..=3 {
                let expect = (asked == version).then(|| current(&draft));
                assert_eq!(digest(asked, &draft), expect, "version {asked}");
            }
        }
    }

    #[test]
    fn the_machine_that_asked_is_no_content() {
        let origin = pb::Origin { ip_address: "192.0.2.1".into(), ..Default::default() };
        check(move |draft| draft.origin = Some(origin.clone()), true);
    }

    #[test]
    fn every_field_counts() {
        let changes: [fn(&mut pb::InvoiceDraft); 32] = [
            |draft| draft.serial.push('x'),
            |draft| draft.kind += 1,
            |draft| draft.color += 1,
            |draft| draft.seller = None,
            |draft| draft.buyer = None,
            |draft| draft.drawer.push('x'),
            |draft| draft.payee.push('x'),
            |draft| draft.checker.push('x'),
            |draft| draft.amount_fen += 1,
            |draft| draft.tax_fen += 1,
            |draft| draft.total_fen += 1,
            |draft| draft.remark.push('x'),
            |draft| draft.deduction_fen += 1,
            |draft| draft.tax_code_version.push('x'),
            |draft| draft.special_kind.push('x'),
            |draft| draft.original_code.push('x'),
            |draft| draft.original_number.push('x'),
            |draft| draft.red_notice.push('x'),
            |draft| draft.red_confirmation.push('x'),
            |draft| draft.red_confirmation_uuid.push('x'),
            |draft| draft.device_id.push('x'),
            |draft| draft.terminal.push('x'),
            |draft| draft.lines[1].tax_code.push('x'),
            |draft| draft.lines[1].own_code.push('x'),
            |draft| draft.lines[1].specification.push('x'),
            |draft| draft.lines[1].unit.push('x'),
            |draft| draft.lines[1].amount_fen += 1,
            |draft| draft.lines[1].rate_millionths += 1,
            |draft| draft.lines[1].tax_fen += 1,
            |draft| draft.lines[1].preference = true,
            |draft| draft.lines[1].zero_rate_kind += 1,
            |draft| draft.lines[1].preference_text.push('x'),
        ];
        for change in changes {
            check(change, false);
        }
    }

    proptest! {
        #[test]
        fn zeros_around_a_decimal_change_nothing(
            whole in "0|[1-9][0-9]{0,20}", fraction in "[0-9]{1,20}", zeros in 0_usize..5,
        ) {
            let of = |quantity: String| {
                let line = pb::InvoiceLine { quantity, ..Default::default() };
                current(&pb::InvoiceDraft { lines: vec![line], ..Default::default() })
            };
            let pad = "0".repeat(zeros);
            prop_assert_eq!(
                of(format!("{whole}.{fraction}")),
                of(format!("{pad}{whole}.{fraction}{pad}"))
            );
        }
    }
}
