//! 3  Contract: wire message → `Draft` → `Checked`. Pure: values in, verdict out; no I/O, no clock.
//!
//! `normalise` knows no profile and only what the caller sent, so that a bound serial can be looked
//! up before any rule is met. `check` applies the rules of the device's profile and reports every
//! violation at once. It never edits an amount.

mod check;
mod decimal;
mod digest;
mod findings;
mod lines;
mod normalise;
mod party;
mod profile;
pub mod sample;
mod text;
mod totals;

pub use check::check;
pub use digest::digest;
pub use normalise::normalise;
pub use profile::{
    Amounts, Cipher, DEFAULT_PROFILE, Lengths, Lines, Profile, ProfileError, Profiles,
    RemarkLengths, Required, Severity, TaxpayerIds,
};
pub use text::gbk_len;

use crate::{
    model::{Color, CstTime, DeviceNo, Kind, PlatformNo, Serial, TaxpayerNo, Totals},
    pb::v1 as pb,
    registry::{Device, Taxpayer},
};

/// SHA-256 over the canonical encoding of what the caller sent, 32 bytes. Two drafts with one
/// digest are the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest {
    /// Version of the canonical encoding; stored, so that replays are compared with the one used
    /// then.
    pub version: u8,
    /// The digest.
    pub bytes: [u8; 32],
}

/// A request that can be looked up: its serial and seller are well formed, nothing else is checked.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What the caller sent, unchanged; it goes into the invoice as it is.
    pub wire: pb::InvoiceDraft,
    /// The request serial.
    pub serial: Serial,
    /// Digest of the content.
    pub digest: ContentDigest,
}

/// What a draft is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The platform that asks.
    pub platform: PlatformNo,
    /// The seller as registered.
    pub taxpayer: &'a Taxpayer,
    /// The device that would sign.
    pub device: &'a Device,
}

/// A draft that met every rule of its device's profile. Later stages take it and never check again.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The draft.
    pub draft: Draft,
    /// The platform that asks.
    pub platform: PlatformNo,
    /// The seller.
    pub taxpayer: TaxpayerNo,
    /// The device that signs.
    pub device: DeviceNo,
    /// Its kind.
    pub kind: Kind,
    /// Its colour.
    pub color: Color,
    /// Its totals.
    pub totals: Totals,
    /// Dated rules were met up to here; the assigning commit looks again. `None`: no dated rule.
    pub valid_until: Option<CstTime>,
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
