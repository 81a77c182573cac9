//! Reports and reconciliation as operators ask for them: a blocking thread reads, a bounded channel
//! holds it up while the operator's terminal does not keep pace.

use super::{service::Service, status};
use crate::{
    convert::len_u64,
    delivery::reconcile::{Reconciler, Wanted},
    model::{Color, Kind},
    pb::{admin::v1 as pb, v1},
    refusal::{Reason, Refusal},
    registry::Registry,
    report::{Filter, Window, summarise, walk, wire_line},
    store::{Books, Delivered, End, Entry, Notice, StoreError},
};
use std::ops::ControlFlow;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, codegen::BoxStream};

/// Messages that wait for the operator.
const QUEUE_LEN: usize = 64;

fn window(
    registry: &Registry,
    window: Option<pb::ReportWindow>,
) -> Result<(Window, Filter), Status> {
    let asked = window.unwrap_or_default();
    let window = Window::parse(&asked.from, &asked.until)
        .map_err(|(field, hint)| status::invalid(&format!("window.{field}"), hint))?;
    let absent = |field| status::invalid(field, "there is none of this name");
    let platform = match asked.platform_id.as_str() {
        "" => None,
        id => Some(registry.platform_by_id(id).ok_or_else(|| absent("window.platform_id"))?.no),
    };
    let taxpayer = match asked.taxpayer_id.as_str() {
        "" => None,
        id => Some(registry.taxpayer_by_id(id).ok_or_else(|| absent("window.taxpayer_id"))?.no),
    };
    let kind = match asked.kind {
        0 => None,
        kind => Some(Kind::from_wire(kind).ok_or_else(|| absent("window.kind"))?),
    };
    Ok((window, Filter { platform, taxpayer, kind }))
}

pub(super) async fn summary(
    service: &Service,
    request: pb::ReportSummaryRequest,
) -> Result<BoxStream<pb::ReportSummaryResponse>, Status> {
    let registry = service.core.numbering.registry();
    let (window, filter) = window(&registry, request.window)?;
    let read = service.core.numbering.read(move |books| summarise(books, window, filter, || true));
    let sums = read.await.map_err(|refusal| status::refused(&refusal))?.unwrap_or_default();
    let lines = sums.0.into_iter().map(move |(key, line)| {
        let names = names(&registry, key.taxpayer, key.platform);
        let line = Some(wire_line((key.kind, key.color), &line));
        Ok(pb::ReportSummaryResponse { taxpayer_id: names.0, platform_id: names.1, line })
    });
    Ok(Box::pin(tokio_stream::iter(lines)))
}

fn names(
    registry: &Registry,
    taxpayer: crate::model::TaxpayerNo,
    platform: crate::model::PlatformNo,
) -> (String, String) {
    let taxpayer = registry.taxpayers.get(&taxpayer).map(|taxpayer| taxpayer.id.clone());
    let platform = registry.platforms.get(&platform).map(|platform| platform.id.clone());
    (taxpayer.unwrap_or_default(), platform.unwrap_or_default())
}

pub(super) fn detail(
    service: &Service,
    request: pb::ReportDetailRequest,
) -> Result<BoxStream<pb::ReportDetailResponse>, Status> {
    let registry = service.core.numbering.registry();
    let (window, filter) = window(&registry, request.window)?;
    let (sender, receiver) = mpsc::channel(QUEUE_LEN);
    let numbering = service.core.numbering.clone();
    drop(crate::tasks::spawn_detached(async move {
        let lines = sender.clone();
        let read = numbering.read(move |books| {
            let mut failed = None;
            let ended = walk(books, window, filter, |_, entry| {
                let sent = match detail_line(books, &registry, &entry) {
                    // An error means that the operator has left.
                    Ok(line) => lines.blocking_send(Ok(line)).is_ok(),
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                };
                if sent { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            failed.map_or(ended.map(drop), Err)
        });
        if let Err(refusal) = read.await {
            drop(sender.send(Err(status::refused(&refusal))).await);
        }
    }));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn detail_line(
    books: &Books,
    registry: &Registry,
    entry: &Entry,
) -> Result<pb::ReportDetailResponse, StoreError> {
    let (taxpayer_id, platform_id) =
        names(registry, entry.request.taxpayer, entry.request.platform);
    let (end, voided_at) = match entry.end {
        End::Issued => (pb::NumberEnd::Issued, None),
        End::Voided(at) => (pb::NumberEnd::Voided, Some(at)),
        End::Blank => (pb::NumberEnd::Blank, None),
    };
    let (delivery, acceptance_serial) = state(books.delivered(Notice::end(entry.claim))?);
    let void_delivery = match voided_at {
        Some(_) => state(books.delivered(Notice::invoice_void(entry.claim))?).0,
        None => v1::Delivery::Unspecified,
    };
    let color = match entry.color {
        Color::Blue => v1::InvoiceColor::Blue,
        Color::Red => v1::InvoiceColor::Red,
    };
    let device = registry.devices.get(&entry.device);
    Ok(pb::ReportDetailResponse {
        code: entry.number.code.clone(),
        number: entry.number.number_text(),
        kind: entry.kind.to_wire().into(),
        color: color.into(),
        taxpayer_id,
        platform_id,
        device_id: device.map(|device| device.id.clone()).unwrap_or_default(),
        serial: entry.request.serial.as_str().to_owned(),
        issue_time: entry.at.rfc3339(),
        amount_fen: entry.totals.amount.0,
        tax_fen: entry.totals.tax.0,
        total_fen: entry.totals.total.0,
        end: end.into(),
        voided_at: voided_at.map(crate::model::CstTime::rfc3339).unwrap_or_default(),
        delivery: delivery.into(),
        acceptance_serial,
        void_delivery: void_delivery.into(),
    })
}

fn state(delivered: Delivered) -> (v1::Delivery, String) {
    match delivered {
        Delivered::Pending => (v1::Delivery::Pending, String::new()),
        Delivered::Answered { serial, rejected: None, .. } => (v1::Delivery::Accepted, serial),
        Delivered::Answered { serial, rejected: Some(_), .. } => (v1::Delivery::Rejected, serial),
    }
}

pub(super) fn reconcile(
    service: &Service,
    request: pb::ReconcileRequest,
) -> Result<BoxStream<pb::ReconcileResponse>, Status> {
    let registry = service.core.numbering.registry();
    let (window, filter) = window(&registry, request.window)?;
    if filter.platform.is_some() {
        let hint = "the acceptance side knows no platforms: compare by taxpayer";
        return Err(status::invalid("window.platform_id", hint));
    }
    let wanted = Wanted { window, filter, full: request.full };
    let (news, told) = mpsc::channel(QUEUE_LEN);
    let (answers, stream) = mpsc::channel(1);
    let reconciler = Reconciler::new(&service.delivery);
    drop(crate::tasks::spawn_detached(pass_on(told, answers.clone(), async move {
        reconciler.run(wanted, &news).await
    })));
    Ok(Box::pin(ReceiverStream::new(stream)))
}

/// Passes news on until the comparison has ended, then says how.
async fn pass_on<E: std::error::Error>(
    mut told: mpsc::Receiver<pb::ReconcileResponse>,
    answers: mpsc::Sender<Result<pb::ReconcileResponse, Status>>,
    run: impl Future<Output = Result<u64, E>> + Send,
) {
    let pass = async {
        let mut passed = 0_usize;
        while let Some(news) = told.recv().await {
            if answers.send(Ok(news)).await.is_err() {
                break;
            }
            passed = passed.saturating_add(1);
        }
        // Nobody listens: the comparison hears it at its next word.
        drop(told);
        passed
    };
    let (ended, passed) = tokio::join!(run, pass);
    tracing::debug!(told = len_u64(passed), "a reconciliation has ended");
    let last = match ended {
        Ok(0) => return,
        Ok(1) => Refusal::new(Reason::ReconcileMismatch, "1 difference"),
        Ok(count) => Refusal::new(Reason::ReconcileMismatch, format!("{count} differences")),
        Err(error) => {
            drop(answers.send(Err(status::internal(&error))).await);
            return;
        }
    };
    // The operator may have left.
    drop(answers.send(Err(status::refused(&last))).await);
}
