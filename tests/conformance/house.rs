//! One proxy with its authority, two platforms and what they were told. Whoever asks here notes
//! every answer, and the end of a house proves that all of them were true.

use crate::{
    authority::{Authority, Number},
    process::{BOUND, Process, Ran, run, wait_for},
};
use prost::Message as _;
use rustix::process::Signal;
use serde_json::Value;
use skproxy::{
    clock::{self, Clock},
    config::Config,
    contract::sample::{self, SELLER},
    convert,
    daemon::{self, Daemon},
    metrics,
    pb::{admin::v1 as admin, v1},
    transport::{ClientTls, channel},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;
use v1::{invoice_service_client::InvoiceServiceClient, outcome::Result as Wire};

/// The device under test.
pub(crate) const DEVICE: &str = "HW";
/// How long a caller waits for one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// Platforms of a house.
const PLATFORMS: [&str; 2] = ["one", "two"];

type Client = InvoiceServiceClient<Channel>;
/// A platform, and its serial.
type Key = (usize, String);

/// What a call was answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Issued(Box<v1::Invoice>),
    InDoubt,
    /// Nothing was spent: the reason, the text, and when to try again.
    Refused(String, String, Option<Duration>),
    /// None in time, or the daemon ended.
    Late,
}

/// Numbers that a device drew and should not have.
#[derive(Debug, Default)]
pub(crate) struct Odd {
    /// For nobody that we know.
    pub(crate) spent: Vec<Number>,
    /// Outside its segments.
    pub(crate) outside: Vec<Number>,
}

enum Running {
    Child(Process),
    Here(Box<Daemon>),
}

/// A proxy and its surroundings.
pub(crate) struct House {
    pub(crate) authority: Authority,
    dir: TempDir,
    environment: Vec<(&'static str, PathBuf)>,
    running: Option<Running>,
    clients: Vec<Client>,
    told: Mutex<BTreeMap<Key, v1::Invoice>>,
    sent: Mutex<BTreeSet<Key>>,
}

impl House {
    /// Makes one with `limits` as lines of its configuration; `environment` is the daemon's. With
    /// `here` the daemon runs in this process.
    pub(crate) async fn new(
        limits: &str,
        environment: Vec<(&'static str, PathBuf)>,
        here: bool,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        for words in ["init", "issue --name one", "issue --name two"] {
            let made = run(&format!("certs {words} --dir {at}/pki"));
            assert_eq!(made.code, Some(0), "{made:?}");
        }
        let passphrase = dir.path().join("passphrase");
        fs::write(&passphrase, "only a test\n").unwrap();
        fs::set_permissions(passphrase, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(dir.path().join("skproxy.toml"), configuration(limits)).unwrap();
        let authority = Authority::start(dir.path());
        let (told, sent) = Default::default();
        let mut house =
            Self { authority, dir, environment, running: None, clients: Vec::new(), told, sent };
        house.start(here).await;
        house.register();
        house
    }

    async fn start(&mut self, here: bool) {
        let config = self.dir.path().join("skproxy.toml");
        let address = if here {
            let config = Config::load(&config).unwrap();
            let exporter = metrics::install().unwrap();
            let daemon = daemon::start(&config, exporter, Clock::system()).await.unwrap();
            let address = daemon.platform_address.to_string();
            self.running = Some(Running::Here(Box::new(daemon)));
            address
        } else {
            let words = format!("serve --config {}", config.display());
            let mut child = Process::start(&words, self.environment.clone());
            let address =
                child.says("serve says where it is", |it| it.stderr().lines().find_map(serving));
            self.running = Some(Running::Child(child));
            address
        };
        self.clients.clear();
        let pki = self.dir.path().join("pki");
        for name in PLATFORMS {
            let cert = pki.join(format!("{name}.pem"));
            let key = cert.with_extension("key");
            let tls = ClientTls::load(&pki.join("ca.pem"), &cert, &key).unwrap();
            let channel = channel(&address, "localhost", &tls).await.unwrap();
            self.clients.push(InvoiceServiceClient::new(channel));
        }
    }

    fn register(&self) {
        let (id, name) = (SELLER.taxpayer_id, SELLER.name);
        self.operated(&format!("taxpayer add --id {id} --name {name} --province 44"));
        for platform in PLATFORMS {
            let cert = self.dir.path().join(format!("pki/{platform}.pem"));
            let add = format!("platform add --id {platform} --name 示例平台 --cert");
            self.operated(&format!("{add} {}", cert.display()));
            self.operated(&format!("binding add --platform {platform} --taxpayer {id}"));
        }
        self.operated(&self.authority.route());
    }

    /// Runs an operator's command.
    #[track_caller]
    pub(crate) fn operate(&self, words: &str) -> Ran {
        let socket = self.dir.path().join("admin.sock");
        run(&format!("{words} --format json --socket {}", socket.display()))
    }

    /// The same, which must be done.
    #[track_caller]
    pub(crate) fn operated(&self, words: &str) -> Value {
        self.operate(words).json()
    }

    /// Adds a device; `words` are its backend and connection.
    pub(crate) async fn add_device(&self, id: &str, machine: &str, words: &str) {
        self.operated(&format!(
            "device add --id {id} --taxpayer {} --machine-number {machine} --kind e-normal {words}",
            SELLER.taxpayer_id
        ));
        self.announce(id).await;
    }

    /// Lets the authority know the key of a device.
    pub(crate) async fn announce(&self, id: &str) {
        let shown = self.operated(&format!("device show {id}"));
        let shown = &shown["devices"][0];
        let (key, backend) = (&shown["public_key"], &shown["backend"]);
        let json = serde_json::json!({ "public_key": key, "backend": backend }).to_string();
        let device: admin::Device =
            skproxy::cli::output::from_json("skproxy.admin.v1.Device", &json).unwrap();
        self.authority.register(id, SELLER.taxpayer_id, device).await;
    }

    /// Gives a device numbers of the authority.
    pub(crate) async fn stock_up(&self, id: &str, count: u32) {
        let segment = self.authority.acquire(id, count).await;
        self.operated(&format!(
            "stock add --device {id} --kind e-normal --code {} --first {} --last {}",
            segment.first.code,
            segment.first.number_text(),
            segment.last.number_text()
        ));
    }

    /// Waits until a device may sign.
    #[track_caller]
    pub(crate) fn usable(&self, id: &str) {
        wait_for("the device becomes usable", || {
            let shown = self.operated(&format!("device show {id}"));
            (shown["devices"][0]["unusable_reason"] == "").then_some(())
        });
    }

    /// Why a device's series is frozen; empty when it is not.
    #[track_caller]
    pub(crate) fn frozen(&self, id: &str) -> String {
        let shown = self.operated(&format!("series show {id}"));
        shown["series"][0]["frozen_reason"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn unfreeze(&self, id: &str) {
        let words = format!("series unfreeze --device {id} --kind e-normal");
        self.operated(&format!("{words} --reason looked-into --yes"));
    }

    /// The daemon's process id; 0 when it is this process.
    pub(crate) fn daemon(&self) -> u32 {
        match &self.running {
            Some(Running::Child(child)) => child.id(),
            _ => 0,
        }
    }

    /// The daemon, when it is this process's.
    pub(crate) fn here(&self) -> &Daemon {
        match &self.running {
            Some(Running::Here(daemon)) => daemon,
            _ => panic!("the daemon is a process of its own"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        match &self.running {
            Some(Running::Child(child)) => child.signal(signal),
            _ => panic!("the daemon is this process"),
        }
    }

    /// Starts another daemon when the one before has ended.
    pub(crate) async fn again(&mut self) {
        if let Some(Running::Child(child)) = self.running.take() {
            child.ended();
        }
        self.start(false).await;
    }

    /// Asks once, within `patience`.
    pub(crate) async fn ask(&self, (platform, draft): (usize, v1::InvoiceDraft)) -> Answer {
        self.ask_within((platform, draft), PATIENCE).await
    }

    pub(crate) async fn ask_within(
        &self,
        (platform, draft): (usize, v1::InvoiceDraft),
        patience: Duration,
    ) -> Answer {
        let key = (platform, draft.serial.clone());
        self.sent.lock().unwrap().insert(key.clone());
        let mut client = self.clients[platform].clone();
        let mut request =
            tonic::Request::new(v1::IssueInvoiceRequest { draft: Some(draft.clone()) });
        request.set_timeout(patience);
        let call = tokio::time::timeout(BOUND, client.issue_invoice(request));
        match call.await.expect("an answer in time") {
            Ok(answer) => match answer.into_inner().outcome.and_then(|it| it.result) {
                Some(Wire::Issued(issued)) => {
                    let invoice = issued.invoice.expect("ISSUED holds an invoice");
                    assert_eq!(invoice.draft, Some(draft), "the content that was asked for");
                    self.note(key, &invoice);
                    Answer::Issued(Box::new(invoice))
                }
                Some(Wire::InDoubt(_)) => Answer::InDoubt,
                other => panic!("{key:?}: {other:?}"),
            },
            Err(status) => refused(status),
        }
    }

    /// Two answers to one serial are one.
    #[track_caller]
    fn note(&self, key: Key, invoice: &v1::Invoice) {
        let mut told = self.told.lock().unwrap();
        let before = told.entry(key).or_insert_with(|| invoice.clone());
        assert_eq!(before, invoice, "a serial names one invoice for ever");
    }

    /// Asks again and again, with the same serial, until it is issued.
    pub(crate) async fn issue(&self, platform: usize, serial: &str) -> v1::Invoice {
        self.issue_draft(platform, sample::draft(serial, SELLER)).await
    }

    pub(crate) async fn issue_draft(
        &self,
        platform: usize,
        draft: v1::InvoiceDraft,
    ) -> v1::Invoice {
        const LATER: [&str; 3] = ["DEVICE_UNAVAILABLE", "SERIES_BACKLOG", "NOT_ISSUED"];
        let begin = clock::monotonic();
        let mut every = tokio::time::interval(Duration::from_millis(20));
        loop {
            every.tick().await;
            let answer = self.ask((platform, draft.clone())).await;
            match &answer {
                Answer::Issued(invoice) => return invoice.as_ref().clone(),
                Answer::InDoubt | Answer::Late => {}
                Answer::Refused(reason, ..) if LATER.contains(&reason.as_str()) => {}
                other => panic!("{}: {other:?}", draft.serial),
            }
            assert!(begin.elapsed() < BOUND, "{}: at last {answer:?}", draft.serial);
        }
    }

    /// What a platform knows of a serial.
    pub(crate) async fn known(&self, (platform, serial): (usize, &str)) -> Wire {
        let (taxpayer_id, serial) = (SELLER.taxpayer_id.into(), serial.to_owned());
        let mut client = self.clients[platform].clone();
        let answer = client.get_invoice(v1::GetInvoiceRequest { taxpayer_id, serial });
        answer.await.unwrap().into_inner().outcome.unwrap().result.unwrap()
    }

    /// The final word on a serial; none while it is in doubt.
    async fn resolved(&self, key: &Key) -> Option<Wire> {
        let (taxpayer_id, serial) = (SELLER.taxpayer_id.into(), key.1.clone());
        let mut client = self.clients[key.0].clone();
        let mut request = tonic::Request::new(v1::ResolveInvoiceRequest { taxpayer_id, serial });
        request.set_timeout(PATIENCE);
        let wire = client.resolve_invoice(request).await.ok()?.into_inner().outcome?.result?;
        (!matches!(wire, Wire::InDoubt(_))).then_some(wire)
    }

    /// The numbers that the callers were told of.
    pub(crate) fn numbers(&self) -> Vec<Number> {
        let told = self.told.lock().unwrap();
        told.values().map(|it| (it.code.clone(), it.number.clone())).collect()
    }

    /// How many invoices the callers were told of.
    pub(crate) fn count(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    /// Every serial that was ever sent ends as exactly one invoice, or closed; the numbers have no
    /// gap, the authority's ledger is ours, and the books prove themselves. Gives what was issued.
    pub(crate) async fn end(mut self, odd: &Odd) -> BTreeSet<Number> {
        self.settle().await;
        let told = self.told.lock().unwrap().clone();
        let number = |invoice: &v1::Invoice| (invoice.code.clone(), invoice.number.clone());
        let ours: BTreeMap<Number, Vec<u8>> = told
            .values()
            .map(|it| (number(it), convert::sha256(&it.encode_to_vec()).to_vec()))
            .collect();
        assert_eq!(ours.len(), told.len(), "a number was given twice");
        let spent = odd.spent.iter().map(|it| (DEVICE.to_owned(), it.clone()));
        let all = told.values().map(|it| (it.device_id.clone(), number(it))).chain(spent);
        no_gap(all.filter(|(_, number)| !odd.outside.contains(number)));
        wait_for("the authority's ledger equals ours", || {
            let ledger = self.authority.ledger();
            let foreign = ledger.iter().find(|(number, digest)| ours.get(number) != Some(digest));
            assert!(foreign.is_none(), "the authority holds what nobody was told: {foreign:?}");
            (ledger == ours).then_some(())
        });
        for key in told.keys() {
            self.accepted(key).await;
        }
        match self.running.take().expect("it runs") {
            Running::Child(child) => {
                child.signal(Signal::TERM);
                let ran = child.ended();
                assert_eq!(ran.code, Some(0), "{ran:?}");
            }
            Running::Here(daemon) => daemon.drain().await,
        }
        let data = self.dir.path().join("data");
        let found = run(&format!("verify --format json --data {}", data.display())).json();
        assert_eq!((&found["ok"], &found["problems"]), (&true.into(), &Value::Array(Vec::new())));
        let counts = (&found["issued"], &found["open"]);
        assert_eq!(counts, (&told.len().into(), &0.into()), "{found}");
        ours.into_keys().collect()
    }

    /// Hears the final word on every serial that was ever sent; an unused one is closed by it.
    pub(crate) async fn settle(&self) {
        let keys: Vec<Key> = self.sent.lock().unwrap().iter().cloned().collect();
        for key in keys {
            self.resolve(&key).await;
        }
    }

    async fn resolve(&self, key: &Key) {
        let begin = clock::monotonic();
        let mut every = tokio::time::interval(Duration::from_millis(20));
        let wire = loop {
            every.tick().await;
            if let Some(wire) = self.resolved(key).await {
                break wire;
            }
            assert!(begin.elapsed() < BOUND, "{key:?} stays in doubt");
        };
        match wire {
            Wire::Issued(issued) => self.note(key.clone(), &issued.invoice.unwrap()),
            Wire::Closed(_) | Wire::Voided(_) => {
                assert!(!self.told.lock().unwrap().contains_key(key), "{key:?} was issued");
            }
            other => panic!("{key:?}: {other:?}"),
        }
    }

    /// The authority verified the signature of a serial's invoice.
    async fn accepted(&self, key: &Key) {
        let begin = clock::monotonic();
        let mut every = tokio::time::interval(Duration::from_millis(20));
        loop {
            every.tick().await;
            let Wire::Issued(issued) = self.known((key.0, &key.1)).await else {
                panic!("{key:?} is not issued any more");
            };
            match issued.delivery.unwrap_or_default().state() {
                v1::Delivery::Accepted => return,
                v1::Delivery::Pending => {}
                other => panic!("{key:?}: {other:?}"),
            }
            assert!(begin.elapsed() < BOUND, "{key:?} is never accepted");
        }
    }
}

/// The numbers of a device under one code follow each other.
fn no_gap(numbers: impl Iterator<Item = (String, Number)>) {
    let mut runs: BTreeMap<(String, String), BTreeSet<u32>> = BTreeMap::new();
    for (device, (code, number)) in numbers {
        runs.entry((device, code)).or_default().insert(number.parse().unwrap());
    }
    for (of, numbers) in runs {
        let first = *numbers.first().unwrap();
        let whole = numbers.iter().copied().eq((first..).take(numbers.len()));
        assert!(whole, "{of:?}: a gap in {numbers:?}");
    }
}

fn refused(status: Status) -> Answer {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => {
            let again = details.retry_info().and_then(|info| info.retry_delay);
            Answer::Refused(info.reason.clone(), status.message().to_owned(), again)
        }
        None => {
            use tonic::Code::{Cancelled, DeadlineExceeded, Unavailable, Unknown};
            let code = status.code();
            let is_late = [Cancelled, DeadlineExceeded, Unavailable, Unknown].contains(&code);
            assert!(is_late, "no answer of ours: {status:?}");
            Answer::Late
        }
    }
}

/// The platforms' address in a log line that tells it.
fn serving(line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    let fields = value.get("fields")?;
    let text = |key: &str| Some(fields.get(key)?.as_str()?.to_owned());
    (text("message")? == "serving").then_some(())?;
    text("platforms")
}

fn configuration(limits: &str) -> String {
    format!(
        r#"
        data_dir = "data"
        platform_address = "127.0.0.1:0"
        ops_address = "127.0.0.1:0"
        admin_socket = "admin.sock"
        [tls]
        server_cert = "pki/server.pem"
        server_key = "pki/server.key"
        client_ca = "pki/ca.pem"
        [upstream]
        ca = "pki/ca.pem"
        cert = "pki/proxy-client.pem"
        key = "pki/proxy-client.key"
        [key_store]
        passphrase_file = "passphrase"
        [store]
        reserve_mib = 16
        [delivery]
        interval_ms = 100
        [log]
        format = "json"
        [limits]
        {limits}
        "#
    )
}
