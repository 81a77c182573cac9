//! 2  Identity: peer certificate → platform.
