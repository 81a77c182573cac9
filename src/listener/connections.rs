//! The connections that stand: whose key each shows, since when, and how to close all of a key's,
//! which a revocation does.

use crate::{clock, metrics::metrics, registry::KeyHash};
use dashmap::DashMap;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// One connection, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Counts connections of this process, from 1.
    pub id: u64,
    /// The key that the client showed.
    pub key: KeyHash,
    /// Where it comes from.
    pub address: SocketAddr,
    /// How long it stands.
    pub age: Duration,
}

#[derive(Debug)]
struct Record {
    key: KeyHash,
    address: SocketAddr,
    since: Instant,
    close: Arc<Notify>,
}

/// The connections of one listener, or of several that share it.
#[derive(Debug, Default)]
pub struct Connections {
    open: DashMap<u64, Record>,
    last_id: AtomicU64,
}

impl Connections {
    /// Every connection that stands, by id.
    #[must_use]
    pub fn list(&self) -> Vec<ConnectionInfo> {
        let mut all: Vec<_> = self
            .open
            .iter()
            .map(|entry| ConnectionInfo {
                id: *entry.key(),
                key: entry.key,
                address: entry.address,
                age: entry.since.elapsed(),
            })
            .collect();
        all.sort_unstable_by_key(|connection| connection.id);
        all
    }

    /// How many stand.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Closes every connection that shows `key`: no new call at once, and half a second for those
    /// under way. Says how many there were.
    pub fn close_key(&self, key: &KeyHash) -> usize {
        let of_key = self.open.iter().filter(|entry| entry.key == *key);
        // `notify_one` is remembered when the connection's task does not listen yet.
        of_key.map(|entry| entry.close.notify_one()).count()
    }

    /// Enters a connection; it leaves when the entry is dropped.
    pub(super) fn enter(self: &Arc<Self>, key: KeyHash, address: SocketAddr) -> Entry {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let close = Arc::new(Notify::new());
        let record = Record { key, address, since: clock::monotonic(), close: Arc::clone(&close) };
        self.open.insert(id, record);
        metrics().connections.increment(1);
        Entry { id, close, connections: Arc::clone(self) }
    }
}

/// A connection's place in `Connections`.
#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    close: Arc<Notify>,
    connections: Arc<Connections>,
}

impl Entry {
    /// Waits until somebody wants this connection closed.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }

    /// The connection's id.
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.open.remove(&self.id);
        metrics().connections.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closing_a_key_reaches_its_connections_and_no_others() {
        let connections = Arc::new(Connections::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let enter = |key| connections.enter(KeyHash([key; 32]), address);
        let (one, two, other) = (enter(1), enter(1), enter(2));
        assert_eq!(connections.close_key(&KeyHash([1; 32])), 2);
        assert_eq!(connections.close_key(&KeyHash([9; 32])), 0);
        let closed = async { tokio::join!(one.closed(), two.closed()) };
        tokio::time::timeout(Duration::from_secs(60), closed).await.expect("both hear it");
        tokio::select! {
            biased;
            () = other.closed() => panic!("the other key's connection was closed"),
            () = std::future::ready(()) => {}
        }
        let keys: Vec<_> =
            connections.list().iter().map(|found| (found.id, found.key.0[0])).collect();
        assert_eq!(keys, [(1, 1), (2, 1), (3, 2)]);
        drop((one, two));
        assert_eq!(connections.count(), 1);
    }
}
