//! The rules as tables, each with its boundary on both sides. Pure: no number is spent.

mod kinds;
mod leqi;
mod money;
mod rates;
mod red;
mod softened;
mod tax_codes;
mod texts;
mod vectors;

use super::{sample::SELLER, *};
use crate::refusal::{Reason, Refusal};
use std::{collections::BTreeSet, sync::LazyLock};

pub(super) static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::embedded);

pub(super) type Change = fn(&mut pb::InvoiceDraft);

/// The day on which the tables ask, unless they say another.
const TODAY: &str = "2026-06-01T12:00:00+08:00";

pub(super) fn sample() -> pb::InvoiceDraft {
    sample::draft("T-1", SELLER)
}

/// A sample of a special kind, which needs the buyer's details.
pub(super) fn special() -> pb::InvoiceDraft {
    let mut draft = sample();
    draft.kind = pb::InvoiceKind::ESpecial.into();
    buyer(&mut draft).address_phone = "示例路2号".into();
    buyer(&mut draft).bank_account = "示例银行".into();
    draft
}

fn taxpayer() -> Taxpayer {
    Taxpayer {
        no: TaxpayerNo(1),
        id: SELLER.taxpayer_id.into(),
        name: SELLER.name.into(),
        province: "00".into(),
        forbidden: crate::registry::Forbidden::default(),
    }
}

fn device(kinds: &[Kind]) -> Device {
    Device {
        no: DeviceNo(1),
        id: "D1".into(),
        taxpayer: TaxpayerNo(1),
        machine_number: "000000000001".into(),
        backend: crate::registry::BackendKind::SoftwareP256,
        kinds: BTreeSet::from_iter(kinds.iter().copied()),
        profile: DEFAULT_PROFILE.into(),
        enabled: true,
        test: true,
        public_key: Vec::new(),
        connection: None,
    }
}

pub(super) fn at(time: &str) -> CstTime {
    CstTime::parse(time).unwrap()
}

/// What `check` says of a draft at a time, for a device of every kind. Red letters are offered.
pub(super) fn verdict_at(
    draft: pb::InvoiceDraft,
    profile: &Profile,
    now: &str,
) -> Result<Checked, Refusal> {
    let (taxpayer, device) = (taxpayer(), device(&Kind::ALL));
    let (taxpayer, device) = (&taxpayer, &device);
    let target = Target {
        platform: PlatformNo(1),
        taxpayer,
        device,
        red_offered: true,
        authorised_rates: &[],
    };
    super::check(normalise(Some(draft))?, target, profile, at(now))
}

pub(super) fn verdict(draft: pb::InvoiceDraft, profile: &Profile) -> Result<Checked, Refusal> {
    verdict_at(draft, profile, TODAY)
}

fn pairs(violations: Vec<Violation>) -> Vec<(String, Reason)> {
    violations.into_iter().map(|found| (found.field, found.reason)).collect()
}

pub(super) fn found(draft: pb::InvoiceDraft, profile: &str) -> Vec<(String, Reason)> {
    match verdict(draft, PROFILES.get(profile).unwrap()) {
        Ok(_) => Vec::new(),
        Err(refusal) => pairs(refusal.violations),
    }
}

/// The draft is refused for exactly these fields and reasons; none: it is accepted.
#[track_caller]
fn check_draft(profile: &str, draft: pb::InvoiceDraft, expect: &[(&str, Reason)]) {
    let found = found(draft, profile);
    let found: Vec<_> = found.iter().map(|(field, reason)| (field.as_str(), *reason)).collect();
    assert_eq!(found, expect, "{profile}");
}

/// The changed sample is refused for exactly these fields and reasons; none: it is accepted.
#[track_caller]
fn check_with(profile: &str, change: impl Fn(&mut pb::InvoiceDraft), expect: &[(&str, Reason)]) {
    let mut draft = sample();
    change(&mut draft);
    check_draft(profile, draft, expect);
}

#[track_caller]
fn check(change: impl Fn(&mut pb::InvoiceDraft), expect: &[(&str, Reason)]) {
    check_with("baiwang", &change, expect);
    check_with("aisino", &change, expect);
}

pub(super) fn seller(draft: &mut pb::InvoiceDraft) -> &mut pb::Party {
    draft.seller.as_mut().unwrap()
}

pub(super) fn buyer(draft: &mut pb::InvoiceDraft) -> &mut pb::Party {
    draft.buyer.as_mut().unwrap()
}

/// Makes the totals fit the lines.
pub(super) fn total_up(draft: &mut pb::InvoiceDraft) {
    draft.amount_fen = draft.lines.iter().map(|line| line.amount_fen).sum();
    draft.tax_fen = draft.lines.iter().map(|line| line.tax_fen).sum();
    draft.total_fen = draft.amount_fen + draft.tax_fen;
}

/// The tax of an amount at a rate. Units: fen, millionths, fen.
pub(super) fn tax(amount_fen: i64, rate_millionths: i32) -> i64 {
    i64::try_from(decimal::tax_fen(amount_fen, rate_millionths)).unwrap()
}

/// Puts a line at another rate; a zero rate as an ordinary one.
pub(super) fn put_rate(draft: &mut pb::InvoiceDraft, line: usize, rate_millionths: i32) {
    let line = &mut draft.lines[line];
    line.rate_millionths = rate_millionths;
    line.tax_fen = tax(line.amount_fen, rate_millionths);
    let ordinary = pb::ZeroRateKind::Ordinary.into();
    line.zero_rate_kind = if rate_millionths == 0 { ordinary } else { 0 };
    total_up(draft);
}

/// Puts one amount on a line, without quantity and price.
pub(super) fn put_amount(draft: &mut pb::InvoiceDraft, line: usize, amount_fen: i64) {
    let line = &mut draft.lines[line];
    (line.quantity, line.unit_price) = (String::new(), String::new());
    line.amount_fen = amount_fen;
    line.tax_fen = tax(amount_fen, line.rate_millionths);
    total_up(draft);
}

/// A single line of 212.00 yuan with tax at 6 %, of which 106.00 are deducted.
pub(super) fn differential() -> pb::InvoiceDraft {
    let mut draft = sample();
    draft.lines.truncate(1);
    let line = &mut draft.lines[0];
    (line.quantity, line.unit_price) = (String::new(), String::new());
    (line.amount_fen, line.rate_millionths, line.tax_fen) = (20_600, 60_000, 600);
    draft.tax_method = pb::TaxMethod::Differential.into();
    draft.deduction_fen = 10_600;
    draft.remark = "差额征税：106.00。示例".into();
    total_up(&mut draft);
    draft
}

/// The red invoice that takes all of a blue one back.
pub(super) fn red_of(mut draft: pb::InvoiceDraft) -> pb::InvoiceDraft {
    draft.color = pb::InvoiceColor::Red.into();
    let special = draft.kind == i32::from(pb::InvoiceKind::ESpecial);
    draft.original_code = if special { "044002600113" } else { "044002600111" }.into();
    draft.original_number = "00000042".into();
    draft.red_notice = if special { "1234567890123450".into() } else { String::new() };
    for line in &mut draft.lines {
        (line.amount_fen, line.tax_fen) = (-line.amount_fen, -line.tax_fen);
        if !line.quantity.is_empty() {
            line.quantity.insert(0, '-');
        }
    }
    draft.deduction_fen = -draft.deduction_fen;
    total_up(&mut draft);
    draft
}

#[test]
fn the_sample_passes_and_carries_what_later_stages_need() {
    for profile in ["baiwang", "aisino"] {
        let checked = verdict(sample(), PROFILES.get(profile).unwrap()).unwrap();
        assert_eq!((checked.kind, checked.color), (Kind::ENormal, Color::Blue));
        assert_eq!(checked.totals.total.0, sample().total_fen);
        assert_eq!(checked.draft.wire, sample());
        assert_eq!((checked.original, checked.valid_until), (None, None));
        let warnings = [("draft.buyer.taxpayer_id".to_owned(), Reason::TaxpayerIdChecksum)];
        assert_eq!(pairs(checked.warnings), warnings, "the sample's ids are made up");
    }
}
