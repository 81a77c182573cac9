//! A SoftHSM2 token of its own for each test, with the key that its device is bound to, and what
//! signs with it.

use crate::softhsm::{LABEL, SoftHsm};
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier as _},
    pkcs8::EncodePublicKey as _,
};
use skproxy::{
    clock,
    pb::v1 as pb,
    signer::{
        KeySession, SignerError,
        sidecar::{BoundKey, HardwareSpec, ModuleSpec, SidecarSessions, TokenSelector},
    },
};
use std::{fs, ops::Deref, path::PathBuf, thread, time::Duration};

/// The bound of everything that is waited for.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// The binary whose `sidecar` command is tested.
pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_skproxy").into()
}

/// A token with one key, labelled `invoice`.
pub(crate) struct Token {
    token: SoftHsm,
    public: VerifyingKey,
    key: BoundKey,
}

impl Deref for Token {
    type Target = SoftHsm;

    fn deref(&self) -> &SoftHsm {
        &self.token
    }
}

impl Token {
    pub(crate) fn new() -> Self {
        let token = SoftHsm::new();
        fs::create_dir(token.path("locks")).unwrap();
        let public = token.import("invoice", "01", &[]).public_key();
        let key = BoundKey {
            label: "invoice".into(),
            public_key: public.to_public_key_der().unwrap().into_vec(),
            algorithm: pb::SignatureAlgorithm::EcdsaP256Sha256,
        };
        Self { token, public: VerifyingKey::from(public), key }
    }

    pub(crate) fn key(&self) -> BoundKey {
        self.key.clone()
    }

    pub(crate) fn spec(&self) -> HardwareSpec {
        let token = TokenSelector::Pkcs11 { label: LABEL.into(), serial: None };
        let module = ModuleSpec { module: self.path("module.so"), token };
        let mut spec = HardwareSpec::new(module, Some(self.path("pin")), self.path("locks"));
        for (name, value) in self.environment() {
            spec.environment.insert(name.into(), value.to_str().unwrap().into());
        }
        spec
    }

    /// The process that loaded the module last.
    pub(crate) fn process(&self) -> rustix::process::Pid {
        let log = self.log();
        let line = log.lines().rfind(|line| line.starts_with("load")).expect("it was loaded");
        let number = line.split(' ').nth(1).unwrap().parse().unwrap();
        rustix::process::Pid::from_raw(number).unwrap()
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
