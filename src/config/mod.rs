//! Process settings: the file as it is (`raw`), and what it means (`Config`).
//!
//! Every mistake is reported at once, with its key and what to do, before a port is bound.
//! Platforms, taxpayers, devices and routes are no settings: they live in the store.

mod raw;
mod reader;
#[cfg(test)]
mod tests;

use raw::Raw;
use reader::Reader;
use std::{
    fmt, fs,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};
use tracing::level_filters::LevelFilter;

/// One thing that is wrong with the configuration, or worth a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistake {
    /// The key, for example `tls.server_key`; the file's name when the file itself is at fault.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.problem, self.hint)
    }
}

/// The settings of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the books are.
    pub data_dir: PathBuf,
    /// The watermark file; best on another file system than the books.
    pub watermark_path: PathBuf,
    /// Where platforms connect.
    pub platform_address: SocketAddr,
    /// Where platforms of the legacy XML interface connect; none: it is not served.
    pub legacy_address: Option<SocketAddr>,
    /// Where health and metrics are served.
    pub ops_address: SocketAddr,
    /// The operators' Unix socket.
    pub admin_socket: PathBuf,
    /// A directory with the operator's own rule profiles, beside the embedded ones.
    pub profiles_dir: Option<PathBuf>,
    /// TLS towards platforms.
    pub tls: Tls,
    /// What signs the legacy interface's answers in CA mode; none: requests in CA mode are refused.
    pub legacy_answer: Option<AnswerFiles>,
    /// TLS towards the acceptance.
    pub upstream: UpstreamTls,
    /// File with the key store's passphrase.
    pub passphrase_file: PathBuf,
    /// Limits.
    pub limits: Limits,
    /// The store refuses new work below this much free space. Unit: bytes.
    pub store_reserve_bytes: u64,
    /// Delivery.
    pub delivery: DeliverySettings,
    /// Log.
    pub log: Log,
    /// What is allowed but could be better; to be logged at WARN.
    pub notes: Vec<ConfigMistake>,
}

/// TLS towards platforms; PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate chain.
    pub server_cert: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// CAs of the platforms' certificates.
    pub client_ca: PathBuf,
}

/// What signs the legacy interface's answers in CA mode (CA 模式); PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerFiles {
    /// Our certificate chain.
    pub cert: PathBuf,
    /// Its key, P-256.
    pub key: PathBuf,
}

/// TLS towards the acceptance; PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// CAs of the acceptance's certificates.
    pub ca: PathBuf,
    /// Our client certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Limits of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message. Unit: bytes.
    pub message_bytes_max: usize,
    /// Connections at a time.
    pub connections_max: usize,
    /// Calls at a time on one connection.
    pub streams_max: u32,
    /// A handshake that takes longer is cut off.
    pub handshake_timeout: Duration,
    /// Handshakes at a time.
    pub pending_handshakes_max: usize,
    /// An older connection is asked to leave (plus jitter).
    pub connection_age: Duration,
    /// How long running calls may take after SIGTERM.
    pub drain_timeout: Duration,
    /// Operations that wait for the numbering actor.
    pub queue_len_max: usize,
    /// Open claims of one series, above which it takes no new ones.
    pub open_claims_max: usize,
    /// Age of a series' oldest open claim, above which it takes no new ones.
    pub oldest_open_claim: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 1 << 20,
            connections_max: 1024,
            streams_max: 256,
            handshake_timeout: Duration::from_secs(5),
            pending_handshakes_max: 256,
            connection_age: Duration::from_secs(1800),
            drain_timeout: Duration::from_secs(30),
            queue_len_max: 4096,
            open_claims_max: 1024,
            oldest_open_claim: Duration::from_secs(60),
        }
    }
}

/// How invoices go up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverySettings {
    /// Items of one batch, 1 to 1000.
    pub batch_max: usize,
    /// How often the outbox is looked through when nothing wakes it.
    pub interval: Duration,
    /// Batches of one province on the wire at a time, 1 to 64.
    pub in_flight: usize,
    /// How often monitor data is asked for, 1 s to 24 h.
    pub monitor_every: Duration,
    /// Age of the oldest undelivered invoice above which an alarm is raised, 1 s to 30 days.
    pub alarm_age: Duration,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            batch_max: 128,
            interval: Duration::from_millis(500),
            in_flight: 4,
            monitor_every: Duration::from_secs(600),
            alarm_age: Duration::from_secs(3600),
        }
    }
}

/// How the log is written, to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// Lowest level that is written.
    pub level: LevelFilter,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LevelFilter::INFO }
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Space kept free for finishing open claims. Unit: MiB.
const RESERVE_MIB: u64 = 256;
/// Platforms connect here unless told otherwise.
const PLATFORM_ADDRESS: &str = "127.0.0.1:7443";
/// Health and metrics are here unless told otherwise.
const LEGACY_ADDRESS: &str = "127.0.0.1:7444";
const OPS_ADDRESS: &str = "127.0.0.1:7446";
/// Longest path of a Unix socket, its final zero included. Unit: bytes. Source: unix(7),
/// `sun_path`.
const SOCKET_PATH_LEN_MAX: usize = 108;
/// A timeout lies between a millisecond and an hour. Unit: milliseconds.
const TIMEOUT_MS: RangeInclusive<u64> = 1..=3_600_000;

impl Config {
    /// Reads a file. Relative paths in it start at its own folder.
    ///
    /// # Errors Every mistake in the file and in the files that it names; an unreadable or
    /// malformed file is one mistake, which hides the others.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigMistake>> {
        let of_file = |problem: String, hint: &str| {
            vec![ConfigMistake { key: path.display().to_string(), problem, hint: hint.to_owned() }]
        };
        let text = fs::read_to_string(path).map_err(|error| {
            of_file(format!("cannot be read: {error}"), "name an existing file with --config")
        })?;
        let raw: Raw = toml::from_str(&text).map_err(|error| {
            of_file(error.to_string().trim_end().to_owned(), "deploy/skproxy.toml has every key")
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        Self::understand(raw, Reader::new(base))
    }

    fn understand(raw: Raw, mut reader: Reader) -> Result<Self, Vec<ConfigMistake>> {
        let data_dir = reader.directory("data_dir", raw.data_dir);
        let beside = |name: &str| data_dir.join(name);
        let watermark_path = reader.path(raw.watermark_path).unwrap_or_else(|| beside("watermark"));
        let admin_socket = reader.path(raw.admin_socket).unwrap_or_else(|| beside("admin.sock"));
        let profiles_dir = raw.profiles_dir.map(|dir| reader.existing("profiles_dir", dir));
        let config = Self {
            platform_address: reader.address(
                "platform_address",
                raw.platform_address,
                PLATFORM_ADDRESS,
            ),
            legacy_address: raw
                .legacy_address
                .clone()
                .map(|text| reader.address("legacy_address", Some(text), LEGACY_ADDRESS)),
            ops_address: reader.address("ops_address", raw.ops_address, OPS_ADDRESS),
            tls: Tls {
                server_cert: reader.file("tls.server_cert", raw.tls.server_cert),
                server_key: reader.secret_file("tls.server_key", raw.tls.server_key),
                client_ca: reader.file("tls.client_ca", raw.tls.client_ca),
            },
            legacy_answer: read_answer(raw.legacy, raw.legacy_address.is_some(), &mut reader),
            upstream: UpstreamTls {
                ca: reader.file("upstream.ca", raw.upstream.ca),
                cert: reader.file("upstream.cert", raw.upstream.cert),
                key: reader.secret_file("upstream.key", raw.upstream.key),
            },
            passphrase_file: reader
                .secret_file("key_store.passphrase_file", raw.key_store.passphrase_file),
            limits: read_limits(&raw.limits, &mut reader),
            store_reserve_bytes: read_reserve(&raw.store, &mut reader),
            delivery: read_delivery(&raw.delivery, &mut reader),
            log: read_log(raw.log, &mut reader),
            notes: Vec::new(),
            data_dir,
            watermark_path,
            admin_socket,
            profiles_dir,
        };
        config.check_together(&mut reader);
        reader.finish(config)
    }

    /// What no key shows alone.
    fn check_together(&self, reader: &mut Reader) {
        let (platform, ops) = (self.platform_address, self.ops_address);
        if platform == ops && platform.port() != 0 {
            reader.mistake("ops_address", "is the platform address too", "take another port");
        }
        if let Some(legacy) = self.legacy_address
            && legacy.port() != 0
            && [platform, ops].contains(&legacy)
        {
            reader.mistake("legacy_address", "is another port's address too", "take another port");
        }
        if !ops.ip().is_loopback() {
            let hint = "metrics have no login: let only your monitoring reach it";
            reader.note("ops_address", "is reachable from other machines", hint);
        }
        if self.admin_socket.as_os_str().len() >= SOCKET_PATH_LEN_MAX {
            let problem = "is longer than the 107 bytes of a Unix socket path";
            reader.mistake("admin_socket", problem, "take a shorter path, such as one in /run");
        }
        if reader::same_file_system(&self.data_dir, &self.watermark_path) {
            let hint = "a file system of its own also tells when the books' one was set back";
            reader.note("watermark_path", "is on the file system of data_dir", hint);
        }
    }

    /// What was understood, defaults included, as TOML lines; for `config check`. Holds no secret:
    /// keys and passphrases are files.
    #[must_use]
    pub fn describe(&self) -> String {
        let path = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
        let mut text = String::new();
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        line(format!("data_dir = {}", path(&self.data_dir)));
        line(format!("watermark_path = {}", path(&self.watermark_path)));
        line(format!("platform_address = \"{}\"", self.platform_address));
        if let Some(legacy) = self.legacy_address {
            line(format!("legacy_address = \"{legacy}\""));
        }
        line(format!("ops_address = \"{}\"", self.ops_address));
        line(format!("admin_socket = {}", path(&self.admin_socket)));
        if let Some(dir) = &self.profiles_dir {
            line(format!("profiles_dir = {}", path(dir)));
        }
        line("\n[tls]".to_owned());
        line(format!("server_cert = {}", path(&self.tls.server_cert)));
        line(format!("server_key = {}", path(&self.tls.server_key)));
        line(format!("client_ca = {}", path(&self.tls.client_ca)));
        if let Some(answer) = &self.legacy_answer {
            line("\n[legacy]".to_owned());
            line(format!("answer_cert = {}", path(&answer.cert)));
            line(format!("answer_key = {}", path(&answer.key)));
        }
        line("\n[upstream]".to_owned());
        line(format!("ca = {}", path(&self.upstream.ca)));
        line(format!("cert = {}", path(&self.upstream.cert)));
        line(format!("key = {}", path(&self.upstream.key)));
        line("\n[key_store]".to_owned());
        line(format!("passphrase_file = {}", path(&self.passphrase_file)));
        line("\n[limits]".to_owned());
        let limits = &self.limits;
        line(format!("message_bytes_max = {}", limits.message_bytes_max));
        line(format!("connections_max = {}", limits.connections_max));
        line(format!("streams_max = {}", limits.streams_max));
        line(format!("handshake_timeout_ms = {}", limits.handshake_timeout.as_millis()));
        line(format!("pending_handshakes_max = {}", limits.pending_handshakes_max));
        line(format!("connection_age_s = {}", limits.connection_age.as_secs()));
        line(format!("drain_timeout_ms = {}", limits.drain_timeout.as_millis()));
        line(format!("queue_len_max = {}", limits.queue_len_max));
        line(format!("open_claims_max = {}", limits.open_claims_max));
        line(format!("oldest_open_claim_ms = {}", limits.oldest_open_claim.as_millis()));
        line("\n[store]".to_owned());
        line(format!("reserve_mib = {}", self.store_reserve_bytes >> 20));
        line("\n[delivery]".to_owned());
        line(format!("batch_max = {}", self.delivery.batch_max));
        line(format!("interval_ms = {}", self.delivery.interval.as_millis()));
        line(format!("in_flight = {}", self.delivery.in_flight));
        line(format!("monitor_every_s = {}", self.delivery.monitor_every.as_secs()));
        line(format!("alarm_age_s = {}", self.delivery.alarm_age.as_secs()));
        line("\n[log]".to_owned());
        line(format!("format = \"{}\"", self.log.format.name()));
        line(format!("level = \"{}\"", self.log.level));
        text
    }
}

fn read_answer(raw: raw::RawLegacy, is_served: bool, reader: &mut Reader) -> Option<AnswerFiles> {
    let (cert, key) = match (raw.answer_cert, raw.answer_key) {
        (None, None) => return None,
        both => both,
    };
    if !is_served {
        let hint = "set legacy_address, or leave [legacy] out";
        reader.mistake("legacy", "is of no use without the legacy interface", hint);
    }
    Some(AnswerFiles {
        cert: reader.file("legacy.answer_cert", cert),
        key: reader.secret_file("legacy.answer_key", key),
    })
}

fn read_limits(raw: &raw::RawLimits, reader: &mut Reader) -> Limits {
    let default = Limits::default();
    let key = "limits.message_bytes_max";
    // An invoice of 100 full lines takes about 50 KiB; HTTP/2 buffers make more than 64 MiB
    // dangerous.
    let message_bytes_max =
        reader.count(key, raw.message_bytes_max, 65_536..=67_108_864, default.message_bytes_max);
    let key = "limits.streams_max";
    let streams = usize::try_from(default.streams_max).unwrap_or(usize::MAX);
    let streams = reader.count(key, raw.streams_max, 1..=65_536, streams);
    let mut count = |key, value, default| reader.count(key, value, 1..=1_000_000, default);
    let connections_max =
        count("limits.connections_max", raw.connections_max, default.connections_max);
    let pending_handshakes_max = count(
        "limits.pending_handshakes_max",
        raw.pending_handshakes_max,
        default.pending_handshakes_max,
    );
    let queue_len_max = count("limits.queue_len_max", raw.queue_len_max, default.queue_len_max);
    let open_claims_max =
        count("limits.open_claims_max", raw.open_claims_max, default.open_claims_max);
    let mut timeout = |key, value, default| reader.millis(key, value, TIMEOUT_MS, default);
    let handshake_timeout =
        timeout("limits.handshake_timeout_ms", raw.handshake_timeout_ms, default.handshake_timeout);
    let drain_timeout =
        timeout("limits.drain_timeout_ms", raw.drain_timeout_ms, default.drain_timeout);
    let oldest_open_claim =
        timeout("limits.oldest_open_claim_ms", raw.oldest_open_claim_ms, default.oldest_open_claim);
    let age = default.connection_age.as_secs();
    let age = reader.number("limits.connection_age_s", raw.connection_age_s, 10..=86_400, age);
    Limits {
        message_bytes_max,
        connections_max,
        streams_max: u32::try_from(streams).unwrap_or(default.streams_max),
        handshake_timeout,
        pending_handshakes_max,
        connection_age: Duration::from_secs(age),
        drain_timeout,
        queue_len_max,
        open_claims_max,
        oldest_open_claim,
    }
}

fn read_reserve(raw: &raw::RawStore, reader: &mut Reader) -> u64 {
    let mib = reader.number("store.reserve_mib", raw.reserve_mib, 16..=1_048_576, RESERVE_MIB);
    mib.saturating_mul(1 << 20)
}

fn read_delivery(raw: &raw::RawDelivery, reader: &mut Reader) -> DeliverySettings {
    let default = DeliverySettings::default();
    DeliverySettings {
        batch_max: reader.count("delivery.batch_max", raw.batch_max, 1..=1000, default.batch_max),
        interval: reader.millis(
            "delivery.interval_ms",
            raw.interval_ms,
            TIMEOUT_MS,
            default.interval,
        ),
        in_flight: reader.count("delivery.in_flight", raw.in_flight, 1..=64, default.in_flight),
        monitor_every: reader.seconds(
            "delivery.monitor_every_s",
            raw.monitor_every_s,
            1..=86_400,
            default.monitor_every,
        ),
        alarm_age: reader.seconds(
            "delivery.alarm_age_s",
            raw.alarm_age_s,
            1..=2_592_000,
            default.alarm_age,
        ),
    }
}

fn read_log(raw: raw::RawLog, reader: &mut Reader) -> Log {
    let mut log = Log::default();
    match raw.format.as_deref() {
        None => {}
        Some("text") => log.format = LogFormat::Text,
        Some("json") => log.format = LogFormat::Json,
        Some(other) => reader.mistake(
            "log.format",
            &format!("{other:?} is no format"),
            "take \"text\" or \"json\"",
        ),
    }
    match raw.level.as_deref() {
        None => {}
        Some("error") => log.level = LevelFilter::ERROR,
        Some("warn") => log.level = LevelFilter::WARN,
        Some("info") => log.level = LevelFilter::INFO,
        Some("debug") => log.level = LevelFilter::DEBUG,
        Some("trace") => log.level = LevelFilter::TRACE,
        Some(other) => reader.mistake(
            "log.level",
            &format!("{other:?} is no level"),
            "take \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        ),
    }
    log
}
