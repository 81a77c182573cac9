//! Red letters: whatever the order of reds, signatures, voids before and after them, receipts, full
//! disks and crashes, the reds of a blue invoice never exceed it, what a void frees comes back, a
//! blue invoice is voided only while no red stands against it, and the authority hears of a blue
//! invoice before its reds, of an invoice before its void, and of the void of a blue invoice last.

use super::{
    turn::signed,
    world::{self, World},
};
use crate::{
    contract::{self, Checked},
    model::{ClaimId, Color, Fen, InvoiceNumber, Serial, Totals},
    numbering::{Book, Decision, Round, VoidWish},
    pb::v1 as pb,
    refusal::Reason,
    store::{
        Assignment, Balance, Claim, CommitError, Durable, Fate, Notice, ReceiptRecord, Rejection,
        Store as _, Told, memory::MemoryStore,
    },
};
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, BTreeSet};

/// Rates of the blue invoices' lines, with net and tax of each. Unit: millionths, fen.
const BLUE: [(i32, i64, i64); 2] = [(130_000, 1000, 130), (60_000, 400, 24)];

#[derive(Debug, Clone)]
enum Op {
    /// A red of these lines (rate by index, net, tax).
    Red {
        blue: usize,
        serial: u8,
        lines: Vec<(usize, i64, i64)>,
    },
    Sign {
        pick: usize,
    },
    Void {
        pick: usize,
    },
    /// Voids an issued invoice: one of the blue ones, or else the last red one but so many.
    VoidInvoice {
        blue: Option<usize>,
        pick: usize,
        id: u8,
    },
    Freeze,
    Receipt {
        pick: usize,
        rejects: bool,
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
    let line = (0..3_usize, 1..700_i64, 0..90_i64);
    let full = Just(vec![(0, 1000, 130), (1, 400, 24)]);
    let lines = prop_oneof![3 => vec(line, 1..3), 1 => full];
    prop_oneof![
        6 => (0..2_usize, 0..6_u8, lines)
            .prop_map(|(blue, serial, lines)| Op::Red { blue, serial, lines }),
        3 => (0..4_usize).prop_map(|pick| Op::Sign { pick }),
        2 => (0..4_usize).prop_map(|pick| Op::Void { pick }),
        3 => (prop::option::weighted(0.3, 0..2_usize), 0..4_usize, 0..12_u8)
            .prop_map(|(blue, pick, id)| Op::VoidInvoice { blue, pick, id }),
        2 => Just(Op::Freeze),
        2 => (0..3_usize, prop::bool::weighted(0.2))
            .prop_map(|(pick, rejects)| Op::Receipt { pick, rejects }),
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

fn line(&(rate, amount_fen, tax_fen): &(i32, i64, i64)) -> pb::InvoiceLine {
    pb::InvoiceLine { rate_millionths: rate, amount_fen, tax_fen, ..Default::default() }
}

/// A request for an invoice of these lines; red when an original is named.
fn request(serial: &str, lines: &[(i32, i64, i64)], original: Option<&InvoiceNumber>) -> Checked {
    let mut wire = contract::sample::draft(serial, contract::sample::SELLER);
    wire.lines = lines.iter().map(line).collect();
    wire.amount_fen = lines.iter().map(|line| line.1).sum();
    wire.tax_fen = lines.iter().map(|line| line.2).sum();
    wire.total_fen = wire.amount_fen + wire.tax_fen;
    if let Some(original) = original {
        wire.color = pb::InvoiceColor::Red.into();
        wire.original_code.clone_from(&original.code);
        wire.original_number = original.number_text();
    }
    let totals =
        Totals { amount: Fen(wire.amount_fen), tax: Fen(wire.tax_fen), total: Fen(wire.total_fen) };
    Checked {
        draft: contract::normalise(Some(wire)).unwrap(),
        original: original.cloned(),
        color: if original.is_some() { Color::Red } else { Color::Blue },
        totals,
        ..world::checked(0, 0, 2)
    }
}

struct Reds {
    store: MemoryStore,
    book: Book,
    now: crate::model::CstTime,
    blues: Vec<(ClaimId, InvoiceNumber)>,
    held: BTreeMap<ClaimId, Durable<Claim>>,
    /// What the authority has answered.
    answered: BTreeSet<Notice>,
    rejected: BTreeSet<Notice>,
}

impl Reds {
    fn new() -> Self {
        let World { mut store, mut book, now, .. } = World::new();
        let mut blues = Vec::new();
        let mut held = BTreeMap::new();
        for serial in ["B0", "B1"] {
            let mut round = book.round(&store, now, Ok(()));
            round.assign(request(serial, &BLUE, None)).unwrap();
            let (batch, change) = round.finish();
            let claim = store.commit(batch).unwrap().claims.remove(0);
            book.absorb(change);
            let Assignment::Numbered { number, .. } = &claim.assignment else { panic!("ours") };
            blues.push((claim.id, number.clone()));
            let mut round = book.round(&store, now, Ok(()));
            round.sign(&claim, &signed(serial));
            let (batch, change) = round.finish();
            store.commit(batch).unwrap();
            book.absorb(change);
            held.clear();
        }
        let (answered, rejected) = (BTreeSet::new(), BTreeSet::new());
        Self { store, book, now, blues, held, answered, rejected }
    }

    /// What every red that is open or issued takes of a blue invoice.
    fn taken(&self, blue: ClaimId) -> Balance {
        let disk = self.store.disk();
        let mut taken = Balance::default();
        for id in disk.claim_ids() {
            let found = self.found(&disk, id);
            if found.1 == Some(blue) && matches!(found.0, Fate::Open | Fate::Issued(_)) {
                taken = taken.plus(&found.2);
            }
        }
        taken
    }

    fn found(
        &self,
        disk: &crate::store::memory::Disk,
        id: ClaimId,
    ) -> (Fate, Option<ClaimId>, Balance) {
        let found = disk.found(id).unwrap();
        let draft = found.draft().unwrap();
        let number = InvoiceNumber::parse_number(&draft.original_number);
        let of = |number| {
            let named = InvoiceNumber { code: draft.original_code.clone(), number };
            self.blues.iter().find(|(_, blue)| *blue == named).map(|(id, _)| *id)
        };
        let blue = number.and_then(of);
        (found.fate, blue, Balance::of(&draft))
    }

    fn red(
        &self,
        round: &mut Round<'_>,
        blue: usize,
        serial: u8,
        lines: &[(usize, i64, i64)],
    ) -> Result<(), TestCaseError> {
        let line = |&(at, net, tax): &(usize, i64, i64)| {
            let rate = BLUE.get(at).map_or(90_000, |blue| blue.0);
            (rate, -net, -tax)
        };
        let lines: Vec<_> = lines.iter().map(line).collect();
        let (id, number) = &self.blues[blue];
        let red = request(&format!("R{serial}"), &lines, Some(number));
        let wire = red.draft.wire.clone();
        let before = round.balances.get(id).cloned();
        let decided = round.assign(red);
        let after = round.balances.get(id).cloned();
        match decided {
            Ok(Decision::Mine(_)) => {
                let all = Balance::of(&request("B", &BLUE, None).draft.wire);
                let left = before.unwrap_or_else(|| all.plus(&self.taken(*id)));
                let left = left.plus(&Balance::of(&wire));
                prop_assert_eq!(left.overdrawn(), None);
                prop_assert_eq!(
                    after.map(|after| after.parts()),
                    Some(left.parts()),
                    "taken at once"
                );
                prop_assert!(!self.rejected.contains(&Notice::end(*id)), "of a rejected invoice");
                prop_assert!(!self.is_voided(round, *id), "of a voided invoice");
            }
            Ok(_) => prop_assert_eq!(before, after),
            Err(refusal) => {
                prop_assert_eq!(before, after, "a refusal takes nothing");
                let known = [
                    Reason::RedExceedsBalance,
                    Reason::RedAlreadyFull,
                    Reason::SerialConflict,
                    Reason::SeriesBacklog,
                    Reason::RedOriginalUnknown,
                ];
                prop_assert!(known.contains(&refusal.reason), "{}", refusal);
                let unknown = refusal.reason == Reason::RedOriginalUnknown;
                let gone = self.rejected.contains(&Notice::end(*id)) || self.is_voided(round, *id);
                prop_assert!(!unknown || gone);
            }
        }
        Ok(())
    }

    /// Whether a blue invoice is voided as the round leaves it.
    fn is_voided(&self, round: &Round<'_>, id: ClaimId) -> bool {
        let now = round.batch.invoice_voids.iter().any(|void| void.claim == id);
        now || matches!(self.found(&self.store.disk(), id).0, Fate::InvoiceVoided(..))
    }

    /// Every notice that is to be told of the reds of a blue invoice, as committed.
    fn notices_of_reds(&self, blue: ClaimId) -> Vec<Notice> {
        let disk = self.store.disk();
        let mut all = Vec::new();
        for id in disk.claim_ids() {
            let (fate, of, _) = self.found(&disk, id);
            if of == Some(blue) && fate != Fate::Open {
                all.push(Notice::end(id));
                if matches!(fate, Fate::InvoiceVoided(..)) {
                    all.push(Notice::invoice_void(id));
                }
            }
        }
        all
    }

    fn freeze(&self, round: &mut Round<'_>) -> Result<(), TestCaseError> {
        for member in round.freeze_batch("44", 3).into_iter().flat_map(|batch| batch.members) {
            let (_, blue, _) = self.found(&self.store.disk(), member.claim);
            let first = match member.told {
                Told::End => blue.map(Notice::end).into_iter().collect(),
                Told::InvoiceVoid => {
                    let mut first = self.notices_of_reds(member.claim);
                    first.push(Notice::end(member.claim));
                    first
                }
            };
            for notice in first {
                prop_assert!(self.answered.contains(&notice), "{member} goes before {notice}");
            }
        }
        Ok(())
    }

    /// The blue invoice, or the last red one but so many that has ended.
    fn target(&self, blue: Option<usize>, pick: usize) -> Option<ClaimId> {
        if let Some(blue) = blue {
            return Some(self.blues[blue].0);
        }
        let disk = self.store.disk();
        let mut ended: Vec<_> = disk.claim_ids().collect();
        ended.retain(|id| self.found(&disk, *id).1.is_some());
        ended.iter().rev().nth(pick).copied()
    }

    fn void_invoice(
        &self,
        round: &mut Round<'_>,
        id: ClaimId,
        wish: u8,
    ) -> Result<(), TestCaseError> {
        let found = self.store.found(id).unwrap();
        let numbers = self.store.disk().numbers().clone();
        let number = numbers.into_iter().find(|(_, holder)| *holder == id).unwrap().0;
        let serial = Serial::parse(&format!("V{wish}")).unwrap();
        let request = crate::model::RequestKey { serial, ..found.request().clone() };
        let taken = self.store.found(id).unwrap().red_of();
        let before = taken.and_then(|blue| round.balances.get(&blue).cloned());
        let stands = round.balance(id).unwrap();
        let (voided, count) = (self.is_voided(round, id), round.batch.invoice_voids.len());
        let decided = round.void_invoice(&VoidWish {
            request,
            number,
            reason: "misprint".into(),
            amount: None,
        });
        let made = round.batch.invoice_voids.len() - count;
        prop_assert!(made <= usize::from(decided.is_ok()), "a refusal voids nothing");
        match decided {
            Ok(_) if made == 0 => {}
            Ok(voided_now) => {
                prop_assert!(!voided && matches!(found.fate, Fate::Issued(_)));
                prop_assert_eq!(voided_now.invoice, found.invoice(), "the same bytes");
                let whole = Balance::of(&found.draft().unwrap());
                let free = stands.is_none_or(|left| left.parts() == whole.parts());
                prop_assert!(free, "a red letter stands against it");
                if let (Some(blue), Some(before)) = (taken, before) {
                    let back = before.plus(&whole.negated());
                    let after = round.balances.get(&blue).map(Balance::parts);
                    prop_assert_eq!(after, Some(back.parts()), "given back at once");
                }
            }
            Err(refusal) => {
                let known = [Reason::VoidNotAllowed, Reason::SerialConflict];
                prop_assert!(known.contains(&refusal.reason), "{}", refusal);
            }
        }
        Ok(())
    }

    fn step(&mut self, ops: &[Op], end: End) -> Result<(), TestCaseError> {
        let mut round = self.book.round(&self.store, self.now, Ok(()));
        let mut done = BTreeSet::new();
        let (mut answered, mut rejected) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Red { blue, serial, lines } => self.red(&mut round, *blue, *serial, lines)?,
                Op::Sign { pick } | Op::Void { pick } => {
                    let free = self.held.values().filter(|claim| !done.contains(&claim.id));
                    let Some(claim) = free.clone().nth(*pick % free.count().max(1)) else {
                        continue;
                    };
                    done.insert(claim.id);
                    if matches!(op, Op::Sign { .. }) {
                        round.sign(claim, &signed("R"));
                    } else {
                        round.void(claim, None, ("test", "t")).unwrap();
                    }
                }
                Op::VoidInvoice { blue, pick, id } => {
                    let Some(target) = self.target(*blue, *pick) else { continue };
                    self.void_invoice(&mut round, target, *id)?;
                }
                Op::Freeze => self.freeze(&mut round)?,
                Op::Receipt { pick, rejects } => {
                    let open: Vec<_> = self.book.open_batches.iter().collect();
                    let Some((no, members)) = open.get(*pick % open.len().max(1)) else { continue };
                    if answered.iter().any(|(known, _)| known == *no) {
                        continue;
                    }
                    let rejection =
                        |notice: &Notice| Rejection { notice: *notice, message: "no".into() };
                    let refused: Vec<_> =
                        members.iter().filter(|_| *rejects).map(rejection).collect();
                    rejected.extend(refused.iter().map(|rejection| rejection.notice));
                    answered.push((**no, (*members).clone()));
                    round.put_receipt(ReceiptRecord {
                        batch: **no,
                        acceptance_serial: "A".into(),
                        receipt: vec![1],
                        rejected: refused,
                        at: self.now,
                    });
                }
            }
        }
        let (batch, change) = round.finish();
        match end {
            End::Lost => return self.restart(),
            End::Full => {
                self.store.disk().full_commits = 1;
                let full = matches!(self.store.commit(batch), Err(CommitError::Full));
                prop_assert!(full);
                return self.check();
            }
            End::Committed | End::Untold => {}
        }
        let committed = self.store.commit(batch).unwrap();
        self.held.retain(|id, _| !done.contains(id));
        self.held.extend(committed.claims.into_iter().map(|claim| (claim.id, claim)));
        self.answered.extend(answered.into_iter().flat_map(|(_, members)| members));
        self.rejected.extend(rejected);
        if end == End::Untold {
            return self.restart();
        }
        self.book.absorb(change);
        self.check()
    }

    fn restart(&mut self) -> Result<(), TestCaseError> {
        let loaded = self.store.load().unwrap();
        self.book = Book::new(&loaded, world::LIMITS);
        self.held = loaded.open.into_iter().map(|claim| (claim.id, claim)).collect();
        self.check()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (id, _) in &self.blues {
            let blue = Balance::of(&request("B", &BLUE, None).draft.wire);
            let left = blue.plus(&self.taken(*id));
            prop_assert_eq!(left.overdrawn(), None, "more than the blue invoice");
            let stored = self.store.balance(*id).unwrap();
            if matches!(self.found(&self.store.disk(), *id).0, Fate::InvoiceVoided(..)) {
                prop_assert_eq!(left.parts(), blue_parts(), "a red stands against a voided blue");
            }
            if let Some(stored) = stored {
                prop_assert_eq!(stored.parts(), left.parts(), "the balance is what is left");
            }
        }
        Ok(())
    }
}

fn blue_parts() -> (crate::store::NetAndTax, BTreeMap<i32, crate::store::NetAndTax>) {
    Balance::of(&request("B", &BLUE, None).draft.wire).parts()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::cases() / 4, ..ProptestConfig::default() })]

    #[test]
    fn reds_never_exceed_their_blue_invoice(
        steps in vec((vec(op(), 1..6), end()), 1..14)
    ) {
        let mut reds = Reds::new();
        for (ops, end) in &steps {
            reds.step(ops, *end)?;
        }
    }
}
