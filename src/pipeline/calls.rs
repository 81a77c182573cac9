//! The pipeline as the edges see it: every call goes to the file of its kind.

use super::{InvoicePage, Peer, Pipeline, PlatformApi};
use crate::{model::InvoiceNumber, pb::v1 as pb, refusal::Refusal};
use std::time::Duration;
#[tonic::async_trait]
impl PlatformApi for Pipeline {
    async fn issue(
        &self,
        peer: Peer,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::Outcome, Refusal> {
        self.issue_invoice(peer.as_ref(), deadline, draft).await
    }

    async fn validate(
        &self,
        peer: Peer,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::ValidateInvoiceResponse, Refusal> {
        self.validate_invoice(peer.as_ref(), deadline, draft).await
    }

    async fn query(
        &self,
        peer: Peer,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal> {
        self.get_invoice(peer.as_ref(), (&taxpayer_id, &serial))
    }

    async fn query_number(
        &self,
        peer: Peer,
        taxpayer_id: String,
        number: InvoiceNumber,
    ) -> Result<pb::Outcome, Refusal> {
        self.get_numbered(peer.as_ref(), &taxpayer_id, number).await
    }

    async fn resolve(
        &self,
        peer: Peer,
        deadline: Duration,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal> {
        self.resolve_invoice(peer.as_ref(), deadline, (&taxpayer_id, &serial)).await
    }

    async fn check_red(
        &self,
        peer: Peer,
        asked: pb::CheckRedRequest,
    ) -> Result<pb::CheckRedResponse, Refusal> {
        self.check_red_letter(peer.as_ref(), &asked)
    }

    async fn list(
        &self,
        peer: Peer,
        deadline: Duration,
        request: &pb::ListInvoicesRequest,
    ) -> Result<InvoicePage, Refusal> {
        self.list_invoices(peer.as_ref(), deadline, request).await
    }

    async fn void(
        &self,
        peer: Peer,
        deadline: Duration,
        request: pb::VoidInvoiceRequest,
    ) -> Result<pb::VoidInvoiceResponse, Refusal> {
        self.void_invoice(peer.as_ref(), deadline, &request).await
    }

    async fn describe_device(
        &self,
        peer: Peer,
        device_id: String,
    ) -> Result<pb::DescribeDeviceResponse, Refusal> {
        self.device(peer.as_ref(), &device_id)
    }

    async fn monitor(
        &self,
        peer: Peer,
        request: pb::GetMonitorRequest,
    ) -> Result<pb::GetMonitorResponse, Refusal> {
        self.device_monitor(peer.as_ref(), &request)
    }

    async fn rates(&self, peer: Peer, device_id: String) -> Result<pb::ListRatesResponse, Refusal> {
        self.device_rates(peer.as_ref(), &device_id)
    }

    async fn stock(
        &self,
        peer: Peer,
        request: pb::GetStockRequest,
    ) -> Result<pb::GetStockResponse, Refusal> {
        self.device_stock(peer.as_ref(), &request).await
    }

    async fn summary(
        &self,
        peer: Peer,
        deadline: Duration,
        request: pb::GetSummaryRequest,
    ) -> Result<pb::GetSummaryResponse, Refusal> {
        self.own_summary(peer.as_ref(), deadline, &request).await
    }

    async fn describe_self(&self, peer: Peer) -> Result<pb::GetSelfResponse, Refusal> {
        self.get_self(peer.as_ref())
    }
}
