//! GetMonitor: limits and locks of a device of the caller's taxpayers, and what is left of them.

use super::Pipeline;
use crate::{
    identity::PeerCertificate,
    model::{CstTime, Fen, Kind},
    numbering::Load,
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::{Monitor, ToldBy},
};

impl Pipeline {
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
        let zero = self.profile(&device)?.limits.zero;
        let load = self.numbering.load_of(device.no, kind, (Some(&monitor.facts), zero));
        Ok(monitor_to_wire(monitor, &load, self.clock.now()))
    }

    /// What may still be issued by the device and kind of an invoice; none until monitor data was
    /// told.
    pub(super) fn budget_of(&self, invoice: &pb::Invoice) -> Option<pb::OfflineBudget> {
        let registry = self.numbering.registry();
        let device = registry.device_by_id(&invoice.device_id)?;
        let kind = Kind::from_wire(invoice.draft.as_ref()?.kind)?;
        let facts = &registry.monitor(device.no, kind)?.facts;
        let zero = self.profile(device).ok()?.limits.zero;
        let load = self.numbering.load_of(device.no, kind, (Some(facts), zero));
        Some(load.budget_to_wire(self.clock.now()))
    }
}

fn monitor_to_wire(monitor: &Monitor, load: &Load<'_>, now: CstTime) -> pb::GetMonitorResponse {
    let facts = &monitor.facts;
    let fen = |amount: Option<Fen>| amount.map(|amount| amount.0);
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
        budget: Some(load.budget_to_wire(now)),
        locked: load.lock(now).map_or_else(String::new, |why| why.reason.name().to_owned()),
    }
}
