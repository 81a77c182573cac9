//! The backends under test, what may befall each, and a table of what cannot.

mod module;
mod server;
mod simulated;

pub(crate) use module::{Pkcs11, Sdf, Skf};
pub(crate) use server::{HASTY, PATIENT, Server, Times, USUAL};
pub(crate) use simulated::Simulated;

use crate::{authority::Number, house::House};
use std::path::PathBuf;

/// What may befall a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Every job takes some hundred milliseconds.
    Slow,
    /// What runs the device is killed.
    Killed,
    /// What runs the device stops, and says nothing.
    Hung,
    /// The device restarts: sessions and handles of before are dead.
    Restarted,
    /// The device signs, and its answer is lost.
    AnswerLost,
    /// The device does nothing, and never answers.
    Never,
    /// The device issues only after the proxy gave up.
    GivenUp,
    /// The device answers with what it answered before.
    Twice,
}

/// A device under test.
pub(crate) trait Backend {
    /// Its name in the table and in what is printed.
    fn name(&self) -> &'static str;

    /// Backend and connection, as an operator writes them.
    fn words(&self) -> String;

    /// What the daemon's environment must hold.
    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        Vec::new()
    }

    /// Attaches the device to the daemon of this process, if no operator can; its public key is
    /// known after it.
    fn attach(&mut self, _house: &House) {}

    /// Whether `attach` is how it comes into service.
    fn is_here(&self) -> bool {
        false
    }

    /// Whether the device draws its numbers itself.
    fn draws_numbers(&self) -> bool {
        false
    }

    /// Lets something befall it, until `well`.
    fn strike(&mut self, event: Event, house: &House);

    /// Whether it has befallen a job by now.
    fn has_struck(&self, event: Event, house: &House) -> bool;

    /// Ends whatever was ordered.
    fn well(&mut self);

    /// The numbers that the device itself says it issued; none when it keeps no record.
    fn issued(&self) -> Option<Vec<Number>> {
        None
    }

    /// Gives a device that draws numbers more of them, if it can be given any.
    fn restock(&mut self) -> bool {
        false
    }
}

/// What cannot befall a backend, and why.
const CANNOT: &[(&str, &[Event], &str)] = &[
    (
        "software-p256 software-sm2",
        &[Event::Slow, Event::GivenUp, Event::Twice],
        "a key in memory signs within the call, in microseconds, and returns once",
    ),
    (
        "software-p256 software-sm2",
        &[Event::Killed, Event::Hung, Event::Restarted, Event::AnswerLost, Event::Never],
        "it lives and dies with the daemon, which the suite kills for every backend",
    ),
    (
        "pkcs11 sdf skf",
        &[Event::Twice],
        "a function in C returns once, and each answer of its process carries the call's id",
    ),
    (
        "pkcs11 sdf skf",
        &[Event::GivenUp],
        "a call that is given up takes its process along, so nothing is left that could answer",
    ),
    (
        "simulated",
        &[Event::Hung, Event::Restarted],
        "it is a struct in the daemon's process; pulling it out stands for its end",
    ),
];

/// Why an event cannot befall a backend.
pub(crate) fn cannot(backend: &str, event: Event) -> Option<&'static str> {
    let row = CANNOT.iter().find(|(names, events, _)| {
        names.split(' ').any(|name| name == backend) && events.contains(&event)
    });
    row.map(|(.., why)| *why)
}

/// A key in the daemon's memory.
pub(crate) struct Software(pub(crate) &'static str);

impl Backend for Software {
    fn name(&self) -> &'static str {
        self.0
    }

    fn words(&self) -> String {
        format!("--backend {}", self.0)
    }

    fn strike(&mut self, event: Event, _: &House) {
        panic!("{event:?} has no row in the table");
    }

    fn has_struck(&self, _: Event, _: &House) -> bool {
        false
    }

    fn well(&mut self) {}
}
