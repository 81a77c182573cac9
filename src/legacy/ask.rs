//! Bodies of every request but the issue: queries, voids, stock, device. Follows the table.

use super::{
    dialect::Dialect,
    findings::{Findings, Path},
    issue::address,
    request::{About, Address, LegacyRequest, Operation, Query, Void, VoidKind, Wanted},
    row::{Reader, Shape},
    table::{ASK, Ask},
    xml::Element,
};
use crate::{
    model::{InvoiceNumber, Kind},
    refusal::{Reason, Refusal},
};
use chrono::{Datelike, NaiveDate};

/// Fields that every request may have.
const WHO: [&str; 7] =
    ["platform", "taxpayer and device", "taxpayer", "device", "machine", "terminal", "kind"];

/// Fields that an operation has beside those.
pub(super) fn fields(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Query => &["serial", "code", "number", "way", "condition"],
        Operation::Void => &["code", "number", "void_kind", "operator", "amount_fen"],
        Operation::Issue
        | Operation::CurrentNumber
        | Operation::Stock
        | Operation::Device
        | Operation::Monitor
        | Operation::Rates
        | Operation::Key => &[],
    }
}

/// Reads the body of a request that is no issue request.
///
/// # Errors
/// Everything that is wrong with it, each with its path.
pub(super) fn read(
    body: &Element<'_>,
    path: &Path<'_>,
    dialect: Dialect,
    operation: Operation,
) -> Result<LegacyRequest, Refusal> {
    let only: Vec<_> = WHO.iter().chain(fields(operation)).copied().collect();
    let column = dialect.column();
    let shape = Shape { rows: ASK, column, only: &only, inner: &[], repeated: &[] };
    let mut reader = Reader::new(dialect);
    let mut ask = Ask::default();
    reader.read(path, body, &shape, &mut ask);
    let mut findings = reader.findings;
    let to = std::mem::take(&mut ask.to);
    let address = address(&mut findings, path, to, "");
    let kind = Kind::from_wire(ask.kind);
    let request = match operation {
        Operation::Query => {
            let wanted = wanted(&mut findings, path, ask);
            wanted.map(|wanted| LegacyRequest::Query(Query { address, kind, wanted }))
        }
        Operation::Void => void(&mut findings, path, address, ask).map(LegacyRequest::Void),
        Operation::CurrentNumber => Some(LegacyRequest::CurrentNumber(About { address, kind })),
        Operation::Stock => Some(LegacyRequest::Stock(About { address, kind })),
        Operation::Device => Some(LegacyRequest::Device(About { address, kind })),
        Operation::Monitor => Some(LegacyRequest::Monitor(About { address, kind })),
        Operation::Rates => Some(LegacyRequest::Rates(About { address, kind })),
        Operation::Key => Some(LegacyRequest::Key(About { address, kind })),
        Operation::Issue => None,
    };
    findings.result(request)?.ok_or_else(|| {
        Refusal::new(Reason::MalformedMessage, "the body does not fit the operation")
    })
}

/// By serial when there is one, else by code and number, else by way and condition.
fn wanted(findings: &mut Findings, path: &Path<'_>, ask: Ask) -> Option<Wanted> {
    if !ask.serial.is_empty() {
        return Some(Wanted::Serial(ask.serial));
    }
    if !ask.number.is_empty() || !ask.code.is_empty() {
        let (code, number) = (ask.code, ask.number);
        return checked(findings, path, &code, [&number, &number]);
    }
    match ask.way.as_str() {
        "0" => {
            let condition = ask.condition.as_str();
            let parts =
                condition.len().checked_sub(16).and_then(|at| condition.split_at_checked(at));
            match parts {
                Some((code, numbers)) if numbers.is_ascii() => {
                    let (first, last) = numbers.split_at(8);
                    checked(findings, path, code, [first, last])
                }
                Some(_) | None => invalid(findings, path, "cxtj"),
            }
        }
        "1" => {
            let days = ask.condition.split_at_checked(8);
            let days = days.and_then(|(first, last)| Some((day(first)?, day(last)?)));
            match days.filter(|(first, last)| first <= last) {
                Some((first, last)) => Some(Wanted::Days { first, last }),
                None => invalid(findings, path, "cxtj"),
            }
        }
        "" => {
            findings.missing(&path.child("FPQQLSH"));
            None
        }
        _ => invalid(findings, path, "cxfs"),
    }
}

fn invalid(findings: &mut Findings, path: &Path<'_>, name: &str) -> Option<Wanted> {
    findings.invalid(&path.child(name));
    None
}

fn checked(
    findings: &mut Findings,
    path: &Path<'_>,
    code: &str,
    [first, last]: [&str; 2],
) -> Option<Wanted> {
    let numbers = (InvoiceNumber::parse_number(first), InvoiceNumber::parse_number(last));
    let in_order = matches!(numbers, (Some(first), Some(last)) if first <= last);
    if is_code(code) && in_order {
        let (code, first, last) = (code.to_owned(), first.to_owned(), last.to_owned());
        return Some(Wanted::Numbers { code, first, last });
    }
    findings.invalid(&path.child("fpdm, fphm"));
    None
}

/// 10 or 12 digits.
fn is_code(code: &str) -> bool {
    matches!(code.len(), 10 | 12) && code.bytes().all(|byte| byte.is_ascii_digit())
}

/// `yyyyMMdd`.
fn day(text: &str) -> Option<NaiveDate> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    let day = digits.then(|| NaiveDate::parse_from_str(text, "%Y%m%d").ok()).flatten()?;
    (day.year() >= 1900).then_some(day)
}

fn void(findings: &mut Findings, path: &Path<'_>, address: Address, ask: Ask) -> Option<Void> {
    let what = match ask.void_kind.as_str() {
        "0" => Some(VoidKind::Blank),
        "1" => Some(VoidKind::Issued),
        "" => {
            findings.missing(&path.child("zflx"));
            None
        }
        _ => {
            findings.invalid(&path.child("zflx"));
            None
        }
    };
    checked(findings, path, &ask.code, [&ask.number, &ask.number])?;
    Some(Void {
        address,
        kind: Kind::from_wire(ask.kind),
        what: what?,
        code: ask.code,
        number: ask.number,
        operator: ask.operator,
        amount_fen: ask.amount,
    })
}
