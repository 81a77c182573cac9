//! What the actor is handed: new work, and completions of what was begun before.

use super::{Assigned, Evidence, Round, Void};
use crate::{
    contract::Checked,
    model::{ClaimId, DeviceNo, InvoiceNumber, Kind, RequestKey},
    refusal::Refusal,
    signer::{DeviceAnswer, Signed},
    store::{Claim, Durable},
};
use tokio::sync::oneshot;

/// Tells whoever asked, once the batch is durable or refused.
pub(super) type Deliver = Box<dyn FnOnce(Result<(), Refusal>) + Send>;
/// Decides within a round.
pub(super) type Decide = Box<dyn FnOnce(&mut Round<'_>) -> Deliver + Send>;

/// Where an asker hears what came of its request.
pub(super) type Reply = oneshot::Sender<Result<Assigned, Refusal>>;

/// New work.
pub(super) enum Work {
    Assign { checked: Box<Checked>, reply: Reply },
    Wait { claim: ClaimId, reply: Reply },
    Resolve { key: RequestKey, reply: Reply },
    Change(Decide),
}

/// What ends something that was begun before.
pub(super) enum Completion {
    Signed { claim: Durable<Claim>, signed: Signed },
    DeviceIssued { claim: Durable<Claim>, answer: DeviceAnswer },
    NothingIssued { claim: Durable<Claim>, next: Option<InvoiceNumber> },
    Invalid { claim: Durable<Claim>, evidence: String },
    DeviceNext { device: DeviceNo, kind: Kind, next: Option<InvoiceNumber> },
    Void { claim: Durable<Claim>, evidence: Option<Evidence>, wish: Void },
    Change(Option<Decide>),
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

impl std::fmt::Debug for Completion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Completion")
    }
}

impl Completion {
    /// The claim that it ends.
    pub(super) fn claim(&self) -> Option<&Durable<Claim>> {
        match self {
            Self::Signed { claim, .. }
            | Self::DeviceIssued { claim, .. }
            | Self::NothingIssued { claim, .. }
            | Self::Invalid { claim, .. }
            | Self::Void { claim, .. } => Some(claim),
            Self::DeviceNext { .. } | Self::Change(_) => None,
        }
    }

    /// The claim that it was to end.
    pub(super) fn into_claim(self) -> Option<Durable<Claim>> {
        match self {
            Self::Signed { claim, .. }
            | Self::DeviceIssued { claim, .. }
            | Self::NothingIssued { claim, .. }
            | Self::Invalid { claim, .. }
            | Self::Void { claim, .. } => Some(claim),
            Self::DeviceNext { .. } | Self::Change(_) => None,
        }
    }
}
