//! The workers of delivery, one per province: comparing series with the acceptance, handing batches
//! in, backing off.
//!
//! Invariants: nothing is handed in to an acceptance whose series were not compared since it
//! answered last; a failing route has one batch on the wire at a time, so that its recovery is
//! noticed and nothing piles up; a batch that is stuck holds up no other.

use super::{
    DeliveryError, Settings,
    backoff::Backoff,
    upload::{Step, Upload},
    upstream::Upstream,
};
use crate::{
    clock::{Clock, monotonic},
    convert::metric,
    metrics::metrics,
    model::{BatchNo, DeviceNo},
    numbering::{Numbering, Round, SeriesWitness, finisher::Finisher},
    refusal::{Refusal, chain},
    registry::{Device, Registry, Route},
    store::DeliveryBatch,
    tasks::{Group, Tasks},
    transport::ClientTls,
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// How often the authority's clock is asked for.
const CLOCK_EVERY: Duration = Duration::from_secs(60);
/// An answer that took longer than this says nothing of the clock.
const CLOCK_ROUND_TRIP_MAX: Duration = Duration::from_secs(2);
/// How often provinces are looked for that have no worker yet.
const SUPERVISE_EVERY: Duration = Duration::from_millis(500);
/// Batches of a province that are being judged: more would only wait there.
const JUDGING_MAX: usize = 64;

/// Everything a worker needs.
#[derive(Debug)]
pub struct Delivery {
    pub(super) numbering: Numbering,
    pub(super) finisher: Arc<Finisher>,
    pub(super) tls: ClientTls,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    /// Batches of an earlier life that have no receipt yet.
    open: Mutex<VecDeque<BatchNo>>,
    pub(super) stop: watch::Receiver<bool>,
    /// Provinces whose acceptance was asked once what it holds, whatever came of it.
    looked: watch::Sender<BTreeSet<String>>,
    /// There may be something new to write back.
    pub(super) write_backs_changed: Notify,
}

impl Delivery {
    /// Delivers what `numbering` has issued. `open` are the batches of an earlier life without a
    /// receipt.
    #[must_use]
    pub fn new(
        (numbering, finisher): (Numbering, Arc<Finisher>),
        (tls, clock): (ClientTls, Clock),
        settings: Settings,
        open: Vec<BatchNo>,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let (open, looked) = (Mutex::new(open.into()), watch::Sender::default());
        let write_backs_changed = Notify::new();
        Arc::new(Self {
            numbering,
            finisher,
            tls,
            settings,
            clock,
            open,
            stop,
            looked,
            write_backs_changed,
        })
    }

    /// Waits until every acceptance was asked once what it holds, at most `limit`: books that are
    /// behind should be noticed before a number is given out. An acceptance that is away holds
    /// nobody up for longer; its answer is compared when it comes.
    pub async fn first_look(&self, limit: Duration) {
        let registry = self.numbering.registry();
        let provinces: BTreeSet<String> =
            registry.devices.keys().map(|device| registry.province(*device).to_owned()).collect();
        let mut looked = self.looked.subscribe();
        let all = looked.wait_for(|looked| provinces.is_subset(looked));
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("not every acceptance has said what it holds; issuing begins without");
        }
    }

    /// Starts a worker for each province that has taxpayers, now and later.
    pub async fn run(self: Arc<Self>, tasks: Arc<Tasks>) {
        let mut known = BTreeSet::new();
        loop {
            let registry = self.numbering.registry();
            let provinces: BTreeSet<String> =
                registry.taxpayers.values().map(|taxpayer| taxpayer.province.clone()).collect();
            for province in provinces {
                if known.insert(province.clone()) {
                    let worker = Worker::new(Arc::clone(&self), province);
                    tasks.spawn("delivery", worker.run());
                }
            }
            if self.stopped_within(SUPERVISE_EVERY).await {
                return;
            }
        }
    }

    /// The way to the books.
    #[must_use]
    pub fn numbering(&self) -> &Numbering {
        &self.numbering
    }

    /// Time, as delivery goes by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Hands a batch in that was frozen elsewhere and has no receipt yet.
    pub(super) fn resume(&self, batch: BatchNo) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push_back(batch);
    }

    /// Hands a batch in no more: its receipt came another way.
    pub(super) fn settled(&self, batch: BatchNo) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|no| *no != batch);
    }

    pub(super) async fn stopped_within(&self, pause: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok()
    }

    /// Ends something in a commit of its own.
    pub(super) async fn complete<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Round<'_>) -> Result<R, Refusal> + Send + 'static,
    ) -> Result<R, DeliveryError> {
        self.numbering.complete(decide).await.map_err(DeliveryError::Store)
    }

    /// The first open batch of a province.
    fn take_open(&self, province: &str) -> Option<Upload> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let books = self.numbering.books();
        for _ in 0..open.len() {
            let no = open.pop_front()?;
            match books.batch(no).and_then(|batch| Ok((batch, books.acceptance(no)?))) {
                Ok((batch, serial)) if batch.province == province => {
                    return Some(Upload::resumed(batch, serial));
                }
                Ok(_) => open.push_back(no),
                Err(error) => {
                    tracing::error!(batch = no.0, error = chain(&error), "a batch is unreadable");
                }
            }
        }
        None
    }
}

/// What became of a batch on the wire.
type Landed = (Upload, Result<Step, DeliveryError>);

/// The worker of one province.
struct Worker {
    delivery: Arc<Delivery>,
    province: String,
    /// Batches on the wire.
    flying: Group<Landed>,
    /// Batches that go on at a time, being judged or failed.
    later: Vec<(Instant, Upload)>,
    /// Batches that go out next: the parts of one that was split.
    ready: VecDeque<Upload>,
    backoff: Backoff,
    /// The route as it was when the connection was made.
    connection: Option<(Arc<Route>, Upstream)>,
    /// Devices whose keys the acceptance knows from this connection.
    registered: BTreeSet<DeviceNo>,
    /// Devices whose series were compared since the last failure.
    compared: BTreeSet<DeviceNo>,
    /// The registry all of whose devices here are in `compared` and `registered`: only another one
    /// has more.
    compared_all: Option<Arc<Registry>>,
    /// When the authority's clock was last heard.
    clock_heard: Option<Instant>,
}

impl Worker {
    fn new(delivery: Arc<Delivery>, province: String) -> Self {
        Self {
            delivery,
            province,
            flying: Group::new(),
            later: Vec::new(),
            ready: VecDeque::new(),
            backoff: Backoff::default(),
            connection: None,
            registered: BTreeSet::new(),
            compared: BTreeSet::new(),
            compared_all: None,
            clock_heard: None,
        }
    }

    async fn run(mut self) {
        if let Err(error) = self.compare().await {
            let error = chain(&error);
            tracing::warn!(province = self.province, error, "the acceptance says nothing yet");
        }
        self.delivery.looked.send_modify(|looked| {
            looked.insert(self.province.clone());
        });
        loop {
            let (_, _, undelivered) = self.delivery.numbering.counts();
            metrics().undelivered.set(metric(undelivered));
            let rest = match self.turn().await {
                Ok(rest) => rest,
                Err(error) => self.failed(&error),
            };
            if self.delivery.stopped_within(rest).await {
                return;
            }
        }
    }

    /// The pause after a failure.
    fn failed(&mut self, error: &DeliveryError) -> Duration {
        metrics().delivery_failures.increment(1);
        // Whatever is on the other side when it answers again is compared anew.
        self.compared.clear();
        self.compared_all = None;
        self.clock_heard = None;
        let pause = self.backoff.next();
        let (error, pause_ms) = (chain(error), crate::convert::millis(pause));
        tracing::warn!(province = self.province, error, pause_ms, "not delivered yet");
        pause
    }

    /// Sends what may be sent and waits until something lands, or the outbox is to be looked at
    /// again. Answers how long to rest.
    async fn turn(&mut self) -> Result<Duration, DeliveryError> {
        self.compare().await?;
        self.launch().await?;
        if self.flying.is_empty() {
            return Ok(self.rest());
        }
        let rest = self.rest();
        let mut stop = self.delivery.stop.clone();
        let landed = tokio::select! {
            landed = self.flying.join_next() => landed,
            () = tokio::time::sleep(rest) => None,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        match landed {
            None => Ok(Duration::ZERO),
            Some(Ok(landed)) => self.land(landed),
            // Its batch is open in the books: it goes on with the next start.
            Some(Err(error)) => {
                tracing::error!(error = chain(&error), "a task of delivery ended");
                Ok(Duration::ZERO)
            }
        }
    }

    /// Until the next batch is due, at most the interval.
    fn rest(&self) -> Duration {
        let due = self.later.iter().map(|(due, _)| *due).min();
        let left = due.map(|due| due.saturating_duration_since(monotonic()));
        left.map_or(self.delivery.settings.interval, |left| {
            left.min(self.delivery.settings.interval)
        })
    }

    fn land(&mut self, (upload, result): Landed) -> Result<Duration, DeliveryError> {
        let now = monotonic();
        match result {
            Ok(Step::Ended(parts)) => {
                self.backoff = Backoff::default();
                self.ready.extend(parts.into_iter().map(Upload::fresh));
                Ok(Duration::ZERO)
            }
            Ok(Step::Judging) => {
                self.backoff = Backoff::default();
                self.later.push((now + Backoff::poll(upload.polls), upload));
                Ok(Duration::ZERO)
            }
            // What is wrong with one batch is not wrong with the route.
            Err(error) if error.is_about_the_batch() => {
                metrics().delivery_failures.increment(1);
                let (batch, text) = (upload.batch.no.0, chain(&error));
                tracing::warn!(province = self.province, batch, error = text, "a batch fails");
                self.later.push((now + upload.pause(), upload));
                Ok(Duration::ZERO)
            }
            Err(error) => {
                self.later.push((now, upload));
                Err(error)
            }
        }
    }

    /// Puts batches on the wire, up to the bound; one at a time while the route fails.
    async fn launch(&mut self) -> Result<(), DeliveryError> {
        let bound = match self.backoff.failing() {
            true => 1,
            false => self.delivery.settings.in_flight,
        };
        while self.flying.len() < bound {
            let Some(upload) = self.next_upload().await? else { return Ok(()) };
            let upstream = match self.upstream().await {
                Ok(upstream) => upstream,
                Err(error) => {
                    self.ready.push_front(upload);
                    return Err(error);
                }
            };
            let delivery = Arc::clone(&self.delivery);
            let mut upload = upload;
            self.flying.spawn(async move {
                let result = upload.step(&delivery, &upstream).await;
                (upload, result)
            });
        }
        Ok(())
    }

    async fn next_upload(&mut self) -> Result<Option<Upload>, DeliveryError> {
        if let Some(upload) = self.ready.pop_front() {
            return Ok(Some(upload));
        }
        let now = monotonic();
        if let Some(at) = self.later.iter().position(|(due, _)| *due <= now) {
            return Ok(Some(self.later.swap_remove(at).1));
        }
        if self.later.len() >= JUDGING_MAX {
            return Ok(None);
        }
        if let Some(upload) = self.delivery.take_open(&self.province) {
            return Ok(Some(upload));
        }
        if self.delivery.numbering.counts().2 == 0 {
            return Ok(None);
        }
        let (province, count_max) = (self.province.clone(), self.delivery.settings.batch_max);
        let freeze = move |round: &mut Round<'_>| Ok(round.freeze_batch(&province, count_max));
        let batch: Option<DeliveryBatch> = self.delivery.complete(freeze).await?;
        Ok(batch.map(Upload::fresh))
    }

    /// Compares every series with what the authority holds, once per connection, and hears its
    /// clock. Before anything is handed in: a store that is behind must be noticed.
    async fn compare(&mut self) -> Result<(), DeliveryError> {
        let registry = self.delivery.numbering.registry();
        let heard = self.clock_heard.is_some_and(|at| at.elapsed() < CLOCK_EVERY);
        // Looked at before each batch: no walk over all devices when nothing is new.
        if heard && self.compared_all.as_ref().is_some_and(|all| Arc::ptr_eq(all, &registry)) {
            return Ok(());
        }
        let here = |device: &&Arc<Device>| registry.province(device.no) == self.province;
        let devices: Vec<_> = registry.devices.values().filter(here).map(Arc::clone).collect();
        let fresh = |device: &&Arc<Device>| !self.compared.contains(&device.no);
        let mut due: Vec<_> = devices.iter().filter(fresh).map(Arc::clone).collect();
        if due.is_empty() && !heard {
            due.extend(devices.first().map(Arc::clone));
        }
        if due.is_empty() {
            self.compared_all = Some(registry);
            return Ok(());
        }
        let upstream = self.upstream().await?;
        for device in due {
            for kind in device.kinds.iter().copied() {
                let asked = monotonic();
                let head = upstream.series_head(&device.id, kind).await;
                let head = head.map_err(DeliveryError::Upstream)?;
                if asked.elapsed() <= CLOCK_ROUND_TRIP_MAX {
                    let numbering = &self.delivery.numbering;
                    numbering.authority_time(&self.province, head.authority_time);
                    self.clock_heard = Some(monotonic());
                }
                let device = device.no;
                let witness = SeriesWitness { device, kind, count: head.count, heads: head.heads };
                self.delivery.complete(move |round| round.compare(&witness)).await?;
            }
            self.compared.insert(device.no);
        }
        self.compared_all = Some(registry);
        Ok(())
    }

    /// The connection of the route in force, with the province's devices made known.
    async fn upstream(&mut self) -> Result<Upstream, DeliveryError> {
        let registry = self.delivery.numbering.registry();
        let route = registry
            .route(&self.province)
            .ok_or_else(|| DeliveryError::NoRoute { province: self.province.clone() })?;
        let kept = self.connection.as_ref().filter(|(known, _)| known == route);
        let upstream = match kept {
            Some((_, upstream)) => upstream.clone(),
            None => {
                let upstream =
                    Upstream::new(route, &self.delivery.tls).map_err(DeliveryError::Route)?;
                self.registered.clear();
                self.compared_all = None;
                self.connection = Some((Arc::clone(route), upstream.clone()));
                upstream
            }
        };
        if self.compared_all.as_ref().is_some_and(|all| Arc::ptr_eq(all, &registry)) {
            return Ok(upstream);
        }
        for device in registry.devices.values() {
            let Some(taxpayer) = registry.taxpayers.get(&device.taxpayer) else { continue };
            if taxpayer.province == self.province && !self.registered.contains(&device.no) {
                upstream
                    .register_device(device, &taxpayer.id)
                    .await
                    .map_err(DeliveryError::Upstream)?;
                self.registered.insert(device.no);
            }
        }
        Ok(upstream)
    }
}
