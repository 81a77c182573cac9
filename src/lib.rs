//! skproxy: a security proxy for VAT tax-control servers (税控服务器安全代理).
//!
//! The map, in the order in which a request meets the parts; ARCHITECTURE.md tells the story.

/// The operators' service and the commands that call it.
pub mod admin;
/// 4  Load and rate: may only say "later".
pub mod admission;
/// The acceptance simulator: a server of its own.
pub mod authority;
/// The commands.
pub mod cli;
/// 3  Wire message → checked draft; pure rules, profiles.
pub mod contract;
/// The composition root: builds, runs and drains the daemon.
pub mod daemon;
/// 7  Outbox → acceptance → receipt.
pub mod delivery;
/// Books, numbering and signers together, without ports.
pub mod engine;
/// 2  Peer certificate → platform.
pub mod identity;
/// The second edge: legacy XML ↔ the same domain types.
pub mod legacy;
/// 1  Connections, TLS, limits, wire ↔ domain.
pub mod listener;
/// 5  The actor that owns every number; finisher; recovery.
pub mod numbering;
/// One kind of request each, top to bottom.
pub mod pipeline;
/// Platforms, taxpayers, bindings, devices as data.
pub mod registry;
/// What was issued and voided, from the journal's rows; the meter beside it.
pub mod report;
/// 6  Durable claim → signature.
pub mod signer;
/// The simulator of a networked tax-control server: a server of its own.
pub mod skserver_sim;
/// Refusal → gRPC status; the only file that makes one for callers.
pub mod status;
/// The books; the only maker of `Durable`.
pub mod store;

pub mod clock;
pub mod config;
pub mod convert;
pub mod gbk;
pub mod health;
pub mod metrics;
pub mod model;
pub mod package;
pub mod pb;
pub mod refusal;
pub mod resume;
pub mod secret;
pub mod tasks;
pub mod transport;
pub mod xml;
