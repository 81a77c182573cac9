//! Values of a tax server's fields: yuan, times, numbers, kinds, as they are written there. Pure;
//! what is not exactly one of the known forms is `None`.

use crate::model::{CstTime, Fen, InvoiceNumber, Kind};
use chrono::NaiveDate;

/// Fen as yuan with two decimals: -1250 is `-12.50`.
pub(super) fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let size = fen.unsigned_abs();
    format!("{sign}{}.{:02}", size / 100, size % 100)
}

/// Millionths as the shortest decimal: 130000 is `0.13`, 0 is `0`.
pub(super) fn rate_text(millionths: i32) -> String {
    let sign = if millionths < 0 { "-" } else { "" };
    let size = millionths.unsigned_abs();
    let text = format!("{sign}{}.{:06}", size / 1_000_000, size % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// FPLXDM: three digits.
pub(super) fn kind_text(kind: Kind) -> String {
    format!("{:03}", kind.legacy_code())
}

/// Yuan of at most two decimals as fen.
pub(super) fn fen(text: &str) -> Option<Fen> {
    fixed(text, 2).map(Fen)
}

/// A rate of at most six decimals, not negative. Unit: millionths.
pub(super) fn rate(text: &str) -> Option<i32> {
    fixed(text, 6).and_then(|value| i32::try_from(value).ok()).filter(|value| *value >= 0)
}

/// A plain decimal as an integer of `10^-decimals`.
fn fixed(text: &str, decimals: usize) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let has_point = whole.len() < digits.len();
    if whole.is_empty() || fraction.len() > decimals || (has_point && fraction.is_empty()) {
        return None;
    }
    let zeros = std::iter::repeat_n(b'0', decimals - fraction.len());
    let value =
        whole.bytes().chain(fraction.bytes()).chain(zeros).try_fold(0_i64, |sum, digit| {
            let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        })?;
    Some(if negative { -value } else { value })
}

/// `yyyyMMddHHmmss` or `yyyy-MM-dd HH:mm:ss`, China Standard Time.
pub(super) fn time(text: &str) -> Option<CstTime> {
    let digits = only_digits(text, &[14], "dddd-dd-dd dd:dd:dd")?;
    let part = |from: usize, to: usize| digits.get(from..to);
    CstTime::parse(&format!(
        "{}-{}-{}T{}:{}:{}+08:00",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?,
    ))
}

/// `yyyyMMdd` or `yyyy-MM-dd`.
pub(super) fn day(text: &str) -> Option<NaiveDate> {
    let digits = only_digits(text, &[8], "dddd-dd-dd")?;
    NaiveDate::parse_from_str(&digits, "%Y%m%d").ok()
}

/// The last moment that an end of either form allows: a day ends at midnight.
pub(super) fn end(text: &str) -> Option<CstTime> {
    time(text).or_else(|| day(text).and_then(CstTime::last_of))
}

/// The digits of a text that has nothing else, or stands exactly in the form, where `d` is a digit.
fn only_digits(text: &str, lengths: &[usize], form: &str) -> Option<String> {
    let plain = lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = |(byte, wanted): (u8, u8)| {
        if wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted }
    };
    let formed = text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits);
    (plain || formed).then(|| text.chars().filter(char::is_ascii_digit).collect())
}

/// A count, digits only.
pub(super) fn count(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// 0 or 1.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// Invoice code and number; a code has 10 or 12 digits, a number 8.
pub(super) fn number(code: &str, number: &str) -> Option<InvoiceNumber> {
    let is_code = matches!(code.len(), 10 | 12) && code.bytes().all(|byte| byte.is_ascii_digit());
    let number = InvoiceNumber::parse_number(number)?;
    is_code.then(|| InvoiceNumber { code: code.to_owned(), number })
}

/// A kind's three digits; `None` for kinds that are not known here, too.
pub(super) fn kind(text: &str) -> Option<Kind> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok().and_then(Kind::from_legacy_code)).flatten()
}

/// Kinds as groups of three digits. Those that are not known here (motor vehicles, freight) are
/// left out: nothing is issued in them.
pub(super) fn kinds(text: &str) -> Option<Vec<Kind>> {
    let digits = text.len().is_multiple_of(3) && text.bytes().all(|byte| byte.is_ascii_digit());
    let groups = (0..text.len() / 3).filter_map(|at| text.get(at * 3..at * 3 + 3));
    digits.then(|| groups.filter_map(kind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_goes_there_and_back_exactly_or_not_at_all() {
        for (text, expect) in [
            ("0.00", 0),
            ("1", 100),
            ("1.5", 150),
            ("-12.34", -1234),
            ("21474836.47", 2_147_483_647),
        ] {
            assert_eq!(fen(text), Some(Fen(expect)), "{text}");
            assert_eq!(fen(&yuan(expect)), Some(Fen(expect)), "{text}");
        }
        for text in
            ["", ".5", "1.", "1.234", "+1", "1e2", "1,0", " 1", "--1", "9223372036854775807"]
        {
            assert_eq!(fen(text), None, "{text:?}");
        }
    }

    #[test]
    fn rates_are_millionths() {
        for (text, expect) in [("0.13", 130_000), ("0", 0), ("0.015", 15_000), ("0.000001", 1)] {
            assert_eq!(rate(text), Some(expect));
            assert_eq!(rate_text(expect), text);
        }
        for text in ["-0.13", "0.0000001", "13%", "9999"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }

    #[test]
    fn times_have_one_of_two_forms() {
        for text in ["20260302100000", "2026-03-02 10:00:00"] {
            assert_eq!(time(text).unwrap().rfc3339(), "2026-03-02T10:00:00+08:00");
            assert_eq!(end(text), time(text));
        }
        for text in ["20260302", "2026-03-02"] {
            assert_eq!(end(text).unwrap().rfc3339(), "2026-03-02T23:59:59+08:00");
            assert_eq!(time(text), None);
        }
        for text in
            ["", "2026-03-02T10:00:00", "20261302100000", "20260302250000", "2026030210000x"]
        {
            assert_eq!((time(text), end(text)), (None, None), "{text}");
        }
    }

    #[test]
    fn numbers_and_kinds_have_their_form() {
        assert_eq!(number("044002600111", "00000042").unwrap().number, 42);
        for (code, no) in [("", "00000042"), ("04400260011x", "00000042"), ("044002600111", "42")] {
            assert_eq!(number(code, no), None);
        }
        assert_eq!(
            kinds("004026007005"),
            Some(vec![Kind::SpecialPaper, Kind::ENormal, Kind::NormalPaper])
        );
        assert_eq!((kinds("04"), kinds("0a4"), kind("26"), kind("+26")), (None, None, None, None));
        assert_eq!((flag("0"), flag("1"), flag("")), (Some(false), Some(true), None));
        assert_eq!((count("12"), count("+12"), count("")), (Some(12), None, None));
    }
}
