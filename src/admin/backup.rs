//! A backup as operators ask for it: prepares its directory, passes the actor's news on, and
//! finishes the copy, which may block, off everybody's thread.

use super::status;
use crate::{
    numbering::{BackupNews, Numbering},
    pb::admin::v1 as pb,
    refusal::{Reason, Refusal, chain},
    store::backup::{BackedUp, BackupError, Destination, Progress},
};
use std::path::PathBuf;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, codegen::BoxStream};

/// Begins a backup into `directory`; the stream ends with its result.
///
/// # Errors
/// When the directory cannot be used, or a backup is under way.
pub(super) async fn begin(
    numbering: &Numbering,
    directory: PathBuf,
    actor: String,
) -> Result<BoxStream<pb::BackupResponse>, Status> {
    let shown = directory.display().to_string();
    let destination = blocking(move || Destination::prepare(&directory)).await?;
    let destination = destination.map_err(|error| status::invalid("directory", &chain(&error)))?;
    let news = numbering.back_up(destination).map_err(|refusal| status::refused(&refusal))?;
    tracing::info!(actor, directory = shown, "a backup begins");
    Ok(Box::pin(ReceiverStream::new(news).then(told)))
}

async fn told(news: Result<BackupNews, Refusal>) -> Result<pb::BackupResponse, Status> {
    match news {
        Ok(BackupNews::Copying(Progress { pages_done, pages_total })) => {
            Ok(pb::BackupResponse { pages_done, pages_total, backup: None })
        }
        Ok(BackupNews::Copied(copied)) => {
            let pages = copied.pages();
            let finished = blocking(move || copied.finish()).await?;
            let BackedUp { path, commits, size_bytes } =
                finished.map_err(|error| failed(&error))?;
            let path = path.display().to_string();
            tracing::info!(path, commits = commits.0, size_bytes, "a backup is made");
            let backup = Some(pb::Backup { path, commits: commits.0, size_bytes });
            Ok(pb::BackupResponse { pages_done: pages, pages_total: pages, backup })
        }
        Err(refusal) => Err(status::refused(&refusal)),
    }
}

fn failed(error: &BackupError) -> Status {
    let error = chain(error);
    tracing::warn!(error, "a backup was not made; the books are not concerned");
    status::refused(&Refusal::new(Reason::BackupFailed, error))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| status::internal(&error))
}
