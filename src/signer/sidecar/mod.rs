//! Foreign C modules (PKCS#11, SDF, SKF), each in a process of its own: its crash, hang or leak
//! costs that process.

mod module;

pub use module::{Class, FoundKey, Module, ModuleError, ModuleSession, Tries};
