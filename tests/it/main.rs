//! Integration tests: the real parts over real sockets. One binary, a module for each part;
//! `cfg(test)` tells clippy that helpers may unwrap too.

#[cfg(test)]
mod airgap;
#[cfg(test)]
mod behind;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod grants;
#[cfg(test)]
mod legacy;
#[cfg(test)]
mod legacy_ca;
#[cfg(test)]
#[path = "../emulators/library.rs"]
mod library;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod listener_life;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod ops;
#[cfg(test)]
mod product;
#[cfg(test)]
mod reds;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod serve;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
#[cfg(test)]
mod voids;
