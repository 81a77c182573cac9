//! Turns a refusal into a gRPC status for platforms and operators; the only file that makes one
//! for them.

use crate::refusal::{Blame, Reason, Refusal};
use prost::Message as _;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// `ErrorInfo.domain` of every refusal.
pub const DOMAIN: &str = "skproxy";

/// Room for field violations in one status. The details travel in a trailer, as base64 of a third
/// more; many clients take 8 KiB of headers and make of a longer status one that tells nothing.
/// Unit: bytes.
const VIOLATIONS_LEN_MAX: usize = 4096;

/// Tags and lengths around the two texts of a violation. Unit: bytes.
const VIOLATION_FRAME_LEN: usize = 8;

/// The status of a refusal: ErrorInfo with the reason, the field violations that fit, and RetryInfo
/// where the request may be sent again. The message tells how many violations were left off.
#[must_use]
pub fn refused(refusal: &Refusal) -> Status {
    let mut details = ErrorDetails::new();
    let mut metadata = HashMap::new();
    if let Some(first) = refusal.violations.first() {
        metadata.insert("zh".to_owned(), first.zh.clone());
    }
    details.set_error_info(refusal.reason.name(), DOMAIN, metadata);
    let (shown, left_off) = fitting(refusal);
    if !shown.is_empty() {
        details.set_bad_request(shown);
    }
    if let Some(after) = refusal.retry_after {
        details.set_retry_info(Some(after));
    }
    let mut message = refusal.to_string();
    if left_off > 0 {
        message.push_str(&format!("; {left_off} violations are left off for want of room"));
    }
    Status::with_error_details(code(refusal.reason.blame()), message, details)
}

/// The same as a message, for an item of a stream.
///
/// # Panics
/// Never: the details are our own encoding.
#[must_use]
pub fn message(refusal: &Refusal) -> tonic_types::Status {
    let status = refused(refusal);
    tonic_types::Status::decode(status.details()).expect("details are an encoded google.rpc.Status")
}

/// The first violations that fit, in their order, and how many do not.
fn fitting(refusal: &Refusal) -> (Vec<FieldViolation>, usize) {
    // Its message and the first Chinese text stand in the details too.
    let first = refusal.violations.first().map_or(0, |first| first.zh.len());
    let mut len = refusal.hint.len() + first;
    let shown: Vec<_> = refusal
        .violations
        .iter()
        .map(field_violation)
        .take_while(|violation| {
            len += violation.field.len() + violation.description.len() + VIOLATION_FRAME_LEN;
            len <= VIOLATIONS_LEN_MAX
        })
        .collect();
    let left_off = refusal.violations.len() - shown.len();
    (shown, left_off)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::{Severity, Violation};

    fn violations(count: usize, text: &str) -> Refusal {
        let violation = |line| Violation {
            field: format!("draft.lines[{line}].amount_fen"),
            reason: Reason::LineAmountMismatch,
            severity: Severity::Refuse,
            en: format!("differs by 1 fen {text}"),
            zh: format!("相差 1 分 {text}"),
        };
        Refusal::of_violations((0..count).map(violation).collect()).unwrap()
    }

    #[test]
    fn every_violation_is_told_that_fits_into_a_clients_headers() {
        for (count, text, shown) in [
            (1, "", 1),
            (20, "", 20),
            (64, "", 45),
            (64, &"x".repeat(100), 13),
            (4, &"x".repeat(800), 1),
        ] {
            let status = refused(&violations(count, text));
            let details = status.get_error_details();
            let found = details.bad_request().map_or(0, |bad| bad.field_violations.len());
            assert_eq!(found, shown, "{count} violations");
            let told = format!("{} violations are left off", count - shown);
            assert_eq!(status.message().contains(&told), shown < count, "{}", status.message());
            let reason = details.error_info().map(|info| info.reason.as_str());
            assert_eq!(reason, Some("LINE_AMOUNT_MISMATCH"));
            // Base64, and room for the message and the other headers.
            assert!(status.details().len() * 4 / 3 < 6 * 1024, "{}", status.details().len());
        }
    }
}
