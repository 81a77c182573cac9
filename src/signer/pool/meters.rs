//! The pool's metrics, held as handles: looking one up by name costs 25 times as much.

use crate::signer::Backend;
use metrics::{Counter, Gauge, Histogram, Unit};

const QUEUE_SECONDS: &str = "skproxy_signer_queue_seconds";
const JOB_SECONDS: &str = "skproxy_signer_job_seconds";

/// The handles.
pub(super) struct Meters {
    pub(super) queued: Gauge,
    pub(super) opened: Counter,
    pub(super) not_opened: Counter,
    pub(super) closed: Counter,
    proxy: (Histogram, Histogram),
    device: (Histogram, Histogram),
}

impl Meters {
    pub(super) fn new() -> Self {
        describe();
        let seconds = |backend: &'static str| {
            let queue = metrics::histogram!(QUEUE_SECONDS, "backend" => backend);
            (queue, metrics::histogram!(JOB_SECONDS, "backend" => backend))
        };
        Self {
            queued: metrics::gauge!("skproxy_signer_queue_jobs"),
            opened: metrics::counter!("skproxy_signer_sessions_opened_total"),
            not_opened: metrics::counter!("skproxy_signer_sessions_failed_total"),
            closed: metrics::counter!("skproxy_signer_sessions_closed_total"),
            proxy: seconds("proxy"),
            device: seconds("device"),
        }
    }

    /// Time in the queue and time in the backend.
    pub(super) fn seconds(&self, backend: &Backend) -> (&Histogram, &Histogram) {
        let (queue, job) = match backend {
            Backend::Proxy(_) => &self.proxy,
            Backend::Device(_) => &self.device,
        };
        (queue, job)
    }
}

fn describe() {
    metrics::describe_gauge!(
        "skproxy_signer_queue_jobs",
        Unit::Count,
        "Jobs that wait for a device."
    );
    metrics::describe_histogram!(
        QUEUE_SECONDS,
        Unit::Seconds,
        "Time that a job waits for a session of its device."
    );
    metrics::describe_histogram!(
        JOB_SECONDS,
        Unit::Seconds,
        "Time that a backend takes for one job."
    );
    metrics::describe_counter!(
        "skproxy_signer_sessions_opened_total",
        Unit::Count,
        "Device sessions opened by the pool."
    );
    metrics::describe_counter!(
        "skproxy_signer_sessions_failed_total",
        Unit::Count,
        "Device sessions that could not be opened."
    );
    metrics::describe_counter!(
        "skproxy_signer_sessions_closed_total",
        Unit::Count,
        "Device sessions closed: evicted, removed or at the end."
    );
}
