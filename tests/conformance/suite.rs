//! The suite: one list of steps, and a test for each backend that walks it.

use crate::{
    backends::{Backend, Event, Pkcs11, Sdf, Server, Simulated, Skf, Software, cannot},
    house::{Answer, DEVICE, House, Odd},
    process::wait_for,
};
use rustix::process::Signal;
use skproxy::{
    clock,
    contract::sample::{self, SELLER},
    pb::v1::{self, outcome::Result as Wire},
};
use std::{collections::BTreeSet, time::Duration};

/// Claims that may be open on the device; small, so that its queue fills up.
const OPEN_MAX: usize = 4;
/// Numbers that the device has, or is given.
const NUMBERS: u32 = 120;

/// A house with the device in service.
struct Case {
    house: House,
    backend: Box<dyn Backend>,
}

/// A draft for the platform of `platform`.
fn ask(platform: usize, serial: &str) -> (usize, v1::InvoiceDraft) {
    (platform, sample::draft(serial, SELLER))
}

async fn conforms(backend: impl Backend + 'static) {
    let mut case = Case::new(Box::new(backend)).await;
    case.signs_and_the_authority_verifies().await;
    case.gives_two_platforms_with_one_serial_two_invoices().await;
    case.refuses_a_full_queue().await;
    case.issues_once_for_a_caller_that_left().await;
    for event in [Event::Killed, Event::Hung, Event::Restarted] {
        case.recovers_from(event).await;
    }
    for event in [Event::AnswerLost, Event::Never, Event::GivenUp] {
        case.issues_once_after(event).await;
    }
    case.freezes_when_an_answer_comes_twice().await;
    case.outlives_a_kill_of_the_daemon().await;
    case.refuses_when_its_numbers_are_used_up().await;
    case.end().await;
}

impl Case {
    async fn new(mut backend: Box<dyn Backend>) -> Self {
        let limits = format!("open_claims_max = {OPEN_MAX}");
        let house = House::new(&limits, backend.environment(), backend.is_here()).await;
        if backend.is_here() {
            backend.attach(&house);
            house.announce(DEVICE).await;
        } else {
            house.add_device(DEVICE, "499000000001", &backend.words()).await;
        }
        if !backend.draws_numbers() {
            house.stock_up(DEVICE, NUMBERS).await;
        }
        house.usable(DEVICE);
        Self { house, backend }
    }

    /// Whether an event can befall the backend; a line says why not.
    fn can(&self, event: Event) -> bool {
        let name = self.backend.name();
        let why = cannot(name, event);
        if let Some(why) = why {
            println!("{name}: not {event:?}: {why}");
        }
        why.is_none()
    }

    /// Waits until what was ordered has befallen a job, while `serial` asks for one.
    async fn struck(&self, event: Event, serial: &str) {
        let begin = clock::monotonic();
        while !self.backend.has_struck(event, &self.house) {
            drop(self.house.ask(ask(0, serial)).await);
            assert!(begin.elapsed() < crate::process::BOUND, "{event:?} does not happen");
        }
    }

    async fn signs_and_the_authority_verifies(&mut self) {
        let mut issued = Vec::new();
        for number in 0..6 {
            issued.push(self.house.issue(0, &format!("SIGN{number}")).await);
        }
        let all = futures_of(6, |number| {
            let serial = format!("TOGETHER{number}");
            let house = &self.house;
            async move { house.issue(0, &serial).await }
        });
        issued.extend(all.await);
        let numbers: BTreeSet<_> = issued.iter().map(|it| (&it.code, &it.number)).collect();
        assert_eq!(numbers.len(), issued.len());
        let algorithm = match self.backend.name() {
            "software-sm2" | "sdf" | "skf" => v1::SignatureAlgorithm::Sm2Sm3,
            _ => v1::SignatureAlgorithm::EcdsaP256Sha256,
        };
        assert!(issued.iter().all(|it| it.signature_algorithm() == algorithm));
        // That the authority verified each of them is seen at the end, with all others.
    }

    async fn gives_two_platforms_with_one_serial_two_invoices(&mut self) {
        let (one, two) = tokio::join!(self.house.issue(0, "SAME"), self.house.issue(1, "SAME"));
        assert_ne!((&one.code, &one.number), (&two.code, &two.number));
        for (platform, own) in [(0, one), (1, two)] {
            match self.house.known((platform, "SAME")).await {
                Wire::Issued(found) => assert_eq!(found.invoice.unwrap(), own),
                other => panic!("{other:?}"),
            }
        }
        let others = self.house.known((1, "SIGN0")).await;
        assert!(matches!(others, Wire::Unknown(_)), "{others:?}");
    }

    /// A queue that is full refuses, names the device, says when to come again, and spends nothing.
    async fn refuses_a_full_queue(&mut self) {
        if !self.can(Event::Slow) {
            return;
        }
        self.backend.strike(Event::Slow, &self.house);
        let mut rounds = 0;
        let refusal = loop {
            assert!(rounds < 20, "its queue never fills up");
            let answers = futures_of(2 * OPEN_MAX + 4, |number| {
                let (house, serial) = (&self.house, format!("QUEUE{rounds}x{number}"));
                async move { (serial.clone(), house.ask(ask(0, &serial)).await) }
            });
            let answers = answers.await;
            rounds += 1;
            let full = answers.into_iter().find_map(|(serial, answer)| match answer {
                Answer::Refused(reason, text, again) if reason == "SERIES_BACKLOG" => {
                    Some((serial, text, again))
                }
                _ => None,
            });
            if let Some(full) = full {
                break full;
            }
        };
        let (serial, text, again) = refusal;
        assert!(text.contains(DEVICE), "the device is named: {text}");
        assert!(again.is_some_and(|again| !again.is_zero()), "{again:?}");
        self.backend.well();
        self.house.issue(0, &serial).await;
    }

    /// An answer that comes when its caller has gone is the answer to the next who asks.
    async fn issues_once_for_a_caller_that_left(&mut self) {
        if !self.can(Event::Slow) {
            return;
        }
        let before = self.count().await;
        self.backend.strike(Event::Slow, &self.house);
        drop(self.house.ask_within(ask(0, "LEFT"), Duration::from_millis(100)).await);
        self.once("LEFT", before).await;
        self.backend.well();
    }

    /// How many invoices the device says it issued, once nothing is under way.
    async fn count(&self) -> Option<usize> {
        self.house.settle().await;
        self.backend.issued().map(|all| all.len())
    }

    /// A serial is issued, its replay gives the same bytes, and the device issued one more than
    /// `before`.
    async fn once(&self, serial: &str, before: Option<usize>) {
        let issued = self.house.issue(0, serial).await;
        assert_eq!(self.house.issue(0, serial).await, issued, "a replay");
        match self.house.known((0, serial)).await {
            Wire::Issued(found) => assert_eq!(found.invoice.unwrap(), issued),
            other => panic!("{serial}: {other:?}"),
        }
        let after = self.backend.issued().map(|all| all.len());
        assert_eq!(after, before.map(|before| before + 1), "the device issued once");
    }

    /// Issuing resumes by itself.
    async fn recovers_from(&mut self, event: Event) {
        if !self.can(event) {
            return;
        }
        let serial = format!("AFTER{event:?}");
        let begin = clock::monotonic();
        self.backend.strike(event, &self.house);
        drop(self.house.ask(ask(0, &serial)).await);
        self.struck(event, &serial).await;
        self.backend.well();
        self.house.issue(0, &serial).await;
        let name = self.backend.name();
        println!("{name}: {event:?}, issued again after {:?}", begin.elapsed());
        self.house.issue(0, &format!("{serial}2")).await;
    }

    /// Whatever became of an answer, its serial ends as exactly one invoice, and a replay gives the
    /// same bytes.
    async fn issues_once_after(&mut self, event: Event) {
        if !self.can(event) {
            return;
        }
        let serial = format!("ONCE{event:?}");
        let before = self.count().await;
        let begin = clock::monotonic();
        self.backend.strike(event, &self.house);
        self.struck(event, &serial).await;
        self.backend.well();
        self.once(&serial, before).await;
        println!("{}: {event:?}, issued after {:?}", self.backend.name(), begin.elapsed());
    }

    /// An answer to another request is none: nothing is released, the series freezes, and once a
    /// person has looked the device is asked what it issued.
    async fn freezes_when_an_answer_comes_twice(&mut self) {
        if !self.can(Event::Twice) {
            return;
        }
        self.backend.strike(Event::Twice, &self.house);
        self.struck(Event::Twice, "TWICE").await;
        let evidence = wait_for("the series freezes", || {
            Some(self.house.frozen(DEVICE)).filter(|why| !why.is_empty())
        });
        assert!(evidence.starts_with("SIGNER_ANSWER_INVALID"), "{evidence}");
        let known = self.house.known((0, "TWICE")).await;
        assert!(matches!(known, Wire::InDoubt(_)), "{known:?}");
        match self.house.ask(ask(0, "FROZEN")).await {
            Answer::Refused(reason, ..) => assert_eq!(reason, "SERIES_FROZEN"),
            other => panic!("{other:?}"),
        }
        self.backend.well();
        self.house.unfreeze(DEVICE);
        self.house.issue(0, "TWICE").await;
        self.house.issue(0, "FROZEN").await;
    }

    async fn outlives_a_kill_of_the_daemon(&mut self) {
        if self.backend.is_here() {
            println!("{}: not the daemon's kill: it is the test's process", self.backend.name());
            return;
        }
        let serials: Vec<_> = (0..OPEN_MAX).map(|number| format!("KILL{number}")).collect();
        let all = futures_of(serials.len(), |at| {
            let (house, serial) = (&self.house, serials[at].clone());
            async move { drop(house.ask(ask(0, &serial)).await) }
        });
        // In the middle of them: one is answered, the others are under way, or answered as well.
        let kill = async {
            drop(self.house.ask(ask(0, "KILLED")).await);
            self.house.signal(Signal::KILL);
        };
        tokio::join!(all, kill);
        let begin = clock::monotonic();
        self.house.again().await;
        for serial in serials.iter().map(String::as_str).chain(["KILLED"]) {
            self.house.issue(0, serial).await;
        }
        println!("{}: all issued {:?} after the kill", self.backend.name(), begin.elapsed());
    }

    async fn refuses_when_its_numbers_are_used_up(&mut self) {
        let (mut at, begin) = (0, clock::monotonic());
        let mut every = tokio::time::interval(Duration::from_millis(2));
        let text = loop {
            every.tick().await;
            match self.house.ask(ask(0, &format!("LAST{at}"))).await {
                Answer::Refused(reason, text, _) if reason == "NO_NUMBERS" => break text,
                Answer::Refused(..) | Answer::InDoubt | Answer::Late => {}
                Answer::Issued(_) => at += 1,
            }
            assert!(begin.elapsed() < crate::process::BOUND, "they are never used up");
        };
        assert!(text.contains(DEVICE), "the device is named: {text}");
        self.house.settle().await;
        assert_eq!(u32::try_from(self.house.count()).unwrap(), NUMBERS, "each number once");
        if !self.backend.draws_numbers() {
            self.house.stock_up(DEVICE, 10).await;
        } else if !self.backend.restock() {
            println!("{}: its stock is fixed when it is made", self.backend.name());
            return;
        }
        let begin = clock::monotonic();
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            match self.house.ask(ask(0, "MORE")).await {
                Answer::Issued(_) => break,
                Answer::InDoubt | Answer::Refused(..) | Answer::Late => {}
            }
            assert!(begin.elapsed() < crate::process::BOUND, "more numbers do not help");
        }
    }

    async fn end(self) {
        let theirs = self.backend.issued();
        let ours = self.house.end(&Odd::default()).await;
        if let Some(mut theirs) = theirs {
            theirs.sort();
            assert!(theirs.iter().eq(&ours), "the device issued what we have, and nothing else");
        }
    }
}

/// Runs a number of futures together.
pub(crate) async fn futures_of<T, F: Future<Output = T>>(
    count: usize,
    make: impl Fn(usize) -> F,
) -> Vec<T> {
    let mut running: Vec<_> = (0..count).map(|at| (Box::pin(make(at)), None)).collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (future, result) in &mut running {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    running.into_iter().map(|(_, result)| result.expect("all are done")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_software_key_of_p256_conforms() {
    conforms(Software("software-p256")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_software_key_of_sm2_conforms() {
    conforms(Software("software-sm2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_device_conforms() {
    conforms(Simulated::new(NUMBERS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_behind_pkcs11_conforms() {
    conforms(Pkcs11::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crypto_machine_behind_sdf_conforms() {
    conforms(Sdf::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_behind_skf_conforms() {
    conforms(Skf::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_behind_a_tax_server_conforms() {
    conforms(Server::new(NUMBERS)).await;
}
