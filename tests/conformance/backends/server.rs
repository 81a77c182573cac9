//! A device behind a tax-control server, which its simulator stands for, as a process.

use super::{Backend, Event};
use crate::{
    authority::Number,
    house::{DEVICE, House},
    process::{Process, wait_for},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use skproxy::contract::sample::SELLER;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};
use tempfile::TempDir;

/// What a device's connection says of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// How long a call may take. Unit: milliseconds.
    pub(crate) timeout_ms: u32,
    /// After so long "not issued" holds for a claim. Unit: milliseconds.
    pub(crate) quiescence_ms: u32,
}

/// No answer that comes is missed, however slow the machine.
pub(crate) const USUAL: Times = Times { timeout_ms: 20_000, quiescence_ms: 4_000 };
/// Answers do not come: they are not waited for.
pub(crate) const HASTY: Times = Times { timeout_ms: 1_000, quiescence_ms: 4_000 };
/// Requests are done late, but no machine is so slow that they are done after this.
pub(crate) const PATIENT: Times = Times { timeout_ms: 1_000, quiescence_ms: 15_000 };
/// Code of its numbers, which begin at 1.
pub(crate) const CODE: &str = "044002600911";

/// A simulator with one device.
pub(crate) struct Server {
    dir: TempDir,
    address: String,
    process: Option<Process>,
    last: u32,
}

impl Server {
    /// One with the numbers 1 to `last`.
    pub(crate) fn new(last: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = "127.0.0.1:0".to_owned();
        let mut server = Self { dir, address, process: None, last };
        server.start();
        server
    }

    fn start(&mut self) {
        let devices = self.dir.path().join("devices.toml");
        fs::write(&devices, devices_file(self.last)).unwrap();
        let words = format!(
            "skserver-sim --devices {} --state {} --listen {} --format json",
            devices.display(),
            self.dir.path().join("sim.db").display(),
            self.address
        );
        // Its port may still be taken by what it leaves behind, or for a moment by somebody else.
        let (process, address) = wait_for("the tax server starts", || {
            let mut process = Process::start(&words, [("LC_ALL", "C")]);
            let said = wait_for("it says where it is, or ends", || {
                let said: Option<Value> = serde_json::from_str(&process.stdout()).ok();
                (said.is_some() || !process.runs()).then_some(said)
            });
            said.map(|said| (process, said["address"].as_str().unwrap().to_owned()))
        });
        (self.process, self.address) = (Some(process), address);
    }

    fn connection(&self, times: Times) -> String {
        let Times { timeout_ms, quiescence_ms } = times;
        format!(
            "--backend skserver --url http://{}/SKServer/SKDo --kpzdbs {}~~000000000001 \
             --timeout-ms {timeout_ms} --quiescence-ms {quiescence_ms}",
            self.address, SELLER.taxpayer_id
        )
    }

    /// Opens other sessions with the device, which also ends a stop because of its PIN.
    pub(crate) fn assign(&self, house: &House, times: Times) {
        house.operated(&format!("device assign {DEVICE} {}", self.connection(times)));
        house.usable(DEVICE);
    }

    /// Adds a fault for one request.
    pub(crate) fn push(&self, fault: &str) {
        self.call("POST", "faults", &json!({ "script": [fault] }).to_string());
    }

    /// Whether every fault has met its request.
    pub(crate) fn is_spent(&self) -> bool {
        let pending: Value = serde_json::from_str(&self.call("GET", "faults", "")).unwrap();
        pending["script"].as_array().unwrap().is_empty()
    }

    fn call(&self, method: &str, what: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} /sim/{what} HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        body.to_owned()
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }
}

impl Backend for Server {
    fn name(&self) -> &'static str {
        "skserver"
    }

    fn words(&self) -> String {
        self.connection(USUAL)
    }

    fn draws_numbers(&self) -> bool {
        true
    }

    fn strike(&mut self, event: Event, house: &House) {
        let times = match event {
            Event::Slow | Event::Killed | Event::Restarted | Event::Twice => USUAL,
            Event::AnswerLost | Event::Never => HASTY,
            Event::Hung | Event::GivenUp => PATIENT,
        };
        self.assign(house, times);
        match event {
            Event::Slow => {
                let slow = json!({ "random": ["delay=300ms"] });
                self.call("POST", "faults", &slow.to_string());
            }
            Event::Killed => drop(self.process.take()),
            Event::Hung => self.process().signal(Signal::STOP),
            Event::Restarted => {
                let process = self.process.take().expect("it runs");
                process.signal(Signal::TERM);
                process.ended();
                self.start();
            }
            Event::AnswerLost => self.push("drop-answer"),
            Event::Never => self.push("drop-request"),
            Event::GivenUp => self.push("late=1500ms"),
            Event::Twice => self.push("answer-twice"),
        }
    }

    fn has_struck(&self, event: Event, _: &House) -> bool {
        match event {
            Event::Slow | Event::Killed | Event::Hung | Event::Restarted => true,
            Event::AnswerLost | Event::Never | Event::GivenUp | Event::Twice => self.is_spent(),
        }
    }

    fn well(&mut self) {
        match &self.process {
            None => self.start(),
            // One that does not stand still takes no notice.
            Some(process) => process.signal(Signal::CONT),
        }
        let none = json!({ "random": [], "clear": true });
        self.call("POST", "faults", &none.to_string());
    }

    fn issued(&self) -> Option<Vec<Number>> {
        let booked: Value = serde_json::from_str(&self.call("GET", "issued", "")).unwrap();
        let number = |it: &Value| {
            let number = it["number"].as_u64().unwrap();
            (it["code"].as_str().unwrap().to_owned(), format!("{number:08}"))
        };
        Some(booked.as_array().unwrap().iter().map(number).collect())
    }

    fn restock(&mut self) -> bool {
        self.last += 10;
        drop(self.process.take());
        self.start();
        true
    }
}

fn devices_file(last: u32) -> String {
    format!(
        r#"
        [[device]]
        kpzdbs = "{id}~~000000000001"
        device_number = "000000000001"
        machine_number = "499000000001"
        taxpayer_id = "{id}"
        taxpayer_name = "{name}"
        office_code = "10000000000"
        office_name = "示例税务局"
        [device.kind.026]
        rates = ["0.13"]
        segment = [{{ code = "{CODE}", first = 1, last = {last} }}]
        "#,
        id = SELLER.taxpayer_id,
        name = SELLER.name
    )
}
