//! Packages (离线导出): files that carry batches to an acceptance side and receipts back where no line
//! leads. Framing, the seal and its check; knows nothing of books.
//!
//! Invariants: a record is read into memory, never a package; what a length says is believed only
//! as far as bytes follow; a package without a seal that verifies is none.

use crate::{
    convert::{hex, len_u64},
    pb::authority::v1::{
        PackageHeader, PackageRecord, PackageSeal, PackageStatement, package_record::Record,
    },
};
use aws_lc_rs::{
    digest::{Context, SHA256},
    signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey},
};
use p256::pkcs8::DecodePublicKey as _;
use prost::Message as _;
use std::io::{self, Read};

/// Version of the format.
pub const VERSION: u32 = 1;
/// Longest record: a batch of 1000 invoices of the longest kind. Unit: bytes.
const RECORD_LEN_MAX: u64 = 1 << 30;

/// Why a file is no package, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// It cannot be read.
    #[error("read the package")]
    Read(#[source] io::Error),
    /// It ends in the middle: an interrupted copy.
    #[error("the package ends in the middle of record {record}: copy it again")]
    Short {
        /// Place of the record, from 0.
        record: u64,
    },
    /// Its bytes are none of a package.
    #[error("record {record} is no record of a package: {what}")]
    Malformed {
        /// Place of the record, from 0.
        record: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The seal does not fit.
    #[error("the package was altered or is not whole: {what}")]
    Seal {
        /// What is wrong.
        what: &'static str,
    },
}

/// A record with its length before it.
#[must_use]
pub fn framed(record: Record) -> Vec<u8> {
    PackageRecord { record: Some(record) }.encode_length_delimited_to_vec()
}

/// What a seal is made of, while a package is written or read.
#[derive(Clone)]
pub struct Tally {
    context: Context,
    size_bytes: u64,
    /// Batches so far.
    pub batches: u64,
    /// Items in these.
    pub items: u64,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self { context: Context::new(&SHA256), size_bytes: 0, batches: 0, items: 0 }
    }
}

impl Tally {
    /// Counts bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.size_bytes = self.size_bytes.saturating_add(len_u64(bytes.len()));
    }

    /// Counts a batch of so many items.
    pub fn batch(&mut self, items: usize) {
        self.batches = self.batches.saturating_add(1);
        self.items = self.items.saturating_add(len_u64(items));
    }

    /// What is to be signed: an encoded `PackageStatement`.
    #[must_use]
    pub fn statement(&self, package_id: &[u8]) -> Vec<u8> {
        PackageStatement {
            package_id: package_id.to_vec(),
            size_bytes: self.size_bytes,
            digest: self.context.clone().finish().as_ref().to_vec(),
            batches: self.batches,
            items: self.items,
        }
        .encode_to_vec()
    }
}

/// Reads records one by one.
#[derive(Debug)]
pub struct Records<R> {
    from: R,
    count: u64,
    tally: Tally,
}

impl<R: Read> Records<R> {
    /// From the beginning of a package.
    pub fn new(from: R) -> Self {
        Self { from, count: 0, tally: Tally::default() }
    }

    /// The next record; none at the end.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn next_record(&mut self) -> Result<Option<Record>, PackageError> {
        let Some((mut frame, len)) = self.length()? else { return Ok(None) };
        let prefix = frame.len();
        let read = self.from.by_ref().take(len).read_to_end(&mut frame);
        let read = read.map_err(PackageError::Read)?;
        if len_u64(read) != len {
            return Err(PackageError::Short { record: self.count });
        }
        let body = frame.get(prefix..).unwrap_or_default();
        let decoded = PackageRecord::decode(body).map_err(|_| self.malformed("no message"))?;
        let record = decoded.record.ok_or_else(|| self.malformed("it is empty"))?;
        self.count = self.count.saturating_add(1);
        if !matches!(record, Record::Seal(_)) {
            self.tally.bytes(&frame);
        }
        if let Record::Batch(batch) = &record {
            self.tally.batch(batch.batch.as_ref().map_or(0, |batch| batch.items.len()));
        }
        Ok(Some(record))
    }

    /// A varint's bytes and value; none at the end.
    fn length(&mut self) -> Result<Option<(Vec<u8>, u64)>, PackageError> {
        let (mut bytes, mut value) = (Vec::new(), 0_u64);
        loop {
            let mut byte = [0];
            match self.from.read(&mut byte) {
                Ok(0) if bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(PackageError::Short { record: self.count }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(PackageError::Read(error)),
            }
            let shift = bytes.len().saturating_mul(7);
            bytes.extend(byte);
            let shift = u32::try_from(shift).unwrap_or(u32::MAX);
            let part = u64::from(byte[0] & 0x7f);
            value |= part.checked_shl(shift).ok_or_else(|| self.malformed("its length"))?;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        if value > RECORD_LEN_MAX {
            return Err(self.malformed("its length"));
        }
        Ok(Some((bytes, value)))
    }

    fn malformed(&self, what: &'static str) -> PackageError {
        PackageError::Malformed { record: self.count, what }
    }

    /// The header, which must come first.
    ///
    /// # Errors
    /// When it is none, or of another version.
    pub fn header(&mut self) -> Result<PackageHeader, PackageError> {
        match self.next_record()? {
            Some(Record::Header(header)) if header.version == VERSION => Ok(header),
            Some(Record::Header(_)) => Err(self.malformed("a version that is not known")),
            Some(_) | None => Err(self.malformed("a package begins with its header")),
        }
    }
}

/// A package whose seal was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Its header.
    pub header: PackageHeader,
    /// Batches in it.
    pub batches: u64,
    /// Items in these.
    pub items: u64,
}

impl Checked {
    /// SHA-256 of the key that signed it, hex.
    #[must_use]
    pub fn key_hash(&self) -> String {
        hex(&crate::convert::sha256(&self.header.statement_key))
    }
}

/// Reads a whole package of batches and checks its seal. `key` is the statement key that it must be
/// signed with, SubjectPublicKeyInfo in DER; without one it is checked with the key that it names
/// itself, which proves that it is whole and not who made it.
///
/// # Errors
/// What is wrong with it.
pub fn check(from: impl Read, key: Option<&[u8]>) -> Result<Checked, PackageError> {
    let mut records = Records::new(from);
    let header = records.header()?;
    let seal = loop {
        match records.next_record()? {
            Some(Record::Device(_) | Record::Batch(_)) => {}
            Some(Record::Seal(seal)) => break seal,
            Some(Record::Header(_) | Record::Receipt(_)) => {
                return Err(records.malformed("it does not belong there"));
            }
            None => return Err(PackageError::Seal { what: "it has no seal" }),
        }
    };
    if records.length()?.is_some() {
        return Err(PackageError::Seal { what: "something follows the seal" });
    }
    if key.is_some_and(|key| key != header.statement_key) {
        return Err(PackageError::Seal { what: "it is signed with another key" });
    }
    check_seal(&header, &seal, &records.tally)?;
    let Tally { batches, items, .. } = records.tally;
    Ok(Checked { header, batches, items })
}

fn check_seal(
    header: &PackageHeader,
    seal: &PackageSeal,
    tally: &Tally,
) -> Result<(), PackageError> {
    let key = p256::PublicKey::from_public_key_der(&header.statement_key)
        .map_err(|_| PackageError::Seal { what: "its key is no P-256 key" })?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.to_sec1_bytes())
        .verify(&seal.statement, &seal.signature)
        .map_err(|_| PackageError::Seal { what: "its signature does not verify" })?;
    if seal.statement == tally.statement(&header.package_id) {
        Ok(())
    } else {
        Err(PackageError::Seal { what: "its content is not what was signed" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::authority::v1::{
        BatchItem, PackageBatch, RegisterDeviceRequest, SubmitBatchRequest,
    };
    use p256::{
        ecdsa::{Signature, SigningKey, signature::Signer as _},
        pkcs8::EncodePublicKey as _,
    };

    fn key() -> (SigningKey, Vec<u8>) {
        let key = SigningKey::from_slice(&crate::clock::random::<32>()).unwrap();
        let public = key.verifying_key().to_public_key_der().unwrap().into_vec();
        (key, public)
    }

    fn batch(items: usize) -> Record {
        let items = vec![BatchItem::default(); items];
        let batch = Some(SubmitBatchRequest { batch_id: vec![1; 16], items });
        Record::Batch(PackageBatch { province: "44".into(), batch })
    }

    fn package(key: &SigningKey, public: &[u8]) -> Vec<Vec<u8>> {
        let header = PackageHeader {
            version: VERSION,
            package_id: vec![9; 16],
            statement_key: public.to_vec(),
            ..PackageHeader::default()
        };
        let device = Record::Device(RegisterDeviceRequest::default());
        let (mut tally, mut frames) = (Tally::default(), Vec::new());
        for record in [Record::Header(header), device, batch(3), batch(2)] {
            frames.push(framed(record));
            tally.bytes(frames.last().unwrap());
        }
        tally.batch(3);
        tally.batch(2);
        let statement = tally.statement(&[9; 16]);
        let signature: Signature = key.sign(&statement);
        let signature = signature.to_der().as_bytes().to_vec();
        frames.push(framed(Record::Seal(PackageSeal { statement, signature })));
        frames
    }

    #[test]
    fn a_package_is_whole_signed_and_says_what_is_in_it() {
        let (signing, public) = key();
        let package = package(&signing, &public).concat();
        for known in [None, Some(public.as_slice())] {
            let checked = check(package.as_slice(), known).unwrap();
            assert_eq!((checked.batches, checked.items), (2, 5));
        }
        let other = key().1;
        assert!(check(package.as_slice(), Some(&other)).is_err());
    }

    #[test]
    fn a_package_that_is_cut_or_altered_anywhere_is_none() {
        let (signing, public) = key();
        let package = package(&signing, &public).concat();
        for len in 0..package.len() {
            assert!(check(&package[..len], None).is_err(), "cut after {len} bytes");
        }
        for at in 0..package.len() {
            let mut altered = package.clone();
            altered[at] ^= 1;
            assert!(check(altered.as_slice(), Some(&public)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn records_are_where_they_belong() {
        let (signing, public) = key();
        let frames = package(&signing, &public);
        let order = |places: &[usize]| {
            let bytes: Vec<u8> = places.iter().flat_map(|at| frames[*at].clone()).collect();
            check(bytes.as_slice(), None).is_ok()
        };
        assert!(order(&[0, 1, 2, 3, 4]));
        for wrong in [
            &[1, 2, 3, 4][..],
            &[0, 1, 2, 3],
            &[0, 1, 3, 2, 4],
            &[0, 1, 2, 4],
            &[0, 0, 1, 2, 3, 4],
            &[0, 1, 2, 3, 4, 4],
            &[0, 1, 2, 3, 3, 4],
            &[],
        ] {
            assert!(!order(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_length_that_nothing_follows_costs_nothing() {
        for bytes in [&[0xff; 12][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x80], &[5, 1]] {
            assert!(Records::new(bytes).next_record().is_err(), "{bytes:?}");
        }
    }
}
