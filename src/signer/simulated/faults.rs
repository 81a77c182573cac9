//! The fault menu of a simulated device: a script that tests write through a shared handle, and
//! seeded random faults for long runs. It only says which fault is next; the device acts it out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What goes wrong with one request to issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The device issues; the answer is lost.
    LoseAnswerAfterIssuing,
    /// The request is lost; the device issues nothing.
    LoseRequest,
    /// The answer is lost, and the device issues only this much later (at its next call after
    /// that). Shorter than the quiescence time, or the device is not an honest one.
    IssueLate(Duration),
    /// The device takes this long. The calling thread is blocked.
    Delay(Duration),
    /// The device refuses and issues nothing.
    Refuse,
    /// The device issues; the answer names another serial.
    WrongSerial,
    /// The device issues; the answer's total is one fen more.
    WrongTotals,
    /// The device issues; the CRC of the answer's two-dimensional code is wrong.
    WrongQr,
    /// The device issues a number outside its segments.
    NumberOutOfSegment,
    /// The device issues; the answer to the request before this one comes again instead.
    AnswerTwice,
    /// The device first issues a number to somebody else.
    IssuedByAnother,
}

/// Random faults that honest hardware has: lost requests and answers, late and slow ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomFaults {
    /// The same seed gives the same faults.
    pub seed: u64,
    /// How many of 1000 requests go wrong, 0 to 1000.
    pub per_mille: u16,
}

/// The handle that a device and its test share. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Fault>,
    random: Option<RandomFaults>,
    is_absent: bool,
}

/// How late and how slow a random fault is: enough to be overtaken, little enough for long runs.
const RANDOM_DELAY: Duration = Duration::from_millis(20);

impl Faults {
    /// Faults at random wherever the script has none.
    #[must_use]
    pub fn at_random(random: RandomFaults) -> Self {
        let state = State { random: Some(random), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Adds a fault for the request after those that have one already.
    pub fn push(&self, fault: Fault) {
        self.lock().script.push_back(fault);
    }

    /// Forgets the faults that were added and have met no request.
    pub fn clear(&self) {
        self.lock().script.clear();
    }

    /// Faults that were added and have met no request.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.lock().script.len()
    }

    /// Pulls the device out: every call fails, and nothing reaches it.
    pub fn disconnect(&self) {
        self.lock().is_absent = true;
    }

    /// Plugs the device in again.
    pub fn reconnect(&self) {
        self.lock().is_absent = false;
    }

    pub(super) fn is_absent(&self) -> bool {
        self.lock().is_absent
    }

    /// The fault of the next request; `None` when it goes well.
    pub(super) fn next(&self) -> Option<Fault> {
        let mut state = self.lock();
        let scripted = state.script.pop_front();
        scripted.or_else(|| state.random.as_mut().and_then(RandomFaults::draw))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RandomFaults {
    fn draw(&mut self) -> Option<Fault> {
        if self.random() % 1000 >= u64::from(self.per_mille) {
            return None;
        }
        Some(match self.random() % 4 {
            0 => Fault::LoseAnswerAfterIssuing,
            1 => Fault::LoseRequest,
            2 => Fault::IssueLate(RANDOM_DELAY),
            _ => Fault::Delay(RANDOM_DELAY),
        })
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): reproducible, and good enough to choose faults.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
