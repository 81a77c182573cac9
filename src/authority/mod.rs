//! The acceptance simulator (受理端模拟器): a server of its own, never imported by a stage.
