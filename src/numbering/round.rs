//! The decisions about requests and claims: assign, resolve, sign, adopt, void, release. Each first
//! looks at everything that could refuse it, then changes the round.

use super::{
    book::{Bound, Open, Round, unreadable},
    outcome::{IssuedInvoice, Outcome},
};
use crate::{
    clock,
    contract::{Checked, ContentDigest, Draft, digest},
    model::{ClaimId, CstTime, DeviceSerial, InvoiceNumber, RequestKey, SeriesNo},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::Device,
    signer::{DeviceAnswer, Signed},
    store::{
        Assignment, Binding, Claim, ClaimHead, ClosedSerial, Durable, EventKind, Fate, Found,
        Incident, Issued, Released, SignedTail, UsageKey, Voided,
    },
};
use std::sync::Arc;

/// Version of the signed record's layout.
const RECORD_VERSION: u32 = 1;
/// Length of the serial that a device sees.
const DEVICE_SERIAL_LEN: usize = 20;

/// What became of a request to assign.
#[derive(Debug)]
pub enum Decision {
    /// A new claim of this batch: whoever asked waits for it.
    Mine(ClaimId),
    /// A twin's claim, open: wait for it.
    Theirs(ClaimId),
    /// Known already.
    Done(Outcome),
    /// The device is busy with another claim of the kind: ask again when that one has ended.
    Park(SeriesNo, Box<Checked>),
}

/// What became of a request to resolve.
#[derive(Debug)]
pub enum Resolved {
    /// Final, or durable once this batch is.
    Done(Outcome),
    /// Under way.
    Open(ClaimId),
}

pub(super) fn open_of(claim: &Claim) -> Open {
    let (Assignment::Numbered { number, .. } | Assignment::ByDevice { next: number, .. }) =
        &claim.assignment;
    Open { series: claim.series, claimed_at: claim.claimed_at, number: number.clone() }
}

impl Round<'_> {
    /// Gives a checked request its claim, or says what it has already.
    ///
    /// # Errors
    /// A refusal; nothing was spent.
    pub fn assign(&mut self, checked: Checked) -> Result<Decision, Refusal> {
        let key = RequestKey {
            platform: checked.platform,
            taxpayer: checked.taxpayer,
            serial: checked.draft.serial.clone(),
        };
        if let Some(known) = self.known(&key, &checked.draft)? {
            return Ok(known);
        }
        self.claiming.clone()?;
        let device = self.may_issue(&checked)?;
        let series = self.series_of(device.no, checked.kind).ok_or_else(|| no_numbers(&device))?;
        let stamp = self.stamp(series, &checked)?;
        let (open, oldest) = self.backlog(series);
        self.check_backlog(open, oldest)?;
        self.not_frozen(series)?;
        if device.backend.draws_numbers() {
            if open > 0 {
                return Ok(Decision::Park(series, Box::new(checked)));
            }
            return self.claim_by_device(key, checked, (series, stamp));
        }
        self.claim_number(key, checked, &device, (series, stamp))
    }

    /// What a bound serial is answered with; none when it is free.
    fn known(&self, key: &RequestKey, draft: &Draft) -> Result<Option<Decision>, Refusal> {
        let found = match self.bound.get(key) {
            Some(Bound::Claim(id, digest)) => {
                same_content(*digest, draft)?;
                return Ok(Some(Decision::Theirs(*id)));
            }
            Some(Bound::Closed(at)) => return Err(closed(*at)),
            Some(Bound::Free) => return Ok(None),
            None => match self.store.binding(key).map_err(|error| unreadable(&error))? {
                Some(Binding::Claim(id)) => {
                    self.store.found(id).map_err(|error| unreadable(&error))?
                }
                Some(Binding::Closed(at)) => return Err(closed(at)),
                None => return Ok(None),
            },
        };
        same_content(found.digest(), draft)?;
        Ok(Some(match outcome_of(&found) {
            Some(outcome) => Decision::Done(outcome),
            None => Decision::Theirs(found.id()),
        }))
    }

    /// The grants, looked at again inside the assigning commit.
    fn may_issue(&self, checked: &Checked) -> Result<Arc<Device>, Refusal> {
        let registry = self.registry();
        let platform = registry.platforms.get(&checked.platform);
        if !platform.is_some_and(|platform| platform.enabled) {
            return Err(Refusal::new(Reason::PlatformSuspended, "the platform is suspended"));
        }
        if !registry.bindings.contains(&(checked.platform, checked.taxpayer)) {
            return Err(Refusal::new(Reason::TaxpayerNotBound, "the taxpayer is not bound"));
        }
        let device = registry.devices.get(&checked.device);
        let device = device.filter(|device| device.taxpayer == checked.taxpayer && device.enabled);
        device.map(Arc::clone).ok_or_else(|| {
            Refusal::new(Reason::DeviceUnavailable, "the virtual device is closed for new invoices")
        })
    }

    /// The issue time: the batch's, never backwards within the series.
    fn stamp(&self, no: SeriesNo, checked: &Checked) -> Result<CstTime, Refusal> {
        let last = self.series(no).and_then(|series| series.state.last_issue);
        let last = last.unwrap_or(self.now);
        if last.unix() > self.now.unix().saturating_add(self.book.limits.clock_skew_max_s) {
            let hint =
                format!("the clock ({}) is before the series' last invoice ({last})", self.now);
            return Err(Refusal::new(Reason::ClockSkew, hint));
        }
        let stamp = self.now.max(last);
        if checked.valid_until.is_some_and(|until| stamp > until) {
            return Err(Refusal::new(
                Reason::Overloaded,
                "a dated rule changed while the request waited; send it again",
            ));
        }
        Ok(stamp)
    }

    fn check_backlog(&self, open: usize, oldest: Option<CstTime>) -> Result<(), Refusal> {
        let limits = &self.book.limits;
        if open >= limits.open_claims_max {
            let hint = format!("{open} invoices of this series wait for their signature");
            return Err(Refusal::new(Reason::SeriesBacklog, hint));
        }
        let age = oldest.map_or(0, |oldest| self.now.unix().saturating_sub(oldest.unix()));
        if age > limits.oldest_open_max_s {
            let hint = format!("the oldest open claim of this series is {age} s old");
            return Err(Refusal::new(Reason::SeriesBacklog, hint));
        }
        Ok(())
    }

    fn not_frozen(&self, no: SeriesNo) -> Result<(), Refusal> {
        match self.series(no).and_then(|series| series.state.frozen.as_ref()) {
            None => Ok(()),
            Some(why) => {
                Err(Refusal::new(Reason::SeriesFrozen, format!("the series is frozen: {why}")))
            }
        }
    }

    fn claim_number(
        &mut self,
        key: RequestKey,
        checked: Checked,
        device: &Device,
        (no, stamp): (SeriesNo, CstTime),
    ) -> Result<Decision, Refusal> {
        if self.series(no).is_none_or(|series| series.left() == 0) {
            return Err(no_numbers(device));
        }
        let id = self.next_claim();
        let series = self.series_mut(no)?;
        series.segments.retain(|segment| segment.left() > 0);
        let segment = series.segments.front_mut().expect("a number is left");
        let number = InvoiceNumber { code: segment.code.clone(), number: segment.next };
        segment.next = segment.next.saturating_add(1);
        let segment = segment.clone();
        let position = series.state.next_position;
        series.state.next_position.0 = position.0.saturating_add(1);
        series.state.last_issue = Some(stamp);
        let head = ClaimHead::encode(&pb::Invoice {
            draft: Some(checked.draft.wire),
            code: number.code.clone(),
            number: number.number_text(),
            issue_time: stamp.rfc3339(),
            device_id: device.id.clone(),
            machine_number: device.machine_number.clone(),
            record_version: RECORD_VERSION,
            ..pb::Invoice::default()
        });
        let event = Some(series.event(EventKind::Claimed, id, &head.0));
        self.put_segment(segment);
        self.put_claim(Claim {
            id,
            series: no,
            device: device.no,
            request: key,
            digest: checked.draft.digest,
            assignment: Assignment::Numbered { number, position },
            claimed_at: stamp,
            kind: checked.kind,
            color: checked.color,
            totals: checked.totals,
            head,
            event,
        });
        Ok(Decision::Mine(id))
    }

    fn claim_by_device(
        &mut self,
        key: RequestKey,
        checked: Checked,
        (no, stamp): (SeriesNo, CstTime),
    ) -> Result<Decision, Refusal> {
        let next =
            self.series(no).and_then(|series| series.device_next.clone()).ok_or_else(|| {
                Refusal::new(Reason::DeviceUnavailable, "the device has not said its next number")
            })?;
        let id = self.next_claim();
        let device_serial = DeviceSerial(clock::random_text(DEVICE_SERIAL_LEN));
        let head = ClaimHead::encode(&pb::Invoice {
            draft: Some(checked.draft.wire),
            ..pb::Invoice::default()
        });
        self.put_claim(Claim {
            id,
            series: no,
            device: checked.device,
            request: key,
            digest: checked.draft.digest,
            assignment: Assignment::ByDevice { device_serial, next },
            claimed_at: stamp,
            kind: checked.kind,
            color: checked.color,
            totals: checked.totals,
            head,
            event: None,
        });
        Ok(Decision::Mine(id))
    }

    fn next_claim(&mut self) -> ClaimId {
        self.last.claim = self.last.claim.saturating_add(1);
        ClaimId(self.last.claim)
    }

    fn put_segment(&mut self, segment: crate::store::SegmentState) {
        match self.batch.segments.iter_mut().find(|known| known.no == segment.no) {
            Some(known) => *known = segment,
            None => self.batch.segments.push(segment),
        }
    }

    fn put_claim(&mut self, claim: Claim) {
        self.put_opened(claim.id, open_of(&claim));
        self.bound.insert(claim.request.clone(), Bound::Claim(claim.id, claim.digest));
        self.batch.claims.push(claim);
    }

    /// The true answer to "was it issued?": what the serial has become, or its durable closing.
    ///
    /// # Errors
    /// When the books cannot be read.
    pub fn resolve(&mut self, key: RequestKey) -> Result<Resolved, Refusal> {
        let binding = match self.bound.get(&key) {
            Some(Bound::Claim(id, _)) => return Ok(Resolved::Open(*id)),
            Some(Bound::Closed(at)) => return Ok(Resolved::Done(Outcome::Closed { at: *at })),
            Some(Bound::Free) => None,
            None => self.store.binding(&key).map_err(|error| unreadable(&error))?,
        };
        match binding {
            Some(Binding::Claim(id)) => {
                let found = self.store.found(id).map_err(|error| unreadable(&error))?;
                Ok(outcome_of(&found).map_or(Resolved::Open(id), Resolved::Done))
            }
            Some(Binding::Closed(at)) => Ok(Resolved::Done(Outcome::Closed { at })),
            None => {
                let at = self.now;
                self.bound.insert(key.clone(), Bound::Closed(at));
                self.batch.closed.push(ClosedSerial { request: key, at });
                Ok(Resolved::Done(Outcome::Closed { at }))
            }
        }
    }

    /// Saves a signature. One that comes for a claim which is not open any more is an incident and
    /// leaves the proxy nowhere.
    pub fn sign(&mut self, claim: &Durable<Claim>, signed: &Signed) {
        if self.open(claim.id).is_none() {
            return self.incident(claim, "a signature came for a claim that is not open");
        }
        let tail = SignedTail::encode(&tail_of(signed));
        self.put_issued(claim, tail, None);
    }

    fn put_issued(
        &mut self,
        claim: &Durable<Claim>,
        tail: SignedTail,
        drawn: Option<(InvoiceNumber, crate::model::Position, CstTime)>,
    ) {
        let Ok(series) = self.series_mut(claim.series) else {
            return self.incident(claim, "a signature came for an unknown series");
        };
        let event = series.event(EventKind::Issued, claim.id, &tail.0);
        let day = drawn.as_ref().map_or(claim.claimed_at, |(.., time)| *time).day();
        let key = UsageKey {
            day,
            platform: claim.request.platform,
            taxpayer: claim.request.taxpayer,
            kind: claim.kind,
            color: claim.color,
        };
        self.batch.usage.entry(key).or_default().add(claim.totals);
        self.put_ended(claim.id, claim.series);
        let (claim, series) = (claim.id, claim.series);
        self.batch.issued.push(Issued { claim, series, tail, drawn, event });
    }

    /// Adopts what a device answers. What does not match the claim freezes the series, with
    /// evidence, and nothing of it is released. Says whether the answer was taken.
    pub fn adopt(&mut self, claim: &Durable<Claim>, answer: &DeviceAnswer) -> bool {
        if self.open(claim.id).is_none() {
            self.incident(claim, "a device answered for a claim that is not open");
            return false;
        }
        let expected = match &claim.assignment {
            Assignment::ByDevice { next, .. } => next.clone(),
            Assignment::Numbered { number, .. } => number.clone(),
        };
        if let Err(evidence) = self.matches(claim, answer) {
            self.freeze(claim, &format!("the device's answer does not match: {evidence}"));
            return false;
        }
        let Ok(series) = self.series_mut(claim.series) else { return false };
        series.device_next.clone_from(&answer.next);
        let position = series.state.next_position;
        series.state.next_position.0 = position.0.saturating_add(1);
        series.state.last_issue = series.state.last_issue.max(Some(answer.issue_time));
        let mut tail = tail_of(&answer.signed);
        tail.code.clone_from(&answer.number.code);
        tail.number = answer.number.number_text();
        tail.issue_time = answer.issue_time.rfc3339();
        tail.record_version = RECORD_VERSION;
        if let Some(device) = self.registry().devices.get(&claim.device) {
            tail.device_id.clone_from(&device.id);
            tail.machine_number.clone_from(&device.machine_number);
        }
        let drawn = Some((answer.number.clone(), position, answer.issue_time));
        self.put_issued(claim, SignedTail::encode(&tail), drawn);
        if answer.number != expected {
            let text = format!(
                "the device drew {} where {expected} was next: it issued past us",
                answer.number
            );
            self.freeze(claim, &text);
        }
        true
    }

    fn matches(&self, claim: &Claim, answer: &DeviceAnswer) -> Result<(), String> {
        let Assignment::ByDevice { device_serial, .. } = &claim.assignment else {
            return Err("the claim is not the device's to number".into());
        };
        let draft = claim.head.draft().map_err(|error| error.to_string())?;
        let buyer = draft.buyer.unwrap_or_default();
        let differs = [
            ("serial", answer.device_serial != *device_serial),
            ("kind", answer.kind != claim.kind),
            ("buyer's taxpayer id", answer.buyer_taxpayer_id != buyer.taxpayer_id),
            ("buyer's name", answer.buyer_name != buyer.name),
            ("totals", answer.totals != claim.totals),
        ];
        if let Some((what, _)) = differs.iter().find(|(_, differs)| *differs) {
            return Err(format!("{what} differs"));
        }
        let number = &answer.number;
        let drawn_now = self.batch.issued.iter().filter_map(|issued| issued.drawn.as_ref());
        let held = drawn_now.map(|(drawn, ..)| drawn).any(|drawn| drawn == number)
            || self.batch.claims.iter().any(|claim| {
                open_of(claim).number == *number
                    && matches!(claim.assignment, Assignment::Numbered { .. })
            });
        let stored = self.store.any_number(number, number.number);
        match stored {
            Ok(stored) if stored || held => {
                Err(format!("number {number} belongs to another claim"))
            }
            Ok(_) if self.known_range(number, number.number).is_some() => {
                Err(format!("number {number} lies in a segment that we draw from"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(crate::refusal::chain(&error)),
        }
    }

    /// Voids the number of an open claim (空白作废): a compare-and-set from "open, no live attempt".
    /// The caller holds the claim, so there is no live attempt.
    ///
    /// # Errors
    /// `VoidNotAllowed` when it is not open, or when only the device knows whether a number was
    /// drawn.
    pub fn void(
        &mut self,
        claim: &Durable<Claim>,
        reason: &str,
        actor: &str,
    ) -> Result<Voided, Refusal> {
        let refuse = |hint| Err(Refusal::new(Reason::VoidNotAllowed, hint));
        if self.open(claim.id).is_none() {
            return refuse("the claim is not open");
        }
        let Assignment::Numbered { number, .. } = &claim.assignment else {
            return refuse("the device draws this number; it is adopted or released by asking it");
        };
        let number = number.clone();
        let event =
            self.series_mut(claim.series)?.event(EventKind::Voided, claim.id, reason.as_bytes());
        let voided = Voided {
            claim: claim.id,
            series: claim.series,
            number: Some(number),
            reason: reason.to_owned(),
            at: self.now,
            event,
        };
        self.put_ended(claim.id, claim.series);
        self.batch.voided.push(voided.clone());
        self.audit(actor, format!("blank-void claim {}: {reason}", claim.id));
        Ok(voided)
    }

    /// Releases a device's claim under which nothing was issued. `next` is the device's next number
    /// after its quiescence time; unless it is unchanged, something was drawn and the claim stays
    /// open.
    pub fn release(&mut self, claim: &Durable<Claim>, next: Option<&InvoiceNumber>) -> bool {
        let Assignment::ByDevice { next: before, .. } = &claim.assignment else { return false };
        if self.open(claim.id).is_none() {
            return false;
        }
        if next != Some(before) {
            let now = next.map_or_else(|| "none".to_owned(), ToString::to_string);
            let moved = format!("its next number went from {before} to {now}");
            self.freeze(claim, &format!("the device knows no such serial, but {moved}"));
            return false;
        }
        let evidence = format!("serial unknown to the device, next number still {before}");
        let Ok(series) = self.series_mut(claim.series) else { return false };
        let event = series.event(EventKind::Released, claim.id, evidence.as_bytes());
        series.device_next = next.cloned();
        self.put_ended(claim.id, claim.series);
        self.bound.insert(claim.request.clone(), Bound::Free);
        self.batch.released.push(Released {
            claim: claim.id,
            series: claim.series,
            request: claim.request.clone(),
            evidence,
            at: self.now,
            event,
        });
        true
    }

    /// What a device says of its next number. A change that no claim explains freezes the series:
    /// the device issued past us. While a claim is open, its end explains the change or freezes
    /// itself.
    pub fn device_next(&mut self, no: SeriesNo, next: Option<InvoiceNumber>) {
        let idle = self.backlog(no).0 == 0;
        let Ok(series) = self.series_mut(no) else { return };
        let before = std::mem::replace(&mut series.device_next, next.clone());
        if let Some(before) = before.filter(|before| idle && Some(before) != next.as_ref()) {
            let now = next.map_or_else(|| "none".to_owned(), |next| next.to_string());
            self.freeze_series(
                (no, None),
                &format!("the device's next number went from {before} to {now} without a claim"),
            );
        }
    }

    fn freeze(&mut self, claim: &Durable<Claim>, why: &str) {
        self.freeze_series((claim.series, Some(claim.id)), why);
    }

    fn freeze_series(&mut self, (no, claim): (SeriesNo, Option<ClaimId>), why: &str) {
        let Ok(series) = self.series_mut(no) else { return };
        if series.state.frozen.is_none() {
            series.state.frozen = Some(why.to_owned());
            self.put_incident((no, claim), why);
        }
    }

    fn incident(&mut self, claim: &Durable<Claim>, text: &str) {
        self.put_incident((claim.series, Some(claim.id)), text);
    }

    fn put_incident(&mut self, (series, claim): (SeriesNo, Option<ClaimId>), text: &str) {
        let claim_no = claim.map(|claim| claim.0);
        tracing::error!(claim = claim_no, series = series.0, "incident: {text}");
        let (series, text) = (Some(series), text.to_owned());
        self.batch.incidents.push(Incident { at: self.now, series, claim, text });
    }
}

fn tail_of(signed: &Signed) -> pb::Invoice {
    pb::Invoice {
        check_code: signed.check_code.clone(),
        cipher_text: signed.cipher_text.clone(),
        qr_text: signed.qr_text.clone(),
        signature_algorithm: signed.algorithm.into(),
        signature: signed.signature.clone(),
        signer_key: signed.signer_key.to_vec(),
        ..pb::Invoice::default()
    }
}

/// What a claim has become; none while it is open.
pub(super) fn outcome_of(found: &Found) -> Option<Outcome> {
    match &found.fate {
        Fate::Open | Fate::Released => None,
        Fate::Issued(_) => {
            let (claim, bytes) = (found.id(), found.invoice()?);
            Some(Outcome::Issued(IssuedInvoice { claim, bytes }))
        }
        Fate::Voided(voided) => {
            Some(Outcome::Voided { number: voided.number.clone(), reason: voided.reason.clone() })
        }
    }
}

/// Refuses another content under a bound serial. Compared with the digest version used then.
pub(super) fn same_content(stored: ContentDigest, draft: &Draft) -> Result<(), Refusal> {
    let ours = if stored.version == draft.digest.version {
        Some(draft.digest)
    } else {
        digest(stored.version, &draft.wire)
    };
    if ours == Some(stored) {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::SerialConflict,
        "this serial already stands for another content; look it up with GetInvoice",
    ))
}

pub(super) fn closed(at: CstTime) -> Refusal {
    Refusal::new(
        Reason::SerialClosed,
        format!("this serial was closed unused at {at}; use another one"),
    )
}

fn no_numbers(device: &Device) -> Refusal {
    Refusal::new(
        Reason::NoNumbers,
        format!("device {} has no number left for this kind", device.id),
    )
}
