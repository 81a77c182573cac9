//! The simulator and the proxy's client of it, over mTLS in one process: what a lost answer, a
//! restart or a lie looks like from the proxy's side. Here, and not in `delivery`, because no stage
//! may name this folder.

use super::{
    AuthorityError, AuthoritySim, Options, RunningAuthority, Script, TlsFiles,
    fixtures::{self, TAXPAYER},
};
use crate::{
    cli::certs::{DevPki, Existing, issue_client, make_dev_pki},
    clock::Clock,
    delivery::{
        receipt::{BatchId, ItemName, Lie, Verdict, VerifiedReceipt},
        upstream::{SegmentRequest, Submitted, Upstream, UpstreamError},
    },
    model::{DeviceNo, Kind, TaxpayerNo},
    pb::authority::v1::BatchItem,
    registry::{BackendKind, Device, Route},
    transport::ClientTls,
};
use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// The calls about a batch that is judged at once.
trait Judged {
    async fn submit(
        &self,
        batch: BatchId,
        items: Vec<BatchItem>,
    ) -> Result<VerifiedReceipt, UpstreamError>;
    async fn receipt(
        &self,
        batch: BatchId,
        items: &[BatchItem],
    ) -> Result<Option<VerifiedReceipt>, UpstreamError>;
}

impl Judged for Upstream {
    async fn submit(
        &self,
        batch: BatchId,
        items: Vec<BatchItem>,
    ) -> Result<VerifiedReceipt, UpstreamError> {
        let names: Vec<ItemName> = items.iter().map(ItemName::of).collect();
        self.submit_batch(batch, items, &names).await.map(judged)
    }

    async fn receipt(
        &self,
        batch: BatchId,
        items: &[BatchItem],
    ) -> Result<Option<VerifiedReceipt>, UpstreamError> {
        let names: Vec<ItemName> = items.iter().map(ItemName::of).collect();
        Ok(self.find_batch(batch, &names).await?.map(judged))
    }
}

fn judged(submitted: Submitted) -> VerifiedReceipt {
    match submitted {
        Submitted::Judged(receipt) => *receipt,
        Submitted::Judging(serial) => panic!("{serial} is still being judged"),
    }
}

const BATCH: BatchId = BatchId([1; 16]);
/// A code that no segment of the simulator has.
const CODE: &str = "014402511111";

/// A simulator, its certificates, and a client of it.
struct World {
    dir: TempDir,
    authority: RunningAuthority,
    upstream: Upstream,
    device: fixtures::Device,
    /// Keeps the address ours while nobody listens at it.
    _held: TcpSocket,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        make_dev_pki(dir.path(), &[], Existing::Keep).unwrap();
        let held = TcpSocket::new_v4().unwrap();
        held.set_reuseaddr(true).unwrap();
        held.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let authority = start(dir.path(), held.local_addr().unwrap()).await;
        let upstream = client(dir.path(), &route(&authority));
        let device = fixtures::Device::p256("d1");
        let world = Self { dir, authority, upstream, device, _held: held };
        let device = registered(&world.device.id, &world.device.public_key);
        world.upstream.register_device(&device, TAXPAYER).await.unwrap();
        world
    }

    fn items(&self) -> Vec<BatchItem> {
        vec![self.device.item(CODE, 1), self.device.item(CODE, 2)]
    }

    /// Stops the simulator and starts it again at the same address.
    async fn restart(mut self) -> Self {
        let address = self.authority.address;
        self.authority.stop().await.unwrap();
        self.authority = start(self.dir.path(), address).await;
        self
    }
}

async fn start(dir: &Path, address: SocketAddr) -> RunningAuthority {
    AuthoritySim::start(options(dir, address)).await.unwrap()
}

fn options(dir: &Path, address: SocketAddr) -> Options {
    let files = DevPki::at(dir);
    let (cert, key) = (files.authority.cert, files.authority.key);
    let tls = TlsFiles { client_ca: files.ca.cert, cert, key };
    let (dir, region) = (dir.join("authority"), "4400".to_owned());
    Options { address, dir, tls, region, clock: Clock::system(), script: Script::default() }
}

fn route(authority: &RunningAuthority) -> Route {
    Route {
        province: "44".to_owned(),
        address: authority.address.to_string(),
        server_name: "localhost".to_owned(),
        receipt_key: authority.receipt_key_der.clone(),
    }
}

fn client(dir: &Path, route: &Route) -> Upstream {
    let files = DevPki::at(dir);
    let (cert, key) = (files.proxy_client.cert, files.proxy_client.key);
    Upstream::new(route, &ClientTls::load(&files.ca.cert, &cert, &key).unwrap()).unwrap()
}

fn registered(id: &str, public_key: &[u8]) -> Device {
    Device {
        no: DeviceNo(1),
        id: id.to_owned(),
        taxpayer: TaxpayerNo(1),
        machine_number: "661000000001".to_owned(),
        backend: BackendKind::SoftwareP256,
        kinds: BTreeSet::new(),
        profile: "baiwang".to_owned(),
        enabled: true,
        test: true,
        public_key: public_key.to_vec(),
        connection: None,
    }
}

fn wanted(id: u8, count: u32) -> SegmentRequest {
    SegmentRequest { id: [id; 16], device: "d1".to_owned(), kind: Kind::ENormal, count }
}

#[tokio::test]
async fn a_batch_goes_up_and_its_receipt_comes_back_verified() {
    let world = World::new().await;
    let receipt = world.upstream.submit(BATCH, world.items()).await.unwrap();
    assert_eq!(receipt.verdicts(), [Verdict::Accepted, Verdict::Accepted]);
    assert_eq!(receipt.batch(), BATCH);
    let head = world.upstream.series_head("d1", Kind::ENormal).await.unwrap();
    assert_eq!((head.count, head.heads[0].number), (2, 2));
}

#[tokio::test]
async fn a_lost_answer_is_fetched_or_sent_again_and_is_the_same_receipt() {
    let world = World::new().await;
    let upstream = &world.upstream;
    assert_eq!(upstream.receipt(BATCH, &world.items()).await, Ok(None));
    world.authority.faults.lose_answers(1);
    let items = world.items();
    let lost = upstream.submit(BATCH, items.clone()).await.unwrap_err();
    assert!(matches!(lost, UpstreamError::Unreachable { .. }), "{lost}");
    let fetched = upstream.receipt(BATCH, &items).await.unwrap().unwrap();
    let resent = upstream.submit(BATCH, items.clone()).await.unwrap();
    assert_eq!(fetched, resent);
    let other = upstream.submit(BATCH, items[..1].to_vec()).await.unwrap_err();
    assert!(matches!(other, UpstreamError::Refused { code: "ALREADY_EXISTS", .. }), "{other}");
}

#[tokio::test]
async fn a_restart_forgets_nothing_and_the_client_finds_its_way_back() {
    let world = World::new().await;
    let items = world.items();
    let before = world.upstream.submit(BATCH, items.clone()).await.unwrap();
    let segment = world.upstream.acquire(&wanted(1, 10)).await.unwrap();
    let key = world.authority.receipt_key_der.clone();
    let world = world.restart().await;
    assert_eq!(world.authority.receipt_key_der, key);
    // The old connection may be found dead by the first call; that is "no answer", never a refusal.
    let resent = async {
        loop {
            match world.upstream.submit(BATCH, items.clone()).await {
                Err(UpstreamError::Unreachable { .. }) => {}
                other => break other.unwrap(),
            }
        }
    };
    let after = tokio::time::timeout(Duration::from_secs(60), resent).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(world.upstream.acquire(&wanted(1, 10)).await.unwrap(), segment);
    let next = world.upstream.acquire(&wanted(2, 10)).await.unwrap();
    assert_eq!(next.first, segment.last.next().unwrap());
}

#[tokio::test]
async fn a_receipt_signed_wrongly_or_by_another_key_is_an_incident() {
    let world = World::new().await;
    let items = world.items();
    let lie = UpstreamError::Lying { lie: Lie::Signature };
    world.authority.faults.sign_wrongly(1);
    assert_eq!(world.upstream.submit(BATCH, items.clone()).await.unwrap_err(), lie);
    let stranger = fixtures::Device::p256("stranger").public_key;
    let route = Route { receipt_key: stranger, ..route(&world.authority) };
    let distrusting = client(world.dir.path(), &route);
    assert_eq!(distrusting.submit(BATCH, items.clone()).await.unwrap_err(), lie);
    // The stored receipt was right all along.
    assert!(world.upstream.receipt(BATCH, &items).await.unwrap().is_some());
}

#[tokio::test]
async fn a_receipt_of_other_items_is_an_incident() {
    let world = World::new().await;
    let mut items = world.items();
    world.upstream.submit(BATCH, items.clone()).await.unwrap();
    items.swap(0, 1);
    let error = world.upstream.receipt(BATCH, &items).await.unwrap_err();
    assert_eq!(error, UpstreamError::Lying { lie: Lie::OtherItem { index: 0 } });
}

#[tokio::test]
async fn a_batch_has_1_to_1000_items() {
    let world = World::new().await;
    for len in [0, 1001] {
        let items = vec![BatchItem::default(); len];
        let error = world.upstream.submit(BATCH, items).await.unwrap_err();
        let invalid = matches!(error, UpstreamError::Refused { code: "INVALID_ARGUMENT", .. });
        assert!(invalid, "{len}: {error}");
    }
    let full = vec![BatchItem::default(); 1000];
    let receipt = world.upstream.submit(BATCH, full).await.unwrap();
    assert_eq!(receipt.verdicts().len(), 1000);
}

#[tokio::test]
async fn a_refused_or_slow_call_leaves_nothing_behind_that_a_resend_would_double() {
    let world = World::new().await;
    world.authority.faults.refuse(1);
    let error = world.upstream.submit(BATCH, world.items()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error}");
    assert_eq!(world.upstream.receipt(BATCH, &world.items()).await, Ok(None));
    world.authority.faults.delay(Duration::from_millis(1));
    world.upstream.submit(BATCH, world.items()).await.unwrap();
}

#[tokio::test]
async fn a_device_keeps_the_key_that_it_was_registered_with() {
    let world = World::new().await;
    let same = registered("d1", &world.device.public_key);
    assert_eq!(world.upstream.register_device(&same, TAXPAYER).await, Ok(()));
    let other = registered("d1", &fixtures::Device::sm2("d1").public_key);
    let error = world.upstream.register_device(&other, TAXPAYER).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Refused { code: "ALREADY_EXISTS", .. }), "{error}");
    let none = registered("d2", b"no key");
    let error = world.upstream.register_device(&none, TAXPAYER).await.unwrap_err();
    let invalid = matches!(error, UpstreamError::Refused { code: "INVALID_ARGUMENT", .. });
    assert!(invalid, "{error}");
}

#[tokio::test]
async fn strangers_and_impostors_are_not_talked_to() {
    let world = World::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    make_dev_pki(elsewhere.path(), &[], Existing::Keep).unwrap();
    let platform = issue_client(world.dir.path(), "shop", Existing::Keep).unwrap();
    let ours = DevPki::at(world.dir.path());
    let theirs = DevPki::at(elsewhere.path());
    let route = route(&world.authority);
    for (what, ca, client, server_name, expect) in [
        ("another CA's client", &ours.ca, &theirs.proxy_client, "localhost", false),
        ("another CA's server", &theirs.ca, &ours.proxy_client, "localhost", false),
        ("a server certificate as client", &ours.ca, &ours.server, "localhost", false),
        ("another server name", &ours.ca, &ours.proxy_client, "other.test", false),
        ("a good client", &ours.ca, &platform, "127.0.0.1", true),
    ] {
        let tls = ClientTls::load(&ca.cert, &client.cert, &client.key).unwrap();
        let route = Route { server_name: server_name.to_owned(), ..route.clone() };
        let upstream = Upstream::new(&route, &tls).unwrap();
        match upstream.series_head("d1", Kind::ENormal).await {
            Ok(head) => assert!(expect && head.heads.is_empty(), "{what}"),
            Err(error) => {
                let unreachable = matches!(error, UpstreamError::Unreachable { .. });
                assert!(!expect && unreachable, "{what}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_silent_peer_holds_up_nobody() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(tokio::net::TcpStream::connect(world.authority.address).await.unwrap());
    }
    let fresh = client(world.dir.path(), &route(&world.authority));
    fresh.series_head("d1", Kind::ENormal).await.unwrap();
}

#[tokio::test]
async fn the_command_runs_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    make_dev_pki(dir.path(), &[], Existing::Keep).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let ready = |running: &RunningAuthority| {
        assert_ne!(running.address.port(), 0);
        drop(stop);
    };
    AuthoritySim::run(options(dir.path(), any), shutdown, ready).await.unwrap();

    let bad = Options { region: "44".to_owned(), ..options(dir.path(), any) };
    let error = AuthoritySim::start(bad).await.unwrap_err();
    assert!(matches!(error, AuthorityError::Region { .. }), "{error}");
}
