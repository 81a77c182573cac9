//! GetSummary (汇总对账): what the caller issued for a taxpayer in a window, summed up from the
//! journal's rows.

use super::{Pipeline, target::not_bound};
use crate::{
    clock::monotonic,
    identity::PeerCertificate,
    model::Color,
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::Operation,
    report::{Filter, Sums, Window, summarise, wire_line},
    store::ListOwner,
};
use std::time::Duration;

impl Pipeline {
    /// The caller's own invoices of a taxpayer, summed up.
    pub(super) async fn own_summary(
        &self,
        peer: Option<&PeerCertificate>,
        deadline: Duration,
        request: &pb::GetSummaryRequest,
    ) -> Result<pb::GetSummaryResponse, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?.no;
        let taxpayer = registry.taxpayer_by_id(&request.taxpayer_id).ok_or_else(not_bound)?.no;
        let window = window(request)?;
        let permit = self.admission.admit(deadline)?;
        let owner = ListOwner { taxpayer, platform };
        // Once bound, a platform keeps reading what it issued.
        registry.may_read((platform, taxpayer), Operation::List)?;
        if !registry.is_bound((platform, taxpayer)) && !self.has_any(owner).await? {
            return Err(not_bound());
        }
        let filter =
            Filter { platform: Some(platform), taxpayer: Some(taxpayer), ..Filter::default() };
        let (begun, limit) = (monotonic(), permit.left());
        let read = self
            .numbering
            .read(move |books| summarise(books, window, filter, || begun.elapsed() < limit));
        let late = || Refusal::new(Reason::Overloaded, "take a shorter window: time ran out");
        Ok(response(&read.await?.ok_or_else(late)?))
    }
}

fn window(request: &pb::GetSummaryRequest) -> Result<Window, Refusal> {
    Window::parse(&request.from, &request.until).map_err(|(field, hint)| {
        let missing = match field {
            "from" => request.from.is_empty(),
            _ => request.until.is_empty(),
        };
        let reason = if missing { Reason::FieldMissing } else { Reason::FieldInvalid };
        Refusal::new(reason, format!("{field}: {hint}"))
    })
}

fn response(sums: &Sums) -> pb::GetSummaryResponse {
    let (blue, red) = (sums.of(Color::Blue), sums.of(Color::Red));
    let lines = sums.by_kind().into_iter();
    pb::GetSummaryResponse {
        blue_count: blue.issued.count,
        blue_amount_fen: blue.issued.totals.amount.0,
        blue_tax_fen: blue.issued.totals.tax.0,
        red_count: red.issued.count,
        red_amount_fen: red.issued.totals.amount.0,
        red_tax_fen: red.issued.totals.tax.0,
        voided_count: blue.voided.count.saturating_add(red.voided.count),
        blank_count: blue.blank.saturating_add(red.blank),
        lines: lines.map(|(of, line)| wire_line(of, &line)).collect(),
    }
}
