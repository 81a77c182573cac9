//! 7  Delivery: outbox → acceptance → receipt.

pub mod receipt;
pub mod upstream;
pub mod worker;
