//! Integration tests: the real parts over real sockets. One binary, a module for each part;
//! `cfg(test)` tells clippy that helpers may unwrap too.

#[cfg(test)]
mod listener;
#[cfg(test)]
mod listener_life;
#[cfg(test)]
mod ops;
#[cfg(test)]
mod support;
