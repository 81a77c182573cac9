//! GetInvoice, ResolveInvoice and GetSelf: what is known, and the final word on a serial.

use super::{
    Pipeline,
    target::{not_bound, request_key, taxpayer},
};
use crate::{
    identity::PeerCertificate,
    model::{InvoiceNumber, PlatformNo, TaxpayerNo},
    numbering::{Known, Outcome},
    pb::v1 as pb,
    refusal::Refusal,
    registry::{Operation, Registry},
};
use std::time::Duration;

impl Pipeline {
    /// What is known of a serial. UNKNOWN is not final: the request may still be under way.
    pub(super) fn get_invoice(
        &self,
        peer: Option<&PeerCertificate>,
        asked: (&str, &str),
    ) -> Result<pb::Outcome, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let key = request_key(&registry, &platform, asked)?;
        registry.may_read((key.platform, key.taxpayer), Operation::Query)?;
        let known = self.numbering.ask(&key)?;
        self.told(&registry, (key.platform, key.taxpayer), known)
    }

    /// What is known of a number of the caller's. UNKNOWN for anybody else's too.
    pub(super) async fn get_numbered(
        &self,
        peer: Option<&PeerCertificate>,
        taxpayer_id: &str,
        number: InvoiceNumber,
    ) -> Result<pb::Outcome, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let taxpayer = taxpayer(&registry, taxpayer_id).ok_or_else(not_bound)?;
        let asker = (platform.no, taxpayer);
        registry.may_read(asker, Operation::Query)?;
        let known = self.numbering.ask_number(asker, number).await?;
        self.told(&registry, asker, known)
    }

    /// What is known, as whoever asks may hear it: of what it did not issue, a platform that is not
    /// bound is not even told that the taxpayer exists.
    fn told(
        &self,
        registry: &Registry,
        asker: (PlatformNo, TaxpayerNo),
        known: Option<Known>,
    ) -> Result<pb::Outcome, Refusal> {
        self.wire(match known {
            Some(Known::Done(outcome)) => outcome,
            Some(Known::Open(_)) => Outcome::in_doubt(),
            None if registry.is_bound(asker) => Outcome::Unknown,
            None => return Err(not_bound()),
        })
    }

    /// The final word on a serial. Asking is open to a suspended platform; closing an unused serial
    /// needs the binding, so that nobody closes serials of a taxpayer that is not its own.
    pub(super) async fn resolve_invoice(
        &self,
        peer: Option<&PeerCertificate>,
        deadline: Duration,
        asked: (&str, &str),
    ) -> Result<pb::Outcome, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let key = request_key(&registry, &platform, asked)?;
        let asker = (key.platform, key.taxpayer);
        registry.may_read(asker, Operation::Query)?;
        let permit = self.admission.admit(deadline)?;
        if let Some(known) = self.numbering.ask(&key)? {
            let outcome = self.ended(known, permit.left()).await?;
            return self.wire(outcome);
        }
        registry.may(asker, Operation::Query)?;
        let resolved = self.numbering.resolve(key, permit.left()).await?;
        self.wire(resolved.within(permit.left()).await?)
    }

    /// Who the caller is and for whom it may act.
    pub(super) fn get_self(
        &self,
        peer: Option<&PeerCertificate>,
    ) -> Result<pb::GetSelfResponse, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let bound = registry.bindings.keys().filter(|(no, _)| *no == platform.no);
        let taxpayers = bound.filter_map(|(_, taxpayer)| registry.taxpayers.get(taxpayer));
        let mut taxpayer_ids: Vec<_> = taxpayers.map(|taxpayer| taxpayer.id.clone()).collect();
        taxpayer_ids.sort_unstable();
        let (platform_id, name) = (platform.id.clone(), platform.name.clone());
        Ok(pb::GetSelfResponse { platform_id, name, taxpayer_ids })
    }
}
