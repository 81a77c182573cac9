//! `skproxy device …`: virtual devices, and how they are reached.

use super::{
    Client,
    args::{BackendName, ConnectionArgs, DeviceCommand, KindName, Target},
    connect, plan, refused, show, show_message,
};
use crate::{
    cli::Exit,
    pb::admin::v1::{self as pb, device_connection::Via},
};
use anyhow::{Context as _, Result};
use std::{path::Path, time::Duration};

/// Between two looks at a device that is drained.
const DRAIN_LOOK: Duration = Duration::from_millis(500);

pub(super) async fn device(command: DeviceCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    let wanted = match command {
        DeviceCommand::Add { id, taxpayer, machine_number, backend, kinds, profile, test, at } => {
            let device = pb::Device {
                device_id: id,
                taxpayer_id: taxpayer,
                machine_number,
                backend: wire(backend).into(),
                kinds: kinds.into_iter().map(KindName::wire).collect(),
                profile,
                test,
                connection: connection(backend, at)?,
                ..pb::Device::default()
            };
            let answer = client.add_device(pb::AddDeviceRequest { device: Some(device) }).await;
            return show("AddDeviceResponse", answer, &target);
        }
        DeviceCommand::Enable { id } => return enable(&mut client, (id, true), &target).await,
        DeviceCommand::Disable { id } => return enable(&mut client, (id, false), &target).await,
        DeviceCommand::Drain { id, no_wait } => {
            return drain(&mut client, (id, !no_wait), &target).await;
        }
        DeviceCommand::Unlock { id, reason, yes } => {
            if !yes {
                return plan(&format!(
                    "open device {id} again; where it has a PIN file, its PIN is presented once, \
                     and a wrong one may lock it"
                ));
            }
            let request = pb::UnlockDeviceRequest { device_id: id, reason };
            return show("UnlockDeviceResponse", client.unlock_device(request).await, &target);
        }
        DeviceCommand::Assign { id, backend, at } => {
            let connection = connection(backend, at)?;
            let request = pb::AssignDeviceRequest { device_id: id, connection };
            return show("AssignDeviceResponse", client.assign_device(request).await, &target);
        }
        DeviceCommand::List => String::new(),
        DeviceCommand::Show { id } => id,
    };
    let answer = client.list_devices(pb::ListDevicesRequest { device_id: wanted }).await;
    show("ListDevicesResponse", answer, &target)
}

async fn enable(
    client: &mut Client,
    (device_id, enabled): (String, bool),
    target: &Target,
) -> Result<Exit> {
    let request = pb::SetDeviceEnabledRequest { device_id, enabled };
    show("SetDeviceEnabledResponse", client.set_device_enabled(request).await, target)
}

/// Closes the device and waits until nothing is open on it.
async fn drain(
    client: &mut Client,
    (device_id, waits): (String, bool),
    target: &Target,
) -> Result<Exit> {
    let mut told = None;
    let mut look = tokio::time::interval(DRAIN_LOOK);
    loop {
        look.tick().await;
        let request = pb::DrainDeviceRequest { device_id: device_id.clone() };
        let answer = match client.drain_device(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return refused(&status, target),
        };
        let open = answer.open_claims;
        if open == 0 || !waits {
            return show_message("DrainDeviceResponse", &answer, target);
        }
        if told != Some(open) {
            eprintln!("{device_id}: {open} claims are still open");
            told = Some(open);
        }
    }
}

fn wire(backend: BackendName) -> pb::DeviceBackend {
    match backend {
        BackendName::SoftwareP256 => pb::DeviceBackend::SoftwareP256,
        BackendName::SoftwareSm2 => pb::DeviceBackend::SoftwareSm2,
        BackendName::Pkcs11 => pb::DeviceBackend::Pkcs11,
        BackendName::Sdf => pb::DeviceBackend::Sdf,
        BackendName::Skf => pb::DeviceBackend::Skf,
        BackendName::Skserver => pb::DeviceBackend::Skserver,
    }
}

/// The connection that the options name, for a backend.
fn connection(backend: BackendName, at: ConnectionArgs) -> Result<Option<pb::DeviceConnection>> {
    let via = match backend {
        BackendName::SoftwareP256 | BackendName::SoftwareSm2 => return Ok(None),
        BackendName::Pkcs11 => Via::Pkcs11(pb::Pkcs11Connection {
            module_path: path(at.module.as_deref(), "--module")?,
            token_label: need(at.token_label, "--token-label")?,
            key_label: need(at.key_label, "--key-label")?,
            pin_file: path(at.pin_file.as_deref(), "--pin-file")?,
            sessions_max: at.sessions,
        }),
        BackendName::Sdf => Via::Sdf(pb::SdfConnection {
            module_path: path(at.module.as_deref(), "--module")?,
            key_index: need(at.key_index, "--key-index")?,
            pin_file: path(at.pin_file.as_deref(), "--pin-file")?,
            sessions_max: at.sessions,
        }),
        BackendName::Skf => Via::Skf(pb::SkfConnection {
            module_path: path(at.module.as_deref(), "--module")?,
            device_name: need(at.device_name, "--device-name")?,
            application: need(at.application, "--application")?,
            container: need(at.container, "--container")?,
            pin_file: path(at.pin_file.as_deref(), "--pin-file")?,
        }),
        BackendName::Skserver => Via::Skserver(pb::SkServerConnection {
            url: need(at.url, "--url")?,
            kpzdbs: need(at.kpzdbs, "--kpzdbs")?,
            ca_file: at
                .ca_file
                .as_deref()
                .map_or(Ok(String::new()), |ca| absolute(ca, "--ca-file"))?,
            timeout_ms: at.timeout_ms,
            quiescence_ms: at.quiescence_ms,
        }),
    };
    Ok(Some(pb::DeviceConnection { via: Some(via) }))
}

fn need<T>(given: Option<T>, option: &str) -> Result<T> {
    given.with_context(|| format!("this backend needs {option}"))
}

fn path(given: Option<&Path>, option: &str) -> Result<String> {
    absolute(need(given, option)?, option)
}

/// The daemon may run in another directory.
fn absolute(path: &Path, option: &str) -> Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("the path of {option}"))?;
    let text = path.to_str().with_context(|| format!("the path of {option} is no UTF-8"))?;
    Ok(text.to_owned())
}
