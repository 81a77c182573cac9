//! What the numbering actor knows, as committed, and a round over it: the decisions of one batch,
//! each seeing those before it. Pure but for look-ups of committed rows: the actor hands in the
//! time.
//!
//! Invariants: a `Round` changes nothing of the `Book`; only `Book::absorb`, after the commit,
//! does.

use super::{
    Limits, VoidedClaim,
    limits::{Offline, OfflineBook},
    monitor::RefusedMonitor,
    upload::WriteBacks,
};
use crate::{
    contract::{ContentDigest, Profiles},
    model::{BatchNo, ClaimId, CstTime, DeviceNo, Fen, InvoiceNumber, Kind, RequestKey, SeriesNo},
    refusal::{Reason, Refusal},
    registry::{Device, Registry},
    store::{
        Balance, Batch, Event, EventKind, LastIds, Loaded, LostRange, Notice, OfflineItem,
        OutboxItem, RedBalance, SegmentState, SeriesState, Split, Store, StoreError, Told,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// One series as the actor keeps it.
#[derive(Debug, Clone)]
pub struct Series {
    /// As stored.
    pub state: SeriesState,
    /// Segments with numbers left, in the order in which they are used.
    pub segments: VecDeque<SegmentState>,
    /// Whether a device that draws numbers has said, since the start, that it has none left. That
    /// no next number is known alone may also mean that it was not asked yet.
    pub used_up: bool,
}

impl Series {
    pub(super) fn new(state: SeriesState) -> Self {
        Self { state, segments: VecDeque::new(), used_up: false }
    }

    /// Takes over what a device said of its next number.
    pub(super) fn stands_at(&mut self, next: Option<&InvoiceNumber>) {
        self.used_up = next.is_none();
        self.state.device_next = next.cloned();
    }

    /// Numbers left in its segments.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.segments.iter().map(SegmentState::left).sum()
    }

    /// Appends an event to the chain.
    pub(super) fn event(&mut self, kind: EventKind, claim: ClaimId, body: &[u8]) -> Event {
        let event = Event::after(self.state.event, kind, claim, body);
        self.state.event = Some(event);
        event
    }
}

/// An open claim as the actor keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Series.
    pub series: SeriesNo,
    /// When it was claimed.
    pub claimed_at: CstTime,
    /// Its number; for a device's claim, the device's next one at the claim.
    pub number: InvoiceNumber,
    /// The blue invoice that a red one reverses.
    pub red_of: Option<ClaimId>,
    /// Amount without tax, negative on a red letter.
    pub amount: Fen,
}

/// Everything the actor knows, as committed.
#[derive(Debug)]
pub struct Book {
    /// The registry.
    pub registry: Arc<Registry>,
    /// Every series.
    pub series: BTreeMap<SeriesNo, Series>,
    /// Series by device and kind.
    pub index: HashMap<(DeviceNo, Kind), SeriesNo>,
    /// Known ranges by code, of every device.
    pub ranges: HashMap<String, Vec<(u32, u32)>>,
    /// Open claims.
    pub open: BTreeMap<ClaimId, Open>,
    /// Open claims by series.
    pub open_by_series: HashMap<SeriesNo, BTreeSet<ClaimId>>,
    /// What waits for a batch, by province.
    pub outbox: BTreeMap<String, BTreeSet<Notice>>,
    /// Numbers left out that witnesses know, by series.
    pub lost: HashMap<SeriesNo, Vec<LostRange>>,
    /// What was set aside, undelivered, with the province whose route it takes.
    pub(super) aside: BTreeMap<Notice, String>,
    /// Write-backs that no device has confirmed.
    pub(super) write_backs: WriteBacks,
    /// What those keep offline.
    pub(super) unheard: HashSet<ClaimId>,
    /// Batches without a receipt.
    pub open_batches: BTreeMap<BatchNo, Vec<Notice>>,
    /// Red letters of which a notice has no receipt yet, with the blue invoice of each.
    pub reds: HashMap<ClaimId, ClaimId>,
    /// What the open batches tell.
    pub unanswered: HashSet<Notice>,
    /// What counts against the offline limits.
    pub(super) offline: OfflineBook,
    /// Series whose limits have another load since it was last asked.
    pub(super) touched: BTreeSet<SeriesNo>,
    /// Monitor data that was refused, with an incident, since the start.
    pub(super) refused_monitors: HashSet<RefusedMonitor>,
    /// Last event of the journal.
    pub(super) journal: Option<Event>,
    pub(super) last: LastIds,
    pub(super) limits: Limits,
    /// Rules by profile; none until they are handed in.
    pub(super) profiles: Arc<Profiles>,
}

impl Book {
    /// From what was loaded. The open claims themselves go to the finisher.
    #[must_use]
    pub fn new(loaded: &Loaded, limits: Limits) -> Self {
        let mut book = Self {
            registry: Arc::new(loaded.registry.clone()),
            series: BTreeMap::new(),
            index: HashMap::new(),
            ranges: HashMap::new(),
            open: BTreeMap::new(),
            open_by_series: HashMap::new(),
            outbox: BTreeMap::new(),
            lost: HashMap::new(),
            aside: BTreeMap::new(),
            write_backs: WriteBacks::new(),
            unheard: HashSet::new(),
            open_batches: BTreeMap::new(),
            reds: HashMap::new(),
            unanswered: HashSet::new(),
            offline: OfflineBook::default(),
            refused_monitors: HashSet::new(),
            touched: loaded.series.iter().map(|series| series.no).collect(),
            journal: loaded.journal,
            last: loaded.last,
            limits,
            profiles: Arc::default(),
        };
        for state in &loaded.series {
            book.put_series(Series::new(state.clone()));
        }
        for segment in &loaded.segments {
            book.put_range(segment);
            if segment.left() > 0
                && let Some(series) = book.series.get_mut(&segment.series)
            {
                series.segments.push_back(segment.clone());
            }
        }
        loaded.lost.iter().for_each(|lost| book.put_lost(lost.clone()));
        for claim in &loaded.open {
            let open = super::round::open_of(claim);
            book.put_open(claim.id, open);
        }
        for (no, items) in &loaded.open_batches {
            book.reds.extend(items.iter().filter_map(|it| Some((it.notice.claim, it.red_of?))));
            items.iter().for_each(|item| book.put_offline(item));
            book.put_batch(*no, items.iter().map(|item| item.notice).collect());
        }
        for item in &loaded.outbox {
            book.put_outbox(*item);
            book.put_offline(item);
        }
        book.restore_uploads(loaded);
        book
    }

    pub(super) fn put_offline(&mut self, item: &OutboxItem) {
        if let Some(offline) = item.offline {
            self.offline.put(item.notice.claim, offline);
        }
    }

    /// The same book, where what devices answer is judged by these profiles.
    #[must_use]
    pub fn judging_by(self, profiles: Arc<Profiles>) -> Self {
        Self { profiles, ..self }
    }

    fn put_series(&mut self, series: Series) {
        let (no, key) = (series.state.no, (series.state.device, series.state.kind));
        self.index.insert(key, no);
        self.series.insert(no, series);
    }

    fn put_range(&mut self, segment: &SegmentState) {
        let ranges = self.ranges.entry(segment.code.clone()).or_default();
        if !ranges.contains(&(segment.first, segment.last)) {
            ranges.push((segment.first, segment.last));
        }
    }

    fn put_lost(&mut self, lost: LostRange) {
        let ranges = self.ranges.entry(lost.first.code.clone()).or_default();
        ranges.push((lost.first.number, lost.last));
        self.lost.entry(lost.series).or_default().push(lost);
    }

    fn put_open(&mut self, id: ClaimId, open: Open) {
        let Open { series, claimed_at, amount, .. } = open;
        self.offline.put(id, OfflineItem { series, at: claimed_at, amount });
        self.open_by_series.entry(open.series).or_default().insert(id);
        self.open.insert(id, open);
    }

    fn put_batch(&mut self, no: BatchNo, members: Vec<Notice>) {
        self.unanswered.extend(members.iter().copied());
        self.open_batches.insert(no, members);
    }

    fn put_outbox(&mut self, item: OutboxItem) {
        if let Some(blue) = item.red_of {
            self.reds.insert(item.notice.claim, blue);
        }
        let province = self.province(item.series);
        self.outbox.entry(province).or_default().insert(item.notice);
    }

    /// Whether the authority is not known yet to have heard something that it is to be told.
    pub(super) fn is_on_its_way(&self, notice: Notice) -> bool {
        let mut waiting = self.outbox.values();
        self.unanswered.contains(&notice)
            || self.aside.contains_key(&notice)
            || waiting.any(|notices| notices.contains(&notice))
    }

    /// It counts as offline no more.
    pub(super) fn free(&mut self, claim: ClaimId) {
        self.touched.extend(self.offline.take(claim));
    }

    /// The authority has answered.
    fn heard(&mut self, notice: Notice) {
        self.unanswered.remove(&notice);
        let claim = notice.claim;
        if notice.told == Told::End && !self.unheard.contains(&claim) {
            self.free(claim);
        }
        if self.reds.contains_key(&claim) {
            let both = [Notice::end(claim), Notice::invoice_void(claim)];
            if !both.into_iter().any(|notice| self.is_on_its_way(notice)) {
                self.reds.remove(&claim);
            }
        }
    }

    /// The province whose route a series' invoices take.
    #[must_use]
    pub fn province(&self, series: SeriesNo) -> String {
        let series = self.series.get(&series);
        series.map_or("*", |series| self.registry.province(series.state.device)).to_owned()
    }

    /// Issued invoices and voids that are in no batch yet.
    #[must_use]
    pub fn undelivered(&self) -> u64 {
        crate::convert::len_u64(self.outbox.values().map(BTreeSet::len).sum())
    }

    /// Begins a round. `now` is the batch's time, `gate` says why no new claim may be made.
    pub fn round<'a>(
        &'a self,
        store: &'a dyn Store,
        now: CstTime,
        gate: impl Into<Gate<'a>>,
    ) -> Round<'a> {
        Round {
            book: self,
            store,
            now,
            gate: gate.into(),
            batch: Batch::default(),
            series: BTreeMap::new(),
            bound: HashMap::new(),
            opened: BTreeMap::new(),
            ended: BTreeSet::new(),
            turnover: HashMap::new(),
            claimed: HashMap::new(),
            balances: BTreeMap::new(),
            voided: BTreeMap::new(),
            void_notices: Vec::new(),
            delivered: HashSet::new(),
            answered: BTreeSet::new(),
            split_now: Vec::new(),
            write_backs: WriteBacks::new(),
            confirmed: BTreeSet::new(),
            registry: None,
            refused_monitors: HashSet::new(),
            behind: None,
            last: self.last,
        }
    }

    /// Takes over what a round decided, after its commit.
    pub fn absorb(&mut self, change: Change) {
        if let Some(registry) = change.registry {
            self.registry = Arc::new(registry);
        }
        for (no, series) in change.series {
            self.touched.insert(no);
            self.put_series(series);
        }
        // Not the series' own: a segment may have been used up in the round that added it.
        change.segments.iter().for_each(|segment| self.put_range(segment));
        change.lost.into_iter().for_each(|lost| self.put_lost(lost));
        for (id, open) in change.opened {
            self.put_open(id, open);
        }
        for (claim, series) in change.ended {
            self.open.remove(&claim);
            if let Some(open) = self.open_by_series.get_mut(&series) {
                open.remove(&claim);
            }
        }
        change.unissued.into_iter().for_each(|claim| self.free(claim));
        for item in change.outbox {
            self.put_outbox(item);
        }
        for (province, notice) in change.delivered {
            if let Some(waiting) = self.outbox.get_mut(&province) {
                waiting.remove(&notice);
            }
        }
        self.absorb_uploads(change.splits, change.sent_again);
        for (no, members) in change.batches {
            self.put_batch(no, members);
        }
        self.absorb_write_backs(change.write_backs, change.confirmed);
        for batch in change.answered {
            for notice in self.open_batches.remove(&batch).unwrap_or_default() {
                self.heard(notice);
            }
        }
        self.refused_monitors.extend(change.refused_monitors);
        self.journal = change.journal;
        self.last = change.last;
    }
}

/// What a request key is bound to within a round.
#[derive(Debug, Clone)]
pub(super) enum Bound {
    /// A claim of this round.
    Claim(ClaimId, ContentDigest),
    /// Closed in this round.
    Closed(CstTime),
    /// Released in this round.
    Free,
}

/// Whether new claims may be made, for reasons outside the books.
pub struct Gate<'a> {
    /// For every device: the clock, the disk.
    pub all: Result<(), Refusal>,
    /// For one device: whether it takes jobs, and the clock of its authority.
    pub device: &'a dyn Fn(DeviceNo) -> Result<(), Refusal>,
}

impl From<Result<(), Refusal>> for Gate<'_> {
    fn from(all: Result<(), Refusal>) -> Self {
        Self { all, device: &|_| Ok(()) }
    }
}

/// The decisions of one batch.
pub struct Round<'a> {
    pub(super) book: &'a Book,
    pub(super) store: &'a dyn Store,
    pub(super) now: CstTime,
    pub(super) gate: Gate<'a>,
    pub(super) batch: Batch,
    pub(super) series: BTreeMap<SeriesNo, Series>,
    pub(super) bound: HashMap<RequestKey, Bound>,
    pub(super) opened: BTreeMap<ClaimId, Open>,
    pub(super) ended: BTreeSet<ClaimId>,
    /// Claims opened and ended in this round, by series.
    turnover: HashMap<SeriesNo, (usize, usize)>,
    /// What the claims of this round add to what is offline, by series.
    pub(super) claimed: HashMap<SeriesNo, Offline>,
    /// What is left of the blue invoices that this round touched.
    pub(super) balances: BTreeMap<ClaimId, Balance>,
    /// Invoices that this round voids.
    pub(super) voided: BTreeMap<ClaimId, VoidedClaim>,
    pub(super) void_notices: Vec<OutboxItem>,
    pub(super) delivered: HashSet<(String, Notice)>,
    /// Batches that end in this round.
    pub(super) answered: BTreeSet<BatchNo>,
    pub(super) split_now: Vec<Split>,
    pub(super) write_backs: WriteBacks,
    pub(super) confirmed: BTreeSet<(BatchNo, SeriesNo)>,
    pub(super) registry: Option<Registry>,
    pub(super) refused_monitors: HashSet<RefusedMonitor>,
    /// Why a witness of this round holds the books to be behind.
    pub(super) behind: Option<String>,
    pub(super) last: LastIds,
}

/// What a round changes of the book.
#[derive(Debug)]
pub struct Change {
    series: BTreeMap<SeriesNo, Series>,
    segments: Vec<SegmentState>,
    opened: BTreeMap<ClaimId, Open>,
    ended: Vec<(ClaimId, SeriesNo)>,
    /// Of those, the ones that will never be invoices.
    unissued: Vec<ClaimId>,
    outbox: Vec<OutboxItem>,
    delivered: HashSet<(String, Notice)>,
    batches: Vec<(BatchNo, Vec<Notice>)>,
    answered: BTreeSet<BatchNo>,
    splits: Vec<Split>,
    sent_again: Vec<Notice>,
    write_backs: WriteBacks,
    confirmed: BTreeSet<(BatchNo, SeriesNo)>,
    lost: Vec<LostRange>,
    registry: Option<Registry>,
    refused_monitors: HashSet<RefusedMonitor>,
    /// Why the books are behind: nothing may be issued from now on.
    pub(super) behind: Option<String>,
    journal: Option<Event>,
    last: LastIds,
}

impl Round<'_> {
    /// The batch to commit, and what the book learns when it is.
    #[must_use]
    pub fn finish(mut self) -> (Batch, Change) {
        for series in self.series.values() {
            self.batch.series.push(series.state.clone());
        }
        let issued = self.batch.issued.iter().map(|issued| (issued.claim, issued.series));
        let voided = self.batch.voided.iter().map(|voided| (voided.claim, voided.series));
        let released = self.batch.released.iter().map(|end| (end.claim, end.series));
        let open = |id: &ClaimId| self.opened.get(id).or_else(|| self.book.open.get(id));
        let red_of = |id: &ClaimId| open(id).and_then(|open| open.red_of);
        let item = |(claim, series)| {
            let (notice, red_of) = (Notice::end(claim), red_of(&claim));
            // What is offline is known since the claim.
            OutboxItem { notice, series, red_of, offline: None }
        };
        let unissued = voided.clone().chain(released.clone()).map(|(claim, _)| claim).collect();
        let ended = issued.chain(voided).chain(released).collect();
        let outbox = self.batch.issued.iter().map(|issued| (issued.claim, issued.series));
        // A void without a number is told to nobody.
        let told = self.batch.voided.iter().filter(|voided| voided.number.is_some());
        let outbox = outbox.chain(told.map(|voided| (voided.claim, voided.series))).map(item);
        let outbox = outbox.chain(std::mem::take(&mut self.void_notices)).collect();
        let frozen = self.batch.deliveries.iter();
        let batches = frozen.map(|batch| (batch.no, batch.members.clone())).collect();
        let balances = std::mem::take(&mut self.balances).into_iter();
        self.batch.balances = balances.map(|(blue, left)| RedBalance { blue, left }).collect();
        let change = Change {
            series: self.series,
            segments: self.batch.segments.clone(),
            opened: self.opened,
            ended,
            unissued,
            outbox,
            delivered: self.delivered,
            batches,
            answered: self.answered,
            splits: self.split_now,
            sent_again: self.batch.sent_again.clone(),
            write_backs: self.write_backs,
            confirmed: self.confirmed,
            lost: self.batch.lost.clone(),
            behind: self.behind,
            registry: self.registry,
            refused_monitors: self.refused_monitors,
            journal: self.batch.chain(self.book.journal),
            last: self.last,
        };
        (self.batch, change)
    }

    /// The registry as this round leaves it.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        self.registry.as_ref().unwrap_or(&self.book.registry)
    }

    pub(super) fn registry_mut(&mut self) -> &mut Registry {
        self.registry.get_or_insert_with(|| Registry::clone(&self.book.registry))
    }

    /// A series as this round leaves it.
    #[must_use]
    pub fn series(&self, no: SeriesNo) -> Option<&Series> {
        self.series.get(&no).or_else(|| self.book.series.get(&no))
    }

    pub(super) fn series_mut(&mut self, no: SeriesNo) -> Result<&mut Series, Refusal> {
        if !self.series.contains_key(&no) {
            let series = self.book.series.get(&no).cloned();
            let series = series.ok_or_else(|| {
                Refusal::new(Reason::Internal, format!("series {no} does not exist"))
            })?;
            self.series.insert(no, series);
        }
        Ok(self.series.get_mut(&no).expect("it was put in just now"))
    }

    /// The series of a device and kind.
    #[must_use]
    pub fn series_of(&self, device: DeviceNo, kind: Kind) -> Option<SeriesNo> {
        let made = || {
            let same =
                |series: &&Series| (series.state.device, series.state.kind) == (device, kind);
            self.series.values().find(same).map(|series| series.state.no)
        };
        self.book.index.get(&(device, kind)).copied().or_else(made)
    }

    /// The batch's time.
    #[must_use]
    pub fn now(&self) -> CstTime {
        self.now
    }

    /// Every committed series with its number of open claims, ascending by number.
    pub fn all_series(&self) -> impl Iterator<Item = (&Series, u64)> {
        self.book.series.iter().map(|(no, series)| {
            let open = self.book.open_by_series.get(no).map_or(0, BTreeSet::len);
            (series, crate::convert::len_u64(open))
        })
    }

    /// Every committed open claim, ascending.
    pub fn open_claims(&self) -> impl Iterator<Item = (&ClaimId, &Open)> {
        self.book.open.iter()
    }

    /// Whether a claim is open as this round leaves it.
    pub(super) fn is_open(&self, id: ClaimId) -> bool {
        self.open(id).is_some()
    }

    /// An open claim as this round leaves it.
    pub(super) fn open(&self, id: ClaimId) -> Option<&Open> {
        if self.ended.contains(&id) {
            return None;
        }
        self.opened.get(&id).or_else(|| self.book.open.get(&id))
    }

    /// Open claims of a device as this round leaves them. Each has at most one job with the device,
    /// so this is how many slots of the device's queue are taken.
    pub(super) fn slots_taken(&self, device: &Device) -> usize {
        let of_kind = |kind: &Kind| self.series_of(device.no, *kind);
        let series = device.kinds.iter().filter_map(of_kind);
        series.map(|series| self.backlog(series).0).sum()
    }

    /// Open claims of a series as this round leaves them, and when the oldest committed one was
    /// claimed.
    pub(super) fn backlog(&self, series: SeriesNo) -> (usize, Option<CstTime>) {
        let kept = self.book.open_by_series.get(&series);
        let (opened, ended) = self.turnover.get(&series).copied().unwrap_or_default();
        let count = kept.map_or(0, BTreeSet::len).saturating_add(opened).saturating_sub(ended);
        let oldest = kept.and_then(BTreeSet::first).and_then(|id| self.book.open.get(id));
        (count, oldest.map(|open| open.claimed_at))
    }

    pub(super) fn put_opened(&mut self, id: ClaimId, open: Open) {
        let turnover = self.turnover.entry(open.series).or_default();
        turnover.0 = turnover.0.saturating_add(1);
        self.opened.insert(id, open);
    }

    pub(super) fn put_ended(&mut self, id: ClaimId, series: SeriesNo) {
        let turnover = self.turnover.entry(series).or_default();
        turnover.1 = turnover.1.saturating_add(1);
        self.ended.insert(id);
    }
}

/// A row that cannot be read is no answer: the caller hears nothing about its request.
pub(super) fn unreadable(error: &StoreError) -> Refusal {
    tracing::error!(error = crate::refusal::chain(error), "the books cannot be read");
    Refusal::new(Reason::Internal, "the books cannot be read; the operator has been told")
}
