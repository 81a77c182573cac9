//! The acceptance service itself: checks the form of a call, and lets the books do the work.

use super::{
    batch::{Orders, Told},
    books::{Books, BooksError, is_device_key},
    call::{Call, House},
    faults::{Fault, Faults, Operation, Phase},
    held::{Whose, Window},
    judge, monitor,
    periods::Report,
    segments::{GivenBack, Segment, Wanted},
    spoil, status,
    verify::{RegisteredDevice, check_number},
};
use crate::{
    model::{CstTime, InvoiceNumber, Kind},
    pb::authority::v1::{
        AcquireSegmentRequest, AcquireSegmentResponse, ClearPeriodRequest, ClearPeriodResponse,
        CodeHead, ConfirmSegmentRequest, ConfirmSegmentResponse, GetMonitorRequest,
        GetMonitorResponse, GetReceiptRequest, GetReceiptResponse, GetSegmentRequestRequest,
        GetSegmentRequestResponse, GetSeriesHeadRequest, GetSeriesHeadResponse, GetSummaryRequest,
        GetSummaryResponse, ListHeldRequest, ListHeldResponse, RegisterDeviceRequest,
        RegisterDeviceResponse, ReportPeriodRequest, ReportPeriodResponse, ReturnSegmentRequest,
        ReturnSegmentResponse, SubmitBatchRequest, SubmitBatchResponse,
        acceptance_service_server::AcceptanceService,
    },
    tasks::spawn_detached,
};
use chrono::NaiveDate;
use std::{ops::RangeInclusive, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Length of batch and request ids. Unit: bytes.
const ID_LEN: usize = 16;
/// Longest id of a device or taxpayer. Unit: bytes.
const NAME_LEN_MAX: usize = 64;
/// Items of one batch.
const ITEMS: RangeInclusive<usize> = 1..=1000;
/// Numbers of one segment.
const SEGMENT_COUNT: RangeInclusive<u32> = 1..=100_000;
/// Pages that wait to be sent.
const PAGES_MAX: usize = 1;

/// The acceptance service over its books.
#[derive(Debug, Clone)]
pub struct Acceptance {
    pub(super) house: House,
}

#[tonic::async_trait]
impl AcceptanceService for Acceptance {
    async fn submit_batch(
        &self,
        request: Request<SubmitBatchRequest>,
    ) -> Result<Response<SubmitBatchResponse>, Status> {
        let (call, request) = come(Operation::SubmitBatch, request);
        check_id("batch_id", &request.batch_id)?;
        if !ITEMS.contains(&request.items.len()) {
            return Err(status::invalid("items: 1 to 1000 are needed"));
        }
        let judging = self.house.judging;
        let submit = move |books: &mut Books, faults: &Faults| {
            let told = books.submit(&request, || orders(faults, &request, judging))?;
            let told = spoilt(books, faults, Operation::SubmitBatch, told)?;
            let Told { acceptance_serial, receipt } = told;
            Ok(SubmitBatchResponse { receipt, acceptance_serial })
        };
        self.house.call(call, submit).await
    }

    async fn get_receipt(
        &self,
        request: Request<GetReceiptRequest>,
    ) -> Result<Response<GetReceiptResponse>, Status> {
        let (call, GetReceiptRequest { batch_id }) = come(Operation::GetReceipt, request);
        check_id("batch_id", &batch_id)?;
        let tell = move |books: &mut Books, faults: &Faults| {
            let told = books.receipt(&batch_id)?;
            let told = spoilt(books, faults, Operation::GetReceipt, told)?;
            let Told { acceptance_serial, receipt } = told;
            Ok(GetReceiptResponse { receipt, acceptance_serial })
        };
        self.house.call(call, tell).await
    }

    async fn get_series_head(
        &self,
        request: Request<GetSeriesHeadRequest>,
    ) -> Result<Response<GetSeriesHeadResponse>, Status> {
        let (call, request) = come(Operation::GetSeriesHead, request);
        let GetSeriesHeadRequest { device_id, kind } = request;
        let kind = read_kind(&kind)?;
        let tell = move |books: &mut Books, _: &Faults| {
            let head = books.series_head(&device_id, kind)?;
            let (code, number) = head.highest;
            let authority_time = books.now().rfc3339();
            let codes = head.codes.into_iter();
            let codes = codes.map(|(code, number)| CodeHead { code, number }).collect();
            Ok(GetSeriesHeadResponse { count: head.count, code, number, authority_time, codes })
        };
        self.house.call(call, tell).await
    }

    async fn acquire_segment(
        &self,
        request: Request<AcquireSegmentRequest>,
    ) -> Result<Response<AcquireSegmentResponse>, Status> {
        let (call, request) = come(Operation::AcquireSegment, request);
        let AcquireSegmentRequest { request_id, device_id, kind, count } = request;
        check_id("request_id", &request_id)?;
        let kind = read_kind(&kind)?;
        if !SEGMENT_COUNT.contains(&count) {
            return Err(status::invalid("count: 1 to 100000 is needed"));
        }
        let wanted = Wanted { request: request_id, device: device_id, kind, count };
        let acquire = move |books: &mut Books, _: &Faults| Ok(books.acquire(&wanted)?.into());
        self.house.call(call, acquire).await
    }

    async fn confirm_segment(
        &self,
        request: Request<ConfirmSegmentRequest>,
    ) -> Result<Response<ConfirmSegmentResponse>, Status> {
        let (call, ConfirmSegmentRequest { request_id }) = come(Operation::ConfirmSegment, request);
        check_id("request_id", &request_id)?;
        let confirm = move |books: &mut Books, _: &Faults| {
            books.confirm(&request_id).map(|()| ConfirmSegmentResponse {})
        };
        self.house.call(call, confirm).await
    }

    async fn return_segment(
        &self,
        request: Request<ReturnSegmentRequest>,
    ) -> Result<Response<ReturnSegmentResponse>, Status> {
        let (call, request) = come(Operation::ReturnSegment, request);
        let given = read_given_back(request)?;
        let give_back = move |books: &mut Books, _: &Faults| {
            books.give_back(&given).map(|()| ReturnSegmentResponse {})
        };
        self.house.call(call, give_back).await
    }

    async fn get_segment_request(
        &self,
        request: Request<GetSegmentRequestRequest>,
    ) -> Result<Response<GetSegmentRequestResponse>, Status> {
        let (call, GetSegmentRequestRequest { request_id }) =
            come(Operation::GetSegmentRequest, request);
        check_id("request_id", &request_id)?;
        let tell = move |books: &mut Books, _: &Faults| {
            let (state, segment) = books.segment_request(&request_id)?;
            let segment = segment.map(AcquireSegmentResponse::from);
            Ok(GetSegmentRequestResponse { state: state.into(), segment })
        };
        self.house.call(call, tell).await
    }

    async fn get_monitor(
        &self,
        request: Request<GetMonitorRequest>,
    ) -> Result<Response<GetMonitorResponse>, Status> {
        let (call, GetMonitorRequest { device_id, kind }) = come(Operation::GetMonitor, request);
        let kind = read_kind(&kind)?;
        let tell = move |books: &mut Books, faults: &Faults| {
            let fault = || faults.take(Operation::GetMonitor, Phase::Monitor, |_| true);
            let data = books.monitor(&device_id, kind, fault)?;
            let data = spoil::monitor(faults, Operation::GetMonitor, data);
            Ok(GetMonitorResponse { monitor: Some(data) })
        };
        self.house.call(call, tell).await
    }

    async fn report_period(
        &self,
        request: Request<ReportPeriodRequest>,
    ) -> Result<Response<ReportPeriodResponse>, Status> {
        let (call, request) = come(Operation::ReportPeriod, request);
        let report = read_report(request)?;
        let take = move |books: &mut Books, _: &Faults| {
            let acceptance_serial = books.report(&report)?;
            Ok(ReportPeriodResponse { acceptance_serial })
        };
        self.house.call(call, take).await
    }

    async fn clear_period(
        &self,
        request: Request<ClearPeriodRequest>,
    ) -> Result<Response<ClearPeriodResponse>, Status> {
        let (call, ClearPeriodRequest { request_id }) = come(Operation::ClearPeriod, request);
        check_id("request_id", &request_id)?;
        let clear = move |books: &mut Books, faults: &Faults| {
            let data = books.clear(&request_id)?;
            let data = spoil::monitor(faults, Operation::ClearPeriod, data);
            Ok(ClearPeriodResponse { monitor: Some(data) })
        };
        self.house.call(call, clear).await
    }

    async fn get_summary(
        &self,
        request: Request<GetSummaryRequest>,
    ) -> Result<Response<GetSummaryResponse>, Status> {
        let (call, request) = come(Operation::GetSummary, request);
        let window = read_window(request)?;
        let sum = move |books: &mut Books, _: &Faults| {
            Ok(GetSummaryResponse { summary: Some(books.summary(&window)?) })
        };
        self.house.call(call, sum).await
    }

    type ListHeldStream = ReceiverStream<Result<ListHeldResponse, Status>>;

    async fn list_held(
        &self,
        request: Request<ListHeldRequest>,
    ) -> Result<Response<Self::ListHeldStream>, Status> {
        let (call, request) = come(Operation::ListHeld, request);
        let window = request.window.ok_or_else(|| status::invalid("window: it is needed"))?;
        let window = read_window(window)?;
        self.house.arrive(&call).await?;
        self.house.depart(&call).await?;
        let (sender, stream) = mpsc::channel(PAGES_MAX);
        let house = self.house.clone();
        spawn_detached(async move {
            let send = |page: Vec<_>| {
                let items = page.into_iter().map(Into::into).collect();
                let (sender, page) = (sender.clone(), ListHeldResponse { items });
                // Fails when the caller has left.
                async move { sender.send(Ok(page)).await.is_ok() }
            };
            if let Err(status) = house.pages(window, send).await {
                drop(sender.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn register_device(
        &self,
        request: Request<RegisterDeviceRequest>,
    ) -> Result<Response<RegisterDeviceResponse>, Status> {
        let (call, request) = come(Operation::RegisterDevice, request);
        let RegisterDeviceRequest { device_id, taxpayer_id, public_key, draws_numbers } = request;
        for (name, value) in [("device_id", &device_id), ("taxpayer_id", &taxpayer_id)] {
            if !(1..=NAME_LEN_MAX).contains(&value.len()) {
                return Err(status::invalid(&format!("{name}: 1 to 64 bytes are needed")));
            }
        }
        if !is_device_key(&public_key) {
            return Err(status::invalid("public_key: a P-256 or SM2 key in DER is needed"));
        }
        let device = RegisteredDevice { taxpayer: taxpayer_id, public_key, draws_numbers };
        let register = move |books: &mut Books, _: &Faults| {
            books.register(&device_id, &device).map(|()| RegisterDeviceResponse {})
        };
        self.house.call(call, register).await
    }
}

fn come<T>(operation: Operation, request: Request<T>) -> (Call, T) {
    (Call::of(operation, &request), request.into_inner())
}

/// What the faults want of a new batch.
fn orders(faults: &Faults, request: &SubmitBatchRequest, judging: Duration) -> Orders {
    let applies = |fault: &Fault| judge::applies(fault, &request.items);
    let take = |phase| faults.take(Operation::SubmitBatch, phase, |_| true);
    Orders {
        reject: faults.take(Operation::SubmitBatch, Phase::Judging, applies),
        monitor: take(Phase::Monitor),
        judging: match take(Phase::Pending) {
            Some(Fault::Pending(time)) => time,
            _ => judging,
        },
    }
}

fn spoilt(
    books: &Books,
    faults: &Faults,
    operation: Operation,
    told: Told,
) -> Result<Told, BooksError> {
    let receipt = told.receipt.map(|receipt| spoil::receipt(books, faults, operation, receipt));
    Ok(Told { receipt: receipt.transpose()?, ..told })
}

fn check_id(name: &str, id: &[u8]) -> Result<(), Status> {
    match id.len() {
        ID_LEN => Ok(()),
        _ => Err(status::invalid(&format!("{name}: 16 bytes are needed"))),
    }
}

fn read_kind(name: &str) -> Result<Kind, Status> {
    monitor::read_kind(name)
        .ok_or_else(|| status::invalid("kind: the name of an InvoiceKind is needed"))
}

fn read_given_back(request: ReturnSegmentRequest) -> Result<GivenBack, Status> {
    check_id("request_id", &request.request_id)?;
    let kind = read_kind(&request.kind)?;
    if request.code.is_empty() || check_number(&request.code, &request.first).is_err() {
        return Err(status::invalid("code, first: 10 or 12 digits and 8 digits are needed"));
    }
    let number = |text: &str| InvoiceNumber::parse_number(text);
    let range = number(&request.first).zip(number(&request.last));
    let Some((first, last)) = range.filter(|(first, last)| first <= last) else {
        return Err(status::invalid("last: 8 digits, not below first, are needed"));
    };
    let segment = Segment { code: request.code, first, last };
    Ok(GivenBack { request: request.request_id, device: request.device_id, kind, segment })
}

fn read_report(request: ReportPeriodRequest) -> Result<Report, Status> {
    check_id("request_id", &request.request_id)?;
    let kind = read_kind(&request.kind)?;
    let day = |name: &str, text: &str| -> Result<NaiveDate, Status> {
        let wrong = || status::invalid(&format!("{name}: a day as yyyy-MM-dd is needed"));
        monitor::read_day(text).ok_or_else(wrong)
    };
    let from = day("from_day", &request.from_day)?;
    let until = day("until_day", &request.until_day)?;
    if until < from {
        return Err(status::invalid("until_day: it is before from_day"));
    }
    let summary = request.summary.ok_or_else(|| status::invalid("summary: it is needed"))?;
    let (request, device) = (request.request_id, request.device_id);
    Ok(Report { request, device, kind, from, until, summary })
}

fn read_window(request: GetSummaryRequest) -> Result<Window, Status> {
    let kind = match request.kind.as_str() {
        "" => None,
        name => Some(read_kind(name)?),
    };
    let time = |name: &str, text: &str| {
        let wrong = || status::invalid(&format!("{name}: a time as of RFC 3339 is needed"));
        CstTime::parse(text).map(CstTime::unix).ok_or_else(wrong)
    };
    let (from, until) = (time("from", &request.from)?, time("until", &request.until)?);
    if until < from {
        return Err(status::invalid("until: it is before from"));
    }
    Ok(Window { whose: Whose::Taxpayer(request.taxpayer_id, kind), from, until })
}
