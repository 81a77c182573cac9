//! The daemon's side of one sidecar process, from its start to its end. Calls go out from any
//! thread and come back by their ids. A call that is late ends the process: what hangs in C cannot
//! be called off in any other way.
//!
//! Invariant: once a life has ended it never comes back, and whatever was opened in it is dead. A
//! key handle of one life is never used in another, where it might name another key.

use super::{
    module::{Class, ModuleError},
    process::ProcessOptions,
    spec::{HardwareSpec, Standard},
    wire::{Answer, Ask, FrameReader, Reply, Request, UNASKED, write_frame},
};
use crate::clock;
use std::{
    collections::HashMap,
    io,
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How often the keeper looks whether the process is still there although its socket is open.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks that a process which was asked to leave is given; it takes a second at most by itself.
const LEAVE_LOOKS: u32 = 3;

/// Counters of one standard, held, since looking them up costs more than counting.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) calls: metrics::Counter,
    pub(super) call_duration: metrics::Histogram,
    pub(super) restarts: metrics::Counter,
    pub(super) sessions_opened: metrics::Counter,
    pub(super) sessions_closed: metrics::Counter,
}

impl Counters {
    pub(super) fn new(standard: Standard) -> Self {
        use metrics::{counter, histogram};
        let backend = standard.name();
        Self {
            calls: counter!("skproxy_signer_sidecar_calls_total", "backend" => backend),
            call_duration: histogram!(
                "skproxy_signer_sidecar_call_duration_seconds",
                "backend" => backend
            ),
            restarts: counter!("skproxy_signer_sidecar_restarts_total", "backend" => backend),
            sessions_opened: counter!(
                "skproxy_signer_sidecar_sessions_opened_total",
                "backend" => backend
            ),
            sessions_closed: counter!(
                "skproxy_signer_sidecar_sessions_closed_total",
                "backend" => backend
            ),
        }
    }

    pub(super) fn describe() {
        use metrics::{Unit, describe_counter, describe_histogram};
        for (name, text) in [
            ("skproxy_signer_sidecar_calls_total", "Calls of sidecar processes"),
            ("skproxy_signer_sidecar_restarts_total", "Sidecar processes started after the first"),
            ("skproxy_signer_sidecar_sessions_opened_total", "Sessions opened in sidecars"),
            (
                "skproxy_signer_sidecar_sessions_closed_total",
                "Sessions of sidecars that were closed or died with their process",
            ),
        ] {
            describe_counter!(name, text);
        }
        describe_histogram!(
            "skproxy_signer_sidecar_call_duration_seconds",
            Unit::Seconds,
            "From a call of a sidecar to its answer"
        );
    }
}

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The module, or the sidecar itself, says no.
    #[error(transparent)]
    Module(ModuleError),
    /// The process ended, before the call or during it.
    #[error("the sidecar process has ended: {0}")]
    Ended(String),
}

/// When and why a life ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) at: Instant,
    pub(super) why: String,
}

#[derive(Debug, Default)]
struct Calls {
    last_id: u64,
    waiting: HashMap<u64, SyncSender<Answer>>,
    end: Option<End>,
    exit: Option<ExitStatus>,
}

/// One process.
#[derive(Debug)]
pub(super) struct Life {
    socket: UnixStream,
    /// Held while a request is written. Not around the socket: who ends a life must not wait for a
    /// writer that the process keeps waiting.
    writing: Mutex<()>,
    calls: Mutex<Calls>,
    /// Told when the process has been reaped.
    reaped: Condvar,
    leaving: AtomicBool,
    /// A session was lost, and no new one has signed since: the module may be broken as a whole.
    suspect: AtomicBool,
    counters: Arc<Counters>,
    process: u32,
}

impl Life {
    /// Starts a process. It is not yet known whether it gets its token's lock.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(
        program: &Path,
        spec: &HardwareSpec,
        counters: Arc<Counters>,
    ) -> io::Result<Arc<Self>> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(LOOK_EVERY))?;
        ours.set_write_timeout(Some(spec.call_deadline.max(Duration::from_millis(1))))?;
        let command = command(program, spec, theirs);
        let reader = ours.try_clone()?;
        let (tell, started) = sync_channel(1);
        // The kernel's parent of a process is the thread that started it: when that one ends, the
        // process gets its death signal. So the thread that keeps a process also starts it.
        thread::Builder::new()
            .name("sidecar-keeper".to_owned())
            .spawn(move || keep(command, ours, reader, counters, &tell))?;
        started.recv().map_err(|_| io::Error::other("its keeper has ended"))?
    }

    /// Asks and waits for the answer, at most `deadline`; after it the process is ended.
    ///
    /// # Errors
    /// What the module says, or that the process has ended.
    pub(super) fn call(&self, ask: Ask, deadline: Duration) -> Result<Answer, CallError> {
        let (answer, answered) = sync_channel(1);
        let id = {
            let mut calls = self.calls();
            if let Some(end) = &calls.end {
                return Err(CallError::Ended(end.why.clone()));
            }
            calls.last_id = calls.last_id.saturating_add(1);
            let id = calls.last_id;
            calls.waiting.insert(id, answer);
            id
        };
        let begin = clock::monotonic();
        let written = {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            write_frame(&mut &self.socket, &Request { id, ask: Some(ask) })
        };
        if let Err(error) = written {
            self.end(&format!("it takes no more requests: {error}"));
        }
        let answer = answered.recv_timeout(deadline);
        self.counters.calls.increment(1);
        self.counters.call_duration.record(begin.elapsed());
        match answer {
            Ok(Answer::Failed(failed)) => Err(CallError::Module(failed.into())),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                Err(self.end(&format!("it gave no answer within {} ms", deadline.as_millis())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.end("it closed its socket")),
        }
    }

    /// Ends the process at once, unless it has ended. Gives the first reason for its end.
    pub(super) fn end(&self, why: &str) -> CallError {
        let mut calls = self.calls();
        let end = calls
            .end
            .get_or_insert_with(|| End { at: clock::monotonic(), why: why.to_owned() })
            .why
            .clone();
        // Each waiting call sees that its sender has gone.
        calls.waiting.clear();
        drop(calls);
        // The keeper sees this and kills the process. It fails when that has happened already.
        drop(self.socket.shutdown(Shutdown::Both));
        CallError::Ended(end)
    }

    /// Answers with something else than was asked for.
    pub(super) fn nonsense(&self) -> CallError {
        self.end("it answered another question")
    }

    /// Asks the process to close its sessions and to end, within a few seconds.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        // It fails when the process has ended already.
        drop(self.socket.shutdown(Shutdown::Write));
    }

    /// When and why this life ended; `None` while it goes on.
    pub(super) fn ended(&self) -> Option<End> {
        self.calls().end.clone()
    }

    /// Waits until the process is gone, at most `limit`. Says how it ended.
    pub(super) fn gone(&self, limit: Duration) -> Option<ExitStatus> {
        let calls = self.calls();
        let waited = self.reaped.wait_timeout_while(calls, limit, |calls| calls.exit.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.exit
    }

    /// Process id, for the log and for tests.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    /// What a session's end says of the process. `proven`: it had signed before.
    ///
    /// A session that is lost before it signed once condemns its process: whatever broke is not the
    /// session, and only a new process starts a library afresh.
    pub(super) fn session_lost(&self, proven: bool, why: &str) {
        if proven {
            self.suspect.store(true, Ordering::Relaxed);
        } else {
            self.end(&format!("a new session was lost at once: {why}"));
        }
    }

    /// A new session has signed: the module works.
    pub(super) fn works(&self) {
        self.suspect.store(false, Ordering::Relaxed);
    }

    /// Ends the process when a failure to find a key or to open a session is the module's and not
    /// the setting's. Gives whether it did.
    pub(super) fn condemned_by(&self, error: &ModuleError) -> bool {
        let condemned = match error.class {
            Class::SessionLost => true,
            // A token that lost its login shows no private keys, which looks like a wrong label.
            Class::Permanent | Class::InDoubt => self.suspect.load(Ordering::Relaxed),
            Class::Transient | Class::Pin => false,
        };
        if condemned {
            self.end(&format!("its module is broken: {error}"));
        }
        condemned
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self, reply: Reply) {
        let Reply { id, answer: Some(answer) } = reply else {
            self.end("it sent an empty reply");
            return;
        };
        if let (UNASKED, Answer::Failed(failed)) = (id, &answer) {
            self.end(&ModuleError::from(failed.clone()).detail);
            return;
        }
        let waiting = self.calls().waiting.remove(&id);
        // A caller that has given up has ended this life too.
        drop(waiting.map(|waiting| waiting.try_send(answer)));
    }
}

fn command(program: &Path, spec: &HardwareSpec, socket: UnixStream) -> Command {
    let options = ProcessOptions {
        lock: spec.lock_path(),
        memory_max_bytes: spec.memory_max_bytes,
        sessions_max: spec.sessions_max,
    };
    let mut command = Command::new(program);
    command.arg0("skproxy").arg("sidecar").args(options.arguments());
    // What a terminal sends to the daemon's group is not for its sidecars.
    command.process_group(0);
    // A foreign module sees nothing of ours: no setting and no passphrase from the environment.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SKPROXY_") {
            command.env_remove(name);
        }
    }
    command.envs(&spec.environment);
    // Drivers print what they like, PINs too, so their output goes nowhere.
    command.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The keeper's thread: starts the process, hands out its answers, ends and reaps it.
fn keep(
    mut command: Command,
    socket: UnixStream,
    mut reader: UnixStream,
    counters: Arc<Counters>,
    tell: &SyncSender<io::Result<Arc<Life>>>,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // The other end of a new channel of size 1 waits.
            drop(tell.send(Err(error)));
            return;
        }
    };
    // It holds our copy of the process's end, without which the socket never closes.
    drop(command);
    let life = Arc::new(Life {
        socket,
        writing: Mutex::default(),
        calls: Mutex::default(),
        reaped: Condvar::new(),
        leaving: AtomicBool::new(false),
        suspect: AtomicBool::new(false),
        counters,
        process: child.id(),
    });
    drop(tell.send(Ok(Arc::clone(&life))));
    hand_out(&life, &mut reader, &mut child);
    life.end("its process ended");
    // It fails when the process is gone already. One that hangs in the kernel is waited for: its
    // lock is held as long.
    drop(child.kill());
    let exit = child.wait();
    let why = life.ended().map(|end| end.why);
    if !life.leaving.load(Ordering::Relaxed) {
        let exit = exit.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        tracing::warn!(process = life.process, why, exit, "a sidecar process ended");
    }
    life.calls().exit = exit.ok().or_else(|| Some(ExitStatus::default()));
    life.reaped.notify_all();
}

/// Hands out answers until the process has ended or must end.
fn hand_out(life: &Life, reader: &mut UnixStream, child: &mut Child) {
    let (mut frames, mut looks) = (FrameReader::new(), 0_u32);
    loop {
        match frames.next(reader) {
            Ok(Some(reply)) => life.route(reply),
            Ok(None) => return,
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::ConnectionReset => return,
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    // A child of the module may hold the socket open.
                    if child.try_wait().is_ok_and(|exit| exit.is_some()) {
                        return;
                    }
                    if life.leaving.load(Ordering::Relaxed) {
                        looks = looks.saturating_add(1);
                        if looks >= LEAVE_LOOKS {
                            return;
                        }
                    }
                }
                _ => {
                    life.end(&format!("its answers cannot be read: {error}"));
                    return;
                }
            },
        }
    }
}
