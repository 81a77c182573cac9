//! The commands: data to stdout, talk to stderr, one exit code enum. `--format json` prints exactly
//! one JSON value.

pub mod certs;
pub mod client;
mod config;
pub mod demo;
pub mod explain;
mod listing;
mod operate;
pub mod output;
mod resume;
mod serve;
mod sidecar;
mod simulate;
mod skserver_sim;
mod verify;

use clap::{Parser, Subcommand};
use operate::OperateCommand;
use output::Format;
use std::{path::PathBuf, process::ExitCode};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Refused, or a mismatch was found.
    Refused,
    /// Usage or configuration.
    Usage,
    /// Failure.
    Failure,
    /// In doubt: ask again.
    InDoubt,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Failure => 3,
            Exit::InDoubt => 4,
        })
    }
}

/// skproxy: a security proxy for VAT tax-control servers (税控服务器安全代理).
///
/// Exit codes: 0 done, 1 refused or mismatch found, 2 usage or configuration, 3 failure, 4 in
/// doubt.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on loopback and issue an invoice: development CA, acceptance simulator, proxy
    Demo(demo::DemoArguments),
    /// Run the proxy
    Serve {
        /// Settings file; deploy/skproxy.toml has every key
        #[arg(long)]
        config: PathBuf,
    },
    /// Look at settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Make a development CA and certificates; never for production
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Run the acceptance simulator (受理端模拟器)
    AuthoritySim(simulate::SimulateArguments),
    /// Run the simulator of a networked tax-control server (税控服务器模拟器)
    SkserverSim(skserver_sim::SkServerSimArguments),
    /// Issue and ask as a platform would
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Check offline that the books add up: numbers, chain, CRCs, outbox, usage, watermark; or that
    /// a package is whole and signed
    Verify(verify::VerifyArguments),
    /// End a read-only state, above the highest number that any witness knows
    Resume(resume::ResumeArguments),
    /// Explain a reason for a refusal
    Explain {
        /// The reason, for example SERIAL_CONFLICT
        #[arg(required_unless_present = "list")]
        reason: Option<String>,
        /// List every reason
        #[arg(long)]
        list: bool,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Serve one foreign module to the daemon behind stdin
    #[command(hide = true)]
    Sidecar(sidecar::SidecarArguments),
    #[command(flatten)]
    Operate(OperateCommand),
}

/// Runs a command.
pub async fn run(arguments: Arguments) -> Exit {
    let ended = match arguments.command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Serve { config } => serve::run(&config).await,
        Command::Config(command) => config::run(&command),
        Command::Certs(command) => certs::run(&command),
        Command::AuthoritySim(arguments) => simulate::run(arguments).await,
        Command::SkserverSim(arguments) => skserver_sim::run(arguments).await,
        Command::Client(command) => client::run(command).await,
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Resume(arguments) => resume::run(arguments).await,
        Command::Explain { reason, format, .. } => explain_reason(reason.as_deref(), format),
        Command::Sidecar(arguments) => sidecar::run(arguments),
        Command::Operate(command) => operate::run(command).await,
    };
    ended.unwrap_or_else(|error| {
        eprintln!("skproxy: {error:#}");
        Exit::Failure
    })
}

fn explain_reason(reason: Option<&str>, format: Format) -> anyhow::Result<Exit> {
    let format = match format {
        Format::Text => explain::Format::Text,
        Format::Json => explain::Format::Json,
    };
    let page = match reason {
        None => Ok(explain::list(format)),
        Some(reason) => explain::run(reason, format),
    };
    match page {
        Ok(page) => output::say(&page).map(|()| Exit::Done),
        Err(unknown) => {
            eprintln!("skproxy: {unknown}");
            Ok(Exit::Usage)
        }
    }
}

/// Logs to stderr, at WARN unless SKPROXY_LOG says otherwise.
pub(crate) fn quiet_log() {
    log(tracing_subscriber::filter::LevelFilter::WARN, false);
}

/// Logs to stderr. `SKPROXY_LOG` (for example `skproxy=debug`) overrides the level.
pub(crate) fn log(level: tracing_subscriber::filter::LevelFilter, json: bool) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("SKPROXY_LOG")
        .from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::env::var_os("NO_COLOR").is_none() && output::stderr_is_terminal());
    // A second subscriber, as in tests, is refused; the first one stays.
    drop(if json { builder.json().try_init() } else { builder.try_init() });
}

/// Ends when the process is asked to: SIGINT or SIGTERM.
pub(crate) async fn asked_to_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
