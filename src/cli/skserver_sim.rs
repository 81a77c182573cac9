//! `skproxy skserver-sim`: the simulator of a networked tax-control server in the foreground.

use super::{
    Exit,
    output::{self, Format},
};
use crate::{
    clock::Clock,
    skserver_sim::{self, Chance, Change, Options, RunningSim, SimError, Strike},
};
use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use std::{fs, net::SocketAddr, path::PathBuf};

/// What `--help` tells beside the options.
const HELP: &str = "\
Devices send to  POST /SKServer/SKDo  (text/xml in GBK):
  10004 current number   10005 stock        10008 issue      10009 void
  10010 query            20002 tax key      SKSBXXCX, DJXXCX device and taxpayer
  JKXXCX limits          SQSLCX rates       FPSCJGHQ write the result of an upload back

Faults, each as  [ID/]NAME[=DURATION]; ID is an operation or *, 10008 when left out:
  none               nothing; keeps a place in a script
  delay=50ms         the answer comes later
  drop-request       the request is not heard, no answer
  drop-answer        done, no answer
  late=2s            done after this time, no answer
  answer-twice       done, and the operation's previous answer comes once more
  wrong-serial       10008: booked under another serial; 10010: told so
  wrong-total        10008: booked one fen higher; 10010: told so
  wrong-encoding     declares gbk, is UTF-8
  outside-number     draws a number outside every segment
  issued-by-another  an invoice of somebody else is booked first
  clock-back[=24h]   the device's clock is back
  locked             PIN locked (0x0963c0), nothing is done
  busy               the device is in use (-10314), nothing is done
  unknown-code       done, and answered with a code that nobody knows
  http-500           HTTP 500, nothing is done
  http-500-after     done, then HTTP 500
  reset-before       connection reset, nothing is done
  reset-after        done, then connection reset
  garbage            done, then no XML

At run time, as JSON:
  POST /sim/faults   {\"script\": [\"drop-answer\", \"10010/delay=1s\"],
                      \"random\": [\"delay=50ms:0.1\"], \"seed\": 7, \"clear\": true}
                     script: one fault for one request each, added at the end
                     random: faults with a probability, in place of those before
                     seed: start the sequence of chances again; clear: empty the script first
  GET  /sim/faults   what is still to come
  GET  /sim/issued   every invoice and void that it booked, for whoever judges from outside

The admin calls ask for no password: listen on loopback, as by default.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct SkServerSimArguments {
    /// Its devices, TOML; deploy/skserver-sim.toml is an example
    #[arg(long)]
    devices: PathBuf,
    /// Its state, a SQLite file; made when missing
    #[arg(long)]
    state: PathBuf,
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Its certificate, PEM, for HTTPS; HTTP without it
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// A fault and its probability, as delay=50ms:0.1; may be given again
    #[arg(long = "fault", value_name = "FAULT[:PROBABILITY]")]
    faults: Vec<Chance>,
    /// Seed of the probabilities
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Faults in their order, one a line, # starts a comment
    #[arg(long)]
    script: Option<PathBuf>,
    /// How the address is printed once it serves; json is one line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(arguments: SkServerSimArguments) -> Result<Exit> {
    super::log(tracing_subscriber::filter::LevelFilter::INFO, false);
    let script = match &arguments.script {
        None => Vec::new(),
        Some(path) => {
            let text =
                fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            read_script(&text).with_context(|| format!("{}", path.display()))?
        }
    };
    let change =
        Change { script, random: Some(arguments.faults), seed: Some(arguments.seed), clear: false };
    let options = Options {
        address: arguments.listen,
        devices: arguments.devices,
        state: arguments.state,
        tls: arguments.cert.zip(arguments.key),
        clock: Clock::system(),
    };
    let end = async {
        if let Err(error) = super::asked_to_end().await {
            tracing::error!(%error, "signals cannot be heard");
        }
    };
    let ready = |running: &RunningSim| {
        if let Err(error) = running.faults.change(change) {
            tracing::error!(error, "the fault menu is empty");
        }
        if let Err(error) = output::say(&said(running, arguments.format)) {
            tracing::warn!(%error, "stdout is closed");
        }
    };
    match skserver_sim::run(&options, end, ready).await {
        Err(error @ SimError::Devices { .. }) => {
            eprintln!("skproxy: {error}");
            Ok(Exit::Usage)
        }
        result => Ok(result.map(|()| Exit::Done)?),
    }
}

fn said(running: &RunningSim, format: Format) -> String {
    match format {
        Format::Text => format!("tax server simulator at {}", running.url),
        Format::Json => {
            let address = running.address.to_string();
            serde_json::json!({ "address": address, "url": running.url }).to_string()
        }
    }
}

fn read_script(text: &str) -> Result<Vec<Strike>> {
    let lines = text.lines().enumerate().map(|(at, line)| {
        (at.saturating_add(1), line.split('#').next().unwrap_or_default().trim())
    });
    let wanted = lines.filter(|(_, line)| !line.is_empty());
    wanted.map(|(at, line)| line.parse().map_err(|error| anyhow!("line {at}: {error}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_a_fault_a_line() {
        let script = read_script("# first\ndrop-answer\n\n10010/delay=1s # slow\n").unwrap();
        let printed: Vec<_> = script.iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["10008/drop-answer", "10010/delay=1000ms"]);
        let wrong = read_script("none\nsleep\n").unwrap_err();
        assert!(wrong.to_string().starts_with("line 2"), "{wrong}");
    }

    #[test]
    fn the_help_names_every_fault() {
        for line in HELP.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
            let name = line.trim_start().split([' ', '[', '=']).next().unwrap_or_default();
            let is_fault = name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if is_fault && !name.is_empty() && !["http", "https"].contains(&name) {
                let known = [name.to_owned(), format!("{name}=1s")];
                let read = known.iter().any(|text| text.parse::<Strike>().is_ok());
                assert!(read || name.starts_with("http-500"), "{name}");
            }
        }
    }
}
