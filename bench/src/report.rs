//! The result: one line for people, one JSON line for programs.

use crate::{
    load::{Measured, Plan},
    machine,
};
use serde::Serialize;
use skproxy::{clock::Clock, convert::metric};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// One run. Times in the unit that the name ends in.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// When it ended, RFC 3339 with +08:00.
    at: String,
    /// The commit measured, with `+` when files differed from it.
    commit: String,
    /// CPU model and count.
    cpu: String,
    /// Kernel.
    kernel: String,
    /// `release` or `debug`, of this client.
    profile: &'static str,
    /// Connections.
    connections: u32,
    /// Calls in flight on each connection.
    in_flight: u32,
    /// Invoices issued.
    pub(crate) issued: u64,
    /// Calls that ended otherwise, by reason.
    failed: BTreeMap<String, u64>,
    /// Time measured.
    took_ms: u64,
    /// Invoices issued per second.
    per_second: u64,
    /// Median latency.
    p50_us: u64,
    /// 99th percentile.
    p99_us: u64,
    /// Slowest call.
    max_us: u64,
    /// The server's CPU time per invoice issued; without `--server-pid` not known.
    server_cpu_us: Option<f64>,
    /// Median 4 KiB append and fdatasync; without `--data-dir` not known.
    fdatasync_us: Option<u64>,
    /// The caller's words.
    note: String,
}

impl Report {
    /// Makes the report of one run.
    pub(crate) fn new(
        plan: &Plan,
        measured: Measured,
        fdatasync: Option<Duration>,
        note: &str,
    ) -> Self {
        let issued = u64::try_from(measured.latencies.len()).unwrap_or(u64::MAX);
        let took_ms = u64::try_from(measured.took.as_millis()).unwrap_or(u64::MAX);
        let cpu_us = |cpu: Duration| (metric(micros(cpu)) / metric(issued.max(1)) * 10.0).round();
        Self {
            at: Clock::system().now().to_string(),
            commit: machine::commit(),
            cpu: machine::cpu(),
            kernel: machine::kernel(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            connections: plan.connections,
            in_flight: plan.in_flight,
            issued,
            per_second: issued.saturating_mul(1000) / took_ms.max(1),
            p50_us: micros(percentile(&measured.latencies, 50)),
            p99_us: micros(percentile(&measured.latencies, 99)),
            max_us: micros(percentile(&measured.latencies, 100)),
            failed: measured.failed,
            took_ms,
            server_cpu_us: measured.server_cpu.map(|cpu| cpu_us(cpu) / 10.0),
            fdatasync_us: fdatasync.map(micros),
            note: note.to_owned(),
        }
    }

    /// Calls that did not end ISSUED.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The line for people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} conn x {} in flight: {} issued in {} ms, {} /s, p50 {} us, p99 {} us, max {} us",
            self.connections,
            self.in_flight,
            self.issued,
            self.took_ms,
            self.per_second,
            self.p50_us,
            self.p99_us,
            self.max_us,
        );
        text += &format!(", failed {}", self.failures());
        for (what, count) in &self.failed {
            text += &format!(" {what}={count}");
        }
        if let Some(cpu) = self.server_cpu_us {
            text += &format!(", server CPU {cpu} us/invoice");
        }
        if let Some(sync) = self.fdatasync_us {
            text += &format!(", fdatasync {sync} us");
        }
        text + &format!(" [{}, {}, {}, {}]", self.profile, self.commit, self.cpu, self.kernel)
    }

    /// Appends the result to `out`.jsonl and `out`.txt.
    pub(crate) fn append_to(&self, out: &Path) -> io::Result<()> {
        if let Some(parent) = out.parent() {
            fs::create_dir_all(parent)?;
        }
        append(out, ".jsonl", &serde_json::to_string(self)?)?;
        append(out, ".txt", &format!("{} {} {}", self.at, self.text(), self.note))
    }
}

fn append(out: &Path, ending: &str, line: &str) -> io::Result<()> {
    let mut name = OsString::from(out);
    name.push(ending);
    let mut file = OpenOptions::new().create(true).append(true).open(PathBuf::from(name))?;
    file.write_all(format!("{}\n", line.trim_end()).as_bytes())
}

/// The smallest latency that at least `percent` of all do not exceed; zero when there are none.
fn percentile(ascending: &[Duration], percent: usize) -> Duration {
    let rank = ascending.len().saturating_mul(percent).div_ceil(100).max(1);
    ascending.get(rank - 1).copied().unwrap_or_default()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ms: &[u64], percent: usize, expect_ms: u64) {
        let latencies: Vec<_> = ms.iter().copied().map(Duration::from_millis).collect();
        assert_eq!(percentile(&latencies, percent), Duration::from_millis(expect_ms), "{ms:?}");
    }

    #[test]
    fn a_percentile_is_one_of_the_latencies() {
        check(&[], 50, 0);
        check(&[7], 50, 7);
        check(&[7], 99, 7);
        check(&[1, 2, 3, 4], 50, 2);
        check(&[1, 2, 3, 4], 99, 4);
        check(&[1, 2, 3, 4], 100, 4);
    }
}
