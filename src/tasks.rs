//! Starts tasks, names them and joins them at drain. A panic in a task that owns durable state ends
//! the process: going on without it would answer from books nobody keeps.

use std::{future::Future, sync::Mutex, time::Duration};
use tokio::task::{JoinHandle, JoinSet};

/// The tasks of one daemon.
#[derive(Debug, Default)]
pub struct Tasks {
    running: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
}

impl Tasks {
    /// Starts a task that `join` waits for.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = spawn_detached(task);
        if let Ok(mut running) = self.running.lock() {
            running.retain(|(_, handle)| !handle.is_finished());
            running.push((name, handle));
        }
    }

    /// Waits for every task, at most `limit` altogether; then aborts what is left and names it.
    pub async fn join(&self, limit: Duration) -> Vec<&'static str> {
        let tasks =
            self.running.lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default();
        let deadline = tokio::time::Instant::now() + limit;
        let mut late = Vec::new();
        for (name, mut handle) in tasks {
            match tokio::time::timeout_at(deadline, &mut handle).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(task = name, %error, "task failed"),
                Err(_) => {
                    handle.abort();
                    late.push(name);
                }
            }
        }
        late
    }
}

/// Tasks that belong to one call: whatever still runs ends when the group is dropped.
pub type Group<T> = JoinSet<T>;

/// Starts a task that nobody waits for: one connection, one call.
#[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
pub fn spawn_detached(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}
