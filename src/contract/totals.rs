//! Totals (合计金额 HJJE, 合计税额 HJSE, 价税合计 JSHJ) against the lines and each other. Source:
//! docs/domain.md 3.5. Sums are 128 bits wide, so no list of lines overflows them.

use super::{
    check::Rules,
    findings::{Field, Findings},
    lines::{amount_in_range, differs},
    profile::Profile,
};
use crate::{pb::v1 as pb, refusal::Reason};

const AMOUNT: Field = Field::of("amount_fen");
const TAX: Field = Field::of("tax_fen");
const TOTAL: Field = Field::of("total_fen");

/// Checks range and sign of each total.
pub(super) fn signs(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, rules: Rules<'_>) {
    for (field, value) in [(AMOUNT, wire.amount_fen), (TAX, wire.tax_fen), (TOTAL, wire.total_fen)]
    {
        amount_in_range(findings, field, value, rules.profile);
    }
    for (field, value) in [(AMOUNT, wire.amount_fen), (TOTAL, wire.total_fen)] {
        if !rules.is_sold(value) {
            let (en, zh) = rules.sold_text();
            findings.add(field, Reason::AmountSign, en, zh);
        }
    }
    if rules.is_returned(wire.tax_fen) {
        let (en, zh) = rules.tax_text();
        findings.add(TAX, Reason::AmountSign, en, zh);
    }
}

/// Checks the totals against the lines and each other. A draft without lines has nothing to add up.
pub(super) fn sums(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, profile: &Profile) {
    let total = i128::from(wire.amount_fen) + i128::from(wire.tax_fen);
    if differs(total, wire.total_fen, 0) {
        findings.differs(TOTAL, Reason::TotalSumMismatch, total, wire.total_fen);
    }
    if wire.lines.is_empty() {
        return;
    }
    let amount = wire.lines.iter().map(|line| i128::from(line.amount_fen)).sum();
    if differs(amount, wire.amount_fen, 0) {
        findings.differs(AMOUNT, Reason::TotalAmountMismatch, amount, wire.amount_fen);
    }
    let tax = wire.lines.iter().map(|line| i128::from(line.tax_fen)).sum();
    if differs(tax, wire.tax_fen, profile.amounts.total_tax_tolerance_fen) {
        findings.differs(TAX, Reason::TotalTaxMismatch, tax, wire.tax_fen);
    }
}
