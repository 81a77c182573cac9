//! Devices that are no software key, through the whole product: an operator adds one, a platform
//! issues, the authority verifies, and what goes wrong in the device costs the device alone.

use crate::{
    library::Emulator,
    product::{Demo, Process, invoice, issue, known, receipt},
    support::{BOUND, eventually},
};
use skproxy::{
    contract::sample::{self, SELLER},
    pb::v1,
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use v1::outcome::Result as Wire;

fn paper(serial: &str) -> v1::InvoiceDraft {
    v1::InvoiceDraft { kind: v1::InvoiceKind::NormalPaper.into(), ..sample::draft(serial, SELLER) }
}

fn write_pin(dir: &Path, pin: &str) {
    fs::write(dir.join("pin"), format!("{pin}\n")).unwrap();
    fs::set_permissions(dir.join("pin"), fs::Permissions::from_mode(0o600)).unwrap();
}

fn add(backend: &str, connection: &str) -> String {
    format!(
        "device add --id HW --taxpayer {} --machine-number 000000000009 --backend {backend} \
         --kind normal-paper {connection}",
        SELLER.taxpayer_id
    )
}

const STOCK: &str = "stock add --device HW --kind normal-paper --code 050000000104 \
                     --first 00000001 --last 00000100";

/// Asks until an operator's command answers as wished.
async fn shown(demo: &Demo, words: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
    let mut answer = serde_json::Value::Null;
    let asked = tokio::time::timeout(BOUND, async {
        loop {
            answer = demo.operated(words).await;
            if is_so(&answer) {
                return;
            }
        }
    });
    let asked = asked.await;
    assert!(asked.is_ok(), "{words}: it never becomes so: {answer}");
}

async fn usable(demo: &Demo) {
    shown(demo, "device show HW", |shown| shown["devices"][0]["unusable_reason"] == "").await;
}

/// Asks a device for an invoice that it signs wrongly, and waits until its series is frozen.
async fn issue_wrongly(demo: &Demo, draft: v1::InvoiceDraft) {
    let mut client = demo.client().await;
    let call = client.issue_invoice(v1::IssueInvoiceRequest { draft: Some(draft) });
    let frozen = shown(demo, "series show HW", |shown| {
        let reason = shown["series"][0]["frozen_reason"].as_str().unwrap_or_default();
        reason.contains("SIGNER_ANSWER_INVALID")
    });
    let mut frozen = std::pin::pin!(frozen);
    tokio::select! {
        // Its caller hears at the deadline that it is in doubt.
        answer = call => {
            let outcome = answer.unwrap().into_inner().outcome.unwrap();
            assert!(matches!(outcome.result, Some(Wire::InDoubt(_))), "{outcome:?}");
            frozen.await;
        }
        () = &mut frozen => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crypto_machine_signs_and_its_wrong_answer_freezes_the_series() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(&dir.path().join("demo")).await;
    let machine = Emulator::new("sdf_emulator", "pin secret-1\n");
    write_pin(dir.path(), "secret-1");
    let connection = format!(
        "--module {} --key-index 1 --pin-file {} --sessions 2",
        machine.library().display(),
        dir.path().join("pin").display()
    );
    demo.operated(&add("sdf", &connection)).await;
    demo.operated(STOCK).await;
    usable(&demo).await;
    let mut client = demo.client().await;
    let first = issue(&mut client, paper("HW1")).await.unwrap();
    assert_eq!(first.signature_algorithm(), v1::SignatureAlgorithm::Sm2Sm3);
    receipt(&mut client, "HW1").await;
    machine.control("pin secret-1\nwrong_key\n");
    issue_wrongly(&demo, paper("HW2")).await;
    let known_now = known(&mut client, "HW2").await;
    assert!(matches!(known_now, Wire::InDoubt(_)), "{known_now:?}");
    machine.control("pin secret-1\n");
    let reason = "--kind normal-paper --reason repaired --yes";
    demo.operated(&format!("series unfreeze --device HW {reason}")).await;
    demo.end().await;
    // A start signs what is open, the device being well again.
    let demo = Demo::start(&dir.path().join("demo")).await;
    let mut client = demo.client().await;
    receipt(&mut client, "HW2").await;
    let second = invoice(Some(v1::Outcome { result: Some(known(&mut client, "HW2").await) }));
    assert_eq!((first.number.as_str(), second.number.as_str()), ("00000001", "00000002"));
    assert_eq!(demo.end().await["issued"], 4, "with one of each demo's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_costs_one_try_for_ever_until_an_operator_unlocks() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(&dir.path().join("demo")).await;
    let key = Emulator::new("skf_emulator", "pin secret-1\ntries 6\n");
    write_pin(dir.path(), "wrong-pin");
    let connection = format!(
        "--module {} --device-name EMU-1 --application TAX --container KEY-1 --pin-file {}",
        key.library().display(),
        dir.path().join("pin").display()
    );
    for _ in 0..3 {
        let refused = demo.operate(&add("skf", &connection)).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
    }
    assert_eq!(key.calls("SKF_VerifyPIN"), 1, "one try, and no more");
    demo.end().await;
    let demo = Demo::start(&dir.path().join("demo")).await;
    write_pin(dir.path(), "secret-1");
    let refused = demo.operate(&add("skf", &connection)).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("unlock"), "{refused:?}");
    assert_eq!(key.calls("SKF_VerifyPIN"), 1, "the record outlives the daemon");
    demo.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tax_server_whose_answer_is_lost_has_issued_exactly_one_invoice() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(&dir.path().join("demo")).await;
    let devices = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/skserver-sim.toml");
    let words = format!(
        "skserver-sim --devices {} --state {} --listen 127.0.0.1:0 --format json",
        devices.display(),
        dir.path().join("sim.db").display()
    );
    let script = dir.path().join("script");
    fs::write(&script, "none\ndrop-answer\n").unwrap();
    let words = format!("{words} --script {}", script.display());
    let sim = Process::skproxy(&words.split(' ').collect::<Vec<_>>());
    let mut said = None;
    eventually("the simulator says where it is", || {
        said = serde_json::from_str::<serde_json::Value>(&sim.stdout()).ok();
        said.is_some()
    })
    .await;
    let said = said.unwrap();
    let address = said["address"].as_str().unwrap_or_else(|| panic!("{said}"));
    let connection = format!(
        "--url http://{address}/SKServer/SKDo --kpzdbs {}~~000000000001 --timeout-ms 5000 \
         --quiescence-ms 500",
        SELLER.taxpayer_id
    );
    let add = add("skserver", &connection).replace("000000000009", "499000000001");
    demo.operated(&add).await;
    usable(&demo).await;
    let mut client = demo.client().await;
    let mut issued = Vec::new();
    for serial in ["SK1", "SK2", "SK3"] {
        let mut outcome = None;
        for _ in 0..300 {
            let call = client.issue_invoice(v1::IssueInvoiceRequest { draft: Some(paper(serial)) });
            match call.await.map(|answer| answer.into_inner().outcome.unwrap().result) {
                Ok(Some(Wire::Issued(found))) => {
                    outcome = found.invoice;
                    break;
                }
                Ok(Some(Wire::InDoubt(_))) => {}
                Err(status) if status.message().contains("DEVICE_UNAVAILABLE") => {
                    usable(&demo).await;
                }
                other => panic!("{serial}: {other:?}"),
            }
        }
        issued.push(outcome.unwrap_or_else(|| panic!("{serial} is never issued")).number);
    }
    assert_eq!(issued, ["00000501", "00000502", "00000503"]);
    for serial in ["SK1", "SK2", "SK3"] {
        receipt(&mut client, serial).await;
    }
    assert_eq!(demo.end().await["issued"], 4, "with the demo's own");
}
