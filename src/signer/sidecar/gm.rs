//! What the two GM/T interfaces, SDF and SKF, share: how they lay out the numbers of SM2, and what
//! a code means.

use super::module::{Class, FoundKey, ModuleError};
use crate::pb::v1 as pb;
use sm2::pkcs8::EncodePublicKey as _;

/// Length of the two fields of a point or a signature, 64 bytes each. Unit: bytes.
pub(super) const FIELDS_LEN: usize = 128;

/// One code of a standard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// The code.
    pub(super) code: u32,
    /// Its name in the standard.
    pub(super) name: &'static str,
    /// What it means.
    pub(super) class: Class,
}

/// The error of a code, as a table classes it. `detail` says what was being done.
///
/// An unknown code is `Permanent`: it may be a vendor's way to say that a password is wrong or a
/// key locked, and every class that opens sessions again may present a PIN again. A person looks,
/// and the table gets a row.
pub(super) fn error(table: &[Row], code: u32, detail: impl Into<String>) -> ModuleError {
    let row = table.iter().find(|row| row.code == code);
    ModuleError {
        class: row.map_or(Class::Permanent, |row| row.class),
        code: u64::from(code),
        name: row.map_or("UNKNOWN_CODE", |row| row.name).to_owned(),
        detail: detail.into(),
    }
}

/// A failure of ours, without a code.
pub(super) fn failure(class: Class, name: &str, detail: impl Into<String>) -> ModuleError {
    ModuleError { class, code: 0, name: name.to_owned(), detail: detail.into() }
}

/// Two numbers of 32 bytes out of two fields.
///
/// The standards' fields have 64 bytes and the number on their right. Libraries that were built for
/// 256 bits have fields of 32 bytes: they fill the first half of ours and leave the rest alone,
/// which must have been zero. Whatever else comes is read as the standards say; it then is no
/// point of the curve, or does not verify.
pub(super) fn pair(fields: &[u8; FIELDS_LEN]) -> [u8; 64] {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    let mut pair = [0; 64];
    let (first, second) =
        if is_zero(&fields[64..]) && !is_zero(&fields[..32]) { (0, 32) } else { (32, 96) };
    pair[..32].copy_from_slice(&fields[first..first + 32]);
    pair[32..].copy_from_slice(&fields[second..second + 32]);
    pair
}

/// The SM2 key of a point: SubjectPublicKeyInfo with the curve's own identifier,
/// 1.2.156.10197.1.301 (GM/T 0009).
///
/// # Errors
/// Of class `Permanent` when it is no point of 256 bits on the curve.
pub(super) fn sm2_key(bits: u64, fields: &[u8; FIELDS_LEN]) -> Result<FoundKey, ModuleError> {
    let no_key = |detail: String| failure(Class::Permanent, "PUBLIC_KEY_INVALID", detail);
    if bits != 256 {
        return Err(no_key(format!("the key has {bits} bits, and one of SM2 has 256")));
    }
    let mut point = [4; 65];
    point[1..].copy_from_slice(&pair(fields));
    let key = sm2::PublicKey::from_sec1_bytes(&point)
        .map_err(|_| no_key("the point is not on the curve of SM2".to_owned()))?;
    let public_key = key
        .to_public_key_der()
        .map_err(|_| no_key("the point cannot be encoded".to_owned()))?
        .into_vec();
    Ok(FoundKey { public_key, algorithm: pb::SignatureAlgorithm::Sm2Sm3 })
}

/// Text of a fixed field: up to the first NUL, without the spaces around it.
pub(super) fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).trim().to_owned()
}

/// Sizes and offsets of a standard's structs, as a C compiler sees them: one a line.
#[cfg(test)]
pub(super) fn layout_in_c(standard: &str) -> Vec<String> {
    use std::process::Command;
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("layout");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/emulators/layout.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Werror", "-o"]).arg(&program).arg(source);
    assert!(compiler.status().expect("a C compiler is installed").success());
    let printed = Command::new(&program).arg(standard).output().expect("it was built").stdout;
    String::from_utf8(printed).unwrap().lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sm2::elliptic_curve::sec1::ToSec1Point as _;

    fn wide(pair: &[u8; 64]) -> [u8; FIELDS_LEN] {
        let mut fields = [0; FIELDS_LEN];
        fields[32..64].copy_from_slice(&pair[..32]);
        fields[96..].copy_from_slice(&pair[32..]);
        fields
    }

    fn narrow(pair: &[u8; 64]) -> [u8; FIELDS_LEN] {
        let mut fields = [0; FIELDS_LEN];
        fields[..64].copy_from_slice(pair);
        fields
    }

    #[test]
    fn numbers_are_read_from_fields_of_64_and_of_32_bytes() {
        let mut small = [0; 64];
        small[31] = 1;
        small[63] = 2;
        for numbers in [[0x11; 64], [0xff; 64], small] {
            assert_eq!(pair(&wide(&numbers)), numbers);
        }
        assert_eq!(pair(&narrow(&[0x11; 64])), [0x11; 64]);
        assert_eq!(pair(&[0; FIELDS_LEN]), [0; 64]);
    }

    #[test]
    fn a_point_becomes_the_key_that_the_sm2_crate_makes_of_it() {
        let public = sm2::SecretKey::from_slice(&[7; 32]).unwrap().public_key();
        let mut numbers = [0; 64];
        numbers.copy_from_slice(&public.to_sec1_point(false).as_bytes()[1..]);
        for fields in [wide(&numbers), narrow(&numbers)] {
            let found = sm2_key(256, &fields).unwrap();
            assert_eq!(found.public_key, public.to_public_key_der().unwrap().as_bytes());
            assert_eq!(found.algorithm, pb::SignatureAlgorithm::Sm2Sm3);
        }
        numbers[0] ^= 1;
        for (bits, fields) in [(256, wide(&numbers)), (256, [0; FIELDS_LEN]), (0, [0; 128])] {
            let error = sm2_key(bits, &fields).unwrap_err();
            assert_eq!(error.class, Class::Permanent, "{error}");
        }
    }

    #[test]
    fn text_ends_at_the_first_nul() {
        for (field, expect) in [(&b" AB \0CD"[..], "AB"), (b"AB", "AB"), (b"\0", "")] {
            assert_eq!(text(field), expect);
        }
    }
}
