//! Statuses of the admin service: the same refusals, plus what only operators hear.

use crate::{
    refusal::{Reason, Refusal},
    status,
};
use tonic::Status;

/// A refusal, or a field that is no such thing.
pub(super) fn refused(refusal: &Refusal) -> Status {
    status::refused(refusal)
}

/// A field of the request that cannot be read.
pub(super) fn invalid(field: &str, hint: &str) -> Status {
    refused(&Refusal::new(Reason::FieldInvalid, format!("{field}: {hint}")))
}

/// What went wrong inside; operators get the whole chain.
pub(super) fn internal(error: &dyn std::error::Error) -> Status {
    refused(&Refusal::new(Reason::Internal, crate::refusal::chain(error)))
}
