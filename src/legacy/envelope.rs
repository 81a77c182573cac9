//! `<interface>`: the envelope of the e-invoice service platform. Opens it as far as it can without
//! a key: plain content, or the bytes of a CMS message that its caller verifies. Reads past
//! passwords and keeps none.

use super::{
    business::{
        COMMON_ROOTS, Call, Fault, MESSAGE_MAX, decoded, expect_root, parsed, read, serial_of,
        shortened,
    },
    charset::Charset,
    dialect::Dialect,
    findings::Path,
    print::Printer,
    reply::{Frame, Reply, State},
    request::{Address, LegacyRequest, Operation},
    xml::Element,
};
use crate::refusal::{Reason, Refusal};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::bufread::GzDecoder;
use std::io::Read as _;

/// Longest content after gzip. Unit: bytes.
const EXPANDED_MAX: usize = 2 << 20;

/// Elements of the envelope, with those that it may hold; none for values. What is not here is
/// refused.
const PARTS: &[(&str, &[&str])] = &[
    ("interface", &["globalInfo", "returnStateInfo", "Data"]),
    (
        "globalInfo",
        &[
            "terminalCode",
            "appId",
            "version",
            "interfaceCode",
            "interfaceId",
            "requestCode",
            "requestSecret",
            "requestTime",
            "responseCode",
            "dataExchangeId",
            "userName",
            "passWord",
            "taxpayerId",
            "authorizationCode",
            "fjh",
            "jqbh",
        ],
    ),
    ("returnStateInfo", &["returnCode", "returnMessage"]),
    ("Data", &["dataDescription", "content", "contentKey"]),
    ("dataDescription", &["zipCode", "encryptCode", "codeType"]),
];

/// What an answer repeats of the header. Holds no password and no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Version of the envelope (`DZFP1.0`).
    pub interface_version: String,
    /// terminalCode.
    pub terminal: String,
    /// appId.
    pub app: String,
    /// version.
    pub version: String,
    /// interfaceCode.
    pub interface: String,
    /// requestCode: platform code (DSPTBM) as the caller claims it.
    pub platform: String,
    /// requestTime, as it was sent.
    pub time: String,
    /// responseCode.
    pub response: String,
    /// dataExchangeId.
    pub exchange: String,
    /// taxpayerId.
    pub taxpayer_id: String,
    /// Encoding of the content.
    pub content_charset: Charset,
    /// The caller asks in CA mode (encryptCode 2), so it is answered in it.
    pub ca_mode: bool,
}

/// Content of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The body itself, maybe still compressed.
    Plain(Vec<u8>),
    /// A CMS SignedData with the body in it (CA mode); who verifies it gets the body out.
    Cms(Vec<u8>),
}

/// An opened envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Interface {
    /// What it holds.
    pub content: Content,
    zipped: Zipped,
    reply: Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zipped {
    No,
    Gzip,
}

/// Opens a message of `POST /interface`.
///
/// # Errors
/// Everything that is wrong with it, and how to answer.
pub fn decode_interface(bytes: &[u8]) -> Result<Interface, Fault> {
    let mut reply = Reply {
        charset: Charset::Utf8,
        dialect: Dialect::Platform,
        operation: None,
        serial: String::new(),
        frame: Frame::Interface(Box::default()),
    };
    match open(bytes, &mut reply) {
        Ok((content, zipped)) => Ok(Interface { content, zipped, reply }),
        Err(refusal) => Err(Fault { refusal, reply: Box::new(reply) }),
    }
}

impl Interface {
    /// Decodes the body: that of `Content::Plain`, or what a verified `Content::Cms` holds.
    ///
    /// # Errors
    /// Everything that is wrong with it, and how to answer.
    pub fn read(self, body: &[u8]) -> Result<Call, Fault> {
        let mut reply = self.reply;
        match request(body, self.zipped, &mut reply) {
            Ok(request) => Ok(Call { request, reply }),
            Err(refusal) => Err(Fault { refusal, reply: Box::new(reply) }),
        }
    }

    /// How to answer when the content's signature does not verify.
    #[must_use]
    pub fn reply(&self) -> &Reply {
        &self.reply
    }
}

fn open(bytes: &[u8], reply: &mut Reply) -> Result<(Content, Zipped), Refusal> {
    let text = decoded(bytes, MESSAGE_MAX, &mut reply.charset)?;
    let root = parsed(&text)?;
    if root.name != "interface" {
        return Err(malformed("the root element must be <interface>"));
    }
    outline(&root)?;
    let mut head = head(&root);
    let how = root.child("Data").and_then(|data| data.child("dataDescription"));
    head.ca_mode = how.is_some_and(|how| how.child_text("encryptCode") == "2");
    let operation = Operation::of_interface(&head.interface);
    reply.frame = Frame::Interface(Box::new(head));
    let Some(operation) = operation else {
        return Err(Refusal::new(Reason::NotBuilt, "no operation of this interfaceCode is served"));
    };
    reply.operation = Some(operation);
    let missing =
        |name| Refusal::new(Reason::FieldMissing, format!("interface/{name}: is missing"));
    let data = root.child("Data").ok_or_else(|| missing("Data"))?;
    let how = how.ok_or_else(|| missing("Data/dataDescription"))?;
    let zipped = match how.child_text("zipCode") {
        "0" | "" => Zipped::No,
        "1" => Zipped::Gzip,
        _ => return Err(Refusal::new(Reason::FieldInvalid, "zipCode must be 0 or 1")),
    };
    // `codeType` says 3DES in plain messages, so it proves nothing; encryptCode decides.
    let content: fn(Vec<u8>) -> Content = match how.child_text("encryptCode") {
        "0" | "" => Content::Plain,
        "2" => Content::Cms,
        "1" => {
            let hint = "3DES is not taken; use encryptCode 0 or 2";
            return Err(Refusal::new(Reason::EncryptionUnsupported, hint));
        }
        _ => return Err(Refusal::new(Reason::FieldInvalid, "encryptCode must be 0, 1 or 2")),
    };
    let encoded = data.child("content").ok_or_else(|| missing("Data/content"))?;
    let strict = root.attribute("version").unwrap_or_default().starts_with("DZFPQZ");
    Ok((content(unwrapped(encoded.text(), strict.then_some(Breaks::Forbidden))?), zipped))
}

/// Whether an element holds what `PARTS` says and nothing twice.
fn outline(element: &Element<'_>) -> Result<(), Refusal> {
    let parts = PARTS.iter().find(|(name, _)| *name == element.name).map_or(&[][..], |part| part.1);
    let mut seen: Vec<&str> = Vec::new();
    for child in &element.children {
        let name = child.name;
        if !parts.contains(&name) {
            return Err(malformed(&format!(
                "{}/{name}: is no element of this message",
                element.name
            )));
        }
        if seen.contains(&name) {
            let hint = format!("{}/{name}: is given twice", element.name);
            return Err(Refusal::new(Reason::DuplicateField, hint));
        }
        seen.push(name);
        outline(child)?;
    }
    Ok(())
}

fn malformed(hint: &str) -> Refusal {
    Refusal::new(Reason::MalformedMessage, hint)
}

fn head(root: &Element<'_>) -> Head {
    let value = |name| {
        let info = root.child("globalInfo");
        shortened(info.map_or("", |info| info.child_text(name)))
    };
    Head {
        interface_version: shortened(root.attribute("version").unwrap_or_default()),
        terminal: value("terminalCode"),
        app: value("appId"),
        version: value("version"),
        interface: value("interfaceCode"),
        platform: value("requestCode"),
        time: value("requestTime"),
        response: value("responseCode"),
        exchange: value("dataExchangeId"),
        taxpayer_id: value("taxpayerId"),
        content_charset: Charset::Utf8,
        ca_mode: false,
    }
}

/// That Base64 may not be broken into lines, as the front-end vendors' version says (`DZFPQZ`). The
/// older platforms' encoders break it, so there white space is taken out.
enum Breaks {
    Forbidden,
}

fn unwrapped(text: &str, breaks: Option<Breaks>) -> Result<Vec<u8>, Refusal> {
    let wrong = || malformed("interface/Data/content: is not Base64");
    let bytes = match breaks {
        Some(Breaks::Forbidden) => STANDARD.decode(text),
        None => {
            let joined: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            STANDARD.decode(joined)
        }
    };
    bytes
        .map_err(|_| wrong())
        .and_then(|bytes| if bytes.is_empty() { Err(wrong()) } else { Ok(bytes) })
}

/// Unpacks within the limit: a small message may not become a large one.
fn expanded(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let wrong = || malformed("interface/Data/content: is not gzip");
    let mut decoder = GzDecoder::new(bytes);
    let limit = u64::try_from(EXPANDED_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut body = Vec::new();
    decoder.by_ref().take(limit).read_to_end(&mut body).map_err(|_| wrong())?;
    if body.len() > EXPANDED_MAX {
        let hint = format!("interface/Data/content: unpacks to more than {EXPANDED_MAX} bytes");
        return Err(malformed(&hint));
    }
    if decoder.into_inner().is_empty() { Ok(body) } else { Err(wrong()) }
}

fn request(body: &[u8], zipped: Zipped, reply: &mut Reply) -> Result<LegacyRequest, Refusal> {
    let Frame::Interface(head) = &mut reply.frame else {
        return Err(Refusal::new(Reason::Internal, "an envelope is answered with an envelope"));
    };
    let unpacked;
    let body = match zipped {
        Zipped::No => body,
        Zipped::Gzip => {
            unpacked = expanded(body)?;
            &unpacked
        }
    };
    let text = decoded(body, EXPANDED_MAX, &mut head.content_charset)?;
    let root = parsed(&text)?;
    let operation =
        reply.operation.ok_or_else(|| malformed("interface/globalInfo/interfaceCode"))?;
    let roots: Vec<_> = COMMON_ROOTS.iter().chain(OLDER_ROOTS).copied().collect();
    expect_root(&root, operation, &roots)?;
    if OLDER_ROOTS.iter().any(|(_, name)| *name == root.name) {
        reply.dialect = Dialect::PlatformOlder;
    }
    reply.serial = serial_of(&root);
    let mut request = read(&root, &Path::root(root.name), reply.dialect, operation)?;
    if let Some(address) = address_of(&mut request) {
        agree(head, address)?;
    }
    Ok(request)
}

/// Roots of the older Aisino shape.
const OLDER_ROOTS: &[(Operation, &str)] =
    &[(Operation::Issue, "REQUEST_FPKJXX"), (Operation::Query, "REQUEST_FPXXXZ_NEW")];

fn address_of(request: &mut LegacyRequest) -> Option<&mut Address> {
    match request {
        LegacyRequest::Issue(issue) => Some(&mut issue.address),
        LegacyRequest::Query(query) => Some(&mut query.address),
        LegacyRequest::Void(void) => Some(&mut void.address),
        LegacyRequest::CurrentNumber(about)
        | LegacyRequest::Stock(about)
        | LegacyRequest::Device(about)
        | LegacyRequest::Monitor(about)
        | LegacyRequest::Rates(about)
        | LegacyRequest::Key(about) => Some(&mut about.address),
    }
}

/// Envelope and body name the same taxpayer and platform, where both name one.
fn agree(head: &Head, address: &mut Address) -> Result<(), Refusal> {
    for (outer, inner, name) in [
        (&head.taxpayer_id, &mut address.taxpayer_id, "taxpayerId"),
        (&head.platform, &mut address.platform, "requestCode"),
    ] {
        if inner.is_empty() {
            inner.clone_from(outer);
        } else if !outer.is_empty() && outer != inner {
            let hint = format!("interface/globalInfo/{name}: is not what the content says");
            return Err(Refusal::new(Reason::SellerMismatch, hint));
        }
    }
    Ok(())
}

/// Prints an envelope.
pub(super) fn wrap(
    head: &Head,
    charset: Charset,
    state: &State,
    content: Option<Content>,
) -> String {
    let mut printer = Printer::new(charset.label());
    let version =
        if head.interface_version.is_empty() { "DZFP1.0" } else { &head.interface_version };
    printer.open_with(
        "interface",
        &[
            ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
            ("xsi:schemaLocation", "http://www.chinatax.gov.cn/tirip/dataspec/interfaces.xsd"),
            ("version", version),
        ],
    );
    printer.open("globalInfo");
    for (name, value) in [
        ("terminalCode", &head.terminal),
        ("appId", &head.app),
        ("version", &head.version),
        ("interfaceCode", &head.interface),
        ("requestCode", &head.platform),
        ("requestTime", &head.time),
        ("responseCode", &head.response),
        ("dataExchangeId", &head.exchange),
        ("taxpayerId", &head.taxpayer_id),
    ] {
        printer.leaf(name, value);
    }
    printer.close();
    printer.open("returnStateInfo");
    printer.leaf("returnCode", state.code);
    // Base64 of UTF-8 whatever the encoding around it is; that is how these platforms have it.
    printer.leaf("returnMessage", &STANDARD.encode(&state.message));
    printer.close();
    let (bytes, encryption) = match content {
        None => (Vec::new(), ["0", "0"]),
        Some(Content::Plain(bytes)) => (bytes, ["0", "0"]),
        Some(Content::Cms(bytes)) => (bytes, ["2", "CA"]),
    };
    printer.open("Data");
    printer.open("dataDescription");
    printer.leaf("zipCode", "0");
    printer.leaf("encryptCode", encryption[0]);
    printer.leaf("codeType", encryption[1]);
    printer.close();
    printer.leaf("content", &STANDARD.encode(bytes));
    printer.finish()
}
