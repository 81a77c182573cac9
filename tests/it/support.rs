//! What the listener's tests share: throw-away certificates, a pipeline that only echoes, a running
//! listener, and waiting for a state with a bound.

use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use skproxy::{
    clock, identity,
    listener::{GrpcSettings, HealthHandle, Limits, Listener, TlsFiles, TlsState, routes},
    metrics::{self, Exporter},
    model::InvoiceNumber,
    pb::{codec, v1},
    pipeline::{InvoicePage, PlatformApi},
    refusal::{Reason, Refusal},
    registry::Registry,
    transport::{ClientTls, channel},
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tonic::transport::Channel;
use v1::invoice_service_client::InvoiceServiceClient;

/// The bound of everything that is waited for.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// The process's recorder.
pub(crate) static EXPORTER: LazyLock<Exporter> = LazyLock::new(|| metrics::install().unwrap());

/// The value of a series, 0 when it is not there.
pub(crate) fn metric(series: &str) -> u64 {
    let text = EXPORTER.render();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Refused handshakes of a reason.
pub(crate) fn refused(reason: &str) -> u64 {
    metric(&format!("skproxy_listener_handshakes_refused_total{{reason=\"{reason}\"}}"))
}

/// Waits until `state` holds, at most `BOUND`.
pub(crate) async fn eventually(what: &str, mut state: impl FnMut() -> bool) {
    let mut every = tokio::time::interval(Duration::from_millis(5));
    let waited = tokio::time::timeout(BOUND, async {
        while !state() {
            every.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "it never happened: {what}");
}

/// A CA in a directory of its own.
pub(crate) struct Ca {
    pub(crate) dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM files.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    pub(crate) fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_file(&self.certificate).unwrap().to_vec()
    }
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Issues a certificate for `localhost`, valid until the first day of `until_year`.
    pub(crate) fn issue(&self, name: &str, until_year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |kind: &str| self.dir.path().join(format!("{name}.{kind}.pem"));
        let pair = Pair { certificate: file("cert"), key: file("key") };
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

/// How long a serial that begins with `slow` takes, as a signer would.
const SLOW: Duration = Duration::from_millis(2);

/// Echoes. A serial that begins with `panic` panics, one that begins with `gate` waits for the
/// gate, one that begins with `slow` takes a moment, so that there are always calls under way.
pub(crate) struct Echo {
    /// Serials that reached the handler.
    pub(crate) seen: Mutex<Vec<String>>,
    pub(crate) gate: Semaphore,
}

impl Default for Echo {
    fn default() -> Self {
        Self { seen: Mutex::default(), gate: Semaphore::new(0) }
    }
}

impl Echo {
    pub(crate) fn saw(&self, serial: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|seen| seen == serial)
    }
}

type Peer = Option<identity::PeerCertificate>;

fn echoed(code: String, number: String, reason: String) -> v1::Outcome {
    let voided = v1::Voided { code, number, reason, ..Default::default() };
    v1::Outcome { result: Some(v1::outcome::Result::Voided(voided)) }
}

#[tonic::async_trait]
impl PlatformApi for Echo {
    /// The answer's code is the peer's key, its number the length of the undecoded message, its
    /// reason the remark.
    async fn issue(
        &self,
        peer: Peer,
        _: Duration,
        draft: Option<v1::InvoiceDraft>,
    ) -> Result<v1::Outcome, Refusal> {
        let draft = draft.unwrap_or_default();
        self.seen.lock().unwrap().push(draft.serial.clone());
        assert!(!draft.serial.starts_with("panic"), "as told");
        if draft.serial.starts_with("gate") {
            self.gate.acquire().await.unwrap().forget();
        }
        if draft.serial.starts_with("slow") {
            tokio::time::sleep(SLOW).await;
        }
        let key = peer.map(|peer| peer.key.hex()).unwrap_or_default();
        Ok(echoed(key, codec::raw_message().len().to_string(), draft.remark))
    }

    async fn query_number(
        &self,
        _: Peer,
        _: String,
        number: InvoiceNumber,
    ) -> Result<v1::Outcome, Refusal> {
        Err(Refusal::new(Reason::NotFound, number.to_string()))
    }

    async fn validate(
        &self,
        _: Peer,
        _: Duration,
        _: Option<v1::InvoiceDraft>,
    ) -> Result<v1::ValidateInvoiceResponse, Refusal> {
        Ok(v1::ValidateInvoiceResponse::default())
    }

    /// An endless list, which is refused when the cursor says so.
    async fn list(
        &self,
        _: Peer,
        _: Duration,
        request: &v1::ListInvoicesRequest,
    ) -> Result<InvoicePage, Refusal> {
        if request.cursor == "refuse" {
            return Err(Refusal::new(Reason::FieldInvalid, "as told"));
        }
        let next = request.cursor.parse().unwrap_or(0) + 1;
        let invoice = |number: u64| v1::ListInvoicesResponse {
            cursor: number.to_string(),
            ..v1::ListInvoicesResponse::default()
        };
        Ok(InvoicePage { invoices: (next..next + 10).map(invoice).collect(), more: true })
    }

    async fn void(
        &self,
        _: Peer,
        _: Duration,
        request: v1::VoidInvoiceRequest,
    ) -> Result<v1::VoidInvoiceResponse, Refusal> {
        Err(Refusal::new(Reason::VoidNotAllowed, request.number))
    }

    async fn describe_device(
        &self,
        _: Peer,
        device_id: String,
    ) -> Result<v1::DescribeDeviceResponse, Refusal> {
        Ok(v1::DescribeDeviceResponse { device_id, ..Default::default() })
    }

    async fn monitor(
        &self,
        _: Peer,
        request: v1::GetMonitorRequest,
    ) -> Result<v1::GetMonitorResponse, Refusal> {
        Err(Refusal::new(Reason::NotFound, request.device_id))
    }

    async fn rates(&self, _: Peer, _: String) -> Result<v1::ListRatesResponse, Refusal> {
        Ok(v1::ListRatesResponse::default())
    }

    async fn stock(
        &self,
        _: Peer,
        _: v1::GetStockRequest,
    ) -> Result<v1::GetStockResponse, Refusal> {
        Ok(v1::GetStockResponse::default())
    }

    async fn query(&self, _: Peer, _: String, serial: String) -> Result<v1::Outcome, Refusal> {
        Err(Refusal::new(Reason::NotFound, serial))
    }

    /// The answer's number is the deadline in milliseconds.
    async fn resolve(
        &self,
        _: Peer,
        deadline: Duration,
        taxpayer_id: String,
        serial: String,
    ) -> Result<v1::Outcome, Refusal> {
        Ok(echoed(taxpayer_id, deadline.as_millis().to_string(), serial))
    }

    async fn check_red(
        &self,
        _: Peer,
        asked: v1::CheckRedRequest,
    ) -> Result<v1::CheckRedResponse, Refusal> {
        Err(Refusal::new(Reason::RedOriginalUnknown, asked.number))
    }

    async fn describe_self(&self, peer: Peer) -> Result<v1::GetSelfResponse, Refusal> {
        let now = clock::Clock::system().now();
        let platform = identity::platform(&Registry::default(), peer.as_ref(), now)?;
        Ok(v1::GetSelfResponse { platform_id: platform.id.clone(), ..Default::default() })
    }
}

/// A listener that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) ca: Arc<Ca>,
    pub(crate) api: Arc<Echo>,
    pub(crate) tls: Arc<TlsState>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) health: HealthHandle,
    pub(crate) address: SocketAddr,
    running: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(limits: Limits) -> Self {
        LazyLock::force(&EXPORTER);
        let ca = Arc::new(Ca::new("our CA"));
        let server = ca.issue("server", 2090);
        let files =
            TlsFiles { certificate: server.certificate, key: server.key, client_ca: ca.pem() };
        let tls = Arc::new(TlsState::load(files).unwrap());
        let api = Arc::new(Echo::default());
        Self::over(ca, tls, api, limits, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// One more listener over the same parts, at `address`.
    pub(crate) async fn again(&self, limits: Limits) -> Self {
        let (ca, tls, api) = (Arc::clone(&self.ca), Arc::clone(&self.tls), Arc::clone(&self.api));
        Self::over(ca, tls, api, limits, self.address).await
    }

    async fn over(
        ca: Arc<Ca>,
        tls: Arc<TlsState>,
        api: Arc<Echo>,
        limits: Limits,
        address: SocketAddr,
    ) -> Self {
        let (routes, health) = routes(Arc::<Echo>::clone(&api), GrpcSettings::default()).await;
        let listener = Listener::new(Arc::clone(&tls), routes, limits);
        let socket = TcpListener::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut running = JoinSet::new();
        running.spawn(Arc::clone(&listener).run(socket));
        Self { ca, api, tls, listener, health, address, running }
    }

    /// Waits until it no longer accepts.
    pub(crate) async fn stopped(&mut self) {
        tokio::time::timeout(BOUND, self.running.join_next()).await.expect("it stops accepting");
    }

    pub(crate) fn client_tls(&self, name: &str) -> ClientTls {
        tls_of(&self.ca.pem(), &self.ca.issue(name, 2090))
    }

    pub(crate) async fn channel(&self, tls: &ClientTls) -> Channel {
        channel(&self.address.to_string(), "localhost", tls).await.unwrap()
    }

    pub(crate) async fn client(&self, name: &str) -> InvoiceServiceClient<Channel> {
        InvoiceServiceClient::new(self.channel(&self.client_tls(name)).await)
    }
}

pub(crate) fn tls_of(ca: &Path, pair: &Pair) -> ClientTls {
    ClientTls::load(ca, &pair.certificate, &pair.key).unwrap()
}

/// The SHA-256 of a certificate's key, as the listener names it.
pub(crate) fn key_of(pair: &Pair) -> skproxy::registry::KeyHash {
    identity::PeerCertificate::parse(&pair.der()).unwrap().key
}

pub(crate) fn draft(serial: &str, remark: String) -> v1::IssueInvoiceRequest {
    let draft = v1::InvoiceDraft { serial: serial.into(), remark, ..Default::default() };
    v1::IssueInvoiceRequest { draft: Some(draft) }
}

/// What `Echo` put into the outcome.
pub(crate) fn echo(outcome: Option<v1::Outcome>) -> v1::Voided {
    match outcome.and_then(|outcome| outcome.result) {
        Some(v1::outcome::Result::Voided(voided)) => voided,
        other => panic!("no echo: {other:?}"),
    }
}
