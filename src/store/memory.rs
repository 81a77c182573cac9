//! A store in memory with the same contract, for simulations of the numbering actor: it can run out
//! of space, and it survives the "death" of whoever used it.

use super::{
    Assignment, Balance, Batch, Binding, Claim, CommitError, Committed, Durable, Event, Fate,
    Found, InvoiceVoid, Issued, LastIds, Loaded, LostRange, Notice, OpenWriteBack, OutboxItem,
    RegistryChange, SegmentState, SeriesState, Store, StoreError, UsageDelta, UsageKey, Voided,
    WriteBack, backup::Copier, journal, rows,
};
use crate::{
    model::{BatchNo, ClaimId, CommitCounter, InvoiceNumber, RequestKey, SegmentNo, SeriesNo},
    registry::Registry,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is "on the disk".
#[derive(Debug, Default)]
pub struct Disk {
    /// Commits so far.
    pub counter: CommitCounter,
    claims: BTreeMap<ClaimId, (SeriesNo, rows::ClaimBody)>,
    signatures: BTreeMap<ClaimId, (SeriesNo, rows::IssuedBody)>,
    voids: BTreeMap<ClaimId, Voided>,
    invoice_voids: BTreeMap<ClaimId, InvoiceVoid>,
    void_requests: HashMap<RequestKey, ClaimId>,
    releases: BTreeSet<ClaimId>,
    requests: HashMap<RequestKey, Binding>,
    numbers: BTreeMap<InvoiceNumber, ClaimId>,
    series: BTreeMap<SeriesNo, SeriesState>,
    segments: BTreeMap<SegmentNo, SegmentState>,
    /// Usage by key.
    pub usage: BTreeMap<UsageKey, UsageDelta>,
    registry: Registry,
    open: BTreeSet<ClaimId>,
    outbox: BTreeSet<Notice>,
    lost: Vec<LostRange>,
    behind: Option<String>,
    batches: BTreeMap<BatchNo, Vec<Notice>>,
    open_batches: BTreeSet<BatchNo>,
    balances: BTreeMap<ClaimId, Balance>,
    rejected: BTreeSet<Notice>,
    aside: BTreeSet<Notice>,
    write_backs: BTreeMap<(BatchNo, SeriesNo), WriteBack>,
    journal: Option<Event>,
    /// Incidents, as text.
    pub incidents: Vec<String>,
    /// The next commits that fail for space.
    pub full_commits: u32,
}

/// The store; clones share one disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
}

impl MemoryStore {
    /// The disk, for checking and for planting faults.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a start would load.
    ///
    /// # Errors
    /// When a body does not decode, which would be a defect of this store.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let disk = self.disk();
        let last = |id: Option<i64>| id.unwrap_or_default();
        Ok(Loaded {
            registry: disk.registry.clone(),
            series: disk.series.values().cloned().collect(),
            segments: disk.segments.values().cloned().collect(),
            lost: disk.lost.clone(),
            behind: disk.behind.clone(),
            open: disk
                .open
                .iter()
                .map(|id| disk.claim(*id).map(Durable))
                .collect::<Result<_, _>>()?,
            outbox: disk.items(&disk.outbox)?,
            open_batches: disk
                .open_batches
                .iter()
                .map(|no| Ok((*no, disk.items(disk.batches.get(no).into_iter().flatten())?)))
                .collect::<Result<_, StoreError>>()?,
            aside: disk.items(&disk.aside)?,
            write_backs: disk.open_write_backs()?,
            journal: disk.journal,
            last: LastIds {
                claim: last(disk.claims.keys().next_back().map(|id| id.0)),
                series: last(disk.series.keys().next_back().map(|no| no.0)),
                segment: last(disk.segments.keys().next_back().map(|no| no.0)),
                batch: last(disk.batches.keys().next_back().map(|no| no.0)),
            },
        })
    }
}

impl Disk {
    /// A claim by its id.
    ///
    /// # Errors
    /// When it is absent or does not decode.
    fn claim(&self, id: ClaimId) -> Result<Claim, StoreError> {
        let (series, body) = self
            .claims
            .get(&id)
            .ok_or_else(|| StoreError::damaged(format!("claim {id} is absent")))?;
        rows::claim(id, *series, body.clone())
    }

    fn items<'a>(
        &self,
        notices: impl IntoIterator<Item = &'a Notice>,
    ) -> Result<Vec<OutboxItem>, StoreError> {
        let item = |notice: &Notice| Ok(OutboxItem::of(*notice, &self.found(notice.claim)?));
        notices.into_iter().map(item).collect()
    }

    fn open_write_backs(&self) -> Result<Vec<OpenWriteBack>, StoreError> {
        let open = self.write_backs.values().filter(|write_back| write_back.done_at.is_none());
        open.map(|write_back| {
            let members = self.batches.get(&write_back.batch).into_iter().flatten();
            let mut items = self.items(members)?;
            items.retain(|item| item.series == write_back.series);
            Ok(OpenWriteBack { write_back: write_back.clone(), items })
        })
        .collect()
    }

    /// A claim with its fate.
    ///
    /// # Errors
    /// When it is absent or does not decode.
    pub fn found(&self, id: ClaimId) -> Result<Found, StoreError> {
        let fate = if let Some((series, body)) = self.signatures.get(&id) {
            let issued = rows::issued(id, *series, body.clone())?;
            match self.invoice_voids.get(&id) {
                Some(void) => Fate::InvoiceVoided(issued, void.clone()),
                None => Fate::Issued(issued),
            }
        } else if let Some(voided) = self.voids.get(&id) {
            Fate::Voided(voided.clone())
        } else if self.releases.contains(&id) {
            Fate::Released
        } else {
            Fate::Open
        };
        Ok(Found::new(self.claim(id)?, fate))
    }

    /// What a request key is bound to.
    #[must_use]
    pub fn binding(&self, key: &RequestKey) -> Option<Binding> {
        self.requests.get(key).cloned()
    }

    /// Every number with its claim, ascending.
    #[must_use]
    pub fn numbers(&self) -> &BTreeMap<InvoiceNumber, ClaimId> {
        &self.numbers
    }

    /// Every claim's id, ascending.
    pub fn claim_ids(&self) -> impl Iterator<Item = ClaimId> {
        self.claims.keys().copied()
    }

    /// Every segment.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentState> {
        self.segments.values()
    }

    fn put_claim(&mut self, claim: &Claim) {
        assert!(
            self.requests.insert(claim.request.clone(), Binding::Claim(claim.id)).is_none(),
            "a request was bound twice"
        );
        if let Assignment::Numbered { number, .. } = &claim.assignment {
            self.put_number(number, claim.id);
        }
        assert!(
            self.claims.insert(claim.id, (claim.series, rows::claim_body(claim))).is_none(),
            "a claim id was used twice"
        );
        self.open.insert(claim.id);
    }

    fn put_number(&mut self, number: &InvoiceNumber, claim: ClaimId) {
        let before = self.numbers.insert(number.clone(), claim);
        assert!(before.is_none(), "number {number} was given out twice");
    }

    fn put_issued(&mut self, issued: &Issued) {
        assert!(self.open.remove(&issued.claim), "a claim that is not open was signed");
        if let Some((number, ..)) = &issued.drawn {
            self.put_number(number, issued.claim);
        }
        self.signatures.insert(issued.claim, (issued.series, rows::issued_body(issued)));
        self.outbox.insert(Notice::end(issued.claim));
    }

    fn put_invoice_void(&mut self, void: &InvoiceVoid) {
        assert!(self.signatures.contains_key(&void.claim), "what is not issued was voided");
        let before = self.invoice_voids.insert(void.claim, void.clone());
        assert!(before.is_none(), "an invoice was voided twice");
        let before = self.void_requests.insert(void.request.clone(), void.claim);
        assert!(before.is_none(), "a void request was bound twice");
        self.outbox.insert(Notice::invoice_void(void.claim));
    }

    fn put_uploads(&mut self, batch: &Batch) {
        for split in &batch.splits {
            assert!(self.open_batches.remove(&split.batch), "a batch that is not open was split");
            let into = if split.aside { &mut self.aside } else { &mut self.outbox };
            into.extend(split.members.iter().copied());
        }
        for notice in &batch.sent_again {
            assert!(self.aside.remove(notice), "{notice} was not set aside");
            self.outbox.insert(*notice);
        }
        for write_back in &batch.write_backs {
            let key = (write_back.batch, write_back.series);
            self.write_backs.insert(key, write_back.clone());
        }
    }

    fn put_registry(&mut self, change: &RegistryChange) {
        match change {
            RegistryChange::Platform(platform) => self.registry.put_platform(platform.clone()),
            RegistryChange::Certificate(cert) => self.registry.put_certificate(cert.clone()),
            RegistryChange::Taxpayer(taxpayer) => self.registry.put_taxpayer(taxpayer.clone()),
            RegistryChange::Binding(platform, taxpayer, grants) => {
                self.registry.bindings.insert((*platform, *taxpayer), grants.clone());
            }
            RegistryChange::Device(device, _) => self.registry.put_device(device.clone()),
            RegistryChange::Route(route) => {
                self.registry.routes.insert(route.province.clone(), Arc::new(route.clone()));
            }
            RegistryChange::Monitor(monitor) => self.registry.put_monitor(monitor.clone()),
            RegistryChange::Setting(key, value) if key == super::BEHIND => {
                let text = String::from_utf8_lossy(value).into_owned();
                self.behind = Some(text).filter(|text| !text.is_empty());
            }
            RegistryChange::Setting(..) => {}
        }
    }

    fn put(&mut self, batch: &Batch) {
        batch.registry.iter().for_each(|change| self.put_registry(change));
        for series in &batch.series {
            self.series.insert(series.no, series.clone());
        }
        for segment in &batch.segments {
            self.segments.insert(segment.no, segment.clone());
        }
        self.lost.extend(batch.lost.iter().cloned());
        // Before the claims: a serial that is freed may be bound again in the same commit.
        for released in &batch.released {
            assert!(self.open.remove(&released.claim), "a claim that is not open was released");
            self.releases.insert(released.claim);
            self.requests.remove(&released.request);
        }
        batch.claims.iter().for_each(|claim| self.put_claim(claim));
        batch.issued.iter().for_each(|issued| self.put_issued(issued));
        for voided in &batch.voided {
            assert!(self.open.remove(&voided.claim), "a claim that is not open was voided");
            self.voids.insert(voided.claim, voided.clone());
            let Some(number) = &voided.number else { continue };
            if voided.drawn.is_some() {
                self.put_number(number, voided.claim);
            }
            self.outbox.insert(Notice::end(voided.claim));
        }
        batch.invoice_voids.iter().for_each(|void| self.put_invoice_void(void));
        for closed in &batch.closed {
            let before = self.requests.insert(closed.request.clone(), Binding::Closed(closed.at));
            assert!(before.is_none(), "a bound serial was closed");
        }
        for balance in &batch.balances {
            self.balances.insert(balance.blue, balance.left.clone());
        }
        for (key, delta) in &batch.usage {
            let usage = self.usage.entry(*key).or_default();
            usage.count += delta.count;
            usage.totals.amount.0 += delta.totals.amount.0;
            usage.totals.tax.0 += delta.totals.tax.0;
            usage.totals.total.0 += delta.totals.total.0;
        }
        self.put_uploads(batch);
        for delivery in &batch.deliveries {
            for notice in &delivery.members {
                assert!(self.outbox.remove(notice), "{notice} was put into two batches");
            }
            self.batches.insert(delivery.no, delivery.members.clone());
            self.open_batches.insert(delivery.no);
        }
        for receipt in &batch.receipts {
            assert!(self.open_batches.remove(&receipt.batch), "a batch was answered twice");
            self.rejected.extend(receipt.rejected.iter().map(|rejection| rejection.notice));
        }
        let expected = journal::chained(batch, self.journal);
        assert_eq!(batch.journal, expected, "the journal's chain is broken");
        self.journal = expected.last().copied().or(self.journal);
        self.incidents.extend(batch.incidents.iter().map(|incident| incident.text.clone()));
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, batch: Batch) -> Result<Committed, CommitError> {
        let mut disk = self.disk();
        if disk.full_commits > 0 {
            disk.full_commits -= 1;
            return Err(CommitError::Full);
        }
        disk.put(&batch);
        disk.counter.0 += 1;
        Ok(Committed::new(disk.counter, batch))
    }

    fn binding(&self, key: &RequestKey) -> Result<Option<Binding>, StoreError> {
        Ok(self.disk().binding(key))
    }

    fn found(&self, claim: ClaimId) -> Result<Found, StoreError> {
        self.disk().found(claim)
    }

    fn void_requested(&self, key: &RequestKey) -> Result<Option<ClaimId>, StoreError> {
        Ok(self.disk().void_requests.get(key).copied())
    }

    fn holder(&self, number: &InvoiceNumber) -> Result<Option<ClaimId>, StoreError> {
        Ok(self.disk().numbers.get(number).copied())
    }

    fn balance(&self, blue: ClaimId) -> Result<Option<Balance>, StoreError> {
        Ok(self.disk().balances.get(&blue).cloned())
    }

    fn is_rejected(&self, claim: ClaimId) -> Result<bool, StoreError> {
        Ok(self.disk().rejected.contains(&Notice::end(claim)))
    }

    fn any_number(&self, number: &InvoiceNumber, last: u32) -> Result<bool, StoreError> {
        let end = InvoiceNumber { code: number.code.clone(), number: last };
        Ok(self.disk().numbers.range(number.clone()..=end).next().is_some())
    }

    fn has_reserve(&self) -> bool {
        true
    }

    fn counter(&self) -> CommitCounter {
        self.disk().counter
    }

    fn copier(&self) -> Option<Copier> {
        None
    }
}
