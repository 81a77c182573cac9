//! The body of an issue request (10008): a claim's draft in the server's own names and digits.
//!
//! Source: docs/domain.md 2.3, 1.4. The request has no field for ways of taxing other than the
//! ordinary one, so a claim of those is refused before anything is sent.

use super::values::{rate_text, yuan};
use crate::{model::Kind, pb::v1 as pb, xml::print::Printer};

/// Lines that the face of a paper invoice holds; more go to a list (清单). Source: docs/domain.md
/// 3.6.
const FACE_LINES: usize = 8;

/// Why a draft cannot be said in a request.
pub(super) fn cannot_say(draft: &pb::InvoiceDraft, taxpayer_id: &str) -> Option<&'static str> {
    let seller = draft.seller.as_ref().map_or("", |seller| &seller.taxpayer_id);
    if seller != taxpayer_id {
        return Some("its seller is not the device's taxpayer");
    }
    let ordinary = [pb::TaxMethod::Ordinary, pb::TaxMethod::Unspecified];
    if !ordinary.contains(&draft.tax_method()) || draft.deduction_fen != 0 {
        return Some("10008 has no field for its way of taxing");
    }
    if draft.color() == pb::InvoiceColor::Unspecified {
        return Some("it is neither blue nor red");
    }
    None
}

/// Prints the fields behind kpzdbs, fplxdm and fpqqlsh.
pub(super) fn print(printer: &mut Printer, kind: Kind, draft: &pb::InvoiceDraft) {
    let nobody = pb::Party::default();
    let red = draft.color() == pb::InvoiceColor::Red;
    printer.leaf("kplx", if red { "1" } else { "0" });
    let special = if draft.special_kind.is_empty() { "00" } else { &draft.special_kind };
    printer.leaf("tspz", special);
    let seller = draft.seller.as_ref().unwrap_or(&nobody);
    party(printer, ["xhdwsbh", "xhdwmc", "xhdwdzdh", "xhdwyhzh"], seller);
    let buyer = draft.buyer.as_ref().unwrap_or(&nobody);
    party(printer, ["ghdwsbh", "ghdwmc", "ghdwdzdh", "ghdwyhzh"], buyer);
    printer.leaf("qdbz", if has_list(kind, draft) { "1" } else { "0" });
    let count = draft.lines.len().to_string();
    printer.open_with("fyxm", &[("count", &count)]);
    for (at, item) in draft.lines.iter().enumerate() {
        let nth = at.saturating_add(1).to_string();
        printer.open_with("group", &[("xh", &nth)]);
        line(printer, item);
        printer.close();
    }
    printer.close();
    for (name, value) in [
        ("hjje", yuan(draft.amount_fen).as_str()),
        ("hjse", &yuan(draft.tax_fen)),
        ("jshj", &yuan(draft.total_fen)),
        ("bz", &draft.remark),
        ("skr", &draft.payee),
        ("fhr", &draft.checker),
        ("kpr", &draft.drawer),
        ("tzdbh", &draft.red_notice),
        ("yfpdm", &draft.original_code),
        ("yfphm", &draft.original_number),
        // Parameters of a signature that only older servers take.
        ("qmcs", ""),
    ] {
        printer.leaf(name, value);
    }
}

/// Electronic kinds have no list: their layout is a matter of whoever prints them.
fn has_list(kind: Kind, draft: &pb::InvoiceDraft) -> bool {
    let paper = match kind {
        Kind::SpecialPaper | Kind::NormalPaper => true,
        Kind::Roll | Kind::ENormal | Kind::ESpecial => false,
    };
    paper && draft.lines.len() > FACE_LINES
}

fn party(printer: &mut Printer, names: [&'static str; 4], party: &pb::Party) {
    let values = [&party.taxpayer_id, &party.name, &party.address_phone, &party.bank_account];
    for (name, value) in names.into_iter().zip(values) {
        printer.leaf(name, value);
    }
}

fn line(printer: &mut Printer, line: &pb::InvoiceLine) {
    let kind = match line.kind() {
        pb::LineKind::Unspecified | pb::LineKind::Normal => "0",
        pb::LineKind::Discount => "1",
        pb::LineKind::Discounted => "2",
    };
    let zero = match line.zero_rate_kind() {
        pb::ZeroRateKind::Unspecified => "",
        pb::ZeroRateKind::Export => "0",
        pb::ZeroRateKind::Exempt => "1",
        pb::ZeroRateKind::NotTaxed => "2",
        pb::ZeroRateKind::Ordinary => "3",
    };
    for (name, value) in [
        ("fphxz", kind),
        ("spmc", &line.name),
        ("spsm", ""),
        ("ggxh", &line.specification),
        ("dw", &line.unit),
        ("spsl", &line.quantity),
        ("dj", &line.unit_price),
        ("je", &yuan(line.amount_fen)),
        ("sl", &rate_text(line.rate_millionths)),
        ("se", &yuan(line.tax_fen)),
        // Amounts are without tax.
        ("hsbz", "0"),
        ("spbm", &line.tax_code),
        ("zxbm", &line.own_code),
        ("yhzcbs", if line.preference { "1" } else { "0" }),
        ("lslbs", zero),
        ("zzstsgl", &line.preference_text),
    ] {
        printer.leaf(name, value);
    }
}
