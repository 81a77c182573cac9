//! `skproxy authority-sim`: the acceptance simulator in the foreground.

use super::{Exit, output};
use crate::{
    authority::{AuthoritySim, Options, Script, TlsFiles},
    clock::Clock,
};
use anyhow::Result;
use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

#[derive(Debug, Args)]
pub(super) struct SimulateArguments {
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
