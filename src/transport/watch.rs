//! Files that may be replaced while they are in use, such as certificates: what they looked like
//! when they were read, and a look at them now and then.

use crate::convert::sha256;
use std::{fs, future::Future, path::Path, pin::pin, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// How often files are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// SHA-256 of what a file holds; `None` for what cannot be read. Not the time of its last change:
/// that is no finer than a tick of the kernel, so that a file may change twice and seem not to have
/// changed after the first, and a copy may keep the time of its original.
pub type Stamp = Option<[u8; 32]>;

/// What files look like now.
#[must_use]
pub fn stamps<const N: usize>(paths: [&Path; N]) -> [Stamp; N] {
    // Some hold private keys.
    paths.map(|path| fs::read(path).ok().map(|bytes| sha256(&Zeroizing::new(bytes))))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_within_a_tick_of_the_clock_looks_different() {
        let dir = tempfile::tempdir().unwrap();
        let (path, gone) = (dir.path().join("file"), dir.path().join("gone"));
        fs::write(&path, "one").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let at = file.metadata().unwrap().modified().unwrap();
        let before = stamps([&path, &gone]);
        assert!(before[0].is_some() && before[1].is_none(), "{before:?}");
        fs::write(&path, "two").unwrap();
        file.set_modified(at).unwrap();
        assert_ne!(stamps([&path, &gone]), before);
        fs::write(&path, "one").unwrap();
        assert_eq!(stamps([&path, &gone]), before);
    }
}
