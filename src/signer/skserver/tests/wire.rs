//! The wire itself: the bytes of a request, one connection kept, what is not an answer, TLS.

use super::{
    canned::{Act, Canned},
    *,
};
use std::{net::TcpListener, sync::mpsc};

const GOLDEN: &[u8] = include_bytes!("../../../../tests/vectors/skserver/issue_10008_gbk.xml");

fn next(number: &str) -> Act {
    Act::code("0", &format!("<dqfpdm>{CODE}</dqfpdm><dqfphm>{number}</dqfphm>"))
}

fn session(url: &str) -> SkServer {
    SkServer::new(config(url), key(), Clock::system()).unwrap()
}

/// The golden file was written by hand, out of docs/domain.md 2.3.
#[test]
fn an_issue_request_has_exactly_these_bytes() {
    let server = Canned::new(vec![Act::code("-10306", "")]);
    let mut draft = sample::draft("R1", sample::SELLER);
    draft.remark = "示例发票<1>".into();
    let error = session(&server.url).issue(&claim(1, draft)).unwrap_err();
    assert!(error.to_string().contains("-10306"), "{error}");
    let heard = server.heard.recv().unwrap();
    assert_eq!(String::from_utf8_lossy(&heard.body), String::from_utf8_lossy(GOLDEN));
    assert_eq!(heard.body, GOLDEN);
    assert!(heard.head.starts_with("POST /SKServer/SKDo HTTP/1.1\r\n"), "{}", heard.head);
    for header in ["content-type: text/xml; charset=gbk\r\n", "host: 127.0.0.1:"] {
        assert!(heard.head.to_ascii_lowercase().contains(header), "{}", heard.head);
    }
}

#[test]
fn a_connection_is_kept_and_a_closed_one_is_replaced() {
    let acts = vec![next("00000001"), next("00000002"), Act::Close, next("00000003")];
    let server = Canned::new(acts);
    let mut session = session(&server.url);
    for expect in [1, 2, 3] {
        let found = session.next_number(Kind::ENormal).unwrap();
        assert_eq!(found.unwrap().number, expect);
    }
    let connections: Vec<_> = server.heard.iter().map(|heard| heard.connection).collect();
    assert_eq!(connections, [0, 0, 0, 1], "the closed one's question is asked again");
}

/// Else it would be written into a connection that is gone, and be in doubt for nothing.
#[test]
fn a_connection_that_was_closed_meanwhile_carries_no_issue_request() {
    let Act::Text(text) = next("00000001") else { panic!("a text") };
    let (close, closing) = mpsc::sync_channel(1);
    let server = Canned::new(vec![Act::Last(text, closing), Act::code("-10306", "")]);
    let mut session = session(&server.url);
    session.next_number(Kind::ENormal).unwrap();
    close.send(()).unwrap();
    assert_eq!(server.closed.recv(), Ok(0));
    assert_eq!(word(&session.issue(&sample_claim(1))), "refused");
}

/// An answer that comes twice must not be taken for the next request's.
#[test]
fn bytes_that_nobody_asked_for_end_the_connection() {
    let Act::Text(once) = next("00000001") else { panic!("a text") };
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{once}", once.len() - 2);
    let body = crate::xml::Charset::Gbk.encode(&whole);
    let server = Canned::new(vec![Act::Raw([body.clone(), body].concat()), next("00000002")]);
    let mut session = session(&server.url);
    assert_eq!(session.next_number(Kind::ENormal).unwrap().unwrap().number, 1);
    assert_eq!(session.next_number(Kind::ENormal).unwrap().unwrap().number, 2);
    let connections: Vec<_> = server.heard.iter().map(|heard| heard.connection).collect();
    assert_eq!(connections, [0, 1]);
}

#[test]
fn what_is_no_answer_of_the_contract_is_in_doubt_with_evidence() {
    let answer = |body: &str| Act::Text(format!("<?xml version=\"1.0\" encoding=\"gbk\"?>{body}"));
    let good = "<fpdm>044002600111</fpdm><fphm>00000001</fphm><kprq>20260302100000</kprq>";
    let texts = format!("<skm>{}</skm><jym>{}</jym>", "0".repeat(112), "1".repeat(20));
    let lacking = |part: &str| {
        let all = format!("{good}{texts}");
        Act::code("0", &all.replace(part, ""))
    };
    for (act, expect) in [
        (answer("<a/>"), "root"),
        (answer("<business/>"), "<body> is missing"),
        (answer("<business id=\"10010\"><body/></business>"), "another operation"),
        (answer("<business><body/></business>"), "<returncode> is missing"),
        (answer("<!DOCTYPE a><business/>"), "document type"),
        (Act::code("0", ""), "is missing"),
        (lacking("<fpdm>044002600111</fpdm>"), "<fpdm> is missing"),
        (lacking("044002600111"), "malformed"),
        (lacking("<kprq>20260302100000</kprq>"), "<kprq> is missing"),
        (lacking("111"), "malformed"),
        (lacking("000000"), "malformed"),
        (Act::code("0", &format!("{good}{good}{texts}")), "twice"),
        (Act::Text("<business/>\u{0}".into()), "control"),
        (Act::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff".to_vec()), "utf-8"),
        (Act::Raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_vec()), "302"),
        (Act::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<b".to_vec()), "answer"),
        (Act::Raw(b"no HTTP at all\r\n\r\n".to_vec()), "request"),
        (Act::Close, "request"),
    ] {
        let server = Canned::new(vec![act]);
        let error = session(&server.url).issue(&sample_claim(1)).unwrap_err();
        assert!(matches!(error, SignerError::InDoubt { .. }), "{expect}: {error}");
        assert!(error.to_string().contains(expect), "{expect}: {error}");
        assert!(!error.to_string().contains(CODE), "no content: {error}");
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n";
    let server = Canned::new(vec![Act::Raw([head.as_bytes(), &[b' '; 2 << 20]].concat())]);
    let error = session(&server.url).issue(&sample_claim(1)).unwrap_err();
    assert!(matches!(error, SignerError::InDoubt { .. }), "{error}");
    assert!(error.to_string().contains("limit"), "{error}");
}

#[test]
fn each_return_code_of_issuing_has_its_verdict() {
    for (code, expect) in [
        ("-10306", "refused"),
        ("0x09d109", "refused"),
        ("1002", "refused"),
        ("0x0963c2", "pin"),
        ("-10314", "in doubt"),
        ("-960010000", "in doubt"),
        ("0001", "in doubt"),
        ("8001", "in doubt"),
        ("9999", "in doubt"),
        ("", "in doubt"),
        ("42", "in doubt"),
    ] {
        let server = Canned::new(vec![Act::code(code, "")]);
        assert_eq!(word(&session(&server.url).issue(&sample_claim(1))), expect, "{code:?}");
    }
}

#[test]
fn each_return_code_of_a_question_has_its_verdict() {
    for (code, number, serial) in [
        ("1002", "issued", "unavailable"),
        ("8001", "unavailable", "issued"),
        ("0x09d106", "unavailable", "issued"),
        ("-960010000", "session lost", "session lost"),
        ("0x09C000", "session lost", "session lost"),
        ("0x0963c2", "pin", "pin"),
        ("4007", "unavailable", "unavailable"),
        ("-10314", "unavailable", "unavailable"),
        ("9999", "unavailable", "unavailable"),
        ("42", "unavailable", "unavailable"),
    ] {
        let asked = |ask: fn(&mut SkServer) -> &'static str| {
            let server = Canned::new(vec![Act::code(code, "")]);
            ask(&mut session(&server.url))
        };
        assert_eq!(asked(|it| word(&it.next_number(Kind::ENormal))), number, "{code}");
        assert_eq!(asked(|it| word(&it.recover(&sample_claim(1)))), serial, "{code}");
    }
}

#[test]
fn a_serial_that_has_its_invoice_is_asked_for_and_adopted() {
    for code in ["4007", "8009", "9990", "-10324"] {
        let draft = sample_claim(1).head.draft().unwrap();
        let buyer = draft.buyer.unwrap();
        let group = format!(
            "<kpxx count=\"1\"><group xh=\"1\"><fpdm>{CODE}</fpdm><fphm>00000007</fphm>\
             <fpzt>00</fpzt><kprq>2026-03-02 10:00:00</kprq><skm>{}</skm><jym>{}</jym><ewm>Qk0=\
             </ewm><fpqqlsh>{}</fpqqlsh><ghdwsbh>{}</ghdwsbh><ghdwmc>{}</ghdwmc>\
             <hjje>600.00</hjje><hjse>78.00</hjse><jshj>678.00</jshj></group></kpxx>",
            "3".repeat(112),
            "7".repeat(20),
            serial(&sample_claim(1)).0,
            buyer.taxpayer_id,
            buyer.name,
        );
        let acts = vec![Act::code(code, ""), Act::code("00000000", &group), next("00000008")];
        let server = Canned::new(acts);
        let answer = session(&server.url).issue(&sample_claim(1)).unwrap();
        assert_eq!((answer.number.number, answer.next.unwrap().number), (7, 8), "{code}");
        // The server's picture is no text; the text follows from the record.
        assert!(answer.signed.qr_text.starts_with("01,10,044002600111,00000007,600.00,20260302,"));
        assert!(!answer.signed.signature.is_empty());
    }
}

#[test]
fn nobody_there_means_nothing_was_sent() {
    // Bound, so that nobody else takes the port, and not listening.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let url = format!("http://{}", held.local_addr().unwrap());
    let mut session = session(&url);
    assert_eq!(word(&session.issue(&sample_claim(1))), "unavailable");
    let error = session.next_number(Kind::ENormal).unwrap_err();
    assert!(error.to_string().contains("nothing was sent"), "{error}");
}

#[test]
fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = SkServerConfig { timeout: Duration::from_secs(2), ..config(&url) };
    let mut session = SkServer::new(config, key(), Clock::system()).unwrap();
    let start = clock::monotonic();
    assert_eq!(word(&session.issue(&sample_claim(1))), "in doubt");
    assert!(start.elapsed() < BOUND);
}

#[test]
fn settings_that_cannot_be_used_are_refused_at_once() {
    let no_ca = config("https://127.0.0.1:1");
    let lost_ca = SkServerConfig { ca: Some("/nowhere/ca.pem".into()), ..no_ca.clone() };
    for config in [config("127.0.0.1:1"), no_ca, lost_ca] {
        let made = SkServer::new(config, key(), Clock::system());
        assert!(matches!(made, Err(SignerError::Unavailable { .. })));
    }
}

/// A certificate that signs itself, and its key, as PEM files.
fn certificate(folder: &std::path::Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

#[test]
fn https_trusts_the_ca_of_the_settings_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, cert_key) = certificate(folder.path(), "server");
    let (other, _) = certificate(folder.path(), "other");
    let mut house = House::with(Some((cert.clone(), cert_key)));
    house.config.ca = Some(other);
    let error = house.session().issue(&sample_claim(1)).unwrap_err();
    assert!(matches!(error, SignerError::Unavailable { .. }), "{error}");
    house.config.ca = Some(cert);
    assert_eq!(house.session().issue(&sample_claim(1)).unwrap().number.number, 1);
    let mut session = house.struck("reset-after");
    assert_eq!(word(&session.issue(&sample_claim(2))), "in doubt");
    assert_eq!(session.recover(&sample_claim(2)).unwrap().unwrap().number.number, 2);
    house.folder.close().unwrap();
}

#[test]
fn a_session_may_end_where_tasks_run() {
    let server = Canned::new(vec![next("00000001")]);
    let mut session = session(&server.url);
    session.next_number(Kind::ENormal).unwrap();
    Runtime::new().unwrap().block_on(async move { drop(session) });
}
