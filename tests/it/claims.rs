//! What operators do about claims that nobody signs: the real commands over the real socket, and
//! devices that a test plugs in.

use crate::{
    product::{Ran, line, verified},
    support::{BOUND, Ca, registration, tls_of},
};
use skproxy::{
    admin,
    admission::Admission,
    clock::Clock,
    contract::{
        Profiles,
        sample::{self, SELLER},
    },
    daemon::{Core, open_core},
    delivery::{Settings, worker::Delivery},
    identity::PeerCertificate,
    model::{CstTime, DeviceNo},
    numbering::Limits,
    pb::v1,
    pipeline::{Pipeline, PlatformApi as _},
    refusal::Refusal,
    registry::KeyHash,
    secret::Secret,
    signer::{Backend, ProxyNumbered, Signed, SignerError},
    store::{Claim, Durable, embedded::Options},
    tasks,
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use v1::outcome::Result as Wire;

/// A device that signs nothing.
struct Mute;

impl ProxyNumbered for Mute {
    fn sign(&mut self, _: &Durable<Claim>) -> Result<Signed, SignerError> {
        Err(SignerError::Unavailable { device: "D".into(), detail: "it is mute".into() })
    }
}

struct House {
    core: Arc<Core>,
    pipeline: Pipeline,
    socket: String,
    end: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

fn peer() -> PeerCertificate {
    let not_after = CstTime::from_unix(4_000_000_000).unwrap();
    PeerCertificate { key: KeyHash([1; 32]), not_after, subject: "CN=test".into() }
}

/// Delivers to nobody: there is no route.
fn nobody(core: &Arc<Core>) -> admin::Parts {
    let ca = Ca::new("nobody's CA");
    let tls = tls_of(&ca.pem(), &ca.issue("nobody", 2090));
    let (interval, monitor_every) = (Duration::from_secs(1), Duration::from_secs(60));
    let settings = Settings { batch_max: 100, interval, in_flight: 1, monitor_every };
    let stop = tokio::sync::watch::channel(false).1;
    let parts = (core.numbering.clone(), Arc::clone(&core.finisher));
    let delivery = Delivery::new(parts, (tls, Clock::system()), settings, Vec::new(), stop);
    admin::Parts { core: Arc::clone(core), delivery }
}

impl House {
    async fn open(dir: &Path) -> Self {
        let clock = Clock::system();
        let options = Options { reserve_bytes: 0, ..Options::in_dir(&dir.join("data")) };
        let passphrase = Secret::new("only a test".to_owned());
        let (limits, profiles) = (Limits::default(), Profiles::embedded());
        let core = open_core(&options, &passphrase, limits, &clock, profiles).await.unwrap();
        let core = Arc::new(core);
        let pipeline = Pipeline {
            numbering: core.numbering.clone(),
            profiles: core.profiles.clone(),
            admission: Admission::new(100),
            clock,
        };
        let socket = dir.join("admin.sock");
        let listener = admin::bind(&socket).unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let stop = async move { drop(ended.await) };
        let serving = tasks::spawn_detached(admin::serve(listener, nobody(&core), stop));
        Self { core, pipeline, socket: socket.display().to_string(), end, serving }
    }

    async fn operate(&self, words: &str) -> Ran {
        line(&format!("{words} --format json --socket {}", self.socket)).await
    }

    async fn register(&self) {
        for words in registration("", "00000009") {
            let ran = self.operate(&words).await;
            assert_eq!(ran.code, Some(0), "{words}: {ran:?}");
        }
        let bind = |round: &mut skproxy::numbering::Round<'_>| {
            round.add_certificate("test", "P", (peer().key, peer().not_after))
        };
        self.core.numbering.change(bind).await.unwrap();
    }

    fn mute(&self) {
        self.core.finisher.pool().add_device(DeviceNo(1), Backend::Proxy(Box::new(Mute)), 16);
    }

    async fn issue(&self, serial: &str) -> Result<Wire, Refusal> {
        self.issue_within(BOUND, serial).await
    }

    async fn issue_within(&self, deadline: Duration, serial: &str) -> Result<Wire, Refusal> {
        let draft = Some(sample::draft(serial, SELLER));
        let outcome = self.pipeline.issue(Some(peer()), deadline, draft).await?;
        Ok(outcome.result.unwrap())
    }

    async fn close(self) {
        drop(self.end);
        self.serving.await.unwrap();
        drop(self.pipeline);
        let core = Arc::into_inner(self.core).expect("nobody else is left");
        let ended = tokio::task::spawn_blocking(move || {
            core.finisher.end();
            core.numbering.stop();
        });
        ended.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_voids_the_number_of_a_claim_that_nobody_signs() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path()).await;
    house.register().await;
    house.mute();
    let answer = house.issue_within(Duration::from_secs(2), "S1").await;
    assert!(matches!(answer.unwrap(), Wire::InDoubt(_)));
    let open = house.operate("invoice open").await.json();
    let claim = &open["claims"][0];
    assert_eq!((&claim["claim_id"], &claim["number"]), (&"1".into(), &"00000001".into()), "{open}");

    let plan = house.operate("invoice blank-void --claim 1 --reason misprint").await;
    assert_eq!(plan.code, Some(2), "{plan:?}");
    // Refused for the moment in which the device is at it.
    let mut tries = 0;
    let voided = loop {
        let ran = house.operate("invoice blank-void --claim 1 --reason misprint --yes").await;
        if ran.code == Some(0) {
            break ran.json();
        }
        assert_eq!(ran.json()["refused"]["reason"], "VOID_NOT_ALLOWED", "{ran:?}");
        tries += 1;
        assert!(tries < 100, "{ran:?}");
    };
    assert_eq!(voided["voided"]["number"], "00000001", "{voided}");
    let Wire::Voided(told) = house.issue("S1").await.unwrap() else { panic!("it is VOIDED") };
    assert_eq!((told.number.as_str(), told.reason.as_str()), ("00000001", "misprint"));
    assert_eq!(house.operate("invoice open").await.json()["claims"], serde_json::json!([]));

    house.core.load_device(house.core.numbering.registry().devices[&DeviceNo(1)].as_ref()).unwrap();
    let Wire::Issued(next) = house.issue("S2").await.unwrap() else { panic!("it is ISSUED") };
    assert_eq!(next.invoice.unwrap().number, "00000002", "a voided number is not given out again");
    house.close().await;
    let found = verified(&dir.path().join("data")).await;
    assert_eq!((&found["issued"], &found["voided"]), (&1.into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_there_closes_its_series_and_spends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path()).await;
    house.register().await;
    house.core.finisher.pool().remove_device(DeviceNo(1));
    let refused = house.issue("S1").await.unwrap_err();
    assert_eq!(refused.reason.name(), "DEVICE_UNAVAILABLE", "{refused}");
    house.core.load_device(house.core.numbering.registry().devices[&DeviceNo(1)].as_ref()).unwrap();
    let Wire::Issued(issued) = house.issue("S1").await.unwrap() else { panic!("it is ISSUED") };
    assert_eq!(issued.invoice.unwrap().number, "00000001");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_acceptance_side_holds_is_a_mismatch_and_one_incident_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::open(dir.path()).await;
    house.register().await;
    let window = "report compare --from 2020-01-01T00:00:00+08:00 --until";
    let all = format!("{window} 2099-01-01T00:00:00+08:00");
    let empty = house.operate(&all).await;
    assert_eq!((empty.code, &empty.json()["mismatches"]), (Some(0), &serde_json::json!([])));
    for serial in ["S1", "S2"] {
        let draft = Some(sample::draft(serial, SELLER));
        let issued = house.pipeline.issue(Some(peer()), BOUND, draft).await;
        assert!(matches!(issued.unwrap().result.unwrap(), Wire::Issued(_)));
    }
    // Without a route nothing is delivered: the other side holds nothing.
    let found = house.operate(&all).await;
    assert_eq!(found.code, Some(1), "{found:?}");
    let found = found.json();
    assert_eq!(found["refused"]["reason"], "RECONCILE_MISMATCH", "{found}");
    let mismatches = found["mismatches"].as_array().unwrap();
    assert_eq!(mismatches.len(), 2, "{found}");
    for (mismatch, number) in mismatches.iter().zip(["00000001", "00000002"]) {
        assert_eq!(mismatch["reason"], "MISMATCH_REASON_ONLY_HERE_UNDELIVERED", "{mismatch}");
        assert_eq!((&mismatch["number"], &mismatch["route"]), (&number.into(), &"44".into()));
    }
    let sides = found["sides"].as_array().unwrap();
    assert_eq!((sides.len(), &sides[0]["mismatches"]), (2, &"0".into()), "the meter is right");
    let before = house.operate(&format!("{window} 2020-01-02T00:00:00+08:00 --full")).await;
    assert_eq!(before.code, Some(0), "{before:?}");
    let refused = house.operate(&format!("{all} --platform P")).await;
    assert_eq!(refused.json()["refused"]["reason"], "FIELD_INVALID", "{refused:?}");
    house.close().await;
    let books = rusqlite::Connection::open(dir.path().join("data/books.db")).unwrap();
    let incidents: Vec<String> = books
        .prepare("SELECT text FROM incident")
        .and_then(|mut all| all.query_map([], |row| row.get(0))?.collect())
        .unwrap();
    let [incident] = incidents.as_slice() else { panic!("{incidents:?}") };
    assert!(incident.ends_with("found 2 differences"), "{incident}");
    verified(&dir.path().join("data")).await;
}
