//! Red-letter invoices (红字发票): which blue invoice one corrects, and the red-notice number
//! (红字信息表编号). Source: docs/domain.md 3.8, rules 27 and 28. Whether the blue one exists and has
//! enough left needs state, so it is decided with the number.

use super::{
    check::{Limit, Rules, text},
    findings::{Field, Findings},
};
use crate::{
    model::{Color, InvoiceNumber},
    pb::v1 as pb,
    refusal::Reason,
};

const CODE: Field = Field::of("original_code");
const NUMBER: Field = Field::of("original_number");
const NOTICE: Field = Field::of("red_notice");

/// Length of a red-notice number. Unit: digits.
const NOTICE_LEN: usize = 16;

/// The blue invoice that a red one names; a blue one names none.
pub(super) fn original(
    findings: &mut Findings<'_>,
    wire: &pb::InvoiceDraft,
    rules: Rules<'_>,
) -> Option<InvoiceNumber> {
    match rules.color? {
        Color::Blue => {
            only_red(findings, CODE, &wire.original_code);
            only_red(findings, NUMBER, &wire.original_number);
            only_red(findings, NOTICE, &wire.red_notice);
            None
        }
        Color::Red => {
            notice(findings, &wire.red_notice, rules);
            blue_number(findings, wire, rules)
        }
    }
}

pub(super) fn only_red(findings: &mut Findings<'_>, field: Field, value: &str) {
    if !value.is_empty() {
        findings.add(
            field,
            Reason::FieldInvalid,
            "must be empty on a blue invoice",
            "蓝字发票不得填写",
        );
    }
}

fn blue_number(
    findings: &mut Findings<'_>,
    wire: &pb::InvoiceDraft,
    rules: Rules<'_>,
) -> Option<InvoiceNumber> {
    let code = &wire.original_code;
    // Without a kind nobody can say what its codes look like; that it is missing is said already.
    let fits = rules.kind.is_none_or(|kind| rules.profile.kind(kind).fits_code(code));
    if code.is_empty() {
        let (en, zh) = ("a red invoice names its blue one", "红字发票须填写原发票代码");
        findings.add(CODE, Reason::RedOriginalMissing, en, zh);
    } else if !fits {
        let (en, zh) = ("is no code of this kind of invoice", "不是该票种的发票代码");
        findings.add(CODE, Reason::RedOriginalMissing, en, zh);
    }
    let number = InvoiceNumber::parse_number(&wire.original_number);
    if number.is_none() {
        let (en, zh) = ("must be the 8 digits of the blue invoice", "须为原发票的 8 位号码");
        findings.add(NUMBER, Reason::RedOriginalMissing, en, zh);
    }
    Some(InvoiceNumber { code: code.clone(), number: number? })
}

/// Special kinds need a red-notice number, the others have none.
fn notice(findings: &mut Findings<'_>, notice: &str, rules: Rules<'_>) {
    text(findings, NOTICE, notice, Limit::optional(NOTICE_LEN));
    let wrong = match rules.kind {
        None => None,
        Some(_) if rules.profile.leqi.red_confirmation_required => (!notice.is_empty()).then_some(
            ("must be empty: the red confirmation takes its place", "须为空：以红字信息确认单代替"),
        ),
        Some(_) if !rules.is_special() => (!notice.is_empty()).then_some((
            "must be empty: only special kinds have one",
            "仅专用发票填写红字信息表编号",
        )),
        // Too long is said by the rule of lengths, which no profile softens.
        Some(_) if notice.len() > NOTICE_LEN => None,
        Some(_) if !is_digits(notice) => {
            Some(("must be the 16 digits of the red notice", "须为 16 位红字信息表编号"))
        }
        Some(_) if !has_check_digit(notice) => Some((
            "its last digit is not the sum of the others mod 10",
            "末位校验码不正确（前 15 位之和模 10）",
        )),
        Some(_) => None,
    };
    if let Some((en, zh)) = wrong {
        findings.add(NOTICE, Reason::RedNoticeInvalid, en, zh);
    }
}

fn is_digits(notice: &str) -> bool {
    notice.len() == NOTICE_LEN && notice.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the last digit is the sum of the others mod 10. `notice` holds digits only.
fn has_check_digit(notice: &str) -> bool {
    let value = |byte: u8| u32::from(byte.wrapping_sub(b'0'));
    let mut digits = notice.bytes().map(value);
    let check = digits.next_back();
    check == Some(digits.sum::<u32>() % 10)
}
