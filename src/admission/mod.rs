//! 4  Admission: load. It may only say "later", before anything is spent; it knows no rule.

use crate::{
    clock,
    refusal::{Reason, Refusal},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// The proxy's global bound on calls under way.
#[derive(Debug)]
pub struct Admission {
    calls: Arc<AtomicUsize>,
    calls_max: usize,
}

impl Admission {
    /// At most `calls_max` calls at once; more would wait longer than their callers do.
    #[must_use]
    pub fn new(calls_max: usize) -> Self {
        Self { calls: Arc::default(), calls_max }
    }

    /// Takes a call in for `limit`.
    ///
    /// # Errors
    /// `Overloaded`, which says when to try again.
    pub fn admit(&self, limit: Duration) -> Result<Permit, Refusal> {
        let calls = Arc::clone(&self.calls);
        if calls.fetch_add(1, Ordering::AcqRel) >= self.calls_max {
            calls.fetch_sub(1, Ordering::AcqRel);
            return Err(Refusal::new(Reason::Overloaded, "the proxy has too many calls under way"));
        }
        Ok(Permit { calls, until: clock::monotonic() + limit })
    }
}

/// A call under way; gone when dropped.
#[derive(Debug)]
pub struct Permit {
    calls: Arc<AtomicUsize>,
    until: Instant,
}

impl Permit {
    /// What is left of the call's time.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(clock::monotonic())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_above_the_bound_are_told_later_until_one_ends() {
        let admission = Admission::new(1);
        let first = admission.admit(Duration::from_secs(1)).unwrap();
        assert_eq!(admission.admit(Duration::ZERO).unwrap_err().reason, Reason::Overloaded);
        drop(first);
        assert!(admission.admit(Duration::ZERO).is_ok());
    }
}
