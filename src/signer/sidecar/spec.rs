//! Which foreign module to load, which token of it to use, and how it is bounded. Plain data, from
//! the registry; no secret is in it, only the path of one.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The standard that a module follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standard {
    /// PKCS#11 (OASIS), a cryptographic token interface.
    Pkcs11,
    /// GM/T 0018, crypto machines (密码机).
    Sdf,
    /// GM/T 0016, USB keys (智能密码钥匙).
    Skf,
}

impl Standard {
    /// Every standard.
    pub const ALL: [Self; 3] = [Self::Pkcs11, Self::Sdf, Self::Skf];

    /// Name in labels of metrics and file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pkcs11 => "pkcs11",
            Self::Sdf => "sdf",
            Self::Skf => "skf",
        }
    }
}

/// Which of a module's tokens to use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenSelector {
    /// A PKCS#11 token.
    Pkcs11 {
        /// Its label, at most 32 bytes.
        label: String,
        /// Its serial number; needed only when two tokens have one label.
        serial: Option<String>,
    },
    /// The only crypto machine behind an SDF module.
    Sdf,
    /// An application of an SKF device.
    Skf {
        /// Device name, as `SKF_EnumDev` lists it.
        device: String,
        /// Application name.
        application: String,
    },
}

impl TokenSelector {
    /// The standard that such a token belongs to.
    #[must_use]
    pub fn standard(&self) -> Standard {
        match self {
            Self::Pkcs11 { .. } => Standard::Pkcs11,
            Self::Sdf => Standard::Sdf,
            Self::Skf { .. } => Standard::Skf,
        }
    }
}

/// A module and one of its tokens: what one sidecar process serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleSpec {
    /// The shared library.
    pub module: PathBuf,
    /// Which of its tokens.
    pub token: TokenSelector,
}

impl ModuleSpec {
    /// Names the PIN record of the token: the same whichever library or slot it is reached by, so
    /// that no second path gives a barred PIN another try. A crypto machine has no name but its
    /// library's.
    #[must_use]
    pub fn record_name(&self) -> String {
        match &self.token {
            TokenSelector::Pkcs11 { label, serial } => {
                format!("pkcs11/{label}/{}", serial.as_deref().unwrap_or_default())
            }
            TokenSelector::Sdf => format!("sdf/{}", self.module.display()),
            TokenSelector::Skf { device, application } => format!("skf/{device}/{application}"),
        }
    }
}

/// Memory of a sidecar process unless configured: 512 MiB, many times what a driver needs.
pub const MEMORY_MAX_BYTES: u64 = 512 << 20;

/// Sessions of one process unless configured. A thread each.
pub const SESSIONS_MAX: u32 = 64;

/// Hardware as the registry describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareSpec {
    /// Module and token.
    pub module: ModuleSpec,
    /// File with the PIN, which nobody but its owner may read. `None`: no login is needed.
    pub pin_file: Option<PathBuf>,
    /// How much writable memory the process may have. Unit: bytes.
    pub memory_max_bytes: u64,
    /// Sessions of the process, at most.
    pub sessions_max: u32,
    /// How long a signature may take. Shorter than the caller's deadline. A call that takes longer
    /// ends the process.
    pub call_deadline: Duration,
    /// How long loading, logging in, finding a key and opening a session may take, each.
    pub start_deadline: Duration,
    /// Where lock files lie. Writable, on a local file system.
    pub lock_dir: PathBuf,
    /// Environment variables for the module, such as the place of its settings. No secrets.
    pub environment: BTreeMap<String, String>,
}

impl HardwareSpec {
    /// A spec with the usual bounds: 512 MiB, 64 sessions, 10 s for a signature, 30 s for a step of
    /// the start.
    #[must_use]
    pub fn new(module: ModuleSpec, pin_file: Option<PathBuf>, lock_dir: PathBuf) -> Self {
        Self {
            module,
            pin_file,
            memory_max_bytes: MEMORY_MAX_BYTES,
            sessions_max: SESSIONS_MAX,
            call_deadline: Duration::from_secs(10),
            start_deadline: Duration::from_secs(30),
            lock_dir,
            environment: BTreeMap::new(),
        }
    }

    /// The lock file of this module and token, the same in every life of the daemon.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        let ModuleSpec { module, token } = &self.module;
        // Debug output quotes every part, so no two tokens share a name.
        let name = crate::convert::sha256(format!("{module:?} {token:?}").as_bytes());
        let short = crate::convert::hex(&name[..8]);
        self.lock_dir.join(format!("{}-{short}.lock", token.standard().name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(label: &str, serial: Option<&str>) -> HardwareSpec {
        let token = TokenSelector::Pkcs11 { label: label.into(), serial: serial.map(Into::into) };
        HardwareSpec::new(ModuleSpec { module: "/m.so".into(), token }, None, "/locks".into())
    }

    #[test]
    fn each_token_has_a_lock_of_its_own_that_never_changes() {
        let one = spec("a", None).lock_path();
        assert_eq!(one, spec("a", None).lock_path());
        assert!(one.starts_with("/locks"), "{one:?}");
        for other in [spec("b", None), spec("a", Some("1")), spec("a\", None", None)] {
            assert_ne!(one, other.lock_path());
        }
    }
}
