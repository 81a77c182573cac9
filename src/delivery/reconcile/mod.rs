//! Reconciliation (对账): the journal against the meter, and against what each acceptance side holds.
//! Sums first; where they differ, both sides are walked by code and number in one pass, a page of
//! each in memory. It changes nothing but for one incident per run that found differences.
//!
//! Issuing goes on meanwhile: whatever differs is read once more before it is told.

mod merge;
mod sides;

pub use merge::There;

use super::{
    upload::voided,
    upstream::{Held, HeldWindow, UpstreamError},
    worker::Delivery,
};
use crate::{
    clock::Clock,
    convert::sha256,
    metrics::metrics,
    model::{Color, CstTime, InvoiceNumber},
    numbering::Numbering,
    pb::{admin::v1 as pb, authority::v1::PeriodSummary},
    refusal::Refusal,
    report::{Filter, Sums, UsageDifference, Window, check_usage, summarise, whole_days},
    store::{Books, Delivered, End, Found, Notice, StoreError, Told},
    transport::ClientTls,
};
use merge::{Ascending, Difference, Here, Pairs, differences};
use prost::Message as _;
use sides::Side;
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::mpsc;

/// Claims of one page of ours: a few hundred KiB with long invoices.
const PAGE_LEN: usize = 256;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Issue time.
    pub window: Window,
    /// Whose; the platform is not asked for, since the acceptance side knows none.
    pub filter: Filter,
    /// One by one even where the sums are equal.
    pub full: bool,
}

/// Why a comparison did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The books.
    #[error("read the books")]
    Books(#[source] Refusal),
    /// The route cannot be used.
    #[error("use the route of {side}")]
    Route {
        /// The provinces concerned.
        side: String,
        /// Why.
        #[source]
        source: super::upstream::RouteError,
    },
    /// The acceptance side.
    #[error("ask the acceptance side of {side}")]
    Upstream {
        /// The provinces concerned.
        side: String,
        /// Why.
        #[source]
        source: UpstreamError,
    },
    /// Nobody listens any more.
    #[error("nobody waits for the result")]
    Left,
}

/// Where differences are told.
pub type News = mpsc::Sender<pb::ReconcileResponse>;

/// Compares on demand.
#[derive(Debug, Clone)]
pub struct Reconciler {
    numbering: Numbering,
    tls: ClientTls,
    clock: Clock,
}

impl Reconciler {
    /// Compares the books that `delivery` delivers from with the acceptance sides of their routes.
    #[must_use]
    pub fn new(delivery: &Delivery) -> Self {
        let (numbering, tls) = (delivery.numbering.clone(), delivery.tls.clone());
        Self { numbering, tls, clock: delivery.clock.clone() }
    }

    /// Compares everything, tells each difference, and answers how many there are.
    ///
    /// # Errors
    /// When it could not be brought to its end; what was told until then holds.
    pub async fn run(&self, wanted: Wanted, news: &News) -> Result<u64, ReconcileError> {
        let mut run = Run { reconciler: self, wanted, news, started: self.clock.now(), count: 0 };
        let ended = run.all().await;
        let count = run.count;
        if count > 0 {
            metrics().reconcile_mismatches.increment(count);
            let Window { from, until } = wanted.window;
            let text = format!("reconciliation of {from} to {until} found {count} differences");
            let noted = self.numbering.change(move |round| {
                round.note_incident(text);
                Ok(())
            });
            if let Err(refusal) = noted.await {
                tracing::warn!(%refusal, "the incident of a reconciliation is not kept");
            }
        }
        ended.map(|()| count)
    }
}

/// One comparison.
struct Run<'a> {
    reconciler: &'a Reconciler,
    wanted: Wanted,
    news: &'a News,
    started: CstTime,
    count: u64,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), ReconcileError> {
        self.usage().await?;
        let registry = self.reconciler.numbering.registry();
        let Wanted { window, filter, .. } = self.wanted;
        let sums = self.read(move |books| summarise(books, window, filter, || true)).await?;
        let sums = sums.unwrap_or_default();
        for side in sides::of(&registry, &filter) {
            self.side(Arc::new(side), &sums).await?;
        }
        Ok(())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Books) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReconcileError> {
        self.reconciler.numbering.read(read).await.map_err(ReconcileError::Books)
    }

    async fn tell(&mut self, mismatch: pb::Mismatch) -> Result<(), ReconcileError> {
        self.count = self.count.saturating_add(1);
        let news = Some(pb::reconcile_response::News::Mismatch(mismatch));
        self.send(pb::ReconcileResponse { news }).await
    }

    async fn done(&self, side: pb::SideResult) -> Result<(), ReconcileError> {
        let news = Some(pb::reconcile_response::News::Side(side));
        self.send(pb::ReconcileResponse { news }).await
    }

    async fn send(&self, news: pb::ReconcileResponse) -> Result<(), ReconcileError> {
        self.news.send(news).await.map_err(|_| ReconcileError::Left)
    }

    /// The meter, day by day.
    async fn usage(&mut self) -> Result<(), ReconcileError> {
        let (before, filter) = (self.count, self.wanted.filter);
        let mut side = pb::SideResult::default();
        // A day after today has nothing to compare; a window may end in the far future.
        let today = self.started.day();
        for day in whole_days(self.wanted.window).take_while(|day| *day <= today) {
            side.compared = side.compared.saturating_add(1);
            match self.read(move |books| check_usage(books, day, filter)).await? {
                None => side.moving_days.push(day.to_string()),
                Some(found) => {
                    for difference in found {
                        self.tell(usage_mismatch(&difference)).await?;
                    }
                }
            }
        }
        side.mismatches = self.count.saturating_sub(before);
        self.done(side).await
    }

    /// One acceptance side.
    async fn side(&mut self, side: Arc<Side>, sums: &Sums) -> Result<(), ReconcileError> {
        let before = self.count;
        let upstream = match &side.route {
            Some(route) => {
                let upstream = super::upstream::Upstream::new(route, &self.reconciler.tls);
                let side = side.name();
                Some(upstream.map_err(|source| ReconcileError::Route { side, source })?)
            }
            None => None,
        };
        let of = self.held_window(&side);
        let failed = |source| ReconcileError::Upstream { side: side.name(), source };
        let theirs = match &upstream {
            Some(upstream) => upstream.summary(&of).await.map_err(failed)?,
            None => PeriodSummary::default(),
        };
        let mut result = pb::SideResult { route: side.name(), ..pb::SideResult::default() };
        if self.wanted.full || summary_of(sums, &side) != theirs {
            let list = match &upstream {
                Some(upstream) => Some(upstream.held(&of).await.map_err(failed)?),
                None => None,
            };
            result.compared = self.one_by_one(&side, list).await?;
        }
        result.mismatches = self.count.saturating_sub(before);
        self.done(result).await
    }

    fn held_window(&self, side: &Side) -> HeldWindow {
        let Wanted { window, filter, .. } = self.wanted;
        let taxpayer = filter.taxpayer.and_then(|no| side.registry.taxpayers.get(&no));
        let taxpayer_id = taxpayer.map(|taxpayer| taxpayer.id.clone()).unwrap_or_default();
        HeldWindow { window, taxpayer_id, kind: filter.kind }
    }

    /// Both sides by code and number. Answers how many numbers there are.
    async fn one_by_one(
        &mut self,
        side: &Arc<Side>,
        list: Option<Held>,
    ) -> Result<u64, ReconcileError> {
        let ours = Ours {
            numbering: self.reconciler.numbering.clone(),
            side: Arc::clone(side),
            wanted: self.wanted,
            page: VecDeque::new(),
            after: None,
            ended: false,
        };
        let mut pairs = Pairs::new(ours, Theirs { list, side: Arc::clone(side) });
        let mut count = 0_u64;
        while let Some((here, there)) = pairs.next().await? {
            count = count.saturating_add(1);
            if differences(here.as_ref(), there.as_ref()).is_empty() {
                continue;
            }
            let number = here.as_ref().map(|here| &here.entry.number);
            let number = number.or(there.as_ref().map(|there| &there.number)).cloned();
            let Some(number) = number else { continue };
            // Once more: it may have been issued, voided or delivered since its page was read.
            let now = self.look_again(side, number.clone()).await?;
            for difference in differences(now.as_ref(), there.as_ref()) {
                let mismatch = self.mismatch(side, difference, (now.as_ref(), there.as_ref()));
                let mut mismatch = mismatch.await?;
                (mismatch.code, mismatch.number) = (number.code.clone(), number.number_text());
                self.tell(mismatch).await?;
            }
        }
        Ok(count)
    }

    async fn look_again(
        &self,
        side: &Arc<Side>,
        number: InvoiceNumber,
    ) -> Result<Option<Here>, ReconcileError> {
        let (side, wanted) = (Arc::clone(side), self.wanted);
        self.read(move |books| {
            Ok(books.numbered(&number)?.and_then(|found| here(&found, &side, &wanted)))
        })
        .await
    }

    /// The difference in words, with what our books say of its delivery.
    async fn mismatch(
        &self,
        side: &Side,
        difference: Difference,
        (here, there): (Option<&Here>, Option<&There>),
    ) -> Result<pb::Mismatch, ReconcileError> {
        use pb::MismatchReason as Reason;
        let end = here.map(|here| Notice::end(here.entry.claim));
        let void = here.map(|here| match here.entry.end {
            End::Voided(_) => Notice::invoice_void(here.entry.claim),
            End::Issued | End::Blank => Notice::end(here.entry.claim),
        });
        let (reason, text) = match difference {
            Difference::OnlyHere => self.delivered(end).await?,
            Difference::OnlyThere => (Reason::OnlyThere, "our books do not have it".to_owned()),
            Difference::OtherDigest => (Reason::OtherDigest, digests(here, there)),
            Difference::OtherAmount => (Reason::OtherAmount, amounts(here, there)),
            Difference::VoidedHere => {
                let (_, text) = self.delivered(void).await?;
                (Reason::VoidedHere, format!("the void: {text}"))
            }
            Difference::VoidedThere => {
                (Reason::VoidedThere, "our books do not have the void".to_owned())
            }
        };
        Ok(pb::Mismatch {
            reason: reason.into(),
            route: side.name(),
            text,
            amount_here_fen: here.map_or(0, |here| match here.entry.end {
                End::Blank => 0,
                End::Issued | End::Voided(_) => here.entry.totals.amount.0,
            }),
            amount_there_fen: there.map_or(0, |there| there.amount.0),
            ..pb::Mismatch::default()
        })
    }

    /// Why the other side does not have something, as far as our books know.
    async fn delivered(
        &self,
        notice: Option<Notice>,
    ) -> Result<(pb::MismatchReason, String), ReconcileError> {
        use pb::MismatchReason as Reason;
        let Some(notice) = notice else {
            return Ok((Reason::OnlyHereUndelivered, "not delivered yet".to_owned()));
        };
        let read = move |books: &crate::store::Books| {
            Ok((books.delivered(notice)?, books.heard_at(notice)?))
        };
        let (delivered, heard) = self.read(read).await?;
        Ok(match delivered {
            Delivered::Pending => (Reason::OnlyHereUndelivered, "not delivered yet".to_owned()),
            Delivered::Answered { rejected: Some(why), .. } => {
                (Reason::Rejected, format!("the acceptance rejected it: {why}"))
            }
            Delivered::Answered { .. } if heard.is_some_and(|at| at >= self.started) => {
                (Reason::OnlyHereUndelivered, "delivered while this was compared".to_owned())
            }
            Delivered::Answered { serial, index, .. } => {
                let text = format!("accepted with receipt {serial}, place {index}");
                (Reason::OnlyHereDelivered, text)
            }
        })
    }
}

fn usage_mismatch(difference: &UsageDifference) -> pb::Mismatch {
    let UsageDifference { key, metered, journal } = difference;
    let text = format!(
        "{}, platform {}, taxpayer {}, kind {:03}, {:?}, {:?}: the meter says {} invoices and {} \
         fen, the journal {} and {} fen",
        key.day,
        key.platform,
        key.taxpayer,
        key.kind.legacy_code(),
        key.color,
        key.counted,
        metered.count,
        metered.totals.total.0,
        journal.count,
        journal.totals.total.0,
    );
    let reason = pb::MismatchReason::Usage.into();
    pb::Mismatch { reason, text, ..pb::Mismatch::default() }
}

fn digests(here: Option<&Here>, there: Option<&There>) -> String {
    let hex = |digest: Option<[u8; 32]>| digest.map(|it| crate::convert::hex(&it));
    let here = hex(here.map(|here| here.digest)).unwrap_or_default();
    let there = hex(there.map(|there| there.digest)).unwrap_or_default();
    format!("SHA-256 here {here}, there {there}")
}

fn amounts(here: Option<&Here>, there: Option<&There>) -> String {
    let here = here.map(|here| here.entry.totals).unwrap_or_default();
    let (amount, tax) = there.map_or((0, 0), |there| (there.amount.0, there.tax.0));
    format!(
        "here {} fen and {} fen tax, there {amount} fen and {tax} fen tax",
        here.amount.0, here.tax.0
    )
}

/// What the acceptance side should hold of these sums.
fn summary_of(sums: &Sums, side: &Side) -> PeriodSummary {
    let ours = sums.0.iter().filter(|(key, _)| side.has(key.taxpayer));
    let ours = Sums(ours.map(|(key, line)| (*key, *line)).collect());
    let (blue, red) = (ours.of(Color::Blue), ours.of(Color::Red));
    let voids = [blue.voided.count, red.voided.count, blue.blank, red.blank];
    PeriodSummary {
        blue_count: blue.issued.count,
        blue_amount_fen: blue.issued.totals.amount.0,
        blue_tax_fen: blue.issued.totals.tax.0,
        red_count: red.issued.count,
        red_amount_fen: red.issued.totals.amount.0,
        red_tax_fen: red.issued.totals.tax.0,
        void_count: voids.into_iter().fold(0, u64::saturating_add),
    }
}

/// A claim as it is compared; none when it is not asked for, or another side's.
fn here(found: &Found, side: &Side, wanted: &Wanted) -> Option<Here> {
    let entry = found.entry()?;
    let asked = wanted.window.holds(entry.at) && wanted.filter.holds(&entry);
    if !asked || !side.has(entry.request.taxpayer) {
        return None;
    }
    let digest = match entry.end {
        End::Issued | End::Voided(_) => sha256(&found.invoice()?),
        End::Blank => sha256(&voided(found, Told::End, &side.registry)?.encode_to_vec()),
    };
    Some(Here { entry, digest })
}

/// Our side, page by page.
struct Ours {
    numbering: Numbering,
    side: Arc<Side>,
    wanted: Wanted,
    page: VecDeque<Here>,
    after: Option<InvoiceNumber>,
    ended: bool,
}

impl Ascending<Here> for Ours {
    type Error = ReconcileError;

    async fn next(&mut self) -> Result<Option<Here>, ReconcileError> {
        while self.page.is_empty() && !self.ended {
            let (after, side, wanted) = (self.after.take(), Arc::clone(&self.side), self.wanted);
            let read = self.numbering.read(move |books| {
                let found = books.numbered_page(after.as_ref(), PAGE_LEN)?;
                let (count, last) = (found.len(), found.last().map(|(number, _)| number.clone()));
                let here = found.iter().filter_map(|(_, found)| here(found, &side, &wanted));
                Ok((here.collect(), count, last))
            });
            let (page, count, last) = read.await.map_err(ReconcileError::Books)?;
            (self.page, self.after) = (page, last);
            self.ended = count < PAGE_LEN;
        }
        Ok(self.page.pop_front())
    }
}

/// The other side; nothing without a route.
struct Theirs {
    list: Option<Held>,
    side: Arc<Side>,
}

impl Ascending<There> for Theirs {
    type Error = ReconcileError;

    async fn next(&mut self) -> Result<Option<There>, ReconcileError> {
        let Some(list) = &mut self.list else { return Ok(None) };
        let side = || self.side.name();
        list.next().await.map_err(|source| ReconcileError::Upstream { side: side(), source })
    }
}
