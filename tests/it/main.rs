//! Integration tests: the real parts over real sockets. One binary, a module for each part.

mod listener;
