//! What each code of PKCS#11 means: one table, and one rule for codes that are in no table.
//!
//! Signing again is harmless here, because we give out the number, so nothing is in doubt. What is
//! doubtful is the session or the library, and those are cheap to replace: `CKR_GENERAL_ERROR`,
//! `CKR_FUNCTION_FAILED` and vendors' codes end the session, since a dead one that is kept answers
//! them for ever. `CKR_HOST_MEMORY` does too: a process at its memory bound heals by its end only.
//! A handle that has become invalid may name another key, so it is never asked again.

use super::module::{Class, ModuleError};
use cryptoki::error::{Error, RvError};

/// A row: the code as our binding reads it, its number and name in the standard, and what it means.
type Row = (RvError, u64, &'static str, Class);

/// Codes of PKCS#11 3.1 §5.1, ascending.
const CODES: [Row; 93] = [
    (RvError::Cancel, 0x001, "CKR_CANCEL", Class::Transient),
    (RvError::HostMemory, 0x002, "CKR_HOST_MEMORY", Class::SessionLost),
    (RvError::SlotIdInvalid, 0x003, "CKR_SLOT_ID_INVALID", Class::SessionLost),
    (RvError::GeneralError, 0x005, "CKR_GENERAL_ERROR", Class::SessionLost),
    (RvError::FunctionFailed, 0x006, "CKR_FUNCTION_FAILED", Class::SessionLost),
    (RvError::ArgumentsBad, 0x007, "CKR_ARGUMENTS_BAD", Class::Permanent),
    (RvError::NoEvent, 0x008, "CKR_NO_EVENT", Class::Permanent),
    (RvError::NeedToCreateThreads, 0x009, "CKR_NEED_TO_CREATE_THREADS", Class::Permanent),
    (RvError::CantLock, 0x00A, "CKR_CANT_LOCK", Class::Permanent),
    (RvError::AttributeReadOnly, 0x010, "CKR_ATTRIBUTE_READ_ONLY", Class::Permanent),
    (RvError::AttributeSensitive, 0x011, "CKR_ATTRIBUTE_SENSITIVE", Class::Permanent),
    (RvError::AttributeTypeInvalid, 0x012, "CKR_ATTRIBUTE_TYPE_INVALID", Class::Permanent),
    (RvError::AttributeValueInvalid, 0x013, "CKR_ATTRIBUTE_VALUE_INVALID", Class::Permanent),
    (RvError::ActionProhibited, 0x01B, "CKR_ACTION_PROHIBITED", Class::Permanent),
    (RvError::DataInvalid, 0x020, "CKR_DATA_INVALID", Class::Permanent),
    (RvError::DataLenRange, 0x021, "CKR_DATA_LEN_RANGE", Class::Permanent),
    (RvError::DeviceError, 0x030, "CKR_DEVICE_ERROR", Class::SessionLost),
    (RvError::DeviceMemory, 0x031, "CKR_DEVICE_MEMORY", Class::Transient),
    (RvError::DeviceRemoved, 0x032, "CKR_DEVICE_REMOVED", Class::SessionLost),
    (RvError::EncryptedDataInvalid, 0x040, "CKR_ENCRYPTED_DATA_INVALID", Class::Permanent),
    (RvError::EncryptedDataLenRange, 0x041, "CKR_ENCRYPTED_DATA_LEN_RANGE", Class::Permanent),
    (RvError::FunctionCanceled, 0x050, "CKR_FUNCTION_CANCELED", Class::Transient),
    (RvError::FunctionNotParallel, 0x051, "CKR_FUNCTION_NOT_PARALLEL", Class::Permanent),
    (RvError::FunctionNotSupported, 0x054, "CKR_FUNCTION_NOT_SUPPORTED", Class::Permanent),
    (RvError::KeyHandleInvalid, 0x060, "CKR_KEY_HANDLE_INVALID", Class::SessionLost),
    (RvError::KeySizeRange, 0x062, "CKR_KEY_SIZE_RANGE", Class::Permanent),
    (RvError::KeyTypeInconsistent, 0x063, "CKR_KEY_TYPE_INCONSISTENT", Class::Permanent),
    (RvError::KeyNotNeeded, 0x064, "CKR_KEY_NOT_NEEDED", Class::Permanent),
    (RvError::KeyChanged, 0x065, "CKR_KEY_CHANGED", Class::Permanent),
    (RvError::KeyNeeded, 0x066, "CKR_KEY_NEEDED", Class::Permanent),
    (RvError::KeyIndigestible, 0x067, "CKR_KEY_INDIGESTIBLE", Class::Permanent),
    (RvError::KeyFunctionNotPermitted, 0x068, "CKR_KEY_FUNCTION_NOT_PERMITTED", Class::Permanent),
    (RvError::KeyNotWrappable, 0x069, "CKR_KEY_NOT_WRAPPABLE", Class::Permanent),
    (RvError::KeyUnextractable, 0x06A, "CKR_KEY_UNEXTRACTABLE", Class::Permanent),
    (RvError::MechanismInvalid, 0x070, "CKR_MECHANISM_INVALID", Class::Permanent),
    (RvError::MechanismParamInvalid, 0x071, "CKR_MECHANISM_PARAM_INVALID", Class::Permanent),
    (RvError::ObjectHandleInvalid, 0x082, "CKR_OBJECT_HANDLE_INVALID", Class::SessionLost),
    (RvError::OperationActive, 0x090, "CKR_OPERATION_ACTIVE", Class::SessionLost),
    (RvError::OperationNotInitialized, 0x091, "CKR_OPERATION_NOT_INITIALIZED", Class::SessionLost),
    (RvError::PinIncorrect, 0x0A0, "CKR_PIN_INCORRECT", Class::Pin),
    (RvError::PinInvalid, 0x0A1, "CKR_PIN_INVALID", Class::Pin),
    (RvError::PinLenRange, 0x0A2, "CKR_PIN_LEN_RANGE", Class::Pin),
    (RvError::PinExpired, 0x0A3, "CKR_PIN_EXPIRED", Class::Pin),
    (RvError::PinLocked, 0x0A4, "CKR_PIN_LOCKED", Class::Pin),
    (RvError::SessionClosed, 0x0B0, "CKR_SESSION_CLOSED", Class::SessionLost),
    (RvError::SessionCount, 0x0B1, "CKR_SESSION_COUNT", Class::Transient),
    (RvError::SessionHandleInvalid, 0x0B3, "CKR_SESSION_HANDLE_INVALID", Class::SessionLost),
    (
        RvError::SessionParallelNotSupported,
        0x0B4,
        "CKR_SESSION_PARALLEL_NOT_SUPPORTED",
        Class::Permanent,
    ),
    (RvError::SessionReadOnly, 0x0B5, "CKR_SESSION_READ_ONLY", Class::Permanent),
    (RvError::SessionExists, 0x0B6, "CKR_SESSION_EXISTS", Class::Permanent),
    (RvError::SessionReadOnlyExists, 0x0B7, "CKR_SESSION_READ_ONLY_EXISTS", Class::Permanent),
    (
        RvError::SessionReadWriteSoExists,
        0x0B8,
        "CKR_SESSION_READ_WRITE_SO_EXISTS",
        Class::Transient,
    ),
    (RvError::SignatureInvalid, 0x0C0, "CKR_SIGNATURE_INVALID", Class::Permanent),
    (RvError::SignatureLenRange, 0x0C1, "CKR_SIGNATURE_LEN_RANGE", Class::Permanent),
    (RvError::TemplateIncomplete, 0x0D0, "CKR_TEMPLATE_INCOMPLETE", Class::Permanent),
    (RvError::TemplateInconsistent, 0x0D1, "CKR_TEMPLATE_INCONSISTENT", Class::Permanent),
    (RvError::TokenNotPresent, 0x0E0, "CKR_TOKEN_NOT_PRESENT", Class::SessionLost),
    (RvError::TokenNotRecognized, 0x0E1, "CKR_TOKEN_NOT_RECOGNIZED", Class::SessionLost),
    (RvError::TokenWriteProtected, 0x0E2, "CKR_TOKEN_WRITE_PROTECTED", Class::Permanent),
    (
        RvError::UnwrappingKeyHandleInvalid,
        0x0F0,
        "CKR_UNWRAPPING_KEY_HANDLE_INVALID",
        Class::Permanent,
    ),
    (RvError::UnwrappingKeySizeRange, 0x0F1, "CKR_UNWRAPPING_KEY_SIZE_RANGE", Class::Permanent),
    (
        RvError::UnwrappingKeyTypeInconsistent,
        0x0F2,
        "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT",
        Class::Permanent,
    ),
    (RvError::UserAlreadyLoggedIn, 0x100, "CKR_USER_ALREADY_LOGGED_IN", Class::Transient),
    (RvError::UserNotLoggedIn, 0x101, "CKR_USER_NOT_LOGGED_IN", Class::SessionLost),
    (RvError::UserPinNotInitialized, 0x102, "CKR_USER_PIN_NOT_INITIALIZED", Class::Pin),
    (RvError::UserTypeInvalid, 0x103, "CKR_USER_TYPE_INVALID", Class::Permanent),
    (
        RvError::UserAnotherAlreadyLoggedIn,
        0x104,
        "CKR_USER_ANOTHER_ALREADY_LOGGED_IN",
        Class::Permanent,
    ),
    (RvError::UserTooManyTypes, 0x105, "CKR_USER_TOO_MANY_TYPES", Class::Permanent),
    (RvError::WrappedKeyInvalid, 0x110, "CKR_WRAPPED_KEY_INVALID", Class::Permanent),
    (RvError::WrappedKeyLenRange, 0x112, "CKR_WRAPPED_KEY_LEN_RANGE", Class::Permanent),
    (RvError::WrappingKeyHandleInvalid, 0x113, "CKR_WRAPPING_KEY_HANDLE_INVALID", Class::Permanent),
    (RvError::WrappingKeySizeRange, 0x114, "CKR_WRAPPING_KEY_SIZE_RANGE", Class::Permanent),
    (
        RvError::WrappingKeyTypeInconsistent,
        0x115,
        "CKR_WRAPPING_KEY_TYPE_INCONSISTENT",
        Class::Permanent,
    ),
    (RvError::RandomSeedNotSupported, 0x120, "CKR_RANDOM_SEED_NOT_SUPPORTED", Class::Permanent),
    (RvError::RandomNoRng, 0x121, "CKR_RANDOM_NO_RNG", Class::Permanent),
    (RvError::DomainParamsInvalid, 0x130, "CKR_DOMAIN_PARAMS_INVALID", Class::Permanent),
    (RvError::CurveNotSupported, 0x140, "CKR_CURVE_NOT_SUPPORTED", Class::Permanent),
    (RvError::BufferTooSmall, 0x150, "CKR_BUFFER_TOO_SMALL", Class::SessionLost),
    (RvError::SavedStateInvalid, 0x160, "CKR_SAVED_STATE_INVALID", Class::Permanent),
    (RvError::InformationSensitive, 0x170, "CKR_INFORMATION_SENSITIVE", Class::Permanent),
    (RvError::StateUnsaveable, 0x180, "CKR_STATE_UNSAVEABLE", Class::Permanent),
    (RvError::CryptokiNotInitialized, 0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", Class::SessionLost),
    (
        RvError::CryptokiAlreadyInitialized,
        0x191,
        "CKR_CRYPTOKI_ALREADY_INITIALIZED",
        Class::Permanent,
    ),
    (RvError::MutexBad, 0x1A0, "CKR_MUTEX_BAD", Class::SessionLost),
    (RvError::MutexNotLocked, 0x1A1, "CKR_MUTEX_NOT_LOCKED", Class::SessionLost),
    (RvError::NewPinMode, 0x1B0, "CKR_NEW_PIN_MODE", Class::Pin),
    (RvError::NextOtp, 0x1B1, "CKR_NEXT_OTP", Class::Pin),
    (RvError::ExceededMaxIterations, 0x1B5, "CKR_EXCEEDED_MAX_ITERATIONS", Class::Transient),
    (RvError::FipsSelfTestFailed, 0x1B6, "CKR_FIPS_SELF_TEST_FAILED", Class::Permanent),
    (RvError::LibraryLoadFailed, 0x1B7, "CKR_LIBRARY_LOAD_FAILED", Class::Permanent),
    (RvError::PinTooWeak, 0x1B8, "CKR_PIN_TOO_WEAK", Class::Pin),
    (RvError::PublicKeyInvalid, 0x1B9, "CKR_PUBLIC_KEY_INVALID", Class::Permanent),
    (RvError::FunctionRejected, 0x200, "CKR_FUNCTION_REJECTED", Class::Permanent),
];

/// What a failed call means. `doing` says what was being done, without a PIN or key.
pub(super) fn classed(error: &Error, doing: &str) -> ModuleError {
    match error {
        Error::Pkcs11(code, function) => {
            let (code, name, class) = row(*code);
            ModuleError { class, code, name, detail: format!("{doing}: C_{function:?}") }
        }
        // Our binding could not make the call, or not read its answer.
        other => ModuleError {
            class: Class::Permanent,
            code: 0,
            name: "PKCS11_MODULE".into(),
            detail: format!("{doing}: {other}"),
        },
    }
}

fn row(code: RvError) -> (u64, String, Class) {
    if let Some((_, number, name, class)) = CODES.iter().find(|(known, ..)| *known == code) {
        return (*number, (*name).to_owned(), *class);
    }
    match code {
        RvError::VendorDefined(number) => (number, "CKR_VENDOR_DEFINED".into(), Class::SessionLost),
        RvError::UnknownErrorCode(number) => (number, "CKR_UNKNOWN".into(), Class::SessionLost),
        // The table has every other one that our binding knows; a later binding may know more.
        later => (0, format!("{later:?}"), Class::SessionLost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::{context::Function, error::Rv};

    #[test]
    fn every_code_of_the_standard_is_read_named_and_classed() {
        for (code, number, name, class) in CODES {
            assert_eq!(Rv::from(number), Rv::Error(code), "{name}");
            let error = classed(&Error::Pkcs11(code, Function::Sign), "sign");
            let expected = ModuleError {
                class,
                code: number,
                name: name.to_owned(),
                detail: "sign: C_Sign".to_owned(),
            };
            assert_eq!(error, expected);
        }
        assert!(CODES.is_sorted_by_key(|(_, number, ..)| number));
        let known = (1..=0x200)
            .filter(|number| !matches!(Rv::from(*number), Rv::Error(RvError::UnknownErrorCode(_))));
        assert_eq!(known.count(), CODES.len(), "our binding knows a code that the table lacks");
    }

    /// The rows that decide between a stopped device, a new session and a wait.
    #[test]
    fn the_codes_that_matter_end_in_the_class_that_recovers() {
        for (class, numbers) in [
            (Class::Pin, &[0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0x102, 0x1B8][..]),
            (Class::SessionLost, &[0x02, 0x05, 0x06, 0x30, 0x32, 0x60, 0x82, 0xB0, 0xB3]),
            (Class::SessionLost, &[0xE0, 0xE1, 0x101, 0x190, 0x8000_0001, 0x7FFF_0000]),
            (Class::Transient, &[0x31, 0x50, 0xB1]),
            (Class::Permanent, &[0x07, 0x54, 0x63, 0x68, 0x70, 0x71, 0x140]),
        ] {
            for number in numbers {
                let Rv::Error(code) = Rv::from(*number) else { panic!("{number:#x} is an error") };
                let error = classed(&Error::Pkcs11(code, Function::Sign), "sign");
                assert_eq!((error.class, error.code), (class, *number), "{error}");
            }
        }
    }
}
