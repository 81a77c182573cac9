//! The remark (备注, BZ): its limit, its edges, and phrases that mean something to a device. Source:
//! docs/domain.md 3.5 (differential taxing), 3.7 and 3.8; rules 26 and 30.

use super::{
    check::{Limit, Rules, text},
    decimal::yuan_as_fen,
    findings::{Field, Findings},
    profile::Remark,
};
use crate::{
    model::{Color, Kind},
    pb::v1 as pb,
    refusal::Reason,
};

const FIELD: Field = Field::of("remark");

/// Checks the remark.
pub(super) fn check(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, rules: Rules<'_>) {
    let remark = wire.remark.as_str();
    text(findings, FIELD, remark, Limit::optional(limit(rules)));
    let blue = rules.color == Some(Color::Blue);
    let rest = if blue && rules.differential {
        after_deduction(findings, wire, &rules.profile.remark)
    } else {
        remark
    };
    if remark.is_empty() {
        return;
    }
    let edge = |c: char| matches!(c, ' ' | '\u{3000}' | '\r' | '\n');
    if remark.starts_with(edge) || remark.ends_with(edge) {
        let (en, zh) = ("must not begin or end with a blank", "首尾不得为空格或换行");
        findings.add(FIELD, Reason::RemarkInvalid, en, zh);
    }
    let phrases = &rules.profile.remark;
    match rules.color {
        Some(Color::Blue) => {
            let ours = [&phrases.original_code, &phrases.notice, &phrases.differential];
            ours.into_iter().for_each(|phrase| reserved(findings, rest, phrase));
        }
        Some(Color::Red) => red(findings, wire, phrases),
        None => {}
    }
    phrases.reserved.iter().for_each(|phrase| reserved(findings, rest, phrase));
}

/// Without a kind the widest limit holds, so that a missing kind draws no second complaint.
fn limit(rules: Rules<'_>) -> usize {
    let of = |kind| rules.profile.kind(kind).remark_max;
    let widest = || Kind::ALL.into_iter().map(of).max();
    rules.kind.map(of).or_else(widest).unwrap_or_default()
}

fn reserved(findings: &mut Findings<'_>, remark: &str, phrase: &str) {
    if remark.contains(phrase) {
        findings.add(
            FIELD,
            Reason::RemarkInvalid,
            format!("holds {phrase:?}, which is reserved"),
            format!("含保留用语“{phrase}”"),
        );
    }
}

/// The remark of a differential invoice starts with its deduction, as in `差额征税：12.50。`; returns
/// what follows it.
fn after_deduction<'a>(
    findings: &mut Findings<'_>,
    wire: &'a pb::InvoiceDraft,
    phrases: &Remark,
) -> &'a str {
    let stated = wire.remark.strip_prefix(phrases.differential.as_str());
    let stated = stated.and_then(|rest| rest.split_once(phrases.differential_end.as_str()));
    let Remark { differential, differential_end, .. } = phrases;
    let Some((yuan, rest)) = stated else {
        findings.add(
            FIELD,
            Reason::DifferentialRule,
            format!("must start with {differential:?}, the deduction and {differential_end:?}"),
            format!("须以“{differential}扣除额{differential_end}”开头"),
        );
        return &wire.remark;
    };
    if yuan_as_fen(yuan) != Some(wire.deduction_fen.into()) {
        let expected = wire.deduction_fen;
        findings.add(
            FIELD,
            Reason::DifferentialRule,
            format!("states another deduction than the {expected} fen of deduction_fen"),
            format!("备注中的扣除额与 deduction_fen（{expected} 分）不一致"),
        );
    }
    rest
}

/// A red remark may name its own blue invoice and its own notice, and no other.
fn red(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, phrases: &Remark) {
    let (code, number) = (wire.original_code.as_str(), wire.original_number.as_str());
    let own = |rest: &str| {
        let rest = rest.strip_prefix(code);
        let rest = rest.and_then(|rest| rest.strip_prefix(phrases.original_number.as_str()));
        rest.is_some_and(|rest| rest.starts_with(number))
    };
    if wire.remark.split(phrases.original_code.as_str()).skip(1).any(|rest| !own(rest)) {
        let (en, zh) = ("names another blue invoice", "备注所指原发票与原发票代码、号码不一致");
        findings.add(FIELD, Reason::RemarkInvalid, en, zh);
    }
    let notice = wire.red_notice.as_str();
    let other = |rest: &str| notice.is_empty() || !rest.starts_with(notice);
    if wire.remark.split(phrases.notice.as_str()).skip(1).any(other) {
        let (en, zh) = ("names another red notice", "备注中的红字信息表编号不一致");
        findings.add(FIELD, Reason::RemarkInvalid, en, zh);
    }
}
