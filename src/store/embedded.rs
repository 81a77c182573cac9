//! The embedded store: SQLite in WAL mode with full syncs, one writer, a few readers, a watermark
//! beside it, and an exclusive lock on the data directory.

use super::{
    Balance, Batch, Binding, Books, CommitError, Committed, Found, Loaded, Store, StoreError,
    backup::Copier,
    invoice_void, listing, load,
    reader::{self, Progress},
    rows::{
        self,
        Column::{Bytes, Int},
    },
    schema::{self, sqlite},
    watermark::{self, Mark, Watermark},
    write::Writer,
};
use crate::{
    convert::{sha256_parts, to_i64, to_u64},
    model::{ClaimId, CommitCounter, InvoiceNumber, RequestKey},
};
use parking_lot::{ReentrantMutex, ReentrantMutexGuard};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// File name of the books in the data directory.
pub const BOOKS: &str = "books.db";
/// Above this the writer truncates the log itself. Unit: bytes.
const WAL_MAX: u64 = 64 << 20;
/// The size of the log is looked at once in this many commits: a look is a system call.
const WAL_LOOK_EVERY: u64 = 64;
/// Connections that read; more than the cores we aim at, so that a slow read delays nobody.
const READERS: usize = 4;

/// Where a store lives.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; made when absent.
    pub dir: PathBuf,
    /// The watermark file.
    pub watermark: PathBuf,
    /// New work is refused below this much free space. Unit: bytes.
    pub reserve_bytes: u64,
}

impl Options {
    /// A store with its watermark in the data directory and a reserve of 256 MiB.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), watermark: dir.join("watermark"), reserve_bytes: 256 << 20 }
    }
}

/// An opened store.
#[derive(Debug)]
pub struct Opened {
    /// For the numbering actor.
    pub store: EmbeddedStore,
    /// For everybody else.
    pub books: Arc<Books>,
    /// What the actor keeps in memory.
    pub loaded: Loaded,
    /// What was noticed.
    pub report: StartReport,
}

/// What was noticed at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartReport {
    /// Commits in the books.
    pub commits: CommitCounter,
    /// Frames of an unfinished commit that were dropped from the log.
    pub dropped_frames: u64,
    /// Why nothing may be issued; none when all is well.
    pub read_only: Option<String>,
}

/// The head of the books.
#[derive(Debug, Clone, Copy)]
struct Head {
    mark: Mark,
    previous: [u8; 32],
}

/// The writer.
#[derive(Debug)]
pub struct EmbeddedStore {
    /// A running backup has it locked, on the thread that commits.
    connection: Arc<ReentrantMutex<Connection>>,
    watermark: Option<Watermark>,
    head: Head,
    progress: Arc<Progress>,
    options: Options,
    /// Held until the store is dropped.
    _lock: File,
}

/// Opens or makes the store in `options.dir`.
///
/// # Errors
/// When another daemon holds it, it is newer than this binary, or it does not add up. A store that
/// is behind its watermark opens, read-only, and says so in the report.
pub fn open(options: &Options) -> Result<Opened, StoreError> {
    fs::create_dir_all(&options.dir).map_err(|source| StoreError::Io {
        doing: format!("make the data directory {}", options.dir.display()),
        source,
    })?;
    let lock = lock(&options.dir)?;
    let path = options.dir.join(BOOKS);
    let (connection, watermark) = make_or_open(options, &path)?;
    let head = head(&connection)?;
    let mut report = StartReport { commits: head.mark.counter, ..StartReport::default() };
    report.dropped_frames = dropped_frames(&connection, &path);
    let progress = Arc::new(Progress::default());
    let watermark = match judge(&head, watermark.as_ref().map(|(_, mark)| mark)) {
        Ok(()) => watermark.map(|(file, _)| file),
        Err(why) => {
            report.read_only = Some(why);
            None
        }
    };
    if let Some(file) = &watermark {
        checkpoint(&connection, "TRUNCATE")?;
        file.write(&head.mark)?;
    }
    progress.reached(head.mark.counter);
    let loaded = load::load(&connection)?;
    report.read_only = report.read_only.or_else(|| loaded.behind.clone());
    let readers = (0..READERS)
        .map(|_| schema::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY))
        .collect::<Result<Vec<_>, _>>()?;
    let books = Arc::new(Books::new(readers, Arc::clone(&progress)));
    let options = options.clone();
    let connection = Arc::new(ReentrantMutex::new(connection));
    let store = EmbeddedStore { connection, watermark, head, progress, options, _lock: lock };
    Ok(Opened { store, books, loaded, report })
}

/// Takes the data directory for this process.
///
/// # Errors
/// When another process holds it.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let io = |source| StoreError::Io { doing: format!("lock {}", path.display()), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(StoreError::Locked { path: dir.display().to_string() })
        }
        Err(fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

/// The watermark is made before the books, so that books without one are never fresh.
fn make_or_open(
    options: &Options,
    path: &Path,
) -> Result<(Connection, Option<(Watermark, Mark)>), StoreError> {
    let known = Watermark::open(&options.watermark)?;
    if path.exists() {
        let connection = schema::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::prepare_writer(&connection)?;
        match schema::version(&connection)? {
            0 => make(&connection, known.as_ref().map(|(_, mark)| mark))?,
            found => schema::check(found)?,
        }
        return Ok((connection, known));
    }
    let (file, mark) = match known {
        Some((_, mark)) if mark.counter.0 > 0 => {
            return Err(StoreError::damaged(format!(
                "the watermark {} knows {} commits, but there are no books at {}",
                options.watermark.display(),
                mark.counter.0,
                path.display()
            )));
        }
        Some(known) => known,
        None => {
            let mark =
                Mark { store_id: crate::clock::random(), counter: CommitCounter(0), hash: [0; 32] };
            (Watermark::create(&options.watermark, &mark)?, mark)
        }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = schema::connect(path, flags)?;
    schema::prepare_writer(&connection)?;
    make(&connection, Some(&mark))?;
    Ok((connection, Some((file, mark))))
}

/// Makes the tables and the first head. A file without tables is one whose making was cut short.
fn make(connection: &Connection, mark: Option<&Mark>) -> Result<(), StoreError> {
    let Some(mark) = mark.filter(|mark| mark.counter.0 == 0) else {
        return Err(StoreError::damaged("the books are empty, but the watermark is not"));
    };
    // One transaction: tables without a head would be books that no start accepts.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(sqlite("begin to make the books"))?;
    schema::create(connection)?;
    put_head(connection, &Head { mark: *mark, previous: [0; 32] })
        .and_then(|()| Writer::new(connection).journal_head(None))
        .map_err(sqlite("write the first head"))?;
    connection.execute_batch("COMMIT").map_err(sqlite("finish making the books"))
}

fn put_head(connection: &Connection, head: &Head) -> rusqlite::Result<()> {
    let Mark { store_id, counter, hash } = &head.mark;
    let counter = to_i64(counter.0);
    let crc = rows::crc("head", &head_columns(counter, hash, &head.previous, store_id));
    connection
        .prepare_cached("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?, ?)")?
        .execute(params![counter, hash, head.previous, store_id, crc])
        .map(drop)
}

fn head_columns<'a>(
    counter: i64,
    hash: &'a [u8],
    previous: &'a [u8],
    store_id: &'a [u8],
) -> [rows::Column<'a>; 4] {
    [Int(Some(counter)), Bytes(hash), Bytes(previous), Bytes(store_id)]
}

fn head(connection: &Connection) -> Result<Head, StoreError> {
    let (head, crc): (Option<Head>, i64) = connection
        .query_row("SELECT counter, hash, previous, store_id, crc FROM head", [], |row| {
            let counter = CommitCounter(to_u64(row.get(0)?));
            let mark = Mark { store_id: row.get(3)?, counter, hash: row.get(1)? };
            Ok((Some(Head { mark, previous: row.get(2)? }), row.get(4)?))
        })
        .map_err(sqlite("read the head of the books"))?;
    let head = head.ok_or_else(|| StoreError::damaged("the books have no head"))?;
    let Mark { store_id, counter, hash } = &head.mark;
    let columns = head_columns(to_i64(counter.0), hash, &head.previous, store_id);
    rows::check_crc("head", "1", &columns, crc)?;
    Ok(head)
}

/// Whether the books are what the watermark says, or exactly one commit ahead of it.
fn judge(head: &Head, mark: Option<&Mark>) -> Result<(), String> {
    let books = &head.mark;
    let Some(mark) = mark else {
        return Err(
            "the watermark is lost, so nobody can tell whether the books are complete".into()
        );
    };
    let (ours, theirs) = (books.counter.0, mark.counter.0);
    if books.store_id != mark.store_id {
        return Err("the watermark belongs to other books".into());
    }
    if *books == *mark || (ours == theirs.saturating_add(1) && head.previous == mark.hash) {
        return Ok(());
    }
    Err(if ours < theirs {
        format!(
            "the books end at commit {ours}, but commit {theirs} was acknowledged: an older \
                 copy was restored, or the end of the log is damaged"
        )
    } else {
        format!("commit {ours} of the books is not the one that the watermark ({theirs}) knows")
    })
}

/// What `skproxy verify` says about the books' head, and about their watermark when they have one.
pub(super) fn judge_offline(
    connection: &Connection,
    watermark: Option<&Path>,
) -> Result<(), StoreError> {
    let head = head(connection)?;
    let Some(path) = watermark else { return Ok(()) };
    judge(&head, watermark::read(path)?.as_ref()).map_err(StoreError::damaged)
}

fn checkpoint(connection: &Connection, mode: &'static str) -> Result<(), StoreError> {
    let busy: i64 = connection
        .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0))
        .map_err(sqlite("checkpoint"))?;
    if busy == 0 {
        return Ok(());
    }
    Err(StoreError::Slow)
}

/// Frames in the log that follow the last commit and bear the log's own salt: an unfinished commit.
fn dropped_frames(connection: &Connection, path: &Path) -> u64 {
    const HEADER: usize = 32;
    let valid = connection
        .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, i64>(1))
        .map_or(0, to_u64);
    let Ok(log) = fs::read(wal_path(path)) else { return 0 };
    let word = |at: usize| log.get(at..at.saturating_add(4)).and_then(|word| word.try_into().ok());
    let Some(page) = word(8).map(u32::from_be_bytes).and_then(|page| usize::try_from(page).ok())
    else {
        return 0;
    };
    let frame = page.saturating_add(24);
    let salt = log.get(16..24);
    let frames = log.get(HEADER..).unwrap_or_default().chunks(frame);
    let tail = frames.skip(usize::try_from(valid).unwrap_or(usize::MAX));
    crate::convert::len_u64(tail.filter(|bytes| bytes.get(8..16) == salt).count())
}

fn wal_path(books: &Path) -> PathBuf {
    let mut name = books.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

impl EmbeddedStore {
    fn connection(&self) -> ReentrantMutexGuard<'_, Connection> {
        self.connection.lock()
    }

    /// A connection that checkpoints passively, for a helper thread.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn checkpointer(&self) -> Result<Checkpointer, StoreError> {
        let path = self.options.dir.join(BOOKS);
        schema::connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map(|connection| Checkpointer(Arc::new(Mutex::new(connection))))
    }

    /// Takes the books for what they are, although no watermark proves that they are complete: an
    /// operator has compared them with every witness. A watermark that says otherwise is kept
    /// beside the new one, as evidence. Does nothing to books whose watermark proves them.
    ///
    /// # Errors
    /// When a file cannot be renamed, made or synced, or the log not be moved into the books.
    pub fn take_as_is(&mut self) -> Result<(), StoreError> {
        if self.watermark.is_some() {
            return Ok(());
        }
        let path = &self.options.watermark;
        if path.exists() {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".before-{}", self.head.mark.counter.0));
            fs::rename(path, &name).map_err(|source| StoreError::Io {
                doing: format!("keep the old watermark as {}", Path::new(&name).display()),
                source,
            })?;
        }
        let watermark = Watermark::create(path, &self.head.mark)?;
        checkpoint(&self.connection(), "TRUNCATE")?;
        self.watermark = Some(watermark);
        Ok(())
    }

    /// The commit's rows and its new head, all but COMMIT itself.
    fn write(&self, batch: &Batch) -> rusqlite::Result<Head> {
        let connection = self.connection();
        let mut writer = Writer::new(&connection);
        writer.batch(batch)?;
        listing::write(&connection, batch)?;
        let counter = CommitCounter(self.head.mark.counter.0.saturating_add(1));
        let previous = self.head.mark.hash;
        let hash = sha256_parts(&[&previous, &counter.0.to_be_bytes(), &writer.crcs]);
        let head = Head { mark: Mark { counter, hash, ..self.head.mark }, previous };
        put_head(&connection, &head)?;
        Ok(head)
    }

    /// Waits for whoever else writes, such as an operator's shell: nothing is decided yet, and a
    /// process that ended here would only find the lock again.
    fn begin(&self) -> rusqlite::Result<()> {
        loop {
            match self.connection().execute_batch("BEGIN IMMEDIATE") {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    tracing::error!(%error, "another process writes to the books; end it");
                }
                begun => return begun,
            }
        }
    }

    fn transaction(&self, batch: &Batch) -> rusqlite::Result<Head> {
        self.begin()?;
        let head = self.write(batch)?;
        self.connection().execute_batch("COMMIT")?;
        Ok(head)
    }

    /// Whether the failure was lack of space and everything is rolled back.
    fn rolled_back(&self, error: &rusqlite::Error) -> bool {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        // SQLite may have rolled back by itself; then there is no transaction to end.
        let connection = self.connection();
        full && (connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok())
    }

    /// Lets the books grow to so many pages, for tests of a full disk.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, count_max: u32) {
        let set = self.connection().pragma_update(None, "max_page_count", count_max);
        set.expect("the pragma takes any count");
    }

    /// Waits for another's lock as briefly as can be, for tests of the waiting.
    #[cfg(test)]
    pub(super) fn be_impatient(&self) {
        let set = self.connection().busy_timeout(std::time::Duration::from_millis(1));
        set.expect("any time-out will do");
    }

    fn fatal(&self, source: StoreError) -> CommitError {
        CommitError::Fatal { counter: self.head.mark.counter.0.saturating_add(1), source }
    }

    fn truncate_when_long(&self) {
        if !self.head.mark.counter.0.is_multiple_of(WAL_LOOK_EVERY) {
            return;
        }
        let len =
            fs::metadata(wal_path(&self.options.dir.join(BOOKS))).map_or(0, |meta| meta.len());
        if len > WAL_MAX
            && let Err(error) = checkpoint(&self.connection(), "TRUNCATE")
        {
            tracing::warn!(%error, len, "the log could not be truncated yet");
        }
    }
}

impl Store for EmbeddedStore {
    fn commit(&mut self, batch: Batch) -> Result<Committed, CommitError> {
        let Some(watermark) = &self.watermark else {
            let source = StoreError::damaged("a commit was asked of a read-only store");
            return Err(self.fatal(source));
        };
        let head = match self.transaction(&batch) {
            Ok(head) => head,
            Err(error) if self.rolled_back(&error) => return Err(CommitError::Full),
            Err(source) => {
                return Err(self.fatal(StoreError::Sqlite { doing: "commit", source }));
            }
        };
        watermark.write(&head.mark).map_err(|source| self.fatal(source))?;
        self.head = head;
        self.progress.reached(head.mark.counter);
        self.truncate_when_long();
        Ok(Committed::new(head.mark.counter, batch))
    }

    fn binding(&self, key: &RequestKey) -> Result<Option<Binding>, StoreError> {
        reader::binding(&self.connection(), key)
    }

    fn found(&self, claim: ClaimId) -> Result<Found, StoreError> {
        reader::found(&self.connection(), claim)
    }

    fn void_requested(&self, key: &RequestKey) -> Result<Option<ClaimId>, StoreError> {
        invoice_void::requested(&self.connection(), key)
    }

    fn holder(&self, number: &InvoiceNumber) -> Result<Option<ClaimId>, StoreError> {
        reader::holder(&self.connection(), number)
    }

    fn balance(&self, blue: ClaimId) -> Result<Option<Balance>, StoreError> {
        reader::balance(&self.connection(), blue)
    }

    fn is_rejected(&self, claim: ClaimId) -> Result<bool, StoreError> {
        reader::is_rejected(&self.connection(), claim)
    }

    fn any_number(&self, number: &InvoiceNumber, last: u32) -> Result<bool, StoreError> {
        reader::any_number(&self.connection(), number, last)
    }

    fn has_reserve(&self) -> bool {
        let Ok(space) = rustix::fs::statvfs(&self.options.dir) else { return false };
        space.f_bavail.saturating_mul(space.f_frsize) >= self.options.reserve_bytes
    }

    fn counter(&self) -> CommitCounter {
        self.head.mark.counter
    }

    fn copier(&self) -> Option<Copier> {
        Some(Copier::new(&self.connection))
    }
}

/// Moves committed pages from the log into the books without holding the writer up. Clones share
/// one connection.
#[derive(Debug, Clone)]
pub struct Checkpointer(Arc<Mutex<Connection>>);

impl Checkpointer {
    /// One passive checkpoint.
    ///
    /// # Errors
    /// When it fails; the log then grows until the next one.
    pub fn run(&self) -> Result<(), StoreError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checkpoint(&connection, "PASSIVE").or_else(|error| match error {
            StoreError::Slow => Ok(()), // a reader is in the way; the next run goes on
            other => Err(other),
        })
    }
}
