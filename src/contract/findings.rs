//! Collects the violations of one draft, in the order of its fields. Decides nothing; keeps the
//! answer bounded, so that a hostile draft cannot make us write pages.

use crate::refusal::{Reason, Refusal, Violation};
use std::fmt;

/// Violations reported at once: more than a caller reads.
pub(super) const VIOLATIONS_MAX: usize = 64;

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

/// The violations found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Violation>);

impl Findings {
    /// Adds a violation, unless there are enough already.
    pub(super) fn add(
        &mut self,
        field: Field,
        reason: Reason,
        en: impl Into<String>,
        zh: impl Into<String>,
    ) {
        if !self.is_full() {
            let (en, zh) = (en.into(), zh.into());
            self.0.push(Violation { field: field.to_string(), reason, en, zh });
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

    /// Whether there are enough violations.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= VIOLATIONS_MAX
    }

    /// The refusal, when anything was found.
    pub(super) fn into_refusal(self) -> Option<Refusal> {
        Refusal::of_violations(self.0)
    }
}
