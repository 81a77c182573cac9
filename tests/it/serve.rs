//! `skproxy serve` as an operator runs it: a configuration file, probes, signals, and restarts that
//! lose nothing.

use crate::{
    product::{Demo, Process, client, invoice, issue, known, line, resolved, sample, verified},
    support::{BOUND, eventually, registration},
};
use prost::Message as _;
use rustix::process::Signal;
use skproxy::pb::v1;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tonic::{Code, transport::Channel};
use v1::{invoice_service_client::InvoiceServiceClient, outcome::Result as Wire};

/// A data directory with everything that `serve` needs, and the daemon on it.
pub(crate) struct Served {
    dir: PathBuf,
    process: Process,
    platforms: String,
    ops: String,
}

/// Makes certificates and a configuration file, as the operators' guide tells.
pub(crate) async fn set_up(dir: &Path) {
    let made = line(&format!("certs init --dir {}/pki", dir.display())).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let made = line(&format!("certs issue --name platform --dir {}/pki", dir.display())).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    fs::write(dir.join("passphrase"), "only a test\n").unwrap();
    configure(dir);
}

fn configure(dir: &Path) {
    let passphrase = dir.join("passphrase");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(passphrase, mode).unwrap();
    let text = r#"
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
        reserve_mib = 64
        [log]
        format = "json"
    "#;
    fs::write(dir.join("skproxy.toml"), text).unwrap();
}

impl Served {
    pub(crate) async fn start(dir: &Path) -> Self {
        let config = dir.join("skproxy.toml");
        let mut process = Process::skproxy(&["serve", "--config", config.to_str().unwrap()]);
        let mut addresses = None;
        eventually("serve says where it is", || {
            let log = process.stderr();
            addresses = log.lines().find_map(serving);
            assert!(addresses.is_some() || process.runs(), "serve ended: {log}");
            addresses.is_some()
        })
        .await;
        let (platforms, ops) = addresses.unwrap();
        Self { dir: dir.to_owned(), process, platforms, ops }
    }

    pub(crate) async fn client(&self) -> InvoiceServiceClient<Channel> {
        let pki = self.dir.join("pki");
        client(&self.platforms, &pki.join("ca.pem"), &pki.join("platform.pem")).await
    }

    /// Waits until the probe tells this reason for not being ready.
    pub(crate) async fn is_unready(&self, reason: &str) {
        let told = tokio::time::timeout(BOUND, async {
            let mut every = tokio::time::interval(Duration::from_millis(20));
            while !ask(&self.ops, "/readyz").await.1.contains(reason) {
                every.tick().await;
            }
        });
        assert!(told.await.is_ok(), "the probe never says {reason:?}");
    }

    pub(crate) async fn operate(&self, words: &str) {
        let socket = self.dir.join("admin.sock");
        let ran = line(&format!("{words} --socket {}", socket.display())).await;
        assert_eq!(ran.code, Some(0), "{words}: {ran:?}");
    }

    /// Registers everything that one invoice of the sample's seller needs.
    pub(crate) async fn register(&self) {
        let cert = format!("--cert {}/pki/platform.pem", self.dir.display());
        for words in registration(&cert, "00090000") {
            self.operate(&words).await;
        }
    }

    /// Ends it as a service manager does, then proves its books.
    pub(crate) async fn end(self) -> serde_json::Value {
        let data = self.dir.join("data");
        self.stop().await;
        verified(&data).await
    }

    pub(crate) async fn stop(self) {
        self.process.signal(Signal::TERM);
        let ran = self.process.ended().await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

/// The platform and ops address of a log line that tells them.
fn serving(line: &str) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = value.get("fields")?;
    let text = |key: &str| Some(fields.get(key)?.as_str()?.to_owned());
    (text("message")? == "serving").then_some(())?;
    Some((text("platforms")?, text("ops")?))
}

async fn ask(address: &str, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(BOUND, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_daemon_is_alive_but_ready_only_with_a_device() {
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path()).await;
    let served = Served::start(dir.path()).await;
    assert_eq!(ask(&served.ops, "/livez").await.0, 200);
    let (status, body) = ask(&served.ops, "/readyz").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("no virtual device is registered"), "{body}");
    served.register().await;
    let (status, body) = ask(&served.ops, "/readyz").await;
    assert_eq!(status, 200, "{body}");
    let mut client = served.client().await;
    assert_eq!(issue(&mut client, sample("S1")).await.unwrap().number, "00000001");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_in_shadow_refuses_nothing_and_is_counted_by_platform() {
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path()).await;
    let embedded = include_str!("../../deploy/profiles/baiwang.toml");
    let softened = embedded.replace("[severity]", "[severity]\nLINE_TAX_MISMATCH = \"shadow\"");
    assert_ne!(softened, embedded);
    fs::create_dir(dir.path().join("profiles")).unwrap();
    fs::write(dir.path().join("profiles/baiwang.toml"), softened).unwrap();
    let file = dir.path().join("skproxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("profiles_dir = \"profiles\"\n{text}")).unwrap();
    let served = Served::start(dir.path()).await;
    served.register().await;
    let mut client = served.client().await;
    let mut draft = sample("S1");
    draft.lines[0].tax_fen += 1;
    draft.tax_fen += 1;
    draft.total_fen += 1;
    assert_eq!(issue(&mut client, draft).await.unwrap().number, "00000001");
    let (_, metrics) = ask(&served.ops, "/metrics").await;
    let counted = "skproxy_pipeline_shadowed_total{platform=\"P\",reason=\"LINE_TAX_MISMATCH\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let demo = Demo::start(dir.path()).await;
    let (status, body) = ask(demo.said("ops_address"), "/metrics").await;
    assert_eq!(status, 200);
    let file = dir.path().join("metrics");
    fs::write(&file, &body).unwrap();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(fs::File::open(file).unwrap());
    let checked = promtool.output().unwrap_or_else(|error| {
        panic!("promtool: {error}; run: apt-get install -y --no-install-recommends prometheus")
    });
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
    demo.end().await;
}

/// What a caller under load heard.
enum Heard {
    Invoice(String, v1::Invoice),
    /// The call failed; nobody may have been told that it was issued.
    Nothing(String, tonic::Status),
}

/// Issues until a call fails.
async fn load(
    mut client: InvoiceServiceClient<Channel>,
    caller: usize,
    answered: Arc<AtomicUsize>,
) -> Vec<Heard> {
    let mut heard = Vec::new();
    for number in 0.. {
        let serial = format!("L{caller}-{number}");
        match issue(&mut client, sample(&serial)).await {
            Ok(invoice) => heard.push(Heard::Invoice(serial, invoice)),
            Err(status) => {
                heard.push(Heard::Nothing(serial, status));
                break;
            }
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    heard
}

/// Loads the daemon from eight connections and ends it with `signal` while they call.
async fn ended_under_load(served: Served, signal: Signal) -> (Vec<Heard>, Option<i32>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        callers.spawn(load(served.client().await, caller, Arc::clone(&answered)));
    }
    eventually("there is load", || answered.load(Ordering::Relaxed) > 200).await;
    served.process.signal(signal);
    let code = served.process.ended().await.code;
    (callers.join_all().await.into_iter().flatten().collect(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_no_call() {
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path()).await;
    let served = Served::start(dir.path()).await;
    served.register().await;
    let (heard, code) = ended_under_load(served, Signal::TERM).await;
    assert_eq!(code, Some(0));
    verified(&dir.path().join("data")).await;

    let served = Served::start(dir.path()).await;
    let mut client = served.client().await;
    let mut issued = 0;
    for heard in heard {
        match heard {
            Heard::Invoice(serial, invoice) => {
                found_again(&mut client, &serial, &invoice).await;
                issued += 1;
            }
            Heard::Nothing(serial, status) => {
                let late = resolved(&mut client, &serial).await;
                assert!(
                    matches!(late, Wire::Closed(_)),
                    "{serial}, {status}: was it lost? {late:?}"
                );
                // hyper's own word for a call that it never sent is CANCELLED.
                let unsent = [Code::Unavailable, Code::Cancelled].contains(&status.code());
                assert!(unsent, "{serial}: {status}");
            }
        }
    }
    assert_eq!(served.end().await["issued"], issued);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_no_answered_invoice() {
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path()).await;
    let served = Served::start(dir.path()).await;
    served.register().await;
    let (heard, code) = ended_under_load(served, Signal::KILL).await;
    assert_eq!(code, None, "killed");

    let served = Served::start(dir.path()).await;
    let mut client = served.client().await;
    let (mut issued, mut numbers) = (0, std::collections::BTreeSet::new());
    for heard in heard {
        match heard {
            Heard::Invoice(serial, invoice) => {
                found_again(&mut client, &serial, &invoice).await;
                assert!(numbers.insert(invoice.number), "{serial}: one number, two invoices");
                issued += 1;
            }
            Heard::Nothing(serial, _) => match resolved(&mut client, &serial).await {
                Wire::Issued(found) => {
                    let invoice = found.invoice.unwrap();
                    assert_eq!(issue(&mut client, sample(&serial)).await.unwrap(), invoice);
                    assert!(numbers.insert(invoice.number), "{serial}: one number, two invoices");
                    issued += 1;
                }
                late => assert!(matches!(late, Wire::Closed(_)), "{serial}: {late:?}"),
            },
        }
    }
    let next = issue(&mut client, sample("NEXT")).await.unwrap().number;
    assert_eq!(next, format!("{:08}", issued + 1), "no gap that nobody can explain");
    let found = served.end().await;
    assert_eq!((&found["issued"], &found["open"]), (&(issued + 1).into(), &0.into()));
}

/// The same bytes for a serial, whichever way it is asked for.
async fn found_again(
    client: &mut InvoiceServiceClient<Channel>,
    serial: &str,
    expect: &v1::Invoice,
) {
    let Wire::Issued(issued) = known(client, serial).await else { panic!("{serial} is lost") };
    let found = invoice(Some(v1::Outcome { result: Some(Wire::Issued(issued)) }));
    assert_eq!(found.encode_to_vec(), expect.encode_to_vec(), "{serial}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_names_every_mistake_before_a_port_is_bound() {
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path()).await;
    let file = dir.path().join("skproxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("pki/server.key", "pki/nothing.key").replace("127.0.0.1:0", "here");
    fs::write(&file, text).unwrap();
    for command in ["serve", "config check"] {
        let ran = line(&format!("{command} --config {}", file.display())).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{command}: {ran:?}");
        for key in ["tls.server_key", "platform_address", "ops_address"] {
            assert!(ran.stderr.contains(key), "{command}: {key} is missing: {ran:?}");
        }
    }
    assert!(!dir.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_profile_is_explained_with_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path()).await;
    let file = dir.path().join("skproxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("profiles_dir = \"profiles\"\n{text}")).unwrap();
    let profiles = dir.path().join("profiles");
    fs::create_dir(&profiles).unwrap();
    let own = fs::read_to_string("deploy/profiles/baiwang.toml").unwrap();
    fs::write(profiles.join("own.toml"), own.replace("\"baiwang\"", "\"own\"")).unwrap();
    let ran = line(&format!("config check --config {}", file.display())).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("profiles_dir = "), "{ran:?}");

    let named = format!("{own}\n[tax_codes]\nfile = \"codes.csv\"\n");
    fs::write(profiles.join("own.toml"), named.replace("\"baiwang\"", "\"own\"")).unwrap();
    let ran = line(&format!("config check --config {}", file.display())).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("codes.csv: cannot be read"), "{ran:?}");
    fs::write(profiles.join("codes.csv"), "code,name,rates,preference\n1,a,,\n").unwrap();
    let ran = line(&format!("config check --config {}", file.display())).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("line 2: \"1\" is no code of 19 digits"), "{ran:?}");
    fs::copy("deploy/profiles/tax-codes.sample.csv", profiles.join("codes.csv")).unwrap();
    let ran = line(&format!("config check --config {}", file.display())).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for note in ["profile own: 11 tax codes in codes.csv", "profile aisino: no table of tax codes"]
    {
        assert!(ran.stderr.contains(note), "{ran:?}");
    }

    let formless = own.replace("\"baiwang\"", "\"own\"").replace("\"03\"", "\"04\"");
    fs::write(profiles.join("own.toml"), formless).unwrap();
    let ran = line(&format!("config check --config {}", file.display())).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("\"own\": no device makes a cipher text"), "{ran:?}");

    fs::write(profiles.join("soft.toml"), format!("{own}TOTAL_SUM_MISMATCH = \"off\"\n")).unwrap();
    fs::write(profiles.join("text.toml"), "name = \n").unwrap();
    fs::write(profiles.join("value.toml"), own.replace("version = 1", "version = 0")).unwrap();
    let last = own.lines().count() + 1;
    for command in ["serve", "config check"] {
        let ran = line(&format!("{command} --config {}", file.display())).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{command}: {ran:?}");
        for words in [
            "soft.toml: TOML parse error at line",
            &format!("at line {last}, column 1"),
            "TOTAL_SUM_MISMATCH always refuses",
            "text.toml: TOML parse error at line 1, column 8",
            "value.toml: line 4, column 1: version must be at least 1",
        ] {
            assert!(ran.stderr.contains(words), "{command}: no {words:?}: {ran:?}");
        }
    }
}
