//! The wire's services over `PlatformApi`: takes calls apart, puts answers together, decides
//! nothing. Calls of the contract that are not built answer UNIMPLEMENTED.

use super::{
    call::{CallDeadline, StreamDeadline, Streams},
    streams::{self, Answers, Call},
};
use crate::{
    identity::PeerCertificate,
    metrics::metrics,
    pb::{self, v1},
    pipeline::PlatformApi,
    refusal::{Reason, Refusal},
    status,
};
use std::{sync::Arc, time::Duration};
use tonic::{
    Request, Response, Status, Streaming, async_trait, codec::CompressionEncoding,
    codegen::BoxStream, service::Routes,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use v1::{
    device_service_server as device, invoice_service_server as invoice,
    period_service_server as period, platform_service_server as platform,
    reconciliation_service_server as reconciliation, red_service_server as red,
    stock_service_server as stock,
};

/// Bounds of messages.
#[derive(Debug, Clone, Copy)]
pub struct GrpcSettings {
    /// Longest message taken, decompressed. Unit: bytes. Default 1 MiB; the longest invoice of the
    /// contract has a few hundred KiB.
    pub message_len_max: usize,
}

impl Default for GrpcSettings {
    fn default() -> Self {
        Self { message_len_max: 1024 * 1024 }
    }
}

/// Says through grpc.health.v1 whether we serve. It starts with NOT_SERVING: ready is said
/// explicitly.
#[derive(Debug, Clone)]
pub struct HealthHandle(HealthReporter);

/// The services that health and reflection name. "" is the whole server.
const SERVED: &[&str] = &[
    "",
    "skproxy.v1.InvoiceService",
    "skproxy.v1.DeviceService",
    "skproxy.v1.StockService",
    "skproxy.v1.RedService",
    "skproxy.v1.PeriodService",
    "skproxy.v1.ReconciliationService",
    "skproxy.v1.PlatformService",
];

impl HealthHandle {
    /// Answers SERVING from now on.
    pub async fn serving(&self) {
        self.say(ServingStatus::Serving).await;
    }

    /// Answers NOT_SERVING from now on: before the end of recovery, and from the beginning of
    /// drain.
    pub async fn not_serving(&self) {
        self.say(ServingStatus::NotServing).await;
    }

    async fn say(&self, status: ServingStatus) {
        for service in SERVED {
            self.0.set_service_status(service, status).await;
        }
    }
}

/// The routes of the platform port: all of `skproxy.v1` over `api`, health and reflection.
///
/// # Panics
/// Never: the descriptors are our own build's.
pub async fn routes(api: Arc<dyn PlatformApi>, settings: GrpcSettings) -> (Routes, HealthHandle) {
    let services = Services(api);
    macro_rules! served {
        ($server:path) => {
            <$server>::new(services.clone())
                .max_decoding_message_size(settings.message_len_max)
                // Answers stay plain: packing one costs more than the rest of the call.
                .accept_compressed(CompressionEncoding::Gzip)
        };
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    let handle = HealthHandle(reporter);
    handle.not_serving().await;
    let routes = Routes::new(served!(invoice::InvoiceServiceServer<Services>))
        .add_service(served!(device::DeviceServiceServer<Services>))
        .add_service(served!(stock::StockServiceServer<Services>))
        .add_service(served!(red::RedServiceServer<Services>))
        .add_service(served!(period::PeriodServiceServer<Services>))
        .add_service(served!(reconciliation::ReconciliationServiceServer<Services>))
        .add_service(served!(platform::PlatformServiceServer<Services>))
        .add_service(health)
        .add_service(reflection());
    (routes, handle)
}

fn reflection() -> tonic_reflection::server::v1::ServerReflectionServer<
    impl tonic_reflection::server::v1::ServerReflection,
> {
    let mut builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    // Without names it would list the operators' services too, which this port does not serve.
    for service in SERVED.iter().filter(|service| !service.is_empty()) {
        builder = builder.with_service_name(*service);
    }
    builder.build_v1().expect("our own descriptors are well formed")
}

#[derive(Clone)]
struct Services(Arc<dyn PlatformApi>);

type Answer<T> = Result<Response<T>, Status>;

impl Services {
    /// What a streaming call comes with.
    fn call<T>(&self, request: &Request<T>) -> Result<Call, Refusal> {
        let streams = request.extensions().get::<Streams>().cloned().ok_or_else(|| {
            Refusal::new(Reason::Internal, "the call came without its connection")
        })?;
        let slot = streams.slot()?;
        let until = request.extensions().get().and_then(|StreamDeadline(until)| *until);
        let (api, peer, item_limit) = (Arc::clone(&self.0), peer(request), deadline(request));
        Ok(Call { api, peer, item_limit, until, streams, _slot: slot })
    }
}

fn peer<T>(request: &Request<T>) -> Option<PeerCertificate> {
    request.extensions().get().cloned()
}

/// Zero without one: every call that comes through the listener has one.
fn deadline<T>(request: &Request<T>) -> Duration {
    request.extensions().get().map_or(Duration::ZERO, |CallDeadline(limit)| *limit)
}

fn answer<T, U>(result: Result<T, Refusal>, wrap: impl FnOnce(T) -> U) -> Answer<U> {
    match result {
        Ok(value) => Ok(Response::new(wrap(value))),
        Err(refusal) => {
            metrics().refused.of(refusal.reason.name()).increment(1);
            tracing::debug!(reason = refusal.reason.name(), "refused");
            Err(status::refused(&refusal))
        }
    }
}

#[async_trait]
impl invoice::InvoiceService for Services {
    type IssueInvoiceStreamStream = Answers<v1::IssueInvoiceStreamResponse>;
    type ListInvoicesStream = Answers<v1::ListInvoicesResponse>;
    type WatchDeliveriesStream = BoxStream<v1::WatchDeliveriesResponse>;

    async fn issue_invoice(
        &self,
        request: Request<v1::IssueInvoiceRequest>,
    ) -> Answer<v1::IssueInvoiceResponse> {
        let (peer, deadline) = (peer(&request), deadline(&request));
        let result = self.0.issue(peer, deadline, request.into_inner().draft).await;
        answer(result, |outcome| v1::IssueInvoiceResponse { outcome: Some(outcome) })
    }

    async fn get_invoice(
        &self,
        request: Request<v1::GetInvoiceRequest>,
    ) -> Answer<v1::GetInvoiceResponse> {
        let peer = peer(&request);
        let v1::GetInvoiceRequest { taxpayer_id, serial } = request.into_inner();
        let result = self.0.query(peer, taxpayer_id, serial).await;
        answer(result, |outcome| v1::GetInvoiceResponse { outcome: Some(outcome) })
    }

    async fn resolve_invoice(
        &self,
        request: Request<v1::ResolveInvoiceRequest>,
    ) -> Answer<v1::ResolveInvoiceResponse> {
        let (peer, deadline) = (peer(&request), deadline(&request));
        let v1::ResolveInvoiceRequest { taxpayer_id, serial } = request.into_inner();
        let result = self.0.resolve(peer, deadline, taxpayer_id, serial).await;
        answer(result, |outcome| v1::ResolveInvoiceResponse { outcome: Some(outcome) })
    }

    async fn issue_invoice_stream(
        &self,
        request: Request<Streaming<v1::IssueInvoiceStreamRequest>>,
    ) -> Answer<Self::IssueInvoiceStreamStream> {
        let call = self.call(&request);
        answer(call, |call| streams::issue(call, request.into_inner()))
    }

    async fn validate_invoice(
        &self,
        request: Request<v1::ValidateInvoiceRequest>,
    ) -> Answer<v1::ValidateInvoiceResponse> {
        let (peer, deadline) = (peer(&request), deadline(&request));
        let result = self.0.validate(peer, deadline, request.into_inner().draft).await;
        answer(result, |response| response)
    }

    async fn list_invoices(
        &self,
        request: Request<v1::ListInvoicesRequest>,
    ) -> Answer<Self::ListInvoicesStream> {
        let call = self.call(&request);
        answer(call, |call| streams::list(call, request.into_inner()))
    }

    async fn void_invoice(
        &self,
        request: Request<v1::VoidInvoiceRequest>,
    ) -> Answer<v1::VoidInvoiceResponse> {
        let (peer, deadline) = (peer(&request), deadline(&request));
        let result = self.0.void(peer, deadline, request.into_inner()).await;
        answer(result, |response| response)
    }

    async fn watch_deliveries(
        &self,
        _: Request<v1::WatchDeliveriesRequest>,
    ) -> Answer<Self::WatchDeliveriesStream> {
        Err(status::not_built("WatchDeliveries"))
    }
}

#[async_trait]
impl platform::PlatformService for Services {
    async fn get_self(&self, request: Request<v1::GetSelfRequest>) -> Answer<v1::GetSelfResponse> {
        answer(self.0.describe_self(peer(&request)).await, |response| response)
    }

    async fn get_usage(&self, _: Request<v1::GetUsageRequest>) -> Answer<v1::GetUsageResponse> {
        Err(status::not_built("GetUsage"))
    }
}

#[async_trait]
impl device::DeviceService for Services {
    async fn describe_device(
        &self,
        request: Request<v1::DescribeDeviceRequest>,
    ) -> Answer<v1::DescribeDeviceResponse> {
        let peer = peer(&request);
        let result = self.0.describe_device(peer, request.into_inner().device_id).await;
        answer(result, |response| response)
    }

    async fn get_monitor(
        &self,
        request: Request<v1::GetMonitorRequest>,
    ) -> Answer<v1::GetMonitorResponse> {
        let result = self.0.monitor(peer(&request), request.into_inner()).await;
        answer(result, |response| response)
    }

    async fn list_rates(
        &self,
        request: Request<v1::ListRatesRequest>,
    ) -> Answer<v1::ListRatesResponse> {
        let result = self.0.rates(peer(&request), request.into_inner().device_id).await;
        answer(result, |response| response)
    }
}

#[async_trait]
impl stock::StockService for Services {
    async fn get_stock(
        &self,
        request: Request<v1::GetStockRequest>,
    ) -> Answer<v1::GetStockResponse> {
        let result = self.0.stock(peer(&request), request.into_inner()).await;
        answer(result, |response| response)
    }
}

#[async_trait]
impl red::RedService for Services {
    async fn check_red(
        &self,
        request: Request<v1::CheckRedRequest>,
    ) -> Answer<v1::CheckRedResponse> {
        let peer = peer(&request);
        answer(self.0.check_red(peer, request.into_inner()).await, |response| response)
    }
}

#[async_trait]
impl period::PeriodService for Services {
    async fn get_period(&self, _: Request<v1::GetPeriodRequest>) -> Answer<v1::GetPeriodResponse> {
        Err(status::not_built("GetPeriod"))
    }
}

#[async_trait]
impl reconciliation::ReconciliationService for Services {
    async fn get_summary(
        &self,
        request: Request<v1::GetSummaryRequest>,
    ) -> Answer<v1::GetSummaryResponse> {
        let (peer, deadline) = (peer(&request), deadline(&request));
        answer(self.0.summary(peer, deadline, request.into_inner()).await, |response| response)
    }
}
