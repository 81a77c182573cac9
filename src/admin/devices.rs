//! What operators do to virtual devices (虚拟设备): make, open, close, drain, unlock, assign.

use super::{
    answers,
    service::{Answer, Service, digits, kind, reason, token},
    status,
};
use crate::{
    engine::{BindError, Core},
    model::{DeviceNo, Kind},
    numbering::NewDevice,
    pb::admin::v1::{self as pb, device_connection::Via},
    refusal::{Reason, Refusal},
    registry::{BackendKind, Device, DeviceConnection},
};
use std::{collections::BTreeSet, path::Path, sync::Arc};
use tonic::{Response, Status};

/// Most sessions of one device.
const SESSIONS_MAX: u32 = 64;

pub(super) async fn add(
    service: &Service,
    request: pb::AddDeviceRequest,
) -> Answer<pb::AddDeviceResponse> {
    let new = request.device.unwrap_or_default();
    token("device.device_id", &new.device_id, 32)?;
    digits("device.machine_number", &new.machine_number, &[12])?;
    let backend = answers::backend_of(new.backend)
        .ok_or_else(|| status::invalid("device.backend", "a backend is needed"))?;
    connection(backend, new.connection.as_ref())?;
    let kinds: Result<_, _> = new.kinds.iter().map(|value| kind("device.kinds", *value)).collect();
    let kinds: BTreeSet<Kind> = kinds?;
    if kinds.is_empty() {
        return Err(status::invalid("device.kinds", "at least one kind is needed"));
    }
    let core = &service.core;
    if core.profiles.get(&new.profile).is_none() {
        let known = core.profiles.names().collect::<Vec<_>>().join(", ");
        return Err(status::invalid("device.profile", &format!("one of {known} is needed")));
    }
    if core.numbering.registry().device_by_id(&new.device_id).is_some() {
        let hint = format!("device {} exists already", new.device_id);
        return Err(status::refused(&Refusal::new(Reason::AlreadyExists, hint)));
    }
    let bound = core.bind(backend, &new.device_id, new.connection.clone()).await;
    let (key, public_key) = bound.map_err(|error| not_bound(&error))?;
    let device = NewDevice {
        id: new.device_id.clone(),
        taxpayer_id: new.taxpayer_id,
        machine_number: new.machine_number,
        backend,
        kinds,
        profile: new.profile,
        test: new.test,
        public_key,
        wrapped_key: Some(key.0),
        connection: new.connection,
    };
    let device = service.change(move |actor, round| round.add_device(actor, device)).await?;
    load(core, &device).await?;
    let device = Some(service.device(&device.id)?);
    Ok(Response::new(pb::AddDeviceResponse { device }))
}

pub(super) fn list(
    service: &Service,
    request: &pb::ListDevicesRequest,
) -> Response<pb::ListDevicesResponse> {
    let wanted = &request.device_id;
    let registry = service.core.numbering.registry();
    let devices = registry.devices.values();
    let mut devices: Vec<_> = devices
        .filter(|device| wanted.is_empty() || device.id == *wanted)
        .map(|device| answers::device(&registry, device, &service.core))
        .collect();
    devices.sort_by(|a, b| a.device_id.cmp(&b.device_id));
    Response::new(pb::ListDevicesResponse { devices })
}

pub(super) async fn enable(
    service: &Service,
    request: pb::SetDeviceEnabledRequest,
) -> Answer<pb::SetDeviceEnabledResponse> {
    let device = set_enabled(service, request.device_id, request.enabled).await?;
    Ok(Response::new(pb::SetDeviceEnabledResponse { device: Some(device) }))
}

pub(super) async fn drain(
    service: &Service,
    request: pb::DrainDeviceRequest,
) -> Answer<pb::DrainDeviceResponse> {
    let registry = service.core.numbering.registry();
    let known = registry.device_by_id(&request.device_id).cloned();
    let device = match known {
        // Asked again: the audit holds one entry for it.
        Some(device) if !device.enabled => service.device(&device.id)?,
        _ => set_enabled(service, request.device_id, false).await?,
    };
    let of_device = service.series(device.device_id.clone()).await?;
    let open_claims = of_device.iter().map(|series| series.open).sum();
    Ok(Response::new(pb::DrainDeviceResponse { device: Some(device), open_claims }))
}

async fn set_enabled(service: &Service, id: String, enabled: bool) -> Result<pb::Device, Status> {
    let device =
        service.change(move |actor, round| round.enable_device(actor, &id, enabled)).await?;
    service.device(&device.id)
}

pub(super) async fn unlock(
    service: &Service,
    request: pb::UnlockDeviceRequest,
) -> Answer<pb::UnlockDeviceResponse> {
    reason(&request.reason)?;
    let device = known(service, &request.device_id)?;
    let core = &service.core;
    if device.connection.is_none() {
        let hint = "the device needs no PIN, so there is nothing to unlock";
        return Err(status::invalid("device_id", hint));
    }
    // A tax server keeps its PIN to itself: only its sessions are opened again.
    let record = core.pin_record(&device);
    let (id, reason) = (device.id.clone(), request.reason);
    service
        .change(move |actor, round| {
            round.unlock_device(actor, (&id, &reason), record);
            Ok(())
        })
        .await?;
    load(core, &device).await?;
    let device = Some(service.device(&device.id)?);
    Ok(Response::new(pb::UnlockDeviceResponse { device }))
}

pub(super) async fn assign(
    service: &Service,
    request: pb::AssignDeviceRequest,
) -> Answer<pb::AssignDeviceResponse> {
    let device = known(service, &request.device_id)?;
    connection(device.backend, request.connection.as_ref())?;
    let wanted = request
        .connection
        .ok_or_else(|| status::invalid("connection", "a software device has no connection"))?;
    let core = &service.core;
    core.verify_binding(&device, wanted.clone()).await.map_err(|error| not_bound(&error))?;
    let id = device.id.clone();
    let device =
        service.change(move |actor, round| round.assign_device(actor, &id, wanted)).await?;
    load(core, &device).await?;
    let device = Some(service.device(&device.id)?);
    Ok(Response::new(pb::AssignDeviceResponse { device }))
}

/// Gives a device its sessions. Those that it had before are closed on the way, which a library
/// that hangs may hold up for as long as a call may take: no place for a thread of other calls.
async fn load(core: &Arc<Core>, device: &Device) -> Result<(), Status> {
    let (core, device) = (Arc::clone(core), device.clone());
    let loaded = tokio::task::spawn_blocking(move || core.load_device(&device)).await;
    loaded.map_err(|error| status::internal(&error))?.map_err(|error| status::internal(&error))
}

fn known(service: &Service, id: &str) -> Result<Device, Status> {
    let registry = service.core.numbering.registry();
    registry.device_by_id(id).map(|device| Device::clone(device)).ok_or_else(|| {
        let hint = format!("there is no device {id}");
        status::refused(&Refusal::new(Reason::NotFound, hint))
    })
}

fn not_bound(error: &BindError) -> Status {
    match error {
        BindError::Internal(detail) => status::internal(&std::io::Error::other(detail.clone())),
        BindError::Device(detail) => {
            status::refused(&Refusal::new(Reason::DeviceUnavailable, detail.clone()))
        }
    }
}

/// Whether a connection is one of the backend, and whole. What it names is looked at later.
fn connection(backend: BackendKind, given: Option<&DeviceConnection>) -> Result<(), Status> {
    let via = given.and_then(|given| given.via.as_ref());
    match (backend, via) {
        (BackendKind::SoftwareP256 | BackendKind::SoftwareSm2, None) => Ok(()),
        (BackendKind::Pkcs11, Some(Via::Pkcs11(to))) => {
            path("connection.pkcs11.module_path", &to.module_path)?;
            label("connection.pkcs11.token_label", &to.token_label, 32)?;
            label("connection.pkcs11.key_label", &to.key_label, 128)?;
            path("connection.pkcs11.pin_file", &to.pin_file)?;
            sessions("connection.pkcs11.sessions_max", to.sessions_max)
        }
        (BackendKind::Sdf, Some(Via::Sdf(to))) => {
            path("connection.sdf.module_path", &to.module_path)?;
            if to.key_index == 0 {
                return Err(status::invalid("connection.sdf.key_index", "1 or more is needed"));
            }
            path("connection.sdf.pin_file", &to.pin_file)?;
            sessions("connection.sdf.sessions_max", to.sessions_max)
        }
        (BackendKind::Skf, Some(Via::Skf(to))) => {
            path("connection.skf.module_path", &to.module_path)?;
            label("connection.skf.device_name", &to.device_name, 128)?;
            label("connection.skf.application", &to.application, 64)?;
            label("connection.skf.container", &to.container, 64)?;
            path("connection.skf.pin_file", &to.pin_file)
        }
        (BackendKind::SkServer, Some(Via::Skserver(to))) => {
            label("connection.skserver.url", &to.url, 256)?;
            label("connection.skserver.kpzdbs", &to.kpzdbs, 64)?;
            if to.timeout_ms > TIMEOUT_MAX_MS {
                let hint = format!("at most {TIMEOUT_MAX_MS} ms, or callers hear of it too late");
                return Err(status::invalid("connection.skserver.timeout_ms", &hint));
            }
            if to.url.starts_with("https://") {
                path("connection.skserver.ca_file", &to.ca_file)?;
            }
            Ok(())
        }
        _ => {
            let hint = format!("a {} needs its own connection, and no other", backend.name());
            Err(status::invalid("connection", &hint))
        }
    }
}

/// A caller waits 30 s at most.
const TIMEOUT_MAX_MS: u32 = 25_000;

fn path(field: &str, text: &str) -> Result<(), Status> {
    let fits = Path::new(text).is_absolute() && !text.contains('\0');
    fits.then_some(())
        .ok_or_else(|| status::invalid(field, "an absolute path on the daemon's host is needed"))
}

fn label(field: &str, text: &str, len_max: usize) -> Result<(), Status> {
    let fits = (1..=len_max).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then_some(()).ok_or_else(|| {
        status::invalid(field, &format!("1 to {len_max} bytes without control characters"))
    })
}

fn sessions(field: &str, count: u32) -> Result<(), Status> {
    (count <= SESSIONS_MAX)
        .then_some(())
        .ok_or_else(|| status::invalid(field, &format!("at most {SESSIONS_MAX} are possible")))
}

/// How a device does, as the pool sees it.
pub(super) fn health(core: &Core, device: DeviceNo) -> Option<pb::DeviceHealth> {
    let report = core.finisher.pool().report(device)?;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Some(pb::DeviceHealth {
        sessions: count(report.sessions),
        sessions_max: count(report.sessions_max),
        jobs: count(report.jobs),
        job_micros: u64::try_from(report.mean.as_micros()).unwrap_or(u64::MAX),
        stopped: report.stopped,
        last_error: report.detail.unwrap_or_default(),
    })
}
