//! A device behind a networked tax-control server (税控服务器, SKServer): XML in GBK over HTTP or
//! HTTPS. It draws code, number and time itself.
//!
//! Invariants: an issue request (10008) is sent once per claim; what it brought is what the server
//! then finds under our serial (10010), since issuing echoes neither serial nor content; whatever
//! is not surely unsent or surely done is in doubt. One session is one connection, used by one
//! thread. No PIN is held or sent here, and after a PIN error nothing is sent at all.

mod codes;
mod config;
mod facts;
mod http;
mod invoice;
mod issue;
mod message;
mod values;

#[cfg(test)]
mod tests;

pub use codes::{Class, classify};
pub use config::SkServerConfig;
pub use facts::{AuthorisedRates, DeviceInfo, DeviceSegment, DeviceStock, DeviceVoid, VoidWhat};
pub use message::SkServerError;

use super::{DeviceAnswer, DeviceKey, DeviceNumbered, SignerError};
use crate::{
    clock::{self, Clock},
    model::{DeviceSerial, InvoiceNumber, Kind},
    pb::v1 as pb,
    registry::MonitorFacts,
    store::{Claim, Durable},
    xml::print::Printer,
};
use http::{Link, Repeat};
use invoice::{Drawn, Expected, Found};
use message::{Fields, Flaw, Operation};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// One session with a device behind a tax server.
#[derive(Debug)]
pub struct SkServer {
    config: SkServerConfig,
    key: Arc<DeviceKey>,
    clock: Clock,
    link: Link,
    /// What the last request of each kind is to bring, to compare and sign a later answer.
    sent: HashMap<Kind, Expected>,
    /// A PIN error was answered; a person must look before anything else is sent.
    pin_locked: bool,
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its content is a taxpayer's.
        f.debug_struct("Expected").field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl SkServer {
    /// A session; it connects with its first call. `key` is the device's software key, with which
    /// the proxy attests what the device answered; sessions of one device share it.
    ///
    /// # Errors
    /// `Unavailable` when the address or the CA cannot be used.
    pub fn new(
        config: SkServerConfig,
        key: impl Into<Arc<DeviceKey>>,
        clock: Clock,
    ) -> Result<Self, SignerError> {
        let link = Link::new(&config).map_err(|detail| SignerError::Unavailable {
            device: config.device_id.clone(),
            detail,
        })?;
        let (key, sent) = (key.into(), HashMap::new());
        Ok(Self { config, key, clock, link, sent, pin_locked: false })
    }

    /// Whether the server answered a PIN error. This session sends nothing any more.
    #[must_use]
    pub fn is_pin_locked(&self) -> bool {
        self.pin_locked
    }

    /// The device and its taxpayer (SKSBXXCX).
    ///
    /// # Errors
    /// `SkServerError`; also when the device is another taxpayer's.
    pub fn device_info(&mut self) -> Result<DeviceInfo, SkServerError> {
        let (clock, taxpayer) = (self.clock.clone(), self.config.taxpayer_id.clone());
        let deadline = self.deadline();
        self.ask(
            (Operation::DeviceInfo, deadline),
            |_| {},
            |fields, _| {
                let info = DeviceInfo::read(fields, clock.now())?;
                if info.taxpayer_id != taxpayer {
                    return Err(Flaw("the device is another taxpayer's".into()));
                }
                Ok(info)
            },
        )
    }

    /// Limits and locks of a kind (JKXXCX), without its rates.
    ///
    /// # Errors
    /// `SkServerError`.
    pub fn limits(&mut self, kind: Kind) -> Result<MonitorFacts, SkServerError> {
        self.ask_kind(Operation::Monitor, kind, |fields, _| facts::monitor(fields))
    }

    /// Rates that a kind may carry (SQSLCX).
    ///
    /// # Errors
    /// `SkServerError`.
    pub fn authorised_rates(&mut self, kind: Kind) -> Result<AuthorisedRates, SkServerError> {
        self.ask_kind(Operation::Rates, kind, |fields, _| AuthorisedRates::read(fields, kind))
    }

    /// Numbers that the device holds for a kind (10005).
    ///
    /// # Errors
    /// `SkServerError`.
    pub fn stock(&mut self, kind: Kind) -> Result<DeviceStock, SkServerError> {
        self.ask_kind(Operation::Stock, kind, |fields, _| DeviceStock::read(fields, kind))
    }

    /// Voids a number (10009). Sent once; whoever hears `Lost` or an in-doubt code asks the stock
    /// and the invoice before anything else.
    ///
    /// # Errors
    /// `SkServerError`; `Answer` also when the server voided another number.
    pub fn void(
        &mut self,
        kind: Kind,
        number: &InvoiceNumber,
        what: VoidWhat,
        operator: &str,
    ) -> Result<DeviceVoid, SkServerError> {
        let deadline = self.deadline();
        let print = |printer: &mut Printer| {
            let (zflx, amount) = match what {
                VoidWhat::Blank => ("0", String::new()),
                VoidWhat::Issued(amount) => ("1", values::yuan(amount.0)),
            };
            printer.leaf("fplxdm", &values::kind_text(kind));
            printer.leaf("zflx", zflx);
            printer.leaf("fpdm", &number.code);
            printer.leaf("fphm", &number.number_text());
            printer.leaf("hjje", &amount);
            printer.leaf("zfr", operator);
        };
        self.exchange((Operation::Void, deadline, Repeat::Never), print, |fields, _| {
            let voided = DeviceVoid::read(fields)?;
            if voided.number != *number {
                return Err(Flaw("it voided another number".into()));
            }
            Ok(voided)
        })
    }

    /// Writes the result of an upload back into the device (FPSCJGHQ): without it the device's
    /// offline budget runs full. `result` is the cipher text (MXJGMW) that the acceptance side gave
    /// for `acceptance_serial` (SLXLH). Harmless when repeated.
    ///
    /// # Errors
    /// `SkServerError`.
    pub fn write_result_back(
        &mut self,
        kind: Kind,
        acceptance_serial: &str,
        result: &str,
    ) -> Result<(), SkServerError> {
        let deadline = self.deadline();
        let print = |printer: &mut Printer| {
            printer.leaf("fplxdm", &values::kind_text(kind));
            printer.leaf("slxlh", acceptance_serial);
            printer.leaf("mxjgmw", result);
        };
        self.ask((Operation::WriteBack, deadline), print, |_, _| Ok(()))
    }

    fn deadline(&self) -> Instant {
        clock::monotonic() + self.config.timeout
    }

    fn ask_kind<T>(
        &mut self,
        operation: Operation,
        kind: Kind,
        read: impl FnOnce(&Fields<'_, '_>, &SkServerConfig) -> Result<T, Flaw>,
    ) -> Result<T, SkServerError> {
        let print = |printer: &mut Printer| printer.leaf("fplxdm", &values::kind_text(kind));
        let deadline = self.deadline();
        self.ask((operation, deadline), print, read)
    }

    /// An exchange that may be repeated once.
    fn ask<T>(
        &mut self,
        (operation, deadline): (Operation, Instant),
        print: impl FnOnce(&mut Printer),
        read: impl FnOnce(&Fields<'_, '_>, &SkServerConfig) -> Result<T, Flaw>,
    ) -> Result<T, SkServerError> {
        self.exchange((operation, deadline, Repeat::Once), print, read)
    }

    fn exchange<T>(
        &mut self,
        (operation, deadline, repeat): (Operation, Instant, Repeat),
        print: impl FnOnce(&mut Printer),
        read: impl FnOnce(&Fields<'_, '_>, &SkServerConfig) -> Result<T, Flaw>,
    ) -> Result<T, SkServerError> {
        if self.pin_locked {
            return Err(SkServerError::PinLocked);
        }
        let config = &self.config;
        let request = message::request(operation, |printer| {
            printer.leaf("kpzdbs", &config.kpzdbs);
            print(printer);
        })?;
        let bytes = self.link.call(&request, deadline, repeat)?;
        let result = message::answer(&bytes, operation, |fields| read(fields, config));
        match result.as_ref().err().map(SkServerError::class) {
            Some(Some(Class::PinLocked)) => self.pin_locked = true,
            // Whoever sends nonsense may send more of it: what else is on this connection is not
            // wanted.
            Some(Some(Class::SessionLost) | None) => self.link.disconnect(),
            Some(Some(_)) | None => {}
        }
        result
    }

    /// The current number (10004); `None` when the stock is used up.
    fn current(
        &mut self,
        kind: Kind,
        deadline: Instant,
    ) -> Result<Option<InvoiceNumber>, SkServerError> {
        let print = |printer: &mut Printer| printer.leaf("fplxdm", &values::kind_text(kind));
        let next = self.ask((Operation::CurrentNumber, deadline), print, |it, _| facts::next(it));
        match next {
            Err(error) if error.class() == Some(Class::NoNumbers) => Ok(None),
            next => next,
        }
    }

    /// What the server finds under a serial (10010).
    fn find(
        &mut self,
        (kind, serial): (Kind, &DeviceSerial),
        deadline: Instant,
    ) -> Result<Option<Found>, SkServerError> {
        let print = |printer: &mut Printer| {
            printer.leaf("fplxdm", &values::kind_text(kind));
            printer.leaf("fpqqlsh", &serial.0);
        };
        let found = self.ask((Operation::Query, deadline), print, |fields, config| {
            Found::read(fields, config, kind)
        });
        match found {
            Err(error) if error.class() == Some(Class::Nothing) => Ok(None),
            found => found,
        }
    }

    /// What issuing answers; `None` when the serial has its invoice already.
    fn draw(
        &mut self,
        expected: &Expected,
        draft: &pb::InvoiceDraft,
        deadline: Instant,
    ) -> Result<Option<Drawn>, SkServerError> {
        let print = |printer: &mut Printer| {
            printer.leaf("fplxdm", &values::kind_text(expected.kind));
            printer.leaf("fpqqlsh", &expected.serial.0);
            issue::print(printer, expected.kind, draft);
        };
        let drawn = self.exchange((Operation::Issue, deadline, Repeat::Never), print, |it, of| {
            Drawn::read(it, of.cipher_form)
        });
        match drawn {
            Err(error) if error.class() == Some(Class::AlreadyIssued) => Ok(None),
            drawn => drawn.map(Some),
        }
    }

    /// The answer to a claim out of what was found, with the device's next number.
    fn answer(
        &mut self,
        found: Found,
        expected: &Expected,
        deadline: Instant,
    ) -> Result<DeviceAnswer, SignerError> {
        let next = self.current(expected.kind, deadline);
        let next = next.map_err(|error| self.unanswered(&error))?;
        let answer = found.attested(expected, next, (&self.config, &self.key));
        answer.map_err(|error| self.unavailable(&error))
    }

    fn recovered(
        &mut self,
        asked: (Kind, &DeviceSerial),
        expected: Option<&Expected>,
    ) -> Result<Option<DeviceAnswer>, SignerError> {
        let deadline = self.deadline();
        let found = self.find(asked, deadline).map_err(|error| self.unanswered(&error))?;
        let Some(found) = found else { return Ok(None) };
        let Some(expected) = expected else {
            let detail = "it issued under this serial; whoever asks must show the claim";
            return Err(self.unavailable(&detail));
        };
        let answer = self.answer(found, expected, deadline);
        answer.map(Some)
    }

    fn unavailable(&self, detail: &dyn std::fmt::Display) -> SignerError {
        let device = self.config.device_id.clone();
        SignerError::Unavailable { device, detail: detail.to_string() }
    }

    fn in_doubt(&self, detail: &dyn std::fmt::Display) -> SignerError {
        let device = self.config.device_id.clone();
        SignerError::InDoubt { device, detail: detail.to_string() }
    }

    fn refused(&self, detail: &dyn std::fmt::Display) -> SignerError {
        let device = self.config.device_id.clone();
        SignerError::Refused { device, detail: detail.to_string() }
    }

    /// What a failed question means: nothing was learned.
    fn unanswered(&self, error: &SkServerError) -> SignerError {
        match error.class() {
            Some(Class::PinLocked) => self.pin(error),
            Some(Class::SessionLost) => {
                let device = self.config.device_id.clone();
                SignerError::SessionLost { device, detail: error.to_string() }
            }
            Some(_) | None => self.unavailable(error),
        }
    }

    /// What a failed question means for a claim that was sent before it.
    fn sent_in_doubt(&self, error: SignerError) -> SignerError {
        match error {
            // The device must stop; its claim is asked for when it may go on.
            SignerError::Pin { .. } => error,
            other => self.in_doubt(&other),
        }
    }

    fn pin(&self, detail: &dyn std::fmt::Display) -> SignerError {
        let device = self.config.device_id.clone();
        SignerError::Pin { device, detail: detail.to_string() }
    }

    /// What a failed issue request means for its claim.
    fn not_issued(&self, error: &SkServerError) -> SignerError {
        match error {
            SkServerError::NotSent { .. } => self.unavailable(error),
            SkServerError::PinLocked => self.pin(error),
            SkServerError::Lost { .. } | SkServerError::Answer { .. } => self.in_doubt(error),
            SkServerError::Code { class, .. } => match class {
                Class::Permanent | Class::NoNumbers => self.refused(error),
                Class::PinLocked => self.pin(error),
                // Busy and lost sessions most likely did nothing; asking costs little, and a
                // second request under another serial could cost an invoice.
                Class::Transient | Class::SessionLost | Class::InDoubt => self.in_doubt(error),
                // Taken care of before, or no sense as an answer to issuing.
                Class::Success | Class::AlreadyIssued | Class::Nothing => self.in_doubt(error),
            },
        }
    }
}

impl DeviceNumbered for SkServer {
    fn monitor(&mut self, kind: Kind) -> Result<MonitorFacts, SignerError> {
        let facts = self.limits(kind).map_err(|error| self.unanswered(&error))?;
        let rates = match self.authorised_rates(kind) {
            Ok(authorised) => authorised.rates,
            // Older servers know no such question.
            Err(error) if error.class() == Some(Class::Permanent) => Vec::new(),
            Err(error) => return Err(self.unanswered(&error)),
        };
        Ok(MonitorFacts { rates, ..facts })
    }

    fn write_back(
        &mut self,
        kind: Kind,
        acceptance_serial: &str,
        result: &str,
    ) -> Result<(), SignerError> {
        let done = self.write_result_back(kind, acceptance_serial, result);
        done.map_err(|error| self.unanswered(&error))
    }

    fn next_number(&mut self, kind: Kind) -> Result<Option<InvoiceNumber>, SignerError> {
        let deadline = self.deadline();
        self.current(kind, deadline).map_err(|error| self.unanswered(&error))
    }

    fn issue(&mut self, claim: &Durable<Claim>) -> Result<DeviceAnswer, SignerError> {
        let (expected, draft) = Expected::of(claim).map_err(|error| self.refused(&error))?;
        if let Some(why) = issue::cannot_say(&draft, &self.config.taxpayer_id) {
            return Err(self.refused(&why));
        }
        let deadline = self.deadline();
        self.sent.insert(expected.kind, expected.clone());
        let drawn = self.draw(&expected, &draft, deadline);
        let drawn = drawn.map_err(|error| self.not_issued(&error))?;
        let asked = (expected.kind, &expected.serial);
        let found = self.find(asked, deadline).map_err(|error| self.unanswered(&error));
        let found = found.map_err(|error| self.sent_in_doubt(error))?;
        let Some(found) = found else {
            return Err(self.in_doubt(&"it says it issued, but finds nothing under the serial"));
        };
        let found = match drawn {
            Some(drawn) => found.beside(drawn),
            None => found,
        };
        let answer = self.answer(found, &expected, deadline);
        answer.map_err(|error| self.sent_in_doubt(error))
    }

    fn query(
        &mut self,
        kind: Kind,
        serial: &DeviceSerial,
    ) -> Result<Option<DeviceAnswer>, SignerError> {
        let expected = self.sent.get(&kind).filter(|sent| sent.serial == *serial).cloned();
        self.recovered((kind, serial), expected.as_ref())
    }

    fn recover(&mut self, claim: &Durable<Claim>) -> Result<Option<DeviceAnswer>, SignerError> {
        let (expected, _) = Expected::of(claim).map_err(|error| self.refused(&error))?;
        self.recovered((expected.kind, &expected.serial), Some(&expected))
    }

    fn quiescence(&self) -> Duration {
        self.config.quiescence
    }
}
