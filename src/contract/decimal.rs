//! Plain decimals in integers: quantities, prices, rates. No binary floating point comes near
//! money, and every rounding is half away from zero (四舍五入).

/// Digits that `Decimal::parse` reads. Two of them multiply, times 100, within an `i128`.
pub(super) const DIGITS_MAX: usize = 18;

/// A rate of 1, in millionths.
pub(super) const RATE_ONE: i128 = 1_000_000;

/// The parts of a plain decimal: `-12.50` is negative, `12`, `50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// Whether it starts with a minus sign.
    pub(super) negative: bool,
    /// Digits before the point, at least one.
    pub(super) whole: &'a str,
    /// Digits after the point; empty without a point.
    pub(super) fraction: &'a str,
}

impl<'a> Parts<'a> {
    /// Reads `-?[0-9]+(\.[0-9]+)?`. `None` for anything else: signs, exponents, blanks, `NaN`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        (plain(whole) && fraction.is_none_or(plain)).then(|| Self {
            negative,
            whole,
            fraction: fraction.unwrap_or_default(),
        })
    }

    /// The same value in its one shortest form: no leading or trailing zeros, no negative zero.
    pub(super) fn shortest(self) -> Self {
        let whole = self.whole.trim_start_matches('0');
        let fraction = self.fraction.trim_end_matches('0');
        let zero = whole.is_empty() && fraction.is_empty();
        let whole = if whole.is_empty() { "0" } else { whole };
        Self { negative: self.negative && !zero, whole, fraction }
    }
}

/// A decimal number: `mantissa` / 10^`scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    /// At most 18 digits.
    mantissa: i64,
    /// Digits after the point, at most 18.
    scale: u32,
}

impl Decimal {
    /// Reads a plain decimal of at most 18 digits.
    pub(super) fn parse(parts: Parts<'_>) -> Option<Self> {
        if parts.whole.len().saturating_add(parts.fraction.len()) > DIGITS_MAX {
            return None;
        }
        let digits = parts.whole.bytes().chain(parts.fraction.bytes());
        let value = digits.fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        let mantissa = if parts.negative { -value } else { value };
        Some(Self { mantissa, scale: u32::try_from(parts.fraction.len()).ok()? })
    }

    /// Whether it is above zero.
    pub(super) fn is_positive(self) -> bool {
        self.mantissa > 0
    }

    /// Whether it is zero.
    pub(super) fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// Quantity times price in yuan, as fen, rounded half away from zero.
    pub(super) fn times_as_fen(self, price: Self) -> i128 {
        let product = i128::from(self.mantissa) * i128::from(price.mantissa) * 100;
        divide_rounded(product, 10_i128.pow(self.scale + price.scale))
    }
}

/// The tax on an amount at a rate, rounded half away from zero. Units: fen, millionths, fen.
pub(super) fn tax_fen(amount_fen: i64, rate_millionths: i32) -> i128 {
    divide_rounded(i128::from(amount_fen) * i128::from(rate_millionths), RATE_ONE)
}

/// The tax within an amount that holds it, rounded half away from zero: amount / (1 + rate) * rate.
/// Units: fen, millionths from 0, fen. `None` for a rate below 0.
pub(super) fn tax_within_fen(gross_fen: i128, rate_millionths: i32) -> Option<i128> {
    let rate = i128::from(u32::try_from(rate_millionths).ok()?);
    Some(divide_rounded(gross_fen * rate, RATE_ONE + rate))
}

/// Yuan with at most two decimals that count, as fen: `300`, `300.0`, `-300.00`. `None` for
/// anything else.
pub(super) fn yuan_as_fen(text: &str) -> Option<i128> {
    const ONE: Decimal = Decimal { mantissa: 1, scale: 0 };
    let parts = Parts::parse(text)?.shortest();
    let yuan = Decimal::parse(parts).filter(|_| parts.fraction.len() <= 2)?;
    Some(yuan.times_as_fen(ONE))
}

/// A rate of 0 to 1 with at most six decimals that count, in millionths: `0.13`, `0`. `None` for
/// anything else.
pub(super) fn rate_as_millionths(text: &str) -> Option<i32> {
    let parts = Parts::parse(text)?.shortest();
    let (digits, fits) = (parts.fraction, parts.fraction.len() <= 6 && !parts.negative);
    let millionths = format!("{}{digits:0<6}", parts.whole).parse::<i32>().ok()?;
    (fits && i128::from(millionths) <= RATE_ONE).then_some(millionths)
}

/// Divides and rounds half away from zero. `divisor` is above zero; an odd one has no halves.
fn divide_rounded(value: i128, divisor: i128) -> i128 {
    let half = if value < 0 { -(divisor / 2) } else { divisor / 2 };
    (value + half) / divisor
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal::{Decimal as Oracle, RoundingStrategy};

    #[track_caller]
    fn check_fen(quantity: &str, price: &str, expect: i128) {
        let read = |text| Decimal::parse(Parts::parse(text).unwrap()).unwrap();
        assert_eq!(read(quantity).times_as_fen(read(price)), expect, "{quantity} * {price}");
    }

    #[test]
    fn products_round_half_a_fen_away_from_zero() {
        check_fen("1", "0.004", 0);
        check_fen("1", "0.005", 1);
        check_fen("-1", "0.005", -1);
        check_fen("-1", "0.0049", 0);
        check_fen("3", "33.333333", 10_000);
        check_fen("0.5", "0.01", 1);
    }

    #[test]
    fn rates_are_kept_in_millionths_or_not_at_all() {
        for (text, expect) in [
            ("0.13", Some(130_000)),
            ("0.130000", Some(130_000)),
            ("0.000001", Some(1)),
            ("0", Some(0)),
            ("1", Some(1_000_000)),
            ("1.000001", None),
            ("0.0000001", None),
            ("-0.13", None),
            (".13", None),
            ("13%", None),
            ("", None),
            ("99999999999", None),
        ] {
            assert_eq!(rate_as_millionths(text), expect, "{text}");
        }
    }

    #[test]
    fn the_longest_numbers_multiply_without_overflow() {
        let long = "9".repeat(DIGITS_MAX);
        let square = 999_999_999_999_999_999_i128 * 999_999_999_999_999_999 * 100;
        check_fen(&long, &long, square);
        let small = format!("0.{}", "9".repeat(DIGITS_MAX - 1));
        check_fen(&small, &small, 100);
    }

    #[test]
    fn yuan_are_read_to_the_fen_and_no_further() {
        for (text, expect) in [
            ("300", Some(30_000)),
            ("300.00", Some(30_000)),
            ("0.10", Some(10)),
            ("-0.01", Some(-1)),
            ("1.2300", Some(123)),
            ("1.234", None),
            ("", None),
            ("1e2", None),
        ] {
            assert_eq!(yuan_as_fen(text), expect, "{text}");
        }
    }

    #[test]
    fn the_tax_within_an_amount_rounds_half_a_fen_away_from_zero() {
        for (gross, rate, expect) in [
            (10_600, 60_000, Some(600)),
            (10_500, 50_000, Some(500)),
            (-10_500, 50_000, Some(-500)),
            (21, 50_000, Some(1)),
            (10, 50_000, Some(0)),
            (11, 50_000, Some(1)),
            (100, 0, Some(0)),
            (100, -1_000_000, None),
        ] {
            assert_eq!(tax_within_fen(gross, rate), expect, "{gross} at {rate}");
        }
    }

    #[test]
    fn only_plain_decimals_are_decimals() {
        for text in ["0", "-0", "01", "1.50", "-12.5", "000.000"] {
            assert!(Parts::parse(text).is_some(), "{text}");
        }
        let others = [
            "", "-", "+1", ".5", "5.", "1e3", "1E3", "NaN", "inf", " 1", "1 ", "1,0", "１", "1.2.3",
        ];
        for text in others {
            assert!(Parts::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn more_digits_than_an_i64_holds_are_no_number_but_still_text() {
        let long = "1".repeat(DIGITS_MAX + 1);
        let parts = Parts::parse(&long).unwrap();
        assert!(Decimal::parse(parts).is_none());
    }

    proptest! {
        #[test]
        fn products_agree_with_another_decimal_library(
            quantity in 0_u32..1_000_000, q_scale in 0_u32..7,
            price in -1_000_000_000_i64..1_000_000_000, p_scale in 0_u32..7,
        ) {
            let product = Oracle::new(i64::from(quantity), q_scale) * Oracle::new(price, p_scale);
            let fen = (product * Oracle::from(100))
                .round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero);
            let ours = Decimal { mantissa: i64::from(quantity), scale: q_scale }
                .times_as_fen(Decimal { mantissa: price, scale: p_scale });
            prop_assert_eq!(Oracle::from(ours), fen);
        }

        #[test]
        fn tax_agrees_with_another_decimal_library(amount: i64, rate in 0_i32..=1_000_000) {
            let tax = Oracle::from(amount) * Oracle::new(i64::from(rate), 6);
            let fen = tax.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero);
            prop_assert_eq!(Oracle::from(tax_fen(amount, rate)), fen);
        }
    }
}
