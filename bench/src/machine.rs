//! What the machine says: CPU time of a process, speed of a sync, names for the report.

use anyhow::Context as _;
use skproxy::clock::monotonic;
use std::{fs, io::Write as _, path::Path, process::Command, time::Duration};

/// Syncs measured; the median counts.
const SYNCS: usize = 101;

/// User and system time that a process used so far, all threads. Source: proc(5), /proc/PID/stat.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).with_context(|| format!("/proc/{pid}/stat does not parse"))?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_micros(ticks.saturating_mul(1_000_000) / per_second))
}

/// utime + stime. The command's name may hold spaces and parentheses, so counting starts after it.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Median time of a 4 KiB append and its fdatasync on the disk that holds `dir`.
pub(crate) fn fdatasync(dir: &Path) -> anyhow::Result<Duration> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = monotonic();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// CPU model and how many of it.
pub(crate) fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown CPU", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} x {model}")
}

/// Name and release of the kernel.
pub(crate) fn kernel() -> String {
    let name = rustix::system::uname();
    let (system, release) = (name.sysname().to_string_lossy(), name.release().to_string_lossy());
    format!("{system} {release}")
}

/// The commit checked out where the bench runs; `+` when files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_some_and(|files| !files.is_empty());
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    commit.map_or_else(|| "unknown".to_owned(), |id| id + if changed { "+" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        for (stat, expect) in [
            (format!("7 (skproxy) {tail}"), Some(300)),
            (format!("7 (a) 9 (b) {tail}"), Some(300)),
            ("7 (skproxy) S 1 2".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(ticks(&stat), expect, "{stat}");
        }
    }

    #[test]
    fn this_process_has_cpu_time_and_the_disk_a_sync() {
        cpu_time(std::process::id()).expect("we are running");
        let dir = tempfile::tempdir().expect("a directory");
        assert!(fdatasync(dir.path()).expect("it syncs") > Duration::ZERO);
    }
}
