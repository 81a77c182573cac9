//! The in-doubt drill: an answer that was lost, late or never to come ends with exactly one
//! invoice, the right one, or with none.

use super::*;

/// Everything that the server booked, as whoever judges from outside reads it.
fn booked(house: &House) -> Vec<serde_json::Value> {
    let url = house.config.url.replace("/SKServer/SKDo", "/sim/issued");
    let address: SocketAddr = url.split('/').nth(2).unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "GET /sim/issued HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn serials(house: &House) -> Vec<String> {
    booked(house).iter().map(|it| it["serial"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_answer_lost_after_issuing_leads_to_exactly_that_invoice() {
    for fault in ["drop-answer", "reset-after", "garbage", "http-500-after", "unknown-code"] {
        let mut house = House::new();
        let claim = sample_claim(1);
        assert_eq!(word(&house.struck(fault).issue(&claim)), "in doubt", "{fault}");
        house.restart();
        let found = house.session().recover(&claim).unwrap().unwrap();
        assert_eq!((found.number.number, found.totals), (1, claim.totals), "{fault}");
        assert_eq!(serials(&house), [serial(&claim).0], "{fault}");
    }
}

#[test]
fn a_request_that_never_arrived_leaves_nothing_and_the_next_number_as_it_was() {
    for fault in ["drop-request", "reset-before", "http-500", "busy"] {
        let house = House::new();
        let claim = sample_claim(1);
        let mut session = house.session();
        let before = session.next_number(Kind::ENormal).unwrap();
        assert_eq!(word(&house.struck(fault).issue(&claim)), "in doubt", "{fault}");
        assert_eq!(session.recover(&claim), Ok(None), "{fault}");
        assert_eq!(session.next_number(Kind::ENormal).unwrap(), before, "{fault}");
        assert_eq!(session.quiescence(), Duration::from_secs(5));
        assert!(serials(&house).is_empty(), "{fault}");
    }
}

#[test]
fn a_request_that_is_issued_late_shows_in_the_next_number() {
    const LATE: Duration = Duration::from_secs(4);
    let house = House::new();
    let claim = sample_claim(1);
    let sent = clock::monotonic();
    assert_eq!(word(&house.struck("late=4s").issue(&claim)), "in doubt");
    let mut session = house.session();
    let found = loop {
        if let Some(found) = session.recover(&claim).unwrap() {
            break found;
        }
        assert!(sent.elapsed() < BOUND, "it is never issued");
    };
    assert!(sent.elapsed() >= LATE, "{:?}", sent.elapsed());
    assert_eq!(found.number.number, 1);
    assert_eq!(session.next_number(Kind::ENormal).unwrap().unwrap().number, 2);
    assert_eq!(serials(&house).len(), 1);
}

#[test]
fn a_serial_sent_again_is_adopted_and_not_issued_again() {
    let house = House::new();
    let claim = sample_claim(1);
    let first = house.session().issue(&claim).unwrap();
    let second = house.session().issue(&claim).unwrap();
    assert_eq!((first.number, first.signed.check_code), (second.number, second.signed.check_code));
    assert_eq!(serials(&house).len(), 1);
}

#[test]
fn two_platforms_with_one_serial_never_meet() {
    let house = House::new();
    let mut session = house.session();
    let draft = |name: &str| {
        let mut draft = sample::draft("SAME", sample::SELLER);
        draft.buyer.as_mut().unwrap().name = name.into();
        draft
    };
    let (one, other) = (claim(1, draft("示例甲公司")), claim(2, draft("示例乙公司")));
    let (first, second) = (session.issue(&one).unwrap(), session.issue(&other).unwrap());
    assert_ne!(first.number, second.number);
    for (claim, answer, name) in [(&one, first, "示例甲公司"), (&other, second, "示例乙公司")]
    {
        let found = house.session().recover(claim).unwrap().unwrap();
        assert_eq!((found.number, found.buyer_name.as_str()), (answer.number, name));
    }
    assert!(!serials(&house).contains(&"SAME".to_owned()), "the platform's serial never leaves");
}
