//! `skproxy resume`: ends a read-only state above the highest number that any witness knows.

use super::{
    Exit,
    output::{self, Format},
};
use crate::{
    config::Config,
    model::{InvoiceNumber, Kind},
    resume::{self, KnownHead, Plan, Wish},
};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// The daemon must not be running. Every acceptance is asked what it holds; numbers above what
/// the books know are left out for ever, stay in doubt, and freeze their series until
/// `series unfreeze`.
/// Before you resume, ask the platforms which serials of the time lost they hold as issued.
#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    /// Settings file of the daemon
    #[arg(long)]
    config: PathBuf,
    /// Why the books may be taken as they are; goes into the audit log
    #[arg(long)]
    reason: String,
    /// A number known from elsewhere, DEVICE:KIND:CODE:NUMBER, for example
    /// D1:026:044002600111:00000042
    #[arg(long, value_parser = known_head)]
    head: Vec<KnownHead>,
    /// Go on although an acceptance does not answer
    #[arg(long)]
    without_acceptance: bool,
    /// Do it; without this the plan is shown
    #[arg(long)]
    yes: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn known_head(text: &str) -> Result<KnownHead, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [device, kind, code, number] = parts.as_slice() else {
        return Err("DEVICE:KIND:CODE:NUMBER is needed".into());
    };
    let kind = kind.parse().ok().and_then(Kind::from_legacy_code);
    let digits = matches!(code.len(), 10 | 12) && code.bytes().all(|byte| byte.is_ascii_digit());
    let number = InvoiceNumber::parse_number(number).ok_or("the number has 8 digits")?;
    Ok(KnownHead {
        device_id: (*device).to_owned(),
        kind: kind.ok_or("the kind is 004, 007, 025, 026 or 028")?,
        number: InvoiceNumber {
            code: digits.then(|| (*code).to_owned()).ok_or("the code has 10 or 12 digits")?,
            number,
        },
    })
}

pub(super) async fn run(arguments: ResumeArguments) -> Result<Exit> {
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => return Ok(super::config::report(&mistakes)),
    };
    if arguments.reason.trim().is_empty() {
        eprintln!("skproxy: --reason says why; it goes into the audit log");
        return Ok(Exit::Usage);
    }
    super::quiet_log();
    let wish = Wish {
        reason: arguments.reason,
        actor: format!("uid {}", rustix::process::getuid().as_raw()),
        heads: arguments.head,
        without_acceptance: arguments.without_acceptance,
        write: arguments.yes,
    };
    let plan = resume::resume(&config, &wish).await?;
    match arguments.format {
        Format::Text => output::say(&text(&plan))?,
        Format::Json => output::say_json(&json(&plan))?,
    }
    Ok(if plan.read_only.is_some() { Exit::Done } else { Exit::Refused })
}

fn text(plan: &Plan) -> String {
    let Some(why) = &plan.read_only else {
        return "the books are not read-only: there is nothing to resume".to_owned();
    };
    let mut lines = vec![format!("read-only: {}", output::plain(why))];
    lines.push(format!("the acceptance was asked about {} series", plan.compared));
    lines.extend(plan.silent.iter().map(|text| format!("NOT HEARD: {}", output::plain(text))));
    for range in &plan.skipped {
        let (device, kind) = (&range.device_id, range.kind.legacy_code());
        lines.push(format!(
            "left out, in doubt: device {device}, kind {kind:03}, {} to {:08}; then `skproxy \
             series unfreeze`",
            range.first, range.last
        ));
    }
    lines.push(if plan.written {
        "resumed: start the daemon".to_owned()
    } else {
        "nothing was changed; add --yes to resume".to_owned()
    });
    lines.join("\n")
}

fn json(plan: &Plan) -> serde_json::Value {
    let skipped = |range: &crate::numbering::Skipped| {
        serde_json::json!({
            "device_id": range.device_id,
            "kind": range.kind.to_wire().as_str_name(),
            "code": range.first.code,
            "first": range.first.number_text(),
            "last": format!("{:08}", range.last),
        })
    };
    serde_json::json!({
        "read_only": plan.read_only,
        "compared": plan.compared,
        "not_heard": plan.silent,
        "skipped": plan.skipped.iter().map(skipped).collect::<Vec<_>>(),
        "resumed": plan.written,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_number_is_read_with_its_device_kind_and_code() {
        let head = known_head("D1:026:044002600111:00000042").unwrap();
        assert_eq!((head.device_id.as_str(), head.kind), ("D1", Kind::ENormal));
        assert_eq!(head.number, InvoiceNumber { code: "044002600111".into(), number: 42 });
        for text in [
            "",
            "D1:026:044002600111",
            "D1:099:044002600111:00000042",
            "D1:026:44:00000042",
            "D1:026:044002600111:42",
            "D1:026:044002600111:00000042:1",
        ] {
            assert!(known_head(text).is_err(), "{text}");
        }
    }
}
