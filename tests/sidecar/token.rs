//! A SoftHSM2 token of its own for each test, behind a module that writes down what is asked of it
//! and fails on order.

use p256::{
    SecretKey,
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier as _},
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _},
};
use skproxy::{
    clock,
    pb::v1 as pb,
    signer::{
        KeySession, SignerError,
        sidecar::{BoundKey, HardwareSpec, ModuleSpec, SidecarSessions, TokenSelector},
    },
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const PIN: &str = "739155";
/// The bound of everything that is waited for.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
const LABEL: &str = "test token";

/// The binary whose `sidecar` command is tested.
pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_skproxy").into()
}

/// A token with one key, labelled `invoice`.
pub(crate) struct Token {
    dir: TempDir,
    public: VerifyingKey,
    key: BoundKey,
}

impl Token {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["tokens", "locks"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let tokens = dir.path().join("tokens");
        let settings = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
        fs::write(dir.path().join("softhsm2.conf"), settings).unwrap();
        compile(dir.path());
        let arguments = ["--init-token", "--free", "--label", LABEL, "--so-pin", "87654321"];
        util(dir.path(), &arguments);
        let public = import(dir.path(), "invoice", "01", &[]).public_key();
        let key = BoundKey {
            label: "invoice".into(),
            public_key: public.to_public_key_der().unwrap().into_vec(),
            algorithm: pb::SignatureAlgorithm::EcdsaP256Sha256,
        };
        let token = Self { dir, public: VerifyingKey::from(public), key };
        token.write_pin(PIN);
        token
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn key(&self) -> BoundKey {
        self.key.clone()
    }

    /// Makes a key, and logs in to do so, which resets the token's counter of wrong PINs.
    pub(crate) fn import(&self, label: &str, id: &str, more: &[&str]) -> SecretKey {
        import(self.dir.path(), label, id, more)
    }

    pub(crate) fn write_pin(&self, pin: &str) {
        let path = self.path("pin");
        fs::write(&path, format!("{pin}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn spec(&self) -> HardwareSpec {
        let token = TokenSelector::Pkcs11 { label: LABEL.into(), serial: None };
        let module = ModuleSpec { module: self.path("module.so"), token };
        let mut spec = HardwareSpec::new(module, Some(self.path("pin")), self.path("locks"));
        for (name, value) in [
            ("SOFTHSM2_CONF", self.path("softhsm2.conf")),
            ("TOKEN_MODULE", softhsm()),
            ("TOKEN_DIR", self.dir.path().to_owned()),
        ] {
            spec.environment.insert(name.into(), value.to_str().unwrap().into());
        }
        spec
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

    /// The process that loaded the module last.
    pub(crate) fn process(&self) -> rustix::process::Pid {
        let log = self.log();
        let line = log.lines().rfind(|line| line.starts_with("load")).expect("it was loaded");
        let number = line.split(' ').nth(1).unwrap().parse().unwrap();
        rustix::process::Pid::from_raw(number).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Signs once and checks the signature against the key that was put into the token.
    pub(crate) fn sign(&self, session: &mut dyn KeySession) -> Result<(), SignerError> {
        let digest = clock::random::<32>();
        let raw = session.sign(&digest)?;
        self.verify(&digest, &raw);
        Ok(())
    }

    pub(crate) fn verify(&self, digest: &[u8; 32], raw: &[u8; 64]) {
        let signature = Signature::from_slice(raw).expect("r and s are scalars");
        self.public.verify_prehash(digest, &signature).expect("what comes back verifies");
    }
}

fn import(dir: &Path, label: &str, id: &str, more: &[&str]) -> SecretKey {
    let key = SecretKey::from_slice(&clock::random::<32>()).unwrap();
    let path = dir.join("key.pem");
    fs::write(&path, key.to_pkcs8_pem(p256::pkcs8::LineEnding::LF).unwrap()).unwrap();
    let path = path.to_str().unwrap();
    let arguments = ["--import", path, "--token", LABEL, "--label", label, "--id", id];
    util(dir, &[&arguments, more].concat());
    key
}

fn util(dir: &Path, arguments: &[&str]) {
    let output = Command::new("softhsm2-util")
        .args(arguments)
        .args(["--pin", PIN])
        .env("SOFTHSM2_CONF", dir.join("softhsm2.conf"))
        .output()
        .expect("softhsm2-util runs; apt-get install softhsm2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where Debian puts it.
fn softhsm() -> PathBuf {
    "/usr/lib/softhsm/libsofthsm2.so".into()
}

fn compile(dir: &Path) {
    let source = dir.join("module.c");
    fs::write(&source, include_str!("module.c")).unwrap();
    library(&source, &dir.join("module.so"));
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

/// Waits until something is there.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = clock::monotonic();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < BOUND, "{what} took longer than {BOUND:?}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Opens a session as the pool does: again and again while the device is unavailable.
pub(crate) fn open_in_time(sessions: &SidecarSessions) -> Box<dyn KeySession> {
    wait_for("a session", || match sessions.open() {
        Ok(session) => Some(session),
        Err(SignerError::Unavailable { .. }) => None,
        Err(error) => panic!("{error}"),
    })
}
