//! Claims and what becomes of them: the rows that promises 1 to 4 are made of.
//!
//! An invoice's bytes are stored in two appends: the head with the claim, the tail with the
//! signature. Both are encodings of `skproxy.v1.Invoice` with ascending field numbers, so head ++
//! tail *is* the invoice, and no answer is ever rebuilt.

use super::{CreditUse, Month};
use crate::{
    contract::ContentDigest,
    convert::{sha256, sha256_parts},
    model::{
        ClaimId, Color, CstTime, DeviceNo, DeviceSerial, InvoiceNumber, Kind, Position, RequestKey,
        SeriesNo, Totals,
    },
    pb::v1 as pb,
};
use bytes::Bytes;
use prost::Message as _;

/// How a claim comes to its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// We drew it.
    Numbered {
        /// Code and number.
        number: InvoiceNumber,
        /// Position in the series.
        position: Position,
    },
    /// The device draws it (设备赋号).
    ByDevice {
        /// The serial that we send instead of the platform's.
        device_serial: DeviceSerial,
        /// The device's next number when the claim was made; while it is unchanged, nothing was
        /// issued.
        next: InvoiceNumber,
    },
}

/// A request that became exactly one number: saved before a key touches it. Cannot be cloned, so
/// there is one live attempt to sign it.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// Id in append order.
    pub id: ClaimId,
    /// Series.
    pub series: SeriesNo,
    /// Device that signs.
    pub device: DeviceNo,
    /// Who asked for what.
    pub request: RequestKey,
    /// What was asked for.
    pub digest: ContentDigest,
    /// How it comes to its number.
    pub assignment: Assignment,
    /// When it was claimed. For a numbered claim this is the issue time.
    pub claimed_at: CstTime,
    /// Kind.
    pub kind: Kind,
    /// Colour.
    pub color: Color,
    /// Totals.
    pub totals: Totals,
    /// The blue invoice that a red one reverses.
    pub red_of: Option<ClaimId>,
    /// Whether its amount counts against the taxpayer's credit quota (授信额度).
    pub counts_credit: bool,
    /// Encoded `Invoice`: fields 1 to 7 of a numbered claim (the signed record), field 1 of
    /// another.
    pub head: ClaimHead,
    /// The chained event of a numbered claim (its number became known); none for a device's.
    pub event: Option<Event>,
}

impl Claim {
    /// What it takes of a credit quota.
    #[must_use]
    pub fn credit(&self) -> Option<CreditUse> {
        self.counts_credit.then(|| CreditUse {
            taxpayer: self.request.taxpayer,
            month: Month::of(self.claimed_at),
            amount: self.totals.amount,
        })
    }
}

/// The first part of an invoice's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimHead(pub Bytes);

impl ClaimHead {
    /// Encodes the part of an invoice that is known before it is signed; the tail's fields stay
    /// empty.
    #[must_use]
    pub fn encode(invoice: &pb::Invoice) -> Self {
        Self(invoice.encode_to_vec().into())
    }

    /// The draft in it.
    ///
    /// # Errors
    /// When the bytes are no invoice, which a CRC would have told.
    pub fn draft(&self) -> Result<pb::InvoiceDraft, prost::DecodeError> {
        Ok(pb::Invoice::decode(self.0.clone())?.draft.unwrap_or_default())
    }
}

/// The second part of an invoice's bytes, made by signing: fields 8 to 13 for a numbered claim, 2
/// to 13 for a device's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTail(pub Bytes);

impl SignedTail {
    /// Encodes the tail. `invoice.draft` must be empty, else the head would stand twice.
    #[must_use]
    pub fn encode(invoice: &pb::Invoice) -> Self {
        debug_assert!(invoice.draft.is_none(), "the draft belongs to the head");
        Self(invoice.encode_to_vec().into())
    }
}

/// SHA-256 over an event and the one before it in its chain, 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EventHash(pub [u8; 32]);

/// What a chained event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A number was drawn by us.
    Claimed,
    /// The signature is saved.
    Issued,
    /// The number is voided, unsigned.
    Voided,
    /// The issued invoice is voided.
    InvoiceVoided,
    /// A device proved that it issued nothing under the claim.
    Released,
    /// Numbers were left out that witnesses know and these books do not.
    Skipped,
    /// A serial was closed unused; in the journal.
    Closed,
    /// Something happened that a person must look into; in the journal.
    Incident,
    /// An operator did something; in the journal.
    Audited,
}

impl EventKind {
    /// Byte in the hash and in the store.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Claimed => 1,
            Self::Issued => 2,
            Self::Voided => 3,
            Self::Released => 4,
            Self::Skipped => 8,
            Self::InvoiceVoided => 9,
            Self::Closed => 5,
            Self::Incident => 6,
            Self::Audited => 7,
        }
    }

    /// The kind that a byte of the journal means; none for what a series' chain holds.
    #[must_use]
    pub fn of_journal(code: u8) -> Option<Self> {
        [Self::Closed, Self::Incident, Self::Audited].into_iter().find(|kind| kind.code() == code)
    }
}

/// An event's place in its chain: a series', or the journal's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Counts events of the chain, from 1, no gaps.
    pub sequence: u64,
    /// Hash over this event and the one before.
    pub hash: EventHash,
}

impl Event {
    /// The event that follows `previous` (`None`: the first) and says `kind` of `claim` with
    /// `body`.
    #[must_use]
    pub fn after(previous: Option<Self>, kind: EventKind, claim: ClaimId, body: &[u8]) -> Self {
        let before = previous.map_or(EventHash::default(), |event| event.hash);
        let sequence = previous.map_or(0, |event| event.sequence).saturating_add(1);
        let hash = Self::chain(before, sequence, (kind, claim), &sha256(body));
        Self { sequence, hash }
    }

    /// The hash of an event whose body has this SHA-256; `verify` walks a chain with it without
    /// keeping the bodies.
    #[must_use]
    pub fn chain(
        before: EventHash,
        sequence: u64,
        (kind, claim): (EventKind, ClaimId),
        body: &[u8; 32],
    ) -> EventHash {
        EventHash(sha256_parts(&[
            &before.0,
            &sequence.to_be_bytes(),
            &[kind.code()],
            &claim.0.to_be_bytes(),
            body,
        ]))
    }

    /// The journal's event that follows `previous` (`None`: the first) and says `kind` of a body
    /// with this SHA-256.
    #[must_use]
    pub fn after_in_journal(previous: Option<Self>, kind: EventKind, body: &[u8; 32]) -> Self {
        let before = previous.map_or(EventHash::default(), |event| event.hash);
        let sequence = previous.map_or(0, |event| event.sequence).saturating_add(1);
        Self { sequence, hash: Self::chain_journal(before, sequence, kind, body) }
    }

    /// As `chain`, for the journal, whose bodies say themselves what they are about.
    #[must_use]
    pub fn chain_journal(
        before: EventHash,
        sequence: u64,
        kind: EventKind,
        body: &[u8; 32],
    ) -> EventHash {
        EventHash(sha256_parts(&[&before.0, &sequence.to_be_bytes(), &[kind.code()], body]))
    }
}

/// A signature to be saved, or saved: makes the claim ISSUED.
#[derive(Debug, PartialEq, Eq)]
pub struct Issued {
    /// The claim.
    pub claim: ClaimId,
    /// Its series.
    pub series: SeriesNo,
    /// The invoice's second part.
    pub tail: SignedTail,
    /// The number, position and time that a device drew; none when they stand in the claim.
    pub drawn: Option<(InvoiceNumber, Position, CstTime)>,
    /// The chained event.
    pub event: Event,
}

/// A number voided before it was signed (空白作废).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voided {
    /// The claim.
    pub claim: ClaimId,
    /// Its series.
    pub series: SeriesNo,
    /// Its number; none when the device drew none.
    pub number: Option<InvoiceNumber>,
    /// The position of a number that a device drew; none when it stands in the claim.
    pub drawn: Option<Position>,
    /// The operator's reason.
    pub reason: String,
    /// When.
    pub at: CstTime,
    /// The chained event.
    pub event: Event,
}

/// A device-numbered claim under which the device provably issued nothing; its serial is free
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The claim.
    pub claim: ClaimId,
    /// Its series.
    pub series: SeriesNo,
    /// Whose serial is free again.
    pub request: RequestKey,
    /// Why we are sure.
    pub evidence: String,
    /// When.
    pub at: CstTime,
    /// The chained event.
    pub event: Event,
}
