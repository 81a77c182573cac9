//! Why a request is refused: one enum of reasons, the only code anywhere (wire, metric label, log,
//! legacy map), and who is to blame, which decides the gRPC code. A refusal spends nothing.

use serde::Deserialize;
use std::{fmt, time::Duration};

macro_rules! reasons {
    ($($name:ident = $text:literal, $blame:ident, $legacy:literal;)*) => {
        /// A reason for a refusal. Source: docs/domain.md, "Rules to enforce", and the proxy's own
        /// states.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $text] $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the rule table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The upper-case name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Who is to blame.
            #[must_use]
            pub fn blame(self) -> Blame {
                match self { $(Self::$name => Blame::$blame,)* }
            }

            /// Its codes in the legacy contracts, `/` between them; empty for none.
            fn legacy_codes(self) -> &'static str {
                match self { $(Self::$name => $legacy,)* }
            }
        }
    };
}

reasons! {
    PlatformCertUnknown = "PLATFORM_CERT_UNKNOWN", Unknown, "9010";
    PlatformCertSuspended = "PLATFORM_CERT_SUSPENDED", Denied, "zszt";
    PlatformCertRevoked = "PLATFORM_CERT_REVOKED", Denied, "97/98";
    PlatformCertExpired = "PLATFORM_CERT_EXPIRED", Denied, "103";
    PlatformNotRegistered = "PLATFORM_NOT_REGISTERED", Denied, "9001";
    PlatformSuspended = "PLATFORM_SUSPENDED", Denied, "9001/9009";
    OperationNotAllowed = "OPERATION_NOT_ALLOWED", Denied, "9002";
    StaleRequest = "STALE_REQUEST", Caller, "9006";
    ReplayedRequest = "REPLAYED_REQUEST", Exists, "9007";
    SignatureInvalid = "SIGNATURE_INVALID", Unknown, "-960001084";
    DigestMismatch = "DIGEST_MISMATCH", Caller, "-960001084";
    TaxpayerNotBound = "TAXPAYER_NOT_BOUND", Denied, "9104/73101";
    TaxpayerForbidden = "TAXPAYER_FORBIDDEN", Denied, "9104/73101";
    RateLimited = "RATE_LIMITED", Quota, "zdljs";
    SessionLimit = "SESSION_LIMIT", Quota, "zdljs";
    MalformedMessage = "MALFORMED_MESSAGE", Caller, "9996";
    EncodingMismatch = "ENCODING_MISMATCH", Caller, "9996";
    DuplicateField = "DUPLICATE_FIELD", Caller, "9996";
    FieldMissing = "FIELD_MISSING", Caller, "4100/91xx";
    FieldInvalid = "FIELD_INVALID", Caller, "4100/91xx";
    FieldTooLong = "FIELD_TOO_LONG", Caller, "4100/-10321";
    TextNotGbk = "TEXT_NOT_GBK", Caller, "-10321";
    TaxpayerIdFormat = "TAXPAYER_ID_FORMAT", Caller, "9104/9126/-10322";
    TaxpayerIdChecksum = "TAXPAYER_ID_CHECKSUM", Caller, "";
    SellerMismatch = "SELLER_MISMATCH", Caller, "-10315";
    KindNotApproved = "KIND_NOT_APPROVED", Caller, "0x09d110/-10308";
    TaxCodeInvalid = "TAX_CODE_INVALID", Caller, "9213/9215/9211";
    RateNotAuthorised = "RATE_NOT_AUTHORISED", Caller, "9206/-10310";
    RateOutOfDate = "RATE_OUT_OF_DATE", Caller, "9206/-10310";
    PreferenceInconsistent = "PREFERENCE_INCONSISTENT", Caller, "9214/9216/9217";
    QuantityPricePair = "QUANTITY_PRICE_PAIR", Caller, "92xx";
    LineAmountMismatch = "LINE_AMOUNT_MISMATCH", Caller, "9204";
    LineTaxMismatch = "LINE_TAX_MISMATCH", Caller, "9209";
    TotalAmountMismatch = "TOTAL_AMOUNT_MISMATCH", Caller, "9112";
    TotalTaxMismatch = "TOTAL_TAX_MISMATCH", Caller, "9142";
    TotalSumMismatch = "TOTAL_SUM_MISMATCH", Caller, "9112";
    AmountSign = "AMOUNT_SIGN", Caller, "9112/9204";
    DiscountLineOrder = "DISCOUNT_LINE_ORDER", Caller, "9145/9212";
    DiscountLineAmount = "DISCOUNT_LINE_AMOUNT", Caller, "9146/9207";
    LineCount = "LINE_COUNT", Caller, "9122";
    DifferentialRule = "DIFFERENTIAL_RULE", Caller, "";
    SpecialKindRule = "SPECIAL_KIND_RULE", Caller, "";
    RedNoticeInvalid = "RED_NOTICE_INVALID", Caller, "";
    RedOriginalMissing = "RED_ORIGINAL_MISSING", Caller, "9117/9118";
    RedOriginalUnknown = "RED_ORIGINAL_UNKNOWN", State, "9137";
    RedPeriod = "RED_PERIOD", State, "";
    RedExceedsBalance = "RED_EXCEEDS_BALANCE", State, "9235";
    RedAlreadyFull = "RED_ALREADY_FULL", State, "9135";
    RemarkInvalid = "REMARK_INVALID", Caller, "9134";
    SerialConflict = "SERIAL_CONFLICT", Exists, "9990/9952/73106/-10324";
    SerialInProgress = "SERIAL_IN_PROGRESS", Busy, "73107/-10326";
    SerialClosed = "SERIAL_CLOSED", Exists, "8001";
    SingleLimitExceeded = "SINGLE_LIMIT_EXCEEDED", State, "-10306";
    CumulativeLimitExceeded = "CUMULATIVE_LIMIT_EXCEEDED", State, "zsljxe/fsljxe";
    PeriodLocked = "PERIOD_LOCKED", State, "0x09d109/-10305";
    OfflineTime = "OFFLINE_TIME", State, "0x09d11f";
    OfflineCount = "OFFLINE_COUNT", State, "0x09d120";
    OfflineAmount = "OFFLINE_AMOUNT", State, "0x09d121";
    UploadDeadline = "UPLOAD_DEADLINE", State, "0x09d122";
    NoNumbers = "NO_NUMBERS", State, "1002/-10311";
    NumberMismatch = "NUMBER_MISMATCH", State, "1003/-10311/0x09d108";
    SegmentOverlap = "SEGMENT_OVERLAP", State, "0x09d108";
    SeriesFrozen = "SERIES_FROZEN", State, "";
    SeriesBacklog = "SERIES_BACKLOG", Busy, "";
    ClockSkew = "CLOCK_SKEW", State, "0x09e105/-10312";
    DeviceUnavailable = "DEVICE_UNAVAILABLE", State, "9998/0x09c000";
    DevicePinLocked = "DEVICE_PIN_LOCKED", State, "0x0A000025/0x0963c0";
    DeviceCertInvalid = "DEVICE_CERT_INVALID", State, "9998";
    DeviceAmbiguous = "DEVICE_AMBIGUOUS", Caller, "";
    VoidNotAllowed = "VOID_NOT_ALLOWED", State, "0x09d11c";
    SignerAnswerInvalid = "SIGNER_ANSWER_INVALID", State, "8009";
    NotIssued = "NOT_ISSUED", Busy, "8001";
    QrInvalid = "QR_INVALID", State, "";
    UploadIncomplete = "UPLOAD_INCOMPLETE", State, "FP_ERR";
    ReconcileMismatch = "RECONCILE_MISMATCH", State, "SBYY";
    OutcomeUnknown = "OUTCOME_UNKNOWN", State, "73105/4006/8001";
    QuotaExhausted = "QUOTA_EXHAUSTED", Quota, "CXSXED";
    OriginInfoMissing = "ORIGIN_INFO_MISSING", Caller, "QDFPSC";
    RedConfirmationMissing = "RED_CONFIRMATION_MISSING", Caller, "QDFPSC";
    AlreadyExists = "ALREADY_EXISTS", Exists, "9951";
    NotFound = "NOT_FOUND", NotFound, "9001";
    StoreFull = "STORE_FULL", Busy, "8010";
    StoreReadOnly = "STORE_READ_ONLY", State, "8010";
    BackupFailed = "BACKUP_FAILED", State, "8010";
    Overloaded = "OVERLOADED", Busy, "9009";
    Draining = "DRAINING", Busy, "9009";
    NotBuilt = "NOT_BUILT", Unbuilt, "2000";
    Internal = "INTERNAL", Bug, "9999";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The codes that mean a reason in the legacy contracts, most specific first, `/` between them; the
/// name of a field where the contract has no number. `None`: it has no code.
///
/// The one place of this table is `reasons!`; pages, manual and the legacy edge read it. Source:
/// docs/domain.md, "Rules to enforce", last column.
#[must_use]
pub fn legacy_code(reason: Reason) -> Option<&'static str> {
    let codes = reason.legacy_codes();
    (!codes.is_empty()).then_some(codes)
}

/// Who must act, which decides the gRPC code (`status.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The request is wrong: INVALID_ARGUMENT.
    Caller,
    /// What is asked for contradicts what is stored: ALREADY_EXISTS.
    Exists,
    /// No such thing: NOT_FOUND.
    NotFound,
    /// The caller is not known: UNAUTHENTICATED.
    Unknown,
    /// The caller may not: PERMISSION_DENIED.
    Denied,
    /// The state must change first: FAILED_PRECONDITION.
    State,
    /// The caller asked too often: RESOURCE_EXHAUSTED with RetryInfo.
    Quota,
    /// Send again later with the same serial: UNAVAILABLE with RetryInfo.
    Busy,
    /// Not built: UNIMPLEMENTED.
    Unbuilt,
    /// Our fault: INTERNAL.
    Bug,
}

/// What a violated rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing; it is not even noted.
    Off,
    /// The request goes on and the operator is told that it would have been refused: for the
    /// time in which platforms move here.
    Shadow,
    /// The request goes on with a warning.
    Warn,
    /// The request is refused.
    Refuse,
}

impl Severity {
    /// As in a profile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        }
    }
}

/// One violated rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Field path as on the wire, lines from 0: `draft.lines[3].amount_fen`.
    pub field: String,
    /// The rule's reason.
    pub reason: Reason,
    /// What it does: never `Off`, and in a refusal always `Refuse`.
    pub severity: Severity,
    /// What is wrong, with the exact difference where money is concerned. English.
    pub en: String,
    /// The same in Chinese.
    pub zh: String,
}

/// A refused request. Nothing was spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason; with several violations, the first one's.
    pub reason: Reason,
    /// What the caller should know. English, no full stop.
    pub hint: String,
    /// Every violation, when fields are at fault.
    pub violations: Vec<Violation>,
    /// When to try again, for `Quota` and `Busy`.
    pub retry_after: Option<Duration>,
}

/// How long a caller waits before it tries again when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_millis(500);

impl Refusal {
    /// A refusal for one reason.
    #[must_use]
    pub fn new(reason: Reason, hint: impl Into<String>) -> Self {
        let again = matches!(reason.blame(), Blame::Quota | Blame::Busy);
        Self {
            reason,
            hint: hint.into(),
            violations: Vec::new(),
            retry_after: again.then_some(RETRY_AFTER),
        }
    }

    /// A refusal for violated rules. `None` when there are none.
    #[must_use]
    pub fn of_violations(violations: Vec<Violation>) -> Option<Self> {
        let first = violations.first()?;
        let hint = if violations.len() == 1 {
            format!("{}: {}", first.field, first.en)
        } else {
            format!("{} violations; first: {}: {}", violations.len(), first.field, first.en)
        };
        Some(Self { reason: first.reason, hint, violations, retry_after: None })
    }
}

/// An error with its causes, outermost first, separated by ": ". For logs and operators.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.hint)
    }
}

impl std::error::Error for Refusal {}
