//! One worker per province: freezes a batch, sends it until there is a verified receipt, stores
//! that.
//!
//! Invariants: batch id and membership are durable before the first byte leaves; a resend has the
//! same id and the same bytes, since both come from the books; nothing but a verified receipt ends
//! a batch.

use super::{
    batch::{self, ItemsError},
    receipt::{BatchId, VerifiedReceipt},
    upstream::{Upstream, UpstreamError},
};
use crate::{
    clock::monotonic,
    metrics::metrics,
    model::{BatchNo, DeviceNo},
    numbering::{Numbering, SeriesWitness},
    refusal::Refusal,
    registry::{Device, Registry, Route},
    store::DeliveryBatch,
    tasks::Tasks,
    transport::ClientTls,
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// First pause after a failure; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How often the authority's clock is asked for.
const CLOCK_EVERY: Duration = Duration::from_secs(60);
/// An answer that took longer than this says nothing of the clock.
const CLOCK_ROUND_TRIP_MAX: Duration = Duration::from_secs(2);
/// How often provinces are looked for that have no worker yet.
const SUPERVISE_EVERY: Duration = Duration::from_millis(500);

/// How batches are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Items of one batch.
    pub batch_max: usize,
    /// How often the outbox is looked at.
    pub interval: Duration,
}

/// Everything a worker needs.
#[derive(Debug)]
pub struct Delivery {
    numbering: Numbering,
    tls: ClientTls,
    settings: Settings,
    /// Batches of an earlier life that have no receipt yet.
    open: Mutex<VecDeque<BatchNo>>,
    stop: watch::Receiver<bool>,
    /// Provinces whose acceptance was asked once what it holds, whatever came of it.
    looked: watch::Sender<BTreeSet<String>>,
}

/// Why a batch stays open for now.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("province {province} has no route; add one with `skproxy route add`")]
    NoRoute { province: String },
    #[error("the route's settings cannot be used")]
    Route(#[source] super::upstream::RouteError),
    #[error("read what is to be delivered")]
    Items(#[source] ItemsError),
    #[error("hand a batch in")]
    Upstream(#[source] UpstreamError),
    #[error("store what the acceptance said")]
    Store(#[source] Refusal),
}

impl Delivery {
    /// Delivers what `numbering` has issued. `open` are the batches of an earlier life without a
    /// receipt.
    #[must_use]
    pub fn new(
        numbering: Numbering,
        tls: ClientTls,
        settings: Settings,
        open: Vec<BatchNo>,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let (open, looked) = (Mutex::new(open.into()), watch::Sender::default());
        Arc::new(Self { numbering, tls, settings, open, stop, looked })
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

    /// Items of one batch.
    #[must_use]
    pub fn batch_max(&self) -> usize {
        self.settings.batch_max
    }

    /// Hands a batch in that was frozen elsewhere and has no receipt yet.
    pub fn resume(&self, batch: BatchNo) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push_back(batch);
    }

    /// Hands a batch in no more: its receipt came another way.
    pub fn settled(&self, batch: BatchNo) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|no| *no != batch);
    }

    async fn stopped_within(&self, pause: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok()
    }

    /// The first open batch of a province.
    fn take_open(&self, province: &str) -> Option<DeliveryBatch> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let books = self.numbering.books();
        for _ in 0..open.len() {
            let no = open.pop_front()?;
            match books.batch(no) {
                Ok(batch) if batch.province == province => return Some(batch),
                Ok(_) => open.push_back(no),
                Err(error) => {
                    let error = crate::refusal::chain(&error);
                    tracing::error!(batch = no.0, error, "an open batch cannot be read");
                }
            }
        }
        None
    }
}

/// The worker of one province.
struct Worker {
    delivery: Arc<Delivery>,
    province: String,
    /// The batch that is being handed in.
    current: Option<DeliveryBatch>,
    /// The route as it was when the connection was made.
    connection: Option<(Arc<Route>, Upstream)>,
    /// Devices whose keys the acceptance knows from this connection.
    registered: BTreeSet<DeviceNo>,
    /// Devices whose series were compared since the last failure.
    compared: BTreeSet<DeviceNo>,
    /// The registry all of whose devices here are in `compared`: only another one has more.
    compared_all: Option<Arc<Registry>>,
    /// When the authority's clock was last heard.
    clock_heard: Option<Instant>,
}

impl Worker {
    fn new(delivery: Arc<Delivery>, province: String) -> Self {
        Self {
            delivery,
            province,
            current: None,
            connection: None,
            registered: BTreeSet::new(),
            compared: BTreeSet::new(),
            compared_all: None,
            clock_heard: None,
        }
    }

    async fn run(mut self) {
        let mut pause = BACKOFF_MIN;
        if let Err(error) = self.compare().await {
            let error = crate::refusal::chain(&error);
            tracing::warn!(province = self.province, error, "the acceptance says nothing yet");
        }
        self.delivery.looked.send_modify(|looked| {
            looked.insert(self.province.clone());
        });
        loop {
            let (_, _, undelivered) = self.delivery.numbering.counts();
            metrics().undelivered.set(crate::convert::metric(undelivered));
            let rest = match self.step().await {
                Ok(true) => {
                    pause = BACKOFF_MIN;
                    Duration::ZERO
                }
                Ok(false) => self.delivery.settings.interval,
                Err(error) => {
                    metrics().delivery_failures.increment(1);
                    // Whatever is on the other side when it answers again is compared anew.
                    self.compared.clear();
                    self.compared_all = None;
                    self.clock_heard = None;
                    let error = crate::refusal::chain(&error);
                    tracing::warn!(province = self.province, error, "not delivered yet");
                    let next = pause.saturating_mul(2).min(BACKOFF_MAX);
                    std::mem::replace(&mut pause, next)
                }
            };
            if self.delivery.stopped_within(rest).await {
                return;
            }
        }
    }

    /// Hands one batch in. Says whether there was one.
    async fn step(&mut self) -> Result<bool, DeliveryError> {
        self.compare().await?;
        if self.current.is_none() {
            self.current = self.next_batch().await?;
        }
        let Some(batch) = self.current.clone() else { return Ok(false) };
        let items = batch::items(&self.delivery.numbering, &batch).map_err(DeliveryError::Items)?;
        let upstream = self.upstream().await?;
        let receipt =
            upstream.submit(BatchId(batch.id), items).await.map_err(DeliveryError::Upstream)?;
        self.store(&batch, &receipt).await?;
        self.current = None;
        Ok(true)
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
                let compared =
                    self.delivery.numbering.complete(move |round| round.compare(&witness));
                compared.await.map_err(DeliveryError::Store)?;
            }
            self.compared.insert(device.no);
        }
        self.compared_all = Some(registry);
        Ok(())
    }

    async fn next_batch(&self) -> Result<Option<DeliveryBatch>, DeliveryError> {
        if let Some(batch) = self.delivery.take_open(&self.province) {
            return Ok(Some(batch));
        }
        if self.delivery.numbering.counts().2 == 0 {
            return Ok(None);
        }
        let (province, count_max) = (self.province.clone(), self.delivery.settings.batch_max);
        self.delivery
            .numbering
            .complete(move |round| Ok(round.freeze_batch(&province, count_max)))
            .await
            .map_err(DeliveryError::Store)
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
                self.connection = Some((Arc::clone(route), upstream.clone()));
                upstream
            }
        };
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

    async fn store(
        &self,
        batch: &DeliveryBatch,
        receipt: &VerifiedReceipt,
    ) -> Result<(), DeliveryError> {
        batch::store(&self.delivery.numbering, batch, receipt).await.map_err(DeliveryError::Store)
    }
}

/// Whether a route could be used: address, server name and receipt key.
///
/// # Errors
/// What is wrong with it.
pub fn check_route(route: &Route) -> Result<(), String> {
    let port = route.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        return Err("address: `host:port` is needed".into());
    }
    if rustls::pki_types::ServerName::try_from(route.server_name.as_str()).is_err() {
        return Err("server_name: a DNS name or an address is needed".into());
    }
    if super::receipt::ReceiptKey::parse(&route.receipt_key).is_none() {
        return Err("receipt_key: a P-256 SubjectPublicKeyInfo (DER) is needed".into());
    }
    Ok(())
}
