//! The sidecars of a daemon: one process for each module and token, started when it is needed,
//! logged in once, restarted with backoff after it has ended.
//!
//! Invariant: while a process of a token lives, no other one is started, and a PIN is presented
//! only under a durable record, once in the life of a process.

use super::{
    life::{CallError, Counters, Life},
    module::{Class, FoundKey, Tries},
    pin_file,
    sessions::{BoundKey, SidecarSessions, Trouble},
    spec::{HardwareSpec, ModuleSpec, Standard},
    wire::{Answer, Ask, Load, LogIn, Nothing},
};
use crate::{
    clock,
    secret::Secret,
    signer::{PinRecords, PinResult, SignerError},
};
use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

/// First pause before a restart; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest pause before a restart.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A process that lived so long was healthy: the pause starts from the least again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// How long an end is waited for, so that its reason can be told and its lock is free.
const REAP_LIMIT: Duration = Duration::from_secs(1);

/// With so few tries or fewer a PIN is not presented. Source: docs/domain.md 4.4.
const TRIES_TOO_FEW: u32 = 2;

/// The running binary, also after an upgrade has replaced its file.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Every sidecar of a daemon.
pub struct Sidecars {
    program: PathBuf,
    pins: Arc<dyn PinRecords>,
    counters: HashMap<Standard, Arc<Counters>>,
    supervisors: Mutex<HashMap<ModuleSpec, Weak<Supervisor>>>,
}

impl fmt::Debug for Sidecars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sidecars").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Sidecars {
    /// No sidecar yet. `pins` is asked before each login.
    #[must_use]
    pub fn new(pins: Arc<dyn PinRecords>) -> Self {
        Self::with_program(THIS_PROGRAM.into(), pins)
    }

    /// The same, with another binary that knows `skproxy sidecar`; for tests, whose own binary does
    /// not.
    #[must_use]
    pub fn with_program(program: PathBuf, pins: Arc<dyn PinRecords>) -> Self {
        Counters::describe();
        let counters =
            Standard::ALL.map(|standard| (standard, Arc::new(Counters::new(standard)))).into();
        Self { program, pins, counters, supervisors: Mutex::default() }
    }

    /// What opens sessions of a device with a registered key. Starts nothing yet.
    ///
    /// # Errors
    /// `Refused` when another device uses the same token with other settings.
    pub fn sessions(
        &self,
        device_id: &str,
        spec: &HardwareSpec,
        key: BoundKey,
    ) -> Result<SidecarSessions, SignerError> {
        let supervisor = self.supervisor(spec).map_err(|trouble| trouble.of(device_id))?;
        Ok(SidecarSessions::new(supervisor, device_id, key))
    }

    /// Finds the key that a device is to be bound to: loads the module, logs in, looks.
    ///
    /// # Errors
    /// Any but `AnswerInvalid`; of the PIN's kinds too, since it logs in.
    pub fn bind(
        &self,
        device_id: &str,
        spec: &HardwareSpec,
        label: &str,
    ) -> Result<FoundKey, SignerError> {
        let found = self.supervisor(spec).and_then(|supervisor| {
            let life = supervisor.ready()?;
            supervisor.find_key(&life, label)
        });
        found.map_err(|trouble| trouble.of(device_id))
    }

    fn supervisor(&self, spec: &HardwareSpec) -> Result<Arc<Supervisor>, Trouble> {
        let mut supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = supervisors.get(&spec.module).and_then(Weak::upgrade) {
            if known.spec == *spec {
                return Ok(known);
            }
            let detail = "another device uses this token with another PIN file, limit or deadline; \
                          give both the same";
            return Err(Trouble::new(Class::Permanent, detail));
        }
        supervisors.retain(|_, supervisor| supervisor.strong_count() > 0);
        let supervisor = Arc::new(Supervisor {
            spec: spec.clone(),
            program: self.program.clone(),
            pins: Arc::clone(&self.pins),
            counters: Arc::clone(&self.counters[&spec.module.token.standard()]),
            state: Mutex::default(),
        });
        supervisors.insert(spec.module.clone(), Arc::downgrade(&supervisor));
        Ok(supervisor)
    }
}

/// Keeps the process of one token running while somebody needs it.
pub(super) struct Supervisor {
    spec: HardwareSpec,
    program: PathBuf,
    pins: Arc<dyn PinRecords>,
    counters: Arc<Counters>,
    /// Held during a start: there is one login at a time, and who comes meanwhile waits for it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    life: Option<(Arc<Life>, Instant)>,
    starts: u64,
    /// Ends in a row without a healthy life.
    ends: u32,
    /// No start before this, and why the last life ended.
    pause: Option<(Instant, String)>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("module", &self.spec.module).finish_non_exhaustive()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((life, _)) = state.life.take() {
            life.leave();
        }
    }
}

impl Supervisor {
    pub(super) fn spec(&self) -> &HardwareSpec {
        &self.spec
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A process that is loaded and logged in.
    ///
    /// # Errors
    /// Of class `Transient` while a restart waits for its time or its lock; else what the module or
    /// its PIN says.
    pub(super) fn ready(&self) -> Result<Arc<Life>, Trouble> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((life, since)) = state.life.take() {
            match life.ended() {
                None => {
                    let ready = Arc::clone(&life);
                    state.life = Some((life, since));
                    return Ok(ready);
                }
                Some(end) => {
                    life.gone(REAP_LIMIT);
                    state.pause_after(end.at.saturating_duration_since(since), end.at, end.why);
                }
            }
        }
        if let Some((until, why)) = &state.pause {
            let rest = until.saturating_duration_since(clock::monotonic());
            if !rest.is_zero() {
                let rest = rest.as_millis();
                let detail = format!("its sidecar is started again in {rest} ms; it ended: {why}");
                return Err(Trouble::new(Class::Transient, &detail));
            }
        }
        let since = clock::monotonic();
        let started = self.start(&mut state);
        match started {
            Ok(life) => {
                state.life = Some((Arc::clone(&life), since));
                Ok(life)
            }
            Err(trouble) => {
                state.pause_after(Duration::ZERO, clock::monotonic(), trouble.detail.clone());
                Err(trouble)
            }
        }
    }

    fn start(&self, state: &mut State) -> Result<Arc<Life>, Trouble> {
        if state.starts > 0 {
            self.counters.restarts.increment(1);
        }
        state.starts = state.starts.saturating_add(1);
        let life = Life::start(&self.program, &self.spec, Arc::clone(&self.counters));
        let life = life.map_err(|error| {
            Trouble::new(Class::Transient, &format!("start its sidecar: {error}"))
        })?;
        match self.prepare(&life) {
            Ok(()) => {
                let module = self.spec.module.module.display();
                tracing::info!(process = life.process(), %module, "a sidecar process is ready");
                Ok(life)
            }
            Err(trouble) => {
                // A library whose load or login failed is in a state that nobody knows.
                life.end(&trouble.detail);
                life.gone(REAP_LIMIT);
                Err(trouble)
            }
        }
    }

    fn prepare(&self, life: &Life) -> Result<(), Trouble> {
        match self.ask(life, Ask::Load(Load::new(&self.spec.module)))? {
            Answer::Loaded(token) => tracing::info!(token, "a token is found"),
            _ => return Err(life.nonsense().into()),
        }
        let Some(path) = &self.spec.pin_file else { return Ok(()) };
        let tries = match self.ask(life, Ask::Tries(Nothing {}))? {
            Answer::Tries(tries) => tries.into(),
            _ => return Err(life.nonsense().into()),
        };
        may_present(tries)?;
        let pin = pin_file::read(path)
            .map_err(|error| Trouble::new(Class::Permanent, &error.to_string()))?;
        self.log_in(life, &pin)
    }

    fn log_in(&self, life: &Life, pin: &Secret<String>) -> Result<(), Trouble> {
        let refused = |why: String| Trouble::new(Class::Pin, &why);
        let attempt = self.pins.begin(&self.spec.module.record_name(), pin).map_err(refused)?;
        let asked = self.ask(life, Ask::LogIn(LogIn { pin: pin.expose().clone() }));
        let (result, answer) = match asked {
            Ok(Answer::LoggedIn(_)) => (PinResult::Good, Ok(())),
            Ok(_) => (PinResult::Unknown, Err(life.nonsense().into())),
            Err(trouble) if trouble.class == Class::Pin => (PinResult::Bad, Err(trouble)),
            Err(trouble) => (PinResult::Unknown, Err(trouble)),
        };
        // A result that is not durable bars the token, so a session must not outlive it.
        self.pins.end(attempt, result).map_err(refused)?;
        answer
    }

    /// Finds a key by its label.
    ///
    /// # Errors
    /// What the module says; of class `Transient` when that ended the process.
    pub(super) fn find_key(&self, life: &Life, label: &str) -> Result<FoundKey, Trouble> {
        match self.ask_of_a_ready(life, Ask::FindKey(label.to_owned()))? {
            Answer::Found(found) => Ok(found.into()),
            _ => Err(life.nonsense().into()),
        }
    }

    /// Opens a session and gives its handle, which is good in this life only.
    ///
    /// # Errors
    /// What the module says; of class `Transient` when that ended the process.
    pub(super) fn open_session(&self, life: &Life, label: &str) -> Result<u64, Trouble> {
        match self.ask_of_a_ready(life, Ask::OpenSession(label.to_owned()))? {
            Answer::Opened(handle) => Ok(handle),
            _ => Err(life.nonsense().into()),
        }
    }

    fn ask_of_a_ready(&self, life: &Life, ask: Ask) -> Result<Answer, Trouble> {
        match life.call(ask, self.spec.start_deadline) {
            Err(CallError::Module(error)) if life.condemned_by(&error) => {
                Err(Trouble::new(Class::Transient, &error.to_string()))
            }
            answer => Ok(answer?),
        }
    }

    fn ask(&self, life: &Life, ask: Ask) -> Result<Answer, Trouble> {
        Ok(life.call(ask, self.spec.start_deadline)?)
    }
}

impl State {
    fn pause_after(&mut self, lived: Duration, ended_at: Instant, why: String) {
        self.ends = if lived >= HEALTHY_AFTER { 0 } else { self.ends.saturating_add(1) };
        self.pause = Some((ended_at + backoff(self.ends), why));
    }
}

/// The pause after so many ends in a row.
fn backoff(ends: u32) -> Duration {
    let doublings = ends.saturating_sub(1).min(16);
    BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX)
}

/// Whether a PIN may be presented at all. A token without a counter gets one attempt, because a
/// failed one bars it (docs/protocol.md 12).
fn may_present(tries: Tries) -> Result<(), Trouble> {
    let too_few = match tries {
        Tries::Left(left) if left > TRIES_TOO_FEW => return Ok(()),
        Tries::Enough | Tries::Unknown => return Ok(()),
        Tries::Left(left) => format!("{left} tries of its PIN are left"),
        Tries::Low => "its token says that a wrong PIN was presented".to_owned(),
        Tries::Locked => "its PIN is locked".to_owned(),
    };
    let remedy = "nothing was presented; log in once with the vendor's tool, or let the issuer \
                  unlock the token, then unlock the device";
    Err(Trouble::new(Class::Pin, &format!("{too_few}; {remedy}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_start_anew_after_a_healthy_life() {
        let pauses: Vec<_> = (0..=10).map(|ends| backoff(ends).as_millis()).collect();
        assert_eq!(pauses, [100, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
        let mut state = State { ends: 9, ..State::default() };
        let now = clock::monotonic();
        state.pause_after(Duration::from_secs(59), now, String::new());
        assert_eq!(state.ends, 10);
        state.pause_after(HEALTHY_AFTER, now, String::new());
        assert_eq!(state.pause.unwrap().0, now + BACKOFF_MIN);
    }

    #[test]
    fn a_pin_is_presented_only_when_enough_tries_are_left() {
        for (tries, may) in [
            (Tries::Left(3), true),
            (Tries::Left(2), false),
            (Tries::Left(1), false),
            (Tries::Left(0), false),
            (Tries::Enough, true),
            (Tries::Unknown, true),
            (Tries::Low, false),
            (Tries::Locked, false),
        ] {
            let presented = may_present(tries);
            assert_eq!(presented.is_ok(), may, "{tries:?}");
            if let Err(trouble) = presented {
                assert_eq!(trouble.class, Class::Pin, "{tries:?}");
                assert!(trouble.detail.contains("nothing was presented"), "{tries:?}");
            }
        }
    }
}
