//! How hard a rule is: defaults in code, and how far a profile may soften each.
//!
//! Three classes. *Fixed* rules always refuse and stand in no profile: later stages, the books and
//! the device rely on what they prove (presence, shape, lengths, signs, the seller, the kind, the
//! sum JSHJ = HJJE + HJSE). *Money* rules may run in `shadow` while platforms move here, but never
//! less: amounts that do not add up must at least be noticed. *Soft* rules are a vendor's
//! reconstructed constants, so a profile may set them to anything. Source: docs/domain.md, "Rules
//! to enforce": R rejects, W warns.

use crate::refusal::{Reason, Severity};
use serde::Deserialize;
use std::collections::BTreeMap;

/// How hard a rule is unless the profile says otherwise, and what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softening {
    /// Without a line in the profile.
    pub default: Severity,
    /// What a line in the profile may say, the hardest first.
    pub allowed: &'static [Severity],
    /// The same in words.
    pub words: &'static str,
}

const FIXED: Softening = Softening {
    default: Severity::Refuse,
    allowed: &[Severity::Refuse],
    words: "left out: it always refuses",
};
const MONEY: Softening = Softening {
    default: Severity::Refuse,
    allowed: &[Severity::Refuse, Severity::Shadow],
    words: "\"refuse\" or \"shadow\", since amounts must add up",
};
const SOFT: Softening = Softening {
    default: Severity::Refuse,
    allowed: &[Severity::Refuse, Severity::Warn, Severity::Shadow, Severity::Off],
    words: "\"refuse\", \"warn\", \"shadow\" or \"off\"",
};
const HINT: Softening = Softening { default: Severity::Warn, ..SOFT };

/// Every rule that is not fixed.
const SOFTENED: &[(Reason, Softening)] = &[
    (Reason::TaxpayerIdChecksum, HINT),
    (Reason::TaxCodeInvalid, SOFT),
    (Reason::RateNotAuthorised, SOFT),
    (Reason::RateOutOfDate, SOFT),
    (Reason::PreferenceInconsistent, SOFT),
    (Reason::QuantityPricePair, SOFT),
    (Reason::LineAmountMismatch, MONEY),
    (Reason::LineTaxMismatch, MONEY),
    (Reason::TotalAmountMismatch, MONEY),
    (Reason::TotalTaxMismatch, MONEY),
    (Reason::DiscountLineOrder, SOFT),
    (Reason::DiscountLineAmount, MONEY),
    (Reason::DifferentialRule, MONEY),
    (Reason::SpecialKindRule, SOFT),
    (Reason::RedNoticeInvalid, SOFT),
    (Reason::RemarkInvalid, SOFT),
    (Reason::OriginInfoMissing, SOFT),
    (Reason::RedConfirmationMissing, SOFT),
    // Found after the number is spent: "refuse" refuses the signer's answer, not the request.
    (Reason::QrInvalid, HINT),
];

/// How far a profile may soften the rule of a reason. A new reason starts out fixed.
#[must_use]
pub fn softening(reason: Reason) -> Softening {
    let row = SOFTENED.iter().find(|(softened, _)| *softened == reason);
    row.map_or(FIXED, |(_, softening)| *softening)
}

/// The `[severity]` table of a profile: what deviates from the defaults, by reason name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Severities(BTreeMap<SoftReason, Severity>);

impl Severities {
    /// What a violation of the rule does.
    #[must_use]
    pub fn of(&self, reason: Reason) -> Severity {
        let set = self.0.get(&SoftReason(reason));
        set.copied().unwrap_or_else(|| softening(reason).default)
    }

    /// Sets one rule.
    #[cfg(test)]
    pub(in crate::contract) fn set(&mut self, reason: Reason, severity: Severity) {
        self.0.insert(SoftReason(reason), severity);
    }

    /// The first line that softens further than its rule allows.
    pub(super) fn too_soft(&self) -> Option<Reason> {
        let mut lines = self.0.iter();
        let line = lines.find(|(reason, set)| !softening(reason.0).allowed.contains(set));
        line.map(|(reason, _)| reason.0)
    }
}

/// A reason that a profile may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct SoftReason(Reason);

impl TryFrom<String> for SoftReason {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = Reason::ALL.iter().copied().find(|reason| reason.name() == name);
        match known {
            Some(reason) if softening(reason).allowed.len() > 1 => Ok(Self(reason)),
            Some(reason) => Err(format!("{reason} always refuses; no profile may soften it")),
            None => Err(format!("no rule's reason is called {name:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_profile_may_say_starts_with_the_hardest_and_holds_the_default() {
        for &reason in Reason::ALL {
            let Softening { default, allowed, .. } = softening(reason);
            assert!(allowed.contains(&default), "{reason}");
            assert!(allowed.is_sorted_by(|one, other| one > other), "{reason}");
        }
    }

    /// The rule the proxy exists for: no profile makes amounts that do not add up pass unnoticed.
    #[test]
    fn money_is_never_switched_off() {
        use Severity::{Refuse, Shadow};
        for (reason, allowed) in [
            (Reason::LineAmountMismatch, &[Refuse, Shadow][..]),
            (Reason::LineTaxMismatch, &[Refuse, Shadow]),
            (Reason::TotalAmountMismatch, &[Refuse, Shadow]),
            (Reason::TotalTaxMismatch, &[Refuse, Shadow]),
            (Reason::DiscountLineAmount, &[Refuse, Shadow]),
            (Reason::DifferentialRule, &[Refuse, Shadow]),
            (Reason::TotalSumMismatch, &[Refuse]),
            (Reason::AmountSign, &[Refuse]),
        ] {
            assert_eq!(softening(reason).allowed, allowed, "{reason}");
        }
    }
}
