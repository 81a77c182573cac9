//! The process side: serves one module over one socket until the other end closes it.
//!
//! The reader answers what needs no module and hands on the rest: loading, login, keys to the
//! control thread, one by one; sessions to a thread each, so that one that hangs holds up no other.
//! Nothing here retries. Invariant: a PIN is presented at most once in the life of a process.

use super::{
    module::{Class, Module, ModuleError, ModuleSession},
    spec::ModuleSpec,
    wire::{
        Answer, Ask, FrameReader, LogIn, Nothing, Reply, Request, Sign, UNASKED, WireStats,
        write_frame,
    },
};
use crate::secret::Secret;
use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

/// Control requests that wait for the control thread; the daemon has few callers at once.
const CONTROL_QUEUE_MAX: usize = 256;

/// Requests that wait for one session. Its owner asks one thing at a time, then closes it.
const SESSION_QUEUE_MAX: usize = 2;

/// How long sessions may take to close after the daemon has gone. The lock is held meanwhile.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Opens a module; another one in tests.
pub(super) type Loader = fn(&ModuleSpec) -> Result<Box<dyn Module>, ModuleError>;

/// What a session's thread is asked.
enum Job {
    Sign { id: u64, digest: Vec<u8> },
    Close { id: u64 },
}

struct Server {
    socket: Mutex<UnixStream>,
    load: Loader,
    sessions_max: u32,
    module: OnceLock<Box<dyn Module>>,
    pin_presented: AtomicBool,
    /// `None` once the daemon has gone: no session is kept any more.
    sessions: Mutex<Option<HashMap<u64, SyncSender<Job>>>>,
    /// Threads of sessions that were started and have not ended.
    alive: AtomicU32,
    opened: AtomicU64,
    closed: AtomicU64,
}

/// Serves until the other end of `socket` closes. Comes back at most a second later, even when the
/// module hangs; then the process must end.
///
/// # Errors
/// When the socket fails or says what is no request.
pub(super) fn serve(socket: UnixStream, load: Loader, sessions_max: u32) -> io::Result<()> {
    let reader = socket.try_clone()?;
    // The daemon kills a process whose socket has closed, so this one closes after the module.
    let held = socket.try_clone()?;
    let server = Arc::new(Server {
        socket: Mutex::new(socket),
        load,
        sessions_max,
        module: OnceLock::new(),
        pin_presented: AtomicBool::new(false),
        sessions: Mutex::new(Some(HashMap::new())),
        alive: AtomicU32::new(0),
        opened: AtomicU64::new(0),
        closed: AtomicU64::new(0),
    });
    // Every thread holds a sender that it never uses; the last one to end disconnects it.
    let (ended, all_ended) = sync_channel(0);
    let (control, requests) = sync_channel(CONTROL_QUEUE_MAX);
    let result = spawn("sidecar-control", {
        let (server, ended) = (Arc::clone(&server), ended.clone());
        move || {
            server.control(&requests, &ended);
            // In this order: the last one to let go of the server closes the module, and that must
            // be over before the end of this thread is told.
            drop(server);
            drop(ended);
        }
    })
    .and_then(|()| server.read(reader, &control));
    drop((control, ended));
    drop(server.sessions().take());
    drop(server);
    // Nothing is ever sent: this waits for the end of every thread, and no longer than that.
    if all_ended.recv_timeout(CLOSE_LIMIT) == Err(RecvTimeoutError::Timeout) {
        tracing::debug!("the module still hangs, and is left to the end of the process");
    }
    drop(held);
    result
}

/// Says without being asked why this process ends.
///
/// # Errors
/// Those of the socket.
pub(super) fn say(mut socket: &UnixStream, why: &str) -> io::Result<()> {
    let answer = failed(ours(Class::Transient, why));
    write_frame(&mut socket, &Reply { id: UNASKED, answer: Some(answer) })
}

/// Kept by each thread until it ends.
type Ended = SyncSender<()>;

impl Server {
    fn read(
        self: &Arc<Self>,
        mut socket: UnixStream,
        control: &SyncSender<(u64, Ask)>,
    ) -> io::Result<()> {
        let mut frames = FrameReader::new();
        while let Some(Request { id, ask }) = frames.next(&mut socket)? {
            let ask = ask.ok_or(io::ErrorKind::InvalidData)?;
            let refused = match ask {
                Ask::Stats(_) => Some(Answer::Stats(self.stats())),
                Ask::Sign(Sign { session, digest }) => self.hand(session, Job::Sign { id, digest }),
                Ask::CloseSession(session) => self.hand(session, Job::Close { id }),
                ask => match control.try_send((id, ask)) {
                    Ok(()) => None,
                    Err(_) => Some(failed(ours(Class::Transient, "its queue is full"))),
                },
            };
            if let Some(answer) = refused {
                self.reply(id, answer);
            }
        }
        Ok(())
    }

    /// Hands a job to a session's thread. The answer comes from there, unless there is none.
    fn hand(&self, session: u64, job: Job) -> Option<Answer> {
        let sessions = self.sessions();
        let thread = sessions.as_ref().and_then(|sessions| sessions.get(&session));
        let error = match thread.map(|thread| thread.try_send(job)) {
            Some(Ok(())) => return None,
            Some(Err(TrySendError::Full(_))) => {
                ours(Class::Transient, "the session is being asked already")
            }
            Some(Err(TrySendError::Disconnected(_))) | None => {
                ours(Class::SessionLost, "there is no such session")
            }
        };
        Some(failed(error))
    }

    /// The control thread.
    fn control(self: &Arc<Self>, requests: &Receiver<(u64, Ask)>, ended: &Ended) {
        while let Ok((id, ask)) = requests.recv() {
            let answer = match ask {
                Ask::Load(load) => self.load(load.spec()),
                Ask::Tries(_) => self
                    .with_module(|module| module.tries().map(|tries| Answer::Tries(tries.into()))),
                Ask::LogIn(log_in) => self.log_in(log_in),
                Ask::FindKey(label) => self.with_module(|module| {
                    module.find_key(&label).map(|key| Answer::Found(key.into()))
                }),
                Ask::OpenSession(label) => match self.open(id, label, ended) {
                    // The session's own thread answers.
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Ask::Sign(_) | Ask::CloseSession(_) | Ask::Stats(_) => {
                    Err(ours(Class::Permanent, "the request is not for the control thread"))
                }
            };
            self.reply(id, answer.unwrap_or_else(failed));
        }
    }

    fn load(&self, spec: Option<ModuleSpec>) -> Result<Answer, ModuleError> {
        let spec = spec.ok_or_else(|| ours(Class::Permanent, "the request names no module"))?;
        if self.module.get().is_some() {
            return Err(ours(Class::Permanent, "a module is loaded already"));
        }
        let module = (self.load)(&spec)?;
        let token = module.token();
        self.module
            .set(module)
            .map_err(|_| ours(Class::Permanent, "a module is loaded already"))?;
        Ok(Answer::Loaded(token))
    }

    fn log_in(&self, mut log_in: LogIn) -> Result<Answer, ModuleError> {
        let pin = Secret::new(std::mem::take(&mut log_in.pin));
        self.with_module(|module| {
            if self.pin_presented.swap(true, Ordering::Relaxed) {
                return Err(ours(Class::Permanent, "this process has presented its PIN already"));
            }
            module.log_in(&pin).map(|()| Answer::LoggedIn(Nothing {}))
        })
    }

    fn with_module(
        &self,
        work: impl FnOnce(&dyn Module) -> Result<Answer, ModuleError>,
    ) -> Result<Answer, ModuleError> {
        let module = self.module.get();
        work(&**module.ok_or_else(|| ours(Class::Permanent, "no module is loaded"))?)
    }

    /// Starts a session's thread, which opens the session and answers.
    fn open(self: &Arc<Self>, id: u64, label: String, ended: &Ended) -> Result<(), ModuleError> {
        let limit = self.sessions_max;
        if self.alive.load(Ordering::Relaxed) >= limit {
            let detail = format!("{limit} sessions are open, the limit of a sidecar");
            return Err(ours(Class::Transient, &detail));
        }
        self.alive.fetch_add(1, Ordering::Relaxed);
        let (server, ended) = (Arc::clone(self), ended.clone());
        let started = spawn("sidecar-session", move || {
            let last = server.session(id, &label);
            // Before the answer: who hears that a session is closed may open another one.
            server.alive.fetch_sub(1, Ordering::Relaxed);
            if let Some((id, answer)) = last {
                server.reply(id, answer);
            }
            drop(server);
            drop(ended);
        });
        started.map_err(|error| {
            self.alive.fetch_sub(1, Ordering::Relaxed);
            ours(Class::Transient, &format!("start a session's thread: {error}"))
        })
    }

    /// A session's thread; gives its last answer. The request's id becomes the session's: the
    /// daemon never uses one twice.
    fn session(&self, id: u64, label: &str) -> Option<(u64, Answer)> {
        let opened = match self.module.get() {
            Some(module) => module.open_session(label),
            None => Err(ours(Class::Permanent, "no module is loaded")),
        };
        let session = match opened {
            Ok(session) => session,
            Err(error) => return Some((id, failed(error))),
        };
        self.opened.fetch_add(1, Ordering::Relaxed);
        let (jobs, queue) = sync_channel(SESSION_QUEUE_MAX);
        let kept = self.sessions().as_mut().map(|sessions| sessions.insert(id, jobs)).is_some();
        let close = if kept {
            self.reply(id, Answer::Opened(id));
            self.work(session, &queue)
        } else {
            drop(session);
            None
        };
        if let Some(sessions) = &mut *self.sessions() {
            sessions.remove(&id);
        }
        self.closed.fetch_add(1, Ordering::Relaxed);
        close.map(|id| (id, Answer::Closed(Nothing {})))
    }

    /// Signs until the session is closed. Gives the id of the request that closed it.
    fn work(&self, mut session: Box<dyn ModuleSession>, queue: &Receiver<Job>) -> Option<u64> {
        while let Ok(job) = queue.recv() {
            match job {
                Job::Sign { id, digest } => {
                    let answer = match <[u8; 32]>::try_from(digest.as_slice()) {
                        Ok(digest) => session.sign(&digest),
                        Err(_) => Err(ours(Class::Permanent, "the digest is not of 32 bytes")),
                    };
                    let answer = answer.map(|raw| Answer::Signature(raw.to_vec()));
                    self.reply(id, answer.unwrap_or_else(failed));
                }
                Job::Close { id } => {
                    drop(session);
                    return Some(id);
                }
            }
        }
        None
    }

    fn stats(&self) -> WireStats {
        WireStats {
            sessions_opened: self.opened.load(Ordering::Relaxed),
            sessions_closed: self.closed.load(Ordering::Relaxed),
            resident_bytes: resident_bytes().unwrap_or(0),
        }
    }

    fn reply(&self, id: u64, answer: Answer) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // When the daemon has gone, the reader sees it too and ends the process.
        drop(write_frame(&mut *socket, &Reply { id, answer: Some(answer) }));
    }

    fn sessions(&self) -> MutexGuard<'_, Option<HashMap<u64, SyncSender<Job>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn failed(error: ModuleError) -> Answer {
    Answer::Failed(error.into())
}

/// A failure that the module has no part in.
fn ours(class: Class, detail: &str) -> ModuleError {
    ModuleError { class, code: 0, name: "SIDECAR".into(), detail: detail.into() }
}

/// Memory of this process that lies in RAM. `None` where /proc is not there.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    pages.checked_mul(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::sidecar::{
        module::{FoundKey, Tries},
        spec::TokenSelector,
        wire::Load,
    };
    use std::sync::Condvar;

    /// A module without a library. Its sessions sign with the digest itself, twice over; one whose
    /// label is "slow" waits until `GATE` opens.
    #[derive(Debug)]
    struct Toy;

    static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    impl Module for Toy {
        fn token(&self) -> String {
            "toy".into()
        }
        fn tries(&self) -> Result<Tries, ModuleError> {
            Ok(Tries::Left(3))
        }
        fn log_in(&self, pin: &Secret<String>) -> Result<(), ModuleError> {
            if pin.expose() == "7391" { Ok(()) } else { Err(ours(Class::Pin, "wrong")) }
        }
        fn find_key(&self, label: &str) -> Result<FoundKey, ModuleError> {
            let algorithm = crate::pb::v1::SignatureAlgorithm::EcdsaP256Sha256;
            Ok(FoundKey { public_key: label.as_bytes().to_vec(), algorithm })
        }
        fn open_session(&self, label: &str) -> Result<Box<dyn ModuleSession>, ModuleError> {
            Ok(Box::new(ToySession { slow: label == "slow" }))
        }
    }

    #[derive(Debug)]
    struct ToySession {
        slow: bool,
    }

    impl ModuleSession for ToySession {
        fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], ModuleError> {
            if self.slow {
                drop(GATE.1.wait_while(GATE.0.lock().unwrap(), |open| !*open).unwrap());
            }
            let mut raw = [0; 64];
            raw[..32].copy_from_slice(digest);
            raw[32..].copy_from_slice(digest);
            Ok(raw)
        }
    }

    struct Daemon {
        socket: UnixStream,
        frames: FrameReader,
        served: thread::JoinHandle<io::Result<()>>,
    }

    impl Daemon {
        fn start(sessions_max: u32) -> Self {
            let (socket, theirs) = UnixStream::pair().unwrap();
            let load: Loader = |spec| match spec.token {
                TokenSelector::Sdf => Ok(Box::new(Toy)),
                _ => Err(ours(Class::Permanent, "no toy")),
            };
            let served = thread::spawn(move || serve(theirs, load, sessions_max));
            Self { socket, frames: FrameReader::new(), served }
        }

        fn loaded(sessions_max: u32) -> Self {
            let mut daemon = Self::start(sessions_max);
            let spec = ModuleSpec { module: "/toy.so".into(), token: TokenSelector::Sdf };
            let loaded = daemon.ask(1, Ask::Load(Load::new(&spec)));
            assert_eq!(loaded, Answer::Loaded("toy".into()));
            daemon
        }

        fn send(&mut self, id: u64, ask: Ask) {
            write_frame(&mut self.socket, &Request { id, ask: Some(ask) }).unwrap();
        }

        fn answer(&mut self) -> (u64, Answer) {
            let reply: Reply = self.frames.next(&mut self.socket).unwrap().unwrap();
            (reply.id, reply.answer.unwrap())
        }

        fn ask(&mut self, id: u64, ask: Ask) -> Answer {
            self.send(id, ask);
            let (answered, answer) = self.answer();
            assert_eq!(answered, id);
            answer
        }

        fn refused(&mut self, id: u64, ask: Ask) -> ModuleError {
            match self.ask(id, ask) {
                Answer::Failed(failed) => failed.into(),
                other => panic!("{other:?}"),
            }
        }

        fn opened(&mut self) -> (u64, u64) {
            match self.ask(900, Ask::Stats(Nothing {})) {
                Answer::Stats(stats) => {
                    assert!(stats.resident_bytes > 0);
                    (stats.sessions_opened, stats.sessions_closed)
                }
                other => panic!("{other:?}"),
            }
        }

        fn leave(self) -> io::Result<()> {
            drop(self.socket);
            self.served.join().unwrap()
        }
    }

    fn sign(session: u64, byte: u8) -> Ask {
        Ask::Sign(Sign { session, digest: vec![byte; 32] })
    }

    #[test]
    fn sessions_sign_are_counted_and_end_when_closed() {
        let mut daemon = Daemon::loaded(2);
        assert_eq!(daemon.ask(2, Ask::OpenSession("k".into())), Answer::Opened(2));
        assert_eq!(daemon.ask(3, Ask::OpenSession("k".into())), Answer::Opened(3));
        let full = daemon.refused(4, Ask::OpenSession("k".into()));
        assert_eq!(full.class, Class::Transient, "{full}");
        assert_eq!(daemon.ask(5, sign(2, 7)), Answer::Signature(vec![7; 64]));
        let short = Ask::Sign(Sign { session: 2, digest: vec![7; 31] });
        assert_eq!(daemon.refused(6, short).class, Class::Permanent);
        assert_eq!(daemon.ask(7, Ask::CloseSession(2)), Answer::Closed(Nothing {}));
        assert_eq!(daemon.refused(8, sign(2, 7)).class, Class::SessionLost);
        assert_eq!(daemon.opened(), (2, 1));
        assert_eq!(daemon.ask(9, Ask::OpenSession("k".into())), Answer::Opened(9));
        daemon.leave().unwrap();
    }

    #[test]
    fn a_session_that_hangs_holds_up_no_other_and_does_not_keep_the_process() {
        let mut daemon = Daemon::loaded(2);
        daemon.ask(2, Ask::OpenSession("slow".into()));
        daemon.ask(3, Ask::OpenSession("k".into()));
        daemon.send(4, sign(2, 1));
        assert_eq!(daemon.ask(5, sign(3, 2)), Answer::Signature(vec![2; 64]));
        assert_eq!(daemon.ask(6, Ask::Tries(Nothing {})), Answer::Tries(Tries::Left(3).into()));
        daemon.leave().unwrap();
        *GATE.0.lock().unwrap() = true;
        GATE.1.notify_all();
    }

    #[test]
    fn a_pin_is_presented_once_in_the_life_of_a_process() {
        for pin in ["7391", "0000"] {
            let mut daemon = Daemon::loaded(1);
            let log_in = |pin: &str| Ask::LogIn(LogIn { pin: pin.to_owned() });
            match daemon.ask(2, log_in(pin)) {
                Answer::LoggedIn(_) => assert_eq!(pin, "7391"),
                Answer::Failed(failed) => assert_eq!(ModuleError::from(failed).class, Class::Pin),
                other => panic!("{other:?}"),
            }
            let again = daemon.refused(3, log_in("7391"));
            assert!(again.detail.contains("already"), "{again}");
            daemon.leave().unwrap();
        }
    }

    #[test]
    fn nothing_is_done_before_a_module_is_loaded_or_without_sense() {
        let mut daemon = Daemon::start(1);
        for ask in [Ask::Tries(Nothing {}), Ask::FindKey("k".into()), Ask::OpenSession("k".into())]
        {
            assert_eq!(daemon.refused(1, ask).class, Class::Permanent);
        }
        assert_eq!(daemon.refused(1, Ask::Load(Load::default())).class, Class::Permanent);
        write_frame(&mut daemon.socket, &Request { id: 2, ask: None }).unwrap();
        assert!(daemon.served.join().unwrap().is_err());
    }
}
