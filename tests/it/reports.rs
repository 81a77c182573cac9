//! Reports over the real ports: what a platform hears of its own invoices, what operators read, and
//! that every format tells the same.

use crate::product::{Demo, issue, reason, sample};
use rusqlite::Connection;
use serde_json::Value;
use skproxy::{contract::sample::SELLER, pb::v1};
use std::{path::Path, time::Duration};
use tonic::{Status, transport::Channel};
use v1::reconciliation_service_client::ReconciliationServiceClient;

const FROM: &str = "2020-01-01T00:00:00+08:00";
const UNTIL: &str = "2099-01-01T00:00:00+08:00";

/// A demo with a device for paper, whose invoices can be voided.
pub(crate) async fn house(dir: &Path) -> Demo {
    let demo = Demo::start(dir).await;
    let id = SELLER.taxpayer_id;
    demo.operated(&format!(
        "device add --id PAPER --taxpayer {id} --machine-number 000000000004 \
         --backend software-p256 --kind normal-paper"
    ))
    .await;
    demo.operated(
        "stock add --device PAPER --kind normal-paper --code 044002600104 --first 00000001 \
         --last 00000900",
    )
    .await;
    demo
}

pub(crate) fn paper(serial: &str) -> v1::InvoiceDraft {
    v1::InvoiceDraft { kind: v1::InvoiceKind::NormalPaper.into(), ..sample(serial) }
}

pub(crate) async fn void(demo: &Demo, invoice: &v1::Invoice) {
    let request = v1::VoidInvoiceRequest {
        taxpayer_id: SELLER.taxpayer_id.into(),
        code: invoice.code.clone(),
        number: invoice.number.clone(),
        reason: "开错".into(),
        request_id: format!("V{}", invoice.number),
        amount_fen: None,
    };
    demo.client().await.void_invoice(request).await.unwrap();
}

async fn summary(
    client: &mut ReconciliationServiceClient<Channel>,
    (taxpayer_id, from, until): (&str, &str, &str),
) -> Result<v1::GetSummaryResponse, Status> {
    let (taxpayer_id, from, until) = (taxpayer_id.into(), from.into(), until.into());
    let request = v1::GetSummaryRequest { taxpayer_id, from, until };
    client.get_summary(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_hears_the_sums_of_its_own_invoices_to_the_fen() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let mut client = demo.client().await;
    let before = "2099-01-01T00:00:00+08:00";
    let mut blue = Vec::new();
    for serial in ["P1", "P2", "P3"] {
        blue.push(issue(&mut client, paper(serial)).await.unwrap());
    }
    void(&demo, &blue[1]).await;
    let mut client = ReconciliationServiceClient::new(demo.channel("platform").await);
    let id = SELLER.taxpayer_id;
    let sums = summary(&mut client, (id, FROM, UNTIL)).await.unwrap();
    let draft = sample("X");
    let (amount, tax, total) = (draft.amount_fen, draft.tax_fen, draft.total_fen);
    // The demo issues one electronic invoice when it starts.
    assert_eq!((sums.blue_count, sums.red_count), (4, 0));
    assert_eq!((sums.voided_count, sums.blank_count), (1, 0));
    let paper = sums.lines.iter().find(|line| line.kind() == v1::InvoiceKind::NormalPaper);
    let line = paper.unwrap();
    assert_eq!((line.issued_count, line.voided_count), (3, 1));
    assert_eq!(line.issued_amount_fen, 3 * amount);
    assert_eq!(line.issued_tax_fen, 3 * tax);
    assert_eq!(line.issued_total_fen, 3 * total);
    assert_eq!((line.voided_amount_fen, line.voided_total_fen), (amount, total));
    let all: i64 = sums.lines.iter().map(|line| line.issued_amount_fen).sum();
    assert_eq!(sums.blue_amount_fen, all);
    let later = (id, before, "2100-01-01T00:00:00+08:00");
    assert_eq!(summary(&mut client, later).await.unwrap(), v1::GetSummaryResponse::default());
    for ((taxpayer, from, until), expect) in [
        (("91000000TEST000009", FROM, UNTIL), "TAXPAYER_NOT_BOUND"),
        ((id, "", UNTIL), "FIELD_MISSING"),
        ((id, FROM, ""), "FIELD_MISSING"),
        ((id, UNTIL, FROM), "FIELD_INVALID"),
        ((id, "yesterday", UNTIL), "FIELD_INVALID"),
    ] {
        let refused = summary(&mut client, (taxpayer, from, until)).await.unwrap_err();
        assert_eq!(reason(&refused), expect, "{refused}");
    }
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_of_a_report_tells_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let mut client = demo.client().await;
    let blue = issue(&mut client, paper("P,1")).await.unwrap();
    issue(&mut client, paper("P\"2")).await.unwrap();
    void(&demo, &blue).await;
    let of = |what: &str, more: &str| format!("report {what} --from {FROM} --until {UNTIL} {more}");
    let json = demo.operated(of("summary", "").trim()).await;
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{json}");
    let paper = rows.iter().find(|row| row["kind"] == "INVOICE_KIND_NORMAL_PAPER").unwrap();
    assert_eq!((&paper["issued_count"], &paper["voided_count"]), (&"2".into(), &"1".into()));

    let csv = demo.operate(&of("detail", "--kind normal-paper --format csv")).await;
    assert_eq!(csv.code, Some(0), "{csv:?}");
    let lines: Vec<_> = csv.stdout.split("\r\n").collect();
    let [header, voided, issued, ""] = lines.as_slice() else { panic!("{csv:?}") };
    assert!(header.starts_with("code,number,kind,color,taxpayer_id,"), "{header}");
    assert!(voided.contains(",\"P,1\",") && voided.contains("NUMBER_END_VOIDED"), "{voided}");
    assert!(issued.contains(",\"P\"\"2\",") && issued.contains("NUMBER_END_ISSUED"), "{issued}");
    let json = demo.operated(&of("detail", "--kind normal-paper")).await;
    let columns: Vec<_> = header.split(',').collect();
    for (row, line) in json["rows"].as_array().unwrap().iter().zip([voided, issued]) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
        let record = reader.records().next().unwrap().unwrap();
        for (name, cell) in columns.iter().zip(&record) {
            // Delivery goes on between the two reports.
            if !["delivery", "acceptance_serial", "void_delivery"].contains(name) {
                assert_eq!(row[*name], Value::from(cell), "{name}");
            }
        }
    }
    let text = demo.operate(&of("detail", "--platform DEMO-PLATFORM")).await;
    assert_eq!((text.code, text.stdout.lines().count()), (Some(0), 3), "{text:?}");
    let empty = demo.operate(&of("summary", "--kind roll --format csv")).await;
    assert_eq!(empty.stdout.lines().count(), 1, "a header all the same: {empty:?}");
    for more in ["--taxpayer NOBODY", "--platform NOBODY"] {
        let refused = demo.operate(&of("summary", more)).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.starts_with("REFUSED FIELD_INVALID: window."), "{refused:?}");
    }
    demo.end().await;
}

/// Compares everything, and tells each difference as number and reason.
async fn compared(demo: &Demo, more: &str) -> (Option<i32>, Vec<(String, String)>) {
    let words = format!("report compare --from {FROM} --until {UNTIL} --format json {more}");
    let ran = demo.operate(words.trim()).await;
    let mismatches = ran.json()["mismatches"].as_array().unwrap().clone();
    let told = |row: &Value| {
        let reason = row["reason"].as_str().unwrap().trim_start_matches("MISMATCH_REASON_");
        (row["number"].as_str().unwrap().to_owned(), reason.to_owned())
    };
    (ran.code, mismatches.iter().map(told).collect())
}

/// Waits until the authority has answered for everything.
async fn delivered(demo: &Demo) {
    let mut every = tokio::time::interval(Duration::from_millis(50));
    let waited = tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            every.tick().await;
            let pending = demo.operated("outbox list").await;
            if pending["pending"].as_array().unwrap().is_empty() {
                return;
            }
        }
    });
    waited.await.expect("everything is delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_difference_to_the_acceptance_is_listed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let mut client = demo.client().await;
    let mut numbers = Vec::new();
    for serial in 0..8 {
        let invoice = issue(&mut client, paper(&format!("P{serial}"))).await.unwrap();
        if serial >= 6 {
            void(&demo, &invoice).await;
        }
        numbers.push(invoice.number);
    }
    delivered(&demo).await;
    for more in ["", "--full", "--kind normal-paper"] {
        assert_eq!(compared(&demo, more).await, (Some(0), Vec::new()), "{more}");
    }
    let theirs = Connection::open(dir.path().join("authority/authority.sqlite")).unwrap();
    let change = |sql: &str, number: &str| {
        let changed = theirs.execute(
            &format!("{sql} number = ? AND code = '044002600104'"),
            rusqlite::params![number],
        );
        assert_eq!(changed.unwrap(), 1, "{sql}");
    };
    // One that sums cannot tell: the comparison says so only when it is asked for everything.
    change("UPDATE numbers SET digest = zeroblob(32) WHERE", &numbers[0]);
    assert_eq!(compared(&demo, "").await, (Some(0), Vec::new()));
    let digest = (numbers[0].clone(), "OTHER_DIGEST".to_owned());
    assert_eq!(compared(&demo, "--full").await, (Some(1), vec![digest.clone()]));

    change("UPDATE numbers SET amount = amount + 1 WHERE", &numbers[1]);
    change("DELETE FROM numbers WHERE", &numbers[2]);
    change(
        "INSERT INTO invoice_voids SELECT code, number, digest, '2026-01-01T00:00:00+08:00'
         FROM numbers WHERE",
        &numbers[3],
    );
    change("DELETE FROM invoice_voids WHERE", &numbers[6]);
    change(
        "INSERT INTO numbers SELECT code, '99999999', voided, digest, device, kind, color, amount,
         tax, issue_at FROM numbers WHERE",
        &numbers[4],
    );
    let named = |number: &str, reason: &str| (number.to_owned(), reason.to_owned());
    let expect = vec![
        digest,
        named(&numbers[1], "OTHER_AMOUNT"),
        named(&numbers[2], "ONLY_HERE_DELIVERED"),
        named(&numbers[3], "VOIDED_THERE"),
        named(&numbers[6], "VOIDED_HERE"),
        named("99999999", "ONLY_THERE"),
    ];
    assert_eq!(compared(&demo, "").await, (Some(1), expect.clone()));
    assert_eq!(compared(&demo, &format!("--taxpayer {}", SELLER.taxpayer_id)).await.1, expect);
    assert_eq!(compared(&demo, "--kind e-normal --full").await, (Some(0), Vec::new()));
    let words = format!("report compare --from {FROM} --until {UNTIL} --format csv");
    let csv = demo.operate(&words).await;
    assert_eq!((csv.code, csv.stdout.lines().count()), (Some(1), 1 + expect.len()), "{csv:?}");
    assert!(csv.stderr.contains("REFUSED RECONCILE_MISMATCH: 6 differences"), "{csv:?}");
    demo.end().await;
}
