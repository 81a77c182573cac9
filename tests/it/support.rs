//! What tests share: throw-away certificates, a running listener, the words that register a house,
//! and waiting for a state with a bound.

use crate::fake::Fake;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use skproxy::{
    contract::sample::SELLER,
    identity,
    listener::{GrpcSettings, HealthHandle, Limits, Listener, TlsFiles, TlsState, routes},
    metrics::{self, Exporter},
    pb::v1,
    transport::{ClientTls, channel},
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport::Channel;
use v1::invoice_service_client::InvoiceServiceClient;

/// The bound of everything that is waited for.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

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

/// A listener that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) ca: Arc<Ca>,
    pub(crate) api: Arc<Fake>,
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
        let api = Arc::new(Fake::default());
        Self::over(ca, tls, api, limits).await
    }

    /// One more listener over the same parts, at an address of its own: the old one may be somebody
    /// else's by now.
    pub(crate) async fn again(&self, limits: Limits) -> Self {
        let (ca, tls, api) = (Arc::clone(&self.ca), Arc::clone(&self.tls), Arc::clone(&self.api));
        Self::over(ca, tls, api, limits).await
    }

    async fn over(ca: Arc<Ca>, tls: Arc<TlsState>, api: Arc<Fake>, limits: Limits) -> Self {
        let (routes, health) = routes(Arc::<Fake>::clone(&api), GrpcSettings::default()).await;
        let listener = Listener::new(Arc::clone(&tls), routes, limits);
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
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

/// The operators' commands that register platform `P` (with `platform`, more words of its own), the
/// sample's seller, device `D` and the numbers 00000001 to `last` of it.
pub(crate) fn registration(platform: &str, last: &str) -> [String; 5] {
    let (id, name) = (SELLER.taxpayer_id, SELLER.name);
    [
        format!("platform add --id P --name 示例平台 {platform}").trim_end().to_owned(),
        format!("taxpayer add --id {id} --name {name} --province 44"),
        format!("binding add --platform P --taxpayer {id}"),
        format!(
            "device add --id D --taxpayer {id} --machine-number 000000000001 \
             --backend software-p256 --kind e-normal"
        ),
        format!(
            "stock add --device D --kind e-normal --code 044002600111 --first 00000001 \
             --last {last}"
        ),
    ]
}
