//! Foreign C modules (PKCS#11, SDF, SKF), each in a process of its own: its crash, hang or leak
//! costs that process.

mod gm;
mod library;
mod module;
mod sdf;
mod skf;

pub use module::{Class, FoundKey, Module, ModuleError, ModuleSession, Tries};
pub use sdf::Sdf;
pub use skf::{Skf, SkfToken};
