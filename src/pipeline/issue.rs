//! IssueInvoice (开具发票): who asks, what for, is it known, is it right, its number, its signature.

use super::{
    Pipeline,
    answer::in_doubt,
    target::{request_key, target},
};
use crate::{
    contract::{self, Checked, Draft},
    identity::PeerCertificate,
    model::RequestKey,
    numbering::{Known, Outcome},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::{Platform, Registry},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// A request that can be looked up.
pub(super) struct Asked {
    registry: Arc<Registry>,
    platform: Arc<Platform>,
    /// Whose serial.
    pub(super) key: RequestKey,
    /// What for.
    pub(super) draft: Draft,
}

impl Pipeline {
    /// Issues one invoice. Once a claim exists, only ISSUED, IN_DOUBT or VOIDED is answered; tonic
    /// drops this future when its caller leaves, and nothing after the claim depends on it.
    pub(super) async fn issue_invoice(
        &self,
        peer: Option<&PeerCertificate>,
        deadline: Duration,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<pb::Outcome, Refusal> {
        let asked = self.asked(peer, draft)?;
        let permit = self.admission.admit(deadline)?;
        // A bound serial meets no rule: a replay after a rate change must not hear REFUSED.
        if let Some(known) = self.numbering.look_up(&asked.key, &asked.draft)? {
            let outcome = self.ended(known, permit.left()).await?;
            return self.wire(outcome);
        }
        let checked = self.checked(asked)?;
        let assigned = self.numbering.assign(checked, permit.left()).await?;
        Ok(self.after_claim(assigned.within(permit.left()).await?))
    }

    /// Who asks, and what for. No rule is met yet.
    pub(super) fn asked(
        &self,
        peer: Option<&PeerCertificate>,
        draft: Option<pb::InvoiceDraft>,
    ) -> Result<Asked, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let draft = contract::normalise(draft)?;
        let seller = draft.wire.seller.as_ref().map_or("", |seller| &seller.taxpayer_id);
        let key = request_key(&registry, &platform, (seller, draft.serial.as_str()))?;
        Ok(Asked { registry, platform, key, draft })
    }

    /// The grants and the rules, for a serial that is free.
    pub(super) fn checked(&self, asked: Asked) -> Result<Checked, Refusal> {
        let Asked { registry, platform, key, draft } = asked;
        if !platform.enabled {
            return Err(Refusal::new(Reason::PlatformSuspended, "the platform is suspended"));
        }
        let target = target(&registry, &key, &draft.wire)?;
        let profile = self.profile(target.device)?;
        let checked = contract::check(draft, target, profile, self.clock.now())?;
        for shadowed in checked.shadowed() {
            crate::metrics::shadowed(&platform.id, shadowed.reason.name());
            let (field, reason) = (&shadowed.field, shadowed.reason.name());
            tracing::info!(platform = platform.id, field, reason, "would have been refused");
        }
        Ok(checked)
    }

    /// The answer once a claim may exist: what cannot be told, even by a panic, is in doubt.
    fn after_claim(&self, outcome: Outcome) -> pb::Outcome {
        let told = catch_unwind(AssertUnwindSafe(|| self.wire(outcome)));
        match told {
            Ok(Ok(told)) => told,
            Ok(Err(_)) | Err(_) => in_doubt(),
        }
    }

    /// What a known serial ends as, within the caller's time.
    pub(super) async fn ended(&self, known: Known, left: Duration) -> Result<Outcome, Refusal> {
        match known {
            Known::Done(outcome) => Ok(outcome),
            Known::Open(claim) => self.numbering.wait(claim, left).await?.within(left).await,
        }
    }
}
