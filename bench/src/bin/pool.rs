//! What the signer pool costs beside the devices: CPU of a job with a session that does nothing,
//! throughput of 2,000 slow devices against 2,000 quick ones, and what a stalled device does to the
//! others. Asks for next numbers, since only the numbering actor can hand out claims.

use skproxy::{
    clock,
    model::{DeviceNo, InvoiceNumber, Kind},
    signer::{Backend, DeviceAnswer, DeviceNumbered, Finished, Job, Pool, SignerError, Threads},
    store::{Claim, Durable},
};
use std::{
    fs,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const DEVICES: i64 = 2000;
/// What the rest of an invoice costs: decoding, rules, two commits, an answer.
const REST_OF_AN_INVOICE: Duration = Duration::from_micros(150);
const RUN: Duration = Duration::from_secs(5);

/// Answers after `latency`.
struct Device {
    latency: Duration,
    stall: Arc<AtomicBool>,
}

impl DeviceNumbered for Device {
    fn next_number(&mut self, _: Kind) -> Result<Option<InvoiceNumber>, SignerError> {
        if !self.latency.is_zero() {
            thread::sleep(self.latency);
        }
        while self.stall.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }

    fn issue(&mut self, claim: &Durable<Claim>) -> Result<DeviceAnswer, SignerError> {
        Err(SignerError::Refused { device: claim.device.to_string(), detail: "a bench".into() })
    }

    fn query(
        &mut self,
        _: Kind,
        _: &skproxy::model::DeviceSerial,
    ) -> Result<Option<DeviceAnswer>, SignerError> {
        Ok(None)
    }

    fn quiescence(&self) -> Duration {
        Duration::ZERO
    }
}

/// Callers that ask again as soon as they are answered, one for each device.
struct Callers {
    pool: OnceLock<Pool>,
    stopped: AtomicBool,
    done: AtomicU64,
    work: Duration,
    asked: Vec<Mutex<Instant>>,
    /// How long each job took, from submission to result. Unit: microseconds.
    took: Mutex<Vec<u64>>,
}

fn job(device: i64) -> Job {
    Job::Next { device: DeviceNo(device), kind: Kind::ENormal }
}

impl Callers {
    fn start(devices: i64, work: Duration, device: impl Fn(i64) -> Device) -> Arc<Self> {
        let callers = Arc::new(Self {
            pool: OnceLock::new(),
            stopped: AtomicBool::new(false),
            done: AtomicU64::new(0),
            work,
            asked: (0..devices).map(|_| Mutex::new(clock::monotonic())).collect(),
            took: Mutex::default(),
        });
        let results = Arc::downgrade(&callers);
        let threads = Threads { software: 2, devices_max: 4096 };
        let pool = Pool::new(
            threads,
            Arc::new(move |finished| {
                if let (Some(callers), Finished::Next { device, .. }) =
                    (results.upgrade(), finished)
                {
                    callers.answered(device);
                }
            }),
        );
        for no in 0..devices {
            pool.add_device(DeviceNo(no), Backend::Device(Box::new(device(no))), 4);
        }
        assert!(callers.pool.set(pool).is_ok(), "set once");
        for no in 0..devices {
            callers.ask(no);
        }
        callers
    }

    fn ask(&self, device: i64) {
        let slot = usize::try_from(device).ok().and_then(|at| self.asked.get(at));
        *slot.expect("a device").lock().expect("no panic") = clock::monotonic();
        let pool = self.pool.get().expect("set before the first question");
        let taken = pool.submit(job(device)).is_ok();
        assert!(taken || self.stopped.load(Ordering::Relaxed), "the queue holds one");
    }

    fn answered(&self, device: DeviceNo) {
        let slot = usize::try_from(device.0).ok().and_then(|at| self.asked.get(at));
        let took = slot.expect("a device").lock().expect("no panic").elapsed();
        if device.0 % 8 == 0 {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.took.lock().expect("no panic").push(micros);
        }
        let begun = clock::monotonic();
        while begun.elapsed() < self.work {
            std::hint::spin_loop();
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        if !self.stopped.load(Ordering::Relaxed) {
            self.ask(device.0);
        }
    }

    /// Jobs per second, CPU of one, and the 99th percentile of a job's time.
    fn measured(&self) -> (f64, f64, u64) {
        thread::sleep(RUN / 5);
        self.took.lock().expect("no panic").clear();
        let (begun, cpu, done) =
            (clock::monotonic(), cpu_micros(), self.done.load(Ordering::Relaxed));
        thread::sleep(RUN);
        let done = number(self.done.load(Ordering::Relaxed) - done);
        let cpu = number(cpu_micros() - cpu) / done;
        let rate = done / begun.elapsed().as_secs_f64();
        let mut took = std::mem::take(&mut *self.took.lock().expect("no panic"));
        took.sort_unstable();
        let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
        (rate, cpu, p99)
    }

    fn end(self: Arc<Self>) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(pool) = self.pool.get() {
            pool.shutdown();
        }
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// CPU of this process so far, of all threads. Unit: microseconds, in steps of 10,000.
fn cpu_micros() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = |at: usize| after.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok());
    (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) * 10_000
}

fn quick() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

fn main() {
    let device = |latency| move |_| Device { latency, stall: quick() };
    let callers = Callers::start(64, Duration::ZERO, device(Duration::ZERO));
    let (rate, cpu, _) = callers.measured();
    callers.end();
    println!("64 devices that do nothing      {rate:9.0} jobs/s  {cpu:6.2} us CPU per job");
    let mut rates = Vec::new();
    for (name, latency) in [("no latency", 0), ("20 ms", 20), ("no latency", 0), ("20 ms", 20)] {
        let latency = Duration::from_millis(latency);
        let callers = Callers::start(DEVICES, REST_OF_AN_INVOICE, device(latency));
        let (rate, cpu, _) = callers.measured();
        callers.end();
        println!("{DEVICES} devices, {name:<14}     {rate:9.0} jobs/s  {cpu:6.2} us CPU per job");
        rates.push(rate);
    }
    let ratio = (rates[1] + rates[3]) / (rates[0] + rates[2]);
    println!("throughput with latency / without: {ratio:.3} (aim 0.9)");
    for stalls in [false, true, false, true] {
        let stall = Arc::new(AtomicBool::new(stalls));
        let latency = Duration::from_millis(20);
        let one = Arc::clone(&stall);
        let callers = Callers::start(200, Duration::ZERO, move |no| {
            let stall = if no == 1 { Arc::clone(&one) } else { quick() };
            Device { latency, stall }
        });
        let (rate, _, p99) = callers.measured();
        stall.store(false, Ordering::Relaxed);
        callers.end();
        println!("200 devices of 20 ms, one stalled: {stalls:<5} {rate:9.0} jobs/s  p99 {p99} us");
    }
}
