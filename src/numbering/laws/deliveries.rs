//! The model's part for deliveries: what waits, in which order it goes, and what has no receipt.

use super::promises::{Law, Model, holds};
use crate::{
    model::BatchNo,
    store::{DeliveryBatch, Notice, Told},
};
use std::collections::HashSet;

impl Model {
    pub(super) fn batch_frozen(&mut self, max: usize, frozen: Option<&DeliveryBatch>) -> Law {
        let free = self.waiting.iter().copied().filter(|notice| !self.waits(*notice));
        let expect: Vec<Notice> = free.take(max).collect();
        let members = frozen.map(|batch| batch.members.clone()).unwrap_or_default();
        holds(members == expect, "everything to be told is in one batch, in its order", || {
            format!("{members:?}, not {expect:?}")
        })?;
        self.waiting.retain(|notice| !members.contains(notice));
        if let Some(batch) = frozen {
            self.batches_now.insert(batch.no, members);
        }
        Ok(())
    }

    /// A void is told after the receipt of its invoice.
    fn waits(&self, notice: Notice) -> bool {
        let invoice = Notice::end(notice.claim);
        let batches = self.open_batches.values().chain(self.batches_now.values());
        notice.told == Told::InvoiceVoid
            && (self.waiting.contains(&invoice) || batches.flatten().any(|told| *told == invoice))
    }

    /// What is in a batch without a receipt, as committed.
    pub(super) fn unanswered(&self) -> HashSet<Notice> {
        self.open_batches.values().flatten().copied().collect()
    }

    pub(super) fn open_batch(&self, pick: usize) -> Option<(BatchNo, Vec<Notice>)> {
        let free = self.open_batches.iter().filter(|(no, _)| !self.answered_now.contains(no));
        let at = pick.checked_rem(free.clone().count())?;
        free.clone().nth(at).map(|(no, members)| (*no, members.clone()))
    }

    pub(super) fn answered(&mut self, batch: BatchNo) {
        self.answered_now.insert(batch);
    }
}
