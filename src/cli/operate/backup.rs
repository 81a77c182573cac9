//! `skproxy backup`: asks the daemon for a copy of its books and shows how far it is.

use super::{args::Target, refused, show_message};
use crate::{admin::client::connect, cli::Exit, pb::admin::v1 as pb};
use anyhow::{Context as _, Result};
use std::path::Path;

/// Progress is told each time that so many more percent are done.
const TOLD_EVERY_PERCENT: u64 = 10;

pub(super) async fn run(to: &Path, target: &Target) -> Result<Exit> {
    // The socket is of this host, so that a relative path is meant from here.
    let directory = std::path::absolute(to).context("find the directory of the backup")?;
    let directory = directory.to_str().context("the directory's name is not UTF-8")?.to_owned();
    let mut client = connect(&target.socket).await?;
    let mut news = match client.backup(pb::BackupRequest { directory }).await {
        Ok(news) => news.into_inner(),
        Err(status) => return refused(&status, target),
    };
    let mut told = 0;
    loop {
        match news.message().await {
            Ok(Some(pb::BackupResponse { backup: Some(backup), .. })) => {
                return show_message("Backup", &backup, target);
            }
            Ok(Some(pb::BackupResponse { pages_done, pages_total, .. })) => {
                let percent = pages_done.saturating_mul(100) / pages_total.max(1);
                if percent >= told + TOLD_EVERY_PERCENT {
                    told = percent;
                    eprintln!("{pages_done} of {pages_total} pages copied, {percent}%");
                }
            }
            Ok(None) => anyhow::bail!("the daemon ended before the backup was made"),
            Err(status) => return refused(&status, target),
        }
    }
}
