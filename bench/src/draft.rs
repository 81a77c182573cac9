//! The invoice that the load is made of: one line at 13 %, to an ordinary buyer.

use crate::target::Demo;
use skproxy::pb::v1::{InvoiceColor, InvoiceDraft, InvoiceKind, InvoiceLine, LineKind, Party};

/// Amount without tax of the line. Unit: fen.
const AMOUNT_FEN: i64 = 100_000;
/// 13 % of it. Unit: fen.
const TAX_FEN: i64 = 13_000;

/// A draft that meets every rule, under a serial that no other run uses.
pub(crate) fn draft(demo: &Demo, serial: String) -> InvoiceDraft {
    InvoiceDraft {
        serial,
        kind: InvoiceKind::ENormal.into(),
        color: InvoiceColor::Blue.into(),
        seller: Some(Party {
            taxpayer_id: demo.taxpayer_id.clone(),
            name: demo.seller_name.clone(),
            ..Party::default()
        }),
        buyer: Some(Party { name: "个人".to_owned(), ..Party::default() }),
        drawer: "开票员".to_owned(),
        amount_fen: AMOUNT_FEN,
        tax_fen: TAX_FEN,
        total_fen: AMOUNT_FEN + TAX_FEN,
        tax_code_version: "33.0".to_owned(),
        lines: vec![line()],
        device_id: demo.device_id.clone(),
        ..InvoiceDraft::default()
    }
}

fn line() -> InvoiceLine {
    InvoiceLine {
        kind: LineKind::Normal.into(),
        tax_code: "1060105040000000000".to_owned(),
        name: "*纸制品*打印纸".to_owned(),
        unit: "包".to_owned(),
        quantity: "10".to_owned(),
        unit_price: "100".to_owned(),
        amount_fen: AMOUNT_FEN,
        rate_millionths: 130_000,
        tax_fen: TAX_FEN,
        ..InvoiceLine::default()
    }
}
