//! A small invoice that meets every rule of both embedded profiles, for `demo`, the bench and
//! tests. The parties are made up; their ids fail the check character on purpose.

use super::decimal::tax_fen;
use crate::pb::v1 as pb;

/// Who sells in a sample.
#[derive(Debug, Clone, Copy)]
pub struct Seller<'a> {
    /// Taxpayer id.
    pub taxpayer_id: &'a str,
    /// Name as registered.
    pub name: &'a str,
}

/// A made-up seller.
pub const SELLER: Seller<'static> =
    Seller { taxpayer_id: "91000000TEST000001", name: "示例销售有限公司" };

/// Name, unit, price in yuan and the same in fen.
const GOODS: [(&str, &str, &str, i64); 3] = [
    ("*纸制品*打印纸", "箱", "100.00", 10_000),
    ("*信息技术服务*软件维护", "次", "250.00", 25_000),
    ("*计算机外部设备*键盘", "个", "88.50", 8_850),
];

/// Rate of every line, 13 %. Unit: millionths.
const RATE_MILLIONTHS: i32 = 130_000;

/// A valid blue electronic normal invoice (蓝字电子普票) with two lines.
#[must_use]
pub fn draft(serial: &str, seller: Seller<'_>) -> pb::InvoiceDraft {
    draft_with_lines(serial, seller, 2)
}

/// The same with `line_count` lines, 1 to 100.
#[must_use]
pub fn draft_with_lines(serial: &str, seller: Seller<'_>, line_count: u8) -> pb::InvoiceDraft {
    let lines: Vec<_> = GOODS.iter().cycle().zip(1..=line_count).map(line).collect();
    let amount_fen = lines.iter().map(|line| line.amount_fen).sum();
    let tax_fen = lines.iter().map(|line| line.tax_fen).sum();
    pb::InvoiceDraft {
        serial: serial.into(),
        kind: pb::InvoiceKind::ENormal.into(),
        color: pb::InvoiceColor::Blue.into(),
        seller: Some(pb::Party {
            taxpayer_id: seller.taxpayer_id.into(),
            name: seller.name.into(),
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
        amount_fen,
        tax_fen,
        total_fen: amount_fen + tax_fen,
        remark: "示例发票".into(),
        tax_method: pb::TaxMethod::Ordinary.into(),
        tax_code_version: "33.0".into(),
        lines,
        ..Default::default()
    }
}

fn line((goods, quantity): (&(&str, &str, &str, i64), u8)) -> pb::InvoiceLine {
    let (name, unit, unit_price, price_fen) = *goods;
    let amount_fen = price_fen * i64::from(quantity);
    let tax = tax_fen(amount_fen, RATE_MILLIONTHS);
    pb::InvoiceLine {
        kind: pb::LineKind::Normal.into(),
        tax_code: "1060105040000000000".into(),
        name: name.into(),
        unit: unit.into(),
        quantity: quantity.to_string(),
        unit_price: unit_price.into(),
        amount_fen,
        rate_millionths: RATE_MILLIONTHS,
        tax_fen: i64::try_from(tax).expect("13 % of a small amount is small"),
        ..Default::default()
    }
}
