//! What a request is about: its key, the taxpayer, the device that would sign.

use crate::{
    contract::Target,
    model::{Color, Kind, RequestKey, Serial, TaxpayerNo},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::{Device, Operation, Platform, Registry},
};

/// The key of a serial that a caller asks for.
///
/// # Errors
/// `TaxpayerNotBound` when no such taxpayer is registered, `FieldInvalid` for a malformed serial.
pub(super) fn request_key(
    registry: &Registry,
    platform: &Platform,
    (taxpayer_id, serial): (&str, &str),
) -> Result<RequestKey, Refusal> {
    let taxpayer = taxpayer(registry, taxpayer_id).ok_or_else(not_bound)?;
    let serial = Serial::parse(serial).ok_or_else(|| {
        Refusal::new(Reason::FieldInvalid, "serial: 1 to 20 visible ASCII characters are needed")
    })?;
    Ok(RequestKey { platform: platform.no, taxpayer, serial })
}

/// A taxpayer by its id.
pub(super) fn taxpayer(registry: &Registry, id: &str) -> Option<TaxpayerNo> {
    registry.taxpayer_by_id(id).map(|taxpayer| taxpayer.no)
}

pub(super) fn not_bound() -> Refusal {
    Refusal::new(Reason::TaxpayerNotBound, "the platform is not bound to this taxpayer")
}

/// The device that would sign, of those that the taxpayer has.
///
/// # Errors
/// `DeviceUnavailable` when there is none, `DeviceAmbiguous` when the caller must name one.
fn device<'a>(
    registry: &'a Registry,
    taxpayer: TaxpayerNo,
    draft: &pb::InvoiceDraft,
) -> Result<&'a Device, Refusal> {
    let kind = Kind::from_wire(draft.kind);
    let mut of_kind = registry.devices_of(taxpayer).filter(|device| {
        if draft.device_id.is_empty() {
            device.enabled && kind.is_none_or(|kind| device.kinds.contains(&kind))
        } else {
            device.id == draft.device_id
        }
    });
    let first = of_kind.next();
    if first.is_none() && !draft.device_id.is_empty() {
        return Err(Refusal::new(
            Reason::DeviceUnavailable,
            "draft.device_id names no virtual device of this taxpayer",
        ));
    }
    if of_kind.next().is_some() {
        return Err(Refusal::new(
            Reason::DeviceAmbiguous,
            "the taxpayer has several devices for this kind; name one in draft.device_id",
        ));
    }
    // None for the kind: any of the taxpayer's, so that the rules say what is wrong with the kind.
    first
        .or_else(|| registry.devices_of(taxpayer).find(|device| device.enabled))
        .map(AsRef::as_ref)
        .ok_or_else(|| {
            Refusal::new(Reason::DeviceUnavailable, "the taxpayer has no virtual device in use")
        })
}

/// What a draft is checked against; kept together so that `issue` reads from top to bottom.
pub(super) fn target<'a>(
    registry: &'a Registry,
    key: &RequestKey,
    draft: &pb::InvoiceDraft,
) -> Result<Target<'a>, Refusal> {
    let is_red = draft.color == i32::from(pb::InvoiceColor::Red);
    let color = if is_red { Color::Red } else { Color::Blue };
    registry.may((key.platform, key.taxpayer), Operation::issuing(color))?;
    let taxpayer = registry.taxpayers.get(&key.taxpayer).ok_or_else(not_bound)?;
    let device = device(registry, key.taxpayer, draft)?;
    // Balances are kept, so whoever is granted red letters may reverse.
    let red_offered = true;
    let kind = Kind::from_wire(draft.kind);
    let monitor = kind.and_then(|kind| registry.monitor(device.no, kind));
    let authorised_rates = monitor.map_or(&[][..], |monitor| &monitor.facts.rates);
    Ok(Target { platform: key.platform, taxpayer, device, red_offered, authorised_rates })
}
