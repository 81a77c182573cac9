//! VoidInvoice (作废): who asks, and for what. The rules are judged where the void is decided.

use super::{Pipeline, target::not_bound};
use crate::{
    contract,
    identity::PeerCertificate,
    model::{Fen, InvoiceNumber, RequestKey, Serial},
    numbering::VoidWish,
    pb::v1 as pb,
    refusal::{Reason, Refusal},
};
use std::time::Duration;

/// Longest reason. Unit: GBK bytes.
const REASON_LEN_MAX: usize = 100;

impl Pipeline {
    /// Voids an issued invoice of the caller's. A number that is voided already is answered as
    /// such, so that a repeated request hears the same.
    pub(super) async fn void_invoice(
        &self,
        peer: Option<&PeerCertificate>,
        deadline: Duration,
        request: &pb::VoidInvoiceRequest,
    ) -> Result<pb::VoidInvoiceResponse, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?.no;
        let (number, serial) = wanted(request)?;
        let taxpayer = registry.taxpayer_by_id(&request.taxpayer_id).ok_or_else(not_bound)?.no;
        let _permit = self.admission.admit(deadline)?;
        let request = VoidWish {
            request: RequestKey { platform, taxpayer, serial },
            number,
            reason: request.reason.clone(),
            amount: request.amount_fen.map(Fen),
        };
        let voided = self.numbering.void_invoice(request).await?;
        Ok(pb::VoidInvoiceResponse { voided: Some(self.voided(&voided)?) })
    }
}

/// The number that is to be voided and the request's id; everything else of the request well
/// formed.
fn wanted(request: &pb::VoidInvoiceRequest) -> Result<(InvoiceNumber, Serial), Refusal> {
    let invalid = |hint: &str| Refusal::new(Reason::FieldInvalid, hint);
    let code = &request.code;
    if ![10, 12].contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid("code: 10 or 12 digits are needed"));
    }
    let number = InvoiceNumber::parse_number(&request.number)
        .ok_or_else(|| invalid("number: 8 digits are needed"))?;
    if request.reason.trim().is_empty() {
        return Err(Refusal::new(Reason::FieldMissing, "reason: say why it is voided"));
    }
    if contract::gbk_len(&request.reason).is_none_or(|len| len > REASON_LEN_MAX) {
        return Err(invalid("reason: at most 100 bytes of GBK text are taken"));
    }
    let id = Serial::parse(&request.request_id)
        .ok_or_else(|| invalid("request_id: 1 to 20 visible ASCII characters are needed"))?;
    Ok((InvoiceNumber { code: code.clone(), number }, id))
}
