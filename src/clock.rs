//! Time and randomness: the only place that asks the operating system for either, so that tests can
//! move the clock.

use crate::model::CstTime;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Tells the wall clock and the monotonic clock. Clones share one source.
#[derive(Debug, Clone)]
pub struct Clock {
    start: Instant,
    /// Added to the wall clock. Unit: seconds. Zero but in tests and drills.
    shift_s: Arc<AtomicI64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The operating system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { start: monotonic(), shift_s: Arc::new(AtomicI64::new(0)) }
    }

    /// China Standard Time now, whole seconds.
    #[must_use]
    pub fn now(&self) -> CstTime {
        let seconds = unix_now().saturating_add(self.shift_s.load(Ordering::Relaxed));
        CstTime::from_unix(seconds).unwrap_or_else(|| {
            // chrono holds a quarter of a million years each way; a clock outside them is broken.
            CstTime::from_unix(0).expect("the epoch is a time")
        })
    }

    /// Time since this clock was made, from the monotonic clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Moves the wall clock, the monotonic one stays. Unit: seconds.
    pub fn shift(&self, seconds: i64) {
        self.shift_s.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// The monotonic clock, for measuring and deadlines.
#[expect(clippy::disallowed_methods, reason = "the one place that asks the monotonic clock")]
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks the wall clock")]
fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

/// Random bytes from the cryptographic generator.
///
/// # Panics
/// When the operating system gives no randomness; nothing safe can be done without it.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// Random text of `0-9A-Z`.
#[must_use]
pub fn random_text(len: usize) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut text = String::with_capacity(len);
    while text.len() < len {
        for byte in random::<16>() {
            if text.len() < len {
                text.push(char::from(ALPHABET[usize::from(byte % 32)]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_clock_moves_the_wall_and_not_the_monotonic_clock() {
        let clock = Clock::system();
        let (wall, mono) = (clock.now(), clock.elapsed());
        clock.shift(-86_400);
        let shifted = clock.now().unix() + 86_400;
        assert!((wall.unix()..=Clock::system().now().unix()).contains(&shifted));
        assert!(clock.elapsed() >= mono);
    }

    #[test]
    fn random_text_has_the_length_asked_for_and_differs() {
        assert_eq!(random_text(20).len(), 20);
        assert_ne!(random_text(20), random_text(20));
    }
}
