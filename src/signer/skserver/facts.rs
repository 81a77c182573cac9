//! What a tax server says of its device: typed results of its questions and acts, and how they are
//! read. Nothing here is decided.
//!
//! Source: docs/domain.md 2.2, 2.3, 3.10, 3.11.

use super::{
    message::{Fields, Flaw},
    values::{count, day, end, fen, flag, kinds, number, rate, time},
};
use crate::{
    model::{CstTime, Fen, InvoiceNumber, Kind},
    registry::MonitorFacts,
};
use chrono::NaiveDate;

/// Segments of a stock; a device that names more is not believed.
const SEGMENTS_MAX: usize = 1000;
/// Rates of a kind. Devices hold 20.
const RATES_MAX: usize = 64;

/// The device and its taxpayer (税控设备信息).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Device number (税控设备编号, SKSBBH), 12 characters.
    pub device_number: String,
    /// Taxpayer id (NSRSBH).
    pub taxpayer_id: String,
    /// Taxpayer's name (NSRMC).
    pub taxpayer_name: String,
    /// Tax office (主管税务机关): code of 9 or 11 digits, and name.
    pub office: (String, String),
    /// Kinds that the device may issue, of those known here.
    pub kinds: Vec<Kind>,
    /// The device's clock (DQSZ).
    pub clock: CstTime,
    /// Our clock when the answer was there, to compare with.
    pub asked_at: CstTime,
}

impl DeviceInfo {
    pub(super) fn read(fields: &Fields<'_, '_>, asked_at: CstTime) -> Result<Self, Flaw> {
        let optional = |name| Ok(fields.optional(name)?.unwrap_or_default().to_owned());
        Ok(Self {
            device_number: fields.text("sksbbh")?.to_owned(),
            taxpayer_id: fields.text("nsrsbh")?.to_owned(),
            taxpayer_name: fields.text("nsrmc")?.to_owned(),
            office: (optional("swjgdm")?, optional("swjgmc")?),
            kinds: fields.read("fplxdm", kinds)?,
            clock: fields.read("dqsz", time)?,
            asked_at,
        })
    }
}

/// Limits and locks of one kind (监控信息); what the device leaves empty is `None`.
pub(super) fn monitor(fields: &Fields<'_, '_>) -> Result<MonitorFacts, Flaw> {
    // Some print the limits of red invoices as negative amounts.
    let size = |amount: Fen| Fen(amount.0.saturating_abs());
    let period = (fields.read_optional("bsqsrq", day)?, fields.read_optional("bszzrq", day)?);
    let report_period = match period {
        (Some(from), Some(to)) => Some((from, to)),
        (None, None) => None,
        _ => return Err(Flaw("<bsqsrq> and <bszzrq> stand alone".into())),
    };
    let upload_day = fields.read_optional("scjzrq", count)?;
    if upload_day.is_some_and(|day| day > 31) {
        return Err(Flaw("<scjzrq> is no day of a month".into()));
    }
    Ok(MonitorFacts {
        issue_deadline: fields.read_optional("kpjzsj", end)?,
        report_period,
        last_report: fields.read_optional("zxbsrq", day)?,
        single_limit: fields.read_optional("dzkpxe", fen)?,
        blue_limit: fields.read_optional("zsljxe", fen)?,
        red_limit: fields.read_optional("fsljxe", fen)?.map(size),
        red_needs_original: fields.read_optional("fsfpbz", flag)?,
        red_days: fields.read_optional("fsfpts", count)?,
        upload_day,
        offline_hours: fields.read_optional("lxkpsc", count)?,
        offline_count: fields.read_optional("lxkpzs", count)?,
        offline_blue: fields.read_optional("lxzsljje", fen)?,
        offline_red: fields.read_optional("lxfsljje", fen)?.map(size),
        ..MonitorFacts::default()
    })
}

/// Rates that a kind may carry (授权税率): millionths, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorisedRates {
    /// Kind.
    pub kind: Kind,
    /// Unit: millionths.
    pub rates: Vec<i32>,
}

impl AuthorisedRates {
    pub(super) fn read(fields: &Fields<'_, '_>, kind: Kind) -> Result<Self, Flaw> {
        let groups = fields.groups("slxx")?;
        if groups.is_empty() || groups.len() > RATES_MAX {
            return Err(Flaw("<slxx> holds no rate, or too many".into()));
        }
        let rates: Result<Vec<_>, _> = groups.iter().map(|group| group.read("sl", rate)).collect();
        let mut rates = rates?;
        rates.sort_unstable();
        rates.dedup();
        Ok(Self { kind, rates })
    }
}

/// Numbers that a device holds for a kind (库存).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStock {
    /// Kind.
    pub kind: Kind,
    /// The next number; `None` when the stock is used up.
    pub next: Option<InvoiceNumber>,
    /// Numbers left in all segments (ZSYFS).
    pub left: u64,
    /// Segments with what is left of them, as the device orders them.
    pub segments: Vec<DeviceSegment>,
}

/// A segment (号段) in a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSegment {
    /// First number and code.
    pub first: InvoiceNumber,
    /// Last number.
    pub last: u32,
    /// Numbers left in it.
    pub left: u64,
    /// When it was acquired (领购日期, LGRQ).
    pub acquired_on: Option<NaiveDate>,
}

impl DeviceStock {
    pub(super) fn read(fields: &Fields<'_, '_>, kind: Kind) -> Result<Self, Flaw> {
        let groups = fields.groups("lgxx")?;
        if groups.len() > SEGMENTS_MAX {
            return Err(Flaw("<lgxx> holds too many segments".into()));
        }
        let segments: Result<Vec<_>, _> = groups.iter().map(DeviceSegment::read).collect();
        let stock = Self {
            kind,
            next: next(fields)?,
            left: fields.read("zsyfs", count)?,
            segments: segments?,
        };
        let sum = stock.segments.iter().fold(0_u64, |sum, one| sum.saturating_add(one.left));
        if stock.left != sum || stock.next.is_none() != (sum == 0) {
            return Err(Flaw("<zsyfs> is not what is left of the segments".into()));
        }
        Ok(stock)
    }
}

impl DeviceSegment {
    fn read(fields: &Fields<'_, '_>) -> Result<Self, Flaw> {
        let pair = |name: &str| {
            let malformed = || Flaw(format!("<{name}> is malformed"));
            number(fields.text("fpdm")?, fields.text(name)?).ok_or_else(malformed)
        };
        let (first, last) = (pair("qshm")?, pair("zzhm")?.number);
        let whole = u64::from(last).checked_sub(u64::from(first.number));
        let whole = whole.and_then(|span| span.checked_add(1));
        let left = fields.read("syfs", count)?;
        if whole.is_none_or(|whole| left > whole) || whole != Some(fields.read("fpfs", count)?) {
            return Err(Flaw("<fpfs> or <syfs> does not fit the segment".into()));
        }
        let acquired_on = fields.read_optional("lgrq", day)?;
        Ok(Self { first, last, left, acquired_on })
    }
}

/// The current unused number (dqfpdm, dqfphm); `None` when both are empty: the stock is used up.
pub(super) fn next(fields: &Fields<'_, '_>) -> Result<Option<InvoiceNumber>, Flaw> {
    match (fields.text("dqfpdm")?, fields.text("dqfphm")?) {
        ("", "") => Ok(None),
        (code, digits) => number(code, digits)
            .map(Some)
            .ok_or_else(|| Flaw("<dqfpdm> or <dqfphm> is malformed".into())),
    }
}

/// What to void (作废类型, ZFLX).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoidWhat {
    /// The next number, unused (空白作废).
    Blank,
    /// An issued invoice (已开作废), with its total without tax.
    Issued(Fen),
}

/// A void as the device booked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceVoid {
    /// Code and number.
    pub number: InvoiceNumber,
    /// When, by the device's clock (ZFRQ).
    pub voided_at: CstTime,
}

impl DeviceVoid {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, Flaw> {
        let malformed = || Flaw("<fpdm> or <fphm> is malformed".into());
        let number = number(fields.text("fpdm")?, fields.text("fphm")?).ok_or_else(malformed)?;
        Ok(Self { number, voided_at: fields.read("zfrq", time)? })
    }
}
