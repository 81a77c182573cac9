//! One proxy's world on disk, and the proxy itself without ports: books, numbering, signers and the
//! pipeline, called as the listener calls them.

use crate::{
    faults::{Faults, Shim},
    ledger::{Answer, Invoice},
};
use skproxy::{
    admission::Admission,
    clock::Clock,
    contract::{Profiles, sample},
    daemon::{self, Core},
    identity::PeerCertificate,
    model::{CstTime, InvoiceNumber, Kind},
    numbering::{Limits, NewDevice, NewSegment},
    pb::v1 as pb,
    pipeline::{Pipeline, PlatformApi as _},
    refusal,
    registry::{BackendKind, KeyHash},
    secret::Secret,
    signer::{Backend, RandomFaults, Segment, SimulatedConfig, SimulatedDevice},
    store::embedded::Options,
    tasks,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinHandle;

/// Set for a worker whose log is not moved into the books while it runs.
pub(crate) const LOG_STAYS: &str = "SKPROXY_CRASH_LOG_STAYS";
/// Code of the software device's numbers, which begin at 1.
pub(crate) const SOFTWARE_CODE: &str = "044001900111";
/// Code of the numbers that the simulated device draws.
pub(crate) const DEVICE_CODE: &str = "044001900222";
const LAST: u32 = 9_999_999;
/// The bound of everything that is waited for.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
const SOFTWARE: &str = "soft-1";
const DEVICE: &str = "ukey-1";
const PLATFORM: &str = "P1";

/// splitmix64: the same in every run of one seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What a serial stands for: one that begins with `D` goes to the device that draws numbers, any
/// other is on paper, so that it may be voided.
pub(crate) fn draft(serial: &str) -> pb::InvoiceDraft {
    let lines = serial.bytes().fold(0_u8, u8::wrapping_add) % 4 + 1;
    let mut draft = sample::draft_with_lines(serial, sample::SELLER, lines);
    let drawn = serial.starts_with('D');
    draft.device_id = if drawn { DEVICE } else { SOFTWARE }.into();
    draft.kind = if drawn { Kind::ENormal } else { Kind::NormalPaper }.to_wire().into();
    draft
}

/// What a worker is told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Orders {
    /// Names the serials of this life and seeds all that it does.
    pub(crate) life: u64,
    /// Clients at once.
    pub(crate) tasks: u64,
    /// Calls of each; then the worker ends in order.
    pub(crate) calls: u64,
    /// How many of 1000 requests go wrong at the device.
    pub(crate) device_faults: u64,
}

/// The directories of one proxy.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) root: PathBuf,
}

/// A child that does not outlive its test.
#[derive(Debug)]
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl World {
    pub(crate) fn new(root: &Path) -> Self {
        let world = Self { root: root.canonicalize().unwrap() };
        fs::create_dir_all(world.data()).unwrap();
        fs::create_dir_all(world.device()).unwrap();
        world
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn device(&self) -> PathBuf {
        self.root.join("device")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    pub(crate) fn options(&self) -> Options {
        Options { reserve_bytes: 0, ..Options::in_dir(&self.data()) }
    }

    /// A worker over this world; not started yet.
    pub(crate) fn worker(&self, orders: Orders, faults: Option<&Faults>) -> Command {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "worker::the_worker_works", "--nocapture"]);
        let Orders { life, tasks, calls, device_faults } = orders;
        child.env("SKPROXY_CRASH_ORDERS", format!("{life} {tasks} {calls} {device_faults}"));
        child.env("SKPROXY_CRASH_ROOT", &self.root);
        if let Some(faults) = faults {
            Shim::build().unwrap().load(&mut child, faults);
        }
        child
    }

    fn simulated(&self, clock: &Clock, faults: RandomFaults) -> Result<SimulatedDevice, String> {
        let segment =
            Segment { kind: Kind::ENormal, code: DEVICE_CODE.into(), first: 1, last: LAST };
        let config = SimulatedConfig {
            directory: self.device(),
            device_id: DEVICE.into(),
            machine_number: "016000000002".into(),
            segments: vec![segment],
            quiescence: Duration::from_millis(60),
            clock: clock.clone(),
        };
        SimulatedDevice::open(config, skproxy::signer::Faults::at_random(faults))
            .map_err(|error| format!("the device: {error}"))
    }

    /// Starts the proxy; the first start registers everybody, in one commit.
    pub(crate) async fn enter(&self, faults: RandomFaults) -> Result<Live, String> {
        let clock = Clock::system();
        let passphrase = Secret::new("a passphrase for tests".to_owned());
        let core = daemon::open_core(
            &self.options(),
            &passphrase,
            Limits::default(),
            &clock,
            Profiles::embedded(),
        )
        .await
        .map_err(|error| refusal::chain(&error))?;
        if let Some(why) = &core.report.read_only {
            return Err(format!("read-only: {why}"));
        }
        let device = self.simulated(&clock, faults)?;
        if core.numbering.registry().platform_by_id(PLATFORM).is_none() {
            register(&core, device.public_key().to_vec()).await?;
        }
        let registry = core.numbering.registry();
        let no = registry.device_by_id(DEVICE).ok_or("no device")?.no;
        core.finisher.pool().add_device(no, Backend::Device(Box::new(device)), 4096);
        core.finisher.watch_device(no, [Kind::ENormal]);
        let pipeline = Pipeline {
            numbering: core.numbering.clone(),
            profiles: core.profiles.clone(),
            admission: Admission::new(1000),
            clock,
        };
        let finisher = Arc::clone(&core.finisher);
        let ticks = tasks::spawn_detached(async move {
            let mut every = tokio::time::interval(Duration::from_millis(4));
            loop {
                every.tick().await;
                finisher.tick();
            }
        });
        let checkpointer = core.checkpointer.clone();
        let log_stays = std::env::var_os(LOG_STAYS).is_some();
        let checkpoints = tasks::spawn_detached(async move {
            if log_stays {
                return;
            }
            let mut every = tokio::time::interval(Duration::from_millis(30));
            loop {
                every.tick().await;
                let checkpointer = checkpointer.clone();
                drop(tokio::task::spawn_blocking(move || drop(checkpointer.run())).await);
            }
        });
        Ok(Live { core, pipeline, tasks: vec![ticks, checkpoints] })
    }
}

async fn register(core: &Core, device_key: Vec<u8>) -> Result<(), String> {
    let (wrapped, key) = core
        .keys
        .generate(BackendKind::SoftwareP256, SOFTWARE)
        .map_err(|error| error.to_string())?;
    let device = |id: &str, backend, public_key, wrapped_key: Option<Vec<u8>>| NewDevice {
        id: id.into(),
        taxpayer_id: sample::SELLER.taxpayer_id.into(),
        machine_number: format!("01600000000{}", if wrapped_key.is_some() { 1 } else { 2 }),
        backend,
        kinds: BTreeSet::from([if id == SOFTWARE { Kind::NormalPaper } else { Kind::ENormal }]),
        profile: "baiwang".into(),
        test: true,
        public_key,
        wrapped_key,
        connection: None,
    };
    let software = device(SOFTWARE, BackendKind::SoftwareP256, key, Some(wrapped.0));
    let simulated = device(DEVICE, BackendKind::SimulatedDevice, device_key, None);
    let numbers = NewSegment {
        device_id: SOFTWARE.into(),
        kind: Kind::NormalPaper,
        first: InvoiceNumber { code: SOFTWARE_CODE.into(), number: 1 },
        last: LAST,
    };
    let made = core.numbering.change(move |round| {
        let taxpayer = sample::SELLER;
        round.add_platform("test", PLATFORM, "示例平台")?;
        round.add_certificate("test", PLATFORM, (peer().key, peer().not_after))?;
        round.add_taxpayer("test", (taxpayer.taxpayer_id, taxpayer.name, "44"))?;
        round.add_binding("test", PLATFORM, taxpayer.taxpayer_id)?;
        let software = round.add_device("test", software)?;
        round.add_device("test", simulated)?;
        round.add_segment("test", &numbers)?;
        Ok(software)
    });
    let software = made.await.map_err(|refusal| refusal.to_string())?;
    core.load_device(&software).map_err(|error| refusal::chain(&error))
}

fn peer() -> PeerCertificate {
    PeerCertificate {
        key: KeyHash([1; 32]),
        not_after: CstTime::from_unix(4_000_000_000).unwrap(),
        subject: "CN=test".into(),
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) core: Core,
    pipeline: Pipeline,
    tasks: Vec<JoinHandle<()>>,
}

impl Live {
    pub(crate) async fn issue(&self, serial: &str) -> Answer {
        let told = self.pipeline.issue(Some(peer()), BOUND, Some(draft(serial))).await;
        Answer::of(serial, told)
    }

    /// Voids the invoice of a serial, under the one request id that stands for it.
    pub(crate) async fn void(&self, serial: &str, invoice: &Invoice) -> Answer {
        let request = pb::VoidInvoiceRequest {
            taxpayer_id: sample::SELLER.taxpayer_id.to_owned(),
            code: invoice.code.clone(),
            number: invoice.number.clone(),
            reason: "开错".into(),
            request_id: format!("V{serial}"),
            amount_fen: None,
        };
        let told = self.pipeline.void(Some(peer()), BOUND, request).await;
        let voided = |told: pb::VoidInvoiceResponse| pb::Outcome {
            result: told.voided.map(pb::outcome::Result::Voided),
        };
        Answer::of(serial, told.map(voided))
    }

    pub(crate) async fn query(&self, serial: &str) -> Answer {
        let seller = sample::SELLER.taxpayer_id.to_owned();
        Answer::of(serial, self.pipeline.query(Some(peer()), seller, serial.to_owned()).await)
    }

    pub(crate) async fn resolve(&self, serial: &str) -> Answer {
        let seller = sample::SELLER.taxpayer_id.to_owned();
        let told = self.pipeline.resolve(Some(peer()), BOUND, seller, serial.to_owned());
        Answer::of(serial, told.await)
    }

    /// Waits until the device that draws numbers has said its next one, and that is saved.
    pub(crate) async fn know_the_next_number(&self) {
        let known = tokio::time::timeout(BOUND, async {
            let mut every = tokio::time::interval(Duration::from_millis(2));
            loop {
                every.tick().await;
                let dry = self.pipeline.validate(Some(peer()), BOUND, Some(draft("D"))).await;
                match dry {
                    Err(refusal) if refusal.reason.name() == "DEVICE_UNAVAILABLE" => {}
                    other => return other.map(drop).unwrap(),
                }
            }
        });
        known.await.expect("the device says its next number");
    }

    /// Waits until no claim is open.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        let settled = tokio::time::timeout(BOUND, async {
            let mut every = tokio::time::interval(Duration::from_millis(2));
            while self.core.numbering.counts().1 > 0 {
                every.tick().await;
            }
        });
        let open = || format!("{} claims stay open", self.core.numbering.counts().1);
        settled.await.map_err(|_| open())
    }

    /// Ends the proxy in order.
    pub(crate) async fn leave(self) {
        for task in self.tasks {
            task.abort();
            // Aborted is what it is asked to be.
            drop(task.await);
        }
        let Core { numbering, finisher, .. } = self.core;
        drop(self.pipeline);
        let ended = tokio::task::spawn_blocking(move || {
            finisher.end();
            numbering.stop();
        });
        ended.await.unwrap();
    }
}
