//! One kind of request each, top to bottom; every step needs what the step above returned.

mod api;
mod issue;
mod query;

pub use api::PlatformApi;

use crate::{
    admission::Admission,
    clock::Clock,
    contract::{Profiles, Target},
    identity::{self, PeerCertificate},
    model::{CstTime, Kind, RequestKey, Serial},
    numbering::{IssuedInvoice, Numbering, Outcome},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::{Device, Platform, Registry},
    store::Delivered,
};
use prost::Message as _;
use std::{sync::Arc, time::Duration};

/// What every request passes through.
#[derive(Debug)]
pub struct Pipeline {
    /// Who owns the numbers.
    pub numbering: Numbering,
    /// Rules by profile.
    pub profiles: Profiles,
    /// Load.
    pub admission: Admission,
    /// Time.
    pub clock: Clock,
}

impl Pipeline {
    fn platform(
        &self,
        registry: &Registry,
        peer: Option<&PeerCertificate>,
    ) -> Result<Arc<Platform>, Refusal> {
        identity::platform(registry, peer, self.clock.now())
    }

    /// The outcome as the wire has it; delivery is looked up, since it travels beside the invoice.
    fn wire(&self, outcome: Outcome) -> Result<pb::Outcome, Refusal> {
        use pb::outcome::Result as Wire;
        let result = match outcome {
            Outcome::Issued(issued) => Wire::Issued(self.issued(&issued)?),
            Outcome::InDoubt { ask_after } => {
                Wire::InDoubt(pb::InDoubt { ask_after_ms: crate::convert::millis(ask_after) })
            }
            Outcome::Voided { number, reason } => Wire::Voided(pb::Voided {
                code: number.as_ref().map(|number| number.code.clone()).unwrap_or_default(),
                number: number.map(|number| number.number_text()).unwrap_or_default(),
                reason,
            }),
            Outcome::Closed { at } => Wire::Closed(pb::Closed { closed_at: at.rfc3339() }),
            Outcome::Unknown => Wire::Unknown(pb::Unknown {}),
        };
        Ok(pb::Outcome { result: Some(result) })
    }

    fn issued(&self, issued: &IssuedInvoice) -> Result<pb::Issued, Refusal> {
        let unreadable = |text: String| {
            tracing::error!(claim = issued.claim.0, text, "a stored invoice cannot be answered");
            Refusal::new(Reason::Internal, "the stored invoice cannot be read; it stays issued")
        };
        let invoice = pb::Invoice::decode(issued.bytes.clone())
            .map_err(|error| unreadable(error.to_string()))?;
        let delivered = self.numbering.books().delivered(issued.claim);
        let delivered = delivered.map_err(|error| unreadable(crate::refusal::chain(&error)))?;
        let delivery = match delivered {
            Delivered::Pending => {
                let issued_at = CstTime::parse(&invoice.issue_time).map_or(0, CstTime::unix);
                let age_s = self.clock.now().unix().saturating_sub(issued_at).max(0);
                pb::DeliveryState {
                    state: pb::Delivery::Pending.into(),
                    receipt: None,
                    pending_ms: age_s.saturating_mul(1000),
                }
            }
            Delivered::Answered { serial, index, rejected } => pb::DeliveryState {
                state: match rejected {
                    None => pb::Delivery::Accepted.into(),
                    Some(_) => pb::Delivery::Rejected.into(),
                },
                // Only verified receipts are ever stored.
                receipt: Some(pb::ReceiptReference { id: serial, index, verified: true }),
                pending_ms: 0,
            },
        };
        Ok(pb::Issued { invoice: Some(invoice), delivery: Some(delivery) })
    }
}

/// The key of a serial that a caller asks for.
///
/// # Errors
/// `TaxpayerNotBound` when no such taxpayer is registered, `FieldInvalid` for a malformed serial.
fn request_key(
    registry: &Registry,
    platform: &Platform,
    (taxpayer_id, serial): (&str, &str),
) -> Result<RequestKey, Refusal> {
    let taxpayer = registry.taxpayer_by_id(taxpayer_id).ok_or_else(not_bound)?.no;
    let serial = Serial::parse(serial).ok_or_else(|| {
        Refusal::new(Reason::FieldInvalid, "serial: 1 to 20 visible ASCII characters are needed")
    })?;
    Ok(RequestKey { platform: platform.no, taxpayer, serial })
}

fn not_bound() -> Refusal {
    Refusal::new(Reason::TaxpayerNotBound, "the platform is not bound to this taxpayer")
}

/// The device that would sign, of those that the taxpayer has.
///
/// # Errors
/// `DeviceUnavailable` when there is none, `DeviceAmbiguous` when the caller must name one.
fn device<'a>(
    registry: &'a Registry,
    taxpayer: crate::model::TaxpayerNo,
    draft: &pb::InvoiceDraft,
) -> Result<&'a Device, Refusal> {
    let kind = Kind::from_wire(draft.kind);
    let mut of_kind = registry.devices_of(taxpayer).filter(|device| {
        if draft.device_id.is_empty() {
            device.enabled && kind.is_none_or(|kind| device.kinds.contains(&kind))
        } else {
            device.id == draft.device_id
        }
    });
    let first = of_kind.next();
    if of_kind.next().is_some() {
        return Err(Refusal::new(
            Reason::DeviceAmbiguous,
            "the taxpayer has several devices for this kind; name one in draft.device_id",
        ));
    }
    // None for the kind: any of the taxpayer's, so that the rules say what is wrong with the kind.
    first
        .or_else(|| registry.devices_of(taxpayer).find(|device| device.enabled))
        .map(AsRef::as_ref)
        .ok_or_else(|| {
            Refusal::new(Reason::DeviceUnavailable, "the taxpayer has no virtual device in use")
        })
}

#[tonic::async_trait]
impl PlatformApi for Pipeline {
    async fn issue(
        &self,
        peer: Option<PeerCertificate>,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::Outcome, Refusal> {
        self.issue_invoice(peer.as_ref(), deadline, draft).await
    }

    async fn query(
        &self,
        peer: Option<PeerCertificate>,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal> {
        self.get_invoice(peer.as_ref(), (&taxpayer_id, &serial))
    }

    async fn resolve(
        &self,
        peer: Option<PeerCertificate>,
        deadline: Duration,
        taxpayer_id: String,
        serial: String,
    ) -> Result<pb::Outcome, Refusal> {
        self.resolve_invoice(peer.as_ref(), deadline, (&taxpayer_id, &serial)).await
    }

    async fn describe_self(
        &self,
        peer: Option<PeerCertificate>,
    ) -> Result<pb::GetSelfResponse, Refusal> {
        self.get_self(peer.as_ref())
    }
}

/// What a draft is checked against; kept together so that `issue` reads from top to bottom.
fn target<'a>(
    registry: &'a Registry,
    key: &RequestKey,
    draft: &pb::InvoiceDraft,
) -> Result<Target<'a>, Refusal> {
    if !registry.bindings.contains(&(key.platform, key.taxpayer)) {
        return Err(not_bound());
    }
    let taxpayer = registry.taxpayers.get(&key.taxpayer).ok_or_else(not_bound)?;
    let device = device(registry, key.taxpayer, draft)?;
    Ok(Target { platform: key.platform, taxpayer, device })
}
