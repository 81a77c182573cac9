//! What is pending, and packages of it, as operators ask for them.

use super::{service::Service, status};
use crate::{
    convert::{hex, to_i64, to_u64},
    delivery::package,
    model::{BatchNo, CstTime, InvoiceNumber},
    pb::{admin::v1 as pb, authority::v1::Receipt},
    refusal::{Reason, Refusal},
    store::{Books, Delivered, End, Fate, Found, Notice, StoreError, Told},
};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, codegen::BoxStream};

/// Messages that wait for the operator; of a package 4 MiB.
const QUEUE_LEN: usize = 16;
/// Notices of one page.
const PAGE_LEN: usize = 256;

pub(super) fn list(
    service: &Service,
    request: pb::ListOutboxRequest,
) -> BoxStream<pb::ListOutboxResponse> {
    let (sender, receiver) = mpsc::channel(QUEUE_LEN);
    let (numbering, now) = (service.core.numbering.clone(), service.delivery.clock().now());
    drop(crate::tasks::spawn_detached(async move {
        let rows = sender.clone();
        let registry = numbering.registry();
        let read = numbering.read(move |books| {
            pending(books, |notice, batch| {
                let found = books.claim(notice.claim)?;
                let province = registry.province(found.device());
                if !request.province.is_empty() && province != request.province {
                    return Ok(true);
                }
                let device = registry.devices.get(&found.device());
                let (number, kind, since) = described(&found, notice);
                let row = pb::ListOutboxResponse {
                    batch: batch.map_or(0, |batch| to_u64(batch.0)),
                    province: province.to_owned(),
                    device_id: device.map(|device| device.id.clone()).unwrap_or_default(),
                    code: number.code.clone(),
                    number: number.number_text(),
                    kind: kind.into(),
                    since: since.rfc3339(),
                    age_s: now.unix().saturating_sub(since.unix()).max(0),
                };
                // An error means that the operator has left.
                Ok(rows.blocking_send(Ok(row)).is_ok())
            })
        });
        if let Err(refusal) = read.await {
            drop(sender.send(Err(status::refused(&refusal))).await);
        }
    }));
    Box::pin(ReceiverStream::new(receiver))
}

/// Hands out every notice without a receipt until `each` says no.
fn pending(
    books: &Books,
    mut each: impl FnMut(Notice, Option<BatchNo>) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    for no in books.open_batches()? {
        for notice in books.batch(no)?.members {
            if !each(notice, Some(no))? {
                return Ok(());
            }
        }
    }
    let mut page: VecDeque<Notice> = books.waiting_page(None, PAGE_LEN)?.into();
    while let Some(notice) = page.pop_front() {
        if !each(notice, None)? {
            return Ok(());
        }
        if page.is_empty() {
            page = books.waiting_page(Some(notice), PAGE_LEN)?.into();
        }
    }
    Ok(())
}

/// The number that a notice is about, what it tells, and since when that is to be told.
fn described(found: &Found, notice: Notice) -> (InvoiceNumber, pb::NoticeKind, CstTime) {
    let nothing = InvoiceNumber { code: String::new(), number: 0 };
    let entry = found.entry();
    let since = entry.as_ref().map_or(found.claimed_at(), |entry| match (notice.told, entry.end) {
        (Told::InvoiceVoid, End::Voided(at)) => at,
        (_, _) => entry.at,
    });
    let kind = match (notice.told, &found.fate) {
        (Told::InvoiceVoid, _) => pb::NoticeKind::InvoiceVoid,
        (Told::End, Fate::Voided(_)) => pb::NoticeKind::BlankVoid,
        (Told::End, _) => pb::NoticeKind::Invoice,
    };
    (entry.map_or(nothing, |entry| entry.number), kind, since)
}

pub(super) async fn batch(
    service: &Service,
    request: pb::GetOutboxBatchRequest,
) -> Result<pb::GetOutboxBatchResponse, Status> {
    let no = BatchNo(to_i64(request.batch));
    let read = service.core.numbering.read(move |books| {
        if !books.has_batch(no)? {
            return Ok(None);
        }
        let batch = books.batch(no)?;
        let (mut members, mut acceptance_serial) = (Vec::new(), String::new());
        for notice in &batch.members {
            let (number, kind, _) = described(&books.claim(notice.claim)?, *notice);
            let rejected = match books.delivered(*notice)? {
                Delivered::Pending => None,
                Delivered::Answered { serial, rejected, .. } => {
                    acceptance_serial = serial;
                    rejected
                }
            };
            members.push(pb::OutboxMember {
                code: number.code.clone(),
                number: number.number_text(),
                kind: kind.into(),
                rejected: rejected.unwrap_or_default(),
            });
        }
        Ok(Some(pb::GetOutboxBatchResponse {
            batch: to_u64(batch.no.0),
            batch_id: hex(&batch.id),
            province: batch.province,
            frozen_at: batch.at.rfc3339(),
            acceptance_serial,
            members,
        }))
    });
    let found = read.await.map_err(|refusal| status::refused(&refusal))?;
    let absent = || Refusal::new(Reason::NotFound, format!("there is no batch {no}"));
    found.ok_or_else(|| status::refused(&absent()))
}

pub(super) async fn export(
    service: &Service,
    request: pb::ExportOutboxRequest,
) -> Result<BoxStream<pb::ExportOutboxResponse>, Status> {
    let key = service.core.statement_key().await.map_err(|refusal| status::refused(&refusal))?;
    let (chunks, mut made) = mpsc::channel(1);
    let (answers, stream) = mpsc::channel(QUEUE_LEN);
    let service = service.clone();
    drop(crate::tasks::spawn_detached(async move {
        let export = async {
            let (delivery, province) = (&service.delivery, &request.province);
            let done = package::export(delivery, &key, province, &chunks).await;
            drop(chunks);
            done
        };
        let pass = async {
            while let Some(chunk) = made.recv().await {
                if answers.send(Ok(chunk)).await.is_err() {
                    break;
                }
            }
            // Nobody takes the rest: the export hears it at its next word.
            drop(made);
        };
        let (exported, ()) = tokio::join!(export, pass);
        let last = match exported {
            Ok(exported) => audited(&service, exported).await,
            Err(refusal) => Err(status::refused(&refusal)),
        };
        // The operator may have left.
        drop(answers.send(last).await);
    }));
    Ok(Box::pin(ReceiverStream::new(stream)))
}

async fn audited(
    service: &Service,
    exported: pb::Exported,
) -> Result<pb::ExportOutboxResponse, Status> {
    let pb::Exported { package_id, batches, items, .. } = &exported;
    let what = format!("export package {package_id}: {batches} batches, {items} items");
    service
        .change(move |actor, round| {
            round.audit(actor, what);
            Ok(())
        })
        .await?;
    Ok(pb::ExportOutboxResponse { chunk: Vec::new(), exported: Some(exported) })
}

pub(super) async fn import(
    service: &Service,
    receipt: Option<Receipt>,
) -> Result<pb::ImportReceiptResponse, Status> {
    let imported = package::import(&service.delivery, receipt.unwrap_or_default()).await;
    imported.map_err(|refusal| status::refused(&refusal))
}
