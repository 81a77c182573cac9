//! Faults that tests and drills switch on. Each counts down call by call and is off at zero, so
//! that a test can say "the next answer is lost" and then watch the recovery.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// Fault switches, shared between the server and the test. All off at first.
#[derive(Debug, Default)]
pub struct Faults {
    refusals: AtomicU32,
    lost_answers: AtomicU32,
    wrong_signatures: AtomicU32,
    delay_ms: AtomicU64,
}

impl Faults {
    /// The next `calls` calls are refused with UNAVAILABLE before anything is done.
    pub fn refuse(&self, calls: u32) {
        self.refusals.store(calls, Ordering::SeqCst);
    }

    /// The next `calls` answers are lost after their work is stored; the caller hears UNAVAILABLE.
    pub fn lose_answers(&self, calls: u32) {
        self.lost_answers.store(calls, Ordering::SeqCst);
    }

    /// The next `calls` receipts go out with a signature that does not verify. What is stored is
    /// right.
    pub fn sign_wrongly(&self, calls: u32) {
        self.wrong_signatures.store(calls, Ordering::SeqCst);
    }

    /// Every call waits this long first, until it is set to zero. Whole milliseconds.
    pub fn delay(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(delay_ms, Ordering::SeqCst);
    }

    pub(super) fn take_refusal(&self) -> bool {
        take(&self.refusals)
    }

    pub(super) fn take_lost_answer(&self) -> bool {
        take(&self.lost_answers)
    }

    pub(super) fn take_wrong_signature(&self) -> bool {
        take(&self.wrong_signatures)
    }

    pub(super) fn current_delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::SeqCst))
    }
}

fn take(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_asked_and_then_no_more() {
        let faults = Faults::default();
        assert!(!faults.take_refusal());
        faults.refuse(2);
        assert_eq!([(); 3].map(|()| faults.take_refusal()), [true, true, false]);
        assert!(!faults.take_lost_answer() && !faults.take_wrong_signature());
    }
}
