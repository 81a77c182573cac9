//! Load client of skproxy.

fn main() {}
