//! The acceptance service itself: checks the form of a call, lets the books do the work off the
//! runtime's threads, and applies the faults that are switched on.

use super::{
    books::{Books, BooksError, is_device_key},
    faults::Faults,
    segments::Wanted,
    status,
    verify::RegisteredDevice,
};
use crate::{
    model::Kind,
    pb::{
        authority::v1::{
            self as wire, AcquireSegmentRequest, AcquireSegmentResponse, CodeHead,
            GetReceiptRequest, GetReceiptResponse, GetSeriesHeadRequest, GetSeriesHeadResponse,
            Receipt, RegisterDeviceRequest, RegisterDeviceResponse, SubmitBatchRequest,
            SubmitBatchResponse, acceptance_service_server::AcceptanceService,
        },
        v1 as pb,
    },
};
use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};
use tonic::{Request, Response, Status};

/// Length of batch and request ids. Unit: bytes.
const ID_LEN: usize = 16;
/// Longest id of a device or taxpayer. Unit: bytes.
const NAME_LEN_MAX: usize = 64;
/// Items of one batch.
const ITEMS: RangeInclusive<usize> = 1..=1000;
/// Numbers of one segment.
const SEGMENT_COUNT: RangeInclusive<u32> = 1..=100_000;

/// The acceptance service over its books.
#[derive(Debug, Clone)]
pub struct Acceptance {
    books: Arc<Mutex<Books>>,
    faults: Arc<Faults>,
}

impl Acceptance {
    pub(super) fn new(books: Books, faults: Arc<Faults>) -> Self {
        Self { books: Arc::new(Mutex::new(books)), faults }
    }

    /// Does `work` as one call: its faults around it, on a thread that may block.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Books) -> Result<T, BooksError> + Send + 'static,
    ) -> Result<T, Status> {
        let delay = self.faults.current_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.faults.take_refusal() {
            return Err(status::unavailable("refused on purpose"));
        }
        let books = Arc::clone(&self.books);
        let done = tokio::task::spawn_blocking(move || {
            // A panic rolls its transaction back, so the books behind a poisoned lock are sound.
            work(&mut books.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let answer = done.await.map_err(|_| status::unavailable("the call failed"))?;
        let answer = answer.map_err(|error| status::from_books(&error))?;
        if self.faults.take_lost_answer() {
            return Err(status::unavailable("the answer is lost on purpose"));
        }
        Ok(answer)
    }

    /// Spoils the receipt that goes out when that fault is on.
    fn outgoing(&self, mut receipt: Receipt) -> Receipt {
        if self.faults.take_wrong_signature()
            && let Some(last) = receipt.signature.last_mut()
        {
            *last ^= 1;
        }
        receipt
    }
}

#[tonic::async_trait]
impl AcceptanceService for Acceptance {
    async fn submit_batch(
        &self,
        request: Request<SubmitBatchRequest>,
    ) -> Result<Response<SubmitBatchResponse>, Status> {
        let request = request.into_inner();
        check_id("batch_id", &request.batch_id)?;
        if !ITEMS.contains(&request.items.len()) {
            return Err(status::invalid("items: 1 to 1000 are needed"));
        }
        let receipt = self.call(move |books| books.submit(&request)).await?;
        Ok(Response::new(SubmitBatchResponse {
            receipt: Some(self.outgoing(receipt)),
            acceptance_serial: String::new(),
        }))
    }

    async fn get_receipt(
        &self,
        request: Request<GetReceiptRequest>,
    ) -> Result<Response<GetReceiptResponse>, Status> {
        let batch_id = request.into_inner().batch_id;
        check_id("batch_id", &batch_id)?;
        let receipt = self.call(move |books| books.receipt(&batch_id)).await?;
        Ok(Response::new(GetReceiptResponse {
            receipt: Some(self.outgoing(receipt)),
            acceptance_serial: String::new(),
        }))
    }

    async fn get_series_head(
        &self,
        request: Request<GetSeriesHeadRequest>,
    ) -> Result<Response<GetSeriesHeadResponse>, Status> {
        let GetSeriesHeadRequest { device_id, kind } = request.into_inner();
        let kind = read_kind(&kind)?;
        let answer = move |books: &mut Books| {
            let head = books.series_head(&device_id, kind)?;
            let (code, number) = head.highest;
            let authority_time = books.clock().now().rfc3339();
            let codes = head.codes.into_iter();
            let codes = codes.map(|(code, number)| CodeHead { code, number }).collect();
            Ok(GetSeriesHeadResponse { count: head.count, code, number, authority_time, codes })
        };
        Ok(Response::new(self.call(answer).await?))
    }

    async fn acquire_segment(
        &self,
        request: Request<AcquireSegmentRequest>,
    ) -> Result<Response<AcquireSegmentResponse>, Status> {
        let AcquireSegmentRequest { request_id, device_id, kind, count } = request.into_inner();
        check_id("request_id", &request_id)?;
        let kind = read_kind(&kind)?;
        if !SEGMENT_COUNT.contains(&count) {
            return Err(status::invalid("count: 1 to 100000 is needed"));
        }
        let wanted = Wanted { request: request_id, device: device_id, kind, count };
        let segment = self.call(move |books| books.acquire(&wanted)).await?;
        Ok(Response::new(segment.into()))
    }

    async fn register_device(
        &self,
        request: Request<RegisterDeviceRequest>,
    ) -> Result<Response<RegisterDeviceResponse>, Status> {
        let RegisterDeviceRequest { device_id, taxpayer_id, public_key } = request.into_inner();
        for (name, value) in [("device_id", &device_id), ("taxpayer_id", &taxpayer_id)] {
            if !(1..=NAME_LEN_MAX).contains(&value.len()) {
                return Err(status::invalid(&format!("{name}: 1 to 64 bytes are needed")));
            }
        }
        if !is_device_key(&public_key) {
            return Err(status::invalid("public_key: a P-256 or SM2 key in DER is needed"));
        }
        let device = RegisteredDevice { taxpayer: taxpayer_id, public_key };
        self.call(move |books| books.register(&device_id, &device)).await?;
        Ok(Response::new(RegisterDeviceResponse {}))
    }

    async fn confirm_segment(
        &self,
        _: Request<wire::ConfirmSegmentRequest>,
    ) -> Result<Response<wire::ConfirmSegmentResponse>, Status> {
        Err(status::not_built())
    }

    async fn return_segment(
        &self,
        _: Request<wire::ReturnSegmentRequest>,
    ) -> Result<Response<wire::ReturnSegmentResponse>, Status> {
        Err(status::not_built())
    }

    async fn get_segment_request(
        &self,
        _: Request<wire::GetSegmentRequestRequest>,
    ) -> Result<Response<wire::GetSegmentRequestResponse>, Status> {
        Err(status::not_built())
    }

    async fn get_monitor(
        &self,
        _: Request<wire::GetMonitorRequest>,
    ) -> Result<Response<wire::GetMonitorResponse>, Status> {
        Err(status::not_built())
    }

    async fn report_period(
        &self,
        _: Request<wire::ReportPeriodRequest>,
    ) -> Result<Response<wire::ReportPeriodResponse>, Status> {
        Err(status::not_built())
    }

    async fn clear_period(
        &self,
        _: Request<wire::ClearPeriodRequest>,
    ) -> Result<Response<wire::ClearPeriodResponse>, Status> {
        Err(status::not_built())
    }

    async fn get_summary(
        &self,
        _: Request<wire::GetSummaryRequest>,
    ) -> Result<Response<wire::GetSummaryResponse>, Status> {
        Err(status::not_built())
    }

    type ListHeldStream = tokio_stream::Empty<Result<wire::ListHeldResponse, Status>>;

    async fn list_held(
        &self,
        _: Request<wire::ListHeldRequest>,
    ) -> Result<Response<Self::ListHeldStream>, Status> {
        Err(status::not_built())
    }
}

fn check_id(name: &str, id: &[u8]) -> Result<(), Status> {
    match id.len() {
        ID_LEN => Ok(()),
        _ => Err(status::invalid(&format!("{name}: 16 bytes are needed"))),
    }
}

fn read_kind(name: &str) -> Result<Kind, Status> {
    pb::InvoiceKind::from_str_name(name)
        .and_then(|kind| Kind::from_wire(kind.into()))
        .ok_or_else(|| status::invalid("kind: the name of an InvoiceKind is needed"))
}
