//! Reports from the journal's own rows: what was issued and voided in a window of issue time,
//! summed or one by one, and whether the meter says the same. Reads only.
//!
//! Invariant: whatever the size of the books, a page of them is in memory at a time, and no reader
//! is held between two pages. Sums are kept by taxpayer, platform, kind and colour.

mod summary;
mod usage;

pub use summary::{Line, LineKey, Sums, summarise, wire_line};
pub use usage::{UsageDifference, check_usage, whole_days};

use crate::{
    model::{ClaimId, CstTime, Kind, PlatformNo, TaxpayerNo},
    store::{Books, Entry, Found, ListOwner, ListPage, Place, StoreError, VoidTable},
};
use std::ops::ControlFlow;

/// Claims of one page: a few hundred KiB with long invoices, and a reader of some milliseconds.
const PAGE_LEN: u32 = 256;

/// A window of issue time; of numbers voided unsigned, of the time of their void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub from: CstTime,
    /// Second to stop before.
    pub until: CstTime,
}

impl Window {
    /// Reads both ends, RFC 3339.
    ///
    /// # Errors
    /// Which field is wrong, and how.
    pub fn parse(from: &str, until: &str) -> Result<Self, (&'static str, &'static str)> {
        let time = |field, text: &str| match text {
            "" => Err((field, "a time is needed, RFC 3339")),
            text => CstTime::parse(text).ok_or((field, "this is no time of RFC 3339")),
        };
        let (from, until) = (time("from", from)?, time("until", until)?);
        if from >= until {
            return Err(("until", "it must be after `from`"));
        }
        Ok(Self { from, until })
    }

    /// Whether a time lies in it.
    #[must_use]
    pub fn holds(&self, at: CstTime) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// Whose invoices; what is absent is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// The platform that issued them.
    pub platform: Option<PlatformNo>,
    /// The seller.
    pub taxpayer: Option<TaxpayerNo>,
    /// Their kind.
    pub kind: Option<Kind>,
}

impl Filter {
    fn owns(&self, owner: ListOwner) -> bool {
        self.platform.is_none_or(|platform| platform == owner.platform)
            && self.taxpayer.is_none_or(|taxpayer| taxpayer == owner.taxpayer)
    }

    /// Whether a number is asked for.
    #[must_use]
    pub fn holds(&self, entry: &Entry) -> bool {
        let owner =
            ListOwner { taxpayer: entry.request.taxpayer, platform: entry.request.platform };
        self.owns(owner) && self.kind.is_none_or(|kind| kind == entry.kind)
    }
}

/// Hands out every number of a window, page by page: the issued invoices by taxpayer, platform and
/// issue time, then the numbers voided unsigned by claim. Ends early when `each` breaks.
///
/// # Errors
/// When the books cannot be read or do not add up.
pub fn walk(
    books: &Books,
    window: Window,
    filter: Filter,
    mut each: impl FnMut(Found, Entry) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StoreError> {
    let mut wanted = |found: Found| match found.entry() {
        Some(entry) if window.holds(entry.at) && filter.holds(&entry) => each(found, entry),
        Some(_) | None => ControlFlow::Continue(()),
    };
    let mut owner = first_owner(books, &filter)?;
    while let Some(of) = owner {
        if filter.owns(of) && issued(books, window, of, &mut wanted)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        owner = match (filter.platform, filter.taxpayer) {
            (Some(_), Some(_)) => None,
            (_, Some(taxpayer)) if taxpayer < of.taxpayer => None,
            (_, _) => books.next_owner(Some(of))?,
        };
    }
    voided(books, VoidTable::Blank, wanted)
}

/// Where the owners asked for begin.
fn first_owner(books: &Books, filter: &Filter) -> Result<Option<ListOwner>, StoreError> {
    match (filter.taxpayer, filter.platform) {
        (Some(taxpayer), Some(platform)) => Ok(Some(ListOwner { taxpayer, platform })),
        (Some(taxpayer), None) => {
            books.next_owner(Some(ListOwner { taxpayer, platform: PlatformNo(0) }))
        }
        (None, _) => books.next_owner(None),
    }
}

fn issued(
    books: &Books,
    window: Window,
    owner: ListOwner,
    mut each: impl FnMut(Found) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StoreError> {
    let mut after = Place { at: window.from, claim: ClaimId(0) };
    loop {
        let page = ListPage { owner, after, until: window.until, count_max: PAGE_LEN };
        let found = books.issued_page(&page)?;
        let last = found.len() < page_len();
        for found in found {
            if let Some((_, place)) = found.listed_as() {
                after = place;
            }
            if each(found).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if last {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

/// Hands out every claim of a table of voids, page by page.
fn voided(
    books: &Books,
    table: VoidTable,
    mut each: impl FnMut(Found) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StoreError> {
    let mut after = ClaimId(0);
    loop {
        let found = books.voided_page(table, after, page_len())?;
        let last = found.len() < page_len();
        for found in found {
            after = found.id();
            if each(found).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if last {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

fn page_len() -> usize {
    usize::try_from(PAGE_LEN).unwrap_or(usize::MAX)
}
