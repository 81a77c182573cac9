//! An emulated library of a test's own: a copy of the built one, with its control file and its log
//! of calls. Shared by the tests that load it themselves and by those of the whole product.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A copy of an emulator. A copy is a library of its own: nothing is shared with another test.
pub(crate) struct Emulator {
    directory: TempDir,
}

impl Emulator {
    /// A machine or key as `control` describes it.
    pub(crate) fn new(name: &str, control: &str) -> Self {
        let emulator = Self { directory: tempfile::tempdir().unwrap() };
        fs::copy(built(name), emulator.library()).unwrap();
        emulator.control(control);
        emulator
    }

    /// The library to load.
    pub(crate) fn library(&self) -> PathBuf {
        self.directory.path().join("emulator.so")
    }

    /// Changes what it does, from its next call on.
    pub(crate) fn control(&self, control: &str) {
        let new = self.beside("new");
        fs::write(&new, control).unwrap();
        // A call that reads it now sees the old or the new, and no half.
        fs::rename(new, self.beside("control")).unwrap();
    }

    /// How often a function was called.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let log = fs::read_to_string(self.beside("calls")).unwrap_or_default();
        log.lines().filter(|line| *line == function).count()
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.library().with_file_name(format!("emulator.so.{extension}"))
    }
}

/// Where cargo put an emulator. It is built with all tests, but not with one test binary alone:
/// then it is built here.
fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let path = profile.join(format!("examples/lib{name}.so"));
    if is_stale(&path) {
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or("cargo".to_owned()));
        cargo.args(["build", "--quiet", "--locked", "--example", name]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir");
        assert!(cargo.arg(profile.parent().unwrap()).status().unwrap().success(), "{name}");
    }
    path
}

/// Whether an emulator is not built, or older than its sources.
fn is_stale(library: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulators");
    ["sdf.rs", "skf.rs", "shared/mod.rs"]
        .iter()
        .any(|source| changed(library) < changed(&sources.join(source)))
}
