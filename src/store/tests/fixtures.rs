//! A small story of a store: every table gets a row. Made up: no real company, person or key.

use crate::{
    contract::ContentDigest,
    model::{
        BatchNo, ClaimId, Color, CstTime, DeviceNo, DeviceSerial, Fen, InvoiceNumber, Kind,
        PlatformNo, Position, RequestKey, SegmentNo, Serial, SeriesNo, TaxpayerNo, Totals,
    },
    pb::v1 as pb,
    registry::{
        BackendKind, Certificate, Device, Forbidden, Grants, KeyHash, Monitor, Platform, Route,
        Taxpayer, ToldBy,
    },
    store::{
        Assignment, AuditEntry, Batch, Claim, ClaimHead, ClosedSerial, Counted, DeliveryBatch,
        EventKind, Incident, InvoiceVoid, Issued, ListOwner, Notice, Place, ReceiptRecord,
        RegistryChange, Rejection, Released, SegmentState, SeriesState, SignedTail, UsageKey,
        Voided,
    },
};
use bytes::Bytes;
use std::collections::BTreeMap;

pub(super) const CODE: &str = "044002600111";
const TOTALS: Totals = Totals { amount: Fen(100), tax: Fen(13), total: Fen(113) };

pub(super) fn at() -> CstTime {
    CstTime::parse("2026-03-02T10:00:00+08:00").unwrap()
}

pub(super) fn key(serial: &str) -> RequestKey {
    let serial = Serial::parse(serial).unwrap();
    RequestKey { platform: PlatformNo(1), taxpayer: TaxpayerNo(1), serial }
}

fn number(code: &str, number: u32) -> InvoiceNumber {
    InvoiceNumber { code: code.into(), number }
}

/// What an actor would keep in memory to write the story.
pub(super) struct Author {
    ours: SeriesState,
    drawn: SeriesState,
    segment: SegmentState,
    last: i64,
    heads: BTreeMap<i64, Bytes>,
}

fn series(no: i64) -> SeriesState {
    SeriesState {
        no: SeriesNo(no),
        device: DeviceNo(no),
        kind: Kind::ENormal,
        next_position: Position(0),
        event: None,
        last_issue: None,
        frozen: None,
        device_next: None,
        period: crate::store::Period::default(),
    }
}

fn device(no: i64, backend: BackendKind) -> RegistryChange {
    let device = Device {
        no: DeviceNo(no),
        id: format!("DEVICE{no}"),
        taxpayer: TaxpayerNo(1),
        machine_number: format!("{no:012}"),
        backend,
        kinds: [Kind::ENormal].into(),
        profile: "baiwang".into(),
        enabled: true,
        test: true,
        public_key: b"MARK-DEVICE".to_vec(),
        connection: None,
    };
    RegistryChange::Device(device, Some(vec![9; 16]))
}

fn tail(check_code: &str) -> SignedTail {
    let check_code = check_code.into();
    SignedTail::encode(&pb::Invoice { check_code, ..pb::Invoice::default() })
}

impl Author {
    pub(super) fn new() -> Self {
        let segment = SegmentState {
            no: SegmentNo(1),
            series: SeriesNo(1),
            code: CODE.into(),
            first: 7,
            last: 99,
            next: 7,
        };
        Self { ours: series(1), drawn: series(2), segment, last: 0, heads: BTreeMap::new() }
    }

    pub(super) fn registry(&self) -> Batch {
        let platform = |name: &str| {
            let no = PlatformNo(1);
            Platform { no, id: "P1".into(), name: name.into(), enabled: true }
        };
        let registry = vec![
            RegistryChange::Platform(platform("before")),
            RegistryChange::Platform(platform("MARK-PLATFORM")),
            RegistryChange::Certificate(Certificate {
                key: KeyHash(*b"MARK-CERTIFICATE-0123456789abcde"),
                platform: PlatformNo(1),
                not_after: at(),
                revoked: false,
            }),
            RegistryChange::Taxpayer(Taxpayer {
                no: TaxpayerNo(1),
                id: "91000000TEST000001".into(),
                name: "MARK-TAXPAYER".into(),
                province: "44".into(),
                forbidden: Forbidden::parse("004").unwrap(),
            }),
            RegistryChange::Binding(PlatformNo(1), TaxpayerNo(1), Grants::all()),
            device(1, BackendKind::SoftwareP256),
            device(2, BackendKind::SimulatedDevice),
            RegistryChange::Route(Route {
                province: "44".into(),
                address: "MARK-ROUTE:1".into(),
                server_name: "localhost".into(),
                receipt_key: vec![5; 8],
            }),
            RegistryChange::Monitor(Monitor {
                device: DeviceNo(1),
                kind: Kind::ENormal,
                told_by: ToldBy::Authority,
                told_at: at(),
                facts: crate::registry::monitor::tests::facts(),
            }),
            RegistryChange::Setting("statement".into(), b"MARK-SETTING".to_vec()),
        ];
        let series = vec![self.ours.clone(), self.drawn.clone()];
        Batch { registry, series, segments: vec![self.segment.clone()], ..Batch::default() }
    }

    fn claim(&mut self, serial: &str, assignment: Assignment) -> Claim {
        self.last += 1;
        let id = ClaimId(self.last);
        let numbered = matches!(assignment, Assignment::Numbered { .. });
        let draft = pb::InvoiceDraft { serial: serial.into(), ..pb::InvoiceDraft::default() };
        let head = ClaimHead::encode(&pb::Invoice { draft: Some(draft), ..pb::Invoice::default() });
        self.heads.insert(self.last, head.0.clone());
        let event = numbered.then(|| next(&mut self.ours, EventKind::Claimed, id, &head.0));
        let series = if numbered { SeriesNo(1) } else { SeriesNo(2) };
        Claim {
            id,
            series,
            device: DeviceNo(series.0),
            request: key(serial),
            digest: ContentDigest { version: 1, bytes: [3; 32] },
            assignment,
            claimed_at: at(),
            kind: Kind::ENormal,
            color: Color::Blue,
            totals: TOTALS,
            red_of: None,
            head,
            event,
        }
    }

    /// Claims a number for each serial.
    pub(super) fn claims(&mut self, serials: &[&str]) -> Batch {
        let mut claims = Vec::new();
        for serial in serials {
            let number = number(CODE, self.segment.next);
            let position = self.ours.next_position;
            self.segment.next += 1;
            self.ours.next_position.0 += 1;
            self.ours.last_issue = Some(at());
            claims.push(self.claim(serial, Assignment::Numbered { number, position }));
        }
        let segments = vec![self.segment.clone()];
        Batch { claims, segments, series: vec![self.ours.clone()], ..Batch::default() }
    }

    pub(super) fn device_claim(&mut self, serial: &str, next: u32) -> Batch {
        let device_serial = DeviceSerial(format!("{serial:0>20}"));
        let next = number("044002600222", next);
        let claim = self.claim(serial, Assignment::ByDevice { device_serial, next });
        Batch { claims: vec![claim], ..Batch::default() }
    }

    fn listed(batch: &mut Batch) {
        let claim = batch.issued[0].claim;
        let owner = ListOwner { taxpayer: TaxpayerNo(1), platform: PlatformNo(1) };
        batch.listed.push((owner, Place { at: at(), claim }));
        Self::usage(batch, Counted::Issued);
    }

    fn usage(batch: &mut Batch, counted: Counted) {
        let key = UsageKey {
            day: at().day(),
            platform: PlatformNo(1),
            taxpayer: TaxpayerNo(1),
            kind: Kind::ENormal,
            color: Color::Blue,
            counted,
        };
        batch.usage.entry(key).or_default().add(TOTALS);
    }

    pub(super) fn issue(&mut self, claim: i64) -> Batch {
        let (claim, tail) = (ClaimId(claim), tail("MARK-SIGNATURE"));
        let event = next(&mut self.ours, EventKind::Issued, claim, &tail.0);
        let issued = Issued { claim, series: SeriesNo(1), tail, drawn: None, event };
        let series = vec![self.ours.clone()];
        let mut batch = Batch { issued: vec![issued], series, ..Batch::default() };
        Self::listed(&mut batch);
        batch
    }

    fn adopt(&mut self, claim: i64, drew: u32) -> Batch {
        let (claim, tail) = (ClaimId(claim), tail("2"));
        let event = next(&mut self.drawn, EventKind::Issued, claim, &tail.0);
        let drawn = Some((number("044002600222", drew), self.drawn.next_position, at()));
        self.drawn.next_position.0 += 1;
        let issued = Issued { claim, series: SeriesNo(2), tail, drawn, event };
        let series = vec![self.drawn.clone()];
        let mut batch = Batch { issued: vec![issued], series, ..Batch::default() };
        Self::listed(&mut batch);
        batch
    }

    fn void(&mut self, claim: i64, number: InvoiceNumber) -> Batch {
        let (claim, reason) = (ClaimId(claim), "MARK-VOID".to_owned());
        let event = next(&mut self.ours, EventKind::Voided, claim, reason.as_bytes());
        let series = SeriesNo(1);
        let voided =
            Voided { claim, series, number: Some(number), drawn: None, reason, at: at(), event };
        Batch { voided: vec![voided], series: vec![self.ours.clone()], ..Batch::default() }
    }

    /// The void of what `issue` made.
    pub(super) fn void_issued(&mut self, claim: i64, id: &str) -> Batch {
        let invoice = [self.heads[&claim].as_ref(), &tail("MARK-SIGNATURE").0].concat();
        let (claim, request, reason) = (ClaimId(claim), key(id), "MARK-WITHDRAWN".to_owned());
        let body = InvoiceVoid::body(&invoice, &request, (&reason, at()));
        let event = next(&mut self.ours, EventKind::InvoiceVoided, claim, &body);
        let void = InvoiceVoid { claim, series: SeriesNo(1), request, reason, at: at(), event };
        let series = vec![self.ours.clone()];
        let mut batch = Batch { invoice_voids: vec![void], series, ..Batch::default() };
        Self::usage(&mut batch, Counted::Voided);
        batch
    }

    /// A release, and the same serial claimed again in the same commit.
    fn release_and_claim(&mut self, claim: i64, serial: &str) -> Batch {
        let (claim, evidence) = (ClaimId(claim), "MARK-RELEASE".to_owned());
        let event = next(&mut self.drawn, EventKind::Released, claim, evidence.as_bytes());
        let request = key(serial);
        let released = Released { claim, series: SeriesNo(2), request, evidence, at: at(), event };
        let again = self.device_claim(serial, 50);
        Batch { released: vec![released], series: vec![self.drawn.clone()], ..again }
    }

    /// The whole story, one batch a commit: claims 1 and 4 issued, 4 voided since, 2 voided, 3 and
    /// 7 open, 5 released, its serial claimed again as 6 and drawn by the device.
    pub(super) fn story(&mut self) -> Vec<Batch> {
        let text = |text: &str| text.to_owned();
        let delivery = |no, members: &[i64]| DeliveryBatch {
            no: BatchNo(no),
            id: [u8::try_from(no).unwrap(); 16],
            province: "MARK-BATCH".into(),
            members: members.iter().map(|claim| Notice::end(ClaimId(*claim))).collect(),
            at: at(),
        };
        let receipt = ReceiptRecord {
            batch: BatchNo(1),
            acceptance_serial: "A1".into(),
            receipt: b"MARK-RECEIPT".to_vec(),
            rejected: vec![Rejection {
                notice: Notice::end(ClaimId(2)),
                message: "MARK-REJECTION".into(),
            }],
            at: at(),
        };
        let audit = AuditEntry { at: at(), actor: text("operator"), action: text("MARK-AUDIT") };
        let incident = Incident {
            at: at(),
            series: None,
            claim: Some(ClaimId(2)),
            text: text("MARK-INCIDENT"),
        };
        let closed = ClosedSerial { request: key("MARK-REQUEST"), at: at() };
        let mut story = vec![
            self.registry(),
            self.claims(&["S1", "S2", "S3", "S4"]),
            self.issue(1),
            self.void(2, number(CODE, 8)),
            Batch { deliveries: vec![delivery(1, &[1, 2])], ..Batch::default() },
            Batch { receipts: vec![receipt], incidents: vec![incident], ..Batch::default() },
            Batch { closed: vec![closed], audit: vec![audit], ..Batch::default() },
            self.device_claim("S5", 50),
            self.release_and_claim(5, "S5"),
            self.adopt(6, 50),
            Batch { deliveries: vec![delivery(2, &[6])], ..Batch::default() },
            self.issue(4),
            self.void_issued(4, "V4"),
            self.claims(&["S7"]),
        ];
        story.iter_mut().fold(None, |journal, batch| batch.chain(journal));
        story
    }
}

fn next(
    series: &mut SeriesState,
    kind: EventKind,
    claim: ClaimId,
    body: &[u8],
) -> crate::store::Event {
    let event = crate::store::Event::after(series.event, kind, claim, body);
    series.event = Some(event);
    event
}
