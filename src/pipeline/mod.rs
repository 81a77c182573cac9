//! One kind of request each, top to bottom; every step needs what the step above returned.

mod answer;
mod api;
mod issue;
mod query;
mod red;
mod target;

pub use api::PlatformApi;

use crate::{
    admission::Admission,
    clock::Clock,
    contract::Profiles,
    identity::{self, PeerCertificate},
    numbering::Numbering,
    pb::v1 as pb,
    refusal::Refusal,
    registry::{Platform, Registry},
};
use std::{sync::Arc, time::Duration};

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
    fn platform(
        &self,
        registry: &Registry,
        peer: Option<&PeerCertificate>,
    ) -> Result<Arc<Platform>, Refusal> {
        identity::platform(registry, peer, self.clock.now())
    }
}

#[tonic::async_trait]
impl PlatformApi for Pipeline {
    async fn issue(
        &self,
        peer: Option<PeerCertificate>,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::Outcome, Refusal> {
        self.issue_invoice(peer.as_ref(), deadline, draft).await
    }

    async fn query(
        &self,
        peer: Option<PeerCertificate>,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal> {
        self.get_invoice(peer.as_ref(), (&taxpayer_id, &serial))
    }

    async fn resolve(
        &self,
        peer: Option<PeerCertificate>,
        deadline: Duration,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal> {
        self.resolve_invoice(peer.as_ref(), deadline, (&taxpayer_id, &serial)).await
    }

    async fn check_red(
        &self,
        peer: Option<PeerCertificate>,
        asked: pb::CheckRedRequest,
    ) -> Result<pb::CheckRedResponse, Refusal> {
        self.check_red_letter(peer.as_ref(), &asked)
    }

    async fn describe_self(
        &self,
        peer: Option<PeerCertificate>,
    ) -> Result<pb::GetSelfResponse, Refusal> {
        self.get_self(peer.as_ref())
    }
}
