//! The edge itself: the bytes of one POST in, the bytes of its answer out, or nothing and the end
//! of the connection. Everything behind it is the pipeline that gRPC calls too, so that a serial
//! which one edge issued is found by the other.
//!
//! Invariants: an issue request that may have been issued never hears a failure code; a query never
//! closes a serial; the caller is whoever its certificate says, whatever the message claims.

use super::{
    Answer, Call, Charset, Content, Device, LegacyRequest, Printed, Reply, Seal, Segment, Stock,
    business::decode_business,
    ca,
    envelope::decode_interface,
    request::{About, Address, Issue, Query, Void, VoidKind, Wanted},
};
use crate::{
    clock::Clock,
    identity::{self, PeerCertificate},
    listener::{HttpAnswer, HttpApi},
    model::{CstTime, InvoiceNumber, Kind},
    pb::v1 as pb,
    pipeline::PlatformApi,
    refusal::{Reason, Refusal},
    registry::{self, Registry},
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long a caller waits at most; what is not known by then is in doubt, and a dialect without a
/// code for that has been held so long.
const DEADLINE: Duration = Duration::from_secs(30);

/// Most invoices in one answer; a wider question is refused.
const INVOICES_MAX: usize = 1000;

/// Longest id of a void request. Unit: characters.
const VOID_ID_LEN: usize = 20;

/// Most numbers in one question; each is looked up.
const NUMBERS_MAX: usize = 100;

/// Whose serial is under way: certificate's key, taxpayer id, serial.
type InFlightKey = (registry::KeyHash, String, String);

/// Serials from their decoding to their answer.
#[derive(Debug, Default)]
struct InFlight(Mutex<HashMap<InFlightKey, usize>>);

/// Takes its serial out when it is dropped, however the call ends.
struct Flying<'a>(&'a InFlight, InFlightKey);

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, HashMap<InFlightKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, key: InFlightKey) -> Flying<'_> {
        let mut keys = self.lock();
        let count = keys.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        drop(keys);
        Flying(self, key)
    }

    fn holds(&self, key: &InFlightKey) -> bool {
        self.lock().contains_key(key)
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        let mut keys = self.0.lock();
        if let Some(count) = keys.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                keys.remove(&self.1);
            }
        }
    }
}

/// Where the registry is read; it may change between two calls.
pub type RegistrySource = Arc<dyn Fn() -> Arc<Registry> + Send + Sync>;

/// The legacy edge.
pub struct Edge {
    api: Arc<dyn PlatformApi>,
    registry: RegistrySource,
    clock: Clock,
    seal: Option<Arc<Seal>>,
    in_flight: InFlight,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Edge")
    }
}

#[tonic::async_trait]
impl HttpApi for Edge {
    fn knows(&self, path: &str) -> bool {
        ["/SKServer/SKDo", "/interface"].contains(&path)
    }

    fn body_len_max(&self) -> usize {
        super::MESSAGE_MAX
    }

    async fn post(&self, peer: PeerCertificate, path: &str, body: Bytes) -> Option<HttpAnswer> {
        let (reply, answer) = if path == "/interface" {
            self.interface(&peer, &body).await
        } else {
            match decode_business(&body) {
                Ok(call) => self.call(&peer, call).await,
                Err(fault) => (*fault.reply, Answer::Refused(fault.refusal)),
            }
        };
        match self.print(&reply, &answer) {
            Printed::Message(body) => {
                Some(HttpAnswer { content_type: content_type(reply.charset), body })
            }
            Printed::HoldThenClose => None,
        }
    }
}

fn content_type(charset: Charset) -> String {
    format!("text/xml; charset={}", charset.label())
}

impl Edge {
    /// An edge over `api`. `seal` signs the answers of CA mode; without one, requests in CA mode
    /// are refused.
    #[must_use]
    pub fn new(
        api: Arc<dyn PlatformApi>,
        registry: RegistrySource,
        clock: Clock,
        seal: Option<Arc<Seal>>,
    ) -> Self {
        Self { api, registry, clock, seal, in_flight: InFlight::default() }
    }

    /// Prints an answer: sealed, when the caller asks in CA mode and there is a seal. Without one
    /// nothing but a refusal gets here, which has to be readable.
    fn print(&self, reply: &Reply, answer: &Answer) -> Printed {
        let Some(seal) = self.seal.as_ref().filter(|_| reply.in_ca_mode()) else {
            return reply.print(answer);
        };
        reply.print_sealed(answer, |body| match seal.sign(&body, self.clock.now()) {
            Ok(signed) => Some(Content::Cms(signed)),
            Err(error) => {
                tracing::error!(%error, "an answer in CA mode is held");
                None
            }
        })
    }

    async fn interface(&self, peer: &PeerCertificate, body: &[u8]) -> (Reply, Answer) {
        let interface = match decode_interface(body) {
            Ok(interface) => interface,
            Err(fault) => return (*fault.reply, Answer::Refused(fault.refusal)),
        };
        let plain = match &interface.content {
            Content::Plain(plain) => Ok(plain.clone()),
            Content::Cms(_) if self.seal.is_none() => Err(Refusal::new(
                Reason::EncryptionUnsupported,
                "CA mode is not set up: the proxy's operator has set no legacy.answer_cert; send \
                 encryptCode 0",
            )),
            Content::Cms(cms) => ca::verify(cms, peer),
        };
        let plain = match plain {
            Ok(plain) => plain,
            Err(refusal) => return (interface.reply().clone(), Answer::Refused(refusal)),
        };
        match interface.read(&plain) {
            Ok(call) => self.call(peer, call).await,
            Err(fault) => (*fault.reply, Answer::Refused(fault.refusal)),
        }
    }

    async fn call(&self, peer: &PeerCertificate, call: Call) -> (Reply, Answer) {
        let answer = self.answer(peer, call.request).await;
        (call.reply, answer.unwrap_or_else(Answer::Refused))
    }

    async fn answer(
        &self,
        peer: &PeerCertificate,
        request: LegacyRequest,
    ) -> Result<Answer, Refusal> {
        match request {
            LegacyRequest::Issue(issue) => self.issue(peer, *issue).await,
            LegacyRequest::Query(query) => self.query(peer, query).await,
            LegacyRequest::Void(void) => self.void(peer, void).await,
            LegacyRequest::CurrentNumber(about) | LegacyRequest::Stock(about) => {
                self.stock(peer, &about).await
            }
            LegacyRequest::Device(about) => self.device(peer, &about).await,
            LegacyRequest::Monitor(about) => {
                let device_id = self.device_id(peer, &about.address, about.kind)?;
                let kind = about.kind.map_or(0, |kind| kind.to_wire().into());
                let request = pb::GetMonitorRequest { device_id, kind };
                let monitor = self.api.monitor(Some(peer.clone()), request).await?;
                let kind = about.kind.unwrap_or(Kind::ENormal);
                Ok(Answer::Monitor(super::Monitor::of(kind, &monitor)))
            }
            LegacyRequest::Rates(about) => {
                let device_id = self.device_id(peer, &about.address, about.kind)?;
                let rates = self.api.rates(Some(peer.clone()), device_id).await?;
                Ok(Answer::Rates(rates.rates_millionths))
            }
            LegacyRequest::Key(about) => {
                let device_id = self.device_id(peer, &about.address, about.kind)?;
                let device = self.api.describe_device(Some(peer.clone()), device_id).await?;
                let (taxpayer_id, key) = (device.taxpayer_id, device.machine_number);
                Ok(Answer::Key { taxpayer_id, key })
            }
        }
    }

    async fn issue(&self, peer: &PeerCertificate, issue: Issue) -> Result<Answer, Refusal> {
        let Issue { mut draft, address } = issue;
        let taxpayer_id = draft.seller.as_ref().map_or("", |seller| &seller.taxpayer_id).to_owned();
        let _flying = self.in_flight.enter((peer.key, taxpayer_id.clone(), draft.serial.clone()));
        self.is_whom_it_claims(peer, &address)?;
        draft.device_id = self.named_device(&taxpayer_id, &address, draft.kind)?;
        match self.api.issue(Some(peer.clone()), DEADLINE, Some(draft)).await {
            Ok(outcome) => match outcome.result {
                // Its answer has no field for it, and a success would have it handed out.
                Some(pb::outcome::Result::Voided(voided)) if voided.issued.is_some() => {
                    let hint = "the invoice of this serial was issued and is voided";
                    Err(Refusal::new(Reason::SerialClosed, hint))
                }
                result => Ok(Answer::from(pb::Outcome { result })),
            },
            Err(refusal) => match refusal.reason {
                // A fault of ours may have come after the claim, and books that are behind may
                // have lost it.
                Reason::Internal | Reason::StoreReadOnly => Ok(Answer::InDoubt),
                _ => Err(refusal),
            },
        }
    }

    async fn query(&self, peer: &PeerCertificate, query: Query) -> Result<Answer, Refusal> {
        self.is_whom_it_claims(peer, &query.address)?;
        let taxpayer_id = self.taxpayer_id(peer, &query.address, query.kind)?;
        match query.wanted {
            Wanted::Serial(serial) => {
                let key = (peer.key, taxpayer_id.clone(), serial.clone());
                // Looked at first: what ends meanwhile is in the books.
                let flying = self.in_flight.holds(&key);
                let outcome = self.api.query(Some(peer.clone()), taxpayer_id, serial).await?;
                let unknown = matches!(outcome.result, Some(pb::outcome::Result::Unknown(_)));
                Ok(if unknown && flying { Answer::InDoubt } else { Answer::from(outcome) })
            }
            Wanted::Days { first, last } => {
                let day = |day: chrono::NaiveDate| format!("{day}T00:00:00+08:00");
                let until = last.succ_opt().unwrap_or(last);
                let window = (day(first), day(until));
                self.list(peer, taxpayer_id, window, query.kind).await
            }
            Wanted::Numbers { code, first, last } => {
                self.numbers(peer, &taxpayer_id, (&code, &first, &last)).await
            }
        }
    }

    /// The invoices of a range of numbers; those in doubt or voided unsigned are left out, unless
    /// one alone is asked for.
    async fn numbers(
        &self,
        peer: &PeerCertificate,
        taxpayer_id: &str,
        (code, first, last): (&str, &str, &str),
    ) -> Result<Answer, Refusal> {
        let number = |text| InvoiceNumber::parse_number(text).unwrap_or_default();
        let (first, last) = (number(first), number(last));
        let mut found = Vec::new();
        for number in (first..=last).take(NUMBERS_MAX.saturating_add(1)) {
            if usize::try_from(number.saturating_sub(first)).is_ok_and(|at| at >= NUMBERS_MAX) {
                let hint = format!("more than {NUMBERS_MAX} numbers; ask for fewer");
                return Err(Refusal::new(Reason::FieldInvalid, hint));
            }
            let number = InvoiceNumber { code: code.to_owned(), number };
            let asked = self.api.query_number(Some(peer.clone()), taxpayer_id.to_owned(), number);
            match Answer::from(asked.await?) {
                Answer::Invoices(one) => found.extend(one),
                other if first == last => return Ok(other),
                _ => {}
            }
        }
        Ok(Answer::Invoices(found))
    }

    async fn list(
        &self,
        peer: &PeerCertificate,
        taxpayer_id: String,
        (from, until): (String, String),
        kind: Option<Kind>,
    ) -> Result<Answer, Refusal> {
        let mut request =
            pb::ListInvoicesRequest { taxpayer_id, from, until, cursor: String::new() };
        let mut found = Vec::new();
        loop {
            let page = self.api.list(Some(peer.clone()), DEADLINE, &request).await?;
            for listed in page.invoices {
                request.cursor = listed.cursor;
                let issued = listed.issued.unwrap_or_default();
                let result = match listed.voided {
                    Some(voided) => {
                        let issued = Some(issued);
                        pb::outcome::Result::Voided(pb::Voided { issued, ..voided })
                    }
                    None => pb::outcome::Result::Issued(issued),
                };
                let Answer::Invoices(one) = Answer::from(pb::Outcome { result: Some(result) })
                else {
                    continue;
                };
                let wanted = |found: &super::Found| {
                    let draft = found.invoice.draft.as_ref();
                    kind.is_none_or(|kind| {
                        draft.is_some_and(|draft| Kind::from_wire(draft.kind) == Some(kind))
                    })
                };
                found.extend(one.into_iter().filter(wanted));
            }
            if found.len() > INVOICES_MAX {
                let hint = format!("more than {INVOICES_MAX} invoices; ask for fewer days");
                return Err(Refusal::new(Reason::FieldInvalid, hint));
            }
            if !page.more {
                return Ok(Answer::Invoices(found));
            }
        }
    }

    async fn void(&self, peer: &PeerCertificate, void: Void) -> Result<Answer, Refusal> {
        self.is_whom_it_claims(peer, &void.address)?;
        if void.what == VoidKind::Blank {
            let hint = "numbers are drawn when they are issued: there is no blank one to void";
            return Err(Refusal::new(Reason::VoidNotAllowed, hint));
        }
        let taxpayer_id = self.taxpayer_id(peer, &void.address, void.kind)?;
        let reason = format!("作废 {}", void.operator).trim_end().to_owned();
        let request = pb::VoidInvoiceRequest {
            taxpayer_id,
            request_id: void_id(&void.code, &void.number, &reason),
            code: void.code,
            number: void.number,
            reason,
            amount_fen: void.amount_fen,
        };
        let voided = self.api.void(Some(peer.clone()), DEADLINE, request).await?;
        let pb::Voided { code, number, voided_at, .. } = voided.voided.unwrap_or_default();
        let at = CstTime::parse(&voided_at).ok_or_else(|| {
            Refusal::new(Reason::Internal, "the void has no time; ask for the invoice")
        })?;
        Ok(Answer::Voided { code, number, at })
    }

    async fn stock(&self, peer: &PeerCertificate, about: &About) -> Result<Answer, Refusal> {
        let device_id = self.device_id(peer, &about.address, about.kind)?;
        let kind = about.kind.map_or(0, |kind| kind.to_wire().into());
        let request = pb::GetStockRequest { device_id, kind };
        let stock = self.api.stock(Some(peer.clone()), request).await?;
        let first = stock.segments.first();
        let next = first.map(|segment| (segment.code.clone(), segment.next.clone()));
        let segments = stock.segments.iter().map(segment).collect();
        Ok(Answer::Stock(Stock { next, left: stock.left, segments }))
    }

    async fn device(&self, peer: &PeerCertificate, about: &About) -> Result<Answer, Refusal> {
        let device_id = self.device_id(peer, &about.address, about.kind)?;
        let device = self.api.describe_device(Some(peer.clone()), device_id).await?;
        let registry = (self.registry)();
        let taxpayer = registry.taxpayer_by_id(&device.taxpayer_id);
        Ok(Answer::Device(Box::new(Device {
            id: device.device_id,
            machine_number: device.machine_number,
            taxpayer_name: taxpayer.map(|taxpayer| taxpayer.name.clone()).unwrap_or_default(),
            taxpayer_id: device.taxpayer_id,
            office: Default::default(),
            kinds: device.kinds.iter().filter_map(|kind| Kind::from_wire(*kind)).collect(),
            clock: self.clock.now(),
        })))
    }

    /// The platform that the message claims must be the certificate's.
    fn is_whom_it_claims(&self, peer: &PeerCertificate, address: &Address) -> Result<(), Refusal> {
        let registry = (self.registry)();
        let platform = identity::platform(&registry, Some(peer), self.clock.now())?;
        if address.platform.is_empty() || address.platform == platform.id {
            return Ok(());
        }
        let hint = "the platform code of the message is not the certificate's platform";
        Err(Refusal::new(Reason::PlatformCertUnknown, hint))
    }

    /// The device that an issue request must name: none where the taxpayer has only one for the
    /// kind, so that the same content has the same digest through either edge.
    fn named_device(
        &self,
        taxpayer_id: &str,
        address: &Address,
        kind: i32,
    ) -> Result<String, Refusal> {
        let registry = (self.registry)();
        let Some(taxpayer) = registry.taxpayer_by_id(taxpayer_id) else { return Ok(String::new()) };
        let kind = Kind::from_wire(kind);
        let mut fitting = registry.devices_of(taxpayer.no).filter(|device| {
            device.enabled && kind.is_none_or(|kind| device.kinds.contains(&kind))
        });
        let only = fitting.next().filter(|_| fitting.next().is_none());
        let Some(named) = named(&registry, address)? else { return Ok(String::new()) };
        if named.taxpayer != taxpayer.no {
            return Err(not_found());
        }
        let is_only = only.is_some_and(|only| only.no == named.no);
        Ok(if is_only { String::new() } else { named.id.clone() })
    }

    /// The taxpayer that a question is about: named, or its device's.
    fn taxpayer_id(
        &self,
        peer: &PeerCertificate,
        address: &Address,
        kind: Option<Kind>,
    ) -> Result<String, Refusal> {
        if !address.taxpayer_id.is_empty() {
            return Ok(address.taxpayer_id.clone());
        }
        let id = self.device_id(peer, address, kind)?;
        let registry = (self.registry)();
        let taxpayer = registry.device_by_id(&id).map(|device| device.taxpayer);
        let taxpayer = taxpayer.and_then(|no| registry.taxpayers.get(&no));
        taxpayer.map(|taxpayer| taxpayer.id.clone()).ok_or_else(not_found)
    }

    /// The device that a question is about: named, or the taxpayer's only one for the kind. Whether
    /// the caller may ask about it is the pipeline's to say.
    fn device_id(
        &self,
        peer: &PeerCertificate,
        address: &Address,
        kind: Option<Kind>,
    ) -> Result<String, Refusal> {
        self.is_whom_it_claims(peer, address)?;
        let registry = (self.registry)();
        if let Some(device) = named(&registry, address)? {
            return Ok(device.id.clone());
        }
        let taxpayer = registry.taxpayer_by_id(&address.taxpayer_id).ok_or_else(not_found)?;
        let mut fitting = registry
            .devices_of(taxpayer.no)
            .filter(|device| kind.is_none_or(|kind| device.kinds.contains(&kind)));
        let first = fitting.next().ok_or_else(not_found)?;
        match fitting.next() {
            None => Ok(first.id.clone()),
            Some(_) => {
                let hint = "the taxpayer has several devices; name one";
                Err(Refusal::new(Reason::DeviceAmbiguous, hint))
            }
        }
    }
}

fn not_found() -> Refusal {
    Refusal::new(Reason::NotFound, "the message names no virtual device of the caller's taxpayers")
}

/// The device that an address names, by its id or its machine number; `None` when it names none.
/// Another device than the named one is never taken. Of a named taxpayer only the own devices are
/// looked through, since each request passes here and a registry may hold 100,000.
fn named<'a>(
    registry: &'a Registry,
    address: &Address,
) -> Result<Option<&'a registry::Device>, Refusal> {
    let mut names = [&address.device, &address.machine_number].into_iter();
    let Some(name) = names.find(|name| !name.is_empty()) else { return Ok(None) };
    let fits = |known: &&'a Arc<registry::Device>| known.machine_number == *name;
    let found = registry.device_by_id(name).or_else(|| {
        match registry.taxpayer_by_id(&address.taxpayer_id) {
            Some(taxpayer) => registry.devices_of(taxpayer.no).find(fits),
            None => registry.devices.values().find(fits),
        }
    });
    found.map(|found| Some(found.as_ref())).ok_or_else(not_found)
}

/// The id of a void request: these messages have none, so what it says is its id. A repeated one
/// hears the same, and one by somebody else what became of the invoice.
fn void_id(code: &str, number: &str, reason: &str) -> String {
    let said = [code, number, reason].join("\n");
    let mut id = format!("ZF{}", crate::convert::hex(&crate::convert::sha256(said.as_bytes())));
    id.truncate(VOID_ID_LEN);
    id
}

fn segment(of: &pb::StockSegment) -> Segment {
    let number = |text: &str| InvoiceNumber::parse_number(text).unwrap_or_default();
    let count = number(&of.last).saturating_sub(number(&of.first)).saturating_add(1);
    Segment {
        code: of.code.clone(),
        first: of.first.clone(),
        last: of.last.clone(),
        count: u64::from(count),
        left: of.left,
        acquired_on: None,
    }
}
