//! What the codes of SDF mean: one table, one row a code.
//!
//! Source: GM/T 0018-2012, annex A. The edition of 2023 gives some numbers another meaning; a
//! machine that follows it needs a table of its own.

use crate::signer::sidecar::{
    Class::{self, Permanent, Pin, SessionLost, Transient},
    ModuleError,
    gm::{self, Row},
};

/// An argument that the library cannot take.
pub(super) const BAD_ARGUMENT: u32 = 0x0100_001D;

/// The error of a code.
pub(super) fn error(code: u32, detail: impl Into<String>) -> ModuleError {
    gm::error(CODES, code, detail)
}

const fn row(number: u32, name: &'static str, class: Class) -> Row {
    Row { code: 0x0100_0000 + number, name, class }
}

const CODES: &[Row] = &[
    // Says nothing, not even whether the session lives: only another session can tell.
    row(0x01, "SDR_UNKNOWERR", SessionLost),
    row(0x02, "SDR_NOTSUPPORT", Permanent),
    row(0x03, "SDR_COMMFAIL", SessionLost),
    // The machine's own module does not answer it; the machine is reached again by a new session.
    row(0x04, "SDR_HARDFAIL", SessionLost),
    row(0x05, "SDR_OPENDEVICE", SessionLost),
    // In practice the limit of sessions.
    row(0x06, "SDR_OPENSESSION", Transient),
    // No right to the private key: the password was wrong, or none was presented. To present it
    // again because of this code would be to gamble.
    row(0x07, "SDR_PARDENY", Pin),
    row(0x08, "SDR_KEYNOTEXIST", Permanent),
    row(0x09, "SDR_ALGNOTSUPPORT", Permanent),
    row(0x0A, "SDR_ALGMODNOTSUPPORT", Permanent),
    row(0x0B, "SDR_PKOPERR", Permanent),
    // The operation failed, and the session answers: it may be asked again, signing is harmless.
    row(0x0C, "SDR_SKOPERR", Transient),
    row(0x0D, "SDR_SIGNERR", Transient),
    row(0x0E, "SDR_VERIFYERR", Permanent),
    row(0x0F, "SDR_SYMOPERR", Permanent),
    row(0x10, "SDR_STEPERR", Permanent),
    row(0x11, "SDR_FILESIZEERR", Permanent),
    row(0x12, "SDR_FILENOEXIST", Permanent),
    row(0x13, "SDR_FILEOFSERR", Permanent),
    row(0x14, "SDR_KEYTYPEERR", Permanent),
    row(0x15, "SDR_KEYERR", Permanent),
    row(0x16, "SDR_ENCDATAERR", Permanent),
    row(0x17, "SDR_RANDERR", Transient),
    row(0x18, "SDR_PRKRERR", Pin),
    row(0x19, "SDR_MACERR", Permanent),
    row(0x1A, "SDR_FILEEXISTS", Permanent),
    row(0x1B, "SDR_FILEWERR", Permanent),
    row(0x1C, "SDR_NOBUFFER", Transient),
    row(0x1D, "SDR_INARGERR", Permanent),
    row(0x1E, "SDR_OUTARGERR", Permanent),
    row(0x1F, "SDR_USERIDERR", Permanent),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_standard_has_one_row() {
        let numbers: Vec<_> = CODES.iter().map(|row| row.code - 0x0100_0000).collect();
        assert_eq!(numbers, (0x01..=0x1F).collect::<Vec<_>>());
        for row in CODES {
            assert!(row.name.starts_with("SDR_"), "{}", row.name);
            let error = error(row.code, "x");
            assert_eq!((error.class, error.name.as_str()), (row.class, row.name));
        }
    }

    #[test]
    fn an_unknown_code_stops_until_somebody_looked() {
        for code in [0x0100_0020, 0x0100_002F, 0xFFFF_FFFF, 1] {
            let error = error(code, "SDF_OpenDevice");
            assert_eq!(error.class, Permanent, "{code}");
            assert_eq!(error.to_string(), format!("UNKNOWN_CODE (0x{code:08X}): SDF_OpenDevice"));
        }
    }
}
