//! One round of a schedule: does each operation to the round under test and has the model judge
//! what was decided.

use super::{
    Answer, Op,
    promises::{Ask, Law, Model, holds},
    world::{self, DEVICES, DRAWN, PLATFORMS, TARGETS},
};
use crate::{
    contract::Checked,
    model::{
        ClaimId, CstTime, DeviceSerial, InvoiceNumber, Kind, PlatformNo, RequestKey, Serial,
        TaxpayerNo,
    },
    numbering::{Evidence, Heard, Round, VoidWish},
    pb::v1 as pb,
    registry::Platform,
    signer::{DeviceAnswer, Signed},
    store::{Assignment, Claim, DeliveryBatch, Durable, ReceiptRecord, RegistryChange, Rejection},
};
use std::collections::BTreeMap;

const PROVINCE: &str = "44";

pub(super) struct Turn<'a> {
    pub(super) round: Round<'a>,
    pub(super) model: Model,
    pub(super) held: &'a BTreeMap<ClaimId, Durable<Claim>>,
    pub(super) late: &'a [Durable<Claim>],
    pub(super) now: CstTime,
    pub(super) signatures: &'a mut u32,
}

pub(super) fn key(platform: usize, serial: usize) -> RequestKey {
    RequestKey {
        platform: PlatformNo(i64::try_from(platform).unwrap() + 1),
        taxpayer: TaxpayerNo(1),
        serial: Serial::parse(&format!("S{serial}")).unwrap(),
    }
}

pub(super) fn signed(check_code: &str) -> Signed {
    Signed {
        check_code: check_code.into(),
        cipher_text: "c".into(),
        qr_text: "q".into(),
        algorithm: pb::SignatureAlgorithm::EcdsaP256Sha256,
        signature: vec![1],
        signer_key: [7; 32],
    }
}

impl<'a> Turn<'a> {
    pub(super) fn apply(&mut self, op: &Op) -> Law {
        match *op {
            Op::Assign { platform, serial, content, target, expired } => {
                self.assign((platform, serial), content, target, expired)
            }
            Op::Resolve { platform, serial } => {
                let key = key(platform, serial);
                let resolved = self.round.resolve(key.clone()).map_err(|why| why.to_string())?;
                self.model.resolved(key, &resolved)
            }
            Op::Sign { pick } => self.numbered(pick).map_or(Ok(()), |claim| self.sign(claim)),
            Op::Late { pick } => self.late(pick),
            Op::Adopt { pick, answer } => {
                self.drawn(pick).map_or(Ok(()), |claim| self.adopt(claim, answer))
            }
            Op::Release { pick, unchanged } => {
                self.drawn(pick).map_or(Ok(()), |claim| self.release(claim, unchanged))
            }
            Op::Void { pick } => {
                let claim = self.held.values().nth(pick % self.held.len().max(1));
                claim.map_or(Ok(()), |claim| self.void(claim))
            }
            Op::VoidDrawn { pick, said, unchanged } => {
                self.drawn(pick).map_or(Ok(()), |claim| self.void_drawn(claim, said, unchanged))
            }
            Op::VoidInvoice { platform, id, pick, reason } => {
                self.void_invoice(platform, id, pick, reason)
            }
            Op::FreezeBatch { count_max } => {
                let frozen = self.round.freeze_batch(PROVINCE, count_max);
                self.model.batch_frozen(count_max, frozen.as_ref())
            }
            Op::Receipt { pick } => self.receipt(pick),
            Op::Split { pick } => self.split(pick),
            Op::SendAgain => self.send_again(),
            Op::WrittenBack { pick } => self.written_back(pick),
            Op::AddSegment { target, code, first, len } => {
                self.add_segment(target, &world::number(code, first), first + len)
            }
            Op::EnableDevice { device, enabled } => {
                self.round.enable_device("t", DEVICES[device], enabled).unwrap();
                self.model.devices[device] = enabled;
                Ok(())
            }
            Op::EnablePlatform { platform, enabled } => {
                self.enable_platform(platform, enabled);
                Ok(())
            }
            Op::DeviceNext { ahead } => {
                let next = self.model.device_will_draw(ahead);
                self.round.device_next(world::series_of(DRAWN), Some(next.clone()));
                self.model.device_said(next);
                Ok(())
            }
            Op::Unfreeze { target } => {
                let (device, kind) = TARGETS[target];
                self.round.unfreeze("t", (DEVICES[device], kind), "looked into").unwrap();
                self.model.unfreeze(world::series_of(target));
                Ok(())
            }
        }
    }

    fn numbered(&self, pick: usize) -> Option<&'a Durable<Claim>> {
        self.of_kind(pick, |claim| matches!(claim.assignment, Assignment::Numbered { .. }))
    }

    fn drawn(&self, pick: usize) -> Option<&'a Durable<Claim>> {
        self.of_kind(pick, |claim| matches!(claim.assignment, Assignment::ByDevice { .. }))
    }

    fn of_kind(&self, pick: usize, is: impl Fn(&Claim) -> bool) -> Option<&'a Durable<Claim>> {
        let all: Vec<_> = self.held.values().filter(|claim| is(claim)).collect();
        all.get(pick.checked_rem(all.len())?).copied()
    }

    fn assign(
        &mut self,
        (platform, serial): (usize, usize),
        content: usize,
        target: usize,
        expired: bool,
    ) -> Law {
        let key = key(platform, serial);
        let checked = Checked {
            platform: key.platform,
            original: None,
            valid_until: expired.then(|| CstTime::from_unix(self.now.unix() - 1).unwrap()),
            zero_limit: crate::registry::ZeroLimit::Unlimited,
            warnings: Vec::new(),
            ..world::checked(serial, content, target)
        };
        let before = self.effects();
        let decided = self.round.assign(checked);
        let made = self.effects()[0] > before[0];
        let claim = self.round.batch.claims.last().filter(|_| made);
        let ask = Ask { key, content, target, expired };
        self.model.assigned(&ask, &decided, claim)
    }

    /// Claims, issued, voided, released, incidents so far in this round.
    fn effects(&self) -> [usize; 5] {
        let batch = &self.round.batch;
        let (claims, issued) = (batch.claims.len(), batch.issued.len());
        [claims, issued, batch.voided.len(), batch.released.len(), batch.incidents.len()]
    }

    fn changed(&self, before: [usize; 5], expect: [usize; 5], law: &str) -> Law {
        let after = self.effects();
        let same = (0..5).all(|at| after[at] - before[at] == expect[at]);
        holds(same, law, || format!("{before:?} became {after:?}, not {expect:?} more"))
    }

    fn next_check_code(&mut self) -> String {
        *self.signatures += 1;
        format!("{:020}", self.signatures)
    }

    fn sign(&mut self, claim: &Durable<Claim>) -> Law {
        let (before, code) = (self.effects(), self.next_check_code());
        let open = self.model.is_open(claim.id);
        self.round.sign(claim, &signed(&code));
        let expect = if open { [0, 1, 0, 0, 0] } else { [0, 0, 0, 0, 1] };
        self.changed(before, expect, "a signature is saved once, a later one is an incident")?;
        if open {
            self.model.signed(claim.id, claim.claimed_at, code);
        }
        Ok(())
    }

    fn late(&mut self, pick: usize) -> Law {
        let late = self.late;
        let Some(claim) = pick.checked_rem(late.len()).and_then(|at| late.get(at)) else {
            return Ok(());
        };
        match claim.assignment {
            Assignment::Numbered { .. } => self.sign(claim),
            Assignment::ByDevice { .. } => {
                self.release(claim, true)?;
                self.adopt(claim, Answer::Right)
            }
        }
    }

    fn answer(&mut self, claim: &Claim, how: Answer) -> Option<DeviceAnswer> {
        let Assignment::ByDevice { device_serial, next } = &claim.assignment else { return None };
        let number = match how {
            Answer::Taken => self.model.any_number()?,
            Answer::InSegment => self.model.any_segment_number()?,
            Answer::PastUs => next.next()?.next()?,
            _ => next.clone(),
        };
        let draft = claim.head.draft().unwrap();
        let buyer = draft.buyer.unwrap_or_default();
        let mut answer = DeviceAnswer {
            device_serial: device_serial.clone(),
            kind: claim.kind,
            buyer_taxpayer_id: buyer.taxpayer_id,
            buyer_name: buyer.name,
            totals: claim.totals,
            next: number.next(),
            number,
            issue_time: self.now,
            signed: signed(&self.next_check_code()),
        };
        match how {
            Answer::OtherSerial => answer.device_serial = DeviceSerial("OTHER".into()),
            Answer::OtherKind => answer.kind = Kind::Roll,
            Answer::OtherBuyer => answer.buyer_name.push('x'),
            Answer::OtherTotals => answer.totals.tax.0 += 1,
            Answer::PastUsSince => answer.next = answer.number.next().and_then(|it| it.next()),
            Answer::OldClock => {
                answer.issue_time = CstTime::from_unix(self.now.unix() - 31_536_000).unwrap();
            }
            Answer::Right | Answer::Taken | Answer::InSegment | Answer::PastUs => {}
        }
        Some(answer)
    }

    fn adopt(&mut self, claim: &Durable<Claim>, how: Answer) -> Law {
        let Some(answer) = self.answer(claim, how) else { return Ok(()) };
        let before = self.effects();
        let open = self.model.is_open(claim.id);
        let takes = open && self.fits(&answer, how);
        let adds_up = takes && self.model.adds_up(claim, &answer);
        let freezes = open && !adds_up && !self.model.is_frozen(claim.series);
        let took = self.round.adopt(claim, &answer);
        holds(took == takes, "only an answer that matches its claim is adopted", || {
            format!("{how:?} {answer:?}: {took}")
        })?;
        let incidents = usize::from(freezes || !open);
        let expect = [0, usize::from(takes), 0, 0, incidents];
        self.changed(before, expect, "what does not match freezes the series, with evidence")?;
        if freezes {
            self.model.freeze(claim.series);
        }
        if takes {
            let drawn = self.round.batch.issued.last().and_then(|issued| issued.drawn.as_ref());
            self.model.drawn(claim.id, &answer, drawn)?;
        }
        Ok(())
    }

    /// Whether an answer matches its claim and its number is nobody else's.
    fn fits(&self, answer: &DeviceAnswer, how: Answer) -> bool {
        let matches =
            matches!(how, Answer::Right | Answer::PastUs | Answer::PastUsSince | Answer::OldClock);
        matches && self.model.is_free(&answer.number)
    }

    /// What an operator's wish comes to, by what the device says.
    fn void_drawn(&mut self, claim: &Durable<Claim>, said: Option<Answer>, unchanged: bool) -> Law {
        let open = self.model.is_open(claim.id);
        let next = self.next_of(claim);
        let (evidence, fits) = match said {
            None => {
                let said = if unchanged { Some(next.clone()) } else { next.next() };
                (Evidence::Nothing { next: said }, unchanged)
            }
            Some(how) => {
                let Some(answer) = self.answer(claim, how) else { return Ok(()) };
                let fits = self.fits(&answer, how);
                (Evidence::Issued(Box::new(answer)), fits)
            }
        };
        let before = self.effects();
        let frozen = self.model.is_frozen(claim.series);
        let voided = self.round.void(claim, Some(&evidence), ("test", "t"));
        let law = "a device's claim is voided only when its device's word does not add up";
        holds(voided.is_ok() == (open && !fits), law, || format!("{evidence:?}: {voided:?}"))?;
        if !open {
            return self.changed(before, [0; 5], law);
        }
        match (evidence, voided) {
            (Evidence::Issued(answer), Ok(voided)) => {
                let free = self.model.is_free(&answer.number);
                let number = free.then(|| answer.number.clone());
                holds(voided.number == number, "a void takes what the device drew", String::new)?;
                self.model.voided_drawn(claim.id, number, &answer);
                self.changed(before, [0, 0, 1, 0, 0], law)
            }
            (Evidence::Issued(answer), Err(_)) => {
                let freezes = !self.model.adds_up(claim, &answer) && !frozen;
                self.changed(before, [0, 1, 0, 0, usize::from(freezes)], law)?;
                if freezes {
                    self.model.freeze(claim.series);
                }
                let drawn = self.round.batch.issued.last().and_then(|issued| issued.drawn.as_ref());
                self.model.drawn(claim.id, &answer, drawn)
            }
            (Evidence::Nothing { next }, Ok(_)) => {
                self.model.voided_unknown(claim.id, next);
                self.changed(before, [0, 0, 1, 0, 0], law)
            }
            (Evidence::Nothing { .. }, Err(_)) => {
                self.model.released(claim.id, next);
                self.changed(before, [0, 0, 0, 1, 0], law)
            }
        }
    }

    fn next_of(&self, claim: &Claim) -> InvoiceNumber {
        match &claim.assignment {
            Assignment::ByDevice { next, .. } => next.clone(),
            Assignment::Numbered { number, .. } => number.clone(),
        }
    }

    fn release(&mut self, claim: &Durable<Claim>, unchanged: bool) -> Law {
        let before = self.effects();
        let open = self.model.is_open(claim.id);
        let frozen = self.model.is_frozen(claim.series);
        let next = self.next_of(claim);
        let said = if unchanged { Some(next.clone()) } else { next.next() };
        let released = self.round.release(claim, said.as_ref());
        holds(released == (open && unchanged), "a claim is freed only by proof", || {
            format!("{next} then {said:?}: {released}")
        })?;
        let freezes = usize::from(open && !unchanged && !frozen);
        let expect = [0, 0, 0, usize::from(released), freezes];
        self.changed(before, expect, "a changed next number freezes the series")?;
        if freezes > 0 {
            self.model.freeze(claim.series);
        }
        if released {
            self.model.released(claim.id, next);
        }
        Ok(())
    }

    fn void(&mut self, claim: &Durable<Claim>) -> Law {
        let before = self.effects();
        let numbered = matches!(claim.assignment, Assignment::Numbered { .. });
        let expect = usize::from(numbered && self.model.is_open(claim.id));
        let voided = self.round.void(claim, None, ("test", "t"));
        let law = "only an open number of ours is voided";
        holds(voided.is_ok() == (expect == 1), law, || format!("{voided:?}"))?;
        self.changed(before, [0, 0, expect, 0, 0], law)?;
        if voided.is_ok() {
            self.model.voided(claim.id);
        }
        Ok(())
    }

    /// A void of one of the last numbers, as a platform asks for it that has just been told it.
    fn void_invoice(&mut self, platform: usize, id: usize, pick: usize, reason: usize) -> Law {
        let Some(number) = self.model.numbers.keys().rev().nth(pick).cloned() else {
            return Ok(());
        };
        let wish = VoidWish {
            request: RequestKey {
                serial: Serial::parse(&format!("V{id}")).unwrap(),
                ..key(platform, 0)
            },
            number,
            reason: format!("reason {reason}"),
            amount: None,
        };
        let before = (self.effects(), self.round.batch.invoice_voids.len());
        let decided = self.round.void_invoice(&wish);
        let made = self.round.batch.invoice_voids.len() - before.1;
        self.changed(before.0, [0; 5], "a void of an invoice changes no claim")?;
        self.model.invoice_voided(&wish, &decided, made)
    }

    fn receipt(&mut self, pick: usize) -> Law {
        let Some((batch, members)) = self.model.open_batch(pick) else { return Ok(()) };
        let record = ReceiptRecord {
            batch,
            acceptance_serial: "A1".into(),
            receipt: vec![1],
            rejected: vec![Rejection { notice: members[0], message: "no".into() }],
            at: self.now,
        };
        let heard = Heard { series: world::series_of(DRAWN), result: "W1".into() };
        self.round.put_write_backs(batch, "A1", &[heard]);
        let before = self.round.batch.receipts.len();
        self.round.put_receipt(record.clone());
        self.round.put_receipt(record);
        let added = self.round.batch.receipts.len() - before;
        holds(added == 1, "a batch is answered once", || format!("{added} receipts"))?;
        self.model.answered(batch);
        Ok(())
    }

    fn split(&mut self, pick: usize) -> Law {
        let Some((no, members)) = self.model.open_batch(pick) else { return Ok(()) };
        let (id, province, at) = ([1; 16], PROVINCE.to_owned(), self.now);
        let batch = DeliveryBatch { no, id, province, members, at };
        let parts = self.round.split_batch(&batch, "no").map_err(|why| why.to_string())?;
        self.model.batch_split(&batch, &parts)
    }

    fn send_again(&mut self) -> Law {
        let sent = self.round.send_again("t", None).unwrap_or_default();
        let expect = self.model.sent_again();
        holds(sent == expect, "what is set aside is sent again", || format!("{sent}, not {expect}"))
    }

    fn written_back(&mut self, pick: usize) -> Law {
        let open: Vec<_> =
            self.round.open_write_backs().map(|(it, _)| (it.batch, it.series)).collect();
        if let Some((batch, series)) = open.get(pick % open.len().max(1)) {
            self.round.put_written_back(*batch, *series);
        }
        Ok(())
    }

    fn add_segment(&mut self, target: usize, first: &InvoiceNumber, last: u32) -> Law {
        let new = world::new_segment(target, first.clone(), last);
        let fits = target != DRAWN && self.model.segment_fits(first, last);
        let added = self.round.add_segment("t", &new);
        holds(added.is_ok() == fits, "a range belongs to one series for ever", || {
            format!("{first} to {last}: {added:?}")
        })?;
        if fits {
            self.model.segment_added(world::series_of(target), first, last);
        }
        Ok(())
    }

    fn enable_platform(&mut self, platform: usize, enabled: bool) {
        let known = self.round.registry().platform_by_id(PLATFORMS[platform]).unwrap();
        let platform_now = Platform { enabled, ..Platform::clone(known) };
        self.round.registry_mut().put_platform(platform_now.clone());
        self.round.batch.registry.push(RegistryChange::Platform(platform_now));
        self.model.platforms[platform] = enabled;
    }
}
