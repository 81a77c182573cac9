//! The envelope of a tax server's messages: `<business id=…>` in GBK there, return code and fields
//! back. Strict in what it reads: what two readers could read differently is no answer.
//!
//! Source: docs/domain.md 2.1, 2.3.

use super::{
    codes::{self, Class},
    http::Failure,
};
use crate::{
    convert,
    gbk::gbk_len,
    xml::{self, Charset, Element, charset, print::Printer},
};
use bytes::Bytes;

/// Letters of a server's message that an error keeps.
const MESSAGE_MAX: usize = 80;

/// What a tax server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    CurrentNumber,
    Stock,
    Issue,
    Void,
    Query,
    DeviceInfo,
    Monitor,
    Rates,
    WriteBack,
}

impl Operation {
    /// The id on the wire, and the comment beside it that people read.
    pub(super) fn id(self) -> (&'static str, &'static str) {
        match self {
            Self::CurrentNumber => ("10004", "查询当前未开票号"),
            Self::Stock => ("10005", "查询库存票信息"),
            Self::Issue => ("10008", "发票开具"),
            Self::Void => ("10009", "发票作废"),
            Self::Query => ("10010", "发票查询"),
            Self::DeviceInfo => ("SKSBXXCX", "税控设备信息查询"),
            Self::Monitor => ("JKXXCX", "监控信息查询"),
            Self::Rates => ("SQSLCX", "授权税率查询"),
            Self::WriteBack => ("FPSCJGHQ", "发票上传结果回写"),
        }
    }
}

/// Why an operation of a tax server brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkServerError {
    /// Nothing was sent: no connection, or nothing that may be sent.
    #[error("nothing was sent: {detail}")]
    NotSent {
        /// Why.
        detail: String,
    },
    /// Nothing was sent, because the server answered a PIN error before.
    #[error("nothing was sent: a PIN error was answered before, and a person must look first")]
    PinLocked,
    /// The request may have arrived; no answer came back.
    #[error("no answer: {detail}")]
    Lost {
        /// Why.
        detail: String,
    },
    /// What came back is no answer of the contract. Nothing of it is believed.
    #[error("an unusable answer: {detail}")]
    Answer {
        /// What is wrong, and the hash of the answer's bytes; nothing of its content.
        detail: String,
    },
    /// The server answered with a return code.
    #[error("return code {code:?} ({meaning}): {message}")]
    Code {
        /// As the server wrote it.
        code: String,
        /// What kind of code it is.
        class: Class,
        /// What it means.
        meaning: &'static str,
        /// The server's own words, shortened.
        message: String,
    },
}

impl SkServerError {
    /// The class of the return code, if the server answered with one, now or before.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Code { class, .. } => Some(*class),
            Self::PinLocked => Some(Class::PinLocked),
            Self::NotSent { .. } | Self::Lost { .. } | Self::Answer { .. } => None,
        }
    }
}

impl From<Failure> for SkServerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(detail) => Self::NotSent { detail },
            Failure::Lost(detail) => Self::Lost { detail },
        }
    }
}

/// Prints a request; `fields` prints what stands in its body.
///
/// # Errors
/// `NotSent` when a field holds a character outside GBK: a reference in its place would count as
/// more bytes than were checked.
pub(super) fn request(
    operation: Operation,
    fields: impl FnOnce(&mut Printer),
) -> Result<Bytes, SkServerError> {
    let (id, comment) = operation.id();
    let mut printer = Printer::new(Charset::Gbk.label());
    printer.open_with("business", &[("id", id), ("comment", comment)]);
    printer.open_with("body", &[("yylxdm", "1")]);
    fields(&mut printer);
    let text = printer.finish();
    if gbk_len(&text).is_none() {
        return Err(SkServerError::NotSent { detail: "a field holds text outside GBK".into() });
    }
    Ok(Charset::Gbk.encode(&text).into())
}

/// Reads an answer to `operation`: `read` takes the fields of one that says "done".
///
/// # Errors
/// `Answer` and `Code`.
pub(super) fn answer<T>(
    bytes: &[u8],
    operation: Operation,
    read: impl FnOnce(&Fields<'_, '_>) -> Result<T, Flaw>,
) -> Result<T, SkServerError> {
    let wrong = |what: &str| unusable(bytes, operation, what);
    let (text, _) = charset::decode(bytes).map_err(|(error, _)| wrong(&error.to_string()))?;
    let root = xml::parse(&text).map_err(|error| wrong(&error.to_string()))?;
    if root.name != "business" {
        return Err(wrong("its root is not <business>"));
    }
    if root.attribute("id").is_some_and(|id| id != operation.id().0) {
        return Err(wrong("it answers another operation"));
    }
    only_once(&root).map_err(|flaw| wrong(&flaw.0))?;
    let body = root.child("body").ok_or_else(|| wrong("<body> is missing"))?;
    // A component puts everything into <output>, a server the fields into <returndata>.
    let holder = body.child("output").unwrap_or(body);
    let code = holder.child("returncode").ok_or_else(|| wrong("<returncode> is missing"))?.text();
    let (class, meaning) = codes::classify(code);
    if class != Class::Success {
        let message = shortened(holder.child_text("returnmsg"));
        return Err(SkServerError::Code { code: shortened(code), class, meaning, message });
    }
    let data = holder.child("returndata").unwrap_or(holder);
    read(&Fields(data)).map_err(|flaw| wrong(&flaw.0))
}

/// Evidence without content: which answer it was, for whoever has it on the wire.
fn unusable(bytes: &[u8], operation: Operation, what: &str) -> SkServerError {
    let hash = convert::hex(&convert::sha256(bytes));
    let (id, _) = operation.id();
    let detail = format!("{id}: {what} ({} bytes, SHA-256 {hash})", bytes.len());
    SkServerError::Answer { detail }
}

fn shortened(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(MESSAGE_MAX).map(plain).collect()
}

/// Only `group` may stand in an element more than once.
fn only_once(element: &Element<'_>) -> Result<(), Flaw> {
    for (at, child) in element.children.iter().enumerate() {
        let again = element.children.iter().skip(at + 1).any(|other| other.name == child.name);
        if again && child.name != "group" {
            return Err(Flaw(format!("<{}> stands there twice", child.name)));
        }
        only_once(child)?;
    }
    Ok(())
}

/// What is wrong with a field. Holds its name, never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw(pub(super) String);

/// The fields of an answer, or of a group in it.
pub(super) struct Fields<'e, 'a>(&'e Element<'a>);

impl<'e, 'a> Fields<'e, 'a> {
    /// A field that must be there; it may be empty.
    pub(super) fn text(&self, name: &str) -> Result<&'e str, Flaw> {
        let child = self.0.child(name).ok_or_else(|| Flaw(format!("<{name}> is missing")))?;
        if child.children.is_empty() {
            return Ok(child.text());
        }
        Err(Flaw(format!("<{name}> holds elements")))
    }

    /// A field that may be missing; an empty one is as good as none.
    pub(super) fn optional(&self, name: &str) -> Result<Option<&'e str>, Flaw> {
        match self.0.child(name) {
            None => Ok(None),
            Some(_) => self.text(name).map(|text| (!text.is_empty()).then_some(text)),
        }
    }

    /// A field that must be there and hold what `read` understands.
    pub(super) fn read<T>(&self, name: &str, read: fn(&str) -> Option<T>) -> Result<T, Flaw> {
        read(self.text(name)?).ok_or_else(|| Flaw(format!("<{name}> is malformed")))
    }

    /// The same of a field that may be missing or empty.
    pub(super) fn read_optional<T>(
        &self,
        name: &str,
        read: fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Flaw> {
        let malformed = || Flaw(format!("<{name}> is malformed"));
        self.optional(name)?.map(|text| read(text).ok_or_else(malformed)).transpose()
    }

    /// The groups of a list, whose `count` must be true where it is given; none without the list.
    pub(super) fn groups(&self, name: &str) -> Result<Vec<Fields<'e, 'a>>, Flaw> {
        let Some(list) = self.0.child(name) else { return Ok(Vec::new()) };
        let count = list.attribute("count").filter(|count| !count.is_empty());
        if count.is_some_and(|count| count.parse() != Ok(list.children.len())) {
            return Err(Flaw(format!("the count of <{name}> is wrong")));
        }
        if list.children.iter().any(|child| child.name != "group") {
            return Err(Flaw(format!("<{name}> holds more than groups")));
        }
        Ok(list.children.iter().map(Fields).collect())
    }
}
