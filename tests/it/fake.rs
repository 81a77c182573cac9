//! A pipeline without books, for what stands before it: it echoes, or it is in doubt.

use skproxy::{
    clock, identity,
    model::InvoiceNumber,
    pb::{codec, v1},
    pipeline::{InvoicePage, Peer, PlatformApi},
    refusal::{Reason, Refusal},
    registry::Registry,
};
use std::{sync::Mutex, time::Duration};
use tokio::sync::Semaphore;
use v1::outcome::Result as Wire;

/// How long a serial that begins with `slow` takes, as a signer would.
const SLOW: Duration = Duration::from_millis(2);

/// How a fake answers what is to be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It echoes. A serial that begins with `panic` panics, one that begins with `gate` waits for
    /// the gate, one that begins with `slow` takes a moment, so that there are always calls under
    /// way.
    Fakees,
    /// It waits for the gate, and never knows.
    Doubts,
    /// It waits for the gate, and then breaks.
    Breaks(Reason),
}

/// A pipeline without books.
pub(crate) struct Fake {
    mood: Mood,
    /// Serials that reached the handler.
    pub(crate) seen: Mutex<Vec<String>>,
    pub(crate) gate: Semaphore,
}

impl Default for Fake {
    fn default() -> Self {
        Self::of(Mood::Fakees)
    }
}

impl Fake {
    pub(crate) fn of(mood: Mood) -> Self {
        Self { mood, seen: Mutex::default(), gate: Semaphore::new(0) }
    }

    pub(crate) fn saw(&self, serial: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|seen| seen == serial)
    }
}

fn echoed(code: String, number: String, reason: String) -> v1::Outcome {
    let voided = v1::Voided { code, number, reason, ..Default::default() };
    v1::Outcome { result: Some(Wire::Voided(voided)) }
}

#[tonic::async_trait]
impl PlatformApi for Fake {
    /// The answer's code is the peer's key, its number the length of the undecoded message, its
    /// reason the remark.
    async fn issue(
        &self,
        peer: Peer,
        _: Duration,
        draft: Option<v1::InvoiceDraft>,
    ) -> Result<v1::Outcome, Refusal> {
        let draft = draft.unwrap_or_default();
        self.seen.lock().unwrap().push(draft.serial.clone());
        assert!(!draft.serial.starts_with("panic"), "as told");
        if self.mood != Mood::Fakees || draft.serial.starts_with("gate") {
            self.gate.acquire().await.unwrap().forget();
        }
        match self.mood {
            Mood::Fakees => {}
            Mood::Doubts => {
                let in_doubt = Wire::InDoubt(v1::InDoubt { ask_after_ms: 1000 });
                return Ok(v1::Outcome { result: Some(in_doubt) });
            }
            Mood::Breaks(reason) => {
                return Err(Refusal::new(reason, "after the claim, as far as anybody knows"));
            }
        }
        if draft.serial.starts_with("slow") {
            tokio::time::sleep(SLOW).await;
        }
        let key = peer.map(|peer| peer.key.hex()).unwrap_or_default();
        Ok(echoed(key, codec::raw_message().len().to_string(), draft.remark))
    }

    async fn query_number(
        &self,
        _: Peer,
        _: String,
        number: InvoiceNumber,
    ) -> Result<v1::Outcome, Refusal> {
        Err(Refusal::new(Reason::NotFound, number.to_string()))
    }

    async fn validate(
        &self,
        _: Peer,
        _: Duration,
        _: Option<v1::InvoiceDraft>,
    ) -> Result<v1::ValidateInvoiceResponse, Refusal> {
        Ok(v1::ValidateInvoiceResponse::default())
    }

    /// An endless list, which is refused when the cursor says so.
    async fn list(
        &self,
        _: Peer,
        _: Duration,
        request: &v1::ListInvoicesRequest,
    ) -> Result<InvoicePage, Refusal> {
        if request.cursor == "refuse" {
            return Err(Refusal::new(Reason::FieldInvalid, "as told"));
        }
        let next = request.cursor.parse().unwrap_or(0) + 1;
        let invoice = |number: u64| v1::ListInvoicesResponse {
            cursor: number.to_string(),
            ..v1::ListInvoicesResponse::default()
        };
        Ok(InvoicePage { invoices: (next..next + 10).map(invoice).collect(), more: true })
    }

    async fn void(
        &self,
        _: Peer,
        _: Duration,
        request: v1::VoidInvoiceRequest,
    ) -> Result<v1::VoidInvoiceResponse, Refusal> {
        Err(Refusal::new(Reason::VoidNotAllowed, request.number))
    }

    async fn describe_device(
        &self,
        _: Peer,
        device_id: String,
    ) -> Result<v1::DescribeDeviceResponse, Refusal> {
        Ok(v1::DescribeDeviceResponse { device_id, ..Default::default() })
    }

    async fn monitor(
        &self,
        _: Peer,
        request: v1::GetMonitorRequest,
    ) -> Result<v1::GetMonitorResponse, Refusal> {
        Err(Refusal::new(Reason::NotFound, request.device_id))
    }

    async fn rates(&self, _: Peer, _: String) -> Result<v1::ListRatesResponse, Refusal> {
        Ok(v1::ListRatesResponse::default())
    }

    async fn stock(
        &self,
        _: Peer,
        _: v1::GetStockRequest,
    ) -> Result<v1::GetStockResponse, Refusal> {
        Ok(v1::GetStockResponse::default())
    }

    async fn query(&self, _: Peer, _: String, serial: String) -> Result<v1::Outcome, Refusal> {
        match self.mood {
            Mood::Fakees => Err(Refusal::new(Reason::NotFound, serial)),
            Mood::Doubts | Mood::Breaks(_) => {
                Ok(v1::Outcome { result: Some(Wire::Unknown(v1::Unknown {})) })
            }
        }
    }

    /// The answer's number is the deadline in milliseconds.
    async fn resolve(
        &self,
        _: Peer,
        deadline: Duration,
        taxpayer_id: String,
        serial: String,
    ) -> Result<v1::Outcome, Refusal> {
        assert_eq!(self.mood, Mood::Fakees, "a legacy query never closes a serial");
        Ok(echoed(taxpayer_id, deadline.as_millis().to_string(), serial))
    }

    async fn check_red(
        &self,
        _: Peer,
        asked: v1::CheckRedRequest,
    ) -> Result<v1::CheckRedResponse, Refusal> {
        Err(Refusal::new(Reason::RedOriginalUnknown, asked.number))
    }

    async fn summary(
        &self,
        _: Peer,
        _: Duration,
        _: v1::GetSummaryRequest,
    ) -> Result<v1::GetSummaryResponse, Refusal> {
        Ok(v1::GetSummaryResponse::default())
    }

    async fn describe_self(&self, peer: Peer) -> Result<v1::GetSelfResponse, Refusal> {
        let now = clock::Clock::system().now();
        let platform = identity::platform(&Registry::default(), peer.as_ref(), now)?;
        Ok(v1::GetSelfResponse { platform_id: platform.id.clone(), ..Default::default() })
    }
}

/// What `Fake` put into the outcome.
pub(crate) fn echo(outcome: Option<v1::Outcome>) -> v1::Voided {
    match outcome.and_then(|outcome| outcome.result) {
        Some(Wire::Voided(voided)) => voided,
        other => panic!("no echo: {other:?}"),
    }
}
