//! Messages as the simulated server reads and writes them. Written apart from the proxy's client,
//! so that a mistake of one does not hide in the other.

use super::memory::Booked;
use crate::{
    convert, gbk,
    model::CstTime,
    xml::{self, Charset, Element, charset, print::Printer},
};
use rust_decimal::Decimal;

/// A refusal: return code and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str, pub(super) String);

/// Refuses with a code.
pub(super) fn refuse<T>(code: &'static str, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(code, why.into()))
}

/// A request that is well formed.
pub(super) struct Request<'a> {
    /// Id of the operation.
    pub(super) id: String,
    /// Echoed.
    pub(super) comment: String,
    body: Element<'a>,
    /// SHA-256 over the message, hex.
    pub(super) hash: String,
}

/// The text of a message that is truly GBK.
pub(super) fn decoded(bytes: &[u8]) -> Result<String, Refused> {
    match charset::decode(bytes) {
        Ok((text, Charset::Gbk)) => Ok(text.into_owned()),
        Ok(_) => refuse("9996", "the message must declare gbk"),
        Err((error, _)) => refuse("9996", error.to_string()),
    }
}

impl<'a> Request<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Refused> {
        let mut root = xml::parse(text).map_err(|error| Refused("9996", error.to_string()))?;
        let id = root.attribute("id").unwrap_or_default().to_owned();
        let comment = root.attribute("comment").unwrap_or_default().to_owned();
        let single = root.name == "business" && root.children.len() == 1;
        let Some(body) = root.children.pop().filter(|body| single && body.name == "body") else {
            return refuse("9996", "a message is one <business> with one <body>");
        };
        if body.attribute("yylxdm") != Some("1") {
            return refuse("4100", "yylxdm must be 1");
        }
        Ok(Self { id, comment, body, hash: convert::hex(&convert::sha256(text.as_bytes())) })
    }

    /// The fields, which must be these, each once, in any order.
    pub(super) fn fields(&self, names: &[&'static str]) -> Result<Row<'_>, Refused> {
        Row::read(&self.body, names)
    }

    /// A field, whatever else there is.
    pub(super) fn field(&self, name: &str) -> &str {
        self.body.child_text(name)
    }

    /// Whether the body has a field.
    pub(super) fn has(&self, name: &str) -> bool {
        self.body.child(name).is_some()
    }
}

/// Fields of one element.
pub(super) struct Row<'e>(&'e Element<'e>);

impl<'e> Row<'e> {
    fn read(element: &'e Element<'e>, names: &[&'static str]) -> Result<Self, Refused> {
        for name in names {
            if element.children.iter().filter(|child| child.name == *name).count() != 1 {
                return refuse("4100", format!("{name} must stand there once"));
            }
        }
        match element.children.iter().find(|child| !names.contains(&child.name)) {
            Some(child) => refuse("4100", format!("{} is not known", child.name)),
            None => Ok(Self(element)),
        }
    }

    /// The value of a field.
    pub(super) fn text(&self, name: &str) -> &'e str {
        self.0.child_text(name)
    }

    /// A value of at most so many GBK bytes.
    pub(super) fn short(&self, name: &str, bytes_max: usize) -> Result<&'e str, Refused> {
        let text = self.text(name);
        match gbk::gbk_len(text) {
            Some(len) if len <= bytes_max => Ok(text),
            Some(_) => refuse("4100", format!("{name} is longer than {bytes_max} bytes")),
            None => refuse("-10321", format!("{name} holds text outside GBK")),
        }
    }

    /// A value out of a list.
    pub(super) fn one_of(&self, name: &str, values: &[&str]) -> Result<&'e str, Refused> {
        let text = self.text(name);
        if values.contains(&text) {
            return Ok(text);
        }
        refuse("4100", format!("{name} is {text:?}"))
    }

    /// Yuan, two decimals exactly.
    pub(super) fn yuan(&self, name: &str) -> Result<Decimal, Refused> {
        let text = self.text(name);
        let two = text.rsplit_once('.').is_some_and(|(_, fraction)| fraction.len() == 2);
        match text.parse() {
            Ok(value) if two && text != "-0.00" => Ok(value),
            _ => refuse("4100", format!("{name} is no amount with two decimals")),
        }
    }

    /// A plain decimal.
    pub(super) fn decimal(&self, name: &str) -> Result<Decimal, Refused> {
        let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
        let text = self.text(name);
        match text.parse() {
            Ok(value) if text.chars().all(plain) => Ok(value),
            _ => refuse("4100", format!("{name} is no number")),
        }
    }

    /// The groups of a list, each with these fields; the count must be true.
    pub(super) fn groups(
        &self,
        name: &str,
        names: &[&'static str],
    ) -> Result<Vec<Row<'e>>, Refused> {
        let Some(list) = self.0.child(name) else { return Ok(Vec::new()) };
        let count = list.attribute("count").and_then(|count| count.parse().ok());
        if count != Some(list.children.len()) {
            return refuse("4100", format!("the count of {name} is wrong"));
        }
        let rows = list.children.iter().enumerate().map(|(at, group)| {
            let nth = at.saturating_add(1).to_string();
            if group.name != "group" || group.attribute("xh") != Some(&nth) {
                return refuse("4100", format!("{name} must hold groups, numbered by xh"));
            }
            Row::read(group, names)
        });
        rows.collect()
    }
}

/// The text of an answer: return code, message, and what `data` prints.
pub(super) fn text(
    (id, comment): (&str, &str),
    (code, message): (&str, &str),
    data: impl FnOnce(&mut Printer),
) -> String {
    let mut printer = Printer::new(Charset::Gbk.label());
    printer.open_with("business", &[("id", id), ("comment", comment)]);
    printer.open_with("body", &[("yylxdm", "1")]);
    printer.leaf("returncode", code);
    printer.leaf("returnmsg", message);
    printer.open("returndata");
    data(&mut printer);
    printer.finish()
}

/// `yyyyMMddHHmmss`.
pub(super) fn compact(seconds: i64) -> String {
    let time = CstTime::from_unix(seconds).map(CstTime::rfc3339).unwrap_or_default();
    time.chars().take(19).filter(char::is_ascii_digit).collect()
}

/// Prints what issuing answers, and what a query tells first.
pub(super) fn print_drawn(printer: &mut Printer, booked: &Booked) {
    printer.leaf("fpdm", &booked.code);
    printer.leaf("fphm", &booked.number_text());
    printer.leaf("kprq", &compact(booked.at));
    printer.leaf("skm", &booked.cipher_text);
    printer.leaf("jym", &booked.check_code);
    printer.leaf("ewm", &booked.qr_text);
}

/// Prints what a query tells.
pub(super) fn print_booked(printer: &mut Printer, booked: &Booked, machine: &str) {
    print_drawn(printer, booked);
    let [amount, tax, total] = &booked.totals;
    for (name, value) in [
        ("fpzt", booked.status.to_string().as_str()),
        ("scbz", "0"),
        ("jqbh", machine),
        ("fpqqlsh", &booked.serial),
        ("fplxdm", &booked.kind),
        ("ghdwsbh", &booked.buyer_id),
        ("ghdwmc", &booked.buyer_name),
        ("hjje", amount),
        ("hjse", tax),
        ("jshj", total),
    ] {
        printer.leaf(name, value);
    }
}
