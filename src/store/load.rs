//! Reads at start what the numbering actor keeps in memory. Every row's CRC is checked; what does
//! not add up refuses the start.

use super::{
    Durable, Event, EventHash, LastIds, Loaded, LostRange, Notice, OutboxItem, Period,
    SegmentState, SeriesState, StoreError, Told, columns, journal, reader, rows, schema::sqlite,
    upload,
};
use crate::{
    convert::to_u64,
    model::{
        BatchNo, ClaimId, CstTime, DeviceNo, Fen, InvoiceNumber, Kind, PlatformNo, Position,
        SegmentNo, SeriesNo, TaxpayerNo,
    },
    registry::{
        BackendKind, Certificate, Device, DeviceConnection, Forbidden, Grants, KeyHash, Monitor,
        MonitorFacts, Platform, Registry, Route, Taxpayer, ToldBy,
    },
};
use chrono::NaiveDate;
use prost::Message as _;
use rusqlite::{Connection, Row};
use std::sync::Arc;

type Result<T> = std::result::Result<T, StoreError>;

/// Everything, as committed.
pub(super) fn load(connection: &Connection) -> Result<Loaded> {
    let open_ids = ids(connection, "SELECT claim FROM open_claim ORDER BY claim")?;
    let open = open_ids
        .into_iter()
        .map(|id| reader::claim_row(connection, ClaimId(id)).map(Durable))
        .collect::<Result<_>>()?;
    let open_batches = ids(connection, "SELECT batch FROM open_batch ORDER BY batch")?;
    Ok(Loaded {
        registry: registry(connection)?,
        series: series(connection)?,
        segments: segments(connection)?,
        lost: lost(connection)?,
        behind: behind(connection)?,
        open,
        outbox: outbox(connection)?,
        open_batches: open_batches
            .into_iter()
            .map(|no| open_batch(connection, BatchNo(no)))
            .collect::<Result<_>>()?,
        aside: upload::asides(connection)?,
        write_backs: upload::open_write_backs(connection)?,
        journal: journal::head(connection)?,
        last: LastIds {
            claim: last(connection, "SELECT max(id) FROM claim")?,
            series: last(connection, "SELECT max(no) FROM series")?,
            segment: last(connection, "SELECT max(no) FROM segment")?,
            batch: last(connection, "SELECT max(no) FROM batch")?,
        },
    })
}

fn last(connection: &Connection, sql: &str) -> Result<i64> {
    connection
        .query_row(sql, [], |row| row.get::<_, Option<i64>>(0))
        .map(Option::unwrap_or_default)
        .map_err(sqlite("read the last id"))
}

/// Reads every row of a query through `read`.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<Result<T>>,
) -> Result<Vec<T>> {
    let mut out = Vec::new();
    each(connection, sql, |row| Ok(read(row)?.map(|value| out.push(value))))?;
    Ok(out)
}

/// Hands every row of a query to `read`, one by one, and keeps none.
pub(super) fn each(
    connection: &Connection,
    sql: &str,
    mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<Result<()>>,
) -> Result<()> {
    let mut statement = connection.prepare(sql).map_err(sqlite("prepare to read"))?;
    let mut rows = statement.query([]).map_err(sqlite("begin to read"))?;
    while let Some(row) = rows.next().map_err(sqlite("read a row"))? {
        read(row).map_err(sqlite("read a column"))??;
    }
    Ok(())
}

pub(super) fn ids(connection: &Connection, sql: &str) -> Result<Vec<i64>> {
    all(connection, sql, |row| row.get(0).map(Ok))
}

fn out_of_range(table: &str) -> StoreError {
    StoreError::damaged(format!("table {table} holds a value out of its range"))
}

pub(super) fn registry(connection: &Connection) -> Result<Registry> {
    let mut registry = Registry::default();
    for platform in all(connection, "SELECT no, id, name, enabled, crc FROM platform", platform)? {
        registry.put_platform(platform);
    }
    let sql = "SELECT key, platform, not_after, revoked, crc FROM certificate";
    for cert in all(connection, sql, certificate)? {
        registry.put_certificate(cert);
    }
    let sql = "SELECT no, id, name, province, forbidden, crc FROM taxpayer";
    for taxpayer in all(connection, sql, taxpayer)? {
        registry.put_taxpayer(taxpayer);
    }
    let sql = "SELECT platform, taxpayer, operations, crc FROM binding";
    registry.bindings = all(connection, sql, binding)?.into_iter().collect();
    for device in all(connection, "SELECT * FROM device ORDER BY no", device)? {
        registry.put_device(device);
    }
    for route in all(connection, "SELECT * FROM route", route)? {
        registry.routes.insert(route.province.clone(), Arc::new(route));
    }
    for monitor in all(connection, "SELECT * FROM monitor", monitor)? {
        registry.put_monitor(monitor);
    }
    Ok(registry)
}

fn platform(row: &Row<'_>) -> rusqlite::Result<Result<Platform>> {
    let platform = Platform {
        no: PlatformNo(row.get(0)?),
        id: row.get(1)?,
        name: row.get(2)?,
        enabled: row.get(3)?,
    };
    let columns = columns::platform_columns(&platform);
    let checked = rows::check_crc("platform", &platform.id, &columns, row.get(4)?);
    Ok(checked.map(|()| platform))
}

fn certificate(row: &Row<'_>) -> rusqlite::Result<Result<Certificate>> {
    let Some(not_after) = CstTime::from_unix(row.get(2)?) else {
        return Ok(Err(out_of_range("certificate")));
    };
    let cert = Certificate {
        key: KeyHash(row.get(0)?),
        platform: PlatformNo(row.get(1)?),
        not_after,
        revoked: row.get(3)?,
    };
    let columns = columns::certificate_columns(&cert);
    Ok(rows::check_crc("certificate", &cert.key.hex(), &columns, row.get(4)?).map(|()| cert))
}

fn taxpayer(row: &Row<'_>) -> rusqlite::Result<Result<Taxpayer>> {
    let text: String = row.get(4)?;
    let Some(forbidden) = Forbidden::parse(&text) else {
        return Ok(Err(out_of_range("taxpayer")));
    };
    let taxpayer = Taxpayer {
        no: TaxpayerNo(row.get(0)?),
        id: row.get(1)?,
        name: row.get(2)?,
        province: row.get(3)?,
        forbidden,
    };
    let columns = columns::taxpayer_columns(&taxpayer, &text);
    let checked = rows::check_crc("taxpayer", &taxpayer.no.to_string(), &columns, row.get(5)?);
    Ok(checked.map(|()| taxpayer))
}

type Bound = ((PlatformNo, TaxpayerNo), Grants);

fn binding(row: &Row<'_>) -> rusqlite::Result<Result<Bound>> {
    let bound = (PlatformNo(row.get(0)?), TaxpayerNo(row.get(1)?));
    let text: String = row.get(2)?;
    let Some(grants) = Grants::parse(&text) else { return Ok(Err(out_of_range("binding"))) };
    let columns = columns::binding_columns(bound, &text);
    let checked = rows::check_crc("binding", &bound.0.to_string(), &columns, row.get(3)?);
    Ok(checked.map(|()| (bound, grants)))
}

fn device(row: &Row<'_>) -> rusqlite::Result<Result<Device>> {
    let (backend, kinds): (String, String) = (row.get(4)?, row.get(5)?);
    let parsed: Option<_> =
        kinds.split(' ').map(|code| Kind::from_legacy_code(code.parse().ok()?)).collect();
    let (Some(backend), Some(parsed)) = (BackendKind::parse(&backend), parsed) else {
        return Ok(Err(out_of_range("device")));
    };
    let connection_bytes: Option<Vec<u8>> = row.get(11)?;
    let connection = match connection_bytes.as_deref().map(DeviceConnection::decode).transpose() {
        Ok(connection) => connection,
        Err(_) => return Ok(Err(out_of_range("device"))),
    };
    let device = Device {
        no: DeviceNo(row.get(0)?),
        id: row.get(1)?,
        taxpayer: TaxpayerNo(row.get(2)?),
        machine_number: row.get(3)?,
        backend,
        kinds: parsed,
        profile: row.get(6)?,
        enabled: row.get(7)?,
        test: row.get(8)?,
        public_key: row.get(9)?,
        connection,
    };
    let wrapped: Option<Vec<u8>> = row.get(10)?;
    let columns =
        columns::device_columns(&device, &kinds, (wrapped.as_deref(), connection_bytes.as_deref()));
    Ok(rows::check_crc("device", &device.id, &columns, row.get(12)?).map(|()| device))
}

fn route(row: &Row<'_>) -> rusqlite::Result<Result<Route>> {
    let route = Route {
        province: row.get(0)?,
        address: row.get(1)?,
        server_name: row.get(2)?,
        receipt_key: row.get(3)?,
    };
    let columns = columns::route_columns(&route);
    Ok(rows::check_crc("route", &route.province, &columns, row.get(4)?).map(|()| route))
}

fn monitor(row: &Row<'_>) -> rusqlite::Result<Result<Monitor>> {
    let body: Vec<u8> = row.get(4)?;
    let kind = Kind::from_legacy_code(row.get(1)?);
    let told = ToldBy::from_code(row.get(2)?).zip(CstTime::from_unix(row.get(3)?));
    let facts = rows::unseal(&body).ok().and_then(|data| MonitorFacts::parse(&data).ok());
    let (Some(kind), Some((told_by, told_at)), Some(facts)) = (kind, told, facts) else {
        return Ok(Err(out_of_range("monitor")));
    };
    let monitor = Monitor { device: DeviceNo(row.get(0)?), kind, told_by, told_at, facts };
    let columns = columns::monitor_columns(&monitor, &body);
    let checked = rows::check_crc("monitor", &monitor.device.to_string(), &columns, row.get(5)?);
    Ok(checked.map(|()| monitor))
}

pub(super) fn series(connection: &Connection) -> Result<Vec<SeriesState>> {
    all(connection, "SELECT * FROM series ORDER BY no", |row| {
        let hash: [u8; 32] = row.get(5)?;
        let sequence = to_u64(row.get(4)?);
        let event = (sequence > 0).then_some(Event { sequence, hash: EventHash(hash) });
        let Some(kind) = Kind::from_legacy_code(row.get(2)?) else {
            return Ok(Err(out_of_range("series")));
        };
        let series = SeriesState {
            no: SeriesNo(row.get(0)?),
            device: DeviceNo(row.get(1)?),
            kind,
            next_position: Position(to_u64(row.get(3)?)),
            event,
            last_issue: row.get::<_, Option<i64>>(6)?.and_then(CstTime::from_unix),
            frozen: row.get(7)?,
            device_next: match (row.get(8)?, row.get(9)?) {
                (Some(code), Some(number)) => Some(InvoiceNumber { code, number }),
                (_, _) => None,
            },
            period: Period {
                blue: Fen(row.get(10)?),
                red: Fen(row.get(11)?),
                reported_blue: Fen(row.get(12)?),
                reported_red: Fen(row.get(13)?),
                reported_until: row
                    .get::<_, Option<i32>>(14)?
                    .and_then(NaiveDate::from_num_days_from_ce_opt),
            },
        };
        let columns = columns::series_columns(&series, &hash);
        let checked = rows::check_crc("series", &series.no.to_string(), &columns, row.get(15)?);
        Ok(checked.map(|()| series))
    })
}

pub(super) fn segments(connection: &Connection) -> Result<Vec<SegmentState>> {
    all(connection, "SELECT * FROM segment ORDER BY no", |row| {
        let segment = SegmentState {
            no: SegmentNo(row.get(0)?),
            series: SeriesNo(row.get(1)?),
            code: row.get(2)?,
            first: row.get(3)?,
            last: row.get(4)?,
            next: row.get(5)?,
        };
        let columns = columns::segment_columns(&segment);
        let checked = rows::check_crc("segment", &segment.no.to_string(), &columns, row.get(6)?);
        Ok(checked.map(|()| segment))
    })
}

/// Numbers left out, in the order in which they were found missing.
pub(super) fn lost(connection: &Connection) -> Result<Vec<LostRange>> {
    let sql = "SELECT series, code, first, last, at, event_sequence, event_hash, crc FROM lost
               ORDER BY no";
    all(connection, sql, |row| {
        let Some(at) = CstTime::from_unix(row.get(4)?) else {
            return Ok(Err(out_of_range("lost")));
        };
        let event =
            Event { sequence: to_u64(row.get(5)?), hash: EventHash(row.get::<_, [u8; 32]>(6)?) };
        let first = InvoiceNumber { code: row.get(1)?, number: row.get(2)? };
        let lost = LostRange { series: SeriesNo(row.get(0)?), first, last: row.get(3)?, at, event };
        let columns = columns::lost_columns(&lost);
        let checked = rows::check_crc("lost", &lost.first.to_string(), &columns, row.get(7)?);
        Ok(checked.map(|()| lost))
    })
}

/// What a witness said of the books, until an operator has resumed.
fn behind(connection: &Connection) -> Result<Option<String>> {
    let text = reader::setting(connection, super::BEHIND)?;
    Ok(text.filter(|text| !text.is_empty()).map(|text| String::from_utf8_lossy(&text).into_owned()))
}

pub(super) fn outbox(connection: &Connection) -> Result<Vec<OutboxItem>> {
    // Half a notice is its claim.
    let sql = "SELECT outbox.notice, claim.series, claim.body,
                   EXISTS (SELECT 1 FROM signature WHERE signature.claim = claim.id)
               FROM outbox JOIN claim ON claim.id = outbox.notice / 2 ORDER BY outbox.notice";
    all(connection, sql, |row| {
        let (notice, series) = (Notice::from_code(row.get(0)?), SeriesNo(row.get(1)?));
        let (body, issued): (Vec<u8>, bool) = (row.get(2)?, row.get(3)?);
        let told = rows::told_of(series, &body);
        Ok(notice.and_then(|notice| {
            let (red_of, offline) = told?;
            let counts = issued && notice.told == Told::End;
            Ok(OutboxItem { notice, series, red_of, offline: counts.then_some(offline) })
        }))
    })
}

/// A batch without a receipt, with what the order of later ones depends on.
fn open_batch(connection: &Connection, no: BatchNo) -> Result<(BatchNo, Vec<OutboxItem>)> {
    let batch = reader::batch(connection, no)?;
    let item = |notice: Notice| {
        let found = reader::found(connection, notice.claim)?;
        Ok(OutboxItem::of(notice, &found))
    };
    Ok((no, batch.members.into_iter().map(item).collect::<Result<_>>()?))
}
