//! Lists: pages in their order, each owner's alone, and an index that is not believed.

use super::{Path, StoreError, fixtures, open, spoil, told};
use crate::{
    model::{ClaimId, CstTime, InvoiceNumber, PlatformNo, TaxpayerNo},
    store::{Fate, ListOwner, ListPage, Notice, Place},
};

const OWNER: ListOwner = ListOwner { taxpayer: TaxpayerNo(1), platform: PlatformNo(1) };

fn seconds(later: i64) -> CstTime {
    CstTime::from_unix(fixtures::at().unix() + later).unwrap()
}

fn page(owner: ListOwner, after: (i64, i64), until: i64, count_max: u32) -> ListPage {
    let after = Place { at: seconds(after.0), claim: ClaimId(after.1) };
    ListPage { owner, after, until: seconds(until), count_max }
}

fn claims(dir: &Path, page: &ListPage) -> Result<Vec<i64>, StoreError> {
    let listed = open(dir).books.listed(page)?;
    Ok(listed.iter().map(|listed| listed.place.claim.0).collect())
}

#[test]
fn a_list_is_ascending_and_goes_on_after_a_place() {
    let dir = told();
    let other = |taxpayer, platform| ListOwner {
        taxpayer: TaxpayerNo(taxpayer),
        platform: PlatformNo(platform),
    };
    for (what, page, expect) in [
        ("everything", page(OWNER, (0, 0), 1, 9), vec![1, 4, 6]),
        ("the first page", page(OWNER, (0, 0), 1, 2), vec![1, 4]),
        ("the second", page(OWNER, (0, 4), 1, 2), vec![6]),
        ("after the last", page(OWNER, (0, 6), 1, 2), vec![]),
        ("from before", page(OWNER, (-9, 99), 1, 9), vec![1, 4, 6]),
        ("the end does not belong to it", page(OWNER, (-9, 0), 0, 9), vec![]),
        ("a later window", page(OWNER, (1, 0), 9, 9), vec![]),
        ("another platform", page(other(1, 2), (0, 0), 1, 9), vec![]),
        ("another taxpayer", page(other(2, 1), (0, 0), 1, 9), vec![]),
    ] {
        assert_eq!(claims(dir.path(), &page).unwrap(), expect, "{what}");
    }
}

#[test]
fn a_listed_invoice_is_what_a_look_up_finds() {
    let dir = told();
    let books = open(dir.path()).books;
    for listed in books.listed(&page(OWNER, (0, 0), 1, 9)).unwrap() {
        let found = books.claim(listed.place.claim).unwrap();
        assert_eq!(found.invoice(), Some(listed.invoice));
        assert_eq!(found.listed_as(), Some((OWNER, listed.place)));
        let delivered = |notice| books.delivered(notice).unwrap();
        assert_eq!(delivered(Notice::end(listed.place.claim)), listed.delivered);
        let voided = (listed.place.claim == ClaimId(4)).then_some("MARK-WITHDRAWN");
        let listed_void = listed.voided.as_ref().map(|(void, _)| void.reason.as_str());
        assert_eq!(listed_void, voided, "a voided one stays in its place");
    }
}

#[test]
fn a_number_leads_to_its_claim() {
    let dir = told();
    let books = open(dir.path()).books;
    let found = |code: &str, number| {
        let number = InvoiceNumber { code: code.into(), number };
        books.numbered(&number).unwrap().map(|found| (found.id().0, found.fate))
    };
    assert!(matches!(found(fixtures::CODE, 7), Some((1, Fate::Issued(_)))));
    assert!(matches!(found(fixtures::CODE, 8), Some((2, Fate::Voided(_)))));
    assert!(matches!(found(fixtures::CODE, 9), Some((3, Fate::Open))));
    assert!(matches!(found("044002600222", 50), Some((6, Fate::Issued(_)))));
    assert_eq!(found(fixtures::CODE, 99), None);
    assert_eq!(found("044002600999", 7), None);
}

#[test]
fn a_row_that_does_not_follow_from_its_claim_is_not_listed() {
    for spoilt in [
        "INSERT INTO listing VALUES (2, 1, 1772416800, 1)",
        "UPDATE listing SET issue_time = issue_time + 1 WHERE claim = 4",
        "UPDATE listing SET claim = 3 WHERE claim = 4",
        "UPDATE listing SET claim = 2 WHERE claim = 4",
        "UPDATE listing SET claim = 99 WHERE claim = 4",
    ] {
        let dir = told();
        spoil(dir.path(), spoilt);
        let owners = [1, 2].map(|no| ListOwner { taxpayer: TaxpayerNo(no), ..OWNER });
        let read = owners.map(|owner| claims(dir.path(), &page(owner, (-9, 0), 9, 9)));
        let noticed =
            read.iter().filter(|read| matches!(read, Err(StoreError::Damaged { .. }))).count();
        assert_eq!(noticed, 1, "{spoilt}: {read:?}");
    }
}
