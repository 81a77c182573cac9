//! GetStock (库存): what is left of a device's segments, as committed.

use super::Pipeline;
use crate::{
    identity::PeerCertificate,
    model::{InvoiceNumber, Kind},
    numbering::Round,
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::Device,
    store::SegmentState,
};
use std::collections::BTreeSet;

impl Pipeline {
    /// What is left of the device's segments.
    pub(super) async fn device_stock(
        &self,
        peer: Option<&PeerCertificate>,
        request: &pb::GetStockRequest,
    ) -> Result<pb::GetStockResponse, Refusal> {
        let device = self.own_device(peer, &request.device_id)?;
        let kinds = match (request.kind, Kind::from_wire(request.kind)) {
            (0, _) => device.kinds.clone(),
            (_, Some(kind)) if device.kinds.contains(&kind) => [kind].into(),
            (_, _) => {
                let hint = "kind: the device may not issue this kind";
                return Err(Refusal::new(Reason::KindNotApproved, hint));
            }
        };
        self.numbering.change(move |round| Ok(stock_of(round, &device, &kinds))).await
    }
}

fn stock_of(round: &Round<'_>, device: &Device, kinds: &BTreeSet<Kind>) -> pb::GetStockResponse {
    let series = kinds.iter().filter_map(|kind| {
        round.series_of(device.no, *kind).and_then(|no| Some((*kind, round.series(no)?)))
    });
    let segments: Vec<_> = series
        .flat_map(|(kind, series)| series.segments.iter().map(move |of| segment(kind, of)))
        .filter(|segment| segment.left > 0)
        .collect();
    let left = segments.iter().fold(0, |sum: u64, segment| sum.saturating_add(segment.left));
    pb::GetStockResponse { left, segments }
}

fn segment(kind: Kind, of: &SegmentState) -> pb::StockSegment {
    let text = |number| InvoiceNumber { code: String::new(), number }.number_text();
    pb::StockSegment {
        kind: kind.to_wire().into(),
        code: of.code.clone(),
        first: text(of.first),
        last: text(of.last),
        next: text(of.next),
        left: of.left(),
    }
}
