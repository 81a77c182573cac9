//! `Draft` → `Checked`: the rules of a profile over one draft, in the order of its fields. Pure;
//! finds everything at once; edits nothing.
//!
//! Source: docs/domain.md, "Rules to enforce", rows 10 to 30. Rules that need state (limits, stock,
//! periods, red balances) are the numbering actor's.

use super::{
    Checked, Draft, Target, differential,
    findings::{Field, Findings},
    leqi, lines, party,
    profile::Profile,
    red, remark, tax_codes, totals,
};
use crate::{
    gbk::measure,
    model::{Color, CstTime, Fen, Kind, Totals},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::{Device, Forbidden},
};

/// Longest device id. Unit: characters.
const DEVICE_ID_MAX: usize = 32;

/// What the rules depend on beside the field that they look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// The device's profile.
    pub(super) profile: &'a Profile,
    /// The kind, when it is known.
    pub(super) kind: Option<Kind>,
    /// The colour, when it is known; without one no sign is wrong.
    pub(super) color: Option<Color>,
    /// Differential taxing (差额征税).
    pub(super) differential: bool,
    /// The device's own list of rates, ascending; empty when it was not told.
    pub(super) authorised_rates: &'a [i32],
}

impl Rules<'_> {
    /// Whether the kind is a special one (专票).
    pub(super) fn is_special(self) -> bool {
        match self.kind {
            Some(Kind::SpecialPaper | Kind::ESpecial) => true,
            Some(Kind::NormalPaper | Kind::Roll | Kind::ENormal) | None => false,
        }
    }

    /// Whether an amount has the sign of what is sold: above zero on a blue invoice, below on a
    /// red one.
    pub(super) fn is_sold(self, amount: i64) -> bool {
        match self.color {
            Some(Color::Blue) => amount > 0,
            Some(Color::Red) => amount < 0,
            None => true,
        }
    }

    /// Whether an amount has the other sign: that of a discount.
    pub(super) fn is_returned(self, amount: i64) -> bool {
        match self.color {
            Some(Color::Blue) => amount < 0,
            Some(Color::Red) => amount > 0,
            None => false,
        }
    }

    /// What is wrong with an amount that is not `is_sold`.
    pub(super) fn sold_text(self) -> (&'static str, &'static str) {
        match self.color {
            Some(Color::Red) => ("must be below zero on a red invoice", "红字发票的金额须小于零"),
            Some(Color::Blue) | None => {
                ("must be above zero on a blue invoice", "蓝字发票的金额须大于零")
            }
        }
    }

    /// What is wrong with a tax that `is_returned`.
    pub(super) fn tax_text(self) -> (&'static str, &'static str) {
        match self.color {
            Some(Color::Red) => ("must not be positive on a red invoice", "红字发票的税额不得为正"),
            Some(Color::Blue) | None => {
                ("must not be negative on a blue invoice", "蓝字发票的税额不得为负")
            }
        }
    }
}

/// Checks a draft against its device's profile, as of `now`.
///
/// # Errors
/// Every violated rule that refuses, at most 64; the refusal's reason is the first one's.
pub fn check(
    draft: Draft,
    target: Target<'_>,
    profile: &Profile,
    now: CstTime,
) -> Result<Checked, Refusal> {
    let mut findings = Findings::under(&profile.severity);
    let wire = &draft.wire;
    let kind = kind(&mut findings, wire.kind, target.device);
    let color = color(&mut findings, wire.color, target);
    allowed(&mut findings, &target.taxpayer.forbidden, kind);
    let differential = wire.tax_method == i32::from(pb::TaxMethod::Differential);
    let authorised_rates = target.authorised_rates;
    let rules = Rules { profile, kind, color, differential, authorised_rates };
    party::seller(&mut findings, wire.seller.as_ref(), target.taxpayer, profile);
    party::buyer(&mut findings, wire.buyer.as_ref(), rules);
    header(&mut findings, wire, rules);
    leqi::origin(&mut findings, wire.origin.as_ref(), profile);
    let original = red::original(&mut findings, wire, rules);
    leqi::confirmation(&mut findings, wire, rules);
    totals::signs(&mut findings, wire, rules);
    let last_day = lines::all(&mut findings, wire, rules, now.day());
    totals::sums(&mut findings, wire, profile);
    let warnings = findings.verdict()?;
    let (Some(kind), Some(color)) = (kind, color) else {
        return Err(Refusal::new(Reason::FieldMissing, "the kind or the colour is missing"));
    };
    let totals =
        Totals { amount: Fen(wire.amount_fen), tax: Fen(wire.tax_fen), total: Fen(wire.total_fen) };
    Ok(Checked {
        draft,
        platform: target.platform,
        taxpayer: target.taxpayer.no,
        device: target.device.no,
        kind,
        color,
        totals,
        original,
        valid_until: last_day.and_then(CstTime::last_of),
        zero_limit: profile.limits.zero,
        warnings,
    })
}

fn kind(findings: &mut Findings<'_>, value: i32, device: &Device) -> Option<Kind> {
    const FIELD: Field = Field::of("kind");
    if value == 0 {
        findings.missing(FIELD);
        return None;
    }
    let kind = Kind::from_wire(value);
    match kind {
        None => unknown_value(findings, FIELD, value),
        Some(kind) if !device.kinds.contains(&kind) => findings.add(
            FIELD,
            Reason::KindNotApproved,
            format!("kind {:03} is not approved for the device", kind.legacy_code()),
            format!("该设备未核定票种 {:03}", kind.legacy_code()),
        ),
        Some(_) => {}
    }
    kind
}

/// Whether the taxpayer may issue (开票标志, kpbz). What is forbidden is a value, wherever it was
/// learnt.
fn allowed(findings: &mut Findings<'_>, forbidden: &Forbidden, kind: Option<Kind>) {
    if kind.map_or(forbidden.everything, |kind| forbidden.forbids(kind)) {
        findings.add(
            Field::of("seller.taxpayer_id"),
            Reason::TaxpayerForbidden,
            "the taxpayer is forbidden to issue this kind of invoice",
            "该纳税人已被禁止开具此票种",
        );
    }
}

fn color(findings: &mut Findings<'_>, value: i32, target: Target<'_>) -> Option<Color> {
    const FIELD: Field = Field::of("color");
    match pb::InvoiceColor::try_from(value) {
        Ok(pb::InvoiceColor::Blue) => Some(Color::Blue),
        Ok(pb::InvoiceColor::Red) => {
            if !target.red_offered {
                let (en, zh) = ("red-letter invoices are not offered yet", "暂不支持红字发票");
                findings.add(FIELD, Reason::OperationNotAllowed, en, zh);
            }
            Some(Color::Red)
        }
        Ok(pb::InvoiceColor::Unspecified) => {
            findings.missing(FIELD);
            None
        }
        Err(_) => {
            unknown_value(findings, FIELD, value);
            None
        }
    }
}

/// The texts and codes of the draft that are neither party's nor a line's.
fn header(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, rules: Rules<'_>) {
    let (lengths, required) = (&rules.profile.lengths, &rules.profile.required);
    let drawer = Limit { max: lengths.person, required: required.drawer };
    text(findings, Field::of("drawer"), &wire.drawer, drawer);
    text(findings, Field::of("payee"), &wire.payee, Limit::optional(lengths.person));
    text(findings, Field::of("checker"), &wire.checker, Limit::optional(lengths.person));
    remark::check(findings, wire, rules);
    tax_method(findings, wire, rules);
    let version = Limit { max: lengths.tax_code_version, required: required.tax_code_version };
    text(findings, Field::of("tax_code_version"), &wire.tax_code_version, version);
    tax_codes::version(findings, wire, rules);
    if !wire.special_kind.is_empty() {
        digits(findings, Field::of("special_kind"), &wire.special_kind, 2);
    }
    device_id(findings, &wire.device_id);
    text(findings, Field::of("terminal"), &wire.terminal, Limit::optional(lengths.terminal));
}

fn tax_method(findings: &mut Findings<'_>, wire: &pb::InvoiceDraft, rules: Rules<'_>) {
    const FIELD: Field = Field::of("tax_method");
    match pb::TaxMethod::try_from(wire.tax_method) {
        Ok(pb::TaxMethod::Unspecified | pb::TaxMethod::Ordinary) if wire.deduction_fen != 0 => {
            findings.add(
                Field::of("deduction_fen"),
                Reason::FieldInvalid,
                "must be 0 unless the tax method is differential",
                "非差额征税时扣除额须为 0",
            );
        }
        Ok(pb::TaxMethod::Unspecified | pb::TaxMethod::Ordinary) => {}
        Ok(pb::TaxMethod::Differential) => differential::check(findings, wire, rules),
        Ok(pb::TaxMethod::Reduced) => findings.add(
            FIELD,
            Reason::OperationNotAllowed,
            "reduced taxing is not offered yet",
            "暂不支持减按计征",
        ),
        Err(_) => unknown_value(findings, FIELD, wire.tax_method),
    }
}

fn device_id(findings: &mut Findings<'_>, id: &str) {
    const FIELD: Field = Field::of("device_id");
    if id.len() > DEVICE_ID_MAX {
        too_long(findings, FIELD, id.len(), DEVICE_ID_MAX);
    }
    if !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        findings.add(
            FIELD,
            Reason::FieldInvalid,
            "must be visible ASCII characters without blanks",
            "须为可见 ASCII 字符，不含空格",
        );
    }
}

/// How long a text may be, in GBK bytes, and whether it must be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) max: usize,
    pub(super) required: bool,
}

impl Limit {
    pub(super) const fn optional(max: usize) -> Self {
        Self { max, required: false }
    }

    pub(super) const fn required(max: usize) -> Self {
        Self { max, required: true }
    }
}

/// Checks a text: there when it must be, within its limit, encodable, without control characters.
pub(super) fn text(findings: &mut Findings<'_>, field: Field, value: &str, limit: Limit) {
    if value.is_empty() {
        if limit.required {
            findings.missing(field);
        }
        return;
    }
    let measured = measure(value);
    if limit.required && value.trim().is_empty() {
        findings.missing(field);
    }
    if measured.gbk_bytes > limit.max {
        too_long(findings, field, measured.gbk_bytes, limit.max);
    }
    if let Some(c) = measured.control {
        let code = u32::from(c);
        findings.add(
            field,
            Reason::FieldInvalid,
            format!("holds the control character U+{code:04X}"),
            format!("含控制字符 U+{code:04X}"),
        );
    }
    if let Some(c) = measured.foreign {
        let code = u32::from(c);
        findings.add(
            field,
            Reason::TextNotGbk,
            format!("holds U+{code:04X}, which GBK does not have"),
            format!("含 GBK 字符集以外的字符 U+{code:04X}"),
        );
    }
}

pub(super) fn too_long(findings: &mut Findings<'_>, field: Field, length: usize, max: usize) {
    findings.add(
        field,
        Reason::FieldTooLong,
        format!("is {length} bytes long, at most {max} are allowed (GBK bytes)"),
        format!("长度 {length} 字节，超过上限 {max} 字节（按 GBK 字节计）"),
    );
}

/// Checks a code of exactly `length` decimal digits.
pub(super) fn digits(findings: &mut Findings<'_>, field: Field, value: &str, length: usize) {
    if value.len() != length || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        findings.add(
            field,
            Reason::FieldInvalid,
            format!("must be {length} digits"),
            format!("须为 {length} 位数字"),
        );
    }
}

pub(super) fn unknown_value(findings: &mut Findings<'_>, field: Field, value: i32) {
    findings.add(
        field,
        Reason::FieldInvalid,
        format!("{value} is no known value"),
        format!("取值 {value} 未定义"),
    );
}
