//! Reads single settings and gathers what is wrong with them. After a mistake it hands out a
//! stand-in, so that one run finds them all; `finish` lets no stand-in through.

use super::{Config, ConfigMistake};
use std::{
    fs,
    net::SocketAddr,
    ops::RangeInclusive,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) struct Reader {
    base: PathBuf,
    mistakes: Vec<ConfigMistake>,
    notes: Vec<ConfigMistake>,
}

impl Reader {
    /// `base` is where relative paths start.
    pub(super) fn new(base: PathBuf) -> Self {
        Self { base, mistakes: Vec::new(), notes: Vec::new() }
    }

    /// The configuration with its notes, unless there was a mistake.
    pub(super) fn finish(self, config: Config) -> Result<Config, Vec<ConfigMistake>> {
        match self.mistakes.is_empty() {
            true => Ok(Config { notes: self.notes, ..config }),
            false => Err(self.mistakes),
        }
    }

    pub(super) fn mistake(&mut self, key: &str, problem: &str, hint: &str) {
        self.mistakes.push(entry(key, problem, hint));
    }

    pub(super) fn note(&mut self, key: &str, problem: &str, hint: &str) {
        self.notes.push(entry(key, problem, hint));
    }

    /// An optional path.
    pub(super) fn path(&self, value: Option<PathBuf>) -> Option<PathBuf> {
        value.map(|path| self.base.join(path))
    }

    /// A directory that exists or can be made.
    pub(super) fn directory(&mut self, key: &str, value: Option<PathBuf>) -> PathBuf {
        let path = self.required(key, value);
        if path.exists() && !path.is_dir() {
            let problem = format!("{} is no directory", path.display());
            self.mistake(key, &problem, "name a directory");
        }
        path
    }

    /// A directory that must be there.
    pub(super) fn existing(&mut self, key: &str, value: PathBuf) -> PathBuf {
        let path = self.required(key, Some(value));
        if !path.as_os_str().is_empty() && !path.is_dir() {
            let problem = format!("{} is no directory", path.display());
            self.mistake(key, &problem, "name a directory, or leave the key out");
        }
        path
    }

    /// A file that must be readable.
    pub(super) fn file(&mut self, key: &str, value: Option<PathBuf>) -> PathBuf {
        let path = self.required(key, value);
        if path.as_os_str().is_empty() {
            return path; // Missing; said already.
        }
        let name = path.display();
        let problem = match fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(about) if about.is_file() => return path,
            Ok(_) => format!("{name} is no file"),
            Err(error) => format!("{name} cannot be read: {error}"),
        };
        self.mistake(key, &problem, "name a file that the proxy's user may read");
        path
    }

    /// A readable file that nobody but its owner may read.
    pub(super) fn secret_file(&mut self, key: &str, value: Option<PathBuf>) -> PathBuf {
        let path = self.file(key, value);
        let mode = fs::metadata(&path).map_or(0, |about| about.permissions().mode());
        if mode & 0o077 != 0 {
            let problem =
                format!("{} is open to others (mode {:03o})", path.display(), mode & 0o777);
            self.mistake(key, &problem, &format!("run: chmod 600 {}", path.display()));
        }
        path
    }

    /// `address:port`.
    pub(super) fn address(
        &mut self,
        key: &str,
        value: Option<String>,
        default: &str,
    ) -> SocketAddr {
        let text = value.as_deref().unwrap_or(default);
        text.parse().unwrap_or_else(|_| {
            let problem = format!("{text:?} is no address and port");
            self.mistake(key, &problem, &format!("write it like \"{default}\""));
            SocketAddr::from(([0, 0, 0, 0], 0))
        })
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        key: &str,
        value: Option<i64>,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let Some(value) = value else { return default };
        if let Some(number) = u64::try_from(value).ok().filter(|number| range.contains(number)) {
            return number;
        }
        let (least, most) = range.into_inner();
        let hint = format!("take {least} to {most}; the default is {default}");
        self.mistake(key, &format!("{value} is out of range"), &hint);
        default
    }

    /// A count within `range`.
    pub(super) fn count(
        &mut self,
        key: &str,
        value: Option<i64>,
        range: RangeInclusive<u64>,
        default: usize,
    ) -> usize {
        let number = self.number(key, value, range, crate::convert::len_u64(default));
        usize::try_from(number).unwrap_or(default)
    }

    /// Milliseconds within `range`.
    pub(super) fn millis(
        &mut self,
        key: &str,
        value: Option<i64>,
        range: RangeInclusive<u64>,
        default: Duration,
    ) -> Duration {
        let default = crate::convert::to_u64(crate::convert::millis(default));
        Duration::from_millis(self.number(key, value, range, default))
    }

    /// Seconds within `range`.
    pub(super) fn seconds(
        &mut self,
        key: &str,
        value: Option<i64>,
        range: RangeInclusive<u64>,
        default: Duration,
    ) -> Duration {
        Duration::from_secs(self.number(key, value, range, default.as_secs()))
    }

    fn required(&mut self, key: &str, value: Option<PathBuf>) -> PathBuf {
        let given = value.filter(|path| !path.as_os_str().is_empty());
        match self.path(given) {
            Some(path) => path,
            None => {
                self.mistake(key, "is missing", "set it; deploy/skproxy.toml shows how");
                PathBuf::new()
            }
        }
    }
}

fn entry(key: &str, problem: &str, hint: &str) -> ConfigMistake {
    ConfigMistake { key: key.to_owned(), problem: problem.to_owned(), hint: hint.to_owned() }
}

/// Whether two paths are, or would be made, on one file system. Unknown counts as no.
pub(super) fn same_file_system(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| {
        path.ancestors().find_map(|path| path.metadata().ok()).map(|about| about.dev())
    };
    device(one).is_some() && device(one) == device(other)
}
