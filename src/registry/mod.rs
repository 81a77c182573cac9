//! Platforms, certificates, taxpayers, bindings, devices and routes as data: an immutable snapshot
//! that identity, contract and numbering read. Only the numbering actor makes a new one, after its
//! commit.

mod grant;
pub mod monitor;

pub use crate::pb::admin::v1::{DeviceConnection, device_connection::Via};
pub use grant::{Forbidden, Grants, Operation};
pub use monitor::{Monitor, MonitorFacts, MonitorFlaw, ToldBy, ZeroLimit};

use crate::{
    model::{CstTime, DeviceNo, Kind, PlatformNo, TaxpayerNo},
    pb::v1::SignatureAlgorithm,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// SHA-256 over a certificate's SubjectPublicKeyInfo, 32 bytes: who a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// 64 lower-case hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        crate::convert::hex(&self.0)
    }
}

/// A platform (电子发票服务平台).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Row number.
    pub no: PlatformNo,
    /// Platform code (DSPTBM).
    pub id: String,
    /// Name.
    pub name: String,
    /// Whether it may issue. A disabled one keeps Get and Resolve.
    pub enabled: bool,
}

/// A client certificate's key, bound to one platform for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The key.
    pub key: KeyHash,
    /// Its platform.
    pub platform: PlatformNo,
    /// End of the certificate's validity.
    pub not_after: CstTime,
    /// A revoked key gets nothing, for ever.
    pub revoked: bool,
}

/// A taxpayer (纳税人).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taxpayer {
    /// Row number.
    pub no: TaxpayerNo,
    /// Taxpayer id (纳税人识别号).
    pub id: String,
    /// Name as in its devices.
    pub name: String,
    /// Province code, two digits; names the route.
    pub province: String,
    /// What it must not issue.
    pub forbidden: Forbidden,
}

/// How a device signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendKind {
    /// Software key, ECDSA P-256.
    SoftwareP256,
    /// Software key, SM2.
    SoftwareSm2,
    /// Token behind PKCS#11, P-256.
    Pkcs11,
    /// Crypto machine behind SDF (GM/T 0018), SM2.
    Sdf,
    /// UKey behind SKF (GM/T 0016), SM2.
    Skf,
    /// Tax-control server (税控服务器), which draws numbers itself.
    SkServer,
    /// A simulated device that draws numbers itself; for tests and drills, never made by operators.
    SimulatedDevice,
}

impl BackendKind {
    const ALL: [Self; 7] = [
        Self::SoftwareP256,
        Self::SoftwareSm2,
        Self::Pkcs11,
        Self::Sdf,
        Self::Skf,
        Self::SkServer,
        Self::SimulatedDevice,
    ];

    /// Whether the device draws code, number and time itself (设备赋号).
    #[must_use]
    pub fn draws_numbers(self) -> bool {
        match self {
            Self::SoftwareP256 | Self::SoftwareSm2 | Self::Pkcs11 | Self::Sdf | Self::Skf => false,
            Self::SkServer | Self::SimulatedDevice => true,
        }
    }

    /// What its signatures are. A tax server's answers are attested with a software key.
    #[must_use]
    pub fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::SoftwareP256 | Self::Pkcs11 | Self::SkServer | Self::SimulatedDevice => {
                SignatureAlgorithm::EcdsaP256Sha256
            }
            Self::SoftwareSm2 | Self::Sdf | Self::Skf => SignatureAlgorithm::Sm2Sm3,
        }
    }

    /// How the store keeps it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SoftwareP256 => "software-p256",
            Self::SoftwareSm2 => "software-sm2",
            Self::Pkcs11 => "pkcs11",
            Self::Sdf => "sdf",
            Self::Skf => "skf",
            Self::SkServer => "skserver",
            Self::SimulatedDevice => "simulated-device",
        }
    }

    /// Reads `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A virtual device (虚拟设备): the unit of identity, certificate, limits and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Row number.
    pub no: DeviceNo,
    /// Device id.
    pub id: String,
    /// Whose it is.
    pub taxpayer: TaxpayerNo,
    /// Machine number (JQBH), 12 digits.
    pub machine_number: String,
    /// How it signs.
    pub backend: BackendKind,
    /// Kinds it may issue (票种核定).
    pub kinds: BTreeSet<Kind>,
    /// Name of its rule profile.
    pub profile: String,
    /// Whether it takes new claims.
    pub enabled: bool,
    /// Test or production; fixed when it is made.
    pub test: bool,
    /// SubjectPublicKeyInfo of its signing key, DER; empty when the device keeps it.
    pub public_key: Vec<u8>,
    /// How it is reached; `None` for a key in memory.
    pub connection: Option<DeviceConnection>,
}

/// Where a province's invoices go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Two digits, or `*` for all others.
    pub province: String,
    /// `host:port`.
    pub address: String,
    /// Name to check in the server's certificate.
    pub server_name: String,
    /// SubjectPublicKeyInfo of the receipt key (P-256), DER.
    pub receipt_key: Vec<u8>,
}

/// One immutable state of the registry.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// By row number.
    pub platforms: BTreeMap<PlatformNo, Arc<Platform>>,
    /// By key.
    pub certificates: HashMap<KeyHash, Arc<Certificate>>,
    /// By row number.
    pub taxpayers: BTreeMap<TaxpayerNo, Arc<Taxpayer>>,
    /// Row number by taxpayer id.
    pub taxpayer_ids: HashMap<String, TaxpayerNo>,
    /// Who may do what for whom.
    pub bindings: BTreeMap<(PlatformNo, TaxpayerNo), Grants>,
    /// By row number.
    pub devices: BTreeMap<DeviceNo, Arc<Device>>,
    /// Row number by device id.
    pub device_ids: HashMap<String, DeviceNo>,
    /// Row numbers by taxpayer.
    pub taxpayer_devices: HashMap<TaxpayerNo, Vec<DeviceNo>>,
    /// By province.
    pub routes: BTreeMap<String, Arc<Route>>,
    /// Limits and locks by device and kind; absent until they were told.
    pub monitors: BTreeMap<(DeviceNo, Kind), Arc<Monitor>>,
}

impl Registry {
    /// A platform by its code.
    #[must_use]
    pub fn platform_by_id(&self, id: &str) -> Option<&Arc<Platform>> {
        self.platforms.values().find(|platform| platform.id == id)
    }

    /// A device by its id.
    #[must_use]
    pub fn device_by_id(&self, id: &str) -> Option<&Arc<Device>> {
        self.devices.get(self.device_ids.get(id)?)
    }

    /// A taxpayer by its id.
    #[must_use]
    pub fn taxpayer_by_id(&self, id: &str) -> Option<&Arc<Taxpayer>> {
        self.taxpayers.get(self.taxpayer_ids.get(id)?)
    }

    /// The devices of a taxpayer, in the order in which they were made.
    pub fn devices_of(&self, taxpayer: TaxpayerNo) -> impl Iterator<Item = &Arc<Device>> {
        self.taxpayer_devices
            .get(&taxpayer)
            .into_iter()
            .flatten()
            .filter_map(|no| self.devices.get(no))
    }

    /// The province whose route a device's invoices take; `*` for a device that is not known.
    #[must_use]
    pub fn province(&self, device: DeviceNo) -> &str {
        let device = self.devices.get(&device);
        let taxpayer = device.and_then(|device| self.taxpayers.get(&device.taxpayer));
        taxpayer.map_or("*", |taxpayer| &taxpayer.province)
    }

    /// The route of a province, or the one for all others.
    #[must_use]
    pub fn route(&self, province: &str) -> Option<&Arc<Route>> {
        self.routes.get(province).or_else(|| self.routes.get("*"))
    }

    /// Limits and locks of a device and kind; `None` until they were told.
    #[must_use]
    pub fn monitor(&self, device: DeviceNo, kind: Kind) -> Option<&Arc<Monitor>> {
        self.monitors.get(&(device, kind))
    }

    /// Adds or replaces monitor data.
    pub fn put_monitor(&mut self, monitor: Monitor) {
        self.monitors.insert((monitor.device, monitor.kind), Arc::new(monitor));
    }

    /// Adds or replaces a platform.
    pub fn put_platform(&mut self, platform: Platform) {
        self.platforms.insert(platform.no, Arc::new(platform));
    }

    /// Adds or replaces a certificate.
    pub fn put_certificate(&mut self, certificate: Certificate) {
        self.certificates.insert(certificate.key, Arc::new(certificate));
    }

    /// Adds or replaces a taxpayer.
    pub fn put_taxpayer(&mut self, taxpayer: Taxpayer) {
        self.taxpayer_ids.insert(taxpayer.id.clone(), taxpayer.no);
        self.taxpayers.insert(taxpayer.no, Arc::new(taxpayer));
    }

    /// Adds or replaces a device.
    pub fn put_device(&mut self, device: Device) {
        let of_taxpayer = self.taxpayer_devices.entry(device.taxpayer).or_default();
        if !of_taxpayer.contains(&device.no) {
            of_taxpayer.push(device.no);
        }
        self.device_ids.insert(device.id.clone(), device.no);
        self.devices.insert(device.no, Arc::new(device));
    }
}
