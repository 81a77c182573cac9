//! DescribeDevice and ListRates: what is known of a device of the caller's taxpayers. Of any other
//! device nothing is told, not even whether it exists.

use super::Pipeline;
use crate::{
    contract::{Profile, RateVerdict},
    identity::PeerCertificate,
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::{Device, Operation},
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

    /// The rates that were told of the device; until then those of its profile, valid today.
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

    /// A device of the caller's taxpayers.
    pub(super) fn own_device(
        &self,
        peer: Option<&PeerCertificate>,
        device_id: &str,
    ) -> Result<Arc<Device>, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let bound = |device: &&Arc<Device>| registry.is_bound((platform.no, device.taxpayer));
        let device = registry.device_by_id(device_id).filter(bound).ok_or_else(not_found)?;
        registry.may((platform.no, device.taxpayer), Operation::Device)?;
        Ok(Arc::clone(device))
    }
}

fn not_found() -> Refusal {
    Refusal::new(Reason::NotFound, "device_id names no virtual device of the caller's taxpayers")
}
