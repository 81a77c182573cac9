//! The decisions about requests and claims: assign, resolve, sign, void. Each first
//! looks at everything that could refuse it, then changes the round.

use super::{
    book::{Bound, Open, Round, Series, unreadable},
    drawn::Evidence,
    outcome::{IssuedInvoice, Outcome},
    qr::qr_evidence,
    red::Hold,
    void::voided_of,
};
use crate::{
    clock,
    contract::{Checked, ContentDigest, Draft, digest},
    model::{ClaimId, CstTime, DeviceSerial, InvoiceNumber, Position, RequestKey, SeriesNo},
    pb::v1 as pb,
    refusal::{Reason, Refusal, Severity},
    registry::{Device, Operation},
    signer::Signed,
    store::{
        Assignment, Binding, Claim, ClaimHead, ClosedSerial, Counted, Durable, EventKind, Fate,
        Found, Incident, Issued, ListOwner, Place, SignedTail, UsageKey, Voided,
    },
};
use std::sync::Arc;

/// Version of the signed record's layout.
pub(super) const RECORD_VERSION: u32 = 1;
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
    let (series, claimed_at, red_of) = (claim.series, claim.claimed_at, claim.red_of);
    let amount = claim.totals.amount;
    Open { series, claimed_at, number: number.clone(), red_of, amount }
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
        let (device, series, stamp) = self.ready(&checked)?;
        let hold = self.hold(&checked)?;
        self.credit_left(&checked, stamp)?;
        if device.backend.draws_numbers() {
            if self.backlog(series).0 > 0 {
                return Ok(Decision::Park(series, Box::new(checked)));
            }
            let next = self.next_of_device(series, &device)?;
            let made = self.claim_by_device(key, checked, next, (series, stamp, hold.as_ref()))?;
            self.take_hold(hold);
            return Ok(made);
        }
        let made = self.claim_number(key, checked, &device, (series, stamp, hold.as_ref()))?;
        self.take_hold(hold);
        Ok(made)
    }

    /// Whether a request could have a claim now; changes nothing.
    ///
    /// # Errors
    /// What `assign` would refuse it with.
    pub fn validate(&self, checked: &Checked) -> Result<(), Refusal> {
        let (device, series, stamp) = self.ready(checked)?;
        self.hold(checked)?;
        self.credit_left(checked, stamp)?;
        if device.backend.draws_numbers() {
            return self.next_of_device(series, &device).map(drop);
        }
        self.numbers_left(series, &device)
    }

    /// Everything that could refuse a claim but for the number itself: the device, the series and
    /// the issue time.
    fn ready(&self, checked: &Checked) -> Result<(Arc<Device>, SeriesNo, CstTime), Refusal> {
        self.gate.all.clone()?;
        let device = self.may_issue(checked)?;
        (self.gate.device)(device.no)?;
        let series = self.series_of(device.no, checked.kind).ok_or_else(|| no_numbers(&device))?;
        let stamp = self.stamp(series, checked)?;
        let (_, oldest) = self.backlog(series);
        self.check_backlog(&device, oldest)?;
        self.not_frozen(series)?;
        self.within_limits(series, checked, stamp)?;
        Ok((device, series, stamp))
    }

    fn numbers_left(&self, no: SeriesNo, device: &Device) -> Result<(), Refusal> {
        let left = self.series(no).map_or(0, Series::left);
        if left > 0 { Ok(()) } else { Err(no_numbers(device)) }
    }

    /// What a device that draws numbers will draw next.
    fn next_of_device(&self, no: SeriesNo, device: &Device) -> Result<InvoiceNumber, Refusal> {
        let series = self.series(no);
        if let Some(next) = series.and_then(|series| series.state.device_next.clone()) {
            return Ok(next);
        }
        if series.is_some_and(|series| series.used_up) {
            return Err(no_numbers(device));
        }
        let hint = format!("virtual device {} has not said its next number", device.id);
        Err(Refusal::new(Reason::DeviceUnavailable, hint))
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
        let asker = (checked.platform, checked.taxpayer);
        registry.may(asker, Operation::issuing(checked.color))?;
        let taxpayer = registry.taxpayers.get(&checked.taxpayer);
        if taxpayer.is_some_and(|taxpayer| taxpayer.forbidden.forbids(checked.kind)) {
            let hint = "the taxpayer is forbidden to issue this kind of invoice";
            return Err(Refusal::new(Reason::TaxpayerForbidden, hint));
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

    fn check_backlog(&self, device: &Device, oldest: Option<CstTime>) -> Result<(), Refusal> {
        let (limits, open) = (&self.book.limits, self.slots_taken(device));
        let device = &device.id;
        if open >= limits.open_claims_max {
            let hint =
                format!("{open} invoices of virtual device {device} wait for their signature");
            return Err(Refusal::new(Reason::SeriesBacklog, hint));
        }
        let age = oldest.map_or(0, |oldest| self.now.unix().saturating_sub(oldest.unix()));
        if age > limits.oldest_open_max_s {
            let hint = format!("the oldest open claim of virtual device {device} is {age} s old");
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
        (no, stamp, hold): (SeriesNo, CstTime, Option<&Hold>),
    ) -> Result<Decision, Refusal> {
        self.numbers_left(no, device)?;
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
            red_of: hold.map(|hold| hold.blue),
            counts_credit: checked.counts_credit,
            head,
            event,
        });
        Ok(Decision::Mine(id))
    }

    fn claim_by_device(
        &mut self,
        key: RequestKey,
        checked: Checked,
        next: InvoiceNumber,
        (no, stamp, hold): (SeriesNo, CstTime, Option<&Hold>),
    ) -> Result<Decision, Refusal> {
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
            red_of: hold.map(|hold| hold.blue),
            counts_credit: checked.counts_credit,
            head,
            event: None,
        });
        Ok(Decision::Mine(id))
    }

    fn next_claim(&mut self) -> ClaimId {
        self.last.claim = self.last.claim.saturating_add(1);
        ClaimId(self.last.claim)
    }

    pub(super) fn put_segment(&mut self, segment: crate::store::SegmentState) {
        match self.batch.segments.iter_mut().find(|known| known.no == segment.no) {
            Some(known) => *known = segment,
            None => self.batch.segments.push(segment),
        }
    }

    fn put_claim(&mut self, claim: Claim) {
        self.count_claim(claim.series, claim.totals.amount, claim.claimed_at);
        self.take_credit(claim.credit());
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
            // One of the numbers that these books lost may be this request's.
            None if self.has_lost(key.taxpayer) => Ok(Resolved::Done(Outcome::in_doubt())),
            None => {
                let at = self.now;
                self.bound.insert(key.clone(), Bound::Closed(at));
                self.batch.closed.push(ClosedSerial { request: key, at });
                Ok(Resolved::Done(Outcome::Closed { at }))
            }
        }
    }

    /// Saves a signature. One that comes for a claim which is not open any more is an incident and
    /// leaves the proxy nowhere. Says whether the claim has ended: it stays open, and its series
    /// freezes, when the profile lets no code pass that contradicts its invoice.
    pub fn sign(&mut self, claim: &Durable<Claim>, signed: &Signed) -> bool {
        if self.open(claim.id).is_none() {
            self.incident(claim, "a signature came for a claim that is not open");
            return true;
        }
        let number = open_of(claim).number;
        let qr = self.qr_contradiction(claim, (&number, claim.claimed_at), signed);
        match &qr {
            Some(found) if found.severity == Severity::Refuse => {
                let evidence = qr_evidence(found);
                self.freeze(claim, &format!("SIGNER_ANSWER_INVALID: {evidence}"));
                return false;
            }
            Some(found) => self.note_qr(claim, found),
            None => {}
        }
        let tail = SignedTail::encode(&tail_of(signed));
        self.put_issued(claim, tail, None);
        true
    }

    pub(super) fn put_issued(
        &mut self,
        claim: &Durable<Claim>,
        tail: SignedTail,
        drawn: Option<(InvoiceNumber, Position, CstTime)>,
    ) {
        let Ok(series) = self.series_mut(claim.series) else {
            return self.incident(claim, "a signature came for an unknown series");
        };
        let event = series.event(EventKind::Issued, claim.id, &tail.0);
        let at = drawn.as_ref().map_or(claim.claimed_at, |(.., time)| *time);
        let key = UsageKey {
            day: at.day(),
            platform: claim.request.platform,
            taxpayer: claim.request.taxpayer,
            kind: claim.kind,
            color: claim.color,
            counted: Counted::Issued,
        };
        self.batch.usage.entry(key).or_default().add(claim.totals);
        let owner = ListOwner { taxpayer: key.taxpayer, platform: key.platform };
        self.batch.listed.push((owner, Place { at, claim: claim.id }));
        self.put_ended(claim.id, claim.series);
        let (claim, series) = (claim.id, claim.series);
        self.batch.issued.push(Issued { claim, series, tail, drawn, event });
    }

    /// Voids the number of an open claim (空白作废): a compare-and-set from "open, no live attempt".
    /// The caller holds the claim, so there is no live attempt. Where the device draws the number,
    /// `evidence` is what it said of the claim.
    ///
    /// # Errors
    /// `VoidNotAllowed` when it is not open, when only the device knows whether a number was drawn,
    /// or when the device's word ended the claim otherwise.
    pub fn void(
        &mut self,
        claim: &Durable<Claim>,
        evidence: Option<&Evidence>,
        (reason, actor): (&str, &str),
    ) -> Result<Voided, Refusal> {
        let refuse = |hint| Err(Refusal::new(Reason::VoidNotAllowed, hint));
        if self.open(claim.id).is_none() {
            return refuse("the claim is not open");
        }
        match (&claim.assignment, evidence) {
            (Assignment::Numbered { number, .. }, _) => {
                self.audit(actor, format!("blank-void claim {}: {reason}", claim.id));
                self.put_voided(claim, (Some(number.clone()), None), reason)
            }
            (Assignment::ByDevice { .. }, Some(evidence)) => {
                self.void_drawn(claim, evidence, (reason, actor))
            }
            (Assignment::ByDevice { .. }, None) => {
                refuse("the device draws this number; it must be asked first")
            }
        }
    }

    pub(super) fn put_voided(
        &mut self,
        claim: &Durable<Claim>,
        (number, drawn): (Option<InvoiceNumber>, Option<Position>),
        reason: &str,
    ) -> Result<Voided, Refusal> {
        self.give_back_open(claim)?;
        self.uncount_period(claim.series, claim.totals.amount);
        let series = self.series_mut(claim.series)?;
        let event = series.event(EventKind::Voided, claim.id, reason.as_bytes());
        let (series, reason) = (claim.series, reason.to_owned());
        let voided = Voided { claim: claim.id, series, number, drawn, reason, at: self.now, event };
        self.put_ended(claim.id, claim.series);
        self.batch.voided.push(voided.clone());
        Ok(voided)
    }

    pub(super) fn freeze(&mut self, claim: &Durable<Claim>, why: &str) {
        self.freeze_series((claim.series, Some(claim.id)), why);
    }

    pub(super) fn freeze_series(&mut self, (no, claim): (SeriesNo, Option<ClaimId>), why: &str) {
        let Ok(series) = self.series_mut(no) else { return };
        if series.state.frozen.is_none() {
            series.state.frozen = Some(why.to_owned());
            self.put_incident((no, claim), why);
        }
    }

    pub(super) fn incident(&mut self, claim: &Durable<Claim>, text: &str) {
        self.put_incident((claim.series, Some(claim.id)), text);
    }

    /// Keeps an incident that concerns no single series.
    pub fn note_incident(&mut self, text: String) {
        tracing::error!("incident: {text}");
        let (series, claim) = (None, None);
        self.batch.incidents.push(Incident { at: self.now, series, claim, text });
    }

    pub(super) fn put_incident(
        &mut self,
        (series, claim): (SeriesNo, Option<ClaimId>),
        text: &str,
    ) {
        let claim_no = claim.map(|claim| claim.0);
        tracing::error!(claim = claim_no, series = series.0, "incident: {text}");
        let (series, text) = (Some(series), text.to_owned());
        self.batch.incidents.push(Incident { at: self.now, series, claim, text });
    }
}

pub(super) fn tail_of(signed: &Signed) -> pb::Invoice {
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
        Fate::Voided(_) | Fate::InvoiceVoided(..) => voided_of(found).map(Outcome::Voided),
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
