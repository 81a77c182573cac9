//! `<business id="…">`: the tax server (SKServer) and the component. Bytes in, typed request out.

use super::{
    ask, charset,
    charset::Charset,
    dialect::Dialect,
    findings::Path,
    issue,
    reply::{Frame, Reply},
    request::{LegacyRequest, Operation},
    xml::{self, Element},
};
use crate::refusal::{Reason, Refusal};

/// Longest message. Unit: bytes. 2000 lines of 700 bytes, and some.
pub const MESSAGE_MAX: usize = 2 << 20;

/// Letters of a caller's text that are echoed; the longest of the contracts, dataExchangeId, has
/// about 50.
const ECHO_MAX: usize = 100;

/// A decoded message and how to answer it.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is asked for.
    pub request: LegacyRequest,
    /// How the answer is printed.
    pub reply: Reply,
}

/// A message that is refused before any stage sees it, and how to say so.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Why.
    pub refusal: Refusal,
    /// How the answer is printed.
    pub reply: Box<Reply>,
}

/// Decodes a message of `POST /SKServer/SKDo`.
///
/// # Errors
/// Everything that is wrong with it, and how to answer: in the caller's encoding and dialect as far
/// as they are known.
pub fn decode_business(bytes: &[u8]) -> Result<Call, Fault> {
    let mut reply = Reply {
        charset: Charset::Utf8,
        dialect: Dialect::Server,
        operation: None,
        serial: String::new(),
        frame: Frame::Business { id: String::new(), comment: String::new() },
    };
    match request(bytes, &mut reply) {
        Ok(request) => Ok(Call { request, reply }),
        Err(refusal) => Err(Fault { refusal, reply: Box::new(reply) }),
    }
}

/// Fills in how to answer as far as it gets.
fn request(bytes: &[u8], reply: &mut Reply) -> Result<LegacyRequest, Refusal> {
    let text = decoded(bytes, MESSAGE_MAX, &mut reply.charset)?;
    let root = parsed(&text)?;
    if root.name != "business" {
        let hint = "the root element must be <business>";
        return Err(Refusal::new(Reason::MalformedMessage, hint));
    }
    let id = root.attribute("id").unwrap_or_default();
    let comment = root.attribute("comment").unwrap_or_default();
    reply.frame = Frame::Business { id: shortened(id), comment: shortened(comment) };
    reply.operation = Operation::of_business(id);
    let numeric = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    reply.dialect = if numeric { Dialect::Server } else { Dialect::Component };
    let Some(operation) = reply.operation else {
        return Err(Refusal::new(Reason::NotBuilt, "no operation of this id is served"));
    };
    let body = payload(&root)?;
    if body.name.starts_with("REQUEST_") {
        reply.dialect = Dialect::Common;
        expect_root(body, operation, COMMON_ROOTS)?;
    }
    reply.serial = serial_of(body);
    read(body, &Path::root(body.name), reply.dialect, operation)
}

/// What holds the fields: `<body>`, `<input>` within it, or a COMMON body within either.
fn payload<'e, 'a>(business: &'e Element<'a>) -> Result<&'e Element<'a>, Refusal> {
    let mut at = business;
    for wrapper in ["body", "input", ""] {
        let inner =
            |child: &&Element<'_>| child.name == wrapper || child.name.starts_with("REQUEST_");
        match (at.children.as_slice(), at.children.iter().find(inner)) {
            ([_], Some(child)) => at = child,
            (_, Some(child)) => {
                let hint = format!("{}: stands beside other elements", child.name);
                return Err(Refusal::new(Reason::MalformedMessage, hint));
            }
            (_, None) if wrapper == "body" => {
                let hint = "<business> must hold one <body> or one COMMON body";
                return Err(Refusal::new(Reason::MalformedMessage, hint));
            }
            (_, None) => break,
        }
        if at.name.starts_with("REQUEST_") {
            break;
        }
    }
    Ok(at)
}

/// Roots of COMMON bodies by operation.
pub(super) const COMMON_ROOTS: &[(Operation, &str)] = &[
    (Operation::Issue, "REQUEST_COMMON_FPKJ"),
    (Operation::Query, "REQUEST_COMMON_FPCX"),
    (Operation::Void, "REQUEST_COMMON_FPZF"),
    (Operation::Stock, "REQUEST_COMMON_FPKCCX"),
    (Operation::Stock, "REQUEST_COMMON_GPXXCX"),
    (Operation::Device, "REQUEST_COMMON_SKSBXXCX"),
    (Operation::Device, "REQUEST_COMMON_DJXXCX"),
    (Operation::Monitor, "REQUEST_COMMON_JKXXCX"),
    (Operation::Rates, "REQUEST_COMMON_SQSLCX"),
];

/// Checks that a body is one of its operation.
pub(super) fn expect_root(
    body: &Element<'_>,
    operation: Operation,
    roots: &[(Operation, &str)],
) -> Result<(), Refusal> {
    let fits = |(of, name): &&(Operation, &str)| *of == operation && *name == body.name;
    if roots.iter().any(|root| fits(&root)) {
        return Ok(());
    }
    let of_operation = roots.iter().filter(|(of, _)| *of == operation);
    let known: Vec<_> = of_operation.map(|(_, name)| *name).collect();
    let hint = format!("the body of this operation must be {}", known.join(" or "));
    Err(Refusal::new(Reason::MalformedMessage, hint))
}

/// Reads a body.
pub(super) fn read(
    body: &Element<'_>,
    path: &Path<'_>,
    dialect: Dialect,
    operation: Operation,
) -> Result<LegacyRequest, Refusal> {
    match operation {
        Operation::Issue => {
            issue::read(body, path, dialect).map(|issue| LegacyRequest::Issue(Box::new(issue)))
        }
        Operation::Query
        | Operation::Void
        | Operation::CurrentNumber
        | Operation::Stock
        | Operation::Device
        | Operation::Monitor
        | Operation::Rates
        | Operation::Key => ask::read(body, path, dialect, operation),
    }
}

/// The serial of a body, so that even a refusal can name it.
pub(super) fn serial_of(body: &Element<'_>) -> String {
    let header = ["COMMON_FPKJ_FPT", "FPKJXX_FPTXX"].iter().find_map(|name| body.child(name));
    let holder = header.unwrap_or(body);
    let found = ["FPQQLSH", "fpqqlsh"].iter().map(|name| holder.child_text(name));
    found.filter(|text| !text.is_empty()).map(shortened).next().unwrap_or_default()
}

/// Decodes the bytes by their own declaration.
pub(super) fn decoded<'a>(
    bytes: &'a [u8],
    max: usize,
    charset: &mut Charset,
) -> Result<std::borrow::Cow<'a, str>, Refusal> {
    if bytes.len() > max {
        let hint = format!("the message is longer than {max} bytes");
        return Err(Refusal::new(Reason::MalformedMessage, hint));
    }
    match charset::decode(bytes) {
        Ok((text, found)) => {
            *charset = found;
            Ok(text)
        }
        Err((error, found)) => {
            *charset = found;
            Err(Refusal::new(Reason::EncodingMismatch, error.to_string()))
        }
    }
}

/// Reads the tree.
pub(super) fn parsed(text: &str) -> Result<Element<'_>, Refusal> {
    xml::parse(text).map_err(|error| Refusal::new(Reason::MalformedMessage, error.to_string()))
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(ECHO_MAX).collect()
}
