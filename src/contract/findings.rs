//! Collects the violations of one draft, in the order of its fields. Decides nothing; keeps the
//! answer bounded, so that a hostile draft cannot make us write pages.

use super::profile::Severities;
use crate::refusal::{Reason, Refusal, Severity, Violation};
use std::fmt;

/// Violations reported at once: more than a caller reads.
pub(super) const VIOLATIONS_MAX: usize = 64;

/// Warnings and shadowed violations kept of one draft: more than an operator reads.
pub(super) const WARNINGS_MAX: usize = 64;

/// Where a violation is; becomes text only when there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Index of the line, from 0; none for a field of the draft.
    line: Option<usize>,
    /// Name on the wire; empty for the draft itself.
    name: &'static str,
}

impl Field {
    /// The draft itself.
    pub(super) const DRAFT: Self = Self::of("");

    /// A field of the draft.
    pub(super) const fn of(name: &'static str) -> Self {
        Self { line: None, name }
    }

    /// A field of a line, lines from 0.
    pub(super) const fn of_line(line: usize, name: &'static str) -> Self {
        Self { line: Some(line), name }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("draft")?;
        if let Some(line) = self.line {
            write!(f, ".lines[{line}]")?;
        }
        if self.name.is_empty() { Ok(()) } else { write!(f, ".{}", self.name) }
    }
}

/// The violations found so far. Nothing is allocated while there are none.
#[derive(Debug, Default)]
pub(super) struct Findings<'a> {
    /// What rules do; without a profile every one does what it does by default.
    severities: Option<&'a Severities>,
    refused: Vec<Violation>,
    /// Warnings, and what would have been refused.
    noted: Vec<Violation>,
}

impl<'a> Findings<'a> {
    /// Nothing found yet, under a profile's severities.
    pub(super) fn under(severities: &'a Severities) -> Self {
        Self { severities: Some(severities), ..Self::default() }
    }

    /// What a violation of the rule does.
    pub(super) fn severity(&self, reason: Reason) -> Severity {
        match self.severities {
            Some(severities) => severities.of(reason),
            None => super::softening(reason).default,
        }
    }

    /// Adds a violation, unless its rule is off or there are enough already.
    pub(super) fn add(
        &mut self,
        field: Field,
        reason: Reason,
        en: impl Into<String>,
        zh: impl Into<String>,
    ) {
        let severity = self.severity(reason);
        let (list, max) = match severity {
            Severity::Off => return,
            Severity::Shadow | Severity::Warn => (&mut self.noted, WARNINGS_MAX),
            Severity::Refuse => (&mut self.refused, VIOLATIONS_MAX),
        };
        if list.len() < max {
            let (en, zh) = (en.into(), zh.into());
            list.push(Violation { field: field.to_string(), reason, severity, en, zh });
        }
    }

    /// A mandatory field is empty.
    pub(super) fn missing(&mut self, field: Field) {
        self.add(field, Reason::FieldMissing, "is missing", "必填项为空");
    }

    /// An amount that must be another one. Never corrected here: money is not edited.
    pub(super) fn differs(&mut self, field: Field, reason: Reason, expected: i128, got: i64) {
        let off = expected.abs_diff(i128::from(got));
        self.add(
            field,
            reason,
            format!("differs by {off} fen: expected {expected}, got {got}"),
            format!("相差 {off} 分：应为 {expected}，实为 {got}"),
        );
    }

    /// Whether there are enough violations to refuse with.
    pub(super) fn is_full(&self) -> bool {
        self.refused.len() >= VIOLATIONS_MAX
    }

    /// The refusal, when anything refuses; else what is only noted.
    pub(super) fn verdict(self) -> Result<Vec<Violation>, Refusal> {
        match Refusal::of_violations(self.refused) {
            Some(refusal) => Err(refusal),
            None => Ok(self.noted),
        }
    }
}
