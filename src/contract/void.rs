//! Whether an issued invoice may be voided (作废). Source: docs/domain.md 3.9; rule 39. The blank
//! void (空白作废) of a number that was never signed is another thing, and the operator's.

use crate::{
    model::{CstTime, Kind},
    refusal::{Reason, Refusal},
};
use chrono::Datelike as _;

/// What a void is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoidCase {
    /// The invoice's kind.
    pub kind: Kind,
    /// When it was issued.
    pub issued_at: CstTime,
    /// Whether the report (抄报) of its period is made.
    pub reported: bool,
    /// Whether its signature was found wrong (验签失败).
    pub signing_failed: bool,
}

/// Judges a void at `now`.
///
/// A paper invoice may be voided in the month of its issue (China Standard Time) until it is
/// reported; an electronic one only when its signing failed, else a red-letter invoice corrects it.
///
/// # Errors
/// `VOID_NOT_ALLOWED` with what forbids it.
pub fn may_void(case: VoidCase, now: CstTime) -> Result<(), Refusal> {
    let month = |at: CstTime| (at.day().year(), at.day().month());
    let hint = if !is_paper(case.kind) {
        if case.signing_failed {
            return Ok(());
        }
        "an electronic invoice is voided only when its signing failed; issue a red one"
    } else if case.reported {
        "the invoice is reported; issue a red one"
    } else if month(case.issued_at) != month(now) {
        "the invoice is of another month; issue a red one"
    } else {
        return Ok(());
    };
    Err(Refusal::new(Reason::VoidNotAllowed, hint))
}

fn is_paper(kind: Kind) -> bool {
    match kind {
        Kind::SpecialPaper | Kind::NormalPaper | Kind::Roll => true,
        Kind::ENormal | Kind::ESpecial => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, now: &str, (reported, signing_failed): (bool, bool), expect: bool) {
        let at = |text| CstTime::parse(text).unwrap();
        let issued_at = at("2026-10-31T23:59:59+08:00");
        let verdict = may_void(VoidCase { kind, issued_at, reported, signing_failed }, at(now));
        let reason = verdict.map_err(|refusal| refusal.reason);
        let expect = if expect { Ok(()) } else { Err(Reason::VoidNotAllowed) };
        assert_eq!(reason, expect, "{kind:?} {now}");
    }

    #[test]
    fn paper_is_voided_in_its_month_of_china_before_it_is_reported() {
        for kind in [Kind::SpecialPaper, Kind::NormalPaper, Kind::Roll] {
            check(kind, "2026-10-31T15:59:59Z", (false, false), true);
            check(kind, "2026-10-31T16:00:00Z", (false, false), false);
            check(kind, "2026-10-01T00:00:00+08:00", (false, false), true);
            check(kind, "2027-10-31T23:59:59+08:00", (false, false), false);
            check(kind, "2026-10-31T15:59:59Z", (true, false), false);
            check(kind, "2026-11-01T00:00:00+08:00", (false, true), false);
        }
    }

    #[test]
    fn an_electronic_invoice_is_voided_only_when_its_signing_failed() {
        for kind in [Kind::ENormal, Kind::ESpecial] {
            check(kind, "2026-10-31T15:59:59Z", (false, false), false);
            check(kind, "2026-10-31T15:59:59Z", (false, true), true);
            check(kind, "2026-12-31T15:59:59Z", (true, true), true);
        }
    }
}
