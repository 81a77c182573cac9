//! A simulated device that draws code, number and time itself: foreign hardware for tests and
//! drills, with a menu of faults. Its state is its own and outlives the proxy; nothing of it is the
//! proxy's book.
//!
//! Invariant: a serial is issued at most once, and what was issued is on disk before it is
//! answered.

mod device;
mod faults;
mod log;

pub use device::{Segment, SimulatedConfig, SimulatedDevice};
pub use faults::{Fault, Faults, RandomFaults};

#[cfg(test)]
mod tests;
