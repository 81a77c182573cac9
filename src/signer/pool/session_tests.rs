//! The pool's sessions: opened, evicted by class of error, replaced, and never asked whether they
//! live.

use super::{
    tests::{BOUND, Gate, Inbox, is_usable, sign, signed},
    *,
};
use crate::signer::ProxyNumbered;
use std::sync::atomic::{AtomicUsize, Ordering};

const D1: DeviceNo = DeviceNo(1);

/// A device of a test: what its next jobs and openings end in.
#[derive(Default)]
struct Rig {
    opened: AtomicUsize,
    closed: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    jobs: Mutex<VecDeque<SignerError>>,
    openings: Mutex<VecDeque<SignerError>>,
    gate: Mutex<Option<Arc<Gate>>>,
}

struct RigSource(Arc<Rig>);
struct RigSession(Arc<Rig>);

impl Source for RigSource {
    fn open(&self) -> Result<Backend, SignerError> {
        let error = self.0.openings.lock().unwrap().pop_front();
        if let Some(error) = error {
            assert!(!error.to_string().contains("panic"), "made-up panic of a source");
            return Err(error);
        }
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Backend::Proxy(Box::new(RigSession(Arc::clone(&self.0)))))
    }
}

impl ProxyNumbered for RigSession {
    fn sign(&mut self, _: &Durable<Claim>) -> Result<Signed, SignerError> {
        let running = self.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_running.fetch_max(running, Ordering::SeqCst);
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.pass();
        }
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        let error = self.0.jobs.lock().unwrap().pop_front();
        error.map_or_else(|| Ok(signed()), Err)
    }
}

impl Drop for RigSession {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::SeqCst);
    }
}

impl Rig {
    fn attach(self: &Arc<Self>, pool: &Pool, device: DeviceNo, sessions_max: usize) {
        let source: Arc<dyn Source> = Arc::new(RigSource(Arc::clone(self)));
        let (sessions, source) = (Vec::new(), Some(source));
        pool.attach(device, Setup { sessions, source, sessions_max, queue_len_max: 64 });
    }

    fn count(&self) -> (usize, usize) {
        (self.opened.load(Ordering::SeqCst), self.closed.load(Ordering::SeqCst))
    }
}

type Class = fn(&str) -> SignerError;

fn unavailable(detail: &str) -> SignerError {
    SignerError::Unavailable { device: "D1".into(), detail: detail.into() }
}

fn lost(detail: &str) -> SignerError {
    SignerError::SessionLost { device: "D1".into(), detail: detail.into() }
}

fn pin(detail: &str) -> SignerError {
    SignerError::Pin { device: "D1".into(), detail: detail.into() }
}

fn in_doubt(detail: &str) -> SignerError {
    SignerError::InDoubt { device: "D1".into(), detail: detail.into() }
}

fn refused(detail: &str) -> SignerError {
    SignerError::Refused { device: "D1".into(), detail: detail.into() }
}

fn invalid(detail: &str) -> SignerError {
    SignerError::AnswerInvalid { device: "D1".into(), detail: detail.into() }
}

/// Ticks the pool until it is so.
#[track_caller]
fn until(pool: &Pool, mut is_so: impl FnMut(&Pool) -> bool) {
    let begun = monotonic();
    while !is_so(pool) {
        assert!(begun.elapsed() < BOUND, "{:?}", pool.report(D1));
        pool.tick();
        thread::yield_now();
    }
}

fn sessions(pool: &Pool) -> usize {
    pool.report(D1).map_or(0, |report| report.sessions)
}

fn setup(sessions_max: usize) -> (Arc<Inbox>, Arc<Rig>, Pool) {
    let (inbox, rig) = (Arc::new(Inbox::default()), Arc::new(Rig::default()));
    let pool = inbox.pool(1);
    rig.attach(&pool, D1, sessions_max);
    until(&pool, |pool| sessions(pool) == sessions_max);
    (inbox, rig, pool)
}

#[test]
fn a_device_runs_as_many_jobs_at_once_as_it_has_sessions() {
    let (inbox, rig, pool) = setup(4);
    let gate = Arc::new(Gate::default());
    *rig.gate.lock().unwrap() = Some(Arc::clone(&gate));
    for number in 1..=9 {
        pool.submit(sign(1, number)).unwrap();
    }
    until(&pool, |_| rig.running.load(Ordering::SeqCst) == 4);
    gate.open();
    inbox.take(9);
    assert_eq!(rig.most_running.load(Ordering::SeqCst), 4);
    drop(pool);
    assert_eq!(rig.count(), (4, 4), "every session that was opened is closed");
}

#[test]
fn what_an_error_does_to_session_and_device_follows_from_its_class() {
    let table: [(Class, usize, bool); 6] = [
        (unavailable, 0, true),
        (lost, 1, true),
        (in_doubt, 1, true),
        (refused, 0, true),
        (invalid, 0, true),
        (pin, 2, false),
    ];
    for (class, closed, is_usable_after) in table {
        let (inbox, rig, pool) = setup(2);
        rig.jobs.lock().unwrap().push_back(class("made up"));
        pool.submit(sign(1, 1)).unwrap();
        inbox.take(1);
        let name = class("made up").to_string();
        assert_eq!(rig.count().1, closed, "{name}");
        if is_usable_after {
            until(&pool, |pool| sessions(pool) == 2);
            assert!(is_usable(&pool, D1), "{name}");
            pool.submit(sign(1, 2)).unwrap();
            assert!(matches!(inbox.take(1)[0], Finished::Signed { .. }), "{name}");
        } else {
            pool.tick();
            let report = pool.report(D1).unwrap();
            assert!(report.stopped && report.sessions == 0, "{report:?}");
            assert!(matches!(report.takes, Takes::No { retry_after: None, .. }), "{report:?}");
            assert!(pool.submit(sign(1, 2)).is_err());
            assert_eq!(rig.count().0, 2, "no session is opened after a PIN error");
        }
    }
}

#[test]
fn a_device_that_cannot_be_opened_takes_nothing_and_comes_back_by_itself() {
    let classes: [Class; 2] = [unavailable, |_| unavailable("panic")];
    for class in classes {
        let (inbox, rig) = (Arc::new(Inbox::default()), Arc::new(Rig::default()));
        let pool = inbox.pool(1);
        rig.openings.lock().unwrap().extend([class("absent"), class("absent"), class("absent")]);
        rig.attach(&pool, D1, 3);
        until(&pool, |pool| sessions(pool) == 3);
        assert!(is_usable(&pool, D1));
        pool.submit(sign(1, 1)).unwrap();
        assert!(matches!(inbox.take(1)[0], Finished::Signed { .. }));
    }
}

#[test]
fn a_pin_error_at_the_opening_stops_the_device() {
    let (inbox, rig) = (Arc::new(Inbox::default()), Arc::new(Rig::default()));
    let pool = inbox.pool(1);
    rig.openings.lock().unwrap().push_back(pin("two tries are left"));
    rig.attach(&pool, D1, 1);
    until(&pool, |pool| pool.report(D1).is_some_and(|report| report.stopped));
    let Takes::No { detail, retry_after: None } = pool.takes(D1) else { panic!("it takes") };
    assert!(detail.contains("two tries are left"), "{detail}");
    rig.attach(&pool, D1, 1);
    until(&pool, |pool| is_usable(pool, D1));
}

/// So many sessions fail at once that the pause is the longest: this test ends within it on any
/// machine.
#[test]
fn a_device_that_failed_is_shut_for_a_pause_and_says_why() {
    const FAILURES: usize = 12;
    let (inbox, rig, pool) = setup(FAILURES);
    let gate = Arc::new(Gate::default());
    *rig.gate.lock().unwrap() = Some(Arc::clone(&gate));
    rig.jobs.lock().unwrap().extend((0..FAILURES).map(|_| unavailable("its cable is broken")));
    for number in 1..=12 {
        pool.submit(sign(1, number)).unwrap();
    }
    until(&pool, |_| rig.running.load(Ordering::SeqCst) == FAILURES);
    gate.open();
    let results = inbox.take(FAILURES);
    assert!(results.iter().all(|result| matches!(result, Finished::Failed { .. })), "{results:?}");
    let Takes::No { detail, retry_after: Some(_) } = pool.takes(D1) else { panic!("it takes") };
    assert!(detail.contains("its cable is broken"), "{detail}");
    assert!(pool.submit(sign(1, 13)).is_err(), "shut");
}

#[test]
fn after_three_failures_one_job_is_tried_and_its_success_opens_the_device() {
    let (inbox, rig, pool) = setup(2);
    rig.jobs.lock().unwrap().extend([unavailable("1"), unavailable("2"), unavailable("3")]);
    for number in 1..=3 {
        pool.submit(sign(1, number)).unwrap();
        assert!(matches!(inbox.take(1)[0], Finished::Failed { .. }));
    }
    until(&pool, |pool| is_usable(pool, D1));
    let gate = Arc::new(Gate::default());
    *rig.gate.lock().unwrap() = Some(Arc::clone(&gate));
    pool.submit(sign(1, 5)).unwrap();
    assert!(pool.submit(sign(1, 6)).is_err() && !is_usable(&pool, D1), "one at a time");
    gate.open();
    assert!(matches!(inbox.take(1)[0], Finished::Signed { .. }));
    until(&pool, |pool| is_usable(pool, D1));
    for number in 7..=9 {
        pool.submit(sign(1, number)).unwrap();
    }
    inbox.take(3);
}

#[test]
fn jobs_that_wait_for_a_device_without_sessions_come_back() {
    let (inbox, rig, pool) = setup(1);
    let gate = Arc::new(Gate::default());
    *rig.gate.lock().unwrap() = Some(Arc::clone(&gate));
    rig.jobs.lock().unwrap().push_back(lost("the token was pulled"));
    rig.openings.lock().unwrap().push_back(unavailable("no token"));
    for number in 1..=5 {
        pool.submit(sign(1, number)).unwrap();
    }
    gate.wait_until_entered();
    gate.open();
    let results = inbox.take(5);
    assert!(results.iter().all(|result| matches!(result, Finished::Failed { .. })), "{results:?}");
    until(&pool, |pool| sessions(pool) == 1);
    drop(pool);
    assert_eq!(rig.count(), (2, 2));
}

#[test]
fn stalled_devices_hold_up_nobody_else() {
    let inbox = Arc::new(Inbox::default());
    let pool = inbox.pool(1);
    let gate = Arc::new(Gate::default());
    let stalled = Arc::new(Rig::default());
    *stalled.gate.lock().unwrap() = Some(Arc::clone(&gate));
    stalled.attach(&pool, D1, 8);
    until(&pool, |pool| sessions(pool) == 8);
    let rigs: Vec<_> = (2..=30)
        .map(|device| {
            let rig = Arc::new(Rig::default());
            rig.attach(&pool, DeviceNo(device), 1);
            until(&pool, |pool| is_usable(pool, DeviceNo(device)));
            rig
        })
        .collect();
    for number in 1..=40 {
        pool.submit(sign(1, number)).unwrap();
    }
    for device in 2..=30 {
        pool.submit(sign(device, 1)).unwrap();
    }
    let results = inbox.take(29);
    assert!(results.iter().all(|result| matches!(result, Finished::Signed { claim, .. }
        if claim.device != D1)));
    assert_eq!(rigs.len(), 29);
    gate.open();
    inbox.take(40);
}

#[test]
fn a_device_tells_how_long_a_job_would_wait() {
    let (inbox, rig, pool) = setup(2);
    let gate = Arc::new(Gate::default());
    *rig.gate.lock().unwrap() = Some(Arc::clone(&gate));
    pool.submit(sign(1, 1)).unwrap();
    gate.wait_until_entered();
    gate.open();
    inbox.take(1);
    until(&pool, |pool| pool.report(D1).is_some_and(|report| report.jobs == 0));
    let mean = pool.report(D1).unwrap().mean;
    assert!(mean > Duration::ZERO);
    let shut = Arc::new(Gate::default());
    *rig.gate.lock().unwrap() = Some(Arc::clone(&shut));
    for number in 2..=9 {
        pool.submit(sign(1, number)).unwrap();
    }
    assert_eq!(pool.takes(D1), Takes::Yes { wait: mean * 8 / 2 });
    shut.open();
    inbox.take(8);
}
