//! Bodies of issue requests: COMMON (flat and nested), lower case, older Aisino → `Issue`. Follows
//! the table; edits no amount and adds no value of its own but the one kind of the older shape.

use super::{
    dialect::Dialect,
    findings::{Findings, Path},
    request::{Address, Issue},
    row::{Column, Reader, Shape},
    table::{HEADER, Header, LINE, Line, To},
    xml::Element,
};
use crate::{
    pb::v1 as pb,
    refusal::{Reason, Refusal},
};

/// Names of the parts of a body.
struct Parts {
    column: Column,
    /// The element with the header's fields; none when they stand in the body itself.
    header: Option<&'static str>,
    /// The element with the lines.
    list: &'static str,
    /// A line.
    item: &'static str,
    /// Elements beside them that are read past.
    past: &'static [&'static str],
}

const NESTED: Parts = Parts {
    column: Column::Common,
    header: Some("COMMON_FPKJ_FPT"),
    list: "COMMON_FPKJ_XMXXS",
    item: "COMMON_FPKJ_XMXX",
    past: &[],
};
const FLAT: Parts = Parts { header: None, ..NESTED };
const LOWER: Parts =
    Parts { column: Column::Lower, header: None, list: "fyxm", item: "group", past: &[] };
const OLDER: Parts = Parts {
    column: Column::Older,
    header: Some("FPKJXX_FPTXX"),
    list: "FPKJXX_XMXXS",
    item: "FPKJXX_XMXX",
    past: &["FPKJXX_DDXX", "FPKJXX_DDMXXXS", "FPKJXX_WLXX", "FPKJXX_ZFXX"],
};

impl Parts {
    fn of(body: &Element<'_>, dialect: Dialect) -> &'static Self {
        match dialect.column() {
            Column::Lower => &LOWER,
            Column::Older => &OLDER,
            Column::Common if body.child("COMMON_FPKJ_FPT").is_some() => &NESTED,
            Column::Common => &FLAT,
        }
    }
}

/// Reads the body of an issue request.
///
/// # Errors
/// Everything that is wrong with it, each with its path.
pub(super) fn read(
    body: &Element<'_>,
    path: &Path<'_>,
    dialect: Dialect,
) -> Result<Issue, Refusal> {
    let parts = Parts::of(body, dialect);
    let mut reader = Reader::new(dialect);
    let mut header = Header::default();
    // Without a list around them the lines may stand in the body itself.
    let bare = parts.header.is_none() && parts.column == Column::Common;
    let repeated: &[&str] = if bare { &[parts.item] } else { &[] };
    let lists = [parts.list];
    let shape = |inner| Shape { rows: HEADER, column: parts.column, only: &[], inner, repeated };
    match parts.header {
        None => reader.read(path, body, &shape(&lists), &mut header),
        Some(name) => {
            outline(&mut reader.findings, path, body, parts);
            let path = path.child(name);
            match body.child(name) {
                Some(element) => reader.read(&path, element, &shape(&[]), &mut header),
                None => reader.findings.missing(&path),
            }
        }
    }
    let lines = lines(&mut reader, path, body, parts);
    deduction(&mut reader.findings, path, &mut header, &lines);
    if parts.column == Column::Older {
        header.draft.kind = pb::InvoiceKind::ENormal.into();
    }
    header.draft.lines = lines.into_iter().map(|line| line.line).collect();
    let mut findings = reader.findings;
    let seller = header.draft.seller.as_ref().map_or("", |seller| &seller.taxpayer_id);
    let address = address(&mut findings, path, header.to, seller);
    findings.result(Issue { draft: header.draft, address })
}

/// Checks that a body of parts holds these parts, each once.
fn outline(findings: &mut Findings, path: &Path<'_>, body: &Element<'_>, parts: &Parts) {
    let mut seen = Vec::new();
    for child in &body.children {
        let known = parts.header == Some(child.name)
            || parts.list == child.name
            || parts.past.contains(&child.name);
        if !known {
            findings.unknown(&path.child(child.name));
        } else if seen.contains(&child.name) {
            findings.duplicate(&path.child(child.name));
        }
        seen.push(child.name);
    }
}

/// Reads the lines: those of the list, or those that stand in the body itself, never both.
fn lines(reader: &mut Reader, path: &Path<'_>, body: &Element<'_>, parts: &Parts) -> Vec<Line> {
    let list = body.child(parts.list);
    let path_of_list = path.child(parts.list);
    let (holder, path) = match list {
        Some(list) => (list, &path_of_list),
        None => (body, path),
    };
    let shape = Shape { rows: LINE, column: parts.column, only: &[], inner: &[], repeated: &[] };
    let mut lines = Vec::new();
    for item in &holder.children {
        if item.name == parts.item {
            let mut line = Line::default();
            reader.read(&path.nth(item.name, lines.len()), item, &shape, &mut line);
            lines.push(line);
        } else if list.is_some() {
            reader.findings.unknown(&path.child(item.name));
        }
    }
    if let Some(list) = list {
        if body.child(parts.item).is_some() {
            reader.findings.duplicate(path);
        }
        count(&mut reader.findings, path, list, lines.len());
    }
    lines
}

/// Checks `size` and `count` against the elements. Absent or empty says nothing (it often is), but
/// a wrong number means that a line was lost or added on the way: the count of the caller and ours
/// must not differ on an invoice.
pub(super) fn count(findings: &mut Findings, path: &Path<'_>, list: &Element<'_>, found: usize) {
    for name in ["size", "count"] {
        let said = list.attribute(name).unwrap_or_default();
        if !said.is_empty() && said.parse() != Ok(found) {
            let en = format!("{name} is not the number of its elements, {found}");
            let zh = format!("{name} 与实际明细数 {found} 不符");
            findings.add(path, Reason::LineCount, (&en, &zh));
        }
    }
}

/// One deduction (扣除额) for the invoice; vendors put it beside the totals or on the line. Zero
/// says nothing.
fn deduction(findings: &mut Findings, path: &Path<'_>, header: &mut Header, lines: &[Line]) {
    let all = lines.iter().map(|line| line.deduction).chain([header.deduction]);
    let mut given = all.flatten().filter(|fen| *fen != 0);
    header.draft.deduction_fen = given.next().unwrap_or_default();
    if given.next().is_some() {
        findings.duplicate(&path.child("KCE"));
    }
}

/// Who is meant. Two names for the taxpayer in one message must agree, and agree with the seller.
pub(super) fn address(findings: &mut Findings, path: &Path<'_>, to: To, seller: &str) -> Address {
    let (of_both, device_of_both) = match to.both.split_once("~~") {
        Some((taxpayer, device)) => (taxpayer, device),
        None => ("", to.both.as_str()),
    };
    let mut taxpayer_id = seller;
    for name in [to.taxpayer_id.as_str(), of_both].into_iter().filter(|name| !name.is_empty()) {
        if taxpayer_id.is_empty() {
            taxpayer_id = name;
        } else if taxpayer_id != name {
            let what = ("two taxpayers are named", "报文中的纳税人识别号不一致");
            findings.add(path, Reason::SellerMismatch, what);
        }
    }
    let mut device = device_of_both;
    if device.is_empty() {
        device = &to.device;
    } else if !to.device.is_empty() && to.device != device {
        let what = ("two devices are named", "报文中的设备编号不一致");
        findings.add(path, Reason::DeviceAmbiguous, what);
    }
    Address {
        platform: to.platform,
        taxpayer_id: taxpayer_id.to_owned(),
        device: device.to_owned(),
        machine_number: to.machine,
    }
}
