//! Claims for the tests of this folder. Made up: no real company, code or person.

use crate::{
    contract::ContentDigest,
    model::{
        ClaimId, Color, CstTime, DeviceNo, DeviceSerial, Fen, InvoiceNumber, Kind, PlatformNo,
        Position, RequestKey, Serial, SeriesNo, TaxpayerNo, Totals,
    },
    pb::v1 as pb,
    store::{Assignment, Claim, ClaimHead, Durable, durable_for_tests},
};

pub(crate) const CODE: &str = "044002600111";

/// A claim of `device` that we gave `number`.
pub(crate) fn numbered(device: i64, number: u32) -> Durable<Claim> {
    let assignment = Assignment::Numbered {
        number: InvoiceNumber { code: CODE.into(), number },
        position: Position(u64::from(number)),
    };
    claim(device, number, assignment)
}

/// The `nth` claim of a device that draws numbers itself.
pub(crate) fn by_device(device: i64, nth: u32) -> Durable<Claim> {
    let assignment = Assignment::ByDevice {
        device_serial: DeviceSerial(format!("S{nth:019}")),
        next: InvoiceNumber { code: CODE.into(), number: 0 },
    };
    claim(device, nth, assignment)
}

fn claim(device: i64, nth: u32, assignment: Assignment) -> Durable<Claim> {
    let issue_time = CstTime::parse("2026-03-02T10:00:00+08:00").unwrap();
    let totals = Totals { amount: Fen(100), tax: Fen(13), total: Fen(113) };
    let serial = format!("R{nth}");
    let buyer = pb::Party {
        taxpayer_id: "91440000EXAMPLE001".into(),
        name: "示例购买方".into(),
        ..pb::Party::default()
    };
    let draft = pb::InvoiceDraft {
        serial: serial.clone(),
        buyer: Some(buyer),
        amount_fen: totals.amount.0,
        ..pb::InvoiceDraft::default()
    };
    let mut invoice = pb::Invoice { draft: Some(draft), ..pb::Invoice::default() };
    if let Assignment::Numbered { number, .. } = &assignment {
        invoice.code.clone_from(&number.code);
        invoice.number = number.number_text();
        invoice.issue_time = issue_time.rfc3339();
        invoice.record_version = 1;
    }
    durable_for_tests(Claim {
        id: ClaimId(i64::from(nth)),
        series: SeriesNo(device),
        device: DeviceNo(device),
        request: RequestKey {
            platform: PlatformNo(1),
            taxpayer: TaxpayerNo(1),
            serial: Serial::parse(&serial).unwrap(),
        },
        digest: ContentDigest { version: 1, bytes: [0; 32] },
        assignment,
        claimed_at: issue_time,
        kind: Kind::ENormal,
        color: Color::Blue,
        totals,
        red_of: None,
        counts_credit: false,
        head: ClaimHead::encode(&invoice),
        event: None,
    })
}
