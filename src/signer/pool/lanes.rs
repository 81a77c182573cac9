//! Which device runs next: queues and turns, without threads. A lane is the run queue of one or
//! more threads; all software devices share one, a device-numbered device has its own.
//!
//! Invariants: a device stands in its lane's run queue at most once, exactly when it has jobs and
//! its backend is not in a thread's hands; so its jobs run one at a time and in order.

use super::{JOBS_PER_TURN, Job};
use crate::{model::DeviceNo, signer::Backend};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar},
};

/// The lane of all software devices; devices' own lanes count from 1.
const SHARED: LaneNo = LaneNo(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LaneNo(u64);

/// Tells a device from one that had its number before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// What a thread needs to serve a lane.
pub(super) struct Worker {
    lane: LaneNo,
    pub(super) wake: Arc<Condvar>,
}

/// A device's backend and the jobs of one turn, in a thread's hands.
pub(super) struct Turn {
    pub(super) device: DeviceNo,
    pub(super) generation: Generation,
    pub(super) backend: Backend,
    pub(super) jobs: VecDeque<Job>,
}

struct Lane {
    run_queue: VecDeque<DeviceNo>,
    wake: Arc<Condvar>,
    jobs_per_turn: usize,
}

struct Slot {
    generation: Generation,
    lane: LaneNo,
    /// `None` while a thread has it.
    backend: Option<Backend>,
    queue: VecDeque<Job>,
    queue_len_max: usize,
}

/// What is left of a removed device. The backend is foreign code, so it is not dropped under the
/// lock.
pub(super) struct Removed {
    pub(super) backend: Option<Backend>,
    pub(super) jobs: VecDeque<Job>,
}

impl From<Slot> for Removed {
    fn from(slot: Slot) -> Self {
        Self { backend: slot.backend, jobs: slot.queue }
    }
}

/// All queues of a pool.
pub(super) struct Lanes {
    lanes: HashMap<LaneNo, Lane>,
    slots: HashMap<DeviceNo, Slot>,
    added: u64,
    is_stopped: bool,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let shared = Lane::new(JOBS_PER_TURN);
        let lanes = HashMap::from([(SHARED, shared)]);
        Self { lanes, slots: HashMap::new(), added: 0, is_stopped: false }
    }

    pub(super) fn shared_worker(&self) -> Worker {
        Worker { lane: SHARED, wake: Arc::clone(&self.lanes[&SHARED].wake) }
    }

    /// Adds a device in the place of one that has its number. Gives the worker of its lane, or the
    /// backend back after `stop`; and what was in its place.
    pub(super) fn add(
        &mut self,
        device: DeviceNo,
        backend: Backend,
        queue_len_max: usize,
    ) -> (Result<Worker, Backend>, Option<Removed>) {
        let removed = self.remove(device);
        if self.is_stopped {
            return (Err(backend), removed);
        }
        self.added = self.added.saturating_add(1);
        let lane_no = match backend {
            Backend::Proxy(_) => SHARED,
            Backend::Device(_) => LaneNo(self.added),
        };
        // One job a turn on a device's own thread: waiting jobs stay where shutdown can reach them.
        let lane = self.lanes.entry(lane_no).or_insert_with(|| Lane::new(1));
        let wake = Arc::clone(&lane.wake);
        let slot = Slot {
            generation: Generation(self.added),
            lane: lane_no,
            backend: Some(backend),
            queue: VecDeque::new(),
            queue_len_max,
        };
        self.slots.insert(device, slot);
        (Ok(Worker { lane: lane_no, wake }), removed)
    }

    /// Removes a device; its own thread, if it has one, ends after the job in hand.
    pub(super) fn remove(&mut self, device: DeviceNo) -> Option<Removed> {
        let slot = self.slots.remove(&device)?;
        if slot.lane == SHARED {
            let shared = self.lanes.get_mut(&SHARED).expect("the shared lane is never removed");
            shared.run_queue.retain(|&waiting| waiting != device);
        } else if let Some(lane) = self.lanes.remove(&slot.lane) {
            lane.wake.notify_all();
        }
        Some(slot.into())
    }

    /// Removes a device after a panic, unless its number has gone to another one.
    pub(super) fn remove_generation(
        &mut self,
        device: DeviceNo,
        generation: Generation,
    ) -> Option<Removed> {
        let slot = self.slots.get(&device)?;
        if slot.generation == generation { self.remove(device) } else { None }
    }

    #[expect(clippy::result_large_err, reason = "the error is the job, which must not be lost")]
    pub(super) fn push(&mut self, job: Job) -> Result<(), Job> {
        let device = job.device();
        let Some(slot) = self.slots.get_mut(&device) else { return Err(job) };
        if slot.queue.len() >= slot.queue_len_max {
            return Err(job);
        }
        slot.queue.push_back(job);
        // With more in the queue, or the backend in a thread's hands, its turn comes anyway.
        if slot.queue.len() == 1 && slot.backend.is_some() {
            let lane = slot.lane;
            self.schedule(lane, device);
        }
        Ok(())
    }

    pub(super) fn is_usable(&self, device: DeviceNo) -> bool {
        self.slots.contains_key(&device)
    }

    /// Whether the worker's thread ends.
    pub(super) fn is_over(&self, worker: &Worker) -> bool {
        self.is_stopped || !self.lanes.contains_key(&worker.lane)
    }

    pub(super) fn next_turn(&mut self, worker: &Worker) -> Option<Turn> {
        let lane = self.lanes.get_mut(&worker.lane)?;
        let device = lane.run_queue.pop_front()?;
        let slot = self.slots.get_mut(&device)?;
        let backend = slot.backend.take()?;
        let count = slot.queue.len().min(lane.jobs_per_turn);
        let jobs = slot.queue.drain(..count).collect();
        Some(Turn { device, generation: slot.generation, backend, jobs })
    }

    /// Takes the backend back after a turn; gives it back when its device was removed meanwhile.
    pub(super) fn give_back(
        &mut self,
        device: DeviceNo,
        generation: Generation,
        backend: Backend,
    ) -> Option<Backend> {
        let slot = self.slots.get_mut(&device).filter(|slot| slot.generation == generation);
        let Some(slot) = slot else { return Some(backend) };
        slot.backend = Some(backend);
        if !slot.queue.is_empty() {
            let lane = slot.lane;
            self.schedule(lane, device);
        }
        None
    }

    /// Ends every worker and removes every device.
    pub(super) fn stop(&mut self) -> Vec<Removed> {
        self.is_stopped = true;
        for lane in self.lanes.values_mut() {
            lane.run_queue.clear();
            lane.wake.notify_all();
        }
        self.slots.drain().map(|(_, slot)| slot.into()).collect()
    }

    fn schedule(&mut self, lane: LaneNo, device: DeviceNo) {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.run_queue.push_back(device);
            lane.wake.notify_one();
        }
    }
}

impl Lane {
    fn new(jobs_per_turn: usize) -> Self {
        Self { run_queue: VecDeque::new(), wake: Arc::new(Condvar::new()), jobs_per_turn }
    }
}
