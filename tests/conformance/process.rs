//! Children of a test: the product's own binary with its output in files, killed when the test
//! ends; and waiting for a state, with a bound that no slow machine meets.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use skproxy::clock;
use std::{
    ffi::OsStr,
    fs::{self, File},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// The bound of everything that is waited for. Only a failure meets it.
pub(crate) const BOUND: Duration = Duration::from_secs(180);

/// Waits until something is there.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = clock::monotonic();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < BOUND, "it never happened: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A child of its own.
pub(crate) struct Process {
    child: Child,
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The one JSON value on stdout of a command that is done.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Process {
    /// Starts `skproxy` with more environment.
    pub(crate) fn start<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        words: &str,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(dir.path().join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_skproxy"));
        command.args(words.split(' ')).envs(environment);
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        command.env_remove("SKPROXY_LOG").env_remove("SKPROXY_SOCKET");
        Self { child: command.spawn().unwrap(), dir }
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("err")).unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it said something, while it runs.
    #[track_caller]
    pub(crate) fn says<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        wait_for(what, || {
            let said = look(self);
            assert!(said.is_some() || self.runs(), "{what}: it ended: {}", self.stderr());
            said
        })
    }

    /// Waits until it ended.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ran {
        let status = wait_for("the child ends", || self.child.try_wait().unwrap());
        Ran { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; nobody else has its id until it is waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs `skproxy` with a line of words to its end; no word may hold a space.
#[track_caller]
pub(crate) fn run(words: &str) -> Ran {
    Process::start(words, [("LC_ALL", "C")]).ended()
}

/// The sidecar processes of a daemon: its children by that name. One that has just ended may be
/// among them.
pub(crate) fn sidecars_of(daemon: u32) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let is_sidecar = |id: &i32| {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{id}/{file}")).unwrap_or_default();
        // Behind the name in brackets: state and parent.
        let stat = read("stat");
        let after = stat.rsplit(')').next().unwrap_or_default();
        let mut words = after.split_whitespace();
        let is_alive = !matches!(words.next(), Some("Z" | "X") | None);
        let parent = words.next().and_then(|word| word.parse().ok());
        is_alive && parent == Some(daemon) && read("cmdline").split('\0').any(|it| it == "sidecar")
    };
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(is_sidecar).filter_map(Pid::from_raw).collect()
}

/// Sends a signal to processes that may have ended already.
pub(crate) fn strike(processes: &[Pid], signal: Signal) {
    for process in processes {
        kill_process(*process, signal).unwrap_or_default();
    }
}

/// Whether none of the processes is there any more.
pub(crate) fn are_gone(processes: &[Pid]) -> bool {
    processes.iter().all(|process| rustix::process::test_kill_process(*process).is_err())
}
