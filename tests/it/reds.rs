//! Red letters over the real port: partial ones up to the blue invoice and no further, also all at
//! once and after a crash, and what the authority hears.

use crate::product::{Demo, issue, line, reason, receipt, sample};
use skproxy::{contract::sample::SELLER, pb::v1, tasks};
use std::collections::BTreeMap;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tonic::Code;
use v1::red_service_client::RedServiceClient;

/// A red draft that takes so much of a blue invoice, at the rate of its first line.
fn red(serial: &str, blue: &v1::Invoice, amount_fen: i64) -> v1::InvoiceDraft {
    let draft = blue.draft.clone().unwrap();
    let line = &draft.lines[0];
    // 13 %, half away from zero.
    let tax_fen = (amount_fen * 13 + 50) / 100;
    let line = v1::InvoiceLine {
        amount_fen: -amount_fen,
        tax_fen: -tax_fen,
        quantity: String::new(),
        unit_price: String::new(),
        specification: String::new(),
        unit: String::new(),
        ..line.clone()
    };
    v1::InvoiceDraft {
        serial: serial.into(),
        color: v1::InvoiceColor::Red.into(),
        amount_fen: -amount_fen,
        tax_fen: -tax_fen,
        total_fen: -amount_fen - tax_fen,
        original_code: blue.code.clone(),
        original_number: blue.number.clone(),
        remark: format!("对应正数发票代码:{}号码:{}", blue.code, blue.number),
        lines: vec![line],
        ..draft
    }
}

async fn left(demo: &Demo, blue: &v1::Invoice) -> Result<v1::CheckRedResponse, tonic::Status> {
    let mut client = RedServiceClient::new(demo.channel("platform").await);
    let request = v1::CheckRedRequest {
        taxpayer_id: SELLER.taxpayer_id.into(),
        code: blue.code.clone(),
        number: blue.number.clone(),
    };
    Ok(client.check_red(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn reds_take_no_more_than_their_blue_invoice_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    // Two lines: 100.00 and 500.00 at 13 %.
    let blue = issue(&mut client, sample("BLUE")).await.unwrap();
    let all = left(&demo, &blue).await.unwrap();
    assert_eq!((all.amount_fen, all.tax_fen), (60_000, 7_800));
    assert_eq!((all.rates[0].rate_millionths, all.rates[0].amount_fen), (130_000, 60_000));

    let first = issue(&mut client, red("R1", &blue, 20_000)).await.unwrap();
    assert_eq!(first.draft.as_ref().unwrap().total_fen, -22_600);
    assert_eq!(issue(&mut client, red("R1", &blue, 20_000)).await.unwrap(), first, "a replay");
    assert_eq!(left(&demo, &blue).await.unwrap().amount_fen, 40_000);
    let over = issue(&mut client, red("R2", &blue, 40_001)).await.unwrap_err();
    let expect = (Code::FailedPrecondition, "RED_EXCEEDS_BALANCE".into());
    assert_eq!((over.code(), reason(&over)), expect, "{over}");
    assert!(over.message().contains(" 1 fen more"), "{over}");
    let dry = v1::ValidateInvoiceRequest { draft: Some(red("R2", &blue, 40_001)) };
    let dry = client.validate_invoice(dry).await.unwrap_err();
    assert_eq!((dry.code(), reason(&dry)), expect, "a dry run says the same: {dry}");
    let dry = v1::ValidateInvoiceRequest { draft: Some(red("R2", &blue, 40_000)) };
    client.validate_invoice(dry).await.unwrap();
    assert_eq!(left(&demo, &blue).await.unwrap().amount_fen, 40_000, "and takes nothing");
    demo.kill().await;

    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    assert_eq!(left(&demo, &blue).await.unwrap().amount_fen, 40_000, "after kill -9");
    issue(&mut client, red("R3", &blue, 40_000)).await.unwrap();
    let full = issue(&mut client, red("R4", &blue, 100)).await.unwrap_err();
    assert_eq!(reason(&full), "RED_ALREADY_FULL", "{full}");
    assert_eq!(reason(&left(&demo, &blue).await.unwrap_err()), "RED_ALREADY_FULL");
    // Of a red one there is no red.
    let of_red = issue(&mut client, red("R5", &first, 100)).await.unwrap_err();
    assert_eq!(reason(&of_red), "RED_ORIGINAL_UNKNOWN", "{of_red}");
    for serial in ["BLUE", "R1", "R3"] {
        assert!(receipt(&mut client, serial).await.verified, "{serial}");
    }
    // The demo has issued one at each start.
    assert_eq!(demo.end().await["issued"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn reds_that_come_at_once_share_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let blue = issue(&mut demo.client().await, sample("BLUE")).await.unwrap();
    let mut reds = JoinSet::new();
    for number in 0..24 {
        let (mut client, blue) = (demo.client().await, blue.clone());
        let draft = red(&format!("R{number}"), &blue, 5_000);
        reds.spawn(async move { issue(&mut client, draft).await });
    }
    let answers = reds.join_all().await;
    let issued = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(issued, 12, "twelve twelfths");
    for refused in answers.into_iter().filter_map(Result::err) {
        let why = reason(&refused);
        assert!(["RED_EXCEEDS_BALANCE", "RED_ALREADY_FULL"].contains(&why.as_str()), "{refused}");
    }
    assert_eq!(demo.end().await["issued"], 14);
}

/// 64 reds of a sixtieth each, all at once, over connections of their own. `stop` is called after
/// ten answers.
async fn race(
    demo: &Demo,
    blue: &v1::Invoice,
    stop: Option<oneshot::Sender<()>>,
) -> BTreeMap<u32, Result<v1::Invoice, tonic::Status>> {
    let (told, mut answers) = mpsc::channel(64);
    for number in 0..64 {
        let (mut client, blue, told) = (demo.client().await, blue.clone(), told.clone());
        drop(tasks::spawn_detached(async move {
            let answer = issue(&mut client, red(&format!("R{number}"), &blue, 1_000)).await;
            told.send((number, answer)).await.unwrap();
        }));
    }
    drop(told);
    let (mut all, mut stop) = (BTreeMap::new(), stop);
    while let Some((number, answer)) = answers.recv().await {
        all.insert(number, answer);
        if all.len() == 10
            && let Some(stop) = stop.take()
        {
            stop.send(()).unwrap();
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_of_reds_with_kills_in_between_ends_with_the_exact_balance() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(dir.path()).await;
    let blue = issue(&mut demo.client().await, sample("BLUE")).await.unwrap();
    let mut told: BTreeMap<u32, v1::Invoice> = BTreeMap::new();
    for _ in 0..3 {
        let (stop, stopped) = oneshot::channel();
        let (answers, ()) = tokio::join!(race(&demo, &blue, Some(stop)), async {
            stopped.await.unwrap();
            demo.signal_kill();
        });
        for (number, answer) in answers {
            if let Ok(invoice) = answer {
                let before = told.insert(number, invoice.clone());
                assert!(before.is_none_or(|before| before == invoice), "{number} is another one");
            }
        }
        demo.kill().await;
        demo = Demo::start(dir.path()).await;
    }
    let last = race(&demo, &blue, None).await;
    let issued = last.values().filter(|answer| answer.is_ok()).count();
    assert_eq!(issued, 60, "sixty sixtieths");
    for (number, before) in told {
        assert_eq!(last[&number].as_ref().unwrap(), &before, "what was told stands");
    }
    for refused in last.into_values().filter_map(Result::err) {
        let why = reason(&refused);
        assert!(["RED_EXCEEDS_BALANCE", "RED_ALREADY_FULL"].contains(&why.as_str()), "{refused}");
    }
    assert_eq!(reason(&left(&demo, &blue).await.unwrap_err()), "RED_ALREADY_FULL");
    // The demo has issued one at each of its four starts.
    assert_eq!(demo.end().await["issued"], 60 + 1 + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_platform_s_blue_invoice_is_as_unknown_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let blue = issue(&mut demo.client().await, sample("BLUE")).await.unwrap();
    let pki = dir.path().join("pki");
    let made = line(&format!("certs issue --name other --dir {}", pki.display())).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let cert = demo.pki("other.pem").display().to_string();
    demo.operated(&format!("platform add --id P2 --name 示例平台二 --cert {cert}")).await;
    demo.operated(&format!("binding add --platform P2 --taxpayer {}", SELLER.taxpayer_id)).await;
    let mut other = demo.client_named("other").await;
    let mut nobody = blue.clone();
    nobody.number = "00099999".into();
    for blue in [&blue, &nobody] {
        let refused = issue(&mut other, red("R1", blue, 100)).await.unwrap_err();
        assert_eq!(reason(&refused), "RED_ORIGINAL_UNKNOWN", "{refused}");
    }
    demo.end().await;
}
