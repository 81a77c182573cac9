//! Codes of the legacy contracts: reason → code, per family of dialects. No code here can be taken
//! for success or "in progress". Source: docs/domain.md (b), last column; where a family is not
//! known to have a code of its own, its general failure stands.

use super::{
    dialect::Dialect,
    request::{code_of_element, element_of},
};
use crate::refusal::{Reason, Refusal};

/// General failure of the platform and of COMMON bodies.
const FAILED: &str = "9999";
/// General failure of component and server.
const DEVICE_FAILED: &str = "-101";

/// Codes of one reason: Aisino platform; COMMON bodies (Baiwang and front-end vendors); component
/// and tax server.
pub(super) struct Codes(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str);

/// The codes of a reason.
pub(super) fn codes(reason: Reason) -> Codes {
    use Reason as R;
    let (platform, common, device) = match reason {
        R::PlatformCertUnknown => ("9010", FAILED, DEVICE_FAILED),
        R::PlatformCertSuspended => ("9010", FAILED, DEVICE_FAILED),
        R::PlatformNotRegistered => ("9001", FAILED, DEVICE_FAILED),
        R::PlatformCertRevoked => ("9010", FAILED, "97"),
        R::PlatformCertExpired => ("9010", FAILED, "103"),
        R::PlatformSuspended => ("9001", FAILED, DEVICE_FAILED),
        R::StaleRequest => ("9006", FAILED, DEVICE_FAILED),
        R::ReplayedRequest => ("9007", FAILED, DEVICE_FAILED),
        R::SignatureInvalid | R::DigestMismatch => ("9010", FAILED, DEVICE_FAILED),
        R::OperationNotAllowed => ("9002", "2000", DEVICE_FAILED),
        R::TaxpayerNotBound | R::TaxpayerForbidden => ("9104", "9001", DEVICE_FAILED),
        R::RateLimited | R::SessionLimit | R::Overloaded | R::Draining => {
            ("9009", "9007", DEVICE_FAILED)
        }
        R::MalformedMessage | R::EncodingMismatch | R::DuplicateField => {
            ("9996", "9996", DEVICE_FAILED)
        }
        R::EncryptionUnsupported => ("9010", "9996", DEVICE_FAILED),
        R::FieldMissing | R::FieldInvalid => ("9100", "4100", DEVICE_FAILED),
        R::DecimalFormat | R::DecimalPrecision => ("9100", "9997", DEVICE_FAILED),
        R::TaxIncludedUnsupported => ("9997", "9997", DEVICE_FAILED),
        R::FieldTooLong | R::TextNotGbk => ("9100", "4100", "-10321"),
        R::TaxpayerIdFormat | R::TaxpayerIdChecksum => ("9104", "4100", "-10322"),
        R::SellerMismatch => ("9104", "4100", "-10315"),
        R::KindNotApproved => ("9100", "4100", "-10308"),
        R::TaxCodeInvalid => ("9213", "9997", DEVICE_FAILED),
        R::RateNotAuthorised | R::RateOutOfDate => ("9206", "9997", "-10310"),
        R::PreferenceInconsistent => ("9214", "9997", DEVICE_FAILED),
        R::DifferentialRule | R::SpecialKindRule => ("9100", "9997", DEVICE_FAILED),
        R::RedNoticeInvalid => ("9100", "9997", DEVICE_FAILED),
        R::RedOriginalMissing => ("9117", "9997", DEVICE_FAILED),
        R::RedOriginalUnknown | R::RedPeriod => ("9137", "9997", DEVICE_FAILED),
        R::RedExceedsBalance => ("9235", "9997", DEVICE_FAILED),
        R::RedAlreadyFull => ("9135", "9997", DEVICE_FAILED),
        R::RemarkInvalid => ("9134", "9997", DEVICE_FAILED),
        R::QuantityPricePair => ("9204", "4100", DEVICE_FAILED),
        R::LineAmountMismatch => ("9204", "9997", DEVICE_FAILED),
        R::LineTaxMismatch => ("9209", "9997", DEVICE_FAILED),
        R::TotalAmountMismatch | R::TotalSumMismatch => ("9112", "9997", DEVICE_FAILED),
        R::TotalTaxMismatch => ("9142", "9997", DEVICE_FAILED),
        R::AmountSign => ("9112", "9997", DEVICE_FAILED),
        R::DiscountLineOrder => ("9145", "9997", DEVICE_FAILED),
        R::DiscountLineAmount => ("9146", "9997", DEVICE_FAILED),
        R::LineCount => ("9122", "4100", DEVICE_FAILED),
        other => return state_codes(other),
    };
    Codes(platform, common, device)
}

/// The codes of what the state refuses. Where a family knows none, its general failure stands.
fn state_codes(reason: Reason) -> Codes {
    use Reason as R;
    let (platform, common, device) = match reason {
        R::SerialConflict => ("9990", "9990", "-10324"),
        R::SerialClosed | R::NotIssued => ("8001", "8001", DEVICE_FAILED),
        R::ClockSkew => (FAILED, "9998", "-10312"),
        R::SingleLimitExceeded => (FAILED, "9998", "-10306"),
        R::CumulativeLimitExceeded => (FAILED, "9998", DEVICE_FAILED),
        R::PeriodLocked => (FAILED, "9998", "-10305"),
        R::OfflineTime | R::OfflineCount | R::OfflineAmount | R::UploadDeadline => {
            (FAILED, "9998", DEVICE_FAILED)
        }
        R::NumberMismatch => ("1003", "1003", "-10311"),
        R::DevicePinLocked | R::DeviceCertInvalid => (FAILED, "9998", DEVICE_FAILED),
        R::QuotaExhausted => (FAILED, "9998", DEVICE_FAILED),
        R::OriginInfoMissing | R::RedConfirmationMissing => ("9100", "9997", DEVICE_FAILED),
        R::NoNumbers => ("1002", "1002", "-10311"),
        R::SegmentOverlap => (FAILED, "1003", DEVICE_FAILED),
        R::SeriesFrozen | R::SeriesBacklog => (FAILED, "9998", DEVICE_FAILED),
        R::DeviceUnavailable => (FAILED, "9998", DEVICE_FAILED),
        R::DeviceAmbiguous => (FAILED, "4100", DEVICE_FAILED),
        R::SignerAnswerInvalid => ("8009", "8009", DEVICE_FAILED),
        R::NotFound => (FAILED, "9001", DEVICE_FAILED),
        R::StoreFull | R::StoreReadOnly | R::BackupFailed => ("9009", "8010", DEVICE_FAILED),
        R::NotBuilt => ("9002", "2000", DEVICE_FAILED),
        // A serial in progress and an unknown outcome are never answered: they are in doubt.
        _ => (FAILED, FAILED, DEVICE_FAILED),
    };
    Codes(platform, common, device)
}

/// The code of a refusal: on the platform that of its first violation's field, if the field has
/// one and the reason says no more than that it is wrong; else the reason's.
#[must_use]
pub(super) fn code(refusal: &Refusal, dialect: Dialect) -> &'static str {
    let Codes(platform, common, device) = codes(refusal.reason);
    match dialect {
        Dialect::Platform | Dialect::PlatformOlder => {
            let field =
                refusal.violations.first().and_then(|first| of_field(&first.field, dialect));
            if platform == "9100" { field.unwrap_or(platform) } else { platform }
        }
        Dialect::Common => common,
        Dialect::Component | Dialect::Server => device,
    }
}

fn of_field(field: &str, dialect: Dialect) -> Option<&'static str> {
    let of_draft = element_of(field, dialect).map(|(_, code)| code);
    of_draft.or_else(|| code_of_element(field, dialect)).filter(|code| !code.is_empty())
}

/// Letters of a message; longer ones are cut. The contracts allow about 200.
const MESSAGE_MAX: usize = 200;
/// Violations that a message tells.
const TOLD_MAX: usize = 3;

/// The text of a refusal: its reason, then what is wrong, with the caller's own element names.
#[must_use]
pub(super) fn message(refusal: &Refusal, dialect: Dialect) -> String {
    let mut text = format!("[{}] ", refusal.reason);
    if refusal.violations.is_empty() {
        text.push_str(&refusal.hint);
    }
    for (index, violation) in refusal.violations.iter().take(TOLD_MAX).enumerate() {
        if index > 0 {
            text.push('；');
        }
        text.push_str(&named(&violation.field, dialect));
        text.push('：');
        text.push_str(&violation.zh);
    }
    if let Some(more) = refusal.violations.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("；另有 {more} 处"));
    }
    text.chars().take(MESSAGE_MAX).collect()
}

/// A field path of the contract with the caller's element: `draft.lines[3].tax_fen` is `[3]/SE`.
/// Paths of elements stay as they are.
fn named(field: &str, dialect: Dialect) -> String {
    let Some((element, _)) = element_of(field, dialect) else { return field.to_owned() };
    match field.strip_prefix("draft.lines").and_then(|line| line.split_once('.')) {
        Some((index, _)) => format!("{index}/{element}"),
        None => element.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::Doubt;
    use crate::refusal::{Severity, Violation};

    #[test]
    fn no_refusal_looks_like_success_or_in_progress() {
        let taken = ["0", "00", "0000", "00000000", "0001", "1000", "4007", "4011", "1001"];
        for reason in Reason::ALL {
            for dialect in Dialect::ALL {
                let code = code(&Refusal::new(*reason, ""), dialect);
                assert!(!taken.contains(&code), "{reason} {dialect:?} {code}");
                assert_ne!(dialect.in_doubt(), Doubt::Code(code), "{reason}");
            }
        }
    }

    #[track_caller]
    fn check(field: &str, reason: Reason, dialect: Dialect, expect: (&str, &str)) {
        let violation = Violation {
            field: field.into(),
            reason,
            severity: Severity::Refuse,
            en: "x".into(),
            zh: "有误".into(),
        };
        let refusal = Refusal::of_violations(vec![violation]).unwrap();
        let found = (code(&refusal, dialect), message(&refusal, dialect));
        assert_eq!(found, (expect.0, expect.1.to_owned()));
    }

    #[test]
    fn a_caller_hears_the_code_and_the_name_of_its_own_dialect() {
        let missing = Reason::FieldMissing;
        let (platform, older) = (Dialect::Platform, Dialect::PlatformOlder);
        check("draft.color", missing, platform, ("9101", "[FIELD_MISSING] KPLX：有误"));
        check("draft.drawer", missing, older, ("9100", "[FIELD_MISSING] KPY：有误"));
        check(
            "draft.lines[3].tax_code",
            missing,
            platform,
            ("9213", "[FIELD_MISSING] [3]/SPBM：有误"),
        );
        check(
            "draft.lines[0].tax_code",
            missing,
            Dialect::Server,
            ("-101", "[FIELD_MISSING] [0]/spbm：有误"),
        );
        check(
            "draft.lines[0].name",
            missing,
            Dialect::Common,
            ("4100", "[FIELD_MISSING] [0]/XMMC：有误"),
        );
        let path = "REQUEST_COMMON_FPKJ/COMMON_FPKJ_XMXX[1]/SE";
        check(
            path,
            Reason::DecimalFormat,
            platform,
            ("9209", &format!("[DECIMAL_FORMAT] {path}：有误")),
        );
        check(
            "draft.tax_fen",
            Reason::TotalTaxMismatch,
            platform,
            ("9142", "[TOTAL_TAX_MISMATCH] HJSE：有误"),
        );
        check(
            "draft.seller.address_phone",
            missing,
            older,
            ("9100", "[FIELD_MISSING] XHF_DZ：有误"),
        );
    }

    #[test]
    fn messages_stay_short() {
        let violation = |at| Violation {
            field: format!("draft.lines[{at}].name"),
            reason: Reason::FieldMissing,
            severity: Severity::Refuse,
            en: "x".into(),
            zh: "必填项为空".into(),
        };
        let refusal = Refusal::of_violations((0..5).map(violation).collect()).unwrap();
        assert!(message(&refusal, Dialect::Common).ends_with("；另有 2 处"));
        let long = Refusal::new(Reason::Internal, "票".repeat(1000));
        assert_eq!(message(&long, Dialect::Common).chars().count(), MESSAGE_MAX);
    }
}
