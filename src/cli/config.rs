//! `skproxy config check`: every mistake at once, or what was understood.

use super::Exit;
use crate::{
    config::{Config, ConfigMistake},
    contract::Profiles,
    engine::load_profiles,
    legacy::{Seal, SealFiles},
    refusal::chain,
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
            let profiles = load_profiles(config.profiles_dir.as_deref());
            profiles.iter().for_each(say_tax_codes);
            super::output::say(&config.describe())?;
            Ok(Exit::Done)
        }
        Err(mistakes) => Ok(report(&mistakes)),
    }
}

/// Says which profiles have a table of tax codes, since nobody sees that a rule looks at nothing.
fn say_tax_codes(profiles: &Profiles) {
    for profile in profiles.names().filter_map(|name| profiles.get(name)) {
        let (name, codes) = (&profile.name, &profile.tax_codes);
        match (&codes.file, &codes.table) {
            (Some(file), Some(table)) => {
                eprintln!("note: profile {name}: {} tax codes in {file}", table.len());
            }
            _ => eprintln!(
                "note: profile {name}: no table of tax codes; their shape alone is checked"
            ),
        }
    }
}

/// Reads a settings file, the rule profiles that it names, and what signs legacy answers.
pub(super) fn load(path: &Path) -> Result<Config, Vec<ConfigMistake>> {
    let config = Config::load(path)?;
    load_profiles(config.profiles_dir.as_deref())?;
    if let Some(answer) = &config.legacy_answer {
        let files = SealFiles { certificate: answer.cert.clone(), key: answer.key.clone() };
        Seal::load(files).map_err(|error| {
            let (key, problem) = ("legacy.answer_cert".to_owned(), chain(&error));
            let hint = "name a P-256 key and, first in its file, the certificate of it".to_owned();
            vec![ConfigMistake { key, problem, hint }]
        })?;
    }
    Ok(config)
}

/// Says every mistake on stderr.
pub(super) fn report(mistakes: &[ConfigMistake]) -> Exit {
    for mistake in mistakes {
        eprintln!("skproxy: {mistake}");
    }
    Exit::Usage
}
