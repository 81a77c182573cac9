//! Every item of the tax server simulator's fault menu, through the whole product: what it does to
//! an invoice, and what state it leaves behind.

use crate::{
    authority::Number,
    backends::{Backend as _, HASTY, PATIENT, Server, Times, USUAL},
    house::{Answer, DEVICE, House, Odd},
    process::wait_for,
};
use skproxy::{
    clock,
    contract::sample::{self, SELLER},
    pb::v1::outcome::Result as Wire,
};

/// The last of its numbers, which begin at 1.
const LAST: u32 = 200;

/// How an invoice ends that met a fault.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Issued, by the answer or by what the server was asked after it.
    Issued,
    /// Provably not issued: the same serial is sent again, and issued.
    Released,
    /// What the server says contradicts the claim: nothing is released, the series is frozen with
    /// this evidence, and the invoice is adopted once a person has looked.
    Adopted(&'static str),
    /// The same, but what the server booked is not what was asked for: an operator voids the claim.
    Voided(&'static str),
    /// Issued, and the series is frozen with this evidence: what stands beside it does not add up.
    Doubted(&'static str),
    /// The device stops until an operator opens it again.
    Stopped,
}

use End::{Adopted, Doubted, Issued, Released, Stopped, Voided};

/// A fault, the times of the connection while it strikes, and how it ends.
type Item = (&'static str, Times, End);

/// The menu. Where it names no operation, the fault is one of issuing (10008); 10010 is the
/// question that follows each, 10004 the one for the next number.
const MENU: &[Item] = &[
    ("none", USUAL, Issued),
    ("delay=50ms", USUAL, Issued),
    ("drop-request", HASTY, Released),
    ("drop-answer", HASTY, Issued),
    ("late=1500ms", PATIENT, Issued),
    ("answer-twice", USUAL, Adopted("does not match: serial differs")),
    ("wrong-serial", USUAL, Voided("knows no such serial, but its next number went from")),
    ("wrong-total", USUAL, Voided("does not match: totals differs")),
    ("wrong-encoding", USUAL, Issued),
    ("outside-number", USUAL, Doubted("it issued past us")),
    ("issued-by-another", USUAL, Doubted("it issued past us")),
    ("clock-back=24h", USUAL, Doubted("the device's clock")),
    ("busy", USUAL, Released),
    ("unknown-code", USUAL, Issued),
    ("http-500", USUAL, Released),
    ("http-500-after", USUAL, Issued),
    ("reset-before", USUAL, Released),
    ("reset-after", USUAL, Issued),
    ("garbage", USUAL, Issued),
    ("10010/wrong-serial", USUAL, Adopted("does not match: serial differs")),
    ("10010/wrong-total", USUAL, Adopted("does not match: totals differs")),
    ("10010/wrong-encoding", USUAL, Issued),
    ("10010/drop-answer", HASTY, Issued),
    ("10010/garbage", USUAL, Issued),
    ("10010/busy", USUAL, Issued),
    ("10010/unknown-code", USUAL, Issued),
    ("10004/garbage", USUAL, Issued),
    ("10004/drop-answer", HASTY, Issued),
    ("locked", USUAL, Stopped),
    ("10010/locked", USUAL, Stopped),
];

struct Case {
    house: House,
    server: Server,
}

impl Case {
    async fn ask(&self, serial: &str) -> Answer {
        self.house.ask((0, sample::draft(serial, SELLER))).await
    }

    async fn check(&self, serial: &str, (fault, _, end): Item) {
        self.server.push(fault);
        while !self.server.is_spent() {
            if let Answer::Refused(reason, ..) = self.ask(serial).await {
                let is_expected = match end {
                    Released => reason == "NOT_ISSUED",
                    _ => reason == "DEVICE_UNAVAILABLE",
                };
                assert!(is_expected, "{fault}: {reason}");
            }
        }
        match end {
            Issued | Released => {
                self.house.issue(0, serial).await;
                assert_eq!(self.house.frozen(DEVICE), "", "{fault}");
            }
            Adopted(evidence) => {
                self.freezes(fault, evidence);
                self.is_in_doubt(serial, fault).await;
                self.house.unfreeze(DEVICE);
                self.house.issue(0, serial).await;
            }
            Voided(evidence) => {
                self.freezes(fault, evidence);
                self.is_in_doubt(serial, fault).await;
                self.void();
                let known = self.house.known((0, serial)).await;
                assert!(matches!(known, Wire::Voided(_)), "{fault}: {known:?}");
                self.house.unfreeze(DEVICE);
            }
            Doubted(evidence) => {
                self.house.issue(0, serial).await;
                let frozen = self.frozen();
                assert!(frozen.contains(evidence), "{fault}: {frozen}");
                self.house.unfreeze(DEVICE);
            }
            Stopped => {
                self.stops(fault);
                match self.ask("STOPPED").await {
                    Answer::Refused(reason, ..) => assert_eq!(reason, "DEVICE_UNAVAILABLE"),
                    other => panic!("{fault}: {other:?}"),
                }
                self.is_in_doubt(serial, fault).await;
                let words = format!("device unlock {DEVICE} --reason looked-into --yes");
                self.house.operated(&words);
                self.house.issue(0, serial).await;
            }
        }
    }

    fn stops(&self, fault: &str) {
        wait_for(&format!("{fault}: the device stops"), || {
            let shown = self.house.operated(&format!("device show {DEVICE}"));
            (shown["devices"][0]["health"]["stopped"] == true).then_some(())
        });
    }

    fn frozen(&self) -> String {
        wait_for("the series freezes", || {
            Some(self.house.frozen(DEVICE)).filter(|why| !why.is_empty())
        })
    }

    fn freezes(&self, fault: &str, evidence: &str) {
        let frozen = self.frozen();
        let is_told = frozen.starts_with("SIGNER_ANSWER_INVALID: ") && frozen.contains(evidence);
        assert!(is_told, "{fault}: {frozen}");
    }

    async fn is_in_doubt(&self, serial: &str, fault: &str) {
        let known = self.house.known((0, serial)).await;
        assert!(matches!(known, Wire::InDoubt(_)), "{fault}: {known:?}");
    }

    /// Voids the one open claim. While it is being looked into, the command is refused.
    fn void(&self) {
        let open = self.house.operated("invoice open");
        let claim = &open["claims"][0]["claim_id"];
        let claim = claim.as_str().map_or_else(|| claim.to_string(), str::to_owned);
        let words = format!("invoice blank-void --claim {claim} --reason looked-into --yes");
        wait_for("the claim is voided", || {
            (self.house.operate(&words).code == Some(0)).then_some(())
        });
    }

    /// What the server has booked and we have not issued, and what it drew outside its segment.
    fn odd(&self) -> Odd {
        let (ours, theirs) = (self.house.numbers(), self.server.issued().unwrap());
        let is_outside = |number: &&Number| number.1.parse::<u32>().unwrap() > LAST;
        let outside: Vec<_> = theirs.iter().filter(is_outside).cloned().collect();
        let spent = theirs.into_iter().filter(|number| !ours.contains(number)).collect();
        Odd { spent, outside }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_tax_server_ends_in_its_state() {
    let server = Server::new(LAST);
    let house = House::new("", Vec::new(), false).await;
    house.add_device(DEVICE, "499000000001", &server.words()).await;
    house.usable(DEVICE);
    let case = Case { house, server };
    let mut before = USUAL;
    case.house.issue(0, "BEFORE").await;
    for (at, item) in MENU.iter().enumerate() {
        let (fault, times, end) = *item;
        let begin = clock::monotonic();
        if before != times {
            before = times;
            case.server.assign(&case.house, times);
        }
        case.check(&format!("MENU{at}"), *item).await;
        // The series goes on.
        case.house.issue(0, &format!("NEXT{at}")).await;
        println!("{fault}: {end:?}, after {:?}", begin.elapsed());
    }
    case.house.settle().await;
    let odd = case.odd();
    assert_eq!((odd.spent.len(), odd.outside.len()), (3, 1), "as often as the menu says: {odd:?}");
    case.house.end(&odd).await;
}
