//! `skproxy config check`: every mistake at once, or what was understood.

use super::Exit;
use crate::{
    config::{Config, ConfigMistake},
    engine::load_profiles,
};
use anyhow::Result;
use clap::Subcommand;
use std::path::{Path, PathBuf};

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
    match load(config) {
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

/// Reads a settings file and the rule profiles that it names.
pub(super) fn load(path: &Path) -> Result<Config, Vec<ConfigMistake>> {
    let config = Config::load(path)?;
    load_profiles(config.profiles_dir.as_deref())?;
    Ok(config)
}

/// Says every mistake on stderr.
pub(super) fn report(mistakes: &[ConfigMistake]) -> Exit {
    for mistake in mistakes {
        eprintln!("skproxy: {mistake}");
    }
    Exit::Usage
}
