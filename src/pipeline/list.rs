//! ListInvoices: one page of the caller's own invoices of a taxpayer, and where the next begins.
//! Every page is a request of its own, so that a list looks at the caller's certificate again and
//! holds nothing between two pages.

use super::{Pipeline, cursor::Query, target::not_bound};
use crate::{
    identity::PeerCertificate,
    model::{ClaimId, CstTime},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::Operation,
    store::{ListOwner, ListPage, Listed, Place},
};
use std::time::Duration;

/// Invoices of one page: a list that nobody reads on holds so many, at most a few hundred KiB.
const PAGE_LEN: u32 = 32;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct InvoicePage {
    /// Ascending by issue time.
    pub invoices: Vec<pb::ListInvoicesResponse>,
    /// Whether there may be more after the last one.
    pub more: bool,
}

impl Pipeline {
    /// The page of a list that follows `request.cursor`.
    pub(super) async fn list_invoices(
        &self,
        peer: Option<&PeerCertificate>,
        deadline: Duration,
        request: &pb::ListInvoicesRequest,
    ) -> Result<InvoicePage, Refusal> {
        let registry = self.numbering.registry();
        let platform = self.platform(&registry, peer)?;
        let taxpayer = registry.taxpayer_by_id(&request.taxpayer_id).ok_or_else(not_bound)?.no;
        let owner = ListOwner { taxpayer, platform: platform.no };
        let query = Query::parse(owner, request)?;
        let _permit = self.admission.admit(deadline)?;
        // Once bound, a platform keeps reading what it issued.
        registry.may_read((platform.no, taxpayer), Operation::List)?;
        if !registry.is_bound((platform.no, taxpayer)) && !self.has_any(owner).await? {
            return Err(not_bound());
        }
        let after = self.after(&query, &request.cursor).await?;
        let page = ListPage { owner, after, until: query.until, count_max: PAGE_LEN };
        let listed = self.numbering.read(move |books| books.listed(&page)).await?;
        let more = listed.len() >= usize::try_from(PAGE_LEN).unwrap_or(usize::MAX);
        let response = |listed: &Listed| {
            let issued = self.issued(listed.place.claim, &listed.invoice, &listed.delivered)?;
            let invoice = issued.invoice.as_ref();
            let cursor = invoice.map(|invoice| query.cursor(invoice)).unwrap_or_default();
            let void = invoice.zip(listed.voided.as_ref());
            let voided = void.map(|(invoice, void)| self.listed_void(invoice, void));
            Ok(pb::ListInvoicesResponse { issued: Some(issued), cursor, voided })
        };
        Ok(InvoicePage { invoices: listed.iter().map(response).collect::<Result<_, _>>()?, more })
    }

    /// The place that a cursor stands for; before everything without one.
    async fn after(&self, query: &Query, cursor: &str) -> Result<Place, Refusal> {
        if cursor.is_empty() {
            return Ok(Place { at: query.from, claim: ClaimId(0) });
        }
        let number = query.number_of(cursor)?;
        let found = self.numbering.read(move |books| books.numbered(&number)).await?;
        match found.and_then(|found| found.listed_as()) {
            Some((owner, place)) if owner == query.owner => Ok(place),
            Some(_) | None => {
                Err(Refusal::new(Reason::FieldInvalid, "cursor: its invoice is not in these books"))
            }
        }
    }

    pub(super) async fn has_any(&self, owner: ListOwner) -> Result<bool, Refusal> {
        let time = |seconds| CstTime::from_unix(seconds).expect("it is within chrono's years");
        let (first, until) = (time(0), time(u32::MAX.into()));
        let after = Place { at: first, claim: ClaimId(0) };
        let page = ListPage { owner, after, until, count_max: 1 };
        let first = self.numbering.read(move |books| books.listed(&page)).await?;
        Ok(!first.is_empty())
    }
}
