//! Batches on their way to the authority (上传): what goes together, what was answered, what cannot
//! be taken as it is, what a device still has to hear.
//!
//! Invariants: a notice is in at most one open batch; a receipt, a split or a write-back is taken
//! once; what is set aside stays undelivered.

use super::book::{Book, Round, Series};
use crate::{
    clock,
    model::{BatchNo, ClaimId, SeriesNo},
    refusal::{Reason, Refusal},
    store::{
        Acceptance, DeliveryBatch, Incident, Loaded, Notice, ReceiptRecord, Split, Told, WriteBack,
    },
};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What a write-back keeps offline until it is confirmed: the batch's invoices of one series.
pub(super) type WriteBacks = BTreeMap<(BatchNo, SeriesNo), (WriteBack, Vec<ClaimId>)>;

/// What a device is to hear of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The device's series.
    pub series: SeriesNo,
    /// Cipher text (明细监控密文, MXJGMW).
    pub result: String,
}

impl Book {
    /// The series whose offline load a claim is part of.
    fn series_offline(&self, claim: ClaimId) -> Option<SeriesNo> {
        self.offline.series_of(claim)
    }

    /// Takes over what was split, before the batches made of it; and what is sent again.
    pub(super) fn absorb_uploads(&mut self, splits: Vec<Split>, sent_again: Vec<Notice>) {
        for split in splits {
            self.open_batches.remove(&split.batch);
            for notice in split.members {
                self.unanswered.remove(&notice);
                if split.aside {
                    self.aside.insert(notice, split.province.clone());
                }
            }
        }
        for notice in sent_again {
            if let Some(province) = self.aside.remove(&notice) {
                self.outbox.entry(province).or_default().insert(notice);
            }
        }
    }
}

impl Book {
    /// What a start finds set aside, and what devices still have to hear.
    pub(super) fn restore_uploads(&mut self, loaded: &Loaded) {
        for item in &loaded.aside {
            self.reds.extend(item.red_of.map(|blue| (item.notice.claim, blue)));
            self.put_offline(item);
            self.aside.insert(item.notice, self.province(item.series));
        }
        for open in &loaded.write_backs {
            open.items.iter().for_each(|item| self.put_offline(item));
            let of_invoices = open.items.iter().filter(|item| item.offline.is_some());
            let claims = of_invoices.map(|item| item.notice.claim).collect();
            self.put_write_back(open.write_back.clone(), claims);
        }
    }

    /// A device must hear of a batch before its `claims` are offline no more.
    pub(super) fn put_write_back(&mut self, write_back: WriteBack, claims: Vec<ClaimId>) {
        self.unheard.extend(claims.iter().copied());
        self.write_backs.insert((write_back.batch, write_back.series), (write_back, claims));
    }

    /// Takes over new write-backs, and those that were confirmed.
    pub(super) fn absorb_write_backs(
        &mut self,
        new: WriteBacks,
        confirmed: BTreeSet<(BatchNo, SeriesNo)>,
    ) {
        for (write_back, claims) in new.into_values() {
            self.put_write_back(write_back, claims);
        }
        for key in confirmed {
            let (_, claims) = self.write_backs.remove(&key).unzip();
            for claim in claims.into_iter().flatten() {
                self.unheard.remove(&claim);
                self.free(claim);
            }
        }
    }
}

impl Round<'_> {
    /// Freezes the membership of a batch for one province; none when nothing waits.
    pub fn freeze_batch(&mut self, province: &str, count_max: usize) -> Option<DeliveryBatch> {
        let waiting = self.book.outbox.get(province)?;
        let busy: HashSet<ClaimId> = self.book.reds.values().copied().collect();
        let free = waiting
            .iter()
            .copied()
            .filter(|notice| !self.delivered.contains(&(province.to_owned(), *notice)))
            .filter(|notice| !self.waits(*notice, &busy));
        let members: Vec<Notice> = free.take(count_max).collect();
        if members.is_empty() {
            return None;
        }
        self.delivered.extend(members.iter().map(|notice| (province.to_owned(), *notice)));
        Some(self.new_batch(province, members))
    }

    /// Whether the authority must hear something else first: a red letter waits for the receipt of
    /// its blue invoice, a void for the one of its invoice, and the void of a blue invoice for all
    /// that is to be told of its red letters. `busy` are the blue invoices of those.
    fn waits(&self, notice: Notice, busy: &HashSet<ClaimId>) -> bool {
        let claim = notice.claim;
        match notice.told {
            Told::End => {
                let blue = self.book.reds.get(&claim);
                blue.is_some_and(|blue| self.book.is_on_its_way(Notice::end(*blue)))
            }
            Told::InvoiceVoid => {
                busy.contains(&claim) || self.book.is_on_its_way(Notice::end(claim))
            }
        }
    }

    /// Stores a verified receipt. One for a batch that is answered already changes nothing.
    pub fn put_receipt(&mut self, mut record: ReceiptRecord) {
        let open = self.book.open_batches.contains_key(&record.batch);
        if !open || !self.answered.insert(record.batch) {
            return;
        }
        record.at = self.now;
        for rejection in &record.rejected {
            let what = match rejection.notice.told {
                Told::End => "it",
                Told::InvoiceVoid => "its void",
            };
            let text = format!("the authority rejected {what}: {}", rejection.message);
            let claim = rejection.notice.claim;
            tracing::error!(claim = claim.0, "incident: {text}");
            let claim = Some(claim);
            self.batch.incidents.push(Incident { at: self.now, series: None, claim, text });
        }
        self.batch.receipts.push(record);
    }

    /// A person must look at what was said of a batch.
    pub fn report_batch(&mut self, batch: BatchNo, text: &str) {
        let text = format!("batch {batch}: {text}");
        tracing::error!(batch = batch.0, "incident: {text}");
        self.batch.incidents.push(Incident { at: self.now, series: None, claim: None, text });
    }

    /// Notes that the acceptance has a batch and judges it. Nothing happens to one that has ended.
    pub fn put_acceptance(&mut self, batch: BatchNo, serial: String) {
        if self.is_under_way(batch) {
            self.batch.acceptances.push(Acceptance { batch, serial, at: self.now });
        }
    }

    fn is_under_way(&self, batch: BatchNo) -> bool {
        self.book.open_batches.contains_key(&batch) && !self.answered.contains(&batch)
    }

    /// Keeps what the devices of a batch must hear, beside its receipt and before it in the same
    /// commit. A series whose device draws its numbers and that is told nothing stays offline, and
    /// a person must look.
    pub fn put_write_backs(&mut self, batch: BatchNo, serial: &str, heard: &[Heard]) {
        if !self.is_under_way(batch) {
            return;
        }
        for (series, claims) in self.drawn_in(batch) {
            let result = heard.iter().find(|heard| heard.series == series);
            let result = result.map(|heard| heard.result.clone()).unwrap_or_default();
            if result.is_empty() {
                let reason = Reason::UploadIncomplete;
                let text = format!("{reason}: the receipt of batch {batch} has no write-back");
                self.put_incident((series, None), &text);
            }
            let serial = serial.to_owned();
            let write_back = WriteBack { batch, series, serial, result, done_at: None };
            self.batch.write_backs.push(write_back.clone());
            self.write_backs.insert((batch, series), (write_back, claims));
        }
    }

    /// The batch's invoices of devices that draw their numbers, by series.
    fn drawn_in(&self, batch: BatchNo) -> BTreeMap<SeriesNo, Vec<ClaimId>> {
        let mut drawn: BTreeMap<SeriesNo, Vec<ClaimId>> = BTreeMap::new();
        for notice in self.book.open_batches.get(&batch).into_iter().flatten() {
            let series = self.book.series_offline(notice.claim);
            if let (Told::End, Some(series)) = (notice.told, series)
                && self.draws(series)
            {
                drawn.entry(series).or_default().push(notice.claim);
            }
        }
        drawn
    }

    fn draws(&self, series: SeriesNo) -> bool {
        let device = self.series(series).map(|series| series.state.device);
        let device = device.and_then(|device| self.registry().devices.get(&device));
        device.is_some_and(|device| device.backend.draws_numbers())
    }

    /// A device has confirmed a write-back: its invoices are offline no more.
    pub fn put_written_back(&mut self, batch: BatchNo, series: SeriesNo) {
        let known = self.book.write_backs.get(&(batch, series));
        if let Some((write_back, _)) = known
            && self.confirmed.insert((batch, series))
        {
            let done_at = Some(self.now);
            self.batch.write_backs.push(WriteBack { done_at, ..write_back.clone() });
        }
    }

    /// Splits a batch that the acceptance cannot take as it is: its members go into two batches, or
    /// when there is but one it is set aside, with an incident.
    ///
    /// # Errors
    /// `NotFound` when it is under way no more.
    pub fn split_batch(
        &mut self,
        batch: &DeliveryBatch,
        message: &str,
    ) -> Result<Vec<DeliveryBatch>, Refusal> {
        if !self.is_under_way(batch.no) {
            return Err(Refusal::new(Reason::NotFound, "the batch is under way no more"));
        }
        let members = batch.members.clone();
        let aside = members.len() <= 1;
        if let (true, Some(notice)) = (aside, members.first()) {
            let text = format!("{notice} cannot be delivered and is set aside: {message}");
            tracing::error!(claim = notice.claim.0, "incident: {text}");
            let claim = Some(notice.claim);
            self.batch.incidents.push(Incident { at: self.now, series: None, claim, text });
        }
        let half = members.len().div_ceil(2);
        let split = Split {
            batch: batch.no,
            province: batch.province.clone(),
            members: members.clone(),
            message: message.to_owned(),
            at: self.now,
            aside,
        };
        self.answered.insert(batch.no);
        self.split_now.push(split.clone());
        self.batch.splits.push(split);
        if aside {
            return Ok(Vec::new());
        }
        let halves = members.chunks(half).map(<[Notice]>::to_vec).collect::<Vec<_>>();
        let made = halves.into_iter().map(|members| self.new_batch(&batch.province, members));
        Ok(made.collect())
    }

    fn new_batch(&mut self, province: &str, members: Vec<Notice>) -> DeliveryBatch {
        self.last.batch = self.last.batch.saturating_add(1);
        let batch = DeliveryBatch {
            no: BatchNo(self.last.batch),
            id: clock::random(),
            province: province.to_owned(),
            members,
            at: self.now,
        };
        self.batch.deliveries.push(batch.clone());
        batch
    }

    /// Lets what was set aside be sent again; answers how many.
    ///
    /// # Errors
    /// `NotFound` when nothing of `claim`, or nothing at all, is set aside.
    pub fn send_again(&mut self, actor: &str, claim: Option<ClaimId>) -> Result<u64, Refusal> {
        let wanted = |notice: &&Notice| {
            claim.is_none_or(|claim| notice.claim == claim)
                && !self.batch.sent_again.contains(notice)
        };
        let notices: Vec<Notice> = self.book.aside.keys().filter(wanted).copied().collect();
        if notices.is_empty() {
            return Err(Refusal::new(Reason::NotFound, "nothing of this kind is set aside"));
        }
        for notice in &notices {
            self.audit(actor, format!("send {notice} again"));
        }
        let count = crate::convert::len_u64(notices.len());
        self.batch.sent_again.extend(notices);
        Ok(count)
    }

    /// What is set aside, ascending, with the province whose route it takes.
    pub fn aside(&self) -> impl Iterator<Item = (&Notice, &String)> {
        self.book.aside.iter()
    }

    /// Write-backs that no device has confirmed, with what they keep offline.
    pub fn open_write_backs(&self) -> impl Iterator<Item = (&WriteBack, usize)> {
        self.book.write_backs.values().map(|(write_back, claims)| (write_back, claims.len()))
    }

    /// The series of a device and kind that a receipt speaks of.
    #[must_use]
    pub fn series_named(&self, device_id: &str, kind: &str) -> Option<&Series> {
        let device = self.registry().device_by_id(device_id)?;
        let named = |it: &&crate::model::Kind| it.to_wire().as_str_name() == kind;
        let kind = device.kinds.iter().find(named)?;
        self.series(self.series_of(device.no, *kind)?)
    }
}
