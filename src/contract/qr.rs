//! The text of a two-dimensional code (二维码, EWM) against the invoice that it stands on. Source:
//! docs/domain.md 3.3; rule 41. It is found wrong only after the number is spent, so it never
//! refuses a request; whoever adopts an invoice decides what a contradiction is worth. The text is
//! read and compared, never made again from numbers: vendors write amounts as
//! `300` or `300.00`, and compute the CRC with or without the last comma.

use super::{decimal::yuan_as_fen, profile::Profile};
use crate::{
    model::{CstTime, Fen, InvoiceNumber, Kind},
    refusal::{Reason, Severity, Violation},
};

/// What the code must say.
#[derive(Debug, Clone, Copy)]
pub struct QrFacts<'a> {
    /// Kind.
    pub kind: Kind,
    /// Code and number.
    pub number: &'a InvoiceNumber,
    /// Total without tax.
    pub amount: Fen,
    /// Issue time; the code has its day.
    pub issued_at: CstTime,
    /// Check code (JYM).
    pub check_code: &'a str,
}

/// Fields of a code: `01`, type, code, number, amount, day, check code, CRC.
const FIELDS: usize = 8;

/// Compares a code's text with its invoice. `None`: it is right, or the profile does not ask.
#[must_use]
pub fn check_qr(text: &str, facts: QrFacts<'_>, profile: &Profile) -> Option<Violation> {
    let severity = profile.severity.of(Reason::QrInvalid);
    if severity == Severity::Off {
        return None;
    }
    let (en, zh) = wrong(text, facts, profile)?;
    Some(Violation {
        field: "invoice.qr_text".into(),
        reason: Reason::QrInvalid,
        severity,
        en: en.into(),
        zh: zh.into(),
    })
}

fn wrong(
    text: &str,
    facts: QrFacts<'_>,
    profile: &Profile,
) -> Option<(&'static str, &'static str)> {
    let text = text.strip_suffix(',').unwrap_or(text);
    let mut split = text.splitn(FIELDS, ',');
    let fields: [&str; FIELDS] = std::array::from_fn(|_| split.next().unwrap_or_default());
    let [version, kind, code, number, amount, day, check_code, crc] = fields;
    if version != "01" || crc.is_empty() || crc.contains(',') {
        return Some(("is not 01 and seven more fields", "不是以 01 开头的八个字段"));
    }
    if !is_crc(text, crc) {
        return Some(("its CRC is wrong", "CRC 校验错误"));
    }
    let checks = [
        (
            kind == profile.kind(facts.kind).qr_type,
            ("its type is not the kind's", "类型与票种不符"),
        ),
        (code == facts.number.code, ("its code is another invoice's", "发票代码不符")),
        (number == facts.number.number_text(), ("its number is another", "发票号码不符")),
        (
            yuan_as_fen(amount) == Some(facts.amount.0.into()),
            ("its amount is not the total without tax", "金额与不含税合计不符"),
        ),
        (day == facts.issued_at.compact_day(), ("its day is not that of issue", "开票日期不符")),
        (check_code == facts.check_code, ("its check code is another", "校验码不符")),
    ];
    checks.into_iter().find(|(right, _)| !right).map(|(_, what)| what)
}

/// Whether the CRC is that of the text before it, with its last comma or without.
fn is_crc(text: &str, crc: &str) -> bool {
    let Some(with_comma) = text.strip_suffix(crc) else { return false };
    let without = with_comma.strip_suffix(',').unwrap_or(with_comma);
    [with_comma, without].iter().any(|part| format!("{:04X}", crc16(part.as_bytes())) == crc)
}

/// CRC-16, polynomial 0x8005, start 0, no reflection, no final xor. Written apart from the
/// signer's, so that each checks the other.
fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x8005 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(*byte) << 8), step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Profiles;

    /// The two public vectors of docs/domain.md.
    #[test]
    fn the_crc_is_the_devices() {
        for (text, expect) in [
            ("01,10,050001700111,12235358,10000.00,20200805,16630282980991510014,", 0x7257),
            ("01,32,,24312000000136634917,0.01,20240514,,", 0x1DD6),
        ] {
            assert_eq!(crc16(text.as_bytes()), expect, "{text}");
        }
    }

    #[track_caller]
    fn check(text: &str, expect: Option<&str>) {
        let number = InvoiceNumber { code: "044002600111".into(), number: 42 };
        let facts = QrFacts {
            kind: Kind::ENormal,
            number: &number,
            amount: Fen(30_000),
            issued_at: CstTime::parse("2026-10-31T23:59:59+08:00").unwrap(),
            check_code: "00000000000000000001",
        };
        let profiles = Profiles::embedded();
        let found = check_qr(text, facts, profiles.get("baiwang").unwrap());
        assert!(found.iter().all(|found| found.severity == Severity::Warn));
        assert!(found.iter().all(|found| found.reason == Reason::QrInvalid));
        assert_eq!(found.map(|found| found.en).as_deref(), expect, "{text}");
    }

    fn with_crc(text: &str) -> String {
        format!("{text}{:04X}", crc16(text.as_bytes()))
    }

    const RIGHT: &str = "01,10,044002600111,00000042,300.00,20261031,00000000000000000001,";

    #[test]
    fn both_dialects_of_crc_and_amount_are_right() {
        check(&with_crc(RIGHT), None);
        check(&format!("{},", with_crc(RIGHT)), None);
        check(&with_crc(&RIGHT.replace("300.00", "300")), None);
        let bare = RIGHT.trim_end_matches(',');
        check(&format!("{RIGHT}{:04X}", crc16(bare.as_bytes())), None);
    }

    #[test]
    fn what_the_invoice_does_not_say_is_wrong() {
        for (from, to, expect) in [
            ("01,10,", "01,04,", "its type is not the kind's"),
            ("0111,", "0112,", "its code is another invoice's"),
            ("00000042", "00000043", "its number is another"),
            ("00000042", "42", "its number is another"),
            ("300.00", "300.01", "its amount is not the total without tax"),
            ("300.00", "299.99", "its amount is not the total without tax"),
            ("300.00", "3e2", "its amount is not the total without tax"),
            ("20261031", "20261101", "its day is not that of issue"),
            ("01,10", "02,10", "is not 01 and seven more fields"),
            ("0001,", "0002,", "its check code is another"),
        ] {
            check(&with_crc(&RIGHT.replacen(from, to, 1)), Some(expect));
        }
        check(&format!("{RIGHT}0000"), Some("its CRC is wrong"));
        check(&with_crc(RIGHT).to_lowercase(), Some("its CRC is wrong"));
        for text in ["", ",", "01", "票", "01,10,044002600111,00000042,300.00,20261031,1"] {
            check(text, Some("is not 01 and seven more fields"));
        }
        let nine = with_crc("01,10,044002600111,00000042,300.00,20261031,1,2,");
        check(&nine, Some("is not 01 and seven more fields"));
    }
}
