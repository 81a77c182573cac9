//! VoidInvoice (作废): whose number it is, what became of it, whether the rules let it be voided.

use super::{Pipeline, answer::voided, target::not_bound};
use crate::{
    contract::{self, VoidCase},
    identity::PeerCertificate,
    model::{InvoiceNumber, Serial},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    store::Fate,
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
        let platform = self.platform(&registry, peer)?;
        let number = wanted(request)?;
        let taxpayer = registry.taxpayer_by_id(&request.taxpayer_id).ok_or_else(not_bound)?.no;
        let permit = self.admission.admit(deadline)?;
        let found = self.numbering.read(move |books| books.numbered(&number)).await?;
        drop(permit);
        let ours = found.filter(|found| {
            let key = found.request();
            (key.platform, key.taxpayer) == (platform.no, taxpayer)
        });
        let Some(found) = ours else {
            let hint = "no invoice of this taxpayer that the platform issued has this number";
            return Err(Refusal::new(Reason::NotFound, hint));
        };
        let issued_at = match (&found.fate, found.listed_as()) {
            (Fate::Voided(void), _) => {
                let voided = voided(void.number.as_ref(), void.reason.clone());
                return Ok(pb::VoidInvoiceResponse { voided: Some(voided) });
            }
            (_, Some((_, place))) => place.at,
            (_, None) => {
                let hint = "the number is in doubt; ask ResolveInvoice what became of its serial";
                return Err(Refusal::new(Reason::VoidNotAllowed, hint));
            }
        };
        if !platform.enabled {
            return Err(Refusal::new(Reason::PlatformSuspended, "the platform is suspended"));
        }
        if !registry.bindings.contains(&(platform.no, taxpayer)) {
            return Err(not_bound());
        }
        // Reports of periods are not kept yet; a signature that was found wrong never left.
        let (reported, signing_failed) = (false, false);
        let case = VoidCase { kind: found.kind().0, issued_at, reported, signing_failed };
        contract::may_void(case, self.clock.now())?;
        let hint = "voids of paper invoices are not offered yet; void it at the device, or issue a \
                    red-letter invoice";
        Err(Refusal::new(Reason::OperationNotAllowed, hint))
    }
}

/// The number that is to be voided; everything else of the request well formed.
fn wanted(request: &pb::VoidInvoiceRequest) -> Result<InvoiceNumber, Refusal> {
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
    if Serial::parse(&request.request_id).is_none() {
        return Err(invalid("request_id: 1 to 20 visible ASCII characters are needed"));
    }
    Ok(InvoiceNumber { code: code.clone(), number })
}
