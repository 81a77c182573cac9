//! The time guard: one issue time per batch, and no stamp from a clock that jumped or that its
//! authority contradicts.

use crate::{
    model::CstTime,
    refusal::{Reason, Refusal},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How fast the guard follows a wall clock that is slewed: one second in this many. NTP slews by at
/// most 500 ppm, half of it. Unit: seconds.
const FOLLOW_EVERY_S: i64 = 1000;

/// Watches the wall clock against the monotonic one.
///
/// It remembers what the wall clock was ahead of the monotonic one, and follows slow correction by
/// NTP, so that years do not trip it. Many small jumps add up like a big one. After a jump it stays
/// tripped until the wall clock is back.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeGuard {
    /// Wall clock less monotonic clock, as trusted. Unit: seconds.
    ahead_s: i64,
    /// When it last followed, by the monotonic clock. Unit: seconds.
    followed_s: i64,
    limit_s: i64,
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl TimeGuard {
    /// Trusts the clock as it is at the start; the start itself compares it with the journal's
    /// head.
    pub(super) fn new(wall: CstTime, monotonic: Duration, limit_s: i64) -> Self {
        let monotonic = seconds(monotonic);
        Self { ahead_s: wall.unix().saturating_sub(monotonic), followed_s: monotonic, limit_s }
    }

    /// The issue time of a batch, or why none may be stamped.
    pub(super) fn judge(&mut self, wall: CstTime, monotonic: Duration) -> Result<CstTime, Refusal> {
        let monotonic = seconds(monotonic);
        let ahead = wall.unix().saturating_sub(monotonic);
        let skew = ahead.saturating_sub(self.ahead_s);
        if skew.saturating_abs() > self.limit_s {
            let hint = format!(
                "the wall clock jumped by {skew} s against the monotonic clock; set it right, or \
                 restart when it is right"
            );
            return Err(Refusal::new(Reason::ClockSkew, hint));
        }
        let steps = monotonic.saturating_sub(self.followed_s) / FOLLOW_EVERY_S;
        if steps > 0 {
            self.ahead_s = self.ahead_s.saturating_add(skew.clamp(-steps, steps));
            self.followed_s = monotonic;
        }
        Ok(wall)
    }
}

/// What the clocks of the acceptances said, by province. Each judges its own province's devices
/// alone, so that one wrong clock upstream stops one province.
#[derive(Debug, Default)]
pub(crate) struct AuthorityClocks(Mutex<BTreeMap<String, i64>>);

/// Provinces whose authority's clock ours leaves by more than the limit, with the difference.
#[derive(Debug)]
pub(super) struct Skewed(BTreeMap<String, i64>);

impl AuthorityClocks {
    /// A reading: the authority's time, and the monotonic clock when it was heard.
    pub(super) fn note(&self, province: &str, authority: CstTime, monotonic: Duration) {
        let ahead = authority.unix().saturating_sub(seconds(monotonic));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(province.to_owned(), ahead);
    }

    /// Judges the wall clock by every authority's last reading.
    pub(super) fn skewed(&self, wall: CstTime, monotonic: Duration, limit_s: i64) -> Skewed {
        let ahead = wall.unix().saturating_sub(seconds(monotonic));
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skew = known.iter().map(|(province, theirs)| (province, ahead.saturating_sub(*theirs)));
        let beyond = skew.filter(|(_, skew)| skew.saturating_abs() > limit_s);
        Skewed(beyond.map(|(province, skew)| (province.clone(), skew)).collect())
    }
}

impl Skewed {
    /// Whether a device of this province may be stamped for.
    pub(super) fn judge<'a>(&self, province: impl FnOnce() -> &'a str) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        let Some(skew) = self.0.get(province()) else { return Ok(()) };
        let hint = format!(
            "the wall clock is {skew} s ahead of the acceptance's; find out which is wrong and set \
             it right"
        );
        Err(Refusal::new(Reason::ClockSkew, hint))
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
        // 500 ppm for 200,000 s: 100 s in the end.
        let readings: Vec<(i64, u64)> =
            (1..100_u32).map(|n| (1_000 + i64::from(n) * 2_001, u64::from(n) * 2_000)).collect();
        check(&readings, &vec![true; readings.len()]);
    }

    #[test]
    fn many_small_jumps_add_up_to_a_big_one() {
        let readings: Vec<(i64, u64)> =
            (1..5_u32).map(|n| (1_000 + i64::from(n) * 11, u64::from(n))).collect();
        check(&readings, &[true, true, true, false]);
    }

    #[test]
    fn an_authority_stops_the_devices_of_its_own_province() {
        let at = |s| CstTime::from_unix(s).unwrap();
        let clocks = AuthorityClocks::default();
        clocks.note("44", at(1_000), Duration::from_secs(10));
        clocks.note("31", at(1_090), Duration::from_secs(10));
        let judged = |wall, province| {
            clocks.skewed(at(wall), Duration::from_secs(20), 30).judge(|| province).is_ok()
        };
        for (wall, province, expect) in [
            (1_040, "44", true),
            (1_041, "44", false),
            (979, "44", false),
            (1_069, "31", false),
            (1_070, "31", true),
            (9_999, "11", true),
        ] {
            assert_eq!(judged(wall, province), expect, "{wall} {province}");
        }
    }
}
