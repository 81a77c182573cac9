//! The operations of a simulated tax server: well-formed request in, answer out, with the faults
//! that lie in what is booked and said.

use super::{
    devices::{Cipher, Device, Devices, KindRules, Segment},
    faults::Fault,
    memory::{Booked, Memory},
    rules::{self, Wanted},
    wire::{self, Refused, Request, refuse},
};
use crate::{
    clock::{self, Clock},
    convert,
    xml::print::Printer,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Kinds that exist on paper and can be voided.
const PAPER: [&str; 3] = ["004", "007", "025"];

/// Devices and what they remember.
#[derive(Debug)]
pub(super) struct Operations {
    devices: Devices,
    memory: Mutex<Memory>,
    clock: Clock,
}

/// What an answer holds beside its code.
type Data = Box<dyn FnOnce(&mut Printer)>;

/// A number and whether it is the stock's next.
type Number = ((String, u32), bool);

impl Operations {
    pub(super) fn new(devices: Devices, memory: Memory, clock: Clock) -> Self {
        Self { devices, memory: Mutex::new(memory), clock }
    }

    /// Everything booked, for whoever judges from outside.
    pub(super) fn all(&self) -> rusqlite::Result<Vec<Booked>> {
        self.memory().all()
    }

    /// Does what is asked; a refusal is an answer too.
    pub(super) fn perform(&self, request: &Request<'_>, fault: Fault) -> Result<Data, Refused> {
        let name = request.field("kpzdbs");
        let Some(device) = self.devices.get(name) else {
            return refuse("9997", "no such kpzdbs");
        };
        match request.id.as_str() {
            "SKSBXXCX" | "DJXXCX" => return self.info(request, device),
            "20002" => {
                request.fields(&["kpzdbs"])?;
                let (id, key) = (device.taxpayer_id.clone(), device.device_number.clone());
                return Ok(Box::new(move |printer| {
                    printer.leaf("nsrsbh", &id);
                    printer.leaf("keyno", &key);
                }));
            }
            _ => {}
        }
        let kind = request.field("fplxdm");
        let Some(rules) = device.kinds.get(kind) else {
            return refuse("09d110", "the kind is not supported");
        };
        let about = About { device, kind, rules };
        match request.id.as_str() {
            "10004" => self.current(request, &about),
            "10005" => self.stock(request, &about),
            "10008" => self.issue(request, &about, fault),
            "10009" => self.void(request, &about),
            "10010" => self.query(request, &about, fault),
            "JKXXCX" => monitor(request, &about),
            "SQSLCX" => rates(request, &about),
            "FPSCJGHQ" => self.write_back(request, &about),
            _ => refuse("9996", "no such operation"),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn info(&self, request: &Request<'_>, device: &Device) -> Result<Data, Refused> {
        request.fields(&["kpzdbs"])?;
        let kinds: String = device.kinds.keys().map(String::as_str).collect();
        let (device, now) = (device.clone(), wire::compact(self.clock.now().unix()));
        Ok(Box::new(move |printer| {
            for (name, value) in [
                ("sksbbh", &device.device_number),
                ("jqbh", &device.machine_number),
                ("nsrsbh", &device.taxpayer_id),
                ("nsrmc", &device.taxpayer_name),
                ("swjgdm", &device.office.0),
                ("swjgmc", &device.office.1),
                ("fplxdm", &kinds),
                ("dqsz", &now),
            ] {
                printer.leaf(name, value);
            }
        }))
    }

    fn current(&self, request: &Request<'_>, about: &About<'_>) -> Result<Data, Refused> {
        request.fields(&["kpzdbs", "fplxdm"])?;
        let next = about.next(self.memory().drawn(&about.device.kpzdbs, about.kind));
        let Some((code, number)) = next? else { return refuse("1002", "no number is left") };
        Ok(Box::new(move |printer| {
            printer.leaf("dqfpdm", &code);
            printer.leaf("dqfphm", &format!("{number:08}"));
        }))
    }

    fn stock(&self, request: &Request<'_>, about: &About<'_>) -> Result<Data, Refused> {
        request.fields(&["kpzdbs", "fplxdm"])?;
        let drawn = self.memory().drawn(&about.device.kpzdbs, about.kind).map_err(failed)?;
        let next = about.next(Ok(drawn))?;
        let mut ahead = drawn;
        let left = about.rules.segments.iter().map(|segment| {
            let used = ahead.min(segment.len());
            ahead -= used;
            (segment.clone(), segment.len() - used)
        });
        let left: Vec<(Segment, u64)> = left.filter(|(_, left)| *left > 0).collect();
        Ok(Box::new(move |printer| print_stock(printer, next, &left)))
    }

    fn issue(
        &self,
        request: &Request<'_>,
        about: &About<'_>,
        fault: Fault,
    ) -> Result<Data, Refused> {
        let wanted = rules::check(request, about.device, about.rules)?;
        let now = self.clock.now().unix();
        let deadline = &about.rules.issue_deadline;
        if !deadline.is_empty() && wire::compact(now) > *deadline {
            return refuse("09d109", "the issue deadline has passed");
        }
        let mut memory = self.memory();
        let device = about.device.kpzdbs.as_str();
        match memory.by_serial(device, &wanted.serial).map_err(failed)? {
            Some(known) if known.request == request.hash => {
                return refuse("4007", "issued already");
            }
            Some(_) => return refuse("9990", "the serial has another content"),
            None => {}
        }
        if fault == Fault::IssuedByAnother {
            let serial = clock::random_text(20);
            let other = about.number(memory.drawn(device, about.kind), fault)?;
            let booked = about.booked(&Wanted { serial, ..wanted.clone() }, other.0, now);
            memory.book(&booked, other.1).map_err(failed)?;
        }
        let number = about.number(memory.drawn(device, about.kind), fault)?;
        let at = match fault {
            Fault::ClockBack(by) => now.saturating_sub(convert::to_i64(by.as_secs())),
            _ => now,
        };
        let wanted = disturbed(wanted, fault);
        let booked =
            Booked { request: request.hash.clone(), ..about.booked(&wanted, number.0, at) };
        memory.book(&booked, number.1).map_err(failed)?;
        Ok(Box::new(move |printer| wire::print_drawn(printer, &booked)))
    }

    fn query(
        &self,
        request: &Request<'_>,
        about: &About<'_>,
        fault: Fault,
    ) -> Result<Data, Refused> {
        let memory = self.memory();
        let found = if request.has("fpqqlsh") {
            let row = request.fields(&["kpzdbs", "fplxdm", "fpqqlsh"])?;
            memory.by_serial(&about.device.kpzdbs, row.text("fpqqlsh")).map_err(failed)?
        } else {
            let row = request.fields(&["kpzdbs", "fplxdm", "fpdm", "fphm"])?;
            let number = row.text("fphm").parse().unwrap_or_default();
            memory.by_number(row.text("fpdm"), number).map_err(failed)?
        };
        let own = |it: &Booked| it.kind == about.kind && it.device == about.device.kpzdbs;
        let mut found = found.filter(own);
        if let Some(booked) = &mut found {
            match fault {
                Fault::WrongSerial => booked.serial = clock::random_text(20),
                Fault::WrongTotal => booked.totals[2] = one_fen_more(&booked.totals[2]),
                _ => {}
            }
        }
        let machine = about.device.machine_number.clone();
        Ok(Box::new(move |printer| {
            let count = if found.is_some() { "1" } else { "0" };
            printer.open_with("kpxx", &[("count", count)]);
            if let Some(booked) = &found {
                printer.open_with("group", &[("xh", "1")]);
                wire::print_booked(printer, booked, &machine);
                printer.close();
            }
            printer.close();
        }))
    }

    fn void(&self, request: &Request<'_>, about: &About<'_>) -> Result<Data, Refused> {
        let names = ["kpzdbs", "fplxdm", "zflx", "fpdm", "fphm", "hjje", "zfr"];
        let row = request.fields(&names)?;
        let mut memory = self.memory();
        let (code, number) = (row.text("fpdm").to_owned(), row.text("fphm").to_owned());
        let at = self.clock.now().unix();
        if row.one_of("zflx", &["0", "1"])? == "0" {
            let next = about.next(memory.drawn(&about.device.kpzdbs, about.kind))?;
            let Some(next) =
                next.filter(|next| (&next.0, format!("{:08}", next.1)) == (&code, number.clone()))
            else {
                return refuse("-10311", "only the next number can be voided unused");
            };
            let serial = format!("V{number}{}", clock::random_text(11));
            let totals = std::array::from_fn(|_| "0.00".to_owned());
            let (buyer_id, buyer_name) = Default::default();
            let wanted = Wanted { serial, is_red: false, totals, buyer_id, buyer_name };
            let booked = Booked { status: 2, ..about.booked(&wanted, next, at) };
            memory.book(&booked, true).map_err(failed)?;
        } else {
            let known = memory.by_number(&code, number.parse().unwrap_or_default());
            let known = known.map_err(failed)?.filter(|it| it.device == about.device.kpzdbs);
            let Some(known) = known else { return refuse("9001", "no such invoice") };
            if !PAPER.contains(&about.kind) || known.status > 1 {
                return refuse("09d11c", "it cannot be voided");
            }
            if known.totals[0] != row.text("hjje") {
                return refuse("9997", "hjje is not the invoice's");
            }
            let status = known.status.saturating_add(3);
            memory.rebook(&Booked { status, ..known }).map_err(failed)?;
        }
        Ok(Box::new(move |printer| {
            printer.leaf("fpdm", &code);
            printer.leaf("fphm", &number);
            printer.leaf("zfrq", &wire::compact(at));
        }))
    }

    fn write_back(&self, request: &Request<'_>, about: &About<'_>) -> Result<Data, Refused> {
        let row = request.fields(&["kpzdbs", "fplxdm", "slxlh", "mxjgmw"])?;
        let (serial, result) = (row.short("slxlh", 64)?, row.text("mxjgmw"));
        if serial.is_empty() || result.is_empty() {
            return refuse("4100", "slxlh and mxjgmw must not be empty");
        }
        let memory = self.memory();
        let key = [about.device.kpzdbs.as_str(), about.kind, serial];
        let known = memory.written_back(key).map_err(failed)?;
        if known.is_some_and(|known| known != result) {
            return refuse("9997", "another result was written back for this slxlh");
        }
        memory.write_back([key[0], key[1], serial, result]).map_err(failed)?;
        Ok(Box::new(|_| {}))
    }
}

fn monitor(request: &Request<'_>, about: &About<'_>) -> Result<Data, Refused> {
    request.fields(&["kpzdbs", "fplxdm"])?;
    let (kind, rules) = (about.kind.to_owned(), about.rules.clone());
    Ok(Box::new(move |printer| {
        let limit = rules.single_limit.map(|limit| format!("{limit:.2}")).unwrap_or_default();
        let [hours, count, amount, upload_day] = &rules.offline;
        for (name, value) in [
            ("fplxdm", kind.as_str()),
            ("kpjzsj", &rules.issue_deadline),
            ("bsqsrq", ""),
            ("bszzrq", ""),
            ("dzkpxe", &limit),
            ("zsljxe", ""),
            ("fsljxe", ""),
            ("fsfpbz", "0"),
            ("fsfpts", "999"),
            ("zxbsrq", ""),
            ("syrl", ""),
            ("scjzrq", upload_day),
            ("xdgnbs", ""),
            ("lxkpsc", hours),
            ("lxkpzs", count),
            ("lxzsljje", amount),
            ("lxfsljje", amount),
        ] {
            printer.leaf(name, value);
        }
    }))
}

fn rates(request: &Request<'_>, about: &About<'_>) -> Result<Data, Refused> {
    request.fields(&["kpzdbs", "fplxdm"])?;
    let rates = about.rules.rates.clone();
    Ok(Box::new(move |printer| {
        printer.open_with("slxx", &[("count", &rates.len().to_string())]);
        for (at, rate) in rates.iter().enumerate() {
            printer.open_with("group", &[("xh", &at.saturating_add(1).to_string())]);
            printer.leaf("sl", &rate.to_string());
            printer.leaf("slmc", "");
            printer.close();
        }
        printer.close();
    }))
}

fn print_stock(printer: &mut Printer, next: Option<(String, u32)>, left: &[(Segment, u64)]) {
    let (code, number) =
        next.map_or_else(Default::default, |(code, number)| (code, format!("{number:08}")));
    printer.leaf("dqfpdm", &code);
    printer.leaf("dqfphm", &number);
    printer.leaf("zsyfs", &left.iter().map(|(_, left)| left).sum::<u64>().to_string());
    printer.open_with("lgxx", &[("count", &left.len().to_string())]);
    for (at, (segment, left)) in left.iter().enumerate() {
        printer.open_with("group", &[("xh", &at.saturating_add(1).to_string())]);
        for (name, value) in [
            ("fpdm", segment.code.clone()),
            ("qshm", format!("{:08}", segment.first)),
            ("zzhm", format!("{:08}", segment.last)),
            ("fpfs", segment.len().to_string()),
            ("syfs", left.to_string()),
            ("lgrq", "20260101".to_owned()),
            ("lgry", String::new()),
        ] {
            printer.leaf(name, &value);
        }
        printer.close();
    }
    printer.close();
}

/// One kind of one device.
struct About<'a> {
    device: &'a Device,
    kind: &'a str,
    rules: &'a KindRules,
}

impl About<'_> {
    /// The stock's next number.
    fn next(&self, drawn: rusqlite::Result<u64>) -> Result<Option<(String, u32)>, Refused> {
        let mut ahead = drawn.map_err(failed)?;
        for segment in &self.rules.segments {
            if ahead < segment.len() {
                let offset = u32::try_from(ahead).unwrap_or(u32::MAX);
                return Ok(Some((segment.code.clone(), segment.first.saturating_add(offset))));
            }
            ahead -= segment.len();
        }
        Ok(None)
    }

    /// The number to draw, and whether it is the stock's.
    fn number(&self, drawn: rusqlite::Result<u64>, fault: Fault) -> Result<Number, Refused> {
        let Some(next) = self.next(drawn)? else { return refuse("1002", "no number is left") };
        if fault != Fault::OutsideNumber {
            return Ok((next, true));
        }
        let noise = u32::from_le_bytes(clock::random()) % 1_000_000;
        Ok(((next.0, 98_000_000_u32.saturating_add(noise)), false))
    }

    /// An invoice with its texts, which nobody can decode: they only look like the real ones.
    fn booked(&self, wanted: &Wanted, (code, number): (String, u32), at: i64) -> Booked {
        let seed = format!("{}|{code}|{number}|{at}", self.device.kpzdbs);
        let check_code = letters(&format!("jym|{seed}"), "0123456789", 20);
        let (prefix, len) = match self.device.cipher {
            Cipher::Baiwang => ("03", 112),
            Cipher::UKey => ("00", 112),
            Cipher::Aisino => ("", 108),
        };
        let rest = letters(&format!("skm|{seed}"), "0123456789+-*/<>", len - prefix.len());
        let day = wire::compact(at);
        let (qr_kind, day) = (self.qr_kind(), &day[..8]);
        let amount = &wanted.totals[0];
        let text = format!("01,{qr_kind},{code},{number:08},{amount},{day},{check_code},");
        Booked {
            device: self.device.kpzdbs.clone(),
            kind: self.kind.to_owned(),
            serial: wanted.serial.clone(),
            code,
            number,
            status: u8::from(wanted.is_red),
            at,
            totals: wanted.totals.clone(),
            buyer_id: wanted.buyer_id.clone(),
            buyer_name: wanted.buyer_name.clone(),
            check_code,
            cipher_text: format!("{prefix}{rest}"),
            qr_text: format!("{text}{:04X}", crc(text.as_bytes())),
            request: String::new(),
        }
    }

    fn qr_kind(&self) -> &'static str {
        match self.kind {
            "004" => "01",
            "007" => "04",
            "025" => "11",
            "028" => "08",
            _ => "10",
        }
    }
}

fn disturbed(mut wanted: Wanted, fault: Fault) -> Wanted {
    match fault {
        Fault::WrongSerial => wanted.serial = clock::random_text(20),
        Fault::WrongTotal => wanted.totals[2] = one_fen_more(&wanted.totals[2]),
        _ => {}
    }
    wanted
}

fn one_fen_more(yuan: &str) -> String {
    let value: rust_decimal::Decimal = yuan.parse().unwrap_or_default();
    format!("{:.2}", value + rust_decimal::Decimal::new(1, 2))
}

fn failed(error: rusqlite::Error) -> Refused {
    Refused("8010", error.to_string())
}

/// `len` characters of an alphabet of 10 or 16, drawn from hashes of the seed.
fn letters(seed: &str, alphabet: &str, len: usize) -> String {
    let blocks = (0_u32..).map(|at| convert::sha256(format!("{seed}|{at}").as_bytes()));
    let alphabet = alphabet.as_bytes();
    let draw = |byte: u8| char::from(alphabet[usize::from(byte) % alphabet.len()]);
    blocks.flatten().map(draw).take(len).collect()
}

/// CRC-16 of two-dimensional codes: polynomial 0x8005, start 0. Source: docs/domain.md 3.3.
fn crc(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x8005;
            }
        }
    }
    crc
}
