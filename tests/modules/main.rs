//! Foreign modules in this process, over emulated libraries. One binary, a module for each part;
//! `cfg(test)` tells clippy that helpers may unwrap too.

#[cfg(test)]
mod emulator;
#[cfg(test)]
#[path = "../emulators/library.rs"]
mod library;
#[cfg(test)]
mod load;
#[cfg(test)]
mod sdf;
#[cfg(test)]
mod skf;
#[cfg(test)]
mod vectors;
