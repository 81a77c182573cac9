//! The operators' service and the commands that call it.
