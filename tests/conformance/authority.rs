//! The authority's side: its simulator as a process, and its ledger as whoever judges from outside
//! reads it.

use crate::process::Process;
use skproxy::{
    clock,
    delivery::upstream::{AcquiredSegment, SegmentRequest, Upstream},
    model::{DeviceNo, Kind, TaxpayerNo},
    pb::admin::v1 as admin,
    registry::{BackendKind, Device, Route},
    transport::ClientTls,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Code and number.
pub(crate) type Number = (String, String);

/// A running simulator.
pub(crate) struct Authority {
    _process: Process,
    dir: PathBuf,
    address: String,
    upstream: Upstream,
}

impl Authority {
    /// Starts it in `dir/authority`, with the certificates in `dir/pki`.
    pub(crate) fn start(dir: &Path) -> Self {
        let (pki, own) = (dir.join("pki"), dir.join("authority"));
        let words = format!(
            "authority-sim --dir {} --listen 127.0.0.1:0 --ca {pki}/ca.pem \
             --cert {pki}/authority.pem --key {pki}/authority.key",
            own.display(),
            pki = pki.display()
        );
        let mut process = Process::start(&words, [("LC_ALL", "C")]);
        let address = process.says("the authority says where it is", |it| {
            let said = it.stdout();
            let rest = said.strip_prefix("acceptance simulator on ")?;
            Some(rest.split_once(',')?.0.to_owned())
        });
        let route = Route {
            province: "*".into(),
            address: address.clone(),
            server_name: "localhost".into(),
            receipt_key: std::fs::read(own.join("receipt-key.der")).unwrap(),
        };
        let (cert, key) = (pki.join("proxy-client.pem"), pki.join("proxy-client.key"));
        let tls = ClientTls::load(&pki.join("ca.pem"), &cert, &key).unwrap();
        let upstream = Upstream::new(&route, &tls).unwrap();
        Self { _process: process, dir: own, address, upstream }
    }

    /// The operator's command that routes every province here.
    pub(crate) fn route(&self) -> String {
        format!(
            "route add --province * --address {} --server-name localhost --receipt-key {}",
            self.address,
            self.dir.join("receipt-key.der").display()
        )
    }

    /// Lets it know a device, whose signatures it then verifies.
    pub(crate) async fn register(&self, id: &str, taxpayer_id: &str, shown: admin::Device) {
        let backend = match shown.backend() {
            // The contract has no word for a simulated device, which draws its numbers too.
            admin::DeviceBackend::Skserver | admin::DeviceBackend::Unspecified => {
                BackendKind::SkServer
            }
            _ => BackendKind::SoftwareP256,
        };
        let device = Device {
            no: DeviceNo(0),
            id: id.into(),
            taxpayer: TaxpayerNo(0),
            machine_number: String::new(),
            backend,
            kinds: [Kind::ENormal].into(),
            profile: "baiwang".into(),
            enabled: true,
            test: true,
            public_key: shown.public_key,
            connection: None,
        };
        self.upstream.register_device(&device, taxpayer_id).await.unwrap();
    }

    /// Takes numbers from it.
    pub(crate) async fn acquire(&self, id: &str, count: u32) -> AcquiredSegment {
        let kind = Kind::ENormal;
        let wanted = SegmentRequest { id: clock::random(), device: id.into(), kind, count };
        let acquired = self.upstream.acquire(&wanted).await.unwrap();
        self.upstream.confirm_segment(wanted.id).await.unwrap();
        acquired
    }

    /// Its ledger: every number that it accepted as issued, and the SHA-256 of what stands under
    /// it.
    pub(crate) fn ledger(&self) -> BTreeMap<Number, Vec<u8>> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let path = self.dir.join("authority.sqlite");
        let books = rusqlite::Connection::open_with_flags(path, flags).unwrap();
        books.busy_timeout(crate::process::BOUND).unwrap();
        let all = "SELECT code, number, digest FROM numbers WHERE NOT voided";
        let mut all = books.prepare(all).unwrap();
        let rows = all.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }
}
