//! `skproxy authority-sim`: the acceptance simulator in the foreground.

use super::{Exit, output};
use crate::{
    authority::{AuthoritySim, Options, Script, TlsFiles, import_package},
    clock::Clock,
};
use anyhow::Result;
use clap::{Args, Subcommand};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct SimulateArguments {
    #[command(subcommand)]
    command: Option<SimulateCommand>,
    #[command(flatten)]
    run: Option<RunArguments>,
}

#[derive(Debug, Subcommand)]
enum SimulateCommand {
    /// Judge a package that came without a line, and write its receipts
    ImportPackage {
        /// Package, of `skproxy outbox export`
        file: PathBuf,
        /// The simulator's books and receipt key
        #[arg(long)]
        dir: PathBuf,
        /// Where the receipts go, for `skproxy outbox import`
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Its books and receipt key; made when missing
    #[arg(long)]
    dir: PathBuf,
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:7450")]
    listen: SocketAddr,
    /// CA of the proxies' client certificates, PEM
    #[arg(long)]
    ca: PathBuf,
    /// Its certificate, PEM
    #[arg(long)]
    cert: PathBuf,
    /// Its key, PEM
    #[arg(long)]
    key: PathBuf,
    /// Region of the codes that it hands out, four digits
    #[arg(long, default_value = "4400")]
    region: String,
}

pub(super) async fn run(arguments: SimulateArguments) -> Result<Exit> {
    match arguments {
        SimulateArguments { command: Some(command), .. } => import(command),
        SimulateArguments { run: Some(run), .. } => serve(run).await,
        SimulateArguments { .. } => anyhow::bail!("nothing was asked for"),
    }
}

fn import(SimulateCommand::ImportPackage { file, dir, out }: SimulateCommand) -> Result<Exit> {
    super::quiet_log();
    let imported = import_package(&file, &dir, &out, &Clock::system())?;
    output::say(&format!("{} batches judged, {} receipts", imported.batches, imported.receipts))?;
    Ok(Exit::Done)
}

async fn serve(arguments: RunArguments) -> Result<Exit> {
    super::log(tracing_subscriber::filter::LevelFilter::INFO, false);
    let receipt_key = arguments.dir.join("receipt-key.der");
    let tls = TlsFiles { client_ca: arguments.ca, cert: arguments.cert, key: arguments.key };
    let options = Options {
        address: arguments.listen,
        dir: arguments.dir,
        tls,
        region: arguments.region,
        clock: Clock::system(),
        script: Script::default(),
    };
    let end = async {
        if let Err(error) = super::asked_to_end().await {
            tracing::error!(%error, "signals cannot be heard");
        }
    };
    AuthoritySim::run(options, end, |running| {
        let address = running.address;
        let key = receipt_key.display();
        let said = output::say(&format!("acceptance simulator on {address}, receipt key {key}"));
        if let Err(error) = said {
            tracing::warn!(%error, "stdout is closed");
        }
    })
    .await?;
    Ok(Exit::Done)
}
