//! The resident finisher: owns every open claim from its commit to its end. It sends claims to the
//! signers, hands results to the actor, and tries again, with backoff, what failed.
//!
//! Invariant: a claim is in exactly one place: with the pool, in `waiting`, or on its way to the
//! actor.

use super::{Completions, Evidence, Void};
use crate::{
    clock::Clock,
    model::{ClaimId, DeviceNo, InvoiceNumber, Kind, SeriesNo},
    refusal::{Reason, Refusal},
    signer::{Finished, Job, Pool, Question, Said, SignerError, Threads},
    store::{Assignment, Claim, Durable, Voided},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// First pause before another attempt.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Pause between two questions to a device that has no number left: it may have been given some.
const ASK_USED_UP: Duration = Duration::from_secs(10);

/// What to do with a claim when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// Sign, or let the device issue. For a device: once per claim, ever.
    First,
    /// Ask the device what it issued.
    Query,
}

#[derive(Debug)]
struct Waiting {
    claim: Durable<Claim>,
    attempt: Attempt,
    due: Duration,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<ClaimId, Waiting>,
    /// Failed attempts so far, by claim.
    failures: HashMap<ClaimId, u32>,
    /// When each device claim was last sent or found in doubt; nothing is concluded before the
    /// quiescence time is over.
    sent: HashMap<ClaimId, Duration>,
    /// Series of device-numbered devices whose next number is to be asked for.
    ask_next: HashSet<(DeviceNo, Kind)>,
    /// Those that were asked and have not answered: never two questions at once, so that they
    /// take no slot of a claim.
    asked: HashSet<(DeviceNo, Kind)>,
    /// Those that have no number left, and when they are asked again.
    used_up: HashMap<(DeviceNo, Kind), Duration>,
    /// Claims that an operator wants ended by what their device says of them.
    wanted: HashMap<ClaimId, Void>,
    ask_due: Duration,
    ended: bool,
}

/// The finisher.
#[derive(Debug)]
pub struct Finisher {
    pool: OnceLock<Pool>,
    state: Mutex<State>,
    completions: Completions,
    clock: Clock,
}

impl Finisher {
    /// A finisher with a pool of its own.
    #[must_use]
    pub fn new(completions: Completions, clock: Clock, threads: Threads) -> Arc<Self> {
        let finisher = Arc::new(Self {
            pool: OnceLock::new(),
            state: Mutex::new(State::default()),
            completions,
            clock,
        });
        let results = Arc::downgrade(&finisher);
        let pool = Pool::new(
            threads,
            Arc::new(move |finished| {
                // Without the finisher the process is ending; the claim is loaded at the next
                // start.
                if let Some(finisher) = results.upgrade() {
                    finisher.finished(finished);
                }
            }),
        );
        finisher.pool.set(pool).expect("the pool is set once");
        finisher
    }

    /// The signers.
    ///
    /// # Panics
    /// Never: the pool is set when the finisher is made.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        self.pool.get().expect("the pool is set when the finisher is made")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a device-numbered device: its next number is asked for until it is known.
    pub fn watch_device(&self, device: DeviceNo, kinds: impl IntoIterator<Item = Kind>) {
        let mut state = self.state();
        state.ask_next.extend(kinds.into_iter().map(|kind| (device, kind)));
        state.ask_due = Duration::ZERO;
    }

    /// Asks a device that draws its numbers something, when its turn comes.
    ///
    /// # Errors
    /// What the device, or its queue, says.
    pub async fn ask(&self, device: DeviceNo, question: Question) -> Said {
        let (reply, said) = oneshot::channel();
        let busy = || SignerError::Unavailable {
            device: device.to_string(),
            detail: "it takes no questions now".into(),
        };
        if self.pool().submit(Job::Ask { device, question, reply }).is_err() {
            return Err(busy());
        }
        said.await.unwrap_or_else(|_| Err(busy()))
    }

    /// Takes a new claim and makes its first attempt.
    pub(super) fn take(&self, claim: Durable<Claim>) {
        self.submit(claim, Attempt::First);
    }

    /// Takes a claim of an earlier life: what a device may have seen is asked for, never sent
    /// again.
    pub(super) fn recover(&self, claim: Durable<Claim>) {
        let attempt = match claim.assignment {
            Assignment::Numbered { .. } => Attempt::First,
            Assignment::ByDevice { .. } => Attempt::Query,
        };
        self.wait(claim, attempt, Duration::ZERO);
    }

    /// Takes a claim back that stays open: the device answered something that cannot be adopted.
    pub(super) fn keep(&self, claim: Durable<Claim>) {
        self.wait(claim, Attempt::Query, BACKOFF_MAX);
    }

    /// Tries the open claims of a series again at once, and with the first pause after that: what
    /// stood against them was looked into.
    pub fn hurry(&self, series: SeriesNo) {
        let mut state = self.state();
        let State { waiting, failures, .. } = &mut *state;
        for (id, waiting) in waiting.iter_mut().filter(|(_, it)| it.claim.series == series) {
            waiting.due = Duration::ZERO;
            failures.remove(id);
        }
    }

    /// Takes a claim back whose void was not made.
    pub(super) fn put_back(&self, claim: Durable<Claim>) {
        self.recover(claim);
    }

    fn submit(&self, claim: Durable<Claim>, attempt: Attempt) {
        let by_device = matches!(claim.assignment, Assignment::ByDevice { .. });
        let job = match (by_device, attempt) {
            (false, _) => Job::Sign(claim),
            (true, Attempt::First) => {
                self.state().sent.insert(claim.id, self.clock.elapsed());
                Job::Issue(claim)
            }
            (true, Attempt::Query) => Job::Query(claim),
        };
        if let Err(job) = self.pool().submit(job)
            && let Some((claim, attempt)) = unsent(job)
        {
            self.refuse_wish(claim.id);
            self.retry(claim, attempt);
        }
    }

    fn retry(&self, claim: Durable<Claim>, attempt: Attempt) {
        let pause = self.next_pause(claim.id);
        self.wait(claim, attempt, pause);
    }

    /// The pause after one more attempt that ended nothing.
    fn next_pause(&self, claim: ClaimId) -> Duration {
        let mut state = self.state();
        let failures = state.failures.entry(claim).or_default();
        *failures = failures.saturating_add(1);
        let factor = 1_u32.checked_shl((*failures).min(16)).unwrap_or(1);
        BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX)
    }

    fn wait(&self, claim: Durable<Claim>, attempt: Attempt, pause: Duration) {
        let due = self.clock.elapsed().saturating_add(pause);
        let mut state = self.state();
        if !state.ended {
            state.waiting.insert(claim.id, Waiting { claim, attempt, due });
        }
    }

    fn forget(&self, claim: ClaimId) {
        let mut state = self.state();
        state.failures.remove(&claim);
        state.sent.remove(&claim);
    }

    /// Called by the pool, from any thread.
    fn finished(&self, finished: Finished) {
        match finished {
            Finished::Signed { claim, signed } => {
                self.forget(claim.id);
                self.completions.signed(claim, signed);
            }
            Finished::DeviceIssued { claim, answer } => {
                self.forget(claim.id);
                self.stands_at((claim.device, claim.kind), answer.next.as_ref());
                match self.take_wish(claim.id) {
                    None => self.completions.device_issued(claim, answer),
                    Some(wish) => {
                        let said = Some(Evidence::Issued(Box::new(answer)));
                        self.completions.void(claim, said, wish);
                    }
                }
            }
            Finished::NothingIssued { claim, next, quiescence } => {
                self.nothing_issued(claim, next, quiescence);
            }
            Finished::Next { device, kind, next } => {
                self.state().asked.remove(&(device, kind));
                self.stands_at((device, kind), next.as_ref());
                self.completions.device_next(device, kind, next);
            }
            Finished::Failed { claim, error: SignerError::AnswerInvalid { detail, .. } } => {
                self.completions.invalid(claim, detail);
            }
            Finished::Failed { claim, error } => {
                tracing::warn!(claim = claim.id.0, %error, "no signature yet; it is tried again");
                // What was sent to a device is asked for; a numbered claim is signed again, which
                // is harmless.
                let by_device = matches!(claim.assignment, Assignment::ByDevice { .. });
                if by_device {
                    // It may have lain in the device's queue: the quiescence time begins now.
                    self.state().sent.insert(claim.id, self.clock.elapsed());
                }
                let attempt = if by_device { Attempt::Query } else { Attempt::First };
                self.retry(claim, attempt);
            }
            Finished::QueryFailed { claim, error } => {
                tracing::warn!(claim = claim.id.0, %error, "the device did not say what it issued");
                self.refuse_wish(claim.id);
                self.retry(claim, Attempt::Query);
            }
            // Whoever asked may have gone.
            Finished::Said { said, reply, .. } => drop(reply.send(said)),
            Finished::NextFailed { device, kind, .. } => {
                let mut state = self.state();
                state.asked.remove(&(device, kind));
                state.ask_next.insert((device, kind));
            }
        }
    }

    /// A device without a number is asked again after a while: whoever gives it one tells nobody.
    fn stands_at(&self, series: (DeviceNo, Kind), next: Option<&InvoiceNumber>) {
        let again = self.clock.elapsed().saturating_add(ASK_USED_UP);
        let mut state = self.state();
        match next {
            None => drop(state.used_up.insert(series, again)),
            Some(_) => drop(state.used_up.remove(&series)),
        }
    }

    fn refuse_wish(&self, claim: ClaimId) {
        if let Some(wish) = self.take_wish(claim) {
            let hint = "the device does not say what it issued; without its word the claim stays \
                        open";
            drop(wish.reply.send(Err(Refusal::new(Reason::DeviceUnavailable, hint))));
        }
    }

    fn take_wish(&self, claim: ClaimId) -> Option<Void> {
        self.state().wanted.remove(&claim)
    }

    /// "Not issued" holds only after the device's quiescence time.
    fn nothing_issued(
        &self,
        claim: Durable<Claim>,
        next: Option<InvoiceNumber>,
        quiescence: Duration,
    ) {
        let now = self.clock.elapsed();
        let rest = {
            let mut state = self.state();
            // A claim of an earlier life may have been sent just before it ended.
            let sent = *state.sent.entry(claim.id).or_insert(now);
            sent.saturating_add(quiescence).checked_sub(now).filter(|rest| !rest.is_zero())
        };
        match rest {
            // It may be issued late, and then its caller should not wait for the end of that time.
            Some(rest) => {
                let pause = self.next_pause(claim.id);
                self.wait(claim, Attempt::Query, rest.min(pause));
            }
            None => {
                self.forget(claim.id);
                match self.take_wish(claim.id) {
                    None => self.completions.nothing_issued(claim, next),
                    Some(wish) => {
                        self.completions.void(claim, Some(Evidence::Nothing { next }), wish);
                    }
                }
            }
        }
    }

    /// Sends what is due. To be called a few times a second.
    pub fn tick(&self) {
        self.pool().tick();
        let now = self.clock.elapsed();
        let (due, ask) = {
            let mut state = self.state();
            let ids: Vec<ClaimId> = state
                .waiting
                .iter()
                .filter(|(_, waiting)| waiting.due <= now)
                .map(|(id, _)| *id)
                .collect();
            let due: Vec<Waiting> = ids.iter().filter_map(|id| state.waiting.remove(id)).collect();
            let ask: Vec<_> = if state.ask_due <= now {
                state.ask_due = now.saturating_add(Duration::from_secs(1));
                let State { used_up, ask_next, .. } = &mut *state;
                ask_next.extend(used_up.extract_if(|_, due| *due <= now).map(|(of, _)| of));
                let free: Vec<_> = state.ask_next.difference(&state.asked).copied().collect();
                state.asked.extend(free.iter().copied());
                state.ask_next.clear();
                free
            } else {
                Vec::new()
            };
            (due, ask)
        };
        for waiting in due {
            self.submit(waiting.claim, waiting.attempt);
        }
        for (device, kind) in ask {
            if self.pool().submit(Job::Next { device, kind }).is_err() {
                let mut state = self.state();
                state.asked.remove(&(device, kind));
                state.ask_next.insert((device, kind));
            }
        }
    }

    /// Voids the number of an open claim. A claim whose number a device draws ends by what the
    /// device says of it, which may take its quiescence time.
    ///
    /// # Errors
    /// `VoidNotAllowed` when there is no such open claim, while an attempt to sign it runs, or when
    /// the device's word ended it otherwise; `DeviceUnavailable` when the device says nothing.
    pub async fn blank_void(
        &self,
        claim: ClaimId,
        reason: String,
        actor: String,
    ) -> Result<Voided, Refusal> {
        let waiting = self.state().waiting.remove(&claim);
        let Some(waiting) = waiting else {
            return Err(Refusal::new(
                Reason::VoidNotAllowed,
                format!("claim {claim} is not open, or is being signed right now"),
            ));
        };
        let (reply, answer) = oneshot::channel();
        let wish = Void { reason, actor, reply };
        match waiting.claim.assignment {
            Assignment::Numbered { .. } => self.completions.void(waiting.claim, None, wish),
            Assignment::ByDevice { .. } => {
                self.state().wanted.insert(claim, wish);
                self.submit(waiting.claim, Attempt::Query);
            }
        }
        let ended = Refusal::new(Reason::Draining, "the proxy ended before the void was made");
        let voided = answer.await.unwrap_or(Err(ended));
        if voided.is_ok() {
            self.forget(claim);
        }
        voided
    }

    /// Ends the pool. What is not signed is signed after the next start.
    pub fn end(&self) {
        self.state().ended = true;
        self.pool().shutdown();
    }
}

fn unsent(job: Job) -> Option<(Durable<Claim>, Attempt)> {
    match job {
        // Nothing was sent, so the first attempt is still to come.
        Job::Sign(claim) | Job::Issue(claim) => Some((claim, Attempt::First)),
        Job::Query(claim) => Some((claim, Attempt::Query)),
        Job::Next { .. } | Job::Ask { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbering::{laws, mailbox::Mailbox};

    #[test]
    fn the_quiescence_time_counts_from_when_the_answer_was_lost() {
        let clock = Clock::system();
        let completions = Completions(Arc::new(Mailbox::new(1)));
        let finisher =
            Finisher::new(completions, clock.clone(), Threads { software: 1, devices_max: 1 });
        let claim = laws::device_claim();
        let id = claim.id;
        // Its first attempt: no such device in the pool, so it waits as it would in a device's
        // queue.
        finisher.take(claim);
        let claim = finisher.state().waiting.remove(&id).unwrap().claim;
        let lost_at = clock.elapsed();
        let (device, detail) = ("D3".to_owned(), String::new());
        finisher
            .finished(Finished::Failed { claim, error: SignerError::InDoubt { device, detail } });
        assert!(finisher.state().sent[&id] >= lost_at);
    }

    #[test]
    fn a_device_without_numbers_is_asked_again_later_until_it_has_some() {
        let clock = Clock::system();
        let completions = Completions(Arc::new(Mailbox::new(1)));
        let finisher =
            Finisher::new(completions, clock.clone(), Threads { software: 1, devices_max: 1 });
        let (device, kind) = (DeviceNo(1), Kind::ENormal);
        let says = |next| finisher.finished(Finished::Next { device, kind, next });
        says(None);
        assert!(finisher.state().used_up[&(device, kind)] > clock.elapsed());
        finisher.tick();
        assert!(finisher.state().ask_next.is_empty(), "not yet");
        let mut state = finisher.state();
        (state.ask_due, state.used_up) =
            (Duration::ZERO, HashMap::from([((device, kind), Duration::ZERO)]));
        drop(state);
        finisher.tick();
        // No such device is in the pool, so the question is still to be asked.
        assert!(finisher.state().ask_next.contains(&(device, kind)));
        says(Some(InvoiceNumber { code: String::new(), number: 1 }));
        assert!(finisher.state().used_up.is_empty());
    }

    #[test]
    fn a_claim_of_an_unfrozen_series_is_due_at_once_and_the_others_wait() {
        let clock = Clock::system();
        let completions = Completions(Arc::new(Mailbox::new(1)));
        let finisher =
            Finisher::new(completions, clock.clone(), Threads { software: 1, devices_max: 1 });
        let claim = laws::device_claim();
        let (id, series) = (claim.id, claim.series);
        finisher.keep(claim);
        let due = |finisher: &Finisher| finisher.state().waiting[&id].due;
        let kept = due(&finisher);
        assert!(kept > clock.elapsed(), "it waits as long as any");
        finisher.hurry(SeriesNo(series.0 + 1));
        assert_eq!(due(&finisher), kept, "another series is none of its business");
        finisher.hurry(series);
        assert_eq!(due(&finisher), Duration::ZERO);
    }
}
