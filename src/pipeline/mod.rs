//! One kind of request each, top to bottom; every step needs what the step above returned.

mod answer;
mod api;
mod calls;
mod cursor;
mod device;
mod issue;
mod list;
mod monitor;
mod query;
mod red;
mod stock;
mod summary;
mod target;
mod validate;
mod void;
mod voided;

pub use api::{Peer, PlatformApi};
pub use list::InvoicePage;

use crate::{
    admission::Admission,
    clock::Clock,
    contract::{Profile, Profiles},
    identity::{self, PeerCertificate},
    numbering::Numbering,
    refusal::{Reason, Refusal},
    registry::{Device, Platform, Registry},
};
use std::sync::Arc;

/// What every request passes through.
#[derive(Debug)]
pub struct Pipeline {
    /// Who owns the numbers.
    pub numbering: Numbering,
    /// Rules by profile.
    pub profiles: Profiles,
    /// Load.
    pub admission: Admission,
    /// Time.
    pub clock: Clock,
}

impl Pipeline {
    /// Who asks.
    fn platform(
        &self,
        registry: &Registry,
        peer: Option<&PeerCertificate>,
    ) -> Result<Arc<Platform>, Refusal> {
        identity::platform(registry, peer, self.clock.now())
    }

    /// The rules that a device's invoices are checked against.
    fn profile(&self, device: &Device) -> Result<&Profile, Refusal> {
        self.profiles.get(&device.profile).ok_or_else(|| {
            let hint = format!("the device's profile {:?} does not exist", device.profile);
            Refusal::new(Reason::DeviceUnavailable, hint)
        })
    }
}
