//! The actor's thread: gather, decide, commit, tell. A commit that fails for anything but space
//! ends the process, since nobody can know what is on the disk.

use super::{
    Assigned, Limits, Numbering, Shared, backup,
    book::{Book, Change, Gate, Round},
    finisher::Finisher,
    mailbox::Mailbox,
    outcome::{IssuedInvoice, Outcome, Told, VoidedClaim, Wait},
    round::{self, Decision, Resolved},
    time::{AuthorityClocks, TimeGuard},
    work::{Completion, Deliver, Reply, Work},
};
use crate::{
    clock::Clock,
    contract::{Checked, Profiles},
    convert::{len_u64, metric, millis},
    metrics::metrics,
    model::{ClaimId, CstTime, DeviceNo, SeriesNo},
    refusal::{Reason, Refusal},
    registry::Registry,
    signer::Takes,
    store::{Books, Claim, CommitError, Committed, Loaded, Store, Voided},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use dashmap::DashMap;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// Longer than this a caller's patience does not last: it is refused before a number is spent.
const DEVICE_WAIT_MAX: Duration = Duration::from_secs(20);

/// Why numbering does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The clock is before the journal's head: new invoices would be older than issued ones.
    #[error("the clock says {now}, but the books hold an invoice of {head}; set the clock right")]
    ClockBehind {
        /// The clock.
        now: CstTime,
        /// The latest issue time.
        head: CstTime,
    },
    /// The thread could not be started.
    #[error("start the numbering thread")]
    Thread(#[source] std::io::Error),
}

/// What the actor is built from.
pub struct Parts<S> {
    /// The writer.
    pub store: S,
    /// The books, for others.
    pub books: Arc<Books>,
    /// What was loaded.
    pub loaded: Loaded,
    /// Bounds.
    pub limits: Limits,
    /// Time.
    pub clock: Clock,
    /// Why nothing may be written.
    pub read_only: Option<String>,
    /// Rules by profile.
    pub profiles: Arc<Profiles>,
}

/// How long the actor waits when nothing arrives: parked work is looked at again.
const IDLE: Duration = Duration::from_millis(200);
/// How long it waits when the disk is full and completions wait for space.
const FULL_PAUSE: Duration = Duration::from_millis(100);

impl Numbering {
    /// Starts the actor. `finisher` is made from the way back to the actor, takes the open claims,
    /// and from then on every new one.
    ///
    /// # Errors
    /// `ClockBehind`, or when the thread cannot be started.
    pub fn start<S: Store + 'static>(
        parts: Parts<S>,
        finisher: impl FnOnce(super::Completions) -> Arc<Finisher>,
    ) -> Result<(Self, Arc<Finisher>), StartError> {
        let Parts { store, books, mut loaded, limits, clock, read_only, profiles } = parts;
        let now = clock.now();
        // A device that draws numbers stamps them by a clock of its own: a wrong one closes its
        // series.
        let stamps = |device| {
            let device = loaded.registry.devices.get(&device);
            !device.is_some_and(|device| device.backend.draws_numbers())
        };
        let ours = loaded.series.iter().filter(|series| stamps(series.device));
        let head = ours.filter_map(|series| series.last_issue).max();
        if let Some(head) = head
            && head.unix() > now.unix().saturating_add(limits.clock_skew_max_s)
        {
            return Err(StartError::ClockBehind { now, head });
        }
        let mut book = Book::new(&loaded, limits).judging_by(profiles);
        let shared = Arc::new(Shared {
            registry: ArcSwap::new(Arc::clone(&book.registry)),
            clock: clock.clone(),
            commit_since_ms: AtomicI64::new(0),
            commits: AtomicU64::new(store.counter().0),
            open: AtomicU64::new(len_u64(book.open.len())),
            undelivered: AtomicU64::new(book.undelivered()),
            loads: DashMap::new(),
            stop: AtomicBool::new(false),
            authority: AuthorityClocks::default(),
            read_only: ArcSwapOption::from(read_only.map(Arc::new)),
            backups: backup::Backups::default(),
        });
        book.show_loads(&shared.loads);
        let mailbox = Arc::new(Mailbox::new(limits.work_max));
        let finisher = finisher(super::Completions(Arc::clone(&mailbox)));
        if shared.read_only.load().is_none() {
            loaded.open.drain(..).for_each(|claim| finisher.recover(claim));
        }
        let guard = TimeGuard::new(now, clock.elapsed(), limits.clock_skew_max_s);
        let actor = Actor {
            book,
            store,
            guard,
            mailbox: Arc::clone(&mailbox),
            shared: Arc::clone(&shared),
            finisher: Arc::clone(&finisher),
            waits: HashMap::new(),
            parked: HashMap::new(),
            again: Vec::new(),
            kept: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("numbering".into())
            .spawn(move || {
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| actor.run()));
                if ended.is_err() {
                    tracing::error!("the numbering actor panicked; the process ends");
                    std::process::abort();
                }
            })
            .map_err(StartError::Thread)?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok((Self { mailbox, books, shared, thread }, finisher))
    }
}

struct Actor<S> {
    book: Book,
    store: S,
    guard: TimeGuard,
    mailbox: Arc<Mailbox<Work, Completion>>,
    shared: Arc<Shared>,
    finisher: Arc<Finisher>,
    waits: HashMap<ClaimId, Vec<oneshot::Sender<Told>>>,
    /// Requests for a busy device-numbered series, in the order in which they came.
    parked: HashMap<SeriesNo, VecDeque<(Box<Checked>, Reply)>>,
    /// Work whose series has become free.
    again: Vec<Work>,
    /// Completions that wait for space.
    kept: Vec<Completion>,
}

/// What a decision owes its asker, once the batch is durable.
enum Owed {
    Assign(Result<Decision, Refusal>, Reply),
    Resolve(Result<Resolved, Refusal>, Reply),
    Wait(ClaimId, Reply),
    Change(Deliver),
}

/// What was decided about a completion; it is kept beside it until the batch is durable.
enum Verdict {
    /// The claim has ended.
    Ended,
    /// The claim stays open: back to the finisher.
    Kept,
    /// What the operator hears, and whether the claim has ended, be it otherwise than asked for.
    Voided {
        voided: Box<Result<Voided, Refusal>>,
        ended: bool,
    },
    Change(Deliver),
    Nothing,
}

impl<S: Store> Actor<S> {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while self.turn(IDLE) {
            let Some(asked) = shared.backups.begin() else { continue };
            let copier = self.store.copier();
            let turn = || self.turn(Duration::ZERO);
            let goes_on = copier.is_none_or(|copier| backup::run(asked, &copier, turn));
            shared.backups.end();
            if !goes_on {
                break;
            }
        }
        shared.backups.close();
    }

    /// Gathers what has arrived, waiting at most `idle` for it, and decides it. False when this was
    /// the last turn.
    fn turn(&mut self, idle: Duration) -> bool {
        let pause = match (self.again.is_empty(), self.kept.is_empty()) {
            (false, _) => Duration::ZERO,
            (true, false) => FULL_PAUSE,
            (true, true) => idle,
        };
        let mail = self.mailbox.gather(self.book.limits.batch_max, pause);
        let mut completions = std::mem::take(&mut self.kept);
        completions.extend(mail.completions);
        let mut work = std::mem::take(&mut self.again);
        work.extend(mail.work);
        let idle = work.is_empty() && completions.is_empty();
        if idle && mail.closed && self.shared.stop.load(Ordering::Acquire) {
            return false;
        }
        if !idle {
            self.batch(work, completions);
        }
        self.forget_departed();
        let ending = mail.closed && self.shared.stop.load(Ordering::Acquire);
        if ending && !self.kept.is_empty() && self.again.is_empty() {
            // Nobody was told: the next start signs these claims again, or asks their device.
            let count = self.kept.len();
            tracing::error!(count, "the disk is full: what was just signed is not saved");
            return false;
        }
        true
    }

    fn batch(&mut self, work: Vec<Work>, mut completions: Vec<Completion>) {
        if let Some(why) = self.shared.read_only.load_full() {
            let refusal = Refusal::new(Reason::StoreReadOnly, format!("nothing is issued: {why}"));
            return self.refuse_all(work, completions, &refusal);
        }
        let (now, elapsed) = (self.shared.clock.now(), self.shared.clock.elapsed());
        let judged = self.guard.judge(now, elapsed).map(drop);
        let all = if self.store.has_reserve() { judged } else { Err(store_full()) };
        let (registry, finisher) = (Arc::clone(&self.book.registry), Arc::clone(&self.finisher));
        let skewed = self.shared.authority.skewed(now, elapsed, self.book.limits.clock_skew_max_s);
        let device = move |device: DeviceNo| {
            takes(&registry, device, &finisher.pool().takes(device))?;
            skewed.judge(|| registry.province(device))
        };
        let mut round = self.book.round(&self.store, now, Gate { all, device: &device });
        let verdicts: Vec<_> =
            completions.iter_mut().map(|completion| complete(&mut round, completion)).collect();
        let owed: Vec<_> = work.into_iter().map(|work| decide(&mut round, work)).collect();
        let (batch, change) = round.finish();
        if batch.is_empty() {
            self.absorb(change);
            return self.tell(owed, completions.into_iter().zip(verdicts).collect(), None);
        }
        let incidents = batch.incidents.len();
        let begun = self.shared.clock.elapsed();
        let since = millis(begun).max(1);
        self.shared.commit_since_ms.store(since, Ordering::Relaxed);
        let committed = self.store.commit(batch);
        self.shared.commit_since_ms.store(0, Ordering::Relaxed);
        let completions = completions.into_iter().zip(verdicts).collect();
        match committed {
            Ok(committed) => {
                metrics().incidents.increment(len_u64(incidents));
                self.measure(&committed, begun);
                self.absorb(change);
                self.tell(owed, completions, Some(committed));
            }
            Err(CommitError::Full) => self.full(owed, completions),
            Err(error) => abort(&error),
        }
    }

    fn measure(&self, committed: &Committed, begun: Duration) {
        let took = self.shared.clock.elapsed().saturating_sub(begun);
        metrics().commits.increment(1);
        metrics().commit_duration.record(took);
        metrics().claims.increment(len_u64(committed.claims.len()));
        metrics().issued.increment(len_u64(committed.issued.len()));
    }

    fn absorb(&mut self, mut change: Change) {
        if let Some(why) = change.behind.take() {
            tracing::error!(why, "the books are READ-ONLY from now on: nothing is issued");
            self.shared.read_only.store(Some(Arc::new(why)));
        }
        self.book.absorb(change);
        self.book.show_loads(&self.shared.loads);
        let shared = &self.shared;
        if !Arc::ptr_eq(&shared.registry.load(), &self.book.registry) {
            shared.registry.store(Arc::clone(&self.book.registry));
        }
        shared.commits.store(self.store.counter().0, Ordering::Relaxed);
        let open = len_u64(self.book.open.len());
        shared.open.store(open, Ordering::Relaxed);
        metrics().open_claims.set(metric(open));
        shared.undelivered.store(self.book.undelivered(), Ordering::Relaxed);
    }

    /// Tells everybody, now that the batch is durable. Waiters are noted first: a twin may wait for
    /// a claim that ended in this very batch.
    fn tell(
        &mut self,
        owed: Vec<Owed>,
        completions: Vec<(Completion, Verdict)>,
        committed: Option<Committed>,
    ) {
        let (claims, issued) =
            committed.map_or_else(Default::default, |done| (done.claims, done.issued));
        let mut ended: Vec<ClaimId> = Vec::new();
        for (completion, verdict) in &completions {
            if let (Some(claim), Verdict::Ended | Verdict::Voided { ended: true, .. }) =
                (completion.claim(), verdict)
            {
                ended.push(claim.id);
            }
        }
        claims.into_iter().for_each(|claim| self.finisher.take(claim));
        for owed in owed {
            self.pay(owed, &ended);
        }
        let tails: HashMap<ClaimId, Bytes> =
            issued.iter().map(|issued| (issued.claim, issued.tail.0.clone())).collect();
        for (completion, verdict) in completions {
            self.end(completion, verdict, &tails);
        }
    }

    /// Too many wait already for a device that issues one by one.
    fn device_busy(&self, series: SeriesNo, waiting: usize) -> Refusal {
        let device = self.book.series.get(&series).map(|series| series.state.device);
        let device = device.and_then(|no| self.book.registry.devices.get(&no));
        let report = device.and_then(|device| self.finisher.pool().report(device.no));
        let mean = report.map_or(Duration::ZERO, |report| report.mean);
        let wait = mean.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        busy(device.map_or("", |device| &device.id), wait)
    }

    fn pay(&mut self, owed: Owed, ended: &[ClaimId]) {
        match owed {
            Owed::Assign(Err(refusal), reply) | Owed::Resolve(Err(refusal), reply) => {
                answer(reply, Err(refusal));
            }
            Owed::Assign(Ok(Decision::Done(outcome)), reply)
            | Owed::Resolve(Ok(Resolved::Done(outcome)), reply) => {
                answer(reply, Ok(Assigned::Done(outcome)));
            }
            Owed::Assign(Ok(Decision::Park(series, checked)), reply) => {
                let parked = self.parked.entry(series).or_default();
                if parked.len() >= self.book.limits.open_claims_max {
                    let waiting = parked.len();
                    return answer(reply, Err(self.device_busy(series, waiting)));
                }
                parked.push_back((checked, reply));
            }
            Owed::Assign(Ok(Decision::Mine(claim) | Decision::Theirs(claim)), reply)
            | Owed::Resolve(Ok(Resolved::Open(claim)), reply)
            | Owed::Wait(claim, reply) => self.wait(claim, reply, ended),
            Owed::Change(deliver) => deliver(Ok(())),
        }
    }

    fn wait(&mut self, claim: ClaimId, reply: Reply, ended: &[ClaimId]) {
        if self.book.open.contains_key(&claim) || ended.contains(&claim) {
            let (sender, receiver) = oneshot::channel();
            self.waits.entry(claim).or_default().push(sender);
            return answer(reply, Ok(Assigned::Wait(Wait(receiver))));
        }
        let told = match self.store.found(claim) {
            Ok(found) => round::outcome_of(&found).ok_or_else(not_issued),
            Err(error) => Err(super::book::unreadable(&error)),
        };
        answer(reply, told.map(Assigned::Done));
    }

    fn end(&mut self, completion: Completion, verdict: Verdict, tails: &HashMap<ClaimId, Bytes>) {
        let outcome = |claim: &Claim| {
            tails.get(&claim.id).map(|tail| {
                let bytes = [claim.head.0.as_ref(), tail].concat().into();
                Outcome::Issued(IssuedInvoice { claim: claim.id, bytes })
            })
        };
        match (completion, verdict) {
            (Completion::Void { claim, wish, .. }, Verdict::Voided { voided, ended }) => {
                match (voided.as_ref(), outcome(&claim)) {
                    (Ok(voided), _) => {
                        let voided = VoidedClaim::unsigned(voided);
                        self.notify(&claim, &Ok(Outcome::Voided(voided)));
                    }
                    (Err(_), _) if !ended => self.finisher.put_back(claim),
                    (Err(_), Some(issued)) => self.notify(&claim, &Ok(issued)),
                    (Err(_), None) => self.notify(&claim, &Err(not_issued())),
                }
                drop(wish.reply.send(*voided));
            }
            (
                Completion::Signed { claim, .. } | Completion::DeviceIssued { claim, .. },
                Verdict::Ended,
            ) => {
                // A claim without a tail was signed too late; it has been told already.
                if let Some(outcome) = outcome(&claim) {
                    self.notify(&claim, &Ok(outcome));
                }
            }
            (Completion::NothingIssued { claim, .. }, Verdict::Ended) => {
                self.notify(&claim, &Err(not_issued()));
            }
            (completion, Verdict::Kept) => {
                if let Some(claim) = completion.into_claim() {
                    self.finisher.keep(claim);
                }
            }
            (_, Verdict::Change(deliver)) => deliver(Ok(())),
            (_, Verdict::Nothing | Verdict::Ended | Verdict::Voided { .. }) => {}
        }
    }

    fn notify(&mut self, claim: &Claim, told: &Told) {
        for waiter in self.waits.remove(&claim.id).unwrap_or_default() {
            // Whoever hung up asks again.
            drop(waiter.send(told.clone()));
        }
        if let Some(next) = self.parked.get_mut(&claim.series).and_then(VecDeque::pop_front) {
            let (checked, reply) = next;
            self.again.push(Work::Assign { checked, reply });
        }
    }

    /// No space: everything new is refused, completions are kept for the next round.
    fn full(&mut self, owed: Vec<Owed>, completions: Vec<(Completion, Verdict)>) {
        let refusal = store_full();
        tracing::error!("the disk is full: nothing new is issued; make space");
        for owed in owed {
            match owed {
                Owed::Assign(Ok(Decision::Done(outcome)), reply)
                | Owed::Resolve(
                    Ok(Resolved::Done(outcome @ (Outcome::Issued(_) | Outcome::Voided(_)))),
                    reply,
                ) => answer(reply, Ok(Assigned::Done(outcome))),
                Owed::Wait(claim, reply) => self.wait(claim, reply, &[]),
                // A claim of an earlier commit stands: whoever asks for it must not hear REFUSED.
                Owed::Assign(Ok(Decision::Theirs(claim)), reply)
                | Owed::Resolve(Ok(Resolved::Open(claim)), reply)
                    if self.book.open.contains_key(&claim) =>
                {
                    self.wait(claim, reply, &[]);
                }
                Owed::Assign(_, reply) | Owed::Resolve(_, reply) => {
                    answer(reply, Err(refusal.clone()));
                }
                Owed::Change(deliver) => deliver(Err(refusal.clone())),
            }
        }
        for (completion, verdict) in completions {
            match (completion, verdict) {
                (_, Verdict::Change(deliver)) => deliver(Err(refusal.clone())),
                (Completion::Void { claim, wish, .. }, _) => {
                    self.finisher.put_back(claim);
                    drop(wish.reply.send(Err(refusal.clone())));
                }
                (completion, _) => self.kept.push(completion),
            }
        }
    }

    fn refuse_all(&mut self, work: Vec<Work>, completions: Vec<Completion>, refusal: &Refusal) {
        let now = self.shared.clock.now();
        let mut round = self.book.round(&self.store, now, Err(refusal.clone()));
        for completion in completions {
            if let Completion::Change(Some(decide)) = completion {
                decide(&mut round)(Err(refusal.clone()));
            }
        }
        drop(round);
        for work in work {
            match work {
                Work::Wait { claim, reply } => self.wait(claim, reply, &[]),
                Work::Assign { reply, .. } | Work::Resolve { reply, .. } => {
                    answer(reply, Err(refusal.clone()));
                }
                Work::Change(decide) => {
                    let mut round = self.book.round(&self.store, now, Err(refusal.clone()));
                    decide(&mut round)(Err(refusal.clone()));
                }
            }
        }
    }

    /// Parked requests whose caller has gone are dropped unclaimed; those whose series is free go
    /// on.
    fn forget_departed(&mut self) {
        for (series, parked) in &mut self.parked {
            parked.retain(|(_, reply)| !reply.is_closed());
            let open = self.book.open_by_series.get(series).is_some_and(|open| !open.is_empty());
            if !open
                && self.again.is_empty()
                && let Some((checked, reply)) = parked.pop_front()
            {
                self.again.push(Work::Assign { checked, reply });
            }
        }
        self.parked.retain(|_, parked| !parked.is_empty());
    }
}

fn complete(round: &mut Round<'_>, completion: &mut Completion) -> Verdict {
    let ended = |ended| if ended { Verdict::Ended } else { Verdict::Kept };
    match completion {
        Completion::Signed { claim, signed } => ended(round.sign(claim, signed)),
        Completion::DeviceIssued { claim, answer } => ended(round.adopt(claim, answer)),
        Completion::NothingIssued { claim, next } => ended(round.release(claim, next.as_ref())),
        Completion::Invalid { claim, evidence } => {
            round.contradicted(claim, evidence);
            Verdict::Kept
        }
        Completion::DeviceNext { device, kind, next } => {
            if let Some(series) = round.series_of(*device, *kind) {
                round.device_next(series, next.clone());
            }
            Verdict::Nothing
        }
        Completion::Void { claim, evidence, wish } => {
            let wanted = (wish.reason.as_str(), wish.actor.as_str());
            let voided = Box::new(round.void(claim, evidence.as_ref(), wanted));
            Verdict::Voided { voided, ended: !round.is_open(claim.id) }
        }
        Completion::Change(decide) => {
            decide.take().map_or(Verdict::Nothing, |decide| Verdict::Change(decide(round)))
        }
    }
}

fn decide(round: &mut Round<'_>, work: Work) -> Owed {
    match work {
        // Whoever hung up before its turn gets no claim: nothing is spent on it.
        Work::Assign { reply, .. } if reply.is_closed() => {
            Owed::Assign(Ok(Decision::Done(Outcome::Unknown)), reply)
        }
        Work::Assign { checked, reply } => Owed::Assign(round.assign(*checked), reply),
        Work::Wait { claim, reply } => Owed::Wait(claim, reply),
        Work::Resolve { key, reply } => Owed::Resolve(round.resolve(key), reply),
        Work::Change(decide) => Owed::Change(decide(round)),
    }
}

fn answer(reply: Reply, answer: Result<Assigned, Refusal>) {
    // Whoever hung up asks again, and hears the same.
    drop(reply.send(answer));
}

fn store_full() -> Refusal {
    Refusal::new(Reason::StoreFull, "the disk is full; nothing was spent, send it again later")
}

/// Whether a new claim would be signed soon enough. Why a device fails is the operator's to see.
fn takes(registry: &Registry, device: DeviceNo, takes: &Takes) -> Result<(), Refusal> {
    let id = || registry.devices.get(&device).map_or_else(String::new, |device| device.id.clone());
    match takes {
        Takes::Yes { wait } if *wait > DEVICE_WAIT_MAX => Err(busy(&id(), *wait)),
        Takes::Yes { .. } => Ok(()),
        Takes::No { retry_after, .. } => {
            let hint = format!(
                "virtual device {} cannot sign now; nothing was spent, the operator can see why",
                id()
            );
            let refusal = Refusal::new(Reason::DeviceUnavailable, hint);
            Err(Refusal { retry_after: retry_after.or(refusal.retry_after), ..refusal })
        }
    }
}

fn busy(device: &str, wait: Duration) -> Refusal {
    let hint = format!(
        "virtual device {device} is busy for about {:.1} s; nothing was spent",
        wait.as_secs_f64()
    );
    let refusal = Refusal::new(Reason::SeriesBacklog, hint);
    Refusal { retry_after: refusal.retry_after.max(Some(wait)), ..refusal }
}

fn not_issued() -> Refusal {
    let hint = "the device provably issued nothing; send it again with the same serial";
    Refusal::new(Reason::NotIssued, hint)
}

fn abort(error: &CommitError) -> ! {
    tracing::error!(
        error = crate::refusal::chain(error),
        "a commit failed; the process ends and answers nobody, since the commit may come back"
    );
    std::process::abort();
}
