//! Calls that stream: many invoices over one call, and lists. Each is a task of its own that reads
//! and answers through a bounded channel, so that a caller who does not read holds up nobody else.
//!
//! Invariants: what was taken of a stream is answered before it ends, but for a caller who left;
//! nothing is taken once the connection is going away or the caller's time is up.

use super::call::{Streams, caught, explained_item};
use crate::{
    metrics::metrics,
    pb::v1,
    pipeline::{Peer, PlatformApi},
    refusal::{Reason, Refusal},
    status, tasks,
};
use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, OwnedPermit, Sender},
    },
    time::sleep_until,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use v1::issue_invoice_stream_response::Answer;

/// Items of one stream that are taken and whose answer the caller has not read. Enough to fill a
/// commit from a few streams; at 10 KB an item a stream holds less than a megabyte.
const ITEMS_MAX: usize = 64;

/// What a streaming call comes with.
pub(super) struct Call {
    /// The pipeline.
    pub(super) api: Arc<dyn PlatformApi>,
    /// Who calls; looked at for every item and page.
    pub(super) peer: Peer,
    /// How long one item or page may take.
    pub(super) item_limit: Duration,
    /// When the caller gives the whole stream up; none when it did not say.
    pub(super) until: Option<Instant>,
    /// Says that the connection is going away.
    pub(super) streams: Streams,
    /// Its place among the connection's streaming calls, until the call has ended.
    pub(super) _slot: OwnedSemaphorePermit,
}

/// What a streaming call answers with.
pub(super) type Answers<T> = ReceiverStream<Result<T, Status>>;
type Items = Streaming<v1::IssueInvoiceStreamRequest>;
type ItemAnswer = Result<v1::IssueInvoiceStreamResponse, Status>;

/// Issues what `items` asks for; the answers come in any order.
pub(super) fn issue(call: Call, items: Items) -> Answers<v1::IssueInvoiceStreamResponse> {
    let (answers, read) = mpsc::channel(ITEMS_MAX);
    drop(tasks::spawn_detached(issue_all(call, items, answers)));
    ReceiverStream::new(read)
}

/// Sends the list that `request` asks for, page by page.
pub(super) fn list(
    call: Call,
    request: v1::ListInvoicesRequest,
) -> Answers<v1::ListInvoicesResponse> {
    let (answers, read) = mpsc::channel(1);
    drop(tasks::spawn_detached(list_all(call, request, answers)));
    ReceiverStream::new(read)
}

async fn issue_all(call: Call, mut items: Items, answers: Sender<ItemAnswer>) {
    // Gone with its items when the caller leaves: what has no claim yet spends nothing.
    let mut running = tasks::Group::new();
    let ended = loop {
        let next = tokio::select! {
            () = answers.closed() => return,
            ended = call.ended() => break ended,
            next = next_item(&mut items, &answers) => next,
        };
        let (slot, item) = match next {
            Ok(Some(next)) => next,
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        };
        while running.try_join_next().is_some() {}
        running.spawn(call.item(item, slot));
    };
    let rest = async {
        while running.join_next().await.is_some() {}
        if let Err(status) = ended {
            drop(answers.send(Err(status)).await);
        }
        // The call keeps its place until its last answer was read.
        drop(answers.reserve_many(ITEMS_MAX).await);
    };
    tokio::select! {
        () = answers.closed() => {}
        () = rest => {}
    }
}

/// A free slot first, then an item: without a slot nothing is read, and HTTP/2 holds the caller
/// back. Dropped half-way it has taken nothing.
async fn next_item(
    items: &mut Items,
    answers: &Sender<ItemAnswer>,
) -> Result<Option<(OwnedPermit<ItemAnswer>, v1::IssueInvoiceStreamRequest)>, Status> {
    // It fails only when the caller left, which ends the stream.
    let Ok(slot) = answers.clone().reserve_owned().await else { return Ok(None) };
    let item = items.message().await.map_err(explained_item)?;
    Ok(item.map(|item| (slot, item)))
}

impl Call {
    /// One item to its answer.
    fn item(
        &self,
        item: v1::IssueInvoiceStreamRequest,
        slot: OwnedPermit<ItemAnswer>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let v1::IssueInvoiceStreamRequest { item, draft } = item;
        let (api, peer, limit) = (Arc::clone(&self.api), self.peer.clone(), self.item_limit());
        async move {
            let issued = match caught(api.issue(peer, limit, draft)).await {
                Some(issued) => issued,
                None => {
                    metrics().panics.increment(1);
                    tracing::error!("issuing an item of a stream panicked");
                    Err(Refusal::new(Reason::Internal, "an internal error; ask ResolveInvoice"))
                }
            };
            let answer = match issued {
                Ok(outcome) => Answer::Outcome(outcome),
                Err(refusal) => {
                    metrics().refused.of(refusal.reason.name()).increment(1);
                    Answer::Status(status::message(&refusal))
                }
            };
            let answer = v1::IssueInvoiceStreamResponse { item, answer: Some(answer) };
            drop(slot.send(Ok(answer)));
        }
    }

    /// How long an item that begins now may take.
    fn item_limit(&self) -> Duration {
        let left = self.until.map(|at| at.saturating_duration_since(crate::clock::monotonic()));
        left.map_or(self.item_limit, |left| left.min(self.item_limit))
    }

    /// Waits until nothing more may be taken, and says why.
    async fn ended(&self) -> Result<(), Status> {
        let late = async {
            match self.until {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.streams.closing() => {
                let hint = "the connection is going away; go on over a new one";
                Err(status::refused(&Refusal::new(Reason::Draining, hint)))
            }
            // Nobody listens any more.
            () = late => Ok(()),
        }
    }
}

async fn list_all(
    call: Call,
    mut request: v1::ListInvoicesRequest,
    answers: Sender<Result<v1::ListInvoicesResponse, Status>>,
) {
    let told = tokio::select! {
        () = answers.closed() => return,
        ended = call.ended() => ended,
        told = pages(&call, &mut request, &answers) => told,
    };
    if let Err(status) = told {
        drop(answers.send(Err(status)).await);
    }
}

async fn pages(
    call: &Call,
    request: &mut v1::ListInvoicesRequest,
    answers: &Sender<Result<v1::ListInvoicesResponse, Status>>,
) -> Result<(), Status> {
    loop {
        let page = call.api.list(call.peer.clone(), call.item_limit(), request).await;
        let page = page.map_err(|refusal| {
            metrics().refused.of(refusal.reason.name()).increment(1);
            status::refused(&refusal)
        })?;
        for invoice in page.invoices {
            request.cursor.clone_from(&invoice.cursor);
            // It fails only when the caller left.
            if answers.send(Ok(invoice)).await.is_err() {
                return Ok(());
            }
        }
        if !page.more {
            return Ok(());
        }
    }
}
