//! Counts and amounts, to the fen.

use super::{Filter, Window, walk};
use crate::{
    model::{Color, Kind, PlatformNo, TaxpayerNo},
    pb::v1 as pb,
    store::{Books, End, Entry, StoreError, UsageDelta},
};
use std::{collections::BTreeMap, ops::ControlFlow};

/// What is summed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineKey {
    /// The seller.
    pub taxpayer: TaxpayerNo,
    /// The platform.
    pub platform: PlatformNo,
    /// Kind.
    pub kind: Kind,
    /// Colour.
    pub color: Color,
}

/// The sums of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// Issued in the window, those that were voided since too.
    pub issued: UsageDelta,
    /// Of those, the ones that were voided since, whenever that was.
    pub voided: UsageDelta,
    /// Numbers voided unsigned in the window.
    pub blank: u64,
}

impl Line {
    /// Counts one number.
    pub fn add(&mut self, entry: &Entry) {
        match entry.end {
            End::Issued => self.issued.add(entry.totals),
            End::Voided(_) => {
                self.issued.add(entry.totals);
                self.voided.add(entry.totals);
            }
            End::Blank => self.blank = self.blank.saturating_add(1),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = |one: UsageDelta, two: UsageDelta| UsageDelta {
            count: one.count.saturating_add(two.count),
            totals: one.totals.plus(two.totals),
        };
        Self {
            issued: sum(self.issued, other.issued),
            voided: sum(self.voided, other.voided),
            blank: self.blank.saturating_add(other.blank),
        }
    }
}

/// The sums of a window. As many lines as taxpayers have platforms, kinds and colours, however many
/// invoices there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums(pub BTreeMap<LineKey, Line>);

impl Sums {
    /// Counts one number.
    pub fn add(&mut self, entry: &Entry) {
        let key = LineKey {
            taxpayer: entry.request.taxpayer,
            platform: entry.request.platform,
            kind: entry.kind,
            color: entry.color,
        };
        self.0.entry(key).or_default().add(entry);
    }

    /// Everything of one colour.
    #[must_use]
    pub fn of(&self, color: Color) -> Line {
        let lines = self.0.iter().filter(|(key, _)| key.color == color);
        lines.fold(Line::default(), |sum, (_, line)| sum.plus(*line))
    }

    /// The lines by kind and colour, whoever issued them.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<(Kind, Color), Line> {
        let mut kinds: BTreeMap<_, Line> = BTreeMap::new();
        for (key, line) in &self.0 {
            let sum = kinds.entry((key.kind, key.color)).or_default();
            *sum = sum.plus(*line);
        }
        kinds
    }
}

/// Sums a window up. `go_on` is asked for each number; once it says no, the answer is none.
///
/// # Errors
/// When the books cannot be read or do not add up.
pub fn summarise(
    books: &Books,
    window: Window,
    filter: Filter,
    mut go_on: impl FnMut() -> bool,
) -> Result<Option<Sums>, StoreError> {
    let mut sums = Sums::default();
    let ended = walk(books, window, filter, |_, entry| {
        sums.add(&entry);
        if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(ended.is_continue().then_some(sums))
}

/// A line as the contracts show it.
#[must_use]
pub fn wire_line((kind, color): (Kind, Color), line: &Line) -> pb::SummaryLine {
    let color = match color {
        Color::Blue => pb::InvoiceColor::Blue,
        Color::Red => pb::InvoiceColor::Red,
    };
    let (issued, voided) = (line.issued.totals, line.voided.totals);
    pb::SummaryLine {
        kind: kind.to_wire().into(),
        color: color.into(),
        issued_count: line.issued.count,
        issued_amount_fen: issued.amount.0,
        issued_tax_fen: issued.tax.0,
        issued_total_fen: issued.total.0,
        voided_count: line.voided.count,
        voided_amount_fen: voided.amount.0,
        voided_tax_fen: voided.tax.0,
        voided_total_fen: voided.total.0,
        blank_count: line.blank,
    }
}
