//! Sidecars as the daemon uses them: the real process, SoftHSM2 as the token, and a module in front
//! of it that crashes, hangs and leaks on order. `cfg(test)` tells clippy that helpers may unwrap
//! too.

#[cfg(test)]
mod confined;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod pin;
#[cfg(test)]
mod pins;
#[cfg(test)]
mod recovery;
#[cfg(test)]
#[path = "../emulators/softhsm.rs"]
mod softhsm;
#[cfg(test)]
mod token;
