//! Tax rates with the days on which they are valid (税率, 征收率). Rates change by notice, so they are
//! data. The device's authorised list (核定税率) has the last word; until it is known, this list
//! judges.

use chrono::NaiveDate;
use serde::Deserialize;

/// The dated list of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Highest rate. Unit: millionths, 0 to 1,000,000.
    pub max_millionths: i32,
    /// Which rate is valid when; a rate may have several periods, which do not overlap.
    pub periods: Vec<RatePeriod>,
}

/// One rate from one day to another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatePeriod {
    /// The rate. Unit: millionths.
    pub rate_millionths: i32,
    /// First day, China Standard Time.
    pub from: Day,
    /// Last day; none: until further notice.
    pub until: Option<Day>,
    /// Whether the rate may not stand beside another one on an invoice.
    #[serde(default)]
    pub alone: bool,
}

/// A day in China, `yyyy-MM-dd` in a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(pub NaiveDate);

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        NaiveDate::parse_from_str(&text, "%Y-%m-%d")
            .map(Self)
            .map_err(|_| format!("{text:?} is no day; write it as \"2019-04-01\""))
    }
}

/// What the list says of a rate on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateVerdict<'a> {
    /// Valid.
    Valid(&'a RatePeriod),
    /// Valid on other days; was it valid before?
    OutOfDate {
        /// Whether a period of it ended before the day.
        was_valid: bool,
    },
    /// In no period.
    Unknown,
}

impl RatePeriod {
    fn holds(&self, day: NaiveDate) -> bool {
        self.from.0 <= day && self.until.is_none_or(|until| day <= until.0)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ends_before = |one: &Self, other: &Self| one.until.is_some_and(|end| end < other.from);
        self.rate_millionths == other.rate_millionths
            && !ends_before(self, other)
            && !ends_before(other, self)
    }
}

impl Rates {
    /// What the list says of a rate on a day.
    #[must_use]
    pub fn judge(&self, rate_millionths: i32, day: NaiveDate) -> RateVerdict<'_> {
        let mut verdict = RateVerdict::Unknown;
        for period in self.periods.iter().filter(|one| one.rate_millionths == rate_millionths) {
            if period.holds(day) {
                return RateVerdict::Valid(period);
            }
            let before = matches!(verdict, RateVerdict::OutOfDate { was_valid: true });
            verdict = RateVerdict::OutOfDate { was_valid: before || period.from.0 <= day };
        }
        verdict
    }

    /// The index of the first period that is impossible, and what it must be.
    pub(super) fn wrong_period(&self) -> Option<(usize, &'static str)> {
        let periods = || self.periods.iter().enumerate();
        periods().find_map(|(index, period)| {
            let ends = period.until.is_none_or(|until| period.from <= until);
            let range = (0..=self.max_millionths).contains(&period.rate_millionths);
            let apart = !periods().take(index).any(|(_, earlier)| earlier.overlaps(period));
            match (ends, range, apart) {
                (false, ..) => Some((index, "a period that ends after it starts")),
                (_, false, _) => Some((index, "of a rate from 0 to rates.max_millionths")),
                (_, _, false) => Some((index, "apart from the other periods of its rate")),
                (true, true, true) => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        Day::try_from(text.to_owned()).unwrap().0
    }

    fn rates() -> Rates {
        let period = |rate_millionths, from: &str, until: Option<&str>| RatePeriod {
            rate_millionths,
            from: Day(day(from)),
            until: until.map(|until| Day(day(until))),
            alone: false,
        };
        Rates {
            max_millionths: 170_000,
            periods: vec![
                period(130_000, "1994-01-01", Some("2017-06-30")),
                period(130_000, "2019-04-01", None),
                period(160_000, "2018-05-01", Some("2019-03-31")),
            ],
        }
    }

    #[test]
    fn a_rate_is_valid_from_its_first_day_to_its_last() {
        use RateVerdict::{OutOfDate, Unknown};
        for (rate, on, expect) in [
            (130_000, "1993-12-31", Some(OutOfDate { was_valid: false })),
            (130_000, "1994-01-01", None),
            (130_000, "2017-06-30", None),
            (130_000, "2017-07-01", Some(OutOfDate { was_valid: true })),
            (130_000, "2019-03-31", Some(OutOfDate { was_valid: true })),
            (130_000, "2019-04-01", None),
            (160_000, "2018-04-30", Some(OutOfDate { was_valid: false })),
            (160_000, "2018-05-01", None),
            (160_000, "2019-03-31", None),
            (160_000, "2019-04-01", Some(OutOfDate { was_valid: true })),
            (120_000, "2020-01-01", Some(Unknown)),
        ] {
            let rates = rates();
            let verdict = rates.judge(rate, day(on));
            match expect {
                None => assert!(matches!(verdict, RateVerdict::Valid(_)), "{rate} on {on}"),
                Some(expect) => assert_eq!(verdict, expect, "{rate} on {on}"),
            }
        }
    }

    #[test]
    fn periods_of_one_rate_do_not_overlap() {
        let wrong = |change: fn(&mut Vec<RatePeriod>)| {
            let mut rates = rates();
            change(&mut rates.periods);
            rates.wrong_period().map(|(index, _)| index)
        };
        assert_eq!(wrong(|_| {}), None);
        assert_eq!(wrong(|list| list[0].until = None), Some(1));
        assert_eq!(wrong(|list| list[1].from = Day(day("2017-06-30"))), Some(1));
        assert_eq!(wrong(|list| list[1].from = Day(day("2017-07-01"))), None);
        assert_eq!(wrong(|list| list[2].until = Some(Day(day("2018-04-30")))), Some(2));
        assert_eq!(wrong(|list| list[2].rate_millionths = 170_001), Some(2));
        assert_eq!(wrong(|list| list[2].rate_millionths = -1), Some(2));
    }
}
