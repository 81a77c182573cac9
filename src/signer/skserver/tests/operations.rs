//! Each operation against the simulator.

use super::*;
use crate::signer::{derive::CHECK_CODE_LEN, verify_independently};
use prost::Message as _;

fn number(number: u32) -> Option<InvoiceNumber> {
    Some(InvoiceNumber { code: CODE.into(), number })
}

#[test]
fn the_device_tells_its_taxpayer_kinds_limits_rates_and_stock() {
    let house = House::new();
    let mut session = house.session();
    let begun = today();
    let info = session.device_info().unwrap();
    let while_asked = begun.unix()..=today().unix();
    assert_eq!(info.device_number, "000000000001");
    assert_eq!(info.taxpayer_name, sample::SELLER.name);
    assert_eq!(info.kinds, [Kind::NormalPaper, Kind::ENormal]);
    assert!(while_asked.contains(&info.clock.unix()), "{info:?}, {while_asked:?}");
    assert!(while_asked.contains(&info.asked_at.unix()), "{info:?}, {while_asked:?}");

    let monitor = session.limits(Kind::ENormal).unwrap();
    assert_eq!(monitor.single_limit, Some(Fen(10_000_000)));
    assert_eq!(monitor.issue_deadline.unwrap().rfc3339(), "2099-12-31T23:59:59+08:00");
    assert_eq!((monitor.offline_hours, monitor.offline_count), (Some(72), Some(1000)));
    assert_eq!((monitor.upload_day, monitor.blue_limit), (Some(15), None));
    assert_eq!((monitor.red_needs_original, monitor.red_days), (Some(false), Some(999)));

    let rates = session.authorised_rates(Kind::ENormal).unwrap().rates;
    assert_eq!(rates, [0, 10_000, 30_000, 60_000, 90_000, 130_000]);

    let stock = session.stock(Kind::ENormal).unwrap();
    assert_eq!((stock.next, stock.left, stock.segments.len()), (number(1), 6, 2));
    let paper = session.stock(Kind::NormalPaper).unwrap();
    let segment = &paper.segments[0];
    assert_eq!((segment.first.number, segment.last, segment.left), (501, 600, 100));

    let error = session.limits(Kind::ESpecial).unwrap_err();
    assert_eq!(error.class(), Some(Class::Permanent), "{error}");
}

#[test]
fn an_issued_invoice_matches_its_claim_and_is_attested() {
    let house = House::new();
    let mut session = house.session();
    let claim = sample_claim(1);
    assert_eq!(session.next_number(Kind::ENormal).unwrap(), number(1));
    let begun = today();
    let answer = session.issue(&claim).unwrap();
    assert!((begun..=today()).contains(&answer.issue_time), "{begun:?}, {answer:?}");
    assert_eq!((Some(&answer.number), &answer.next), (number(1).as_ref(), &number(2)));
    assert_eq!((&answer.device_serial, answer.kind), (&serial(&claim), claim.kind));
    assert_eq!(answer.totals, claim.totals);
    let buyer = claim.head.draft().unwrap().buyer.unwrap();
    assert_eq!(answer.buyer_taxpayer_id, buyer.taxpayer_id);
    assert_eq!(answer.buyer_name, buyer.name);

    let signed = &answer.signed;
    assert_eq!((signed.check_code.len(), signed.cipher_text.len()), (CHECK_CODE_LEN, 112));
    assert!(signed.qr_text.starts_with("01,10,044002600111,00000001,600.00,"));
    let tail = pb::Invoice {
        code: answer.number.code.clone(),
        number: answer.number.number_text(),
        issue_time: answer.issue_time.rfc3339(),
        device_id: "sk-1".into(),
        machine_number: "499000000001".into(),
        record_version: 1,
        ..pb::Invoice::default()
    };
    let record = [&claim.head.0[..], &tail.encode_to_vec()].concat();
    let spki = house.key.public_key();
    assert_eq!(signed.signer_key, crate::convert::sha256(spki));
    assert!(verify_independently(signed.algorithm, spki, &record, &signed.signature));
}

#[test]
fn numbers_run_through_the_segments_until_none_is_left() {
    let house = House::new();
    let mut session = house.session();
    let drawn: Vec<_> = (1..=6).map(|nth| session.issue(&sample_claim(nth)).unwrap()).collect();
    let numbers: Vec<_> = drawn.iter().map(|it| it.number.to_string()).collect();
    let expect = [
        "044002600111 00000001",
        "044002600111 00000002",
        "044002600111 00000003",
        "044002600311 00000001",
        "044002600311 00000002",
        "044002600311 00000003",
    ];
    assert_eq!(numbers, expect);
    assert_eq!(drawn[5].next, None);
    assert_eq!(session.next_number(Kind::ENormal).unwrap(), None);
    assert_eq!(session.stock(Kind::ENormal).unwrap().left, 0);
    assert_eq!(word(&session.issue(&sample_claim(7))), "refused");
}

#[test]
fn what_was_issued_is_found_by_any_session_and_after_a_restart() {
    let mut house = House::new();
    let claim = sample_claim(1);
    let issued = house.session().issue(&claim).unwrap();
    let mut session = house.session();
    let found = session.recover(&claim).unwrap().unwrap();
    assert_eq!(
        (found.number, found.signed.check_code),
        (issued.number.clone(), issued.signed.check_code)
    );
    assert!(session.query(claim.kind, &serial(&claim)).is_err(), "it has no record to sign");
    assert_eq!(session.query(claim.kind, &serial(&sample_claim(2))), Ok(None));
    house.restart();
    let mut session = house.session();
    assert_eq!(session.recover(&claim).unwrap().unwrap().number, issued.number);
    assert_eq!(session.recover(&sample_claim(2)), Ok(None));
    assert_eq!(session.issue(&sample_claim(2)).unwrap().number.number, 2);
}

#[test]
fn a_session_that_issued_answers_by_serial_too() {
    let house = House::new();
    let mut session = house.session();
    let claim = sample_claim(1);
    let issued = session.issue(&claim).unwrap();
    let found = session.query(claim.kind, &serial(&claim)).unwrap().unwrap();
    assert_eq!(found.number, issued.number);
}

#[test]
fn a_red_invoice_names_its_blue_one() {
    let house = House::new();
    let mut session = house.session();
    let blue = session.issue(&sample_claim(1)).unwrap();
    let mut red = sample::draft_with_lines("RED", sample::SELLER, 1);
    for line in &mut red.lines {
        line.quantity = "-1".into();
        (line.amount_fen, line.tax_fen) = (-line.amount_fen, -line.tax_fen);
    }
    (red.amount_fen, red.tax_fen) = (-red.amount_fen, -red.tax_fen);
    red.total_fen = -red.total_fen;
    red.color = pb::InvoiceColor::Red.into();
    (red.original_code, red.original_number) =
        (blue.number.code.clone(), blue.number.number_text());
    let claim = claim(2, red);
    let answer = session.issue(&claim).unwrap();
    assert_eq!((answer.totals, answer.totals.total), (claim.totals, Fen(-11_300)));
}

#[test]
fn what_a_request_cannot_say_is_refused_before_anything_is_sent() {
    let house = House::new();
    let mut session = house.session();
    let change = |change: fn(&mut pb::InvoiceDraft)| {
        let mut draft = sample::draft("R1", sample::SELLER);
        change(&mut draft);
        claim(1, draft)
    };
    let claims = [
        change(|it| it.tax_method = pb::TaxMethod::Differential.into()),
        change(|it| it.deduction_fen = 1),
        change(|it| it.seller.as_mut().unwrap().taxpayer_id = "91000000TEST000003".into()),
        change(|it| it.color = pb::InvoiceColor::Unspecified.into()),
    ];
    for claim in claims {
        assert_eq!(word(&session.issue(&claim)), "refused");
    }
    let foreign = change(|it| it.remark = "𠮷".into());
    assert_eq!(word(&session.issue(&foreign)), "unavailable");
    assert_eq!(session.next_number(Kind::ENormal).unwrap(), number(1));
}

#[test]
fn numbers_and_paper_invoices_can_be_voided() {
    let house = House::new();
    let mut session = house.session();
    let blank = session.void(Kind::ENormal, &number(1).unwrap(), VoidWhat::Blank, "示例甲");
    assert_eq!(blank.unwrap().number, number(1).unwrap());
    assert_eq!(session.next_number(Kind::ENormal).unwrap(), number(2));

    let mut draft = sample::draft("R1", sample::SELLER);
    draft.kind = pb::InvoiceKind::NormalPaper.into();
    let claim = claim(1, draft);
    let issued = session.issue(&claim).unwrap();
    let what = VoidWhat::Issued(claim.totals.amount);
    let begun = today();
    let voided = session.void(Kind::NormalPaper, &issued.number, what, "示例甲").unwrap();
    assert!((begun..=today()).contains(&voided.voided_at), "{begun:?}, {voided:?}");
    let error = session.recover(&claim).unwrap_err();
    assert!(error.to_string().contains("void at the device"), "{error}");

    let electronic = session.issue(&sample_claim(2)).unwrap();
    let error = session.void(Kind::ENormal, &electronic.number, what, "示例甲").unwrap_err();
    assert_eq!(error.class(), Some(Class::Permanent));
}

#[test]
fn a_result_is_written_back_once_or_again_but_never_another() {
    let house = House::new();
    let mut session = house.session();
    for _ in 0..2 {
        session.write_result_back(Kind::ENormal, "SL0001", "c2FtcGxl").unwrap();
    }
    let error = session.write_result_back(Kind::ENormal, "SL0001", "b3RoZXI=").unwrap_err();
    assert_eq!(error.class(), Some(Class::Permanent));
}
