//! Offline proof that the books add up: numbers, positions, request index, event chains, CRCs,
//! outbox, usage and watermark. Reads everything, repairs nothing.

use super::{
    Assignment, Balance, Claim, Counted, Event, EventHash, EventKind, Fate, InvoiceVoid, ListOwner,
    Notice, Place, StoreError, UsageDelta, UsageKey, columns,
    embedded::{self, BOOKS, Options},
    invoice_void::Voids,
    listing, load, reader,
    rows::{
        self,
        Column::{Bytes, Int},
    },
    schema::{self, sqlite},
    upload, verify_journal, verify_rows,
};
use crate::{
    convert::{sha256, to_u64},
    model::{ClaimId, CstTime, InvoiceNumber, Position, RequestKey, SeriesNo},
    pb::v1 as pb,
    registry::{Device, Registry},
};
use prost::Message as _;
use rusqlite::{Connection, OpenFlags};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Checks one invoice's signature with its device's public key: (device, signed record, invoice) →
/// what is wrong.
pub type SignatureCheck<'a> = dyn Fn(&Device, &[u8], &pb::Invoice) -> Result<(), String> + 'a;

/// What `verify` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A daemon's data directory, with its watermark.
    DataDirectory,
    /// A backup, which has none: nobody can tell from it what was committed later.
    Backup,
}

/// What `verify` found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Claims read.
    pub claims: u64,
    /// Issued invoices among them, without those that were voided since.
    pub issued: u64,
    /// Voided ones, before they were signed or after.
    pub voided: u64,
    /// Claims without a signature.
    pub open: u64,
    /// Commits in the books.
    pub commits: u64,
    /// Everything that does not add up; at most `PROBLEMS_MAX`.
    pub problems: Vec<String>,
}

/// More problems than this are one problem: the books are not to be trusted.
const PROBLEMS_MAX: usize = 1000;

impl Findings {
    pub(super) fn problem(&mut self, text: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text.into());
        }
    }

    pub(super) fn take<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        result.map_err(|error| self.problem(crate::refusal::chain(&error))).ok()
    }
}

/// Reads the whole store and reports what does not add up.
///
/// # Errors
/// When the store cannot be opened at all, for example because a daemon holds it.
pub fn verify(
    options: &Options,
    subject: Subject,
    check: &SignatureCheck<'_>,
) -> Result<Findings, StoreError> {
    let path = options.dir.join(BOOKS);
    if !path.exists() {
        return Err(StoreError::Io {
            doing: format!("open the books {}", path.display()),
            source: std::io::ErrorKind::NotFound.into(),
        });
    }
    let _lock = embedded::lock(&options.dir)?;
    let connection = schema::connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("PRAGMA query_only = ON").map_err(sqlite("open for reading"))?;
    schema::check(schema::version(&connection)?)?;
    let mut findings = Findings::default();
    structure(&connection, &mut findings);
    let watermark = match subject {
        Subject::DataDirectory => Some(options.watermark.as_path()),
        Subject::Backup => None,
    };
    findings.take(embedded::judge_offline(&connection, watermark));
    let mut walk = Walk::new(check);
    if let Err(error) = walk.run(&connection, &mut findings) {
        findings.problem(crate::refusal::chain(&error));
    }
    Ok(findings)
}

/// SQLite's own view of its pages and indexes.
fn structure(connection: &Connection, findings: &mut Findings) {
    let sql = "PRAGMA integrity_check(20)";
    let lines = load::all(connection, sql, |row| row.get::<_, String>(0).map(Ok));
    for line in findings.take(lines).unwrap_or_default() {
        if line != "ok" {
            findings.problem(format!("integrity_check: {line}"));
        }
    }
}

/// An event as the walk keeps it until its series is complete.
struct Seen {
    kind: EventKind,
    claim: ClaimId,
    body: [u8; 32],
    hash: EventHash,
}

/// Everything gathered while claims are read in order.
struct Walk<'a> {
    check: &'a SignatureCheck<'a>,
    events: HashMap<SeriesNo, BTreeMap<u64, Seen>>,
    positions: HashMap<SeriesNo, BTreeSet<Position>>,
    numbers: BTreeMap<InvoiceNumber, (ClaimId, SeriesNo)>,
    requests: HashMap<RequestKey, ClaimId>,
    usage: BTreeMap<UsageKey, UsageDelta>,
    listed: BTreeSet<(ListOwner, Place)>,
    /// What red letters, open or issued, take of each blue invoice.
    taken: BTreeMap<ClaimId, Balance>,
    open: BTreeSet<ClaimId>,
    /// What the authority is told, or was.
    told: BTreeSet<Notice>,
    voids: Voids,
}

impl<'a> Walk<'a> {
    fn new(check: &'a SignatureCheck<'a>) -> Self {
        Self {
            check,
            events: HashMap::new(),
            positions: HashMap::new(),
            numbers: BTreeMap::new(),
            requests: HashMap::new(),
            usage: BTreeMap::new(),
            listed: BTreeSet::new(),
            taken: BTreeMap::new(),
            open: BTreeSet::new(),
            told: BTreeSet::new(),
            voids: Voids::default(),
        }
    }

    fn run(&mut self, connection: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
        findings.commits = connection
            .query_row("SELECT counter FROM head", [], |row| row.get(0).map(to_u64))
            .map_err(sqlite("read the head"))?;
        let registry = load::registry(connection)?;
        for id in load::ids(connection, "SELECT id FROM claim ORDER BY id")? {
            let id = ClaimId(id);
            let Some(claim) = findings.take(reader::claim_row(connection, id)) else { continue };
            let Some(fate) = findings.take(reader::fate(connection, id)) else { continue };
            findings.claims += 1;
            self.claim(&claim, &fate, &registry, findings);
        }
        self.series(connection, findings)?;
        self.segments(connection, findings)?;
        self.index(connection, findings)?;
        self.requests(connection, findings)?;
        self.outbox(connection, findings)?;
        self.voids.check(connection, &self.taken, findings)?;
        self.balances(connection, findings)?;
        verify_rows::usage(connection, &self.usage, findings)?;
        listing::compare(connection, &self.listed, findings)?;
        verify_journal::check(connection, findings)?;
        verify_rows::check(connection, findings)
    }

    fn event(&mut self, series: SeriesNo, event: Event, seen: Seen, findings: &mut Findings) {
        let sequence = event.sequence;
        if self.events.entry(series).or_default().insert(sequence, seen).is_some() {
            findings.problem(format!("series {series} has two events {sequence}"));
        }
    }

    fn number(
        &mut self,
        (series, claim): (SeriesNo, ClaimId),
        number: &InvoiceNumber,
        position: Position,
        findings: &mut Findings,
    ) {
        if let Some((other, _)) = self.numbers.insert(number.clone(), (claim, series)) {
            findings.problem(format!("number {number} belongs to claims {other} and {claim}"));
        }
        if !self.positions.entry(series).or_default().insert(position) {
            findings.problem(format!("series {series} has position {} twice", position.0));
        }
    }

    fn claim(&mut self, claim: &Claim, fate: &Fate, registry: &Registry, findings: &mut Findings) {
        if let (Assignment::Numbered { number, position }, Some(event)) =
            (&claim.assignment, claim.event)
        {
            let body = sha256(&claim.head.0);
            let seen = Seen { kind: EventKind::Claimed, claim: claim.id, body, hash: event.hash };
            self.event(claim.series, event, seen, findings);
            self.number((claim.series, claim.id), number, *position, findings);
        }
        if *fate != Fate::Released
            && let Some(other) = self.requests.insert(claim.request.clone(), claim.id)
        {
            findings.problem(format!("claims {other} and {} have one serial", claim.id));
        }
        if let (Some(blue), Fate::Open | Fate::Issued(_)) = (claim.red_of, fate)
            && let Ok(draft) = claim.head.draft()
        {
            let taken = self.taken.entry(blue).or_default();
            *taken = std::mem::take(taken).plus(&Balance::of(&draft));
        }
        match fate {
            Fate::Open => {
                findings.open += 1;
                self.open.insert(claim.id);
            }
            Fate::Issued(issued) => {
                findings.issued += 1;
                self.issued(claim, issued, registry, findings);
            }
            Fate::InvoiceVoided(issued, void) => {
                findings.voided += 1;
                self.issued(claim, issued, registry, findings);
                self.invoice_void(claim, (issued, void), findings);
            }
            Fate::Voided(voided) => {
                findings.voided += 1;
                if let (Some(number), Some(position)) = (&voided.number, voided.drawn) {
                    self.number((claim.series, claim.id), number, position, findings);
                }
                if voided.number.is_some() {
                    self.told.insert(Notice::end(claim.id));
                }
                let (body, hash) = (sha256(voided.reason.as_bytes()), voided.event.hash);
                let seen = Seen { kind: EventKind::Voided, claim: claim.id, body, hash };
                self.event(claim.series, voided.event, seen, findings);
            }
            // A release is checked with the others of its table: its event is read there.
            Fate::Released => {}
        }
    }

    fn issued(
        &mut self,
        claim: &Claim,
        issued: &super::Issued,
        registry: &Registry,
        findings: &mut Findings,
    ) {
        let id = claim.id;
        self.told.insert(Notice::end(id));
        let (body, hash) = (sha256(&issued.tail.0), issued.event.hash);
        let seen = Seen { kind: EventKind::Issued, claim: id, body, hash };
        self.event(claim.series, issued.event, seen, findings);
        let issue_time = match &issued.drawn {
            Some((number, position, time)) => {
                self.number((claim.series, id), number, *position, findings);
                *time
            }
            None => claim.claimed_at,
        };
        self.count(claim, Counted::Issued, issue_time);
        let RequestKey { platform, taxpayer, .. } = claim.request;
        let owner = ListOwner { taxpayer, platform };
        self.listed.insert((owner, Place { at: issue_time, claim: id }));
        let bytes = reader::joined(&claim.head.0, &issued.tail.0);
        let Ok(invoice) = pb::Invoice::decode(bytes) else {
            return findings.problem(format!("the invoice of claim {id} does not decode"));
        };
        let Some(device) = registry.devices.get(&claim.device) else {
            return findings.problem(format!("claim {id} names a device that is not registered"));
        };
        let record = match &issued.drawn {
            None => claim.head.0.clone(),
            Some(_) => reader::joined(&claim.head.0, &drawn_record(&invoice)),
        };
        if let Err(why) = (self.check)(device, &record, &invoice) {
            findings.problem(format!("claim {id}: {why}"));
        }
    }

    fn count(&mut self, claim: &Claim, counted: Counted, at: CstTime) {
        let key = UsageKey {
            day: at.day(),
            platform: claim.request.platform,
            taxpayer: claim.request.taxpayer,
            kind: claim.kind,
            color: claim.color,
            counted,
        };
        self.usage.entry(key).or_default().add(claim.totals);
    }

    fn invoice_void(
        &mut self,
        claim: &Claim,
        (issued, void): (&super::Issued, &InvoiceVoid),
        findings: &mut Findings,
    ) {
        self.told.insert(Notice::invoice_void(claim.id));
        self.count(claim, Counted::Voided, void.at);
        let invoice = reader::joined(&claim.head.0, &issued.tail.0);
        let said = (void.reason.as_str(), void.at);
        let body = sha256(&InvoiceVoid::body(&invoice, &void.request, said));
        let seen =
            Seen { kind: EventKind::InvoiceVoided, claim: claim.id, body, hash: void.event.hash };
        self.event(claim.series, void.event, seen, findings);
        let issued_at = issued.drawn.as_ref().map_or(claim.claimed_at, |(.., time)| *time);
        self.voids.note(void, issued_at, findings);
    }

    /// Positions and events of each series: no gap, no other head, each hash follows from the one
    /// before.
    fn series(
        &mut self,
        connection: &Connection,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let sql = "SELECT claim, series, body, crc FROM release ORDER BY claim";
        let releases = load::all(connection, sql, |row| {
            let (claim, series): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (body, crc): (Vec<u8>, i64) = (row.get(2)?, row.get(3)?);
            let columns = [Int(Some(claim)), Int(Some(series)), Bytes(&body)];
            let checked = rows::check_crc("release", &claim.to_string(), &columns, crc);
            Ok(checked.and_then(|()| {
                let body: rows::EndBody = rows::unseal(&body)?;
                let event = body.event.as_ref().map(rows::EventBody::event).transpose()?;
                Ok((ClaimId(claim), SeriesNo(series), body.reason, event))
            }))
        })?;
        for (claim, series, reason, event) in releases {
            let Some(event) = event else { continue };
            let (body, hash) = (sha256(reason.as_bytes()), event.hash);
            let seen = Seen { kind: EventKind::Released, claim, body, hash };
            self.event(series, event, seen, findings);
        }
        for lost in load::lost(connection)? {
            let body = sha256(super::LostRange::body(&lost.first, lost.last).as_bytes());
            let (claim, hash) = (ClaimId(0), lost.event.hash);
            let seen = Seen { kind: EventKind::Skipped, claim, body, hash };
            self.event(lost.series, lost.event, seen, findings);
        }
        for state in load::series(connection)? {
            let no = state.no;
            let positions = self.positions.remove(&no).unwrap_or_default();
            let count = crate::convert::len_u64(positions.len());
            let gapless = positions.iter().map(|position| position.0).eq(0..count);
            if !gapless || count != state.next_position.0 {
                let next = state.next_position.0;
                findings.problem(format!(
                    "series {no} stands at position {next} but {count} positions are taken"
                ));
            }
            let events = self.events.remove(&no).unwrap_or_default();
            if let Err(why) = chain(&events, state.event) {
                findings.problem(format!("series {no}: {why}"));
            }
        }
        for no in self.events.keys().chain(self.positions.keys()) {
            findings.problem(format!("claims name series {no}, which does not exist"));
        }
        Ok(())
    }

    /// Every number below a segment's next is claimed, none at or above it, none outside a segment.
    fn segments(&self, connection: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
        let mut inside = 0_u64;
        let lost = load::lost(connection)?;
        for segment in load::segments(connection)? {
            let number = |number| InvoiceNumber { code: segment.code.clone(), number };
            let taken = self.numbers.range(number(segment.first)..=number(segment.last));
            let mut expected = segment.first;
            for (taken, (claim, series)) in taken {
                inside += 1;
                expected = past_lost(&lost, &segment.code, expected);
                if taken.number != expected || *series != segment.series {
                    findings.problem(format!("number {taken} of claim {claim} is out of turn"));
                }
                expected = taken.number.saturating_add(1);
            }
            expected = past_lost(&lost, &segment.code, expected);
            if expected != segment.next {
                findings.problem(format!(
                    "segment {} of series {} stands at {:08}, its claims end before {expected:08}",
                    segment.no, segment.series, segment.next
                ));
            }
        }
        let numbered = crate::convert::len_u64(self.numbers.len());
        let drawn: i64 = connection
            .query_row(
                "SELECT count(*) FROM number JOIN claim ON claim.id = number.claim
                 JOIN series ON series.no = claim.series JOIN device ON device.no = series.device
                 WHERE device.backend IN ('skserver', 'simulated-device')",
                [],
                |row| row.get(0),
            )
            .map_err(sqlite("count device-drawn numbers"))?;
        if inside.saturating_add(to_u64(drawn)) != numbered {
            findings.problem(format!("{numbered} numbers are claimed, {inside} lie in a segment"));
        }
        Ok(())
    }

    /// The number index names exactly the claims' numbers.
    fn index(&self, connection: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
        let sql = "SELECT code.code, number.number, number.claim, number.code, number.crc
                   FROM number JOIN code ON code.no = number.code";
        let entries = load::all(connection, sql, |row| {
            let (number, claim, code): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
            let columns = [Int(Some(code)), Int(Some(number)), Int(Some(claim))];
            let checked = rows::check_crc("number", &number.to_string(), &columns, row.get(4)?);
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let entry = (InvoiceNumber { code: row.get(0)?, number }, ClaimId(claim));
            Ok(checked.map(|()| entry))
        })?;
        if entries.len() != self.numbers.len() {
            findings.problem(format!(
                "the number index has {} entries for {} numbers",
                entries.len(),
                self.numbers.len()
            ));
        }
        for (number, claim) in entries {
            if self.numbers.get(&number).map(|known| known.0) != Some(claim) {
                findings.problem(format!("the number index gives {number} to claim {claim}"));
            }
        }
        Ok(())
    }

    /// The request index names exactly the claims that are not released.
    fn requests(&self, connection: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
        let mut bound = 0_usize;
        let sql = "SELECT platform, taxpayer, serial, claim, closed_at, crc FROM request";
        let entries = load::all(connection, sql, |row| {
            let serial: String = row.get(2)?;
            let Some(serial) = crate::model::Serial::parse(&serial) else {
                return Ok(Err(StoreError::damaged("a request has a malformed serial")));
            };
            let key = RequestKey {
                platform: crate::model::PlatformNo(row.get(0)?),
                taxpayer: crate::model::TaxpayerNo(row.get(1)?),
                serial,
            };
            let (claim, closed): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            let columns = columns::request_columns(&key, claim, closed);
            let checked = rows::check_crc("request", key.serial.as_str(), &columns, row.get(5)?);
            Ok(checked.map(|()| (key, claim.map(ClaimId))))
        })?;
        for (key, claim) in entries {
            let Some(claim) = claim else { continue };
            bound += 1;
            if self.requests.get(&key) != Some(&claim) {
                findings.problem(format!("the request index gives a serial to claim {claim}"));
            }
        }
        if bound != self.requests.len() {
            findings.problem(format!(
                "the request index has {bound} entries for {} claims",
                self.requests.len()
            ));
        }
        Ok(())
    }

    /// What is to be told is either waiting or in one batch; open claims are in neither.
    fn outbox(&self, connection: &Connection, findings: &mut Findings) -> Result<(), StoreError> {
        let open: BTreeSet<_> = load::ids(connection, "SELECT claim FROM open_claim")?
            .into_iter()
            .map(ClaimId)
            .collect();
        for claim in open.symmetric_difference(&self.open) {
            findings.problem(format!("claim {claim} is listed open, or is open and not listed"));
        }
        let mut kept: BTreeSet<Notice> = BTreeSet::new();
        for item in load::outbox(connection)? {
            kept.insert(item.notice);
        }
        for item in upload::asides(connection)? {
            kept.insert(item.notice);
        }
        let standing = "SELECT no FROM batch WHERE no NOT IN (SELECT batch FROM split) ORDER BY no";
        for no in load::ids(connection, standing)? {
            let batch = reader::batch(connection, crate::model::BatchNo(no));
            for notice in findings.take(batch).map(|batch| batch.members).unwrap_or_default() {
                if !kept.insert(notice) {
                    findings.problem(format!("{notice} is to be delivered twice"));
                }
            }
        }
        for notice in kept.symmetric_difference(&self.told) {
            findings.problem(format!("{notice} is delivered and not made, or the reverse"));
        }
        let unanswered = "SELECT count(*) FROM batch WHERE no NOT IN (SELECT batch FROM receipt)
                          AND no NOT IN (SELECT batch FROM open_batch)
                          AND no NOT IN (SELECT batch FROM split)";
        let lost: i64 = connection
            .query_row(unanswered, [], |row| row.get(0))
            .map_err(sqlite("count batches"))?;
        if lost != 0 {
            findings.problem(format!("{lost} batches are neither open nor answered"));
        }
        Ok(())
    }

    /// The balance of each blue invoice is what its red letters leave of it.
    fn balances(
        &mut self,
        connection: &Connection,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        for blue in load::ids(connection, "SELECT blue FROM balance ORDER BY blue")? {
            let blue = ClaimId(blue);
            let stored = findings.take(reader::balance(connection, blue)).flatten();
            let taken = self.taken.remove(&blue).unwrap_or_default();
            let draft = reader::claim_row(connection, blue).and_then(|claim| {
                let draft = claim.head.draft();
                draft.map_err(|error| StoreError::damaged(format!("claim {blue}: {error}")))
            });
            let (Some(stored), Some(draft)) = (stored, findings.take(draft)) else { continue };
            let left = Balance::of(&draft).plus(&taken);
            if left.overdrawn().is_some() {
                findings.problem(format!("red letters take more than invoice {blue} is for"));
            }
            if stored.parts() != left.parts() {
                findings.problem(format!("the balance of invoice {blue} is not what is left"));
            }
        }
        for blue in self.taken.keys() {
            findings.problem(format!("red letters reverse invoice {blue}, which has no balance"));
        }
        Ok(())
    }
}

/// The first number from `number` on that is not left out.
fn past_lost(lost: &[super::LostRange], code: &str, mut number: u32) -> u32 {
    let here = |range: &&super::LostRange, number| {
        range.first.code == code && (range.first.number..=range.last).contains(&number)
    };
    while let Some(range) = lost.iter().find(|range| here(range, number)) {
        number = range.last.saturating_add(1);
    }
    number
}

/// Fields 2 to 7 of an invoice, which a device that draws numbers signs after the draft.
fn drawn_record(invoice: &pb::Invoice) -> Vec<u8> {
    pb::Invoice {
        code: invoice.code.clone(),
        number: invoice.number.clone(),
        issue_time: invoice.issue_time.clone(),
        device_id: invoice.device_id.clone(),
        machine_number: invoice.machine_number.clone(),
        record_version: invoice.record_version,
        ..pb::Invoice::default()
    }
    .encode_to_vec()
}

fn chain(events: &BTreeMap<u64, Seen>, head: Option<Event>) -> Result<(), String> {
    let mut before = EventHash::default();
    let mut last = 0;
    for (sequence, seen) in events {
        if *sequence != last + 1 {
            return Err(format!("event {} is missing", last + 1));
        }
        let expected = Event::chain(before, *sequence, (seen.kind, seen.claim), &seen.body);
        if expected != seen.hash {
            return Err(format!("event {sequence} (claim {}) breaks the chain", seen.claim));
        }
        (before, last) = (expected, *sequence);
    }
    let walked = (last > 0).then_some(Event { sequence: last, hash: before });
    if walked == head { Ok(()) } else { Err("the chain ends elsewhere than the head says".into()) }
}
