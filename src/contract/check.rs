//! `Draft` → `Checked`: the rules of a profile over one draft, in the order of its fields. Pure;
//! finds everything at once; edits nothing.
//!
//! Source: docs/domain.md, "Rules to enforce", rows 10 to 15 and 19 to 25. Rules that need state
//! (limits, stock, periods) are the numbering actor's.

use super::{
    Checked, Draft, Target,
    findings::{Field, Findings},
    lines, party,
    profile::Profile,
    text::measure,
    totals,
};
use crate::{
    model::{Color, Fen, Kind, Totals},
    pb::v1 as pb,
    refusal::{Reason, Refusal},
    registry::Device,
};

/// Longest device id. Unit: characters.
const DEVICE_ID_MAX: usize = 32;

/// What the rules of lines and totals depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// The device's profile.
    pub(super) profile: &'a Profile,
    /// The sign rules of a blue invoice hold.
    pub(super) blue: bool,
}

/// Checks a draft against its device's profile.
///
/// # Errors
/// Every violated rule, at most 64; the refusal's reason is the first one's.
pub fn check(draft: Draft, target: Target<'_>, profile: &Profile) -> Result<Checked, Refusal> {
    let mut findings = Findings::default();
    let wire = &draft.wire;
    let kind = kind(&mut findings, wire.kind, target.device);
    let color = color(&mut findings, wire.color);
    party::seller(&mut findings, wire.seller.as_ref(), target.taxpayer, profile);
    party::buyer(&mut findings, wire.buyer.as_ref(), kind, profile);
    header(&mut findings, wire, kind, profile);
    let rules = Rules { profile, blue: color == Some(Color::Blue) };
    totals::signs(&mut findings, wire, rules);
    lines::all(&mut findings, &wire.lines, rules);
    totals::sums(&mut findings, wire, profile);
    if let Some(refusal) = findings.into_refusal() {
        return Err(refusal);
    }
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
        valid_until: None,
    })
}

fn kind(findings: &mut Findings, value: i32, device: &Device) -> Option<Kind> {
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

fn color(findings: &mut Findings, value: i32) -> Option<Color> {
    const FIELD: Field = Field::of("color");
    match pb::InvoiceColor::try_from(value) {
        Ok(pb::InvoiceColor::Blue) => Some(Color::Blue),
        Ok(pb::InvoiceColor::Red) => {
            findings.add(
                FIELD,
                Reason::OperationNotAllowed,
                "red-letter invoices are not offered yet",
                "暂不支持红字发票",
            );
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
fn header(findings: &mut Findings, wire: &pb::InvoiceDraft, kind: Option<Kind>, profile: &Profile) {
    let (lengths, required) = (&profile.lengths, &profile.required);
    text(
        findings,
        Field::of("drawer"),
        &wire.drawer,
        Limit { max: lengths.person, required: required.drawer },
    );
    text(findings, Field::of("payee"), &wire.payee, Limit::optional(lengths.person));
    text(findings, Field::of("checker"), &wire.checker, Limit::optional(lengths.person));
    // Without a kind the widest limit holds, so that a missing kind draws no second complaint.
    let widest = || Kind::ALL.map(|kind| profile.remark.of(kind)).into_iter().max();
    let remark = kind.map(|kind| profile.remark.of(kind)).or_else(widest).unwrap_or_default();
    text(findings, Field::of("remark"), &wire.remark, Limit::optional(remark));
    tax_method(findings, wire);
    let version = Limit { max: lengths.tax_code_version, required: required.tax_code_version };
    text(findings, Field::of("tax_code_version"), &wire.tax_code_version, version);
    if !wire.special_kind.is_empty() {
        digits(findings, Field::of("special_kind"), &wire.special_kind, 2);
    }
    if wire.color == i32::from(pb::InvoiceColor::Blue) {
        only_red(findings, Field::of("original_code"), &wire.original_code);
        only_red(findings, Field::of("original_number"), &wire.original_number);
        only_red(findings, Field::of("red_notice"), &wire.red_notice);
    }
    device_id(findings, &wire.device_id);
    text(findings, Field::of("terminal"), &wire.terminal, Limit::optional(lengths.terminal));
}

fn tax_method(findings: &mut Findings, wire: &pb::InvoiceDraft) {
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
        Ok(pb::TaxMethod::Reduced | pb::TaxMethod::Differential) => findings.add(
            FIELD,
            Reason::OperationNotAllowed,
            "reduced and differential taxing are not offered yet",
            "暂不支持减按计征和差额征税",
        ),
        Err(_) => unknown_value(findings, FIELD, wire.tax_method),
    }
}

fn only_red(findings: &mut Findings, field: Field, value: &str) {
    if !value.is_empty() {
        findings.add(
            field,
            Reason::FieldInvalid,
            "must be empty on a blue invoice",
            "蓝字发票不得填写",
        );
    }
}

fn device_id(findings: &mut Findings, id: &str) {
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
pub(super) fn text(findings: &mut Findings, field: Field, value: &str, limit: Limit) {
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

pub(super) fn too_long(findings: &mut Findings, field: Field, length: usize, max: usize) {
    findings.add(
        field,
        Reason::FieldTooLong,
        format!("is {length} bytes long, at most {max} are allowed (GBK bytes)"),
        format!("长度 {length} 字节，超过上限 {max} 字节（按 GBK 字节计）"),
    );
}

/// Checks a code of exactly `length` decimal digits.
pub(super) fn digits(findings: &mut Findings, field: Field, value: &str, length: usize) {
    if value.len() != length || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        findings.add(
            field,
            Reason::FieldInvalid,
            format!("must be {length} digits"),
            format!("须为 {length} 位数字"),
        );
    }
}

pub(super) fn unknown_value(findings: &mut Findings, field: Field, value: i32) {
    findings.add(
        field,
        Reason::FieldInvalid,
        format!("{value} is no known value"),
        format!("取值 {value} 未定义"),
    );
}
