//! Process settings: the file as it is, and what it means.
