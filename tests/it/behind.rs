//! Books that are behind: an older copy with its own watermark, and a lost watermark. The
//! acceptance is a process of its own, so that it remembers what the proxy forgot.

use crate::{
    product::{Process, issue, known, line, reason, receipt, resolved, run, sample, verified},
    serve::{Served, set_up},
    support::eventually,
};
use rustix::process::Signal;
use skproxy::pb::v1;
use std::{fs, path::Path};
use tokio::net::TcpSocket;
use tonic::Code;
use v1::outcome::Result as Wire;

/// An address that stays a test's own while nobody listens at it.
struct Place {
    address: String,
    _held: TcpSocket,
}

impl Place {
    fn new() -> Self {
        let held = TcpSocket::new_v4().unwrap();
        // Whoever listens later shares the port with this one, which never listens.
        held.set_reuseaddr(true).unwrap();
        held.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { address: held.local_addr().unwrap().to_string(), _held: held }
    }
}

/// Starts the acceptance simulator. Its books are in `dir`.
async fn acceptance(dir: &Path, place: &Place) -> Process {
    let (pki, listen) = (dir.join("pki"), &place.address);
    let pki = pki.display();
    let words = format!(
        "authority-sim --dir {}/authority --listen {listen} --ca {pki}/ca.pem \
         --cert {pki}/server.pem --key {pki}/server.key",
        dir.display()
    );
    fs::create_dir_all(dir.join("authority")).unwrap();
    let mut process = Process::skproxy(&words.split(' ').collect::<Vec<_>>());
    eventually("the acceptance says where it is", || {
        assert!(process.runs(), "it ended: {}", process.stderr());
        process.stdout().contains(&format!(" on {},", place.address))
    })
    .await;
    process
}

/// An acceptance, and a daemon that delivers to it.
async fn house(dir: &Path) -> ((Process, Place), Served) {
    set_up(dir).await;
    let place = Place::new();
    let authority = acceptance(dir, &place).await;
    let served = Served::start(dir).await;
    served.register().await;
    let key = dir.join("authority/receipt-key.der");
    served
        .operate(&format!(
            "route add --province * --address {} --server-name localhost --receipt-key {}",
            place.address,
            key.display()
        ))
        .await;
    ((authority, place), served)
}

async fn resume(dir: &Path, words: &str) -> crate::product::Ran {
    let config = dir.join("skproxy.toml").display().to_string();
    let words = format!("resume --config {config} --reason compared --format json {words}");
    line(words.trim_end()).await
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_noticed_by_the_acceptance_and_resumed_above_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_authority, served) = house(dir).await;
    let mut client = served.client().await;
    let first = issue(&mut client, sample("S1")).await.unwrap();
    served.end().await;
    copy(&dir.join("data"), &dir.join("copy"));

    let served = Served::start(dir).await;
    let mut client = served.client().await;
    for serial in ["S2", "S3"] {
        issue(&mut client, sample(serial)).await.unwrap();
        assert!(receipt(&mut client, serial).await.verified);
    }
    served.end().await;
    fs::remove_dir_all(dir.join("data")).unwrap();
    copy(&dir.join("copy"), &dir.join("data"));

    // The copy's own watermark agrees with it; only the acceptance knows better.
    for _ in 0..2 {
        let served = Served::start(dir).await;
        // The start waits for the acceptance, but not for ever.
        served.is_unready("read-only").await;
        let mut client = served.client().await;
        assert_eq!(issue(&mut client, sample("S1")).await.unwrap(), first, "what is kept");
        let refused = issue(&mut client, sample("S4")).await.unwrap_err();
        let expect = (Code::FailedPrecondition, "STORE_READ_ONLY".into());
        assert_eq!((refused.code(), reason(&refused)), expect, "{refused}");
        served.end().await;
    }
    let plan = resume(dir, "").await;
    assert_eq!(plan.code, Some(0), "{plan:?}");
    let range = &plan.json()["skipped"][0];
    assert_eq!((&range["first"], &range["last"]), (&"00000002".into(), &"00000003".into()));
    assert_eq!(plan.json()["resumed"], false, "without --yes nothing is changed");
    assert_eq!(resume(dir, "--yes").await.json()["resumed"], true);
    let again = resume(dir, "--yes").await;
    assert_eq!((again.code, &again.json()["resumed"]), (Some(1), &false.into()), "{again:?}");
    verified(&dir.join("data")).await;

    let served = Served::start(dir).await;
    let mut client = served.client().await;
    let frozen = issue(&mut client, sample("S4")).await.unwrap_err();
    assert_eq!(reason(&frozen), "SERIES_FROZEN", "{frozen}");
    assert!(matches!(resolved(&mut client, "S2").await, Wire::InDoubt(_)), "not closed");
    assert!(matches!(known(&mut client, "S2").await, Wire::Unknown(_)));
    served.operate("series unfreeze --device D --kind e-normal --reason looked --yes").await;
    assert_eq!(issue(&mut client, sample("S4")).await.unwrap().number, "00000004");
    assert!(receipt(&mut client, "S4").await.verified, "the acceptance takes it");
    assert_eq!(served.end().await["issued"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_watermark_is_resumed_only_after_every_witness_was_heard() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ((authority, place), served) = house(dir).await;
    let mut client = served.client().await;
    issue(&mut client, sample("S1")).await.unwrap();
    assert!(receipt(&mut client, "S1").await.verified);
    served.end().await;
    fs::remove_file(dir.join("data/watermark")).unwrap();

    let served = Served::start(dir).await;
    let mut client = served.client().await;
    let refused = issue(&mut client, sample("S2")).await.unwrap_err();
    assert_eq!(reason(&refused), "STORE_READ_ONLY", "{refused}");
    served.operate("status").await;
    let running = resume(dir, "--yes").await;
    assert_eq!((running.code, running.stdout.as_str()), (Some(3), ""), "{running:?}");
    assert!(running.stderr.contains("in use by another skproxy"), "{running:?}");
    served.stop().await;

    authority.signal(Signal::TERM);
    authority.ended().await;
    let silent = resume(dir, "--yes").await;
    assert_eq!((silent.code, silent.stdout.as_str()), (Some(3), ""), "{silent:?}");
    assert!(silent.stderr.contains("--without-acceptance"), "{silent:?}");
    let _authority = acceptance(dir, &place).await;

    // A platform holds an invoice that nobody delivered.
    let resumed = resume(dir, "--head D:026:044002600111:00000005 --yes").await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let range = &resumed.json()["skipped"][0];
    assert_eq!((&range["first"], &range["last"]), (&"00000002".into(), &"00000005".into()));
    let served = Served::start(dir).await;
    served.operate("series unfreeze --device D --kind e-normal --reason looked --yes").await;
    let mut client = served.client().await;
    assert_eq!(issue(&mut client, sample("S2")).await.unwrap().number, "00000006");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn books_that_add_up_are_not_resumed_and_wrong_words_are_usage() {
    let dir = tempfile::tempdir().unwrap();
    let (_authority, served) = house(dir.path()).await;
    let mut client = served.client().await;
    issue(&mut client, sample("S1")).await.unwrap();
    served.end().await;
    let ran = resume(dir.path(), "--yes").await;
    assert_eq!((ran.code, &ran.json()["resumed"]), (Some(1), &false.into()), "{ran:?}");
    for words in ["--head D:026", "--head D:999:044002600111:00000005"] {
        assert_eq!(resume(dir.path(), words).await.code, Some(2), "{words}");
    }
    let config = dir.path().join("skproxy.toml").display().to_string();
    let ran = run(&["resume", "--config", &config, "--reason", " "]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
}
