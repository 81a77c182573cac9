//! 7  Delivery: outbox → acceptance → receipt → write-back, and what the acceptance says of limits.

mod backoff;
pub mod package;
pub mod receipt;
pub mod reconcile;
mod refresh;
mod upload;
pub mod upstream;
pub mod worker;
mod write_back;

use crate::{
    model::BatchNo, refusal::Refusal, registry::Route, signer::SignerError, store::Notice,
};
use std::time::Duration;
use upstream::{RouteError, UpstreamError};

/// How batches are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Items of one batch.
    pub batch_max: usize,
    /// How often the outbox is looked at.
    pub interval: Duration,
    /// Batches of one province on the wire at a time.
    pub in_flight: usize,
    /// How often monitor data is asked for.
    pub monitor_every: Duration,
}

/// Why something stays undelivered for now.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// Nobody knows where the province's invoices go.
    #[error("province {province} has no route; add one with `skproxy route add`")]
    NoRoute {
        /// The province.
        province: String,
    },
    /// The route is set up wrongly.
    #[error("the route's settings cannot be used")]
    Route(#[source] RouteError),
    /// The acceptance.
    #[error("hand a batch in")]
    Upstream(#[source] UpstreamError),
    /// The books.
    #[error("store what the acceptance said")]
    Store(#[source] Refusal),
    /// A device.
    #[error("ask the device")]
    Device(#[source] SignerError),
    /// The books contradict themselves.
    #[error("batch {batch} tells of {notice}, which has not happened")]
    NotMade {
        /// The batch.
        batch: BatchNo,
        /// What it tells.
        notice: Notice,
    },
}

impl DeliveryError {
    /// Whether it concerns one batch, rather than its route or the books.
    fn is_about_the_batch(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_about_the_batch(),
            Self::NotMade { .. } => true,
            Self::NoRoute { .. } | Self::Route(_) | Self::Store(_) | Self::Device(_) => false,
        }
    }
}

/// Whether a route could be used: address, server name and receipt key.
///
/// # Errors
/// What is wrong with it.
pub fn check_route(route: &Route) -> Result<(), String> {
    let port = route.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        return Err("address: `host:port` is needed".into());
    }
    if rustls::pki_types::ServerName::try_from(route.server_name.as_str()).is_err() {
        return Err("server_name: a DNS name or an address is needed".into());
    }
    if receipt::ReceiptKey::parse(&route.receipt_key).is_none() {
        return Err("receipt_key: a P-256 SubjectPublicKeyInfo (DER) is needed".into());
    }
    Ok(())
}
