//! Dry runs, streams, lists, voids and questions about devices, over the real demo.

use crate::{
    product::{Demo, client, invoice, issue, known, reason, resolved, run, sample},
    support::BOUND,
};
use skproxy::{
    contract::sample::{self, SELLER, Seller},
    pb::v1,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};
use v1::{
    device_service_client::DeviceServiceClient, invoice_service_client::InvoiceServiceClient,
    issue_invoice_stream_response::Answer, outcome::Result as Wire,
    stock_service_client::StockServiceClient,
};

type Client = InvoiceServiceClient<Channel>;
type Items = Vec<v1::IssueInvoiceStreamRequest>;

fn items(drafts: impl IntoIterator<Item = v1::InvoiceDraft>) -> Items {
    let numbered = (0_u64..).zip(drafts);
    numbered
        .map(|(item, draft)| v1::IssueInvoiceStreamRequest { item, draft: Some(draft) })
        .collect()
}

/// Every answer of a stream, until it ends or breaks.
async fn streamed(client: &mut Client, items: Items) -> (BTreeMap<u64, Answer>, Option<Status>) {
    let mut answers = BTreeMap::new();
    let stream = client.issue_invoice_stream(tokio_stream::iter(items)).await;
    let mut stream = stream.unwrap().into_inner();
    loop {
        match tokio::time::timeout(BOUND, stream.message()).await.expect("an answer in time") {
            Ok(None) => return (answers, None),
            Err(status) => return (answers, Some(status)),
            Ok(Some(answer)) => {
                let before = answers.insert(answer.item, answer.answer.unwrap());
                assert!(before.is_none(), "item {} is answered twice", answer.item);
            }
        }
    }
}

/// The code and reason of an item that was refused.
fn refused(answer: &Answer) -> (Code, String) {
    let Answer::Status(status) = answer else { panic!("not refused: {answer:?}") };
    let details = prost::Message::encode_to_vec(status);
    let code = Code::from_i32(status.code);
    (code, reason(&Status::with_details(code, "", details.into())))
}

fn issued(answer: &Answer) -> v1::Invoice {
    let Answer::Outcome(outcome) = answer else { panic!("not issued: {answer:?}") };
    invoice(Some(outcome.clone()))
}

/// Issues `count` invoices with these serials' beginning, over one stream.
async fn issue_many(client: &mut Client, begin: &str, count: usize) {
    let drafts = (0..count).map(|number| sample(&format!("{begin}{number}")));
    let (answers, ended) = streamed(client, items(drafts)).await;
    assert!(ended.is_none(), "{ended:?}");
    assert_eq!(answers.values().map(issued).count(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_items_have_an_answer_each() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    issue(&mut client, sample("TAKEN")).await.unwrap();
    let drafts = (0..500).map(|number| match number {
        // Ten twins, most of them in flight together.
        0..10 => sample("TWIN"),
        10 => v1::InvoiceDraft { total_fen: 1, ..sample("BAD") },
        11 => v1::InvoiceDraft { remark: "另一张".into(), ..sample("TAKEN") },
        12 => v1::InvoiceDraft::default(),
        13 => v1::InvoiceDraft { seller: None, ..sample("FOREIGN") },
        _ => sample(&format!("S{number}")),
    });
    let (answers, ended) = streamed(&mut client, items(drafts)).await;
    assert!(ended.is_none(), "the stream ends OK: {ended:?}");
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
    let twins: Vec<_> = (0..10).map(|item| issued(&answers[&item])).collect();
    assert!(twins.iter().all(|twin| *twin == twins[0]), "{twins:?}");
    let invalid = |name: &str| (Code::InvalidArgument, name.to_owned());
    assert_eq!(refused(&answers[&10]), invalid("TOTAL_SUM_MISMATCH"));
    assert_eq!(refused(&answers[&11]), (Code::AlreadyExists, "SERIAL_CONFLICT".into()));
    assert_eq!(refused(&answers[&12]), invalid("FIELD_MISSING"));
    assert_eq!(refused(&answers[&13]).0, Code::InvalidArgument);
    let numbers: BTreeSet<_> = (14..500).map(|item| issued(&answers[&item]).number).collect();
    assert_eq!(numbers.len(), 486, "each its own number");
    assert_eq!(issue(&mut client, sample("S14")).await.unwrap(), issued(&answers[&14]));
    assert_eq!(demo.end().await["issued"], 1 + 1 + 1 + 486);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_looked_at_for_every_item() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let id = "91000000TEST000005";
    demo.operated(&format!("taxpayer add --id {id} --name 示例五票有限公司 --province 44")).await;
    let mut client = demo.client().await;
    let (sender, sent) = mpsc::channel(1);
    let mut stream =
        client.issue_invoice_stream(ReceiverStream::new(sent)).await.unwrap().into_inner();
    let mut ask = async |item: u64| {
        let seller = Seller { taxpayer_id: id, name: "示例五票有限公司" };
        let draft = Some(sample::draft(&format!("G{item}"), seller));
        sender.send(v1::IssueInvoiceStreamRequest { item, draft }).await.unwrap();
        let answer = tokio::time::timeout(BOUND, stream.message()).await.expect("in time");
        refused(&answer.unwrap().unwrap().answer.unwrap()).1
    };
    assert_eq!(ask(1).await, "TAXPAYER_NOT_BOUND");
    demo.operated(&format!("binding add --platform DEMO-PLATFORM --taxpayer {id}")).await;
    assert_eq!(ask(2).await, "DEVICE_UNAVAILABLE", "bound now, on the stream that stood");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_mid_stream_loses_nothing_that_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    let drafts = items((0..400).map(|number| sample(&format!("K{number}"))));
    let mut stream =
        client.issue_invoice_stream(tokio_stream::iter(drafts)).await.unwrap().into_inner();
    let mut told = BTreeMap::new();
    let mut demo = Some(demo);
    loop {
        if told.len() == 100
            && let Some(demo) = demo.take()
        {
            demo.kill().await;
        }
        match tokio::time::timeout(BOUND, stream.message()).await.expect("an end in time") {
            Ok(Some(answer)) => {
                told.insert(answer.item, issued(&answer.answer.unwrap()));
            }
            Ok(None) => break,
            Err(status) => {
                assert_eq!(reason(&status), "", "nobody could say why");
                break;
            }
        }
    }
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    for item in 0..400 {
        match resolved(&mut client, &format!("K{item}")).await {
            Wire::Issued(found) => {
                let found = found.invoice.unwrap();
                assert_eq!(*told.entry(item).or_insert(found.clone()), found, "item {item}");
            }
            Wire::Closed(_) => assert!(!told.contains_key(&item), "item {item} was told"),
            other => panic!("item {item}: {other:?}"),
        }
    }
    let found = demo.end().await;
    assert_eq!(found["issued"], 1 + told.len() + 1, "two starts of the demo issue one each");
}

const FROM: &str = "2020-01-01T00:00:00+08:00";
const UNTIL: &str = "2099-01-01T00:00:00+08:00";

fn window(taxpayer_id: &str, cursor: &str) -> v1::ListInvoicesRequest {
    let (from, until) = (FROM.to_owned(), UNTIL.to_owned());
    let (taxpayer_id, cursor) = (taxpayer_id.to_owned(), cursor.to_owned());
    v1::ListInvoicesRequest { taxpayer_id, from, until, cursor }
}

/// At most `count` of a list: the invoices, and the last cursor.
async fn listed(
    client: &mut Client,
    request: v1::ListInvoicesRequest,
    count: usize,
) -> Result<(Vec<v1::Invoice>, String), Status> {
    let mut stream = client.list_invoices(request).await?.into_inner();
    let (mut found, mut cursor) = (Vec::new(), String::new());
    while found.len() < count
        && let Some(response) = stream.message().await?
    {
        found.push(response.issued.unwrap().invoice.unwrap());
        cursor = response.cursor;
    }
    Ok((found, cursor))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_after_its_cursor_across_a_restart_while_issuing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    issue_many(&mut client, "A", 100).await;
    let id = SELLER.taxpayer_id;
    let (mut all, cursor) = listed(&mut client, window(id, ""), 50).await.unwrap();
    assert_eq!(all.len(), 50);
    demo.kill().await;
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    issue_many(&mut client, "B", 40).await;
    let (rest, end) = listed(&mut client, window(id, &cursor), usize::MAX).await.unwrap();
    all.extend(rest);
    assert!(all.is_sorted_by_key(|invoice| invoice.issue_time.clone()));
    let serials: BTreeSet<_> =
        all.iter().map(|invoice| invoice.draft.as_ref().unwrap().serial.clone()).collect();
    assert_eq!((serials.len(), all.len()), (142, 142), "100, 40 and the demo's own two");
    let Wire::Issued(again) = known(&mut client, "A7").await else { panic!("it was issued") };
    assert!(all.contains(&again.invoice.unwrap()), "the same bytes as ever");

    issue_many(&mut client, "C", 3).await;
    let (more, _) = listed(&mut client, window(id, &end), usize::MAX).await.unwrap();
    assert_eq!(more.len(), 3, "a list that was read to its end goes on with what came later");

    let narrow = v1::ListInvoicesRequest { from: all[141].issue_time.clone(), ..window(id, "") };
    let (found, _) = listed(&mut client, narrow.clone(), usize::MAX).await.unwrap();
    let expected = all.iter().filter(|one| one.issue_time >= narrow.from).count() + 3;
    assert_eq!(found.len(), expected, "the first moment belongs to the window");
    let before = v1::ListInvoicesRequest { until: all[0].issue_time.clone(), ..window(id, "") };
    assert!(listed(&mut client, before, 1).await.unwrap().0.is_empty(), "the last does not");

    for (what, request) in [
        ("another window's", v1::ListInvoicesRequest { cursor: cursor.clone(), ..narrow }),
        ("no cursor", window(id, "00")),
        ("no time", v1::ListInvoicesRequest { from: "1 January".into(), ..window(id, "") }),
    ] {
        let refused = listed(&mut client, request, 1).await.unwrap_err();
        let expect = (Code::InvalidArgument, "FIELD_INVALID".into());
        assert_eq!((refused.code(), reason(&refused)), expect, "{what}");
    }
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_sees_nothing_that_is_not_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut ours = demo.client().await;
    let invoice = issue(&mut ours, sample("OURS")).await.unwrap();
    let pki = dir.path().join("pki");
    let made = run(&["certs", "issue", "--name", "other", "--dir", pki.to_str().unwrap()]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let cert = demo.pki("other.pem");
    demo.operated(&format!("platform add --id P2 --name 示例平台二 --cert {}", cert.display()))
        .await;
    let address = demo.said("platform_address");
    let mut other = client(address, &demo.pki("ca.pem"), &cert).await;
    let id = SELLER.taxpayer_id;
    for id in [id, "91000000TEST000099"] {
        let refused = listed(&mut other, window(id, ""), 1).await.unwrap_err();
        let expect = (Code::PermissionDenied, "TAXPAYER_NOT_BOUND".into());
        assert_eq!((refused.code(), reason(&refused)), expect, "{id}: known or not");
    }
    let void = |invoice: &v1::Invoice| v1::VoidInvoiceRequest {
        taxpayer_id: id.into(),
        code: invoice.code.clone(),
        number: invoice.number.clone(),
        reason: "开错".into(),
        request_id: "V1".into(),
        amount_fen: None,
    };
    let refused = other.void_invoice(void(&invoice)).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_FOUND", "as if the number did not exist");
    demo.operated(&format!("binding add --platform P2 --taxpayer {id}")).await;
    assert_eq!(listed(&mut other, window(id, ""), 9).await.unwrap().0, []);
    let (_, cursor) = listed(&mut ours, window(id, ""), 1).await.unwrap();
    let refused = listed(&mut other, window(id, &cursor), 1).await.unwrap_err();
    assert_eq!(reason(&refused), "FIELD_INVALID", "another platform's cursor");

    // Our own: an electronic invoice is never voided.
    for (what, request, code, expect) in [
        ("an issued one", void(&invoice), Code::FailedPrecondition, "VOID_NOT_ALLOWED"),
        (
            "one that nobody has",
            v1::VoidInvoiceRequest { number: "09999999".into(), ..void(&invoice) },
            Code::NotFound,
            "NOT_FOUND",
        ),
        (
            "no number",
            v1::VoidInvoiceRequest { number: "9".into(), ..void(&invoice) },
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
        (
            "no reason",
            v1::VoidInvoiceRequest { reason: " ".into(), ..void(&invoice) },
            Code::InvalidArgument,
            "FIELD_MISSING",
        ),
        (
            "no request id",
            v1::VoidInvoiceRequest { request_id: String::new(), ..void(&invoice) },
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
    ] {
        let refused = ours.void_invoice(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, expect), "{what}");
    }
    assert!(matches!(known(&mut ours, "OURS").await, Wire::Issued(_)), "it stands");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_list_holds_no_reader() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    let id = SELLER.taxpayer_id;
    issue_many(&mut client, "A", 3000).await;
    let mut paused = client.list_invoices(window(id, "")).await.unwrap().into_inner();
    let first = paused.message().await.unwrap().unwrap();
    // The client has room for less than the whole list, so the proxy is in the middle of it.
    issue_many(&mut client, "B", 100).await;
    let books = demo.data().join("books.db");
    crate::support::eventually("the whole log is moved into the books", || {
        // A reader that held a transaction would keep it busy; commits do so for a moment.
        let connection = rusqlite::Connection::open(&books).unwrap();
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() != 0;
        // Deliveries go on meanwhile, and write a new one.
        let log = fs::metadata(demo.data().join("books.db-wal")).map_or(0, |meta| meta.len());
        !busy && log < 1 << 20
    })
    .await;
    let mut count = 1;
    let mut last = first;
    while let Some(response) = paused.message().await.unwrap() {
        let time = |of: &v1::ListInvoicesResponse| {
            of.issued.as_ref().and_then(|of| of.invoice.as_ref()).unwrap().issue_time.clone()
        };
        assert!(time(&last) <= time(&response));
        (last, count) = (response, count + 1);
    }
    assert_eq!(count, 3101, "also what was issued during the pause");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_issuing_would_and_spends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    let dry = client.clone();
    let ask = async |draft: v1::InvoiceDraft| {
        let request = v1::ValidateInvoiceRequest { draft: Some(draft) };
        let told = dry.clone().validate_invoice(request).await;
        told.map(tonic::Response::into_inner).map_err(|status| reason(&status))
    };
    assert_eq!(ask(sample("V1")).await.unwrap().known, None);
    let bad = v1::InvoiceDraft { total_fen: 1, ..sample("V1") };
    assert_eq!(ask(bad).await.unwrap_err(), "TOTAL_SUM_MISMATCH");
    let foreign = Seller { taxpayer_id: "91000000TEST000099", name: "无" };
    assert_eq!(ask(sample::draft("V1", foreign)).await.unwrap_err(), "TAXPAYER_NOT_BOUND");
    let first = issue(&mut client, sample("V1")).await.unwrap();
    assert_eq!(first.number, "00000002", "nothing was spent");
    let found = ask(sample("V1")).await.unwrap();
    assert_eq!(invoice(found.known), first, "known already");
    let other = v1::InvoiceDraft { remark: "另一张".into(), ..sample("V1") };
    assert_eq!(ask(other).await.unwrap_err(), "SERIAL_CONFLICT");
    assert!(matches!(resolved(&mut client, "V2").await, Wire::Closed(_)));
    assert_eq!(ask(sample("V2")).await.unwrap_err(), "SERIAL_CLOSED");

    let device = demo.said("device_id").to_owned();
    demo.operated(&format!("device disable {device}")).await;
    assert_eq!(ask(sample("V3")).await.unwrap_err(), "DEVICE_UNAVAILABLE");
    assert_eq!(invoice(ask(sample("V1")).await.unwrap().known), first, "a replay meets no rule");
    demo.operated(&format!("device enable {device}")).await;
    assert!(matches!(known(&mut client, "V3").await, Wire::Unknown(_)), "nothing was bound");
    assert_eq!(demo.end().await["claims"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_tells_its_platforms_what_is_registered_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let id = "91000000TEST000004";
    demo.operated(&format!("taxpayer add --id {id} --name 示例四票有限公司 --province 44")).await;
    demo.operated(&format!(
        "device add --id OTHER --taxpayer {id} --machine-number 000000000004 \
         --backend software-p256 --kind e-normal --kind roll"
    ))
    .await;
    let channel = demo.channel("platform").await;
    let mut devices = DeviceServiceClient::new(channel.clone());
    let mut stock = StockServiceClient::new(channel);
    let describe = |id: &str| v1::DescribeDeviceRequest { device_id: id.into() };
    for id in ["OTHER", "NOBODY", ""] {
        let refused = devices.describe_device(describe(id)).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused)),
            (Code::NotFound, "NOT_FOUND".into()),
            "{id}"
        );
    }
    demo.operated(&format!("binding add --platform DEMO-PLATFORM --taxpayer {id}")).await;
    let told = devices.describe_device(describe("OTHER")).await.unwrap().into_inner();
    let kinds = [v1::InvoiceKind::Roll, v1::InvoiceKind::ENormal];
    assert_eq!(told.kinds, kinds.map(i32::from));
    assert_eq!((told.taxpayer_id.as_str(), told.machine_number.as_str()), (id, "000000000004"));
    assert!(told.enabled && !told.draws_numbers && !told.public_key.is_empty(), "{told:?}");

    for (code, first, last) in [("099999999911", 7, 8), ("099999999811", 1, 3)] {
        let segment = format!("--code {code} --first {first:08} --last {last:08}");
        demo.operated(&format!("stock add --device OTHER --kind e-normal {segment}")).await;
    }
    let mut left = async |kind: v1::InvoiceKind| {
        let request = v1::GetStockRequest { device_id: "OTHER".into(), kind: kind.into() };
        stock.get_stock(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(left(v1::InvoiceKind::Roll).await.unwrap(), v1::GetStockResponse::default());
    assert_eq!(left(v1::InvoiceKind::Unspecified).await.unwrap().left, 5);
    let mut client = demo.client().await;
    let seller = Seller { taxpayer_id: id, name: "示例四票有限公司" };
    let draft =
        |serial| v1::InvoiceDraft { device_id: "OTHER".into(), ..sample::draft(serial, seller) };
    issue(&mut client, draft("D1")).await.unwrap();
    let told = left(v1::InvoiceKind::ENormal).await.unwrap();
    let next: Vec<_> = told.segments.iter().map(|one| (one.next.as_str(), one.left)).collect();
    assert_eq!((told.left, next), (4, vec![("00000008", 1), ("00000001", 3)]));
    issue(&mut client, draft("D2")).await.unwrap();
    assert_eq!(left(v1::InvoiceKind::ENormal).await.unwrap().segments.len(), 1, "used up");
    let refused = left(v1::InvoiceKind::SpecialPaper).await.unwrap_err();
    assert_eq!(reason(&refused), "KIND_NOT_APPROVED");

    let rates = v1::ListRatesRequest { device_id: "OTHER".into() };
    let rates = devices.list_rates(rates).await.unwrap().into_inner();
    assert!(rates.rates_millionths.contains(&130_000), "{rates:?}");
    assert!(rates.rates_millionths.is_sorted() && !rates.rates_millionths.contains(&170_000));
    assert_eq!(rates.source(), v1::RateSource::Profile);
    let kind = v1::InvoiceKind::ENormal.into();
    let monitor = v1::GetMonitorRequest { device_id: "OTHER".into(), kind };
    let refused = devices.get_monitor(monitor).await.unwrap_err();
    assert!(refused.message().contains("has been told"), "{refused}");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_validates_and_lists_with_one_value_each() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    let first = issue(&mut client, sample("C1")).await.unwrap();
    let path = |name: &str| demo.pki(name).display().to_string();
    let draft = dir.path().join("draft.json");
    let ask = async |words: &[&str]| {
        let (ca, cert, key) = (path("ca.pem"), path("platform.pem"), path("platform.key"));
        let address = demo.said("platform_address");
        let mut all = vec!["client"];
        all.extend(words);
        all.extend(["--address", address, "--server-name", "localhost", "--ca", &ca]);
        all.extend(["--cert", &cert, "--key", &key]);
        run(&all).await
    };
    let json = |draft: &v1::InvoiceDraft| {
        let names = skproxy::cli::output::Names::Canonical;
        skproxy::cli::output::to_json("skproxy.v1.InvoiceDraft", draft, names).unwrap().to_string()
    };
    let file = draft.to_str().unwrap();
    fs::write(&draft, json(&sample("C2"))).unwrap();
    let ran = ask(&["validate", "--draft", file]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "VALID, nothing was spent\n"), "{ran:?}");
    fs::write(&draft, json(&sample("C1"))).unwrap();
    let ran = ask(&["validate", "--draft", file, "--format", "json"]).await;
    let number = &ran.json()["known"]["issued"]["invoice"]["number"];
    assert_eq!((ran.code, number), (Some(0), &first.number.clone().into()), "{ran:?}");
    fs::write(&draft, json(&v1::InvoiceDraft { total_fen: 1, ..sample("C2") })).unwrap();
    let ran = ask(&["validate", "--draft", file, "--format", "json"]).await;
    let told = &ran.json()["refused"]["reason"];
    assert_eq!((ran.code, told), (Some(1), &"TOTAL_SUM_MISMATCH".into()), "{ran:?}");

    let list = ["list", "--taxpayer", SELLER.taxpayer_id, "--from", FROM, "--until", UNTIL];
    let ran = ask(&[list.as_slice(), &["--format", "json", "--limit", "1"]].concat()).await;
    let page = ran.json();
    assert_eq!((ran.code, &page["more"]), (Some(0), &true.into()), "{ran:?}");
    assert_eq!(page["invoices"].as_array().unwrap().len(), 1);
    let cursor = page["invoices"][0]["cursor"].as_str().unwrap();
    let ran = ask(&[list.as_slice(), &["--cursor", cursor]].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("ISSUED ") && ran.stdout.contains(&first.number), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    let ran = ask(&[list.as_slice(), &["--cursor", "00", "--format", "json"]].concat()).await;
    let told = &ran.json()["refused"]["reason"];
    assert_eq!((ran.code, told), (Some(1), &"FIELD_INVALID".into()), "{ran:?}");
    demo.end().await;
}
