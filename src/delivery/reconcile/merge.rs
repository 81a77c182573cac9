//! Two ascending lists walked side by side, and what differs at a number. Pure but for the two
//! lists; one item of each is in memory.

use crate::{
    model::{CstTime, Fen, InvoiceNumber},
    store::{End, Entry},
};
use std::{cmp::Ordering, future::Future};

/// A number as our journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Here {
    pub(super) entry: Entry,
    /// SHA-256 over the invoice's bytes, or over the unsigned void as it is handed in.
    pub(super) digest: [u8; 32],
}

/// A number as an acceptance side holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// Code and number.
    pub number: InvoiceNumber,
    /// SHA-256 over what was handed in.
    pub digest: [u8; 32],
    /// Voided unsigned.
    pub blank: bool,
    /// Issued, and voided since.
    pub voided: bool,
    /// Without tax; 0 when voided unsigned.
    pub amount: Fen,
    /// Tax.
    pub tax: Fen,
    /// Issue time; the time of the void when voided unsigned.
    pub at: CstTime,
}

/// What differs at a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    OnlyHere,
    OnlyThere,
    OtherDigest,
    OtherAmount,
    VoidedHere,
    VoidedThere,
}

/// Everything that differs at one number; at least one side has it.
pub(super) fn differences(here: Option<&Here>, there: Option<&There>) -> Vec<Difference> {
    let (here, there) = match (here, there) {
        (Some(here), Some(there)) => (here, there),
        (Some(_), None) => return vec![Difference::OnlyHere],
        (None, Some(_)) => return vec![Difference::OnlyThere],
        (None, None) => return Vec::new(),
    };
    let same_content = here.digest == there.digest;
    let blank = here.entry.end == End::Blank;
    match (blank, there.blank) {
        (true, false) => return vec![Difference::VoidedHere],
        (false, true) => return vec![Difference::VoidedThere],
        (true, true) if same_content => return Vec::new(),
        (true, true) => return vec![Difference::OtherDigest],
        (false, false) => {}
    }
    let totals = here.entry.totals;
    let mut found = Vec::new();
    if (totals.amount, totals.tax) != (there.amount, there.tax) {
        found.push(Difference::OtherAmount);
    } else if !same_content {
        found.push(Difference::OtherDigest);
    }
    match (matches!(here.entry.end, End::Voided(_)), there.voided) {
        (true, false) => found.push(Difference::VoidedHere),
        (false, true) => found.push(Difference::VoidedThere),
        (true, true) | (false, false) => {}
    }
    found
}

/// A list that ascends by code and number.
pub(super) trait Ascending<T> {
    type Error;
    /// The next item; none at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<T>, Self::Error>> + Send;
}

/// What either side has at the next number that any has.
pub(super) type Pair = (Option<Here>, Option<There>);

/// Both lists, with the item of each that was read and not handed out.
pub(super) struct Pairs<H, T> {
    ours: H,
    theirs: T,
    here: Option<Here>,
    there: Option<There>,
}

impl<H, T, E> Pairs<H, T>
where
    H: Ascending<Here, Error = E>,
    T: Ascending<There, Error = E>,
{
    pub(super) fn new(ours: H, theirs: T) -> Self {
        Self { ours, theirs, here: None, there: None }
    }

    /// What is at the next number; none at the end of both.
    pub(super) async fn next(&mut self) -> Result<Option<Pair>, E> {
        if self.here.is_none() {
            self.here = self.ours.next().await?;
        }
        if self.there.is_none() {
            self.there = self.theirs.next().await?;
        }
        let order = match (&self.here, &self.there) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(here), Some(there)) => here.entry.number.cmp(&there.number),
        };
        Ok(Some(match order {
            Ordering::Less => (self.here.take(), None),
            Ordering::Equal => (self.here.take(), self.there.take()),
            Ordering::Greater => (None, self.there.take()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ClaimId, Color, DeviceNo, Kind, PlatformNo, RequestKey, Serial, TaxpayerNo, Totals,
    };
    use proptest::prelude::*;
    use std::{collections::VecDeque, convert::Infallible};

    impl<T: Send> Ascending<T> for VecDeque<T> {
        type Error = Infallible;

        async fn next(&mut self) -> Result<Option<T>, Infallible> {
            Ok(self.pop_front())
        }
    }

    fn at() -> CstTime {
        CstTime::from_unix(1_772_416_800).unwrap()
    }

    fn number(place: u32) -> InvoiceNumber {
        // Several codes, so that the order is not the numbers' alone.
        InvoiceNumber { code: format!("04400260011{}", place / 40), number: place % 40 + 1 }
    }

    fn here(place: u32, end: End) -> Here {
        let totals = Totals { amount: Fen(100), tax: Fen(13), total: Fen(113) };
        let serial = Serial::parse("S").unwrap();
        let request = RequestKey { platform: PlatformNo(1), taxpayer: TaxpayerNo(1), serial };
        let entry = Entry {
            claim: ClaimId(place.into()),
            number: number(place),
            request,
            device: DeviceNo(1),
            kind: Kind::ENormal,
            color: Color::Blue,
            at: at(),
            totals,
            end,
        };
        Here { entry, digest: [7; 32] }
    }

    /// What an honest other side holds of it.
    fn there(here: &Here) -> There {
        let blank = here.entry.end == End::Blank;
        let fen = |fen| if blank { Fen(0) } else { fen };
        There {
            number: here.entry.number.clone(),
            digest: here.digest,
            blank,
            voided: matches!(here.entry.end, End::Voided(_)),
            amount: fen(here.entry.totals.amount),
            tax: fen(here.entry.totals.tax),
            at: at(),
        }
    }

    fn ends() -> [End; 3] {
        [End::Issued, End::Voided(at()), End::Blank]
    }

    #[test]
    fn both_sides_alike_differ_in_nothing() {
        for end in ends() {
            let here = here(1, end);
            assert_eq!(differences(Some(&here), Some(&there(&here))), [], "{end:?}");
        }
        assert_eq!(differences(None, None), []);
    }

    #[test]
    fn each_difference_has_its_name() {
        use Difference::{OtherAmount, OtherDigest, VoidedHere, VoidedThere};
        let change = |end, change: fn(&mut There)| {
            let here = here(1, end);
            let mut there = there(&here);
            change(&mut there);
            differences(Some(&here), Some(&there))
        };
        assert_eq!(change(End::Issued, |it| it.digest[31] ^= 1), [OtherDigest]);
        assert_eq!(change(End::Blank, |it| it.digest[31] ^= 1), [OtherDigest]);
        assert_eq!(change(End::Issued, |it| it.amount.0 += 1), [OtherAmount]);
        assert_eq!(change(End::Issued, |it| it.tax.0 -= 1), [OtherAmount]);
        assert_eq!(
            change(End::Issued, |it| (it.tax.0, it.digest[0]) = (0, 0)),
            [OtherAmount],
            "other content goes without saying"
        );
        assert_eq!(change(End::Issued, |it| it.voided = true), [VoidedThere]);
        assert_eq!(change(End::Voided(at()), |it| it.voided = false), [VoidedHere]);
        assert_eq!(
            change(End::Voided(at()), |it| (it.voided, it.digest[0]) = (false, 0)),
            [OtherDigest, VoidedHere]
        );
        assert_eq!(change(End::Blank, |it| it.blank = false), [VoidedHere]);
        assert_eq!(change(End::Issued, |it| it.blank = true), [VoidedThere]);
    }

    fn planted(kind: u8, ours: &mut Vec<Here>, theirs: &mut Vec<There>) -> Option<Difference> {
        let (here, there) = (ours.last_mut().unwrap(), theirs.last_mut().unwrap());
        Some(match kind {
            0 => {
                theirs.pop();
                Difference::OnlyHere
            }
            1 => {
                ours.pop();
                Difference::OnlyThere
            }
            2 => {
                there.digest[0] ^= 1;
                Difference::OtherDigest
            }
            3 if here.entry.end != End::Blank => {
                there.amount.0 += 1;
                Difference::OtherAmount
            }
            4 if here.entry.end == End::Issued => {
                there.voided = true;
                Difference::VoidedThere
            }
            5 if here.entry.end != End::Issued => {
                (there.voided, there.blank) = (false, false);
                Difference::VoidedHere
            }
            _ => return None,
        })
    }

    proptest! {
        /// Every planted difference is found at its number, with its name, and nothing else is.
        #[test]
        fn every_planted_difference_is_found_and_nothing_else(
            plan in prop::collection::vec((0..3_usize, 0..30_u8), 0..160),
        ) {
            let (mut ours, mut theirs, mut expect) = (Vec::new(), Vec::new(), Vec::new());
            for (place, (end, kind)) in (0..).zip(plan) {
                let one = here(place, ends()[end]);
                theirs.push(there(&one));
                ours.push(one);
                let found = planted(kind, &mut ours, &mut theirs);
                expect.extend(found.map(|found| (number(place), found)));
            }
            let mut pairs = Pairs::new(VecDeque::from(ours), VecDeque::from(theirs));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut found = Vec::new();
            while let Some((here, there)) = runtime.block_on(pairs.next()).unwrap() {
                let at = here.as_ref().map(|here| here.entry.number.clone());
                let at = at.or(there.as_ref().map(|there| there.number.clone())).unwrap();
                let all = differences(here.as_ref(), there.as_ref());
                found.extend(all.into_iter().map(|difference| (at.clone(), difference)));
            }
            prop_assert_eq!(found, expect);
        }
    }
}
