//! Sidecar processes of all standards killed and hung at random while several callers issue: no
//! wrong invoice, and issuing resumes by itself.
//!
//! ```text
//! SKPROXY_STORM_SECONDS=60 SKPROXY_STORM_SEED=7 cargo nextest run --test conformance storm
//! ```

use crate::{
    backends::{Backend, Pkcs11, Sdf, Skf},
    house::{Answer, House, Odd},
    process::{BOUND, are_gone, sidecars_of, strike},
};
use rustix::process::{Pid, Signal};
use skproxy::{
    clock,
    contract::sample::{self, SELLER},
};
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

/// How long the storm lasts unless told: a few blows.
const SECONDS: u64 = 6;
/// How soon a caller asks again that was refused.
const AGAIN: Duration = Duration::from_millis(50);
/// Callers of each device.
const CALLERS: usize = 3;

/// splitmix64: the same in every run of one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn below(random: &mut Random, limit: u64) -> usize {
    usize::try_from(random.next() % limit).unwrap()
}

fn told(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// What the callers and the storm share.
struct Sea {
    house: House,
    devices: Vec<String>,
    /// Invoices of each device.
    issued: Vec<AtomicUsize>,
    /// How many processes of each device are known to have ended.
    ended: Vec<AtomicUsize>,
    /// Of those, how many had ended before an invoice was asked for that is issued.
    outlived: Vec<AtomicUsize>,
    over: AtomicBool,
}

impl Sea {
    /// Issues on a device until the storm is over.
    async fn calls(&self, device: usize, caller: usize) {
        let mut number = 0;
        let mut every = tokio::time::interval(AGAIN);
        while !self.over.load(Ordering::Relaxed) {
            let ended = self.ended[device].load(Ordering::Relaxed);
            let mut draft = sample::draft(&format!("S{device}x{caller}x{number}"), SELLER);
            draft.device_id.clone_from(&self.devices[device]);
            match self.house.ask((0, draft)).await {
                Answer::Issued(_) => {
                    self.issued[device].fetch_add(1, Ordering::Relaxed);
                    self.outlived[device].fetch_max(ended, Ordering::Relaxed);
                    number += 1;
                }
                // Somebody asks again some day, or never: the end of the house does.
                Answer::InDoubt | Answer::Late => number += 1,
                // The same serial again, in a while.
                Answer::Refused(reason, text, _) => {
                    let expected = ["DEVICE_UNAVAILABLE", "SERIES_BACKLOG"];
                    assert!(expected.contains(&reason.as_str()), "{reason}: {text}");
                    every.tick().await;
                }
            }
        }
    }

    async fn until(&self, what: &str, state: impl Fn() -> bool) {
        let begin = clock::monotonic();
        let mut every = tokio::time::interval(Duration::from_millis(2));
        while !state() {
            every.tick().await;
            assert!(begin.elapsed() < BOUND, "it never happens: {what}");
        }
    }

    /// Strikes a device's process again and again. Gives each recovery: whether the process was
    /// killed, and the time from the blow to the next invoice.
    async fn storms(&self, device: usize, seed: u64, until: Duration) -> Vec<(bool, Duration)> {
        let (mut random, mut recoveries) = (Random(seed), Vec::new());
        let begin = clock::monotonic();
        while recoveries.is_empty() || begin.elapsed() < until {
            let calm = self.issued[device].load(Ordering::Relaxed) + 1 + below(&mut random, 60);
            let issued = || self.issued[device].load(Ordering::Relaxed) >= calm;
            self.until("it issues in the calm", issued).await;
            let killed = below(&mut random, 4) > 0;
            let process = self.process(device).await;
            let blow = clock::monotonic();
            strike(&[process], if killed { Signal::KILL } else { Signal::STOP });
            self.until("the struck process ends", || are_gone(&[process])).await;
            let ended = self.ended[device].fetch_add(1, Ordering::Relaxed) + 1;
            let outlived = || self.outlived[device].load(Ordering::Relaxed) >= ended;
            self.until("issuing resumes", outlived).await;
            recoveries.push((killed, blow.elapsed()));
        }
        recoveries
    }

    /// The sidecar of a device: each has one, told apart by the lock file that it names.
    async fn process(&self, device: usize) -> Pid {
        let standard = ["pkcs11-", "sdf-", "skf-"][device];
        let begin = clock::monotonic();
        let mut every = tokio::time::interval(Duration::from_millis(5));
        loop {
            every.tick().await;
            let all = sidecars_of(self.house.daemon());
            let own = all.into_iter().find(|process| {
                let line = format!("/proc/{}/cmdline", process.as_raw_nonzero());
                std::fs::read_to_string(line).is_ok_and(|line| line.contains(standard))
            });
            if let Some(own) = own {
                return own;
            }
            assert!(begin.elapsed() < BOUND, "no sidecar for {standard}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_killed_and_hung_at_random_under_load_cost_no_invoice() {
    let seconds = told("SKPROXY_STORM_SECONDS").unwrap_or(SECONDS);
    let seed = told("SKPROXY_STORM_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SKPROXY_STORM_SECONDS={seconds} SKPROXY_STORM_SEED={seed}");
    let backends: [Box<dyn Backend>; 3] =
        [Box::new(Pkcs11::new()), Box::new(Sdf::new()), Box::new(Skf::new())];
    let environment = backends.iter().flat_map(|backend| backend.environment()).collect();
    let house = House::new("", environment, false).await;
    let devices: Vec<String> = (1..=3).map(|number| format!("HW{number}")).collect();
    for (at, (id, backend)) in devices.iter().zip(&backends).enumerate() {
        house.add_device(id, &format!("49900000000{at}"), &backend.words()).await;
        house.stock_up(id, 90_000).await;
        house.usable(id);
    }
    let counts = || devices.iter().map(|_| AtomicUsize::new(0)).collect();
    let (issued, ended, outlived) = (counts(), counts(), counts());
    let sea = Sea { house, devices, issued, ended, outlived, over: AtomicBool::new(false) };
    let callers = crate::suite::futures_of(devices_of(&sea) * CALLERS, |at| {
        sea.calls(at % devices_of(&sea), at / devices_of(&sea))
    });
    let storms = async {
        let until = Duration::from_secs(seconds);
        let seeds = |device: usize| seed.wrapping_add(u64::try_from(device).unwrap() << 32);
        let all = crate::suite::futures_of(devices_of(&sea), |device| {
            sea.storms(device, seeds(device), until)
        });
        let recoveries = all.await;
        sea.over.store(true, Ordering::Relaxed);
        recoveries
    };
    let (_, recoveries) = tokio::join!(callers, storms);
    for (backend, recoveries) in backends.iter().zip(&recoveries) {
        report(backend.name(), recoveries);
    }
    println!("{} invoices, {} told", sum(&sea.issued), sea.house.count());
    sea.house.end(&Odd::default()).await;
}

fn devices_of(sea: &Sea) -> usize {
    sea.devices.len()
}

fn sum(counts: &[AtomicUsize]) -> usize {
    counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
}

fn report(name: &str, recoveries: &[(bool, Duration)]) {
    for (killed, after) in recoveries {
        let blow = if *killed { "SIGKILL" } else { "SIGSTOP" };
        println!("{name}: {blow}, the next invoice after {after:?}");
    }
    for (killed, blow) in [(true, "SIGKILL"), (false, "SIGSTOP")] {
        let mut of: Vec<_> = recoveries.iter().filter(|it| it.0 == killed).map(|it| it.1).collect();
        of.sort_unstable();
        if let (Some(most), Some(median)) = (of.last(), of.get(of.len() / 2)) {
            println!("{name}: {} times {blow}: median {median:?}, max {most:?}", of.len());
        }
    }
}
