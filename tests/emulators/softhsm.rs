//! A SoftHSM2 token of a test's own, behind a module that writes down what is asked of it and fails
//! on order. Shared by the tests of sidecars and by those of the whole product.

use p256::{SecretKey, pkcs8::EncodePrivateKey as _};
use skproxy::clock;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The token's user PIN.
pub(crate) const PIN: &str = "739155";
/// The token's label.
pub(crate) const LABEL: &str = "test-token";

/// A token without keys in a directory of its own.
pub(crate) struct SoftHsm {
    dir: TempDir,
}

impl SoftHsm {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tokens")).unwrap();
        let tokens = dir.path().join("tokens");
        let settings = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
        fs::write(dir.path().join("softhsm2.conf"), settings).unwrap();
        let source = dir.path().join("module.c");
        fs::write(&source, include_str!("../sidecar/module.c")).unwrap();
        library(&source, &dir.path().join("module.so"));
        let token = Self { dir };
        token.util(&["--init-token", "--free", "--label", LABEL, "--so-pin", "87654321"]);
        token.write_pin(PIN);
        token
    }

    /// A file beside the token: `module.so`, `pin`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write_pin(&self, pin: &str) {
        let path = self.path("pin");
        fs::write(&path, format!("{pin}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// What the module needs in its process's environment.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("SOFTHSM2_CONF", self.path("softhsm2.conf")),
            ("TOKEN_MODULE", softhsm()),
            ("TOKEN_DIR", self.dir.path().to_owned()),
        ]
    }

    /// Makes a key, and logs in to do so, which resets the token's counter of wrong PINs.
    pub(crate) fn import(&self, label: &str, id: &str, more: &[&str]) -> SecretKey {
        let key = SecretKey::from_slice(&clock::random::<32>()).unwrap();
        let path = self.path("key.pem");
        fs::write(&path, key.to_pkcs8_pem(p256::pkcs8::LineEnding::LF).unwrap()).unwrap();
        let path = path.to_str().unwrap();
        let arguments = ["--import", path, "--token", LABEL, "--label", label, "--id", id];
        self.util(&[&arguments, more].concat());
        key
    }

    /// Orders a fault of the module, until `well`.
    pub(crate) fn fail(&self, order: &str) {
        // The module must never see half an order.
        fs::write(self.path("order"), order).unwrap();
        fs::rename(self.path("order"), self.path("fault")).unwrap();
    }

    pub(crate) fn well(&self) {
        fs::remove_file(self.path("fault")).unwrap();
    }

    /// How often the module was asked for something.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.log().lines().filter(|line| line.starts_with(what)).count()
    }

    /// What the module wrote down: a call and its process, a line each.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn util(&self, arguments: &[&str]) {
        let output = Command::new("softhsm2-util")
            .args(arguments)
            .args(["--pin", PIN])
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .expect("softhsm2-util runs; apt-get install softhsm2");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Where Debian puts it.
pub(crate) fn softhsm() -> PathBuf {
    "/usr/lib/softhsm/libsofthsm2.so".into()
}

/// Makes a shared library of a C file.
pub(crate) fn library(source: &Path, to: &Path) {
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-shared", "-fPIC", "-x", "c"])
        .arg(source)
        .arg("-o")
        .arg(to)
        .arg("-ldl")
        .status()
        .expect("the C compiler runs");
    assert!(status.success(), "cc refused {}", source.display());
}
