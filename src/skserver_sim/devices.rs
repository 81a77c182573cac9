//! The devices of a simulated tax server, out of a TOML file: taxpayer, kinds, segments, limits.
//! Everything wrong is told at once.

use rust_decimal::Decimal;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    device: Vec<RawDevice>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    kpzdbs: String,
    device_number: String,
    machine_number: String,
    taxpayer_id: String,
    taxpayer_name: String,
    #[serde(default)]
    office_code: String,
    #[serde(default)]
    office_name: String,
    #[serde(default)]
    cipher: Cipher,
    kind: BTreeMap<String, RawKind>,
}

/// What the cipher text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cipher {
    /// 112 characters that start with 03.
    #[default]
    Baiwang,
    /// 112 characters that start with 00.
    UKey,
    /// 108 characters.
    Aisino,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKind {
    rates: Vec<String>,
    #[serde(default)]
    single_limit: String,
    #[serde(default)]
    issue_deadline: String,
    #[serde(default)]
    offline_hours: String,
    #[serde(default)]
    offline_count: String,
    #[serde(default)]
    offline_amount: String,
    #[serde(default)]
    upload_day: String,
    segment: Vec<Segment>,
}

/// Numbers that a device may draw, in the order of use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Segment {
    /// Invoice code, 10 or 12 digits.
    pub(super) code: String,
    /// First number.
    pub(super) first: u32,
    /// Last number.
    pub(super) last: u32,
}

impl Segment {
    pub(super) fn len(&self) -> u64 {
        u64::from(self.last.saturating_sub(self.first)).saturating_add(1)
    }
}

/// One kind of a device. Limits are kept as they are written; the device tells them so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KindRules {
    pub(super) rates: Vec<Decimal>,
    pub(super) single_limit: Option<Decimal>,
    /// `yyyyMMddHHmmss` or empty.
    pub(super) issue_deadline: String,
    /// Monitor fields as printed: lxkpsc, lxkpzs, lxzsljje, scjzrq.
    pub(super) offline: [String; 4],
    pub(super) segments: Vec<Segment>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) kpzdbs: String,
    pub(super) device_number: String,
    pub(super) machine_number: String,
    pub(super) taxpayer_id: String,
    pub(super) taxpayer_name: String,
    pub(super) office: (String, String),
    pub(super) cipher: Cipher,
    /// By three digits.
    pub(super) kinds: BTreeMap<String, KindRules>,
}

/// The devices of a server, by kpzdbs.
pub(super) type Devices = HashMap<String, Device>;

/// Reads a devices file.
///
/// # Errors
/// Everything that is wrong with it, a line each.
pub(super) fn read(text: &str) -> Result<Devices, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    let mut devices = Devices::new();
    for raw in file.device {
        let name = raw.kpzdbs.clone();
        match device(raw) {
            Ok(device) if devices.contains_key(&name) => {
                wrong.push(format!("{}: stands there twice", device.kpzdbs));
            }
            Ok(device) => {
                devices.insert(name, device);
            }
            Err(mistakes) => wrong.extend(mistakes.into_iter().map(|it| format!("{name}: {it}"))),
        }
    }
    wrong.extend(overlaps(&devices));
    if devices.is_empty() && wrong.is_empty() {
        wrong.push("no device".into());
    }
    if wrong.is_empty() { Ok(devices) } else { Err(wrong.join("\n")) }
}

fn device(raw: RawDevice) -> Result<Device, Vec<String>> {
    let mut wrong = Vec::new();
    if raw.kpzdbs.is_empty() || raw.taxpayer_id.is_empty() || raw.taxpayer_name.is_empty() {
        wrong.push("kpzdbs, taxpayer_id and taxpayer_name must not be empty".into());
    }
    if raw.machine_number.len() != 12 || !is_digits(&raw.machine_number) {
        wrong.push("machine_number must have 12 digits".into());
    }
    let mut kinds = BTreeMap::new();
    for (code, kind) in raw.kind {
        if code.len() != 3 || !is_digits(&code) {
            wrong.push(format!("kind {code:?} must have three digits"));
        }
        match rules(kind) {
            Ok(rules) => drop(kinds.insert(code, rules)),
            Err(mistakes) => wrong.extend(mistakes.iter().map(|it| format!("kind {code}: {it}"))),
        }
    }
    let device = Device {
        kpzdbs: raw.kpzdbs,
        device_number: raw.device_number,
        machine_number: raw.machine_number,
        taxpayer_id: raw.taxpayer_id,
        taxpayer_name: raw.taxpayer_name,
        office: (raw.office_code, raw.office_name),
        cipher: raw.cipher,
        kinds,
    };
    if wrong.is_empty() { Ok(device) } else { Err(wrong) }
}

fn rules(raw: RawKind) -> Result<KindRules, Vec<String>> {
    let mut wrong = Vec::new();
    let mut rates = Vec::new();
    for rate in &raw.rates {
        match rate.parse() {
            Ok(rate) => rates.push(rate),
            Err(_) => wrong.push(format!("rate {rate:?} is no number")),
        }
    }
    let single_limit = match raw.single_limit.as_str() {
        "" => None,
        text => text.parse().map_err(|_| wrong.push("single_limit is no number".into())).ok(),
    };
    let deadline = &raw.issue_deadline;
    if !deadline.is_empty() && (deadline.len() != 14 || !is_digits(deadline)) {
        wrong.push("issue_deadline must be yyyyMMddHHmmss".into());
    }
    for Segment { code, first, last } in &raw.segment {
        if !matches!(code.len(), 10 | 12) || !is_digits(code) {
            wrong.push(format!("code {code:?} must have 10 or 12 digits"));
        }
        if first > last || *last > 99_999_999 {
            wrong.push(format!("segment {first} to {last} holds no number of 8 digits"));
        }
    }
    let offline = [raw.offline_hours, raw.offline_count, raw.offline_amount, raw.upload_day];
    let issue_deadline = raw.issue_deadline;
    let rules = KindRules { rates, single_limit, issue_deadline, offline, segments: raw.segment };
    if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
}

/// Two devices with one number would issue it twice.
fn overlaps(devices: &Devices) -> Vec<String> {
    let mut all: Vec<&Segment> =
        devices.values().flat_map(|it| it.kinds.values()).flat_map(|it| &it.segments).collect();
    all.sort_by_key(|segment| (segment.code.as_str(), segment.first));
    let pairs = all.windows(2).filter_map(|pair| match pair {
        [one, other] if one.code == other.code && other.first <= one.last => {
            Some(format!("{} {:08} is in two segments", other.code, other.first))
        }
        _ => None,
    });
    pairs.collect()
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../deploy/skserver-sim.toml");

    #[test]
    fn the_example_file_reads() {
        let devices = read(EXAMPLE).unwrap();
        assert_eq!(devices.len(), 2);
        assert!(devices.values().all(|device| device.kinds.contains_key("026")));
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let broken = EXAMPLE
            .replacen("499000000001", "49900000000x", 1)
            .replacen("\"0.13\"", "\"13 percent\"", 1)
            .replacen("last = 10000", "last = 0", 1);
        let told = read(&broken).unwrap_err();
        for expect in ["machine_number", "rate", "no number of 8 digits"] {
            assert!(told.contains(expect), "{told}");
        }
        assert!(read(&format!("{EXAMPLE}\nunknown = 1\n")).is_err());
        assert!(read("device = []").unwrap_err().contains("no device"));
        let twice = read(&EXAMPLE.replace("044002600211", "044002600111")).unwrap_err();
        assert!(twice.contains("in two segments"), "{twice}");
    }
}
