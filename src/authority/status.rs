//! What the acceptance side refuses, as a gRPC status; the only file of `authority` that makes one.

use super::books::BooksError;
use tonic::{Code, Status};

/// A request that is malformed.
pub(super) fn invalid(what: &str) -> Status {
    Status::invalid_argument(what)
}

/// A call that may be sent again.
pub(super) fn unavailable(why: &str) -> Status {
    Status::unavailable(why)
}

/// A call that fails because a fault says so.
pub(super) fn on_purpose(code: Code) -> Status {
    Status::new(code, "on purpose")
}

/// The codes of errors with their names in the gRPC specification.
const CODES: [(&str, Code); 16] = [
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
    ("UNAUTHENTICATED", Code::Unauthenticated),
];

/// The code of an error with this name; `None` for OK and what is none.
pub(super) fn code_named(name: &str) -> Option<Code> {
    CODES.iter().find(|(known, _)| *known == name).map(|(_, code)| *code)
}

/// The name of an error's code.
pub(super) fn code_name(code: Code) -> &'static str {
    CODES.iter().find(|(_, known)| *known == code).map_or("OK", |(name, _)| name)
}

/// What the books said. Their own failures go to the log; the caller hears only that it may try
/// again.
pub(super) fn from_books(error: &BooksError) -> Status {
    let text = error.to_string();
    match error {
        BooksError::Conflict { .. } => Status::already_exists(text),
        BooksError::NotFound { .. } => Status::not_found(text),
        BooksError::UnknownDevice { .. } | BooksError::State { .. } => {
            Status::failed_precondition(text)
        }
        BooksError::UsedUp => Status::resource_exhausted(text),
        BooksError::OtherReceiptKey
        | BooksError::Schema { .. }
        | BooksError::Damaged
        | BooksError::Sign(_)
        | BooksError::Sqlite(_) => {
            tracing::error!(%error, cause = ?std::error::Error::source(error), "books failed");
            Status::unavailable("the books could not be used; send it again")
        }
    }
}
