//! Tax classification codes (商品编码) against the profile's table: known, a leaf, and fit for the rate
//! and preference of its line. Source: docs/domain.md, rule 16. Without a table only their shape is
//! looked at.

use super::{
    check::Rules,
    findings::{Field, Findings},
    lines::LineCheck,
    profile::TaxCode,
};
use crate::{model::Color, pb::v1 as pb, refusal::Reason};

/// The version of the table that a draft names.
pub(super) fn version(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, rules: Rules<'_>) {
    let codes = &rules.profile.tax_codes;
    let (ours, theirs) = (&codes.version, &wire.tax_code_version);
    let other = !ours.is_empty() && !theirs.is_empty() && ours != theirs;
    if codes.table.is_some() && other && rules.color != Some(Color::Red) {
        findings.add(
            Field::of("tax_code_version"),
            Reason::TaxCodeInvalid,
            format!("the table of codes here has version {ours}"),
            format!("本处编码表版本为 {ours}"),
        );
    }
}

impl LineCheck<'_, '_> {
    /// Looks a well-formed code up. A red invoice repeats its blue one, whose table may be an old
    /// one, so it meets none.
    pub(super) fn in_table(&mut self, code: &str) {
        let Some(table) = &self.rules.profile.tax_codes.table else { return };
        if self.rules.color == Some(Color::Red) {
            return;
        }
        let known = table.get(code);
        if let Some((en, zh)) = known.map_or(Some(UNKNOWN), |known| self.misfit(known)) {
            self.add("tax_code", Reason::TaxCodeInvalid, en, zh);
        }
    }

    fn misfit(&self, known: &TaxCode) -> Option<Words> {
        let (line, any) = (self.line, &self.rules.profile.tax_codes.any_code_rates);
        let rate = line.rate_millionths;
        // Why a rate is zero, or a preferred one, is for the rules of preferences.
        let free = line.preference || rate == 0 || known.rates.is_empty() || any.contains(&rate);
        let text = &line.preference_text;
        let preferred = line.preference && !text.is_empty() && !known.preferences.is_empty();
        let checks = [
            (known.is_leaf, GROUP),
            (free || known.rates.contains(&rate), OTHER_RATE),
            (!preferred || known.preferences.contains(text), OTHER_PREFERENCE),
        ];
        checks.into_iter().find(|(fits, _)| !fits).map(|(_, words)| words)
    }
}

type Words = (&'static str, &'static str);

const UNKNOWN: Words = ("is not in the table of tax codes", "不在税收分类编码表中");
const GROUP: Words = ("is a group of codes, not a code of goods", "是汇总编码，须使用末级编码");
const OTHER_RATE: Words = ("does not have the line's rate", "该编码不适用所填税率");
const OTHER_PREFERENCE: Words = ("does not have the line's preference", "该编码不适用所填优惠政策");
