//! The books' rules, without a network: what is accepted, what is refused, and what a restart
//! keeps.

use super::{
    batch::Orders,
    books::{Books, BooksError, Setting},
    fixtures::{Device, TAXPAYER, invoice, item},
    monitor::Defaults,
    receipt::ReceiptKey,
    segments::{Segment, Wanted},
    verify::RegisteredDevice,
};
use crate::{
    clock::Clock,
    convert::sha256,
    model::Kind,
    pb::authority::v1::{
        BatchItem, ItemVerdict, Receipt, ReceiptStatement, SubmitBatchRequest, Verdict,
        VoidedNumber,
    },
};
use prost::Message as _;
use std::{fs, path::Path};
use tempfile::TempDir;

/// A code that no segment has.
const CODE: &str = "014402511111";

struct World {
    dir: TempDir,
    books: Books,
    device: Device,
    batches: u8,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut books = open(dir.path()).unwrap();
        let device = Device::p256("d1");
        register(&mut books, &device).unwrap();
        Self { dir, books, device, batches: 0 }
    }

    /// Submits one batch and returns its verdicts.
    fn submit(&mut self, items: &[BatchItem]) -> Vec<ItemVerdict> {
        self.batches += 1;
        let batch = SubmitBatchRequest { batch_id: vec![self.batches; 16], items: items.to_vec() };
        let receipt = receipt(&mut self.books, &batch).unwrap();
        ReceiptStatement::decode(receipt.statement.as_slice()).unwrap().verdicts
    }

    #[track_caller]
    fn check(&mut self, item: BatchItem, expect: Result<(), &str>) {
        let verdicts = self.submit(&[item]);
        let [verdict] = verdicts.as_slice() else { panic!("one verdict per item") };
        match expect {
            Ok(()) => assert_eq!((verdict.verdict(), &*verdict.message), (Verdict::Accepted, "")),
            Err(part) => {
                assert_eq!(verdict.verdict(), Verdict::Rejected);
                assert!(verdict.message.contains(part), "{}", verdict.message);
            }
        }
    }

    fn acquire(&mut self, request: u8, kind: Kind, count: u32) -> Segment {
        let wanted = wanted(request, "d1", kind, count);
        let segment = self.books.acquire(&wanted).unwrap();
        self.books.confirm(&wanted.request).unwrap();
        segment
    }
}

fn receipt(books: &mut Books, batch: &SubmitBatchRequest) -> Result<Receipt, BooksError> {
    let told = books.submit(batch, Orders::default)?;
    Ok(told.receipt.expect("nothing makes judging take long"))
}

fn open(dir: &Path) -> Result<Books, BooksError> {
    let key = ReceiptKey::open(dir).unwrap();
    let setting = Setting {
        clock: Clock::system(),
        region: "4400".to_owned(),
        monitors: Defaults::default(),
        skew_s: 0,
    };
    Books::open(dir, key, setting)
}

fn register(books: &mut Books, device: &Device) -> Result<(), BooksError> {
    let (taxpayer, public_key) = (TAXPAYER.to_owned(), device.public_key.clone());
    books.register(&device.id, &RegisteredDevice { taxpayer, public_key, draws_numbers: false })
}

fn wanted(request: u8, device: &str, kind: Kind, count: u32) -> Wanted {
    Wanted { request: vec![request; 16], device: device.to_owned(), kind, count }
}

fn void(code: &str, number: u32) -> BatchItem {
    let voided = VoidedNumber {
        device_id: "d1".to_owned(),
        code: code.to_owned(),
        number: format!("{number:08}"),
        reason: "paper jam".to_owned(),
        voided_at: "2026-01-02T03:04:06+08:00".to_owned(),
        ..VoidedNumber::default()
    };
    BatchItem { invoice: bytes::Bytes::new(), voided: Some(voided) }
}

#[test]
fn a_number_has_one_content_for_ever() {
    let mut world = World::new();
    let first = world.device.item(CODE, 1);
    let mut changed = invoice(CODE, 1);
    changed.draft.as_mut().unwrap().total_fen = 999;
    let changed = item(&world.device.signed(changed));
    world.check(first.clone(), Ok(()));
    world.check(first.clone(), Ok(()));
    world.check(changed.clone(), Err("other content"));
    world.check(void(CODE, 1), Err("issued"));
    world.check(void(CODE, 2), Ok(()));
    world.check(void(CODE, 2), Ok(()));
    let second = world.device.item(CODE, 2);
    world.check(second, Err("voided"));

    let twins = world.submit(&[changed, first]);
    let verdicts: Vec<Verdict> = twins.iter().map(ItemVerdict::verdict).collect();
    assert_eq!(verdicts, [Verdict::Rejected, Verdict::Accepted], "a bad item stops no other");
}

/// The void of an issued invoice.
fn void_issued(issued: &BatchItem, change: impl FnOnce(&mut VoidedNumber)) -> BatchItem {
    let mut voided = void(CODE, 1).voided.unwrap();
    voided.invoice_digest = sha256(&issued.invoice).to_vec();
    change(&mut voided);
    BatchItem { invoice: bytes::Bytes::new(), voided: Some(voided) }
}

#[test]
fn an_issued_invoice_is_voided_once_and_only_the_very_one() {
    let mut world = World::new();
    let issued = world.device.item(CODE, 1);
    let good = || void_issued(&issued, |_| {});
    world.check(good(), Err("not known here"));
    world.check(issued.clone(), Ok(()));
    world.check(void(CODE, 1), Err("issued"));
    world.check(void_issued(&issued, |void| void.invoice_digest[0] ^= 1), Err("another invoice"));
    world.check(void_issued(&issued, |void| void.device_id = "d2".into()), Err("another invoice"));
    world.check(void_issued(&issued, |void| void.voided_at.clear()), Err("voided_at"));
    world.check(void_issued(&issued, |void| void.number = "00000002".into()), Err("not known"));
    world.check(good(), Ok(()));
    world.check(good(), Ok(()));
    world.check(void_issued(&issued, |void| void.reason.push('!')), Err("voided already"));
    world.check(issued.clone(), Ok(()));
    world.check(void(CODE, 2), Ok(()));
    world.check(
        void_issued(&issued, |void| void.number = "00000002".into()),
        Err("the number is voided"),
    );
    assert_eq!(world.books.series_head("d1", Kind::ENormal).unwrap().count, 2);
    let sql = "SELECT code, number FROM invoice_voids";
    let books = rusqlite::Connection::open(world.dir.path().join("authority.sqlite")).unwrap();
    let kept = books.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(kept, (CODE.to_owned(), "00000001".to_owned()));
}

#[test]
fn only_a_good_invoice_of_a_registered_device_is_accepted() {
    let mut world = World::new();
    let stranger = Device::p256("stranger");
    let impostor = Device::p256("d1");
    let signed = world.device.signed(invoice(CODE, 1));
    let mut altered = signed.clone();
    altered.draft.as_mut().unwrap().total_fen = 999;
    let mut foreign = invoice(CODE, 1);
    foreign.draft.as_mut().unwrap().seller.as_mut().unwrap().taxpayer_id = "other".into();
    let foreign = item(&world.device.signed(foreign));
    let both = BatchItem { voided: void(CODE, 1).voided, ..item(&signed) };
    let garbage = BatchItem { invoice: vec![0xff; 3].into(), voided: None };
    let mut other_layout = invoice(CODE, 1);
    other_layout.record_version = 2;
    let other_layout = item(&world.device.signed(other_layout));
    for (bad, why) in [
        (stranger.item(CODE, 1), "not registered"),
        (impostor.item(CODE, 1), "another signing key"),
        (item(&altered), "does not verify"),
        (foreign, "seller"),
        (both, "at once"),
        (garbage, "decode"),
        (other_layout, "record_version"),
        (BatchItem::default(), "neither"),
        (void("12", 1), "code"),
    ] {
        world.check(bad, Err(why));
    }
    world.check(item(&signed), Ok(()));

    let sm2 = Device::sm2("d2");
    register(&mut world.books, &sm2).unwrap();
    world.check(sm2.item(CODE, 2), Ok(()));
}

#[test]
fn a_number_of_our_codes_must_be_issued_to_its_device_and_kind() {
    let mut world = World::new();
    let other = Device::p256("d2");
    register(&mut world.books, &other).unwrap();
    let segment = world.acquire(1, Kind::ENormal, 10);
    let (first, last) = (segment.first, segment.last);
    let special = world.acquire(2, Kind::ESpecial, 10);
    for (bad, why) in [
        (world.device.item(&segment.code, last + 1), "outside"),
        (other.item(&segment.code, first), "outside"),
        (world.device.item(&special.code, special.first), "outside"),
        (void(&segment.code, last + 1), "outside"),
    ] {
        world.check(bad, Err(why));
    }
    let good = [world.device.item(&segment.code, first), world.device.item(&segment.code, last)];
    for item in good {
        world.check(item, Ok(()));
    }
    world.check(void(&segment.code, first + 1), Ok(()));
    let head = world.books.series_head("d1", Kind::ENormal).unwrap();
    assert_eq!(head.count, 3);
    assert_eq!(head.highest, (segment.code, format!("{last:08}")));
    assert_eq!(world.books.series_head("d1", Kind::Roll).unwrap().count, 0);
}

#[test]
fn segments_never_overlap_each_other_or_a_known_number() {
    let mut world = World::new();
    let first = world.acquire(1, Kind::ENormal, 100);
    assert_eq!((first.first, first.last), (1, 100));
    assert_eq!(world.acquire(1, Kind::ENormal, 100), first, "the same request, the same segment");
    let second = world.acquire(2, Kind::ENormal, 1);
    assert_eq!((&second.code, second.first, second.last), (&first.code, 101, 101));

    let paper = world.acquire(3, Kind::SpecialPaper, 1);
    let mut kept = world.acquire(4, Kind::Roll, 1).code;
    kept.replace_range(7..10, "001");
    assert_eq!(paper.code.len(), 10);

    // A number from elsewhere under the code that comes next.
    let next = world.acquire(5, Kind::NormalPaper, 1).code;
    let mut fresh = World::new();
    fresh.check(void(&next, 41), Ok(()));
    assert_eq!(fresh.acquire(1, Kind::NormalPaper, 2).first, 42);
    fresh.check(void(&kept, 99_999_999), Ok(()));
    let rolled = fresh.acquire(2, Kind::Roll, 1);
    assert_eq!((&rolled.code[7..], rolled.first), ("00206", 1), "a full code is left");
}

#[test]
fn a_request_id_never_means_two_things() {
    let mut world = World::new();
    world.acquire(1, Kind::ENormal, 5);
    for wanted in [wanted(1, "d1", Kind::ENormal, 6), wanted(1, "d1", Kind::Roll, 5)] {
        let error = world.books.acquire(&wanted).unwrap_err();
        assert!(matches!(error, BooksError::Conflict { .. }), "{error}");
    }
    let error = world.books.acquire(&wanted(2, "nobody", Kind::Roll, 5)).unwrap_err();
    assert!(matches!(error, BooksError::UnknownDevice { .. }), "{error}");
    let error = register(&mut world.books, &Device::p256("d1")).unwrap_err();
    assert!(matches!(error, BooksError::Conflict { .. }), "{error}");
}

#[test]
fn a_batch_sent_again_gets_the_same_bytes_even_after_a_restart() {
    let mut world = World::new();
    let items = vec![world.device.item(CODE, 1), void(CODE, 2)];
    let batch = SubmitBatchRequest { batch_id: vec![9; 16], items };
    let first = receipt(&mut world.books, &batch).unwrap();
    assert_eq!(receipt(&mut world.books, &batch).unwrap(), first);
    drop(world.books);

    let mut books = open(world.dir.path()).unwrap();
    assert_eq!(receipt(&mut books, &batch).unwrap(), first);
    assert_eq!(books.receipt(&batch.batch_id).unwrap().receipt, Some(first));
    let mut other = batch.clone();
    other.items.pop();
    let error = receipt(&mut books, &other).unwrap_err();
    assert!(matches!(error, BooksError::Conflict { .. }), "{error}");
    let error = books.receipt(&[8; 16]).unwrap_err();
    assert!(matches!(error, BooksError::NotFound { .. }), "{error}");
}

#[test]
fn another_receipt_key_or_a_newer_schema_stops_the_start() {
    let world = World::new();
    let dir = world.dir.path().to_owned();
    drop(world.books);
    let key_file = dir.join("receipt-key.p8");
    let kept = fs::read(&key_file).unwrap();
    fs::remove_file(&key_file).unwrap();
    assert!(matches!(open(&dir), Err(BooksError::OtherReceiptKey)));
    fs::write(&key_file, kept).unwrap();
    open(&dir).unwrap();
    let newer = rusqlite::Connection::open(dir.join("authority.sqlite")).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(open(&dir), Err(BooksError::Schema { found: 99 })));
}
