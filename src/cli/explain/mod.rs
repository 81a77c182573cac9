//! `explain`: what a reason means, what the caller does and what the operator does. Works offline.
//! The same pages make docs/errors.md, so the manual cannot say anything else.

mod requests;
mod states;

use crate::{
    refusal::{Blame, Reason, Refusal},
    status,
};
use serde::Serialize;
use std::fmt::Write as _;

/// A text in both languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Text {
    /// English.
    pub en: &'static str,
    /// Chinese.
    pub zh: &'static str,
}

impl Text {
    const fn new(en: &'static str, zh: &'static str) -> Self {
        Self { en, zh }
    }
}

const NOTHING: Text = Text::new("Nothing.", "无需处理。");

/// Whether the request may be sent again, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// Once what is wrong is put right, with the same serial: a refusal binds none.
    AfterFix,
    /// Unchanged, with the same serial, later.
    SameSerial,
    /// Under this serial never; an order that is another takes another serial.
    NewSerial,
    /// Not before `ResolveInvoice` says what became of it.
    Resolve,
    /// Never: the answer stays the same.
    Never,
}

impl Resend {
    /// Says it.
    #[must_use]
    pub fn text(self) -> Text {
        match self {
            Self::AfterFix => Text {
                en: "yes, with the same serial, once the cause is put right",
                zh: "可以，消除原因后使用同一流水号",
            },
            Self::SameSerial => Text {
                en: "yes, unchanged, with the same serial",
                zh: "可以，使用同一流水号原样重发",
            },
            Self::NewSerial => Text {
                en: "no; a truly different order needs a new serial",
                zh: "不可以；确属另一订单的须使用新流水号",
            },
            Self::Resolve => Text {
                en: "no; ask ResolveInvoice first",
                zh: "不可以；须先以 ResolveInvoice 查询",
            },
            Self::Never => Text { en: "no", zh: "不可以" },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::AfterFix => "AFTER_FIX",
            Self::SameSerial => "SAME_SERIAL",
            Self::NewSerial => "NEW_SERIAL",
            Self::Resolve => "RESOLVE_FIRST",
            Self::Never => "NEVER",
        }
    }
}

/// How hard a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Always refuses.
    Reject,
    /// Refuses only where the profile says so.
    Profile,
    /// Refuses while a state lasts.
    State,
}

impl Severity {
    /// Of a reason.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        if reason == Reason::TaxpayerIdChecksum {
            return Self::Profile;
        }
        match reason.blame() {
            Blame::Caller | Blame::Exists | Blame::NotFound | Blame::Unknown | Blame::Denied => {
                Self::Reject
            }
            Blame::State | Blame::Quota | Blame::Busy => Self::State,
            Blame::Unbuilt | Blame::Bug => Self::Reject,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Reject => "REJECT",
            Self::Profile => "PROFILE",
            Self::State => "STATE",
        }
    }

    fn text(self) -> Text {
        match self {
            Self::Reject => Text { en: "always refused", zh: "一律拒绝" },
            Self::Profile => Text {
                en: "refused where the profile says so",
                zh: "由规则档案决定是否拒绝",
            },
            Self::State => {
                Text { en: "refused while the state lasts", zh: "状态持续期间拒绝" }
            }
        }
    }
}

/// The page of one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The reason.
    pub reason: Reason,
    /// Codes of the legacy contracts that mean the same, `/` between them; `-` for none.
    pub legacy: &'static str,
    /// Whether the request may be sent again.
    pub resend: Resend,
    /// Why it happens.
    pub cause: Text,
    /// What the caller does.
    pub caller: Text,
    /// What the operator does.
    pub operator: Text,
}

/// How a page is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one JSON value; its keys are stable.
    Json,
}

/// Every page, in the order of `Reason::ALL`.
fn pages() -> impl Iterator<Item = &'static Page> {
    requests::PAGES.iter().chain(states::PAGES)
}

/// The page of a reason.
///
/// # Panics
/// Never: a test keeps the catalogue complete.
#[must_use]
pub fn explain(reason: Reason) -> &'static Page {
    pages().find(|page| page.reason == reason).expect("every reason has a page")
}

/// What `explain REASON` prints. Case and `-` for `_` do not matter.
///
/// # Errors
/// For a name that is no reason: a message with the nearest one.
pub fn run(name: &str, format: Format) -> Result<String, String> {
    let wanted = name.trim().to_ascii_uppercase().replace('-', "_");
    let reason = Reason::ALL.iter().find(|reason| reason.name() == wanted);
    match reason {
        Some(reason) => Ok(print(explain(*reason), format)),
        None => Err(match nearest(&wanted) {
            Some(near) => {
                format!("no reason is called {:?}; did you mean {near}?", shortened(name))
            }
            None => {
                format!("no reason is called {:?}; `explain` lists them", shortened(name))
            }
        }),
    }
}

/// What `explain` prints without a reason: every name and its cause.
#[must_use]
pub fn list(format: Format) -> String {
    match format {
        Format::Json => {
            let pages: Vec<_> = pages().map(json).collect();
            pretty(&serde_json::Value::Array(pages))
        }
        Format::Text => pages().fold(String::new(), |mut out, page| {
            push(&mut out, format_args!("{:<24}{}", page.reason, page.cause.en));
            out
        }),
    }
}

/// docs/errors.md: every page in both languages.
#[must_use]
pub fn catalogue_markdown() -> String {
    let mut out = String::from(CATALOGUE_HEAD);
    for page in pages() {
        let (severity, resend) = (Severity::of(page.reason).text(), page.resend.text());
        push(&mut out, format_args!("\n## {}\n", page.reason));
        push(
            &mut out,
            format_args!(
                "gRPC {} · {} / {} · legacy code (旧码) {}\n",
                grpc_code(page.reason),
                severity.en,
                severity.zh,
                page.legacy
            ),
        );
        for (title, text) in [
            ("Cause (原因)", page.cause),
            ("Caller (调用方)", page.caller),
            ("Send again? (可否重发)", resend),
            ("Operator (运营方)", page.operator),
        ] {
            push(&mut out, format_args!("- **{title}**: {} / {}", text.en, text.zh));
        }
    }
    out
}

const CATALOGUE_HEAD: &str = "# Error catalogue (错误目录)

Generated from `src/cli/explain`; a test compares. `skproxy explain REASON` prints a page.

A refusal is an error status whose details hold a `google.rpc.ErrorInfo` (domain `skproxy`, reason =
one of the names below) and, where fields are at fault, a `google.rpc.BadRequest` with every
violation at once. A refusal spends nothing and binds no serial. A time-out is no refusal: ask
`ResolveInvoice`.
拒绝不占号、不绑定流水号；超时不是拒绝，应以 `ResolveInvoice` 查询。
";

fn print(page: &Page, format: Format) -> String {
    match format {
        Format::Json => pretty(&json(page)),
        Format::Text => {
            let mut out = String::new();
            let code = grpc_code(page.reason);
            push(&mut out, format_args!("{}  (gRPC {code}, legacy {})", page.reason, page.legacy));
            for (title, text) in [
                ("Severity", Severity::of(page.reason).text()),
                ("Cause", page.cause),
                ("Caller", page.caller),
                ("Send again?", page.resend.text()),
                ("Operator", page.operator),
            ] {
                push(&mut out, format_args!("\n{title}\n  {}\n  {}", text.en, text.zh));
            }
            out
        }
    }
}

fn json(page: &Page) -> serde_json::Value {
    serde_json::json!({
        "reason": page.reason.name(),
        "severity": Severity::of(page.reason).name(),
        "grpcCode": grpc_code(page.reason),
        "legacyCode": page.legacy,
        "resend": page.resend.name(),
        "resendText": page.resend.text(),
        "cause": page.cause,
        "caller": page.caller,
        "operator": page.operator,
    })
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

fn push(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a string takes everything");
}

/// The gRPC code in its upper-case spelling, asked of the one place that decides it.
fn grpc_code(reason: Reason) -> String {
    let code = format!("{:?}", status::refused(&Refusal::new(reason, "")).code());
    let mut name = String::with_capacity(code.len() + 2);
    for c in code.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// Letters of a wrong name that are worth echoing.
const ECHO_MAX: usize = 40;

fn shortened(name: &str) -> String {
    name.chars().take(ECHO_MAX).collect()
}

/// The reason whose name takes the fewest edits, if that is less than half of the name.
fn nearest(wanted: &str) -> Option<Reason> {
    let wanted = shortened(wanted);
    let distances = Reason::ALL.iter().map(|reason| (edits(&wanted, reason.name()), *reason));
    let (distance, reason) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance * 2 < wanted.chars().count()).then_some(reason)
}

/// Levenshtein distance.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_page_in_the_order_of_the_enum() {
        let pages: Vec<_> = pages().map(|page| page.reason).collect();
        assert_eq!(pages, Reason::ALL);
    }

    #[test]
    fn every_page_says_everything_in_both_languages() {
        for page in pages() {
            assert!(!page.legacy.is_empty(), "{}", page.reason);
            for text in [page.cause, page.caller, page.operator, page.resend.text()] {
                assert!(text.en.is_ascii() || text.en.contains('('), "{}", page.reason);
                assert!(!text.en.is_empty() && !text.zh.is_ascii(), "{}", page.reason);
            }
        }
    }

    #[test]
    fn what_may_be_sent_again_agrees_with_who_is_to_blame() {
        for page in pages() {
            let busy = matches!(page.reason.blame(), Blame::Quota | Blame::Busy);
            if busy {
                assert_eq!(page.resend, Resend::SameSerial, "{}", page.reason);
            }
        }
    }

    /// After a change of the pages write what this prints to docs/errors.md.
    #[test]
    fn the_manual_is_what_the_pages_say() {
        let file = include_str!("../../../docs/errors.md");
        assert!(file == catalogue_markdown(), "{}", catalogue_markdown());
    }

    #[test]
    fn a_reason_is_found_however_it_is_spelt() {
        for name in ["SERIAL_CONFLICT", "serial-conflict", " Serial_Conflict "] {
            let text = run(name, Format::Text).unwrap();
            assert!(
                text.starts_with("SERIAL_CONFLICT  (gRPC ALREADY_EXISTS, legacy 9990/"),
                "{text}"
            );
            assert!(text.contains("ResolveInvoice"), "{text}");
        }
    }

    #[test]
    fn a_misspelt_reason_suggests_the_nearest() {
        for (name, expect) in [
            ("SERIAL_CONFLIT", "did you mean SERIAL_CONFLICT?"),
            ("no_number", "did you mean NO_NUMBERS?"),
            ("zzzzzzzz", "`explain` lists them"),
            ("", "`explain` lists them"),
        ] {
            let error = run(name, Format::Json).unwrap_err();
            assert!(error.ends_with(expect), "{error}");
        }
        assert!(run(&"票\n".repeat(1000), Format::Text).unwrap_err().len() < 300);
    }

    #[test]
    fn json_is_one_value_with_stable_keys() {
        let value: serde_json::Value =
            serde_json::from_str(&run("LINE_TAX_MISMATCH", Format::Json).unwrap()).unwrap();
        assert_eq!(value["reason"], "LINE_TAX_MISMATCH");
        assert_eq!(value["grpcCode"], "INVALID_ARGUMENT");
        assert_eq!(value["legacyCode"], "9209");
        assert_eq!(value["resend"], "AFTER_FIX");
        assert!(value["cause"]["zh"].is_string());
        let all: serde_json::Value = serde_json::from_str(&list(Format::Json)).unwrap();
        assert_eq!(all.as_array().map(Vec::len), Some(Reason::ALL.len()));
        assert_eq!(list(Format::Text).lines().count(), Reason::ALL.len());
    }
}
