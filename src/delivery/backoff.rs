//! Pauses between tries: doubled each time, with jitter, so that many workers do not come back at
//! once.

use crate::clock;
use std::time::Duration;

/// First pause after a failure.
const MIN: Duration = Duration::from_millis(200);
/// Longest pause.
const MAX: Duration = Duration::from_secs(30);
/// Longest pause between two looks at a batch that is being judged. UKey drivers ask after three
/// seconds.
const POLL_MAX: Duration = Duration::from_secs(3);

/// The pauses of one thing that fails.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether the last try failed.
    pub(super) fn failing(self) -> bool {
        self.failures > 0
    }

    /// Notes a failure; answers the pause after it: between half and all of what doubling makes.
    pub(super) fn next(&mut self) -> Duration {
        let pause = doubled(MIN, self.failures, MAX);
        self.failures = self.failures.saturating_add(1);
        let [byte] = clock::random::<1>();
        let half = pause / 2;
        half + half * u32::from(byte) / 255
    }

    /// The pause before the next look at a batch that was looked at `polls` times.
    pub(super) fn poll(polls: u32) -> Duration {
        doubled(MIN, polls, POLL_MAX)
    }
}

fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(16))).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_no_two_need_be_alike() {
        let mut backoff = Backoff::default();
        assert!(!backoff.failing());
        for expect in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            let pause = backoff.next();
            let most = Duration::from_millis(expect);
            assert!((most / 2..=most).contains(&pause), "{pause:?} for {most:?}");
        }
        assert!(backoff.failing());
        let polls = [0, 1, 4, 99].map(Backoff::poll);
        assert_eq!(polls, [200, 400, 3000, 3000].map(Duration::from_millis));
    }
}
