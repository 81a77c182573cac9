//! An invoice as a tax server tells of it, compared with the claim it is to belong to, and the
//! signature that vouches for it.
//!
//! A tax server gives no signature that anybody else could check: its cipher text (SKM) and check
//! code (JYM) are secrets between device and authority. So after its answer was compared with the
//! claim, **the proxy attests what the device answered**: it signs head and tail of the record with
//! the device's software key. Invariant: what does not match its claim is never signed.

use super::{
    SkServerConfig,
    message::{Fields, Flaw},
    values::{fen, kind, number, time},
};
use crate::{
    convert::sha256,
    model::{CstTime, DeviceSerial, InvoiceNumber, Kind, Totals},
    pb::v1 as pb,
    signer::{
        CipherForm, DeviceAnswer, DeviceKey, KeyError, Signed,
        derive::{self, CHECK_CODE_LEN, Record},
    },
    store::{Assignment, Claim},
};
use bytes::Bytes;
use prost::Message as _;

/// The record layout that is signed.
const RECORD_VERSION: u32 = 1;
/// What devices of one vendor write for a buyer without an id. Source: docs/domain.md 3.1.
const NO_ID: &str = "000000000000000";

/// What an answer must agree with.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) serial: DeviceSerial,
    pub(super) kind: Kind,
    totals: Totals,
    buyer: pb::Party,
    /// Field 1 of the record.
    head: Bytes,
}

impl Expected {
    /// Of a claim whose number the device draws.
    pub(super) fn of(claim: &Claim) -> Result<(Self, pb::InvoiceDraft), String> {
        let Assignment::ByDevice { device_serial, .. } = &claim.assignment else {
            return Err("the claim has its number already".into());
        };
        let draft = claim.head.draft().map_err(|error| error.to_string())?;
        let expected = Self {
            serial: device_serial.clone(),
            kind: claim.kind,
            totals: claim.totals,
            buyer: draft.buyer.clone().unwrap_or_default(),
            head: claim.head.0.clone(),
        };
        Ok((expected, draft))
    }

    fn fits(&self, found: &Found) -> bool {
        found.serial == self.serial
            && found.kind == self.kind
            && found.totals == self.totals
            && found.buyer_taxpayer_id == self.buyer.taxpayer_id
            && found.buyer_name == self.buyer.name
    }
}

/// What issuing (10008) answers: the number and what the device made of it, but not for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drawn {
    number: InvoiceNumber,
    issue_time: CstTime,
    check_code: String,
    cipher_text: String,
    /// As the server writes it: text, or a picture in Base64.
    qr: Option<String>,
}

impl Drawn {
    pub(super) fn read(fields: &Fields<'_, '_>, form: CipherForm) -> Result<Self, Flaw> {
        let malformed = |what: &str| Flaw(format!("<{what}> is malformed"));
        let number = number(fields.text("fpdm")?, fields.text("fphm")?);
        let check_code = fields.text("jym")?;
        let digits = check_code.bytes().all(|byte| byte.is_ascii_digit());
        if check_code.len() != CHECK_CODE_LEN || !digits {
            return Err(malformed("jym"));
        }
        let cipher_text = fields.text("skm")?;
        let known = |byte: u8| byte.is_ascii_digit() || b"+-*/<>".contains(&byte);
        if cipher_text.len() != form.text_len() || !cipher_text.bytes().all(known) {
            return Err(malformed("skm"));
        }
        Ok(Self {
            number: number.ok_or_else(|| malformed("fpdm> or <fphm"))?,
            issue_time: fields.read("kprq", time)?,
            check_code: check_code.to_owned(),
            cipher_text: cipher_text.to_owned(),
            qr: fields.optional("ewm")?.map(ToOwned::to_owned),
        })
    }
}

/// An invoice that the server finds under a serial (10010).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    serial: DeviceSerial,
    kind: Kind,
    buyer_taxpayer_id: String,
    buyer_name: String,
    totals: Totals,
    drawn: Drawn,
}

impl Found {
    /// Reads the one invoice of an answer; `None` when the server knows none.
    pub(super) fn read(
        fields: &Fields<'_, '_>,
        config: &SkServerConfig,
        asked: Kind,
    ) -> Result<Option<Self>, Flaw> {
        let groups = fields.groups("kpxx")?;
        match groups.as_slice() {
            [] => Ok(None),
            [group] => Self::read_group(group, config, asked).map(Some),
            _ => Err(Flaw("more than one invoice has the serial".into())),
        }
    }

    fn read_group(
        group: &Fields<'_, '_>,
        config: &SkServerConfig,
        asked: Kind,
    ) -> Result<Self, Flaw> {
        // 0 blue, 1 red, else void; servers write one digit or two.
        if !matches!(group.text("fpzt")?, "0" | "1" | "00" | "01") {
            return Err(Flaw("the invoice is void at the device".into()));
        }
        if group.optional("jqbh")?.is_some_and(|machine| machine != config.machine_number) {
            return Err(Flaw("the invoice is another machine's".into()));
        }
        let buyer_taxpayer_id = group.text("ghdwsbh")?;
        let totals = Totals {
            amount: group.read("hjje", fen)?,
            tax: group.read("hjse", fen)?,
            total: group.read("jshj", fen)?,
        };
        Ok(Self {
            serial: DeviceSerial(group.text("fpqqlsh")?.to_owned()),
            kind: group.read_optional("fplxdm", kind)?.unwrap_or(asked),
            buyer_taxpayer_id: match buyer_taxpayer_id {
                NO_ID => String::new(),
                id => id.to_owned(),
            },
            buyer_name: group.text("ghdwmc")?.to_owned(),
            totals,
            drawn: Drawn::read(group, config.cipher_form)?,
        })
    }

    /// Puts in what issuing answered. Where it contradicts what the server finds under the serial,
    /// it was no answer to this request, so it belongs to no serial that is known.
    pub(super) fn beside(mut self, drawn: Drawn) -> Self {
        let same = Drawn { qr: None, ..drawn.clone() } == Drawn { qr: None, ..self.drawn.clone() };
        if !same {
            self.serial = DeviceSerial(String::new());
        }
        self.drawn = Drawn { qr: drawn.qr.clone().or(self.drawn.qr), ..drawn };
        self
    }

    /// The answer to a claim: signed when it matches, else as it is, for numbering to see.
    pub(super) fn attested(
        self,
        expected: &Expected,
        next: Option<InvoiceNumber>,
        (config, key): (&SkServerConfig, &DeviceKey),
    ) -> Result<DeviceAnswer, KeyError> {
        let tail = pb::Invoice {
            code: self.drawn.number.code.clone(),
            number: self.drawn.number.number_text(),
            issue_time: self.drawn.issue_time.rfc3339(),
            device_id: config.device_id.clone(),
            machine_number: config.machine_number.clone(),
            record_version: RECORD_VERSION,
            ..pb::Invoice::default()
        };
        let record = [&expected.head[..], &tail.encode_to_vec()].concat();
        let fits = expected.fits(&self);
        let signature = if fits { key.sign(&record)? } else { Vec::new() };
        let qr_text = self.qr_text(sha256(&record));
        let Self { serial, kind, buyer_taxpayer_id, buyer_name, totals, drawn } = self;
        Ok(DeviceAnswer {
            device_serial: serial,
            kind,
            buyer_taxpayer_id,
            buyer_name,
            totals,
            number: drawn.number,
            issue_time: drawn.issue_time,
            signed: Signed {
                check_code: drawn.check_code,
                cipher_text: drawn.cipher_text,
                qr_text,
                algorithm: key.algorithm(),
                signature,
                signer_key: sha256(key.public_key()),
            },
            next,
        })
    }

    /// The server's own text; where it gives a picture, or nothing, the text that follows from the
    /// record and the device's check code.
    fn qr_text(&self, digest: [u8; 32]) -> String {
        let own = self.drawn.qr.as_deref().filter(|text| text.starts_with("01,"));
        let record = Record {
            kind: self.kind,
            number: &self.drawn.number,
            issue_time: self.drawn.issue_time,
            totals: self.totals,
            digest,
        };
        own.map_or_else(|| derive::qr_text(&record, &self.drawn.check_code), ToOwned::to_owned)
    }
}
