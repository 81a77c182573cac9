//! Tests of the codec as a whole, over made-up messages in `tests/vectors/legacy`, which a program
//! that is not ours encoded.

mod answers;
mod bad_input;
mod both_edges;
mod ca;
mod decode;
mod laws;
mod seal;
mod vectors;

use super::{Call, Fault, Interface, Issue, LegacyRequest, decode_business, decode_interface};
use crate::pb::v1 as pb;

/// A message of the vectors.
macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/vectors/legacy/", $name)).as_slice()
    };
}
pub(super) use vector;

pub(super) const SERVER: &[u8] = vector!("server_10008_gbk.xml");
pub(super) const COMPONENT: &[u8] = vector!("component_fpkj_gb2312.xml");
pub(super) const NESTED: &[u8] = vector!("common_nested_gbk.xml");
pub(super) const FLAT: &[u8] = vector!("common_flat_utf8.xml");
pub(super) const RARE: &[u8] = vector!("common_flat_gb18030.xml");
pub(super) const ENVELOPE: &[u8] = vector!("interface_issue_utf8.xml");
pub(super) const ENVELOPE_ZIPPED: &[u8] = vector!("interface_issue_gzip_gbk.xml");
pub(super) const ENVELOPE_OLDER: &[u8] = vector!("interface_issue_older.xml");

/// Opens an envelope with plain content and decodes it.
pub(super) fn decode_plain(bytes: &[u8]) -> Result<Call, Fault> {
    let opened: Interface = decode_interface(bytes)?;
    let super::Content::Plain(body) = opened.content.clone() else {
        panic!("the content is not plain");
    };
    opened.read(&body)
}

pub(super) fn issue_of(call: Result<Call, Fault>) -> Issue {
    match call.unwrap().request {
        LegacyRequest::Issue(issue) => *issue,
        other => panic!("{other:?}"),
    }
}

pub(super) fn business(bytes: &[u8]) -> Call {
    decode_business(bytes).unwrap()
}

/// The invoice that every issue message of the vectors asks for.
pub(super) fn wanted() -> pb::InvoiceDraft {
    let line = |kind: pb::LineKind, name: &str, amount_fen, tax_fen| pb::InvoiceLine {
        kind: kind.into(),
        tax_code: "1060105040000000000".into(),
        name: name.into(),
        amount_fen,
        rate_millionths: 130_000,
        tax_fen,
        ..Default::default()
    };
    let counted = |line, unit: &str, quantity: &str, unit_price: &str| pb::InvoiceLine {
        unit: unit.into(),
        quantity: quantity.into(),
        unit_price: unit_price.into(),
        ..line
    };
    let keyboard = "*计算机外部设备*键盘";
    let paper = line(pb::LineKind::Normal, "*纸制品*打印纸", 10_000, 1_300);
    let discounted = line(pb::LineKind::Discounted, keyboard, 17_700, 2_301);
    pb::InvoiceDraft {
        serial: "LEGACY0001".into(),
        kind: pb::InvoiceKind::ENormal.into(),
        color: pb::InvoiceColor::Blue.into(),
        seller: Some(pb::Party {
            taxpayer_id: "91000000TEST000001".into(),
            name: "示例销售有限公司".into(),
            address_phone: "示例市示例路1号 000-00000000".into(),
            bank_account: "示例银行 0000000000".into(),
        }),
        buyer: Some(pb::Party {
            taxpayer_id: "91000000TEST000002".into(),
            name: "示例购买有限公司".into(),
            ..Default::default()
        }),
        drawer: "示例甲".into(),
        payee: "示例乙".into(),
        checker: "示例丙".into(),
        amount_fen: 26_000,
        tax_fen: 3_380,
        total_fen: 29_380,
        remark: "示例<备注>&\"1\"".into(),
        tax_method: pb::TaxMethod::Ordinary.into(),
        tax_code_version: "33.0".into(),
        special_kind: "00".into(),
        terminal: "T1".into(),
        lines: vec![
            counted(paper, "箱", "1", "100.00"),
            counted(discounted, "个", "2", "88.50"),
            line(pb::LineKind::Discount, keyboard, -1_700, -221),
        ],
        ..Default::default()
    }
}
