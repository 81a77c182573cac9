//! 7  Delivery: outbox → acceptance → receipt.

pub mod batch;
pub mod package;
pub mod receipt;
pub mod reconcile;
pub mod upstream;
pub mod worker;
