//! One conformance suite that every signing backend passes, through the whole product: an operator
//! adds the device, platforms issue over mutual TLS, the authority verifies. A backend that is not
//! here does not exist. `cfg(test)` tells clippy that helpers may unwrap too.

#[cfg(test)]
mod authority;
#[cfg(test)]
mod backends;
#[cfg(test)]
mod house;
#[cfg(test)]
#[path = "../emulators/library.rs"]
mod library;
#[cfg(test)]
mod menu;
#[cfg(test)]
mod process;
#[cfg(test)]
#[path = "../emulators/softhsm.rs"]
mod softhsm;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod suite;
