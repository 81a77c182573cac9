//! Voids of issued invoices over the real port: what a platform hears, also after a crash and when
//! many ask at once, what red letters make of it, and what the authority holds.

use crate::product::{Demo, issue, known, reason, resolved, sample};
use rusqlite::{Connection, params};
use skproxy::{contract::sample::SELLER, pb::v1};
use std::{collections::BTreeSet, path::Path, time::Duration};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};
use v1::{
    invoice_service_client::InvoiceServiceClient, outcome::Result as Wire,
    red_service_client::RedServiceClient,
};

type Client = InvoiceServiceClient<Channel>;

/// A demo with a second device, which prints on paper.
async fn house(dir: &Path) -> Demo {
    let demo = Demo::start(dir).await;
    let id = SELLER.taxpayer_id;
    demo.operated(&format!(
        "device add --id PAPER --taxpayer {id} --machine-number 000000000004 \
         --backend software-p256 --kind normal-paper --kind roll"
    ))
    .await;
    for (kind, code) in [("normal-paper", "044002600104"), ("roll", "044002600106")] {
        demo.operated(&format!(
            "stock add --device PAPER --kind {kind} --code {code} --first 00000001 --last 00000900"
        ))
        .await;
    }
    demo
}

fn paper(serial: &str, kind: v1::InvoiceKind) -> v1::InvoiceDraft {
    v1::InvoiceDraft { kind: kind.into(), ..sample(serial) }
}

fn normal(serial: &str) -> v1::InvoiceDraft {
    paper(serial, v1::InvoiceKind::NormalPaper)
}

/// A red draft that takes the first line of a blue invoice.
fn red(serial: &str, blue: &v1::Invoice) -> v1::InvoiceDraft {
    let draft = blue.draft.clone().unwrap();
    let line = draft.lines[0].clone();
    let (amount_fen, tax_fen) = (-line.amount_fen, -line.tax_fen);
    let quantity = format!("-{}", line.quantity);
    v1::InvoiceDraft {
        serial: serial.into(),
        color: v1::InvoiceColor::Red.into(),
        amount_fen,
        tax_fen,
        total_fen: amount_fen + tax_fen,
        original_code: blue.code.clone(),
        original_number: blue.number.clone(),
        remark: format!("对应正数发票代码:{}号码:{}", blue.code, blue.number),
        lines: vec![v1::InvoiceLine { amount_fen, tax_fen, quantity, ..line }],
        ..draft
    }
}

fn wish(invoice: &v1::Invoice, id: &str) -> v1::VoidInvoiceRequest {
    v1::VoidInvoiceRequest {
        taxpayer_id: SELLER.taxpayer_id.into(),
        code: invoice.code.clone(),
        number: invoice.number.clone(),
        reason: "开错".into(),
        request_id: id.into(),
        amount_fen: None,
    }
}

/// The void, but for its deliveries, which go on.
async fn void(client: &mut Client, wish: v1::VoidInvoiceRequest) -> Result<v1::Voided, Status> {
    let answer = client.void_invoice(wish).await?.into_inner();
    Ok(settled(answer.voided.unwrap()))
}

fn settled(voided: v1::Voided) -> v1::Voided {
    let issued = voided.issued.map(|issued| v1::Issued { delivery: None, ..issued });
    v1::Voided { issued, delivery: None, ..voided }
}

async fn left(demo: &Demo, blue: &v1::Invoice) -> Result<i64, String> {
    let mut client = RedServiceClient::new(demo.channel("platform").await);
    let request = v1::CheckRedRequest {
        taxpayer_id: SELLER.taxpayer_id.into(),
        code: blue.code.clone(),
        number: blue.number.clone(),
    };
    let left = client.check_red(request).await;
    left.map(|left| left.into_inner().amount_fen).map_err(|status| reason(&status))
}

/// The void of a serial, once the authority has answered for it.
async fn told(client: &mut Client, serial: &str) -> v1::Voided {
    let mut every = tokio::time::interval(Duration::from_millis(20));
    let waited = tokio::time::timeout(crate::support::BOUND, async {
        loop {
            every.tick().await;
            let Wire::Voided(voided) = known(client, serial).await else { panic!("{serial}") };
            if voided.delivery.as_ref().unwrap().receipt.is_some() {
                return voided;
            }
        }
    });
    waited.await.expect("a receipt in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voided_invoice_keeps_its_bytes_and_says_so_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let mut client = demo.client().await;
    let invoice = issue(&mut client, normal("P1")).await.unwrap();
    let other = issue(&mut client, paper("P2", v1::InvoiceKind::Roll)).await.unwrap();
    let voided = void(&mut client, wish(&invoice, "V1")).await.unwrap();
    assert_eq!((&voided.code, &voided.number), (&invoice.code, &invoice.number));
    assert_eq!((voided.reason.as_str(), voided.voided_at.len()), ("开错", 25));
    assert!(voided.voided_at >= invoice.issue_time, "{voided:?}");
    assert_eq!(voided.issued.as_ref().unwrap().invoice.as_ref(), Some(&invoice), "its bytes");

    let another_reason =
        |id: &str| v1::VoidInvoiceRequest { reason: "重复".into(), ..wish(&invoice, id) };
    let again = [wish(&invoice, "V1"), wish(&invoice, "V9"), another_reason("V9")];
    let conflicts = [another_reason("V1"), wish(&other, "V1")];
    let mut demo = Some(demo);
    for _ in 0..2 {
        for wish in &again {
            assert_eq!(void(&mut client, wish.clone()).await.unwrap(), voided, "{wish:?}");
        }
        for wish in &conflicts {
            let refused = void(&mut client, wish.clone()).await.unwrap_err();
            let expect = (Code::AlreadyExists, "SERIAL_CONFLICT".to_owned());
            assert_eq!((refused.code(), reason(&refused)), expect, "{wish:?}");
        }
        let Wire::Voided(found) = known(&mut client, "P1").await else { panic!("VOIDED") };
        assert_eq!(settled(found), voided);
        let Wire::Voided(found) = resolved(&mut client, "P1").await else { panic!("VOIDED") };
        assert_eq!(settled(found), voided);
        let call = client.issue_invoice(v1::IssueInvoiceRequest { draft: Some(normal("P1")) });
        let replay = call.await.unwrap().into_inner().outcome.unwrap().result.unwrap();
        let Wire::Voided(found) = replay else { panic!("a replay hears it too: {replay:?}") };
        assert_eq!(settled(found), voided);
        assert!(matches!(known(&mut client, "P2").await, Wire::Issued(_)), "untouched");
        assert_eq!(
            left(demo.as_ref().unwrap(), &invoice).await.unwrap_err(),
            "RED_ORIGINAL_UNKNOWN"
        );
        demo.take().unwrap().kill().await;
        demo = Some(Demo::start(dir.path()).await);
        client = demo.as_ref().unwrap().client().await;
    }
    let voided = told(&mut client, "P1").await;
    let delivery = |of: Option<v1::DeliveryState>| of.unwrap();
    let void_receipt = delivery(voided.delivery.clone()).receipt.unwrap();
    let its_own = delivery(voided.issued.unwrap().delivery).receipt.unwrap();
    assert_eq!(delivery(voided.delivery).state(), v1::Delivery::Accepted);
    assert!(void_receipt.id != its_own.id && void_receipt.verified, "a receipt of its own");
    listed(&mut client, &invoice).await;
    let found = demo.unwrap().end().await;
    // The demo has issued one at each of its three starts.
    assert_eq!((&found["issued"], &found["voided"]), (&4.into(), &1.into()));
    reconciled(dir.path());
}

/// A voided invoice stays in its place in the list, with its void beside it.
async fn listed(client: &mut Client, invoice: &v1::Invoice) {
    let request = v1::ListInvoicesRequest {
        taxpayer_id: SELLER.taxpayer_id.into(),
        from: invoice.issue_time.clone(),
        until: "2099-01-01T00:00:00+08:00".into(),
        cursor: String::new(),
    };
    let mut stream = client.list_invoices(request).await.unwrap().into_inner();
    let mut voided = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        let found = response.issued.unwrap().invoice.unwrap();
        if let Some(void) = response.voided {
            assert_eq!((&void.code, &void.number), (&found.code, &found.number));
            assert!(void.issued.is_none() && !void.voided_at.is_empty());
            assert_eq!(void.delivery.unwrap().state(), v1::Delivery::Accepted);
            voided.push(found);
        }
    }
    assert_eq!(voided, std::slice::from_ref(invoice));
}

/// The authority's books hold the voids that ours do, of the very same invoices.
fn reconciled(dir: &Path) {
    let ours = Connection::open(dir.join("data/books.db")).unwrap();
    let theirs = Connection::open(dir.join("authority/authority.sqlite")).unwrap();
    let rows = |books: &Connection, sql: &str| {
        let mut read = books.prepare(sql).unwrap();
        let rows = read.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().collect::<Result<BTreeSet<(String, i64)>, _>>().unwrap()
    };
    let our_voids = rows(
        &ours,
        "SELECT code.code, number.number FROM invoice_void
         JOIN number ON number.claim = invoice_void.claim JOIN code ON code.no = number.code",
    );
    let their_voids = rows(&theirs, "SELECT code, CAST(number AS INTEGER) FROM invoice_voids");
    assert!(!our_voids.is_empty());
    assert_eq!(our_voids, their_voids);
    let counted: i64 = ours
        .query_row("SELECT sum(count) FROM usage WHERE counted = ?", params![1], |row| row.get(0))
        .unwrap();
    assert_eq!(usize::try_from(counted).unwrap(), our_voids.len(), "the meter counts them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_red_letter_protects_its_blue_invoice_until_it_is_voided_itself() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    let mut client = demo.client().await;
    let blue = issue(&mut client, normal("B")).await.unwrap();
    let whole = left(&demo, &blue).await.unwrap();
    let first = issue(&mut client, red("R1", &blue)).await.unwrap();
    assert!(left(&demo, &blue).await.unwrap() < whole);
    let refused = void(&mut client, wish(&blue, "V1")).await.unwrap_err();
    let expect = (Code::FailedPrecondition, "VOID_NOT_ALLOWED".to_owned());
    assert_eq!((refused.code(), reason(&refused)), expect);
    assert!(refused.message().contains("10000 fen"), "{refused}");
    void(&mut client, wish(&first, "V2")).await.unwrap();
    assert_eq!(left(&demo, &blue).await.unwrap(), whole, "given back");
    // A refused request has bound nothing.
    void(&mut client, wish(&blue, "V1")).await.unwrap();
    let refused = issue(&mut client, red("R2", &blue)).await.unwrap_err();
    assert_eq!(reason(&refused), "RED_ORIGINAL_UNKNOWN", "{refused}");
    for serial in ["R1", "B"] {
        let told = told(&mut client, serial).await;
        assert_eq!(told.delivery.unwrap().state(), v1::Delivery::Accepted, "{serial}");
    }
    demo.end().await;
    reconciled(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_voids_and_reds_at_once_one_void_is_made_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let demo = house(dir.path()).await;
    for round in 0..4 {
        let blue = issue(&mut demo.client().await, normal(&format!("B{round}"))).await.unwrap();
        let (mut voids, mut reds) = (JoinSet::new(), JoinSet::new());
        for number in 0..12 {
            let (mut client, blue) = (demo.client().await, blue.clone());
            if number == 6 {
                let draft = red(&format!("R{round}"), &blue);
                reds.spawn(async move { issue(&mut client, draft).await });
            } else {
                let wish = wish(&blue, &format!("V{round}-{}", number % 5));
                voids.spawn(async move { void(&mut client, wish).await });
            }
        }
        let (voids, red) = (voids.join_all().await, reds.join_all().await.remove(0));
        let made: Vec<_> = voids.iter().filter_map(|void| void.as_ref().ok()).collect();
        assert!(made.windows(2).all(|two| two[0] == two[1]), "one and the same: {made:?}");
        match red {
            Ok(_) => assert!(made.is_empty(), "a red letter stands against it: {made:?}"),
            Err(refused) => {
                assert_eq!(reason(&refused), "RED_ORIGINAL_UNKNOWN", "{refused}");
                assert_eq!(made.len(), voids.len(), "{voids:?}");
            }
        }
    }
    demo.end().await;
}
