//! The configuration file as it is written: TOML, every key optional, unknown keys refused. It
//! holds no defaults and judges nothing; `Config` does.

use serde::Deserialize;
use std::path::PathBuf;

/// The file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) watermark_path: Option<PathBuf>,
    pub(super) platform_address: Option<String>,
    pub(super) legacy_address: Option<String>,
    pub(super) ops_address: Option<String>,
    pub(super) admin_socket: Option<PathBuf>,
    pub(super) profiles_dir: Option<PathBuf>,
    #[serde(default)]
    pub(super) tls: RawTls,
    #[serde(default)]
    pub(super) legacy: RawLegacy,
    #[serde(default)]
    pub(super) upstream: RawUpstream,
    #[serde(default)]
    pub(super) key_store: RawKeyStore,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) store: RawStore,
    #[serde(default)]
    pub(super) delivery: RawDelivery,
    #[serde(default)]
    pub(super) log: RawLog,
}

/// `[tls]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) server_cert: Option<PathBuf>,
    pub(super) server_key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
}

/// `[legacy]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLegacy {
    pub(super) answer_cert: Option<PathBuf>,
    pub(super) answer_key: Option<PathBuf>,
}

/// `[upstream]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// `[key_store]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeyStore {
    pub(super) passphrase_file: Option<PathBuf>,
}

/// `[limits]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) message_bytes_max: Option<i64>,
    pub(super) connections_max: Option<i64>,
    pub(super) streams_max: Option<i64>,
    pub(super) handshake_timeout_ms: Option<i64>,
    pub(super) pending_handshakes_max: Option<i64>,
    pub(super) connection_age_s: Option<i64>,
    pub(super) drain_timeout_ms: Option<i64>,
    pub(super) queue_len_max: Option<i64>,
    pub(super) open_claims_max: Option<i64>,
    pub(super) oldest_open_claim_ms: Option<i64>,
}

/// `[store]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    pub(super) reserve_mib: Option<i64>,
}

/// `[delivery]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDelivery {
    pub(super) batch_max: Option<i64>,
    pub(super) interval_ms: Option<i64>,
    pub(super) in_flight: Option<i64>,
    pub(super) monitor_every_s: Option<i64>,
    pub(super) alarm_age_s: Option<i64>,
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) format: Option<String>,
    pub(super) level: Option<String>,
}
