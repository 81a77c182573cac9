//! `skproxy config check`: every mistake at once, or what was understood.

use super::Exit;
use crate::config::Config;
use anyhow::Result;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Report every mistake in a settings file, or print what was understood
    Check {
        /// Settings file
        #[arg(long)]
        config: PathBuf,
    },
}

pub(super) fn run(command: &ConfigCommand) -> Result<Exit> {
    let ConfigCommand::Check { config } = command;
    match Config::load(config) {
        Ok(config) => {
            for note in &config.notes {
                eprintln!("note: {note}");
            }
            super::output::say(&config.describe())?;
            Ok(Exit::Done)
        }
        Err(mistakes) => Ok(report(&mistakes)),
    }
}

/// Says every mistake on stderr.
pub(super) fn report(mistakes: &[crate::config::ConfigMistake]) -> Exit {
    for mistake in mistakes {
        eprintln!("skproxy: {mistake}");
    }
    Exit::Usage
}
