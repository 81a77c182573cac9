//! The watermark: which commit was last made durable, kept outside the books (on another file
//! system where there is one, and never part of a backup), so that a store which is behind is
//! noticed.
//!
//! Two slots are written in turn, so that a torn write leaves the other one. Each is synced before
//! anything of its commit is acknowledged.

use super::StoreError;
use crate::model::CommitCounter;
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"SKPXWM\0\x01";
/// A slot owns a whole sector of any disk we know.
const SLOT_BYTES: usize = 4096;
/// Magic, store id, counter, hash, CRC.
const RECORD_BYTES: usize = 8 + 16 + 8 + 32 + 4;

/// What one slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which store, 16 random bytes chosen when it was made.
    pub store_id: [u8; 16],
    /// Last durable commit.
    pub counter: CommitCounter,
    /// Running hash of that commit.
    pub hash: [u8; 32],
}

impl Mark {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..24].copy_from_slice(&self.store_id);
        bytes[24..32].copy_from_slice(&self.counter.0.to_be_bytes());
        bytes[32..64].copy_from_slice(&self.hash);
        let crc = crc32fast::hash(&bytes[..64]);
        bytes[64..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let record = bytes.get(..RECORD_BYTES)?;
        let crc = u32::from_be_bytes(record.get(64..68)?.try_into().ok()?);
        if !record.starts_with(MAGIC) || crc32fast::hash(record.get(..64)?) != crc {
            return None;
        }
        Some(Self {
            store_id: record.get(8..24)?.try_into().ok()?,
            counter: CommitCounter(u64::from_be_bytes(record.get(24..32)?.try_into().ok()?)),
            hash: record.get(32..64)?.try_into().ok()?,
        })
    }
}

/// The watermark file, open for writing.
#[derive(Debug)]
pub struct Watermark {
    file: File,
    path: PathBuf,
}

impl Watermark {
    /// Makes the file with its first mark, synced with its folder. It gets its name when it is
    /// whole, so that a start which is cut short leaves none that says nothing.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn create(path: &Path, mark: &Mark) -> Result<Self, StoreError> {
        if path.exists() {
            return Err(io(path, "make", std::io::ErrorKind::AlreadyExists.into()));
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)
            .map_err(|source| io(&new, "make", source))?;
        // Written out now, so that no later write needs space.
        file.write_all_at(&[0; 2 * SLOT_BYTES], 0).map_err(|source| io(&new, "fill", source))?;
        let watermark = Self { file, path: path.to_owned() };
        watermark.write(mark)?;
        fs::rename(&new, path).map_err(|source| io(path, "name", source))?;
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| io(folder, "sync the folder of", source))?;
        Ok(watermark)
    }

    /// Opens the file and reads its latest mark. `None` when there is no file or no readable slot.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(path: &Path) -> Result<Option<(Self, Mark)>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| io(path, "open", source))?;
        let mark = read(path)?;
        Ok(mark.map(|mark| (Self { file, path: path.to_owned() }, mark)))
    }

    /// Writes a mark into its slot and syncs it.
    ///
    /// # Errors
    /// When either fails; the process must then end.
    pub fn write(&self, mark: &Mark) -> Result<(), StoreError> {
        let slot = if mark.counter.0.is_multiple_of(2) { 0 } else { SLOT_BYTES };
        self.file
            .write_all_at(&mark.encode(), crate::convert::len_u64(slot))
            .map_err(|source| io(&self.path, "write", source))?;
        self.file.sync_data().map_err(|source| io(&self.path, "sync", source))
    }
}

/// The latest mark of a watermark file; `None` when there is no file or no readable slot.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<Mark>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|source| io(path, "read", source))?;
    let slots = bytes.chunks(SLOT_BYTES).filter_map(Mark::decode);
    Ok(slots.max_by_key(|mark| mark.counter))
}

fn io(path: &Path, doing: &str, source: std::io::Error) -> StoreError {
    StoreError::Io { doing: format!("{doing} the watermark {}", path.display()), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(counter: u64) -> Mark {
        Mark { store_id: [7; 16], counter: CommitCounter(counter), hash: [9; 32] }
    }

    #[test]
    fn the_latest_mark_is_read_and_a_torn_slot_falls_back_to_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watermark");
        let watermark = Watermark::create(&path, &mark(0)).unwrap();
        for counter in 1..=5 {
            watermark.write(&mark(counter)).unwrap();
            assert_eq!(read(&path).unwrap(), Some(mark(counter)));
        }
        let mut bytes = fs::read(&path).unwrap();
        bytes[SLOT_BYTES + 30] ^= 1; // slot of commit 5
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), Some(mark(4)));
        bytes[30] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn a_missing_file_is_no_mark_and_an_existing_one_is_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watermark");
        assert!(Watermark::open(&path).unwrap().is_none());
        Watermark::create(&path, &mark(0)).unwrap();
        assert!(Watermark::create(&path, &mark(0)).is_err());
    }
}
