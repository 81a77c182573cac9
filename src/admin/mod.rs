//! The operators' service over a Unix socket, and its client. Who may connect is decided by
//! the socket's mode (0600) and by the peer's uid: ours, or root.

mod access;
mod answers;
mod backup;
pub mod client;
mod devices;
mod outbox;
mod report;
mod service;
mod status;

use crate::{
    delivery::worker::Delivery, engine::Core,
    pb::admin::v1::admin_service_server::AdminServiceServer,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use service::Service;
use std::{
    fs, future::Future, io, os::unix::fs::PermissionsExt as _, path::Path, pin::pin, sync::Arc,
};
use tokio::net::{UnixListener, UnixStream};

/// What operators work on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Books, numbering and signers.
    pub core: Arc<Core>,
    /// Takes the outbox to the acceptance sides.
    pub delivery: Arc<Delivery>,
}

/// Binds the socket, in place of one that a dead daemon left behind.
///
/// # Errors
/// When a living daemon answers there, or the path cannot be used.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another skproxy answers on this socket",
        ));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves operators until `stop`.
pub async fn serve(listener: UnixListener, parts: Parts, stop: impl Future<Output = ()> + Send) {
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &parts),
                Err(error) => tracing::warn!(%error, "no operator can connect"),
            }
        }
    }
}

fn admit(stream: UnixStream, parts: &Parts) {
    let uid = match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == rustix::process::getuid().as_raw() => {
            peer.uid()
        }
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "an operator's connection was refused");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "a connection without peer credentials was refused");
            return;
        }
    };
    let service = AdminServiceServer::new(Service::new(parts.clone(), format!("uid:{uid}")));
    drop(crate::tasks::spawn_detached(async move {
        let service = TowerToHyperService::new(service);
        let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an operator's connection ended");
        }
    }));
}
