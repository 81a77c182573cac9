//! Load client of skproxy: issues invoices over mTLS and says what one costs.
//!
//! Quotes connections × calls in flight with every figure, since the CPU per request depends on
//! them more than on anything else. It costs as much CPU as the server, so it finds the server's
//! cost per invoice, not its limit; pin the two to different cores and give both `chrt -f 10` for
//! figures that repeat (see bench/README.md).

mod draft;
mod load;
mod machine;
mod report;
mod target;

use anyhow::Context as _;
use clap::Parser;
use std::{path::PathBuf, process::ExitCode, time::Duration};

use load::Plan;
use report::Report;
use target::Demo;

/// Issues invoices over mTLS and says what one costs.
#[derive(Debug, Parser)]
struct Arguments {
    /// What `skproxy demo --format json` printed; `-` is standard input.
    #[arg(long)]
    demo: PathBuf,
    /// Connections to open.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: u32,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    in_flight: u32,
    /// How long to issue, after a warm-up of a tenth of it. Unit: seconds.
    #[arg(long, default_value_t = 10, conflicts_with = "count")]
    seconds: u64,
    /// How many invoices to issue, instead of a time.
    #[arg(long)]
    count: Option<u64>,
    /// Process whose CPU time is charged to the invoices.
    #[arg(long)]
    server_pid: Option<u32>,
    /// A directory on the disk that the server writes to, to measure fdatasync on.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Words for the result: what was special about this run.
    #[arg(long, default_value = "")]
    note: String,
    /// Appends the result to NAME.jsonl and NAME.txt, for example bench/results/2026-11.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Exit codes as skproxy's: 0 done, 1 some calls failed, 2 usage, 3 failure.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) if report.failures() == 0 && report.issued > 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("skproxy-bench: {error:#}");
            ExitCode::from(3)
        }
    }
}

#[tokio::main]
async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let demo = Demo::read(&arguments.demo).context("read what the demo printed")?;
    let fdatasync = match &arguments.data_dir {
        Some(dir) => Some(machine::fdatasync(dir).context("measure fdatasync")?),
        None => None,
    };
    let plan = Plan {
        connections: arguments.connections,
        in_flight: arguments.in_flight,
        time: Duration::from_secs(arguments.seconds),
        count: arguments.count,
        server_pid: arguments.server_pid,
    };
    let measured = load::run(&demo, &plan).await?;
    let report = Report::new(&plan, measured, fdatasync, &arguments.note);
    println!("{}", report.text());
    if let Some(out) = &arguments.out {
        report.append_to(out).with_context(|| format!("write {}", out.display()))?;
    }
    Ok(report)
}
