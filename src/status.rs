//! Turns a refusal into a gRPC status for platforms and operators; the only file that makes one for them.

use crate::refusal::{Blame, Reason, Refusal};
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// `ErrorInfo.domain` of every refusal.
pub const DOMAIN: &str = "skproxy";

/// The status of a refusal: ErrorInfo with the reason, every field violation, and RetryInfo where the
/// request may be sent again.
#[must_use]
pub fn refused(refusal: &Refusal) -> Status {
    let mut details = ErrorDetails::new();
    let mut metadata = HashMap::new();
    if let Some(first) = refusal.violations.first() {
        metadata.insert("zh".to_owned(), first.zh.clone());
    }
    details.set_error_info(refusal.reason.name(), DOMAIN, metadata);
    if !refusal.violations.is_empty() {
        details.set_bad_request(refusal.violations.iter().map(field_violation).collect::<Vec<_>>());
    }
    if let Some(after) = refusal.retry_after {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(code(refusal.reason.blame()), refusal.to_string(), details)
}

/// The status of a message that does not decode.
#[must_use]
pub fn malformed(error: &prost::DecodeError) -> Status {
    refused(&Refusal::new(
        Reason::MalformedMessage,
        format!("the message does not decode: {error}"),
    ))
}

/// The status of a call that is in the contract but not built.
#[must_use]
pub fn not_built(call: &str) -> Status {
    refused(&Refusal::new(Reason::NotBuilt, format!("{call} is not built yet")))
}

fn field_violation(violation: &crate::refusal::Violation) -> FieldViolation {
    FieldViolation::new(
        violation.field.clone(),
        format!("{}: {} / {}", violation.reason, violation.en, violation.zh),
    )
}

fn code(blame: Blame) -> Code {
    match blame {
        Blame::Caller => Code::InvalidArgument,
        Blame::Exists => Code::AlreadyExists,
        Blame::NotFound => Code::NotFound,
        Blame::Unknown => Code::Unauthenticated,
        Blame::Denied => Code::PermissionDenied,
        Blame::State => Code::FailedPrecondition,
        Blame::Quota => Code::ResourceExhausted,
        Blame::Busy => Code::Unavailable,
        Blame::Unbuilt => Code::Unimplemented,
        Blame::Bug => Code::Internal,
    }
}
