//! The simulated device that draws numbers itself, in the daemon of this process: no operator can
//! add one.

use super::{Backend, Event};
use crate::{
    authority::Number,
    house::{DEVICE, House},
};
use skproxy::{
    clock::Clock,
    contract::sample::SELLER,
    model::Kind,
    numbering::NewDevice,
    registry::BackendKind,
    signer::{self, Fault, Faults, Segment, SimulatedConfig, SimulatedDevice},
};
use std::{fs, time::Duration};
use tempfile::TempDir;

const CODE: &str = "044002600811";
const MACHINE: &str = "499000000001";

/// A simulated device.
pub(crate) struct Simulated {
    dir: TempDir,
    faults: Faults,
    last: u32,
}

impl Simulated {
    pub(crate) fn new(last: u32) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), faults: Faults::default(), last }
    }

    fn open(&self) -> SimulatedDevice {
        let segment = Segment { kind: Kind::ENormal, code: CODE.into(), first: 1, last: self.last };
        let config = SimulatedConfig {
            directory: self.dir.path().to_owned(),
            device_id: DEVICE.into(),
            machine_number: MACHINE.into(),
            segments: vec![segment],
            quiescence: Duration::from_secs(3),
            clock: Clock::system(),
        };
        SimulatedDevice::open(config, self.faults.clone()).unwrap()
    }
}

impl Backend for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn words(&self) -> String {
        panic!("no operator can add it");
    }

    fn is_here(&self) -> bool {
        true
    }

    fn attach(&mut self, house: &House) {
        let device = self.open();
        let new = NewDevice {
            id: DEVICE.into(),
            taxpayer_id: SELLER.taxpayer_id.into(),
            machine_number: MACHINE.into(),
            backend: BackendKind::SimulatedDevice,
            kinds: [Kind::ENormal].into(),
            profile: "baiwang".into(),
            test: true,
            public_key: device.public_key().to_vec(),
            wrapped_key: None,
            connection: None,
        };
        let daemon = house.here();
        let numbering = daemon.numbering().clone();
        let made = numbering.change(move |round| round.add_device("test", new));
        let made = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(made));
        let no = made.unwrap().no;
        let finisher = daemon.finisher();
        finisher.pool().add_device(no, signer::Backend::Device(Box::new(device)), 64);
        finisher.watch_device(no, [Kind::ENormal]);
    }

    fn draws_numbers(&self) -> bool {
        true
    }

    fn strike(&mut self, event: Event, _: &House) {
        let slow = Fault::Delay(Duration::from_millis(300));
        match event {
            Event::Slow => (0..20).for_each(|_| self.faults.push(slow.clone())),
            Event::Killed => self.faults.disconnect(),
            Event::AnswerLost => self.faults.push(Fault::LoseAnswerAfterIssuing),
            Event::Never => self.faults.push(Fault::LoseRequest),
            Event::GivenUp => self.faults.push(Fault::IssueLate(Duration::from_millis(300))),
            Event::Twice => self.faults.push(Fault::AnswerTwice),
            Event::Hung | Event::Restarted => panic!("{event:?} has no row in the table"),
        }
    }

    fn has_struck(&self, event: Event, _: &House) -> bool {
        event == Event::Killed || self.faults.pending() == 0
    }

    fn well(&mut self) {
        self.faults.clear();
        self.faults.reconnect();
    }

    fn issued(&self) -> Option<Vec<Number>> {
        let path = self.dir.path().join(format!("{DEVICE}.device.jsonl"));
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
        let number = |line: serde_json::Value| {
            let issued = line.get("Issued")?;
            let number = issued["number"].as_u64()?;
            Some((issued["code"].as_str()?.to_owned(), format!("{number:08}")))
        };
        Some(lines.filter_map(|line| number(line.unwrap())).collect())
    }
}
