//! What the pure part of a request costs: decoding, normalising and every rule, for an eight-line
//! invoice. One thread, no I/O; medians, so that a busy neighbour shows less. The aim is 10 µs for
//! all of it.
//!
//! `cargo run --release -p skproxy-bench --bin rules`

use anyhow::Context as _;
use prost::Message as _;
use skproxy::{
    clock::monotonic,
    contract::{self, Draft, Profiles, Target, sample},
    model::{CstTime, DeviceNo, Kind, PlatformNo, TaxpayerNo},
    pb::v1::InvoiceDraft,
    registry::{BackendKind, Device, Taxpayer},
};
use std::{hint::black_box, time::Duration};

/// Batches timed; the median counts.
const BATCHES: usize = 201;
/// Calls in a batch, long enough for the clock's resolution.
const CALLS: u32 = 1_000;
/// Lines of the invoice; eight fit the face of a paper one.
const LINES: u8 = 8;

fn main() -> anyhow::Result<()> {
    let wire = sample::draft_with_lines("BENCH-1", sample::SELLER, LINES);
    let bytes = wire.encode_to_vec();
    let (taxpayer, device) = (taxpayer(), device());
    let (taxpayer, device) = (&taxpayer, &device);
    let target = Target { platform: PlatformNo(1), taxpayer, device, red_offered: false };
    let now = CstTime::parse("2026-06-01T12:00:00+08:00").context("a time")?;
    let normal = contract::normalise(Some(wire.clone())).context("the sample is right")?;
    println!("{LINES} lines, {} bytes; median of {BATCHES} x {CALLS} calls", bytes.len());
    let decode = median(|| (), |()| InvoiceDraft::decode(bytes.as_slice()).is_ok());
    say("decode", decode);
    let normalise = median(|| wire.clone(), |wire| contract::normalise(Some(wire)).is_ok());
    say("normalise, with the digest", normalise);
    let mut all = decode + normalise;
    for name in ["baiwang", "aisino"] {
        let profiles = Profiles::embedded();
        let profile = profiles.get(name).context("an embedded profile")?;
        let check = |draft: Draft| contract::check(draft, target, profile, now).is_ok();
        anyhow::ensure!(check(normal.clone()), "the sample meets every rule of {name}");
        let check = median(|| normal.clone(), check);
        say(&format!("check, {name}"), check);
        all = all.max(decode + normalise + check);
    }
    say("all", all);
    Ok(())
}

/// Median time of one call. `make` is not timed, and what the call drops is.
fn median<T>(make: impl Fn() -> T, call: impl Fn(T) -> bool) -> Duration {
    let mut times: Vec<_> = (0..BATCHES)
        .map(|_| {
            let made: Vec<T> = (0..CALLS).map(|_| make()).collect();
            let start = monotonic();
            for one in made {
                black_box(call(black_box(one)));
            }
            start.elapsed() / CALLS
        })
        .collect();
    times.sort_unstable();
    times[BATCHES / 2]
}

fn say(what: &str, time: Duration) {
    println!("{what:<28}{:>8} ns", time.as_nanos());
}

fn taxpayer() -> Taxpayer {
    Taxpayer {
        no: TaxpayerNo(1),
        id: sample::SELLER.taxpayer_id.into(),
        name: sample::SELLER.name.into(),
        province: "00".into(),
    }
}

fn device() -> Device {
    Device {
        no: DeviceNo(1),
        id: "BENCH".into(),
        taxpayer: TaxpayerNo(1),
        machine_number: "000000000001".into(),
        backend: BackendKind::SoftwareP256,
        kinds: Kind::ALL.into_iter().collect(),
        profile: contract::DEFAULT_PROFILE.into(),
        enabled: true,
        test: true,
        public_key: Vec::new(),
    }
}
