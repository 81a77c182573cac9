//! What the pure part of a request costs: decoding, normalising and every rule, for an eight-line
//! invoice, and what the legacy edge adds to it. One thread, no I/O; medians, so that a busy
//! neighbour shows less. The aim is 10 µs for all of it, and 60 µs more through the legacy edge.
//!
//! `cargo run --release -p skproxy-bench --bin rules`

use anyhow::Context as _;
use prost::Message as _;
use skproxy::{
    clock::monotonic,
    contract::{self, Draft, Profiles, Target, sample},
    legacy::{Answer, Found, Printed, Standing, decode_business},
    model::{CstTime, DeviceNo, Kind, PlatformNo, TaxpayerNo},
    pb::v1::{Invoice, InvoiceDraft},
    registry::{BackendKind, Device, Taxpayer},
};
use std::{hint::black_box, time::Duration};

/// Batches timed; the median counts.
const BATCHES: usize = 201;
/// Calls in a batch, long enough for the clock's resolution.
const CALLS: u32 = 1_000;
/// A request to issue in the tax server's dialect, with three lines.
const SERVER_MESSAGE: &[u8] = include_bytes!("../../../tests/vectors/legacy/server_10008_gbk.xml");
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
    legacy(wire)
}

/// What the legacy edge adds: decoding an eight-line GBK message and printing its answer.
fn legacy(draft: InvoiceDraft) -> anyhow::Result<()> {
    let message = eight_lines(SERVER_MESSAGE).context("the golden message has a line")?;
    println!("legacy, GBK, {LINES} lines, {} bytes; the aim is 60000 ns", message.len());
    let decode = median(|| (), |()| decode_business(&message).is_ok());
    say("decode", decode);
    let invoice = Invoice {
        draft: Some(draft),
        code: "044002600111".into(),
        number: "00000001".into(),
        issue_time: "2026-06-01T12:00:00+08:00".into(),
        machine_number: "000000000001".into(),
        check_code: "1".repeat(20),
        cipher_text: "03<>+-*/".repeat(14),
        qr_text: "01,10,044002600111,00000001,0.00,20260601,1,7257".into(),
        ..Invoice::default()
    };
    let found = Found { invoice, uploaded: false, standing: Standing::Valid };
    let answer = Answer::Invoices(vec![found]);
    let Ok(call) = decode_business(&message) else { anyhow::bail!("the golden message decodes") };
    let print = median(|| (), |()| matches!(call.reply.print(&answer), Printed::Message(_)));
    say("print the answer", print);
    say("both", decode + print);
    Ok(())
}

/// The golden message with its first line eight times.
fn eight_lines(message: &[u8]) -> Option<Vec<u8>> {
    let find = |what: &[u8], from: usize| {
        let at = message.get(from..)?.windows(what.len()).position(|at| at == what);
        at.map(|at| at + from)
    };
    let (begin, end) = (find(b"<group", 0)?, find(b"</group>", 0)? + b"</group>".len());
    let last = find(b"</fyxm>", end)?;
    let head = message.get(..begin)?;
    let count = head.windows(9).position(|at| at == b"count=\"3\"")?;
    let mut longer = head.get(..count)?.to_vec();
    longer.extend_from_slice(b"count=\"8\"");
    longer.extend_from_slice(head.get(count + 9..)?);
    for _ in 0..LINES {
        longer.extend_from_slice(message.get(begin..end)?);
    }
    longer.extend_from_slice(message.get(last..)?);
    Some(longer)
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
