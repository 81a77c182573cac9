//! Arguments of `skproxy report` and `skproxy outbox`.

use super::args::KindName;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Which daemon, and how a report is printed.
#[derive(Debug, Args)]
pub(crate) struct ReportTarget {
    /// Admin socket of the daemon
    #[arg(long, global = true, env = "SKPROXY_SOCKET", default_value = "admin.sock")]
    pub(super) socket: PathBuf,
    /// How to print
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) format: ReportFormat,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people, one line for each row
    #[default]
    Text,
    /// RFC 4180 in UTF-8, with a header
    Csv,
    /// One JSON value
    Json,
}

/// A window of issue time, and whose.
#[derive(Debug, Args)]
pub(crate) struct ReportWindowArgs {
    /// First issue time, RFC 3339, for example 2026-01-01T00:00:00+08:00
    #[arg(long)]
    pub(super) from: String,
    /// Issue time to stop before, RFC 3339
    #[arg(long)]
    pub(super) until: String,
    /// Only this taxpayer's
    #[arg(long)]
    pub(super) taxpayer: Option<String>,
    /// Only this kind
    #[arg(long, value_enum)]
    pub(super) kind: Option<KindName>,
    /// Only this platform's
    #[arg(long)]
    pub(super) platform: Option<String>,
}

/// `report …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ReportCommand {
    /// Counts and amounts by taxpayer, platform, kind and colour
    Summary {
        #[command(flatten)]
        window: ReportWindowArgs,
    },
    /// Every number that was issued or voided, with its delivery
    Detail {
        #[command(flatten)]
        window: ReportWindowArgs,
    },
    /// Compare with the meter and the acceptance sides; exit code 1 when anything differs
    Compare {
        #[command(flatten)]
        window: ReportWindowArgs,
        /// One by one even where the sums are equal
        #[arg(long)]
        full: bool,
    },
}

/// `outbox …`.
#[derive(Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// List what has no receipt yet, with its age and batch
    List {
        /// Only this province's
        #[arg(long, default_value = "")]
        province: String,
    },
    /// Show a batch
    Show {
        /// Its number
        batch: u64,
    },
    /// Write everything that is pending into a signed package, to be carried to the acceptance side
    Export {
        /// Package; must not exist yet
        #[arg(long)]
        to: PathBuf,
        /// Only this province's
        #[arg(long, default_value = "")]
        province: String,
    },
    /// Take the receipts in that the acceptance side answered a package with
    Import {
        /// Receipts
        file: PathBuf,
    },
    /// Print the public key that packages are signed with, PEM
    Key,
}
