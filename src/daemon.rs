//! Composition root: build, run, drain.
