//! 5  Numbering: one actor owns every number. It decides operation by operation over committed
//! state plus the batch's overlay, commits what has gathered, and only then tells anybody.
//!
//! Invariants: nothing outside the actor sees state before its commit; a claim goes from its commit
//! to the finisher without passing through the call, so that a caller who hangs up cannot lose it.

mod access;
mod actor;
mod backup;
mod book;
mod drawn;
pub mod finisher;
#[cfg(test)]
mod laws;
mod limits;
mod mailbox;
mod monitor;
mod operate;
mod outcome;
mod qr;
mod red;
mod round;
#[cfg(test)]
mod tests;
mod time;
mod upload;
mod void;
mod witness;
mod work;

pub use actor::{Parts, StartError};
pub use backup::BackupNews;
pub use book::{Book, Change, Gate, Open, Round, Series};
pub use drawn::Evidence;
pub use limits::{Budget, Load, Offline};
pub use monitor::Taken;
pub use operate::{NewDevice, NewSegment};
pub use outcome::{ASK_AFTER, IssuedInvoice, Outcome, Told, VoidedClaim, Wait};
pub use round::{Decision, Resolved};
pub use upload::Heard;
pub use void::VoidWish;
pub use witness::{SeriesWitness, Skipped};

use crate::{
    clock::Clock,
    contract::{Checked, Draft},
    model::{ClaimId, CstTime, DeviceNo, InvoiceNumber, Kind, PlatformNo, RequestKey, TaxpayerNo},
    refusal::{Reason, Refusal},
    registry::{MonitorFacts, Registry, ZeroLimit},
    signer::{DeviceAnswer, Signed},
    store::{Binding, Books, Claim, Durable, Found, Period, StoreError, Voided},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use mailbox::Mailbox;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::oneshot;
use work::{Completion, Deliver, Work};

/// Bounds of numbering, each with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open claims of a device: as many as its queue holds, so that a claim finds its slot free.
    pub open_claims_max: usize,
    /// Age of the oldest open claim above which a series takes no more. Unit: seconds.
    pub oldest_open_max_s: i64,
    /// How far clocks may differ before stamping stops. Unit: seconds.
    pub clock_skew_max_s: i64,
    /// How far the clock of a device that draws numbers may be off before its series is frozen.
    /// Such clocks drift and are set seldom. Unit: seconds.
    pub device_skew_max_s: i64,
    /// Requests that wait for the actor; above it they are shed, since each would wait past its
    /// deadline.
    pub work_max: usize,
    /// Requests in one commit; larger batches gain little and delay the first.
    pub batch_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_claims_max: 4096,
            oldest_open_max_s: 600,
            clock_skew_max_s: 30,
            device_skew_max_s: 600,
            work_max: 16_384,
            batch_max: 512,
        }
    }
}

/// What came of a request to issue.
#[derive(Debug)]
pub enum Assigned {
    /// Claimed, by this request or a twin: wait for its end.
    Wait(Wait),
    /// Known already.
    Done(Outcome),
}

impl Assigned {
    /// What it ends as, waiting at most `limit`.
    ///
    /// # Errors
    /// When a device provably issued nothing under the claim.
    pub async fn within(self, limit: Duration) -> Told {
        match self {
            Self::Done(outcome) => Ok(outcome),
            Self::Wait(wait) => wait.within(limit).await,
        }
    }
}

/// What is known of a serial.
#[derive(Debug)]
pub enum Known {
    /// Ended, or closed.
    Done(Outcome),
    /// Open: the finisher is at it.
    Open(ClaimId),
}

/// What the actor shows to others; written by it alone.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: ArcSwap<Registry>,
    pub(crate) clock: Clock,
    /// When the running commit began, milliseconds of the clock's monotonic time; 0 when none runs.
    pub(crate) commit_since_ms: AtomicI64,
    pub(crate) commits: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) undelivered: AtomicU64,
    /// What counts against the limits of each series.
    pub(crate) loads: DashMap<(DeviceNo, Kind), (Offline, Period)>,
    pub(crate) stop: AtomicBool,
    pub(crate) authority: time::AuthorityClocks,
    pub(crate) read_only: ArcSwapOption<String>,
    pub(crate) backups: backup::Backups,
}

/// A commit that takes longer than this means that nothing can be issued.
const COMMIT_STALL: Duration = Duration::from_secs(5);

/// The way to the actor. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Numbering {
    mailbox: Arc<Mailbox<Work, Completion>>,
    books: Arc<Books>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Numbering {
    /// The registry as committed.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        self.shared.registry.load_full()
    }

    /// The books, for reading.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// Reads the books beside the calls: for what may take longer than one look-up.
    ///
    /// # Errors
    /// `Internal` when the books cannot be read.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Books) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let books = Arc::clone(&self.books);
        let done = tokio::task::spawn_blocking(move || read(&books)).await;
        let done = done.map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?;
        done.map_err(|error| book::unreadable(&error))
    }

    /// What is known of a number that a platform drew for a taxpayer; none when it is nobody's, or
    /// somebody else's.
    ///
    /// # Errors
    /// When the books cannot be read.
    pub async fn ask_number(
        &self,
        asker: (PlatformNo, TaxpayerNo),
        number: InvoiceNumber,
    ) -> Result<Option<Known>, Refusal> {
        let found = self.read(move |books| books.numbered(&number)).await?;
        let ours = found.filter(|found| {
            let key = found.request();
            (key.platform, key.taxpayer) == asker
        });
        Ok(ours.as_ref().map(known))
    }

    /// What is known of a serial whose content is `draft`; none when it is free as far as
    /// committed.
    ///
    /// # Errors
    /// `SerialConflict`, `SerialClosed`, or when the books cannot be read.
    pub fn look_up(&self, key: &RequestKey, draft: &Draft) -> Result<Option<Known>, Refusal> {
        let Some(found) = self.find(key)? else { return Ok(None) };
        match found {
            (Binding::Closed(at), _) => Err(round::closed(at)),
            (Binding::Claim(_), Some(found)) => {
                round::same_content(found.digest(), draft)?;
                Ok(Some(known(&found)))
            }
            (Binding::Claim(_), None) => Ok(None),
        }
    }

    /// What is known of a serial, whatever its content.
    ///
    /// # Errors
    /// When the books cannot be read.
    pub fn ask(&self, key: &RequestKey) -> Result<Option<Known>, Refusal> {
        Ok(self.find(key)?.and_then(|found| match found {
            (Binding::Closed(at), _) => Some(Known::Done(Outcome::Closed { at })),
            (Binding::Claim(_), found) => found.as_ref().map(known),
        }))
    }

    fn find(&self, key: &RequestKey) -> Result<Option<(Binding, Option<Found>)>, Refusal> {
        self.books.find(key).map_err(|error| book::unreadable(&error))
    }

    /// Gives a checked request its claim.
    ///
    /// # Errors
    /// A refusal; nothing was spent. When the actor does not answer within `limit` the outcome is
    /// in doubt, which is no error.
    pub async fn assign(&self, checked: Checked, limit: Duration) -> Result<Assigned, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Assign { checked: Box::new(checked), reply })?;
        self.answer(answer, limit).await.unwrap_or(Ok(Assigned::Done(Outcome::in_doubt())))
    }

    /// Whether a checked request could have a claim now. Spends nothing and binds nothing.
    ///
    /// # Errors
    /// What `assign` would refuse it with; `Overloaded` when the actor does not answer.
    pub async fn validate(&self, checked: Checked) -> Result<(), Refusal> {
        self.change(move |round| round.validate(&checked)).await
    }

    /// Waits for an open claim.
    ///
    /// # Errors
    /// When the actor is overloaded or ends.
    pub async fn wait(&self, claim: ClaimId, limit: Duration) -> Result<Assigned, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Wait { claim, reply })?;
        self.answer(answer, limit).await.unwrap_or(Ok(Assigned::Done(Outcome::in_doubt())))
    }

    /// The final word on a serial: what it has become, or its durable closing.
    ///
    /// # Errors
    /// A refusal; nothing was closed. In doubt when the actor does not answer within `limit`.
    pub async fn resolve(&self, key: RequestKey, limit: Duration) -> Result<Assigned, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Resolve { key, reply })?;
        self.answer(answer, limit).await.unwrap_or(Ok(Assigned::Done(Outcome::in_doubt())))
    }

    /// Lets `decide` take part in a batch, and answers when the batch is durable.
    ///
    /// # Errors
    /// `decide`'s refusal, or `StoreFull`, `StoreReadOnly`, `Overloaded`.
    pub async fn change<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Round<'_>) -> Result<R, Refusal> + Send + 'static,
    ) -> Result<R, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Change(decision(decide, reply)))?;
        self.answer(answer, COMMIT_STALL).await.unwrap_or_else(|| Err(stalled()))
    }

    /// As `change`, for what ends something that was begun before: never shed.
    ///
    /// # Errors
    /// `decide`'s refusal, `StoreReadOnly`, or `StoreFull`: the caller tries again.
    pub async fn complete<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Round<'_>) -> Result<R, Refusal> + Send + 'static,
    ) -> Result<R, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.complete(Completion::Change(Some(decision(decide, reply))));
        self.answer(answer, COMMIT_STALL).await.unwrap_or_else(|| Err(stalled()))
    }

    fn send(&self, work: Work) -> Result<(), Refusal> {
        self.mailbox.send(work).map_err(|_| {
            Refusal::new(Reason::Overloaded, "too many requests wait, or the proxy is going down")
        })
    }

    /// None when the actor has not answered in time or has ended.
    async fn answer<T>(&self, answer: oneshot::Receiver<T>, limit: Duration) -> Option<T> {
        tokio::time::timeout(limit, answer).await.ok()?.ok()
    }

    /// Notes what an acceptance's clock says now, by province. A wall clock that leaves it by more
    /// than the limit stops that province's devices from issuing.
    pub fn authority_time(&self, province: &str, time: CstTime) {
        self.shared.authority.note(province, time, self.shared.clock.elapsed());
    }

    /// Why nothing can be issued now; none when all is well.
    #[must_use]
    pub fn stalled(&self) -> Option<String> {
        if let Some(why) = self.shared.read_only.load_full() {
            return Some(format!("the store is read-only: {why}"));
        }
        let since = self.shared.commit_since_ms.load(Ordering::Relaxed);
        let now = crate::convert::millis(self.shared.clock.elapsed());
        let stalled = since > 0 && now.saturating_sub(since) > crate::convert::millis(COMMIT_STALL);
        stalled.then(|| format!("no commit for {} ms", now.saturating_sub(since)))
    }

    /// Commits, open claims and undelivered invoices, as of the last commit.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        (load(&self.shared.commits), load(&self.shared.open), load(&self.shared.undelivered))
    }

    /// What counts against the limits of a series, as committed, beside what was told of them.
    #[must_use]
    pub fn load_of<'a>(
        &self,
        device: DeviceNo,
        kind: Kind,
        (facts, zero): (Option<&'a MonitorFacts>, ZeroLimit),
    ) -> Load<'a> {
        let load = self.shared.loads.get(&(device, kind));
        let (offline, period) = load.map_or_else(Default::default, |load| *load);
        Load { facts, zero, offline, period }
    }

    /// No more work; what is queued is still done.
    pub fn close(&self) {
        self.mailbox.close();
    }

    /// Ends the actor once its lanes are empty, and waits for it.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.mailbox.close();
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the numbering actor panicked");
        }
    }
}

fn decision<R: Send + 'static>(
    decide: impl FnOnce(&mut Round<'_>) -> Result<R, Refusal> + Send + 'static,
    reply: oneshot::Sender<Result<R, Refusal>>,
) -> work::Decide {
    Box::new(move |round| -> Deliver {
        let decided = decide(round);
        Box::new(move |committed| drop(reply.send(committed.and(decided))))
    })
}

fn stalled() -> Refusal {
    Refusal::new(Reason::Overloaded, "the store did not answer in time; look before you repeat")
}

fn known(found: &Found) -> Known {
    round::outcome_of(found).map_or_else(|| Known::Open(found.id()), Known::Done)
}

/// An operator's wish to end a claim without a signature.
#[derive(Debug)]
pub(crate) struct Void {
    /// Why; kept for ever.
    pub(crate) reason: String,
    /// Who.
    pub(crate) actor: String,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Result<Voided, Refusal>>,
}

/// What the finisher hands to the actor. Completions keep their claim until they are durable.
#[derive(Debug, Clone)]
pub struct Completions(Arc<Mailbox<Work, Completion>>);

impl Completions {
    pub(crate) fn signed(&self, claim: Durable<Claim>, signed: Signed) {
        self.0.complete(Completion::Signed { claim, signed });
    }

    pub(crate) fn device_issued(&self, claim: Durable<Claim>, answer: DeviceAnswer) {
        self.0.complete(Completion::DeviceIssued { claim, answer });
    }

    pub(crate) fn nothing_issued(&self, claim: Durable<Claim>, next: Option<InvoiceNumber>) {
        self.0.complete(Completion::NothingIssued { claim, next });
    }

    pub(crate) fn invalid(&self, claim: Durable<Claim>, evidence: String) {
        self.0.complete(Completion::Invalid { claim, evidence });
    }

    pub(crate) fn device_next(&self, device: DeviceNo, kind: Kind, next: Option<InvoiceNumber>) {
        self.0.complete(Completion::DeviceNext { device, kind, next });
    }

    pub(crate) fn void(&self, claim: Durable<Claim>, evidence: Option<Evidence>, wish: Void) {
        self.0.complete(Completion::Void { claim, evidence, wish });
    }
}
