//! What the pure part of a request costs: decoding, normalising and every rule, for an eight-line
//! invoice, and what the legacy edge adds to it. One thread, no I/O; medians of interleaved runs,
//! so that a busy neighbour shows less. The aims: 10 µs for all of the first, 60 µs for the edge
//! with a request of 4 KB in GBK and its answer.
//!
//! `cargo run --release -p skproxy-bench --bin rules`, and for instructions, which no neighbour
//! changes, `bench/instructions.sh`.

use anyhow::{Context as _, bail};
use clap::Parser;
use prost::Message as _;
use skproxy::{
    clock::monotonic,
    contract::{self, Draft, Profile, Profiles, Target, sample},
    legacy::{Answer, Found, LegacyRequest, Printed, Reply, Standing, decode_business},
    model::{CstTime, DeviceNo, Kind, PlatformNo, TaxpayerNo},
    pb::v1::{Invoice, InvoiceDraft},
    registry::{BackendKind, Device, Taxpayer},
};
use std::{hint::black_box, time::Duration};

/// Batches timed of each step; the median counts.
const BATCHES: usize = 201;
/// Calls in a batch, long enough for the clock's resolution.
const CALLS: u32 = 500;
/// A request to issue in the tax server's dialect: ten lines, 4 KB of GBK.
const MESSAGE: &[u8] =
    include_bytes!("../../../tests/vectors/legacy/server_10008_ten_lines_gbk.xml");
/// Lines of the invoice of the first part; eight fit the face of a paper one.
const LINES: u8 = 8;

/// Times the pure part of a request.
#[derive(Parser)]
struct Args {
    /// Only decode the legacy message and print its answer, so many times, for callgrind.
    #[arg(long)]
    legacy_rounds: Option<u32>,
}

fn main() -> anyhow::Result<()> {
    let legacy = LegacyRound::new()?;
    if let Some(rounds) = Args::parse().legacy_rounds {
        for _ in 0..rounds {
            legacy_round(&legacy);
        }
        return Ok(());
    }
    rules()?;
    let size = MESSAGE.len();
    println!("legacy, GBK, {size} bytes in, {} out; the aim is 60000 ns", legacy.answer_len()?);
    let [decode, print] = medians([&|| legacy.decode(), &|| legacy.print()]);
    say("decode", decode);
    say("print the answer", print);
    say("both", decode + print);
    Ok(())
}

/// The first part: no edge.
fn rules() -> anyhow::Result<()> {
    let wire = sample::draft_with_lines("BENCH-1", sample::SELLER, LINES);
    let bytes = wire.encode_to_vec();
    let (taxpayer, device) = (taxpayer(), device());
    let target = Target {
        platform: PlatformNo(1),
        taxpayer: &taxpayer,
        device: &device,
        red_offered: false,
        authorised_rates: &[],
    };
    let now = CstTime::parse("2026-06-01T12:00:00+08:00").context("a time")?;
    let normal = contract::normalise(Some(wire.clone())).context("the sample is right")?;
    let profiles = Profiles::embedded();
    let profile = |name| profiles.get(name).context("an embedded profile");
    let [baiwang, aisino] = [profile("baiwang")?, profile("aisino")?];
    let check =
        |draft: Draft, profile: &Profile| contract::check(draft, target, profile, now).is_ok();
    for profile in [baiwang, aisino] {
        anyhow::ensure!(check(normal.clone(), profile), "the sample meets every rule");
    }
    println!("{LINES} lines, {} bytes; the aim is 10000 ns", bytes.len());
    // Copies stand for the drafts that the calls consume; they are taken off again below.
    let [decode, copy, normalise, copy_draft, first, second] = medians([
        &|| InvoiceDraft::decode(bytes.as_slice()).is_ok(),
        &|| black_box(wire.clone()).lines.len() == usize::from(LINES),
        &|| contract::normalise(Some(wire.clone())).is_ok(),
        &|| black_box(normal.clone()).digest == normal.digest,
        &|| check(normal.clone(), baiwang),
        &|| check(normal.clone(), aisino),
    ]);
    let normalise = normalise.saturating_sub(copy);
    let (first, second) = (first.saturating_sub(copy_draft), second.saturating_sub(copy_draft));
    say("decode", decode);
    say("normalise, with the digest", normalise);
    say("check, baiwang", first);
    say("check, aisino", second);
    say("all", decode + normalise + first.max(second));
    Ok(())
}

/// A legacy message, and what answers it.
struct LegacyRound {
    reply: Reply,
    answer: Answer,
}

impl LegacyRound {
    fn new() -> anyhow::Result<Self> {
        let Ok(call) = decode_business(MESSAGE) else { bail!("the message decodes") };
        let LegacyRequest::Issue(issue) = call.request else { bail!("the message issues") };
        let invoice = Invoice {
            draft: Some(issue.draft),
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
        Ok(Self { reply: call.reply, answer: Answer::Invoices(vec![found]) })
    }

    fn decode(&self) -> bool {
        decode_business(black_box(MESSAGE)).is_ok()
    }

    fn print(&self) -> bool {
        matches!(self.reply.print(black_box(&self.answer)), Printed::Message(_))
    }

    fn answer_len(&self) -> anyhow::Result<usize> {
        match self.reply.print(&self.answer) {
            Printed::Message(bytes) => Ok(bytes.len()),
            Printed::HoldThenClose => bail!("an issued invoice is told"),
        }
    }
}

/// One request and its answer; callgrind counts within it.
#[inline(never)]
fn legacy_round(round: &LegacyRound) {
    black_box(round.decode());
    black_box(round.print());
}

/// Median time of one call of each, which take turns by batches.
fn medians<const N: usize>(calls: [&dyn Fn() -> bool; N]) -> [Duration; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..BATCHES {
        for (call, times) in calls.iter().zip(&mut times) {
            let start = monotonic();
            for _ in 0..CALLS {
                black_box(call());
            }
            times.push(start.elapsed() / CALLS);
        }
    }
    times.map(|mut times: Vec<Duration>| {
        times.sort_unstable();
        times[BATCHES / 2]
    })
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
        forbidden: skproxy::registry::Forbidden::default(),
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
        connection: None,
    }
}
