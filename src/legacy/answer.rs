//! What a legacy request is answered, as values. How it is printed is `reply`'s and `fields`'
//! business.

use crate::{
    model::{CstTime, Kind},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
};
use chrono::NaiveDate;

/// An invoice in an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The stored invoice.
    pub invoice: pb::Invoice,
    /// Whether the acceptance has it, or of a voided one its void (上传标志, scbz).
    pub uploaded: bool,
    /// Whether it was voided after it was issued.
    pub standing: Standing,
}

/// Whether an invoice still stands (发票状态, fpzt).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// 正数发票, 负数发票.
    Valid,
    /// 已开作废.
    Voided,
}

/// A number segment (号段, lgxx).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Invoice code (fpdm).
    pub code: String,
    /// First number (qshm), 8 digits.
    pub first: String,
    /// Last number (zzhm), 8 digits.
    pub last: String,
    /// Numbers in it (fpfs).
    pub count: u64,
    /// Numbers left (syfs).
    pub left: u64,
    /// Day on which it was taken over (lgrq).
    pub acquired_on: Option<NaiveDate>,
}

/// Stock of a device and kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stock {
    /// Next number: code, 8 digits; `None` when nothing is left.
    pub next: Option<(String, String)>,
    /// Numbers left over all segments (zsyfs).
    pub left: u64,
    /// Segments with something left, in the order of use.
    pub segments: Vec<Segment>,
}

/// A device and its taxpayer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Device number (sksbbh).
    pub id: String,
    /// Machine number (jqbh), 12 digits.
    pub machine_number: String,
    /// Taxpayer id (nsrsbh).
    pub taxpayer_id: String,
    /// Taxpayer's name (nsrmc).
    pub taxpayer_name: String,
    /// Tax office (swjgdm, swjgmc). May be empty.
    pub office: (String, String),
    /// Kinds it issues (fplxdm), ascending.
    pub kinds: Vec<Kind>,
    /// Its clock (dqsz).
    pub clock: CstTime,
}

/// Limits of a kind. Units: fen, hours, invoices. `None`: the device has none, and says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitor {
    /// Kind (fplxdm).
    pub kind: Kind,
    /// Issue deadline (kpjzsj).
    pub issue_deadline: Option<CstTime>,
    /// Single-invoice limit (dzkpxe).
    pub single_limit_fen: Option<i64>,
    /// Cumulative limit, blue (zsljxe).
    pub blue_limit_fen: Option<i64>,
    /// Cumulative limit, red (fsljxe).
    pub red_limit_fen: Option<i64>,
    /// Whether a red invoice needs its original in the device (fsfpbz).
    pub red_needs_original: Option<bool>,
    /// Days within which a red invoice is allowed (fsfpts).
    pub red_days: Option<u64>,
    /// Offline hours (lxkpsc).
    pub offline_hours: Option<u64>,
    /// Offline invoices (lxkpzs).
    pub offline_count: Option<u64>,
    /// Offline amount, blue (lxzsljje).
    pub offline_amount_fen: Option<i64>,
    /// Offline amount, red (lxfsljje).
    pub offline_red_fen: Option<i64>,
    /// Upload deadline, day of month 0 to 31 (scjzrq).
    pub upload_day: Option<u64>,
}

impl Monitor {
    /// From the proxy's own answer.
    #[must_use]
    pub fn of(kind: Kind, told: &pb::GetMonitorResponse) -> Self {
        Self {
            kind,
            issue_deadline: CstTime::parse(&told.issue_deadline),
            single_limit_fen: told.single_limit_fen,
            blue_limit_fen: told.blue_limit_fen,
            red_limit_fen: told.red_limit_fen,
            red_needs_original: told.red_needs_original,
            red_days: told.red_days,
            offline_hours: told.offline_hours,
            offline_count: told.offline_count,
            offline_amount_fen: told.offline_blue_fen,
            offline_red_fen: told.offline_red_fen,
            upload_day: told.upload_day,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To an issue request: the one invoice. To a query: all that were found.
    Invoices(Vec<Found>),
    /// To a void: code, number and when.
    Voided {
        /// Invoice code.
        code: String,
        /// Invoice number.
        number: String,
        /// When it was voided (zfrq).
        at: CstTime,
    },
    /// To a question for stock or the next number.
    Stock(Stock),
    /// To a question for the device.
    Device(Box<Device>),
    /// To a question for limits.
    Monitor(Monitor),
    /// To a question for rates. Unit: millionths, ascending.
    Rates(Vec<i32>),
    /// To a question for the key: taxpayer id and number of the key.
    Key {
        /// Taxpayer id (nsrsbh).
        taxpayer_id: String,
        /// Number of the key (keyno).
        key: String,
    },
    /// Not known yet.
    InDoubt,
    /// Refused. Nothing was spent.
    Refused(Refusal),
}

/// The answer to an issue request or to a query by serial.
impl From<pb::Outcome> for Answer {
    fn from(outcome: pb::Outcome) -> Self {
        use pb::outcome::Result as Wire;
        let closed = |hint| Self::Refused(Refusal::new(Reason::SerialClosed, hint));
        match outcome.result {
            Some(Wire::Issued(issued)) => {
                let delivered = issued.delivery.map(|delivery| delivery.state());
                let uploaded = delivered == Some(pb::Delivery::Accepted);
                match issued.invoice {
                    Some(invoice) => {
                        let standing = Standing::Valid;
                        Self::Invoices(vec![Found { invoice, uploaded, standing }])
                    }
                    // Issued, but not told: anything but "in doubt" would have it issued twice.
                    None => Self::InDoubt,
                }
            }
            Some(Wire::Voided(voided)) if voided.issued.is_some() => {
                let delivered = voided.delivery.map(|delivery| delivery.state());
                let uploaded = delivered == Some(pb::Delivery::Accepted);
                match voided.issued.and_then(|issued| issued.invoice) {
                    Some(invoice) => {
                        let standing = Standing::Voided;
                        Self::Invoices(vec![Found { invoice, uploaded, standing }])
                    }
                    None => Self::InDoubt,
                }
            }
            Some(Wire::Voided(_)) => closed("the number of this serial was voided, unsigned"),
            Some(Wire::Closed(_)) => closed("the serial was closed unused"),
            Some(Wire::Unknown(_)) => {
                Self::Refused(Refusal::new(Reason::NotFound, "nothing is known of the serial"))
            }
            // An outcome that says nothing is not known yet.
            Some(Wire::InDoubt(_)) | None => Self::InDoubt,
        }
    }
}
