//! Collects what is wrong with a message while it is decoded, each with the path of its element.
//! Decides nothing; keeps the answer bounded. Values never enter a text: they may be secrets.

use crate::refusal::{Reason, Refusal, Severity, Violation};
use std::fmt;

/// Violations reported at once: more than a caller reads.
const VIOLATIONS_MAX: usize = 64;

/// Where an element is; becomes text only when something is wrong with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    name: &'a str,
    /// Among elements of one name, from 0.
    index: Option<usize>,
}

impl<'a> Path<'a> {
    pub(super) fn root(name: &'a str) -> Self {
        Self { parent: None, name, index: None }
    }

    pub(super) fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), name, index: None }
    }

    pub(super) fn nth(&'a self, name: &'a str, index: usize) -> Path<'a> {
        Path { parent: Some(self), name, index: Some(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}/")?;
        }
        f.write_str(self.name)?;
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Violation>);

impl Findings {
    pub(super) fn add(&mut self, path: &Path<'_>, reason: Reason, (en, zh): (&str, &str)) {
        if self.0.len() < VIOLATIONS_MAX {
            let (field, en, zh) = (path.to_string(), en.to_owned(), zh.to_owned());
            self.0.push(Violation { field, reason, severity: Severity::Refuse, en, zh });
        }
    }

    pub(super) fn missing(&mut self, path: &Path<'_>) {
        self.add(path, Reason::FieldMissing, ("is missing", "必填项为空"));
    }

    /// A text that is none of the values that the field has.
    pub(super) fn invalid(&mut self, path: &Path<'_>) {
        let text = ("is none of the values of this field", "取值不在允许范围内");
        self.add(path, Reason::FieldInvalid, text);
    }

    pub(super) fn unknown(&mut self, path: &Path<'_>) {
        let text = ("is no element of this message", "报文不含此元素");
        self.add(path, Reason::MalformedMessage, text);
    }

    pub(super) fn duplicate(&mut self, path: &Path<'_>) {
        self.add(path, Reason::DuplicateField, ("is given twice", "元素重复"));
    }

    /// # Errors
    /// The refusal, when anything was found.
    pub(super) fn result<T>(self, value: T) -> Result<T, Refusal> {
        Refusal::of_violations(self.0).map_or(Ok(value), Err)
    }
}
