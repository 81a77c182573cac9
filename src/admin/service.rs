//! `skproxy.admin.v1` over the core: reads the wire, asks numbering to decide, answers what is
//! durable.

use super::{Parts, access, answers, backup, devices, outbox, report, status};
use crate::{
    contract::gbk_len,
    delivery::worker::Delivery,
    engine::Core,
    identity::PeerCertificate,
    model::{ClaimId, InvoiceNumber, Kind},
    numbering::NewSegment,
    pb::{
        admin::v1::{self as pb, admin_service_server::AdminService},
        v1,
    },
    refusal::Refusal,
    registry::Route,
};
use std::sync::Arc;
use tonic::{Request, Response, Status, async_trait, codegen::BoxStream};

pub(super) type Answer<T> = Result<Response<T>, Status>;

/// The service of one connection: it knows who is on the other side.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) core: Arc<Core>,
    pub(super) delivery: Arc<Delivery>,
    actor: String,
}

impl Service {
    pub(super) fn new(Parts { core, delivery }: Parts, actor: String) -> Self {
        Self { core, delivery, actor }
    }

    /// Lets `decide` take part in a batch; its first argument is who asks.
    pub(super) async fn change<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&str, &mut crate::numbering::Round<'_>) -> Result<R, Refusal>
        + Send
        + 'static,
    ) -> Result<R, Status> {
        let actor = self.actor.clone();
        let changed = self.core.numbering.change(move |round| decide(&actor, round)).await;
        changed.map_err(|refusal| status::refused(&refusal))
    }

    pub(super) fn device(&self, id: &str) -> Result<pb::Device, Status> {
        let registry = self.core.numbering.registry();
        let device = registry
            .device_by_id(id)
            .ok_or_else(|| status::invalid("device_id", "there is no such device"))?;
        Ok(answers::device(&registry, device, &self.core))
    }

    /// Whether a segment's code may be one of its kind, as the device's profile says. An unknown
    /// device is for the round to refuse.
    fn code_fits(&self, field: &str, new: &pb::Segment, kind: Kind) -> Result<(), Status> {
        let registry = self.core.numbering.registry();
        let device = registry.device_by_id(&new.device_id);
        let profile = device.and_then(|device| self.core.profiles.get(&device.profile));
        let Some(profile) = profile.filter(|profile| !profile.kind(kind).fits_code(&new.code))
        else {
            return Ok(());
        };
        let rules = profile.kind(kind);
        let (kind, lengths) = (kind.legacy_code(), &rules.code_lengths);
        let mut what = format!("a code of kind {kind:03} has {lengths:?} digits");
        if !rules.code_suffixes.is_empty() {
            let suffixes = rules.code_suffixes.join(" or ");
            what.push_str(&format!(", and one of 12 ends in {suffixes}"));
        }
        Err(status::invalid(field, &format!("{what} (profile {})", profile.name)))
    }

    /// Every series with its open claims, as one round sees them.
    pub(super) async fn series(&self, device_id: String) -> Result<Vec<pb::Series>, Status> {
        let all: Vec<pb::Series> = self
            .change(move |_, round| {
                let registry = round.registry();
                let mut all: Vec<_> = round.all_series().collect();
                all.sort_by_key(|(series, _)| answers::order(registry, series));
                let all =
                    all.into_iter().map(|(series, open)| answers::series(registry, series, open));
                Ok(all
                    .filter(|series| device_id.is_empty() || series.device_id == device_id)
                    .collect())
            })
            .await?;
        Ok(all.into_iter().map(|series| answers::with_limits(&self.core, series)).collect())
    }
}

pub(super) fn token(field: &str, text: &str, len_max: usize) -> Result<(), Status> {
    let fits = (1..=len_max).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then_some(()).ok_or_else(|| {
        status::invalid(field, &format!("1 to {len_max} letters, digits or '-' are needed"))
    })
}

fn name(field: &str, text: &str) -> Result<(), Status> {
    let fits = gbk_len(text).is_some_and(|len| (1..=100).contains(&len))
        && !text.chars().any(char::is_control);
    fits.then_some(()).ok_or_else(|| {
        status::invalid(field, "1 to 100 bytes of GBK text without control characters are needed")
    })
}

pub(super) fn digits(field: &str, text: &str, lens: &[usize]) -> Result<(), Status> {
    let fits = lens.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then_some(())
        .ok_or_else(|| status::invalid(field, &format!("digits are needed, {lens:?} of them")))
}

pub(super) fn kind(field: &str, value: i32) -> Result<Kind, Status> {
    Kind::from_wire(value).ok_or_else(|| status::invalid(field, "an invoice kind is needed"))
}

fn number(field: &str, text: &str) -> Result<u32, Status> {
    InvoiceNumber::parse_number(text)
        .ok_or_else(|| status::invalid(field, "8 digits are needed, with leading zeros"))
}

pub(super) fn reason(text: &str) -> Result<(), Status> {
    let fits = gbk_len(text).is_some_and(|len| (1..=200).contains(&len));
    fits.then_some(()).ok_or_else(|| status::invalid("reason", "1 to 200 bytes are needed"))
}

#[async_trait]
impl AdminService for Service {
    type BackupStream = BoxStream<pb::BackupResponse>;
    type ReportSummaryStream = BoxStream<pb::ReportSummaryResponse>;
    type ReportDetailStream = BoxStream<pb::ReportDetailResponse>;
    type ReconcileStream = BoxStream<pb::ReconcileResponse>;
    type ListOutboxStream = BoxStream<pb::ListOutboxResponse>;
    type ExportOutboxStream = BoxStream<pb::ExportOutboxResponse>;

    async fn add_platform(
        &self,
        request: Request<pb::AddPlatformRequest>,
    ) -> Answer<pb::AddPlatformResponse> {
        let request = request.into_inner();
        token("platform_id", &request.platform_id, 20)?;
        name("name", &request.name)?;
        let platform = self
            .change(move |actor, round| {
                round.add_platform(actor, &request.platform_id, &request.name)
            })
            .await?;
        let platform = answers::platform(&self.core.numbering.registry(), &platform);
        Ok(Response::new(pb::AddPlatformResponse { platform: Some(platform) }))
    }

    async fn list_platforms(
        &self,
        request: Request<pb::ListPlatformsRequest>,
    ) -> Answer<pb::ListPlatformsResponse> {
        let wanted = request.into_inner().platform_id;
        let registry = self.core.numbering.registry();
        let platforms = registry.platforms.values();
        let mut platforms: Vec<_> = platforms
            .filter(|platform| wanted.is_empty() || platform.id == wanted)
            .map(|platform| answers::platform(&registry, platform))
            .collect();
        platforms.sort_by(|a, b| a.platform_id.cmp(&b.platform_id));
        Ok(Response::new(pb::ListPlatformsResponse { platforms }))
    }

    async fn add_certificate(
        &self,
        request: Request<pb::AddCertificateRequest>,
    ) -> Answer<pb::AddCertificateResponse> {
        let request = request.into_inner();
        let peer = PeerCertificate::parse(&request.certificate)
            .map_err(|error| status::invalid("certificate", &error.to_string()))?;
        let bound = (peer.key, peer.not_after);
        let certificate = self
            .change(move |actor, round| round.add_certificate(actor, &request.platform_id, bound))
            .await?;
        Ok(Response::new(pb::AddCertificateResponse {
            certificate_key: certificate.key.hex(),
            not_after: certificate.not_after.rfc3339(),
        }))
    }

    async fn add_taxpayer(
        &self,
        request: Request<pb::AddTaxpayerRequest>,
    ) -> Answer<pb::AddTaxpayerResponse> {
        let new = request.into_inner().taxpayer.unwrap_or_default();
        token("taxpayer.taxpayer_id", &new.taxpayer_id, 20)?;
        if ![15, 17, 18, 20].contains(&new.taxpayer_id.len()) {
            return Err(status::invalid(
                "taxpayer.taxpayer_id",
                "15, 17, 18 or 20 characters are needed",
            ));
        }
        name("taxpayer.name", &new.name)?;
        digits("taxpayer.province", &new.province, &[2])?;
        let taxpayer = self
            .change(move |actor, round| {
                round.add_taxpayer(actor, (&new.taxpayer_id, &new.name, &new.province))
            })
            .await?;
        let taxpayer = Some(answers::taxpayer(&taxpayer));
        Ok(Response::new(pb::AddTaxpayerResponse { taxpayer }))
    }

    async fn list_taxpayers(
        &self,
        request: Request<pb::ListTaxpayersRequest>,
    ) -> Answer<pb::ListTaxpayersResponse> {
        let wanted = request.into_inner().taxpayer_id;
        let registry = self.core.numbering.registry();
        let taxpayers = registry.taxpayers.values();
        let mut taxpayers: Vec<_> = taxpayers
            .filter(|taxpayer| wanted.is_empty() || taxpayer.id == wanted)
            .map(|taxpayer| answers::taxpayer(taxpayer))
            .collect();
        taxpayers.sort_by(|a, b| a.taxpayer_id.cmp(&b.taxpayer_id));
        Ok(Response::new(pb::ListTaxpayersResponse { taxpayers }))
    }

    async fn set_taxpayer(
        &self,
        request: Request<pb::SetTaxpayerRequest>,
    ) -> Answer<pb::SetTaxpayerResponse> {
        access::set_taxpayer(self, request.into_inner()).await
    }

    async fn set_credit(
        &self,
        request: Request<pb::SetCreditRequest>,
    ) -> Answer<pb::SetCreditResponse> {
        access::set_credit(self, request.into_inner()).await
    }

    async fn list_credits(
        &self,
        request: Request<pb::ListCreditsRequest>,
    ) -> Answer<pb::ListCreditsResponse> {
        access::list_credits(self, request.into_inner()).await
    }

    async fn add_binding(
        &self,
        request: Request<pb::AddBindingRequest>,
    ) -> Answer<pb::AddBindingResponse> {
        access::bind(self, request.into_inner()).await
    }

    async fn set_binding(
        &self,
        request: Request<pb::SetBindingRequest>,
    ) -> Answer<pb::SetBindingResponse> {
        access::grant(self, request.into_inner()).await
    }

    async fn list_bindings(
        &self,
        request: Request<pb::ListBindingsRequest>,
    ) -> Answer<pb::ListBindingsResponse> {
        Ok(access::list(self, &request.into_inner()))
    }

    async fn add_device(
        &self,
        request: Request<pb::AddDeviceRequest>,
    ) -> Answer<pb::AddDeviceResponse> {
        devices::add(self, request.into_inner()).await
    }

    async fn list_devices(
        &self,
        request: Request<pb::ListDevicesRequest>,
    ) -> Answer<pb::ListDevicesResponse> {
        Ok(devices::list(self, &request.into_inner()))
    }

    async fn set_device_enabled(
        &self,
        request: Request<pb::SetDeviceEnabledRequest>,
    ) -> Answer<pb::SetDeviceEnabledResponse> {
        devices::enable(self, request.into_inner()).await
    }

    async fn drain_device(
        &self,
        request: Request<pb::DrainDeviceRequest>,
    ) -> Answer<pb::DrainDeviceResponse> {
        devices::drain(self, request.into_inner()).await
    }

    async fn unlock_device(
        &self,
        request: Request<pb::UnlockDeviceRequest>,
    ) -> Answer<pb::UnlockDeviceResponse> {
        devices::unlock(self, request.into_inner()).await
    }

    async fn assign_device(
        &self,
        request: Request<pb::AssignDeviceRequest>,
    ) -> Answer<pb::AssignDeviceResponse> {
        devices::assign(self, request.into_inner()).await
    }

    async fn add_segment(
        &self,
        request: Request<pb::AddSegmentRequest>,
    ) -> Answer<pb::AddSegmentResponse> {
        let new = request.into_inner().segment.unwrap_or_default();
        digits("segment.code", &new.code, &[10, 12])?;
        let first = number("segment.first", &new.first)?;
        let last = number("segment.last", &new.last)?;
        let kind = kind("segment.kind", new.kind)?;
        self.code_fits("segment.code", &new, kind)?;
        let wanted = NewSegment {
            device_id: new.device_id,
            kind,
            first: InvoiceNumber { code: new.code, number: first },
            last,
        };
        let segment = self
            .change(move |actor, round| {
                let segment = round.add_segment(actor, &wanted)?;
                let series = round.series(segment.series);
                Ok(answers::segment(round.registry(), series, &segment))
            })
            .await?;
        Ok(Response::new(pb::AddSegmentResponse { segment: Some(segment) }))
    }

    async fn list_segments(
        &self,
        request: Request<pb::ListSegmentsRequest>,
    ) -> Answer<pb::ListSegmentsResponse> {
        let wanted = request.into_inner().device_id;
        let segments = self
            .change(move |_, round| {
                let registry = round.registry();
                let all = round.all_series().flat_map(|(series, _)| {
                    let show = |segment| answers::segment(registry, Some(series), segment);
                    series.segments.iter().map(show)
                });
                Ok(all.filter(|segment| wanted.is_empty() || segment.device_id == wanted).collect())
            })
            .await?;
        Ok(Response::new(pb::ListSegmentsResponse { segments }))
    }

    async fn add_route(
        &self,
        request: Request<pb::AddRouteRequest>,
    ) -> Answer<pb::AddRouteResponse> {
        let new = request.into_inner().route.unwrap_or_default();
        if new.province != "*" {
            digits("route.province", &new.province, &[2])?;
        }
        let route = Route {
            province: new.province,
            address: new.address,
            server_name: new.server_name,
            receipt_key: new.receipt_key,
        };
        crate::delivery::check_route(&route).map_err(|hint| status::invalid("route", &hint))?;
        let route = self.change(move |actor, round| round.put_route(actor, route)).await?;
        let route = Some(answers::route(&route));
        Ok(Response::new(pb::AddRouteResponse { route }))
    }

    async fn list_routes(
        &self,
        _: Request<pb::ListRoutesRequest>,
    ) -> Answer<pb::ListRoutesResponse> {
        let registry = self.core.numbering.registry();
        let routes = registry.routes.values().map(|route| answers::route(route)).collect();
        Ok(Response::new(pb::ListRoutesResponse { routes }))
    }

    async fn list_series(
        &self,
        request: Request<pb::ListSeriesRequest>,
    ) -> Answer<pb::ListSeriesResponse> {
        let series = self.series(request.into_inner().device_id).await?;
        Ok(Response::new(pb::ListSeriesResponse { series }))
    }

    async fn unfreeze_series(
        &self,
        request: Request<pb::UnfreezeSeriesRequest>,
    ) -> Answer<pb::UnfreezeSeriesResponse> {
        let request = request.into_inner();
        reason(&request.reason)?;
        let kind = kind("kind", request.kind)?;
        let (device_id, why) = (request.device_id.clone(), request.reason);
        let opened =
            self.change(move |actor, round| round.unfreeze(actor, (&device_id, kind), &why));
        self.core.finisher.hurry(opened.await?);
        let registry = self.core.numbering.registry();
        let device = registry.device_by_id(&request.device_id);
        if let Some(device) = device.filter(|device| device.backend.draws_numbers()) {
            // Where it stands now is what the next claim expects.
            self.core.finisher.watch_device(device.no, [kind]);
        }
        let mut series = self.series(request.device_id).await?;
        series.retain(|series| series.kind == i32::from(kind.to_wire()));
        Ok(Response::new(pb::UnfreezeSeriesResponse { series: series.pop() }))
    }

    async fn list_open_claims(
        &self,
        _: Request<pb::ListOpenClaimsRequest>,
    ) -> Answer<pb::ListOpenClaimsResponse> {
        let claims = self
            .change(|_, round| {
                let now = round.now();
                let show = |(id, open): (&ClaimId, &crate::numbering::Open)| {
                    let series = round.series(open.series);
                    let state = series.map(|series| &series.state);
                    let device = state.and_then(|s| round.registry().devices.get(&s.device));
                    let age_s = now.unix().saturating_sub(open.claimed_at.unix()).max(0);
                    let kind = state.map_or(v1::InvoiceKind::Unspecified, |s| s.kind.to_wire());
                    pb::OpenClaim {
                        claim_id: crate::convert::to_u64(id.0),
                        device_id: device.map(|device| device.id.clone()).unwrap_or_default(),
                        kind: kind.into(),
                        code: open.number.code.clone(),
                        number: open.number.number_text(),
                        age_ms: age_s.saturating_mul(1000),
                    }
                };
                Ok(round.open_claims().map(show).collect())
            })
            .await?;
        Ok(Response::new(pb::ListOpenClaimsResponse { claims }))
    }

    async fn blank_void(
        &self,
        request: Request<pb::BlankVoidRequest>,
    ) -> Answer<pb::BlankVoidResponse> {
        let request = request.into_inner();
        reason(&request.reason)?;
        let claim = ClaimId(crate::convert::to_i64(request.claim_id));
        let voided = self
            .core
            .finisher
            .blank_void(claim, request.reason, self.actor.clone())
            .await
            .map_err(|refusal| status::refused(&refusal))?;
        let number = voided.number.as_ref();
        let voided = v1::Voided {
            code: number.map(|number| number.code.clone()).unwrap_or_default(),
            number: number.map(InvoiceNumber::number_text).unwrap_or_default(),
            reason: voided.reason,
            voided_at: voided.at.rfc3339(),
            ..v1::Voided::default()
        };
        Ok(Response::new(pb::BlankVoidResponse { voided: Some(voided) }))
    }

    async fn backup(&self, request: Request<pb::BackupRequest>) -> Answer<Self::BackupStream> {
        let directory = request.into_inner().directory.into();
        let news = backup::begin(&self.core.numbering, directory, self.actor.clone()).await?;
        Ok(Response::new(news))
    }

    async fn report_summary(
        &self,
        request: Request<pb::ReportSummaryRequest>,
    ) -> Answer<Self::ReportSummaryStream> {
        report::summary(self, request.into_inner()).await.map(Response::new)
    }

    async fn report_detail(
        &self,
        request: Request<pb::ReportDetailRequest>,
    ) -> Answer<Self::ReportDetailStream> {
        report::detail(self, request.into_inner()).map(Response::new)
    }

    async fn reconcile(
        &self,
        request: Request<pb::ReconcileRequest>,
    ) -> Answer<Self::ReconcileStream> {
        report::reconcile(self, request.into_inner()).map(Response::new)
    }

    async fn list_outbox(
        &self,
        request: Request<pb::ListOutboxRequest>,
    ) -> Answer<Self::ListOutboxStream> {
        Ok(Response::new(outbox::list(self, request.into_inner())))
    }

    async fn get_outbox_batch(
        &self,
        request: Request<pb::GetOutboxBatchRequest>,
    ) -> Answer<pb::GetOutboxBatchResponse> {
        outbox::batch(self, request.into_inner()).await.map(Response::new)
    }

    async fn export_outbox(
        &self,
        request: Request<pb::ExportOutboxRequest>,
    ) -> Answer<Self::ExportOutboxStream> {
        outbox::export(self, request.into_inner()).await.map(Response::new)
    }

    async fn import_receipt(
        &self,
        request: Request<pb::ImportReceiptRequest>,
    ) -> Answer<pb::ImportReceiptResponse> {
        outbox::import(self, request.into_inner().receipt).await.map(Response::new)
    }

    async fn get_statement_key(
        &self,
        _: Request<pb::GetStatementKeyRequest>,
    ) -> Answer<pb::GetStatementKeyResponse> {
        let key = self.core.statement_key().await;
        let key = key.map_err(|refusal| status::refused(&refusal))?;
        let public_key = key.public_key().to_vec();
        Ok(Response::new(pb::GetStatementKeyResponse { public_key }))
    }

    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Answer<pb::GetStatusResponse> {
        let Core { numbering, finisher, unusable, .. } = &*self.core;
        let readiness = Core::readiness(numbering, finisher, unusable);
        let (commits, open_claims, undelivered) = self.core.numbering.counts();
        let (ready, reasons) = (readiness.ready, readiness.reasons);
        let status = pb::GetStatusResponse { ready, reasons, commits, open_claims, undelivered };
        Ok(Response::new(status))
    }
}
