//! The second edge: legacy XML ↔ the same domain types as gRPC. `edge` answers messages over the
//! pipeline and `seal` signs answers; all else is pure: bytes in, typed request out; typed answer
//! in, bytes out.
//!
//! Invariants: money is read exactly or refused; what two readers could read differently is
//! refused; nothing that was sent as a password is kept; in doubt never becomes a failure code.

mod answer;
mod ask;
mod business;
mod ca;
mod cms;
mod codes;
mod dialect;
mod document;
mod edge;
mod envelope;
mod fields;
mod findings;
mod issue;
mod number;
mod reply;
mod request;
mod row;
mod seal;
mod table;

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;

use crate::xml::{self, charset, print};

pub use crate::xml::Charset;
pub use answer::{Answer, Device, Found, Monitor, Segment, Standing, Stock};
pub use business::{Call, Fault, MESSAGE_MAX, decode_business};
pub use dialect::{Dialect, Doubt};
pub use document::conversion_markdown;
pub use edge::{Edge, RegistrySource};
pub use envelope::{Content, Head, Interface, decode_interface};
pub use reply::{Frame, Printed, Reply};
pub use request::{About, Address, Issue, LegacyRequest, Operation, Query, Void, VoidKind, Wanted};
pub use seal::{Seal, SealError, SealFiles};
