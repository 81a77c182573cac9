//! What daemon and sidecar say to each other: frames over one socket, each with the id of its
//! request, so that many calls are under way at once.
//!
//! A frame is its length (u32, big-endian, of what follows), a version byte and a message. Both
//! ends are one binary, so the version only guards against a program that is no sidecar. The PIN
//! crosses here and nowhere else; buffers are wiped, and no message prints it.

use super::{
    module::{Class, FoundKey, ModuleError, Tries},
    spec::{ModuleSpec, Standard, TokenSelector},
};
use crate::pb::v1 as pb;
use prost::{Enumeration, Message, Oneof};
use std::{
    ffi::OsString,
    fmt,
    io::{self, Read, Write},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};
use zeroize::{Zeroize as _, Zeroizing};

/// Version of the frames.
const VERSION: u8 = 1;

/// Largest frame: keys, labels and paths are far smaller. Unit: bytes.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// Id of a reply that answers no request: the process ends and says why.
pub(super) const UNASKED: u64 = 0;

/// What the daemon asks.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    /// Chosen by the daemon, from 1, never twice in a process; the reply has the same.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(oneof = "Ask", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub(super) ask: Option<Ask>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Ask {
    #[prost(message, tag = "2")]
    Load(Load),
    #[prost(message, tag = "3")]
    Tries(Nothing),
    #[prost(message, tag = "4")]
    LogIn(LogIn),
    #[prost(string, tag = "5")]
    FindKey(String),
    #[prost(string, tag = "6")]
    OpenSession(String),
    #[prost(message, tag = "7")]
    Sign(Sign),
    #[prost(uint64, tag = "8")]
    CloseSession(u64),
    #[prost(message, tag = "9")]
    Stats(Nothing),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Nothing {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Load {
    #[prost(enumeration = "WireStandard", tag = "1")]
    standard: i32,
    /// Path, in the bytes of the operating system.
    #[prost(bytes = "vec", tag = "2")]
    module: Vec<u8>,
    /// Label of a PKCS#11 token, name of an SKF device.
    #[prost(string, tag = "3")]
    name: String,
    /// Serial of a PKCS#11 token, application of an SKF device.
    #[prost(string, optional, tag = "4")]
    second: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum WireStandard {
    Unspecified = 0,
    Pkcs11 = 1,
    Sdf = 2,
    Skf = 3,
}

impl Load {
    pub(super) fn new(spec: &ModuleSpec) -> Self {
        let (standard, name, second) = match &spec.token {
            TokenSelector::Pkcs11 { label, serial } => {
                (WireStandard::Pkcs11, label.clone(), serial.clone())
            }
            TokenSelector::Sdf => (WireStandard::Sdf, String::new(), None),
            TokenSelector::Skf { device, application } => {
                (WireStandard::Skf, device.clone(), Some(application.clone()))
            }
        };
        let module = spec.module.as_os_str().as_bytes().to_vec();
        Self { standard: standard.into(), module, name, second }
    }

    pub(super) fn spec(self) -> Option<ModuleSpec> {
        let token = match self.standard() {
            WireStandard::Unspecified => return None,
            WireStandard::Pkcs11 => TokenSelector::Pkcs11 { label: self.name, serial: self.second },
            WireStandard::Sdf => TokenSelector::Sdf,
            WireStandard::Skf => {
                TokenSelector::Skf { device: self.name, application: self.second? }
            }
        };
        Some(ModuleSpec { module: OsString::from_vec(self.module).into(), token })
    }
}

/// The PIN on its way. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct LogIn {
    #[prost(string, tag = "1")]
    pub(super) pin: String,
}

impl fmt::Debug for LogIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogIn([redacted])")
    }
}

impl Drop for LogIn {
    fn drop(&mut self) {
        self.pin.zeroize();
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Sign {
    #[prost(uint64, tag = "1")]
    pub(super) session: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) digest: Vec<u8>,
}

/// What the sidecar answers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Reply {
    /// Of the request.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(oneof = "Answer", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub(super) answer: Option<Answer>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Answer {
    #[prost(message, tag = "2")]
    Failed(Failed),
    /// Name of the token.
    #[prost(string, tag = "3")]
    Loaded(String),
    #[prost(message, tag = "4")]
    Tries(WireTries),
    #[prost(message, tag = "5")]
    LoggedIn(Nothing),
    #[prost(message, tag = "6")]
    Found(Found),
    #[prost(uint64, tag = "7")]
    Opened(u64),
    /// r ‖ s, 64 bytes.
    #[prost(bytes, tag = "8")]
    Signature(Vec<u8>),
    #[prost(message, tag = "9")]
    Closed(Nothing),
    #[prost(message, tag = "10")]
    Stats(WireStats),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Failed {
    #[prost(enumeration = "WireClass", tag = "1")]
    class: i32,
    #[prost(uint64, tag = "2")]
    code: u64,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum WireClass {
    Unspecified = 0,
    Transient = 1,
    SessionLost = 2,
    Permanent = 3,
    InDoubt = 4,
    Pin = 5,
}

impl From<ModuleError> for Failed {
    fn from(error: ModuleError) -> Self {
        let class = match error.class {
            Class::Transient => WireClass::Transient,
            Class::SessionLost => WireClass::SessionLost,
            Class::Permanent => WireClass::Permanent,
            Class::InDoubt => WireClass::InDoubt,
            Class::Pin => WireClass::Pin,
        };
        Self { class: class.into(), code: error.code, name: error.name, detail: error.detail }
    }
}

impl From<Failed> for ModuleError {
    fn from(failed: Failed) -> Self {
        let class = match failed.class() {
            // The weakest promise for what an older sidecar could not say.
            WireClass::Unspecified | WireClass::InDoubt => Class::InDoubt,
            WireClass::Transient => Class::Transient,
            WireClass::SessionLost => Class::SessionLost,
            WireClass::Permanent => Class::Permanent,
            WireClass::Pin => Class::Pin,
        };
        Self { class, code: failed.code, name: failed.name, detail: failed.detail }
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct WireTries {
    #[prost(enumeration = "WireTriesKind", tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "2")]
    left: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum WireTriesKind {
    Unknown = 0,
    Left = 1,
    Enough = 2,
    Low = 3,
    Locked = 4,
}

impl From<Tries> for WireTries {
    fn from(tries: Tries) -> Self {
        let (kind, left) = match tries {
            Tries::Left(left) => (WireTriesKind::Left, left),
            Tries::Enough => (WireTriesKind::Enough, 0),
            Tries::Low => (WireTriesKind::Low, 0),
            Tries::Locked => (WireTriesKind::Locked, 0),
            Tries::Unknown => (WireTriesKind::Unknown, 0),
        };
        Self { kind: kind.into(), left }
    }
}

impl From<WireTries> for Tries {
    fn from(tries: WireTries) -> Self {
        match tries.kind() {
            WireTriesKind::Unknown => Self::Unknown,
            WireTriesKind::Left => Self::Left(tries.left),
            WireTriesKind::Enough => Self::Enough,
            WireTriesKind::Low => Self::Low,
            WireTriesKind::Locked => Self::Locked,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Found {
    #[prost(bytes = "vec", tag = "1")]
    public_key: Vec<u8>,
    #[prost(enumeration = "pb::SignatureAlgorithm", tag = "2")]
    algorithm: i32,
}

impl From<FoundKey> for Found {
    fn from(key: FoundKey) -> Self {
        Self { public_key: key.public_key, algorithm: key.algorithm.into() }
    }
}

impl From<Found> for FoundKey {
    fn from(found: Found) -> Self {
        let algorithm = found.algorithm();
        Self { public_key: found.public_key, algorithm }
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct WireStats {
    #[prost(uint64, tag = "1")]
    pub(super) sessions_opened: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sessions_closed: u64,
    #[prost(uint64, tag = "3")]
    pub(super) resident_bytes: u64,
}

impl Standard {
    /// For tables that go over every standard.
    #[cfg(test)]
    fn selector(self) -> TokenSelector {
        match self {
            Self::Pkcs11 => TokenSelector::Pkcs11 { label: "t".into(), serial: Some("7".into()) },
            Self::Sdf => TokenSelector::Sdf,
            Self::Skf => TokenSelector::Skf { device: "d".into(), application: "a".into() },
        }
    }
}

/// Writes one frame, in one write.
///
/// # Errors
/// Those of the socket; `InvalidData` when the message is too large, and nothing is written.
pub(super) fn write_frame(to: &mut impl Write, message: &impl Message) -> io::Result<()> {
    let len = message.encoded_len().saturating_add(1);
    let header = u32::try_from(len).ok().filter(|_| len <= FRAME_BYTES_MAX);
    let header = header.ok_or_else(|| invalid("the message is too large for a frame"))?;
    // Allocated at once: growing would leave pieces of a PIN behind.
    let mut frame = Zeroizing::new(Vec::with_capacity(len.saturating_add(4)));
    frame.extend_from_slice(&header.to_be_bytes());
    frame.push(VERSION);
    message.encode(&mut *frame).map_err(|_| invalid("the message does not encode"))?;
    to.write_all(&frame)
}

/// Takes frames out of a stream. Keeps what has arrived when a read times out.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: Zeroizing<Vec<u8>>,
    /// Bytes of `buffer` that hold something.
    filled: usize,
}

impl FrameReader {
    pub(super) fn new() -> Self {
        Self { buffer: Zeroizing::new(vec![0; FRAME_BYTES_MAX.saturating_add(4)]), filled: 0 }
    }

    /// The next message; `None` when the other end has closed.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` when it is no frame of ours.
    pub(super) fn next<M: Message + Default>(
        &mut self,
        from: &mut impl Read,
    ) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let read = from.read(&mut self.buffer[self.filled..])?;
            if read == 0 {
                return Ok(None);
            }
            self.filled = self.filled.saturating_add(read);
        }
    }

    fn take<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        let arrived = &self.buffer[..self.filled];
        let Some((header, rest)) = arrived.split_first_chunk::<4>() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if len == 0 || len > FRAME_BYTES_MAX {
            return Err(invalid("the frame is empty or too large"));
        }
        let Some(frame) = rest.get(..len) else { return Ok(None) };
        let Some((&VERSION, body)) = frame.split_first() else {
            return Err(invalid("the frame is of another version"));
        };
        let message = M::decode(body).map_err(|_| invalid("the frame is no message"))?;
        let used = len.saturating_add(4);
        self.buffer.copy_within(used..self.filled, 0);
        let left = self.filled.saturating_sub(used);
        // It may have been a PIN.
        self.buffer[left..self.filled].zeroize();
        self.filled = left;
        Ok(Some(message))
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time, with a time-out before each.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            to[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn frames(messages: &[Request]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            write_frame(&mut bytes, message).unwrap();
        }
        bytes
    }

    fn sign(id: u64) -> Request {
        Request { id, ask: Some(Ask::Sign(Sign { session: id, digest: vec![7; 32] })) }
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_arrive() {
        let sent = [sign(1), sign(2), Request { id: 3, ask: Some(Ask::Tries(Nothing {})) }];
        let bytes = frames(&sent);
        let (mut at_once, mut reader) = (&bytes[..], FrameReader::new());
        for message in &sent {
            assert_eq!(reader.next(&mut at_once).unwrap().as_ref(), Some(message));
        }
        assert_eq!(reader.next::<Request>(&mut at_once).unwrap(), None);

        let (mut slow, mut reader, mut got) = (Slow(&bytes, false), FrameReader::new(), Vec::new());
        loop {
            match reader.next::<Request>(&mut slow) {
                Ok(Some(message)) => got.push(message),
                Ok(None) => break,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn what_is_no_frame_of_ours_is_refused() {
        let mut other_version = frames(&[sign(1)]);
        other_version[4] = 2;
        for bytes in [
            vec![0, 0, 0, 0],
            vec![0xff, 0xff, 0xff, 0xff, 1],
            vec![0, 1, 0, 1, 1],
            other_version,
            vec![0, 0, 0, 3, 1, 0xff, 0xff],
        ] {
            let error = FrameReader::new().next::<Request>(&mut &bytes[..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
        let large = Request { id: 1, ask: Some(Ask::FindKey("x".repeat(FRAME_BYTES_MAX))) };
        let mut written = Vec::new();
        assert!(write_frame(&mut written, &large).is_err());
        assert!(written.is_empty());
    }

    #[test]
    fn a_pin_is_in_no_debug_text_and_wiped_from_the_buffer() {
        let pin = "739155".to_owned();
        let request = Request { id: 1, ask: Some(Ask::LogIn(LogIn { pin: pin.clone() })) };
        assert!(!format!("{request:?}").contains(&pin), "{request:?}");
        let bytes = frames(std::slice::from_ref(&request));
        let mut reader = FrameReader::new();
        assert_eq!(reader.next(&mut &bytes[..]).unwrap(), Some(request));
        let held = |buffer: &[u8]| buffer.windows(pin.len()).any(|at| at == pin.as_bytes());
        assert!(held(&bytes));
        assert!(!held(&reader.buffer));
    }

    #[test]
    fn every_value_crosses_unchanged() {
        for class in
            [Class::Transient, Class::SessionLost, Class::Permanent, Class::InDoubt, Class::Pin]
        {
            let error = ModuleError { class, code: 5, name: "N".into(), detail: "d".into() };
            assert_eq!(ModuleError::from(Failed::from(error.clone())), error);
        }
        for tries in [Tries::Left(3), Tries::Enough, Tries::Low, Tries::Locked, Tries::Unknown] {
            assert_eq!(Tries::from(WireTries::from(tries)), tries);
        }
        for standard in Standard::ALL {
            let spec = ModuleSpec { module: "/m.so".into(), token: standard.selector() };
            assert_eq!(Load::new(&spec).spec(), Some(spec));
        }
        assert_eq!(Load::default().spec(), None);
    }
}
