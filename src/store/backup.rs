//! Backups (账簿备份): the books copied page by page over the writer's own connection, so that
//! SQLite carries every commit made meanwhile into the copy. A copy from another connection begins
//! again at each commit and never ends under load.
//!
//! Invariants: the copy is what one commit left behind; it gets its name when it is whole and
//! synced; nothing that goes wrong with it touches the books; the watermark is never part of it.

use super::{StoreError, embedded::BOOKS, reader, schema};
use crate::{clock, convert::to_u64, model::CommitCounter};
use parking_lot::ReentrantMutex;
use rusqlite::{
    Connection, ErrorCode, OpenFlags,
    backup::{Backup, StepResult},
};
use std::{
    fs::{self, File},
    io,
    ops::ControlFlow,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Pages copied before the time is looked at: 256 KiB.
const STEP_PAGES: i32 = 64;
/// Steps in a slice; a slice delays the batch after it.
const SLICE_STEPS: usize = 4;
/// A slice ends at the first step after so long.
const SLICE: Duration = Duration::from_millis(5);

/// Why there is no backup. The books are as they were.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A relative path means another directory to the daemon than to the operator.
    #[error("{0} is not an absolute path")]
    Relative(PathBuf),
    /// The directory holds something.
    #[error("{0} is not empty; name a directory that is empty or absent")]
    NotEmpty(PathBuf),
    /// The file system said no.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The file system of the copy is full.
    #[error("the disk that the backup was written to is full")]
    Full,
    /// SQLite said no.
    #[error("copy the books")]
    Sqlite(#[source] rusqlite::Error),
    /// The books or the copy could not be opened or read.
    #[error(transparent)]
    Store(StoreError),
}

fn failed(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let doing = format!("{doing} {}", path.display());
    |source| match source.kind() {
        io::ErrorKind::StorageFull => BackupError::Full,
        _ => BackupError::Io { doing, source },
    }
}

fn sqlite(error: rusqlite::Error) -> BackupError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => BackupError::Full,
        _ => BackupError::Sqlite(error),
    }
}

/// Where a backup goes: an empty file under a temporary name, removed when dropped.
#[derive(Debug)]
pub struct Destination {
    connection: Connection,
    partial: Partial,
}

/// A file that is not whole yet.
#[derive(Debug)]
struct Partial {
    directory: PathBuf,
    path: PathBuf,
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it got its name.
        drop(fs::remove_file(&self.path));
    }
}

impl Destination {
    /// Takes `directory`, an absolute path: empty, or absent and then made with mode 0700. Blocks
    /// on the file system.
    ///
    /// # Errors
    /// `Relative`, `NotEmpty`, or when the directory or a file in it cannot be made.
    pub fn prepare(directory: &Path) -> Result<Self, BackupError> {
        if !directory.is_absolute() {
            return Err(BackupError::Relative(directory.to_owned()));
        }
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make", directory)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut held = fs::read_dir(directory).map_err(failed("look into", directory))?;
        if held.next().is_some() {
            return Err(BackupError::NotEmpty(directory.to_owned()));
        }
        let path = directory.join(format!("{BOOKS}.partial"));
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        drop(options.open(&path).map_err(failed("make", &path))?);
        let partial = Partial { directory: directory.to_owned(), path };
        let connection = schema::connect(&partial.path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(BackupError::Store)?;
        // A copy that is cut short is thrown away, and a whole one is synced before it is named.
        connection
            .query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))
            .and_then(|()| connection.execute_batch("PRAGMA synchronous = OFF"))
            .map_err(sqlite)?;
        Ok(Self { connection, partial })
    }

    /// Lets the copy grow to so many pages, for tests of a full disk.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, count_max: u32) {
        let set = self.connection.pragma_update(None, "max_page_count", count_max);
        set.expect("the pragma takes any count");
    }
}

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Pages copied.
    pub pages_done: u64,
    /// Pages of the books, which grow meanwhile.
    pub pages_total: u64,
}

/// Copies the books of a store. Used on the store's own thread, between two commits.
#[derive(Debug, Clone)]
pub struct Copier(Arc<ReentrantMutex<Connection>>);

impl Copier {
    pub(super) fn new(writer: &Arc<ReentrantMutex<Connection>>) -> Self {
        Self(Arc::clone(writer))
    }

    /// Copies slice by slice, each of a few milliseconds; `between` them the store may commit, on
    /// this same thread. None when `between` breaks off.
    ///
    /// # Errors
    /// `Full`, or when the copy cannot be written. The partial file is gone then.
    pub fn run(
        &self,
        destination: Destination,
        mut between: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Copied>, BackupError> {
        let Destination { mut connection, partial } = destination;
        let books = self.0.lock();
        let backup = Backup::new(&books, &mut connection).map_err(sqlite)?;
        while !slice(&backup).map_err(sqlite)? {
            if between(progress(&backup)).is_break() {
                return Ok(None);
            }
        }
        let pages = progress(&backup).pages_total;
        drop(backup);
        // No commit has come since the last slice.
        let commits = reader::counter(&books).map_err(BackupError::Store)?;
        connection.close().map_err(|(_, error)| sqlite(error))?;
        Ok(Some(Copied { partial, pages, commits }))
    }
}

fn progress(backup: &Backup<'_, '_>) -> Progress {
    let pages = backup.progress();
    let (total, left) = (to_u64(pages.pagecount.into()), to_u64(pages.remaining.into()));
    Progress { pages_done: total.saturating_sub(left), pages_total: total }
}

/// Copies for a moment; says whether everything is copied.
fn slice(backup: &Backup<'_, '_>) -> rusqlite::Result<bool> {
    let begun = clock::monotonic();
    for _ in 0..SLICE_STEPS {
        match backup.step(STEP_PAGES)? {
            StepResult::Done => return Ok(true),
            StepResult::More if begun.elapsed() < SLICE => {}
            // Somebody has a lock: the next slice tries again.
            _ => break,
        }
    }
    Ok(false)
}

/// A whole copy that is neither synced nor named yet; removed when dropped.
#[derive(Debug)]
pub struct Copied {
    partial: Partial,
    pages: u64,
    commits: CommitCounter,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// The file.
    pub path: PathBuf,
    /// The last commit that it holds.
    pub commits: CommitCounter,
    /// Its size. Unit: bytes.
    pub size_bytes: u64,
}

impl Copied {
    /// Its pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Syncs the copy, gives it its name, and syncs the directory. May block for seconds: not for
    /// the store's thread.
    ///
    /// # Errors
    /// When any of it fails; the copy is removed.
    pub fn finish(self) -> Result<BackedUp, BackupError> {
        let Partial { directory, path: partial } = &self.partial;
        let file = File::open(partial).map_err(failed("open", partial))?;
        file.sync_all().map_err(failed("sync", partial))?;
        let size_bytes = file.metadata().map_err(failed("look at", partial))?.len();
        let path = directory.join(BOOKS);
        fs::rename(partial, &path).map_err(failed("name", &path))?;
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(failed("sync", directory))?;
        Ok(BackedUp { path, commits: self.commits, size_bytes })
    }
}
