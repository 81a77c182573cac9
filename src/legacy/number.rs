//! Decimal text of legacy messages as integers, exactly: yuan to fen, rates to millionths. Nothing
//! is rounded, and what is not exactly representable is refused with a reason of its own.

use crate::refusal::Reason;

/// Digits after the point of an amount in yuan.
pub(super) const FEN_DECIMALS: usize = 2;
/// Digits after the point of a rate.
pub(super) const RATE_DECIMALS: usize = 6;

/// Why a text is no such number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberError {
    /// Not `-?[0-9]+(\.[0-9]+)?`: a sign, an exponent, `NaN`, a blank, a comma.
    Format,
    /// More digits after the point than the unit has, even zeros.
    Precision,
    /// A negative zero: `-0.00`.
    NegativeZero,
    /// Does not fit.
    Range,
}

impl NumberError {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Format | Self::Range => Reason::DecimalFormat,
            Self::Precision => Reason::DecimalPrecision,
            Self::NegativeZero => Reason::AmountSign,
        }
    }

    pub(super) fn en(self) -> &'static str {
        match self {
            Self::Format => "must be a plain decimal number, without exponent, sign + or blanks",
            Self::Precision => "has more digits after the point than can be kept exactly",
            Self::NegativeZero => "must not be a negative zero",
            Self::Range => "is larger than any amount or rate",
        }
    }

    pub(super) fn zh(self) -> &'static str {
        match self {
            Self::Format => "须为普通十进制数，不含指数、正号和空格",
            Self::Precision => "小数位数超出可精确保存的范围",
            Self::NegativeZero => "不得为负零",
            Self::Range => "数值过大",
        }
    }
}

/// Reads a plain decimal as an integer of `10^-decimals`: with 2, `-12.5` is -1250.
pub(super) fn fixed(text: &str, decimals: usize) -> Result<i64, NumberError> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !fraction.is_none_or(plain) {
        return Err(NumberError::Format);
    }
    let fraction = fraction.unwrap_or_default();
    if fraction.len() > decimals {
        return Err(NumberError::Precision);
    }
    let zeros = decimals - fraction.len();
    let all = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', zeros));
    let mut value = 0_i64;
    for digit in all {
        let more = value.checked_mul(10).and_then(|ten| ten.checked_add(i64::from(digit - b'0')));
        value = more.ok_or(NumberError::Range)?;
    }
    match (negative, value) {
        (true, 0) => Err(NumberError::NegativeZero),
        (true, _) => Ok(-value),
        (false, _) => Ok(value),
    }
}

/// Fen as yuan with two decimals: -1250 is `-12.50`.
pub(super) fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let size = fen.unsigned_abs();
    format!("{sign}{}.{:02}", size / 100, size % 100)
}

/// Millionths as the shortest decimal: 130000 is `0.13`.
pub(super) fn rate(millionths: i32) -> String {
    let sign = if millionths < 0 { "-" } else { "" };
    let size = millionths.unsigned_abs();
    let text = format!("{sign}{}.{:06}", size / 1_000_000, size % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expect: Result<i64, NumberError>) {
        assert_eq!(fixed(text, FEN_DECIMALS), expect, "{text:?}");
    }

    #[test]
    fn yuan_become_fen_exactly() {
        for (text, fen) in [
            ("0", 0),
            ("0.00", 0),
            ("1", 100),
            ("1.5", 150),
            ("-12.34", -1234),
            ("007.10", 710),
            ("92233720368547758.07", i64::MAX),
        ] {
            check(text, Ok(fen));
        }
    }

    #[test]
    fn what_is_no_plain_number_of_two_decimals_has_its_own_reason() {
        use NumberError::{Format, NegativeZero, Precision, Range};
        let no_numbers = [
            "",
            "-",
            "+1.00",
            "1e2",
            "1E2",
            "NaN",
            "nan",
            "inf",
            "-Infinity",
            " 1",
            "1 ",
            "1,000",
            ".5",
            "5.",
            "1.2.3",
            "--1",
            "１",
            "0x10",
            "1_000",
            "免税",
            "1a23",
            "13%",
            "***",
        ];
        for text in no_numbers {
            check(text, Err(Format));
        }
        for text in ["1.000", "1.005", "0.001", "-0.000"] {
            check(text, Err(Precision));
        }
        for text in ["-0", "-0.0", "-0.00", "-000"] {
            check(text, Err(NegativeZero));
        }
        for text in ["92233720368547758.08", "9".repeat(400).as_str()] {
            check(text, Err(Range));
        }
    }

    #[test]
    fn rates_are_printed_as_short_as_they_are() {
        for (millionths, text) in
            [(130_000, "0.13"), (0, "0"), (15_000, "0.015"), (1_000_000, "1"), (1, "0.000001")]
        {
            assert_eq!(rate(millionths), text);
            assert_eq!(fixed(text, RATE_DECIMALS), Ok(i64::from(millionths)));
        }
    }

    proptest! {
        #[test]
        fn fen_go_there_and_back(fen in -i64::MAX..=i64::MAX) {
            prop_assert_eq!(fixed(&yuan(fen), FEN_DECIMALS), Ok(fen));
        }
    }
}
