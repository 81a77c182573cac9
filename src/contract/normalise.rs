//! Wire message → `Draft`, without any profile: only what it takes to look a serial up. A bound
//! serial is answered before any rule is met, so nothing else may be refused here.

use super::{
    Draft, digest,
    findings::{Field, Findings},
};
use crate::{
    model::Serial,
    pb::v1 as pb,
    refusal::{Reason, Refusal},
};

/// Makes a draft that can be looked up.
///
/// # Errors
/// `FIELD_MISSING` or `FIELD_INVALID` when the draft, its serial or its seller's id is missing or
/// the serial is not 1 to 20 visible ASCII characters; everything at once.
pub fn normalise(draft: Option<pb::InvoiceDraft>) -> Result<Draft, Refusal> {
    let mut findings = Findings::default();
    let serial = match &draft {
        None => {
            findings.missing(Field::DRAFT);
            None
        }
        Some(wire) => {
            let serial = serial(&mut findings, &wire.serial);
            if wire.seller.as_ref().is_none_or(|seller| seller.taxpayer_id.is_empty()) {
                findings.missing(Field::of("seller.taxpayer_id"));
            }
            serial
        }
    };
    match (findings.verdict()?, draft, serial) {
        (_, Some(wire), Some(serial)) => {
            let digest = digest::current(&wire);
            Ok(Draft { wire, serial, digest })
        }
        (..) => Err(Refusal::new(Reason::FieldMissing, "the draft or its serial is missing")),
    }
}

fn serial(findings: &mut Findings<'_>, text: &str) -> Option<Serial> {
    let serial = Serial::parse(text);
    if text.is_empty() {
        findings.missing(Field::of("serial"));
    } else if serial.is_none() {
        findings.add(
            Field::of("serial"),
            Reason::FieldInvalid,
            "must be 1 to 20 visible ASCII characters without blanks",
            "须为 1 至 20 个可见 ASCII 字符，不含空格",
        );
    }
    serial
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::sample;

    #[track_caller]
    fn check(draft: Option<pb::InvoiceDraft>, expect: &[(&str, Reason)]) {
        let refusal = normalise(draft).unwrap_err();
        let found: Vec<_> =
            refusal.violations.iter().map(|found| (found.field.as_str(), found.reason)).collect();
        assert_eq!(found, expect);
        assert_eq!(refusal.reason, expect[0].1);
    }

    #[test]
    fn a_draft_without_serial_or_seller_is_refused_with_everything_that_is_wrong() {
        let sample = || sample::draft("S1", sample::SELLER);
        check(None, &[("draft", Reason::FieldMissing)]);
        check(
            Some(pb::InvoiceDraft::default()),
            &[
                ("draft.serial", Reason::FieldMissing),
                ("draft.seller.taxpayer_id", Reason::FieldMissing),
            ],
        );
        check(
            Some(pb::InvoiceDraft { serial: "a b".into(), seller: None, ..sample() }),
            &[
                ("draft.serial", Reason::FieldInvalid),
                ("draft.seller.taxpayer_id", Reason::FieldMissing),
            ],
        );
        check(
            Some(pb::InvoiceDraft { serial: "x".repeat(21), ..sample() }),
            &[("draft.serial", Reason::FieldInvalid)],
        );
    }

    #[test]
    fn nothing_but_serial_and_seller_is_looked_at() {
        let draft = pb::InvoiceDraft {
            serial: "x".repeat(20),
            kind: 99,
            seller: Some(pb::Party { taxpayer_id: "?".into(), ..Default::default() }),
            amount_fen: i64::MIN,
            remark: "\u{0}😀".into(),
            ..Default::default()
        };
        let normal = normalise(Some(draft.clone())).unwrap();
        assert_eq!(normal.wire, draft);
        assert_eq!(normal.digest, digest::current(&draft));
    }
}
