//! What the codes of SKF mean: one table, one row a code.
//!
//! Source: GM/T 0016-2012, annex A; below it what tax keys say besides (docs/domain.md 3.10).

use crate::signer::sidecar::{
    Class::{self, InDoubt, Permanent, Pin, SessionLost, Transient},
    ModuleError,
    gm::{self, Row},
};

/// The library does not know the function.
pub(super) const NOT_SUPPORTED: u64 = 0x0A00_0003;
/// The PIN is malformed.
pub(super) const PIN_INVALID: u32 = 0x0A00_0026;
/// The device was unplugged.
pub(super) const DEVICE_REMOVED: u32 = 0x0A00_0023;
/// The user is logged in already.
pub(super) const ALREADY_LOGGED_IN: u64 = 0x0A00_0028;
/// The user must log in first.
pub(super) const NOT_LOGGED_IN: u32 = 0x0A00_002D;

/// The error of a code.
pub(super) fn error(code: u32, detail: impl Into<String>) -> ModuleError {
    gm::error(CODES, code, detail)
}

/// Whether an error says that every handle is dead, not the session's alone.
pub(super) fn is_connection_lost(error: &ModuleError) -> bool {
    const LOST: [u64; 4] = [0x0A00_0005, 0x0A00_000C, 0x0A00_0023, 0x0009_C000];
    LOST.contains(&error.code)
}

const fn sar(number: u32, name: &'static str, class: Class) -> Row {
    Row { code: 0x0A00_0000 + number, name, class }
}

const fn tax(code: u32, name: &'static str, class: Class) -> Row {
    Row { code, name, class }
}

const CODES: &[Row] = &[
    // These two say nothing, not even whether the session lives: only another session can tell.
    sar(0x01, "SAR_FAIL", SessionLost),
    sar(0x02, "SAR_UNKNOWNERR", SessionLost),
    sar(0x03, "SAR_NOTSUPPORTYETERR", Permanent),
    sar(0x04, "SAR_FILEERR", Permanent),
    sar(0x05, "SAR_INVALIDHANDLEERR", SessionLost),
    sar(0x06, "SAR_INVALIDPARAMERR", Permanent),
    sar(0x07, "SAR_READFILEERR", Permanent),
    sar(0x08, "SAR_WRITEFILEERR", Permanent),
    sar(0x09, "SAR_NAMELENERR", Permanent),
    sar(0x0A, "SAR_KEYUSAGEERR", Permanent),
    sar(0x0B, "SAR_MODULUSLENERR", Permanent),
    sar(0x0C, "SAR_NOTINITIALIZEERR", SessionLost),
    sar(0x0D, "SAR_OBJERR", Permanent),
    sar(0x0E, "SAR_MEMORYERR", Transient),
    // The command went out and no answer came.
    sar(0x0F, "SAR_TIMEOUTERR", InDoubt),
    sar(0x10, "SAR_INDATALENERR", Permanent),
    sar(0x11, "SAR_INDATAERR", Permanent),
    sar(0x12, "SAR_GENRANDERR", Transient),
    sar(0x13, "SAR_HASHOBJERR", Permanent),
    sar(0x14, "SAR_HASHERR", Permanent),
    sar(0x15, "SAR_GENRSAKEYERR", Permanent),
    sar(0x16, "SAR_RSAMODULUSLENERR", Permanent),
    sar(0x17, "SAR_CSPIMPRTPUBKEYERR", Permanent),
    sar(0x18, "SAR_RSAENCERR", Permanent),
    sar(0x19, "SAR_RSADECERR", Permanent),
    sar(0x1A, "SAR_HASHNOTEQUALERR", Permanent),
    sar(0x1B, "SAR_KEYNOTFOUNTERR", Permanent),
    sar(0x1C, "SAR_CERTNOTFOUNTERR", Permanent),
    sar(0x1D, "SAR_NOTEXPORTERR", Permanent),
    sar(0x1E, "SAR_DECRYPTPADERR", Permanent),
    sar(0x1F, "SAR_MACLENERR", Permanent),
    sar(0x20, "SAR_BUFFER_TOO_SMALL", Permanent),
    sar(0x21, "SAR_KEYINFOTYPEERR", Permanent),
    sar(0x22, "SAR_NOT_EVENTERR", Permanent),
    sar(0x23, "SAR_DEVICE_REMOVED", SessionLost),
    sar(0x24, "SAR_PIN_INCORRECT", Pin),
    sar(0x25, "SAR_PIN_LOCKED", Pin),
    sar(0x26, "SAR_PIN_INVALID", Pin),
    sar(0x27, "SAR_PIN_LEN_RANGE", Pin),
    // A login that meets this is a success; nothing else answers so.
    sar(0x28, "SAR_USER_ALREADY_LOGGED_IN", Permanent),
    sar(0x29, "SAR_USER_PIN_NOT_INITIALIZED", Pin),
    sar(0x2A, "SAR_USER_TYPE_INVALID", Permanent),
    sar(0x2B, "SAR_APPLICATION_NAME_INVALID", Permanent),
    sar(0x2C, "SAR_APPLICATION_EXISTS", Permanent),
    // The login went with its session. Nothing is wrong with the PIN.
    sar(0x2D, "SAR_USER_NOT_LOGGED_IN", SessionLost),
    sar(0x2E, "SAR_APPLICATION_NOT_EXISTS", Permanent),
    sar(0x2F, "SAR_FILE_ALREADY_EXIST", Permanent),
    sar(0x30, "SAR_NO_ROOM", Permanent),
    sar(0x31, "SAR_FILE_NOT_EXIST", Permanent),
    sar(0x32, "SAR_REACH_MAX_CONTAINER_COUNT", Permanent),
    // The last digit is the number of tries left.
    tax(0x0009_63C0, "TAX_PIN_LOCKED", Pin),
    tax(0x0009_63C1, "TAX_PIN_INCORRECT", Pin),
    tax(0x0009_63C2, "TAX_PIN_INCORRECT", Pin),
    tax(0x0009_63C3, "TAX_PIN_INCORRECT", Pin),
    tax(0x0009_63C4, "TAX_PIN_INCORRECT", Pin),
    tax(0x0009_63C5, "TAX_PIN_INCORRECT", Pin),
    tax(0x0009_63C6, "TAX_PIN_INCORRECT", Pin),
    tax(0x0009_63C7, "TAX_PIN_INCORRECT", Pin),
    tax(0x0009_240D, "TAX_KEY_UPDATE_NEEDED", Permanent),
    tax(0x0009_C000, "TAX_DEVICE_NOT_OPEN", SessionLost),
    // Locks and limits: they end when somebody files, uploads, or sets the clock.
    tax(0x0009_D106, "TAX_NO_DATA", Permanent),
    tax(0x0009_D108, "TAX_NUMBER_ILLEGAL", Permanent),
    tax(0x0009_D109, "TAX_PERIOD_LOCKED", Permanent),
    tax(0x0009_D110, "TAX_KIND_NOT_SUPPORTED", Permanent),
    tax(0x0009_D11C, "TAX_ALREADY_REPORTED", Permanent),
    tax(0x0009_D11F, "TAX_OFFLINE_TIME", Permanent),
    tax(0x0009_D120, "TAX_OFFLINE_COUNT", Permanent),
    tax(0x0009_D121, "TAX_OFFLINE_AMOUNT", Permanent),
    tax(0x0009_D122, "TAX_UPLOAD_DEADLINE", Permanent),
    tax(0x0009_D200, "TAX_NO_DATA", Permanent),
    tax(0x0009_E105, "TAX_CLOCK", Permanent),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_of_the_standard_has_one_row() {
        let standard = CODES.iter().filter(|row| row.name.starts_with("SAR_"));
        let numbers: Vec<_> = standard.map(|row| row.code - 0x0A00_0000).collect();
        assert_eq!(numbers, (0x01..=0x32).collect::<Vec<_>>());
        let codes: BTreeSet<_> = CODES.iter().map(|row| row.code).collect();
        assert_eq!(codes.len(), CODES.len(), "a code has one row");
        for row in CODES {
            let error = error(row.code, "x");
            assert_eq!((error.class, error.name.as_str()), (row.class, row.name));
        }
    }

    #[test]
    fn an_unknown_code_stops_until_somebody_looked() {
        for code in [0x0A00_0033, 0x0A00_0101, 0x0B00_0001, 0xC000_0001, 1] {
            let error = error(code, "SKF_EnumDev");
            assert_eq!(error.class, Permanent, "{code}");
            assert_eq!(error.to_string(), format!("UNKNOWN_CODE (0x{code:08X}): SKF_EnumDev"));
        }
    }

    #[test]
    fn a_lost_connection_is_a_lost_session_too() {
        let lost = CODES.iter().map(|row| error(row.code, "x")).filter(is_connection_lost);
        let classes: Vec<_> = lost.map(|error| error.class).collect();
        assert_eq!(classes, [SessionLost; 4]);
    }
}
