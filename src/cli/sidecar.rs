//! `skproxy sidecar`: what the daemon starts to keep a foreign C module out of its own process. Not
//! for people.

use super::Exit;
use crate::signer::sidecar::{self, ProcessOptions};
use clap::Args;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Serve one foreign module to the daemon behind stdin.
#[derive(Debug, Args)]
pub(super) struct SidecarArguments {
    /// Held locked, so that no two processes use one token
    #[arg(long)]
    lock: PathBuf,
    /// Writable memory, in bytes
    #[arg(long, default_value_t = sidecar::MEMORY_MAX_BYTES)]
    memory_max_bytes: u64,
    /// Sessions, each with a thread
    #[arg(long, default_value_t = sidecar::SESSIONS_MAX)]
    sessions_max: u32,
}

/// Serves until the daemon goes. Then the process ends itself, so nothing comes back but an error.
pub(super) fn run(arguments: SidecarArguments) -> anyhow::Result<Exit> {
    let SidecarArguments { lock, memory_max_bytes, sessions_max } = arguments;
    let options = ProcessOptions { lock, memory_max_bytes, sessions_max };
    // Whoever stops the daemon may signal all its processes, but the daemon goes on signing until
    // it is drained. Listened to and not heard, the signals end nothing.
    let _deaf = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // In place: the main thread lives as long as the process, and nothing else runs here.
    tokio::task::block_in_place(|| sidecar::run(&options))?;
    Ok(Exit::Done)
}
