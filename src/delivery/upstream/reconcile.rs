//! What an acceptance side holds, asked for reconciliation (对账): its sums, and everything one by
//! one. Its answers are read strictly: a list that does not ascend, or counts of nothing possible,
//! is not to be believed.

use super::{Upstream, UpstreamError, from_status, lying, read_number, within_deadline};
use crate::{
    delivery::{receipt::Lie, reconcile::There},
    model::{CstTime, Fen, InvoiceNumber, Kind},
    pb::authority::v1 as pb,
    report::Window,
};
use std::{collections::VecDeque, time::Duration};
use tonic::Streaming;

/// How long a list may keep us waiting for its next page.
const PAGE_DEADLINE: Duration = Duration::from_secs(60);

/// Whose invoices are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldWindow {
    /// Issue time.
    pub window: Window,
    /// Taxpayer id; empty for every one.
    pub taxpayer_id: String,
    /// Kind; none for every one.
    pub kind: Option<Kind>,
}

impl HeldWindow {
    fn wire(&self) -> pb::GetSummaryRequest {
        let kind = self.kind.map(|kind| kind.to_wire().as_str_name().to_owned());
        pb::GetSummaryRequest {
            taxpayer_id: self.taxpayer_id.clone(),
            kind: kind.unwrap_or_default(),
            from: self.window.from.rfc3339(),
            until: self.window.until.rfc3339(),
        }
    }
}

/// The list of what an acceptance side holds, ascending by code and number.
#[derive(Debug)]
pub struct Held {
    stream: Streaming<pb::ListHeldResponse>,
    page: VecDeque<pb::HeldItem>,
    last: Option<InvoiceNumber>,
}

impl Upstream {
    /// Counts and amounts of what it holds (汇总对账).
    ///
    /// # Errors
    /// As `submit`.
    pub async fn summary(&self, of: &HeldWindow) -> Result<pb::PeriodSummary, UpstreamError> {
        let mut client = self.client.clone();
        let answer = within_deadline(client.get_summary(super::timed(of.wire()))).await?;
        answer.summary.ok_or_else(|| lying(Lie::Malformed { what: "the answer has no summary" }))
    }

    /// Everything that it holds, one by one (明细对账).
    ///
    /// # Errors
    /// As `submit`.
    pub async fn held(&self, of: &HeldWindow) -> Result<Held, UpstreamError> {
        let mut client = self.client.clone();
        // No deadline for the whole: a list may be long. Each page has one.
        let request = pb::ListHeldRequest { window: Some(of.wire()) };
        let stream = within_deadline(client.list_held(request)).await?;
        Ok(Held { stream, page: VecDeque::new(), last: None })
    }
}

impl Held {
    /// The next item; none at the end.
    ///
    /// # Errors
    /// As `submit`, also when the list breaks off or does not ascend.
    pub async fn next(&mut self) -> Result<Option<There>, UpstreamError> {
        while self.page.is_empty() {
            match tokio::time::timeout(PAGE_DEADLINE, self.stream.message()).await {
                Ok(Ok(Some(page))) => self.page = page.items.into(),
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(status)) => return Err(from_status(&status)),
                Err(_) => {
                    let seconds = PAGE_DEADLINE.as_secs();
                    let detail = format!("no page of the list came within {seconds} s");
                    return Err(UpstreamError::Unreachable { detail });
                }
            }
        }
        let Some(item) = self.page.pop_front() else { return Ok(None) };
        let there = read(&item).map_err(lying)?;
        if self.last.as_ref().is_some_and(|last| *last >= there.number) {
            return Err(lying(Lie::Malformed { what: "the list does not ascend" }));
        }
        self.last = Some(there.number.clone());
        Ok(Some(there))
    }
}

fn read(item: &pb::HeldItem) -> Result<There, Lie> {
    let number = read_number(&item.code, &item.number)?;
    let digest = item.digest.as_slice().try_into();
    Ok(There {
        number,
        digest: digest.map_err(|_| Lie::Malformed { what: "digest" })?,
        blank: item.blank,
        voided: item.voided,
        amount: Fen(item.amount_fen),
        tax: Fen(item.tax_fen),
        at: CstTime::parse(&item.issue_time).ok_or(Lie::Malformed { what: "issue_time" })?,
    })
}
