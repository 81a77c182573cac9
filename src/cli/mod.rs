//! The commands.

pub mod certs;
pub mod explain;
