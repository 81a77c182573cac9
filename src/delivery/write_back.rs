//! The third step of an upload (回写): devices that draw their numbers are told its result. Until
//! they confirm, they count the invoices as offline, and so do we.
//!
//! Invariant: a write-back is confirmed in the books only after the device took it; it is harmless
//! when it is repeated, so a crash between the two is too.

use super::{backoff::Backoff, worker::Delivery};
use crate::{
    model::{BatchNo, DeviceNo, SeriesNo},
    numbering::Round,
    signer::Question,
    tasks::Group,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How often it is looked for write-backs that nobody announced.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What one device has to hear.
struct Task {
    batch: BatchNo,
    series: SeriesNo,
    device: DeviceNo,
    question: Question,
}

impl Delivery {
    /// Writes results back until the daemon stops.
    pub async fn write_back(self: Arc<Self>) {
        let mut backoff = Backoff::default();
        loop {
            let all = self.write_all().await;
            let pause = match all {
                true => {
                    backoff = Backoff::default();
                    LOOK_EVERY
                }
                false => backoff.next(),
            };
            let announced = async {
                // A failing device is not asked more often for what else comes in.
                match all {
                    true => self.write_backs_changed.notified().await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                stopped = self.stopped_within(pause) => if stopped { return },
                () = announced => {}
            }
        }
    }

    /// One try for everything that is open; devices side by side, each in the order of its batches.
    /// Says whether all of it was taken.
    async fn write_all(self: &Arc<Self>) -> bool {
        let mut devices: BTreeMap<DeviceNo, Vec<Task>> = BTreeMap::new();
        for task in self.open_tasks().await {
            devices.entry(task.device).or_default().push(task);
        }
        let mut group = Group::new();
        for tasks in devices.into_values() {
            let delivery = Arc::clone(self);
            group.spawn(async move {
                for task in tasks {
                    if !delivery.write_one(task).await {
                        return false;
                    }
                }
                true
            });
        }
        let mut all = true;
        while let Some(done) = group.join_next().await {
            all &= done.unwrap_or(false);
        }
        all
    }

    async fn open_tasks(&self) -> Vec<Task> {
        let open = |round: &mut Round<'_>| {
            let tasks = round.open_write_backs().filter_map(|(open, _)| {
                let state = &round.series(open.series)?.state;
                let question = Question::WriteBack {
                    kind: state.kind,
                    acceptance_serial: open.serial.clone(),
                    result: open.result.clone(),
                };
                let (batch, series, device) = (open.batch, open.series, state.device);
                // Without a result there is nothing to write; an incident says so.
                (!open.result.is_empty()).then_some(Task { batch, series, device, question })
            });
            Ok(tasks.collect())
        };
        self.complete(open).await.unwrap_or_default()
    }

    async fn write_one(&self, task: Task) -> bool {
        let Task { batch, series, device, question } = task;
        if let Err(error) = self.finisher.ask(device, question).await {
            let (batch, device) = (batch.0, device.0);
            tracing::warn!(batch, device, %error, "the device has not taken a result yet");
            return false;
        }
        let confirm = move |round: &mut Round<'_>| {
            round.put_written_back(batch, series);
            Ok(())
        };
        self.complete(confirm).await.is_ok()
    }
}
