//! What witnesses outside the books know of a series, above all its authority: compared at start
//! and at every reconnect, and what an operator resumes by.
//!
//! Books that lost commits cannot see it themselves when their watermark was lost with them. The
//! authority can: it holds numbers that these books never drew.

use super::book::Round;
use crate::{
    model::{ClaimId, DeviceNo, InvoiceNumber, Kind, SeriesNo, TaxpayerNo},
    refusal::{Reason, Refusal},
    store::{BEHIND, Event, EventKind, LostRange, RegistryChange},
};

/// What a witness knows of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesWitness {
    /// The virtual device.
    pub device: DeviceNo,
    /// The kind.
    pub kind: Kind,
    /// How many numbers of the series it holds, at least.
    pub count: u64,
    /// The highest of them under each code.
    pub heads: Vec<InvoiceNumber>,
}

/// Numbers that a resume leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Device id.
    pub device_id: String,
    /// The kind.
    pub kind: Kind,
    /// Code and first number.
    pub first: InvoiceNumber,
    /// Last number, inclusive.
    pub last: u32,
}

impl Round<'_> {
    /// Compares a series with what a witness holds. A number that we never drew means that these
    /// books are behind: nothing is issued any more until an operator resumes. On a device that
    /// draws its numbers itself, it means that the device issued past us: its series is frozen.
    ///
    /// # Errors
    /// When the books cannot be read.
    pub fn compare(&mut self, witness: &SeriesWitness) -> Result<(), Refusal> {
        let Some(no) = self.series_of(witness.device, witness.kind) else { return Ok(()) };
        let device = self.registry().devices.get(&witness.device);
        let (draws, id) = device.map_or_else(Default::default, |device| {
            (device.backend.draws_numbers(), device.id.clone())
        });
        let Some(what) = self.contradiction(no, draws, witness)? else { return Ok(()) };
        let kind = witness.kind.legacy_code();
        let why = format!("the authority holds {what} of device {id}, kind {kind:03}");
        if draws {
            self.freeze_series(
                (no, None),
                &format!("{why}: it was not issued through these books"),
            );
            return Ok(());
        }
        let why = format!("{why}, which these books never drew: an older copy was restored");
        self.put_incident((no, None), &why);
        self.put_setting(BEHIND, why.clone().into_bytes());
        self.behind = Some(why);
        Ok(())
    }

    /// What a witness holds that the series never drew.
    fn contradiction(
        &self,
        no: SeriesNo,
        draws: bool,
        witness: &SeriesWitness,
    ) -> Result<Option<String>, Refusal> {
        for head in &witness.heads {
            let known = if draws {
                let stored = self.store.any_number(head, head.number);
                stored.map_err(|error| super::book::unreadable(&error))?
            } else {
                self.undrawn(no, head).is_none()
            };
            if !known {
                return Ok(Some(format!("number {head}")));
            }
        }
        let ours = self.accounted(no);
        Ok((witness.count > ours)
            .then(|| format!("{} numbers, {ours} of which are known here,", witness.count)))
    }

    /// How many numbers of a series were drawn or are known to be lost.
    fn accounted(&self, no: SeriesNo) -> u64 {
        let drawn = self.series(no).map_or(0, |series| series.state.next_position.0);
        let before = self.book.lost.get(&no).into_iter().flatten();
        let lost = before.chain(self.batch.lost.iter().filter(|lost| lost.series == no));
        drawn.saturating_add(lost.map(LostRange::count).sum())
    }

    /// The first number up to `head` that the series has not drawn, when it has not drawn `head`.
    fn undrawn(&self, no: SeriesNo, head: &InvoiceNumber) -> Option<u32> {
        let series = self.series(no)?;
        let live = series.segments.iter().find(|segment| {
            segment.code == head.code && (segment.first..=segment.last).contains(&head.number)
        });
        if let Some(segment) = live {
            return (head.number >= segment.next).then_some(segment.next);
        }
        if self.known_range(head, head.number).is_some() {
            return None;
        }
        // In no segment of ours: everything above the last one below it.
        let known = self.book.ranges.get(&head.code).into_iter().flatten();
        let below = known.filter(|range| range.1 < head.number).map(|range| range.1).max();
        Some(below.map_or(0, |last| last.saturating_add(1)))
    }

    /// Whether numbers of a taxpayer's devices are in doubt.
    pub(super) fn has_lost(&self, taxpayer: TaxpayerNo) -> bool {
        let of = |no: &SeriesNo| {
            let device = self.book.series.get(no).map(|series| series.state.device);
            let device = device.and_then(|device| self.registry().devices.get(&device));
            device.is_some_and(|device| device.taxpayer == taxpayer)
        };
        !self.book.lost.is_empty() && self.book.lost.keys().any(of)
    }

    /// Goes on above the highest number that any witness knows. The numbers between are left out,
    /// in doubt for ever unless they are imported, and their series are frozen until an operator
    /// has looked.
    ///
    /// # Errors
    /// `StoreReadOnly` when a witness holds more numbers than its heads account for: another one is
    /// needed.
    pub fn resume(
        &mut self,
        (actor, reason): (&str, &str),
        witnesses: &[SeriesWitness],
    ) -> Result<Vec<Skipped>, Refusal> {
        let mut skipped = Vec::new();
        for witness in witnesses {
            let Some(no) = self.series_of(witness.device, witness.kind) else { continue };
            let device = self.registry().devices.get(&witness.device);
            let Some(device) = device.filter(|device| !device.backend.draws_numbers()) else {
                continue;
            };
            let device_id = device.id.clone();
            for head in &witness.heads {
                let Some(first) = self.undrawn(no, head) else { continue };
                let first = InvoiceNumber { code: head.code.clone(), number: first };
                self.skip(no, &first, head.number)?;
                let (device_id, kind) = (device_id.clone(), witness.kind);
                skipped.push(Skipped { device_id, kind, first, last: head.number });
            }
            let ours = self.accounted(no);
            if witness.count > ours {
                let hint = format!(
                    "the authority holds {} numbers of device {device_id}, kind {:03}, but only \
                     {ours} are accounted for; name the highest number of each code with --head",
                    witness.count,
                    witness.kind.legacy_code()
                );
                return Err(Refusal::new(Reason::StoreReadOnly, hint));
            }
        }
        self.batch.registry.push(RegistryChange::Setting(BEHIND.into(), Vec::new()));
        self.audit(actor, format!("resume with {} ranges left out: {reason}", skipped.len()));
        Ok(skipped)
    }

    fn skip(&mut self, no: SeriesNo, first: &InvoiceNumber, last: u32) -> Result<(), Refusal> {
        let body = LostRange::body(first, last);
        let series = self.series_mut(no)?;
        let event: Event = series.event(EventKind::Skipped, ClaimId(0), body.as_bytes());
        let drawn_from = |segment: &&mut crate::store::SegmentState| {
            segment.code == first.code && segment.next == first.number && segment.last >= last
        };
        let segment = series.segments.iter_mut().find(drawn_from).map(|segment| {
            segment.next = last.saturating_add(1);
            segment.clone()
        });
        series.segments.retain(|segment| segment.left() > 0);
        if let Some(segment) = segment {
            self.put_segment(segment);
        }
        let at = self.now();
        self.batch.lost.push(LostRange { series: no, first: first.clone(), last, at, event });
        self.freeze_series((no, None), &format!("{body} were drawn after what these books hold"));
        Ok(())
    }
}
