//! Foreign C modules (PKCS#11, SDF, SKF), each in a process of its own: its crash, hang or leak
//! costs that process.
//!
//! `module` says what a module offers, `spec` which one to load. The daemon's side is `client` (the
//! processes), `life` (one of them) and `sessions`; `wire` lies between; the process's side is
//! `process` (what binds it), `serve` and `load`.

mod client;
mod life;
mod load;
mod module;
mod pin_file;
mod pkcs11;
mod pkcs11_codes;
mod process;
mod serve;
mod sessions;
mod spec;
mod wire;

pub use client::Sidecars;
pub use module::{Class, FoundKey, Module, ModuleError, ModuleSession, Tries};
pub use process::{ProcessError, ProcessOptions, run};
pub use sessions::{BoundKey, KeyCheckError, SidecarSessions};
pub use spec::{HardwareSpec, MEMORY_MAX_BYTES, ModuleSpec, SESSIONS_MAX, Standard, TokenSelector};
