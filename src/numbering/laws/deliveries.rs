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

    /// A batch that was split goes on in parts, or is set aside when it has but one member.
    pub(super) fn batch_split(&mut self, batch: &DeliveryBatch, parts: &[DeliveryBatch]) -> Law {
        self.answered_now.insert(batch.no);
        if let [notice] = batch.members.as_slice() {
            self.aside_now.insert(*notice);
            return holds(parts.is_empty(), "one item is set aside", || format!("{parts:?}"));
        }
        let members: Vec<Notice> = parts.iter().flat_map(|part| part.members.clone()).collect();
        let smaller = parts.iter().all(|part| part.members.len() < batch.members.len());
        holds(members == batch.members && smaller, "a split loses nothing", || {
            format!("{parts:?} of {batch:?}")
        })?;
        self.batches_now.extend(parts.iter().map(|part| (part.no, part.members.clone())));
        Ok(())
    }

    /// How much of what is set aside, as committed, waits for a batch again.
    pub(super) fn sent_again(&mut self) -> u64 {
        let sent: Vec<Notice> = self.aside.difference(&self.told_now).copied().collect();
        self.told_now.extend(sent.iter().copied());
        crate::convert::len_u64(sent.len())
    }

    /// A void is told after the receipt of its invoice.
    fn waits(&self, notice: Notice) -> bool {
        let invoice = Notice::end(notice.claim);
        let batches = self.open_batches.values().chain(self.batches_now.values());
        notice.told == Told::InvoiceVoid
            && (self.waiting.contains(&invoice)
                || self.aside.contains(&invoice)
                || batches.flatten().any(|told| *told == invoice))
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
