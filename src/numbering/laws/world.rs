//! The world that a schedule runs in: a store, a book, the claims that a finisher would hold. Does
//! to them what the actor does, and asks `promises` to judge.

use super::{
    End, Op, Step, book,
    promises::{Law, Model, holds},
    turn::Turn,
};
use crate::{
    contract::{self, Checked, Draft, sample},
    model::{
        ClaimId, Color, CstTime, DeviceNo, Fen, InvoiceNumber, Kind, PlatformNo, SeriesNo,
        TaxpayerNo, Totals,
    },
    numbering::{
        Limits,
        book::{Book, Round},
        operate::{NewDevice, NewSegment},
    },
    registry::BackendKind,
    store::{Claim, CommitError, Durable, Store as _, memory::MemoryStore},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// What is issued from: device and kind. Target `n` is series `n + 1`; one is on paper.
pub(super) const TARGETS: [(usize, Kind); 4] =
    [(0, Kind::ENormal), (0, Kind::ESpecial), (1, Kind::NormalPaper), (2, Kind::ENormal)];
/// The target whose device draws its numbers.
pub(super) const DRAWN: usize = 3;
pub(super) const PLATFORMS: [&str; 2] = ["P1", "P2"];
pub(super) const DEVICES: [&str; 3] = ["D1", "D2", "D3"];
/// The last one is the code of the device that draws its numbers.
pub(super) const CODES: [&str; 3] = ["044002600111", "044002600112", "044002600113"];
pub(super) const LIMITS: Limits = Limits {
    open_claims_max: 4,
    oldest_open_max_s: 600,
    clock_skew_max_s: 30,
    device_skew_max_s: 600,
    work_max: 8,
    batch_max: 8,
};

/// By serial and content.
static DRAFTS: LazyLock<Vec<Vec<Draft>>> = LazyLock::new(|| {
    let draft = |serial: usize, content: usize| {
        let mut wire = sample::draft(&format!("S{serial}"), sample::SELLER);
        wire.remark = content.to_string();
        contract::normalise(Some(wire)).unwrap()
    };
    (0..4).map(|serial| (0..2).map(|content| draft(serial, content)).collect()).collect()
});

fn draft(serial: usize, content: usize) -> Draft {
    DRAFTS[serial][content].clone()
}

/// A request of the first platform.
pub(super) fn checked(serial: usize, content: usize, target: usize) -> Checked {
    let (device, kind) = TARGETS[target];
    let extra = i64::try_from(content).unwrap();
    Checked {
        draft: draft(serial, content),
        platform: PlatformNo(1),
        taxpayer: TaxpayerNo(1),
        device: DeviceNo(i64::try_from(device).unwrap() + 1),
        kind,
        color: Color::Blue,
        totals: Totals { amount: Fen(100), tax: Fen(13 + extra), total: Fen(113 + extra) },
        original: None,
        valid_until: None,
        zero_limit: crate::registry::ZeroLimit::Unlimited,
        counts_credit: false,
        warnings: Vec::new(),
    }
}

pub(super) fn series_of(target: usize) -> SeriesNo {
    SeriesNo(i64::try_from(target).unwrap() + 1)
}

pub(super) fn number(code: usize, number: u32) -> InvoiceNumber {
    InvoiceNumber { code: CODES[code].into(), number }
}

pub(super) struct World {
    pub(super) store: MemoryStore,
    pub(super) book: Book,
    model: Model,
    held: BTreeMap<ClaimId, Durable<Claim>>,
    /// Second holds on claims that have ended: attempts that were still under way.
    late: Vec<Durable<Claim>>,
    pub(super) now: CstTime,
    signatures: u32,
}

impl World {
    pub(super) fn new() -> Self {
        let mut store = MemoryStore::default();
        let now = CstTime::parse("2026-03-31T23:50:00+08:00").unwrap();
        let mut book = Book::new(&store.load().unwrap(), LIMITS);
        let mut round = book.round(&store, now, Ok(()));
        register(&mut round);
        let (batch, change) = round.finish();
        store.commit(batch).unwrap();
        book.absorb(change);
        let mut model = Model::new(now);
        model.segment_added(series_of(0), &number(0, 1), 3);
        model.segment_added(series_of(2), &number(0, 4), 40);
        let (held, late) = (BTreeMap::new(), Vec::new());
        Self { store, book, model, held, late, now, signatures: 0 }
    }

    /// One round and its end.
    pub(super) fn step(&mut self, step: &Step) -> Law {
        self.now = CstTime::from_unix(self.now.unix() + step.seconds).unwrap();
        self.model.begin(self.now);
        let mut turn = Turn {
            round: self.book.round(&self.store, self.now, Ok(())),
            model: self.model.clone(),
            held: &self.held,
            late: &self.late,
            now: self.now,
            signatures: &mut self.signatures,
        };
        for op in &step.ops {
            turn.apply(op)?;
        }
        let Turn { round, model, .. } = turn;
        let (batch, change) = round.finish();
        if step.end == End::Lost {
            return self.restart();
        }
        if batch.is_empty() {
            self.book.absorb(change);
            self.model = model;
            return self.check();
        }
        if step.end == End::Full {
            self.store.disk().full_commits = 1;
            let before = format!("{:?}", self.book);
            let full = matches!(self.store.commit(batch), Err(CommitError::Full));
            holds(full, "a full disk", || "the commit went through".into())?;
            let same = before == format!("{:?}", self.book);
            holds(same, "a full disk changes nothing", || before)?;
            return self.check();
        }
        let attempts: BTreeMap<_, _> =
            self.store.load().unwrap().open.into_iter().map(|claim| (claim.id, claim)).collect();
        let committed = self.store.commit(batch).map_err(|error| error.to_string())?;
        self.model = model;
        self.model.settle(&self.store)?;
        self.held.extend(committed.claims.into_iter().map(|claim| (claim.id, claim)));
        let open = self.model.open();
        self.held.retain(|id, _| open.contains(id));
        self.late.extend(attempts.into_iter().filter(|(id, _)| !open.contains(id)).map(|it| it.1));
        if step.end == End::Untold {
            return self.restart();
        }
        self.book.absorb(change);
        self.check()
    }

    /// The process dies and starts again.
    fn restart(&mut self) -> Law {
        let loaded = self.store.load().map_err(|error| error.to_string())?;
        self.book = Book::new(&loaded, LIMITS);
        self.held = loaded.open.into_iter().map(|claim| (claim.id, claim)).collect();
        self.late.clear();
        let held: BTreeSet<ClaimId> = self.held.keys().copied().collect();
        let same = held == self.model.open();
        holds(same, "a start loads every open claim", || format!("{held:?}"))?;
        self.check()
    }

    fn check(&self) -> Law {
        book::reloads(&self.book, &self.store)?;
        book::agrees(&self.book, &self.model)?;
        self.model.check(&self.store)
    }

    /// Signs what is left and crashes once more: every promise still stands.
    pub(super) fn drain(&mut self) -> Law {
        let ops = (0..self.held.len()).map(|pick| Op::Sign { pick }).collect();
        self.step(&Step { ops, end: End::Committed, seconds: 0 })?;
        self.restart()
    }
}

/// A claim of the device that draws its numbers.
pub(in crate::numbering) fn device_claim() -> Durable<Claim> {
    let World { mut store, book, now, .. } = World::new();
    let mut round = book.round(&store, now, Ok(()));
    round.device_next(series_of(DRAWN), Some(number(2, 30)));
    round.assign(checked(0, 0, DRAWN)).unwrap();
    let (batch, _) = round.finish();
    store.commit(batch).unwrap().claims.remove(0)
}

fn register(round: &mut Round<'_>) {
    let seller = sample::SELLER;
    round.add_taxpayer("t", (seller.taxpayer_id, seller.name, "44")).unwrap();
    for platform in PLATFORMS {
        round.add_platform("t", platform, "示例平台").unwrap();
        round.add_binding("t", platform, seller.taxpayer_id).unwrap();
    }
    for (device, id) in DEVICES.iter().enumerate() {
        let draws = TARGETS[DRAWN].0 == device;
        let kinds = TARGETS.iter().filter(|target| target.0 == device).map(|target| target.1);
        let new = NewDevice {
            id: (*id).into(),
            taxpayer_id: seller.taxpayer_id.into(),
            machine_number: format!("{device:012}"),
            backend: if draws { BackendKind::SimulatedDevice } else { BackendKind::SoftwareP256 },
            kinds: kinds.collect(),
            profile: contract::DEFAULT_PROFILE.into(),
            test: true,
            public_key: Vec::new(),
            wrapped_key: None,
            connection: None,
        };
        round.add_device("t", new).unwrap();
    }
    for (target, first, last) in [(0, 1, 3), (2, 4, 40)] {
        round.add_segment("t", &new_segment(target, number(0, first), last)).unwrap();
    }
}

pub(super) fn new_segment(target: usize, first: InvoiceNumber, last: u32) -> NewSegment {
    let (device, kind) = TARGETS[target];
    NewSegment { device_id: DEVICES[device].into(), kind, first, last }
}
