//! What the edges need of the pipeline: both call the same requests, and know nothing behind them.

use super::InvoicePage;
use crate::{identity::PeerCertificate, model::InvoiceNumber, pb::v1 as pb, refusal::Refusal};
use std::time::Duration;

/// The certificate that a call came with.
pub type Peer = Option<PeerCertificate>;

/// What the listener needs of the pipeline. A panic inside is answered INTERNAL; after a claim the
/// pipeline itself answers IN_DOUBT. Every call looks at the caller's certificate and grants.
#[tonic::async_trait]
pub trait PlatformApi: Send + Sync + 'static {
    /// Issues one invoice, or says IN_DOUBT when `deadline` has passed.
    async fn issue(
        &self,
        peer: Peer,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::Outcome, Refusal>;

    /// Checks an invoice as `issue` would, and spends nothing.
    async fn validate(
        &self,
        peer: Peer,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::ValidateInvoiceResponse, Refusal>;

    /// Says what is known of a serial.
    async fn query(
        &self,
        peer: Peer,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal>;

    /// Says what is known of a number of the caller's.
    async fn query_number(
        &self,
        peer: Peer,
        taxpayer_id: String,
        number: InvoiceNumber,
    ) -> Result<pb::Outcome, Refusal>;

    /// Says what became of a serial, and closes an unused one.
    async fn resolve(
        &self,
        peer: Peer,
        deadline: Duration,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal>;

    /// Says what of a blue invoice may still be reversed.
    async fn check_red(
        &self,
        peer: Peer,
        asked: pb::CheckRedRequest,
    ) -> Result<pb::CheckRedResponse, Refusal>;

    /// One page of a list of invoices: the one that follows the request's cursor.
    async fn list(
        &self,
        peer: Peer,
        deadline: Duration,
        request: &pb::ListInvoicesRequest,
    ) -> Result<InvoicePage, Refusal>;

    /// Voids an invoice where the rules allow it.
    async fn void(
        &self,
        peer: Peer,
        deadline: Duration,
        request: pb::VoidInvoiceRequest,
    ) -> Result<pb::VoidInvoiceResponse, Refusal>;

    /// Describes a device of the caller's taxpayers.
    async fn describe_device(
        &self,
        peer: Peer,
        device_id: String,
    ) -> Result<pb::DescribeDeviceResponse, Refusal>;

    /// A device's monitor data.
    async fn monitor(
        &self,
        peer: Peer,
        request: pb::GetMonitorRequest,
    ) -> Result<pb::GetMonitorResponse, Refusal>;

    /// A device's authorised rates.
    async fn rates(&self, peer: Peer, device_id: String) -> Result<pb::ListRatesResponse, Refusal>;

    /// A device's stock of numbers.
    async fn stock(
        &self,
        peer: Peer,
        request: pb::GetStockRequest,
    ) -> Result<pb::GetStockResponse, Refusal>;

    /// Counts and amounts of the caller's own invoices in a window.
    async fn summary(
        &self,
        peer: Peer,
        deadline: Duration,
        request: pb::GetSummaryRequest,
    ) -> Result<pb::GetSummaryResponse, Refusal>;

    /// Says who the caller is.
    async fn describe_self(&self, peer: Peer) -> Result<pb::GetSelfResponse, Refusal>;
}
