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
use anyhow::{Context as _, Result};
use clap::Args;
use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// Package to check, of `skproxy outbox export`
    #[arg(required_unless_present = "data", conflicts_with_all = ["data", "watermark", "backup"])]
    file: Option<PathBuf>,
    /// The key that the package must be signed with, of `skproxy outbox key`, PEM; without it only
    /// its wholeness is proved
    #[arg(long, conflicts_with = "data")]
    key: Option<PathBuf>,
    /// Data directory of a daemon that is not running
    #[arg(long)]
    data: Option<PathBuf>,
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
    let Some(data) = &arguments.data else { return package(arguments) };
    let mut options = Options::in_dir(data);
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

/// Checks a package.
fn package(arguments: &VerifyArguments) -> Result<Exit> {
    let path = arguments.file.as_ref().context("name a package")?;
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let key = arguments.key.as_deref().map(read_key).transpose()?;
    let checked = crate::package::check(BufReader::new(file), key.as_deref());
    let (exit, value) = match &checked {
        Ok(checked) => (
            Exit::Done,
            serde_json::json!({
                "ok": true,
                "package_id": crate::convert::hex(&checked.header.package_id),
                "made_at": checked.header.made_at,
                "batches": checked.batches,
                "items": checked.items,
                "statement_key": checked.key_hash(),
                "key_checked": key.is_some(),
            }),
        ),
        Err(error) => {
            let problem = crate::refusal::chain(error);
            (Exit::Refused, serde_json::json!({"ok": false, "problems": [problem]}))
        }
    };
    match (arguments.format, checked) {
        (Format::Json, _) => output::say_json(&value)?,
        (Format::Text, Err(error)) => {
            output::say(&format!("PROBLEM: {}", crate::refusal::chain(&error)))?;
        }
        (Format::Text, Ok(checked)) => {
            let known =
                if key.is_some() { "the key given" } else { "a key that nobody vouches for" };
            output::say(&format!(
                "package {} of {}: {} batches, {} items, whole, signed with {known}, {}",
                crate::convert::hex(&checked.header.package_id),
                output::plain(&checked.header.made_at),
                checked.batches,
                checked.items,
                checked.key_hash(),
            ))?;
        }
    }
    Ok(exit)
}

/// A public key, PEM, as DER.
fn read_key(path: &Path) -> Result<Vec<u8>> {
    use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
    let what = || format!("read the key {}", path.display());
    let pem = fs::read_to_string(path).with_context(what)?;
    let key = p256::PublicKey::from_public_key_pem(&pem).with_context(what)?;
    Ok(key.to_public_key_der().with_context(what)?.into_vec())
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
