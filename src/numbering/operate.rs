//! The decisions that operators and delivery ask for: registry, stock, series, batches, receipts.

use super::book::{Round, Series, unreadable};
use crate::{
    model::{
        CstTime, DeviceNo, InvoiceNumber, Kind, PlatformNo, Position, SegmentNo, SeriesNo,
        TaxpayerNo,
    },
    refusal::{Reason, Refusal},
    registry::{
        BackendKind, Certificate, Device, DeviceConnection, Forbidden, KeyHash, Platform, Route,
        Taxpayer,
    },
    store::{AuditEntry, Period, RegistryChange, SegmentState, SeriesState},
};
use std::{collections::BTreeSet, sync::Arc};

/// A device to be made.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Device id.
    pub id: String,
    /// Taxpayer id.
    pub taxpayer_id: String,
    /// Machine number, 12 digits.
    pub machine_number: String,
    /// How it signs.
    pub backend: BackendKind,
    /// Kinds it may issue.
    pub kinds: BTreeSet<Kind>,
    /// Profile name.
    pub profile: String,
    /// Test device.
    pub test: bool,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// Wrapped key: what a software device signs with, and every other derives its texts from.
    pub wrapped_key: Option<Vec<u8>>,
    /// How it is reached; `None` for a key in memory.
    pub connection: Option<DeviceConnection>,
}

/// A segment to be registered.
#[derive(Debug, Clone)]
pub struct NewSegment {
    /// Device id.
    pub device_id: String,
    /// Kind.
    pub kind: Kind,
    /// Code and first number.
    pub first: InvoiceNumber,
    /// Last number, inclusive.
    pub last: u32,
}

fn next_no(numbers: impl DoubleEndedIterator<Item = i64>) -> i64 {
    numbers.max().unwrap_or(0).saturating_add(1)
}

fn exists(what: &str, id: &str) -> Refusal {
    Refusal::new(Reason::AlreadyExists, format!("{what} {id} exists already"))
}

pub(super) fn absent(what: &str, id: &str) -> Refusal {
    Refusal::new(Reason::NotFound, format!("there is no {what} {id}"))
}

impl Round<'_> {
    /// Keeps what an operator did.
    pub fn audit(&mut self, actor: &str, action: String) {
        self.batch.audit.push(AuditEntry { at: self.now, actor: actor.to_owned(), action });
    }

    /// Registers a platform.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn add_platform(&mut self, actor: &str, id: &str, name: &str) -> Result<Platform, Refusal> {
        if self.registry().platform_by_id(id).is_some() {
            return Err(exists("platform", id));
        }
        let no = PlatformNo(next_no(self.registry().platforms.keys().map(|no| no.0)));
        let platform = Platform { no, id: id.to_owned(), name: name.to_owned(), enabled: true };
        self.registry_mut().put_platform(platform.clone());
        self.batch.registry.push(RegistryChange::Platform(platform.clone()));
        self.audit(actor, format!("add platform {id}"));
        Ok(platform)
    }

    /// Binds a key to a platform, for ever.
    ///
    /// # Errors
    /// `NotFound` for the platform; `AlreadyExists` when the key belongs to another one.
    pub fn add_certificate(
        &mut self,
        actor: &str,
        platform_id: &str,
        (key, not_after): (KeyHash, CstTime),
    ) -> Result<Certificate, Refusal> {
        let platform = self
            .registry()
            .platform_by_id(platform_id)
            .ok_or_else(|| absent("platform", platform_id))?
            .no;
        if let Some(known) = self.registry().certificates.get(&key)
            && (known.platform != platform || known.revoked)
        {
            return Err(exists("the certificate's key, bound or revoked,", &key.hex()));
        }
        let certificate = Certificate { key, platform, not_after, revoked: false };
        self.registry_mut().put_certificate(certificate.clone());
        self.batch.registry.push(RegistryChange::Certificate(certificate.clone()));
        self.audit(actor, format!("bind key {} to platform {platform_id}", key.hex()));
        Ok(certificate)
    }

    /// Registers a taxpayer.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn add_taxpayer(
        &mut self,
        actor: &str,
        (id, name, province): (&str, &str, &str),
    ) -> Result<Taxpayer, Refusal> {
        if self.registry().taxpayer_by_id(id).is_some() {
            return Err(exists("taxpayer", id));
        }
        let taxpayer = Taxpayer {
            no: TaxpayerNo(next_no(self.registry().taxpayers.keys().map(|no| no.0))),
            id: id.to_owned(),
            name: name.to_owned(),
            province: province.to_owned(),
            forbidden: Forbidden::default(),
        };
        self.registry_mut().put_taxpayer(taxpayer.clone());
        self.batch.registry.push(RegistryChange::Taxpayer(taxpayer.clone()));
        self.audit(actor, format!("add taxpayer {id}"));
        Ok(taxpayer)
    }

    /// Makes a device and its series.
    ///
    /// # Errors
    /// `NotFound` for the taxpayer; `AlreadyExists`.
    pub fn add_device(&mut self, actor: &str, new: NewDevice) -> Result<Device, Refusal> {
        if self.registry().device_by_id(&new.id).is_some() {
            return Err(exists("device", &new.id));
        }
        let taxpayer = self.registry().taxpayer_by_id(&new.taxpayer_id);
        let taxpayer = taxpayer.ok_or_else(|| absent("taxpayer", &new.taxpayer_id))?.no;
        let device = Device {
            no: DeviceNo(next_no(self.registry().devices.keys().map(|no| no.0))),
            id: new.id,
            taxpayer,
            machine_number: new.machine_number,
            backend: new.backend,
            kinds: new.kinds,
            profile: new.profile,
            enabled: true,
            test: new.test,
            public_key: new.public_key,
            connection: new.connection,
        };
        for kind in &device.kinds {
            self.last.series = self.last.series.saturating_add(1);
            let state = SeriesState {
                no: SeriesNo(self.last.series),
                device: device.no,
                kind: *kind,
                next_position: Position(0),
                event: None,
                last_issue: None,
                frozen: None,
                device_next: None,
                period: Period::default(),
            };
            let series = Series::new(state);
            self.series.insert(series.state.no, series);
        }
        self.registry_mut().put_device(device.clone());
        self.audit(actor, format!("add device {}", device.id));
        self.batch.registry.push(RegistryChange::Device(device.clone(), new.wrapped_key));
        Ok(device)
    }

    /// Opens or closes a device for new claims.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn enable_device(
        &mut self,
        actor: &str,
        id: &str,
        enabled: bool,
    ) -> Result<Device, Refusal> {
        let device = self.registry().device_by_id(id).ok_or_else(|| absent("device", id))?;
        let device = Device { enabled, ..Device::clone(device) };
        self.registry_mut().put_device(device.clone());
        self.batch.registry.push(RegistryChange::Device(device.clone(), None));
        self.audit(actor, format!("set device {id} enabled={enabled}"));
        Ok(device)
    }

    /// Lets a device go on that stopped because of its PIN. `record` is the setting that lets the
    /// PIN be presented again, where we are the one who does.
    pub fn unlock_device(
        &mut self,
        actor: &str,
        (id, reason): (&str, &str),
        record: Option<(String, Vec<u8>)>,
    ) {
        if let Some((key, value)) = record {
            self.put_setting(key, value);
        }
        self.audit(actor, format!("unlock device {id}: {reason}"));
    }

    /// Reaches a device elsewhere. Whoever asks has seen that its key is there.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn assign_device(
        &mut self,
        actor: &str,
        id: &str,
        connection: DeviceConnection,
    ) -> Result<Device, Refusal> {
        let device = self.registry().device_by_id(id).ok_or_else(|| absent("device", id))?;
        let connection = Some(connection);
        let device = Device { connection, ..Device::clone(device) };
        self.registry_mut().put_device(device.clone());
        self.batch.registry.push(RegistryChange::Device(device.clone(), None));
        self.audit(actor, format!("assign device {id} to another connection"));
        Ok(device)
    }

    /// Adds or replaces a route.
    ///
    /// # Errors
    /// None today; the signature leaves room for checks.
    pub fn put_route(&mut self, actor: &str, route: Route) -> Result<Route, Refusal> {
        self.registry_mut().routes.insert(route.province.clone(), Arc::new(route.clone()));
        self.batch.registry.push(RegistryChange::Route(route.clone()));
        self.audit(actor, format!("route province {} to {}", route.province, route.address));
        Ok(route)
    }

    /// Keeps a value of the daemon's own.
    pub fn put_setting(&mut self, key: impl Into<String>, value: Vec<u8>) {
        self.batch.registry.push(RegistryChange::Setting(key.into(), value));
    }

    /// Registers a number segment.
    ///
    /// # Errors
    /// `NotFound` for the device, `KindNotApproved`, `FieldInvalid` for an empty range or a device
    /// that draws its numbers itself, `SegmentOverlap` with a known range or number of any device.
    pub fn add_segment(&mut self, actor: &str, new: &NewSegment) -> Result<SegmentState, Refusal> {
        let device = self.registry().device_by_id(&new.device_id);
        let device = Arc::clone(device.ok_or_else(|| absent("device", &new.device_id))?);
        let no = self.series_of(device.no, new.kind).ok_or_else(|| {
            Refusal::new(Reason::KindNotApproved, "the device may not issue this kind")
        })?;
        if device.backend.draws_numbers() {
            return Err(Refusal::new(Reason::FieldInvalid, "the device has its own segments"));
        }
        let (first, last) = (new.first.number, new.last);
        if first > last || last > 99_999_999 {
            return Err(Refusal::new(Reason::FieldInvalid, "the range is empty or too high"));
        }
        self.no_overlap(&new.first, last)?;
        self.last.segment = self.last.segment.saturating_add(1);
        let segment = SegmentState {
            no: SegmentNo(self.last.segment),
            series: no,
            code: new.first.code.clone(),
            first,
            last,
            next: first,
        };
        self.series_mut(no)?.segments.push_back(segment.clone());
        self.batch.segments.push(segment.clone());
        self.audit(actor, format!("add segment {} to {last:08} for {}", new.first, device.id));
        Ok(segment)
    }

    fn no_overlap(&self, first: &InvoiceNumber, last: u32) -> Result<(), Refusal> {
        let mut drawn_now = self.drawn_now();
        let stored = self.store.any_number(first, last).map_err(|error| unreadable(&error))?;
        let drawn = stored
            || drawn_now.any(|number| {
                number.code == first.code && (first.number..=last).contains(&number.number)
            });
        let hint = match self.known_range(first, last) {
            Some((from, to)) => format!("code {} {from:08} to {to:08} is known", first.code),
            None if drawn => "a device drew a number of this range".to_owned(),
            None => return Ok(()),
        };
        Err(Refusal::new(Reason::SegmentOverlap, hint))
    }

    /// A segment of any series, used up or not, that shares a number with `first` to `last`.
    pub(super) fn known_range(&self, first: &InvoiceNumber, last: u32) -> Option<(u32, u32)> {
        let known = self.book.ranges.get(&first.code).into_iter().flatten().copied();
        let new = self.batch.segments.iter().filter(|segment| segment.code == first.code);
        let mut ranges = known.chain(new.map(|segment| (segment.first, segment.last)));
        ranges.find(|range| range.0 <= last && first.number <= range.1)
    }

    /// Opens a frozen series.
    ///
    /// # Errors
    /// `NotFound` for the device or kind.
    pub fn unfreeze(
        &mut self,
        actor: &str,
        (device_id, kind): (&str, Kind),
        reason: &str,
    ) -> Result<SeriesNo, Refusal> {
        let device = self.registry().device_by_id(device_id);
        let device = device.ok_or_else(|| absent("device", device_id))?.no;
        let no = self.series_of(device, kind).ok_or_else(|| absent("series of", device_id))?;
        self.series_mut(no)?.state.frozen = None;
        self.audit(actor, format!("unfreeze series {no} of {device_id}: {reason}"));
        Ok(no)
    }
}
