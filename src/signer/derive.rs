//! What an invoice carries besides its signature: check code (校验码), cipher text (密文) and the text
//! of the two-dimensional code (二维码). Pure: record and key in, text out.
//!
//! The real devices' algorithms are not public. Check code and cipher text here are **our own
//! derivation**: HMAC-SHA256 over the record's digest under the device's HMAC key, so that signing
//! again changes neither, and so that they cannot be computed without the device's key. They do not
//! decode to anything.

use crate::{
    model::{CstTime, InvoiceNumber, Kind, Totals},
    store::{Assignment, Claim},
};
use aws_lc_rs::hmac;

/// Length of a check code (JYM). Unit: digits.
pub const CHECK_CODE_LEN: usize = 20;

const DIGITS: &[u8] = b"0123456789";
/// The alphabet of cipher texts. Source: docs/domain.md 3.2.
const CIPHER_ALPHABET: &[u8] = b"0123456789+-*/<>";

/// What a cipher text looks like; a matter of the device's profile. Source: docs/domain.md 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum CipherForm {
    /// 112 characters, starts "03" (Baiwang tax-control server); the default.
    #[default]
    Baiwang,
    /// 112 characters, starts "00" (税务UKey).
    UKey,
    /// 108 characters (Aisino).
    Aisino,
}

impl CipherForm {
    /// Length with prefix. Unit: characters.
    #[must_use]
    pub fn text_len(self) -> usize {
        match self {
            Self::Baiwang | Self::UKey => 112,
            Self::Aisino => 108,
        }
    }

    /// The form of a profile's length and prefix; `None` when there is none such.
    #[must_use]
    pub fn of(text_len: usize, prefix: &str) -> Option<Self> {
        [Self::Baiwang, Self::UKey, Self::Aisino]
            .into_iter()
            .find(|form| form.text_len() == text_len && form.prefix() == prefix)
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Baiwang => "03",
            Self::UKey => "00",
            Self::Aisino => "",
        }
    }
}

/// The fields of a record that the derived texts show.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Kind.
    pub kind: Kind,
    /// Code and number.
    pub number: &'a InvoiceNumber,
    /// Issue time.
    pub issue_time: CstTime,
    /// Totals.
    pub totals: Totals,
    /// SHA-256 of the record (fields 1 to 7 of the invoice), 32 bytes.
    pub digest: [u8; 32],
}

impl<'a> Record<'a> {
    /// The record of a claim that we numbered; `None` when the device draws the number.
    #[must_use]
    pub fn of(claim: &'a Claim) -> Option<Self> {
        match &claim.assignment {
            Assignment::Numbered { number, .. } => Some(Self {
                kind: claim.kind,
                number,
                issue_time: claim.claimed_at,
                totals: claim.totals,
                digest: crate::convert::sha256(&claim.head.0),
            }),
            Assignment::ByDevice { .. } => None,
        }
    }
}

/// The check code (JYM): 20 digits.
#[must_use]
pub fn check_code(key: &hmac::Key, record: &Record<'_>) -> String {
    Stream::new(key, b"jym v1", &record.digest).text(DIGITS, CHECK_CODE_LEN)
}

/// The cipher text (FP_MW): 112 or 108 characters of `0-9+-*/<>`.
#[must_use]
pub fn cipher_text(key: &hmac::Key, form: CipherForm, record: &Record<'_>) -> String {
    let prefix = form.prefix();
    let rest = form.text_len().saturating_sub(prefix.len());
    let stream = Stream::new(key, b"fp_mw v1", &record.digest);
    format!("{prefix}{}", stream.text(CIPHER_ALPHABET, rest))
}

/// The text of the two-dimensional code (EWM):
/// `01,<type>,<code>,<number>,<amount without tax>,<yyyyMMdd>,<check code>,<CRC>`.
///
/// The CRC covers the text with its last comma. Source: docs/domain.md 3.3.
#[must_use]
pub fn qr_text(record: &Record<'_>, check_code: &str) -> String {
    let text = format!(
        "01,{},{},{},{},{},{check_code},",
        qr_type(record.kind),
        record.number.code,
        record.number.number_text(),
        yuan(record.totals.amount.0),
        record.issue_time.compact_day(),
    );
    let crc = crc16(text.as_bytes());
    format!("{text}{crc:04X}")
}

/// The second field of the two-dimensional code. 025 is 11 (卷式发票) in the authority's list of kinds
/// for invoice checking; no public code of a roll invoice confirms it.
fn qr_type(kind: Kind) -> &'static str {
    match kind {
        Kind::SpecialPaper => "01",
        Kind::NormalPaper => "04",
        Kind::Roll => "11",
        Kind::ENormal => "10",
        Kind::ESpecial => "08",
    }
}

/// Fen as yuan with two decimals, `-` in front on a red one.
fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    format!("{sign}{}.{:02}", fen / 100, fen % 100)
}

/// CRC-16, polynomial 0x8005, start 0, no reflection, no final xor. Guards against typing errors
/// only.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x8005 }
        })
    })
}

/// An endless stream of bytes: HMAC-SHA256(key, label ‖ digest ‖ counter), counter from 0, 4 bytes.
struct Stream {
    seeded: hmac::Context,
    counter: u32,
}

impl Stream {
    fn new(key: &hmac::Key, label: &[u8], digest: &[u8; 32]) -> Self {
        let mut seeded = hmac::Context::with_key(key);
        seeded.update(label);
        seeded.update(digest);
        Self { seeded, counter: 0 }
    }

    fn block(&mut self) -> hmac::Tag {
        let mut context = self.seeded.clone();
        context.update(&self.counter.to_be_bytes());
        // A text needs a handful of blocks; 2^32 of them are out of reach.
        self.counter = self.counter.wrapping_add(1);
        context.sign()
    }

    /// `len` characters, each drawn evenly: bytes above the largest multiple of the alphabet's
    /// length are skipped, since taking them would favour its first characters.
    fn text(mut self, alphabet: &[u8], len: usize) -> String {
        let fair = 256 - 256 % alphabet.len();
        let mut text = String::with_capacity(len.saturating_add(2));
        while text.len() < len {
            let block = self.block();
            let fair_bytes = block.as_ref().iter().map(|&byte| usize::from(byte));
            for byte in fair_bytes.filter(|&byte| byte < fair).take(len - text.len()) {
                text.push(char::from(alphabet[byte % alphabet.len()]));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fen;
    use proptest::prelude::*;

    fn key(bytes: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, bytes)
    }

    fn number(code: &str, number: u32) -> InvoiceNumber {
        InvoiceNumber { code: code.into(), number }
    }

    fn record(number: &InvoiceNumber, kind: Kind, amount: i64, digest: [u8; 32]) -> Record<'_> {
        let issue_time = CstTime::parse("2020-08-05T00:00:00+08:00").unwrap();
        let totals = Totals { amount: Fen(amount), ..Totals::default() };
        Record { kind, number, issue_time, totals, digest }
    }

    #[test]
    fn the_crc_agrees_with_public_codes() {
        let digital = "01,32,,24312000000136634917,0.01,20240514,,";
        assert_eq!(format!("{:04X}", crc16(digital.as_bytes())), "1DD6");
        assert_eq!(crc16(b"123456789"), 0xfee8); // CRC-16/UMTS (BUYPASS) check value
        let number = number("050001700111", 12_235_358);
        let record = record(&number, Kind::ENormal, 1_000_000, [0; 32]);
        assert_eq!(
            qr_text(&record, "16630282980991510014"),
            "01,10,050001700111,12235358,10000.00,20200805,16630282980991510014,7257"
        );
    }

    #[test]
    fn the_two_dimensional_code_names_the_kind_and_the_amount_without_tax() {
        for (kind, amount, expect) in [
            (Kind::SpecialPaper, 100, "01,01,1,00000042,1.00,"),
            (Kind::NormalPaper, 5, "01,04,1,00000042,0.05,"),
            (Kind::Roll, 30_000, "01,11,1,00000042,300.00,"),
            (Kind::ENormal, -5, "01,10,1,00000042,-0.05,"),
            (Kind::ESpecial, -123_456, "01,08,1,00000042,-1234.56,"),
        ] {
            let number = number("1", 42);
            let text = qr_text(&record(&number, kind, amount, [0; 32]), "00000000000000000000");
            assert!(text.starts_with(expect), "{text}");
            assert_eq!(text.split(',').count(), 8, "{text}: no trailing comma");
            assert_eq!(text.rsplit(',').next().map(str::len), Some(4), "{text}");
        }
    }

    #[test]
    fn the_derivation_never_changes() {
        let number = number("044002600111", 42);
        let record = record(&number, Kind::ENormal, 100, crate::convert::sha256(b"record"));
        let key = key(b"example key of a device, 32 byte");
        assert_eq!(check_code(&key, &record), "61736291833745772010");
        assert_eq!(
            cipher_text(&key, CipherForm::Baiwang, &record),
            "034<-<36833++0+55>0930352607*+3898-<-<917*122-07-*448<->-/<9\
             -400<2009<2>13-4-160+266>02>>7*0+8-/-745**482-6/253>"
        );
    }

    #[test]
    fn another_key_or_record_gives_other_texts() {
        let number = number("1", 1);
        let of = |bytes: &[u8], digest| {
            let record = record(&number, Kind::ENormal, 100, [digest; 32]);
            let key = key(bytes);
            (check_code(&key, &record), cipher_text(&key, CipherForm::Aisino, &record))
        };
        assert_eq!(of(b"a", 1), of(b"a", 1));
        for (code, text) in [of(b"b", 1), of(b"a", 2)] {
            assert_ne!(code, of(b"a", 1).0);
            assert_ne!(text, of(b"a", 1).1);
        }
    }

    #[test]
    fn every_character_is_equally_likely() {
        // Taking every byte would give the first 56 of these 100 half as much again as the others.
        let alphabet: Vec<u8> = (0..100).collect();
        let text = Stream::new(&key(b"a"), b"test", &[0; 32]).text(&alphabet, 10_000);
        let first_half = text.bytes().filter(|&byte| byte < 50).count();
        // Expected 5,000, standard deviation 50; biased: 5,860.
        assert!((4_700..=5_300).contains(&first_half), "{first_half}");
    }

    proptest! {
        #[test]
        fn texts_have_their_length_and_alphabet(digest: [u8; 32], secret: [u8; 32]) {
            let number = number("1", 1);
            let record = record(&number, Kind::ENormal, 1, digest);
            let key = key(&secret);
            let code = check_code(&key, &record);
            prop_assert!(code.len() == 20 && code.bytes().all(|byte| byte.is_ascii_digit()));
            for (form, len, prefix) in [
                (CipherForm::Baiwang, 112, "03"),
                (CipherForm::UKey, 112, "00"),
                (CipherForm::Aisino, 108, ""),
            ] {
                let text = cipher_text(&key, form, &record);
                prop_assert_eq!(text.len(), len);
                prop_assert!(text.starts_with(prefix));
                prop_assert!(text.bytes().all(|byte| CIPHER_ALPHABET.contains(&byte)));
            }
        }
    }
}
