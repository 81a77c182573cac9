//! The operators' side of the Unix socket.

use crate::pb::admin::v1::admin_service_client::AdminServiceClient;
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// The daemon cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("reach the daemon on {path}; is `skproxy serve` running, and may you use its socket?")]
pub struct AdminConnectError {
    path: PathBuf,
    #[source]
    source: tonic::transport::Error,
}

/// Connects to the admin socket.
///
/// # Errors
/// When nothing answers there.
pub async fn connect(path: &Path) -> Result<AdminServiceClient<Channel>, AdminConnectError> {
    let socket = path.to_owned();
    // The address is never looked up; it only has to be one.
    let endpoint = Endpoint::from_static("http://skproxy.invalid");
    let channel = endpoint
        .connect_with_connector(service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|source| AdminConnectError { path: path.to_owned(), source })?;
    Ok(AdminServiceClient::new(channel))
}
