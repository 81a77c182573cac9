//! Whether the meter (usage) says what the journal says, day by day.
//!
//! A day that invoices are still issued or voided on moves while it is read: the meter is read
//! before and after, and a day that moved is read again.

use super::{Filter, Window, first_owner, issued, voided};
use crate::{
    model::CstTime,
    store::{Books, Counted, End, Entry, ListOwner, StoreError, UsageDelta, UsageKey, VoidTable},
};
use chrono::{Days, NaiveDate};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

/// How often a day that moves is read again before that is told.
const TRIES: u32 = 5;

/// A day's meter that is not what the journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageDifference {
    /// Whose, of which day, and what of it.
    pub key: UsageKey,
    /// What the meter says.
    pub metered: UsageDelta,
    /// What the journal says.
    pub journal: UsageDelta,
}

type Meter = BTreeMap<UsageKey, UsageDelta>;

/// The days of China that lie in a window as a whole, ascending.
pub fn whole_days(window: Window) -> impl Iterator<Item = NaiveDate> {
    let next = |day: &NaiveDate| day.checked_add_days(Days::new(1));
    let days = std::iter::successors(Some(window.from.day()), next);
    let inside = move |day: &NaiveDate| of_day(*day).filter(|day| day.from >= window.from);
    days.take_while(move |day| CstTime::last_of(*day).is_some_and(|last| last < window.until))
        .filter(move |day| inside(day).is_some())
}

/// Compares the meter of one day with the journal. `None`: the day moved each time that it was
/// read.
///
/// # Errors
/// When the books cannot be read or do not add up.
pub fn check_usage(
    books: &Books,
    day: NaiveDate,
    filter: Filter,
) -> Result<Option<Vec<UsageDifference>>, StoreError> {
    for _ in 0..TRIES {
        let before = metered(books, day, &filter)?;
        let journal = journal(books, day, &filter)?;
        if metered(books, day, &filter)? == before {
            return Ok(Some(differences(&before, &journal)));
        }
    }
    Ok(None)
}

fn differences(metered: &Meter, journal: &Meter) -> Vec<UsageDifference> {
    let keys: BTreeSet<_> = metered.keys().chain(journal.keys()).collect();
    let of = |meter: &Meter, key| meter.get(key).copied().unwrap_or_default();
    let both = keys.into_iter().map(|key| UsageDifference {
        key: *key,
        metered: of(metered, key),
        journal: of(journal, key),
    });
    both.filter(|both| both.metered != both.journal).collect()
}

fn metered(books: &Books, day: NaiveDate, filter: &Filter) -> Result<Meter, StoreError> {
    let wanted = |key: &UsageKey| {
        filter.owns(ListOwner { taxpayer: key.taxpayer, platform: key.platform })
            && filter.kind.is_none_or(|kind| kind == key.kind)
    };
    Ok(books.usage_of(day)?.into_iter().filter(|(key, _)| wanted(key)).collect())
}

/// What the journal says of a day: invoices by issue time, voids by theirs.
fn journal(books: &Books, day: NaiveDate, filter: &Filter) -> Result<Meter, StoreError> {
    let mut meter = Meter::new();
    let mut count = |entry: &Entry, counted| {
        let key = UsageKey {
            day,
            platform: entry.request.platform,
            taxpayer: entry.request.taxpayer,
            kind: entry.kind,
            color: entry.color,
            counted,
        };
        meter.entry(key).or_default().add(entry.totals);
    };
    let Some(window) = of_day(day) else { return Ok(meter) };
    let mut owner = first_owner(books, filter)?;
    while let Some(of) = owner {
        if filter.owns(of) {
            let ended = issued(books, window, of, |found| {
                if let Some(entry) = found.entry().filter(|entry| filter.holds(entry)) {
                    count(&entry, Counted::Issued);
                }
                ControlFlow::Continue(())
            })?;
            debug_assert!(ended.is_continue(), "nobody breaks it off");
        }
        owner = books.next_owner(Some(of))?;
    }
    let ended = voided(books, VoidTable::Invoice, |found| {
        if let Some(entry) = found.entry().filter(|entry| filter.holds(entry))
            && let End::Voided(at) = entry.end
            && window.holds(at)
        {
            count(&entry, Counted::Voided);
        }
        ControlFlow::Continue(())
    })?;
    debug_assert!(ended.is_continue(), "nobody breaks it off");
    Ok(meter)
}

fn of_day(day: NaiveDate) -> Option<Window> {
    let after = |day: NaiveDate| CstTime::from_unix(CstTime::last_of(day)?.unix().checked_add(1)?);
    Some(Window { from: after(day.pred_opt()?)?, until: after(day)? })
}
