//! The actor's mailbox: a bounded lane for new work, and a lane for completions that is never shed.
//!
//! Completions (signatures, receipts, voids) need no bound of their own: each belongs to an open
//! claim or an open batch, and those are bounded where they are made.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Two lanes into one actor.
#[derive(Debug)]
pub(super) struct Mailbox<W, C> {
    lanes: Mutex<Lanes<W, C>>,
    arrived: Condvar,
    work_max: usize,
}

#[derive(Debug)]
struct Lanes<W, C> {
    work: VecDeque<W>,
    completions: VecDeque<C>,
    closed: bool,
}

/// What has gathered.
#[derive(Debug)]
pub(super) struct Mail<W, C> {
    pub(super) work: Vec<W>,
    pub(super) completions: Vec<C>,
    /// Nobody will send work any more.
    pub(super) closed: bool,
}

impl<W, C> Mailbox<W, C> {
    pub(super) fn new(work_max: usize) -> Self {
        let lanes = Lanes { work: VecDeque::new(), completions: VecDeque::new(), closed: false };
        Self { lanes: Mutex::new(lanes), arrived: Condvar::new(), work_max }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<W, C>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in new work. Gives it back when the lane is full or closed.
    pub(super) fn send(&self, work: W) -> Result<(), W> {
        let mut lanes = self.lanes();
        if lanes.closed || lanes.work.len() >= self.work_max {
            return Err(work);
        }
        lanes.work.push_back(work);
        drop(lanes);
        self.arrived.notify_one();
        Ok(())
    }

    /// Hands in a completion; accepted even after `close`, since what it ends was begun before.
    pub(super) fn complete(&self, completion: C) {
        self.lanes().completions.push_back(completion);
        self.arrived.notify_one();
    }

    /// No more work; what is queued is still done.
    pub(super) fn close(&self) {
        self.lanes().closed = true;
        self.arrived.notify_all();
    }

    /// Waits until something arrives, the box closes or `limit` passes; takes at most `work_max`
    /// pieces of work and every completion.
    pub(super) fn gather(&self, work_max: usize, limit: Duration) -> Mail<W, C> {
        let idle = |lanes: &mut Lanes<W, C>| {
            lanes.work.is_empty() && lanes.completions.is_empty() && !lanes.closed
        };
        let (mut lanes, _) = self
            .arrived
            .wait_timeout_while(self.lanes(), limit, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let count = lanes.work.len().min(work_max);
        Mail {
            work: lanes.work.drain(..count).collect(),
            completions: lanes.completions.drain(..).collect(),
            closed: lanes.closed && lanes.work.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_bounded_and_completions_are_not() {
        let mailbox: Mailbox<u8, u8> = Mailbox::new(2);
        assert_eq!((mailbox.send(1), mailbox.send(2), mailbox.send(3)), (Ok(()), Ok(()), Err(3)));
        (0..100).for_each(|n| mailbox.complete(n));
        let mail = mailbox.gather(1, Duration::from_secs(5));
        assert_eq!((mail.work, mail.completions.len(), mail.closed), (vec![1], 100, false));
    }

    #[test]
    fn a_closed_box_refuses_work_and_hands_out_what_it_has() {
        let mailbox: Mailbox<u8, u8> = Mailbox::new(2);
        assert_eq!(mailbox.send(1), Ok(()));
        mailbox.close();
        assert_eq!(mailbox.send(2), Err(2));
        let mail = mailbox.gather(9, Duration::from_secs(5));
        assert_eq!((mail.work, mail.closed), (vec![1], true));
        mailbox.complete(9);
        assert_eq!(mailbox.gather(9, Duration::from_secs(5)).completions, vec![9]);
    }
}
