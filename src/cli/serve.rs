//! `skproxy serve`: the daemon in the foreground, until SIGINT or SIGTERM; SIGHUP reads
//! certificates again.

use super::Exit;
use crate::{
    clock::Clock,
    config::LogFormat,
    daemon::{self, Daemon},
    metrics,
};
use anyhow::Result;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn run(path: &Path) -> Result<Exit> {
    let config = match super::config::load(path) {
        Ok(config) => config,
        Err(mistakes) => return Ok(super::config::report(&mistakes)),
    };
    super::log(config.log.level, config.log.format == LogFormat::Json);
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let exporter = metrics::install()?;
    let daemon = daemon::start(&config, exporter, Clock::system()).await?;
    tracing::info!(
        platforms = %daemon.platform_address,
        ops = %daemon.ops_address,
        admin = %config.admin_socket.display(),
        "serving"
    );
    until_asked_to_end(&daemon).await?;
    daemon.drain().await;
    Ok(Exit::Done)
}

async fn until_asked_to_end(daemon: &Daemon) -> Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut end = std::pin::pin!(super::asked_to_end());
    loop {
        tokio::select! {
            ended = &mut end => return ended,
            _ = hang_up.recv() => daemon.reload(),
        }
    }
}
