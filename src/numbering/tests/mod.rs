//! The actor with its finisher over the embedded store, with real software signers and a simulated
//! device: what callers, operators and a restart see.

mod backups;
mod codes;
mod devices;
mod house;
mod limits;
mod monitor;
mod requests;
mod space;
mod validate;
mod voids;
