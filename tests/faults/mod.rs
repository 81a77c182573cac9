//! Drives `shim.c`: builds it, sets it on a child process, reads its trace, and replays the trace
//! as a disk would hold it when power is cut. Knows files only, nothing of invoices.
//!
//! Used with `#[path = "faults/mod.rs"]` by the test binaries that need it. The model of the disk
//! is in `disk.rs`; `Disk::after` is the power cut.

pub mod disk;

pub use disk::{Disk, Lost};

use skproxy::convert::hex;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{self, Command},
};

const SOURCE: &str = include_str!("shim.c");
const MAGIC: &[u8] = &0x5446_4b53_u32.to_le_bytes();
/// Bytes of `struct header` in `shim.c`.
const HEADER_LEN: usize = 40;

/// The compiled shim.
#[derive(Debug, Clone)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Compiles the shim with `cc`, once for each version of its source.
    ///
    /// # Errors
    /// When there is no C compiler or it refuses.
    pub fn build() -> io::Result<Self> {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let version = hex(&crc32fast::hash(SOURCE.as_bytes()).to_be_bytes());
        let library = cache.join(format!("faults-{version}.so"));
        if library.exists() {
            return Ok(Self { library });
        }
        fs::create_dir_all(cache)?;
        // Tests run side by side: each builds under a name of its own and the last rename wins.
        let source = cache.join(format!("faults-{}.c", process::id()));
        let built = source.with_extension("so");
        fs::write(&source, SOURCE)?;
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&built, &source])
            .arg("-ldl")
            .status()?;
        if !status.success() {
            return Err(io::Error::other("cc refused tests/faults/shim.c"));
        }
        fs::remove_file(&source)?;
        fs::rename(&built, &library)?;
        Ok(Self { library })
    }

    /// Puts the shim and what it shall do on a child process.
    pub fn load<'a>(&self, child: &'a mut Command, faults: &Faults) -> &'a mut Command {
        let dirs: Vec<_> = faults.dirs.iter().map(|dir| dir.display().to_string()).collect();
        child.env("LD_PRELOAD", &self.library).env("SKPROXY_FAULT_DIRS", dirs.join(":"));
        let paths = [("SKPROXY_FAULT_TRACE", &faults.trace), ("SKPROXY_FAULT_MARK", &faults.mark)];
        for (name, path) in paths {
            if let Some(path) = path {
                child.env(name, path);
            }
        }
        if let Some(fail) = &faults.fail {
            child.env("SKPROXY_FAULT_FAIL", fail.to_string());
        }
        if faults.skip_sync {
            child.env("SKPROXY_FAULT_SKIP_SYNC", "1");
        }
        child
    }
}

/// What the shim shall do to a child. The default watches nothing.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Existing directories whose files count.
    pub dirs: Vec<PathBuf>,
    /// Where the trace goes; outside `dirs`. An older trace is gone on with.
    pub trace: Option<PathBuf>,
    /// The ledger of acknowledgements: what is written to it becomes marks. Absolute.
    pub mark: Option<PathBuf>,
    /// The call that fails.
    pub fail: Option<Fail>,
    /// Syncs do nothing and are not traced: the mutation that the power-cut test must notice.
    pub skip_sync: bool,
}

/// A call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fail {
    /// Which calls are counted.
    pub call: Call,
    /// Which of them fails, from 1.
    pub nth: u64,
    /// How.
    pub error: Injected,
    /// Whether every later one fails too.
    pub sticky: Sticky,
}

/// Whether a fault stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sticky {
    /// One call fails.
    Once,
    /// It and every later one fail.
    FromThenOn,
}

/// Kind of call that a fault counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// write, pwrite, writev, pwritev, fallocate.
    Write,
    /// fsync, fdatasync, of files and of directories.
    Sync,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injected {
    /// Input/output error.
    Eio,
    /// No space left.
    Enospc,
    /// Half is written, and the call says so. Writes only.
    Short,
}

impl std::fmt::Display for Fail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let call = match self.call {
            Call::Write => "write",
            Call::Sync => "sync",
        };
        let error = match self.error {
            Injected::Eio => "EIO",
            Injected::Enospc => "ENOSPC",
            Injected::Short => "short",
        };
        write!(f, "{call}:{}:{error}", self.nth)?;
        match self.sticky {
            Sticky::Once => Ok(()),
            Sticky::FromThenOn => f.write_str(":sticky"),
        }
    }
}

/// One thing that the process did to a file, in program order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A file was made, or an older one emptied.
    Create {
        /// Whether it was there before.
        emptied: bool,
    },
    /// Bytes were written.
    Write {
        /// Where. Unit: bytes.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// The size was set. Unit: bytes.
    Truncate(u64),
    /// The file's data was synced.
    Sync,
    /// The directory was synced.
    DirSync,
    /// Renamed.
    Rename(PathBuf),
    /// A second name was made.
    Link(PathBuf),
    /// Unlinked.
    Unlink,
    /// The ledger of acknowledgements was written.
    Mark(Vec<u8>),
    /// A sync was made to fail; nothing was synced.
    SyncFailed,
    /// A write was made to fail; nothing was written.
    WriteFailed,
}

/// One record of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The file or directory.
    pub path: PathBuf,
    /// What was done.
    pub op: Op,
}

/// What a process did to its files, in program order.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The records.
    pub records: Vec<Record>,
}

impl Trace {
    /// Reads what the shim wrote. A process that was killed leaves whole records only, since each
    /// is one system call.
    ///
    /// # Errors
    /// When the file cannot be read or is no trace.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let mut records = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (record, after) = parse(rest).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("record {}", records.len()))
            })?;
            records.push(record);
            rest = after;
        }
        Ok(Self { records })
    }

    /// The marks: record index and data, in order.
    pub fn marks(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.records.iter().enumerate().filter_map(|(index, record)| match &record.op {
            Op::Mark(data) => Some((index, data.as_slice())),
            _ => None,
        })
    }

    /// Indices of the syncs, of files and of directories: where a power cut is worth trying.
    pub fn syncs(&self) -> impl Iterator<Item = usize> {
        self.indices(|op| matches!(op, Op::Sync | Op::DirSync))
    }

    /// Indices of the records whose operation `wanted` picks.
    pub fn indices(&self, wanted: impl Fn(&Op) -> bool) -> impl Iterator<Item = usize> {
        let records = self.records.iter().enumerate();
        records.filter(move |(_, record)| wanted(&record.op)).map(|(index, _)| index)
    }

    /// The last sync of `path` before record `before`: test (c) asks it for every mark.
    #[must_use]
    pub fn sync_before(&self, path: &Path, before: usize) -> Option<usize> {
        self.records
            .iter()
            .take(before)
            .rposition(|record| record.op == Op::Sync && record.path == path)
    }
}

fn parse(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_LEN)?;
    let (magic, fields) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return None;
    }
    let op = number32(fields, 0)?;
    let offset = number64(fields, 12)?;
    let path_len = usize::try_from(number32(fields, 20)?).ok()?;
    let other_len = usize::try_from(number32(fields, 24)?).ok()?;
    let data_len = usize::try_from(number64(fields, 28)?).ok()?;
    let (path, rest) = rest.split_at_checked(path_len)?;
    let (other, rest) = rest.split_at_checked(other_len)?;
    let (data, rest) = rest.split_at_checked(data_len)?;
    let path = PathBuf::from(std::str::from_utf8(path).ok()?);
    let other = PathBuf::from(std::str::from_utf8(other).ok()?);
    let op = match op {
        1 => Op::Create { emptied: offset == 1 },
        2 => Op::Write { offset, data: data.to_vec() },
        3 => Op::Truncate(offset),
        4 => Op::Sync,
        5 => Op::DirSync,
        6 => Op::Rename(other),
        7 => Op::Unlink,
        8 => Op::Mark(data.to_vec()),
        9 => Op::SyncFailed,
        10 => Op::WriteFailed,
        11 => Op::Link(other),
        _ => return None,
    };
    Some((Record { path, op }, rest))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
