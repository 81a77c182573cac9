//! What the actor keeps in memory against what a start would load, and against the model.

use super::{
    promises::{Law, Model, holds},
    world::LIMITS,
};
use crate::{
    numbering::book::{Book, Series},
    store::memory::MemoryStore,
};
use std::fmt::Debug;

/// A book goes on as a start would: nothing is known in memory alone but the devices' next numbers.
pub(super) fn reloads(book: &Book, store: &MemoryStore) -> Law {
    let loaded = store.load().map_err(|error| error.to_string())?;
    let fresh = Book::new(&loaded, LIMITS);
    let law = "the book in memory is the book on the disk";
    let series = |book: &Book| {
        let stored = |series: &Series| (series.state.clone(), live(series));
        book.series.values().map(stored).collect::<Vec<_>>()
    };
    same(law, &series(book), &series(&fresh))?;
    same(law, &book.index, &fresh.index)?;
    same(law, &book.open, &fresh.open)?;
    same(law, &book.last, &fresh.last)?;
    same(law, &book.journal, &fresh.journal)?;
    same(law, &book.open_batches, &fresh.open_batches)?;
    same(law, &book.unanswered, &fresh.unanswered)?;
    same(law, &book.reds, &fresh.reds)?;
    same(law, &book.aside, &fresh.aside)?;
    same(law, &book.write_backs, &fresh.write_backs)?;
    let law = "what is offline is what the authority and the devices do not know";
    same(law, &book.unheard, &fresh.unheard)?;
    let offline = |book: &Book| {
        let all = book.series.keys().map(|no| (*no, book.offline(*no)));
        all.collect::<Vec<_>>()
    };
    same(law, &offline(book), &offline(&fresh))?;
    let waiting = |book: &Book| {
        let some = book.outbox.iter().filter(|(_, waiting)| !waiting.is_empty());
        some.map(|(province, waiting)| (province.clone(), waiting.clone())).collect::<Vec<_>>()
    };
    same(law, &waiting(book), &waiting(&fresh))?;
    let by_series = |book: &Book| {
        let some = book.open_by_series.iter().filter(|(_, open)| !open.is_empty());
        let mut all: Vec<_> = some.map(|(series, open)| (*series, open.clone())).collect();
        all.sort();
        all
    };
    same(law, &by_series(book), &by_series(&fresh))?;
    let ranges = |book: &Book| {
        let all = book.ranges.iter().flat_map(|(code, ranges)| {
            ranges.iter().map(move |(first, last)| (code.clone(), *first, *last))
        });
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    };
    same(law, &ranges(book), &ranges(&fresh))
}

fn live(series: &Series) -> Vec<crate::store::SegmentState> {
    series.segments.iter().filter(|segment| segment.left() > 0).cloned().collect()
}

fn same<T: PartialEq + Debug>(law: &str, left: &T, right: &T) -> Law {
    holds(left == right, law, || format!("{left:?} is not {right:?}"))
}

/// The series stand where the model says.
pub(super) fn agrees(book: &Book, model: &Model) -> Law {
    for (no, expected) in &model.series {
        let series = &book.series[no];
        let law = "positions have no gap, and issue time never goes backwards";
        same(law, &series.state.next_position.0, &expected.position)?;
        same(law, &series.state.last_issue, &expected.last_issue)?;
        let law = "every event is chained";
        same(law, &series.state.event.map_or(0, |event| event.sequence), &expected.events)?;
        let law = "a series is frozen by evidence alone";
        same(law, &series.state.frozen.is_some(), &expected.frozen)?;
        let law = "a segment is drawn in order";
        let left: Vec<_> = live(series)
            .into_iter()
            .map(|segment| (segment.code, segment.next, segment.last))
            .collect();
        let expected_left: Vec<_> = expected.segments.iter().cloned().collect();
        same(law, &left, &expected_left)?;
        same("the device's next number", &series.state.device_next, &expected.device_next)?;
    }
    let open: std::collections::BTreeSet<_> = book.open.keys().copied().collect();
    same("nothing claimed is forgotten", &open, &model.open())?;
    let waiting: std::collections::BTreeSet<_> = book.outbox.values().flatten().copied().collect();
    same("every end and every void waits for one batch", &waiting, &model.waiting)?;
    same("a void waits for its invoice's receipt", &book.unanswered, &model.unanswered())
}
