//! The journal as reports read it: each number once, in order, whatever the page; sums to the fen;
//! and a meter that is not believed.

use super::{Author, Path, commit_all, fixtures, folder, open, spoil, told};
use crate::{
    convert::len_u64,
    model::{ClaimId, Color, CstTime, InvoiceNumber, Kind, PlatformNo, TaxpayerNo},
    report::{self, Filter, Line, Window, check_usage, summarise, walk, whole_days},
    store::{Batch, Counted, End, Entry, ListOwner, Store as _, UsageDelta, UsageKey, VoidTable},
};
use proptest::prelude::*;
use std::ops::ControlFlow;

fn seconds(later: i64) -> CstTime {
    CstTime::from_unix(fixtures::at().unix() + later).unwrap()
}

/// The second in which everything happens.
fn second() -> Window {
    Window { from: seconds(0), until: seconds(1) }
}

fn walked(dir: &Path, window: Window, filter: Filter) -> Vec<Entry> {
    let (opened, mut found) = (open(dir), Vec::new());
    let ended = walk(&opened.books, window, filter, |_, entry| {
        found.push(entry);
        ControlFlow::Continue(())
    });
    assert_eq!(ended.unwrap(), ControlFlow::Continue(()));
    found
}

#[test]
fn a_walk_hands_out_each_used_number_of_its_window_once() {
    let dir = told();
    let all = Filter::default();
    let of = |platform: Option<i64>, taxpayer: Option<i64>, kind| Filter {
        platform: platform.map(PlatformNo),
        taxpayer: taxpayer.map(TaxpayerNo),
        kind,
    };
    let window = |from, until| Window { from: seconds(from), until: seconds(until) };
    for (what, window, filter, expect) in [
        ("everything: three issued, one blank", second(), all, vec![1, 4, 6, 2]),
        ("before", window(-9, 0), all, vec![]),
        ("after", window(1, 9), all, vec![]),
        ("wide", window(-9, 9), all, vec![1, 4, 6, 2]),
        ("its platform", second(), of(Some(1), None, None), vec![1, 4, 6, 2]),
        ("its taxpayer", second(), of(None, Some(1), None), vec![1, 4, 6, 2]),
        ("both", second(), of(Some(1), Some(1), Some(Kind::ENormal)), vec![1, 4, 6, 2]),
        ("another platform", second(), of(Some(2), None, None), vec![]),
        ("another taxpayer", second(), of(None, Some(2), None), vec![]),
        ("another pair", second(), of(Some(2), Some(1), None), vec![]),
        ("another kind", second(), of(None, None, Some(Kind::Roll)), vec![]),
    ] {
        let found: Vec<_> = walked(dir.path(), window, filter);
        let claims: Vec<_> = found.iter().map(|entry| entry.claim.0).collect();
        assert_eq!(claims, expect, "{what}");
    }
    let ends: Vec<_> =
        walked(dir.path(), second(), all).into_iter().map(|entry| entry.end).collect();
    assert_eq!(ends, [End::Issued, End::Voided(seconds(0)), End::Issued, End::Blank]);
}

#[test]
fn numbers_ascend_by_code_and_number_whatever_the_page() {
    let dir = told();
    let opened = open(dir.path());
    let all = opened.books.numbered_page(None, 99).unwrap();
    let all: Vec<_> = all.into_iter().map(|(number, found)| (number, found.id().0)).collect();
    assert_eq!(all.iter().map(|(_, claim)| *claim).collect::<Vec<_>>(), [1, 2, 3, 4, 7, 6]);
    assert!(all.is_sorted());
    for len in 1..=7 {
        let (mut after, mut read) = (None::<InvoiceNumber>, Vec::new());
        loop {
            let page = opened.books.numbered_page(after.as_ref(), len).unwrap();
            let last = page.len() < len;
            read.extend(page.into_iter().map(|(number, found)| (number, found.id().0)));
            after = read.last().map(|(number, _)| number.clone());
            if last {
                break;
            }
        }
        assert_eq!(read, all, "pages of {len}");
    }
    let voided = |table, after| {
        let page = opened.books.voided_page(table, ClaimId(after), 9).unwrap();
        page.iter().map(|found| found.id().0).collect::<Vec<_>>()
    };
    assert_eq!(voided(VoidTable::Blank, 0), [2]);
    assert_eq!(voided(VoidTable::Blank, 2), Vec::<i64>::new());
    assert_eq!(voided(VoidTable::Invoice, 0), [4]);
}

#[test]
fn an_owner_follows_another() {
    let dir = told();
    spoil(dir.path(), "INSERT INTO listing VALUES (1, 3, 0, 90), (2, 1, 0, 91), (2, 1, 1, 92)");
    let books = open(dir.path()).books;
    let (mut owner, mut all) = (None, Vec::new());
    while let Some(next) = books.next_owner(owner).unwrap() {
        all.push((next.taxpayer.0, next.platform.0));
        owner = Some(ListOwner { taxpayer: next.taxpayer, platform: next.platform });
    }
    assert_eq!(all, [(1, 1), (1, 3), (2, 1)]);
}

#[test]
fn sums_count_a_voided_invoice_twice_and_a_blank_number_once() {
    let dir = told();
    let books = open(dir.path()).books;
    let sums = summarise(&books, second(), Filter::default(), || true).unwrap().unwrap();
    let Line { issued, voided, blank } = sums.of(Color::Blue);
    let fen = |delta: UsageDelta| {
        let totals = delta.totals;
        (delta.count, totals.amount.0, totals.tax.0, totals.total.0)
    };
    assert_eq!(fen(issued), (3, 300, 39, 339));
    assert_eq!((fen(voided), blank), ((1, 100, 13, 113), 1));
    assert_eq!(sums.of(Color::Red), Line::default());
    assert_eq!(sums.by_kind().len(), 1);
    let stopped = summarise(&books, second(), Filter::default(), || false).unwrap();
    assert_eq!(stopped, None, "who has no time left hears nothing wrong");
}

#[test]
fn a_meter_that_is_not_what_the_journal_says_is_named() {
    let dir = told();
    let day = fixtures::at().day();
    let check = |filter| check_usage(&open(dir.path()).books, day, filter).unwrap().unwrap();
    assert_eq!(check(Filter::default()), []);
    let key = UsageKey {
        day,
        platform: PlatformNo(1),
        taxpayer: TaxpayerNo(1),
        kind: Kind::ENormal,
        color: Color::Blue,
        counted: Counted::Voided,
    };
    let foreign = UsageKey { platform: PlatformNo(7), ..key };
    let mut batch = Batch::default();
    let delta = UsageDelta { count: 1, ..UsageDelta::default() };
    batch.usage.extend([(key, delta), (foreign, delta)]);
    open(dir.path()).store.commit(batch).unwrap();
    let found = check(Filter::default());
    assert_eq!(found.iter().map(|it| it.key).collect::<Vec<_>>(), [key, foreign]);
    assert_eq!((found[0].metered.count, found[0].journal.count), (2, 1));
    let theirs = check(Filter { platform: Some(PlatformNo(7)), ..Filter::default() });
    assert_eq!(theirs.iter().map(|it| it.key).collect::<Vec<_>>(), [foreign]);
    assert_eq!(check(Filter { kind: Some(Kind::Roll), ..Filter::default() }), []);
}

#[test]
fn whole_days_are_those_of_china_that_lie_in_the_window() {
    for (from, until, expect) in [
        ("2026-01-01T00:00:00+08:00", "2026-01-03T00:00:00+08:00", "2026-01-01 2026-01-02"),
        ("2025-12-31T16:00:00Z", "2026-01-02T16:00:00Z", "2026-01-01 2026-01-02"),
        ("2026-01-01T00:00:01+08:00", "2026-01-03T00:00:00+08:00", "2026-01-02"),
        ("2026-01-01T00:00:00+08:00", "2026-01-02T23:59:59+08:00", "2026-01-01"),
        ("2026-01-01T10:00:00+08:00", "2026-01-01T11:00:00+08:00", ""),
    ] {
        let window = Window::parse(from, until).unwrap();
        let days: Vec<_> = whole_days(window).map(|day| day.to_string()).collect();
        assert_eq!(days.join(" "), expect, "{from} {until}");
    }
}

/// Puts a batch of the author's into another, as one round would.
fn add(into: &mut Batch, batch: Batch) {
    into.issued.extend(batch.issued);
    into.invoice_voids.extend(batch.invoice_voids);
    into.listed.extend(batch.listed);
    for (key, delta) in batch.usage {
        let sum = into.usage.entry(key).or_default();
        sum.count += delta.count;
        sum.totals = sum.totals.plus(delta.totals);
    }
    into.series = batch.series;
}

/// What a generated story does to each of its claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Open,
    Issue,
    Void,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Sums, walk and meter say the same of any ledger, of more than a page too.
    #[test]
    fn sums_and_meter_are_the_ledger_s(
        acts in prop::collection::vec(
            prop_oneof![Just(Act::Open), Just(Act::Issue), Just(Act::Void)], 0..90),
        pad in prop_oneof![Just(0), Just(300)],
    ) {
        let dir = folder();
        let mut author = Author::new();
        let acts: Vec<_> = acts.into_iter().chain((0..pad).map(|_| Act::Issue)).collect();
        let mut batches = vec![author.registry()];
        // The segment holds 93 numbers; the story does not mind.
        let serials: Vec<_> = (0..acts.len()).map(|at| format!("S{at}")).collect();
        batches.push(author.claims(&serials.iter().map(String::as_str).collect::<Vec<_>>()));
        let mut ends = Batch::default();
        for (claim, act) in (1..).zip(&acts) {
            if *act != Act::Open {
                add(&mut ends, author.issue(claim));
            }
            if *act == Act::Void {
                add(&mut ends, author.void_issued(claim, &format!("V{claim}")));
            }
        }
        batches.push(ends);
        commit_all(&mut open(dir.path()).store, batches);
        let count = |wanted: &[Act]| {
            len_u64(acts.iter().filter(|act| wanted.contains(act)).count())
        };
        let (issued, voided) = (count(&[Act::Issue, Act::Void]), count(&[Act::Void]));
        let books = open(dir.path()).books;
        let sums = summarise(&books, second(), Filter::default(), || true).unwrap().unwrap();
        let line = sums.of(Color::Blue);
        prop_assert_eq!((line.issued.count, line.voided.count), (issued, voided));
        prop_assert_eq!(line.issued.totals.total.0, 113 * i64::try_from(issued).unwrap());
        let checked = check_usage(&books, fixtures::at().day(), Filter::default());
        prop_assert_eq!(checked.unwrap(), Some(vec![]));
        drop(books);
        let walked = walked(dir.path(), second(), Filter::default());
        prop_assert_eq!(len_u64(walked.len()), issued);
        let again: report::Sums = walked.iter().fold(report::Sums::default(), |mut sums, entry| {
            sums.add(entry);
            sums
        });
        prop_assert_eq!(again, sums);
    }
}
