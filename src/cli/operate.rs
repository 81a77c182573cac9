//! The operators' commands: each is one call on the admin socket. What changes books asks for `--yes`.

use super::{
    Exit,
    output::{self, Format, Names},
};
use crate::{
    admin::client::connect,
    pb::{admin::v1 as pb, v1},
};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use prost::Message;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tonic::{Response, Status};

/// Which daemon, and how to print.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Admin socket of the daemon
    #[arg(long, global = true, env = "SKPROXY_SOCKET", default_value = "admin.sock")]
    socket: PathBuf,
    /// How to print
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,
}

/// Invoice kinds as operators write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    /// 004 增值税专用发票
    SpecialPaper,
    /// 007 增值税普通发票
    NormalPaper,
    /// 025 卷票
    Roll,
    /// 026 增值税电子普通发票
    ENormal,
    /// 028 增值税电子专用发票
    ESpecial,
}

impl KindName {
    fn wire(self) -> i32 {
        match self {
            Self::SpecialPaper => v1::InvoiceKind::SpecialPaper,
            Self::NormalPaper => v1::InvoiceKind::NormalPaper,
            Self::Roll => v1::InvoiceKind::Roll,
            Self::ENormal => v1::InvoiceKind::ENormal,
            Self::ESpecial => v1::InvoiceKind::ESpecial,
        }
        .into()
    }
}

/// Backends as operators write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// Software key, ECDSA P-256
    SoftwareP256,
    /// Software key, SM2
    SoftwareSm2,
}

/// Everything that an operator does to a running daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum OperateCommand {
    /// Platforms (平台) and their certificates
    Platform {
        #[command(subcommand)]
        command: PlatformCommand,
        #[command(flatten)]
        target: Target,
    },
    /// Taxpayers (纳税人)
    Taxpayer {
        #[command(subcommand)]
        command: TaxpayerCommand,
        #[command(flatten)]
        target: Target,
    },
    /// Which platform may act for which taxpayer (按户接入)
    Binding {
        #[command(subcommand)]
        command: BindingCommand,
        #[command(flatten)]
        target: Target,
    },
    /// Virtual devices (虚拟设备)
    Device {
        #[command(subcommand)]
        command: DeviceCommand,
        #[command(flatten)]
        target: Target,
    },
    /// Number segments (号段)
    Stock {
        #[command(subcommand)]
        command: StockCommand,
        #[command(flatten)]
        target: Target,
    },
    /// Routes to the acceptance side, by province
    Route {
        #[command(subcommand)]
        command: RouteCommand,
        #[command(flatten)]
        target: Target,
    },
    /// Series: one device and kind
    Series {
        #[command(subcommand)]
        command: SeriesCommand,
        #[command(flatten)]
        target: Target,
    },
    /// Open claims and voids
    Invoice {
        #[command(subcommand)]
        command: InvoiceCommand,
        #[command(flatten)]
        target: Target,
    },
    /// Whether the daemon issues, and what stands against it
    Status {
        #[command(flatten)]
        target: Target,
    },
}

/// `platform …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PlatformCommand {
    /// Register a platform, and bind a certificate's key to it
    Add {
        /// Platform code (DSPTBM)
        #[arg(long)]
        id: String,
        /// Name
        #[arg(long)]
        name: String,
        /// Client certificate, PEM
        #[arg(long)]
        cert: Option<PathBuf>,
    },
    /// Bind another certificate's key to a platform, for ever
    AddCertificate {
        /// Platform code
        #[arg(long)]
        id: String,
        /// Client certificate, PEM
        #[arg(long)]
        cert: PathBuf,
    },
    /// List platforms
    List,
    /// Show one
    Show {
        /// Platform code
        id: String,
    },
}

/// `taxpayer …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TaxpayerCommand {
    /// Register a taxpayer
    Add {
        /// Taxpayer id (纳税人识别号)
        #[arg(long)]
        id: String,
        /// Name, as in its devices
        #[arg(long)]
        name: String,
        /// Province code, two digits
        #[arg(long)]
        province: String,
    },
    /// List taxpayers
    List,
    /// Show one
    Show {
        /// Taxpayer id
        id: String,
    },
}

/// `binding …`.
#[derive(Debug, Subcommand)]
pub(crate) enum BindingCommand {
    /// Let a platform act for a taxpayer
    Add {
        /// Platform code
        #[arg(long)]
        platform: String,
        /// Taxpayer id
        #[arg(long)]
        taxpayer: String,
    },
    /// List bindings
    List,
    /// Show the bindings of one platform
    Show {
        /// Platform code
        platform: String,
    },
}

/// `device …`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Make a device; the daemon makes its key
    Add {
        /// Device id (虚拟设备编号)
        #[arg(long)]
        id: String,
        /// Taxpayer id
        #[arg(long)]
        taxpayer: String,
        /// Machine number (JQBH), 12 digits
        #[arg(long)]
        machine_number: String,
        /// How it signs
        #[arg(long, value_enum)]
        backend: BackendName,
        /// Kinds it may issue; may be repeated
        #[arg(long = "kind", value_enum, required = true)]
        kinds: Vec<KindName>,
        /// Profile of its rules
        #[arg(long, default_value = "baiwang")]
        profile: String,
        /// Test device; cannot be changed later
        #[arg(long)]
        test: bool,
    },
    /// List devices
    List,
    /// Show one
    Show {
        /// Device id
        id: String,
    },
    /// Take new invoices again
    Enable {
        /// Device id
        id: String,
    },
    /// Take no new invoices
    Disable {
        /// Device id
        id: String,
    },
}

/// `stock …`.
#[derive(Debug, Subcommand)]
pub(crate) enum StockCommand {
    /// Register a segment
    Add {
        /// Device id
        #[arg(long)]
        device: String,
        /// Kind
        #[arg(long, value_enum)]
        kind: KindName,
        /// Invoice code, 10 or 12 digits
        #[arg(long)]
        code: String,
        /// First number, 8 digits
        #[arg(long)]
        first: String,
        /// Last number, 8 digits, inclusive
        #[arg(long)]
        last: String,
    },
    /// List segments with numbers left
    List,
    /// Show the segments of one device
    Show {
        /// Device id
        device: String,
    },
}

/// `route …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Add or replace the route of a province
    Add {
        /// Province code, two digits; `*` for all others
        #[arg(long)]
        province: String,
        /// Acceptance address, host:port
        #[arg(long)]
        address: String,
        /// Name to check in its certificate
        #[arg(long)]
        server_name: String,
        /// Its receipt key: SubjectPublicKeyInfo (P-256), DER file
        #[arg(long)]
        receipt_key: PathBuf,
    },
    /// List routes
    List,
}

/// `series …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SeriesCommand {
    /// List series
    List,
    /// Show the series of one device
    Show {
        /// Device id
        device: String,
    },
    /// Open a frozen series again, after a person looked into it
    Unfreeze {
        /// Device id
        #[arg(long)]
        device: String,
        /// Kind
        #[arg(long, value_enum)]
        kind: KindName,
        /// Why it may go on; kept in the audit log
        #[arg(long)]
        reason: String,
        /// Do it; without this the plan is shown
        #[arg(long)]
        yes: bool,
    },
}

/// `invoice …`.
#[derive(Debug, Subcommand)]
pub(crate) enum InvoiceCommand {
    /// List claims without a signature
    Open,
    /// Void the number of an open claim (空白作废); it can never be issued then
    BlankVoid {
        /// Claim id, from `invoice open`
        #[arg(long)]
        claim: u64,
        /// Why; kept for ever and told to the authority
        #[arg(long)]
        reason: String,
        /// Do it; without this the plan is shown
        #[arg(long)]
        yes: bool,
    },
}

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
        OperateCommand::Device { command, target } => device(command, target).await,
        OperateCommand::Stock { command, target } => stock(command, target).await,
        OperateCommand::Route { command, target } => route(command, target).await,
        OperateCommand::Series { command, target } => series(command, target).await,
        OperateCommand::Invoice { command, target } => invoice(command, target).await,
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
            let taxpayer = Some(pb::Taxpayer { taxpayer_id: id, name, province });
            let answer = client.add_taxpayer(pb::AddTaxpayerRequest { taxpayer }).await;
            return show("AddTaxpayerResponse", answer, &target);
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
        BindingCommand::Add { platform, taxpayer } => {
            let binding = Some(pb::Binding { platform_id: platform, taxpayer_id: taxpayer });
            let answer = client.add_binding(pb::AddBindingRequest { binding }).await;
            return show("AddBindingResponse", answer, &target);
        }
        BindingCommand::List => String::new(),
        BindingCommand::Show { platform } => platform,
    };
    let answer = client.list_bindings(pb::ListBindingsRequest { platform_id: wanted }).await;
    show("ListBindingsResponse", answer, &target)
}

async fn device(command: DeviceCommand, target: Target) -> Result<Exit> {
    let mut client = connect(&target.socket).await?;
    let wanted = match command {
        DeviceCommand::Add { id, taxpayer, machine_number, backend, kinds, profile, test } => {
            let backend = match backend {
                BackendName::SoftwareP256 => pb::DeviceBackend::SoftwareP256,
                BackendName::SoftwareSm2 => pb::DeviceBackend::SoftwareSm2,
            };
            let device = pb::Device {
                device_id: id,
                taxpayer_id: taxpayer,
                machine_number,
                backend: backend.into(),
                kinds: kinds.into_iter().map(KindName::wire).collect(),
                profile,
                test,
                ..pb::Device::default()
            };
            let answer = client.add_device(pb::AddDeviceRequest { device: Some(device) }).await;
            return show("AddDeviceResponse", answer, &target);
        }
        DeviceCommand::Enable { id } => return enable(&mut client, (id, true), &target).await,
        DeviceCommand::Disable { id } => return enable(&mut client, (id, false), &target).await,
        DeviceCommand::List => String::new(),
        DeviceCommand::Show { id } => id,
    };
    let answer = client.list_devices(pb::ListDevicesRequest { device_id: wanted }).await;
    show("ListDevicesResponse", answer, &target)
}

type Client = pb::admin_service_client::AdminServiceClient<tonic::transport::Channel>;

async fn enable(
    client: &mut Client,
    (device_id, enabled): (String, bool),
    target: &Target,
) -> Result<Exit> {
    let request = pb::SetDeviceEnabledRequest { device_id, enabled };
    show("SetDeviceEnabledResponse", client.set_device_enabled(request).await, target)
}

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
    let message = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            if target.format == Format::Json {
                let reason = status.message().split(':').next().unwrap_or_default();
                let message = status.message();
                let refused = serde_json::json!({"reason": reason, "message": message});
                output::say_json(&serde_json::json!({"refused": refused}))?;
            } else {
                eprintln!("REFUSED {}", output::plain(status.message()));
            }
            return Ok(Exit::Refused);
        }
    };
    let value = output::to_json(&format!("skproxy.admin.v1.{name}"), &message, Names::Proto)?;
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
