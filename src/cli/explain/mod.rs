//! `explain`: what a reason means, what the caller does and what the operator does. Works offline.
//! The same pages make docs/errors.md, so the manual cannot say anything else.

mod issued;
mod platforms;
mod requests;
mod states;

use crate::{
    contract::softening,
    refusal::{self, Blame, Reason, Refusal, legacy_code},
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

/// English and Chinese, as the pages write them.
type Pair = (&'static str, &'static str);

const fn text((en, zh): Pair) -> Text {
    Text { en, zh }
}

const NOTHING: Pair = ("Nothing.", "无需处理。");

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

/// How hard a rule is, unless the profile says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Refuses.
    Reject,
    /// Goes on with a warning.
    Warn,
    /// Refuses while a state lasts.
    State,
}

impl Severity {
    /// Of a reason.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        if softening(reason).default != refusal::Severity::Refuse {
            return Self::Warn;
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
            Self::Warn => "WARN",
            Self::State => "STATE",
        }
    }

    fn text(self) -> Text {
        match self {
            Self::Reject => Text { en: "refused", zh: "拒绝" },
            Self::Warn => Text { en: "a warning", zh: "提示" },
            Self::State => {
                Text { en: "refused while the state lasts", zh: "状态持续期间拒绝" }
            }
        }
    }
}

/// What else a profile may make of a rule, with commas; empty when it has no say.
fn softer(reason: Reason) -> String {
    let softening = softening(reason);
    let others = softening.allowed.iter().filter(|allowed| **allowed != softening.default);
    others.map(|allowed| allowed.name()).collect::<Vec<_>>().join(", ")
}

/// How hard a rule is and what a profile may make of it, in both languages.
fn severity_lines(reason: Reason) -> [String; 2] {
    let (Text { en, zh }, softer) = (Severity::of(reason).text(), softer(reason));
    if softer.is_empty() {
        return [en.to_owned(), zh.to_owned()];
    }
    [format!("{en}; a profile may say {softer}"), format!("{zh}；规则档案可改为 {softer}")]
}

/// The page of one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The reason.
    pub reason: Reason,
    /// Whether the request may be sent again.
    pub resend: Resend,
    /// Why it happens.
    pub cause: Text,
    /// What the caller does.
    pub caller: Text,
    /// What the operator does.
    pub operator: Text,
}

const fn page(reason: Reason, resend: Resend, cause: Pair, caller: Pair, operator: Pair) -> Page {
    Page { reason, resend, cause: text(cause), caller: text(caller), operator: text(operator) }
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
    let chapters = [platforms::PAGES, requests::PAGES, states::PAGES, issued::PAGES];
    chapters.into_iter().flatten()
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

/// What `explain --list` prints: every name and its cause.
#[must_use]
pub fn list(format: Format) -> String {
    match format {
        Format::Json => {
            let pages: Vec<_> = pages().map(json_line).collect();
            pretty(&serde_json::Value::Array(pages))
        }
        Format::Text => pages().fold(String::new(), |mut out, page| {
            push(&mut out, format_args!("{:<27}{}", page.reason.name(), page.cause.en));
            out
        }),
    }
}

/// docs/errors.md: every page in both languages.
#[must_use]
pub fn catalogue_markdown() -> String {
    let mut out = String::from(CATALOGUE_HEAD);
    for page in pages() {
        let (resend, [en, zh]) = (page.resend.text(), severity_lines(page.reason));
        push(&mut out, format_args!("\n## {}\n", page.reason));
        push(
            &mut out,
            format_args!(
                "gRPC {} · {en} / {zh} · legacy code (旧码) {}\n",
                grpc_code(page.reason),
                legacy_code(page.reason).unwrap_or("-")
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
            let (reason, code) = (page.reason, grpc_code(page.reason));
            let legacy = legacy_code(reason).unwrap_or("-");
            push(&mut out, format_args!("{reason}  (gRPC {code}, legacy {legacy})"));
            let [en, zh] = severity_lines(reason);
            push(&mut out, format_args!("\nSeverity\n  {en}\n  {zh}"));
            for (title, text) in [
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

/// A line of the list. `en` and `zh` say why it happens.
fn json_line(page: &Page) -> serde_json::Value {
    serde_json::json!({
        "reason": page.reason.name(),
        "severity": Severity::of(page.reason).name(),
        "legacy_code": legacy_code(page.reason),
        "en": page.cause.en,
        "zh": page.cause.zh,
    })
}

/// A page: the list's line and what to do.
fn json(page: &Page) -> serde_json::Value {
    let softening = softening(page.reason);
    let allowed: Vec<_> = softening.allowed.iter().map(|allowed| allowed.name()).collect();
    serde_json::json!({
        "reason": page.reason.name(),
        "severity": Severity::of(page.reason).name(),
        "profile_severities": allowed,
        "legacy_code": legacy_code(page.reason),
        "grpc_code": grpc_code(page.reason),
        "en": page.cause.en,
        "zh": page.cause.zh,
        "resend": page.resend.name(),
        "resend_text": page.resend.text(),
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
mod provoked;
#[cfg(test)]
mod tests;
