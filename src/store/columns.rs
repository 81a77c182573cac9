//! The columns that each row's CRC covers, in its order: one function for whoever writes the row
//! and whoever checks it.

use super::{
    DeliveryBatch, LostRange, Notice, ReceiptRecord, SegmentState, SeriesState, UsageDelta,
    UsageKey,
    rows::{
        self,
        Column::{Bytes, Int},
    },
};
use crate::{
    convert::to_i64,
    model::{PlatformNo, RequestKey, TaxpayerNo},
    registry::{Device, Monitor},
};
use chrono::Datelike as _;

/// A usage row's columns, without its CRC.
pub(super) fn usage_values(key: &UsageKey, delta: &UsageDelta) -> [i64; 10] {
    [
        i64::from(key.day.num_days_from_ce()),
        key.platform.0,
        key.taxpayer.0,
        i64::from(key.kind.legacy_code()),
        i64::from(key.color.code()),
        i64::from(key.counted.code()),
        to_i64(delta.count),
        delta.totals.amount.0,
        delta.totals.tax.0,
        delta.totals.total.0,
    ]
}

pub(super) fn members_blob(members: &[Notice]) -> Vec<u8> {
    members.iter().flat_map(|notice| notice.code().to_be_bytes()).collect()
}

/// Kinds as the legacy codes, separated by blanks.
pub(super) fn kinds_text(device: &Device) -> String {
    let codes: Vec<String> =
        device.kinds.iter().map(|kind| format!("{:03}", kind.legacy_code())).collect();
    codes.join(" ")
}

pub(super) fn platform_columns(platform: &crate::registry::Platform) -> [rows::Column<'_>; 4] {
    [
        Int(Some(platform.no.0)),
        Bytes(platform.id.as_bytes()),
        Bytes(platform.name.as_bytes()),
        Int(Some(i64::from(platform.enabled))),
    ]
}

pub(super) fn certificate_columns(
    certificate: &crate::registry::Certificate,
) -> [rows::Column<'_>; 4] {
    [
        Bytes(&certificate.key.0),
        Int(Some(certificate.platform.0)),
        Int(Some(certificate.not_after.unix())),
        Int(Some(i64::from(certificate.revoked))),
    ]
}

pub(super) fn taxpayer_columns<'a>(
    taxpayer: &'a crate::registry::Taxpayer,
    forbidden: &'a str,
) -> [rows::Column<'a>; 5] {
    [
        Int(Some(taxpayer.no.0)),
        Bytes(taxpayer.id.as_bytes()),
        Bytes(taxpayer.name.as_bytes()),
        Bytes(taxpayer.province.as_bytes()),
        Bytes(forbidden.as_bytes()),
    ]
}

pub(super) fn binding_columns(
    (platform, taxpayer): (PlatformNo, TaxpayerNo),
    operations: &str,
) -> [rows::Column<'_>; 3] {
    [Int(Some(platform.0)), Int(Some(taxpayer.0)), Bytes(operations.as_bytes())]
}

pub(super) fn route_columns(route: &crate::registry::Route) -> [rows::Column<'_>; 4] {
    [
        Bytes(route.province.as_bytes()),
        Bytes(route.address.as_bytes()),
        Bytes(route.server_name.as_bytes()),
        Bytes(&route.receipt_key),
    ]
}

pub(super) fn device_columns<'a>(
    device: &'a Device,
    kinds: &'a str,
    (wrapped, connection): (Option<&'a [u8]>, Option<&'a [u8]>),
) -> [rows::Column<'a>; 12] {
    [
        Int(Some(device.no.0)),
        Bytes(device.id.as_bytes()),
        Int(Some(device.taxpayer.0)),
        Bytes(device.machine_number.as_bytes()),
        Bytes(device.backend.name().as_bytes()),
        Bytes(kinds.as_bytes()),
        Bytes(device.profile.as_bytes()),
        Int(Some(i64::from(device.enabled))),
        Int(Some(i64::from(device.test))),
        Bytes(&device.public_key),
        wrapped.map_or(Int(None), Bytes),
        connection.map_or(Int(None), Bytes),
    ]
}

pub(super) fn series_columns<'a>(
    series: &'a SeriesState,
    hash: &'a [u8; 32],
) -> [rows::Column<'a>; 15] {
    let period = &series.period;
    [
        Int(Some(series.no.0)),
        Int(Some(series.device.0)),
        Int(Some(i64::from(series.kind.legacy_code()))),
        Int(Some(to_i64(series.next_position.0))),
        Int(Some(to_i64(series.event.map_or(0, |event| event.sequence)))),
        Bytes(hash),
        Int(series.last_issue.map(crate::model::CstTime::unix)),
        series.frozen.as_deref().map_or(Int(None), |text| Bytes(text.as_bytes())),
        series.device_next.as_ref().map_or(Int(None), |next| Bytes(next.code.as_bytes())),
        Int(series.device_next.as_ref().map(|next| i64::from(next.number))),
        Int(Some(period.blue.0)),
        Int(Some(period.red.0)),
        Int(Some(period.reported_blue.0)),
        Int(Some(period.reported_red.0)),
        Int(period.reported_until.map(|day| i64::from(day.num_days_from_ce()))),
    ]
}

/// `body` is the sealed monitor data.
pub(super) fn monitor_columns<'a>(monitor: &Monitor, body: &'a [u8]) -> [rows::Column<'a>; 5] {
    [
        Int(Some(monitor.device.0)),
        Int(Some(i64::from(monitor.kind.legacy_code()))),
        Int(Some(monitor.told_by.code())),
        Int(Some(monitor.told_at.unix())),
        Bytes(body),
    ]
}

pub(super) fn lost_columns(lost: &LostRange) -> [rows::Column<'_>; 7] {
    [
        Int(Some(lost.series.0)),
        Bytes(lost.first.code.as_bytes()),
        Int(Some(i64::from(lost.first.number))),
        Int(Some(i64::from(lost.last))),
        Int(Some(lost.at.unix())),
        Int(Some(to_i64(lost.event.sequence))),
        Bytes(&lost.event.hash.0),
    ]
}

pub(super) fn segment_columns(segment: &SegmentState) -> [rows::Column<'_>; 6] {
    [
        Int(Some(segment.no.0)),
        Int(Some(segment.series.0)),
        Bytes(segment.code.as_bytes()),
        Int(Some(i64::from(segment.first))),
        Int(Some(i64::from(segment.last))),
        Int(Some(i64::from(segment.next))),
    ]
}

pub(super) fn request_columns(
    key: &RequestKey,
    claim: Option<i64>,
    closed_at: Option<i64>,
) -> [rows::Column<'_>; 5] {
    [
        Int(Some(key.platform.0)),
        Int(Some(key.taxpayer.0)),
        Bytes(key.serial.as_str().as_bytes()),
        Int(claim),
        Int(closed_at),
    ]
}

pub(super) fn batch_columns<'a>(
    delivery: &'a DeliveryBatch,
    members: &'a [u8],
) -> [rows::Column<'a>; 5] {
    [
        Int(Some(delivery.no.0)),
        Bytes(&delivery.id),
        Bytes(delivery.province.as_bytes()),
        Int(Some(delivery.at.unix())),
        Bytes(members),
    ]
}

pub(super) fn receipt_columns(record: &ReceiptRecord) -> [rows::Column<'_>; 4] {
    [
        Int(Some(record.batch.0)),
        Bytes(record.acceptance_serial.as_bytes()),
        Bytes(&record.receipt),
        Int(Some(record.at.unix())),
    ]
}
