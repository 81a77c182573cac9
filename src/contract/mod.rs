//! 3  Contract: wire message → `Draft` → `Checked`. Pure: values in, verdict out; no I/O, no clock.
//!
//! `normalise` knows no profile and only what the caller sent, so that a bound serial can be looked
//! up before any rule is met. `check` applies the rules of the device's profile as of a moment and
//! reports every violation at once. It never edits an amount. `may_void` and `check_qr` judge what
//! is already issued.

mod check;
mod decimal;
mod differential;
mod digest;
mod findings;
mod leqi;
mod lines;
mod normalise;
mod party;
mod profile;
mod qr;
mod rates;
mod red;
mod remark;
pub mod sample;
mod tax_codes;
mod totals;
mod void;

pub use crate::gbk::gbk_len;
pub use check::check;
pub use digest::digest;
pub use normalise::normalise;
pub use profile::{
    Amounts, Cipher, DEFAULT_PROFILE, Day, KindRules, Kinds, Lengths, Leqi, Lines, OriginField,
    Preferences, Profile, ProfileError, ProfileMistake, Profiles, RatePeriod, RateVerdict, Rates,
    Remark, Required, Severities, Softening, TaxCode, TaxCodeRules, TaxCodes, TaxpayerIds,
    softening,
};
pub use qr::{QrFacts, check_qr};
pub use void::{VoidCase, may_void};

use crate::{
    model::{
        Color, CstTime, DeviceNo, InvoiceNumber, Kind, PlatformNo, Serial, TaxpayerNo, Totals,
    },
    pb::v1 as pb,
    refusal::{Severity, Violation},
    registry::{Device, Taxpayer, ZeroLimit},
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
    /// Whether red-letter invoices (红字发票) are offered. Without the blue invoices' balances nobody
    /// can know how much is left to correct, so a caller that keeps none says no.
    pub red_offered: bool,
    /// Rates that the device's own list authorises (核定税率), ascending; empty when it was not told.
    /// Unit: millionths.
    pub authorised_rates: &'a [i32],
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
    /// The blue invoice that a red one corrects; `None` on a blue one. Whether it exists and has
    /// enough left is for whoever keeps the balances.
    pub original: Option<InvoiceNumber>,
    /// Dated rules were met up to here, the last second of a day; the assigning commit looks
    /// again. `None`: no dated rule ends.
    pub valid_until: Option<CstTime>,
    /// What a limit of zero in the monitor data means, by the profile.
    pub zero_limit: ZeroLimit,
    /// Rules that were violated and did not refuse, at most 64, in the order of the fields.
    pub warnings: Vec<Violation>,
}

impl Checked {
    /// What would have been refused but for `shadow` in the profile; for metric and log.
    pub fn shadowed(&self) -> impl Iterator<Item = &Violation> {
        self.warnings.iter().filter(|found| found.severity == Severity::Shadow)
    }

    /// What the caller should know.
    pub fn warned(&self) -> impl Iterator<Item = &Violation> {
        self.warnings.iter().filter(|found| found.severity == Severity::Warn)
    }
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
