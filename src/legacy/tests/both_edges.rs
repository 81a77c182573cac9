//! One mutation of a valid request, sent through either edge, is refused for one reason. Pure: no
//! number is spent.

use super::*;
use crate::{
    contract::{self, Profiles, Target, sample::SELLER},
    legacy::tests::vectors::house,
    model::{CstTime, PlatformNo},
    refusal::Reason,
};
use prost::Message as _;
use std::sync::LazyLock;

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::embedded);

type Change = fn(&mut pb::InvoiceDraft);

/// The reasons that a draft is refused for; none when it is accepted.
fn reasons(draft: pb::InvoiceDraft) -> Vec<Reason> {
    let (taxpayer, device) = house(SELLER);
    let (taxpayer, device) = (&taxpayer, &device);
    let target = Target {
        platform: PlatformNo(1),
        taxpayer,
        device,
        red_offered: true,
        authorised_rates: &[],
    };
    let now = CstTime::parse("2026-06-01T12:00:00+08:00").unwrap();
    let profile = PROFILES.get("baiwang").unwrap();
    let verdict = contract::normalise(Some(draft))
        .and_then(|draft| contract::check(draft, target, profile, now));
    verdict.map_or_else(|refusal| named(&refusal), |_| Vec::new())
}

fn named(refusal: &crate::refusal::Refusal) -> Vec<Reason> {
    let of_violations = refusal.violations.iter().map(|found| found.reason);
    of_violations.chain([refusal.reason]).collect()
}

fn through_legacy(text: &str) -> Vec<Reason> {
    match decode_business(text.as_bytes()) {
        Ok(call) => reasons(issue_of(Ok(call)).draft),
        Err(fault) => named(&fault.refusal),
    }
}

fn through_grpc(draft: &pb::InvoiceDraft) -> Vec<Reason> {
    reasons(pb::InvoiceDraft::decode(draft.encode_to_vec().as_slice()).unwrap())
}

/// The good message with each `from` once replaced by its `to`.
fn edited(edits: &[(&str, &str)]) -> String {
    let mut text = String::from_utf8(FLAT.to_vec()).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{from} is not in the message");
        text = text.replacen(from, to, 1);
    }
    text
}

/// Both edges refuse for `expect`; `None`: both accept.
#[track_caller]
fn check(edits: &[(&str, &str)], change: impl Fn(&mut pb::InvoiceDraft), expect: Option<Reason>) {
    let mut draft = wanted();
    change(&mut draft);
    for (edge, found) in
        [("legacy", through_legacy(&edited(edits))), ("gRPC", through_grpc(&draft))]
    {
        let right = expect.map_or(found.is_empty(), |reason| found.contains(&reason));
        assert!(right, "{edge} {edits:?}: {found:?}, not {expect:?}");
    }
}

#[test]
fn what_is_missing_empty_or_too_long_by_one_byte_of_gbk_is_refused() {
    let missing = Some(Reason::FieldMissing);
    check(&[("<KPR>示例甲</KPR>", "")], |draft| draft.drawer.clear(), missing);
    check(&[("<KPR>示例甲</KPR>", "<KPR/>")], |draft| draft.drawer.clear(), missing);
    check(&[("<KPLX>0</KPLX>", "")], |draft| draft.color = 0, missing);
    check(&[("<FPQQLSH>LEGACY0001", "<FPQQLSH>")], |draft| draft.serial.clear(), missing);
    let name = |draft: &mut pb::InvoiceDraft| draft.lines[0].name.clear();
    check(&[("<XMMC>*纸制品*打印纸", "<XMMC>")], name, missing);
    let drawer: fn(&mut pb::InvoiceDraft, String) = |draft, text| draft.drawer = text;
    for (field, max, change) in [
        ("<KPR>示例甲", 8, drawer),
        ("<BZ>示例&lt;备注&gt;&amp;\"1\"", 130, |draft, text| draft.remark = text),
        ("<XMMC>*纸制品*打印纸", 90, |draft, text| draft.lines[0].name = text),
        ("<DW>箱", 20, |draft, text| draft.lines[0].unit = text),
    ] {
        let tag = field.split_once('>').unwrap().0;
        for text in ["票".repeat(max / 2), "a".repeat(max)] {
            let (fits, long) = (format!("{tag}>{text}"), format!("{tag}>{text}a"));
            check(&[(field, &fits)], |draft| change(draft, text.clone()), None);
            let change = |draft: &mut _| change(draft, format!("{text}a"));
            check(&[(field, &long)], change, Some(Reason::FieldTooLong));
        }
    }
}

#[test]
fn characters_that_the_device_does_not_have_are_refused() {
    for text in ["😀", "㐂", "€"] {
        let remark = format!("<BZ>{text}");
        let change = |draft: &mut pb::InvoiceDraft| draft.remark.insert_str(0, text);
        check(&[("<BZ>", &remark)], change, Some(Reason::TextNotGbk));
    }
    for (text, reference) in [("\n", "&#10;"), ("\t", "&#9;")] {
        let remark = format!("<BZ>{reference}");
        let change = |draft: &mut pb::InvoiceDraft| draft.remark.insert_str(0, text);
        check(&[("<BZ>", &remark)], change, Some(Reason::FieldInvalid));
    }
}

/// One fen (of line tax, by this profile) or one step beyond, on each side.
#[test]
fn each_tolerance_ends_on_each_side() {
    for (price, expect) in [
        ("99.98", Some(Reason::LineAmountMismatch)),
        ("99.99", None),
        ("100.01", None),
        ("100.02", Some(Reason::LineAmountMismatch)),
    ] {
        let edit = format!("<XMDJ>{price}");
        check(&[("<XMDJ>100.00", &edit)], |draft| draft.lines[0].unit_price = price.into(), expect);
    }
    for (fen, line, tax, total) in
        [(1, "13.01", "33.81", "293.81"), (-1, "12.99", "33.79", "293.79")]
    {
        let edits = [("<SE>13.00", line), ("<HJSE>33.80", tax), ("<JSHJ>293.80", total)];
        let edits = edits.map(|(from, to)| (from, from.split_once('>').unwrap().0, to));
        let edits = edits.map(|(from, tag, to)| (from, format!("{tag}>{to}")));
        let edits = edits.each_ref().map(|(from, to)| (*from, to.as_str()));
        let change = |draft: &mut pb::InvoiceDraft| {
            draft.lines[0].tax_fen += fen;
            draft.tax_fen += fen;
            draft.total_fen += fen;
        };
        check(&edits, change, Some(Reason::LineTaxMismatch));
    }
    for (amount, tax, total, expect) in [
        ("260.00", "33.80", "293.81", Some(Reason::TotalSumMismatch)),
        ("260.00", "33.80", "293.79", Some(Reason::TotalSumMismatch)),
        ("260.01", "33.80", "293.81", Some(Reason::TotalAmountMismatch)),
        ("259.99", "33.80", "293.79", Some(Reason::TotalAmountMismatch)),
        ("260.00", "35.07", "295.07", None),
        ("260.00", "32.53", "292.53", None),
        ("260.00", "35.08", "295.08", Some(Reason::TotalTaxMismatch)),
        ("260.00", "32.52", "292.52", Some(Reason::TotalTaxMismatch)),
    ] {
        let to = [format!("<HJJE>{amount}"), format!("<HJSE>{tax}"), format!("<JSHJ>{total}")];
        let edits = ["<HJJE>260.00", "<HJSE>33.80", "<JSHJ>293.80"];
        let edits: Vec<_> = edits.into_iter().zip(to.iter().map(String::as_str)).collect();
        let fen = |yuan: &str| yuan.replace('.', "").parse().unwrap();
        let change = |draft: &mut pb::InvoiceDraft| {
            (draft.amount_fen, draft.tax_fen, draft.total_fen) =
                (fen(amount), fen(tax), fen(total));
        };
        check(&edits, change, expect);
    }
}

#[test]
fn wrong_signs_and_odd_numerals_are_refused() {
    let sign = Some(Reason::AmountSign);
    let negative: Change = |draft| draft.lines[0].amount_fen = -10_000;
    check(&[("<XMJE>100.00", "<XMJE>-100.00")], negative, sign);
    let total: Change = |draft| draft.total_fen = -29_380;
    check(&[("<JSHJ>293.80", "<JSHJ>-293.80")], total, sign);
    for text in ["-0.00", "-0", "0", "-1"] {
        let quantity = format!("<XMSL>{text}<");
        let change = |draft: &mut pb::InvoiceDraft| draft.lines[0].quantity = text.into();
        check(&[("<XMSL>1<", &quantity)], change, sign);
    }
    for text in ["1e0", "1E2", "NaN", "inf", "+1", " 1", "1,0", "0x1", "１"] {
        let quantity = format!("<XMSL>{text}<");
        let change = |draft: &mut pb::InvoiceDraft| draft.lines[0].quantity = text.into();
        check(&[("<XMSL>1<", &quantity)], change, Some(Reason::FieldInvalid));
    }
}

#[test]
fn lines_in_another_order_or_too_many_are_refused() {
    let text = edited(&[]);
    let end = "</COMMON_FPKJ_XMXX>";
    let starts: Vec<_> = text.match_indices("<COMMON_FPKJ_XMXX>").map(|(at, _)| at).collect();
    let stop = text.rfind(end).unwrap() + end.len();
    let line = |at: usize| &text[starts[at]..starts.get(at + 1).copied().unwrap_or(stop)];
    let lines = [line(0), line(1), line(2)].concat();
    let swapped = [line(0), line(2), line(1)].concat();
    let order = Some(Reason::DiscountLineOrder);
    check(&[(&lines, &swapped)], |draft| draft.lines.swap(1, 2), order);
    for (count, expect) in [(100_u16, None), (101, Some(Reason::LineCount))] {
        let many = line(0).repeat(usize::from(count));
        let totals = [("<JSHJ>293.80", 113), ("<HJJE>260.00", 100), ("<HJSE>33.80", 13)];
        let totals = totals.map(|(from, yuan)| {
            let tag = from.split_once('>').unwrap().0;
            (from, format!("{tag}>{}.00", yuan * count))
        });
        let mut edits: Vec<_> = totals.iter().map(|(from, to)| (*from, to.as_str())).collect();
        edits.push((&lines, &many));
        let change = |draft: &mut pb::InvoiceDraft| {
            draft.lines = vec![draft.lines[0].clone(); usize::from(count)];
            let count = i64::from(count);
            draft.amount_fen = 10_000 * count;
            draft.tax_fen = 1_300 * count;
            draft.total_fen = 11_300 * count;
        };
        check(&edits, change, expect);
    }
}
