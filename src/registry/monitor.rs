//! Monitor data (监控数据): the limits, locks and rates of one device and kind, as they were last
//! told by the device itself or by the acceptance side. Source: docs/domain.md 2.2, 3.10.

use crate::{
    model::{CstTime, DeviceNo, Fen, Kind},
    pb::authority::v1::MonitorData,
};
use chrono::NaiveDate;
use serde::Deserialize;

/// Rates of a kind; whoever names more is not believed. Devices hold 20.
const RATES_MAX: usize = 64;
/// Highest rate. Unit: millionths.
const RATE_MAX: i32 = 1_000_000;

/// Who told the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ToldBy {
    /// The device (JKXXCX, SQSLCX), which draws its numbers itself.
    Device,
    /// The acceptance side, for a device whose numbers the proxy draws.
    Authority,
}

impl ToldBy {
    /// How the store keeps it: 0 the device, 1 the acceptance side.
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            Self::Device => 0,
            Self::Authority => 1,
        }
    }

    /// Reads `code`.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        [Self::Device, Self::Authority].into_iter().find(|told_by| told_by.code() == code)
    }
}

/// What a limit of zero means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZeroLimit {
    /// That there is no limit.
    #[default]
    Unlimited,
    /// That nothing may be issued.
    Nothing,
}

impl ZeroLimit {
    /// The limit that a value stands for; `None` when there is none.
    #[must_use]
    pub fn limit<T: Copy>(self, value: Option<T>, is_zero: impl FnOnce(T) -> bool) -> Option<T> {
        match self {
            Self::Unlimited => value.filter(|value| !is_zero(*value)),
            Self::Nothing => value,
        }
    }
}

/// Limits and locks. `None` is what is not limited or not told; what a limit of zero means is the
/// rule profile's word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonitorFacts {
    /// Rises with each change; 0 from a device, which tells no version.
    pub version: u64,
    /// Issue deadline (开票截止时间, KPJZSJ): nothing is issued from then on.
    pub issue_deadline: Option<CstTime>,
    /// Limit of a single invoice, without tax (单张开票限额, DZKPXE).
    pub single_limit: Option<Fen>,
    /// Cumulative limit of blue invoices of the period (正数累计限额, ZSLJXE).
    pub blue_limit: Option<Fen>,
    /// Cumulative limit of red invoices of the period, as a positive amount (负数累计限额, FSLJXE).
    pub red_limit: Option<Fen>,
    /// Days within which a blue invoice may be reversed (FSFPTS).
    pub red_days: Option<u64>,
    /// Whether a red invoice needs its blue one in the same device (FSFPBZ).
    pub red_needs_original: Option<bool>,
    /// Upload deadline (上传截止日期, SCJZRQ): day of the month, 0 to 31.
    pub upload_day: Option<u64>,
    /// How long the oldest undelivered invoice may wait (离线开票时长, LXKPSC). Unit: hours.
    pub offline_hours: Option<u64>,
    /// How many invoices may be undelivered (离线开票张数, LXKPZS).
    pub offline_count: Option<u64>,
    /// How much may be undelivered in blue invoices, without tax (LXZSLJJE).
    pub offline_blue: Option<Fen>,
    /// How much may be undelivered in red invoices, without tax, positive (LXFSLJJE).
    pub offline_red: Option<Fen>,
    /// Authorised rates (核定税率, SQSLCX), ascending, each once; empty when not told. Unit:
    /// millionths.
    pub rates: Vec<i32>,
    /// Report period (报送起止日期, BSQSRQ and BSZZRQ).
    pub report_period: Option<(NaiveDate, NaiveDate)>,
    /// Last report (最新报税日期, ZXBSRQ).
    pub last_report: Option<NaiveDate>,
}

/// Monitor data of one device and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// Device.
    pub device: DeviceNo,
    /// Kind.
    pub kind: Kind,
    /// Who told it.
    pub told_by: ToldBy,
    /// When, by our clock.
    pub told_at: CstTime,
    /// What was told.
    pub facts: MonitorFacts,
}

/// Why monitor data cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MonitorFlaw {
    /// A field has no possible value.
    #[error("{field} of the monitor data is malformed")]
    Malformed {
        /// Name of the field.
        field: &'static str,
    },
    /// It is about another device or kind than was asked for.
    #[error("the monitor data is about another device or kind")]
    Other,
}

impl MonitorFlaw {
    /// In short, for whoever reports it with other flaws of an answer.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Self::Malformed { field } => field,
            Self::Other => "the device or kind of the monitor data",
        }
    }
}

impl MonitorFacts {
    /// Reads what the acceptance side said of `device_id` and `kind`.
    ///
    /// # Errors
    /// `MonitorFlaw`, on the first field that has no possible value.
    pub fn read(data: &MonitorData, device_id: &str, kind: Kind) -> Result<Self, MonitorFlaw> {
        if data.device_id != device_id || data.kind != kind.to_wire().as_str_name() {
            return Err(MonitorFlaw::Other);
        }
        Self::parse(data)
    }

    /// Reads the fields alone.
    ///
    /// # Errors
    /// `MonitorFlaw::Malformed`.
    pub fn parse(data: &MonitorData) -> Result<Self, MonitorFlaw> {
        let malformed = |field| MonitorFlaw::Malformed { field };
        let amount = |value: Option<i64>, field| match value {
            Some(fen) if fen < 0 => Err(malformed(field)),
            value => Ok(value.map(Fen)),
        };
        let issue_deadline = match data.issue_deadline.as_str() {
            "" => None,
            text => Some(CstTime::parse(text).ok_or(malformed("issue_deadline"))?),
        };
        let report_period = match (data.report_from.as_str(), data.report_until.as_str()) {
            ("", "") => None,
            (from, until) => {
                let period = read_day(from).zip(read_day(until));
                let period = period.filter(|(from, until)| from <= until);
                Some(period.ok_or(malformed("report_from or report_until"))?)
            }
        };
        if data.upload_day.is_some_and(|day| day > 31) {
            return Err(malformed("upload_day"));
        }
        let rates = &data.rates_millionths;
        let in_range = rates.iter().all(|rate| (0..=RATE_MAX).contains(rate));
        if rates.len() > RATES_MAX || !in_range || !rates.is_sorted_by(|one, next| one < next) {
            return Err(malformed("rates_millionths"));
        }
        Ok(Self {
            version: data.version,
            issue_deadline,
            single_limit: amount(data.single_limit_fen, "single_limit_fen")?,
            blue_limit: amount(data.blue_limit_fen, "blue_limit_fen")?,
            red_limit: amount(data.red_limit_fen, "red_limit_fen")?,
            red_days: data.red_days.map(u64::from),
            red_needs_original: data.red_needs_original,
            upload_day: data.upload_day.map(u64::from),
            offline_hours: data.offline_hours,
            offline_count: data.offline_count,
            offline_blue: amount(data.offline_blue_fen, "offline_blue_fen")?,
            offline_red: amount(data.offline_red_fen, "offline_red_fen")?,
            rates: rates.clone(),
            report_period,
            last_report: match data.last_report.as_str() {
                "" => None,
                text => Some(read_day(text).ok_or(malformed("last_report"))?),
            },
        })
    }

    /// As the acceptance side would say it; device and kind are empty.
    #[must_use]
    pub fn to_wire(&self) -> MonitorData {
        let day = |day: NaiveDate| day.to_string();
        let small = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
        let fen = |amount: Option<Fen>| amount.map(|amount| amount.0);
        MonitorData {
            device_id: String::new(),
            kind: String::new(),
            version: self.version,
            issue_deadline: self.issue_deadline.map_or_else(String::new, CstTime::rfc3339),
            single_limit_fen: fen(self.single_limit),
            blue_limit_fen: fen(self.blue_limit),
            red_limit_fen: fen(self.red_limit),
            red_days: small(self.red_days),
            red_needs_original: self.red_needs_original,
            upload_day: small(self.upload_day),
            offline_hours: self.offline_hours,
            offline_count: self.offline_count,
            offline_blue_fen: fen(self.offline_blue),
            offline_red_fen: fen(self.offline_red),
            rates_millionths: self.rates.clone(),
            report_from: self.report_period.map_or_else(String::new, |(from, _)| day(from)),
            report_until: self.report_period.map_or_else(String::new, |(_, until)| day(until)),
            last_report: self.last_report.map_or_else(String::new, day),
        }
    }
}

/// `yyyy-MM-dd`.
fn read_day(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Data in which every field is told.
    pub(crate) fn facts() -> MonitorFacts {
        let day = |text| read_day(text).unwrap();
        MonitorFacts {
            version: 7,
            issue_deadline: CstTime::parse("2026-12-15T23:59:59+08:00"),
            single_limit: Some(Fen(9_999_999)),
            blue_limit: Some(Fen(500_000_000)),
            red_limit: Some(Fen(400_000_000)),
            red_days: Some(999),
            red_needs_original: Some(true),
            upload_day: Some(15),
            offline_hours: Some(72),
            offline_count: Some(100),
            offline_blue: Some(Fen(300_000_000)),
            offline_red: Some(Fen(200_000_000)),
            rates: vec![0, 30_000, 130_000],
            report_period: Some((day("2026-11-01"), day("2026-11-30"))),
            last_report: Some(day("2026-11-02")),
        }
    }

    #[test]
    fn what_is_told_is_read_and_said_again_without_loss() {
        for facts in [facts(), MonitorFacts::default()] {
            assert_eq!(MonitorFacts::parse(&facts.to_wire()), Ok(facts));
        }
    }

    #[test]
    fn a_field_without_a_possible_value_is_named_and_nothing_is_taken() {
        type Change = fn(&mut MonitorData);
        let cases: [(&str, Change); 10] = [
            ("issue_deadline", |data| data.issue_deadline = "soon".into()),
            ("single_limit_fen", |data| data.single_limit_fen = Some(-1)),
            ("blue_limit_fen", |data| data.blue_limit_fen = Some(i64::MIN)),
            ("offline_red_fen", |data| data.offline_red_fen = Some(-1)),
            ("upload_day", |data| data.upload_day = Some(32)),
            ("rates_millionths", |data| data.rates_millionths = vec![-1]),
            ("rates_millionths", |data| data.rates_millionths = vec![30_000, 30_000]),
            ("report_from or report_until", |data| data.report_from.clear()),
            ("report_from or report_until", |data| data.report_until = "2026-10-31".into()),
            ("last_report", |data| data.last_report = "2026-13-01".into()),
        ];
        for (field, change) in cases {
            let mut data = facts().to_wire();
            change(&mut data);
            let expect = Err(MonitorFlaw::Malformed { field });
            assert_eq!(MonitorFacts::parse(&data), expect, "{field}");
        }
    }

    #[test]
    fn data_about_another_device_or_kind_is_not_taken() {
        let mut data = facts().to_wire();
        (data.device_id, data.kind) = ("d1".into(), "INVOICE_KIND_E_NORMAL".into());
        assert_eq!(MonitorFacts::read(&data, "d1", Kind::ENormal), Ok(facts()));
        for (device, kind) in [("d2", Kind::ENormal), ("d1", Kind::ESpecial)] {
            assert_eq!(MonitorFacts::read(&data, device, kind), Err(MonitorFlaw::Other));
        }
    }
}
