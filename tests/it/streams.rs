//! Calls that stream, at the listener: what was taken is answered, and nobody is held up by a
//! caller who does not read.

use crate::{
    product::reason as reason_of,
    support::{BOUND, Server, draft, eventually},
};
use skproxy::{listener::Limits, pb::v1, tasks};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, Streaming};
use v1::{invoice_service_client::InvoiceServiceClient, issue_invoice_stream_response::Answer};

type Answers = Streaming<v1::IssueInvoiceStreamResponse>;
type Client = InvoiceServiceClient<tonic::transport::Channel>;

fn item(number: u64, serial: &str, remark: String) -> v1::IssueInvoiceStreamRequest {
    v1::IssueInvoiceStreamRequest { item: number, draft: draft(serial, remark).draft }
}

async fn open(
    client: &mut Client,
    items: impl Stream<Item = v1::IssueInvoiceStreamRequest> + Send + 'static,
) -> Result<Answers, Status> {
    Ok(client.issue_invoice_stream(items).await?.into_inner())
}

async fn next(answers: &mut Answers) -> Result<Option<v1::IssueInvoiceStreamResponse>, Status> {
    tokio::time::timeout(BOUND, answers.message()).await.expect("an answer in time")
}

/// An endless stream of items that counts how many were taken from it.
fn endless(
    serial: &'static str,
) -> (Arc<AtomicU64>, impl Stream<Item = v1::IssueInvoiceStreamRequest>) {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let items = tokio_stream::iter(1..u64::MAX).map(move |number| {
        counted.store(number, Ordering::Relaxed);
        item(number, serial, "x".repeat(10_000))
    });
    (taken, items)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_has_its_own_answer_and_a_panic_is_one_too() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client("streams").await;
    let items =
        [item(7, "slow", "a".into()), item(8, "panic", "b".into()), item(9, "S", "c".into())];
    let mut answers = open(&mut client, tokio_stream::iter(items)).await.unwrap();
    let mut told = Vec::new();
    while let Some(answer) = next(&mut answers).await.unwrap() {
        told.push(match answer.answer.unwrap() {
            Answer::Outcome(outcome) => (answer.item, crate::fake::echo(Some(outcome)).reason),
            Answer::Status(status) => (answer.item, format!("code {}", status.code)),
        });
    }
    told.sort();
    assert_eq!(told, [(7, "a".into()), (8, "code 13".into()), (9, "c".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_does_not_read_is_not_read_from_and_holds_up_nobody() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client("streams").await;
    let (taken, items) = endless("S");
    let mut answers = open(&mut client, items).await.unwrap();
    let stalled = || {
        let (before, started) = (taken.load(Ordering::Relaxed), skproxy::clock::monotonic());
        let pause = std::time::Duration::from_millis(200);
        eventually_still(&taken, before, started + pause)
    };
    let bound = tokio::time::timeout(BOUND, async { while !stalled().await {} });
    bound.await.expect("whoever does not read is not read from");
    // 2 MiB of answers in the client, the windows of both sides, and 64 items in between.
    let before = taken.load(Ordering::Relaxed);
    assert!(before < 2_000, "{before} items were taken");
    for _ in 0..50 {
        client.issue_invoice(draft("OTHER", "x".repeat(10_000))).await.unwrap();
    }
    // And it goes on where it stood.
    for _ in 0..before + 100 {
        next(&mut answers).await.unwrap().expect("an answer");
    }
    drop(answers);
    let handled = || server.api.seen.lock().unwrap().len();
    let mut last = 0;
    eventually("the items of a caller who left are given up", || {
        let now = handled();
        std::mem::replace(&mut last, now) == now
    })
    .await;
}

/// Whether nothing more is taken until `end`.
async fn eventually_still(taken: &AtomicU64, before: u64, end: std::time::Instant) -> bool {
    let mut still = true;
    eventually("time passes", || {
        still = still && taken.load(Ordering::Relaxed) == before;
        !still || skproxy::clock::monotonic() >= end
    })
    .await;
    still && before > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_was_taken_and_takes_nothing_more() {
    let mut server = Server::start(Limits::default()).await;
    let mut client = server.client("streams").await;
    let (items, sent) = mpsc::channel(8);
    let mut answers = open(&mut client, ReceiverStream::new(sent)).await.unwrap();
    items.send(item(1, "S", String::new())).await.unwrap();
    assert_eq!(next(&mut answers).await.unwrap().unwrap().item, 1);
    items.send(item(2, "gate", String::new())).await.unwrap();
    eventually("the second item is taken", || server.api.saw("gate")).await;

    let listener = Arc::clone(&server.listener);
    let mut drain = tasks::Group::new();
    drain.spawn(async move { listener.drain(BOUND).await });
    server.stopped().await;
    // The client hears GOAWAY on its connection; the stream itself goes on to its end.
    items.send(item(3, "late", String::new())).await.unwrap();
    server.api.gate.add_permits(1);
    assert_eq!(next(&mut answers).await.unwrap().unwrap().item, 2, "taken before the drain");
    let ended = loop {
        match next(&mut answers).await {
            // Sent while the signal was on its way: taken, so answered.
            Ok(Some(answer)) => assert_eq!(answer.item, 3),
            Ok(None) => panic!("an end in order says that everything was answered"),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), reason_of(&ended)), (Code::Unavailable, "DRAINING".into()));
    assert_eq!(drain.join_next().await.unwrap().unwrap(), 0, "nothing had to be cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_ends_the_stream_after_the_answers_before_it() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client("streams").await;
    let items = [item(1, "slow", String::new()), item(2, "S", "x".repeat(2 << 20))];
    let mut answers = open(&mut client, tokio_stream::iter(items)).await.unwrap();
    assert_eq!(next(&mut answers).await.unwrap().unwrap().item, 1);
    let ended = next(&mut answers).await.unwrap_err();
    assert_eq!(
        (ended.code(), reason_of(&ended)),
        (Code::InvalidArgument, "MALFORMED_MESSAGE".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_takes_sixteen_streaming_calls_until_one_ends() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.client("streams").await;
    let mut open_ones = Vec::new();
    for _ in 0..16 {
        let (items, sent) = mpsc::channel(1);
        open_ones.push((items, open(&mut client, ReceiverStream::new(sent)).await.unwrap()));
    }
    let list = v1::ListInvoicesRequest::default();
    let refused = client.list_invoices(list.clone()).await.unwrap_err();
    let expect = (Code::ResourceExhausted, "SESSION_LIMIT".into());
    assert_eq!((refused.code(), reason_of(&refused)), expect);
    client.issue_invoice(draft("S", String::new())).await.unwrap();
    drop(open_ones.pop());
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(5));
    let bound = tokio::time::timeout(BOUND, async {
        loop {
            tries.tick().await;
            if let Ok(found) = client.list_invoices(list.clone()).await {
                return found.into_inner();
            }
        }
    });
    let mut listed = bound.await.expect("a place that is free again is given away");
    for number in 1..=25_u64 {
        let response = listed.message().await.unwrap().unwrap();
        assert_eq!(response.cursor, number.to_string(), "page after page");
    }
}
