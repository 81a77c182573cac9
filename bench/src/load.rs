//! Makes the load and measures it: connections × calls in flight, for a time or for a count.
//!
//! Calls of the warm-up are not counted. A call that ends after the time is up counts with its
//! latency, so that the slowest ones are not left out.

use crate::{draft::draft, machine, target::Demo};
use anyhow::Context as _;
use skproxy::{
    clock::{monotonic, random_text},
    pb::v1::{
        IssueInvoiceRequest, IssueInvoiceResponse, invoice_service_client::InvoiceServiceClient,
        outcome,
    },
    tasks::spawn_detached,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

/// Calls issued before anything is measured, when a count is asked for.
const WARM_UP_CALLS: u64 = 100;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Connections.
    pub(crate) connections: u32,
    /// Calls in flight on each.
    pub(crate) in_flight: u32,
    /// How long, unless `count` is given.
    pub(crate) time: Duration,
    /// How many invoices.
    pub(crate) count: Option<u64>,
    /// Process whose CPU is measured.
    pub(crate) server_pid: Option<u32>,
}

/// What was measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Latencies of the invoices issued, ascending.
    pub(crate) latencies: Vec<Duration>,
    /// Calls that did not end ISSUED: reason or code, and how many.
    pub(crate) failed: BTreeMap<String, u64>,
    /// From the first call to the end of the last.
    pub(crate) took: Duration,
    /// CPU time that the server used meanwhile.
    pub(crate) server_cpu: Option<Duration>,
}

/// Warms up, then measures.
pub(crate) async fn run(demo: &Demo, plan: &Plan) -> anyhow::Result<Measured> {
    let tls = demo.tls()?;
    let mut clients = Vec::new();
    for _ in 0..plan.connections {
        let channel = demo.connect(tls.clone()).await?;
        clients.push(InvoiceServiceClient::new(channel));
    }
    let warm_up = match plan.count {
        Some(_) => Until::count(WARM_UP_CALLS),
        None => Until::time(plan.time / 10),
    };
    burst(demo, plan, &clients, warm_up).await?;
    let measure = plan.count.map_or_else(|| Until::time(plan.time), Until::count);
    let cpu = || plan.server_pid.map(machine::cpu_time).transpose();
    let (before, start) = (cpu().context("read the server's CPU time")?, monotonic());
    let mut measured = burst(demo, plan, &clients, measure).await?;
    measured.took = start.elapsed();
    let after = cpu().context("read the server's CPU time")?;
    measured.server_cpu = after.zip(before).map(|(after, before)| after.saturating_sub(before));
    measured.latencies.sort_unstable();
    Ok(measured)
}

/// When to stop starting calls.
#[derive(Debug)]
struct Until {
    deadline: Option<Instant>,
    left: AtomicU64,
}

impl Until {
    fn time(time: Duration) -> Self {
        Self { deadline: Some(monotonic() + time), left: AtomicU64::new(u64::MAX) }
    }

    fn count(count: u64) -> Self {
        Self { deadline: None, left: AtomicU64::new(count) }
    }

    /// Takes one call, if one is left.
    fn take(&self) -> bool {
        let late = self.deadline.is_some_and(|deadline| monotonic() >= deadline);
        let one_less = |left: u64| left.checked_sub(1);
        !late && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

async fn burst(
    demo: &Demo,
    plan: &Plan,
    clients: &[InvoiceServiceClient<Channel>],
    until: Until,
) -> anyhow::Result<Measured> {
    let until = Arc::new(until);
    let mut workers = Vec::new();
    for client in clients {
        for _ in 0..plan.in_flight {
            workers.push(spawn_detached_with(worker(client.clone(), demo.clone(), until.clone())));
        }
    }
    let mut all = Measured::default();
    for worker in workers {
        let one = worker.await.context("a worker ends with its result")?;
        all.latencies.extend(one.latencies);
        for (what, count) in one.failed {
            *all.failed.entry(what).or_default() += count;
        }
    }
    Ok(all)
}

/// Starts a task whose result somebody waits for; `tasks` starts tasks without one.
fn spawn_detached_with(
    task: impl Future<Output = Measured> + Send + 'static,
) -> tokio::sync::oneshot::Receiver<Measured> {
    let (done, result) = tokio::sync::oneshot::channel();
    spawn_detached(async move {
        // Nobody listens only when the run is over already.
        drop(done.send(task.await));
    });
    result
}

async fn worker(
    mut client: InvoiceServiceClient<Channel>,
    demo: Demo,
    until: Arc<Until>,
) -> Measured {
    let mut measured = Measured::default();
    while until.take() {
        let draft = draft(&demo, random_text(20));
        let start = monotonic();
        let answer = client.issue_invoice(IssueInvoiceRequest { draft: Some(draft) }).await;
        match verdict(answer.map(tonic::Response::into_inner)) {
            Ok(()) => measured.latencies.push(start.elapsed()),
            Err(what) => *measured.failed.entry(what).or_default() += 1,
        }
    }
    measured
}

/// `Ok` for ISSUED, else the word to count it under.
fn verdict(answer: Result<IssueInvoiceResponse, Status>) -> Result<(), String> {
    let result = match answer {
        Ok(answer) => answer.outcome.and_then(|outcome| outcome.result),
        Err(status) => {
            let reason = status.get_details_error_info().map(|info| info.reason);
            return Err(reason.unwrap_or_else(|| format!("{:?}", status.code())));
        }
    };
    match result {
        Some(outcome::Result::Issued(_)) => Ok(()),
        Some(outcome::Result::InDoubt(_)) => Err("IN_DOUBT".to_owned()),
        Some(outcome::Result::Voided(_)) => Err("VOIDED".to_owned()),
        Some(outcome::Result::Closed(_)) => Err("CLOSED".to_owned()),
        Some(outcome::Result::Unknown(_)) | None => Err("UNKNOWN".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_taken_once_each_and_no_more() {
        let until = Until::count(3);
        let taken = (0..10).filter(|_| until.take()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn a_time_that_is_up_takes_nothing() {
        assert!(!Until::time(Duration::ZERO).take());
        assert!(Until::time(Duration::from_secs(3600)).take());
    }

    #[test]
    fn a_call_counts_under_its_reason_or_its_code() {
        let unavailable = verdict(Err(Status::unavailable("gone")));
        assert_eq!(unavailable, Err("Unavailable".to_owned()));
        assert_eq!(verdict(Ok(IssueInvoiceResponse::default())), Err("UNKNOWN".to_owned()));
    }
}
