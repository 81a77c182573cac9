//! Which device runs next: queues, sessions and turns, without threads. A lane is the run queue of
//! its threads: software devices share a fixed few, all other devices share as many as have work at
//! once, so that a device that stalls holds one thread and nobody else.
//!
//! Invariants: a device stands in its lane's run queue at most as often as it has work that can
//! begin; each session is in one thread's hands or idle; a device with one session runs its jobs
//! one at a time and in order.

use super::{
    JOBS_PER_TURN, Job, Setup, Source,
    health::{Effect, Gate, Health},
};
use crate::{model::DeviceNo, signer::Backend};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar},
    time::{Duration, Instant},
};

/// Whose threads serve a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneNo {
    /// Keys in memory: never wait for anything.
    Software,
    /// Everything that may be slow.
    Devices,
}

/// Tells a device from one that had its number before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// A job and when it was given.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) since: Instant,
}

/// What a thread does next, for which device.
pub(super) struct Turn {
    pub(super) device: DeviceNo,
    pub(super) generation: Generation,
    pub(super) task: Task,
}

pub(super) enum Task {
    /// Run jobs on a session.
    Jobs { session: Backend, jobs: VecDeque<Waiting> },
    /// Open another session.
    Open(Arc<dyn Source>),
}

/// How a turn of jobs ended.
pub(super) struct Ran {
    /// `None` when its state is anything.
    pub(super) session: Option<Backend>,
    pub(super) effect: Effect,
    /// For people, on a failure.
    pub(super) detail: Option<String>,
    /// Of one job.
    pub(super) took: Duration,
}

/// What goes out of the pool's hands. Sessions are foreign code, so they are not dropped under the
/// lock.
#[derive(Default)]
pub(super) struct Left {
    pub(super) sessions: Vec<Backend>,
    pub(super) jobs: VecDeque<Waiting>,
}

/// Whether a device takes a new claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Takes {
    /// Yes; it would wait about so long.
    Yes {
        /// Expected time in the queue.
        wait: Duration,
    },
    /// No.
    No {
        /// Why, for people.
        detail: String,
        /// When to try again; `None` when an operator must act.
        retry_after: Option<Duration>,
    },
}

impl Takes {
    /// Why not, if so.
    #[must_use]
    pub fn refusal(self) -> Option<String> {
        match self {
            Self::Yes { .. } => None,
            Self::No { detail, .. } => Some(detail),
        }
    }
}

/// A device as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether it takes work.
    pub takes: Takes,
    /// Whether an operator must unlock it.
    pub stopped: bool,
    /// Sessions that are open.
    pub sessions: usize,
    /// Sessions that it should have.
    pub sessions_max: usize,
    /// Jobs that wait or run.
    pub jobs: usize,
    /// Running mean of a job's duration.
    pub mean: Duration,
    /// What was last wrong.
    pub detail: Option<String>,
}

struct Lane {
    run_queue: VecDeque<DeviceNo>,
    wake: Arc<Condvar>,
    jobs_per_turn: usize,
    threads: usize,
    threads_max: usize,
    /// Threads that wait for a turn.
    waiting: usize,
    /// Threads that were asked for and are not there yet.
    starting: usize,
}

struct Slot {
    generation: Generation,
    lane: LaneNo,
    idle: Vec<Backend>,
    busy: usize,
    opening: usize,
    sessions_max: usize,
    source: Option<Arc<dyn Source>>,
    queue: VecDeque<Waiting>,
    queue_len_max: usize,
    /// How often it stands in the run queue.
    scheduled: usize,
    health: Health,
}

/// All queues of a pool.
pub(super) struct Lanes {
    software: Lane,
    devices: Lane,
    slots: HashMap<DeviceNo, Slot>,
    added: u64,
    is_stopped: bool,
    /// Threads that the lane of devices wants; whoever holds the lock starts them after it.
    starts: usize,
}

impl Lanes {
    pub(super) fn new(software_threads: usize, device_threads_max: usize) -> Self {
        Self {
            software: Lane::new(JOBS_PER_TURN, software_threads),
            // One job a turn: waiting jobs stay where shutdown can reach them.
            devices: Lane::new(1, device_threads_max),
            slots: HashMap::new(),
            added: 0,
            is_stopped: false,
            starts: 0,
        }
    }

    fn lane(&mut self, no: LaneNo) -> &mut Lane {
        match no {
            LaneNo::Software => &mut self.software,
            LaneNo::Devices => &mut self.devices,
        }
    }

    pub(super) fn wake(&mut self, lane: LaneNo) -> Arc<Condvar> {
        Arc::clone(&self.lane(lane).wake)
    }

    /// Adds a device in the place of one that has its number. Gives what was in its place, or the
    /// new one's sessions after `stop`.
    pub(super) fn add(&mut self, device: DeviceNo, setup: Setup, now: Instant) -> Left {
        let mut left = self.remove(device);
        if self.is_stopped {
            left.sessions.extend(setup.sessions);
            return left;
        }
        self.added = self.added.saturating_add(1);
        let is_software = setup.source.is_none()
            && setup.sessions.iter().all(|session| matches!(session, Backend::Proxy(_)));
        let slot = Slot {
            generation: Generation(self.added),
            lane: if is_software { LaneNo::Software } else { LaneNo::Devices },
            sessions_max: setup.sessions_max.max(setup.sessions.len()),
            idle: setup.sessions,
            busy: 0,
            opening: 0,
            source: setup.source,
            queue: VecDeque::new(),
            queue_len_max: setup.queue_len_max,
            scheduled: 0,
            health: Health::default(),
        };
        self.slots.insert(device, slot);
        self.schedule(device, now);
        left
    }

    /// Removes a device; what is in a thread's hands ends there.
    pub(super) fn remove(&mut self, device: DeviceNo) -> Left {
        let Some(slot) = self.slots.remove(&device) else { return Left::default() };
        self.lane(slot.lane).run_queue.retain(|&waiting| waiting != device);
        Left { sessions: slot.idle, jobs: slot.queue }
    }

    #[expect(clippy::result_large_err, reason = "the error is the job, which must not be lost")]
    pub(super) fn push(&mut self, job: Job, now: Instant) -> Result<(), Job> {
        let device = job.device();
        let Some(slot) = self.slots.get_mut(&device) else { return Err(job) };
        if slot.queue.len() >= slot.queue_len_max || !slot.takes_jobs(now) {
            return Err(job);
        }
        slot.queue.push_back(Waiting { job, since: now });
        self.schedule(device, now);
        Ok(())
    }

    pub(super) fn takes(&self, device: DeviceNo, now: Instant) -> Takes {
        match self.slots.get(&device) {
            Some(slot) => slot.takes(now),
            None => Takes::No { detail: "it is not in service".into(), retry_after: None },
        }
    }

    pub(super) fn report(&self, device: DeviceNo, now: Instant) -> Option<Report> {
        let slot = self.slots.get(&device)?;
        Some(Report {
            takes: slot.takes(now),
            stopped: slot.health.gate(now) == Gate::Stopped,
            sessions: slot.open(),
            sessions_max: slot.sessions_max,
            jobs: slot.queue.len().saturating_add(slot.busy),
            mean: slot.health.mean(),
            detail: slot.health.detail.clone(),
        })
    }

    /// Threads to be started, and counts them as running.
    pub(super) fn take_starts(&mut self) -> usize {
        std::mem::take(&mut self.starts)
    }

    /// A thread could not be started: with no other, nobody would run what waits.
    pub(super) fn not_started(&mut self) -> Left {
        self.devices.threads = self.devices.threads.saturating_sub(1);
        self.devices.starting = self.devices.starting.saturating_sub(1);
        if self.devices.threads > 0 {
            return Left::default();
        }
        let slots = self.slots.values_mut().filter(|slot| slot.lane == LaneNo::Devices);
        let jobs = slots.flat_map(|slot| slot.queue.drain(..)).collect();
        Left { sessions: Vec::new(), jobs }
    }

    /// The next turn of a lane.
    pub(super) fn next_turn(&mut self, no: LaneNo, now: Instant) -> Option<Turn> {
        loop {
            let lane = self.lane(no);
            let jobs_per_turn = lane.jobs_per_turn;
            let device = lane.run_queue.pop_front()?;
            let Some(slot) = self.slots.get_mut(&device) else { continue };
            slot.scheduled = slot.scheduled.saturating_sub(1);
            if let Some(task) = slot.task(jobs_per_turn, now) {
                let generation = slot.generation;
                return Some(Turn { device, generation, task });
            }
        }
    }

    pub(super) fn has_turn(&mut self, lane: LaneNo) -> bool {
        !self.lane(lane).run_queue.is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_stopped
    }

    /// A thread that was asked for is there.
    pub(super) fn begins(&mut self, lane: LaneNo) {
        let starting = &mut self.lane(lane).starting;
        *starting = starting.saturating_sub(1);
    }

    /// A thread begins or ends to wait for a turn.
    pub(super) fn waits(&mut self, lane: LaneNo, begins: bool) {
        let waiting = &mut self.lane(lane).waiting;
        *waiting = if begins { waiting.saturating_add(1) } else { waiting.saturating_sub(1) };
    }

    /// A thread ends because it had nothing to do.
    pub(super) fn ends(&mut self, lane: LaneNo) {
        let threads = &mut self.lane(lane).threads;
        *threads = threads.saturating_sub(1);
    }

    /// Takes a session back after a turn, or what it was when its device was removed meanwhile.
    pub(super) fn ran(
        &mut self,
        (device, generation): (DeviceNo, Generation),
        ran: Ran,
        now: Instant,
    ) -> Left {
        let mut left = Left::default();
        let Some(slot) = self.slots.get_mut(&device).filter(|slot| slot.generation == generation)
        else {
            left.sessions.extend(ran.session);
            return left;
        };
        slot.busy = slot.busy.saturating_sub(1);
        if ran.detail.is_some() {
            slot.health.detail = ran.detail;
        }
        let shut = slot.health.ran(ran.effect, ran.took, now);
        let is_stopped = slot.health.gate(now) == Gate::Stopped;
        let is_dead = slot.source.is_some() && (ran.effect == Effect::Evict || is_stopped);
        match ran.session {
            Some(session) if !is_dead => slot.idle.push(session),
            other => left.sessions.extend(other),
        }
        if is_stopped && slot.source.is_some() {
            left.sessions.append(&mut slot.idle);
        }
        if shut || slot.open() == 0 {
            left.jobs.append(&mut slot.queue);
        }
        self.schedule(device, now);
        left
    }

    /// Takes a newly opened session, or notes why there is none.
    pub(super) fn opened(
        &mut self,
        (device, generation): (DeviceNo, Generation),
        session: Result<Backend, (Effect, String)>,
        now: Instant,
    ) -> Left {
        let mut left = Left::default();
        let Some(slot) = self.slots.get_mut(&device).filter(|slot| slot.generation == generation)
        else {
            left.sessions.extend(session.ok());
            return left;
        };
        slot.opening = slot.opening.saturating_sub(1);
        match session {
            Ok(session) => {
                slot.health.opened();
                slot.idle.push(session);
            }
            Err((effect, detail)) => {
                slot.health.not_opened(effect, now);
                slot.health.detail = Some(detail);
                if slot.open() == 0 {
                    left.jobs.append(&mut slot.queue);
                }
            }
        }
        self.schedule(device, now);
        left
    }

    /// Brings devices back to their full number of sessions when their pause is over.
    pub(super) fn tick(&mut self, now: Instant) {
        let short = self.slots.iter().filter(|(_, slot)| slot.opens(now) > 0);
        let short: Vec<DeviceNo> = short.map(|(device, _)| *device).collect();
        for device in short {
            self.schedule(device, now);
        }
        self.start_threads();
    }

    /// Ends every worker and removes every device.
    pub(super) fn stop(&mut self) -> Left {
        self.is_stopped = true;
        for lane in [&mut self.software, &mut self.devices] {
            lane.run_queue.clear();
            lane.wake.notify_all();
        }
        let mut left = Left::default();
        for (_, slot) in self.slots.drain() {
            left.sessions.extend(slot.idle);
            left.jobs.extend(slot.queue);
        }
        left
    }

    fn schedule(&mut self, device: DeviceNo, now: Instant) {
        let Some(slot) = self.slots.get_mut(&device) else { return };
        let begins = slot.queue.len().min(slot.idle.len()).saturating_add(slot.opens(now));
        let more = begins.saturating_sub(slot.scheduled);
        slot.scheduled = slot.scheduled.saturating_add(more);
        let no = slot.lane;
        let lane = self.lane(no);
        for _ in 0..more {
            lane.run_queue.push_back(device);
            lane.wake.notify_one();
        }
        if no == LaneNo::Devices {
            self.start_threads();
        }
    }

    fn start_threads(&mut self) {
        let lane = &mut self.devices;
        let coming = lane.waiting.saturating_add(lane.starting);
        let wanted = lane.run_queue.len().saturating_sub(coming);
        let more = wanted.min(lane.threads_max.saturating_sub(lane.threads));
        lane.threads = lane.threads.saturating_add(more);
        lane.starting = lane.starting.saturating_add(more);
        self.starts = self.starts.saturating_add(more);
    }
}

impl Slot {
    fn open(&self) -> usize {
        self.idle.len().saturating_add(self.busy)
    }

    /// Sessions that may be opened now, and are not being opened.
    fn opens(&self, now: Instant) -> usize {
        if self.source.is_none() || !self.health.may_open(now) {
            return 0;
        }
        self.sessions_max.saturating_sub(self.open().saturating_add(self.opening))
    }

    fn task(&mut self, jobs_max: usize, now: Instant) -> Option<Task> {
        if !self.queue.is_empty()
            && let Some(session) = self.idle.pop()
        {
            let count = self.queue.len().min(jobs_max);
            self.busy = self.busy.saturating_add(1);
            return Some(Task::Jobs { session, jobs: self.queue.drain(..count).collect() });
        }
        if self.opens(now) == 0 {
            return None;
        }
        self.opening = self.opening.saturating_add(1);
        self.source.clone().map(Task::Open)
    }

    /// Whether it takes work that is under way already.
    fn takes_jobs(&self, now: Instant) -> bool {
        let is_idle = self.queue.is_empty() && self.busy == 0;
        let gate = self.health.gate(now);
        self.open() > 0 && (gate == Gate::Open || (gate == Gate::Trial && is_idle))
    }

    fn takes(&self, now: Instant) -> Takes {
        let detail =
            || self.health.detail.clone().unwrap_or_else(|| "it has no session yet".to_owned());
        match self.health.gate(now) {
            Gate::Stopped => Takes::No { detail: detail(), retry_after: None },
            Gate::Shut(pause) => Takes::No { detail: detail(), retry_after: Some(pause) },
            Gate::Open | Gate::Trial if self.takes_jobs(now) => Takes::Yes { wait: self.wait() },
            Gate::Open | Gate::Trial => {
                let pause = self.health.opens_in(now).max(self.health.mean());
                Takes::No { detail: detail(), retry_after: Some(pause) }
            }
        }
    }

    /// Expected time in the queue: all that waits or runs, shared among the sessions.
    fn wait(&self) -> Duration {
        let jobs = self.queue.len().saturating_add(self.busy);
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        let sessions = u32::try_from(self.open()).unwrap_or(u32::MAX).max(1);
        self.health.mean().saturating_mul(jobs) / sessions
    }
}

impl Lane {
    fn new(jobs_per_turn: usize, threads_max: usize) -> Self {
        Self {
            run_queue: VecDeque::new(),
            wake: Arc::new(Condvar::new()),
            jobs_per_turn,
            threads: 0,
            threads_max,
            waiting: 0,
            starting: 0,
        }
    }
}
