//! The real binary as a child process, and a demo that stays up: what the tests of the whole
//! product share. Every child is killed when its test ends, and everything that is waited for has
//! a bound.

use crate::support::{BOUND, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use skproxy::{
    contract::sample::{self, SELLER},
    pb::v1,
    transport::{ClientTls, channel},
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;
use v1::{invoice_service_client::InvoiceServiceClient, outcome::Result as Wire};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_skproxy");

/// A child with its output in files, so that no pipe can fill up.
pub(crate) struct Process {
    child: Child,
    dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The one JSON value on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(dir.path().join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        command.env_remove("SKPROXY_LOG").env_remove("SKPROXY_SOCKET");
        Self { child: command.spawn().unwrap(), dir }
    }

    pub(crate) fn skproxy(arguments: &[impl AsRef<OsStr>]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        Self::start(command)
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("err")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it ended.
    pub(crate) async fn ended(mut self) -> Ran {
        let mut status = None;
        eventually("the child ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let code = status.and_then(|status| status.code());
        Ran { code, stdout: self.stdout(), stderr: self.stderr() }
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already; nobody else has its id until it is waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs `skproxy` to its end.
pub(crate) async fn run(arguments: &[impl AsRef<OsStr>]) -> Ran {
    Process::skproxy(arguments).ended().await
}

/// Runs a line of words; no word of it may hold a space.
pub(crate) async fn line(words: &str) -> Ran {
    run(&words.split(' ').collect::<Vec<_>>()).await
}

/// A demo that stays up.
pub(crate) struct Demo {
    process: Process,
    dir: PathBuf,
    said: Value,
}

impl Demo {
    pub(crate) async fn start(dir: &Path) -> Self {
        let dir = dir.to_str().unwrap();
        let mut process = Process::skproxy(&["demo", "--dir", dir, "--format", "json"]);
        let mut said = None;
        eventually("the demo says where it is", || {
            said = serde_json::from_str(&process.stdout()).ok();
            assert!(process.runs(), "the demo ended: {}", process.stderr());
            said.is_some()
        })
        .await;
        Self { process, dir: dir.into(), said: said.unwrap() }
    }

    /// A text of what the demo said.
    pub(crate) fn said(&self, key: &str) -> &str {
        self.said[key].as_str().unwrap_or_else(|| panic!("no {key}: {}", self.said))
    }

    pub(crate) fn pki(&self, file: &str) -> PathBuf {
        self.dir.join("pki").join(file)
    }

    /// A client over a connection of its own.
    pub(crate) async fn client(&self) -> InvoiceServiceClient<Channel> {
        self.client_named("platform").await
    }

    /// A channel of its own, with a certificate of the demo's CA.
    pub(crate) async fn channel(&self, name: &str) -> Channel {
        let cert = self.pki(&format!("{name}.pem"));
        let tls = ClientTls::load(&self.pki("ca.pem"), &cert, &cert.with_extension("key")).unwrap();
        channel(self.said("platform_address"), "localhost", &tls).await.unwrap()
    }

    /// A client with another certificate of the demo's CA.
    pub(crate) async fn client_named(&self, name: &str) -> InvoiceServiceClient<Channel> {
        let cert = self.pki(&format!("{name}.pem"));
        client(self.said("platform_address"), &self.pki("ca.pem"), &cert).await
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Runs an operator's command, a line of words.
    pub(crate) async fn operate(&self, words: &str) -> Ran {
        line(&format!("{words} --socket {}", self.said("admin_socket"))).await
    }

    /// The same, which must be done and answer one JSON value.
    pub(crate) async fn operated(&self, words: &str) -> Value {
        let ran = self.operate(&format!("{words} --format json")).await;
        assert_eq!(ran.code, Some(0), "{words}: {ran:?}");
        ran.json()
    }

    /// Ends it in order, then proves its books.
    pub(crate) async fn end(self) -> Value {
        self.process.signal(Signal::TERM);
        let ran = self.process.ended().await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        verified(&self.dir.join("data")).await
    }

    /// Sends the signal that nothing can catch; `kill` waits for the end.
    pub(crate) fn signal_kill(&self) {
        self.process.signal(Signal::KILL);
    }

    /// Ends it without a warning.
    pub(crate) async fn kill(self) {
        self.process.signal(Signal::KILL);
        self.process.ended().await;
    }
}

/// Proves books that nobody has open, and says what they hold.
pub(crate) async fn verified(data: &Path) -> Value {
    let data = data.to_str().unwrap();
    let ran = run(&["verify", "--format", "json", "--data", data]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let found = ran.json();
    assert_eq!((&found["ok"], &found["problems"]), (&true.into(), &Value::Array(Vec::new())));
    found
}

/// A client to any proxy; the key is beside the certificate.
pub(crate) async fn client(address: &str, ca: &Path, cert: &Path) -> InvoiceServiceClient<Channel> {
    let tls = ClientTls::load(ca, cert, &cert.with_extension("key")).unwrap();
    InvoiceServiceClient::new(channel(address, "localhost", &tls).await.unwrap())
}

/// Issues a draft, within the bound.
pub(crate) async fn issue(
    client: &mut InvoiceServiceClient<Channel>,
    draft: v1::InvoiceDraft,
) -> Result<v1::Invoice, Status> {
    let call = client.issue_invoice(v1::IssueInvoiceRequest { draft: Some(draft) });
    let answer = tokio::time::timeout(BOUND, call).await.expect("an answer in time")?;
    Ok(invoice(answer.into_inner().outcome))
}

/// The sample draft of the demo's seller.
pub(crate) fn sample(serial: &str) -> v1::InvoiceDraft {
    sample::draft(serial, SELLER)
}

pub(crate) fn invoice(outcome: Option<v1::Outcome>) -> v1::Invoice {
    match outcome.and_then(|outcome| outcome.result) {
        Some(Wire::Issued(issued)) => issued.invoice.expect("ISSUED holds an invoice"),
        other => panic!("not issued: {other:?}"),
    }
}

/// What is known of a serial of the demo's seller.
pub(crate) async fn known(client: &mut InvoiceServiceClient<Channel>, serial: &str) -> Wire {
    let (taxpayer_id, serial) = (SELLER.taxpayer_id.into(), serial.to_owned());
    let answer = client.get_invoice(v1::GetInvoiceRequest { taxpayer_id, serial }).await.unwrap();
    answer.into_inner().outcome.unwrap().result.unwrap()
}

/// The final word on a serial of the demo's seller.
pub(crate) async fn resolved(client: &mut InvoiceServiceClient<Channel>, serial: &str) -> Wire {
    let (taxpayer_id, serial) = (SELLER.taxpayer_id.into(), serial.to_owned());
    let request = v1::ResolveInvoiceRequest { taxpayer_id, serial };
    let answer = client.resolve_invoice(request).await.unwrap();
    answer.into_inner().outcome.unwrap().result.unwrap()
}

/// Waits until the authority's verified receipt for a serial is stored.
pub(crate) async fn receipt(
    client: &mut InvoiceServiceClient<Channel>,
    serial: &str,
) -> v1::ReceiptReference {
    let mut every = tokio::time::interval(Duration::from_millis(20));
    let waited = tokio::time::timeout(BOUND, async {
        loop {
            every.tick().await;
            if let Wire::Issued(issued) = known(client, serial).await
                && let Some(receipt) = issued.delivery.and_then(|delivery| delivery.receipt)
            {
                return receipt;
            }
        }
    });
    waited.await.expect("a receipt in time")
}

/// The reason of a refusal; empty when the status is none of ours.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
