//! Dialects of the legacy contracts. Vendors give one digit different meanings; here each becomes a
//! named value, and nothing behind this edge sees a vendor's digit.

use super::row::Column;
use crate::{model::Kind, pb::v1 as pb};

/// Whose digits and codes a message uses. Chosen by its envelope and body, never by a field's
/// value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `<interface>` with COMMON bodies (电子发票服务平台).
    Platform,
    /// `<interface>` with `REQUEST_FPKJXX`, the older Aisino shape.
    PlatformOlder,
    /// `<business>` with COMMON bodies, as tax servers take them.
    Common,
    /// `<business id="FPKJ">` with `<input>`: the tax-control component (税控组件).
    Component,
    /// `<business id="10008">`: the Baiwang tax server (SKServer).
    Server,
}

/// What to do with a caller whose request is in doubt (docs/legacy.md, "In doubt").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The dialect's code for "in progress".
    Code(&'static str),
    /// The dialect has none: hold the answer, then close the connection unanswered. A failure code
    /// would make the caller issue the order again under another serial.
    HoldThenClose,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 5] =
        [Self::Platform, Self::PlatformOlder, Self::Common, Self::Component, Self::Server];

    /// The code of success.
    #[must_use]
    pub fn success(self) -> &'static str {
        match self {
            Self::Platform | Self::PlatformOlder | Self::Common => "0000",
            Self::Component => "00000000",
            Self::Server => "0",
        }
    }

    /// How IN_DOUBT is told, to who asks for an invoice as to who issues one.
    ///
    /// COMMON bodies over a tax server hold although one front-end vendor knows 0001 (processing):
    /// the clients of tax servers take every code but 0000 for a failure.
    #[must_use]
    pub fn in_doubt(self) -> Doubt {
        match self {
            Self::Platform | Self::PlatformOlder => Doubt::Code("1000"),
            Self::Common | Self::Component | Self::Server => Doubt::HoldThenClose,
        }
    }

    /// Which names its messages use.
    pub(super) fn column(self) -> Column {
        match self {
            Self::Platform | Self::Common => Column::Common,
            Self::PlatformOlder => Column::Older,
            Self::Component | Self::Server => Column::Lower,
        }
    }

    /// Blue or red (KPLX): 0 and 1, in the older Aisino shape 1 and 2. `None` for other digits.
    #[must_use]
    pub(super) fn color(self, digit: &str) -> Option<pb::InvoiceColor> {
        match (self, digit) {
            (Self::PlatformOlder, "1") => Some(pb::InvoiceColor::Blue),
            (Self::PlatformOlder, "2") => Some(pb::InvoiceColor::Red),
            (Self::PlatformOlder, _) => None,
            (_, "0") => Some(pb::InvoiceColor::Blue),
            (_, "1") => Some(pb::InvoiceColor::Red),
            (_, _) => None,
        }
    }

    /// Line kind (FPHXZ): 0 normal, 1 discount, 2 discounted. A component may be one of an Aisino
    /// device, whose digits are 3 discounted and 4 discount; the two sets do not overlap.
    #[must_use]
    pub(super) fn line_kind(self, digit: &str) -> Option<pb::LineKind> {
        match (self, digit) {
            (_, "0") => Some(pb::LineKind::Normal),
            (_, "1") | (Self::Component, "4") => Some(pb::LineKind::Discount),
            (_, "2") | (Self::Component, "3") => Some(pb::LineKind::Discounted),
            (_, _) => None,
        }
    }
}

/// Way of taxing (ZSFS): 0 ordinary, 1 reduced, 2 differential.
pub(super) fn tax_method(digit: &str) -> Option<pb::TaxMethod> {
    match digit {
        "0" => Some(pb::TaxMethod::Ordinary),
        "1" => Some(pb::TaxMethod::Reduced),
        "2" => Some(pb::TaxMethod::Differential),
        _ => None,
    }
}

/// Why the rate is zero (LSLBS). "0" is export zero rate; only an empty value is "none".
pub(super) fn zero_rate(digit: &str) -> Option<pb::ZeroRateKind> {
    match digit {
        "0" => Some(pb::ZeroRateKind::Export),
        "1" => Some(pb::ZeroRateKind::Exempt),
        "2" => Some(pb::ZeroRateKind::NotTaxed),
        "3" => Some(pb::ZeroRateKind::Ordinary),
        _ => None,
    }
}

/// Invoice kind (FPLXDM), three digits.
pub(super) fn kind(code: &str) -> Option<Kind> {
    let three = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    three.then(|| code.parse().ok()).flatten().and_then(Kind::from_legacy_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digit_means_what_its_dialect_says() {
        use pb::{InvoiceColor as C, LineKind as L};
        for (dialect, digit, expect) in [
            (Dialect::Platform, "0", Some(C::Blue)),
            (Dialect::Platform, "1", Some(C::Red)),
            (Dialect::Platform, "2", None),
            (Dialect::PlatformOlder, "0", None),
            (Dialect::PlatformOlder, "1", Some(C::Blue)),
            (Dialect::PlatformOlder, "2", Some(C::Red)),
            (Dialect::Server, "1", Some(C::Red)),
            (Dialect::Server, "01", None),
        ] {
            assert_eq!(dialect.color(digit), expect, "{dialect:?} {digit}");
        }
        for (dialect, digit, expect) in [
            (Dialect::Common, "0", Some(L::Normal)),
            (Dialect::Common, "1", Some(L::Discount)),
            (Dialect::Common, "2", Some(L::Discounted)),
            (Dialect::Common, "3", None),
            (Dialect::Component, "2", Some(L::Discounted)),
            (Dialect::Component, "3", Some(L::Discounted)),
            (Dialect::Component, "4", Some(L::Discount)),
            (Dialect::Component, "5", None),
        ] {
            assert_eq!(dialect.line_kind(digit), expect, "{dialect:?} {digit}");
        }
    }

    #[test]
    fn only_an_empty_zero_rate_kind_is_none() {
        assert_eq!(zero_rate("0"), Some(pb::ZeroRateKind::Export));
        for digit in ["", " ", "4", "00"] {
            assert_eq!(zero_rate(digit), None, "{digit:?}");
        }
    }

    #[test]
    fn kinds_are_three_digits_and_only_those_that_are_served() {
        assert_eq!(kind("026"), Some(Kind::ENormal));
        for code in ["26", "0026", "005", "032", "+26", "", "０26"] {
            assert_eq!(kind(code), None, "{code}");
        }
    }
}
