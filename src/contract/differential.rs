//! Differential taxing (差额征税): the tax is on what remains after a deduction (扣除额, KCE). Source:
//! docs/domain.md 3.5 and rule 26. The remark's part of the rule is in `remark`.

use super::{
    check::Rules,
    decimal::tax_within_fen,
    findings::{Field, Findings},
    lines::amount_in_range,
};
use crate::{model::Color, pb::v1 as pb, refusal::Reason};

/// Checks the shape of a differential invoice: a single line, and a deduction that is there and not
/// more than the total.
pub(super) fn check(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, rules: Rules<'_>) {
    const DEDUCTION: Field = Field::of("deduction_fen");
    if wire.lines.len() > 1 {
        findings.add(
            Field::of("lines"),
            Reason::DifferentialRule,
            format!("{} lines; a differential invoice has a single one", wire.lines.len()),
            format!("共 {} 行，差额征税发票只能有一行", wire.lines.len()),
        );
    }
    let deduction = wire.deduction_fen;
    amount_in_range(findings, DEDUCTION, deduction, rules.profile);
    // On a red invoice vendors write the deduction with either sign.
    if deduction == 0 || (rules.color == Some(Color::Blue) && deduction < 0) {
        findings.add(
            DEDUCTION,
            Reason::DifferentialRule,
            "must be above zero with differential taxing",
            "差额征税时扣除额须大于零",
        );
    } else if deduction.unsigned_abs() > wire.total_fen.unsigned_abs() {
        let (deduction, total) = (deduction.unsigned_abs(), wire.total_fen.unsigned_abs());
        findings.add(
            DEDUCTION,
            Reason::DifferentialRule,
            format!("deducts {deduction} of {total} fen"),
            format!("扣除额 {deduction} 分超过价税合计 {total} 分"),
        );
    }
}

/// The tax of a differential invoice's line: (amount with tax - deduction) / (1 + rate) * rate.
/// Unit: fen. `None` when it is not to be checked: on a red invoice, unless the profile says so,
/// and where the rate is impossible.
pub(super) fn tax_fen(
    wire: &pb::InvoiceDraft,
    line: &pb::InvoiceLine,
    rules: Rules<'_>,
) -> Option<i128> {
    let red = rules.color == Some(Color::Red);
    if red && !rules.profile.amounts.red_differential_tax {
        return None;
    }
    let gross = i128::from(line.amount_fen) + i128::from(line.tax_fen);
    let deduction = i128::from(wire.deduction_fen.unsigned_abs());
    let taxed = if red { gross + deduction } else { gross - deduction };
    tax_within_fen(taxed, line.rate_millionths)
}
