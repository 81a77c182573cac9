//! The registry as the admin contract shows it.

use super::devices;
use crate::{
    engine::Core,
    model::{Kind, SeriesNo},
    numbering::Series,
    pb::{admin::v1 as pb, v1},
    registry::{BackendKind, Device, Platform, Registry, Route, Taxpayer},
    store::SegmentState,
};

pub(super) fn platform(registry: &Registry, platform: &Platform) -> pb::Platform {
    let keys = registry.certificates.values().filter(|cert| cert.platform == platform.no);
    let mut certificate_keys: Vec<String> = keys.map(|cert| cert.key.hex()).collect();
    certificate_keys.sort_unstable();
    pb::Platform {
        platform_id: platform.id.clone(),
        name: platform.name.clone(),
        enabled: platform.enabled,
        certificate_keys,
    }
}

pub(super) fn taxpayer(taxpayer: &Taxpayer) -> pb::Taxpayer {
    let forbidden = taxpayer.forbidden.kinds.iter().map(|kind| kind.to_wire().into());
    pb::Taxpayer {
        taxpayer_id: taxpayer.id.clone(),
        name: taxpayer.name.clone(),
        province: taxpayer.province.clone(),
        forbidden: taxpayer.forbidden.everything,
        forbidden_kinds: forbidden.collect(),
    }
}

pub(super) fn backend(kind: BackendKind) -> pb::DeviceBackend {
    match kind {
        BackendKind::SoftwareP256 => pb::DeviceBackend::SoftwareP256,
        BackendKind::SoftwareSm2 => pb::DeviceBackend::SoftwareSm2,
        BackendKind::Pkcs11 => pb::DeviceBackend::Pkcs11,
        BackendKind::Sdf => pb::DeviceBackend::Sdf,
        BackendKind::Skf => pb::DeviceBackend::Skf,
        BackendKind::SkServer => pb::DeviceBackend::Skserver,
        // Never made through this contract; the simulator is attached by tests.
        BackendKind::SimulatedDevice => pb::DeviceBackend::Unspecified,
    }
}

pub(super) fn backend_of(value: i32) -> Option<BackendKind> {
    match pb::DeviceBackend::try_from(value).ok()? {
        pb::DeviceBackend::Unspecified => None,
        pb::DeviceBackend::SoftwareP256 => Some(BackendKind::SoftwareP256),
        pb::DeviceBackend::SoftwareSm2 => Some(BackendKind::SoftwareSm2),
        pb::DeviceBackend::Pkcs11 => Some(BackendKind::Pkcs11),
        pb::DeviceBackend::Sdf => Some(BackendKind::Sdf),
        pb::DeviceBackend::Skf => Some(BackendKind::Skf),
        pb::DeviceBackend::Skserver => Some(BackendKind::SkServer),
    }
}

pub(super) fn device(registry: &Registry, device: &Device, core: &Core) -> pb::Device {
    let health = devices::health(core, device.no);
    let unusable_reason = core.unusable_reason(device);
    let taxpayer = registry.taxpayers.get(&device.taxpayer);
    pb::Device {
        device_id: device.id.clone(),
        taxpayer_id: taxpayer.map(|taxpayer| taxpayer.id.clone()).unwrap_or_default(),
        machine_number: device.machine_number.clone(),
        backend: backend(device.backend).into(),
        kinds: device.kinds.iter().map(|kind| kind.to_wire().into()).collect(),
        profile: device.profile.clone(),
        enabled: device.enabled,
        test: device.test,
        public_key: device.public_key.clone(),
        unusable_reason: unusable_reason.unwrap_or_default(),
        connection: device.connection.clone(),
        health,
    }
}

pub(super) fn segment(
    registry: &Registry,
    series: Option<&Series>,
    segment: &SegmentState,
) -> pb::Segment {
    let device = series.and_then(|series| registry.devices.get(&series.state.device));
    let kind = series.map_or(v1::InvoiceKind::Unspecified, |series| series.state.kind.to_wire());
    pb::Segment {
        device_id: device.map(|device| device.id.clone()).unwrap_or_default(),
        kind: kind.into(),
        code: segment.code.clone(),
        first: format!("{:08}", segment.first),
        last: format!("{:08}", segment.last),
        left: segment.left(),
    }
}

pub(super) fn route(route: &Route) -> pb::Route {
    pb::Route {
        province: route.province.clone(),
        address: route.address.clone(),
        server_name: route.server_name.clone(),
        receipt_key: route.receipt_key.clone(),
    }
}

pub(super) fn series(registry: &Registry, series: &Series, open: u64) -> pb::Series {
    let device = registry.devices.get(&series.state.device);
    let state = &series.state;
    pb::Series {
        device_id: device.map(|device| device.id.clone()).unwrap_or_default(),
        kind: state.kind.to_wire().into(),
        position: state.next_position.0,
        open,
        frozen_reason: state.frozen.clone().unwrap_or_default(),
        left: series.left(),
        chain: state.event.map(|event| crate::convert::hex(&event.hash.0)).unwrap_or_default(),
        locked: String::new(),
        budget: None,
        reported_until: state.period.reported_until.map_or_else(String::new, |day| day.to_string()),
    }
}

/// The same with what its limits leave.
pub(super) fn with_limits(core: &Core, series: pb::Series) -> pb::Series {
    let registry = core.numbering.registry();
    let device = registry.device_by_id(&series.device_id);
    let Some((device, kind)) = device.zip(Kind::from_wire(series.kind)) else { return series };
    let (load, now) = (core.load_of(&registry, device, kind), core.now());
    pb::Series {
        locked: load.lock(now).map_or_else(String::new, |why| why.reason.name().to_owned()),
        budget: load.facts.map(|_| load.budget_to_wire(now)),
        ..series
    }
}

/// Sorts by device id, then kind; the series number breaks no tie, since both name one series.
pub(super) fn order(registry: &Registry, series: &Series) -> (String, Kind, SeriesNo) {
    let device = registry.devices.get(&series.state.device);
    let id = device.map(|device| device.id.clone()).unwrap_or_default();
    (id, series.state.kind, series.state.no)
}
