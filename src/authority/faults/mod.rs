//! The faults that wait to strike, shared between the service, the simulator's controls and tests.
//! A call meets at most one of each phase, the first that fits, so that a test can say "the next
//! answer is lost" and then watch the recovery.

mod menu;

pub use menu::{Fault, Operation, Strike, menu, operations};
pub(super) use menu::{Phase, duration, skew};

use menu::Count;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tonic::Code;

/// Faults that may wait; more are refused.
const WAITING_MAX: usize = 10_000;

/// What calls that are held wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Release {
    /// Nothing yet.
    #[default]
    Held,
    /// The faults were cleared.
    Cleared,
    /// The simulator stops.
    Stopped,
}

/// The faults that wait. None at first.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: Mutex<VecDeque<Strike>>,
    release: watch::Sender<Release>,
}

impl Faults {
    /// Adds a fault after those that wait; `text` as `skproxy authority-sim --help` lists them.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn add(&self, text: &str) -> Result<(), String> {
        self.extend([text.parse()?])
    }

    /// Adds faults after those that wait; all or none.
    ///
    /// # Errors
    /// When too many would wait.
    pub fn extend(&self, strikes: impl IntoIterator<Item = Strike>) -> Result<(), String> {
        let strikes: Vec<_> = strikes.into_iter().collect();
        let mut waiting = self.lock();
        if waiting.len().saturating_add(strikes.len()) > WAITING_MAX {
            return Err(format!("more than {WAITING_MAX} faults would wait"));
        }
        waiting.extend(strikes);
        Ok(())
    }

    /// The faults that wait, in order, what has struck taken off.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.lock().iter().map(ToString::to_string).collect()
    }

    /// Forgets the faults that wait, lets frozen calls go on and fails those that were held without
    /// an answer.
    pub fn clear(&self) {
        self.lock().clear();
        self.release.send_replace(Release::Cleared);
    }

    /// The next `calls` calls are refused with UNAVAILABLE before anything is done.
    pub fn refuse(&self, calls: u32) {
        self.set(Fault::ErrorBefore(Code::Unavailable), calls);
    }

    /// The next `calls` answers are lost after their work is stored; the caller hears UNAVAILABLE.
    pub fn lose_answers(&self, calls: u32) {
        self.set(Fault::LoseAnswer, calls);
    }

    /// The next `calls` receipts go out with a signature that does not verify. What is stored is
    /// right.
    pub fn sign_wrongly(&self, calls: u32) {
        self.set(Fault::WrongSignature, calls);
    }

    /// Every call waits this long first, until it is set to zero. Whole milliseconds.
    pub fn delay(&self, delay: Duration) {
        let mut waiting = self.lock();
        waiting.retain(|strike| !matches!(strike.fault, Fault::Delay(_)));
        if !delay.is_zero() {
            let (operation, fault) = (None, Fault::Delay(delay));
            waiting.push_back(Strike { operation, fault, count: Count::Always });
        }
    }

    /// Puts `fault` on for so many calls, in place of what was on of it.
    fn set(&self, fault: Fault, calls: u32) {
        let mut waiting = self.lock();
        waiting.retain(|strike| strike.fault != fault || strike.operation.is_some());
        if calls > 0 {
            waiting.push_back(Strike { operation: None, fault, count: Count::Times(calls) });
        }
    }

    /// Takes the first fault of a phase that fits an operation and, for what only the caller knows,
    /// `applies`.
    pub(super) fn take(
        &self,
        operation: Operation,
        phase: Phase,
        applies: impl Fn(&Fault) -> bool,
    ) -> Option<Fault> {
        let mut waiting = self.lock();
        let strikes = |strike: &Strike| {
            strike.fault.phase() == phase && strike.fits(operation) && applies(&strike.fault)
        };
        let at = waiting.iter().position(strikes)?;
        let strike = waiting.get_mut(at)?;
        let fault = strike.fault.clone();
        match &mut strike.count {
            Count::Always => {}
            Count::Times(times) if *times > 1 => *times -= 1,
            Count::Times(_) => drop(waiting.remove(at)),
        }
        Some(fault)
    }

    /// What a call that is held from now on waits for.
    pub(super) fn hold(&self) -> Hold {
        Hold(self.release.subscribe())
    }

    /// Ends the holding of calls, for good.
    pub(super) fn stop(&self) {
        self.lock().clear();
        self.release.send_replace(Release::Stopped);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Strike>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place to wait; taken before the fault is, so that no release is missed.
#[derive(Debug)]
pub(super) struct Hold(watch::Receiver<Release>);

impl Hold {
    /// Waits until the faults are cleared or the simulator stops.
    pub(super) async fn released(mut self) -> Release {
        match self.0.changed().await {
            Ok(()) => *self.0.borrow(),
            // The menu is gone, and the service with it.
            Err(_) => Release::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(faults: &Faults, operation: Operation, phase: Phase) -> Option<String> {
        faults.take(operation, phase, |_| true).map(|fault| fault.to_string())
    }

    #[test]
    fn a_fault_strikes_as_often_as_asked_and_then_no_more() {
        let faults = Faults::default();
        let next = || take(&faults, Operation::ListHeld, Phase::Arrival).is_some();
        assert!(!next());
        faults.refuse(2);
        assert_eq!([(); 3].map(|()| next()), [true, true, false]);
        faults.refuse(5);
        faults.refuse(0);
        assert!(!next());
        faults.add("busy*always").unwrap();
        assert_eq!([(); 3].map(|()| next()), [true; 3]);
        faults.clear();
        assert!(!next());
    }

    #[test]
    fn each_call_meets_the_first_fault_that_fits_it_in_each_phase() {
        let faults = Faults::default();
        for text in ["GetMonitor/busy", "error-before", "drop-answer*2", "lose-answer", "reject=9"]
        {
            faults.add(text).unwrap();
        }
        let submit = Operation::SubmitBatch;
        assert_eq!(take(&faults, submit, Phase::Arrival).unwrap(), "error-before=INTERNAL");
        assert_eq!(take(&faults, submit, Phase::Arrival), None);
        assert_eq!(take(&faults, submit, Phase::Departure).unwrap(), "drop-answer");
        assert_eq!(take(&faults, Operation::GetSummary, Phase::Judging), None);
        assert_eq!(faults.take(submit, Phase::Judging, |_| false), None);
        assert_eq!(faults.list(), ["GetMonitor/busy", "drop-answer", "lose-answer", "reject=9"]);
        assert_eq!(take(&faults, Operation::GetMonitor, Phase::Arrival).unwrap(), "busy");
    }

    #[test]
    fn a_delay_is_replaced_and_too_many_faults_are_refused() {
        let faults = Faults::default();
        faults.delay(Duration::from_millis(5));
        faults.delay(Duration::from_millis(7));
        assert_eq!(faults.list(), ["delay=7ms*always"]);
        faults.delay(Duration::ZERO);
        assert!(faults.list().is_empty());
        let many = vec!["busy".parse::<Strike>().unwrap(); WAITING_MAX];
        faults.extend(many).unwrap();
        assert!(faults.add("busy").is_err());
    }

    #[tokio::test]
    async fn whoever_is_held_goes_on_when_the_faults_are_cleared() {
        let faults = Faults::default();
        faults.clear();
        let hold = faults.hold();
        faults.clear();
        assert_eq!(hold.released().await, Release::Cleared);
        let hold = faults.hold();
        faults.stop();
        assert_eq!(hold.released().await, Release::Stopped);
    }
}
