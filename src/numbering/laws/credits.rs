//! Credit quotas: whatever the order of claims, signatures, voids, releases, grants, full disks and
//! crashes, what is spent of a month is what its standing claims say, nothing is claimed beyond
//! what is left, and nothing is refused that fits.

use super::{
    turn::signed,
    world::{self, DRAWN, World},
};
use crate::{
    contract::{Checked, sample},
    model::{ClaimId, CstTime, Fen, InvoiceNumber, RequestKey, Serial, TaxpayerNo, Totals},
    numbering::{Book, Decision, Round, VoidWish},
    refusal::Reason,
    store::{
        Assignment, Claim, CommitError, Credit, Durable, Fate, Month, Store as _,
        memory::MemoryStore,
    },
};
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Op {
    Assign {
        serial: u8,
        amount: i64,
        drawn: bool,
        counts: bool,
    },
    /// Signs a claim of ours, or releases the device's.
    End {
        pick: usize,
    },
    Void {
        pick: usize,
    },
    VoidInvoice {
        pick: usize,
        id: u8,
    },
    Grant {
        next: bool,
        granted: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Committed,
    Full,
    Lost,
    Untold,
}

fn op() -> impl Strategy<Value = Op> {
    let assign = (0..12_u8, 1..60_i64, prop::bool::weighted(0.2), prop::bool::weighted(0.9));
    prop_oneof![
        6 => assign.prop_map(|(serial, amount, drawn, counts)| {
            Op::Assign { serial, amount, drawn, counts }
        }),
        3 => (0..6_usize).prop_map(|pick| Op::End { pick }),
        2 => (0..6_usize).prop_map(|pick| Op::Void { pick }),
        2 => (0..6_usize, 0..8_u8).prop_map(|(pick, id)| Op::VoidInvoice { pick, id }),
        1 => (any::<bool>(), 0..150_i64).prop_map(|(next, granted)| Op::Grant { next, granted }),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        8 => Just(End::Committed),
        1 => Just(End::Full),
        1 => Just(End::Lost),
        1 => Just(End::Untold),
    ]
}

fn request(serial: u8, amount: i64, (drawn, counts): (bool, bool)) -> Checked {
    let mut wire = sample::draft(&format!("C{serial}"), sample::SELLER);
    wire.remark = amount.to_string();
    Checked {
        draft: crate::contract::normalise(Some(wire)).unwrap(),
        totals: Totals { amount: Fen(amount), tax: Fen(0), total: Fen(amount) },
        counts_credit: counts,
        ..world::checked(0, 0, if drawn { DRAWN } else { 2 })
    }
}

const TAXPAYER: TaxpayerNo = TaxpayerNo(1);

struct Credits {
    store: MemoryStore,
    book: Book,
    now: CstTime,
    next: InvoiceNumber,
    held: BTreeMap<ClaimId, Durable<Claim>>,
}

impl Credits {
    fn new() -> Self {
        let World { mut store, mut book, now, .. } = World::new();
        let next = world::number(2, 30);
        let mut round = book.round(&store, now, Ok(()));
        round.device_next(world::series_of(DRAWN), Some(next.clone()));
        let month = Month::of(now);
        round.grant_credit("t", (sample::SELLER.taxpayer_id, month), Fen(200)).unwrap();
        let (batch, change) = round.finish();
        store.commit(batch).unwrap();
        book.absorb(change);
        Self { store, book, now, next, held: BTreeMap::new() }
    }

    fn assign(
        &self,
        round: &mut Round<'_>,
        serial: u8,
        amount: i64,
        how: (bool, bool),
    ) -> Result<(), TestCaseError> {
        let month = Month::of(round.now());
        let left =
            |round: &Round<'_>| round.credit(TAXPAYER, month).map_or(0, |credit| credit.left().0);
        let before = left(round);
        let counted = if how.1 { amount } else { 0 };
        match round.assign(request(serial, amount, how)) {
            Ok(Decision::Mine(_)) => {
                prop_assert!(counted <= before || !how.1, "{} of {}", counted, before);
                prop_assert_eq!(left(round), before - counted);
            }
            Ok(_) => prop_assert_eq!(left(round), before, "a known serial takes nothing"),
            Err(refusal) => {
                prop_assert_eq!(left(round), before, "a refusal takes nothing");
                if refusal.reason == Reason::QuotaExhausted {
                    prop_assert!(how.1 && amount > before, "{}: {}", amount, before);
                    let over = format!("{} fen more", amount - before);
                    prop_assert!(refusal.hint.contains(&over), "{}", refusal);
                }
            }
        }
        Ok(())
    }

    fn end(&self, round: &mut Round<'_>, claim: &Durable<Claim>) {
        match claim.assignment {
            Assignment::Numbered { .. } => drop(round.sign(claim, &signed("C"))),
            Assignment::ByDevice { .. } => drop(round.release(claim, Some(&self.next))),
        }
    }

    fn void_invoice(&self, round: &mut Round<'_>, pick: usize, id: u8) {
        let numbers = self.store.disk().numbers().clone();
        let Some(number) = numbers.into_keys().rev().nth(pick) else { return };
        let wish = VoidWish {
            request: RequestKey {
                serial: Serial::parse(&format!("V{id}")).unwrap(),
                ..super::turn::key(0, 0)
            },
            number,
            reason: "misprint".into(),
            amount: None,
        };
        drop(round.void_invoice(&wish));
    }

    fn step(&mut self, ops: &[Op], end: End) -> Result<(), TestCaseError> {
        let mut round = self.book.round(&self.store, self.now, Ok(()));
        let mut done = BTreeSet::new();
        for op in ops {
            match op {
                Op::Assign { serial, amount, drawn, counts } => {
                    self.assign(&mut round, *serial, *amount, (*drawn, *counts))?;
                }
                Op::End { pick } | Op::Void { pick } => {
                    let free = self.held.values().filter(|claim| !done.contains(&claim.id));
                    let Some(claim) = free.clone().nth(*pick % free.count().max(1)) else {
                        continue;
                    };
                    let ours = matches!(claim.assignment, Assignment::Numbered { .. });
                    done.insert(claim.id);
                    if matches!(op, Op::Void { .. }) && ours {
                        round.void(claim, None, ("test", "t")).unwrap();
                    } else {
                        self.end(&mut round, claim);
                    }
                }
                Op::VoidInvoice { pick, id } => self.void_invoice(&mut round, *pick, *id),
                Op::Grant { next, granted } => {
                    let at = self.now.unix() + if *next { 3600 } else { 0 };
                    let month = Month::of(CstTime::from_unix(at).unwrap());
                    let whose = (sample::SELLER.taxpayer_id, month);
                    round.grant_credit("t", whose, Fen(*granted)).unwrap();
                }
            }
        }
        let (batch, change) = round.finish();
        match end {
            End::Lost => return self.restart(),
            End::Full if !batch.is_empty() => {
                self.store.disk().full_commits = 1;
                prop_assert!(matches!(self.store.commit(batch), Err(CommitError::Full)));
                return self.check();
            }
            End::Committed | End::Full | End::Untold => {}
        }
        if !batch.is_empty() {
            let committed = self.store.commit(batch).unwrap();
            self.held.extend(committed.claims.into_iter().map(|claim| (claim.id, claim)));
        }
        self.book.absorb(change);
        let open: BTreeSet<ClaimId> = self.book.open.keys().copied().collect();
        self.held.retain(|id, _| open.contains(id));
        if end == End::Untold { self.restart() } else { self.check() }
    }

    fn restart(&mut self) -> Result<(), TestCaseError> {
        let loaded = self.store.load().unwrap();
        self.book = Book::new(&loaded, world::LIMITS);
        self.held = loaded.open.into_iter().map(|claim| (claim.id, claim)).collect();
        self.check()
    }

    /// What is spent is what the claims say that stand, in memory and on the disk.
    fn check(&self) -> Result<(), TestCaseError> {
        let disk = self.store.disk();
        let mut spent: BTreeMap<Month, i64> = BTreeMap::new();
        for id in disk.claim_ids() {
            let found = disk.found(id).unwrap();
            if let (Some(taken), Fate::Open | Fate::Issued(_)) = (found.credit(), &found.fate) {
                *spent.entry(taken.month).or_default() += taken.amount.0;
            }
        }
        drop(disk);
        let stored = self.store.load().unwrap().credits;
        let in_memory: Vec<Credit> = self.book.credits.values().copied().collect();
        prop_assert_eq!(&stored, &in_memory);
        for credit in &stored {
            let expect = spent.remove(&credit.month).unwrap_or_default();
            prop_assert_eq!(credit.spent.0, expect, "{}", credit.month);
        }
        prop_assert!(spent.is_empty(), "spent of no quota: {:?}", spent);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases(), ..ProptestConfig::default() })]

    #[test]
    fn what_is_spent_of_a_quota_is_what_its_claims_say(
        steps in vec((vec(op(), 1..6), end(), 0..200_i64), 1..14),
    ) {
        let mut credits = Credits::new();
        for (ops, end, seconds) in &steps {
            credits.now = CstTime::from_unix(credits.now.unix() + seconds).unwrap();
            credits.step(ops, *end)?;
        }
        credits.restart()?;
    }
}

#[test]
fn an_invoice_beyond_the_quota_is_refused_until_a_void_or_a_grant_makes_room() {
    let mut credits = Credits::new();
    let assign = |serial, amount| Op::Assign { serial, amount, drawn: false, counts: true };
    let refused = |credits: &Credits, amount| {
        let mut round = credits.book.round(&credits.store, credits.now, Ok(()));
        round.assign(request(9, amount, (false, true))).err().map(|refusal| refusal.reason)
    };
    credits.step(&[assign(0, 150)], End::Committed).unwrap();
    assert_eq!(refused(&credits, 50), None);
    assert_eq!(refused(&credits, 51), Some(Reason::QuotaExhausted));
    credits.step(&[Op::End { pick: 0 }], End::Committed).unwrap();
    assert_eq!(refused(&credits, 51), Some(Reason::QuotaExhausted), "issued, it counts still");
    credits.step(&[Op::VoidInvoice { pick: 0, id: 0 }], End::Committed).unwrap();
    assert_eq!(refused(&credits, 200), None, "voided, it is given back");
    let grant = Op::Grant { next: false, granted: 10 };
    credits.step(&[grant], End::Committed).unwrap();
    assert_eq!(refused(&credits, 11), Some(Reason::QuotaExhausted));
    // The next month begins with nothing.
    credits.now = CstTime::from_unix(credits.now.unix() + 3600).unwrap();
    assert_eq!(refused(&credits, 1), Some(Reason::QuotaExhausted));
}
