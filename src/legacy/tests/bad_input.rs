//! Bad messages: each is refused with its reason and the path of what is wrong; nothing is guessed.

use super::*;
use crate::{legacy::Printed, refusal::Reason};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::io::Write as _;

/// Changes the good message `FLAT` or `SERVER`, and expects one reason whose hint or violations
/// hold `at`.
#[track_caller]
fn refused(call: Result<Call, Fault>, expect: Reason, at: &str) {
    let fault = match call {
        Ok(call) => panic!("decoded as {:?}", call.request),
        Err(fault) => fault,
    };
    assert_eq!(fault.refusal.reason, expect, "{}", fault.refusal);
    let told = fault.refusal.violations.iter().map(|found| found.field.as_str());
    let told: Vec<_> = told.chain([fault.refusal.hint.as_str()]).collect();
    assert!(told.iter().any(|text| text.contains(at)), "{at} is not in {told:?}");
    // Whatever was refused can be answered.
    let printed = fault.reply.print(&crate::legacy::Answer::Refused(fault.refusal));
    assert!(matches!(printed, Printed::Message(bytes) if !bytes.is_empty()));
}

#[track_caller]
fn check(from: &str, to: &str, expect: Reason, at: &str) {
    let good = String::from_utf8(FLAT.to_vec()).unwrap();
    let bad = good.replacen(from, to, 1);
    assert_ne!(good, bad, "{from} is not in the message");
    refused(decode_business(bad.as_bytes()), expect, at);
}

#[test]
fn amounts_that_are_not_exact_are_refused_and_never_rounded() {
    let total = "REQUEST_COMMON_FPKJ/JSHJ";
    for text in ["2.938e2", "NaN", "inf", "+293.80", " 293.80", "293.80 ", "293,80", "￥293.80"] {
        check("293.80", text, Reason::DecimalFormat, total);
    }
    check("293.80", "92233720368547758.08", Reason::DecimalFormat, total);
    for text in ["293.800", "293.805"] {
        check("293.80", text, Reason::DecimalPrecision, total);
    }
    for text in ["-0.00", "-0"] {
        check("293.80", text, Reason::AmountSign, total);
    }
    let line = "XMXX[0]/XMJE";
    check("<XMJE>100.00", "<XMJE>100.001", Reason::DecimalPrecision, line);
    check("<XMJE>100.00", "<XMJE>-0.00", Reason::AmountSign, line);
    check("<SL>0.13", "<SL>13%", Reason::DecimalFormat, "XMXX[0]/SL");
    check("<SL>0.13", "<SL>0.1300001", Reason::DecimalPrecision, "XMXX[0]/SL");
    check("<SL>0.13", "<SL>99999", Reason::FieldInvalid, "XMXX[0]/SL");
    check("<SE>23.01", "<SE>2.3e1", Reason::DecimalFormat, "XMXX[1]/SE");
}

#[test]
fn what_cannot_stand_for_itself_must_be_there() {
    for (element, at) in [
        ("<JSHJ>293.80</JSHJ>", "JSHJ"),
        ("<HJJE>260.00</HJJE>", "HJJE"),
        ("<HJSE>33.80</HJSE>", "HJSE"),
        ("<XMJE>100.00</XMJE>", "[0]/XMJE"),
        ("<SL>0.13</SL>", "[0]/SL"),
        ("<SE>13.00</SE>", "[0]/SE"),
        ("<FPHXZ>0</FPHXZ>", "[0]/FPHXZ"),
    ] {
        check(element, "", Reason::FieldMissing, at);
        let empty = format!("{}>\n <", element.split_once('>').unwrap().0);
        let empty = format!("{empty}/{}", element.rsplit_once('/').unwrap().1);
        check(element, &empty, Reason::FieldMissing, at);
    }
}

#[test]
fn digits_of_another_dialect_are_not_guessed() {
    check("<KPLX>0", "<KPLX>2", Reason::FieldInvalid, "KPLX");
    check("<KPLX>0", "<KPLX>00", Reason::FieldInvalid, "KPLX");
    check("<FPHXZ>0", "<FPHXZ>3", Reason::FieldInvalid, "XMXX[0]/FPHXZ");
    check("<FPHXZ>0", "<FPHXZ>00", Reason::FieldInvalid, "XMXX[0]/FPHXZ");
    check("<LSLBS/>", "<LSLBS>4</LSLBS>", Reason::FieldInvalid, "LSLBS");
    check("<YHZCBS>0", "<YHZCBS>Y", Reason::FieldInvalid, "YHZCBS");
    check("<ZSFS>0", "<ZSFS>3", Reason::FieldInvalid, "ZSFS");
    check("<FPLXDM>026", "<FPLXDM>26", Reason::KindNotApproved, "FPLXDM");
    check("<FPLXDM>026", "<FPLXDM>032", Reason::KindNotApproved, "FPLXDM");
    check("<HSBZ>0", "<HSBZ>1", Reason::TaxIncludedUnsupported, "XMXX[0]/HSBZ");
    check("<HSBZ>0", "<HSBZ>2", Reason::FieldInvalid, "XMXX[0]/HSBZ");
}

#[test]
fn elements_that_the_contract_does_not_have_are_refused_with_their_path() {
    let malformed = Reason::MalformedMessage;
    check("<KCE/>", "<KCEX>1</KCEX>", malformed, "REQUEST_COMMON_FPKJ/KCEX");
    check("<ZXBM/>", "<SE2>1.00</SE2>", malformed, "COMMON_FPKJ_XMXX[0]/SE2");
    check("<KPLX>0", "<KPLX><X>0</X>", malformed, "KPLX");
}

#[test]
fn what_is_given_twice_is_refused() {
    let twice = Reason::DuplicateField;
    check("<KPLX>0</KPLX>", "<KPLX>0</KPLX><KPLX>1</KPLX>", twice, "KPLX");
    check("<XMDJ>100.00</XMDJ>", "<XMDJ>1</XMDJ><XMDJ>100.00</XMDJ>", twice, "[0]/XMDJ");
    check("<FPHXZ>0", "<FPHXZ>0</FPHXZ><FPHXZ>0", twice, "[0]/FPHXZ");
    check("<BY1>spare", "<BY1>a</BY1><BY1>b", twice, "BY1");
    check("<XSF_DZDH>", "<XSF_DZ>x</XSF_DZ><XSF_DZDH>", twice, "XSF_DZ");
    check("<KCE/>", "<KCE>1.00</KCE><KCE>1.00</KCE>", twice, "KCE");
    let list = "</COMMON_FPKJ_XMXXS>";
    let again = format!("{list}<COMMON_FPKJ_XMXXS><X/></COMMON_FPKJ_XMXXS>");
    check(list, &again, twice, "COMMON_FPKJ_XMXXS");
    check("<KCE/>", "<COMMON_FPKJ_XMXX/>", twice, "REQUEST_COMMON_FPKJ");
    let two = "<HSBZ>0</HSBZ><KCE>1.00</KCE>";
    let good = String::from_utf8(FLAT.to_vec()).unwrap().replace("<HSBZ>0</HSBZ>", two);
    refused(decode_business(good.as_bytes()), twice, "KCE");
}

#[test]
fn counts_must_be_those_of_the_elements() {
    for said in ["2", "4", "03x", "-3", "99999999999999999999"] {
        let size = format!("size=\"{said}\"");
        check("size=\"\"", &size, Reason::LineCount, "COMMON_FPKJ_XMXXS");
    }
    let server = decode_utf8(SERVER).replace("count=\"3\"", "count=\"2\"");
    refused(decode_business(server.as_bytes()), Reason::LineCount, "body/fyxm");
}

/// The same message declared and encoded as UTF-8.
fn decode_utf8(bytes: &[u8]) -> String {
    let text = encoding_rs::GBK.decode(bytes).0.into_owned();
    text.replacen("encoding=\"gbk\"", "encoding=\"utf-8\"", 1)
}

#[test]
fn control_characters_are_refused() {
    for c in ["\u{1}", "\u{7f}", "\u{85}", "&#1;", "\u{b}"] {
        let bz = format!("<TSPZ>{c}0");
        check("<TSPZ>00", &bz, Reason::MalformedMessage, "control character");
    }
    for c in ["&#10;", "\n", "\t", "&#13;"] {
        let bz = format!("<TSPZ>{c}0");
        check("<TSPZ>00", &bz, Reason::FieldInvalid, "TSPZ");
    }
}

#[test]
fn entities_document_types_and_depth_are_refused() {
    let malformed = Reason::MalformedMessage;
    let head = "<business";
    let doctype = format!("<!DOCTYPE business [<!ENTITY a \"b\">]>{head}");
    check(head, &doctype, malformed, "document type");
    check("<TSPZ>00", "<TSPZ>&a;", malformed, "entity");
    check("<TSPZ>00", "<TSPZ>a & b", malformed, "not well-formed");
    let nested = "<a>".repeat(100_000);
    check("<TSPZ>00", &format!("<TSPZ>{nested}"), malformed, "nested too deeply");
    refused(decode_plain(nested.as_bytes()), malformed, "nested too deeply");
    check("<KPLX>0</KPLX>", "x<KPLX>0</KPLX>", malformed, "text beside elements");
}

#[test]
fn two_taxpayers_or_devices_in_one_message_are_refused() {
    let server = decode_utf8(SERVER);
    let other = server.replacen("TEST000001~~", "TEST000009~~", 1);
    refused(decode_business(other.as_bytes()), Reason::SellerMismatch, "body");
    let device = "<skpbh>000000000002</skpbh><fplxdm>";
    let other = server.replacen("<fplxdm>", device, 1);
    refused(decode_business(other.as_bytes()), Reason::DeviceAmbiguous, "body");
    for (from, at) in
        [("TEST000001</taxpayerId>", "taxpayerId"), ("00000001</requestCode>", "requestCode")]
    {
        let envelope = String::from_utf8(ENVELOPE.to_vec()).unwrap();
        let other = envelope.replacen(from, &from.replacen("1<", "9<", 1), 1);
        assert_ne!(other, envelope);
        refused(decode_plain(other.as_bytes()), Reason::SellerMismatch, at);
    }
}

#[test]
fn a_body_must_fit_its_operation() {
    check("id=\"FPKJ\"", "id=\"FPCX\"", Reason::MalformedMessage, "REQUEST_COMMON_FPCX");
    check("id=\"FPKJ\"", "id=\"10020\"", Reason::NotBuilt, "");
    check("id=\"FPKJ\"", "", Reason::NotBuilt, "");
    let odd = |text: &str| decode_business(text.as_bytes());
    for text in [
        "<business id='10004'/>",
        "<business id='10004'><fplxdm>026</fplxdm></business>",
        "<business id='10004'><body/><body/></business>",
        "<business id='10004'><body><input/><fplxdm>026</fplxdm></body></business>",
        "<busines id='10004'><body/></busines>",
        "<business id='10004'><body><zflx>1</zflx></body></business>",
    ] {
        refused(odd(text), Reason::MalformedMessage, "");
    }
    let missing = Reason::FieldMissing;
    refused(odd("<business id='10010'><body/></business>"), missing, "FPQQLSH");
    let ask = |body: &str| odd(&format!("<business id='10010'><body>{body}</body></business>"));
    for body in [
        "<cxfs>0</cxfs><cxtj>0500000001110000000900000001</cxtj>",
        "<cxfs>0</cxfs><cxtj>05000000</cxtj>",
        "<cxfs>0</cxfs><cxtj>05000000011100000001票票0000</cxtj>",
        "<cxfs>1</cxfs><cxtj>2026022820260201</cxtj>",
        "<cxfs>1</cxfs><cxtj>2026023020260301</cxtj>",
        "<cxfs>1</cxfs><cxtj>票票票票票票</cxtj>",
        "<cxfs>7</cxfs>",
        "<fpdm>1</fpdm><fphm>1</fphm>",
    ] {
        refused(ask(body), Reason::FieldInvalid, "body/");
    }
}

#[test]
fn a_message_cut_at_any_byte_is_refused() {
    for bytes in [SERVER, COMPONENT, NESTED, FLAT, RARE] {
        let end = bytes.iter().rposition(|byte| *byte == b'>').unwrap();
        for cut in 0..=end {
            assert!(decode_business(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
    for bytes in [ENVELOPE, ENVELOPE_ZIPPED, ENVELOPE_OLDER] {
        let end = bytes.iter().rposition(|byte| *byte == b'>').unwrap();
        for cut in 0..=end {
            assert!(decode_interface(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn an_encoding_that_is_not_the_declared_one_is_refused() {
    let mismatch = Reason::EncodingMismatch;
    check("UTF-8", "gbk", mismatch, "the bytes are utf-8");
    check("UTF-8", "gb18030", mismatch, "the bytes are utf-8");
    check("UTF-8", "big5", mismatch, "not offered");
    let as_utf8 = replaced(NESTED, b"encoding=\"gbk\"", b"encoding=\"utf-8\"");
    refused(decode_business(&as_utf8), mismatch, "declared utf-8");
    let as_gbk = replaced(RARE, b"encoding=\"gb18030\"", b"encoding=\"gbk\"");
    refused(decode_business(&as_gbk), mismatch, "four-byte form");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn an_oversized_message_is_refused_before_it_is_read() {
    let long = [FLAT, &b" ".repeat(crate::legacy::MESSAGE_MAX)].concat();
    refused(decode_business(&long), Reason::MalformedMessage, "longer than");
    refused(decode_plain(&long), Reason::MalformedMessage, "longer than");
}

/// The good envelope with another content and description.
fn envelope(zip: &str, encrypt: &str, content: &str) -> Result<Call, Fault> {
    let text = String::from_utf8(ENVELOPE.to_vec()).unwrap();
    let (head, _) = text.split_once("<Data>").unwrap();
    let how = format!("<zipCode>{zip}</zipCode><encryptCode>{encrypt}</encryptCode>");
    let data = format!("<dataDescription>{how}</dataDescription><content>{content}</content>");
    decode_plain(format!("{head}<Data>{data}</Data></interface>").as_bytes())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn content_that_is_not_what_its_description_says_is_refused() {
    let malformed = Reason::MalformedMessage;
    let body = STANDARD.encode("<REQUEST_COMMON_FPCX><FPQQLSH>A</FPQQLSH></REQUEST_COMMON_FPCX>");
    refused(envelope("0", "1", &body), Reason::EncryptionUnsupported, "3DES");
    refused(envelope("2", "0", &body), Reason::FieldInvalid, "zipCode");
    refused(envelope("0", "9", &body), Reason::FieldInvalid, "encryptCode");
    refused(envelope("1", "0", &body), malformed, "gzip");
    refused(envelope("0", "0", ""), malformed, "Base64");
    refused(envelope("0", "0", "%%%%"), malformed, "Base64");
    refused(envelope("0", "0", &body[..body.len() - 1]), malformed, "Base64");
    refused(envelope("0", "0", &body), malformed, "REQUEST_COMMON_FPKJ");
    refused(
        decode_plain(vector!("interface_issue_3des.xml")),
        Reason::EncryptionUnsupported,
        "3DES",
    );
}

#[test]
fn a_small_message_may_not_become_a_large_one() {
    let malformed = Reason::MalformedMessage;
    let bomb = gzip(&b" ".repeat(64 << 20));
    assert!(bomb.len() < 100_000);
    refused(envelope("1", "0", &STANDARD.encode(&bomb)), malformed, "unpacks to more than");
    let tail = [gzip(b"<a/>"), b"tail".to_vec()].concat();
    refused(envelope("1", "0", &STANDARD.encode(tail)), malformed, "gzip");
    let cut = gzip(b"<REQUEST_COMMON_FPKJ/>");
    refused(envelope("1", "0", &STANDARD.encode(&cut[..cut.len() - 1])), malformed, "gzip");
}

#[test]
fn the_envelope_holds_nothing_else_and_nothing_twice() {
    let text = String::from_utf8(ENVELOPE.to_vec()).unwrap();
    let change = |from: &str, to: &str| decode_plain(text.replacen(from, to, 1).as_bytes());
    let malformed = Reason::MalformedMessage;
    refused(change("<globalInfo>", "<globalInfo><x/>"), malformed, "globalInfo/x");
    refused(change("<terminalCode>0", "<terminalCode><a/>"), malformed, "terminalCode/a");
    let twice = "<taxpayerId>1</taxpayerId><taxpayerId>";
    refused(change("<taxpayerId>", twice), Reason::DuplicateField, "taxpayerId");
    refused(change("<interfaceCode>E", "<interfaceCode>X"), Reason::NotBuilt, "interfaceCode");
    let strict = change("version='DZFP1.0'", "version='DZFPQZ1.0'");
    refused(strict, malformed, "Base64");
}
