//! Runs the backends on threads of their own, behind one bounded first-in-first-out queue per
//! virtual device. It decides nothing: what became of a job goes to `results`, and whoever gave it
//! acts on it.
//!
//! Invariants: every job taken comes back exactly once, through panics, removal and shutdown alike;
//! a device's jobs run one at a time in the order given; a busy device never holds up the others
//! for longer than one turn; no lock is held while a backend or `results` runs.

mod lanes;
mod run;

use self::{
    lanes::{Lanes, Removed, Turn, Worker},
    run::End,
};
use super::{Backend, DeviceAnswer, Signed, SignerError};
use crate::{
    convert,
    model::{DeviceNo, InvoiceNumber, Kind},
    store::{Claim, Durable},
};
use metrics::{Gauge, Histogram};
use std::{
    fmt, panic,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Jobs of one software device in one turn; then it goes to the back. Enough to spread the cost of
/// the switch, and under 3 ms of SM2 signing.
const JOBS_PER_TURN: usize = 32;

const JOB_SECONDS: &str = "skproxy_signer_job_seconds";

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
}

impl Job {
    /// The device that it is for.
    #[must_use]
    pub fn device(&self) -> DeviceNo {
        match self {
            Self::Sign(claim) | Self::Issue(claim) | Self::Query(claim) => claim.device,
            Self::Next { device, .. } => *device,
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

/// Threads, queues and backends.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

struct Shared {
    lanes: Mutex<Lanes>,
    results: Results,
    /// Held handles: looking a metric up by name costs 25 times as much.
    queued: Gauge,
    sign_seconds: Histogram,
    device_seconds: Histogram,
}

impl Pool {
    /// Starts `threads` threads (at least one) for all software devices. The metrics recorder must
    /// be installed before.
    ///
    /// # Panics
    /// When the operating system starts no thread; a proxy that cannot sign must not come up.
    #[must_use]
    pub fn new(threads: usize, results: Results) -> Self {
        describe_metrics();
        let shared = Arc::new(Shared {
            lanes: Mutex::new(Lanes::new()),
            results,
            queued: metrics::gauge!("skproxy_signer_queue_jobs"),
            sign_seconds: metrics::histogram!(JOB_SECONDS, "backend" => "proxy"),
            device_seconds: metrics::histogram!(JOB_SECONDS, "backend" => "device"),
        });
        let pool = Self { shared, threads: Mutex::new(Vec::new()) };
        for number in 0..threads.max(1) {
            let worker = lock(&pool.shared.lanes).shared_worker();
            pool.start(format!("signer-{number}"), worker)
                .expect("the operating system starts threads at start-up");
        }
        pool
    }

    /// Takes a device into service, with at most `queue_len_max` jobs waiting. A device of that
    /// number that is there already is removed first; its job in hand still ends on the old
    /// backend.
    ///
    /// When the operating system starts no thread for a device-numbered backend, the device stays
    /// unusable and an error is logged.
    pub fn add_device(&self, device: DeviceNo, backend: Backend, queue_len_max: usize) {
        let is_device_numbered = matches!(backend, Backend::Device(_));
        let (added, removed) = lock(&self.shared.lanes).add(device, backend, queue_len_max);
        self.shared.hand_back(removed, REMOVED);
        match added {
            Err(backend) => run::discard(backend),
            Ok(worker) if is_device_numbered => {
                if let Err(error) = self.start(format!("device-{device}"), worker) {
                    tracing::error!(%device, %error, "no thread for the device: it cannot be used");
                    self.remove_device(device);
                }
            }
            Ok(_) => {}
        }
    }

    /// Takes a device out of service and hands its waiting jobs back. The job in hand ends as
    /// usual.
    pub fn remove_device(&self, device: DeviceNo) {
        let removed = lock(&self.shared.lanes).remove(device);
        self.shared.hand_back(removed, REMOVED);
    }

    /// Queues a job.
    ///
    /// # Errors
    /// Gives the job back when the device is unknown or unusable, its queue full, or the pool shut
    /// down.
    #[expect(clippy::result_large_err, reason = "the error is the job, which must not be lost")]
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        let mut lanes = lock(&self.shared.lanes);
        lanes.push(job)?;
        // Under the lock, so that the gauge never counts a job out before it counted it in.
        self.shared.queued.increment(1.0);
        Ok(())
    }

    /// Whether the device takes jobs. False for an unknown one and after a panic in its backend.
    #[must_use]
    pub fn is_usable(&self, device: DeviceNo) -> bool {
        lock(&self.shared.lanes).is_usable(device)
    }

    /// Takes no more jobs, hands the waiting ones back, then waits for those in hand. That lasts as
    /// long as the slowest device needs for its job. Calling it again does nothing.
    pub fn shutdown(&self) {
        let removed = lock(&self.shared.lanes).stop();
        self.shared.hand_back(removed, "skproxy is shutting down; nothing was sent");
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A thread of the pool ends the process when it panics, so there is nothing to hear
            // here.
            drop(thread.join());
        }
    }

    fn start(&self, name: String, worker: Worker) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name).spawn(move || {
            let served = panic::catch_unwind(panic::AssertUnwindSafe(|| shared.serve(&worker)));
            if served.is_err() {
                // Going on would lose a claim that nobody else holds.
                tracing::error!("a signer thread panicked outside a backend: the process ends");
                std::process::abort();
            }
        })?;
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    /// A thread's life: one turn after the other.
    fn serve(&self, worker: &Worker) {
        while let Some(turn) = self.wait(worker) {
            self.take(turn);
        }
    }

    fn take(&self, turn: Turn) {
        let Turn { device, generation, mut backend, mut jobs } = turn;
        self.queued.decrement(convert::metric(convert::len_u64(jobs.len())));
        while let Some(job) = jobs.pop_front() {
            let started = crate::clock::monotonic();
            let (finished, end) = run::run(&mut backend, job);
            self.seconds(&backend).record(started.elapsed().as_secs_f64());
            if end == End::Panicked {
                tracing::error!(%device, "a backend panicked: the device cannot be used");
                // Before the result goes out, so that whoever hears it finds the device unusable.
                let removed = lock(&self.lanes).remove_generation(device, generation);
                (self.results)(finished);
                self.fail(jobs, PANICKED);
                self.hand_back(removed, PANICKED);
                run::discard(backend);
                return;
            }
            (self.results)(finished);
        }
        let left_over = lock(&self.lanes).give_back(device, generation, backend);
        if let Some(backend) = left_over {
            run::discard(backend);
        }
    }

    fn wait(&self, worker: &Worker) -> Option<Turn> {
        let mut lanes = lock(&self.lanes);
        loop {
            if lanes.is_over(worker) {
                return None;
            }
            if let Some(turn) = lanes.next_turn(worker) {
                return Some(turn);
            }
            lanes = worker.wake.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn seconds(&self, backend: &Backend) -> &Histogram {
        match backend {
            Backend::Proxy(_) => &self.sign_seconds,
            Backend::Device(_) => &self.device_seconds,
        }
    }

    fn hand_back(&self, removed: impl IntoIterator<Item = Removed>, detail: &str) {
        for Removed { backend, jobs } in removed {
            self.queued.decrement(convert::metric(convert::len_u64(jobs.len())));
            self.fail(jobs, detail);
            if let Some(backend) = backend {
                run::discard(backend);
            }
        }
    }

    fn fail(&self, jobs: impl IntoIterator<Item = Job>, detail: &str) {
        for job in jobs {
            (self.results)(run::not_sent(job, detail));
        }
    }
}

/// No foreign code runs under the pool's locks, so a poisoned one still holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn describe_metrics() {
    metrics::describe_gauge!(
        "skproxy_signer_queue_jobs",
        metrics::Unit::Count,
        "Jobs that wait for a device."
    );
    metrics::describe_histogram!(
        JOB_SECONDS,
        metrics::Unit::Seconds,
        "Time that a backend takes for one job."
    );
}

#[cfg(test)]
mod tests;
