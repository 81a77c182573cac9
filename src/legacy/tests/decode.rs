//! Good messages: every dialect, encoding and shape becomes the same domain types.

use super::*;
use crate::{
    legacy::{Address, Charset, Content, Dialect, Operation, Query, VoidKind, Wanted},
    model::Kind,
};
use chrono::NaiveDate;

#[track_caller]
fn check(call: Result<Call, Fault>, dialect: Dialect, charset: Charset) -> Issue {
    let reply = call.as_ref().unwrap().reply.clone();
    assert_eq!((reply.dialect, reply.charset), (dialect, charset));
    assert_eq!((reply.operation, reply.serial.as_str()), (Some(Operation::Issue), "LEGACY0001"));
    issue_of(call)
}

#[test]
fn every_dialect_asks_for_the_same_invoice() {
    let same = |issue: Issue| {
        let mut wanted = wanted();
        if issue.draft.special_kind.is_empty() {
            // The older shape has no such element.
            wanted.special_kind = String::new();
        }
        assert_eq!(issue.draft, wanted);
        assert_eq!(issue.address.taxpayer_id, "91000000TEST000001");
    };
    same(check(decode_business(SERVER), Dialect::Server, Charset::Gbk));
    same(check(decode_business(COMPONENT), Dialect::Component, Charset::Gbk));
    same(check(decode_business(NESTED), Dialect::Common, Charset::Gbk));
    same(check(decode_business(FLAT), Dialect::Common, Charset::Utf8));
    same(check(decode_plain(ENVELOPE), Dialect::Platform, Charset::Utf8));
    same(check(decode_plain(ENVELOPE_ZIPPED), Dialect::Platform, Charset::Gbk));
    same(check(decode_plain(ENVELOPE_OLDER), Dialect::PlatformOlder, Charset::Utf8));
}

#[test]
fn the_digest_does_not_depend_on_the_edge() {
    let digest = |draft| crate::contract::normalise(Some(draft)).unwrap().digest;
    let ours = digest(wanted());
    for bytes in [SERVER, COMPONENT, NESTED, FLAT] {
        assert_eq!(digest(issue_of(decode_business(bytes)).draft), ours);
    }
    assert_eq!(digest(issue_of(decode_plain(ENVELOPE)).draft), ours);
}

#[test]
fn a_rare_character_comes_in_by_gb18030() {
    let issue = check(decode_business(RARE), Dialect::Common, Charset::Gb18030);
    assert_eq!(issue.draft.buyer.unwrap().name, "𠮷祥示例有限公司");
}

#[test]
fn addresses_name_taxpayer_and_device() {
    let address = |issue: Issue| issue.address;
    let server = address(issue_of(decode_business(SERVER)));
    assert_eq!(server.device, "000000000001");
    let component = address(issue_of(decode_business(COMPONENT)));
    assert_eq!((component.device.as_str(), component.platform.as_str()), ("000000000001", ""));
    let platform = address(issue_of(decode_plain(ENVELOPE)));
    assert_eq!((platform.device.as_str(), platform.platform.as_str()), ("", "00000001"));
}

fn seller() -> Address {
    Address { taxpayer_id: "91000000TEST000001".into(), ..Default::default() }
}

fn device() -> Address {
    Address { device: "000000000001".into(), ..Default::default() }
}

fn both() -> Address {
    Address { device: "000000000001".into(), ..seller() }
}

#[test]
fn questions_about_a_device_become_their_own_requests() {
    use LegacyRequest as R;
    let about = |address, kind| crate::legacy::About { address, kind };
    let kind = Some(Kind::ENormal);
    let machine = Address { machine_number: "000000000009".into(), ..both() };
    for (bytes, expect) in [
        (vector!("ask_10004_gbk.xml"), R::CurrentNumber(about(both(), kind))),
        (vector!("ask_10005_gbk.xml"), R::Stock(about(both(), kind))),
        (vector!("ask_20002_gbk.xml"), R::Key(about(both(), None))),
        (vector!("ask_SKSBXXCX_gbk.xml"), R::Device(about(Address::default(), None))),
        (vector!("ask_DJXXCX_gbk.xml"), R::Device(about(seller(), None))),
        (vector!("ask_FPKCCX_gbk.xml"), R::Stock(about(seller(), kind))),
        (vector!("ask_GPXXCX_gbk.xml"), R::Stock(about(machine, kind))),
        (vector!("ask_JKXXCX_gbk.xml"), R::Monitor(about(device(), Some(Kind::ESpecial)))),
        (vector!("ask_SQSLCX_gbk.xml"), R::Rates(about(device(), kind))),
    ] {
        assert_eq!(business(bytes).request, expect);
    }
}

#[test]
fn invoices_are_asked_for_by_serial_number_or_day() {
    let wanted_of = |bytes: &[u8]| match business(bytes).request {
        LegacyRequest::Query(query) => query.wanted,
        other => panic!("{other:?}"),
    };
    let serial = Wanted::Serial("LEGACY0001".into());
    assert_eq!(wanted_of(vector!("ask_FPCX_gbk.xml")), serial);
    let numbers = |first: &str, last: &str| Wanted::Numbers {
        code: "050000000111".into(),
        first: first.into(),
        last: last.into(),
    };
    assert_eq!(wanted_of(vector!("ask_10010_gbk.xml")), numbers("00000001", "00000009"));
    let ask = |body: &str| {
        wanted_of(format!("<business id='10010'><body>{body}</body></business>").as_bytes())
    };
    assert_eq!(
        ask("<fpdm>050000000111</fpdm><fphm>00000003</fphm>"),
        numbers("00000003", "00000003")
    );
    let day = |day| NaiveDate::from_ymd_opt(2026, 2, day).unwrap();
    let days = Wanted::Days { first: day(1), last: day(28) };
    assert_eq!(ask("<cxfs>1</cxfs><cxtj>2026020120260228</cxtj>"), days);
    let older = decode_plain(vector!("interface_query_older.xml")).unwrap();
    let address = Address { platform: "00000001".into(), ..seller() };
    assert_eq!(older.request, LegacyRequest::Query(Query { address, kind: None, wanted: serial }));
    assert_eq!(older.reply.dialect, Dialect::PlatformOlder);
}

#[test]
fn voids_say_what_they_void() {
    let void_of = |bytes: &[u8]| match business(bytes).request {
        LegacyRequest::Void(void) => void,
        other => panic!("{other:?}"),
    };
    let issued = void_of(vector!("ask_10009_gbk.xml"));
    assert_eq!((issued.what, issued.number.as_str()), (VoidKind::Issued, "00000007"));
    assert_eq!((issued.amount_fen, issued.operator.as_str()), (Some(26_000), "示例甲"));
    assert_eq!(issued.kind, Some(Kind::NormalPaper));
    let blank = void_of(vector!("ask_FPZF_gbk.xml"));
    assert_eq!((blank.what, blank.amount_fen), (VoidKind::Blank, None));
}

#[test]
fn a_signed_content_is_handed_over_and_read_once_it_is_verified() {
    let opened = decode_interface(vector!("interface_issue_cms.xml")).unwrap();
    assert!(matches!(&opened.content, Content::Cms(bytes) if bytes.starts_with(b"0\x82")));
    let body = FLAT.split(|byte| *byte == b'\n').nth(1).unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let from = text.find("<REQUEST").unwrap();
    let until = text.find("</body>").unwrap();
    let call = opened.read(&text.as_bytes()[from..until]);
    assert_eq!(issue_of(call).draft, wanted());
}

#[test]
fn no_password_is_kept() {
    let mut seen = String::new();
    for bytes in [COMPONENT, vector!("ask_20002_gbk.xml"), vector!("ask_GPXXCX_gbk.xml")] {
        seen.push_str(&format!("{:?}", business(bytes)));
    }
    let opened = decode_interface(ENVELOPE).unwrap();
    seen.push_str(&format!("{opened:?}{:?}", decode_plain(ENVELOPE).unwrap()));
    for secret in ["not-a", "0000000000</", "authorizationCode"] {
        assert!(!seen.contains(secret), "{secret}");
    }
}

#[test]
fn one_deduction_becomes_the_drafts_wherever_it_stands() {
    let text = String::from_utf8(FLAT.to_vec()).unwrap();
    let header = text.replacen("<KCE/>", "<KCE>30.00</KCE>", 1);
    assert_eq!(issue_of(decode_business(header.as_bytes())).draft.deduction_fen, 3_000);
    let on_lines = text.replace("<HSBZ>0</HSBZ>", "<HSBZ>0</HSBZ><KCE>0.00</KCE>");
    assert_eq!(issue_of(decode_business(on_lines.as_bytes())).draft.deduction_fen, 0);
    let on_line = on_lines.replacen("<KCE>0.00</KCE>", "<KCE>12.50</KCE>", 1);
    assert_eq!(issue_of(decode_business(on_line.as_bytes())).draft.deduction_fen, 1_250);
}

#[test]
fn lines_may_stand_without_a_list_around_them() {
    let text = String::from_utf8(FLAT.to_vec()).unwrap();
    let bare = text
        .replace("<COMMON_FPKJ_XMXXS class=\"COMMON_FPKJ_XMXX;\" size=\"\">", "")
        .replace("</COMMON_FPKJ_XMXXS>", "");
    assert_eq!(issue_of(decode_business(bare.as_bytes())).draft, wanted());
}
