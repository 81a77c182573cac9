//! How a device does: how long a job takes, how many failed in a row, when it may be tried again.
//! Pure: every moment comes from outside.
//!
//! Invariant: after `FAILURES_MAX` failures in a row no new work is taken until the pause is over,
//! and then one piece at a time until one succeeds.

use crate::signer::SignerError;
use std::time::{Duration, Instant};

/// Failures in a row that open the breaker. One or two happen to every device now and then.
const FAILURES_MAX: u32 = 3;
/// First pause of the breaker, and between two attempts to open a session.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Weight of the past in the running mean of a job's duration, in eighths.
const PAST: u32 = 7;

/// What a result means for the session it came from and for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It works.
    Good,
    /// It failed; the session may be used again.
    Failed,
    /// It failed, and the session is dead.
    Evict,
    /// The device stops until an operator unlocks it.
    Stop,
    /// Says nothing of the device.
    Neutral,
}

impl Effect {
    /// By class of the error, not by asking the session.
    pub(super) fn of(error: Option<&SignerError>) -> Self {
        match error {
            None => Self::Good,
            Some(SignerError::Unavailable { .. }) => Self::Failed,
            Some(SignerError::SessionLost { .. } | SignerError::InDoubt { .. }) => Self::Evict,
            Some(SignerError::Pin { .. }) => Self::Stop,
            Some(SignerError::Refused { .. } | SignerError::AnswerInvalid { .. }) => Self::Neutral,
        }
    }
}

/// Whether a device takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Yes.
    Open,
    /// One piece, to see whether it works again.
    Trial,
    /// No, and not before so long.
    Shut(Duration),
    /// No, until an operator acts.
    Stopped,
}

/// A device's health.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    shut_until: Option<Instant>,
    open_failures: u32,
    opens_from: Option<Instant>,
    stopped: bool,
    /// What was last wrong, for people.
    pub(super) detail: Option<String>,
    mean: Duration,
}

impl Health {
    /// A job came back after `took`. Says whether the breaker opened by it.
    pub(super) fn ran(&mut self, effect: Effect, took: Duration, now: Instant) -> bool {
        self.mean = match self.mean {
            Duration::ZERO => took,
            mean => mean.saturating_mul(PAST).saturating_add(took) / PAST.saturating_add(1),
        };
        match effect {
            Effect::Good => {
                self.failures = 0;
                self.shut_until = None;
                self.detail = None;
                false
            }
            Effect::Neutral => false,
            Effect::Failed | Effect::Evict => {
                self.failures = self.failures.saturating_add(1);
                let over = self.failures.checked_sub(FAILURES_MAX);
                self.shut_until = over.map(|over| now + pause(over));
                over.is_some()
            }
            Effect::Stop => {
                self.stopped = true;
                true
            }
        }
    }

    /// A session was opened.
    pub(super) fn opened(&mut self) {
        self.open_failures = 0;
        self.opens_from = None;
        if self.failures < FAILURES_MAX {
            self.detail = None;
        }
    }

    /// No session could be opened.
    pub(super) fn not_opened(&mut self, effect: Effect, now: Instant) {
        self.opens_from = Some(now + pause(self.open_failures));
        self.open_failures = self.open_failures.saturating_add(1);
        self.stopped |= effect == Effect::Stop;
    }

    /// Whether a session may be opened now.
    pub(super) fn may_open(&self, now: Instant) -> bool {
        !self.stopped && self.opens_from.is_none_or(|from| from <= now)
    }

    /// Whether the device takes work, apart from its sessions.
    pub(super) fn gate(&self, now: Instant) -> Gate {
        match self.shut_until {
            _ if self.stopped => Gate::Stopped,
            None => Gate::Open,
            Some(until) if until > now => Gate::Shut(until.duration_since(now)),
            Some(_) => Gate::Trial,
        }
    }

    /// How long until a session may be opened.
    pub(super) fn opens_in(&self, now: Instant) -> Duration {
        self.opens_from.map_or(Duration::ZERO, |from| from.saturating_duration_since(now))
    }

    /// Running mean of a job's duration.
    pub(super) fn mean(&self) -> Duration {
        self.mean
    }
}

fn pause(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.min(16)).unwrap_or(1);
    PAUSE_MIN.saturating_mul(factor).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        crate::clock::monotonic()
    }

    #[test]
    fn three_failures_in_a_row_shut_a_device_and_one_success_opens_it() {
        let (mut health, start) = (Health::default(), now());
        let mut ran = |effect, at| (health.ran(effect, Duration::ZERO, at), health.gate(at));
        assert_eq!(ran(Effect::Failed, start), (false, Gate::Open));
        assert_eq!(ran(Effect::Good, start), (false, Gate::Open));
        assert_eq!(ran(Effect::Failed, start), (false, Gate::Open));
        assert_eq!(ran(Effect::Neutral, start), (false, Gate::Open));
        assert_eq!(ran(Effect::Evict, start), (false, Gate::Open));
        assert_eq!(ran(Effect::Failed, start), (true, Gate::Shut(PAUSE_MIN)));
        let later = start + PAUSE_MIN;
        assert_eq!(health.gate(later), Gate::Trial);
        assert!(health.ran(Effect::Failed, Duration::ZERO, later));
        assert_eq!(health.gate(later), Gate::Shut(PAUSE_MIN * 2), "each time for longer");
        assert!(!health.ran(Effect::Good, Duration::ZERO, later));
        assert_eq!(health.gate(later), Gate::Open);
    }

    #[test]
    fn a_pause_never_exceeds_its_bound() {
        let (mut health, now) = (Health::default(), now());
        for _ in 0..100 {
            health.ran(Effect::Failed, Duration::ZERO, now);
            health.not_opened(Effect::Failed, now);
        }
        assert_eq!(health.gate(now), Gate::Shut(PAUSE_MAX));
        assert_eq!(health.opens_in(now), PAUSE_MAX);
        assert!(!health.may_open(now) && health.may_open(now + PAUSE_MAX));
    }

    #[test]
    fn a_pin_stops_a_device_for_good() {
        for is_open in [true, false] {
            let (mut health, now) = (Health::default(), now());
            if is_open {
                health.ran(Effect::Stop, Duration::ZERO, now);
            } else {
                health.not_opened(Effect::Stop, now);
            }
            let later = now + PAUSE_MAX * 2;
            assert_eq!(health.gate(later), Gate::Stopped);
            assert!(!health.may_open(later));
            health.ran(Effect::Good, Duration::ZERO, later);
            assert_eq!(health.gate(later), Gate::Stopped, "a job in hand ends well, and yet");
        }
    }

    #[test]
    fn the_mean_follows_what_a_job_takes() {
        let (mut health, now) = (Health::default(), now());
        health.ran(Effect::Good, Duration::from_millis(20), now);
        assert_eq!(health.mean(), Duration::from_millis(20));
        for _ in 0..60 {
            health.ran(Effect::Good, Duration::from_millis(100), now);
        }
        assert!(health.mean() > Duration::from_millis(95), "{:?}", health.mean());
    }
}
