//! Limits in the assigning commit: what counts against them, and what frees them.

use super::voids::{World, at, checked, signed};
use crate::{
    model::{BatchNo, DeviceNo, Fen, InvoiceNumber, Kind},
    numbering::{Book, Decision, Heard, Limits, Offline, Taken},
    refusal::Reason,
    registry::{Monitor, MonitorFacts, ToldBy},
    store::{DeliveryBatch, ReceiptRecord},
};

const NOW: &str = "2026-10-31T23:10:00+08:00";
const ISSUED: &str = "2026-10-31T23:00:00+08:00";
const PAPER: (i64, Kind) = (1, Kind::NormalPaper);

impl World {
    /// Puts monitor data in force for paper of a device.
    fn tell(&mut self, device: i64, change: impl FnOnce(&mut MonitorFacts)) -> Taken {
        let known = self.book.registry.monitor(DeviceNo(device), Kind::NormalPaper);
        let mut facts = known.map(|known| known.facts.clone()).unwrap_or_default();
        facts.version += 1;
        change(&mut facts);
        let (device, kind, told_at) = (DeviceNo(device), Kind::NormalPaper, at(NOW));
        let monitor = Monitor { device, kind, told_by: ToldBy::Authority, told_at, facts };
        self.round(NOW, |round| round.put_monitor(monitor).unwrap()).0
    }

    /// What the assigning commit says to one more invoice.
    fn one_more(&mut self, serial: &str, now: &str) -> Result<(), Reason> {
        let decided = self.round(now, |round| round.assign(checked(serial, PAPER, None))).0;
        match decided {
            Ok(Decision::Mine(_)) => Ok(()),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.reason),
        }
    }

    fn offline(&self, device: i64) -> Offline {
        let series = self.book.index[&(DeviceNo(device), Kind::NormalPaper)];
        self.book.offline(series)
    }

    fn freeze(&mut self) -> DeliveryBatch {
        self.round(NOW, |round| round.freeze_batch("44", 9)).0.expect("something waits")
    }

    fn answer(&mut self, batch: BatchNo, heard: &[Heard]) {
        self.round(NOW, |round| {
            round.put_write_backs(batch, "A", heard);
            round.put_receipt(ReceiptRecord {
                batch,
                acceptance_serial: "A".into(),
                receipt: vec![1],
                rejected: Vec::new(),
                at: at(NOW),
            });
        });
    }

    /// What a start would go on with.
    fn restart(&mut self) {
        self.book = Book::new(&self.store.load().unwrap(), Limits::default());
    }
}

#[test]
fn an_invoice_counts_from_its_claim_until_its_receipt_and_through_a_restart() {
    let mut world = World::new();
    assert_eq!(world.tell(1, |facts| facts.offline_count = Some(2)), Taken::New);
    world.issue(checked("S1", PAPER, None));
    assert_eq!(world.one_more("S2", NOW), Ok(()), "the last one, open");
    assert_eq!(world.one_more("S3", NOW), Err(Reason::OfflineCount));
    world.restart();
    assert_eq!(world.one_more("S3", NOW), Err(Reason::OfflineCount), "after a restart");
    let batch = world.freeze();
    world.restart();
    assert_eq!(world.one_more("S3", NOW), Err(Reason::OfflineCount), "sent is not delivered");
    world.answer(batch.no, &[]);
    assert_eq!(world.one_more("S3", NOW), Ok(()));
    assert_eq!(world.offline(1).count, 2);
}

#[test]
fn two_requests_of_one_commit_do_not_share_the_last_place() {
    let mut world = World::new();
    let amount = checked("S", PAPER, None).totals.amount.0;
    world.tell(1, |facts| facts.offline_blue = Some(Fen(amount)));
    let decided = world.round(NOW, |round| {
        ["S1", "S2"].map(|serial| round.assign(checked(serial, PAPER, None)).map(drop))
    });
    let reasons = decided.0.map(|decided| decided.err().map(|refusal| refusal.reason));
    assert_eq!(reasons, [None, Some(Reason::OfflineAmount)]);
}

#[test]
fn a_number_that_is_voided_unsigned_gives_its_place_back() {
    let mut world = World::new();
    let amount = checked("S", PAPER, None).totals.amount.0;
    world.tell(1, |facts| {
        (facts.offline_count, facts.blue_limit) = (Some(1), Some(Fen(amount)));
    });
    let (claim, _) = world.claim(checked("S1", PAPER, None));
    assert_eq!(world.one_more("S2", NOW), Err(Reason::OfflineCount));
    world.round(NOW, |round| round.void(&claim, None, ("blank", "t")).unwrap());
    assert_eq!(world.offline(1), Offline::default());
    assert_eq!(world.one_more("S2", NOW), Ok(()));
}

#[test]
fn what_a_device_drew_is_offline_until_it_has_heard_of_the_receipt() {
    let mut world = World::new();
    world.issue_drawn();
    let drawn = world.book.index[&(DeviceNo(2), Kind::NormalPaper)];
    let batch = world.freeze();
    world.answer(batch.no, &[Heard { series: drawn, result: "MW".into() }]);
    assert_eq!(world.offline(2).count, 1, "the device has not heard of it");
    world.restart();
    assert_eq!(world.offline(2).count, 1, "after a restart");
    world.round(NOW, |round| round.put_written_back(batch.no, drawn));
    assert_eq!(world.offline(2), Offline::default());
    world.restart();
    assert_eq!(world.offline(2), Offline::default());
}

#[test]
fn a_receipt_with_nothing_to_write_back_frees_nothing_and_a_person_must_look() {
    let mut world = World::new();
    world.issue_drawn();
    let batch = world.freeze();
    world.answer(batch.no, &[]);
    assert_eq!(world.offline(2).count, 1);
    let incidents = world.store.disk().incidents.clone();
    assert!(incidents.iter().any(|text| text.contains("UPLOAD_INCOMPLETE")), "{incidents:?}");
}

#[test]
fn data_that_would_move_a_deadline_back_changes_nothing_and_is_one_incident() {
    let mut world = World::new();
    let deadline = "2026-11-15T23:59:59+08:00";
    world.tell(1, |facts| facts.issue_deadline = Some(at(deadline)));
    for _ in 0..2 {
        let taken = world.tell(1, |facts| facts.issue_deadline = Some(at(ISSUED)));
        assert!(matches!(taken, Taken::Refused(_)), "{taken:?}");
    }
    assert_eq!(world.store.disk().incidents.len(), 1);
    world.issue(checked("S1", PAPER, None));
    world.restart();
    assert_eq!(world.one_more("S2", deadline), Err(Reason::PeriodLocked));
}

#[test]
fn a_red_letter_comes_in_time_and_on_the_device_that_issued() {
    let mut world = World::new();
    let blue = world.issue(checked("B", PAPER, None));
    let red = |world: &mut World, now: &str| {
        let red = checked("R", PAPER, Some((&blue, 1)));
        let decided = world.round(now, |round| round.validate(&red)).0;
        decided.map_err(|refusal| refusal.reason)
    };
    world.tell(1, |facts| facts.red_days = Some(30));
    assert_eq!(red(&mut world, "2026-11-30T23:59:59+08:00"), Ok(()));
    assert_eq!(red(&mut world, "2026-12-01T00:00:00+08:00"), Err(Reason::RedPeriod));
    world.tell(1, |facts| facts.red_needs_original = Some(true));
    assert_eq!(red(&mut world, NOW), Ok(()), "it issued the blue one");
    let drawn: InvoiceNumber = world.issue_drawn();
    let other = checked("R2", PAPER, Some((&drawn, 1)));
    let refused = world.round(NOW, |round| round.validate(&other)).0.unwrap_err();
    assert_eq!(refused.reason, Reason::RedOriginalUnknown, "{refused}");
}

#[test]
fn an_item_that_cannot_be_handed_in_even_alone_is_set_aside_and_counts() {
    let mut world = World::new();
    for serial in ["S1", "S2", "S3"] {
        world.issue(checked(serial, PAPER, None));
    }
    let whole = world.freeze();
    let parts = world.round(NOW, |round| round.split_batch(&whole, "no").unwrap()).0;
    assert_eq!(parts.iter().map(|part| part.members.len()).collect::<Vec<_>>(), [2, 1]);
    let none = world.round(NOW, |round| round.split_batch(&parts[1], "no").unwrap()).0;
    assert!(none.is_empty());
    world.answer(parts[0].no, &[]);
    world.restart();
    assert_eq!(world.offline(1).count, 1, "it is not delivered");
    assert!(world.round(NOW, |round| round.freeze_batch("44", 9)).0.is_none(), "nor sent");
    assert_eq!(world.round(NOW, |round| round.send_again("t", None)).0.ok(), Some(1));
    assert_eq!(world.freeze().members, parts[1].members);
    let claim = world.claim(checked("S4", PAPER, None)).0;
    world.round(NOW, |round| round.sign(&claim, &signed()));
    assert_eq!(world.offline(1).count, 2);
}
