//! The client of one acceptance route: mTLS, deadlines, and what an answer means. It decides
//! nothing about batches and keeps no state but its connection.
//!
//! Invariants: no receipt leaves here unverified; this is the only file that reads received status
//! codes.

mod reconcile;
pub mod stock;

pub use reconcile::{Held, HeldWindow};

use super::receipt::{BatchId, ItemName, Lie, ReceiptKey, VerifiedReceipt, is_acceptance_serial};
use crate::{
    model::{CstTime, InvoiceNumber, Kind},
    pb::authority::v1::{
        AcquireSegmentRequest, BatchItem, GetMonitorRequest, GetReceiptRequest,
        GetSeriesHeadRequest, GetSeriesHeadResponse, Receipt, RegisterDeviceRequest,
        SubmitBatchRequest, acceptance_service_client::AcceptanceServiceClient,
    },
    registry::{Device, MonitorFacts, Route},
    transport::{ClientTls, ConnectError, lazy_channel},
};
use std::{future::Future, time::Duration};
use tonic::{Code, Request, Response, Status, transport::Channel};

/// How long a call may take, connecting included.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a call to the acceptance came to when it gave no answer to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No answer, or "later": whether the work was done is not known. Send the same again.
    #[error("the acceptance gave no answer: {detail}")]
    Unreachable {
        /// What happened.
        detail: String,
    },
    /// It refuses this call for good; the same again hears the same.
    #[error("the acceptance refuses the call ({code}): {detail}")]
    Refused {
        /// The gRPC code's name.
        code: &'static str,
        /// Its words.
        detail: String,
    },
    /// The answer is not true: a receipt that does not verify, or content that cannot be. An
    /// incident; the rows stay pending.
    #[error("the acceptance's answer is not to be believed: {lie}")]
    Lying {
        /// What is wrong with it.
        lie: Lie,
    },
}

impl UpstreamError {
    /// Whether the acceptance says this of what it was handed, rather than of who hands it in.
    #[must_use]
    pub fn is_about_the_batch(&self) -> bool {
        match self {
            Self::Refused { code, .. } => ABOUT_CONTENT.contains(code),
            Self::Lying { .. } => true,
            Self::Unreachable { .. } => false,
        }
    }
}

/// Codes that say something of a request's content.
const ABOUT_CONTENT: [&str; 4] =
    ["INVALID_ARGUMENT", "ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE"];

/// Why a route cannot be used as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The address or the server name is none.
    #[error("open the route's channel")]
    Channel(#[source] ConnectError),
    /// The receipt key is no P-256 key in DER.
    #[error("the receipt key of route {province} is no P-256 key in DER")]
    ReceiptKey {
        /// The route's province.
        province: String,
    },
}

/// What the acceptance knows of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesHead {
    /// How many numbers of the series it holds.
    pub count: u64,
    /// The highest of them under each code, ascending by code.
    pub heads: Vec<InvoiceNumber>,
    /// Its clock.
    pub authority_time: CstTime,
}

/// What the acceptance says of a batch that it has.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// The verified receipt.
    Judged(Box<VerifiedReceipt>),
    /// It is still being judged; the acceptance serial (受理序列号).
    Judging(String),
}

/// A request for numbers; kept and sent again unchanged until it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRequest {
    /// Chosen once.
    pub id: [u8; 16],
    /// Virtual device id.
    pub device: String,
    /// Kind.
    pub kind: Kind,
    /// How many numbers, 1 to 100000.
    pub count: u32,
}

/// Numbers that the acceptance handed out: consecutive, both ends included, as many as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcquiredSegment {
    /// First number.
    pub first: InvoiceNumber,
    /// Last number, under the same code.
    pub last: InvoiceNumber,
}

/// The client of one route. Clones share its connection, which is made when it is first needed.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: AcceptanceServiceClient<Channel>,
    receipt_key: ReceiptKey,
}

impl Upstream {
    /// A client of `route`; connects to nobody yet.
    ///
    /// # Errors
    /// When the route's server name is no name or its receipt key no P-256 key.
    pub fn new(route: &Route, tls: &ClientTls) -> Result<Self, RouteError> {
        let receipt_key = ReceiptKey::parse(&route.receipt_key)
            .ok_or_else(|| RouteError::ReceiptKey { province: route.province.clone() })?;
        let channel =
            lazy_channel(&route.address, &route.server_name, tls).map_err(RouteError::Channel)?;
        Ok(Self { client: AcceptanceServiceClient::new(channel), receipt_key })
    }

    /// Submits a batch (上传). A resend must have the same id and the same items.
    ///
    /// # Errors
    /// `Unreachable` when the batch may or may not have arrived, `Refused`, `Lying`.
    pub async fn submit_batch(
        &self,
        batch: BatchId,
        items: Vec<BatchItem>,
        names: &[ItemName],
    ) -> Result<Submitted, UpstreamError> {
        let request = SubmitBatchRequest { batch_id: batch.0.to_vec(), items };
        let mut client = self.client.clone();
        let answer = within_deadline(client.submit_batch(timed(request))).await?;
        self.verify((answer.receipt, answer.acceptance_serial), batch, names)
    }

    /// The receipt of a batch sent before (上传结果); `None` when the batch never arrived.
    ///
    /// # Errors
    /// As `submit_batch`.
    pub async fn find_batch(
        &self,
        batch: BatchId,
        names: &[ItemName],
    ) -> Result<Option<Submitted>, UpstreamError> {
        let request = GetReceiptRequest { batch_id: batch.0.to_vec() };
        let mut client = self.client.clone();
        match within_deadline(client.get_receipt(timed(request))).await {
            Ok(answer) => {
                self.verify((answer.receipt, answer.acceptance_serial), batch, names).map(Some)
            }
            Err(UpstreamError::Refused { code: NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the acceptance knows of a series.
    ///
    /// # Errors
    /// As `submit_batch`.
    pub async fn series_head(&self, device: &str, kind: Kind) -> Result<SeriesHead, UpstreamError> {
        let kind = kind.to_wire().as_str_name().to_owned();
        let request = GetSeriesHeadRequest { device_id: device.to_owned(), kind };
        let mut client = self.client.clone();
        let answer = within_deadline(client.get_series_head(timed(request))).await?;
        read_head(&answer).map_err(lying)
    }

    /// Acquires numbers (发票领用). The same request again gets the same numbers.
    ///
    /// # Errors
    /// As `submit_batch`.
    pub async fn acquire(&self, wanted: &SegmentRequest) -> Result<AcquiredSegment, UpstreamError> {
        let request = AcquireSegmentRequest {
            request_id: wanted.id.to_vec(),
            device_id: wanted.device.clone(),
            kind: wanted.kind.to_wire().as_str_name().to_owned(),
            count: wanted.count,
        };
        let mut client = self.client.clone();
        let answer = within_deadline(client.acquire_segment(timed(request))).await?;
        let first = read_number(&answer.code, &answer.first).map_err(lying)?;
        let last = read_number(&answer.code, &answer.last).map_err(lying)?;
        let length = last.number.checked_sub(first.number).and_then(|gap| gap.checked_add(1));
        if length != Some(wanted.count) {
            return Err(lying(Lie::Malformed { what: "the segment has another length" }));
        }
        Ok(AcquiredSegment { first, last })
    }

    /// Registers a device's public key (发行); the same registration again changes nothing.
    ///
    /// # Errors
    /// As `submit_batch`; `Refused` when the id is registered with another key.
    pub async fn register_device(
        &self,
        device: &Device,
        taxpayer_id: &str,
    ) -> Result<(), UpstreamError> {
        let request = RegisterDeviceRequest {
            device_id: device.id.clone(),
            taxpayer_id: taxpayer_id.to_owned(),
            public_key: device.public_key.clone(),
            draws_numbers: device.backend.draws_numbers(),
        };
        let mut client = self.client.clone();
        within_deadline(client.register_device(timed(request))).await.map(drop)
    }

    /// Monitor data of a device and kind (监控数据).
    ///
    /// # Errors
    /// As `submit_batch`.
    pub async fn monitor(&self, device: &str, kind: Kind) -> Result<MonitorFacts, UpstreamError> {
        let name = kind.to_wire().as_str_name().to_owned();
        let request = GetMonitorRequest { device_id: device.to_owned(), kind: name };
        let mut client = self.client.clone();
        let answer = within_deadline(client.get_monitor(timed(request))).await?;
        let missing = || lying(Lie::Malformed { what: "the answer has no monitor data" });
        let data = answer.monitor.ok_or_else(missing)?;
        MonitorFacts::read(&data, device, kind)
            .map_err(|flaw| lying(Lie::Malformed { what: flaw.what() }))
    }

    fn verify(
        &self,
        (receipt, serial): (Option<Receipt>, String),
        batch: BatchId,
        items: &[ItemName],
    ) -> Result<Submitted, UpstreamError> {
        match receipt {
            Some(receipt) => VerifiedReceipt::check(receipt, &self.receipt_key, batch, items)
                .map(|receipt| Submitted::Judged(Box::new(receipt)))
                .map_err(lying),
            None if is_acceptance_serial(&serial) => Ok(Submitted::Judging(serial)),
            None => {
                let what = "the answer has neither a receipt nor an acceptance serial";
                Err(lying(Lie::Malformed { what }))
            }
        }
    }
}

fn lying(lie: Lie) -> UpstreamError {
    UpstreamError::Lying { lie }
}

fn read_head(answer: &GetSeriesHeadResponse) -> Result<SeriesHead, Lie> {
    let authority_time =
        CstTime::parse(&answer.authority_time).ok_or(Lie::Malformed { what: "authority_time" })?;
    let heads = answer.codes.iter().map(|head| read_number(&head.code, &head.number));
    let heads: Vec<_> = heads.collect::<Result<_, _>>()?;
    if answer.count > 0 && heads.is_empty() {
        return Err(Lie::Malformed { what: "a series with numbers has no code" });
    }
    Ok(SeriesHead { count: answer.count, heads, authority_time })
}

fn read_number(code: &str, number: &str) -> Result<InvoiceNumber, Lie> {
    let digits = code.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(code.len(), 10 | 12) || !digits {
        return Err(Lie::Malformed { what: "code" });
    }
    let number = InvoiceNumber::parse_number(number).ok_or(Lie::Malformed { what: "number" })?;
    Ok(InvoiceNumber { code: code.to_owned(), number })
}

/// The server hears the deadline too, so that it does not work for nobody.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

async fn within_deadline<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, UpstreamError> {
    within(DEADLINE, call).await
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, UpstreamError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => {
            let detail = format!("nothing came within {} ms", limit.as_millis());
            Err(UpstreamError::Unreachable { detail })
        }
    }
}

const NOT_FOUND: &str = "NOT_FOUND";

/// What a status means; the only function that reads received codes. A code that transport failures
/// also produce counts as no answer: giving a batch up by mistake would be worse than asking again.
fn from_status(status: &Status) -> UpstreamError {
    let code = match status.code() {
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => NOT_FOUND,
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => {
            return UpstreamError::Unreachable { detail: describe(status) };
        }
    };
    UpstreamError::Refused { code, detail: status.message().to_owned() }
}

/// The status' words and what caused it, such as a failed connection.
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_ends_at_the_deadline_and_is_no_refusal() {
        let silence = std::future::pending::<Result<Response<()>, Status>>();
        let error = within(Duration::from_millis(1), silence).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error}");
    }

    #[test]
    fn only_a_code_that_no_failing_transport_makes_is_a_refusal() {
        for (code, refused) in [
            (Code::InvalidArgument, true),
            (Code::AlreadyExists, true),
            (Code::FailedPrecondition, true),
            (Code::PermissionDenied, true),
            (Code::Unavailable, false),
            (Code::Unknown, false),
            (Code::Internal, false),
            (Code::Cancelled, false),
            (Code::DeadlineExceeded, false),
            (Code::ResourceExhausted, false),
        ] {
            let error = from_status(&Status::new(code, "why"));
            assert_eq!(matches!(error, UpstreamError::Refused { .. }), refused, "{code:?}");
        }
    }
}
