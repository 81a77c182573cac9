//! Lines (明细): presence and texts, quantity and price, amount and tax, signs, discounts. Source:
//! docs/domain.md 3.5 and 3.6. Each line is judged by its own numbers; sums are in `totals`, rates
//! and preferences in `rates`.

use super::{
    check::{Limit, Rules, text, too_long, unknown_value},
    decimal::{Decimal, Parts, tax_fen},
    differential,
    findings::{Field, Findings},
    profile::{Profile, TAX_CODE_DIGITS},
};
use crate::{
    model::{Color, Kind},
    pb::v1 as pb,
    refusal::Reason,
};
use chrono::NaiveDate;

/// Checks the count and every line, at most as many as the profile allows. Answers the last day on
/// which every rate stays valid, when one of them ends.
pub(super) fn all(
    findings: &mut Findings<'_>,
    wire: &pb::InvoiceDraft,
    rules: Rules<'_>,
    day: NaiveDate,
) -> Option<NaiveDate> {
    let (lines, max) = (&wire.lines, lines_max(rules));
    if lines.is_empty() || lines.len() > max {
        findings.add(
            Field::of("lines"),
            Reason::LineCount,
            format!("{} lines; an invoice of this kind has 1 to {max}", lines.len()),
            format!("共 {} 行，该票种明细须为 1 至 {max} 行", lines.len()),
        );
    }
    let first_rate = lines.first().map(|line| line.rate_millionths);
    let mixed_rates = lines.iter().any(|line| Some(line.rate_millionths) != first_rate);
    let mut before = None;
    let mut last_day: Option<NaiveDate> = None;
    for (index, line) in lines.iter().take(max).enumerate() {
        if findings.is_full() {
            return None;
        }
        let next = lines.get(index.saturating_add(1));
        let mut check = LineCheck { findings, rules, index, line, mixed_rates };
        check.texts();
        check.numbers(wire);
        let until = check.rate(day);
        last_day = [last_day, until].into_iter().flatten().min();
        check.preference();
        check.kind(before, next);
        before = Some(line);
    }
    last_day
}

/// Without a kind the widest limit holds, so that a missing kind draws no second complaint.
fn lines_max(rules: Rules<'_>) -> usize {
    let of = |kind| rules.profile.kind(kind).lines_max;
    let widest = || Kind::ALL.into_iter().map(of).max();
    rules.kind.map(of).or_else(widest).unwrap_or_default()
}

/// One line under check; `'f` is the time of the findings.
pub(super) struct LineCheck<'a, 'f> {
    pub(super) findings: &'a mut Findings<'f>,
    pub(super) rules: Rules<'a>,
    /// From 0.
    index: usize,
    pub(super) line: &'a pb::InvoiceLine,
    /// The lines of the invoice have more than one rate.
    pub(super) mixed_rates: bool,
}

impl LineCheck<'_, '_> {
    pub(super) fn field(&self, name: &'static str) -> Field {
        Field::of_line(self.index, name)
    }

    pub(super) fn add(&mut self, name: &'static str, reason: Reason, en: &str, zh: &str) {
        let field = self.field(name);
        self.findings.add(field, reason, en, zh);
    }

    fn text(&mut self, name: &'static str, value: &str, limit: Limit) {
        let field = self.field(name);
        text(self.findings, field, value, limit);
    }

    fn texts(&mut self) {
        let (line, lengths) = (self.line, &self.rules.profile.lengths);
        self.tax_code();
        self.text("own_code", &line.own_code, Limit::optional(lengths.own_code));
        self.text("name", &line.name, Limit::required(lengths.item_name));
        self.text("specification", &line.specification, Limit::optional(lengths.specification));
        self.text("unit", &line.unit, Limit::optional(lengths.unit));
        let preference = Limit::optional(lengths.preference_text);
        self.text("preference_text", &line.preference_text, preference);
    }

    /// The code's shape, and its place in the profile's table if it has one. Its length has a
    /// rule of its own that no profile softens, so that nothing endless gets
    /// through.
    fn tax_code(&mut self) {
        let code = &self.line.tax_code;
        self.text("tax_code", code, Limit::required(TAX_CODE_DIGITS));
        if code.is_empty() || code.len() > TAX_CODE_DIGITS {
            return;
        }
        let digits = code.bytes().all(|byte| byte.is_ascii_digit());
        if code.len() != TAX_CODE_DIGITS || !digits || code.bytes().all(|byte| byte == b'0') {
            let (en, zh) = ("must be a code of 19 digits", "须为 19 位商品编码");
            return self.add("tax_code", Reason::TaxCodeInvalid, en, zh);
        }
        self.in_table(code);
    }

    /// Quantity times price is the amount, amount times rate is the tax, each within its tolerance.
    fn numbers(&mut self, wire: &pb::InvoiceDraft) {
        let (line, amounts) = (self.line, &self.rules.profile.amounts);
        let quantity = self.decimal("quantity", &line.quantity);
        let price = self.decimal("unit_price", &line.unit_price);
        if line.quantity.is_empty() != line.unit_price.is_empty() {
            let name = if line.quantity.is_empty() { "quantity" } else { "unit_price" };
            self.add(
                name,
                Reason::QuantityPricePair,
                "quantity and unit price are given both or not at all",
                "数量和单价须同时填写或同时为空",
            );
        }
        if let (Some(quantity), Some(price)) = (quantity, price) {
            let expected = quantity.times_as_fen(price);
            if differs(expected, line.amount_fen, amounts.line_amount_tolerance_fen) {
                let field = self.field("amount_fen");
                let reason = Reason::LineAmountMismatch;
                self.findings.differs(field, reason, expected, line.amount_fen);
            }
        }
        self.tax(wire);
        amount_in_range(
            self.findings,
            self.field("amount_fen"),
            line.amount_fen,
            self.rules.profile,
        );
        amount_in_range(self.findings, self.field("tax_fen"), line.tax_fen, self.rules.profile);
    }

    /// A single differential line is taxed on what remains after the deduction; what several would
    /// be taxed on is not defined, and they are refused as a whole.
    fn tax(&mut self, wire: &pb::InvoiceDraft) {
        let line = self.line;
        let expected = match (self.rules.differential, wire.lines.len()) {
            (false, _) => Some(tax_fen(line.amount_fen, line.rate_millionths)),
            (true, 1) => differential::tax_fen(wire, line, self.rules),
            (true, _) => None,
        };
        let Some(expected) = expected else { return };
        if differs(expected, line.tax_fen, self.rules.profile.amounts.line_tax_tolerance_fen) {
            let field = self.field("tax_fen");
            self.findings.differs(field, Reason::LineTaxMismatch, expected, line.tax_fen);
        }
    }

    /// Reads a quantity or price; `None` when it is empty or wrong.
    fn decimal(&mut self, name: &'static str, value: &str) -> Option<Decimal> {
        if value.is_empty() {
            return None;
        }
        let field = self.field(name);
        let max = self.rules.profile.lengths.number;
        if value.len() > max {
            too_long(self.findings, field, value.len(), max);
        }
        let Some(parts) = Parts::parse(value) else {
            self.add(
                name,
                Reason::FieldInvalid,
                "must be a plain decimal such as 12.5",
                "须为普通十进制数，例如 12.5",
            );
            return None;
        };
        let (places, places_max) = (parts.fraction.len(), self.rules.profile.lines.decimals_max);
        if places > places_max {
            self.findings.add(
                field,
                Reason::QuantityPricePair,
                format!("has {places} decimal places, at most {places_max} are allowed"),
                format!("小数位数 {places} 位，超过上限 {places_max} 位"),
            );
        }
        Decimal::parse(parts)
    }

    fn kind(&mut self, before: Option<&pb::InvoiceLine>, next: Option<&pb::InvoiceLine>) {
        match pb::LineKind::try_from(self.line.kind) {
            Ok(pb::LineKind::Unspecified | pb::LineKind::Normal) => self.sold(),
            Ok(pb::LineKind::Discounted) => {
                self.sold();
                if !next.is_some_and(is_discount) {
                    self.add(
                        "kind",
                        Reason::DiscountLineOrder,
                        "the line after a discounted line must be its discount line",
                        "被折扣行之后须紧跟其折扣行",
                    );
                }
            }
            Ok(pb::LineKind::Discount) => self.discount(before),
            Err(_) => {
                let field = self.field("kind");
                unknown_value(self.findings, field, self.line.kind);
            }
        }
    }

    /// What is sold has a positive amount on a blue invoice, a negative one on a red.
    fn sold(&mut self) {
        let (line, rules) = (self.line, self.rules);
        if !rules.is_sold(line.amount_fen) {
            let (en, zh) = rules.sold_text();
            self.add("amount_fen", Reason::AmountSign, en, zh);
        }
        if rules.is_returned(line.tax_fen) {
            let (en, zh) = rules.tax_text();
            self.add("tax_fen", Reason::AmountSign, en, zh);
        }
        let blue = rules.color == Some(Color::Blue);
        for (name, value) in [("quantity", &line.quantity), ("unit_price", &line.unit_price)] {
            let Some(number) = Parts::parse(value).and_then(Decimal::parse) else { continue };
            if blue && !number.is_positive() {
                let (en, zh) =
                    ("must be above zero on a blue invoice", "蓝字发票的数量和单价须大于零");
                self.add(name, Reason::AmountSign, en, zh);
            } else if number.is_zero() {
                self.add(name, Reason::AmountSign, "must not be zero", "不得为零");
            }
        }
    }

    fn discount(&mut self, before: Option<&pb::InvoiceLine>) {
        let (line, rules) = (self.line, self.rules);
        if rules.color == Some(Color::Red) && !rules.profile.lines.red_discount {
            self.add(
                "kind",
                Reason::DiscountLineOrder,
                "a red invoice has no discount lines",
                "红字发票不得有折扣行",
            );
        }
        if rules.profile.lines.bare_discount {
            self.bare();
        }
        self.discount_signs();
        let Some(discounted) = before.filter(|before| is_discounted(before)) else {
            return self.add(
                "kind",
                Reason::DiscountLineOrder,
                "a discount line must directly follow the line it discounts",
                "折扣行须紧跟被折扣行",
            );
        };
        let (en, zh) = ("must be the discounted line's", "须与被折扣行一致");
        let same = [
            ("name", line.name == discounted.name),
            ("tax_code", line.tax_code == discounted.tax_code),
            ("rate_millionths", line.rate_millionths == discounted.rate_millionths),
        ];
        for (name, _) in same.into_iter().filter(|(_, same)| !same) {
            self.add(name, Reason::DiscountLineOrder, en, zh);
        }
        if line.amount_fen.unsigned_abs() > discounted.amount_fen.unsigned_abs() {
            let field = self.field("amount_fen");
            let most = discounted.amount_fen;
            self.findings.add(
                field,
                Reason::DiscountLineAmount,
                format!("discounts {} of {most} fen", line.amount_fen.unsigned_abs()),
                format!("折扣额 {} 分超过被折扣行金额 {most} 分", line.amount_fen.unsigned_abs()),
            );
        }
    }

    /// A discount has the other sign: negative on a blue invoice.
    fn discount_signs(&mut self) {
        let (line, rules) = (self.line, self.rules);
        if line.amount_fen == 0 && rules.color.is_some() {
            self.add("amount_fen", Reason::AmountSign, "must not be zero", "金额不得为零");
        } else if rules.is_sold(line.amount_fen) && rules.color.is_some() {
            let (en, zh) = (
                "must have the other sign than the line it discounts",
                "折扣行金额须与被折扣行反号",
            );
            self.add("amount_fen", Reason::DiscountLineAmount, en, zh);
        }
        if line.tax_fen != 0 && rules.color.is_some() && !rules.is_returned(line.tax_fen) {
            let (en, zh) = (
                "must have the other sign than the line it discounts",
                "折扣行税额须与被折扣行反号",
            );
            self.add("tax_fen", Reason::AmountSign, en, zh);
        }
        for (name, value) in [("quantity", &line.quantity), ("unit_price", &line.unit_price)] {
            let number = Parts::parse(value).and_then(Decimal::parse);
            if number.is_some_and(Decimal::is_zero) {
                self.add(name, Reason::AmountSign, "must not be zero", "不得为零");
            }
        }
    }

    fn bare(&mut self) {
        let line = self.line;
        let fields = [
            ("quantity", &line.quantity),
            ("unit_price", &line.unit_price),
            ("specification", &line.specification),
            ("unit", &line.unit),
        ];
        for (name, _) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            let (en, zh) = ("must be empty on a discount line", "折扣行不得填写");
            self.add(name, Reason::FieldInvalid, en, zh);
        }
    }
}

/// An amount that the proxy is willing to add up.
pub(super) fn amount_in_range(
    findings: &mut Findings<'_>,
    field: Field,
    amount_fen: i64,
    profile: &Profile,
) {
    let max = profile.amounts.amount_max_fen;
    if !(-max..=max).contains(&amount_fen) {
        findings.add(
            field,
            Reason::FieldInvalid,
            format!("must be within {max} fen of zero"),
            format!("绝对值不得超过 {max} 分"),
        );
    }
}

/// Whether two amounts in fen are further apart than the tolerance.
pub(super) fn differs(expected: i128, got: i64, tolerance_fen: u64) -> bool {
    expected.abs_diff(i128::from(got)) > u128::from(tolerance_fen)
}

fn is_discount(line: &pb::InvoiceLine) -> bool {
    line.kind == i32::from(pb::LineKind::Discount)
}

fn is_discounted(line: &pb::InvoiceLine) -> bool {
    line.kind == i32::from(pb::LineKind::Discounted)
}
