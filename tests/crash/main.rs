//! Crash tests with an independent checker: the client's own ledger, then `verify`. One binary; the
//! process that is crashed is this binary again, see `worker`. `cfg(test)` tells clippy that
//! helpers may unwrap too.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod checker;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod fault;
#[cfg(test)]
#[path = "../faults/mod.rs"]
pub mod faults;
#[cfg(test)]
mod full;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod outbox;
#[cfg(test)]
mod power;
#[cfg(test)]
mod worker;
#[cfg(test)]
mod world;
