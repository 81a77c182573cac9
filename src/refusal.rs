//! Why a request is refused: one enum of reasons, the only code anywhere (wire, metric label, log,
//! legacy map), and who is to blame, which decides the gRPC code. A refusal spends nothing.

use std::{fmt, time::Duration};

macro_rules! reasons {
    ($($name:ident = $text:literal, $blame:ident;)*) => {
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
        }
    };
}

reasons! {
    PlatformCertUnknown = "PLATFORM_CERT_UNKNOWN", Unknown;
    PlatformCertRevoked = "PLATFORM_CERT_REVOKED", Denied;
    PlatformCertExpired = "PLATFORM_CERT_EXPIRED", Denied;
    PlatformSuspended = "PLATFORM_SUSPENDED", Denied;
    OperationNotAllowed = "OPERATION_NOT_ALLOWED", Denied;
    TaxpayerNotBound = "TAXPAYER_NOT_BOUND", Denied;
    RateLimited = "RATE_LIMITED", Quota;
    MalformedMessage = "MALFORMED_MESSAGE", Caller;
    EncodingMismatch = "ENCODING_MISMATCH", Caller;
    DuplicateField = "DUPLICATE_FIELD", Caller;
    EncryptionUnsupported = "ENCRYPTION_UNSUPPORTED", Caller;
    FieldMissing = "FIELD_MISSING", Caller;
    FieldInvalid = "FIELD_INVALID", Caller;
    DecimalFormat = "DECIMAL_FORMAT", Caller;
    DecimalPrecision = "DECIMAL_PRECISION", Caller;
    TaxIncludedUnsupported = "TAX_INCLUDED_UNSUPPORTED", Caller;
    FieldTooLong = "FIELD_TOO_LONG", Caller;
    TextNotGbk = "TEXT_NOT_GBK", Caller;
    TaxpayerIdFormat = "TAXPAYER_ID_FORMAT", Caller;
    TaxpayerIdChecksum = "TAXPAYER_ID_CHECKSUM", Caller;
    SellerMismatch = "SELLER_MISMATCH", Caller;
    KindNotApproved = "KIND_NOT_APPROVED", Caller;
    QuantityPricePair = "QUANTITY_PRICE_PAIR", Caller;
    LineAmountMismatch = "LINE_AMOUNT_MISMATCH", Caller;
    LineTaxMismatch = "LINE_TAX_MISMATCH", Caller;
    TotalAmountMismatch = "TOTAL_AMOUNT_MISMATCH", Caller;
    TotalTaxMismatch = "TOTAL_TAX_MISMATCH", Caller;
    TotalSumMismatch = "TOTAL_SUM_MISMATCH", Caller;
    AmountSign = "AMOUNT_SIGN", Caller;
    DiscountLineOrder = "DISCOUNT_LINE_ORDER", Caller;
    DiscountLineAmount = "DISCOUNT_LINE_AMOUNT", Caller;
    LineCount = "LINE_COUNT", Caller;
    SerialConflict = "SERIAL_CONFLICT", Exists;
    SerialClosed = "SERIAL_CLOSED", Exists;
    ClockSkew = "CLOCK_SKEW", State;
    NoNumbers = "NO_NUMBERS", State;
    SegmentOverlap = "SEGMENT_OVERLAP", State;
    SeriesFrozen = "SERIES_FROZEN", State;
    SeriesBacklog = "SERIES_BACKLOG", Busy;
    DeviceUnavailable = "DEVICE_UNAVAILABLE", State;
    DeviceAmbiguous = "DEVICE_AMBIGUOUS", Caller;
    SignerAnswerInvalid = "SIGNER_ANSWER_INVALID", State;
    NotIssued = "NOT_ISSUED", Busy;
    VoidNotAllowed = "VOID_NOT_ALLOWED", State;
    AlreadyExists = "ALREADY_EXISTS", Exists;
    NotFound = "NOT_FOUND", NotFound;
    StoreFull = "STORE_FULL", Busy;
    StoreReadOnly = "STORE_READ_ONLY", State;
    Overloaded = "OVERLOADED", Busy;
    Draining = "DRAINING", Busy;
    NotBuilt = "NOT_BUILT", Unbuilt;
    Internal = "INTERNAL", Bug;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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

/// One violated rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Field path as on the wire, lines from 0: `draft.lines[3].amount_fen`.
    pub field: String,
    /// The rule's reason.
    pub reason: Reason,
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
