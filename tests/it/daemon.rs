//! The whole product as its users meet it: the demo, and the platform's promises over mutual TLS.

use crate::product::{
    BINARY, Demo, Process, issue, known, line, reason, receipt, resolved, sample, verified,
};
use prost::Message as _;
use skproxy::{
    clock,
    contract::sample::{self, Seller},
    delivery::upstream::{SegmentRequest, Upstream},
    model::{DeviceNo, Kind, TaxpayerNo},
    pb::v1,
    registry::{BackendKind, Device, Route},
    transport::ClientTls,
};
use std::{path::Path, process::Command, time::Duration};
use tokio::task::JoinSet;
use tonic::Code;
use v1::outcome::Result as Wire;

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_prints_one_json_value_and_goes_on_with_the_next_number() {
    let dir = tempfile::tempdir().unwrap();
    let words = format!("demo --once --format json --dir {}/d", dir.path().display());
    for number in ["00000001", "00000002"] {
        let ran = line(&words).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let said = ran.json();
        let text = |key: &str| said[key].as_str().unwrap_or_else(|| panic!("{key}: {said}"));
        assert_eq!((text("outcome"), text("invoice_number")), ("ISSUED", number));
        let digits = |key: &str| {
            assert!(text(key).bytes().all(|byte| byte.is_ascii_digit()), "{key}: {said}");
            text(key).len()
        };
        assert_eq!((digits("invoice_code"), digits("check_code")), (12, 20));
        assert!(text("issue_time").ends_with("+08:00"), "{said}");
        assert_eq!(text("issue_time").len(), "2026-01-01T00:00:00+08:00".len());
        let receipt = &said["receipt"];
        assert!(receipt["id"].as_str().is_some_and(|id| !id.is_empty()), "{said}");
        assert!(receipt["index"].is_u64() && receipt["verified"] == true, "{said}");
    }
    let found = verified(&dir.path().join("d/data")).await;
    assert_eq!((&found["issued"], &found["open"]), (&2.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_that_a_demo_prints_issues_another_invoice() {
    let dir = tempfile::tempdir().unwrap();
    // A quote and a space in the path: the command is meant to be pasted.
    let demo = Demo::start(&dir.path().join("it's a demo")).await;
    let mut shell = Command::new("sh");
    let path = Path::new(BINARY).parent().unwrap().display().to_string();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
    shell.args(["-c", demo.said("client_command")]).env("PATH", path);
    let ran = Process::start(shell).ended().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("ISSUED ") && ran.stdout.contains(" 00000002 "), "{ran:?}");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_names_one_invoice_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    let first = issue(&mut client, sample("S1")).await.unwrap();
    assert_eq!(first.number, "00000002");
    assert_eq!(issue(&mut client, sample("S1")).await.unwrap(), first, "a replay");

    let other = v1::InvoiceDraft { remark: "另一张".into(), ..sample("S1") };
    let conflict = issue(&mut client, other).await.unwrap_err();
    let expect = (Code::AlreadyExists, "SERIAL_CONFLICT".into());
    assert_eq!((conflict.code(), reason(&conflict)), expect);

    let Wire::Issued(got) = known(&mut client, "S1").await else { panic!("it was issued") };
    assert_eq!(got.invoice.unwrap().encode_to_vec(), first.encode_to_vec());
    assert!(receipt(&mut client, "S1").await.verified);

    assert!(matches!(known(&mut client, "S2").await, Wire::Unknown(_)));
    assert!(matches!(resolved(&mut client, "S2").await, Wire::Closed(_)));
    assert!(matches!(known(&mut client, "S2").await, Wire::Closed(_)));
    let closed = issue(&mut client, sample("S2")).await.unwrap_err();
    assert_eq!((closed.code(), reason(&closed)), (Code::AlreadyExists, "SERIAL_CLOSED".into()));
    assert_eq!(issue(&mut client, sample("S3")).await.unwrap().number, "00000003");

    demo.kill().await;
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    assert_eq!(issue(&mut client, sample("S1")).await.unwrap(), first, "after kill -9");
    assert!(matches!(known(&mut client, "S2").await, Wire::Closed(_)));
    let found = demo.end().await;
    assert_eq!((&found["issued"], &found["open"]), (&4.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_in_flight_share_one_number() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut twins = JoinSet::new();
    for _ in 0..16 {
        let mut client = demo.client().await;
        twins.spawn(async move { issue(&mut client, sample("TWIN")).await.unwrap() });
    }
    let issued = twins.join_all().await;
    assert!(issued.iter().all(|invoice| *invoice == issued[0]), "{issued:?}");
    assert_eq!(demo.end().await["issued"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_whose_caller_hung_up_is_issued_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let mut client = demo.client().await;
    let mut issued = 0;
    for round in 0..100 {
        let serial = |caller: usize| format!("GONE{round}-{caller}");
        let mut calls = JoinSet::new();
        for caller in 0..16 {
            let (mut client, draft) = (client.clone(), sample(&serial(caller)));
            calls.spawn(async move { issue(&mut client, draft).await.unwrap() });
        }
        // The first answer finds the others under way: claimed, signed, or not there yet.
        calls.join_next().await.expect("there are calls").unwrap();
        calls.shutdown().await;
        for serial in (0..16).map(serial) {
            match resolved(&mut client, &serial).await {
                Wire::Issued(found) => {
                    let again = issue(&mut client, sample(&serial)).await.unwrap();
                    assert_eq!(again, found.invoice.unwrap());
                    issued += 1;
                }
                // The call never reached the proxy, or is too late now.
                Wire::Closed(_) => {
                    let late = issue(&mut client, sample(&serial)).await.unwrap_err();
                    assert_eq!(reason(&late), "SERIAL_CLOSED");
                }
                other => panic!("{serial}: {other:?}"),
            }
        }
        // That of the one who was answered is none of them.
        issued -= 1;
        if issued >= 40 {
            break;
        }
    }
    assert!(issued >= 40, "{issued} were issued for callers who hung up");
    assert_eq!(demo.end().await["open"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sm2_device_issues_and_gets_its_receipt() {
    const SM2: Seller<'static> =
        Seller { taxpayer_id: "91000000TEST000003", name: "示例国密有限公司" };
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let id = SM2.taxpayer_id;
    demo.operated(&format!("taxpayer add --id {id} --name {} --province 44", SM2.name)).await;
    demo.operated(&format!("binding add --platform DEMO-PLATFORM --taxpayer {id}")).await;
    let add = format!(
        "device add --id SM2-1 --taxpayer {id} --machine-number 000000000002 \
         --backend software-sm2 --kind e-normal --test"
    );
    demo.operated(&add).await;
    let (code, first, last) = acquire(&demo, "SM2-1", SM2).await;
    let segment = format!("--code {code} --first {first} --last {last}");
    demo.operated(&format!("stock add --device SM2-1 --kind e-normal {segment}")).await;

    let mut client = demo.client().await;
    let issued = issue(&mut client, sample::draft("SM2", SM2)).await.unwrap();
    assert_eq!((&issued.code, &issued.number), (&code, &first));
    assert_eq!(issued.signature_algorithm(), v1::SignatureAlgorithm::Sm2Sm3);
    let request = v1::GetInvoiceRequest { taxpayer_id: id.into(), serial: "SM2".into() };
    let mut every = tokio::time::interval(Duration::from_millis(20));
    let waited = tokio::time::timeout(crate::support::BOUND, async {
        loop {
            every.tick().await;
            let answer = client.get_invoice(request.clone()).await.unwrap().into_inner();
            let Some(Wire::Issued(issued)) = answer.outcome.unwrap().result else { continue };
            if let Some(receipt) = issued.delivery.unwrap().receipt {
                return receipt;
            }
        }
    });
    assert!(waited.await.expect("the authority checks SM2 and answers").verified);
    assert_eq!(demo.end().await["issued"], 2);
}

/// A segment for a new device from the demo's authority: code, first and last number.
async fn acquire(demo: &Demo, id: &str, seller: Seller<'_>) -> (String, String, String) {
    let shown = demo.operated(&format!("device show {id}")).await;
    let routes = demo.operated("route list").await;
    let bytes = |value: &serde_json::Value| {
        let text = value.as_str().expect("bytes are base64 text");
        let value = serde_json::json!({ "public_key": text }).to_string();
        let device: skproxy::pb::admin::v1::Device =
            skproxy::cli::output::from_json("skproxy.admin.v1.Device", &value).unwrap();
        device.public_key
    };
    let device = Device {
        no: DeviceNo(0),
        id: id.into(),
        taxpayer: TaxpayerNo(0),
        machine_number: "000000000002".into(),
        backend: BackendKind::SoftwareSm2,
        kinds: [Kind::ENormal].into(),
        profile: "baiwang".into(),
        enabled: true,
        test: true,
        public_key: bytes(&shown["devices"][0]["public_key"]),
        connection: None,
    };
    let route = Route {
        province: "*".into(),
        address: demo.said("authority_address").into(),
        server_name: "localhost".into(),
        receipt_key: bytes(&routes["routes"][0]["receipt_key"]),
    };
    let (cert, key) = (demo.pki("proxy-client.pem"), demo.pki("proxy-client.key"));
    let tls = ClientTls::load(&demo.pki("ca.pem"), &cert, &key).unwrap();
    let upstream = Upstream::new(&route, &tls).unwrap();
    upstream.register_device(&device, seller.taxpayer_id).await.unwrap();
    let kind = Kind::ENormal;
    let wanted = SegmentRequest { id: clock::random(), device: id.into(), kind, count: 100 };
    let acquired = upstream.acquire(&wanted).await.unwrap();
    upstream.confirm_segment(wanted.id).await.unwrap();
    let (first, last) = (acquired.first.number_text(), acquired.last.number_text());
    (acquired.first.code, first, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_meets_no_rule_and_an_empty_segment_spends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let id = "91000000TEST000004";
    demo.operated(&format!("taxpayer add --id {id} --name 示例三票有限公司 --province 44")).await;
    demo.operated(&format!("binding add --platform DEMO-PLATFORM --taxpayer {id}")).await;
    let add = format!(
        "device add --id SMALL --taxpayer {id} --machine-number 000000000003 \
         --backend software-p256 --kind e-normal"
    );
    demo.operated(&add).await;
    let segment = "--code 099999999911 --first 00000007 --last 00000008";
    demo.operated(&format!("stock add --device SMALL --kind e-normal {segment}")).await;

    let seller = Seller { taxpayer_id: id, name: "示例三票有限公司" };
    let mut client = demo.client().await;
    let first = issue(&mut client, sample::draft("N1", seller)).await.unwrap();
    let second = issue(&mut client, sample::draft("N2", seller)).await.unwrap();
    assert_eq!((first.number.as_str(), second.number.as_str()), ("00000007", "00000008"));
    for serial in ["N3", "N4"] {
        let empty = issue(&mut client, sample::draft(serial, seller)).await.unwrap_err();
        let expect = (Code::FailedPrecondition, "NO_NUMBERS".into());
        assert_eq!((empty.code(), reason(&empty)), expect, "{empty}");
    }
    assert_eq!(issue(&mut client, sample::draft("N1", seller)).await.unwrap(), first, "empty");

    demo.operated("device disable SMALL").await;
    let disabled = issue(&mut client, sample::draft("N3", seller)).await.unwrap_err();
    let expect = (Code::FailedPrecondition, "DEVICE_UNAVAILABLE".into());
    assert_eq!((disabled.code(), reason(&disabled)), expect, "{disabled}");
    assert_eq!(issue(&mut client, sample::draft("N2", seller)).await.unwrap(), second, "disabled");

    // A refused request does not bind its serial.
    demo.operated("device enable SMALL").await;
    let segment = "--code 099999999911 --first 00000020 --last 00000020";
    demo.operated(&format!("stock add --device SMALL --kind e-normal {segment}")).await;
    let third = issue(&mut client, sample::draft("N3", seller)).await.unwrap();
    assert_eq!(third.number, "00000020");
    demo.end().await;
}
