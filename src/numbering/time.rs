//! The time guard: one issue time per batch, and no stamp from a clock that jumped.

use crate::{
    model::CstTime,
    refusal::{Reason, Refusal},
};
use std::time::Duration;

/// Watches the wall clock against the monotonic one.
///
/// The pair is renewed at every good reading, so that slow correction by NTP over months is
/// followed and only a jump is noticed. After a jump it stays tripped until the wall clock is back.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeGuard {
    wall: CstTime,
    monotonic: Duration,
    limit_s: i64,
}

impl TimeGuard {
    /// Trusts the clock as it is at the start; the start itself compares it with the journal's
    /// head.
    pub(super) fn new(wall: CstTime, monotonic: Duration, limit_s: i64) -> Self {
        Self { wall, monotonic, limit_s }
    }

    /// The issue time of a batch, or why none may be stamped.
    pub(super) fn judge(&mut self, wall: CstTime, monotonic: Duration) -> Result<CstTime, Refusal> {
        let passed = monotonic.saturating_sub(self.monotonic).as_secs();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let skew = wall.unix().saturating_sub(self.wall.unix().saturating_add(passed));
        if skew.saturating_abs() > self.limit_s {
            let hint = format!(
                "the wall clock jumped by {skew} s against the monotonic clock; set it right, or \
                 restart when it is right"
            );
            return Err(Refusal::new(Reason::ClockSkew, hint));
        }
        (self.wall, self.monotonic) = (wall, monotonic);
        Ok(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(readings: &[(i64, u64)], expect: &[bool]) {
        let at = |s| CstTime::from_unix(s).unwrap();
        let mut guard = TimeGuard::new(at(1_000), Duration::ZERO, 30);
        let judged: Vec<bool> = readings
            .iter()
            .map(|(wall, mono)| guard.judge(at(*wall), Duration::from_secs(*mono)).is_ok())
            .collect();
        assert_eq!(judged, expect);
    }

    #[test]
    fn a_jump_stops_stamping_until_the_clock_is_back() {
        check(&[(1_030, 0), (1_061, 0)], &[true, false]);
        check(&[(969, 0), (970, 0)], &[false, true]);
        check(&[(4_600, 3_600), (9_000, 3_601), (4_602, 3_602)], &[true, false, true]);
    }

    #[test]
    fn slow_drift_is_followed() {
        let readings: Vec<(i64, u64)> =
            (1..100_u32).map(|n| (1_000 + i64::from(n) * 80, u64::from(n) * 100)).collect();
        check(&readings, &vec![true; readings.len()]);
    }
}
