//! The store: what the numbering actor hands over goes in, what is durable comes out. It decides
//! nothing.
//!
//! Invariants: only a commit here makes a `Durable`; one `Batch` is one commit is one synced
//! transaction and one synced watermark; nothing but this folder writes the data directory's books.

pub mod backup;
mod batch;
mod claim;
mod columns;
mod credit;
pub mod embedded;
mod invoice_void;
mod journal;
mod ledger;
pub mod listing;
mod load;
pub mod memory;
mod notice;
mod pending;
mod reader;
mod red;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod upload;
pub mod verify;
mod verify_journal;
mod verify_rows;
pub mod watermark;
mod write;

pub use batch::{
    AuditEntry, Batch, ClosedSerial, Committed, Counted, DeliveryBatch, Incident, LostRange,
    Period, ReceiptRecord, RegistryChange, Rejection, SegmentState, SeriesState, UsageDelta,
    UsageKey,
};
pub use claim::{
    Assignment, Claim, ClaimHead, Event, EventHash, EventKind, Issued, Released, SignedTail, Voided,
};
pub use credit::{Credit, CreditUse, Month};
pub use invoice_void::InvoiceVoid;
pub use ledger::{End, Entry, VoidTable};
pub use listing::{ListOwner, ListPage, Listed, Place};
pub use notice::{Notice, OfflineItem, OutboxItem, Told};
pub use pending::BatchState;
pub use reader::{Books, Delivered, Fate, Found};
pub use red::{Balance, NetAndTax, RedBalance};
pub use upload::{Acceptance, OpenWriteBack, Split, WriteBack};

use crate::{
    model::{BatchNo, ClaimId, CommitCounter, InvoiceNumber, RequestKey},
    registry::Registry,
};

/// Proof that `T` is on stable storage. Only a commit (or a read of what was committed) in `store`
/// makes one.
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
/// fn passed_on(claim: skproxy::store::Durable<skproxy::store::Claim>) ->
/// skproxy::store::Durable<skproxy::store::Claim> {
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

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite said no.
    #[error("{doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// SQLite's words.
        #[source]
        source: rusqlite::Error,
    },
    /// The file system said no.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// What is stored does not add up. Nothing was repaired.
    #[error("{what}; {advice}")]
    Damaged {
        /// What does not add up.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// Another daemon holds the data directory.
    #[error("the data directory {path} is in use by another skproxy; stop it first")]
    Locked {
        /// The directory.
        path: String,
    },
    /// The books are newer than this binary.
    #[error(
        "the books have schema {found}, this binary knows {known}; run the newer skproxy again"
    )]
    Newer {
        /// Schema found.
        found: u32,
        /// Schema known.
        known: u32,
    },
    /// The books are older than this binary.
    #[error(
        "the books have schema {found}, this binary knows {known}: a pre-release made them, and \
         nothing converts them; keep them for that pre-release, and give this one a data \
         directory and a watermark file that do not exist yet"
    )]
    Older {
        /// Schema found.
        found: u32,
        /// Schema known.
        known: u32,
    },
    /// The writer has not made a commit durable in time.
    #[error("the store did not answer in time")]
    Slow,
}

impl StoreError {
    fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged {
            what: what.into(),
            advice: "keep the data directory as it is, run `skproxy verify --data DIR`, and \
                     restore from the witnesses it names",
        }
    }
}

/// Why a commit was not made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// No space; rolled back, nothing of the batch is stored.
    #[error("the disk is full")]
    Full,
    /// Anything else: it is unknown what is on the disk. The process must end and answer nobody,
    /// since a commit whose sync failed can come back to life.
    #[error("commit {counter}")]
    Fatal {
        /// The commit that failed.
        counter: u64,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Key of the setting that says why a witness holds the books to be behind; empty when none does.
pub const BEHIND: &str = "behind";

/// What a request key is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// A claim.
    Claim(ClaimId),
    /// Nothing, for ever.
    Closed(crate::model::CstTime),
}

/// Everything that the numbering actor keeps in memory, as committed.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Registry.
    pub registry: Registry,
    /// Every series.
    pub series: Vec<SeriesState>,
    /// Every segment, in the order in which they are used.
    pub segments: Vec<SegmentState>,
    /// Numbers left out.
    pub lost: Vec<LostRange>,
    /// Every credit quota.
    pub credits: Vec<Credit>,
    /// Why a witness says that the books are behind; none when none does.
    pub behind: Option<String>,
    /// Claims without a signature, ascending.
    pub open: Vec<Durable<Claim>>,
    /// What the authority is to be told and is in no batch yet, ascending.
    pub outbox: Vec<OutboxItem>,
    /// Batches without a receipt, ascending, with their members.
    pub open_batches: Vec<(BatchNo, Vec<OutboxItem>)>,
    /// What was set aside, ascending.
    pub aside: Vec<OutboxItem>,
    /// Write-backs that no device has confirmed, ascending by batch and series.
    pub write_backs: Vec<OpenWriteBack>,
    /// Last event of the journal; none before the first.
    pub journal: Option<Event>,
    /// Last ids given out.
    pub last: LastIds,
}

/// Last ids given out, 0 when none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastIds {
    /// Claims.
    pub claim: i64,
    /// Series.
    pub series: i64,
    /// Segments.
    pub segment: i64,
    /// Delivery batches.
    pub batch: i64,
}

/// What the numbering actor needs of a store: effects in, durable out.
pub trait Store: Send {
    /// Makes one batch durable, with its watermark.
    ///
    /// # Errors
    /// `Full` when nothing was stored and the caller may go on; `Fatal` when the process must end.
    fn commit(&mut self, batch: Batch) -> Result<Committed, CommitError>;

    /// What a request key is bound to, by committed state.
    ///
    /// # Errors
    /// When the row cannot be read or does not add up.
    fn binding(&self, key: &RequestKey) -> Result<Option<Binding>, StoreError>;

    /// The claim found by its id, with its fate.
    ///
    /// # Errors
    /// When the row is absent, cannot be read or does not add up.
    fn found(&self, claim: ClaimId) -> Result<Found, StoreError>;

    /// The claim whose invoice a void request voided, by committed state.
    ///
    /// # Errors
    /// When the row cannot be read or does not add up.
    fn void_requested(&self, key: &RequestKey) -> Result<Option<ClaimId>, StoreError>;

    /// The claim that holds a number.
    ///
    /// # Errors
    /// When the index cannot be read or does not add up.
    fn holder(&self, number: &InvoiceNumber) -> Result<Option<ClaimId>, StoreError>;

    /// What is left of a blue invoice that a red letter referred to; none before the first.
    ///
    /// # Errors
    /// When the row cannot be read or does not add up.
    fn balance(&self, blue: ClaimId) -> Result<Option<Balance>, StoreError>;

    /// Whether the authority rejected an invoice; a rejected void of it does not count.
    ///
    /// # Errors
    /// When the row cannot be read or does not add up.
    fn is_rejected(&self, claim: ClaimId) -> Result<bool, StoreError>;

    /// Whether any claim holds a number under `number.code` from `number.number` to `last`.
    ///
    /// # Errors
    /// When the index cannot be read.
    fn any_number(&self, number: &InvoiceNumber, last: u32) -> Result<bool, StoreError>;

    /// Whether free space is above the reserve, so that new work may be taken.
    fn has_reserve(&self) -> bool;

    /// Commits so far.
    fn counter(&self) -> CommitCounter;

    /// What copies the books; none when they are in no file.
    fn copier(&self) -> Option<backup::Copier>;
}

impl<T> Durable<Vec<T>> {
    /// One proof for each.
    fn each(self) -> Vec<Durable<T>> {
        self.0.into_iter().map(Durable).collect()
    }
}

/// Calls a value durable that no commit has seen, for tests of what takes a `Durable`.
#[cfg(test)]
pub(crate) fn durable_for_tests<T>(value: T) -> Durable<T> {
    Durable(value)
}
