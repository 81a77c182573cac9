//! The simulated device's memory: a file of JSON lines, each synced before the device answers. It
//! stands for the memory of foreign hardware, and is no book of the proxy's.
//!
//! Invariant: what is read back is what was synced; a torn last line was never answered and is
//! dropped, whether its end is missing or sectors before its end are.

use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Line {
    /// Version of the format and private key, hex; the first line.
    Born { version: u8, key: String },
    /// An invoice.
    Issued(Issued),
}

/// What the device remembers of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Issued {
    pub(super) serial: String,
    /// Legacy code.
    pub(super) kind: u16,
    pub(super) buyer_taxpayer_id: String,
    pub(super) buyer_name: String,
    /// Unit: fen.
    pub(super) amount: i64,
    /// Unit: fen.
    pub(super) tax: i64,
    /// Unit: fen.
    pub(super) total: i64,
    pub(super) code: String,
    pub(super) number: u32,
    /// False for a number that the fault menu made up.
    pub(super) is_from_stock: bool,
    /// Seconds since the Unix epoch.
    pub(super) issued_at: i64,
    pub(super) check_code: String,
    pub(super) cipher_text: String,
    pub(super) qr_text: String,
    /// Hex.
    pub(super) signature: String,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Log {
    /// `None` after a failed write: what the file then holds is not known.
    file: Option<File>,
}

impl Log {
    /// Opens or makes the file, for one process at a time, and reads what it holds.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Line>)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (lines, whole) = whole_lines(&bytes)?;
        file.set_len(u64::try_from(whole).map_err(io::Error::other)?)?;
        file.seek(SeekFrom::End(0))?;
        // A killed process may have left a line unsynced; from here on it is answered.
        file.sync_all()?;
        Ok((Self { file: Some(file) }, lines))
    }

    /// Appends a line and syncs it.
    pub(super) fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut file = self.file.take().ok_or_else(|| io::Error::other("a write failed before"))?;
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        file.write_all(&bytes)?;
        file.sync_data()?;
        self.file = Some(file);
        Ok(())
    }
}

/// The lines and the bytes that they take. Only the last may be torn: each was synced before the
/// next was begun.
fn whole_lines(bytes: &[u8]) -> io::Result<(Vec<Line>, usize)> {
    let mut lines = Vec::new();
    let mut end = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(read) if line.ends_with(b"\n") => lines.push(read),
            Err(error) if end + line.len() < bytes.len() => return Err(error.into()),
            _ => break,
        }
        end += line.len();
    }
    Ok((lines, end))
}
