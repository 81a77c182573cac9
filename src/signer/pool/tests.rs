//! The pool with made-up backends: gates that hold a thread, panics, and counts of what comes back.

use super::*;
use crate::{
    model::DeviceSerial,
    pb::v1 as pb,
    signer::{DeviceNumbered, ProxyNumbered, fixtures},
};
use std::collections::BTreeMap;

pub(super) const BOUND: Duration = Duration::from_secs(60);

/// Collects results and waits for a number of them.
#[derive(Default)]
pub(super) struct Inbox {
    results: Mutex<Vec<Finished>>,
    arrived: std::sync::Condvar,
}

impl Inbox {
    pub(super) fn pool(self: &Arc<Self>, threads: usize) -> Pool {
        let inbox = Arc::clone(self);
        Pool::new(
            Threads { software: threads, devices_max: 64 },
            Arc::new(move |finished| {
                inbox.results.lock().unwrap().push(finished);
                inbox.arrived.notify_all();
            }),
        )
    }

    /// The results so far, once there are `count`.
    #[track_caller]
    pub(super) fn take(&self, count: usize) -> Vec<Finished> {
        let results = self.results.lock().unwrap();
        let (mut results, wait) =
            self.arrived.wait_timeout_while(results, BOUND, |all| all.len() < count).unwrap();
        assert!(!wait.timed_out(), "{} of {count} results came", results.len());
        std::mem::take(&mut results)
    }
}

/// Holds a backend's call until it is opened.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<(bool, bool)>, // entered, open
    changed: std::sync::Condvar,
}

impl Gate {
    pub(super) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        let (_state, wait) =
            self.changed.wait_timeout_while(state, BOUND, |state| !state.1).unwrap();
        assert!(!wait.timed_out(), "nobody opened the gate");
    }

    pub(super) fn wait_until_entered(&self) {
        let state = self.state.lock().unwrap();
        let (_state, wait) =
            self.changed.wait_timeout_while(state, BOUND, |state| !state.0).unwrap();
        assert!(!wait.timed_out(), "nobody came to the gate");
    }

    pub(super) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

pub(super) fn signed() -> Signed {
    Signed {
        check_code: String::new(),
        cipher_text: String::new(),
        qr_text: String::new(),
        algorithm: pb::SignatureAlgorithm::EcdsaP256Sha256,
        signature: vec![1],
        signer_key: [0; 32],
    }
}

fn number(number: u32) -> InvoiceNumber {
    InvoiceNumber { code: fixtures::CODE.into(), number }
}

/// Signs at once, but panics at one number.
struct Signer {
    panics_at: u32,
}

impl ProxyNumbered for Signer {
    fn sign(&mut self, claim: &Durable<Claim>) -> Result<Signed, SignerError> {
        assert_ne!(claim.id.0, i64::from(self.panics_at), "made-up panic of a backend");
        Ok(signed())
    }
}

struct GatedSigner(Arc<Gate>);

impl ProxyNumbered for GatedSigner {
    fn sign(&mut self, _: &Durable<Claim>) -> Result<Signed, SignerError> {
        self.0.pass();
        Ok(signed())
    }
}

/// Draws numbers; what it does is set by its fields.
#[derive(Default)]
struct Device {
    gate: Option<Arc<Gate>>,
    panics: bool,
    issued: Option<DeviceAnswer>,
    fails: bool,
}

impl Device {
    fn call(&self) -> Result<(), SignerError> {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        assert!(!self.panics, "made-up panic of a device");
        let error = SignerError::Unavailable { device: "1".into(), detail: "gone".into() };
        if self.fails { Err(error) } else { Ok(()) }
    }
}

fn answer() -> DeviceAnswer {
    DeviceAnswer {
        device_serial: DeviceSerial("S".into()),
        kind: Kind::ENormal,
        buyer_taxpayer_id: String::new(),
        buyer_name: String::new(),
        totals: crate::model::Totals::default(),
        number: number(1),
        issue_time: crate::model::CstTime::from_unix(0).unwrap(),
        signed: signed(),
        next: Some(number(2)),
    }
}

impl DeviceNumbered for Device {
    fn next_number(&mut self, _: Kind) -> Result<Option<InvoiceNumber>, SignerError> {
        self.call()?;
        Ok(Some(number(7)))
    }

    fn issue(&mut self, _: &Durable<Claim>) -> Result<DeviceAnswer, SignerError> {
        self.call()?;
        Ok(answer())
    }

    fn query(&mut self, _: Kind, _: &DeviceSerial) -> Result<Option<DeviceAnswer>, SignerError> {
        self.call()?;
        Ok(self.issued.clone())
    }

    fn quiescence(&self) -> Duration {
        Duration::from_secs(3)
    }
}

fn sound() -> Backend {
    Backend::Proxy(Box::new(Signer { panics_at: 0 }))
}

fn gated(gate: &Arc<Gate>) -> Backend {
    Backend::Proxy(Box::new(GatedSigner(Arc::clone(gate))))
}

pub(super) fn is_usable(pool: &Pool, device: DeviceNo) -> bool {
    matches!(pool.takes(device), Takes::Yes { .. })
}

pub(super) fn sign(device: i64, number: u32) -> Job {
    Job::Sign(fixtures::numbered(device, number))
}

/// (device, number, signed?) of a result about a claim.
fn outcome(finished: &Finished) -> (i64, i64, bool) {
    match finished {
        Finished::Signed { claim, .. } => (claim.device.0, claim.id.0, true),
        Finished::Failed { claim, .. } => (claim.device.0, claim.id.0, false),
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn a_busy_device_gives_way_after_one_turn() {
    let (inbox, gate) = (Arc::new(Inbox::default()), Arc::new(Gate::default()));
    let pool = inbox.pool(1);
    pool.add_device(DeviceNo(9), gated(&gate), 1);
    pool.add_device(DeviceNo(1), sound(), 1000);
    pool.add_device(DeviceNo(2), sound(), 1000);
    pool.submit(sign(9, 1)).unwrap();
    gate.wait_until_entered();
    for number in 1..=200 {
        pool.submit(sign(1, number)).unwrap();
    }
    pool.submit(sign(2, 1)).unwrap();
    gate.open();
    let order: Vec<_> = inbox.take(202).iter().map(outcome).collect();
    assert_eq!(order.iter().position(|&(device, ..)| device == 2), Some(1 + JOBS_PER_TURN));
    let of_busy: Vec<i64> =
        order.iter().filter(|&&(device, ..)| device == 1).map(|&(_, id, _)| id).collect();
    assert!(of_busy.is_sorted(), "a device's jobs run in the order given");
}

#[test]
fn a_hung_device_holds_up_nobody_else() {
    let (inbox, gate) = (Arc::new(Inbox::default()), Arc::new(Gate::default()));
    let pool = inbox.pool(1);
    let hung = Device { gate: Some(Arc::clone(&gate)), ..Device::default() };
    pool.add_device(DeviceNo(1), Backend::Device(Box::new(hung)), 1);
    pool.add_device(DeviceNo(2), sound(), 1);
    pool.add_device(DeviceNo(3), Backend::Device(Box::new(Device::default())), 1);
    pool.submit(Job::Issue(fixtures::by_device(1, 1))).unwrap();
    gate.wait_until_entered();
    pool.submit(sign(2, 1)).unwrap();
    assert!(matches!(inbox.take(1)[0], Finished::Signed { .. }));
    pool.submit(Job::Issue(fixtures::by_device(3, 1))).unwrap();
    assert!(matches!(inbox.take(1)[0], Finished::DeviceIssued { .. }));
    gate.open();
    assert!(matches!(inbox.take(1)[0], Finished::DeviceIssued { .. }));
}

#[test]
fn after_a_panic_every_claim_comes_back_and_the_device_is_unusable() {
    let (inbox, gate) = (Arc::new(Inbox::default()), Arc::new(Gate::default()));
    let pool = inbox.pool(1);
    pool.add_device(DeviceNo(9), gated(&gate), 1);
    pool.add_device(DeviceNo(1), Backend::Proxy(Box::new(Signer { panics_at: 3 })), 100);
    pool.add_device(DeviceNo(2), sound(), 100);
    pool.submit(sign(9, 1)).unwrap();
    gate.wait_until_entered();
    let last = u32::try_from(JOBS_PER_TURN).unwrap() + 8; // more than the turn that panics
    for number in 1..=last {
        pool.submit(sign(1, number)).unwrap();
    }
    gate.open();
    let results = inbox.take(usize::try_from(last).unwrap() + 1);
    let outcomes: Vec<_> = results.iter().map(outcome).skip(1).collect();
    let expect: Vec<_> = (1..=i64::from(last)).map(|number| (1, number, number < 3)).collect();
    assert_eq!(outcomes, expect);
    assert!(!is_usable(&pool, DeviceNo(1)));
    assert!(matches!(pool.submit(sign(1, 99)), Err(Job::Sign(claim)) if claim.id.0 == 99));
    pool.submit(sign(2, 1)).unwrap();
    assert_eq!(outcome(&inbox.take(1)[0]), (2, 1, true), "the thread lives on");
    pool.add_device(DeviceNo(1), sound(), 1);
    pool.submit(sign(1, 4)).unwrap();
    assert_eq!(outcome(&inbox.take(1)[0]), (1, 4, true), "a new backend may take its place");
}

#[test]
fn a_panic_while_issuing_leaves_the_claim_in_doubt() {
    for (job, in_doubt) in [
        (Job::Issue(fixtures::by_device(1, 1)), true),
        (Job::Query(fixtures::by_device(1, 1)), false),
        (Job::Next { device: DeviceNo(1), kind: Kind::ENormal }, false),
    ] {
        let inbox = Arc::new(Inbox::default());
        let pool = inbox.pool(1);
        let device = Device { panics: true, ..Device::default() };
        pool.add_device(DeviceNo(1), Backend::Device(Box::new(device)), 1);
        pool.submit(job).unwrap();
        match inbox.take(1).remove(0) {
            Finished::Failed { error: SignerError::InDoubt { .. }, .. } => assert!(in_doubt),
            Finished::QueryFailed { error: SignerError::Unavailable { .. }, .. }
            | Finished::NextFailed { error: SignerError::Unavailable { .. }, .. } => {
                assert!(!in_doubt);
            }
            other => panic!("unexpected {other:?}"),
        }
        assert!(!is_usable(&pool, DeviceNo(1)));
    }
}

#[test]
fn a_query_tells_issued_from_nothing_and_from_no_answer() {
    let check = |device: Device, expect: &str| {
        let inbox = Arc::new(Inbox::default());
        let pool = inbox.pool(1);
        pool.add_device(DeviceNo(1), Backend::Device(Box::new(device)), 1);
        pool.submit(Job::Query(fixtures::by_device(1, 1))).unwrap();
        let found = match inbox.take(1).remove(0) {
            Finished::DeviceIssued { .. } => "issued".to_owned(),
            Finished::NothingIssued { next, quiescence, .. } => {
                format!("nothing, next {}, after {quiescence:?}", next.unwrap().number)
            }
            Finished::QueryFailed { .. } => "failed".to_owned(),
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!(found, expect);
    };
    check(Device { issued: Some(answer()), ..Device::default() }, "issued");
    check(Device::default(), "nothing, next 7, after 3s");
    check(Device { fails: true, ..Device::default() }, "failed");
}

#[test]
fn a_job_that_the_backend_cannot_do_is_refused() {
    let inbox = Arc::new(Inbox::default());
    let pool = inbox.pool(1);
    pool.add_device(DeviceNo(1), sound(), 10);
    pool.add_device(DeviceNo(2), Backend::Device(Box::new(Device::default())), 10);
    for job in [
        Job::Issue(fixtures::by_device(1, 1)),
        Job::Query(fixtures::by_device(1, 1)),
        Job::Query(fixtures::numbered(2, 1)),
        Job::Next { device: DeviceNo(1), kind: Kind::ENormal },
        sign(2, 1),
    ] {
        pool.submit(job).unwrap();
        let (Finished::Failed { error, .. }
        | Finished::QueryFailed { error, .. }
        | Finished::NextFailed { error, .. }) = inbox.take(1).remove(0)
        else {
            panic!("it was done");
        };
        assert!(matches!(error, SignerError::Refused { .. }), "{error}");
    }
}

#[test]
fn a_full_queue_and_an_unknown_device_give_the_job_back() {
    let (inbox, gate) = (Arc::new(Inbox::default()), Arc::new(Gate::default()));
    let pool = inbox.pool(1);
    pool.add_device(DeviceNo(1), gated(&gate), 2);
    pool.submit(sign(1, 1)).unwrap();
    gate.wait_until_entered(); // the first is in hand, not in the queue
    pool.submit(sign(1, 2)).unwrap();
    pool.submit(sign(1, 3)).unwrap();
    assert!(matches!(pool.submit(sign(1, 4)), Err(Job::Sign(claim)) if claim.id.0 == 4));
    assert!(matches!(pool.submit(sign(7, 5)), Err(Job::Sign(claim)) if claim.id.0 == 5));
    assert!(is_usable(&pool, DeviceNo(1)) && !is_usable(&pool, DeviceNo(7)));
    gate.open();
    assert_eq!(inbox.take(3).len(), 3);
}

#[test]
fn removal_and_shutdown_hand_waiting_jobs_back_and_finish_the_one_in_hand() {
    for is_removed in [true, false] {
        for is_device_numbered in [true, false] {
            let (inbox, gate) = (Arc::new(Inbox::default()), Arc::new(Gate::default()));
            let pool = inbox.pool(1);
            let device = Device { gate: Some(Arc::clone(&gate)), ..Device::default() };
            let (backend, job): (_, fn(u32) -> Job) = if is_device_numbered {
                let job = |nth| Job::Issue(fixtures::by_device(1, nth));
                (Backend::Device(Box::new(device)), job)
            } else {
                (gated(&gate), |nth| sign(1, nth))
            };
            pool.add_device(DeviceNo(1), backend, 10);
            pool.submit(job(1)).unwrap();
            gate.wait_until_entered();
            for nth in 2..=4 {
                pool.submit(job(nth)).unwrap();
            }
            thread::scope(|scope| {
                let pool = &pool;
                scope.spawn(move || {
                    if is_removed {
                        pool.remove_device(DeviceNo(1));
                    }
                    pool.shutdown();
                });
                let handed_back: Vec<_> = inbox.take(3).iter().map(outcome).collect();
                assert_eq!(handed_back, [(1, 2, false), (1, 3, false), (1, 4, false)]);
                gate.open();
            });
            assert!(matches!(
                inbox.take(1)[0],
                Finished::Signed { .. } | Finished::DeviceIssued { .. }
            ));
            assert!(pool.submit(job(5)).is_err() && !is_usable(&pool, DeviceNo(1)));
            pool.add_device(DeviceNo(1), sound(), 1);
            assert!(!is_usable(&pool, DeviceNo(1)), "nothing starts after shutdown");
        }
    }
}

#[test]
fn every_job_taken_comes_back_exactly_once_whatever_happens() {
    const SUBMITTERS: u32 = 4;
    const JOBS: u32 = 600;
    let inbox = Arc::new(Inbox::default());
    let pool = inbox.pool(3);
    let backend = |device: i64| match device {
        6 => Backend::Proxy(Box::new(Signer { panics_at: 300 })),
        7 => Backend::Device(Box::new(Device::default())),
        _ => sound(),
    };
    for device in 0..8 {
        pool.add_device(DeviceNo(device), backend(device), 16);
    }
    let taken = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for submitter in 0..SUBMITTERS {
            let (pool, taken, backend) = (&pool, &taken, &backend);
            scope.spawn(move || {
                for nth in 0..JOBS {
                    let id = submitter * JOBS + nth;
                    let device = i64::from(nth % 8);
                    if pool.submit(sign(device, id)).is_ok() {
                        taken.lock().unwrap().insert(i64::from(id), 0);
                    }
                    if nth % 97 == 0 {
                        pool.add_device(DeviceNo(device), backend(device), 16);
                    }
                    if submitter == 0 && nth == JOBS - 20 {
                        pool.shutdown();
                    }
                }
            });
        }
    });
    drop(pool); // joins, so that everything has come back
    let mut taken = taken.into_inner().unwrap();
    assert!(taken.len() > 100, "{} taken", taken.len());
    for finished in inbox.results.lock().unwrap().iter() {
        let (_, id, _) = outcome(finished);
        *taken.get_mut(&id).expect("only what was taken comes back") += 1;
    }
    assert!(taken.values().all(|&count| count == 1), "{taken:?}");
}
