//! The tax server's backend against the simulator, and against a server that says exactly what a
//! test wants. Nothing of a real company, person or device.

mod canned;
mod doubt;
mod faults;
mod operations;
mod wire;

use super::*;
use crate::{
    contract::{ContentDigest, sample},
    model::{
        ClaimId, Color, CstTime, DeviceNo, Fen, PlatformNo, RequestKey, Serial, SeriesNo,
        TaxpayerNo, Totals,
    },
    registry::BackendKind,
    signer::{CipherForm, DeviceKey, key::fresh_scalar},
    skserver_sim::{self, Options, RunningSim},
    store::{Assignment, ClaimHead, durable_for_tests},
};
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};
use tokio::runtime::Runtime;

/// The bound of everything that is waited for.
const BOUND: Duration = Duration::from_secs(60);

const CODE: &str = "044002600111";
const KPZDBS: &str = "91000000TEST000001~~000000000001";
const DEVICES: &str = include_str!("../../../../deploy/skserver-sim.toml");

fn key() -> Arc<DeviceKey> {
    let kind = BackendKind::SoftwareP256;
    Arc::new(DeviceKey::from_scalar(kind, &fresh_scalar(kind).unwrap()).unwrap())
}

fn config(url: &str) -> SkServerConfig {
    SkServerConfig {
        device_id: "sk-1".into(),
        url: url.into(),
        ca: None,
        kpzdbs: KPZDBS.into(),
        taxpayer_id: sample::SELLER.taxpayer_id.into(),
        machine_number: "499000000001".into(),
        timeout: BOUND,
        quiescence: Duration::from_secs(5),
        cipher_form: CipherForm::Baiwang,
    }
}

/// A running simulator and what reaches it.
struct House {
    config: SkServerConfig,
    key: Arc<DeviceKey>,
    sim: Option<RunningSim>,
    options: Options,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(tls: Option<(PathBuf, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let devices = folder.path().join("devices.toml");
        fs::write(&devices, DEVICES.replace("last = 10000", "last = 3")).unwrap();
        let options = Options {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            devices,
            state: folder.path().join("state.db"),
            tls,
            clock: Clock::system(),
        };
        let runtime = Runtime::new().unwrap();
        let sim = runtime.block_on(skserver_sim::start(&options)).unwrap();
        let config = config(&sim.url);
        Self { config, key: key(), sim: Some(sim), options, runtime, folder }
    }

    fn session(&self) -> SkServer {
        SkServer::new(self.config.clone(), Arc::clone(&self.key), Clock::system()).unwrap()
    }

    /// Lets the fault strike, and gives the session that shall meet it: one that gives up soon
    /// only when the fault is a silence. An answer is waited for, however slow the machine is.
    fn struck(&self, fault: &str) -> SkServer {
        self.sim.as_ref().unwrap().faults.push(fault).unwrap();
        let is_silent = ["drop-", "late="].iter().any(|silence| fault.contains(silence));
        // Long enough for the request to be heard.
        let timeout = if is_silent { Duration::from_secs(3) } else { BOUND };
        let config = SkServerConfig { timeout, ..self.config.clone() };
        SkServer::new(config, Arc::clone(&self.key), Clock::system()).unwrap()
    }

    /// Stops the simulator and starts it again on the same state.
    fn restart(&mut self) {
        drop(self.sim.take());
        // The state file is free once the last task of the old one has ended.
        let sim = self.runtime.block_on(async {
            let mut every = tokio::time::interval(Duration::from_millis(10));
            let again = tokio::time::timeout(BOUND, async {
                loop {
                    every.tick().await;
                    if let Ok(sim) = skserver_sim::start(&self.options).await {
                        return sim;
                    }
                }
            });
            again.await.expect("it starts again")
        });
        self.config.url.clone_from(&sim.url);
        self.sim = Some(sim);
    }
}

/// A claim whose number the device draws: `nth` makes its device serial.
fn claim(nth: u32, draft: pb::InvoiceDraft) -> Durable<Claim> {
    let kind = Kind::from_wire(draft.kind).unwrap();
    let totals = Totals {
        amount: Fen(draft.amount_fen),
        tax: Fen(draft.tax_fen),
        total: Fen(draft.total_fen),
    };
    let assignment = Assignment::ByDevice {
        device_serial: DeviceSerial(format!("S{nth:019}")),
        next: InvoiceNumber { code: CODE.into(), number: 1 },
    };
    durable_for_tests(Claim {
        id: ClaimId(i64::from(nth)),
        series: SeriesNo(1),
        device: DeviceNo(1),
        request: RequestKey {
            platform: PlatformNo(1),
            taxpayer: TaxpayerNo(1),
            serial: Serial::parse(&draft.serial).unwrap(),
        },
        digest: ContentDigest { version: 1, bytes: [0; 32] },
        assignment,
        claimed_at: Clock::system().now(),
        kind,
        color: if draft.color() == pb::InvoiceColor::Red { Color::Red } else { Color::Blue },
        totals,
        red_of: None,
        head: ClaimHead::encode(&pb::Invoice { draft: Some(draft), ..pb::Invoice::default() }),
        event: None,
    })
}

fn sample_claim(nth: u32) -> Durable<Claim> {
    claim(nth, sample::draft(&format!("R{nth}"), sample::SELLER))
}

fn serial(claim: &Claim) -> DeviceSerial {
    match &claim.assignment {
        Assignment::ByDevice { device_serial, .. } => device_serial.clone(),
        Assignment::Numbered { .. } => panic!("not a device's claim"),
    }
}

/// What an attempt came to, in a word.
fn word<T>(result: &Result<T, SignerError>) -> &'static str {
    match result {
        Ok(_) => "issued",
        Err(SignerError::InDoubt { .. }) => "in doubt",
        Err(SignerError::Refused { .. }) => "refused",
        Err(SignerError::Unavailable { .. }) => "unavailable",
        Err(SignerError::SessionLost { .. }) => "session lost",
        Err(SignerError::Pin { .. }) => "pin",
        Err(SignerError::AnswerInvalid { .. }) => "invalid",
    }
}

fn today() -> CstTime {
    Clock::system().now()
}
