//! A house: an actor and its finisher over an embedded store of its own, with switches for the
//! disk, a clock that can be moved, and devices that a test plugs in when it wants.

use crate::{
    clock::{Clock, monotonic},
    contract::{self, Checked, Draft, Profiles, sample},
    model::{
        ClaimId, Color, CommitCounter, DeviceNo, DeviceSerial, Fen, InvoiceNumber, Kind,
        PlatformNo, RequestKey, Serial, SeriesNo, TaxpayerNo, Totals,
    },
    numbering::{
        Assigned, Completions, Limits, NewDevice, NewSegment, Numbering, Outcome, Parts, Round,
        StartError, Told, finisher::Finisher, laws,
    },
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::BackendKind,
    secret::Secret,
    signer::{
        Backend, CipherForm, DeviceAnswer, DeviceKey, DeviceNumbered, Faults, ProxyNumbered,
        Segment, Signed, SignerError, SimulatedConfig, SimulatedDevice, SoftwareSigner, Threads,
    },
    store::{
        Balance, Batch, Binding, Claim, CommitError, Committed, Durable, Found, Store, StoreError,
        backup::Copier,
        embedded::{self, EmbeddedStore, Options},
    },
};
use prost::Message as _;
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    task::Context,
    time::Duration,
};

pub(super) const CODE: &str = "044002600111";
pub(super) const DRAWN_CODE: &str = "044002600112";
/// The software device, and the one that draws its numbers.
pub(super) const D1: DeviceNo = DeviceNo(1);
pub(super) const D2: DeviceNo = DeviceNo(2);
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long the simulated device may be at work after a request.
pub(super) const QUIESCENCE: Duration = Duration::from_millis(400);

/// The switches of the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Commits fail for lack of space.
    pub(super) full: AtomicBool,
    /// Free space is below the reserve.
    pub(super) scarce: AtomicBool,
}

struct Switched {
    inner: EmbeddedStore,
    disk: Arc<Disk>,
}

impl Store for Switched {
    fn commit(&mut self, batch: Batch) -> Result<Committed, CommitError> {
        if self.disk.full.load(Ordering::SeqCst) {
            return Err(CommitError::Full);
        }
        self.inner.commit(batch)
    }

    fn binding(&self, key: &RequestKey) -> Result<Option<Binding>, StoreError> {
        self.inner.binding(key)
    }

    fn found(&self, claim: ClaimId) -> Result<Found, StoreError> {
        self.inner.found(claim)
    }

    fn void_requested(&self, key: &RequestKey) -> Result<Option<ClaimId>, StoreError> {
        self.inner.void_requested(key)
    }

    fn holder(&self, number: &InvoiceNumber) -> Result<Option<ClaimId>, StoreError> {
        self.inner.holder(number)
    }

    fn balance(&self, blue: ClaimId) -> Result<Option<Balance>, StoreError> {
        self.inner.balance(blue)
    }

    fn is_rejected(&self, claim: ClaimId) -> Result<bool, StoreError> {
        self.inner.is_rejected(claim)
    }

    fn any_number(&self, number: &InvoiceNumber, last: u32) -> Result<bool, StoreError> {
        self.inner.any_number(number, last)
    }

    fn has_reserve(&self) -> bool {
        !self.disk.scarce.load(Ordering::SeqCst) && self.inner.has_reserve()
    }

    fn counter(&self) -> CommitCounter {
        self.inner.counter()
    }

    fn copier(&self) -> Option<Copier> {
        self.inner.copier()
    }
}

pub(super) struct House {
    pub(super) numbering: Numbering,
    pub(super) finisher: Arc<Finisher>,
    pub(super) completions: Completions,
    pub(super) disk: Arc<Disk>,
    pub(super) clock: Clock,
}

impl House {
    /// A fresh house in `dir` with its taxpayer, devices and a segment.
    pub(super) async fn fresh(dir: &Path, limits: Limits) -> Self {
        let house = Self::start(dir, limits, Clock::system()).unwrap();
        house.change(register).await.unwrap();
        house
    }

    /// Opens what is in `dir`; no device is plugged in.
    pub(super) fn start(dir: &Path, limits: Limits, clock: Clock) -> Result<Self, StartError> {
        Self::start_under(dir, (limits, Profiles::embedded()), clock)
    }

    /// As `start`, under profiles of the test's own.
    pub(super) fn start_under(
        dir: &Path,
        (limits, profiles): (Limits, Profiles),
        clock: Clock,
    ) -> Result<Self, StartError> {
        let options = Options { reserve_bytes: 0, ..Options::in_dir(dir) };
        let opened = embedded::open(&options).unwrap();
        let disk = Arc::new(Disk::default());
        let parts = Parts {
            store: Switched { inner: opened.store, disk: Arc::clone(&disk) },
            books: opened.books,
            loaded: opened.loaded,
            limits,
            clock: clock.clone(),
            read_only: opened.report.read_only,
            profiles: Arc::new(profiles),
        };
        let mut kept = None;
        let (numbering, finisher) = Numbering::start(parts, |completions| {
            kept = Some(completions.clone());
            Finisher::new(completions, clock.clone(), Threads { software: 1, devices_max: 64 })
        })?;
        let completions = kept.expect("the finisher was made");
        Ok(Self { numbering, finisher, completions, disk, clock })
    }

    /// Ends everything, as a drain does.
    pub(super) fn end(self) {
        self.finisher.end();
        self.numbering.stop();
    }

    pub(super) async fn change<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Round<'_>) -> R + Send + 'static,
    ) -> Result<R, Refusal> {
        self.numbering.change(|round| Ok(decide(round))).await
    }

    pub(super) async fn assign(&self, checked: Checked) -> Result<Assigned, Refusal> {
        self.ticking(self.numbering.assign(checked, PATIENCE)).await
    }

    /// Issues and waits for the end.
    pub(super) async fn issue(&self, checked: Checked) -> Told {
        match self.assign(checked).await? {
            Assigned::Done(outcome) => Ok(outcome),
            Assigned::Wait(wait) => self.ticking(wait.within(PATIENCE)).await,
        }
    }

    /// Keeps the actor busy while `requests` are handed in, so that one batch decides them all.
    pub(super) async fn in_one_batch(&self, hand_in: impl FnOnce(&mut Context<'_>)) {
        let (entered, is_entered) = sync_channel(1);
        let (release, released) = sync_channel(1);
        let busy = self.change(move |_| {
            entered.send(()).unwrap();
            released.recv_timeout(PATIENCE).unwrap();
        });
        let (mut busy, mut hand_in) = (std::pin::pin!(busy), Some(hand_in));
        std::future::poll_fn(|context| {
            let polled = busy.as_mut().poll(context);
            if let Some(hand_in) = hand_in.take() {
                is_entered.recv_timeout(PATIENCE).unwrap();
                hand_in(context);
                release.send(()).unwrap();
            }
            polled
        })
        .await
        .unwrap();
    }

    /// Drives the finisher while `future` goes on.
    pub(super) async fn ticking<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut every = tokio::time::interval(Duration::from_millis(2));
        let begun = monotonic();
        loop {
            tokio::select! {
                biased;
                done = &mut future => return done,
                _ = every.tick() => self.finisher.tick(),
            }
            assert!(begun.elapsed() < PATIENCE * 2, "nothing came of it");
        }
    }

    /// Drives the finisher until `state` is reached.
    pub(super) async fn until(&self, state: &str, reached: impl Fn() -> bool) {
        let mut every = tokio::time::interval(Duration::from_millis(2));
        let begun = monotonic();
        while !reached() {
            assert!(begun.elapsed() < PATIENCE, "not reached: {state}");
            every.tick().await;
            self.finisher.tick();
        }
    }

    /// Plugs in the software device with a real key.
    pub(super) fn plug(&self) {
        self.finisher.pool().add_device(D1, Backend::Proxy(Box::new(signer())), 64);
    }

    /// Plugs in a software device that signs when the gate says so, and tells when it is asked.
    pub(super) fn plug_gated(&self) -> Gate {
        let ((asked, is_asked), (open, opened)) = (sync_channel(64), sync_channel(64));
        let gated = Gated { asked, opened, signer: signer() };
        self.finisher.pool().add_device(D1, Backend::Proxy(Box::new(gated)), 64);
        Gate { asked: is_asked, open }
    }

    /// Plugs in a software device whose two-dimensional codes name another invoice.
    pub(super) fn plug_miscoding(&self) {
        self.finisher.pool().add_device(D1, Backend::Proxy(Box::new(Miscoding(signer()))), 64);
    }

    /// Plugs in a device that signs nothing and keeps a copy of every claim that it sees.
    pub(super) fn plug_copying(&self) -> Arc<Mutex<Vec<Claim>>> {
        let copies = Arc::new(Mutex::new(Vec::new()));
        let copying = Copying(Arc::clone(&copies));
        self.finisher.pool().add_device(D1, Backend::Proxy(Box::new(copying)), 64);
        copies
    }

    /// Plugs in the simulated device and waits until its next numbers are known.
    pub(super) async fn plug_simulated(&self, dir: &Path) -> Faults {
        let faults = Faults::default();
        let device = simulated(dir, &self.clock, faults.clone());
        self.plug_drawing(Box::new(device)).await;
        faults
    }

    /// Plugs in a device that issues what it is asked for, and says that it was for another total.
    pub(super) async fn plug_lying(&self, dir: &Path) {
        let device = simulated(dir, &self.clock, Faults::default());
        self.plug_drawing(Box::new(Lying(device))).await;
    }

    async fn plug_drawing(&self, device: Box<dyn DeviceNumbered>) {
        self.finisher.pool().add_device(D2, Backend::Device(device), 64);
        self.finisher.watch_device(D2, [Kind::ENormal, Kind::ESpecial]);
        for series in [SeriesNo(2), SeriesNo(3)] {
            let begun = monotonic();
            loop {
                let next = self
                    .ticking(self.change(move |round| {
                        round.series(series).and_then(|series| series.state.device_next.clone())
                    }))
                    .await;
                if next.unwrap().is_some() {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "the device never said its next number");
            }
        }
    }

    /// What the books say of a serial.
    pub(super) fn found(&self, serial: &str) -> Option<Found> {
        let books = self.numbering.books();
        books.find(&request(serial)).unwrap().and_then(|(_, found)| found)
    }

    pub(super) fn is_issued(&self, serial: &str) -> bool {
        self.found(serial).is_some_and(|found| found.invoice().is_some())
    }

    /// Why the series of `device` and kind is frozen.
    pub(super) async fn frozen(&self, device: DeviceNo, kind: Kind) -> Option<String> {
        let frozen = self.change(move |round| {
            let series = round.series_of(device, kind).and_then(|no| round.series(no));
            series.and_then(|series| series.state.frozen.clone())
        });
        frozen.await.unwrap()
    }
}

/// The test's side of a gated device.
pub(super) struct Gate {
    asked: Receiver<()>,
    open: SyncSender<()>,
}

impl Gate {
    /// Waits until the device is asked to sign.
    pub(super) fn wait(&self) {
        self.asked.recv_timeout(PATIENCE).expect("the device is asked to sign");
    }

    /// Lets it sign one.
    pub(super) fn open(&self) {
        self.open.send(()).unwrap();
    }
}

struct Gated {
    asked: SyncSender<()>,
    opened: Receiver<()>,
    signer: SoftwareSigner,
}

impl ProxyNumbered for Gated {
    fn sign(&mut self, claim: &Durable<Claim>) -> Result<Signed, SignerError> {
        let unavailable = |detail: &str| SignerError::Unavailable {
            device: "D1".into(),
            detail: detail.to_owned(),
        };
        self.asked.send(()).map_err(|_| unavailable("the test is over"))?;
        self.opened.recv().map_err(|_| unavailable("the test is over"))?;
        self.signer.sign(claim)
    }
}

fn simulated(dir: &Path, clock: &Clock, faults: Faults) -> SimulatedDevice {
    let segment = |kind, first| Segment { kind, code: DRAWN_CODE.into(), first, last: first + 40 };
    let config = SimulatedConfig {
        directory: dir.to_owned(),
        device_id: "D2".into(),
        machine_number: "000000000002".into(),
        segments: vec![segment(Kind::ENormal, 50), segment(Kind::ESpecial, 500)],
        quiescence: QUIESCENCE,
        clock: clock.clone(),
    };
    SimulatedDevice::open(config, faults).unwrap()
}

/// Somebody else has the device issue a number.
pub(super) fn draw_behind_our_back(dir: &Path) {
    let mut device = simulated(dir, &Clock::system(), Faults::default());
    device.issue(&laws::device_claim()).unwrap();
}

struct Lying(SimulatedDevice);

fn lie(mut answer: DeviceAnswer) -> DeviceAnswer {
    answer.totals.total.0 += 1;
    answer
}

impl DeviceNumbered for Lying {
    fn next_number(&mut self, kind: Kind) -> Result<Option<InvoiceNumber>, SignerError> {
        self.0.next_number(kind)
    }

    fn issue(&mut self, claim: &Durable<Claim>) -> Result<DeviceAnswer, SignerError> {
        self.0.issue(claim).map(lie)
    }

    fn query(
        &mut self,
        kind: Kind,
        serial: &DeviceSerial,
    ) -> Result<Option<DeviceAnswer>, SignerError> {
        Ok(self.0.query(kind, serial)?.map(lie))
    }

    fn quiescence(&self) -> Duration {
        self.0.quiescence()
    }
}

struct Miscoding(SoftwareSigner);

impl ProxyNumbered for Miscoding {
    fn sign(&mut self, claim: &Durable<Claim>) -> Result<Signed, SignerError> {
        let signed = self.0.sign(claim)?;
        let qr_text = signed.qr_text.replacen("01,10,", "01,04,", 1);
        Ok(Signed { qr_text, ..signed })
    }
}

struct Copying(Arc<Mutex<Vec<Claim>>>);

impl ProxyNumbered for Copying {
    fn sign(&mut self, claim: &Durable<Claim>) -> Result<Signed, SignerError> {
        self.0.lock().unwrap().push(copy(claim));
        // Not unavailable: a few of those in a row would close the device to new claims.
        Err(SignerError::Refused { device: "D1".into(), detail: "it only looks".into() })
    }
}

/// What no code but a test's can do: a second hold on a claim.
fn copy(claim: &Claim) -> Claim {
    Claim {
        id: claim.id,
        series: claim.series,
        device: claim.device,
        request: claim.request.clone(),
        digest: claim.digest,
        assignment: claim.assignment.clone(),
        claimed_at: claim.claimed_at,
        kind: claim.kind,
        color: claim.color,
        totals: claim.totals,
        red_of: claim.red_of,
        head: claim.head.clone(),
        event: claim.event,
    }
}

pub(super) fn signer() -> SoftwareSigner {
    let scalar = Secret::new([7; 32]);
    let key = DeviceKey::from_scalar(BackendKind::SoftwareP256, &scalar).unwrap();
    SoftwareSigner::new("D1", key, CipherForm::UKey).unwrap()
}

fn new_device(id: &str, backend: BackendKind, kinds: &[Kind]) -> NewDevice {
    NewDevice {
        id: id.into(),
        taxpayer_id: sample::SELLER.taxpayer_id.into(),
        machine_number: "000000000001".into(),
        backend,
        kinds: kinds.iter().copied().collect(),
        profile: contract::DEFAULT_PROFILE.into(),
        test: true,
        public_key: Vec::new(),
        wrapped_key: None,
        connection: None,
    }
}

pub(super) fn register(round: &mut Round<'_>) {
    let seller = sample::SELLER;
    round.add_platform("t", "P1", "示例平台").unwrap();
    round.add_taxpayer("t", (seller.taxpayer_id, seller.name, "44")).unwrap();
    round.add_binding("t", "P1", seller.taxpayer_id).unwrap();
    round.add_device("t", new_device("D1", BackendKind::SoftwareP256, &[Kind::ENormal])).unwrap();
    let kinds = [Kind::ENormal, Kind::ESpecial];
    round.add_device("t", new_device("D2", BackendKind::SimulatedDevice, &kinds)).unwrap();
    let first = InvoiceNumber { code: CODE.into(), number: 1 };
    let segment = NewSegment { device_id: "D1".into(), kind: Kind::ENormal, first, last: 900 };
    round.add_segment("t", &segment).unwrap();
}

pub(super) fn request(serial: &str) -> RequestKey {
    let serial = Serial::parse(serial).unwrap();
    RequestKey { platform: PlatformNo(1), taxpayer: TaxpayerNo(1), serial }
}

pub(super) fn draft(serial: &str) -> Draft {
    contract::normalise(Some(sample::draft(serial, sample::SELLER))).unwrap()
}

/// A request to the software device.
pub(super) fn ours(serial: &str) -> Checked {
    to(serial, D1, Kind::ENormal)
}

/// A request to the device that draws its numbers.
pub(super) fn drawn(serial: &str) -> Checked {
    to(serial, D2, Kind::ENormal)
}

pub(super) fn to(serial: &str, device: DeviceNo, kind: Kind) -> Checked {
    let draft = draft(serial);
    let wire = &draft.wire;
    let totals =
        Totals { amount: Fen(wire.amount_fen), tax: Fen(wire.tax_fen), total: Fen(wire.total_fen) };
    Checked {
        draft,
        platform: PlatformNo(1),
        taxpayer: TaxpayerNo(1),
        device,
        kind,
        color: Color::Blue,
        totals,
        original: None,
        valid_until: None,
        zero_limit: crate::registry::ZeroLimit::Unlimited,
        warnings: Vec::new(),
    }
}

/// The number of an issued invoice.
#[track_caller]
pub(super) fn number(told: Told) -> u32 {
    match told {
        Ok(Outcome::Issued(invoice)) => {
            let invoice = pb::Invoice::decode(invoice.bytes).unwrap();
            invoice.number.parse().unwrap()
        }
        other => panic!("{other:?} is not issued"),
    }
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, reason: Reason) {
    match result {
        Err(refusal) if refusal.reason == reason => {}
        other => panic!("{other:?} is not refused with {}", reason.name()),
    }
}
