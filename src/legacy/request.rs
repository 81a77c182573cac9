//! What a legacy message asks for, in the domain's own types: the end of the vendors' digits. The
//! same pipeline as for gRPC takes it from here.

use super::{
    dialect::Dialect,
    row::{Put, Row},
    table::{HEADER, LINE},
};
use crate::{model::Kind, pb::v1 as pb};
use chrono::NaiveDate;

/// A legacy operation. Ids and interface codes: `Operation::of_business`, `of_interface`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Issues an invoice (发票开具).
    Issue,
    /// Asks for invoices (发票查询).
    Query,
    /// Voids (发票作废).
    Void,
    /// The next number (当前未开票代码号码查询).
    CurrentNumber,
    /// Segments and what is left (库存查询, 购票信息查询).
    Stock,
    /// Device and taxpayer (税控设备信息查询, 登记信息查询).
    Device,
    /// Limits of a kind (监控信息查询).
    Monitor,
    /// Authorised rates (授权税率查询).
    Rates,
    /// Taxpayer and number of the key (税务钥匙信息查询).
    Key,
}

/// Ids of `<business>`. Source: docs/domain.md (a) and the public contracts.
pub(super) const BUSINESS: &[(&str, Operation)] = &[
    ("FPKJ", Operation::Issue),
    ("10008", Operation::Issue),
    ("FPCX", Operation::Query),
    ("10010", Operation::Query),
    ("FPZF", Operation::Void),
    ("10009", Operation::Void),
    ("10004", Operation::CurrentNumber),
    ("FPKCCX", Operation::Stock),
    ("GPXXCX", Operation::Stock),
    ("10005", Operation::Stock),
    ("SKSBXXCX", Operation::Device),
    ("SKPXXCX", Operation::Device),
    ("DJXXCX", Operation::Device),
    ("JKXXCX", Operation::Monitor),
    ("JKSJCX", Operation::Monitor),
    ("SQSLCX", Operation::Rates),
    ("20002", Operation::Key),
];

/// Codes of `<interfaceCode>`.
pub(super) const INTERFACE: &[(&str, Operation)] = &[
    ("ECXML.FPKJ.BC.E_INV", Operation::Issue),
    ("ECXML.FPKJ.BC.E_INV_SYN", Operation::Issue),
    ("DFXJ1001", Operation::Issue),
    ("ECXML.FPKJ.QUERY.E_INV", Operation::Query),
    ("DFXJ1004", Operation::Query),
    ("ECXML.FPXZ.CX.E_INV", Operation::Query),
    ("DFXJ1005", Operation::Query),
    ("DFXJ1003", Operation::Stock),
];

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 9] = [
        Self::Issue,
        Self::Query,
        Self::Void,
        Self::CurrentNumber,
        Self::Stock,
        Self::Device,
        Self::Monitor,
        Self::Rates,
        Self::Key,
    ];

    /// By the id of `<business>`. `None` when it is not served.
    #[must_use]
    pub fn of_business(id: &str) -> Option<Self> {
        BUSINESS.iter().find(|(known, _)| *known == id).map(|(_, operation)| *operation)
    }

    /// By `<interfaceCode>`. `None` when it is not served.
    #[must_use]
    pub fn of_interface(code: &str) -> Option<Self> {
        INTERFACE.iter().find(|(known, _)| *known == code).map(|(_, operation)| *operation)
    }
}

/// Whom a request is for, as the caller says. Nothing here proves who calls: the client
/// certificate alone does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    /// Platform code that the caller claims (DSPTBM, requestCode); to be compared with the
    /// certificate's platform. May be empty.
    pub platform: String,
    /// Taxpayer id (纳税人识别号); empty when only a device is named.
    pub taxpayer_id: String,
    /// Device as the caller names it (kpzdbs after `~~`, sksbbh, skpbh): a device id or a machine
    /// number, which the registry tells apart. May be empty.
    pub device: String,
    /// Machine number (JQBH). May be empty.
    pub machine_number: String,
}

/// Asks to issue.
#[derive(Debug, Clone, PartialEq)]
pub struct Issue {
    /// The invoice wanted. `device_id` is empty: the digest must not depend on the edge, so the
    /// device in `address` is looked up behind it.
    pub draft: pb::InvoiceDraft,
    /// Whom it is for; its taxpayer is the seller.
    pub address: Address,
}

/// Which invoices are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The one of a request serial (FPQQLSH).
    Serial(String),
    /// Those of a code, from the first to the last number, 8 digits each.
    Numbers {
        /// Invoice code.
        code: String,
        /// First number.
        first: String,
        /// Last number.
        last: String,
    },
    /// Those issued on days of China Standard Time.
    Days {
        /// First day.
        first: NaiveDate,
        /// Last day.
        last: NaiveDate,
    },
}

/// Asks for invoices. Never closes a serial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Whom it is for.
    pub address: Address,
    /// Kind, when given.
    pub kind: Option<Kind>,
    /// Which.
    pub wanted: Wanted,
}

/// What a void is about (ZFLX).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoidKind {
    /// 0: a number that was never used (空白作废).
    Blank,
    /// 1: an issued invoice (已开作废).
    Issued,
}

/// Asks to void.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    /// Whom it is for.
    pub address: Address,
    /// Kind.
    pub kind: Option<Kind>,
    /// What is voided.
    pub what: VoidKind,
    /// Invoice code.
    pub code: String,
    /// Invoice number.
    pub number: String,
    /// Who voids (作废人). May be empty.
    pub operator: String,
    /// Total without tax as the caller knows it. Unit: fen.
    pub amount_fen: Option<i64>,
}

/// Asks about a device, or one kind of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Whom it is for.
    pub address: Address,
    /// Kind, when given.
    pub kind: Option<Kind>,
}

/// A decoded request.
#[derive(Debug, Clone, PartialEq)]
pub enum LegacyRequest {
    /// Issue an invoice.
    Issue(Box<Issue>),
    /// Find invoices.
    Query(Query),
    /// Void one.
    Void(Void),
    /// The next number.
    CurrentNumber(About),
    /// Segments and what is left.
    Stock(About),
    /// Device and taxpayer.
    Device(About),
    /// Limits.
    Monitor(About),
    /// Rates.
    Rates(About),
    /// Number of the key.
    Key(About),
}

/// The element of a field path of the contract: `draft.lines[3].tax_fen` is `SE` of line 4.
/// `None` for other paths.
pub(super) fn element_of(field: &str, dialect: Dialect) -> Option<(&'static str, &'static str)> {
    let field = field.strip_prefix("draft.")?;
    match field.strip_prefix("lines[") {
        Some(line) => row_of(LINE, line.split_once("].")?.1, dialect),
        None => row_of(HEADER, field, dialect),
    }
}

fn row_of<T>(
    rows: &'static [Row<T>],
    field: &str,
    dialect: Dialect,
) -> Option<(&'static str, &'static str)> {
    let named = |row: &&Row<T>| {
        let telephone = matches!(row.put, Put::AfterBlank(_));
        row.field == field && !telephone && !row.name(dialect.column()).is_empty()
    };
    rows.iter().find(named).map(|row| (row.name(dialect.column()), row.code))
}

/// The code of the Aisino platform for an element that was refused while decoding, by its path.
pub(super) fn code_of_element(path: &str, dialect: Dialect) -> Option<&'static str> {
    let (parents, name) = path.rsplit_once('/')?;
    if parents.ends_with(']') {
        code_in(LINE, name, dialect)
    } else {
        code_in(HEADER, name, dialect)
    }
}

fn code_in<T>(rows: &'static [Row<T>], name: &str, dialect: Dialect) -> Option<&'static str> {
    let row = rows.iter().find(|row| row.name(dialect.column()) == name);
    row.map(|row| row.code).filter(|code| !code.is_empty())
}
