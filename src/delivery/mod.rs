//! 7  Delivery: outbox → acceptance → receipt.
