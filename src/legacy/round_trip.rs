//! Print ∘ parse = identity: any draft that a dialect can say, printed by the conversion table, is
//! decoded as itself. The printer reads through the same rows that the decoder writes through.

use super::{
    Charset, Dialect, LegacyRequest, decode_business,
    number::{rate, yuan},
    print::Printer,
    row::{Column, Put, Row},
    table::{HEADER, Header, LINE, Line},
};
use crate::pb::v1 as pb;
use proptest::prelude::*;

/// The text of a value, as the dialect writes it; `None` for what is read past.
fn written<T>(put: &Put<T>, of: &mut T, dialect: Dialect) -> Option<String> {
    let digit = |wire: i32, read: &dyn Fn(&str) -> Option<i32>| {
        let digits = ["0", "1", "2", "3", "4"];
        digits.iter().find(|digit| read(digit) == Some(wire)).map_or("", |digit| *digit).to_owned()
    };
    Some(match put {
        Put::Text(field) => field(of).clone(),
        Put::Fen(field) => yuan(*field(of)),
        Put::OptionalFen(field) => field(of).map(yuan).unwrap_or_default(),
        Put::Rate(field) => rate(*field(of)),
        Put::Kind(field) => crate::model::Kind::from_wire(*field(of))
            .map(|kind| format!("{:03}", kind.legacy_code()))?,
        Put::Color(field) => digit(*field(of), &|text| dialect.color(text).map(Into::into)),
        Put::LineKind(field) => digit(*field(of), &|text| dialect.line_kind(text).map(Into::into)),
        Put::TaxMethod(field) => {
            digit(*field(of), &|text| super::dialect::tax_method(text).map(Into::into))
        }
        Put::ZeroRate(field) => {
            digit(*field(of), &|text| super::dialect::zero_rate(text).map(Into::into))
        }
        Put::Flag(field) => if *field(of) { "1" } else { "0" }.into(),
        Put::TaxIncluded => "0".into(),
        Put::AfterBlank(_) | Put::Only(_) | Put::Ignored | Put::Secret => return None,
    })
}

fn print_rows<T>(printer: &mut Printer, rows: &[Row<T>], dialect: Dialect, of: &mut T) {
    let mut told = vec!["taxpayer", "taxpayer and device"];
    for row in rows {
        let name = row.name(dialect.column());
        let again = row.field != "-" && told.contains(&row.field);
        if name.is_empty() || again {
            continue;
        }
        if let Some(text) = written(&row.put, of, dialect) {
            printer.leaf(name, &text);
            told.push(row.field);
        }
    }
}

/// An issue message of a draft.
fn message(draft: &pb::InvoiceDraft, dialect: Dialect, charset: Charset) -> Vec<u8> {
    let lower = dialect.column() == Column::Lower;
    let mut printer = Printer::new(charset.label());
    printer.open_with(
        "business",
        &[("id", if dialect == Dialect::Server { "10008" } else { "FPKJ" })],
    );
    printer.open("body");
    printer.open(if lower { "input" } else { "REQUEST_COMMON_FPKJ" });
    let deduction = (draft.deduction_fen != 0).then_some(draft.deduction_fen);
    let mut header = Header { draft: draft.clone(), deduction, ..Default::default() };
    print_rows(&mut printer, HEADER, dialect, &mut header);
    let size = draft.lines.len().to_string();
    let (list, key, item) = if lower {
        ("fyxm", "count", "group")
    } else {
        ("COMMON_FPKJ_XMXXS", "size", "COMMON_FPKJ_XMXX")
    };
    printer.open_with(list, &[(key, &size)]);
    for line in &draft.lines {
        printer.open(item);
        let mut line = Line { line: line.clone(), deduction: None };
        print_rows(&mut printer, LINE, dialect, &mut line);
        printer.close();
    }
    charset.encode(&printer.finish())
}

/// Text without control characters that is not blank, of characters that are and are not in GBK.
fn text() -> impl Strategy<Value = String> {
    "[ -~税票一二镕㛃𠮷（）￥&<>\"']{0,12}"
        .prop_filter("blank text is no text", |text| text.is_empty() || !text.trim().is_empty())
}

prop_compose! {
    fn line()(
        kind in 1..4, texts in proptest::collection::vec(text(), 6), numbers in (text(), text()),
        amounts: (i64, i64), rate in 0..1_000_001, preference: bool, zero_rate_kind in 0..5,
    ) -> pb::InvoiceLine {
        let [tax_code, own_code, name, specification, unit, preference_text] =
            <[String; 6]>::try_from(texts).unwrap();
        pb::InvoiceLine {
            kind, tax_code, own_code, name, specification, unit, preference_text, preference,
            quantity: numbers.0, unit_price: numbers.1,
            amount_fen: amounts.0.max(-i64::MAX), tax_fen: amounts.1.max(-i64::MAX),
            rate_millionths: rate, zero_rate_kind,
        }
    }
}

prop_compose! {
    fn party()(texts in proptest::collection::vec("[!-~税票𠮷]{1,12}", 4)) -> pb::Party {
        let [taxpayer_id, name, address_phone, bank_account] =
            <[String; 4]>::try_from(texts).unwrap();
        pb::Party { taxpayer_id, name, address_phone, bank_account }
    }
}

prop_compose! {
    fn draft()(
        texts in proptest::collection::vec(text(), 11), kinds in (1..6, 1..3, 1..4),
        parties in (party(), party()), amounts in proptest::collection::vec(-99_999..99_999_i64, 4),
        lines in proptest::collection::vec(line(), 0..4),
    ) -> pb::InvoiceDraft {
        let [serial, drawer, payee, checker, remark, tax_code_version, special_kind,
            original_code, original_number, red_notice, terminal] =
            <[String; 11]>::try_from(texts).unwrap();
        pb::InvoiceDraft {
            serial, kind: kinds.0, color: kinds.1, seller: Some(parties.0), buyer: Some(parties.1),
            drawer, payee, checker, amount_fen: amounts[0], tax_fen: amounts[1],
            total_fen: amounts[2], remark, tax_method: kinds.2, deduction_fen: amounts[3],
            tax_code_version, special_kind, original_code, original_number, red_notice, lines,
            terminal, ..pb::InvoiceDraft::default()
        }
    }
}

/// Dialects of `<business>`.
const BUSINESS: [Dialect; 3] = [Dialect::Common, Dialect::Component, Dialect::Server];

proptest! {
    #[test]
    fn what_is_printed_is_decoded_as_itself(
        draft in draft(),
        dialect in proptest::sample::select(BUSINESS.to_vec()),
        charset in proptest::sample::select(vec![Charset::Utf8, Charset::Gbk, Charset::Gb18030]),
    ) {
        let bytes = message(&draft, dialect, charset);
        let call = decode_business(&bytes)
            .map_err(|fault| TestCaseError::fail(format!("{}", fault.refusal)))?;
        prop_assert_eq!((call.reply.dialect, call.reply.charset), (dialect, charset));
        match call.request {
            LegacyRequest::Issue(issue) => prop_assert_eq!(issue.draft, draft),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
