//! The disk after a power cut: what of a trace is still there when everything not synced may be
//! gone.
//!
//! Data: writes and truncates of a file count once that file was synced after them. After a sync
//! that failed, the writes before it are lost even if a later sync succeeds, as Linux has it. Names
//! (create, rename, link, unlink) are journalled in order: a sync of a directory makes the changes
//! in it and all before them durable, and so does a sync of a file for its own names. That is what
//! ext4 (ordered) and XFS do; POSIX promises less. A test that wants less asks for it with
//! `Names::Strict`.

use super::{Op, Record, Trace};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

const SECTOR: usize = 512;

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// All of it is gone.
    All,
    /// Each write is kept, dropped or torn at 512-byte sectors, by this seed.
    Seeded(u64),
}

/// When a change of a name is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// With a sync of the directory, or of the file itself.
    #[default]
    Journalled,
    /// With a sync of the directory only.
    Strict,
}

/// The files that a disk holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Content by absolute path, as in the trace.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Disk {
    /// What `dir` holds now, subdirectories included: the disk before the trace began.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        let mut open = vec![dir.canonicalize()?];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                } else if entry.file_type()?.is_file() {
                    files.insert(entry.path(), fs::read(entry.path())?);
                }
            }
        }
        Ok(Self { files })
    }

    /// This disk after the first `upto` records of `trace` and a power cut.
    #[must_use]
    pub fn after(&self, trace: &Trace, upto: usize, lost: Lost) -> Self {
        self.after_with(trace, upto, lost, Names::default())
    }

    /// As `after`, with a choice when names are durable.
    #[must_use]
    pub fn after_with(&self, trace: &Trace, upto: usize, lost: Lost, names: Names) -> Self {
        let mut replay = Replay::new(self, names);
        for record in trace.records.iter().take(upto) {
            replay.apply(record);
        }
        replay.cut(lost)
    }

    /// Writes the files that are under `from` to the same places under `to`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, from: &Path, to: &Path) -> io::Result<()> {
        let from = from.canonicalize()?;
        fs::create_dir_all(to)?;
        for (path, content) in &self.files {
            let Ok(inner) = path.strip_prefix(&from) else { continue };
            let target = to.join(inner);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(target, content)?;
        }
        Ok(())
    }
}

/// A file's identity, whatever its names.
type Inode = usize;

#[derive(Debug, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    kind: ChangeKind,
    /// A sync failed after it: no later one makes it durable.
    abandoned: bool,
}

#[derive(Debug, Clone)]
enum ChangeKind {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, Inode),
    Move(PathBuf, PathBuf, Inode),
    Remove(PathBuf, Inode),
}

impl NameChange {
    fn inode(&self) -> Inode {
        match self {
            Self::Set(_, inode) | Self::Move(_, _, inode) | Self::Remove(_, inode) => *inode,
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Set(path, _) | Self::Remove(path, _) => path.parent() == Some(dir),
            Self::Move(from, to, _) => to.parent() == Some(dir) || from.parent() == Some(dir),
        }
    }
}

type Namespace = BTreeMap<PathBuf, Inode>;

#[derive(Debug)]
struct Replay {
    rule: Names,
    files: Vec<File>,
    /// Names as the process sees them.
    seen: Namespace,
    /// Names on the disk.
    durable: Namespace,
    /// Changes of names that are not on the disk yet, in order.
    pending: Vec<NameChange>,
}

impl Replay {
    fn new(base: &Disk, rule: Names) -> Self {
        let mut replay = Self {
            rule,
            files: Vec::new(),
            seen: Namespace::new(),
            durable: Namespace::new(),
            pending: Vec::new(),
        };
        for (path, content) in &base.files {
            let inode = replay.files.len();
            replay.files.push(File { durable: content.clone(), pending: Vec::new() });
            replay.seen.insert(path.clone(), inode);
            replay.durable.insert(path.clone(), inode);
        }
        replay
    }

    fn apply(&mut self, record: &Record) {
        let path = &record.path;
        match &record.op {
            Op::Create { .. } => {
                let inode = self.inode(path);
                self.change(inode, ChangeKind::Truncate(0));
            }
            Op::Write { offset, data } => {
                let inode = self.inode(path);
                self.change(inode, ChangeKind::Write(size(*offset), data.clone()));
            }
            Op::Truncate(len) => {
                let inode = self.inode(path);
                self.change(inode, ChangeKind::Truncate(size(*len)));
            }
            Op::Sync => self.sync(path),
            Op::SyncFailed => self.abandon(path),
            Op::DirSync => self.settle(|change| change.is_in(path)),
            Op::Rename(to) => self.rename(path, to),
            Op::Link(to) => {
                let inode = self.inode(path);
                self.name(NameChange::Set(to.clone(), inode));
            }
            Op::Unlink => {
                let inode = self.inode(path);
                self.name(NameChange::Remove(path.clone(), inode));
            }
            Op::Mark(_) | Op::WriteFailed => {}
        }
    }

    /// The file of that name. One that the trace never saw made existed before and is taken as new.
    fn inode(&mut self, path: &Path) -> Inode {
        if let Some(inode) = self.seen.get(path) {
            return *inode;
        }
        let inode = self.files.len();
        self.files.push(File::default());
        self.name(NameChange::Set(path.to_owned(), inode));
        inode
    }

    fn name(&mut self, change: NameChange) {
        settle_one(&mut self.seen, &change);
        self.pending.push(change);
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let inode = self.inode(from);
        self.name(NameChange::Move(from.to_owned(), to.to_owned(), inode));
    }

    fn change(&mut self, inode: Inode, kind: ChangeKind) {
        self.files[inode].pending.push(Change { kind, abandoned: false });
    }

    fn sync(&mut self, path: &Path) {
        let inode = self.inode(path);
        let File { durable, pending } = &mut self.files[inode];
        for change in pending.drain(..).filter(|change| !change.abandoned) {
            write(durable, &change.kind, |_| true);
        }
        if self.rule == Names::Journalled {
            self.settle(|change| change.inode() == inode);
        }
    }

    /// After a failed sync the kernel holds the pages for clean: nothing writes them again.
    fn abandon(&mut self, path: &Path) {
        if let Some(&inode) = self.seen.get(path) {
            for change in &mut self.files[inode].pending {
                change.abandoned = true;
            }
        }
    }

    /// Makes the changes of names up to the last one that `of` picks durable.
    fn settle(&mut self, of: impl Fn(&NameChange) -> bool) {
        let len = self.pending.iter().rposition(of).map_or(0, |last| last + 1);
        for change in self.pending.drain(..len) {
            settle_one(&mut self.durable, &change);
        }
    }

    fn cut(mut self, lost: Lost) -> Disk {
        if let Lost::Seeded(seed) = lost {
            let mut random = Random(seed);
            self.keep_some(&mut random);
        }
        let files = self.files;
        let content = |inode: Inode| files[inode].durable.clone();
        Disk { files: self.durable.into_iter().map(|(path, i)| (path, content(i))).collect() }
    }

    fn keep_some(&mut self, random: &mut Random) {
        // The journal commits in order, so what survives of it is a beginning.
        let len = random.below(self.pending.len() + 1);
        for change in self.pending.drain(..len) {
            settle_one(&mut self.durable, &change);
        }
        for File { durable, pending } in &mut self.files {
            for change in pending.drain(..) {
                match random.below(3) {
                    0 => {}
                    1 => write(durable, &change.kind, |_| true),
                    _ => write(durable, &change.kind, |_| random.below(2) == 0),
                }
            }
        }
    }
}

fn settle_one(names: &mut Namespace, change: &NameChange) {
    match change {
        NameChange::Set(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Move(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
        NameChange::Remove(path, _) => {
            names.remove(path);
        }
    }
}

/// Applies a change; of a write, only the disk sectors that `keeps` picks.
fn write(content: &mut Vec<u8>, change: &ChangeKind, mut keeps: impl FnMut(usize) -> bool) {
    match change {
        ChangeKind::Truncate(len) => {
            if keeps(0) {
                content.resize(*len, 0);
            }
        }
        ChangeKind::Write(offset, data) => {
            let mut at = 0;
            while at < data.len() {
                let start = offset + at;
                let end = ((start / SECTOR + 1) * SECTOR).min(offset + data.len());
                if keeps(start / SECTOR) {
                    if content.len() < end {
                        content.resize(end, 0);
                    }
                    content[start..end].copy_from_slice(&data[at..end - offset]);
                }
                at = end - offset;
            }
        }
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).expect("a traced file fits in memory")
}

/// splitmix64: enough to choose what a cut keeps, and the same in every run of one seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A number below `limit`, or 0 when that is 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap_or(0);
        mixed.checked_rem(limit).unwrap_or(0)
    }
}
