//! The small types that every stage shares: ids, numbers, amounts, times. No logic beyond parsing
//! and printing; one idea, one type, so that no public function takes two bare integers.

use crate::pb::v1 as pb;
use chrono::{DateTime, FixedOffset, NaiveDate};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A platform's row number in the store (平台), from 1.
    PlatformNo
);
id!(
    /// A taxpayer's row number (纳税人), from 1.
    TaxpayerNo
);
id!(
    /// A virtual device's row number (虚拟设备), from 1.
    DeviceNo
);
id!(
    /// A series' row number: one virtual device and one kind (票种), from 1.
    SeriesNo
);
id!(
    /// A segment's row number (号段), from 1, in the order in which segments are used.
    SegmentNo
);
id!(
    /// A claim's id, from 1, in append order.
    ClaimId
);
id!(
    /// A delivery batch's row number, from 1.
    BatchNo
);

/// Position of a number within its series: from 0, no gaps, across segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Counts commits of a store, from 1, no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitCounter(pub u64);

/// Request serial (发票请求流水号, FPQQLSH): 1 to 20 printable ASCII characters without blanks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(String);

impl Serial {
    /// Checks length and alphabet. `None` when it is not 1 to 20 visible ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        ((1..=20).contains(&text.len()) && visible).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What names at most one invoice: (platform, taxpayer, request serial).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// The platform that asks.
    pub platform: PlatformNo,
    /// The seller.
    pub taxpayer: TaxpayerNo,
    /// The platform's serial.
    pub serial: Serial,
}

/// The serial that we send to a device instead of the platform's: 20 random characters `0-9A-Z`, so
/// that two platforms with one serial cannot meet on a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceSerial(pub String);

/// Invoice code and number (发票代码, 发票号码). They order by code, then number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvoiceNumber {
    /// 10 or 12 digits; empty for fully digital kinds.
    pub code: String,
    /// The number's value; printed with leading zeros as 8 digits.
    pub number: u32,
}

impl InvoiceNumber {
    /// The number as printed: 8 digits with leading zeros.
    #[must_use]
    pub fn number_text(&self) -> String {
        format!("{:08}", self.number)
    }

    /// Reads an 8-digit number. `None` when it is anything else.
    #[must_use]
    pub fn parse_number(text: &str) -> Option<u32> {
        let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    }

    /// The number after this one under the same code; `None` after 99999999.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        (self.number < 99_999_999)
            .then(|| Self { code: self.code.clone(), number: self.number.saturating_add(1) })
    }
}

impl fmt::Display for InvoiceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:08}", self.code, self.number)
    }
}

/// Invoice kind (票种, FPLXDM) once the wire's "unspecified" is ruled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// 004 special paper (专票).
    SpecialPaper,
    /// 007 normal paper (普票).
    NormalPaper,
    /// 025 roll (卷票).
    Roll,
    /// 026 electronic normal (电子普票).
    ENormal,
    /// 028 electronic special (电子专票).
    ESpecial,
}

impl Kind {
    /// Every kind, ascending.
    pub const ALL: [Self; 5] =
        [Self::SpecialPaper, Self::NormalPaper, Self::Roll, Self::ENormal, Self::ESpecial];

    /// The legacy code (FPLXDM), which is also how the store keeps it.
    #[must_use]
    pub fn legacy_code(self) -> u16 {
        match self {
            Self::SpecialPaper => 4,
            Self::NormalPaper => 7,
            Self::Roll => 25,
            Self::ENormal => 26,
            Self::ESpecial => 28,
        }
    }

    /// Reads a legacy code.
    #[must_use]
    pub fn from_legacy_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.legacy_code() == code)
    }

    /// From the wire; `None` for unspecified or unknown values.
    #[must_use]
    pub fn from_wire(value: i32) -> Option<Self> {
        match pb::InvoiceKind::try_from(value).ok()? {
            pb::InvoiceKind::Unspecified => None,
            pb::InvoiceKind::SpecialPaper => Some(Self::SpecialPaper),
            pb::InvoiceKind::NormalPaper => Some(Self::NormalPaper),
            pb::InvoiceKind::Roll => Some(Self::Roll),
            pb::InvoiceKind::ENormal => Some(Self::ENormal),
            pb::InvoiceKind::ESpecial => Some(Self::ESpecial),
        }
    }

    /// To the wire.
    #[must_use]
    pub fn to_wire(self) -> pb::InvoiceKind {
        match self {
            Self::SpecialPaper => pb::InvoiceKind::SpecialPaper,
            Self::NormalPaper => pb::InvoiceKind::NormalPaper,
            Self::Roll => pb::InvoiceKind::Roll,
            Self::ENormal => pb::InvoiceKind::ENormal,
            Self::ESpecial => pb::InvoiceKind::ESpecial,
        }
    }
}

/// Blue or red (KPLX).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Color {
    /// 蓝字.
    Blue,
    /// 红字.
    Red,
}

impl Color {
    /// How the store keeps it: 0 blue, 1 red.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Blue => 0,
            Self::Red => 1,
        }
    }
}

/// An amount of money. Unit: fen (分, 1/100 yuan). Negative on red-letter invoices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fen(pub i64);

/// The totals of an invoice (合计金额 HJJE, 合计税额 HJSE, 价税合计 JSHJ).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Totals {
    /// Without tax.
    pub amount: Fen,
    /// Tax.
    pub tax: Fen,
    /// With tax.
    pub total: Fen,
}

impl Totals {
    /// The sum. An i64 of fen holds 9e16 yuan; the contract's limits keep every sum far below.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            amount: Fen(self.amount.0.saturating_add(other.amount.0)),
            tax: Fen(self.tax.0.saturating_add(other.tax.0)),
            total: Fen(self.total.0.saturating_add(other.total.0)),
        }
    }
}

/// A moment of China Standard Time (北京时间, UTC+08:00), whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CstTime(DateTime<FixedOffset>);

/// China's only offset; there has been no daylight saving since 1991. Unit: seconds.
const CST_SECONDS: i32 = 8 * 3600;

impl CstTime {
    /// From seconds since the Unix epoch. `None` outside the years chrono can hold.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Option<Self> {
        let offset = FixedOffset::east_opt(CST_SECONDS)?;
        Some(Self(DateTime::from_timestamp(seconds, 0)?.with_timezone(&offset)))
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub fn unix(self) -> i64 {
        self.0.timestamp()
    }

    /// RFC 3339 with +08:00, whole seconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.0.format("%Y-%m-%dT%H:%M:%S+08:00").to_string()
    }

    /// Reads RFC 3339 of any offset.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_unix(DateTime::parse_from_rfc3339(text).ok()?.timestamp())
    }

    /// The last second of a day in China. `None` outside the years chrono can hold.
    #[must_use]
    pub fn last_of(day: NaiveDate) -> Option<Self> {
        let last = day.and_hms_opt(23, 59, 59)?.and_utc().timestamp();
        Self::from_unix(last.checked_sub(CST_SECONDS.into())?)
    }

    /// The day in China.
    #[must_use]
    pub fn day(self) -> NaiveDate {
        self.0.date_naive()
    }

    /// The day as `yyyyMMdd`, for the two-dimensional code.
    #[must_use]
    pub fn compact_day(self) -> String {
        self.0.format("%Y%m%d").to_string()
    }
}

impl fmt::Display for CstTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_1_to_20_visible_ascii_characters() {
        for (text, expect) in [("", false), ("A", true), ("12345678901234567890", true)] {
            assert_eq!(Serial::parse(text).is_some(), expect, "{text:?}");
        }
        for text in ["123456789012345678901", "a b", "票", "a\n", "\u{7f}"] {
            assert!(Serial::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn times_print_china_time_and_read_any_offset() {
        let time = CstTime::from_unix(0).unwrap();
        assert_eq!(time.rfc3339(), "1970-01-01T08:00:00+08:00");
        assert_eq!(CstTime::parse("1970-01-01T00:00:00Z"), Some(time));
        assert_eq!(CstTime::from_unix(1_767_196_800).unwrap().compact_day(), "20260101");
    }

    #[test]
    fn a_day_ends_at_midnight_in_china() {
        let day = CstTime::parse("2019-03-31T16:00:00Z").unwrap().day();
        let last = CstTime::last_of(day).unwrap();
        assert_eq!(last.rfc3339(), "2019-04-01T23:59:59+08:00");
        assert_eq!(last.day(), day);
    }

    #[test]
    fn numbers_keep_their_leading_zeros() {
        let number = InvoiceNumber { code: "044002600111".into(), number: 42 };
        assert_eq!(number.number_text(), "00000042");
        assert_eq!(InvoiceNumber::parse_number("00000042"), Some(42));
        for text in ["42", "000000042", "0000004a", "+0000042"] {
            assert_eq!(InvoiceNumber::parse_number(text), None, "{text}");
        }
        let last = InvoiceNumber { code: String::new(), number: 99_999_999 };
        assert_eq!(last.next(), None);
    }
}
