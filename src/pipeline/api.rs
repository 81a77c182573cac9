//! What the edges need of the pipeline: both call the same requests, and know nothing behind them.

use crate::{identity::PeerCertificate, pb::v1 as pb, refusal::Refusal};
use std::time::Duration;

/// What the listener needs of the pipeline. A panic inside is answered INTERNAL; after a claim the
/// pipeline itself answers IN_DOUBT.
#[tonic::async_trait]
pub trait PlatformApi: Send + Sync + 'static {
    /// Issues one invoice, or says IN_DOUBT when `deadline` has passed.
    async fn issue(
        &self,
        peer: Option<PeerCertificate>,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::Outcome, Refusal>;

    /// Says what is known of a serial.
    async fn query(
        &self,
        peer: Option<PeerCertificate>,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal>;

    /// Says what became of a serial, and closes an unused one.
    async fn resolve(
        &self,
        peer: Option<PeerCertificate>,
        deadline: Duration,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal>;

    /// Says what of a blue invoice may still be reversed.
    async fn check_red(
        &self,
        peer: Option<PeerCertificate>,
        asked: pb::CheckRedRequest,
    ) -> Result<pb::CheckRedResponse, Refusal>;

    /// Says who the caller is.
    async fn describe_self(
        &self,
        peer: Option<PeerCertificate>,
    ) -> Result<pb::GetSelfResponse, Refusal>;
}
