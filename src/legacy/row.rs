//! One row of the conversion table, and the reader that follows it: legacy element → field. What a
//! row does not say is not read: an element without a row is refused with its path.

use super::{
    dialect::{self, Dialect},
    findings::{Findings, Path},
    number::{self, FEN_DECIMALS, RATE_DECIMALS},
    xml::Element,
};
use crate::refusal::Reason;

/// Which of a row's names a message uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// COMMON bodies: upper case.
    Common,
    /// Component and tax server: lower case.
    Lower,
    /// The older Aisino shape.
    Older,
}

/// A row for messages that fill a `T`.
pub(super) struct Row<T> {
    /// Names by column; empty where the column has no such element.
    pub(super) names: [&'static str; 3],
    /// Field below the draft, its line, or the request; `-` for what is read past.
    pub(super) field: &'static str,
    /// Where the value goes, which is also the rule by which it is read.
    pub(super) put: Put<T>,
    /// Code of the Aisino platform for a wrong value; empty for none.
    pub(super) code: &'static str,
    /// What it means.
    pub(super) meaning: &'static str,
}

/// Where a value goes and how it is read. An empty element is as good as none.
pub(super) enum Put<T> {
    /// Text, unchanged.
    Text(fn(&mut T) -> &mut String),
    /// Text that follows another one after a blank (address, then telephone).
    AfterBlank(fn(&mut T) -> &mut String),
    /// Yuan, mandatory.
    Fen(fn(&mut T) -> &mut i64),
    /// Yuan, optional.
    OptionalFen(fn(&mut T) -> &mut Option<i64>),
    /// A rate, mandatory.
    Rate(fn(&mut T) -> &mut i32),
    /// FPLXDM.
    Kind(fn(&mut T) -> &mut i32),
    /// KPLX.
    Color(fn(&mut T) -> &mut i32),
    /// FPHXZ, mandatory.
    LineKind(fn(&mut T) -> &mut i32),
    /// ZSFS.
    TaxMethod(fn(&mut T) -> &mut i32),
    /// LSLBS.
    ZeroRate(fn(&mut T) -> &mut i32),
    /// 0 or 1.
    Flag(fn(&mut T) -> &mut bool),
    /// HSBZ: 1 is refused, never converted.
    TaxIncluded,
    /// Nothing but this value.
    Only(&'static str),
    /// Read past: layout, contact or spare data that no rule here needs.
    Ignored,
    /// Read past, never kept, never in a log: passwords and PINs.
    Secret,
}

impl<T> Put<T> {
    /// Whether a message without it cannot be understood: no value could stand for its absence.
    pub(super) fn is_mandatory(&self) -> bool {
        matches!(self, Self::Fen(_) | Self::Rate(_) | Self::LineKind(_))
    }

    fn is_read_past(&self) -> bool {
        matches!(self, Self::Ignored | Self::Secret)
    }
}

impl<T> Row<T> {
    pub(super) fn name(&self, column: Column) -> &'static str {
        match column {
            Column::Common => self.names[0],
            Column::Lower => self.names[1],
            Column::Older => self.names[2],
        }
    }
}

/// What an element may hold.
pub(super) struct Shape<'s, T: 'static> {
    pub(super) rows: &'static [Row<T>],
    pub(super) column: Column,
    /// Fields that this message has, of those of `rows`; all when empty.
    pub(super) only: &'s [&'s str],
    /// Elements that the caller reads itself; each at most once.
    pub(super) inner: &'s [&'s str],
    /// The same, any number.
    pub(super) repeated: &'s [&'s str],
}

impl<T> Shape<'_, T> {
    fn has(&self, row: &Row<T>) -> bool {
        self.only.is_empty() || row.put.is_read_past() || self.only.contains(&row.field)
    }

    /// Index of the row of a name. Elements mostly stand in the order of the table, so the search
    /// goes on where the last one ended.
    fn find(&self, name: &str, after: usize) -> Option<usize> {
        (after..self.rows.len())
            .chain(0..after)
            .find(|index| self.rows[*index].name(self.column) == name)
            .filter(|index| self.has(&self.rows[*index]))
    }
}

/// Reads elements by their rows.
pub(super) struct Reader {
    pub(super) dialect: Dialect,
    pub(super) findings: Findings,
}

impl Reader {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, findings: Findings::default() }
    }

    /// Reads the children of `element` into `target`.
    pub(super) fn read<T>(
        &mut self,
        path: &Path<'_>,
        element: &Element<'_>,
        shape: &Shape<'_, T>,
        target: &mut T,
    ) {
        let mut seen = vec![false; shape.rows.len()];
        let mut inner_seen = vec![false; shape.inner.len()];
        let mut given = Vec::with_capacity(shape.rows.len());
        let mut after = 0;
        for child in &element.children {
            let path = path.child(child.name);
            if shape.repeated.contains(&child.name) {
                continue;
            }
            if let Some(index) = shape.inner.iter().position(|name| *name == child.name) {
                if std::mem::replace(&mut inner_seen[index], true) {
                    self.findings.duplicate(&path);
                }
                continue;
            }
            let Some(index) = shape.find(child.name, after) else {
                self.findings.unknown(&path);
                continue;
            };
            after = index + 1;
            let row = &shape.rows[index];
            if std::mem::replace(&mut seen[index], true) || twice(&mut given, row, child) {
                self.findings.duplicate(&path);
                continue;
            }
            self.value(&path, child, &row.put, target);
        }
        self.missing(path, shape, &seen);
    }

    fn missing<T>(&mut self, path: &Path<'_>, shape: &Shape<'_, T>, seen: &[bool]) {
        let wanted = |row: &&Row<T>| row.put.is_mandatory() && shape.has(row);
        let mut told = Vec::new();
        let unseen = shape.rows.iter().zip(seen).filter(|(_, seen)| !**seen).map(|(row, _)| row);
        for row in unseen.filter(wanted) {
            let name = row.name(shape.column);
            let same = |(other, seen): (&Row<T>, &bool)| *seen && other.field == row.field;
            let there = shape.rows.iter().zip(seen).any(same);
            if !name.is_empty() && !there && !told.contains(&row.field) {
                self.findings.missing(&path.child(name));
                told.push(row.field);
            }
        }
    }

    fn value<T>(&mut self, path: &Path<'_>, element: &Element<'_>, put: &Put<T>, target: &mut T) {
        if put.is_read_past() {
            return;
        }
        if !element.children.is_empty() {
            let text = ("holds elements where a value is expected", "应为取值，却含有元素");
            self.findings.add(path, Reason::MalformedMessage, text);
            return;
        }
        let text = element.text();
        // Of the other control characters none comes through the reader of XML.
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            let what = ("holds a line break, tab or control character", "含换行、制表或控制字符");
            self.findings.add(path, Reason::FieldInvalid, what);
            return;
        }
        if text.is_empty() {
            if put.is_mandatory() {
                self.findings.missing(path);
            }
            return;
        }
        self.put(path, text, put, target);
    }

    fn put<T>(&mut self, path: &Path<'_>, text: &str, put: &Put<T>, target: &mut T) {
        match put {
            Put::Text(of) => text.clone_into(of(target)),
            Put::AfterBlank(of) => {
                let whole = of(target);
                if !whole.is_empty() {
                    whole.push(' ');
                }
                whole.push_str(text);
            }
            Put::Fen(of) => {
                if let Some(fen) = self.fixed(path, text, FEN_DECIMALS) {
                    *of(target) = fen;
                }
            }
            Put::OptionalFen(of) => *of(target) = self.fixed(path, text, FEN_DECIMALS),
            Put::Rate(of) => {
                let millionths = self.fixed(path, text, RATE_DECIMALS);
                match millionths.map(i32::try_from) {
                    Some(Ok(millionths)) => *of(target) = millionths,
                    Some(Err(_)) => self.findings.invalid(path),
                    None => {}
                }
            }
            Put::Kind(of) => match dialect::kind(text) {
                Some(kind) => *of(target) = kind.to_wire().into(),
                None => {
                    let what = ("is no kind that is served here", "票种不受支持");
                    self.findings.add(path, Reason::KindNotApproved, what);
                }
            },
            Put::Color(of) => self.named(path, self.dialect.color(text), of(target)),
            Put::LineKind(of) => self.named(path, self.dialect.line_kind(text), of(target)),
            Put::TaxMethod(of) => self.named(path, dialect::tax_method(text), of(target)),
            Put::ZeroRate(of) => self.named(path, dialect::zero_rate(text), of(target)),
            Put::Flag(of) => match text {
                "0" => {}
                "1" => *of(target) = true,
                _ => self.findings.invalid(path),
            },
            Put::TaxIncluded => match text {
                "0" => {}
                "1" => {
                    let what = ("says that amounts include tax", "金额为含税金额，不受支持");
                    self.findings.add(path, Reason::TaxIncludedUnsupported, what);
                }
                _ => self.findings.invalid(path),
            },
            Put::Only(value) if text == *value => {}
            Put::Only(_) => self.findings.invalid(path),
            Put::Ignored | Put::Secret => {}
        }
    }

    fn named<E: Into<i32>>(&mut self, path: &Path<'_>, value: Option<E>, target: &mut i32) {
        match value {
            Some(value) => *target = value.into(),
            None => self.findings.invalid(path),
        }
    }

    fn fixed(&mut self, path: &Path<'_>, text: &str, decimals: usize) -> Option<i64> {
        match number::fixed(text, decimals) {
            Ok(value) => Some(value),
            Err(error) => {
                self.findings.add(path, error.reason(), (error.en(), error.zh()));
                None
            }
        }
    }
}

/// Whether another name of the same field was there before; an empty one does not count.
fn twice<T>(given: &mut Vec<&'static str>, row: &Row<T>, element: &Element<'_>) -> bool {
    let value = row.field != "-" && !matches!(row.put, Put::AfterBlank(_));
    if !value || element.text().is_empty() {
        return false;
    }
    if given.contains(&row.field) {
        return true;
    }
    given.push(row.field);
    false
}
