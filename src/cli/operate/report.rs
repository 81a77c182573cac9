//! `skproxy report`: what was issued and voided, and whether meter and acceptance sides say the
//! same. Prints while it reads, so that a report of any size needs no memory.

use super::{
    args::KindName,
    report_args::{ReportCommand, ReportFormat, ReportTarget, ReportWindowArgs},
};
use crate::{
    admin::client::connect,
    cli::{
        Exit,
        output::{self, Names},
    },
    pb::{admin::v1 as pb, v1},
};
use anyhow::{Context as _, Result};
use prost::Message;
use serde_json::{Value, json};
use std::io::{BufWriter, Stdout, Write as _};
use tonic::{Status, Streaming};

const SUMMARY: &[&str] = &[
    "taxpayer_id",
    "platform_id",
    "kind",
    "color",
    "issued_count",
    "issued_amount_fen",
    "issued_tax_fen",
    "issued_total_fen",
    "voided_count",
    "voided_amount_fen",
    "voided_tax_fen",
    "voided_total_fen",
    "blank_count",
];
const DETAIL: &[&str] = &[
    "code",
    "number",
    "kind",
    "color",
    "taxpayer_id",
    "platform_id",
    "device_id",
    "serial",
    "issue_time",
    "amount_fen",
    "tax_fen",
    "total_fen",
    "end",
    "voided_at",
    "delivery",
    "acceptance_serial",
    "void_delivery",
];
const MISMATCH: &[&str] =
    &["reason", "route", "code", "number", "amount_here_fen", "amount_there_fen", "text"];

pub(super) async fn run(command: ReportCommand, target: ReportTarget) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    match command {
        ReportCommand::Summary { window } => {
            let window = Some(wire(window));
            let answer = client.report_summary(pb::ReportSummaryRequest { window }).await;
            let mut table = Table::begin(target.format, "rows", SUMMARY)?;
            let read = read(answer.map(tonic::Response::into_inner), |row| {
                // The sums stand beside the names, in every format.
                let name = "skproxy.v1.SummaryLine";
                let line = row.line.unwrap_or_default();
                let mut value = output::to_json(name, &line, Names::Proto)?;
                value["taxpayer_id"] = row.taxpayer_id.into();
                value["platform_id"] = row.platform_id.into();
                table.row(&value)
            });
            let ended = read.await?;
            table.end(ended, &json!({}))
        }
        ReportCommand::Detail { window } => {
            let window = Some(wire(window));
            let answer = client.report_detail(pb::ReportDetailRequest { window }).await;
            let mut table = Table::begin(target.format, "rows", DETAIL)?;
            let read = read(answer.map(tonic::Response::into_inner), |row| {
                table.row(&value("ReportDetailResponse", &row)?)
            });
            let ended = read.await?;
            table.end(ended, &json!({}))
        }
        ReportCommand::Compare { window, full } => {
            let window = Some(wire(window));
            let answer = client.reconcile(pb::ReconcileRequest { window, full }).await;
            let mut table = Table::begin(target.format, "mismatches", MISMATCH)?;
            let mut sides = Vec::new();
            let read = read(answer.map(tonic::Response::into_inner), |row| match row.news {
                Some(pb::reconcile_response::News::Mismatch(mismatch)) => {
                    table.row(&value("Mismatch", &mismatch)?)
                }
                Some(pb::reconcile_response::News::Side(side)) => {
                    eprintln!("{}", side_text(&side));
                    sides.push(value("SideResult", &side)?);
                    Ok(())
                }
                None => Ok(()),
            });
            let ended = read.await?;
            table.end(ended, &json!({ "sides": sides }))
        }
    }
}

fn wire(window: ReportWindowArgs) -> pb::ReportWindow {
    pb::ReportWindow {
        from: window.from,
        until: window.until,
        taxpayer_id: window.taxpayer.unwrap_or_default(),
        platform_id: window.platform.unwrap_or_default(),
        kind: window.kind.map_or(v1::InvoiceKind::Unspecified.into(), KindName::wire),
    }
}

fn value(name: &str, message: &impl Message) -> Result<Value> {
    output::to_json(&format!("skproxy.admin.v1.{name}"), message, Names::Proto)
}

fn side_text(side: &pb::SideResult) -> String {
    let pb::SideResult { route, compared, mismatches, moving_days } = side;
    let (what, unit) = match route.as_str() {
        "" => ("the meter".to_owned(), "days"),
        route => (format!("the acceptance side of {route}"), "numbers"),
    };
    let how = match compared {
        0 => "the sums are equal".to_owned(),
        count => format!("{count} {unit} compared"),
    };
    let moving = match moving_days.as_slice() {
        [] => String::new(),
        days => format!("; not compared, still moving: {}", days.join(" ")),
    };
    format!("{what}: {how}, {mismatches} differences{moving}")
}

/// Hands every row of a stream on; answers how it ended.
async fn read<M>(
    answer: Result<Streaming<M>, Status>,
    mut each: impl FnMut(M) -> Result<()>,
) -> Result<Option<Status>> {
    let mut stream = match answer {
        Ok(stream) => stream,
        Err(status) => return Ok(Some(status)),
    };
    loop {
        match stream.message().await {
            Ok(Some(row)) => each(row)?,
            Ok(None) => return Ok(None),
            Err(status) => return Ok(Some(status)),
        }
    }
}

/// Rows as they come: lines for people, RFC 4180 with a header, or one JSON value.
enum Table {
    Text { out: BufWriter<Stdout>, columns: &'static [&'static str] },
    Csv { out: csv::Writer<Stdout>, columns: &'static [&'static str] },
    Json { out: BufWriter<Stdout>, any: bool },
}

impl Table {
    fn begin(format: ReportFormat, name: &str, columns: &'static [&'static str]) -> Result<Self> {
        let stdout = std::io::stdout();
        Ok(match format {
            ReportFormat::Text => Self::Text { out: BufWriter::new(stdout), columns },
            ReportFormat::Csv => {
                let terminator = csv::Terminator::CRLF;
                let mut out = csv::WriterBuilder::new().terminator(terminator).from_writer(stdout);
                out.write_record(columns).context("write to stdout")?;
                Self::Csv { out, columns }
            }
            ReportFormat::Json => {
                let mut out = BufWriter::new(stdout);
                write!(out, "{{\"{name}\":[").context("write to stdout")?;
                Self::Json { out, any: false }
            }
        })
    }

    fn row(&mut self, row: &Value) -> Result<()> {
        match self {
            Self::Text { out, columns } => {
                let cells =
                    columns.iter().map(|name| format!("{name}={}", super::cell(&row[*name])));
                writeln!(out, "{}", cells.collect::<Vec<_>>().join("  "))
            }
            Self::Csv { out, columns } => {
                let cells = columns.iter().map(|name| raw(&row[*name]));
                out.write_record(cells).map_err(std::io::Error::other)
            }
            Self::Json { out, any } => {
                let comma = if std::mem::replace(any, true) { "," } else { "" };
                write!(out, "{comma}\n{row}")
            }
        }
        .context("write to stdout")
    }

    /// Ends the table, and says how the stream ended. `more` goes into the JSON value.
    fn end(self, ended: Option<Status>, more: &Value) -> Result<Exit> {
        match self {
            Self::Text { mut out, .. } => out.flush(),
            Self::Csv { mut out, .. } => out.flush(),
            Self::Json { mut out, .. } => {
                let mut rest = String::new();
                for (name, value) in more.as_object().into_iter().flatten() {
                    rest.push_str(&format!(",\n{}:{value}", json!(name)));
                }
                if let Some(status) = &ended {
                    rest.push_str(&format!(",\n\"refused\":{}", super::refused_json(status)));
                }
                writeln!(out, "\n]{rest}}}").and_then(|()| out.flush())
            }
        }
        .context("write to stdout")?;
        let Some(status) = ended else { return Ok(Exit::Done) };
        eprintln!("REFUSED {}", output::plain(status.message()));
        Ok(match status.code() {
            tonic::Code::Internal | tonic::Code::Unknown | tonic::Code::Unavailable => {
                Exit::Failure
            }
            _ => Exit::Refused,
        })
    }
}

/// A cell without quotes; what quotes it needs are the writer's business.
fn raw(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
