//! Answers: each dialect's shape, codes and encoding; read back by our own strict reader.

use super::*;
use crate::{
    legacy::{
        Answer, Charset, Content, Device, Dialect, Doubt, Found, Monitor, Operation, Printed,
        Reply, Segment, Standing, Stock, charset, xml,
    },
    model::{CstTime, Kind},
    refusal::{Reason, Refusal},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::NaiveDate;

fn invoice() -> pb::Invoice {
    pb::Invoice {
        draft: Some(wanted()),
        code: "050000000111".into(),
        number: "00000007".into(),
        issue_time: "2026-01-02T03:04:05+08:00".into(),
        machine_number: "000000000009".into(),
        check_code: "01234567890123456789".into(),
        cipher_text: "03+<*>/-".into(),
        qr_text: "01,10,050000000111,00000007,260.00,20260102,01234567890123456789,ABCD".into(),
        ..Default::default()
    }
}

fn found() -> Found {
    Found { invoice: invoice(), uploaded: true, standing: Standing::Valid }
}

fn text_of(reply: &Reply, answer: &Answer) -> String {
    match reply.print(answer) {
        Printed::Message(bytes) => {
            let (text, found) = charset::decode(&bytes).unwrap();
            assert_eq!(found, reply.charset);
            assert!(xml::parse(&text).is_ok(), "{text}");
            text.into_owned()
        }
        Printed::HoldThenClose => "held".into(),
    }
}

const MADE: &str = "<fpdm>050000000111</fpdm><fphm>00000007</fphm><kprq>20260102030405</kprq>\
    <skm>03+&lt;*&gt;/-</skm><jym>01234567890123456789</jym>\
    <ewm>01,10,050000000111,00000007,260.00,20260102,01234567890123456789,ABCD</ewm>";

const MADE_COMMON: &str = "<FPQQLSH>LEGACY0001</FPQQLSH><JQBH>000000000009</JQBH>\
    <FP_DM>050000000111</FP_DM><FP_HM>00000007</FP_HM><KPRQ>20260102030405</KPRQ>\
    <FP_MW>03+&lt;*&gt;/-</FP_MW><JYM>01234567890123456789</JYM>\
    <EWM>01,10,050000000111,00000007,260.00,20260102,01234567890123456789,ABCD</EWM>\
    <PDF_URL></PDF_URL><OFD_URL></OFD_URL><BZ>示例&lt;备注&gt;&amp;&quot;1&quot;</BZ>";

#[test]
fn an_issued_invoice_is_told_in_the_shape_of_its_dialect() {
    let answer = Answer::Invoices(vec![found()]);
    let server = text_of(&business(SERVER).reply, &answer);
    assert_eq!(
        server,
        format!(
            "<?xml version=\"1.0\" encoding=\"gbk\"?><business id=\"10008\" comment=\"发票开具\">\
             <body yylxdm=\"1\"><returncode>0</returncode><returnmsg>成功</returnmsg>\
             <returndata>{MADE}</returndata></body></business>"
        )
    );
    let component = text_of(&business(COMPONENT).reply, &answer);
    let expect = format!(
        "<body yylxdm=\"1\"><output>{MADE}<returncode>00000000</returncode>\
         <returnmsg>成功</returnmsg></output></body></business>"
    );
    assert!(component.ends_with(&expect), "{component}");
    let common = text_of(&business(FLAT).reply, &answer);
    let expect = format!(
        "<RESPONSE_COMMON_FPKJ class=\"RESPONSE_COMMON_FPKJ\">{MADE_COMMON}\
         <RETURNCODE>0000</RETURNCODE><RETURNMSG>成功</RETURNMSG></RESPONSE_COMMON_FPKJ>"
    );
    assert!(common.ends_with(&format!("{expect}</business>")), "{common}");
    let envelope = text_of(&decode_plain(ENVELOPE).unwrap().reply, &answer);
    let (_, content) = envelope.split_once("<content>").unwrap();
    let (content, _) = content.split_once("</content>").unwrap();
    let inner = String::from_utf8(STANDARD.decode(content).unwrap()).unwrap();
    assert!(inner.ends_with(&expect), "{inner}");
    assert!(envelope.contains("<returnCode>0000</returnCode>"), "{envelope}");
    assert!(!envelope.contains("passWord") && !envelope.contains("not-a-password"));
}

#[test]
fn an_envelope_is_answered_with_its_own_header_and_content_in_its_own_encoding() {
    let reply = decode_plain(ENVELOPE_ZIPPED).unwrap().reply;
    let Printed::Message(bytes) = reply.print(&Answer::Invoices(vec![found()])) else {
        panic!("an envelope's answer is never held");
    };
    let (text, outer) = charset::decode(&bytes).unwrap();
    assert_eq!(outer, Charset::Gbk);
    let root = xml::parse(&text).unwrap();
    let info = root.child("globalInfo").unwrap();
    for (name, expect) in [
        ("interfaceCode", "DFXJ1001"),
        ("requestCode", "00000001"),
        ("dataExchangeId", "00000001DFXJ100120260102000000001"),
        ("taxpayerId", "91000000TEST000001"),
    ] {
        assert_eq!(info.child_text(name), expect);
    }
    let content = root.child("Data").unwrap().child_text("content");
    assert!(!content.contains(char::is_whitespace));
    let inner = STANDARD.decode(content).unwrap();
    assert_eq!(charset::decode(&inner).unwrap().1, Charset::Gbk);
    let sealed = reply.print_sealed(&Answer::Invoices(vec![found()]), |body| {
        assert!(body.starts_with(b"<?xml"));
        Some(Content::Cms(b"sealed".to_vec()))
    });
    let Printed::Message(bytes) = sealed else { panic!("held") };
    let sealed = String::from_utf8_lossy(&bytes);
    let expect = format!("<content>{}</content>", STANDARD.encode("sealed"));
    assert!(sealed.contains("<encryptCode>2</encryptCode>") && sealed.contains(&expect));
    let held = reply.print_sealed(&Answer::Invoices(vec![found()]), |_| None);
    assert_eq!(held, Printed::HoldThenClose, "what cannot be sealed goes out no other way");
}

#[test]
fn doubt_is_told_where_there_is_a_code_for_it_and_held_elsewhere() {
    for bytes in [SERVER, COMPONENT, NESTED, vector!("ask_10010_gbk.xml")] {
        let reply = business(bytes).reply;
        assert_eq!(reply.dialect.in_doubt(), Doubt::HoldThenClose);
        assert_eq!(reply.print(&Answer::InDoubt), Printed::HoldThenClose);
        if reply.operation == Some(Operation::Issue) {
            let nothing = Answer::Invoices(Vec::new());
            assert_eq!(reply.print(&nothing), Printed::HoldThenClose);
        }
    }
    for bytes in [ENVELOPE, ENVELOPE_OLDER] {
        let text = text_of(&decode_plain(bytes).unwrap().reply, &Answer::InDoubt);
        assert!(text.contains("<returnCode>1000</returnCode>"), "{text}");
    }
}

#[test]
fn a_refusal_tells_code_reason_and_serial() {
    let answer = Answer::Refused(Refusal::new(Reason::SerialConflict, "the serial is bound"));
    for (bytes, code) in [(SERVER, "<returncode>-10324<"), (NESTED, "<RETURNCODE>9990<")] {
        let text = text_of(&business(bytes).reply, &answer);
        assert!(text.contains(code) && text.contains("[SERIAL_CONFLICT]"), "{text}");
    }
    let text = text_of(&business(NESTED).reply, &answer);
    assert!(text.contains("<FPQQLSH>LEGACY0001</FPQQLSH><RETURNCODE>"), "{text}");
    let text = text_of(&decode_plain(ENVELOPE).unwrap().reply, &answer);
    let (_, message) = text.split_once("<returnMessage>").unwrap();
    let (message, _) = message.split_once('<').unwrap();
    let message = String::from_utf8(STANDARD.decode(message).unwrap()).unwrap();
    assert_eq!(message, "[SERIAL_CONFLICT] the serial is bound");
}

#[test]
fn characters_that_the_caller_cannot_read_are_references_and_others_are_themselves() {
    let mut invoice = invoice();
    invoice.draft.as_mut().unwrap().remark = "𠮷".into();
    let answer = Answer::Invoices(vec![Found { invoice, ..found() }]);
    let bytes = |call: &[u8]| match business(call).reply.print(&answer) {
        Printed::Message(bytes) => bytes,
        Printed::HoldThenClose => panic!("held"),
    };
    let holds = |bytes: Vec<u8>, part: &[u8]| bytes.windows(part.len()).any(|at| at == part);
    assert!(holds(bytes(NESTED), b"<BZ>&#134071;</BZ>"));
    assert!(holds(bytes(RARE), b"<BZ>\x95\x34\xb2\x35</BZ>"));
    assert!(holds(bytes(FLAT), "<BZ>𠮷</BZ>".as_bytes()));
}

#[track_caller]
fn check(bytes: &[u8], answer: Answer, expect: &str) {
    let text = text_of(&business(bytes).reply, &answer);
    assert!(text.contains(expect), "{text}");
}

#[test]
fn queries_list_what_was_found_with_state_and_upload() {
    let mut red = invoice();
    red.draft.as_mut().unwrap().color = pb::InvoiceColor::Red.into();
    let voided = Found { invoice: red, uploaded: false, standing: Standing::Voided };
    let both = Answer::Invoices(vec![found(), voided]);
    let ask = vector!("ask_10010_gbk.xml");
    check(ask, both.clone(), "<returndata><kpxx count=\"2\"><group xh=\"1\">");
    check(ask, both.clone(), "<fplxdm>026</fplxdm><fpzt>00</fpzt><scbz>1</scbz>");
    check(ask, both.clone(), "<fpzt>04</fpzt><scbz>0</scbz>");
    check(ask, both, "<hjje>260.00</hjje><hjse>33.80</hjse><jshj>293.80</jshj>");
    check(
        vector!("ask_FPCX_gbk.xml"),
        Answer::Invoices(vec![found()]),
        "<FPZT>0</FPZT><SCBZ>1</SCBZ>",
    );
    check(ask, Answer::Invoices(Vec::new()), "[NOT_FOUND]");
}

#[test]
fn stock_device_limits_rates_key_and_voids_are_printed() {
    let at = CstTime::parse("2026-01-02T03:04:05+08:00").unwrap();
    let stock = Answer::Stock(Stock {
        next: Some(("050000000111".into(), "00000008".into())),
        left: 12,
        segments: vec![Segment {
            code: "050000000111".into(),
            first: "00000001".into(),
            last: "00000019".into(),
            count: 19,
            left: 12,
            acquired_on: NaiveDate::from_ymd_opt(2026, 1, 1),
        }],
    });
    let next = "<dqfpdm>050000000111</dqfpdm><dqfphm>00000008</dqfphm>";
    check(vector!("ask_10004_gbk.xml"), stock.clone(), &format!("<returndata>{next}</returndata>"));
    let all = "<zsyfs>12</zsyfs><lgxx count=\"1\"><group xh=\"1\"><fpdm>050000000111</fpdm>\
        <qshm>00000001</qshm><zzhm>00000019</zzhm><fpfs>19</fpfs><syfs>12</syfs>\
        <lgrq>20260101</lgrq><lgry></lgry></group></lgxx>";
    check(vector!("ask_10005_gbk.xml"), stock.clone(), &format!("{next}{all}"));
    check(vector!("ask_FPKCCX_gbk.xml"), stock, "<LGXX size=\"1\"><LGXX_GROUP><FP_DM>");
    check(vector!("ask_FPKCCX_gbk.xml"), Answer::Stock(Stock::default()), "<DQFPDM></DQFPDM>");
    let device = Device {
        id: "d1".into(),
        machine_number: "000000000009".into(),
        taxpayer_id: "91000000TEST000001".into(),
        taxpayer_name: "示例销售有限公司".into(),
        office: (String::new(), String::new()),
        kinds: vec![Kind::SpecialPaper, Kind::ENormal],
        clock: at,
    };
    let device = Answer::Device(Box::new(device));
    check(vector!("ask_SKSBXXCX_gbk.xml"), device, "<fplxdm>004026</fplxdm><dqsz>20260102030405<");
    let monitor = Answer::Monitor(Monitor {
        kind: Kind::ESpecial,
        issue_deadline: Some(at),
        single_limit_fen: Some(1_000_000),
        blue_limit_fen: None,
        red_limit_fen: Some(5),
        red_needs_original: Some(true),
        red_days: None,
        offline_hours: None,
        offline_count: Some(0),
        offline_amount_fen: None,
        offline_red_fen: Some(1),
        upload_day: Some(15),
    });
    let limits = "<kpjzsj>20260102030405</kpjzsj><dzkpxe>10000.00</dzkpxe><zsljxe></zsljxe>\
        <fsljxe>0.05</fsljxe><fsfpbz>1</fsfpbz><fsfpts></fsfpts><lxkpsc></lxkpsc>\
        <lxkpzs>0</lxkpzs><lxzsljje></lxzsljje><lxfsljje>0.01</lxfsljje><scjzrq>15</scjzrq>";
    check(vector!("ask_JKXXCX_gbk.xml"), monitor, limits);
    let rates = Answer::Rates(vec![0, 130_000]);
    check(vector!("ask_SQSLCX_gbk.xml"), rates, "<group xh=\"2\"><sl>0.13</sl></group>");
    let key = Answer::Key { taxpayer_id: "91000000TEST000001".into(), key: "k1".into() };
    check(vector!("ask_20002_gbk.xml"), key, "<keyno>k1</keyno>");
    let voided = Answer::Voided { code: "050000000104".into(), number: "00000007".into(), at };
    check(vector!("ask_10009_gbk.xml"), voided, "<fphm>00000007</fphm><zfrq>20260102030405</zfrq>");
}

#[test]
fn outcomes_of_the_pipeline_become_answers() {
    use pb::outcome::Result as Wire;
    let answer = |result| Answer::from(pb::Outcome { result });
    let reason = |answer| match answer {
        Answer::Refused(refusal) => Some(refusal.reason),
        _ => None,
    };
    let delivery = pb::DeliveryState { state: pb::Delivery::Accepted.into(), ..Default::default() };
    let (invoice, delivery) = (Some(invoice()), Some(delivery));
    let issued = pb::Issued { invoice, delivery, budget: None };
    assert_eq!(answer(Some(Wire::Issued(issued))), Answer::Invoices(vec![found()]));
    assert_eq!(answer(Some(Wire::InDoubt(pb::InDoubt { ask_after_ms: 1 }))), Answer::InDoubt);
    // What is issued or unclear is never a failure.
    assert_eq!(answer(Some(Wire::Issued(pb::Issued::default()))), Answer::InDoubt);
    assert_eq!(answer(None), Answer::InDoubt);
    let voided = Wire::Voided(pb::Voided::default());
    assert_eq!(reason(answer(Some(voided))), Some(Reason::SerialClosed));
    let closed = Wire::Closed(pb::Closed::default());
    assert_eq!(reason(answer(Some(closed))), Some(Reason::SerialClosed));
    assert_eq!(reason(answer(Some(Wire::Unknown(pb::Unknown {})))), Some(Reason::NotFound));
}

#[test]
fn every_operation_and_dialect_prints_every_answer_as_xml() {
    let answers = [
        Answer::Invoices(Vec::new()),
        Answer::Invoices(vec![found(), found()]),
        Answer::Stock(Stock::default()),
        Answer::Refused(Refusal::new(Reason::Internal, "\u{0}<&>\u{fffe}")),
        Answer::InDoubt,
    ];
    let frames = [business(SERVER).reply, decode_plain(ENVELOPE).unwrap().reply];
    let operations = [None, Some(Operation::Issue), Some(Operation::Query), Some(Operation::Key)];
    for reply in frames {
        for dialect in Dialect::ALL {
            for operation in operations {
                let reply = Reply { dialect, operation, ..reply.clone() };
                for answer in &answers {
                    text_of(&reply, answer);
                }
            }
        }
    }
}
