//! The client's ledger: every request before it is sent, every answer before the client goes on. It
//! is all that the checker believes; each line is one write, so a killed client tears none.

use crate::world;
use prost::Message as _;
use skproxy::{convert, pb::v1 as pb, refusal::Refusal};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
};

/// What a client remembers of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Invoice {
    pub(crate) code: String,
    pub(crate) number: String,
    /// SHA-256 of its bytes, hex.
    pub(crate) bytes: String,
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Issued(Invoice),
    /// Issued, and voided at this time.
    Voided(Invoice, String),
    Doubt,
    Closed,
    Refused(String),
    /// Nothing that an honest proxy says here.
    Wrong(String),
}

impl Answer {
    pub(crate) fn of(serial: &str, told: Result<pb::Outcome, Refusal>) -> Self {
        use pb::outcome::Result as Wire;
        match told.map(|outcome| outcome.result) {
            Ok(Some(Wire::Issued(issued))) => Self::issued(serial, issued.invoice),
            Ok(Some(Wire::Voided(voided))) => {
                match Self::issued(serial, voided.issued.unwrap_or_default().invoice) {
                    Self::Issued(invoice) => Self::Voided(invoice, voided.voided_at),
                    other => other,
                }
            }
            Ok(Some(Wire::InDoubt(_))) => Self::Doubt,
            Ok(Some(Wire::Closed(_))) => Self::Closed,
            Ok(other) => Self::Wrong(format!("{other:?}").replace(' ', "_")),
            Err(refusal) => Self::Refused(refusal.reason.name().to_owned()),
        }
    }

    fn issued(serial: &str, invoice: Option<pb::Invoice>) -> Self {
        let invoice = invoice.unwrap_or_default();
        if invoice.draft != Some(world::draft(serial)) {
            return Self::Wrong("another-content".into());
        }
        let bytes = convert::hex(&convert::sha256(&invoice.encode_to_vec()));
        Self::Issued(Invoice { code: invoice.code, number: invoice.number, bytes })
    }

    fn words(&self) -> String {
        match self {
            Self::Issued(Invoice { code, number, bytes }) => {
                format!("issued {code} {number} {bytes}")
            }
            Self::Voided(Invoice { code, number, bytes }, at) => {
                format!("voided {code} {number} {bytes} {at}")
            }
            Self::Doubt => "doubt".into(),
            Self::Closed => "closed".into(),
            Self::Refused(reason) => format!("refused {reason}"),
            Self::Wrong(what) => format!("wrong {what}"),
        }
    }

    fn parse(words: &[&str]) -> Option<Self> {
        Some(match *words {
            ["issued", code, number, bytes] => Self::Issued(Invoice {
                code: code.into(),
                number: number.into(),
                bytes: bytes.into(),
            }),
            ["voided", code, number, bytes, at] => {
                let (code, number, bytes) = (code.into(), number.into(), bytes.into());
                Self::Voided(Invoice { code, number, bytes }, at.into())
            }
            ["doubt"] => Self::Doubt,
            ["closed"] => Self::Closed,
            ["refused", reason] => Self::Refused(reason.into()),
            ["wrong", what] => Self::Wrong(what.into()),
            _ => return None,
        })
    }
}

/// The ledger's file, open for appending.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    pub(crate) fn sent(&self, serial: &str) {
        self.line(&format!("{serial} sent\n"));
    }

    pub(crate) fn told(&self, serial: &str, answer: &Answer) {
        self.line(&format!("{serial} {}\n", answer.words()));
    }

    fn line(&self, line: &str) {
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

/// All that was ever said of a serial.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) issued: BTreeSet<Invoice>,
    /// When it was voided, by each answer.
    pub(crate) voided: BTreeSet<String>,
    pub(crate) closed: bool,
    pub(crate) refused: BTreeSet<String>,
    pub(crate) wrong: Vec<String>,
}

/// Facts by serial.
pub(crate) type Known = BTreeMap<String, Facts>;

/// What is told of a ledger's line: its serial and answer; none where it was sent only.
pub(crate) fn parse(line: &str) -> (&str, Option<Answer>) {
    let words: Vec<_> = line.split_whitespace().collect();
    let (serial, words) = words.split_first().expect("a line has words");
    match words {
        ["sent"] => (serial, None),
        words => (serial, Some(Answer::parse(words).expect("a ledger's line"))),
    }
}

/// Reads a ledger's text.
pub(crate) fn read(text: &str) -> Known {
    let mut known = Known::new();
    for line in text.lines() {
        let (serial, answer) = parse(line);
        let facts = known.entry(serial.to_owned()).or_default();
        match answer {
            Some(Answer::Issued(_)) if !facts.voided.is_empty() => {
                facts.wrong.push("issued-after-its-void".into());
            }
            Some(Answer::Issued(invoice)) => drop(facts.issued.insert(invoice)),
            Some(Answer::Voided(invoice, at)) => {
                facts.issued.insert(invoice);
                facts.voided.insert(at);
            }
            Some(Answer::Closed) => facts.closed = true,
            Some(Answer::Refused(reason)) => drop(facts.refused.insert(reason)),
            Some(Answer::Wrong(what)) => facts.wrong.push(what),
            Some(Answer::Doubt) | None => {}
        }
    }
    known
}
