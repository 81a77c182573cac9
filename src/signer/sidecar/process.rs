//! What a sidecar process does before it serves: it binds its life to the daemon's, its memory to a
//! limit and its token to itself, and sees to it that no PIN reaches a disk.

use super::{
    load::load,
    serve::{say, serve},
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getpid, kill_process, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use std::{
    ffi::OsString,
    fs::{File, OpenOptions, TryLockError},
    io,
    os::{
        fd::AsFd as _,
        unix::{fs::OpenOptionsExt as _, net::UnixStream},
    },
    panic,
    path::{Path, PathBuf},
};

/// What the daemon gives a sidecar on its command line. No secret is among it.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// Locked for the life of the process, so that no two use one token.
    pub lock: PathBuf,
    /// Writable memory, at most. Unit: bytes.
    pub memory_max_bytes: u64,
    /// Sessions, at most.
    pub sessions_max: u32,
}

impl ProcessOptions {
    /// The same on a command line, as `skproxy sidecar` reads it.
    pub(super) fn arguments(&self) -> [OsString; 6] {
        [
            "--lock".into(),
            self.lock.clone().into(),
            "--memory-max-bytes".into(),
            self.memory_max_bytes.to_string().into(),
            "--sessions-max".into(),
            self.sessions_max.to_string().into(),
        ]
    }
}

/// Why a sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Somebody started it by hand.
    #[error("stdin is no socket; a sidecar is started by `skproxy serve` only")]
    NoSocket(#[source] io::Error),
    /// A limit could not be set.
    #[error("{what}")]
    Confine {
        /// What was being done.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The lock file.
    #[error("lock {}", .path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An earlier sidecar of the same token has not ended.
    #[error("{} is locked: another process uses this token", .0.display())]
    Busy(PathBuf),
    /// The socket to the daemon.
    #[error("talk to the daemon")]
    Socket(#[source] io::Error),
}

/// Serves the daemon at the other end of stdin until it closes. Call it in a process of its own,
/// from a thread that lives as long as the process.
///
/// Comes back only with an error: a sidecar that has served ends itself, because neither a hanging
/// module nor the destructors of a broken one may keep it.
///
/// # Errors
/// When it cannot be confined, its token is in use, or the socket fails.
pub fn run(options: &ProcessOptions) -> Result<(), ProcessError> {
    let socket = take_socket().map_err(ProcessError::NoSocket)?;
    // A thread that panicked would leave its caller without an answer until its deadline.
    panic::set_hook(Box::new(|_| std::process::abort()));
    let confined = confine(options.memory_max_bytes).and_then(|()| lock(&options.lock));
    let lock = match confined {
        Ok(lock) => lock,
        Err(error) => {
            // It is the only one who can tell; when that fails too, the daemon sees the end.
            drop(say(&socket, &format!("{error}{}", cause(&error))));
            return Err(error);
        }
    };
    let served = serve(socket, load, options.sessions_max).map_err(ProcessError::Socket);
    // Until here, whatever else ends before.
    drop(lock);
    served?;
    kill_process(getpid(), Signal::KILL)
        .map_err(|error| ProcessError::Confine { what: "end", source: error.into() })
}

fn cause(error: &ProcessError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}

/// Takes the socket off stdin, where the module must not find it.
fn take_socket() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    let socket = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    socket.peer_addr()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

fn confine(memory_max_bytes: u64) -> Result<(), ProcessError> {
    let done = |what, result: rustix::io::Result<()>| {
        result.map_err(|error| ProcessError::Confine { what, source: error.into() })
    };
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    // The closed socket says so too, but only to a process that runs.
    done("ask to die with the daemon", set_parent_process_death_signal(Some(Signal::KILL)))?;
    done("forbid core dumps", setrlimit(Resource::Core, limit(0)))?;
    done("forbid tracing", set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    // Not the address space: each thread's arena reserves 64 MiB of it and uses next to nothing.
    done("limit the memory", setrlimit(Resource::Data, limit(memory_max_bytes)))
}

fn lock(path: &Path) -> Result<File, ProcessError> {
    let failed = |source| ProcessError::Lock { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ProcessError::Busy(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_held_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.lock");
        let first = lock(&path).unwrap();
        let busy = lock(&path).unwrap_err();
        assert!(matches!(busy, ProcessError::Busy(_)), "{busy}");
        drop(first);
        lock(&path).unwrap();
        let missing = lock(&dir.path().join("no/such/dir.lock")).unwrap_err();
        assert!(matches!(missing, ProcessError::Lock { .. }), "{missing}");
    }
}
