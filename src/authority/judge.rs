//! Judges the items of a batch, one by one, and enters what is accepted.
//!
//! Invariants: a (code, number) has at most one content, issued or voided unsigned, for ever; an
//! issued one has at most one void; nothing enters a reported period or a number that was returned.

use super::{
    books::{BooksError, find_device},
    faults::Fault,
    periods, segments,
    verify::{Flaw, Form, check_form, check_number, check_signature},
};
use crate::{
    convert::sha256,
    model::{Color, CstTime, Kind},
    pb::{
        authority::v1::{BatchItem, ItemVerdict, Verdict, VoidedNumber},
        v1 as pb,
    },
};
use prost::Message as _;
use rusqlite::{OptionalExtension as _, Transaction, params};

/// A judged item.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) verdict: ItemVerdict,
    /// The device and kind that it is about, as far as it tells.
    pub(super) series: Option<(String, Kind)>,
}

/// Judges one item and, when it is accepted, enters its number. `place` is its place in the batch,
/// from 1; `fault` rejects on purpose.
pub(super) fn judge(
    change: &Transaction<'_>,
    item: &BatchItem,
    place: usize,
    fault: Option<&Fault>,
) -> Result<Judged, BooksError> {
    let entry = Entry::read(item);
    let flaw = match &entry.content {
        _ if fault.is_some_and(|fault| strikes(fault, &entry, place)) => Some(Flaw::OnPurpose),
        Ok(content) => enter(change, &entry, content)?,
        Err(flaw) => Some(flaw.clone()),
    };
    let series = series(change, &entry)?;
    let verdict = if flaw.is_none() { Verdict::Accepted } else { Verdict::Rejected };
    let verdict = ItemVerdict {
        code: entry.code,
        number: entry.number,
        digest: entry.digest.to_vec(),
        verdict: verdict.into(),
        message: flaw.map(|flaw| flaw.to_string()).unwrap_or_default(),
    };
    Ok(Judged { verdict, series })
}

/// Whether a fault of judging strikes a batch at all.
pub(super) fn applies(fault: &Fault, items: &[BatchItem]) -> bool {
    let mut places = (1..).zip(items);
    places.any(|(place, item)| strikes(fault, &Entry::read(item), place))
}

fn strikes(fault: &Fault, entry: &Entry, place: usize) -> bool {
    match fault {
        Fault::Reject(only) => only.is_none_or(|only| only == place),
        Fault::RejectNumber { code, number } => *code == entry.code && *number == entry.number,
        _ => false,
    }
}

/// An item as it would be entered.
struct Entry {
    code: String,
    number: String,
    digest: [u8; 32],
    content: Result<Content, Flaw>,
}

enum Content {
    Issued(Box<pb::Invoice>),
    Voided(VoidedNumber),
}

impl Entry {
    fn read(item: &BatchItem) -> Self {
        let bad = |flaw, bytes: &[u8]| Self {
            code: String::new(),
            number: String::new(),
            digest: sha256(bytes),
            content: Err(flaw),
        };
        match (item.invoice.is_empty(), &item.voided) {
            (true, None) => bad(Flaw::Empty, &[]),
            (false, Some(_)) => bad(Flaw::Both, &item.invoice),
            (true, Some(voided)) => Self {
                code: voided.code.clone(),
                number: voided.number.clone(),
                digest: sha256(&voided.encode_to_vec()),
                content: Ok(Content::Voided(voided.clone())),
            },
            (false, None) => match pb::Invoice::decode(item.invoice.clone()) {
                Err(_) => bad(Flaw::Undecodable, &item.invoice),
                Ok(invoice) => Self {
                    code: invoice.code.clone(),
                    number: invoice.number.clone(),
                    digest: sha256(&item.invoice),
                    content: Ok(Content::Issued(Box::new(invoice))),
                },
            },
        }
    }
}

/// The series that an item is about, whatever its verdict; its device is registered.
fn series(change: &Transaction<'_>, entry: &Entry) -> Result<Option<(String, Kind)>, BooksError> {
    let (device, kind) = match &entry.content {
        Ok(Content::Issued(invoice)) => {
            let kind = invoice.draft.as_ref().and_then(|draft| Kind::from_wire(draft.kind));
            (&invoice.device_id, kind)
        }
        Ok(Content::Voided(voided)) => {
            let find = "SELECT kind FROM numbers WHERE code = ? AND number = ?";
            let of = [&voided.code, &voided.number];
            let known: Option<u16> =
                change.prepare_cached(find)?.query_row(of, |row| row.get(0)).optional()?;
            let kind = known.and_then(Kind::from_legacy_code);
            (&voided.device_id, Some(kind.unwrap_or_else(|| segments::kind_of(&voided.code))))
        }
        Err(_) => return Ok(None),
    };
    let registered = find_device(change, device)?.is_some();
    Ok(kind.filter(|_| registered).map(|kind| (device.clone(), kind)))
}

/// Enters an item's number; the flaw that keeps it out, if any.
fn enter(
    change: &Transaction<'_>,
    entry: &Entry,
    content: &Content,
) -> Result<Option<Flaw>, BooksError> {
    if let Content::Voided(voided) = content
        && !voided.invoice_digest.is_empty()
    {
        return void_issued(change, entry, voided);
    }
    let voids = matches!(content, Content::Voided(_));
    let find = "SELECT voided, digest FROM numbers WHERE code = ? AND number = ?";
    let known: Option<(bool, [u8; 32])> = change
        .prepare_cached(find)?
        .query_row([&entry.code, &entry.number], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some((voided, digest)) if voided == voids && digest == entry.digest => return Ok(None),
        Some((true, _)) if !voids => return Ok(Some(Flaw::IsVoided)),
        Some((false, _)) if voids => return Ok(Some(Flaw::IsIssued)),
        Some(_) => return Ok(Some(Flaw::OtherContent)),
        None => {}
    }
    let checked = match content {
        Content::Issued(invoice) => check_invoice(change, invoice)?,
        Content::Voided(voided) => check_void(change, voided)?,
    };
    let (device, form) = match checked {
        Ok(checked) => checked,
        Err(flaw) => return Ok(Some(flaw)),
    };
    if periods::is_reported(change, device, form.kind, form.issued_at)? {
        return Ok(Some(Flaw::Reported));
    }
    insert(change, entry, device, &form)?;
    Ok(None)
}

fn insert(
    change: &Transaction<'_>,
    entry: &Entry,
    device: &str,
    form: &Form,
) -> Result<(), BooksError> {
    let voids = matches!(entry.content, Ok(Content::Voided(_)));
    let insert = "INSERT INTO numbers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    change.prepare_cached(insert)?.execute(params![
        entry.code,
        entry.number,
        voids,
        entry.digest,
        device,
        form.kind.legacy_code(),
        form.color.code(),
        form.amount_fen,
        form.tax_fen,
        form.issued_at.unix()
    ])?;
    Ok(())
}

/// An issued invoice as a void finds it.
struct Issued {
    digest: Vec<u8>,
    device: String,
    kind: u16,
    issued_at: i64,
}

/// Enters the void of an issued invoice: of the very one that is known, and once.
fn void_issued(
    change: &Transaction<'_>,
    entry: &Entry,
    voided: &VoidedNumber,
) -> Result<Option<Flaw>, BooksError> {
    let of = params![voided.code, voided.number];
    let find = "SELECT voided, digest, device, kind, issue_at FROM numbers
                WHERE code = ? AND number = ?";
    let issued = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(bool, Issued)> {
        let (digest, device) = (row.get(1)?, row.get(2)?);
        Ok((row.get(0)?, Issued { digest, device, kind: row.get(3)?, issued_at: row.get(4)? }))
    };
    let issued = match change.prepare_cached(find)?.query_row(of, issued).optional()? {
        None => return Ok(Some(Flaw::NotIssued)),
        Some((true, _)) => return Ok(Some(Flaw::IsVoided)),
        Some((false, issued))
            if issued.digest != voided.invoice_digest || issued.device != voided.device_id =>
        {
            return Ok(Some(Flaw::OtherInvoice));
        }
        Some((false, issued)) => issued,
    };
    if CstTime::parse(&voided.voided_at).is_none() {
        return Ok(Some(Flaw::Field { field: "voided_at" }));
    }
    let find = "SELECT digest FROM invoice_voids WHERE code = ? AND number = ?";
    let before: Option<[u8; 32]> =
        change.prepare_cached(find)?.query_row(of, |row| row.get(0)).optional()?;
    match before {
        Some(digest) if digest == entry.digest => return Ok(None),
        Some(_) => return Ok(Some(Flaw::OtherVoid)),
        None => {}
    }
    let issued_at = CstTime::from_unix(issued.issued_at);
    if let (Some(kind), Some(at)) = (Kind::from_legacy_code(issued.kind), issued_at)
        && periods::is_reported(change, &issued.device, kind, at)?
    {
        return Ok(Some(Flaw::Reported));
    }
    let (code, number, at) = (&voided.code, &voided.number, &voided.voided_at);
    change.prepare_cached("INSERT INTO invoice_voids VALUES (?, ?, ?, ?)")?.execute(params![
        code,
        number,
        entry.digest,
        at
    ])?;
    Ok(None)
}

/// The device of a good invoice, and what the books keep of it.
fn check_invoice<'a>(
    change: &Transaction<'_>,
    invoice: &'a pb::Invoice,
) -> Result<Result<(&'a str, Form), Flaw>, BooksError> {
    let id = invoice.device_id.as_str();
    let form = match check_form(invoice) {
        Ok(form) => form,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let Some(device) = find_device(change, id)? else {
        return Ok(Err(Flaw::UnknownDevice { device: id.to_owned() }));
    };
    if let Err(flaw) = check_signature(invoice, &device) {
        return Ok(Err(flaw));
    }
    Ok(match segments::fits(change, &invoice.code, &invoice.number, id)? {
        segments::Fit::Unknown => Ok((id, form)),
        segments::Fit::Issued(of) if of == form.kind => Ok((id, form)),
        segments::Fit::Issued(_) | segments::Fit::Outside => Err(Flaw::OutsideSegments),
        segments::Fit::Unconfirmed => Err(Flaw::Unconfirmed),
        segments::Fit::Returned => Err(Flaw::Returned),
    })
}

/// The device of a good void of an unsigned number. A void names no kind: the segment or the code
/// tells it.
fn check_void<'a>(
    change: &Transaction<'_>,
    voided: &'a VoidedNumber,
) -> Result<Result<(&'a str, Form), Flaw>, BooksError> {
    let id = voided.device_id.as_str();
    if let Err(flaw) = check_number(&voided.code, &voided.number) {
        return Ok(Err(flaw));
    }
    let Some(voided_at) = CstTime::parse(&voided.voided_at) else {
        return Ok(Err(Flaw::Field { field: "voided_at" }));
    };
    if find_device(change, id)?.is_none() {
        return Ok(Err(Flaw::UnknownDevice { device: id.to_owned() }));
    }
    let form =
        |kind| Form { kind, color: Color::Blue, amount_fen: 0, tax_fen: 0, issued_at: voided_at };
    Ok(match segments::fits(change, &voided.code, &voided.number, id)? {
        segments::Fit::Issued(kind) => Ok((id, form(kind))),
        segments::Fit::Unknown => Ok((id, form(segments::kind_of(&voided.code)))),
        segments::Fit::Outside => Err(Flaw::OutsideSegments),
        segments::Fit::Unconfirmed => Err(Flaw::Unconfirmed),
        segments::Fit::Returned => Err(Flaw::Returned),
    })
}
