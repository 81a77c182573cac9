//! What the acceptance side refuses, as a gRPC status; the only file of `authority` that makes one.

use super::books::BooksError;
use tonic::Status;

/// A request that is malformed.
pub(super) fn invalid(what: &str) -> Status {
    Status::invalid_argument(what)
}

/// A call that this version does not offer.
pub(super) fn not_built() -> Status {
    Status::unimplemented("not built yet")
}

/// A call that may be sent again.
pub(super) fn unavailable(why: &str) -> Status {
    Status::unavailable(why)
}

/// What the books said. Their own failures go to the log; the caller hears only that it may try
/// again.
pub(super) fn from_books(error: &BooksError) -> Status {
    let text = error.to_string();
    match error {
        BooksError::Conflict { .. } => Status::already_exists(text),
        BooksError::NotFound { .. } => Status::not_found(text),
        BooksError::UnknownDevice { .. } => Status::failed_precondition(text),
        BooksError::UsedUp => Status::resource_exhausted(text),
        BooksError::OtherReceiptKey
        | BooksError::Schema { .. }
        | BooksError::Sign(_)
        | BooksError::Sqlite(_) => {
            tracing::error!(%error, cause = ?std::error::Error::source(error), "books failed");
            Status::unavailable("the books could not be used; send it again")
        }
    }
}
