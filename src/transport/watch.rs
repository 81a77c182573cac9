//! Files that may be replaced while they are in use, such as certificates: what they looked like
//! when they were read, and a look at them now and then.

use std::{
    fs,
    future::Future,
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How often files are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// When a file changed last and its length; `None` for what cannot be read.
pub type Stamp = Option<(SystemTime, u64)>;

/// What files look like now.
#[must_use]
pub fn stamps<const N: usize>(paths: [&Path; N]) -> [Stamp; N] {
    paths.map(|path| {
        let about = fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    })
}

/// Lets `state` look at its files every five seconds, where blocking is allowed, until `stop`.
pub async fn watch<T: Send + Sync + 'static>(
    state: Arc<T>,
    look: fn(&T),
    stop: impl Future<Output = ()> + Send,
) {
    let mut every = tokio::time::interval(WATCH_EVERY);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = every.tick() => {
                let state = Arc::clone(&state);
                // A look that panicked is made again.
                drop(tokio::task::spawn_blocking(move || look(&state)).await);
            }
        }
    }
}
