//! `skproxy verify`: offline proof that the books add up.

use super::{
    Exit,
    output::{self, Format},
};
use crate::{
    pb::v1 as pb,
    registry::Device,
    signer,
    store::{
        embedded::Options,
        verify::{self, Findings, Subject},
    },
};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// Data directory of a daemon that is not running
    #[arg(long)]
    data: PathBuf,
    /// Watermark file; in the data directory unless given
    #[arg(long)]
    watermark: Option<PathBuf>,
    /// The directory is a backup, which has no watermark
    #[arg(long, conflicts_with = "watermark")]
    backup: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &VerifyArguments) -> Result<Exit> {
    let mut options = Options::in_dir(&arguments.data);
    if let Some(watermark) = &arguments.watermark {
        options.watermark.clone_from(watermark);
    }
    let subject = if arguments.backup { Subject::Backup } else { Subject::DataDirectory };
    let findings = verify::verify(&options, subject, &check_signature)?;
    match arguments.format {
        Format::Text => output::say(&text(&findings, subject))?,
        Format::Json => output::say_json(&serde_json::json!({
            "ok": findings.problems.is_empty(),
            "backup": subject == Subject::Backup,
            "commits": findings.commits,
            "claims": findings.claims,
            "issued": findings.issued,
            "voided": findings.voided,
            "open": findings.open,
            "problems": findings.problems,
        }))?,
    }
    Ok(if findings.problems.is_empty() { Exit::Done } else { Exit::Refused })
}

fn text(findings: &Findings, subject: Subject) -> String {
    let Findings { claims, issued, voided, open, commits, problems } = findings;
    let mut lines = vec![format!(
        "{commits} commits, {claims} claims: {issued} issued, {voided} voided, {open} open"
    )];
    lines.extend(problems.iter().map(|problem| format!("PROBLEM: {}", output::plain(problem))));
    if subject == Subject::Backup {
        lines.push(format!(
            "a backup has no watermark: nothing tells what came after commit {commits}"
        ));
    }
    lines.push(match problems.len() {
        0 => "the books add up".to_owned(),
        count => format!(
            "{count} problems; keep the data directory as it is and compare with the acceptance"
        ),
    });
    lines.join("\n")
}

/// Checks a signature with the device's registered key, by an implementation that did not make it.
///
/// # Errors
/// What is wrong.
pub(super) fn check_signature(
    device: &Device,
    head: &[u8],
    invoice: &pb::Invoice,
) -> Result<(), String> {
    if device.public_key.is_empty() {
        return Ok(()); // the device keeps its key; only it can tell
    }
    if invoice.signer_key != crate::convert::sha256(&device.public_key) {
        return Err("it names another signing key than the device's".into());
    }
    let algorithm = invoice.signature_algorithm();
    if signer::verify_independently(algorithm, &device.public_key, head, &invoice.signature) {
        Ok(())
    } else {
        Err("its signature does not verify".into())
    }
}
