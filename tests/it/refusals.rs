//! Bad input: each is refused with its reason, nothing is spent, and the next good invoice gets the
//! next number.

use crate::{
    listener::{raw_client_of, raw_config_of, wrong_message},
    product::{Demo, client, issue, line, reason, sample},
    support::Ca,
};
use skproxy::{contract::sample::SELLER, pb::v1};
use std::{fs, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

type Change = fn(&mut v1::InvoiceDraft);

/// What is wrong, how, the answer's code and reason, and words that it must hold.
type Case = (&'static str, Change, Code, &'static str, &'static str);

const CASES: &[Case] = &[
    (
        "a total that is 1 fen short",
        |draft| draft.total_fen -= 1,
        Code::InvalidArgument,
        "TOTAL_SUM_MISMATCH",
        "differs by 1 fen",
    ),
    (
        "lines that add up to something else",
        |draft| {
            draft.amount_fen += 5;
            draft.total_fen += 5;
        },
        Code::InvalidArgument,
        "TOTAL_AMOUNT_MISMATCH",
        "differs by 5 fen",
    ),
    (
        "text that GBK does not have",
        |draft| draft.remark = "😀".into(),
        Code::InvalidArgument,
        "TEXT_NOT_GBK",
        "remark",
    ),
    (
        "a taxpayer that nobody knows",
        |draft| draft.seller.as_mut().unwrap().taxpayer_id = "91000000TEST000099".into(),
        Code::PermissionDenied,
        "TAXPAYER_NOT_BOUND",
        "",
    ),
    (
        "a rate that nobody authorised",
        |draft| at_rate(draft, 120_000),
        Code::InvalidArgument,
        "RATE_NOT_AUTHORISED",
        "is not on the device's list",
    ),
    (
        "a zero rate that does not say why",
        |draft| at_rate(draft, 0),
        Code::InvalidArgument,
        "PREFERENCE_INCONSISTENT",
        "zero_rate_kind",
    ),
    (
        "a remark with a reserved phrase",
        |draft| draft.remark = "差额征税：1。".into(),
        Code::InvalidArgument,
        "REMARK_INVALID",
        "reserved",
    ),
    (
        "a differential invoice with two lines",
        |draft| {
            draft.tax_method = v1::TaxMethod::Differential.into();
            draft.deduction_fen = 100;
            draft.remark = "差额征税：1.00。".into();
        },
        Code::InvalidArgument,
        "DIFFERENTIAL_RULE",
        "single",
    ),
    (
        "a red invoice that names no blue one",
        |draft| draft.color = v1::InvoiceColor::Red.into(),
        Code::InvalidArgument,
        "RED_ORIGINAL_MISSING",
        "",
    ),
    (
        "an empty serial",
        |draft| draft.serial.clear(),
        Code::InvalidArgument,
        "FIELD_MISSING",
        "serial",
    ),
    (
        "a serial that is too long",
        |draft| draft.serial = "1".repeat(21),
        Code::InvalidArgument,
        "FIELD_INVALID",
        "serial",
    ),
    (
        "a kind that the device may not issue",
        |draft| draft.kind = v1::InvoiceKind::Roll.into(),
        Code::InvalidArgument,
        "KIND_NOT_APPROVED",
        "kind",
    ),
    (
        "a message above the limit",
        |draft| draft.remark = "x".repeat(2 << 20),
        Code::InvalidArgument,
        "MALFORMED_MESSAGE",
        "",
    ),
];

/// One line at a rate, everything adding up.
fn at_rate(draft: &mut v1::InvoiceDraft, rate_millionths: i32) {
    draft.lines.truncate(1);
    let line = &mut draft.lines[0];
    line.rate_millionths = rate_millionths;
    line.tax_fen = line.amount_fen * i64::from(rate_millionths) / 1_000_000;
    (draft.amount_fen, draft.tax_fen) = (line.amount_fen, line.tax_fen);
    draft.total_fen = draft.amount_fen + draft.tax_fen;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_refused_with_its_reason_and_spends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    for (what, change, code, expect, words) in CASES {
        let mut draft = sample("BAD");
        change(&mut draft);
        let refused = issue(&mut client, draft).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (*code, *expect), "{what}");
        assert!(refused.message().contains(words), "{what}: {refused}");
    }
    let empty = client.issue_invoice(v1::IssueInvoiceRequest { draft: None }).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument, "{empty}");
    // The serial of all those is still free, and no number is gone.
    assert_eq!(issue(&mut client, sample("BAD")).await.unwrap().number, "00000002");
    assert_eq!(demo.end().await["issued"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_devices_for_a_kind_must_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    let id = SELLER.taxpayer_id;
    demo.operated(&format!(
        "device add --id SECOND --taxpayer {id} --machine-number 000000000002 \
         --backend software-p256 --kind e-normal"
    ))
    .await;
    let refused = issue(&mut client, sample("TWO")).await.unwrap_err();
    let expect = (Code::InvalidArgument, "DEVICE_AMBIGUOUS".into());
    assert_eq!((refused.code(), reason(&refused)), expect, "{refused}");
    let named = v1::InvoiceDraft { device_id: demo.said("device_id").into(), ..sample("TWO") };
    assert_eq!(issue(&mut client, named).await.unwrap().number, "00000002");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_not_let_in_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let address = demo.said("platform_address");

    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(crate::support::BOUND, garbage.read_to_end(&mut rest)).await;
    drop(read.expect("garbage is hung up on"));

    let nameless = raw_config_of(&demo.pki("ca.pem"), &rustls::version::TLS13);
    let nameless = raw_client_of(address, Arc::new(nameless.with_no_client_auth())).await;
    assert!(nameless.is_err(), "a client without a certificate is let in");

    let (ca, cert) = (demo.pki("ca.pem"), demo.pki("platform.pem"));
    let tls = skproxy::transport::ClientTls::load(&ca, &cert, &demo.pki("platform.key")).unwrap();
    let channel = skproxy::transport::channel(address, "localhost", &tls).await.unwrap();
    let broken = wrong_message(channel).await.unwrap_err();
    assert_eq!(broken.code(), Code::InvalidArgument, "no protobuf: {broken}");
    assert_eq!(reason(&broken), "MALFORMED_MESSAGE", "{broken}");

    let foreign = Ca::new("another CA");
    let pair = foreign.issue("foreign", 2090);
    let tls =
        skproxy::transport::ClientTls::load(&demo.pki("ca.pem"), &pair.certificate, &pair.key);
    if let Ok(channel) = skproxy::transport::channel(address, "localhost", &tls.unwrap()).await {
        let mut client = v1::invoice_service_client::InvoiceServiceClient::new(channel);
        let refused = issue(&mut client, sample("FOREIGN")).await.unwrap_err();
        assert_eq!(reason(&refused), "", "TLS refuses, not the service: {refused}");
    }

    let pki = dir.path().join("pki");
    let made = line(&format!("certs issue --name stranger --dir {}", pki.display())).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut stranger = client(address, &demo.pki("ca.pem"), &demo.pki("stranger.pem")).await;
    let refused = issue(&mut stranger, sample("STRANGER")).await.unwrap_err();
    let expect = (Code::Unauthenticated, "PLATFORM_CERT_UNKNOWN".into());
    assert_eq!((refused.code(), reason(&refused)), expect, "{refused}");

    let cert = demo.pki("stranger.pem").display().to_string();
    demo.operated(&format!("platform add --id P2 --name 示例平台二 --cert {cert}")).await;
    let refused = issue(&mut stranger, sample("STRANGER")).await.unwrap_err();
    let expect = (Code::PermissionDenied, "TAXPAYER_NOT_BOUND".into());
    assert_eq!((refused.code(), reason(&refused)), expect, "known, but not bound: {refused}");
    for taxpayer_id in [SELLER.taxpayer_id, "91000000TEST000099"] {
        let (taxpayer_id, serial) = (taxpayer_id.to_owned(), "STRANGER".to_owned());
        let asked = v1::GetInvoiceRequest { taxpayer_id, serial };
        let refused = stranger.get_invoice(asked).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), expect, "registered or not: {refused}");
    }
    let id = SELLER.taxpayer_id;
    demo.operated(&format!("binding add --platform P2 --taxpayer {id}")).await;
    let issued = issue(&mut stranger, sample("STRANGER")).await.unwrap();
    assert_eq!(issued.number, "00000002", "on the connection that stood all the while");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_leaves_the_first_ones_books_alone() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let second = line(&format!("demo --once --dir {}", dir.path().display())).await;
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains("in use by another skproxy"), "{second:?}");
    let verify = line(&format!("verify --data {}/data", dir.path().display())).await;
    assert_eq!(verify.code, Some(3), "{verify:?}");
    assert!(verify.stderr.contains("in use by another skproxy"), "{verify:?}");
    let mut client = demo.client().await;
    assert_eq!(issue(&mut client, sample("S")).await.unwrap().number, "00000002");
    demo.operated("status").await;
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_passphrase_stops_the_start_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let words = format!("demo --once --format json --dir {}", dir.path().display());
    assert_eq!(line(&words).await.code, Some(0));
    let file = dir.path().join("passphrase");
    let right = fs::read(&file).unwrap();
    fs::write(&file, "another one").unwrap();
    let ran = line(&words).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{ran:?}");
    assert!(ran.stderr.contains("give the one that the key store was made with"), "{ran:?}");
    assert!(!ran.stderr.contains("another one"), "a secret in the log");
    fs::write(&file, right).unwrap();
    assert_eq!(line(&words).await.json()["invoice_number"], "00000002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_store_stops_the_start_and_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let words = format!("demo --once --format json --dir {}", dir.path().display());
    assert_eq!(line(&words).await.code, Some(0));
    let books = dir.path().join("data/books.db");
    let connection = rusqlite::Connection::open(&books).unwrap();
    let header = "SELECT value FROM setting WHERE key = 'key_store'";
    let right: Vec<u8> = connection.query_row(header, [], |row| row.get(0)).unwrap();
    let put = |value: &[u8]| {
        let sql = "UPDATE setting SET value = ? WHERE key = 'key_store'";
        assert_eq!(connection.execute(sql, [value]).unwrap(), 1);
    };
    let mut wrong = right.clone();
    wrong[7] ^= 1;
    for (damaged, words_of_the_error) in [(wrong.as_slice(), "setting"), (&[], "setting")] {
        put(damaged);
        let ran = line(&words).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{ran:?}");
        assert!(ran.stderr.contains(words_of_the_error), "{ran:?}");
        let kept: Vec<u8> = connection.query_row(header, [], |row| row.get(0)).unwrap();
        assert_eq!(kept, damaged, "nothing is repaired");
    }
    put(&right);
    assert_eq!(line(&words).await.json()["invoice_number"], "00000002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_books_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Some(Demo::start(dir.path()).await);
    let issued = issue(&mut demo.as_ref().unwrap().client().await, sample("FLIP")).await.unwrap();
    demo.take().unwrap().end().await;
    let data = dir.path().join("data");
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let mut flipped = 0;
    for entry in fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        let mut bytes = fs::read(entry.path()).unwrap();
        flipped += flip(&mut bytes, issued.check_code.as_bytes());
        fs::write(copy.join(entry.file_name()), bytes).unwrap();
    }
    assert!(flipped > 0, "the invoice is in the books");
    let ran = line(&format!("verify --format json --data {}", copy.display())).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.json()["ok"], false);
}

/// Flips a bit wherever `wanted` stands in `bytes`.
fn flip(bytes: &mut [u8], wanted: &[u8]) -> usize {
    let places = bytes.windows(wanted.len()).enumerate();
    let places: Vec<_> = places.filter(|(_, at)| *at == wanted).map(|(at, _)| at).collect();
    for at in &places {
        bytes[*at] ^= 1;
    }
    places.len()
}
