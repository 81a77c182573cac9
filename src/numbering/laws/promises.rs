//! An independent model of promises 1 to 4: what each serial, number and series has become, told by
//! the decisions alone. It shares no code with what it judges.

use super::world::{CODES, DRAWN, LIMITS, TARGETS, number, series_of};
use crate::{
    model::{
        BatchNo, ClaimId, Color, CstTime, InvoiceNumber, PlatformNo, Position, RequestKey,
        SeriesNo, TaxpayerNo,
    },
    numbering::{Decision, Outcome, Resolved},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    signer::DeviceAnswer,
    store::{
        Assignment, Binding, Claim, Counted, Fate, Notice, Store as _, UsageDelta, UsageKey,
        memory::MemoryStore,
    },
};
use bytes::Bytes;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Whether a law holds, else which and why not.
pub(super) type Law = Result<(), String>;

pub(super) fn holds(condition: bool, law: &str, detail: impl FnOnce() -> String) -> Law {
    if condition { Ok(()) } else { Err(format!("broken: {law}: {}", detail())) }
}

/// A request to assign.
pub(super) struct Ask {
    pub(super) key: RequestKey,
    pub(super) content: usize,
    pub(super) target: usize,
    pub(super) expired: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Open,
    /// With the check code, and the bytes once they are committed.
    Issued(String, Option<Bytes>),
    /// Whether it is committed.
    Voided(bool),
    /// Issued with this check code and these bytes, and voided after that.
    InvoiceVoided(String, Bytes, Void),
    Released,
}

/// The void of an invoice.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Void {
    pub(super) reason: String,
    pub(super) at: CstTime,
}

#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) key: RequestKey,
    content: usize,
    pub(super) target: usize,
    number: Option<InvoiceNumber>,
    pub(super) claimed_at: CstTime,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Claim(ClaimId),
    Closed(CstTime),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// Code, next and last number of what is left.
    pub(super) segments: VecDeque<(String, u32, u32)>,
    pub(super) position: u64,
    pub(super) events: u64,
    pub(super) last_issue: Option<CstTime>,
    pub(super) frozen: bool,
    pub(super) device_next: Option<InvoiceNumber>,
    /// When the oldest claim that was open before this round was claimed.
    oldest: Option<CstTime>,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) now: CstTime,
    keys: BTreeMap<RequestKey, Bound>,
    pub(super) claims: BTreeMap<ClaimId, Known>,
    pub(super) numbers: BTreeMap<InvoiceNumber, ClaimId>,
    ranges: Vec<(String, u32, u32)>,
    pub(super) series: BTreeMap<SeriesNo, Line>,
    usage: BTreeMap<UsageKey, UsageDelta>,
    /// Numbers that are durable: of others nobody was told.
    pub(super) durable: BTreeSet<InvoiceNumber>,
    /// Void requests, with the claim and reason of each.
    pub(super) void_requests: BTreeMap<RequestKey, (ClaimId, String)>,
    pub(super) waiting: BTreeSet<Notice>,
    pub(super) told_now: BTreeSet<Notice>,
    pub(super) open_batches: BTreeMap<BatchNo, Vec<Notice>>,
    pub(super) answered_now: BTreeSet<BatchNo>,
    pub(super) aside: BTreeSet<Notice>,
    pub(super) aside_now: BTreeSet<Notice>,
    pub(super) batches_now: BTreeMap<BatchNo, Vec<Notice>>,
    pub(super) platforms: [bool; 2],
    pub(super) devices: [bool; 3],
    /// The number that the device will draw next.
    device_at: u32,
}

/// What a free serial must come to.
enum Expect {
    Claim,
    Park,
    Refused(Reason),
}

impl Model {
    pub(super) fn new(now: CstTime) -> Self {
        Self {
            now,
            keys: BTreeMap::new(),
            claims: BTreeMap::new(),
            numbers: BTreeMap::new(),
            ranges: Vec::new(),
            series: (0..TARGETS.len()).map(|at| (series_of(at), Line::default())).collect(),
            usage: BTreeMap::new(),
            durable: BTreeSet::new(),
            void_requests: BTreeMap::new(),
            waiting: BTreeSet::new(),
            told_now: BTreeSet::new(),
            open_batches: BTreeMap::new(),
            answered_now: BTreeSet::new(),
            aside: BTreeSet::new(),
            aside_now: BTreeSet::new(),
            batches_now: BTreeMap::new(),
            platforms: [true; 2],
            devices: [true; 3],
            device_at: 30,
        }
    }

    /// A round begins.
    pub(super) fn begin(&mut self, now: CstTime) {
        self.now = now;
        for (no, line) in &mut self.series {
            let open = self.claims.values().filter(|known| known.state == State::Open);
            let mut here = open.filter(|known| series_of(known.target) == *no);
            line.oldest = here.next().map(|known| known.claimed_at);
        }
    }

    pub(super) fn open(&self) -> BTreeSet<ClaimId> {
        let open = self.claims.iter().filter(|(_, known)| known.state == State::Open);
        open.map(|(id, _)| *id).collect()
    }

    pub(super) fn is_open(&self, id: ClaimId) -> bool {
        self.claims.get(&id).is_some_and(|known| known.state == State::Open)
    }

    fn line(&mut self, no: SeriesNo) -> &mut Line {
        self.series.get_mut(&no).unwrap()
    }

    pub(super) fn is_frozen(&self, no: SeriesNo) -> bool {
        self.series[&no].frozen
    }

    pub(super) fn freeze(&mut self, no: SeriesNo) {
        self.line(no).frozen = true;
    }

    pub(super) fn unfreeze(&mut self, no: SeriesNo) {
        self.line(no).frozen = false;
    }

    /// Judges what was decided about a request. `claim` is the new claim, when one was made.
    pub(super) fn assigned(
        &mut self,
        ask: &Ask,
        decided: &Result<Decision, Refusal>,
        claim: Option<&Claim>,
    ) -> Law {
        let bound = self.keys.get(&ask.key).copied();
        let made = claim.map(|claim| claim.id);
        if bound.is_some() {
            holds(made.is_none(), "one serial names at most one invoice", || format!("{made:?}"))?;
        }
        match bound {
            Some(Bound::Closed(_)) => holds(
                is_refused(decided, Reason::SerialClosed),
                "a closed serial is never issued",
                || format!("{decided:?}"),
            ),
            Some(Bound::Claim(id)) => self.replayed(id, ask, decided),
            None => self.fresh(ask, decided, claim),
        }
    }

    fn replayed(&self, id: ClaimId, ask: &Ask, decided: &Result<Decision, Refusal>) -> Law {
        let known = &self.claims[&id];
        if known.content != ask.content {
            let law = "one serial stands for one content";
            let right = is_refused(decided, Reason::SerialConflict);
            return holds(right, law, || format!("{decided:?}"));
        }
        let right = match (&known.state, decided) {
            (State::Open, Ok(Decision::Theirs(theirs)))
            | (State::Issued(_, None) | State::Voided(false), Ok(Decision::Theirs(theirs))) => {
                *theirs == id
            }
            (State::Issued(_, Some(bytes)), Ok(Decision::Done(outcome))) => is(outcome, id, bytes),
            (State::Voided(true), Ok(Decision::Done(Outcome::Voided(voided)))) => {
                voided.number == known.number && voided.invoice.is_none()
            }
            (State::InvoiceVoided(_, bytes, void), Ok(Decision::Done(outcome))) => {
                // A void of this very round is not committed yet: the invoice is what stands.
                is_void(outcome, id, (bytes, void)) || is(outcome, id, bytes)
            }
            _ => false,
        };
        holds(right, "a bound serial hears what it has become, whatever the rules say now", || {
            format!("{:?}: {decided:?}", known.state)
        })
    }

    fn fresh(
        &mut self,
        ask: &Ask,
        decided: &Result<Decision, Refusal>,
        claim: Option<&Claim>,
    ) -> Law {
        match (self.expect(ask), decided, claim) {
            (Expect::Claim, Ok(Decision::Mine(id)), Some(claim)) if *id == claim.id => {
                self.claimed(ask, claim)
            }
            (Expect::Park, Ok(Decision::Park(series, _)), None) => {
                holds(*series == series_of(ask.target), "parked at its series", String::new)
            }
            (Expect::Refused(reason), Err(refusal), None) => {
                holds(refusal.reason == reason, "refused for its reason", || {
                    format!("{refusal} instead of {reason}")
                })
            }
            (..) => Err(format!("broken: a free serial meets the rules: {decided:?}")),
        }
    }

    fn expect(&self, ask: &Ask) -> Expect {
        let line = &self.series[&series_of(ask.target)];
        let platform = usize::try_from(ask.key.platform.0).unwrap() - 1;
        let open = self.open_of(ask.target);
        let unix = self.now.unix();
        let age = line.oldest.map_or(0, |oldest| unix - oldest.unix());
        let refused = [
            (!self.platforms[platform], Reason::PlatformSuspended),
            (!self.devices[TARGETS[ask.target].0], Reason::DeviceUnavailable),
            (
                line.last_issue.is_some_and(|last| last.unix() > unix + LIMITS.clock_skew_max_s),
                Reason::ClockSkew,
            ),
            (ask.expired, Reason::Overloaded),
            (self.slots_taken(ask.target) >= LIMITS.open_claims_max, Reason::SeriesBacklog),
            (age > LIMITS.oldest_open_max_s, Reason::SeriesBacklog),
            (line.frozen, Reason::SeriesFrozen),
        ];
        if let Some((_, reason)) = refused.into_iter().find(|(applies, _)| *applies) {
            return Expect::Refused(reason);
        }
        let drawn = ask.target == DRAWN;
        match (drawn, open, &line.device_next) {
            (true, 1.., _) => Expect::Park,
            (true, 0, None) => Expect::Refused(Reason::DeviceUnavailable),
            (false, ..) if line.segments.is_empty() => Expect::Refused(Reason::NoNumbers),
            (true, 0, Some(_)) | (false, ..) => Expect::Claim,
        }
    }

    /// Open claims of a target's device.
    fn slots_taken(&self, target: usize) -> usize {
        let same = |other: &usize| TARGETS[*other].0 == TARGETS[target].0;
        (0..TARGETS.len()).filter(same).map(|other| self.open_of(other)).sum()
    }

    fn open_of(&self, target: usize) -> usize {
        let open = self.claims.values().filter(|known| known.state == State::Open);
        open.filter(|known| known.target == target).count()
    }

    fn claimed(&mut self, ask: &Ask, claim: &Claim) -> Law {
        let newest = self.claims.last_key_value().is_none_or(|(last, _)| *last < claim.id);
        holds(newest, "claims have ids in append order", || claim.id.to_string())?;
        let line = self.series.get_mut(&series_of(ask.target)).unwrap();
        let stamp = line.last_issue.map_or(self.now, |last| last.max(self.now));
        holds(claim.claimed_at == stamp, "issue time never goes backwards", || stamp.rfc3339())?;
        let number = match &claim.assignment {
            Assignment::Numbered { number, position } => {
                let (code, next, last) = line.segments.front_mut().unwrap();
                let expect = InvoiceNumber { code: code.clone(), number: *next };
                holds(*number == expect, "numbers are drawn in order", || number.to_string())?;
                let place = *position == Position(line.position);
                holds(place, "positions have no gap", || format!("{position:?}"))?;
                (*next, line.position, line.events) =
                    (*next + 1, line.position + 1, line.events + 1);
                if *next > *last {
                    line.segments.pop_front();
                }
                line.last_issue = Some(stamp);
                Some(number.clone())
            }
            Assignment::ByDevice { next, .. } => {
                let same = line.device_next.as_ref() == Some(next);
                holds(same, "a claim keeps the device's next number", || next.to_string())?;
                None
            }
        };
        if let Some(number) = &number {
            let before = self.numbers.insert(number.clone(), claim.id);
            holds(before.is_none(), "one number, one invoice", || number.to_string())?;
        }
        let known = Known {
            key: ask.key.clone(),
            content: ask.content,
            target: ask.target,
            number,
            claimed_at: claim.claimed_at,
            state: State::Open,
        };
        self.claims.insert(claim.id, known);
        self.keys.insert(ask.key.clone(), Bound::Claim(claim.id));
        Ok(())
    }

    pub(super) fn resolved(&mut self, key: RequestKey, resolved: &Resolved) -> Law {
        let bound = self.keys.get(&key).copied();
        let right = match (bound, resolved) {
            (Some(Bound::Claim(id)), resolved) => match (&self.claims[&id].state, resolved) {
                (
                    State::Open | State::Issued(_, None) | State::Voided(false),
                    Resolved::Open(open),
                ) => *open == id,
                (State::Issued(_, Some(bytes)), Resolved::Done(outcome)) => is(outcome, id, bytes),
                (State::Voided(true), Resolved::Done(Outcome::Voided(_))) => true,
                (State::InvoiceVoided(_, bytes, void), Resolved::Done(outcome)) => {
                    is_void(outcome, id, (bytes, void)) || is(outcome, id, bytes)
                }
                _ => false,
            },
            (Some(Bound::Closed(before)), Resolved::Done(Outcome::Closed { at })) => before == *at,
            (None, Resolved::Done(Outcome::Closed { at })) => *at == self.now,
            _ => false,
        };
        holds(right, "the final word is the true one", || format!("{bound:?}: {resolved:?}"))?;
        self.keys.entry(key).or_insert(Bound::Closed(self.now));
        Ok(())
    }

    pub(super) fn end(&mut self, id: ClaimId, state: State) -> SeriesNo {
        let known = self.claims.get_mut(&id).unwrap();
        known.state = state;
        let no = series_of(known.target);
        self.line(no).events += 1;
        no
    }

    pub(super) fn count(&mut self, id: ClaimId, counted: Counted, time: CstTime) {
        let known = &self.claims[&id];
        let key = UsageKey {
            day: time.day(),
            platform: known.key.platform,
            taxpayer: TaxpayerNo(1),
            kind: TARGETS[known.target].1,
            color: Color::Blue,
            counted,
        };
        let extra = i64::try_from(known.content).unwrap();
        let usage = self.usage.entry(key).or_default();
        usage.count += 1;
        usage.totals.amount.0 += 100;
        usage.totals.tax.0 += 13 + extra;
        usage.totals.total.0 += 113 + extra;
    }

    pub(super) fn signed(&mut self, id: ClaimId, time: CstTime, check_code: String) {
        self.end(id, State::Issued(check_code, None));
        self.count(id, Counted::Issued, time);
        self.told_now.insert(Notice::end(id));
    }

    pub(super) fn voided(&mut self, id: ClaimId) {
        self.end(id, State::Voided(false));
        self.told_now.insert(Notice::end(id));
    }

    /// A device's claim was voided with the number that it drew.
    pub(super) fn voided_drawn(
        &mut self,
        id: ClaimId,
        number: Option<InvoiceNumber>,
        answer: &DeviceAnswer,
    ) {
        let no = self.end(id, State::Voided(false));
        let line = self.line(no);
        line.device_next.clone_from(&answer.next);
        let Some(number) = number else { return };
        line.position += 1;
        line.last_issue = line.last_issue.max(Some(answer.issue_time));
        self.numbers.insert(number.clone(), id);
        self.device_at = self.device_at.max(number.number + 1);
        self.claims.get_mut(&id).unwrap().number = Some(number);
        self.told_now.insert(Notice::end(id));
    }

    /// A device's claim was voided although something was drawn that nobody can name.
    pub(super) fn voided_unknown(&mut self, id: ClaimId, next: Option<InvoiceNumber>) {
        let no = self.end(id, State::Voided(false));
        self.line(no).device_next = next;
    }

    /// Whether an answer that matches its claim leaves no doubt about the device.
    pub(super) fn adds_up(&self, claim: &Claim, answer: &DeviceAnswer) -> bool {
        let Assignment::ByDevice { next, .. } = &claim.assignment else { return false };
        let last = self.series[&claim.series].last_issue;
        answer.number == *next
            && answer.next == answer.number.next()
            && last.is_none_or(|last| answer.issue_time >= last)
            && answer.issue_time.unix() >= claim.claimed_at.unix() - LIMITS.device_skew_max_s
    }

    pub(super) fn released(&mut self, id: ClaimId, next: InvoiceNumber) {
        let no = self.end(id, State::Released);
        self.line(no).device_next = Some(next);
        self.keys.remove(&self.claims[&id].key);
    }

    /// An answer was adopted.
    pub(super) fn drawn(
        &mut self,
        id: ClaimId,
        answer: &DeviceAnswer,
        drawn: Option<&(InvoiceNumber, Position, CstTime)>,
    ) -> Law {
        let line = self.line(series_of(DRAWN));
        let place = Position(line.position);
        let expect = (answer.number.clone(), place, answer.issue_time);
        holds(drawn == Some(&expect), "a drawn number takes the next position", || {
            format!("{drawn:?}")
        })?;
        line.position += 1;
        line.device_next.clone_from(&answer.next);
        line.last_issue = line.last_issue.max(Some(answer.issue_time));
        let before = self.numbers.insert(answer.number.clone(), id);
        holds(before.is_none(), "one number, one invoice", || answer.number.to_string())?;
        self.device_at = answer.number.number + 1;
        self.claims.get_mut(&id).unwrap().number = Some(answer.number.clone());
        self.signed(id, answer.issue_time, answer.signed.check_code.clone());
        Ok(())
    }

    pub(super) fn any_number(&self) -> Option<InvoiceNumber> {
        // The last one was drawn by the device, when it has drawn any: no segment names it.
        self.numbers.keys().next_back().cloned()
    }

    pub(super) fn any_segment_number(&self) -> Option<InvoiceNumber> {
        let (code, next, _) = self.series.values().find_map(|line| line.segments.front())?;
        Some(InvoiceNumber { code: code.clone(), number: *next })
    }

    /// Whether nobody holds or will draw this number.
    pub(super) fn is_free(&self, number: &InvoiceNumber) -> bool {
        !self.numbers.contains_key(number)
            && !self.ranges.iter().any(|(code, first, last)| {
                *code == number.code && (*first..=*last).contains(&number.number)
            })
    }

    pub(super) fn segment_fits(&self, first: &InvoiceNumber, last: u32) -> bool {
        (first.number..=last)
            .all(|number| self.is_free(&InvoiceNumber { code: first.code.clone(), number }))
    }

    pub(super) fn segment_added(&mut self, no: SeriesNo, first: &InvoiceNumber, last: u32) {
        self.ranges.push((first.code.clone(), first.number, last));
        self.line(no).segments.push_back((first.code.clone(), first.number, last));
    }

    pub(super) fn device_will_draw(&self, ahead: u32) -> InvoiceNumber {
        number(CODES.len() - 1, self.device_at + ahead)
    }

    /// A next number that no claim of ours explains freezes the series.
    pub(super) fn device_said(&mut self, next: InvoiceNumber) {
        let open = self.open_of(DRAWN);
        self.device_at = next.number;
        let line = self.line(series_of(DRAWN));
        let moved = line.device_next.as_ref().is_some_and(|before| *before != next);
        line.frozen |= moved && open == 0;
        line.device_next = Some(next);
    }

    /// A round is durable: from here on its bytes are the bytes.
    pub(super) fn settle(&mut self, store: &MemoryStore) -> Law {
        self.durable = self.numbers.keys().cloned().collect();
        self.aside.retain(|notice| !self.told_now.contains(notice));
        self.aside.append(&mut self.aside_now);
        self.waiting.append(&mut self.told_now);
        self.open_batches.retain(|no, _| !self.answered_now.contains(no));
        self.answered_now.clear();
        self.open_batches.append(&mut self.batches_now);
        for (id, known) in &mut self.claims {
            match &mut known.state {
                State::Voided(settled) => *settled = true,
                State::Issued(check_code, bytes @ None) => {
                    let found = store.found(*id).map_err(|error| error.to_string())?;
                    let stored = found.invoice().ok_or("broken: an issued invoice is lost")?;
                    let invoice = pb::Invoice::decode(stored.clone()).unwrap();
                    let draft = invoice.draft.unwrap_or_default();
                    let number = known.number.as_ref().unwrap();
                    let right = draft.serial == known.key.serial.as_str()
                        && draft.remark == known.content.to_string()
                        && invoice.code == number.code
                        && invoice.number == number.number_text()
                        && invoice.check_code == *check_code;
                    holds(right, "an invoice is what was asked for", || format!("{draft:?}"))?;
                    *bytes = Some(stored);
                }
                State::Open
                | State::Released
                | State::Issued(_, Some(_))
                | State::InvoiceVoided(..) => {}
            }
        }
        Ok(())
    }

    /// Compares everything that was ever promised with what is stored.
    pub(super) fn check(&self, store: &MemoryStore) -> Law {
        for platform in 1..=2 {
            for serial in 0..4 {
                let serial = crate::model::Serial::parse(&format!("S{serial}")).unwrap();
                let (platform, taxpayer) = (PlatformNo(platform), TaxpayerNo(1));
                let key = RequestKey { platform, taxpayer, serial };
                let stored = store.disk().binding(&key).map(|binding| match binding {
                    Binding::Claim(id) => Bound::Claim(id),
                    Binding::Closed(at) => Bound::Closed(at),
                });
                let expect = self.keys.get(&key).copied();
                holds(
                    stored == expect,
                    "a serial keeps its meaning; a refusal binds nothing",
                    || format!("{key:?} is {stored:?}, not {expect:?}"),
                )?;
            }
        }
        let disk = store.disk();
        holds(*disk.numbers() == self.numbers, "a number belongs to one content for ever", || {
            format!("{:?} is not {:?}", disk.numbers(), self.numbers)
        })?;
        holds(disk.usage == self.usage, "the meter equals the journal", || {
            format!("{:?} is not {:?}", disk.usage, self.usage)
        })?;
        for (id, known) in &self.claims {
            let found = disk.found(*id).map_err(|error| error.to_string())?;
            let same = match (&known.state, &found.fate) {
                (State::Open, Fate::Open) | (State::Released, Fate::Released) => true,
                (State::Issued(_, bytes), Fate::Issued(_)) => found.invoice() == bytes.clone(),
                (State::Voided(_), Fate::Voided(voided)) => voided.number == known.number,
                (State::InvoiceVoided(_, bytes, expect), Fate::InvoiceVoided(_, void)) => {
                    found.invoice().as_ref() == Some(bytes)
                        && (&void.reason, void.at) == (&expect.reason, expect.at)
                }
                _ => false,
            };
            holds(same, "what was promised is kept, to the byte", || format!("{known:?}"))?;
        }
        Ok(())
    }
}

fn is_refused(decided: &Result<Decision, Refusal>, reason: Reason) -> bool {
    decided.as_ref().is_err_and(|refusal| refusal.reason == reason)
}

pub(super) fn is_void(outcome: &Outcome, id: ClaimId, (bytes, void): (&Bytes, &Void)) -> bool {
    matches!(outcome, Outcome::Voided(voided) if voided.claim == id
        && voided.invoice.as_ref() == Some(bytes)
        && (&voided.reason, voided.at) == (&void.reason, void.at))
}

fn is(outcome: &Outcome, id: ClaimId, bytes: &Bytes) -> bool {
    matches!(outcome, Outcome::Issued(issued) if issued.claim == id && issued.bytes == *bytes)
}
