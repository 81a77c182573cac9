//! 4  Admission: load and rate; may only say "later".
