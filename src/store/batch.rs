//! What one commit holds: typed columns, not statements. The numbering actor fills a `Batch`; a
//! store makes it durable and hands back the proofs.

use super::{
    Acceptance, Claim, Durable, Event, InvoiceVoid, Issued, ListOwner, Notice, Place, RedBalance,
    Released, Split, Voided, WriteBack,
};
use crate::{
    model::{
        BatchNo, ClaimId, Color, CommitCounter, CstTime, DeviceNo, Fen, InvoiceNumber, Kind,
        PlatformNo, Position, RequestKey, SegmentNo, SeriesNo, TaxpayerNo, Totals,
    },
    registry::{Certificate, Device, Grants, Monitor, Platform, Route, Taxpayer},
};
use chrono::NaiveDate;
use std::collections::BTreeMap;

/// State of a series after a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesState {
    /// Row number.
    pub no: SeriesNo,
    /// Device.
    pub device: DeviceNo,
    /// Kind.
    pub kind: Kind,
    /// Position of the next number.
    pub next_position: Position,
    /// Last chained event; none before the first.
    pub event: Option<Event>,
    /// Latest issue time; the next may not be earlier.
    pub last_issue: Option<CstTime>,
    /// Why no new claim is taken; none when all is well.
    pub frozen: Option<String>,
    /// The next number of a device that draws numbers, as it last said; none until it has said it,
    /// and when its stock is used up. Kept so that what it drew while we were down is noticed.
    pub device_next: Option<InvoiceNumber>,
    /// What counts against cumulative limits, and which days are reported.
    pub period: Period,
}

/// Amounts of a series that count against its cumulative limits, and the days that are closed by a
/// report (抄报). Amounts are without tax, red ones as positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Period {
    /// Claimed in blue since the last report.
    pub blue: Fen,
    /// Claimed in red since the last report.
    pub red: Fen,
    /// Of reported periods that are not cleared (清卡) yet, in blue.
    pub reported_blue: Fen,
    /// Of reported periods that are not cleared yet, in red.
    pub reported_red: Fen,
    /// Last reported day: nothing is issued on it or before.
    pub reported_until: Option<NaiveDate>,
}

/// Numbers that were drawn after the last commit which these books still have: a witness knows
/// them, the books do not. They stay in doubt and are never drawn again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// Series.
    pub series: SeriesNo,
    /// Code and first number.
    pub first: InvoiceNumber,
    /// Last number, inclusive.
    pub last: u32,
    /// When they were found missing.
    pub at: CstTime,
    /// The chained event.
    pub event: Event,
}

impl LostRange {
    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::from(self.last).saturating_sub(u64::from(self.first.number)).saturating_add(1)
    }

    /// What the event's hash covers.
    #[must_use]
    pub fn body(first: &InvoiceNumber, last: u32) -> String {
        format!("{first} to {last:08}")
    }
}

/// State of a segment after a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentState {
    /// Row number.
    pub no: SegmentNo,
    /// Series.
    pub series: SeriesNo,
    /// Invoice code.
    pub code: String,
    /// First number.
    pub first: u32,
    /// Last number, inclusive.
    pub last: u32,
    /// Next number to draw; `last + 1` when used up.
    pub next: u32,
}

impl SegmentState {
    /// Numbers not yet drawn.
    #[must_use]
    pub fn left(&self) -> u64 {
        u64::from(self.last).saturating_add(1).saturating_sub(u64::from(self.next))
    }
}

/// What of an invoice usage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// That it was issued, on the day of its issue. Never taken back.
    Issued,
    /// That it was voided after that, on the day of its void, with the same amounts.
    Voided,
}

impl Counted {
    /// How the store keeps it: 0 issued, 1 voided.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Issued => 0,
            Self::Voided => 1,
        }
    }
}

/// What usage is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageKey {
    /// Day of what is counted, China Standard Time.
    pub day: NaiveDate,
    /// Platform.
    pub platform: PlatformNo,
    /// Taxpayer.
    pub taxpayer: TaxpayerNo,
    /// Kind.
    pub kind: Kind,
    /// Colour.
    pub color: Color,
    /// What is counted.
    pub counted: Counted,
}

/// Usage that a commit adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageDelta {
    /// Invoices.
    pub count: u64,
    /// Their totals, summed.
    pub totals: Totals,
}

impl UsageDelta {
    /// Counts one invoice.
    pub fn add(&mut self, totals: Totals) {
        self.count = self.count.saturating_add(1);
        self.totals = self.totals.plus(totals);
    }
}

/// A serial that is closed unused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedSerial {
    /// Whose serial.
    pub request: RequestKey,
    /// When.
    pub at: CstTime,
}

/// A change of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryChange {
    /// Adds or replaces a platform.
    Platform(Platform),
    /// Adds or replaces a certificate.
    Certificate(Certificate),
    /// Adds or replaces a taxpayer.
    Taxpayer(Taxpayer),
    /// Binds, or replaces what a binding grants.
    Binding(PlatformNo, TaxpayerNo, Grants),
    /// Adds or replaces a device; the wrapped key stays as it is when none is given.
    Device(Device, Option<Vec<u8>>),
    /// Adds or replaces a route.
    Route(Route),
    /// Adds or replaces the monitor data of a device and kind.
    Monitor(Monitor),
    /// A value of the daemon's own, such as the key store's header.
    Setting(String, Vec<u8>),
}

/// A delivery batch whose membership is frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryBatch {
    /// Row number.
    pub no: BatchNo,
    /// The id that the acceptance service sees, 16 random bytes.
    pub id: [u8; 16],
    /// Province that names the route.
    pub province: String,
    /// What is told, in the order in which it is sent.
    pub members: Vec<Notice>,
    /// When it was frozen.
    pub at: CstTime,
}

/// One rejected member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What was told.
    pub notice: Notice,
    /// The authority's words.
    pub message: String,
}

/// A verified receipt for a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRecord {
    /// The batch.
    pub batch: BatchNo,
    /// Acceptance serial (受理序列号).
    pub acceptance_serial: String,
    /// The encoded `skproxy.authority.v1.Receipt`.
    pub receipt: Vec<u8>,
    /// Members with a signed rejection.
    pub rejected: Vec<Rejection>,
    /// When it was stored.
    pub at: CstTime,
}

/// Something a person must look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// When.
    pub at: CstTime,
    /// Series concerned.
    pub series: Option<SeriesNo>,
    /// Claim concerned.
    pub claim: Option<ClaimId>,
    /// What happened, with evidence.
    pub text: String,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: CstTime,
    /// Who: the operator's name as the admin socket knows it.
    pub actor: String,
    /// What.
    pub action: String,
}

/// One commit.
#[derive(Debug, Default)]
pub struct Batch {
    /// New claims, with their request binding and, when numbered, their number.
    pub claims: Vec<Claim>,
    /// Signatures.
    pub issued: Vec<Issued>,
    /// Voids of numbers that were never signed.
    pub voided: Vec<Voided>,
    /// Voids of issued invoices.
    pub invoice_voids: Vec<InvoiceVoid>,
    /// Releases.
    pub released: Vec<Released>,
    /// Serials closed.
    pub closed: Vec<ClosedSerial>,
    /// New state of every series touched.
    pub series: Vec<SeriesState>,
    /// New state of every segment touched.
    pub segments: Vec<SegmentState>,
    /// Numbers left out.
    pub lost: Vec<LostRange>,
    /// Where what was issued stands in whose list.
    pub listed: Vec<(ListOwner, Place)>,
    /// New balance of every blue invoice touched.
    pub balances: Vec<RedBalance>,
    /// Usage added.
    pub usage: BTreeMap<UsageKey, UsageDelta>,
    /// Registry changes.
    pub registry: Vec<RegistryChange>,
    /// Delivery batches frozen.
    pub deliveries: Vec<DeliveryBatch>,
    /// Batches that the acceptance judges.
    pub acceptances: Vec<Acceptance>,
    /// Batches that were split; before `deliveries`, which may hold their members.
    pub splits: Vec<Split>,
    /// What was set aside and is to be sent again.
    pub sent_again: Vec<Notice>,
    /// Receipts.
    pub receipts: Vec<ReceiptRecord>,
    /// Write-backs, new or confirmed.
    pub write_backs: Vec<WriteBack>,
    /// Incidents.
    pub incidents: Vec<Incident>,
    /// Audit entries.
    pub audit: Vec<AuditEntry>,
    /// The chained event of every serial closed, incident and audit entry, in this order; `chain`
    /// fills it when nothing more is added.
    pub journal: Vec<Event>,
}

impl Batch {
    /// Whether there is nothing to make durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
            && self.issued.is_empty()
            && self.voided.is_empty()
            && self.invoice_voids.is_empty()
            && self.released.is_empty()
            && self.closed.is_empty()
            && self.series.is_empty()
            && self.segments.is_empty()
            && self.lost.is_empty()
            && self.listed.is_empty()
            && self.balances.is_empty()
            && self.usage.is_empty()
            && self.registry.is_empty()
            && self.deliveries.is_empty()
            && self.acceptances.is_empty()
            && self.splits.is_empty()
            && self.sent_again.is_empty()
            && self.receipts.is_empty()
            && self.write_backs.is_empty()
            && self.incidents.is_empty()
            && self.audit.is_empty()
    }
}

/// A batch that is durable, with its watermark.
#[derive(Debug)]
pub struct Committed {
    /// Which commit it was.
    pub counter: CommitCounter,
    /// The claims, in the batch's order.
    pub claims: Vec<Durable<Claim>>,
    /// The signatures, in the batch's order.
    pub issued: Vec<Durable<Issued>>,
}

impl Committed {
    /// The proofs of one commit; only a store may call it, after the sync.
    pub(super) fn new(counter: CommitCounter, batch: Batch) -> Self {
        Self { counter, claims: Durable(batch.claims).each(), issued: Durable(batch.issued).each() }
    }
}
