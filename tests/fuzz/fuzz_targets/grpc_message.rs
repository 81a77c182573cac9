//! Any bytes as an IssueInvoiceRequest: decoded, normalised and checked against both profiles,
//! never a panic; the same bytes have the same digest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use skproxy::{
    contract::{self, Profiles, Target, sample::SELLER},
    model::{CstTime, DeviceNo, Kind, PlatformNo, TaxpayerNo},
    pb::v1,
    registry::{BackendKind, Device, Forbidden, Taxpayer},
};
use std::sync::LazyLock;

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::embedded);

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = v1::IssueInvoiceRequest::decode(bytes) else { return };
    let Ok(draft) = contract::normalise(request.draft.clone()) else { return };
    let again = contract::normalise(request.draft).expect("it was well formed a moment ago");
    assert_eq!(draft.digest, again.digest);
    let taxpayer = Taxpayer {
        no: TaxpayerNo(1),
        id: SELLER.taxpayer_id.to_owned(),
        name: SELLER.name.to_owned(),
        province: "44".to_owned(),
        forbidden: Forbidden::default(),
    };
    let device = Device {
        no: DeviceNo(1),
        id: "D".to_owned(),
        taxpayer: TaxpayerNo(1),
        machine_number: "000000000001".to_owned(),
        backend: BackendKind::SoftwareP256,
        kinds: Kind::ALL.into(),
        profile: String::new(),
        enabled: true,
        test: true,
        public_key: Vec::new(),
        connection: None,
    };
    let now = CstTime::from_unix(1_780_000_000).expect("a day of 2026");
    for name in PROFILES.names() {
        let profile = PROFILES.get(name).expect("it was named");
        let (taxpayer, device) = (&taxpayer, &device);
        let target = Target {
            platform: PlatformNo(1),
            taxpayer,
            device,
            red_offered: true,
            authorised_rates: &[],
        };
        if let Err(refusal) = contract::check(draft.clone(), target, profile, now) {
            assert!(!refusal.hint.is_empty() || !refusal.violations.is_empty());
        }
    }
});
