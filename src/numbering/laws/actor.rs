//! The actor around the core: who is told what, and when. The signers sign nothing, so that each
//! test says itself when a claim is signed.

use super::{
    turn::{key, signed},
    world::{self, World},
};
use crate::{
    clock::Clock,
    contract::Checked,
    model::{DeviceNo, DeviceSerial, InvoiceNumber, Kind},
    numbering::{
        Assigned, Completions, Limits, Numbering, Outcome, Parts, Told, Wait, finisher::Finisher,
        work::Work,
    },
    refusal::{Reason, Refusal},
    signer::{Backend, DeviceAnswer, DeviceNumbered, ProxyNumbered, Signed, SignerError, Threads},
    store::{
        Claim, Durable,
        embedded::{self, Options},
        memory::MemoryStore,
    },
};
use std::{sync::mpsc, time::Duration};
use tokio::sync::oneshot;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A backend that is not there: it takes claims and signs none.
struct Absent;

fn absent<T>() -> Result<T, SignerError> {
    Err(SignerError::Unavailable { device: "D".into(), detail: "a test".into() })
}

impl ProxyNumbered for Absent {
    fn sign(&mut self, _: &Durable<Claim>) -> Result<Signed, SignerError> {
        absent()
    }
}

impl DeviceNumbered for Absent {
    fn next_number(&mut self, _: Kind) -> Result<Option<InvoiceNumber>, SignerError> {
        absent()
    }

    fn issue(&mut self, _: &Durable<Claim>) -> Result<DeviceAnswer, SignerError> {
        absent()
    }

    fn query(&mut self, _: Kind, _: &DeviceSerial) -> Result<Option<DeviceAnswer>, SignerError> {
        absent()
    }

    fn quiescence(&self) -> Duration {
        Duration::ZERO
    }
}

struct Running {
    numbering: Numbering,
    completions: Completions,
    store: MemoryStore,
    _books: tempfile::TempDir,
}

fn running() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let books = embedded::open(&Options::in_dir(folder.path())).unwrap().books;
    let store = World::new().store;
    let clock = Clock::system();
    let parts = Parts {
        store: store.clone(),
        books,
        loaded: store.load().unwrap(),
        limits: Limits::default(),
        clock: clock.clone(),
        read_only: None,
        profiles: std::sync::Arc::default(),
    };
    let mut way_back = None;
    let (numbering, finisher) = Numbering::start(parts, |completions| {
        way_back = Some(completions.clone());
        Finisher::new(completions, clock, Threads { software: 1, devices_max: 64 })
    })
    .unwrap();
    finisher.pool().add_device(DeviceNo(1), Backend::Proxy(Box::new(Absent)), 9);
    finisher.pool().add_device(DeviceNo(3), Backend::Device(Box::new(Absent)), 9);
    Running { numbering, completions: way_back.unwrap(), store, _books: folder }
}

fn checked(serial: usize) -> Checked {
    world::checked(serial, 0, 0)
}

impl Running {
    async fn assign(&self, serial: usize) -> Wait {
        match self.numbering.assign(checked(serial), LONG).await {
            Ok(Assigned::Wait(wait)) => wait,
            other => panic!("{other:?}"),
        }
    }

    /// Another hold on the oldest open claim.
    fn open(&self) -> Durable<Claim> {
        self.store.load().unwrap().open.remove(0)
    }
}

async fn within(answer: oneshot::Receiver<Result<Assigned, Refusal>>) -> Result<Assigned, Refusal> {
    tokio::time::timeout(LONG, answer).await.unwrap().unwrap()
}

fn is_issued(told: &Told) -> bool {
    matches!(told, Ok(Outcome::Issued(_)))
}

#[tokio::test]
async fn a_twin_waits_for_the_first_and_both_hear_the_same_bytes_after_the_commit() {
    let running = running();
    let (first, twin) = (running.assign(0).await, running.assign(0).await);
    assert_eq!(running.store.load().unwrap().open.len(), 1);
    running.completions.signed(running.open(), signed("1"));
    let (first, twin) = (first.within(LONG).await, twin.within(LONG).await);
    assert!(is_issued(&first), "{first:?}");
    assert_eq!(first, twin);
    assert!(running.store.load().unwrap().open.is_empty(), "told before it was committed");
}

#[tokio::test]
async fn whoever_hangs_up_before_its_turn_spends_nothing() {
    let running = running();
    let (reply, answer) = oneshot::channel();
    drop(answer);
    running.numbering.send(Work::Assign { checked: Box::new(checked(0)), reply }).unwrap();
    running.numbering.change(|_| Ok(())).await.unwrap();
    assert_eq!(running.store.disk().claim_ids().count(), 0);
}

#[tokio::test]
async fn a_signature_waits_for_space_and_a_twin_for_the_signature() {
    let running = running();
    let first = running.assign(0).await;
    running.store.disk().full_commits = u32::MAX;
    running.completions.signed(running.open(), signed("1"));
    let refused = running.numbering.assign(checked(1), LONG).await.unwrap_err();
    assert_eq!(refused.reason, Reason::StoreFull);
    let twin = running.assign(0).await;
    running.store.disk().full_commits = 0;
    assert!(is_issued(&first.within(LONG).await));
    assert!(is_issued(&twin.within(LONG).await));
    assert_eq!(running.store.disk().claim_ids().count(), 1, "the refused one spent nothing");
}

#[tokio::test]
async fn a_full_disk_does_not_hold_up_the_end() {
    let running = running();
    drop(running.assign(0).await);
    running.store.disk().full_commits = u32::MAX;
    running.completions.signed(running.open(), signed("1"));
    let (done, ended) = mpsc::sync_channel(1);
    let numbering = running.numbering.clone();
    std::thread::spawn(move || {
        numbering.stop();
        done.send(()).unwrap();
    });
    assert!(ended.recv_timeout(LONG).is_ok(), "the end waits for space");
    assert_eq!(running.store.load().unwrap().open.len(), 1, "the next start signs it");
}

#[tokio::test]
async fn requests_for_a_busy_device_go_on_in_order_and_without_those_who_left() {
    let running = running();
    let next = Some(world::number(2, 30));
    running.completions.device_next(DeviceNo(3), Kind::ENormal, next.clone());
    let send = |serial| {
        let (reply, answer) = oneshot::channel();
        let checked = Box::new(world::checked(serial, 0, world::DRAWN));
        running.numbering.send(Work::Assign { checked, reply }).unwrap();
        answer
    };
    let first = match within(send(0)).await {
        Ok(Assigned::Wait(wait)) => wait,
        other => panic!("{other:?}"),
    };
    let (left, second, third) = (send(1), send(2), send(3));
    running.numbering.change(|_| Ok(())).await.unwrap();
    drop(left);
    assert_eq!(running.store.disk().claim_ids().count(), 1, "one open claim per device and kind");
    running.completions.nothing_issued(running.open(), next.clone());
    assert_eq!(first.within(LONG).await.unwrap_err().reason, Reason::NotIssued);
    assert!(matches!(within(second).await, Ok(Assigned::Wait(_))));
    assert_eq!(running.open().request, key(0, 2));
    running.completions.nothing_issued(running.open(), next);
    assert!(matches!(within(third).await, Ok(Assigned::Wait(_))));
    assert_eq!(running.open().request, key(0, 3));
    assert_eq!(running.store.disk().claim_ids().count(), 3);
}
