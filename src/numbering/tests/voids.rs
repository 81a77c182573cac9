//! Which issued invoices may be voided: kind, month, state, red letters and device.

use crate::{
    contract::{self, Checked, sample},
    model::{
        ClaimId, Color, CstTime, DeviceNo, DeviceSerial, Fen, InvoiceNumber, Kind, PlatformNo,
        RequestKey, Serial, TaxpayerNo, Totals,
    },
    numbering::{Book, Limits, NewDevice, NewSegment, Round, VoidWish},
    pb::v1 as pb,
    refusal::Reason,
    registry::BackendKind,
    signer::{DeviceAnswer, Signed},
    store::{Assignment, Claim, Durable, Store as _, Told, memory::MemoryStore},
};

const ISSUED: &str = "2026-10-31T23:00:00+08:00";
const LAST: &str = "2026-10-31T23:59:59+08:00";
const NEXT: &str = "2026-11-01T00:00:00+08:00";

pub(super) struct World {
    pub(super) store: MemoryStore,
    pub(super) book: Book,
}

pub(super) fn signed() -> Signed {
    Signed {
        check_code: "1".into(),
        cipher_text: "c".into(),
        qr_text: "q".into(),
        algorithm: pb::SignatureAlgorithm::EcdsaP256Sha256,
        signature: vec![1],
        signer_key: [7; 32],
    }
}

/// A request of so many fen; red when it takes them of another invoice.
pub(super) fn checked(
    serial: &str,
    (device, kind): (i64, Kind),
    red: Option<(&InvoiceNumber, i64)>,
) -> Checked {
    let mut wire = sample::draft_with_lines(serial, sample::SELLER, 1);
    if let Some((original, amount)) = red {
        wire.color = pb::InvoiceColor::Red.into();
        (wire.amount_fen, wire.tax_fen) = (-amount, 0);
        (wire.lines[0].amount_fen, wire.lines[0].tax_fen) = (-amount, 0);
        wire.original_code.clone_from(&original.code);
        wire.original_number = original.number_text();
    }
    let (amount, tax, total) = (Fen(wire.amount_fen), Fen(wire.tax_fen), Fen(wire.total_fen));
    Checked {
        draft: contract::normalise(Some(wire)).unwrap(),
        platform: PlatformNo(1),
        taxpayer: TaxpayerNo(1),
        device: DeviceNo(device),
        kind,
        color: if red.is_some() { Color::Red } else { Color::Blue },
        totals: Totals { amount, tax, total },
        original: red.map(|(original, _)| original.clone()),
        valid_until: None,
        zero_limit: crate::registry::ZeroLimit::Unlimited,
        warnings: Vec::new(),
    }
}

pub(super) fn at(text: &str) -> CstTime {
    CstTime::parse(text).unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        let store = MemoryStore::default();
        let book = Book::new(&store.load().unwrap(), Limits::default());
        let mut world = Self { store, book };
        world.round(ISSUED, |round| {
            let seller = sample::SELLER;
            round.add_taxpayer("t", (seller.taxpayer_id, seller.name, "44")).unwrap();
            round.add_platform("t", "P1", "示例平台").unwrap();
            round.add_binding("t", "P1", seller.taxpayer_id).unwrap();
            for (id, backend, kinds) in [
                ("D1", BackendKind::SoftwareP256, Kind::ALL.to_vec()),
                ("D2", BackendKind::SimulatedDevice, vec![Kind::NormalPaper]),
            ] {
                let new = NewDevice {
                    id: id.into(),
                    taxpayer_id: seller.taxpayer_id.into(),
                    machine_number: "000000000001".into(),
                    backend,
                    kinds: kinds.into_iter().collect(),
                    profile: contract::DEFAULT_PROFILE.into(),
                    test: true,
                    public_key: Vec::new(),
                    wrapped_key: None,
                    connection: None,
                };
                round.add_device("t", new).unwrap();
            }
            for kind in Kind::ALL {
                let code = format!("0440026{:05}", kind.legacy_code());
                let first = InvoiceNumber { code, number: 1 };
                let new = NewSegment { device_id: "D1".into(), kind, first, last: 9 };
                round.add_segment("t", &new).unwrap();
            }
        });
        world
    }

    pub(super) fn round<T>(
        &mut self,
        now: &str,
        decide: impl FnOnce(&mut Round<'_>) -> T,
    ) -> (T, Vec<Durable<Claim>>) {
        let mut round = self.book.round(&self.store, at(now), Ok(()));
        let decided = decide(&mut round);
        let (batch, change) = round.finish();
        let claims = self.store.commit(batch).unwrap().claims;
        self.book.absorb(change);
        (decided, claims)
    }

    pub(super) fn claim(&mut self, checked: Checked) -> (Durable<Claim>, InvoiceNumber) {
        let claim = self.round(ISSUED, |round| round.assign(checked).unwrap()).1.remove(0);
        let (Assignment::Numbered { number, .. } | Assignment::ByDevice { next: number, .. }) =
            &claim.assignment;
        let number = number.clone();
        (claim, number)
    }

    pub(super) fn issue(&mut self, checked: Checked) -> InvoiceNumber {
        let (claim, number) = self.claim(checked);
        self.round(ISSUED, |round| round.sign(&claim, &signed()));
        number
    }

    /// Issued by the device that draws its numbers.
    pub(super) fn issue_drawn(&mut self) -> InvoiceNumber {
        let next = InvoiceNumber { code: "044002600999".into(), number: 5 };
        let series = self.book.index[&(DeviceNo(2), Kind::NormalPaper)];
        self.round(ISSUED, |round| round.device_next(series, Some(next.clone())));
        let (claim, number) = self.claim(checked("DRAWN", (2, Kind::NormalPaper), None));
        let Assignment::ByDevice { device_serial: DeviceSerial(serial), .. } = &claim.assignment
        else {
            panic!("the device draws")
        };
        let buyer = claim.head.draft().unwrap().buyer.unwrap();
        let answer = DeviceAnswer {
            device_serial: DeviceSerial(serial.clone()),
            kind: claim.kind,
            buyer_taxpayer_id: buyer.taxpayer_id,
            buyer_name: buyer.name,
            totals: claim.totals,
            next: next.next(),
            number: number.clone(),
            issue_time: at(ISSUED),
            signed: signed(),
        };
        assert!(self.round(ISSUED, |round| round.adopt(&claim, &answer)).0);
        number
    }

    fn void(&mut self, number: &InvoiceNumber, now: &str) -> Result<CstTime, Reason> {
        let wish = wish(number, &format!("V{now}")[..20]);
        let voided = self.round(now, |round| round.void_invoice(&wish)).0;
        voided.map(|voided| voided.at).map_err(|refusal| refusal.reason)
    }
}

fn wish(number: &InvoiceNumber, id: &str) -> VoidWish {
    let (platform, taxpayer) = (PlatformNo(1), TaxpayerNo(1));
    let serial = Serial::parse(id).unwrap();
    let request = RequestKey { platform, taxpayer, serial };
    VoidWish { request, number: number.clone(), reason: "misprint".into(), amount: None }
}

#[test]
fn paper_is_voided_in_its_month_and_nothing_else_is() {
    use Kind::{ENormal, ESpecial, NormalPaper, Roll, SpecialPaper};
    let no = Err(Reason::VoidNotAllowed);
    for (kind, now, expect) in [
        (SpecialPaper, LAST, Ok(at(LAST))),
        (NormalPaper, LAST, Ok(at(LAST))),
        (Roll, LAST, Ok(at(LAST))),
        (NormalPaper, "2026-10-31T15:59:59Z", Ok(at(LAST))),
        // A clock that is a little back does not void what is not issued yet.
        (NormalPaper, "2026-10-31T22:59:50+08:00", Ok(at(ISSUED))),
        (SpecialPaper, NEXT, no),
        (NormalPaper, NEXT, no),
        (Roll, NEXT, no),
        (Roll, "2026-10-31T16:00:00Z", no),
        (NormalPaper, "2027-10-31T23:00:00+08:00", no),
        (ENormal, LAST, no),
        (ESpecial, LAST, no),
        (ENormal, NEXT, no),
    ] {
        let mut world = World::new();
        let number = world.issue(checked("S1", (1, kind), None));
        assert_eq!(world.void(&number, now), expect, "{kind:?} at {now}");
        let again = expect.or(no);
        assert_eq!(world.void(&number, NEXT), again, "{kind:?}: for ever, also a month later");
    }
}

#[test]
fn an_amount_that_is_not_the_invoice_s_voids_nothing() {
    let mut world = World::new();
    let number = world.issue(checked("S1", (1, Kind::NormalPaper), None));
    let amount = world.store.found(ClaimId(1)).unwrap().totals().amount;
    let mut void = |amount| {
        let wish = VoidWish { amount: Some(amount), ..wish(&number, "V1") };
        world.round(LAST, |round| round.void_invoice(&wish)).0
    };
    for (said, off) in [(amount.0 + 1, 1), (amount.0 - 1, 1), (-amount.0, 2 * amount.0)] {
        let refusal = void(Fen(said)).unwrap_err();
        assert_eq!(refusal.reason, Reason::TotalAmountMismatch);
        assert!(refusal.hint.contains(&format!("differs by {off} fen")), "{refusal}");
    }
    assert!(void(amount).is_ok());
    assert!(void(Fen(0)).is_ok(), "it is voided: the same for ever");
}

#[test]
fn what_is_not_issued_not_ours_or_the_device_s_is_not_voided() {
    let mut world = World::new();
    let (open, number) = world.claim(checked("S1", (1, Kind::NormalPaper), None));
    assert_eq!(world.void(&number, LAST), Err(Reason::VoidNotAllowed), "in doubt");
    world.round(ISSUED, |round| round.void(&open, None, ("blank", "t")).unwrap());
    assert_eq!(world.void(&number, LAST), Ok(at(ISSUED)), "voided unsigned, and it is said");
    let absent = InvoiceNumber { number: 9, ..number };
    assert_eq!(world.void(&absent, LAST), Err(Reason::NotFound));
    let drawn = world.issue_drawn();
    assert_eq!(world.void(&drawn, LAST), Err(Reason::OperationNotAllowed));
    let found = world.store.found(ClaimId(2)).unwrap();
    assert!(found.invoice().is_some(), "it stands");
}

#[test]
fn a_blue_invoice_with_a_red_letter_is_voided_after_that_one_and_told_after_it() {
    let mut world = World::new();
    let paper = (1, Kind::NormalPaper);
    let blue = world.issue(checked("B", paper, None));
    let (claim, red) = world.claim(checked("R", paper, Some((&blue, 100))));
    assert_eq!(world.void(&blue, LAST), Err(Reason::VoidNotAllowed), "one is under way");
    world.round(ISSUED, |round| round.sign(&claim, &signed()));
    assert_eq!(world.void(&blue, LAST), Err(Reason::VoidNotAllowed), "one stands");
    let both = world.round(LAST, |round| {
        let red = round.void_invoice(&wish(&red, "R")).map(drop);
        (red, round.void_invoice(&wish(&blue, "B")).map(drop))
    });
    assert_eq!(both.0, (Ok(()), Ok(())), "in one commit, one after the other");
    let late = checked("R2", paper, Some((&blue, 100)));
    let refused = world.round(LAST, |round| round.assign(late).map(drop)).0.unwrap_err();
    assert_eq!(refused.reason, Reason::RedOriginalUnknown);
    let mut order = Vec::new();
    while let Some(batch) = world.round(LAST, |round| round.freeze_batch("44", 9)).0 {
        order.push(batch.members.iter().map(|told| (told.claim.0, told.told)).collect::<Vec<_>>());
        let receipt = crate::store::ReceiptRecord {
            batch: batch.no,
            acceptance_serial: "A".into(),
            receipt: vec![1],
            rejected: Vec::new(),
            at: at(LAST),
        };
        world.round(LAST, |round| round.put_receipt(receipt));
    }
    let expect = [
        vec![(1, Told::End)],
        vec![(2, Told::End)],
        vec![(2, Told::InvoiceVoid)],
        vec![(1, Told::InvoiceVoid)],
    ];
    assert_eq!(order, expect);
}
