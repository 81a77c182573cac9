//! The decisions about numbers that a device draws: adopt what it answers, release what it provably
//! did not issue, freeze what does not add up. Nothing of a device is believed before it is
//! compared.

use super::{
    book::{Bound, Round},
    qr::qr_evidence,
    round::{RECORD_VERSION, open_of, tail_of},
};
use crate::{
    model::{InvoiceNumber, Position, SeriesNo},
    refusal::{Reason, Refusal, Severity, Violation},
    signer::DeviceAnswer,
    store::{Assignment, Claim, Durable, EventKind, Released, SignedTail, Voided},
};

/// What a device said of a claim when it was asked for an operator who wants the claim ended, after
/// its quiescence time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// It issued something under the claim's serial.
    Issued(Box<DeviceAnswer>),
    /// It knows no such serial.
    Nothing {
        /// Its next number; none when its stock is used up.
        next: Option<InvoiceNumber>,
    },
}

impl Round<'_> {
    /// Adopts what a device answers. What does not match the claim freezes the series, with
    /// evidence, and nothing of it is released. Says whether the answer was taken.
    pub fn adopt(&mut self, claim: &Durable<Claim>, answer: &DeviceAnswer) -> bool {
        if self.open(claim.id).is_none() {
            self.incident(claim, "a device answered for a claim that is not open");
            return false;
        }
        if let Err(evidence) = self.matches(claim, answer) {
            self.contradicted(claim, &format!("the device's answer does not match: {evidence}"));
            return false;
        }
        if let Some(found) = self.qr_of(claim, answer) {
            self.note_qr(claim, &found);
        }
        let doubt = self.doubt(claim, answer);
        let Ok(position) = self.drew(claim.series, answer) else { return false };
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
        if let Some(doubt) = doubt {
            self.freeze(claim, &doubt);
        }
        true
    }

    /// What a device says contradicts a claim: nothing is released, the series freezes.
    pub(super) fn contradicted(&mut self, claim: &Durable<Claim>, evidence: &str) {
        self.freeze(claim, &format!("{}: {evidence}", Reason::SignerAnswerInvalid));
    }

    /// Takes over where the device stands after an answer, and draws the number's position.
    fn drew(&mut self, no: SeriesNo, answer: &DeviceAnswer) -> Result<Position, Refusal> {
        let series = self.series_mut(no)?;
        series.stands_at(answer.next.as_ref());
        let state = &mut series.state;
        state.last_issue = state.last_issue.max(Some(answer.issue_time));
        let position = state.next_position;
        state.next_position.0 = position.0.saturating_add(1);
        Ok(position)
    }

    /// Why a series may not go on although an answer matches its claim: the invoice stands, and
    /// what is beside it does not add up.
    fn doubt(&self, claim: &Claim, answer: &DeviceAnswer) -> Option<String> {
        let (number, expected) = (&answer.number, open_of(claim).number);
        if *number != expected {
            return Some(format!(
                "the device drew {number} where {expected} was next: it issued past us"
            ));
        }
        // Under another code a new segment has begun; under this one the successor must be next.
        let next = answer.next.as_ref().filter(|next| next.code == number.code);
        if let Some(next) = next
            && number.next().as_ref() != Some(next)
        {
            return Some(format!(
                "the device drew {number}, but {next} is next: it issued past us"
            ));
        }
        let time = answer.issue_time;
        let last = self.series(claim.series).and_then(|series| series.state.last_issue);
        if let Some(last) = last.filter(|last| time < *last) {
            return Some(format!("the device's clock went back: {time} after {last}"));
        }
        let limit = self.book.limits.device_skew_max_s;
        let earliest = claim.claimed_at.unix().saturating_sub(limit);
        let latest = self.now.unix().saturating_add(limit);
        (!(earliest..=latest).contains(&time.unix())).then(|| {
            let (asked, now) = (claim.claimed_at, self.now);
            format!("the device's clock is wrong: it stamped {time}, asked at {asked}, now {now}")
        })
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
        let qr = self.qr_of(claim, answer);
        if let Some(found) = qr.filter(|found| found.severity == Severity::Refuse) {
            return Err(qr_evidence(&found));
        }
        self.unheld(&answer.number)
    }

    fn qr_of(&self, claim: &Claim, answer: &DeviceAnswer) -> Option<Violation> {
        self.qr_contradiction(claim, (&answer.number, answer.issue_time), &answer.signed)
    }

    /// Numbers that became a claim's in this round because a device drew them, voided ones too.
    pub(super) fn drawn_now(&self) -> impl Iterator<Item = &InvoiceNumber> {
        let issued = self.batch.issued.iter().filter_map(|issued| issued.drawn.as_ref());
        let voided = self.batch.voided.iter().filter_map(|voided| voided.number.as_ref());
        issued.map(|(drawn, ..)| drawn).chain(voided)
    }

    /// Whether a number that a device drew belongs to nobody else.
    fn unheld(&self, number: &InvoiceNumber) -> Result<(), String> {
        let held = self.drawn_now().any(|drawn| drawn == number)
            || self.batch.claims.iter().any(|claim| {
                open_of(claim).number == *number
                    && matches!(claim.assignment, Assignment::Numbered { .. })
            });
        match self.store.any_number(number, number.number) {
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
            self.contradicted(claim, &format!("the device knows no such serial, but {moved}"));
            return false;
        }
        let evidence = format!("serial unknown to the device, next number still {before}");
        if self.give_back_open(claim).is_err() {
            return false;
        }
        self.uncount_period(claim.series, claim.totals.amount);
        let Ok(series) = self.series_mut(claim.series) else { return false };
        let event = series.event(EventKind::Released, claim.id, evidence.as_bytes());
        series.stands_at(next);
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

    /// Ends a device's claim for an operator, by what the device says of it: adopted or released
    /// when that adds up, otherwise voided, with the number that the device drew if nobody else
    /// holds it.
    ///
    /// # Errors
    /// `VoidNotAllowed` when it was adopted or released instead, or is not open.
    pub(super) fn void_drawn(
        &mut self,
        claim: &Durable<Claim>,
        evidence: &Evidence,
        (reason, actor): (&str, &str),
    ) -> Result<Voided, Refusal> {
        let refuse = |hint: String| Err(Refusal::new(Reason::VoidNotAllowed, hint));
        if self.open(claim.id).is_none() {
            return refuse("the claim is not open".into());
        }
        let (number, drawn) = match evidence {
            Evidence::Issued(answer) if self.matches(claim, answer).is_ok() => {
                self.adopt(claim, answer);
                return refuse(format!("the device issued it as {}: it is ISSUED", answer.number));
            }
            Evidence::Issued(answer) if self.unheld(&answer.number).is_ok() => {
                let position = self.drew(claim.series, answer)?;
                (Some(answer.number.clone()), Some(position))
            }
            // Its number is another claim's: this one has none.
            Evidence::Issued(answer) => {
                self.series_mut(claim.series)?.stands_at(answer.next.as_ref());
                (None, None)
            }
            Evidence::Nothing { next } if *next == Some(open_of(claim).number) => {
                self.release(claim, next.as_ref());
                return refuse("the device issued nothing: its serial is free again".into());
            }
            Evidence::Nothing { next } => {
                self.series_mut(claim.series)?.stands_at(next.as_ref());
                (None, None)
            }
        };
        let said = match evidence {
            Evidence::Issued(answer) => format!("the device answers with {}", answer.number),
            Evidence::Nothing { .. } => "the device knows no such serial".to_owned(),
        };
        self.audit(actor, format!("void claim {} ({said}): {reason}", claim.id));
        self.put_voided(claim, (number, drawn), reason)
    }

    /// What a device says of its next number. A change that no claim explains freezes the series:
    /// the device issued past us, now or while we were down. While a claim is open, its end
    /// explains the change or freezes the series itself.
    pub fn device_next(&mut self, no: SeriesNo, next: Option<InvoiceNumber>) {
        let Some(series) = self.series(no) else { return };
        let before = series.state.device_next.clone();
        if before == next && series.used_up == next.is_none() {
            return;
        }
        let idle = self.backlog(no).0 == 0;
        let Ok(series) = self.series_mut(no) else { return };
        series.stands_at(next.as_ref());
        if let Some(before) = before.filter(|_| idle) {
            let now = next.map_or_else(|| "none".to_owned(), |next| next.to_string());
            self.freeze_series(
                (no, None),
                &format!("the device's next number went from {before} to {now} without a claim"),
            );
        }
    }
}
