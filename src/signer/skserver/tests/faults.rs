//! Each fault of the menu drives the backend to the right class of error, and what it answers all
//! the same lets numbering see what is wrong.

use super::*;

/// What a request meets with a fault: how it ends, whether the server then finds an invoice that
/// fits, and what is next.
#[track_caller]
fn check(fault: &str, expect: &str) {
    let house = House::new();
    let first = house.session().issue(&sample_claim(1)).unwrap();
    let claim = sample_claim(2);
    let result = house.struck(fault).issue(&claim);
    let told = match &result {
        Ok(answer) if !answer.signed.signature.is_empty() => judged(answer, &claim),
        // Numbering sees the same difference, and freezes the series.
        Ok(answer) if answer.device_serial != serial(&claim) && answer.number == first.number => {
            "the first invoice, of no serial, unsigned"
        }
        Ok(answer) if answer.device_serial != serial(&claim) => "another serial, unsigned",
        Ok(answer) if answer.totals != claim.totals => "other totals, unsigned",
        Ok(_) => "unsigned",
        Err(_) => word(&result),
    };
    let mut session = house.session();
    let found = match session.recover(&claim) {
        Ok(Some(answer)) if answer.signed.signature.is_empty() => "found unlike",
        Ok(Some(_)) => "found",
        Ok(None) => "not found",
        Err(_) => "unavailable",
    };
    let next = session.next_number(Kind::ENormal).unwrap().unwrap().number;
    assert_eq!(format!("{told}, {found}, next {next}"), expect, "{fault}");
}

fn judged(answer: &DeviceAnswer, claim: &Claim) -> &'static str {
    assert_eq!((&answer.device_serial, answer.totals), (&serial(claim), claim.totals));
    if today().unix() - answer.issue_time.unix() > 3600 {
        return "clock back";
    }
    match answer.number.number {
        2 => "right",
        3 => "later number",
        _ => "outside",
    }
}

#[test]
fn each_fault_of_issuing_ends_as_it_must() {
    check("none", "right, found, next 3");
    check("delay=1ms", "right, found, next 3");
    check("drop-request", "in doubt, not found, next 2");
    check("drop-answer", "in doubt, found, next 3");
    check("late=1h", "in doubt, not found, next 2");
    check("answer-twice", "the first invoice, of no serial, unsigned, found, next 3");
    check("wrong-serial", "in doubt, not found, next 3");
    check("wrong-total", "other totals, unsigned, found unlike, next 3");
    check("wrong-encoding", "in doubt, found, next 3");
    check("outside-number", "outside, found, next 2");
    check("issued-by-another", "later number, found, next 1");
    check("clock-back=24h", "clock back, found, next 3");
    check("busy", "in doubt, not found, next 2");
    check("unknown-code", "in doubt, found, next 3");
    check("http-500", "in doubt, not found, next 2");
    check("http-500-after", "in doubt, found, next 3");
    check("reset-before", "in doubt, not found, next 2");
    check("reset-after", "in doubt, found, next 3");
    check("garbage", "in doubt, found, next 3");
    check("locked", "pin, not found, next 2");
}

#[test]
fn each_fault_of_the_query_after_issuing_leaves_it_in_doubt_or_shows_the_difference() {
    check("10010/wrong-serial", "another serial, unsigned, found, next 3");
    check("10010/wrong-total", "other totals, unsigned, found, next 3");
    check("10010/locked", "pin, found, next 3");
    for fault in ["drop-answer", "garbage", "wrong-encoding", "unknown-code", "busy"] {
        check(&format!("10010/{fault}"), "in doubt, found, next 3");
    }
    // One that only asks is asked again, on a new connection.
    check("10010/http-500", "right, found, next 3");
    check("10010/reset-before", "right, found, next 3");
    check("10004/reset-after", "right, found, next 3");
    check("10004/garbage", "in doubt, found, next 3");
}

#[test]
fn a_failed_question_is_unavailable_and_never_an_answer() {
    let house = House::new();
    house.session().issue(&sample_claim(1)).unwrap();
    for fault in
        ["busy", "locked", "unknown-code", "http-500", "garbage", "wrong-encoding", "drop-answer"]
    {
        for (id, claim) in
            [("10010", sample_claim(1)), ("10004", sample_claim(1)), ("10010", sample_claim(2))]
        {
            let mut session = house.struck(&format!("{id}/{fault}"));
            let result = match id {
                "10010" => session.recover(&claim).map(drop),
                _ => session.next_number(Kind::ENormal).map(drop),
            };
            let expect = if fault == "locked" { "pin" } else { "unavailable" };
            assert_eq!(word(&result), expect, "{id}/{fault}");
        }
    }
}

#[test]
fn after_a_pin_error_a_session_sends_nothing_more() {
    let house = House::new();
    let mut session = house.struck("locked");
    assert_eq!(word(&session.issue(&sample_claim(1))), "pin");
    assert!(session.is_pin_locked());
    assert_eq!(word(&session.issue(&sample_claim(2))), "pin");
    assert_eq!(word(&session.next_number(Kind::ENormal)), "pin");
    let error = session.stock(Kind::ENormal).unwrap_err();
    assert_eq!(error, SkServerError::PinLocked);
    assert!(house.session().stock(Kind::ENormal).is_ok(), "a new session is a person's decision");
}
