//! The store: what the numbering actor hands over goes in, what is durable comes out. It decides nothing.
//!
//! Invariants: only a commit here makes a `Durable`; one `Batch` is one commit is one synced transaction
//! and one synced watermark; nothing but this folder writes the data directory's books.

mod claim;

pub use claim::{
    Assignment, Claim, ClaimHead, Event, EventHash, EventKind, Issued, Released, SignedTail, Voided,
};

/// Proof that `T` is on stable storage. Only a commit (or a read of what was committed) in `store` makes
/// one.
///
/// ```compile_fail
/// fn forged(claim: skproxy::store::Claim) -> skproxy::store::Durable<skproxy::store::Claim> {
///     skproxy::store::Durable(claim)
/// }
/// ```
///
/// The twin that differs in what it returns compiles:
///
/// ```
/// fn passed_on(claim: skproxy::store::Durable<skproxy::store::Claim>) -> skproxy::store::Durable<skproxy::store::Claim> {
///     claim
/// }
/// ```
#[derive(Debug)]
pub struct Durable<T>(T);

impl<T> std::ops::Deref for Durable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
