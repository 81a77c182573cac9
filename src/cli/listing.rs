//! `skproxy client list`: reads a list as far as it is told and prints it as one value.

use super::{
    Exit,
    client::{issued_line, refusal, refused, voided_line},
    output::{self, Format, Names},
};
use crate::pb::v1::{self as pb, invoice_service_client::InvoiceServiceClient};
use anyhow::Result;
use clap::Args;
use serde_json::Value;
use tonic::{Status, transport::Channel};

/// What to list.
#[derive(Debug, Args)]
pub(crate) struct Window {
    /// Seller's taxpayer id
    #[arg(long)]
    taxpayer: String,
    /// First issue time, RFC 3339, for example 2026-01-01T00:00:00+08:00
    #[arg(long)]
    from: String,
    /// Issue time to stop before, RFC 3339
    #[arg(long)]
    until: String,
    /// Go on after the invoice with this cursor
    #[arg(long, default_value = "")]
    cursor: String,
    /// Invoices at most; they are kept in memory until they are printed
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

/// What was read, and why it ended.
struct Read {
    invoices: Vec<pb::ListInvoicesResponse>,
    more: bool,
    failed: Option<Status>,
}

/// Lists, and prints what came: also the beginning of a list that broke off.
pub(super) async fn run(
    client: &mut InvoiceServiceClient<Channel>,
    window: Window,
    format: Format,
) -> Result<Exit> {
    let read = read(client, window).await;
    let lines = read.invoices.iter().map(|response| match &response.voided {
        Some(voided) => voided_line(voided),
        None => issued_line(&response.issued.clone().unwrap_or_default()),
    });
    match (format, &read.failed) {
        (Format::Text, failed) => {
            lines.into_iter().try_for_each(|line| output::say(&line))?;
            if read.more {
                let cursor = read.invoices.last().map_or("", |last| last.cursor.as_str());
                eprintln!("there may be more: --cursor {cursor}");
            }
            failed.as_ref().map_or(Ok(Exit::Done), |status| refused(status, format))
        }
        (Format::Json, None) => {
            output::say_json(&whole(&read)?)?;
            Ok(Exit::Done)
        }
        (Format::Json, Some(status)) => {
            output::say_json(&whole(&read)?)?;
            Ok(super::client::exit_of(status))
        }
    }
}

async fn read(client: &mut InvoiceServiceClient<Channel>, window: Window) -> Read {
    let Window { taxpayer, from, until, cursor, limit } = window;
    let request = pb::ListInvoicesRequest { taxpayer_id: taxpayer, from, until, cursor };
    let mut read = Read { invoices: Vec::new(), more: false, failed: None };
    let mut stream = match client.list_invoices(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return Read { failed: Some(status), ..read },
    };
    while read.invoices.len() < limit {
        match stream.message().await {
            Ok(Some(response)) => read.invoices.push(response),
            Ok(None) => return read,
            Err(status) => return Read { failed: Some(status), more: true, ..read },
        }
    }
    Read { more: true, ..read }
}

/// The one value: every response, whether there may be more, and what broke the list off.
fn whole(read: &Read) -> Result<Value> {
    let json =
        |response| output::to_json("skproxy.v1.ListInvoicesResponse", response, Names::Canonical);
    let invoices = read.invoices.iter().map(json).collect::<Result<Vec<_>>>()?;
    let mut whole = serde_json::json!({ "invoices": invoices, "more": read.more });
    if let (Some(status), Some(object)) = (&read.failed, whole.as_object_mut()) {
        object.insert("refused".to_owned(), refusal(status));
    }
    Ok(whole)
}
