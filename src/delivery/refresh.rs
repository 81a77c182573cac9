//! Asks on a timer for monitor data (监控数据): the acceptance side for devices whose numbers we draw,
//! the device itself for those that draw their own.

use super::{
    DeliveryError,
    upload::{put_monitor, put_refused_monitor},
    upstream::{Upstream, UpstreamError},
    worker::Delivery,
};
use crate::{
    metrics::metrics,
    model::Kind,
    numbering::Round,
    refusal::chain,
    registry::{Device, Monitor, MonitorFacts, Registry, ToldBy},
    signer::Question,
    tasks::Group,
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Questions that are open at a time.
const OPEN_MAX: usize = 16;
/// How soon devices that were just added are asked about.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Delivery {
    /// Asks until the daemon stops: every device at each interval, a new one at once.
    pub async fn refresh(self: Arc<Self>) {
        let mut asked: Option<Arc<Registry>> = None;
        let mut rest = Duration::ZERO;
        loop {
            let registry = self.numbering.registry();
            let due = rest.is_zero();
            let before = asked.as_ref().filter(|_| !due);
            let is_new = |device: &&Arc<Device>| {
                before.is_none_or(|before| !before.devices.contains_key(&device.no))
            };
            let devices = registry.devices.values().filter(is_new).map(Arc::clone).collect();
            self.ask_all(&registry, devices).await;
            if due {
                rest = self.settings.monitor_every;
            }
            asked = Some(registry);
            let pause = rest.min(LOOK_EVERY);
            rest = rest.saturating_sub(pause);
            if self.stopped_within(pause).await {
                return;
            }
        }
    }

    async fn ask_all(self: &Arc<Self>, registry: &Registry, devices: Vec<Arc<Device>>) {
        let mut routes: HashMap<String, Upstream> = HashMap::new();
        let mut group = Group::new();
        for device in devices {
            let upstream = match device.backend.draws_numbers() {
                true => None,
                false => match self.route_of(registry, &device, &mut routes) {
                    Some(upstream) => Some(upstream),
                    // The worker says that there is no route.
                    None => continue,
                },
            };
            for kind in device.kinds.iter().copied() {
                while group.len() >= OPEN_MAX {
                    drop(group.join_next().await);
                }
                let (delivery, device) = (Arc::clone(self), Arc::clone(&device));
                let upstream = upstream.clone();
                group.spawn(async move { delivery.ask_one(&device, kind, upstream).await });
            }
        }
        while group.join_next().await.is_some() {}
    }

    fn route_of(
        &self,
        registry: &Registry,
        device: &Device,
        routes: &mut HashMap<String, Upstream>,
    ) -> Option<Upstream> {
        let route = registry.route(registry.province(device.no))?;
        if let Some(known) = routes.get(&route.province) {
            return Some(known.clone());
        }
        let upstream = Upstream::new(route, &self.tls).ok()?;
        routes.insert(route.province.clone(), upstream.clone());
        Some(upstream)
    }

    async fn ask_one(&self, device: &Device, kind: Kind, upstream: Option<Upstream>) {
        let (told_by, told) = match upstream {
            Some(upstream) => {
                (ToldBy::Authority, self.ask_authority(&upstream, device, kind).await)
            }
            None => (ToldBy::Device, self.ask_device(device, kind).await),
        };
        let (device, told_at) = (device.no, self.clock.now());
        let stored = match told {
            Ok(Some(facts)) => {
                let monitor = Monitor { device, kind, told_by, told_at, facts };
                self.complete(move |round: &mut Round<'_>| {
                    put_monitor(round, monitor);
                    Ok(())
                })
                .await
            }
            Ok(None) => Ok(()),
            Err(DeliveryError::Upstream(UpstreamError::Lying { lie })) => {
                metrics().monitor_refused.increment(1);
                let why = lie.to_string();
                self.complete(move |round: &mut Round<'_>| {
                    put_refused_monitor(round, (device, kind), &why);
                    Ok(())
                })
                .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            let (device, kind) = (device.0, kind.legacy_code());
            tracing::debug!(device, kind, error = chain(&error), "no monitor data this time");
        }
    }

    /// None when the acceptance tells none, or knows no such device yet.
    async fn ask_authority(
        &self,
        upstream: &Upstream,
        device: &Device,
        kind: Kind,
    ) -> Result<Option<MonitorFacts>, DeliveryError> {
        match upstream.monitor(&device.id, kind).await {
            Ok(facts) => Ok(Some(facts)),
            Err(UpstreamError::Refused { .. }) => Ok(None),
            Err(error) => Err(DeliveryError::Upstream(error)),
        }
    }

    async fn ask_device(
        &self,
        device: &Device,
        kind: Kind,
    ) -> Result<Option<MonitorFacts>, DeliveryError> {
        let said = self.finisher.ask(device.no, Question::Monitor(kind)).await;
        said.map_err(DeliveryError::Device)
    }
}
