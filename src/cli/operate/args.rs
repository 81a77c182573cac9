//! How operators write their commands.

use super::report_args::{OutboxCommand, ReportCommand, ReportTarget};
use crate::{
    cli::output::Format,
    pb::{admin::v1 as pb, v1},
};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Which daemon, and how to print.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Admin socket of the daemon
    #[arg(long, global = true, env = "SKPROXY_SOCKET", default_value = "admin.sock")]
    pub(super) socket: PathBuf,
    /// How to print
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) format: Format,
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
    pub(super) fn wire(self) -> i32 {
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

/// What a binding grants, as operators write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OperationName {
    /// Blue invoices (蓝字): issue and validate
    Issue,
    /// Red letters (红字): issue, validate and check
    Red,
    /// Voids (作废)
    Void,
    /// What became of a serial or a number (查询)
    Query,
    /// Lists of invoices (列表)
    List,
    /// The taxpayer's devices (设备): description, monitor, rates and stock
    Device,
}

impl OperationName {
    pub(super) fn wire(self) -> i32 {
        match self {
            Self::Issue => pb::Operation::Issue,
            Self::Red => pb::Operation::Red,
            Self::Void => pb::Operation::Void,
            Self::Query => pb::Operation::Query,
            Self::List => pb::Operation::List,
            Self::Device => pb::Operation::Device,
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
    /// Token behind PKCS#11, P-256
    Pkcs11,
    /// Crypto machine (密码机) behind SDF, SM2
    Sdf,
    /// UKey behind SKF, SM2
    Skf,
    /// Tax-control server (税控服务器) over HTTP
    Skserver,
}

/// How a device that is not a software key is reached. Which options a backend needs stands with
/// each; paths are on the daemon's host.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// pkcs11, sdf, skf: the vendor's library (`.so`)
    #[arg(long, value_name = "FILE")]
    pub(super) module: Option<PathBuf>,
    /// pkcs11: label of the token
    #[arg(long)]
    pub(super) token_label: Option<String>,
    /// pkcs11: label of the key
    #[arg(long)]
    pub(super) key_label: Option<String>,
    /// sdf: index of the key (密钥索引)
    #[arg(long)]
    pub(super) key_index: Option<u32>,
    /// skf: name of the UKey
    #[arg(long)]
    pub(super) device_name: Option<String>,
    /// skf: application (应用)
    #[arg(long)]
    pub(super) application: Option<String>,
    /// skf: container (容器)
    #[arg(long)]
    pub(super) container: Option<String>,
    /// pkcs11, sdf, skf: file with the PIN, mode 0600
    #[arg(long, value_name = "FILE")]
    pub(super) pin_file: Option<PathBuf>,
    /// pkcs11, sdf: sessions at a time
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(super) sessions: u32,
    /// skserver: address, such as http://host:port/SKServer/SKDo
    #[arg(long)]
    pub(super) url: Option<String>,
    /// skserver: taxpayer and device on the server (开票终端标识), such as taxpayer~~device
    #[arg(long)]
    pub(super) kpzdbs: Option<String>,
    /// skserver: CA of an https server, PEM
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// skserver: how long the server may take, in milliseconds
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    pub(super) timeout_ms: u32,
    /// skserver: how long after a lost answer the server may still be at work, in milliseconds
    #[arg(long, default_value_t = 30_000, value_name = "MS")]
    pub(super) quiescence_ms: u32,
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
    /// Copy the books while the daemon issues; the watermark is never part of a copy
    Backup {
        /// Directory on the daemon's host, empty or absent, which the daemon's user may write; best
        /// on another disk, never on a network share that may hang
        #[arg(long)]
        to: PathBuf,
        #[command(flatten)]
        target: Target,
    },
    /// What has no receipt yet (待上传), and its way without a line (离线导出)
    Outbox {
        #[command(subcommand)]
        command: OutboxCommand,
        #[command(flatten)]
        target: Target,
    },
    /// What was issued and voided (汇总, 明细), and whether the acceptance holds the same (对账)
    Report {
        #[command(subcommand)]
        command: ReportCommand,
        #[command(flatten)]
        target: ReportTarget,
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
    /// Say what a taxpayer must not issue (禁止开票); with neither option it may issue again
    Set {
        /// Taxpayer id
        #[arg(long)]
        id: String,
        /// Nothing at all
        #[arg(long)]
        forbid_all: bool,
        /// A kind that it must not issue; may be repeated
        #[arg(long = "forbid", value_enum)]
        forbid: Vec<KindName>,
        /// Why, for the audit
        #[arg(long)]
        reason: String,
    },
    /// Grant a taxpayer its credit quota (授信额度) of a month, in the place of the one before
    Credit {
        /// Taxpayer id
        #[arg(long)]
        id: String,
        /// Month, such as 2026-11
        #[arg(long)]
        month: String,
        /// What may be issued, without tax, in fen
        #[arg(long, value_name = "FEN")]
        granted_fen: i64,
    },
    /// List credit quotas with what is spent of them
    Credits,
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
        /// What it may do; may be repeated; everything without it
        #[arg(long = "allow", value_enum)]
        allow: Vec<OperationName>,
    },
    /// Replace what a platform may do for a taxpayer that it is bound to
    Set {
        /// Platform code
        #[arg(long)]
        platform: String,
        /// Taxpayer id
        #[arg(long)]
        taxpayer: String,
        /// What it may do; may be repeated
        #[arg(long = "allow", value_enum, required = true)]
        allow: Vec<OperationName>,
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
    /// Make a device; the daemon makes its software key, or finds the one in the hardware
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
        /// How it is reached
        #[command(flatten)]
        at: ConnectionArgs,
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
    /// Take no new invoices, and wait until none is open any more (排空)
    Drain {
        /// Device id
        id: String,
        /// Tell how many are open, and do not wait
        #[arg(long)]
        no_wait: bool,
    },
    /// Open a device again that stopped because of its PIN (解锁)
    Unlock {
        /// Device id
        id: String,
        /// Why the PIN is right now, for the audit
        #[arg(long)]
        reason: String,
        /// Do it; without this, only say what would be done
        #[arg(long)]
        yes: bool,
    },
    /// Reach a device elsewhere: another slot, another server; its key must be the same
    Assign {
        /// Device id
        id: String,
        /// Its backend, as it was made
        #[arg(long, value_enum)]
        backend: BackendName,
        /// How it is reached now
        #[command(flatten)]
        at: ConnectionArgs,
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
