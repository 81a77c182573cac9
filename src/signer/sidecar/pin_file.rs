//! Reads a PIN from its file. It is read anew for each login, so that an operator may replace it.

use crate::secret::Secret;
use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use zeroize::{Zeroize as _, Zeroizing};

/// Longest PIN. Standards end at 255 bytes or far below.
const PIN_BYTES_MAX: usize = 255;

/// Why a PIN file is of no use. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum PinFileError {
    #[error("read the PIN file {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("others may read the PIN file {path}; run: chmod 600 '{path}'", path = .0.display())]
    Open(PathBuf),
    #[error("the PIN file {} must be a regular file", .0.display())]
    NoFile(PathBuf),
    #[error("the PIN file {} must hold one line of text, of 1 to 255 bytes", .0.display())]
    Shape(PathBuf),
}

/// The PIN of a file, without the newline at its end.
///
/// # Errors
/// When it cannot be read, may be read by others, or does not hold one line.
pub(super) fn read(path: &Path) -> Result<Secret<String>, PinFileError> {
    let failed = |source| PinFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(PinFileError::NoFile(path.to_owned()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(PinFileError::Open(path.to_owned()));
    }
    // Of its full size at once: a text that grows leaves copies behind.
    let limit = PIN_BYTES_MAX.saturating_add(3);
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
    file.take(crate::convert::len_u64(limit)).read_to_end(&mut bytes).map_err(failed)?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::from_utf8(line.to_vec()).unwrap_or_else(|error| {
        error.into_bytes().zeroize();
        String::new()
    });
    if text.is_empty() || text.len() > PIN_BYTES_MAX || text.contains(['\n', '\r', '\0']) {
        text.zeroize();
        return Err(PinFileError::Shape(path.to_owned()));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read_of(content: &[u8], mode: u32) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let pin = read(&path).map(|pin| pin.expose().clone());
        pin.map_err(|error| error.to_string())
    }

    #[test]
    fn a_pin_is_one_line_without_its_newline() {
        for content in ["7391", "7391\n", "7391\r\n"] {
            assert_eq!(read_of(content.as_bytes(), 0o600).unwrap(), "7391");
        }
        assert_eq!(read_of(b" 73 91 \n", 0o400).unwrap(), " 73 91 ");
        assert_eq!(read_of(&[b'7'; 255], 0o600).unwrap().len(), 255);
        for content in [&b""[..], b"\n", b"73\n91\n", b"7391\n\n", &[b'7'; 256], b"\xff", b"7\0"] {
            let error = read_of(content, 0o600).unwrap_err();
            assert!(error.contains("one line"), "{content:?}: {error}");
        }
    }

    #[test]
    fn a_pin_file_that_others_may_read_is_refused_with_the_remedy() {
        for mode in [0o640, 0o604, 0o644, 0o610, 0o666] {
            let error = read_of(b"7391", mode).unwrap_err();
            assert!(error.contains("chmod 600"), "{mode:o}: {error}");
            assert!(!error.contains("7391"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(PinFileError::NoFile(_))));
        assert!(matches!(read(&dir.path().join("pin")), Err(PinFileError::Read { .. })));
    }
}
