//! PIN records for tests: in memory, and in a file that outlives the daemon.

use skproxy::{
    convert,
    secret::Secret,
    signer::{PinAttempt, PinRecords, PinResult},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    sync::Mutex,
};

/// Refuses a token whose last result was not good, until it is unlocked.
#[derive(Debug, Default)]
pub(crate) struct MemoryPins(Mutex<BTreeMap<String, String>>);

impl MemoryPins {
    pub(crate) fn states(&self) -> Vec<String> {
        self.0.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn unlock(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl PinRecords for MemoryPins {
    fn begin(&self, token: &str, pin: &Secret<String>) -> Result<PinAttempt, String> {
        let mut records = self.0.lock().unwrap();
        if let Some(state) = records.get(token).filter(|state| *state != "Good") {
            return Err(format!("the last result is {state}; run: skproxy device unlock"));
        }
        records.insert(token.to_owned(), "PENDING".to_owned());
        Ok(PinAttempt { token: token.to_owned(), digest: convert::sha256(pin.expose().as_bytes()) })
    }

    fn end(&self, attempt: PinAttempt, result: PinResult) -> Result<(), String> {
        self.0.lock().unwrap().insert(attempt.token, format!("{result:?}"));
        Ok(())
    }
}

/// The same, in a file that is synced before anything is presented.
#[derive(Debug)]
pub(crate) struct FilePins {
    path: PathBuf,
    memory: MemoryPins,
}

impl FilePins {
    pub(crate) fn open(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        let records = lines.map(|(token, state)| (token.to_owned(), state.to_owned())).collect();
        Self { path, memory: MemoryPins(Mutex::new(records)) }
    }

    pub(crate) fn states(&self) -> Vec<String> {
        self.memory.states()
    }

    pub(crate) fn unlock(&self) {
        self.memory.unlock();
        self.keep();
    }

    fn keep(&self) {
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh).unwrap();
        for (token, state) in &*self.memory.0.lock().unwrap() {
            writeln!(file, "{token}\t{state}").unwrap();
        }
        file.sync_all().unwrap();
        fs::rename(fresh, &self.path).unwrap();
    }
}

impl PinRecords for FilePins {
    fn begin(&self, token: &str, pin: &Secret<String>) -> Result<PinAttempt, String> {
        let attempt = self.memory.begin(token, pin)?;
        self.keep();
        Ok(attempt)
    }

    fn end(&self, attempt: PinAttempt, result: PinResult) -> Result<(), String> {
        self.memory.end(attempt, result)?;
        self.keep();
        Ok(())
    }
}
