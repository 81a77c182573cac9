//! Rate and preference of a line (税率, 优惠政策): authorised, valid on the day of issue, and told the
//! same by all its fields. Source: docs/domain.md 3.4; rules 17, 18 and 27.

use super::{
    lines::LineCheck,
    profile::{RatePeriod, RateVerdict},
};
use crate::{
    model::Color,
    pb::v1::ZeroRateKind,
    refusal::{Reason, Severity},
};
use chrono::NaiveDate;

impl LineCheck<'_, '_> {
    /// Checks the rate against the dated list. Answers the last day on which it stays valid, when
    /// it ends and refuses then.
    pub(super) fn rate(&mut self, day: NaiveDate) -> Option<NaiveDate> {
        const FIELD: &str = "rate_millionths";
        let (rate, rates) = (self.line.rate_millionths, &self.rules.profile.rates);
        if !(0..=rates.max_millionths).contains(&rate) {
            let (field, max) = (self.field(FIELD), rates.max_millionths);
            self.findings.add(
                field,
                Reason::FieldInvalid,
                format!("must be 0 to {max} millionths"),
                format!("须在 0 至 {max}（百万分之一）之间"),
            );
            return None;
        }
        if rate == 0 && self.rules.is_special() {
            let (en, zh) = ("a special invoice has no zero rate", "专用发票不得使用零税率");
            self.add(FIELD, Reason::SpecialKindRule, en, zh);
        }
        // The device's list is the last word; a red invoice carries the rate of its blue one.
        let listed = self.rules.authorised_rates;
        let red = self.rules.color == Some(Color::Red);
        if !red && !listed.is_empty() && listed.binary_search(&rate).is_err() {
            let (en, zh) = ("is not on the device's list", "该税率不在设备核定税率之内");
            self.add(FIELD, Reason::RateNotAuthorised, en, zh);
            return None;
        }
        match rates.judge(rate, day) {
            RateVerdict::Valid(period) => self.valid_rate(period),
            // A red invoice carries the rate of its blue one, which may be an old one.
            RateVerdict::OutOfDate { was_valid: true } if self.rules.color == Some(Color::Red) => {
                None
            }
            RateVerdict::OutOfDate { was_valid } => {
                let (en, zh) = if was_valid {
                    ("is valid no more on the day of issue", "该税率在开票日已失效")
                } else {
                    ("is not valid yet on the day of issue", "该税率在开票日尚未生效")
                };
                self.add(FIELD, Reason::RateOutOfDate, en, zh);
                None
            }
            RateVerdict::Unknown => {
                let (en, zh) = ("is no authorised rate", "该税率未核定");
                self.add(FIELD, Reason::RateNotAuthorised, en, zh);
                None
            }
        }
    }

    fn valid_rate(&mut self, period: &RatePeriod) -> Option<NaiveDate> {
        if period.alone && self.mixed_rates {
            let (en, zh) = ("may not stand beside another rate", "该税率不得与其他税率同开");
            self.add("rate_millionths", Reason::RateNotAuthorised, en, zh);
        }
        // A red invoice may carry the rate after its end too; and a rule that would not refuse then
        // sets no end now.
        let ends = self.rules.color == Some(Color::Blue)
            && self.findings.severity(Reason::RateOutOfDate) == Severity::Refuse;
        period.until.filter(|_| ends).map(|until| until.0)
    }

    /// Checks that zero rate, preference and their texts tell one story.
    pub(super) fn preference(&mut self) {
        const KIND: &str = "zero_rate_kind";
        let Ok(kind) = ZeroRateKind::try_from(self.line.zero_rate_kind) else {
            let (field, value) = (self.field(KIND), self.line.zero_rate_kind);
            super::check::unknown_value(self.findings, field, value);
            return;
        };
        let (zero, used) = (self.line.rate_millionths == 0, self.line.preference);
        if zero && kind == ZeroRateKind::Unspecified {
            self.unlike(KIND, "a zero rate needs its kind", "零税率须填写零税率标识");
        }
        if !zero && kind != ZeroRateKind::Unspecified {
            self.unlike(KIND, "only a zero rate has a kind", "非零税率不得填写零税率标识");
        }
        match kind {
            ZeroRateKind::Exempt | ZeroRateKind::NotTaxed if !used => self.unlike(
                "preference",
                "exempt and not taxed are preferences",
                "免税、不征税须标识优惠政策",
            ),
            ZeroRateKind::Ordinary if used => self.unlike(
                "preference",
                "an ordinary zero rate is no preference",
                "普通零税率不得标识优惠政策",
            ),
            ZeroRateKind::Unspecified
            | ZeroRateKind::Export
            | ZeroRateKind::Exempt
            | ZeroRateKind::NotTaxed
            | ZeroRateKind::Ordinary => {}
        }
        self.preference_text(kind);
    }

    fn preference_text(&mut self, kind: ZeroRateKind) {
        const FIELD: &str = "preference_text";
        let known = &self.rules.profile.preferences;
        let text = &self.line.preference_text;
        match (self.line.preference, text.is_empty()) {
            (false, true) => {}
            (true, true) => self.unlike(FIELD, "a preference has its text", "须填写优惠政策内容"),
            (false, false) => {
                self.unlike(FIELD, "must be empty without a preference", "未用优惠政策时不得填写");
            }
            (true, false) if !known.texts.contains(text) => {
                self.unlike(FIELD, "is no known preference", "优惠政策内容不在列表中");
            }
            (true, false) => {
                let needs = if *text == known.exempt_text {
                    ZeroRateKind::Exempt
                } else if *text == known.not_taxed_text {
                    ZeroRateKind::NotTaxed
                } else {
                    kind
                };
                if kind != needs {
                    let (en, zh) = ("is not what zero_rate_kind says", "与零税率标识不一致");
                    self.unlike(FIELD, en, zh);
                }
            }
        }
    }

    fn unlike(&mut self, name: &'static str, en: &str, zh: &str) {
        self.add(name, Reason::PreferenceInconsistent, en, zh);
    }
}
