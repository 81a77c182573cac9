//! The journal: one chain over the whole store for what no series' chain covers, so that a row of
//! it which is lost or changed is noticed. It holds serials that were closed unused, incidents and
//! audit entries.
//!
//! Invariants: every such fact is one row, its sequence counts from 1 without a gap, and the head
//! is written in the commit that adds to it.

use super::{
    AuditEntry, Batch, ClosedSerial, Event, EventHash, EventKind, Incident, StoreError,
    rows::{
        self,
        Column::{self, Bytes, Int},
    },
    schema::sqlite,
};
use crate::convert::{sha256, to_i64, to_u64};
use rusqlite::Connection;

/// One entry of the journal.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fact<'a> {
    /// A serial was closed unused.
    Closed(&'a ClosedSerial),
    /// Something a person must look into.
    Incident(&'a Incident),
    /// An operator did something.
    Audited(&'a AuditEntry),
}

/// A fact's columns: at, platform, taxpayer, serial, series, claim, actor, text. An event's hash
/// covers them as they stand here, so neither their order nor their meaning may change.
pub(super) type FactColumns<'a> = [Column<'a>; 8];

impl Fact<'_> {
    pub(super) fn kind(&self) -> EventKind {
        match self {
            Self::Closed(_) => EventKind::Closed,
            Self::Incident(_) => EventKind::Incident,
            Self::Audited(_) => EventKind::Audited,
        }
    }

    pub(super) fn columns(&self) -> FactColumns<'_> {
        const NONE: Column<'_> = Int(None);
        match self {
            Self::Closed(ClosedSerial { request, at }) => [
                Int(Some(at.unix())),
                Int(Some(request.platform.0)),
                Int(Some(request.taxpayer.0)),
                Bytes(request.serial.as_str().as_bytes()),
                NONE,
                NONE,
                NONE,
                NONE,
            ],
            Self::Incident(Incident { at, series, claim, text }) => [
                Int(Some(at.unix())),
                NONE,
                NONE,
                NONE,
                Int(series.map(|series| series.0)),
                Int(claim.map(|claim| claim.0)),
                NONE,
                Bytes(text.as_bytes()),
            ],
            Self::Audited(AuditEntry { at, actor, action }) => [
                Int(Some(at.unix())),
                NONE,
                NONE,
                NONE,
                NONE,
                NONE,
                Bytes(actor.as_bytes()),
                Bytes(action.as_bytes()),
            ],
        }
    }
}

/// SHA-256 over a fact's columns.
pub(super) fn body(columns: &[Column<'_>]) -> [u8; 32] {
    sha256(&rows::canonical(columns))
}

impl Batch {
    /// Chains the batch's closed serials, incidents and audit entries after `head`, the journal's
    /// last event before the batch. Returns its last event after it.
    pub fn chain(&mut self, head: Option<Event>) -> Option<Event> {
        self.journal = chained(self, head);
        self.journal.last().copied().or(head)
    }

    /// What the journal keeps of the batch, in the journal's order.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact<'_>> {
        let closed = self.closed.iter().map(Fact::Closed);
        let incidents = self.incidents.iter().map(Fact::Incident);
        closed.chain(incidents).chain(self.audit.iter().map(Fact::Audited))
    }
}

/// The events of a batch's facts when `head` is the last one before them.
pub(super) fn chained(batch: &Batch, head: Option<Event>) -> Vec<Event> {
    let next = |head: &mut Option<Event>, fact: Fact<'_>| {
        *head = Some(Event::after_in_journal(*head, fact.kind(), &body(&fact.columns())));
        *head
    };
    batch.facts().scan(head, next).collect()
}

/// The columns of the journal's head: sequence and hash of its last event, zeros before the first.
pub(super) fn head_columns(sequence: i64, hash: &[u8; 32]) -> [Column<'_>; 2] {
    [Int(Some(sequence)), Bytes(hash)]
}

/// Sequence and hash as the head's row holds them.
pub(super) fn head_values(head: Option<Event>) -> (i64, [u8; 32]) {
    head.map_or((0, [0; 32]), |event| (to_i64(event.sequence), event.hash.0))
}

/// The journal's last event; none before the first.
pub(super) fn head(connection: &Connection) -> Result<Option<Event>, StoreError> {
    let (sequence, hash, crc): (i64, [u8; 32], i64) = connection
        .query_row("SELECT sequence, hash, crc FROM journal_head", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .map_err(sqlite("read the head of the journal"))?;
    rows::check_crc("journal_head", "1", &head_columns(sequence, &hash), crc)?;
    Ok((sequence > 0).then(|| Event { sequence: to_u64(sequence), hash: EventHash(hash) }))
}
