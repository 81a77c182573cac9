//! The operators' commands: each is one call on the admin socket. What changes books asks for
//! `--yes`.

mod args;
mod backup;
mod device;
mod outbox;
mod report;
mod report_args;

pub(crate) use args::OperateCommand;

use super::{
    Exit,
    output::{self, Format, Names},
};
use crate::{admin::client::connect, pb::admin::v1 as pb};
use anyhow::{Context as _, Result};
use args::{
    BindingCommand, InvoiceCommand, KindName, OperationName, PlatformCommand, RouteCommand,
    SeriesCommand, StockCommand, Target, TaxpayerCommand,
};
use clap::ValueEnum as _;
use prost::Message;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use std::path::Path;
use tonic::{Response, Status};

/// A client certificate, DER, from a PEM file.
///
/// # Errors
/// When the file holds none.
pub(crate) fn read_certificate(path: &Path) -> Result<Vec<u8>> {
    let certificate = CertificateDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("read the certificate {}", path.display()))?;
    Ok(certificate.to_vec())
}

/// Runs an operator's command.
///
/// # Errors
/// When the daemon cannot be reached or a file not be read.
pub(crate) async fn run(command: OperateCommand) -> Result<Exit> {
    match command {
        OperateCommand::Platform { command, target } => platform(command, target).await,
        OperateCommand::Taxpayer { command, target } => taxpayer(command, target).await,
        OperateCommand::Binding { command, target } => binding(command, target).await,
        OperateCommand::Device { command, target } => device::device(command, target).await,
        OperateCommand::Stock { command, target } => stock(command, target).await,
        OperateCommand::Route { command, target } => route(command, target).await,
        OperateCommand::Series { command, target } => series(command, target).await,
        OperateCommand::Invoice { command, target } => invoice(command, target).await,
        OperateCommand::Backup { to, target } => backup::run(&to, &target).await,
        OperateCommand::Outbox { command, target } => outbox::run(command, target).await,
        OperateCommand::Report { command, target } => report::run(command, target).await,
        OperateCommand::Status { target } => status(target).await,
    }
}

async fn platform(command: PlatformCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    let (id, cert) = match command {
        PlatformCommand::Add { id, name, cert } => {
            let request = pb::AddPlatformRequest { platform_id: id.clone(), name };
            let added = client.add_platform(request).await;
            let (Ok(_), Some(cert)) = (&added, cert) else {
                return show("AddPlatformResponse", added, &target);
            };
            (id, cert)
        }
        PlatformCommand::AddCertificate { id, cert } => (id, cert),
        PlatformCommand::List => {
            let answer = client.list_platforms(pb::ListPlatformsRequest::default()).await;
            return show("ListPlatformsResponse", answer, &target);
        }
        PlatformCommand::Show { id } => {
            let answer = client.list_platforms(pb::ListPlatformsRequest { platform_id: id }).await;
            return show("ListPlatformsResponse", answer, &target);
        }
    };
    let certificate = read_certificate(&cert)?;
    let request = pb::AddCertificateRequest { platform_id: id, certificate };
    show("AddCertificateResponse", client.add_certificate(request).await, &target)
}

async fn taxpayer(command: TaxpayerCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    let wanted = match command {
        TaxpayerCommand::Add { id, name, province } => {
            let new = pb::Taxpayer { taxpayer_id: id, name, province, ..Default::default() };
            let taxpayer = Some(new);
            let answer = client.add_taxpayer(pb::AddTaxpayerRequest { taxpayer }).await;
            return show("AddTaxpayerResponse", answer, &target);
        }
        TaxpayerCommand::Set { id, forbid_all, forbid, reason } => {
            let request = pb::SetTaxpayerRequest {
                taxpayer_id: id,
                forbidden: forbid_all,
                forbidden_kinds: forbid.into_iter().map(KindName::wire).collect(),
                reason,
            };
            return show("SetTaxpayerResponse", client.set_taxpayer(request).await, &target);
        }
        TaxpayerCommand::Credit { id, month, granted_fen } => {
            let credit = pb::Credit { taxpayer_id: id, month, granted_fen, spent_fen: 0 };
            let request = pb::SetCreditRequest { credit: Some(credit) };
            return show("SetCreditResponse", client.set_credit(request).await, &target);
        }
        TaxpayerCommand::Credits => {
            let answer = client.list_credits(pb::ListCreditsRequest::default()).await;
            return show("ListCreditsResponse", answer, &target);
        }
        TaxpayerCommand::List => String::new(),
        TaxpayerCommand::Show { id } => id,
    };
    let answer = client.list_taxpayers(pb::ListTaxpayersRequest { taxpayer_id: wanted }).await;
    show("ListTaxpayersResponse", answer, &target)
}

async fn binding(command: BindingCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    let wanted = match command {
        BindingCommand::Add { platform, taxpayer, allow } => {
            let binding = Some(granting(platform, taxpayer, allow));
            let answer = client.add_binding(pb::AddBindingRequest { binding }).await;
            return show("AddBindingResponse", answer, &target);
        }
        BindingCommand::Set { platform, taxpayer, allow } => {
            let binding = Some(granting(platform, taxpayer, allow));
            let answer = client.set_binding(pb::SetBindingRequest { binding }).await;
            return show("SetBindingResponse", answer, &target);
        }
        BindingCommand::List => String::new(),
        BindingCommand::Show { platform } => platform,
    };
    let answer = client.list_bindings(pb::ListBindingsRequest { platform_id: wanted }).await;
    show("ListBindingsResponse", answer, &target)
}

fn granting(platform_id: String, taxpayer_id: String, allow: Vec<OperationName>) -> pb::Binding {
    let operations = allow.into_iter().map(OperationName::wire).collect();
    pb::Binding { platform_id, taxpayer_id, operations }
}

type Client = pb::admin_service_client::AdminServiceClient<tonic::transport::Channel>;

async fn stock(command: StockCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    let wanted = match command {
        StockCommand::Add { device, kind, code, first, last } => {
            let kind = kind.wire();
            let segment = pb::Segment { device_id: device, kind, code, first, last, left: 0 };
            let answer = client.add_segment(pb::AddSegmentRequest { segment: Some(segment) }).await;
            return show("AddSegmentResponse", answer, &target);
        }
        StockCommand::List => String::new(),
        StockCommand::Show { device } => device,
    };
    let answer = client.list_segments(pb::ListSegmentsRequest { device_id: wanted }).await;
    show("ListSegmentsResponse", answer, &target)
}

async fn route(command: RouteCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    match command {
        RouteCommand::Add { province, address, server_name, receipt_key } => {
            let receipt_key = std::fs::read(&receipt_key)
                .with_context(|| format!("read the receipt key {}", receipt_key.display()))?;
            let route = Some(pb::Route { province, address, server_name, receipt_key });
            let answer = client.add_route(pb::AddRouteRequest { route }).await;
            show("AddRouteResponse", answer, &target)
        }
        RouteCommand::List => {
            let answer = client.list_routes(pb::ListRoutesRequest::default()).await;
            show("ListRoutesResponse", answer, &target)
        }
    }
}

async fn series(command: SeriesCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    let wanted = match command {
        SeriesCommand::Unfreeze { device, kind, reason, yes } => {
            if !yes {
                let kind = kind.to_possible_value().map(|kind| kind.get_name().to_owned());
                let kind = kind.unwrap_or_default();
                return plan(&format!("open the series {device} {kind} for new invoices"));
            }
            let request =
                pb::UnfreezeSeriesRequest { device_id: device, kind: kind.wire(), reason };
            let answer = client.unfreeze_series(request).await;
            return show("UnfreezeSeriesResponse", answer, &target);
        }
        SeriesCommand::List => String::new(),
        SeriesCommand::Show { device } => device,
    };
    let answer = client.list_series(pb::ListSeriesRequest { device_id: wanted }).await;
    show("ListSeriesResponse", answer, &target)
}

async fn invoice(command: InvoiceCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    match command {
        InvoiceCommand::Open => {
            let answer = client.list_open_claims(pb::ListOpenClaimsRequest::default()).await;
            show("ListOpenClaimsResponse", answer, &target)
        }
        InvoiceCommand::BlankVoid { claim, reason, yes } => {
            if !yes {
                return plan(&format!(
                    "void the number of claim {claim}; it can never be issued then"
                ));
            }
            let request = pb::BlankVoidRequest { claim_id: claim, reason };
            show("BlankVoidResponse", client.blank_void(request).await, &target)
        }
    }
}

async fn status(target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    let answer = client.get_status(pb::GetStatusRequest::default()).await;
    show("GetStatusResponse", answer, &target)
}

fn plan(what: &str) -> Result<Exit> {
    eprintln!("would {what}\nadd --yes to do it");
    Ok(Exit::Usage)
}

fn show<M: Message>(
    name: &str,
    answer: Result<Response<M>, Status>,
    target: &Target,
) -> Result<Exit> {
    match answer {
        Ok(answer) => show_message(name, answer.get_ref(), target),
        Err(status) => refused(&status, target),
    }
}

fn refused(status: &Status, target: &Target) -> Result<Exit> {
    if target.format == Format::Json {
        output::say_json(&serde_json::json!({"refused": refused_json(status)}))?;
    } else {
        eprintln!("REFUSED {}", output::plain(status.message()));
    }
    Ok(Exit::Refused)
}

fn refused_json(status: &Status) -> Value {
    let reason = status.message().split(':').next().unwrap_or_default();
    serde_json::json!({"reason": reason, "message": status.message()})
}

fn show_message(name: &str, message: &impl Message, target: &Target) -> Result<Exit> {
    let value = output::to_json(&format!("skproxy.admin.v1.{name}"), message, Names::Proto)?;
    match target.format {
        Format::Json => output::say_json(&value)?,
        Format::Text => output::say(&text(&value))?,
    }
    Ok(Exit::Done)
}

/// One line for each entry: `key=value` in the contract's order; a list of messages is a line each.
fn text(value: &Value) -> String {
    let Value::Object(fields) = value else { return cell(value) };
    if let [Value::Array(rows)] = fields.values().collect::<Vec<_>>().as_slice()
        && (rows.is_empty() || rows.iter().any(Value::is_object))
    {
        return if rows.is_empty() {
            "none".into()
        } else {
            rows.iter().map(line).collect::<Vec<_>>().join("\n")
        };
    }
    if let [inner @ Value::Object(_)] = fields.values().collect::<Vec<_>>().as_slice() {
        return line(inner);
    }
    line(value)
}

fn line(value: &Value) -> String {
    let Value::Object(fields) = value else { return cell(value) };
    let cells = fields.iter().map(|(key, value)| format!("{key}={}", cell(value)));
    cells.collect::<Vec<_>>().join("  ")
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => output::plain(text),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
