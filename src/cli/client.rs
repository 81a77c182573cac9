//! `skproxy client`: issues and asks as a platform would, over the same mutual TLS.

use super::{
    Exit,
    listing::{self, Window},
    output::{self, Format, Names},
};
use crate::{
    clock,
    pb::v1::{self as pb, invoice_service_client::InvoiceServiceClient},
    transport::{ClientTls, channel},
};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use std::{io::Read as _, path::PathBuf, time::Duration};
use tonic::{Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// How long a call may take. Unit: seconds.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Where to connect, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// Address of the proxy, host:port
    #[arg(long, default_value = "127.0.0.1:7443")]
    pub(crate) address: String,
    /// Name to check in its certificate; the host of the address unless given
    #[arg(long)]
    pub(crate) server_name: Option<String>,
    /// CA of its certificate, PEM
    #[arg(long)]
    pub(crate) ca: PathBuf,
    /// The platform's certificate, PEM
    #[arg(long)]
    pub(crate) cert: PathBuf,
    /// The platform's key, PEM
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// How to print; JSON is canonical proto3 JSON of skproxy.v1.Outcome
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Which request is asked for.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// Seller's taxpayer id
    #[arg(long)]
    pub(crate) taxpayer: String,
    /// Request serial
    #[arg(long)]
    pub(crate) serial: String,
}

/// `skproxy client …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Issue an invoice (开具发票)
    Issue {
        #[command(flatten)]
        connection: Connection,
        /// The draft as JSON (skproxy.v1.InvoiceDraft); `-` is standard input
        #[arg(long)]
        draft: PathBuf,
        /// Use this serial instead of the draft's
        #[arg(long, conflicts_with = "fresh_serial")]
        serial: Option<String>,
        /// Use a new random serial, so that each call issues another invoice
        #[arg(long)]
        fresh_serial: bool,
    },
    /// Check a draft as issuing would, and spend nothing (校验)
    Validate {
        #[command(flatten)]
        connection: Connection,
        /// The draft as JSON (skproxy.v1.InvoiceDraft); `-` is standard input
        #[arg(long)]
        draft: PathBuf,
    },
    /// List own invoices of a taxpayer by issue time; JSON is {"invoices": […], "more": …}
    List {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        window: Window,
    },
    /// Say what is known of a serial; not final
    Get {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        asked: Asked,
    },
    /// The final word on a serial: the invoice, or the unused serial is closed for ever
    Resolve {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        asked: Asked,
    },
}

pub(super) async fn run(command: ClientCommand) -> Result<Exit> {
    let (connection, answer) = match command {
        ClientCommand::Validate { connection, draft } => {
            let request = pb::ValidateInvoiceRequest { draft: Some(read_draft(&draft)?) };
            let answer = connect(&connection).await?.validate_invoice(timed(request)).await;
            return match answer {
                Ok(answer) => valid(&answer.into_inner(), connection.format),
                Err(status) => refused(&status, connection.format),
            };
        }
        ClientCommand::List { connection, window } => {
            return listing::run(&mut connect(&connection).await?, window, connection.format).await;
        }
        ClientCommand::Issue { connection, draft, serial, fresh_serial } => {
            let mut draft = read_draft(&draft)?;
            if let Some(serial) = serial {
                draft.serial = serial;
            } else if fresh_serial {
                draft.serial = clock::random_text(20);
            }
            let answer = issue(&mut connect(&connection).await?, draft).await;
            (connection, answer)
        }
        ClientCommand::Get { connection, asked } => {
            let request =
                pb::GetInvoiceRequest { taxpayer_id: asked.taxpayer, serial: asked.serial };
            let answer = connect(&connection).await?.get_invoice(timed(request)).await;
            (connection, answer.map(|answer| answer.into_inner().outcome))
        }
        ClientCommand::Resolve { connection, asked } => {
            let request =
                pb::ResolveInvoiceRequest { taxpayer_id: asked.taxpayer, serial: asked.serial };
            let answer = connect(&connection).await?.resolve_invoice(timed(request)).await;
            (connection, answer.map(|answer| answer.into_inner().outcome))
        }
    };
    match answer {
        Ok(outcome) => say(&outcome.unwrap_or_default(), connection.format),
        Err(status) => refused(&status, connection.format),
    }
}

fn read_draft(path: &PathBuf) -> Result<pb::InvoiceDraft> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("read the draft")?;
    } else {
        text = std::fs::read_to_string(path)
            .with_context(|| format!("read the draft {}", path.display()))?;
    }
    output::from_json("skproxy.v1.InvoiceDraft", &text)
        .with_context(|| format!("understand the draft {}", path.display()))
}

/// Connects as `connection` says.
///
/// # Errors
/// When files cannot be read, or nothing answers.
pub(crate) async fn connect(connection: &Connection) -> Result<InvoiceServiceClient<Channel>> {
    let tls = ClientTls::load(&connection.ca, &connection.cert, &connection.key)?;
    let host = connection.address.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = connection.server_name.as_deref().unwrap_or(host);
    let channel = channel(&connection.address, name, &tls).await?;
    Ok(InvoiceServiceClient::new(channel))
}

/// Issues one invoice.
///
/// # Errors
/// The status of a refusal.
pub(crate) async fn issue(
    client: &mut InvoiceServiceClient<Channel>,
    draft: pb::InvoiceDraft,
) -> Result<Option<pb::Outcome>, Status> {
    let request = timed(pb::IssueInvoiceRequest { draft: Some(draft) });
    Ok(client.issue_invoice(request).await?.into_inner().outcome)
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

fn say(outcome: &pb::Outcome, format: Format) -> Result<Exit> {
    use pb::outcome::Result as Wire;
    if format == Format::Json {
        output::say_json(&output::to_json("skproxy.v1.Outcome", outcome, Names::Canonical)?)?;
    }
    let (line, exit) = match &outcome.result {
        Some(Wire::Issued(issued)) => (issued_line(issued), Exit::Done),
        Some(Wire::InDoubt(doubt)) => (
            format!("IN_DOUBT: ask `skproxy client resolve` after {} ms", doubt.ask_after_ms),
            Exit::InDoubt,
        ),
        Some(Wire::Voided(voided)) => (voided_line(voided), Exit::Refused),
        Some(Wire::Closed(closed)) => {
            (format!("CLOSED unused at {}", closed.closed_at), Exit::Refused)
        }
        Some(Wire::Unknown(_)) => {
            ("UNKNOWN so far; `skproxy client resolve` gives the final word".into(), Exit::InDoubt)
        }
        None => ("the answer holds no outcome".into(), Exit::Failure),
    };
    if format == Format::Text {
        output::say(&line)?;
    }
    Ok(exit)
}

/// Prints what a dry run found.
fn valid(response: &pb::ValidateInvoiceResponse, format: Format) -> Result<Exit> {
    if format == Format::Json {
        let name = "skproxy.v1.ValidateInvoiceResponse";
        output::say_json(&output::to_json(name, response, Names::Canonical)?)?;
        return Ok(Exit::Done);
    }
    for warning in &response.warnings {
        let pb::RuleWarning { field, reason, message, .. } = warning;
        eprintln!("  {}: {reason}: {}", output::plain(field), output::plain(message));
    }
    match &response.known {
        None => output::say("VALID, nothing was spent").map(|()| Exit::Done),
        Some(known) => say(known, format),
    }
}

pub(super) fn voided_line(voided: &pb::Voided) -> String {
    let pb::Voided { code, number, reason, voided_at, .. } = voided;
    format!("VOIDED {code} {number} at {voided_at}: {}", output::plain(reason))
}

pub(super) fn issued_line(issued: &pb::Issued) -> String {
    let invoice = issued.invoice.clone().unwrap_or_default();
    let delivery = issued.delivery.clone().unwrap_or_default();
    let delivered = match delivery.receipt {
        Some(receipt) => format!("receipt {} index {}", receipt.id, receipt.index),
        None => "delivery pending".to_owned(),
    };
    format!(
        "ISSUED {} {} at {}, check code {}, {delivered}",
        invoice.code, invoice.number, invoice.issue_time, invoice.check_code
    )
}

pub(super) fn refused(status: &Status, format: Format) -> Result<Exit> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice());
    let violations = violations.unwrap_or_default();
    match format {
        Format::Json => output::say_json(&serde_json::json!({ "refused": refusal(status) }))?,
        Format::Text => {
            eprintln!("REFUSED {}", output::plain(status.message()));
            for violation in violations {
                let (field, text) = (&violation.field, &violation.description);
                eprintln!("  {}: {}", output::plain(field), output::plain(text));
            }
        }
    }
    Ok(exit_of(status))
}

/// Without a reason of ours it is the transport that failed: nothing is known.
pub(super) fn exit_of(status: &Status) -> Exit {
    let known = status.get_error_details().error_info().is_some();
    if known { Exit::Refused } else { Exit::InDoubt }
}

/// A refusal as JSON.
pub(super) fn refusal(status: &Status) -> serde_json::Value {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("", |info| info.reason.as_str());
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice());
    let violations = violations.unwrap_or_default().iter();
    serde_json::json!({
        "code": format!("{:?}", status.code()),
        "reason": reason,
        "message": status.message(),
        "violations": violations
            .map(|v| serde_json::json!({"field": v.field, "description": v.description}))
            .collect::<Vec<_>>(),
    })
}
