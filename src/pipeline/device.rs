//! DescribeDevice, ListRates and GetMonitor: what is known of a device of the caller's
//! taxpayers. Of any other device nothing is told, not even whether it exists.

use super::Pipeline;
use crate::{
    contract::{Profile, RateVerdict},
    identity::PeerCertificate,
    model::{CstTime, Fen, Kind},
    numbering::Load,
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::{Device, Monitor, ToldBy},
};
use std::{collections::BTreeSet, sync::Arc};

impl Pipeline {
    /// The device as it is registered.
    pub(super) fn device(
        &self,
        peer: Option<&PeerCertificate>,
        device_id: &str,
    ) -> Result<pb::DescribeDeviceResponse, Refusal> {
        let device = self.own_device(peer, device_id)?;
        let registry = self.numbering.registry();
        let taxpayer = registry.taxpayers.get(&device.taxpayer).ok_or_else(not_found)?;
        Ok(pb::DescribeDeviceResponse {
            device_id: device.id.clone(),
            taxpayer_id: taxpayer.id.clone(),
            kinds: device.kinds.iter().map(|kind| kind.to_wire().into()).collect(),
            machine_number: device.machine_number.clone(),
            profile: device.profile.clone(),
            enabled: device.enabled,
            test: device.test,
            draws_numbers: device.backend.draws_numbers(),
            public_key: device.public_key.clone(),
        })
    }

    /// The rates that were told of the device; until then those of its profile that are valid today.
    pub(super) fn device_rates(
        &self,
        peer: Option<&PeerCertificate>,
        device_id: &str,
    ) -> Result<pb::ListRatesResponse, Refusal> {
        let device = self.own_device(peer, device_id)?;
        let registry = self.numbering.registry();
        let told = device.kinds.iter().filter_map(|kind| registry.monitor(device.no, *kind));
        let told: BTreeSet<i32> = told.flat_map(|it| it.facts.rates.iter().copied()).collect();
        if !told.is_empty() {
            let source = pb::RateSource::Device.into();
            return Ok(pb::ListRatesResponse { rates_millionths: Vec::from_iter(told), source });
        }
        let Profile { rates, .. } = self.profile(&device)?;
        let today = self.clock.now().day();
        let all = rates.periods.iter().map(|period| period.rate_millionths);
        let valid = |rate: &i32| matches!(rates.judge(*rate, today), RateVerdict::Valid(_));
        let ascending: BTreeSet<i32> = all.filter(valid).collect();
        let source = pb::RateSource::Profile.into();
        Ok(pb::ListRatesResponse { rates_millionths: Vec::from_iter(ascending), source })
    }

    /// Monitor data as it was last told, with what is left of the offline budget now.
    pub(super) fn device_monitor(
        &self,
        peer: Option<&PeerCertificate>,
        request: &pb::GetMonitorRequest,
    ) -> Result<pb::GetMonitorResponse, Refusal> {
        let device = self.own_device(peer, &request.device_id)?;
        let kind = Kind::from_wire(request.kind).filter(|kind| device.kinds.contains(kind));
        let kind = kind.ok_or_else(|| {
            Refusal::new(Reason::NotFound, "kind must be one that the device may issue")
        })?;
        let registry = self.numbering.registry();
        let monitor = registry.monitor(device.no, kind).ok_or_else(|| {
            Refusal::new(Reason::NotFound, "no monitor data has been told of the device yet")
        })?;
        let (offline, period) = self.numbering.load_of(device.no, kind);
        let zero = self.profile(&device)?.limits.zero;
        let load = Load { facts: Some(&monitor.facts), zero, offline, period };
        Ok(monitor_to_wire(monitor, &load, self.clock.now()))
    }

    /// A device of the caller's taxpayers.
    pub(super) fn own_device(
        &self,
        peer: Option<&PeerCertificate>,
        device_id: &str,
    ) -> Result<Arc<Device>, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let bound =
            |device: &&Arc<Device>| registry.bindings.contains(&(platform.no, device.taxpayer));
        registry.device_by_id(device_id).filter(bound).cloned().ok_or_else(not_found)
    }
}

fn monitor_to_wire(monitor: &Monitor, load: &Load<'_>, now: CstTime) -> pb::GetMonitorResponse {
    let facts = &monitor.facts;
    let fen = |amount: Option<Fen>| amount.map(|amount| amount.0);
    let left = load.budget(now);
    pb::GetMonitorResponse {
        single_limit_fen: fen(facts.single_limit),
        issue_deadline: facts.issue_deadline.map_or_else(String::new, CstTime::rfc3339),
        blue_limit_fen: fen(facts.blue_limit),
        red_limit_fen: fen(facts.red_limit),
        red_days: facts.red_days,
        red_needs_original: facts.red_needs_original,
        upload_day: facts.upload_day,
        offline_hours: facts.offline_hours,
        offline_count: facts.offline_count,
        offline_blue_fen: fen(facts.offline_blue),
        offline_red_fen: fen(facts.offline_red),
        told_at: monitor.told_at.rfc3339(),
        source: match monitor.told_by {
            ToldBy::Device => pb::MonitorSource::Device.into(),
            ToldBy::Authority => pb::MonitorSource::Authority.into(),
        },
        budget: Some(pb::OfflineBudget {
            seconds_left: left.seconds,
            count_left: left.count,
            blue_fen_left: fen(left.blue),
            red_fen_left: fen(left.red),
            undelivered: load.offline.count,
            oldest: load.offline.oldest.map_or_else(String::new, CstTime::rfc3339),
        }),
        locked: load.lock(now).map_or_else(String::new, |why| why.reason.name().to_owned()),
    }
}

fn not_found() -> Refusal {
    Refusal::new(Reason::NotFound, "device_id names no virtual device of the caller's taxpayers")
}
