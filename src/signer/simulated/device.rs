//! The simulated device itself: draws numbers from its segments by its own clock, signs with its
//! own P-256 key, remembers every serial, and acts out the fault menu.

use super::{
    faults::{Fault, Faults},
    log::{Issued, Line, Log},
};
use crate::{
    clock::{self, Clock},
    convert,
    model::{CstTime, DeviceSerial, Fen, InvoiceNumber, Kind, Totals},
    pb::v1 as pb,
    registry::BackendKind,
    secret::Secret,
    signer::{
        CipherForm, DeviceAnswer, DeviceKey, DeviceNumbered, Signed, SignerError,
        derive::{self, Record},
        key,
    },
    store::{Assignment, Claim, Durable},
};
use prost::Message as _;
use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Version of the log's format.
const LOG_VERSION: u8 = 1;

/// Numbers that the device may draw for a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Kind.
    pub kind: Kind,
    /// Invoice code.
    pub code: String,
    /// First number.
    pub first: u32,
    /// Last number, not below the first.
    pub last: u32,
}

/// What a simulated device is made of.
#[derive(Debug, Clone)]
pub struct SimulatedConfig {
    /// Where it keeps its state; must exist. The file is named after the device.
    pub directory: PathBuf,
    /// Device id: letters, digits, `-` and `_`, since the file is named after it.
    pub device_id: String,
    /// Machine number (JQBH), 12 digits.
    pub machine_number: String,
    /// Its stock, in the order of use. The same at every start, or longer.
    pub segments: Vec<Segment>,
    /// How long after a request it may still be at work.
    pub quiescence: Duration,
    /// Its own clock.
    pub clock: Clock,
}

/// A simulated device that draws numbers itself.
#[derive(Debug)]
pub struct SimulatedDevice {
    config: SimulatedConfig,
    faults: Faults,
    log: Log,
    key: DeviceKey,
    key_hash: [u8; 32],
    issued: HashMap<String, Issued>,
    /// How many numbers of the stock are drawn.
    drawn: HashMap<Kind, u64>,
    /// The last answer's serial.
    previous: Option<String>,
    /// Requests that are still under way.
    late: Vec<(Instant, Request)>,
}

/// What arrives at the device.
#[derive(Debug, Clone)]
struct Request {
    serial: String,
    kind: Kind,
    totals: Totals,
    buyer: pb::Party,
    /// The encoded draft (field 1 of the invoice).
    head: Vec<u8>,
}

impl SimulatedDevice {
    /// Opens a device with what it remembers, or makes a new one with a new key.
    ///
    /// # Errors
    /// When the id makes no file name, or the file cannot be read or written, holds something
    /// else, or is open elsewhere.
    pub fn open(config: SimulatedConfig, faults: Faults) -> io::Result<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if config.device_id.is_empty() || !config.device_id.bytes().all(is_plain) {
            return Err(io::Error::other("the device id makes no file name"));
        }
        let path = config.directory.join(format!("{}.device.jsonl", config.device_id));
        let (mut log, lines) = Log::open(&path)?;
        let mut lines = lines.into_iter();
        let scalar = match lines.next() {
            Some(Line::Born { version: LOG_VERSION, key }) => read_scalar(&key)?,
            Some(_) => return Err(io::Error::other("not a simulated device's log of version 1")),
            None => {
                let scalar =
                    key::fresh_scalar(BackendKind::SoftwareP256).map_err(io::Error::other)?;
                let key = convert::hex(scalar.expose());
                log.append(&Line::Born { version: LOG_VERSION, key })?;
                scalar
            }
        };
        let key =
            DeviceKey::from_scalar(BackendKind::SoftwareP256, &scalar).map_err(io::Error::other)?;
        let mut device = Self {
            key_hash: convert::sha256(key.public_key()),
            key,
            config,
            faults,
            log,
            issued: HashMap::new(),
            drawn: HashMap::new(),
            previous: None,
            late: Vec::new(),
        };
        for line in lines {
            match line {
                Line::Issued(issued) => device.remember(issued),
                Line::Born { .. } => return Err(io::Error::other("a second first line")),
            }
        }
        Ok(device)
    }

    /// SubjectPublicKeyInfo of the device's key, DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.key.public_key()
    }

    /// What happens at the device before it hears a new call.
    fn wake(&mut self) -> Result<(), SignerError> {
        if self.faults.is_absent() {
            return Err(self.unavailable("it is not connected"));
        }
        let now = clock::monotonic();
        let (due, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        for (_, request) in due {
            // Nobody hears a refusal of a request whose caller has gone.
            if let Err(error) = self.draw(&request) {
                tracing::debug!(%error, "a late request issued nothing");
            }
        }
        Ok(())
    }

    fn act(&mut self, fault: Fault, request: Request) -> Result<DeviceAnswer, SignerError> {
        match fault {
            Fault::LoseRequest => Err(self.in_doubt("the request got no answer")),
            Fault::LoseAnswerAfterIssuing => {
                self.draw(&request)?;
                Err(self.in_doubt("the answer was lost"))
            }
            Fault::IssueLate(after) => {
                self.late.push((clock::monotonic() + after, request));
                Err(self.in_doubt("the request got no answer yet"))
            }
            Fault::Delay(time) => {
                std::thread::sleep(time);
                self.draw(&request)
            }
            Fault::Refuse => Err(self.refused("it refuses on request of the test")),
            Fault::WrongSerial => {
                let mut answer = self.draw(&request)?;
                answer.device_serial = DeviceSerial("0".repeat(20));
                Ok(answer)
            }
            Fault::WrongTotals => {
                let mut answer = self.draw(&request)?;
                answer.totals.total = Fen(answer.totals.total.0.saturating_add(1));
                Ok(answer)
            }
            Fault::WrongQr => {
                let mut answer = self.draw(&request)?;
                answer.signed.qr_text.push('0');
                Ok(answer)
            }
            Fault::NumberOutOfSegment => {
                let outside = self.outside(request.kind);
                self.issue_number(&request, outside, Stock::Outside)
            }
            Fault::AnswerTwice => {
                let previous = self.previous.clone();
                let answer = self.draw(&request)?;
                let again = previous.and_then(|serial| self.issued.get(&serial).cloned());
                again.map_or(Ok(answer), |issued| self.answer(&issued))
            }
            Fault::IssuedByAnother => {
                let serial = clock::random_text(20);
                self.draw(&Request { serial, ..request.clone() })?;
                self.draw(&request)
            }
        }
    }

    /// Issues the stock's next number, or answers again what the serial was issued.
    fn draw(&mut self, request: &Request) -> Result<DeviceAnswer, SignerError> {
        if let Some(issued) = self.issued.get(&request.serial) {
            return self.answer(issued);
        }
        let number = self.next(request.kind);
        let number = number.ok_or_else(|| self.refused("its stock is used up"))?;
        self.issue_number(request, number, Stock::Own)
    }

    fn issue_number(
        &mut self,
        request: &Request,
        number: InvoiceNumber,
        stock: Stock,
    ) -> Result<DeviceAnswer, SignerError> {
        let issue_time = self.config.clock.now();
        let tail = pb::Invoice {
            code: number.code.clone(),
            number: number.number_text(),
            issue_time: issue_time.rfc3339(),
            device_id: self.config.device_id.clone(),
            machine_number: self.config.machine_number.clone(),
            record_version: 1,
            ..pb::Invoice::default()
        };
        let record_bytes = [request.head.as_slice(), &tail.encode_to_vec()].concat();
        let record = Record {
            kind: request.kind,
            number: &number,
            issue_time,
            totals: request.totals,
            digest: convert::sha256(&record_bytes),
        };
        let signature =
            self.key.sign(&record_bytes).map_err(|error| self.unavailable(&error.to_string()))?;
        let check_code = derive::check_code(self.key.hmac(), &record);
        let issued = Issued {
            serial: request.serial.clone(),
            kind: request.kind.legacy_code(),
            buyer_taxpayer_id: request.buyer.taxpayer_id.clone(),
            buyer_name: request.buyer.name.clone(),
            amount: request.totals.amount.0,
            tax: request.totals.tax.0,
            total: request.totals.total.0,
            is_from_stock: stock == Stock::Own,
            issued_at: issue_time.unix(),
            cipher_text: derive::cipher_text(self.key.hmac(), CipherForm::UKey, &record),
            qr_text: derive::qr_text(&record, &check_code),
            check_code,
            signature: convert::hex(&signature),
            code: number.code,
            number: number.number,
        };
        // A failed write may have reached the disk all the same.
        self.log
            .append(&Line::Issued(issued.clone()))
            .map_err(|error| self.in_doubt(&error.to_string()))?;
        self.remember(issued.clone());
        self.answer(&issued)
    }

    fn remember(&mut self, issued: Issued) {
        if let (true, Some(kind)) = (issued.is_from_stock, Kind::from_legacy_code(issued.kind)) {
            let drawn = self.drawn.entry(kind).or_default();
            *drawn = drawn.saturating_add(1);
        }
        self.previous = Some(issued.serial.clone());
        self.issued.insert(issued.serial.clone(), issued);
    }

    fn next(&self, kind: Kind) -> Option<InvoiceNumber> {
        let mut ahead = self.drawn.get(&kind).copied().unwrap_or(0);
        for segment in self.config.segments.iter().filter(|segment| segment.kind == kind) {
            let len = u64::from(segment.last.saturating_sub(segment.first)).saturating_add(1);
            if ahead < len {
                let number = segment.first.saturating_add(u32::try_from(ahead).ok()?);
                return Some(InvoiceNumber { code: segment.code.clone(), number });
            }
            ahead = ahead.saturating_sub(len);
        }
        None
    }

    /// A number that is in no segment, another one each time.
    fn outside(&self, kind: Kind) -> InvoiceNumber {
        let segments = self.config.segments.iter().filter(|segment| segment.kind == kind);
        let highest = segments.max_by_key(|segment| segment.last);
        let (code, last) = highest.map_or((String::new(), 0), |it| (it.code.clone(), it.last));
        let beyond = u32::try_from(self.issued.len()).unwrap_or(u32::MAX).saturating_add(1000);
        InvoiceNumber { code, number: last.saturating_add(beyond) }
    }

    fn answer(&self, issued: &Issued) -> Result<DeviceAnswer, SignerError> {
        self.read(issued).ok_or_else(|| self.unavailable("its memory is damaged"))
    }

    fn read(&self, issued: &Issued) -> Option<DeviceAnswer> {
        let kind = Kind::from_legacy_code(issued.kind)?;
        Some(DeviceAnswer {
            device_serial: DeviceSerial(issued.serial.clone()),
            kind,
            buyer_taxpayer_id: issued.buyer_taxpayer_id.clone(),
            buyer_name: issued.buyer_name.clone(),
            totals: Totals {
                amount: Fen(issued.amount),
                tax: Fen(issued.tax),
                total: Fen(issued.total),
            },
            number: InvoiceNumber { code: issued.code.clone(), number: issued.number },
            issue_time: CstTime::from_unix(issued.issued_at)?,
            signed: Signed {
                check_code: issued.check_code.clone(),
                cipher_text: issued.cipher_text.clone(),
                qr_text: issued.qr_text.clone(),
                algorithm: self.key.algorithm(),
                signature: convert::unhex(&issued.signature)?,
                signer_key: self.key_hash,
            },
            next: self.next(kind),
        })
    }

    fn request(&self, claim: &Claim) -> Result<Request, SignerError> {
        let Assignment::ByDevice { device_serial, .. } = &claim.assignment else {
            return Err(self.refused("the claim has its number already"));
        };
        let draft = claim.head.draft().map_err(|error| self.refused(&error.to_string()))?;
        Ok(Request {
            serial: device_serial.0.clone(),
            kind: claim.kind,
            totals: claim.totals,
            buyer: draft.buyer.unwrap_or_default(),
            head: claim.head.0.to_vec(),
        })
    }

    fn unavailable(&self, detail: &str) -> SignerError {
        let device = self.config.device_id.clone();
        SignerError::Unavailable { device, detail: detail.to_owned() }
    }

    fn in_doubt(&self, detail: &str) -> SignerError {
        let device = self.config.device_id.clone();
        SignerError::InDoubt { device, detail: detail.to_owned() }
    }

    fn refused(&self, detail: &str) -> SignerError {
        let device = self.config.device_id.clone();
        SignerError::Refused { device, detail: detail.to_owned() }
    }
}

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stock {
    /// The device's segments.
    Own,
    /// The fault menu.
    Outside,
}

impl DeviceNumbered for SimulatedDevice {
    fn write_back(&mut self, _: Kind, _: &str, _: &str) -> Result<(), SignerError> {
        Ok(())
    }

    fn next_number(&mut self, kind: Kind) -> Result<Option<InvoiceNumber>, SignerError> {
        self.wake()?;
        Ok(self.next(kind))
    }

    fn issue(&mut self, claim: &Durable<Claim>) -> Result<DeviceAnswer, SignerError> {
        let request = self.request(claim)?;
        self.wake()?;
        match self.faults.next() {
            None => self.draw(&request),
            Some(fault) => self.act(fault, request),
        }
    }

    fn query(
        &mut self,
        kind: Kind,
        serial: &DeviceSerial,
    ) -> Result<Option<DeviceAnswer>, SignerError> {
        self.wake()?;
        let issued = self.issued.get(&serial.0).filter(|it| it.kind == kind.legacy_code());
        issued.map(|issued| self.answer(issued)).transpose()
    }

    fn quiescence(&self) -> Duration {
        self.config.quiescence
    }
}

fn read_scalar(hex: &str) -> io::Result<Secret<[u8; key::SCALAR_LEN]>> {
    let bytes = convert::unhex(hex).and_then(|bytes| bytes.try_into().ok());
    bytes.map(Secret::new).ok_or_else(|| io::Error::other("the key is no key"))
}
