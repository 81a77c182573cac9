//! Runs the backends on threads, behind one bounded first-in-first-out queue per virtual device and
//! a set of sessions for each. It decides nothing about claims: what became of a job goes to
//! `results`, and whoever gave it acts on it.
//!
//! Invariants: every job taken comes back exactly once, through panics, removal and shutdown alike;
//! the jobs of a device with one session run one at a time in the order given; a device that is
//! busy or stalls never holds up the others for longer than one turn; no lock is held while a
//! backend or `results` runs; a session that died is replaced, never asked.

mod health;
mod lanes;
mod meters;
mod run;

pub use lanes::{Report, Takes};

use self::{
    health::Effect,
    lanes::{Generation, LaneNo, Lanes, Left, Ran, Task, Turn, Waiting},
    meters::Meters,
    run::End,
};
use super::{Backend, DeviceAnswer, Signed, SignerError};
use crate::{
    clock::monotonic,
    convert,
    model::{DeviceNo, InvoiceNumber, Kind},
    registry::MonitorFacts,
    store::{Claim, Durable},
};
use std::{
    collections::VecDeque,
    fmt, panic,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::oneshot;

/// Jobs of one software device in one turn; then it goes to the back. Enough to spread the cost of
/// the switch, and under 3 ms of SM2 signing.
const JOBS_PER_TURN: usize = 32;

/// Stack of a pool's thread: backends are shallow, and there may be thousands. Unit: bytes.
const STACK_BYTES: usize = 512 << 10;

/// How long a thread for devices waits for work before it ends.
const IDLE_THREAD: Duration = Duration::from_secs(30);

const REMOVED: &str = "it was removed; nothing was sent";
const PANICKED: &str = "its backend panicked before; nothing was sent";

/// Work for a device.
#[derive(Debug)]
pub enum Job {
    /// Sign what we numbered.
    Sign(Durable<Claim>),
    /// Let the device issue. Given once per claim, ever.
    Issue(Durable<Claim>),
    /// Ask what the device issued under the claim.
    Query(Durable<Claim>),
    /// Ask for the device's next number.
    Next {
        /// The device.
        device: DeviceNo,
        /// The kind whose number is asked for.
        kind: Kind,
    },
    /// Ask a device that draws its numbers something beside its claims.
    Ask {
        /// The device.
        device: DeviceNo,
        /// What.
        question: Question,
        /// Where the answer goes.
        reply: Reply,
    },
}

/// What a device that draws its numbers is asked, or told, beside its claims. Harmless when it is
/// repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Its limits, locks and rates of a kind.
    Monitor(Kind),
    /// To take the result of an upload (回写).
    WriteBack {
        /// The kind.
        kind: Kind,
        /// Acceptance serial (受理序列号).
        acceptance_serial: String,
        /// Cipher text (明细监控密文).
        result: String,
    },
}

/// What a device says to a question: monitor data where it was asked for.
pub type Said = Result<Option<MonitorFacts>, SignerError>;

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Said>;

impl Job {
    /// The device that it is for.
    #[must_use]
    pub fn device(&self) -> DeviceNo {
        match self {
            Self::Sign(claim) | Self::Issue(claim) | Self::Query(claim) => claim.device,
            Self::Next { device, .. } | Self::Ask { device, .. } => *device,
        }
    }
}

/// What became of a job. The claim comes back in every case.
#[derive(Debug)]
pub enum Finished {
    /// `Sign` made a signature.
    Signed {
        /// The claim.
        claim: Durable<Claim>,
        /// Its signature.
        signed: Signed,
    },
    /// `Issue` or `Query` brought an answer. Nothing of it has been compared with the claim yet.
    DeviceIssued {
        /// The claim.
        claim: Durable<Claim>,
        /// The device's answer.
        answer: DeviceAnswer,
    },
    /// `Query` found nothing. It holds only after the quiescence time and while `next` is what the
    /// claim says; the number was asked for after the query.
    NothingIssued {
        /// The claim.
        claim: Durable<Claim>,
        /// The device's next number; `None` when its stock is used up.
        next: Option<InvoiceNumber>,
        /// The backend's quiescence time.
        quiescence: Duration,
    },
    /// `Next` brought an answer.
    Next {
        /// The device.
        device: DeviceNo,
        /// The kind asked for.
        kind: Kind,
        /// Its next number; `None` when the stock is used up.
        next: Option<InvoiceNumber>,
    },
    /// `Sign` or `Issue` failed. `InDoubt` is possible for `Issue` alone; with `Unavailable` and
    /// `Refused` nothing was sent.
    Failed {
        /// The claim.
        claim: Durable<Claim>,
        /// Why.
        error: SignerError,
    },
    /// `Query` failed: nothing new is known of the claim, which may have been issued.
    QueryFailed {
        /// The claim.
        claim: Durable<Claim>,
        /// Why.
        error: SignerError,
    },
    /// `Ask` ended.
    Said {
        /// The device.
        device: DeviceNo,
        /// What it said.
        said: Said,
        /// Where that goes.
        reply: Reply,
    },
    /// `Next` failed.
    NextFailed {
        /// The device.
        device: DeviceNo,
        /// The kind asked for.
        kind: Kind,
        /// Why.
        error: SignerError,
    },
}

/// Where results go: called from any thread of the pool, and from the caller's in `remove_device`
/// and `shutdown`. May block briefly; must not call `shutdown`. A panic in it on a thread of the
/// pool ends the process, since a claim would be lost.
pub type Results = Arc<dyn Fn(Finished) + Send + Sync>;

/// Opens sessions of one device. Called from threads of the pool, several at once.
pub trait Source: Send + Sync {
    /// Opens one more session. Must end within the device's deadline.
    ///
    /// # Errors
    /// Why there is none; `Pin` stops the device, anything else is tried again after a pause.
    fn open(&self) -> Result<Backend, SignerError>;
}

/// A device to be taken into service.
pub struct Setup {
    /// Sessions that are open already.
    pub sessions: Vec<Backend>,
    /// Opens more of them, and others for those that die; without it there are only `sessions`.
    pub source: Option<Arc<dyn Source>>,
    /// Sessions that the device should have.
    pub sessions_max: usize,
    /// Jobs that may wait.
    pub queue_len_max: usize,
}

/// How many threads a pool has.
#[derive(Debug, Clone, Copy)]
pub struct Threads {
    /// For all software devices; at least one.
    pub software: usize,
    /// At most, for all other devices: each that has work at the time holds one per session.
    pub devices_max: usize,
}

/// Threads, queues and backends.
pub struct Pool {
    shared: Arc<Shared>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

struct Shared {
    lanes: Mutex<Lanes>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    results: Results,
    meters: Meters,
}

impl Pool {
    /// Starts the threads of the software devices; the others come as they are needed. The metrics
    /// recorder must be installed before.
    ///
    /// # Panics
    /// When the operating system starts no thread; a proxy that cannot sign must not come up.
    #[must_use]
    pub fn new(threads: Threads, results: Results) -> Self {
        let software = threads.software.max(1);
        let shared = Arc::new(Shared {
            lanes: Mutex::new(Lanes::new(software, threads.devices_max.max(1))),
            threads: Mutex::new(Vec::new()),
            results,
            meters: Meters::new(),
        });
        for number in 0..software {
            Shared::start(&shared, LaneNo::Software, format!("signer-{number}"))
                .expect("the operating system starts threads at start-up");
        }
        Self { shared }
    }

    /// Takes a device with one session that is never replaced into service: a key in memory, or a
    /// device of a test.
    pub fn add_device(&self, device: DeviceNo, session: Backend, queue_len_max: usize) {
        let sessions = vec![session];
        self.attach(device, Setup { sessions, source: None, sessions_max: 1, queue_len_max });
    }

    /// Takes a device into service. A device of that number that is there already is removed first;
    /// its job in hand still ends on the old session.
    pub fn attach(&self, device: DeviceNo, setup: Setup) {
        let left = self.locked(|lanes| lanes.add(device, setup, monotonic()));
        self.shared.hand_back(left, REMOVED);
    }

    /// Takes a device out of service and hands its waiting jobs back. The job in hand ends as
    /// usual.
    pub fn remove_device(&self, device: DeviceNo) {
        let left = self.locked(|lanes| lanes.remove(device));
        self.shared.hand_back(left, REMOVED);
    }

    /// Queues a job.
    ///
    /// # Errors
    /// Gives the job back when the device is unknown or takes no work now, its queue full, or the
    /// pool shut down.
    #[expect(clippy::result_large_err, reason = "the error is the job, which must not be lost")]
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        self.locked(|lanes| {
            lanes.push(job, monotonic())?;
            // Under the lock, so that the gauge never counts a job out before it counted it in.
            self.shared.meters.queued.increment(1.0);
            Ok(())
        })
    }

    /// Whether the device takes a new claim.
    #[must_use]
    pub fn takes(&self, device: DeviceNo) -> Takes {
        lock(&self.shared.lanes).takes(device, monotonic())
    }

    /// What operators see of a device; `None` when it is not in service.
    #[must_use]
    pub fn report(&self, device: DeviceNo) -> Option<Report> {
        lock(&self.shared.lanes).report(device, monotonic())
    }

    /// Opens the sessions that are missing and whose pause is over. To be called a few times a
    /// second.
    pub fn tick(&self) {
        self.locked(|lanes| lanes.tick(monotonic()));
    }

    /// Takes no more jobs, hands the waiting ones back, then waits for those in hand. That lasts as
    /// long as the slowest device needs for its job. Calling it again does nothing.
    pub fn shutdown(&self) {
        let left = self.locked(Lanes::stop);
        self.shared.hand_back(left, "skproxy is shutting down; nothing was sent");
        loop {
            // One of those may have started another before it ended.
            let threads = std::mem::take(&mut *lock(&self.shared.threads));
            if threads.is_empty() {
                break;
            }
            for thread in threads {
                // A thread of the pool ends the process when it panics, so there is nothing to
                // hear here.
                drop(thread.join());
            }
        }
    }

    fn locked<T>(&self, act: impl FnOnce(&mut Lanes) -> T) -> T {
        Shared::locked(&self.shared, act)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    /// Acts under the lock, then starts the threads that are missing.
    fn locked<T>(shared: &Arc<Self>, act: impl FnOnce(&mut Lanes) -> T) -> T {
        let (result, starts) = {
            let mut lanes = lock(&shared.lanes);
            let result = act(&mut lanes);
            (result, lanes.take_starts())
        };
        for _ in 0..starts {
            if let Err(error) = Self::start(shared, LaneNo::Devices, "device".to_owned()) {
                tracing::error!(%error, "no thread for a device");
                let left = lock(&shared.lanes).not_started();
                shared.hand_back(left, "no thread could be started for it; nothing was sent");
            }
        }
        result
    }

    fn start(shared: &Arc<Self>, lane: LaneNo, name: String) -> std::io::Result<()> {
        let own = Arc::clone(shared);
        let builder = thread::Builder::new().name(name).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            let served = panic::catch_unwind(panic::AssertUnwindSafe(|| Self::serve(&own, lane)));
            if served.is_err() {
                // Going on would lose a claim that nobody else holds.
                tracing::error!("a signer thread panicked outside a backend: the process ends");
                std::process::abort();
            }
        })?;
        let mut threads = lock(&shared.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    /// A thread's life: one turn after the other.
    fn serve(shared: &Arc<Self>, lane: LaneNo) {
        let wake = {
            let mut lanes = lock(&shared.lanes);
            lanes.begins(lane);
            lanes.wake(lane)
        };
        while let Some(Turn { device, generation, task }) = shared.wait(lane, &wake) {
            match task {
                Task::Jobs { session, jobs } => {
                    Self::take(shared, (device, generation), session, jobs);
                }
                Task::Open(source) => Self::open(shared, (device, generation), &*source),
            }
        }
    }

    fn wait(&self, lane: LaneNo, wake: &Condvar) -> Option<Turn> {
        let mut lanes = lock(&self.lanes);
        loop {
            if lanes.is_over() {
                return None;
            }
            if let Some(turn) = lanes.next_turn(lane, monotonic()) {
                return Some(turn);
            }
            lanes.waits(lane, true);
            let (held, waited) =
                wake.wait_timeout(lanes, IDLE_THREAD).unwrap_or_else(PoisonError::into_inner);
            lanes = held;
            lanes.waits(lane, false);
            if waited.timed_out() && lane == LaneNo::Devices && !lanes.has_turn(lane) {
                lanes.ends(lane);
                return None;
            }
        }
    }

    fn open(shared: &Arc<Self>, device: (DeviceNo, Generation), source: &dyn Source) {
        let opened = run::open(source).map_err(|error| {
            let no = device.0;
            tracing::warn!(device = %no, %error, "no session could be opened");
            (Effect::of(Some(&error)), error.to_string())
        });
        let meter = if opened.is_ok() { &shared.meters.opened } else { &shared.meters.not_opened };
        meter.increment(1);
        let left = Self::locked(shared, |lanes| lanes.opened(device, opened, monotonic()));
        shared.hand_back(left, "it has no session; nothing was sent");
    }

    fn take(
        shared: &Arc<Self>,
        device: (DeviceNo, Generation),
        mut session: Backend,
        mut jobs: VecDeque<Waiting>,
    ) {
        let meters = &shared.meters;
        meters.queued.decrement(convert::metric(convert::len_u64(jobs.len())));
        let (queue_seconds, job_seconds) = meters.seconds(&session);
        let (mut took, mut count) = (Duration::ZERO, 0_u32);
        let (mut effect, mut detail, mut failed) = (Effect::Neutral, None, Vec::new());
        let mut begun = monotonic();
        while let Some(Waiting { job, since }) = jobs.pop_front() {
            queue_seconds.record(begun.duration_since(since).as_secs_f64());
            let (finished, end) = run::run(&mut session, job);
            let ended = monotonic();
            job_seconds.record(ended.duration_since(begun).as_secs_f64());
            took = took.saturating_add(ended.duration_since(begun));
            (begun, count) = (ended, count.saturating_add(1));
            if end == End::Panicked {
                let last = Turned { session, finished, jobs };
                failed.into_iter().for_each(|finished| (shared.results)(finished));
                return Self::panicked(shared, device, last);
            }
            let error = run::error_of(&finished);
            match Effect::of(error) {
                Effect::Good => effect = if failed.is_empty() { Effect::Good } else { effect },
                Effect::Neutral => {}
                worse => (effect, detail) = (worse, error.map(ToString::to_string)),
            }
            if matches!(effect, Effect::Good | Effect::Neutral) {
                (shared.results)(finished);
            } else {
                // Told below: whoever hears it must find the device as it is then.
                failed.push(finished);
            }
        }
        let ran = Ran { session: Some(session), effect, detail, took: took / count.max(1) };
        let left = Self::locked(shared, |lanes| lanes.ran(device, ran, monotonic()));
        shared.hand_back(left, "it does not work at present; nothing was sent");
        failed.into_iter().for_each(|finished| (shared.results)(finished));
    }

    /// A session that panicked is never used again; without a source for another one, neither is
    /// the device.
    fn panicked(shared: &Arc<Self>, device: (DeviceNo, Generation), last: Turned) {
        tracing::error!(device = %device.0, "a backend panicked: its session ends");
        // Before the result goes out, so that whoever hears it finds the device unusable.
        let detail = Some("its backend panicked".to_owned());
        let ran = Ran { session: None, effect: Effect::Evict, detail, took: Duration::ZERO };
        let left = Self::locked(shared, |lanes| lanes.ran(device, ran, monotonic()));
        (shared.results)(last.finished);
        shared.fail(last.jobs.into_iter().map(|waiting| waiting.job), PANICKED);
        shared.hand_back(left, PANICKED);
        run::discard(last.session);
    }

    fn hand_back(&self, left: Left, detail: &str) {
        let Left { sessions, jobs } = left;
        self.meters.queued.decrement(convert::metric(convert::len_u64(jobs.len())));
        self.fail(jobs.into_iter().map(|waiting| waiting.job), detail);
        for session in sessions {
            self.meters.closed.increment(1);
            run::discard(session);
        }
    }

    fn fail(&self, jobs: impl IntoIterator<Item = Job>, detail: &str) {
        for job in jobs {
            (self.results)(run::not_sent(job, detail));
        }
    }
}

/// What a thread holds when a backend has panicked.
struct Turned {
    session: Backend,
    finished: Finished,
    jobs: VecDeque<Waiting>,
}

/// No foreign code runs under the pool's locks, so a poisoned one still holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;
