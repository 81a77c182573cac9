//! The legacy edge over its real port: golden messages in every dialect and encoding, the same
//! invoice through either edge, and a caller in doubt whose connection ends unanswered.

use crate::{
    fake::{Fake, Mood},
    listener::raw_config_of,
    product::{Demo, invoice, issue, known, line},
    support::{BOUND, Ca},
};
use bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use skproxy::{
    clock::Clock,
    contract::sample::SELLER,
    identity::PeerCertificate,
    legacy::{Edge, LegacyRequest, decode_business},
    listener::{HttpAnswer, HttpApi, Limits, Listener, TlsFiles, TlsState},
    model::{CstTime, DeviceNo, Kind, PlatformNo, TaxpayerNo},
    pb::v1,
    refusal::Reason,
    registry::{
        BackendKind, Certificate, Device, Forbidden, KeyHash, Platform, Registry, Taxpayer,
    },
    tasks,
};
use std::{fs, path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use v1::outcome::Result as Wire;

/// DSPTBM of the golden messages.
pub(crate) const PLATFORM: &str = "00000001";

pub(crate) fn vector(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/legacy").join(name)).unwrap()
}

/// A caller with a certificate.
pub(crate) struct Caller {
    address: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Caller {
    fn new(
        address: &str,
        (ca, cert, key): (&Path, &Path, &Path),
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Self {
        let chain = CertificateDer::pem_file_iter(cert).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let tls = raw_config_of(ca, version).with_client_auth_cert(chain, key).unwrap();
        Self { address: address.to_owned(), tls: Arc::new(tls) }
    }

    pub(crate) fn of(demo: &Demo, version: &'static rustls::SupportedProtocolVersion) -> Self {
        let (ca, cert) = (demo.pki("ca.pem"), demo.pki("legacy.pem"));
        let key = demo.pki("legacy.key");
        Self::new(demo.said("legacy_address"), (&ca, &cert, &key), version)
    }

    /// The whole answer to one request; empty when the connection ends without one.
    pub(crate) async fn ask(&self, head: &str, body: &[u8]) -> Vec<u8> {
        let socket = TcpStream::connect(&self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, socket).await.unwrap();
        let head = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A refusal may come before the whole body was sent.
        drop(stream.write_all(body).await);
        let mut answer = Vec::new();
        let read = tokio::time::timeout(BOUND, stream.read_to_end(&mut answer)).await;
        // A connection that is cut without a farewell is an end too.
        drop(read.expect("an answer or the end in time"));
        answer
    }

    /// The body of an answer, which must be 200.
    pub(crate) async fn post(&self, path: &str, body: &[u8]) -> Vec<u8> {
        let answer = self.ask(&format!("POST {path}"), body).await;
        let split = answer.windows(4).position(|at| at == b"\r\n\r\n").expect("headers end");
        let (head, body) = answer.split_at(split);
        let head = String::from_utf8_lossy(head);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_lowercase().contains("content-type: text/xml; charset="), "{head}");
        body[4..].to_vec()
    }
}

/// A demo with the platform whose code stands in the golden messages.
pub(crate) async fn house(dir: &Path) -> Demo {
    let demo = Demo::start(dir).await;
    let made = line(&format!("certs issue --name legacy --dir {}/pki", dir.display())).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let cert = demo.pki("legacy.pem").display().to_string();
    demo.operated(&format!("platform add --id {PLATFORM} --name 示例平台二 --cert {cert}")).await;
    let id = SELLER.taxpayer_id;
    demo.operated(&format!("binding add --platform {PLATFORM} --taxpayer {id}")).await;
    demo
}

/// What stands between a tag and its end. Digits and letters are ASCII in every encoding here.
pub(crate) fn between<'a>(answer: &'a [u8], tag: &str) -> &'a str {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap();
    let find = |what: &str, from: usize| {
        let at = answer[from..].windows(what.len()).position(|at| at == what.as_bytes());
        at.map(|at| at + from)
    };
    let open = format!("<{tag}>");
    let shown = String::from_utf8_lossy(answer);
    let begin = find(&open, 0).unwrap_or_else(|| panic!("no {tag}: {shown}")) + open.len();
    let end = find(&format!("</{tag}>"), begin).expect("the tag ends");
    text(&answer[begin..end])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialect_issues_the_same_invoice_and_grpc_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let caller = Caller::of(&demo, &rustls::version::TLS13);
    let old = Caller::of(&demo, &rustls::version::TLS12);
    for (name, code, number) in [
        ("server_10008_gbk.xml", "returncode", "fphm"),
        ("common_flat_utf8.xml", "RETURNCODE", "FP_HM"),
        ("common_nested_gbk.xml", "RETURNCODE", "FP_HM"),
        ("component_fpkj_gb2312.xml", "returncode", "fphm"),
    ] {
        for caller in [&caller, &old] {
            let answer = caller.post("/SKServer/SKDo", &vector(name)).await;
            let said = between(&answer, code);
            assert!(said.bytes().all(|byte| byte == b'0'), "{name}: {said}");
            assert_eq!(between(&answer, number), "00000002", "{name}");
        }
    }
    for name in ["interface_issue_utf8.xml", "interface_issue_gzip_gbk.xml"] {
        let answer = caller.post("/interface", &vector(name)).await;
        assert_eq!(between(&answer, "returnCode"), "0000", "{name}");
    }
    // The same content through the other edge is the same invoice.
    let mut client = demo.client_named("legacy").await;
    let Wire::Issued(found) = known(&mut client, "LEGACY0001").await else { panic!("ISSUED") };
    let found = invoice(Some(v1::Outcome { result: Some(Wire::Issued(found)) }));
    let Ok(call) = decode_business(&vector("server_10008_gbk.xml")) else { panic!("it decodes") };
    let LegacyRequest::Issue(asked) = call.request else { panic!("an issue request") };
    assert_eq!(issue(&mut client, asked.draft).await.unwrap(), found);
    assert_eq!(demo.end().await["issued"], 2);
}

/// Whether an answer tells success, in whichever dialect.
fn succeeds(answer: &[u8]) -> bool {
    let upper = answer.windows(12).any(|at| at == b"<RETURNCODE>");
    let code = between(answer, if upper { "RETURNCODE" } else { "returncode" });
    code.bytes().all(|byte| byte == b'0')
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_messages_are_issued_and_asked_about_in_each_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let caller = Caller::of(&demo, &rustls::version::TLS13);
    // What GBK has is the same bytes in GB 18030.
    let gbk = vector("common_nested_gbk.xml");
    let at = gbk.windows(5).position(|at| at == b"\"gbk\"").unwrap();
    let gb18030 = [&gbk[..at], b"\"gb18030\"", &gbk[at + 5..]].concat();
    for (message, charset) in
        [(gb18030, "gb18030"), (gbk, "gbk"), (vector("common_flat_utf8.xml"), "utf-8")]
    {
        let answer = caller.post("/SKServer/SKDo", &message).await;
        let head = format!("<?xml version=\"1.0\" encoding=\"{charset}\"?>");
        assert!(answer.starts_with(head.as_bytes()), "{charset}");
        assert!(succeeds(&answer), "{charset}");
        assert_eq!(between(&answer, "FP_HM"), "00000002", "{charset}");
    }
    let ten_lines = vector("server_10008_ten_lines_gbk.xml");
    let answer = caller.post("/SKServer/SKDo", &ten_lines).await;
    assert_eq!(between(&answer, "fphm"), "00000003");
    for (name, tag, expect) in [
        ("FPCX", "FP_HM", "00000002"),
        ("10004", "dqfphm", "00000004"),
        ("10005", "dqfphm", "00000004"),
        ("FPKCCX", "DQFPHM", "00000004"),
        ("GPXXCX", "dqfphm", "00000004"),
        ("20002", "nsrsbh", SELLER.taxpayer_id),
        ("DJXXCX", "NSRSBH", SELLER.taxpayer_id),
        ("SQSLCX", "sl", "0.13"),
    ] {
        let answer = caller.post("/SKServer/SKDo", &vector(&format!("ask_{name}_gbk.xml"))).await;
        assert!(answer.starts_with(b"<?xml version=\"1.0\" encoding=\"gbk\"?>"), "{name}");
        assert!(succeeds(&answer), "{name}");
        let told = format!("<{tag}>{expect}</{tag}>");
        assert!(answer.windows(told.len()).any(|at| at == told.as_bytes()), "{name}: no {told}");
    }
    // Numbers of a code that is not here, and a device that is not named.
    for name in ["10010", "SKSBXXCX"] {
        let answer = caller.post("/SKServer/SKDo", &vector(&format!("ask_{name}_gbk.xml"))).await;
        assert!(!succeeds(&answer), "{name}");
    }
    assert_eq!(demo.end().await["issued"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_in_the_callers_dialect() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let caller = Caller::of(&demo, &rustls::version::TLS13);
    let text = String::from_utf8_lossy(&vector("server_10008_gbk.xml")).into_owned();
    assert!(text.contains("LEGACY0001"));
    caller.post("/SKServer/SKDo", &vector("server_10008_gbk.xml")).await;
    let ask = |id: &str, fields: &str| {
        let who = "<kpzdbs>91000000TEST000001~~000000000001</kpzdbs><fplxdm>026</fplxdm>";
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><business id=\"{id}\" comment=\"\">\
             <body yylxdm=\"1\">{who}{fields}</body></business>"
        )
    };
    let found = caller
        .post("/SKServer/SKDo", ask("10010", "<fpqqlsh>LEGACY0001</fpqqlsh>").as_bytes())
        .await;
    assert_eq!((between(&found, "returncode"), between(&found, "fphm")), ("0", "00000002"));
    let code = between(&found, "fpdm").to_owned();
    let fields = format!("<fpdm>{code}</fpdm><fphm>00000002</fphm>");
    let numbered = caller.post("/SKServer/SKDo", ask("10010", &fields).as_bytes()).await;
    assert_eq!((between(&numbered, "returncode"), between(&numbered, "fphm")), ("0", "00000002"));
    // Number 1 is the demo's own platform's.
    let fields = format!("<fpdm>{code}</fpdm><fphm>00000001</fphm>");
    let foreign = caller.post("/SKServer/SKDo", ask("10010", &fields).as_bytes()).await;
    assert_ne!(between(&foreign, "returncode"), "0");
    let nothing =
        caller.post("/SKServer/SKDo", ask("10010", "<fpqqlsh>NEVER</fpqqlsh>").as_bytes()).await;
    assert_ne!(between(&nothing, "returncode"), "0");
    let stock = caller.post("/SKServer/SKDo", ask("10005", "").as_bytes()).await;
    assert_eq!(between(&stock, "dqfphm"), "00000003");
    let key = caller.post("/SKServer/SKDo", ask("20002", "").as_bytes()).await;
    assert_eq!(between(&key, "nsrsbh"), "91000000TEST000001");
    let wrong = caller.post("/SKServer/SKDo", b"<business").await;
    assert_ne!(between(&wrong, "returncode"), "0");
    let mut amounts = vector("common_flat_utf8.xml");
    let from = b"LEGACY0001";
    let at = amounts.windows(from.len()).position(|at| at == from).unwrap();
    amounts[at..at + from.len()].copy_from_slice(b"LEGACY0002");
    let text = String::from_utf8(amounts).unwrap().replace("<HJSE>33.80<", "<HJSE>33.81<");
    let refused = caller.post("/SKServer/SKDo", text.as_bytes()).await;
    assert_ne!(between(&refused, "RETURNCODE"), "0000");
    let mut client = demo.client_named("legacy").await;
    assert!(matches!(known(&mut client, "LEGACY0002").await, Wire::Unknown(_)), "nothing is spent");
    for (head, body, expect) in [
        ("GET /SKServer/SKDo", Vec::new(), "HTTP/1.1 405 "),
        ("POST /elsewhere", Vec::new(), "HTTP/1.1 404 "),
        ("POST /interface", vec![b' '; 3 << 20], "HTTP/1.1 413 "),
    ] {
        let answer = caller.ask(head, &body).await;
        assert!(answer.starts_with(expect.as_bytes()), "{head}: {answer:?}");
    }
    demo.end().await;
}

/// A golden message with other words in it; the words are ASCII in every encoding here.
pub(crate) fn with(name: &str, changes: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = vector(name);
    for (from, to) in changes {
        let at = bytes.windows(from.len()).position(|at| at == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("{name} holds no {from}"));
        bytes.splice(at..at + from.len(), to.bytes());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paper_invoice_is_voided_in_the_callers_dialect() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let (machine, id) = ("000000000004", SELLER.taxpayer_id);
    demo.operated(&format!(
        "device add --id PAPER --taxpayer {id} --machine-number {machine} \
         --backend software-p256 --kind normal-paper"
    ))
    .await;
    demo.operated(
        "stock add --device PAPER --kind normal-paper --code 050000000104 --first 00000007 \
         --last 00000020",
    )
    .await;
    let mut client = demo.client_named("legacy").await;
    let draft = |serial: &str| v1::InvoiceDraft {
        kind: v1::InvoiceKind::NormalPaper.into(),
        ..skproxy::contract::sample::draft(serial, SELLER)
    };
    for (serial, number) in [("L7", "00000007"), ("L8", "00000008")] {
        assert_eq!(issue(&mut client, draft(serial)).await.unwrap().number, number);
    }
    let caller = Caller::of(&demo, &rustls::version::TLS13);
    let here = ("000000000001", machine);
    let blank = with("ask_FPZF_gbk.xml", &[here]);
    let refused = caller.post("/SKServer/SKDo", &blank).await;
    assert_ne!(between(&refused, "returncode"), "0", "there is no blank number to void");
    let wrong = caller.post("/SKServer/SKDo", &with("ask_10009_gbk.xml", &[here])).await;
    let told = String::from_utf8_lossy(&wrong);
    assert_ne!(between(&wrong, "returncode"), "0", "{told}: another amount");
    assert!(told.contains("TOTAL_AMOUNT_MISMATCH"), "{told}");
    assert!(matches!(known(&mut client, "L7").await, Wire::Issued(_)), "nothing is voided");
    for (message, number) in [
        (with("ask_10009_gbk.xml", &[here, ("<hjje>260.00", "<hjje>600.00")]), "00000007"),
        (with("ask_FPZF_gbk.xml", &[here, ("<zflx>0", "<zflx>1")]), "00000008"),
    ] {
        let first = caller.post("/SKServer/SKDo", &message).await;
        let said = between(&first, "returncode");
        assert!(said.bytes().all(|byte| byte == b'0'), "{}", String::from_utf8_lossy(&first));
        assert_eq!(between(&first, "fpdm"), "050000000104");
        assert_eq!(between(&first, "fphm"), number);
        assert_eq!(between(&first, "zfrq").len(), 14, "{}", between(&first, "zfrq"));
        assert_eq!(caller.post("/SKServer/SKDo", &message).await, first, "the same again");
    }
    // By somebody else: what became of it, with the time of the void that there is.
    let other = with("ask_10009_gbk.xml", &[here, ("<zfr>", "<zfr>B")]);
    let again = caller.post("/SKServer/SKDo", &other).await;
    assert_eq!((between(&again, "returncode"), between(&again, "fphm")), ("0", "00000007"));
    let ask = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><business id=\"10010\" comment=\"\">\
         <body yylxdm=\"1\"><kpzdbs>{id}~~{machine}</kpzdbs><fplxdm>007</fplxdm>\
         <fpqqlsh>L7</fpqqlsh></body></business>"
    );
    let found = caller.post("/SKServer/SKDo", ask.as_bytes()).await;
    assert_eq!((between(&found, "fphm"), between(&found, "fpzt")), ("00000007", "03"));
    let Wire::Voided(voided) = known(&mut client, "L7").await else { panic!("VOIDED") };
    assert_eq!(voided.reason, "作废 示例甲", "the message's GBK");
    assert_eq!(demo.end().await["voided"], 2);
}

/// An edge over a pipeline in doubt, whose only platform is the golden messages'.
pub(crate) fn doubtful(mood: Mood) -> (Edge, Arc<Fake>, PeerCertificate) {
    let key = KeyHash([1; 32]);
    let not_after = CstTime::from_unix(4_000_000_000).unwrap();
    let mut registry = Registry::default();
    let (no, id, name) = (PlatformNo(1), PLATFORM.to_owned(), "示例平台".to_owned());
    registry.put_platform(Platform { no, id, name, enabled: true });
    registry.put_certificate(Certificate { key, platform: no, not_after, revoked: false });
    for (at, taxpayer, machine_number) in
        [(1, SELLER.taxpayer_id, "000000000001"), (2, "91000000TEST000003", "000000000002")]
    {
        let (id, name, province) = (taxpayer.to_owned(), "示例".to_owned(), "44".to_owned());
        let forbidden = Forbidden::default();
        registry.put_taxpayer(Taxpayer { no: TaxpayerNo(at), id, name, province, forbidden });
        registry.put_device(Device {
            no: DeviceNo(at),
            id: format!("D{at}"),
            taxpayer: TaxpayerNo(at),
            machine_number: machine_number.to_owned(),
            backend: BackendKind::SoftwareP256,
            kinds: Kind::ALL.into(),
            profile: String::new(),
            enabled: true,
            test: true,
            public_key: Vec::new(),
            connection: None,
        });
    }
    let registry = Arc::new(registry);
    let api = Arc::new(Fake::of(mood));
    let source = Arc::new(move || Arc::clone(&registry));
    let edge = Edge::new(Arc::<Fake>::clone(&api), source, Clock::system(), None);
    (edge, api, PeerCertificate { key, not_after, subject: "CN=test".into() })
}

#[tokio::test]
async fn doubt_is_told_where_the_dialect_can_and_never_as_a_failure() {
    for mood in [Mood::Doubts, Mood::Breaks(Reason::Internal), Mood::Breaks(Reason::StoreReadOnly)]
    {
        let (edge, api, peer) = doubtful(mood);
        api.gate.add_permits(9);
        let platform = vector("interface_issue_utf8.xml");
        let told = edge.post(peer.clone(), "/interface", platform.into()).await.unwrap();
        assert_eq!(between(&told.body, "returnCode"), "1000", "in progress");
        for name in ["server_10008_gbk.xml", "component_fpkj_gb2312.xml", "common_flat_utf8.xml"] {
            let told = edge.post(peer.clone(), "/SKServer/SKDo", vector(name).into()).await;
            assert_eq!(told, None, "{name}: there is no code for it");
        }
    }
}

#[tokio::test]
async fn a_serial_is_in_progress_from_decode_on() {
    let (edge, api, peer) = doubtful(Mood::Doubts);
    let query = || {
        let text = "<?xml version=\"1.0\" encoding=\"utf-8\"?><business id=\"10010\" comment=\"\">\
                    <body yylxdm=\"1\"><kpzdbs>91000000TEST000001~~1</kpzdbs>\
                    <fpqqlsh>LEGACY0001</fpqqlsh></body></business>";
        edge.post(peer.clone(), "/SKServer/SKDo", text.into())
    };
    let before = query().await.expect("nothing is under way: it is not known");
    assert_ne!(between(&before.body, "returncode"), "0");
    let issue = edge.post(peer.clone(), "/SKServer/SKDo", vector("server_10008_gbk.xml").into());
    let mut issue = std::pin::pin!(issue);
    tokio::select! {
        biased;
        _ = &mut issue => panic!("the gate is closed"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(query().await, None, "in progress, for which this dialect has no code");
    api.gate.add_permits(1);
    assert_eq!(issue.await, None);
    assert!(query().await.is_some(), "no longer under way");
}

#[tokio::test]
async fn the_platform_that_a_message_claims_must_be_the_certificates() {
    let (edge, api, peer) = doubtful(Mood::Doubts);
    api.gate.add_permits(9);
    let text = String::from_utf8(vector("common_flat_utf8.xml")).unwrap();
    let other = text.replace(PLATFORM, "00000009");
    assert_ne!(text, other);
    let told = edge.post(peer.clone(), "/SKServer/SKDo", other.into()).await.expect("a refusal");
    assert_ne!(between(&told.body, "RETURNCODE"), "0000");
    let stranger = PeerCertificate { key: KeyHash([9; 32]), ..peer };
    let told = edge.post(stranger, "/SKServer/SKDo", text.into()).await.expect("a refusal");
    assert_ne!(between(&told.body, "RETURNCODE"), "0000");
}

#[tokio::test]
async fn a_named_device_is_taken_or_refused_and_never_another() {
    let (edge, api, peer) = doubtful(Mood::Doubts);
    api.gate.add_permits(9);
    for (name, is_there) in [
        ("~~000000000001", true),
        ("~~D1", true),
        ("~~", true),
        ("~~000000000009", false),
        ("~~000000000002", false),
        ("~~D2", false),
        ("~~D9", false),
    ] {
        let good = vector("server_10008_gbk.xml");
        let at = good.windows(14).position(|at| at == b"~~000000000001").unwrap();
        let named = [&good[..at], name.as_bytes(), &good[at + 14..]].concat();
        let told = edge.post(peer.clone(), "/SKServer/SKDo", named.into()).await;
        // In doubt, for which this dialect has no code: it went through.
        assert_eq!(told.is_none(), is_there, "{name}");
        if let Some(told) = told {
            let text = String::from_utf8_lossy(&told.body).into_owned();
            assert!(text.contains("[NOT_FOUND]"), "{name}: {text}");
        }
    }
}

/// Answers nothing.
#[derive(Debug)]
struct Silent;

#[tonic::async_trait]
impl HttpApi for Silent {
    fn knows(&self, _: &str) -> bool {
        true
    }

    fn body_len_max(&self) -> usize {
        100
    }

    async fn post(&self, _: PeerCertificate, _: &str, _: Bytes) -> Option<HttpAnswer> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_in_doubt_is_not_answered_and_its_connection_ends() {
    let ca = Ca::new("our CA");
    let (server, client) = (ca.issue("server", 2090), ca.issue("client", 2090));
    let files = TlsFiles { certificate: server.certificate, key: server.key, client_ca: ca.pem() };
    let tls = Arc::new(TlsState::load_legacy(files).unwrap());
    let listener = Listener::legacy(tls, Arc::new(Silent), Limits::default());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let running = tasks::spawn_detached(Arc::clone(&listener).run(socket));
    let pem = ca.pem();
    let files = (pem.as_path(), client.certificate.as_path(), client.key.as_path());
    let caller = Caller::new(&address, files, &rustls::version::TLS13);
    assert_eq!(caller.ask("POST /SKServer/SKDo", b"<x/>").await, b"", "not a byte");
    assert_eq!(listener.drain(BOUND).await, 0);
    running.await.unwrap();
}
