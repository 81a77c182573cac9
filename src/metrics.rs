//! Metrics: names, descriptions and held handles. A stage adds to a held handle (nanoseconds);
//! looking a metric up by name at every call costs twenty times as much. Labels are bounded.
//!
//! `install` comes before the first use: handles taken before it lead nowhere.

use crate::refusal::Reason;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::{sync::OnceLock, time::Duration};

/// Buckets of every duration: 100 µs to 30 s, the longest deadline of a call. Unit: seconds.
const SECONDS_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// How often samples are folded into buckets; histograms grow until then.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Why a handshake was refused.
pub const HANDSHAKE_REASONS: &[&str] = &[
    "not_tls",
    "no_certificate",
    "unknown_ca",
    "expired",
    "bad_certificate",
    "timeout",
    "too_many",
    "other",
];

/// Why a connection ended.
pub const CLOSE_REASONS: &[&str] = &["peer", "error", "age", "drain", "key", "other"];

/// gRPC codes as answered.
pub const CODES: &[&str] = &[
    "OK",
    "INVALID_ARGUMENT",
    "ALREADY_EXISTS",
    "NOT_FOUND",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "other",
];

/// Calls that are built, for the duration histogram.
pub const CALLS: &[&str] = &[
    "IssueInvoice",
    "IssueInvoiceStream",
    "ValidateInvoice",
    "GetInvoice",
    "ResolveInvoice",
    "ListInvoices",
    "VoidInvoice",
    "DescribeDevice",
    "ListRates",
    "GetStock",
    "GetSummary",
    "GetSelf",
    "Legacy",
    "other",
];

/// Why the recorder could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The exporter refused its settings.
    #[error("build the metrics exporter")]
    Build(#[source] BuildError),
    /// Another recorder is there already.
    #[error("a metrics recorder is installed already")]
    Installed,
}

/// One handle for each value of one bounded label. The last value stands for every other.
#[derive(Debug)]
pub struct By<T>(Vec<(&'static str, T)>);

impl<T> By<T> {
    fn new(values: &[&'static str], make: impl Fn(&'static str) -> T) -> Self {
        Self(values.iter().map(|value| (*value, make(value))).collect())
    }

    /// The handle of a label value; of the last one when the value is unknown.
    ///
    /// # Panics
    /// Never: every label has at least one value.
    #[must_use]
    pub fn of(&self, value: &str) -> &T {
        let found = self.0.iter().find(|(known, _)| *known == value).or(self.0.last());
        &found.expect("a label has a value").1
    }
}

/// Held handles of everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    /// Connections closed before or in their handshake, by reason.
    pub handshakes_refused: By<Counter>,
    /// Handshakes that ended well.
    pub handshakes: Counter,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections ended, by reason.
    pub connections_closed: By<Counter>,
    /// Failures of accept itself, such as too many open files.
    pub accept_errors: Counter,
    /// Certificate files read again, by result.
    pub certificate_reloads: By<Counter>,
    /// Calls answered, by gRPC code.
    pub answers: By<Counter>,
    /// From the request's headers to the answer's, by call. Unit: seconds.
    pub call_duration: By<Histogram>,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Refused requests, by reason.
    pub refused: By<Counter>,
    /// Commits made durable.
    pub commits: Counter,
    /// From the decision's end to the synced watermark. Unit: seconds.
    pub commit_duration: Histogram,
    /// Claims made durable.
    pub claims: Counter,
    /// Invoices made ISSUED.
    pub issued: Counter,
    /// Claims without a signature now.
    pub open_claims: Gauge,
    /// Things that a person must look into.
    pub incidents: Counter,
    /// Invoices issued with a two-dimensional code that contradicts them.
    pub qr_contradictions: Counter,
    /// Batches that the acceptance answered.
    pub batches: Counter,
    /// Invoices and voids in them.
    pub delivered: Counter,
    /// Those that it rejected.
    pub rejected: Counter,
    /// Differences that reconciliations found.
    pub reconcile_mismatches: Counter,
    /// Batches that were split.
    pub splits: Counter,
    /// Answers of the acceptance that were not to be believed.
    pub lies: Counter,
    /// Monitor data that was not taken over.
    pub monitor_refused: Counter,
    /// Age of the oldest undelivered invoice. Unit: seconds.
    pub oldest_undelivered: Gauge,
    /// Until the first series locks at the present rate. Unit: seconds.
    pub next_lock: Gauge,
    /// Tries to deliver that failed.
    pub delivery_failures: Counter,
    /// Issued invoices and voids in no batch yet.
    pub undelivered: Gauge,
}

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// The held handles.
pub fn metrics() -> &'static Metrics {
    METRICS.get_or_init(Metrics::new)
}

impl Metrics {
    fn new() -> Self {
        let by = |name, label, values| By::new(values, move |value| counter!(name, label => value));
        Self {
            handshakes_refused: by(
                "skproxy_listener_handshakes_refused_total",
                "reason",
                HANDSHAKE_REASONS,
            ),
            handshakes: counter!("skproxy_listener_handshakes_total"),
            connections: gauge!("skproxy_listener_connections"),
            connections_closed: by(
                "skproxy_listener_connections_closed_total",
                "reason",
                CLOSE_REASONS,
            ),
            accept_errors: counter!("skproxy_listener_accept_errors_total"),
            certificate_reloads: by(
                "skproxy_listener_certificate_reloads_total",
                "result",
                &["done", "failed"],
            ),
            answers: by("skproxy_listener_answers_total", "code", CODES),
            call_duration: By::new(
                CALLS,
                |call| histogram!("skproxy_listener_call_duration_seconds", "call" => call),
            ),
            panics: counter!("skproxy_listener_panics_total"),
            refused: By::new(
                &Reason::ALL.iter().map(|reason| reason.name()).collect::<Vec<_>>(),
                |reason| counter!("skproxy_pipeline_refused_total", "reason" => reason),
            ),
            commits: counter!("skproxy_numbering_commits_total"),
            commit_duration: histogram!("skproxy_numbering_commit_duration_seconds"),
            claims: counter!("skproxy_numbering_claims_total"),
            issued: counter!("skproxy_numbering_issued_total"),
            open_claims: gauge!("skproxy_numbering_open_claims"),
            incidents: counter!("skproxy_numbering_incidents_total"),
            qr_contradictions: counter!("skproxy_numbering_qr_contradictions_total"),
            batches: counter!("skproxy_delivery_batches_total"),
            delivered: counter!("skproxy_delivery_invoices_total"),
            rejected: counter!("skproxy_delivery_rejected_total"),
            reconcile_mismatches: counter!("skproxy_delivery_reconcile_mismatches_total"),
            splits: counter!("skproxy_delivery_splits_total"),
            lies: counter!("skproxy_delivery_lies_total"),
            monitor_refused: counter!("skproxy_monitor_refused_total"),
            oldest_undelivered: gauge!("skproxy_delivery_oldest_undelivered_seconds"),
            next_lock: gauge!("skproxy_series_next_lock_seconds"),
            delivery_failures: counter!("skproxy_delivery_failures_total"),
            undelivered: gauge!("skproxy_delivery_undelivered_invoices"),
        }
    }
}

const SHADOWED: &str = "skproxy_pipeline_shadowed_total";

/// Shows how many series a limit locks.
pub fn series_locked(reason: &'static str, count: u64) {
    gauge!("skproxy_series_locked", "reason" => reason).set(crate::convert::metric(count));
}

/// Counts what a rule in shadow would have refused. As many series as registered platforms have
/// reasons in shadow.
pub fn shadowed(platform: &str, reason: &'static str) {
    counter!(SHADOWED, "platform" => platform.to_owned(), "reason" => reason).increment(1);
}

fn describe() {
    for (name, text) in [
        (
            "skproxy_listener_handshakes_refused_total",
            "Connections refused before a call, by reason",
        ),
        ("skproxy_listener_handshakes_total", "TLS handshakes that ended well"),
        ("skproxy_listener_connections_closed_total", "Connections ended, by reason"),
        ("skproxy_listener_accept_errors_total", "Failures of accept itself"),
        ("skproxy_listener_certificate_reloads_total", "Certificate files read again, by result"),
        ("skproxy_listener_answers_total", "Calls answered, by gRPC code"),
        ("skproxy_listener_panics_total", "Handlers that panicked"),
        ("skproxy_pipeline_refused_total", "Refused requests, by reason"),
        (SHADOWED, "Requests that a rule in shadow would have refused, by platform and reason"),
        ("skproxy_numbering_commits_total", "Commits made durable"),
        ("skproxy_numbering_claims_total", "Claims made durable"),
        ("skproxy_numbering_issued_total", "Invoices made ISSUED"),
        ("skproxy_numbering_incidents_total", "Things that a person must look into"),
        (
            "skproxy_numbering_qr_contradictions_total",
            "Invoices issued with a QR text that contradicts them",
        ),
        ("skproxy_delivery_batches_total", "Batches that the acceptance answered"),
        ("skproxy_delivery_invoices_total", "Invoices and voids in answered batches"),
        (
            "skproxy_delivery_reconcile_mismatches_total",
            "Differences that reconciliations with the acceptance found",
        ),
        ("skproxy_delivery_rejected_total", "Invoices that the acceptance rejected"),
        ("skproxy_delivery_splits_total", "Batches split since they could not be taken whole"),
        ("skproxy_delivery_lies_total", "Answers of the acceptance that do not verify"),
        ("skproxy_monitor_refused_total", "Monitor data that contradicts what was told"),
        ("skproxy_delivery_failures_total", "Tries to deliver that failed"),
    ] {
        describe_counter!(name, text);
    }
    describe_gauge!("skproxy_listener_connections", "Connections open now");
    describe_gauge!("skproxy_numbering_open_claims", "Claims without a signature");
    describe_gauge!(
        "skproxy_delivery_oldest_undelivered_seconds",
        "Age of the oldest invoice without a receipt"
    );
    describe_gauge!(
        "skproxy_series_next_lock_seconds",
        "Until the first series locks, when what is undelivered grows as it does now"
    );
    describe_gauge!("skproxy_series_locked", "Series that issue nothing, by the limit that locks");
    describe_gauge!("skproxy_delivery_undelivered_invoices", "Invoices in no batch yet");
    describe_histogram!(
        "skproxy_numbering_commit_duration_seconds",
        Unit::Seconds,
        "A commit with its syncs"
    );
    describe_histogram!(
        "skproxy_listener_call_duration_seconds",
        Unit::Seconds,
        "From a request's headers to its answer's, by call"
    );
}

/// Renders what was measured.
#[derive(Debug, Clone)]
pub struct Exporter(PrometheusHandle);

/// Installs the recorder, once in a process.
///
/// # Errors
/// When the exporter refuses its settings, or a recorder is installed already.
pub fn install() -> Result<Exporter, MetricsError> {
    let recorder = recorder()?;
    let exporter = Exporter(recorder.handle());
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
    describe();
    // Taken now, so that every series is there with zero from the first scrape.
    metrics();
    Ok(exporter)
}

fn recorder() -> Result<PrometheusRecorder, MetricsError> {
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS_BUCKETS)
        .map_err(MetricsError::Build)?
        .build_recorder())
}

impl Exporter {
    /// Everything measured, in the text format of Prometheus. Takes milliseconds; call it where
    /// blocking is allowed.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds samples into buckets for ever. Run it as a task.
    pub async fn upkeep(self) {
        let mut every = tokio::time::interval(UPKEEP_EVERY);
        loop {
            every.tick().await;
            self.0.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered_with_its_description_and_labels() {
        let recorder = recorder().unwrap();
        let exporter = Exporter(recorder.handle());
        metrics::with_local_recorder(&recorder, || {
            describe();
            let metrics = Metrics::new();
            metrics.handshakes_refused.of("unknown_ca").increment(2);
            metrics.handshakes_refused.of("no such reason").increment(1);
            metrics.call_duration.of("IssueInvoice").record(0.002);
        });
        let text = exporter.render();
        for line in [
            "# TYPE skproxy_listener_handshakes_refused_total counter",
            "# HELP skproxy_listener_call_duration_seconds ",
            r#"skproxy_listener_handshakes_refused_total{reason="unknown_ca"} 2"#,
            r#"skproxy_listener_handshakes_refused_total{reason="other"} 1"#,
            r#"skproxy_listener_call_duration_seconds_bucket{call="IssueInvoice",le="0.0025"} 1"#,
            "skproxy_listener_panics_total 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
