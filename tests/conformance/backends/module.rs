//! Keys behind foreign C libraries, each in a sidecar process of the daemon: SoftHSM2 over PKCS#11,
//! and the emulated crypto machine and key over SDF and SKF.

use super::{Backend, Event};
use crate::{
    house::House,
    library::Emulator,
    process::{are_gone, sidecars_of, strike},
    softhsm::{LABEL, PIN, SoftHsm},
};
use rustix::process::{Pid, Signal};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

/// Processes that were there when something befell them.
#[derive(Default)]
struct Struck {
    processes: Vec<Pid>,
    calls: usize,
}

/// A SoftHSM2 token.
pub(crate) struct Pkcs11 {
    token: SoftHsm,
    struck: Struck,
}

impl Pkcs11 {
    pub(crate) fn new() -> Self {
        let token = SoftHsm::new();
        token.import("invoice", "01", &[]);
        Self { token, struck: Struck::default() }
    }
}

impl Backend for Pkcs11 {
    fn name(&self) -> &'static str {
        "pkcs11"
    }

    fn words(&self) -> String {
        format!(
            "--backend pkcs11 --module {} --token-label {LABEL} --key-label invoice --pin-file {} \
             --sessions 2",
            self.token.path("module.so").display(),
            self.token.path("pin").display()
        )
    }

    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        self.token.environment().into()
    }

    fn strike(&mut self, event: Event, house: &House) {
        self.struck =
            Struck { processes: sidecars_of(house.daemon()), calls: self.token.count("struck") };
        match event {
            Event::Killed => strike(&self.struck.processes, Signal::KILL),
            Event::Hung => strike(&self.struck.processes, Signal::STOP),
            Event::Slow => self.token.fail("sign slow"),
            // CKR_DEVICE_REMOVED
            Event::Restarted => self.token.fail("sign 0x32"),
            Event::AnswerLost => self.token.fail("sign lose"),
            Event::Never => self.token.fail("sign hang"),
            Event::GivenUp | Event::Twice => panic!("{event:?} has no row in the table"),
        }
    }

    fn has_struck(&self, event: Event, _: &House) -> bool {
        match event {
            Event::Killed | Event::Hung => are_gone(&self.struck.processes),
            Event::Never => {
                self.token.count("struck") > self.struck.calls && are_gone(&self.struck.processes)
            }
            _ => self.token.count("struck") > self.struck.calls,
        }
    }

    fn well(&mut self) {
        if self.token.path("fault").exists() {
            self.token.well();
        }
    }
}

/// What the two emulators share.
struct Emulated {
    emulator: Emulator,
    sign: &'static str,
    plug: u32,
    struck: Struck,
}

impl Emulated {
    fn new(library: &str, sign: &'static str) -> Self {
        let emulator = Emulator::new(library, &format!("pin {PIN}\n"));
        let pin = emulator.library().with_file_name("pin");
        fs::write(&pin, format!("{PIN}\n")).unwrap();
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
        Self { emulator, sign, plug: 0, struck: Struck::default() }
    }

    fn module(&self) -> String {
        let module = self.emulator.library();
        let pin = module.with_file_name("pin");
        format!("--module {} --pin-file {}", module.display(), pin.display())
    }

    fn control(&self, fault: &str) {
        self.emulator.control(&format!("pin {PIN}\nplug {}\n{fault}\n", self.plug));
    }

    fn strike(&mut self, event: Event, house: &House) {
        let (processes, calls) = (sidecars_of(house.daemon()), self.emulator.calls(self.sign));
        self.struck = Struck { processes, calls };
        let sign = self.sign;
        match event {
            Event::Killed => strike(&self.struck.processes, Signal::KILL),
            Event::Hung => strike(&self.struck.processes, Signal::STOP),
            Event::Slow => self.control(&format!("latency_ms {sign} 300")),
            Event::Restarted => {
                self.plug += 1;
                self.control("");
            }
            Event::AnswerLost => self.control(&format!("lose {sign}")),
            Event::Never => self.control(&format!("hang {sign}")),
            Event::GivenUp | Event::Twice => panic!("{event:?} has no row in the table"),
        }
    }

    fn has_struck(&self, event: Event) -> bool {
        let was_called = self.emulator.calls(self.sign) > self.struck.calls;
        match event {
            Event::Killed | Event::Hung => are_gone(&self.struck.processes),
            Event::Never => was_called && are_gone(&self.struck.processes),
            Event::AnswerLost => self.emulator.calls(&format!("{} lost", self.sign)) > 0,
            _ => was_called,
        }
    }
}

/// An emulated crypto machine.
pub(crate) struct Sdf(Emulated);

impl Sdf {
    pub(crate) fn new() -> Self {
        Self(Emulated::new("sdf_emulator", "SDF_InternalSign_ECC"))
    }
}

impl Backend for Sdf {
    fn name(&self) -> &'static str {
        "sdf"
    }

    fn words(&self) -> String {
        format!("--backend sdf --key-index 1 --sessions 2 {}", self.0.module())
    }

    fn strike(&mut self, event: Event, house: &House) {
        self.0.strike(event, house);
    }

    fn has_struck(&self, event: Event, _: &House) -> bool {
        self.0.has_struck(event)
    }

    fn well(&mut self) {
        self.0.control("");
    }
}

/// An emulated key.
pub(crate) struct Skf(Emulated);

impl Skf {
    pub(crate) fn new() -> Self {
        Self(Emulated::new("skf_emulator", "SKF_ECCSignData"))
    }
}

impl Backend for Skf {
    fn name(&self) -> &'static str {
        "skf"
    }

    fn words(&self) -> String {
        let at = "--device-name EMU-1 --application TAX --container KEY-1";
        format!("--backend skf {at} {}", self.0.module())
    }

    fn strike(&mut self, event: Event, house: &House) {
        self.0.strike(event, house);
    }

    fn has_struck(&self, event: Event, _: &House) -> bool {
        self.0.has_struck(event)
    }

    fn well(&mut self) {
        self.0.control("");
    }
}
