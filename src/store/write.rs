//! Writes one batch's rows inside the open transaction of the embedded store, and sums their CRCs
//! up for the commit's running hash.

use super::{
    Assignment, Batch, Claim, ClosedSerial, DeliveryBatch, Event, InvoiceVoid, Issued, LostRange,
    Notice, ReceiptRecord, RedBalance, RegistryChange, Released, SegmentState, SeriesState,
    UsageDelta, UsageKey, Voided, columns, invoice_void, journal, red,
    rows::{
        self,
        Column::{Bytes, Int},
    },
};
use crate::{
    convert::to_i64,
    model::{ClaimId, InvoiceNumber, RequestKey},
    registry::{Device, DeviceConnection, Monitor},
};
use chrono::Datelike as _;
use prost::Message as _;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

type Result<T = ()> = rusqlite::Result<T>;

/// Writes rows over one connection; `crcs` gathers what the running hash is made of.
pub(super) struct Writer<'a> {
    connection: &'a Connection,
    /// The CRCs of every row written, in order, 4 bytes each.
    pub(super) crcs: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, crcs: Vec::new() }
    }

    /// Writes the whole batch.
    pub(super) fn batch(&mut self, batch: &Batch) -> Result {
        batch.registry.iter().try_for_each(|change| self.registry(change))?;
        batch.series.iter().try_for_each(|series| self.series(series))?;
        batch.segments.iter().try_for_each(|segment| self.segment(segment))?;
        batch.lost.iter().try_for_each(|lost| self.lost(lost))?;
        // Before the claims: a serial that is freed may be bound again in the same commit.
        batch.released.iter().try_for_each(|released| self.released(released))?;
        batch.claims.iter().try_for_each(|claim| self.claim(claim))?;
        batch.issued.iter().try_for_each(|issued| self.issued(issued))?;
        batch.voided.iter().try_for_each(|voided| self.voided(voided))?;
        batch.invoice_voids.iter().try_for_each(|void| self.invoice_void(void))?;
        batch.closed.iter().try_for_each(|closed| self.closed(closed))?;
        batch.balances.iter().try_for_each(|balance| self.balance(balance))?;
        batch.usage.iter().try_for_each(|(key, delta)| self.usage(key, delta))?;
        batch.acceptances.iter().try_for_each(|acceptance| self.acceptance(acceptance))?;
        batch.splits.iter().try_for_each(|split| self.split(split))?;
        batch.sent_again.iter().try_for_each(|notice| self.sent_again(*notice))?;
        batch.deliveries.iter().try_for_each(|delivery| self.delivery(delivery))?;
        batch.write_backs.iter().try_for_each(|write_back| self.write_back(write_back))?;
        batch.receipts.iter().try_for_each(|receipt| self.receipt(receipt))?;
        self.journal(batch)
    }

    pub(super) fn crc(&mut self, table: &str, columns: &[rows::Column<'_>]) -> i64 {
        let crc = rows::crc(table, columns);
        self.crcs.extend_from_slice(&crc.to_be_bytes()[4..]);
        crc
    }

    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'a>> {
        self.connection.prepare_cached(sql)
    }

    fn registry(&mut self, change: &RegistryChange) -> Result {
        match change {
            RegistryChange::Platform(platform) => {
                let crc = self.crc("platform", &columns::platform_columns(platform));
                self.statement("INSERT OR REPLACE INTO platform VALUES (?, ?, ?, ?, ?)")?.execute(
                    params![platform.no.0, platform.id, platform.name, platform.enabled, crc],
                )
            }
            RegistryChange::Certificate(cert) => {
                let crc = self.crc("certificate", &columns::certificate_columns(cert));
                self.statement("INSERT OR REPLACE INTO certificate VALUES (?, ?, ?, ?, ?)")?
                    .execute(params![
                        cert.key.0,
                        cert.platform.0,
                        cert.not_after.unix(),
                        cert.revoked,
                        crc
                    ])
            }
            RegistryChange::Taxpayer(taxpayer) => {
                let forbidden = taxpayer.forbidden.text();
                let crc = self.crc("taxpayer", &columns::taxpayer_columns(taxpayer, &forbidden));
                self.statement("INSERT OR REPLACE INTO taxpayer VALUES (?, ?, ?, ?, ?, ?)")?
                    .execute(params![
                        taxpayer.no.0,
                        taxpayer.id,
                        taxpayer.name,
                        taxpayer.province,
                        forbidden,
                        crc
                    ])
            }
            RegistryChange::Binding(platform, taxpayer, grants) => {
                let operations = grants.text();
                let columns = columns::binding_columns((*platform, *taxpayer), &operations);
                let crc = self.crc("binding", &columns);
                self.statement("INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?)")?
                    .execute(params![platform.0, taxpayer.0, operations, crc])
            }
            RegistryChange::Device(device, wrapped) => {
                return self.device(device, wrapped.as_deref());
            }
            RegistryChange::Route(route) => {
                let crc = self.crc("route", &columns::route_columns(route));
                self.statement("INSERT OR REPLACE INTO route VALUES (?, ?, ?, ?, ?)")?.execute(
                    params![
                        route.province,
                        route.address,
                        route.server_name,
                        route.receipt_key,
                        crc
                    ],
                )
            }
            RegistryChange::Monitor(monitor) => return self.monitor(monitor),
            RegistryChange::Setting(key, value) => {
                let crc = self.crc("setting", &[Bytes(key.as_bytes()), Bytes(value)]);
                self.statement("INSERT OR REPLACE INTO setting VALUES (?, ?, ?)")?
                    .execute(params![key, value, crc])
            }
        }
        .map(drop)
    }

    fn monitor(&mut self, monitor: &Monitor) -> Result {
        let body = rows::seal(&monitor.facts.to_wire());
        let crc = self.crc("monitor", &columns::monitor_columns(monitor, &body));
        self.statement("INSERT OR REPLACE INTO monitor VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                monitor.device.0,
                monitor.kind.legacy_code(),
                monitor.told_by.code(),
                monitor.told_at.unix(),
                body,
                crc
            ])
            .map(drop)
    }

    fn device(&mut self, device: &Device, wrapped: Option<&[u8]>) -> Result {
        let kept: Option<Vec<u8>> = match wrapped {
            Some(key) => Some(key.to_owned()),
            None => self
                .statement("SELECT wrapped_key FROM device WHERE no = ?")?
                .query_row([device.no.0], |row| row.get(0))
                .optional()?
                .flatten(),
        };
        let kinds = columns::kinds_text(device);
        let connection = device.connection.as_ref().map(DeviceConnection::encode_to_vec);
        let blobs = (kept.as_deref(), connection.as_deref());
        let crc = self.crc("device", &columns::device_columns(device, &kinds, blobs));
        self.statement(
            "INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (no) DO UPDATE SET enabled = excluded.enabled, kinds = excluded.kinds,
                 profile = excluded.profile, public_key = excluded.public_key,
                 wrapped_key = excluded.wrapped_key, connection = excluded.connection,
                 crc = excluded.crc",
        )?
        .execute(params![
            device.no.0,
            device.id,
            device.taxpayer.0,
            device.machine_number,
            device.backend.name(),
            kinds,
            device.profile,
            device.enabled,
            device.test,
            device.public_key,
            kept,
            connection,
            crc
        ])
        .map(drop)
    }

    fn series(&mut self, series: &SeriesState) -> Result {
        let (sequence, hash) = series.event.map_or((0, [0; 32]), |e| (e.sequence, e.hash.0));
        let crc = self.crc("series", &columns::series_columns(series, &hash));
        self.statement(
            "INSERT INTO series VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (no) DO UPDATE SET next_position = excluded.next_position,
                 event_sequence = excluded.event_sequence, event_hash = excluded.event_hash,
                 last_issue = excluded.last_issue, frozen = excluded.frozen,
                 device_code = excluded.device_code, device_number = excluded.device_number,
                 blue = excluded.blue, red = excluded.red,
                 reported_blue = excluded.reported_blue, reported_red = excluded.reported_red,
                 reported_until = excluded.reported_until, crc = excluded.crc",
        )?
        .execute(params![
            series.no.0,
            series.device.0,
            series.kind.legacy_code(),
            to_i64(series.next_position.0),
            to_i64(sequence),
            hash,
            series.last_issue.map(crate::model::CstTime::unix),
            series.frozen,
            series.device_next.as_ref().map(|next| &next.code),
            series.device_next.as_ref().map(|next| next.number),
            series.period.blue.0,
            series.period.red.0,
            series.period.reported_blue.0,
            series.period.reported_red.0,
            series.period.reported_until.map(|day| day.num_days_from_ce()),
            crc
        ])
        .map(drop)
    }

    fn segment(&mut self, segment: &SegmentState) -> Result {
        let crc = self.crc("segment", &columns::segment_columns(segment));
        self.statement(
            "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (no) DO UPDATE SET next = excluded.next, crc = excluded.crc",
        )?
        .execute(params![
            segment.no.0,
            segment.series.0,
            segment.code,
            segment.first,
            segment.last,
            segment.next,
            crc
        ])
        .map(drop)
    }

    fn balance(&mut self, balance: &RedBalance) -> Result {
        let body = rows::seal(&red::body(&balance.left));
        let crc = self.crc("balance", &[Int(Some(balance.blue.0)), Bytes(&body)]);
        self.statement("INSERT OR REPLACE INTO balance VALUES (?, ?, ?)")?
            .execute(params![balance.blue.0, body, crc])
            .map(drop)
    }

    fn lost(&mut self, lost: &LostRange) -> Result {
        let crc = self.crc("lost", &columns::lost_columns(lost));
        self.statement(
            "INSERT INTO lost(series, code, first, last, at, event_sequence, event_hash, crc)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            lost.series.0,
            lost.first.code,
            lost.first.number,
            lost.last,
            lost.at.unix(),
            to_i64(lost.event.sequence),
            lost.event.hash.0,
            crc
        ])
        .map(drop)
    }

    fn claim(&mut self, claim: &Claim) -> Result {
        let body = rows::seal(&rows::claim_body(claim));
        let crc =
            self.crc("claim", &[Int(Some(claim.id.0)), Int(Some(claim.series.0)), Bytes(&body)]);
        self.statement("INSERT INTO claim VALUES (?, ?, ?, ?)")?.execute(params![
            claim.id.0,
            claim.series.0,
            body,
            crc
        ])?;
        self.statement("INSERT INTO open_claim VALUES (?)")?.execute([claim.id.0])?;
        self.request(&claim.request, Some(claim.id), None)?;
        match &claim.assignment {
            Assignment::Numbered { number, .. } => self.number(number, claim.id),
            Assignment::ByDevice { .. } => Ok(()),
        }
    }

    fn request(
        &mut self,
        key: &RequestKey,
        claim: Option<ClaimId>,
        closed_at: Option<i64>,
    ) -> Result {
        let claim = claim.map(|claim| claim.0);
        let crc = self.crc("request", &columns::request_columns(key, claim, closed_at));
        self.statement("INSERT INTO request VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![
                key.platform.0,
                key.taxpayer.0,
                key.serial.as_str(),
                claim,
                closed_at,
                crc
            ])
            .map(drop)
    }

    fn number(&mut self, number: &InvoiceNumber, claim: ClaimId) -> Result {
        let known: Option<i64> = self
            .statement("SELECT no FROM code WHERE code = ?")?
            .query_row([&number.code], |row| row.get(0))
            .optional()?;
        let code = match known {
            Some(code) => code,
            None => {
                self.statement("INSERT INTO code (code) VALUES (?)")?.execute([&number.code])?;
                self.connection.last_insert_rowid()
            }
        };
        let crc = self.crc(
            "number",
            &[Int(Some(code)), Int(Some(i64::from(number.number))), Int(Some(claim.0))],
        );
        self.statement("INSERT INTO number VALUES (?, ?, ?, ?)")?
            .execute(params![code, number.number, claim.0, crc])
            .map(drop)
    }

    /// Closes an open claim's row; a claim that is not open any more is a contradiction.
    fn finish(&mut self, claim: ClaimId) -> Result {
        match self.statement("DELETE FROM open_claim WHERE claim = ?")?.execute([claim.0])? {
            1 => Ok(()),
            changed => Err(rusqlite::Error::StatementChangedRows(changed)),
        }
    }

    fn issued(&mut self, issued: &Issued) -> Result {
        let body = rows::seal(&rows::issued_body(issued));
        self.end("signature", (issued.claim, issued.series.0), &body)?;
        if let Some((number, ..)) = &issued.drawn {
            self.number(number, issued.claim)?;
        }
        self.wait_for_batch(Notice::end(issued.claim))
    }

    fn voided(&mut self, voided: &Voided) -> Result {
        let body = rows::seal(&rows::EndBody::of_void(voided));
        self.end("void", (voided.claim, voided.series.0), &body)?;
        // Without a number there is nothing that the authority could be told.
        let Some(number) = &voided.number else { return Ok(()) };
        if voided.drawn.is_some() {
            self.number(number, voided.claim)?;
        }
        self.wait_for_batch(Notice::end(voided.claim))
    }

    /// The claim has ended before; its signature stays as it is.
    fn invoice_void(&mut self, void: &InvoiceVoid) -> Result {
        let (claim, series, key) = (void.claim, void.series.0, &void.request);
        let body = rows::seal(&invoice_void::body(void));
        let columns = [Int(Some(claim.0)), Int(Some(series)), Bytes(&body)];
        let crc = self.crc("invoice_void", &columns);
        self.statement("INSERT INTO invoice_void VALUES (?, ?, ?, ?)")?
            .execute(params![claim.0, series, body, crc])?;
        let crc = self.crc("void_request", &invoice_void::request_columns(key, claim));
        self.statement("INSERT INTO void_request VALUES (?, ?, ?, ?, ?)")?.execute(params![
            key.platform.0,
            key.taxpayer.0,
            key.serial.as_str(),
            claim.0,
            crc
        ])?;
        self.wait_for_batch(Notice::invoice_void(claim))
    }

    pub(super) fn wait_for_batch(&mut self, notice: Notice) -> Result {
        self.statement("INSERT INTO outbox VALUES (?)")?.execute([notice.code()]).map(drop)
    }

    fn released(&mut self, released: &Released) -> Result {
        let body = rows::seal(&rows::EndBody::of_release(released));
        self.end("release", (released.claim, released.series.0), &body)?;
        let key = &released.request;
        self.statement(
            "DELETE FROM request WHERE platform = ? AND taxpayer = ? AND serial = ? AND claim = ?",
        )?
        .execute(params![key.platform.0, key.taxpayer.0, key.serial.as_str(), released.claim.0])
        .map(drop)
    }

    /// Appends the row that ends a claim.
    fn end(&mut self, table: &'static str, (claim, series): (ClaimId, i64), body: &[u8]) -> Result {
        let crc = self.crc(table, &[Int(Some(claim.0)), Int(Some(series)), Bytes(body)]);
        self.statement(&format!("INSERT INTO {table} VALUES (?, ?, ?, ?)"))?
            .execute(params![claim.0, series, body, crc])?;
        self.finish(claim)
    }

    fn closed(&mut self, closed: &ClosedSerial) -> Result {
        self.request(&closed.request, None, Some(closed.at.unix()))
    }

    fn usage(&mut self, key: &UsageKey, delta: &UsageDelta) -> Result {
        let [row @ .., count, amount, tax, total] = columns::usage_values(key, delta);
        let row: [i64; 6] = row;
        let added = [count, amount, tax, total];
        let before: Option<([i64; 4], i64)> = self
            .statement(
                "SELECT count, amount, tax, total, crc FROM usage
                 WHERE day = ? AND platform = ? AND taxpayer = ? AND kind = ? AND color = ?
                     AND counted = ?",
            )?
            .query_row(row, |row| {
                Ok(([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?], row.get(4)?))
            })
            .optional()?;
        if let Some((sums, crc)) = before {
            // A damaged sum that is counted on would get a new CRC and pass for a good one.
            let columns: Vec<_> = row.iter().chain(&sums).map(|value| Int(Some(*value))).collect();
            if rows::crc("usage", &columns) != crc {
                return Err(rusqlite::Error::IntegralValueOutOfRange(10, crc));
            }
        }
        let mut sums = before.map(|(sums, _)| sums).unwrap_or_default();
        for (sum, add) in sums.iter_mut().zip(added) {
            // An i64 of fen holds 9e16 yuan: more than all money there is.
            *sum = sum.checked_add(add).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, add))?;
        }
        let columns: Vec<_> = row.iter().chain(&sums).map(|value| Int(Some(*value))).collect();
        let crc = self.crc("usage", &columns);
        let values = row.into_iter().chain(sums).chain([crc]);
        self.statement("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?
            .execute(rusqlite::params_from_iter(values))
            .map(drop)
    }

    fn delivery(&mut self, delivery: &DeliveryBatch) -> Result {
        let members = columns::members_blob(&delivery.members);
        let crc = self.crc("batch", &columns::batch_columns(delivery, &members));
        self.statement("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)")?.execute(params![
            delivery.no.0,
            delivery.id,
            delivery.province,
            delivery.at.unix(),
            members,
            crc
        ])?;
        self.statement("INSERT INTO open_batch VALUES (?)")?.execute([delivery.no.0])?;
        for (position, notice) in (0_i64..).zip(&delivery.members) {
            let code = notice.code();
            if self.statement("DELETE FROM outbox WHERE notice = ?")?.execute([code])? != 1 {
                return Err(rusqlite::Error::StatementChangedRows(0));
            }
            let columns = [Int(Some(code)), Int(Some(delivery.no.0)), Int(Some(position))];
            let crc = self.crc("delivery", &columns);
            self.statement("INSERT INTO delivery VALUES (?, ?, ?, ?)")?.execute(params![
                code,
                delivery.no.0,
                position,
                crc
            ])?;
        }
        Ok(())
    }

    fn receipt(&mut self, record: &ReceiptRecord) -> Result {
        if self.statement("DELETE FROM open_batch WHERE batch = ?")?.execute([record.batch.0])? != 1
        {
            return Err(rusqlite::Error::StatementChangedRows(0));
        }
        let crc = self.crc("receipt", &columns::receipt_columns(record));
        self.statement("INSERT INTO receipt VALUES (?, ?, ?, ?, ?)")?.execute(params![
            record.batch.0,
            record.acceptance_serial,
            record.receipt,
            record.at.unix(),
            crc
        ])?;
        // In the order of their commits, for those who follow them.
        self.statement("INSERT INTO answered (batch) VALUES (?)")?.execute([record.batch.0])?;
        for rejection in &record.rejected {
            let code = rejection.notice.code();
            let columns = [Int(Some(code)), Bytes(rejection.message.as_bytes())];
            let crc = self.crc("rejection", &columns);
            self.statement("INSERT INTO rejection VALUES (?, ?, ?)")?.execute(params![
                code,
                rejection.message,
                crc
            ])?;
        }
        Ok(())
    }

    fn journal(&mut self, batch: &Batch) -> Result {
        if batch.facts().count() != batch.journal.len() {
            return Err(rusqlite::Error::StatementChangedRows(batch.journal.len()));
        }
        let Some(head) = batch.journal.last() else { return Ok(()) };
        for (fact, event) in batch.facts().zip(&batch.journal) {
            let (kind, sequence) = (fact.kind().code(), to_i64(event.sequence));
            let mut columns = vec![Int(Some(sequence)), Int(Some(i64::from(kind)))];
            columns.extend(fact.columns());
            columns.push(Bytes(&event.hash.0));
            let crc = self.crc("journal", &columns);
            columns.push(Int(Some(crc)));
            self.statement(INSERT_JOURNAL)?.execute(rusqlite::params_from_iter(columns))?;
        }
        self.journal_head(Some(*head))
    }

    /// Puts the journal's head; none before the first event.
    pub(super) fn journal_head(&mut self, head: Option<Event>) -> Result {
        let (sequence, hash) = journal::head_values(head);
        let crc = self.crc("journal_head", &journal::head_columns(sequence, &hash));
        self.statement("INSERT OR REPLACE INTO journal_head VALUES (1, ?, ?, ?)")?
            .execute(params![sequence, hash, crc])
            .map(drop)
    }
}

/// Columns go in as blobs; an operator reads text.
const INSERT_JOURNAL: &str = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?,
    CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)";
