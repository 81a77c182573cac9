//! What can go wrong on purpose, how it is written and what it can strike. The table is also the
//! help of `skproxy authority-sim`.

use super::super::status;
use serde::Deserialize;
use std::{fmt, str::FromStr, time::Duration};
use tonic::Code;

/// The calls of `AcceptanceService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Takes a batch in.
    SubmitBatch,
    /// Tells a receipt.
    GetReceipt,
    /// Tells the head of a series.
    GetSeriesHead,
    /// Hands numbers out.
    AcquireSegment,
    /// Makes them usable.
    ConfirmSegment,
    /// Takes numbers back.
    ReturnSegment,
    /// Tells what became of the three above.
    GetSegmentRequest,
    /// Tells limits and rates.
    GetMonitor,
    /// Takes the report of a period.
    ReportPeriod,
    /// Clears a reported period.
    ClearPeriod,
    /// Counts what it holds.
    GetSummary,
    /// Lists what it holds.
    ListHeld,
    /// Registers a device.
    RegisterDevice,
}

use Operation::{ClearPeriod, GetMonitor, GetReceipt, GetSeriesHead, SubmitBatch};

impl Operation {
    const ALL: [Self; 13] = [
        Self::SubmitBatch,
        Self::GetReceipt,
        Self::GetSeriesHead,
        Self::AcquireSegment,
        Self::ConfirmSegment,
        Self::ReturnSegment,
        Self::GetSegmentRequest,
        Self::GetMonitor,
        Self::ReportPeriod,
        Self::ClearPeriod,
        Self::GetSummary,
        Self::ListHeld,
        Self::RegisterDevice,
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| format!("{operation:?}") == name)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call waits first.
    Delay(Duration),
    /// The request is not heard; no answer.
    DropRequest,
    /// Refused with this code; nothing is done.
    ErrorBefore(Code),
    /// The connection is reset; nothing is done.
    ResetBefore,
    /// Refused with RESOURCE_EXHAUSTED; nothing is done.
    Busy,
    /// Calls are taken and wait until the faults are cleared.
    Frozen,
    /// The clock of this call is off. Unit: seconds.
    SkewedClock(i64),
    /// Every item of the batch is rejected, or the one at this place, from 1.
    Reject(Option<usize>),
    /// The item with this code and number is rejected.
    RejectNumber {
        /// Invoice code.
        code: String,
        /// Invoice number.
        number: String,
    },
    /// The issue deadline is moved into the past.
    LockedPeriod,
    /// The issue deadline is moved back by a day, with a higher version.
    MonitorBackwards,
    /// Judging the batch takes so long.
    Pending(Duration),
    /// The receipt's signature does not verify.
    WrongSignature,
    /// The receipt is another batch's.
    WrongBatch,
    /// The verdicts are about other items, or out of order.
    SwappedVerdicts,
    /// The monitor data cannot be read.
    MonitorMalformed,
    /// The previous answer of the operation comes once more, though this request is done.
    AnswerTwice,
    /// It is done; no answer.
    DropAnswer,
    /// It is done, and answered with UNAVAILABLE.
    LoseAnswer,
    /// It is done, and answered with this code.
    ErrorAfter(Code),
    /// It is done, and the connection is reset.
    ResetAfter,
}

/// Where on a call's way a fault strikes. At most one fault of each phase strikes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Phase {
    /// Before anything else.
    Delay,
    /// Instead of doing it.
    Arrival,
    /// The time it is done at.
    Clock,
    /// What a new batch's items come to.
    Judging,
    /// The monitor data put in force by it.
    Monitor,
    /// How long the receipt of a new batch waits.
    Pending,
    /// What the answer says.
    Content,
    /// Whether it is this call's answer.
    Repeat,
    /// How the answer leaves.
    Departure,
}

/// A row of the menu.
struct Row {
    name: &'static str,
    /// What follows the name, as help shows it.
    value: &'static str,
    phase: Phase,
    /// What it can strike; empty for everything.
    strikes: &'static [Operation],
    help: &'static str,
}

impl Row {
    /// Of a fault that every operation can meet.
    const fn any(
        name: &'static str,
        value: &'static str,
        phase: Phase,
        help: &'static str,
    ) -> Self {
        Self { name, value, phase, strikes: &[], help }
    }

    const fn of(self, strikes: &'static [Operation]) -> Self {
        Self { strikes, ..self }
    }
}

const RECEIPTS: &[Operation] = &[SubmitBatch, GetReceipt];
const TELL_MONITORS: &[Operation] = &[SubmitBatch, GetReceipt, GetMonitor, ClearPeriod];

/// Every fault, in the order of `--help`.
const MENU: &[Row] = &[
    Row::any("delay", "=50ms", Phase::Delay, "the call waits first"),
    Row::any("drop-request", "", Phase::Arrival, "not heard, no answer"),
    Row::any("error-before", "[=CODE]", Phase::Arrival, "refused (INTERNAL), nothing is done"),
    Row::any("reset-before", "", Phase::Arrival, "connection reset, nothing is done"),
    Row::any("busy", "", Phase::Arrival, "RESOURCE_EXHAUSTED, nothing is done"),
    Row::any(
        "frozen",
        "",
        Phase::Arrival,
        "waits until the faults are cleared; always, unless counted",
    ),
    Row::any("skewed-clock", "=-5m", Phase::Clock, "done by a clock that is off")
        .of(&[SubmitBatch, GetSeriesHead]),
    Row::any(
        "reject",
        "[=PLACE]",
        Phase::Judging,
        "rejects all, or the item at this place, from 1",
    )
    .of(&[SubmitBatch]),
    Row::any("reject-number", "=CODE/NUMBER", Phase::Judging, "rejects this number")
        .of(&[SubmitBatch]),
    Row::any("locked-period", "", Phase::Monitor, "moves the issue deadline into the past")
        .of(&[SubmitBatch, GetMonitor]),
    Row::any("monitor-backwards", "", Phase::Monitor, "moves the issue deadline back by a day")
        .of(&[SubmitBatch, GetMonitor]),
    Row::any("pending", "=2s", Phase::Pending, "the receipt comes so much later")
        .of(&[SubmitBatch]),
    Row::any("wrong-signature", "", Phase::Content, "the receipt does not verify").of(RECEIPTS),
    Row::any("wrong-batch", "", Phase::Content, "the receipt is another batch's").of(RECEIPTS),
    Row::any("swapped-verdicts", "", Phase::Content, "the verdicts are about other items")
        .of(RECEIPTS),
    Row::any("monitor-malformed", "", Phase::Content, "the monitor data cannot be read")
        .of(TELL_MONITORS),
    Row::any(
        "answer-twice",
        "",
        Phase::Repeat,
        "done, the operation's previous answer comes again",
    ),
    Row::any("drop-answer", "", Phase::Departure, "done, no answer"),
    Row::any("lose-answer", "", Phase::Departure, "done, then UNAVAILABLE"),
    Row::any("error-after", "[=CODE]", Phase::Departure, "done, then an error (INTERNAL)"),
    Row::any("reset-after", "", Phase::Departure, "done, then connection reset"),
];

/// The menu as help shows it, a line for each fault.
#[must_use]
pub fn menu() -> String {
    let line = |row: &Row| {
        let written = format!("{}{}", row.name, row.value);
        let names: Vec<_> = row.strikes.iter().map(|operation| format!("{operation:?}")).collect();
        let only =
            if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        format!("  {written:<26}  {}{only}\n", row.help)
    };
    MENU.iter().map(line).collect()
}

/// The names of the operations, as help shows them.
#[must_use]
pub fn operations() -> String {
    let names: Vec<_> = Operation::ALL.iter().map(|operation| format!("{operation:?}")).collect();
    names.join(", ")
}

impl Fault {
    fn name(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::DropRequest => "drop-request",
            Self::ErrorBefore(_) => "error-before",
            Self::ResetBefore => "reset-before",
            Self::Busy => "busy",
            Self::Frozen => "frozen",
            Self::SkewedClock(_) => "skewed-clock",
            Self::Reject(_) => "reject",
            Self::RejectNumber { .. } => "reject-number",
            Self::LockedPeriod => "locked-period",
            Self::MonitorBackwards => "monitor-backwards",
            Self::Pending(_) => "pending",
            Self::WrongSignature => "wrong-signature",
            Self::WrongBatch => "wrong-batch",
            Self::SwappedVerdicts => "swapped-verdicts",
            Self::MonitorMalformed => "monitor-malformed",
            Self::AnswerTwice => "answer-twice",
            Self::DropAnswer => "drop-answer",
            Self::LoseAnswer => "lose-answer",
            Self::ErrorAfter(_) => "error-after",
            Self::ResetAfter => "reset-after",
        }
    }

    fn row(&self) -> &'static Row {
        let row = MENU.iter().find(|row| row.name == self.name());
        row.expect("every fault is on the menu")
    }

    pub(in super::super) fn phase(&self) -> Phase {
        self.row().phase
    }

    fn read(name: &str, value: Option<&str>) -> Result<Self, String> {
        let plain = Self::plain(name);
        Ok(match (name, value) {
            ("delay", Some(text)) => Self::Delay(duration(text)?),
            ("pending", Some(text)) => Self::Pending(duration(text)?),
            ("skewed-clock", Some(text)) => Self::SkewedClock(skew(text)?),
            ("delay" | "pending" | "skewed-clock", None) => {
                return Err(format!("{name} needs a duration, for example {name}=50ms"));
            }
            ("error-before", code) => Self::ErrorBefore(read_code(code)?),
            ("error-after", code) => Self::ErrorAfter(read_code(code)?),
            ("reject", None) => Self::Reject(None),
            ("reject", Some(text)) => Self::Reject(Some(place(text)?)),
            ("reject-number", text) => read_number(text.unwrap_or_default())?,
            _ => match (plain, value) {
                (Some(fault), None) => fault,
                (Some(_), Some(_)) => return Err(format!("{name} takes no value")),
                (None, _) => return Err(format!("no fault is named {name:?}")),
            },
        })
    }

    /// Those without a value.
    fn plain(name: &str) -> Option<Self> {
        [
            Self::DropRequest,
            Self::ResetBefore,
            Self::Busy,
            Self::Frozen,
            Self::LockedPeriod,
            Self::MonitorBackwards,
            Self::WrongSignature,
            Self::WrongBatch,
            Self::SwappedVerdicts,
            Self::MonitorMalformed,
            Self::AnswerTwice,
            Self::DropAnswer,
            Self::LoseAnswer,
            Self::ResetAfter,
        ]
        .into_iter()
        .find(|fault| fault.name() == name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Delay(time) | Self::Pending(time) => write!(f, "={}ms", time.as_millis()),
            Self::SkewedClock(seconds) => write!(f, "={seconds}s"),
            Self::ErrorBefore(code) | Self::ErrorAfter(code) => {
                write!(f, "={}", status::code_name(*code))
            }
            Self::Reject(Some(place)) => write!(f, "={place}"),
            Self::RejectNumber { code, number } => write!(f, "={code}/{number}"),
            _ => Ok(()),
        }
    }
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// So many times more, at least 1.
    Times(u32),
    /// Until it is cleared.
    Always,
}

/// A fault, what it strikes and how often.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Strike {
    /// None: whatever the fault can strike.
    pub(super) operation: Option<Operation>,
    pub(super) fault: Fault,
    pub(super) count: Count,
}

impl Strike {
    pub(super) fn fits(&self, operation: Operation) -> bool {
        let can = self.fault.row().strikes;
        self.operation.is_none_or(|only| only == operation)
            && (can.is_empty() || can.contains(&operation))
    }
}

impl FromStr for Strike {
    type Err = String;

    /// Reads `[OPERATION/]FAULT[=VALUE][*COUNT]`, for example `SubmitBatch/drop-answer*3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, count) = match text.split_once('*') {
            Some((rest, count)) => (rest, Some(read_count(count)?)),
            None => (text, None),
        };
        let (head, value) = match rest.split_once('=') {
            Some((head, value)) => (head, Some(value)),
            None => (rest, None),
        };
        let (operation, name) = match head.split_once('/') {
            Some((operation, name)) => {
                let known = Operation::named(operation);
                (Some(known.ok_or_else(|| format!("no operation is named {operation:?}"))?), name)
            }
            None => (None, head),
        };
        let fault = Fault::read(name, value)?;
        let default = if fault == Fault::Frozen { Count::Always } else { Count::Times(1) };
        let strike = Self { operation, fault, count: count.unwrap_or(default) };
        match operation {
            Some(operation) if !strike.fits(operation) => {
                Err(format!("{name} cannot strike {operation:?}"))
            }
            _ => Ok(strike),
        }
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.operation {
            write!(f, "{operation:?}/")?;
        }
        self.fault.fmt(f)?;
        match self.count {
            Count::Times(1) => Ok(()),
            Count::Times(times) => write!(f, "*{times}"),
            Count::Always => f.write_str("*always"),
        }
    }
}

impl TryFrom<String> for Strike {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn read_count(text: &str) -> Result<Count, String> {
    if text == "always" {
        return Ok(Count::Always);
    }
    let times = text.parse().ok().filter(|times| *times > 0);
    times.map(Count::Times).ok_or_else(|| format!("{text:?} is neither a count nor always"))
}

fn read_code(text: Option<&str>) -> Result<Code, String> {
    let name = text.unwrap_or("INTERNAL");
    status::code_named(name).ok_or_else(|| format!("{name:?} is no gRPC code of an error"))
}

fn place(text: &str) -> Result<usize, String> {
    let place = text.parse().ok().filter(|place| *place > 0);
    place.ok_or_else(|| format!("{text:?} is no place in a batch, from 1"))
}

fn read_number(text: &str) -> Result<Fault, String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('/') {
        Some((code, number)) if digits(code) && digits(number) => {
            Ok(Fault::RejectNumber { code: code.to_owned(), number: number.to_owned() })
        }
        _ => Err(format!("{text:?} is no CODE/NUMBER, for example 044002600111/00000001")),
    }
}

/// Reads `50ms`, `2s`, `5m` or `1h`.
///
/// # Errors
/// What is wrong with the text.
pub(in super::super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 50ms, 2s, 5m or 1h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let milliseconds: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a duration with an optional sign, in whole seconds.
///
/// # Errors
/// What is wrong with the text.
pub(in super::super) fn skew(text: &str) -> Result<i64, String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let seconds = i64::try_from(duration(rest)?.as_secs());
    seconds.map(|seconds| seconds * sign).map_err(|_| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_written_as_it_is_read() {
        for (text, expect) in [
            ("drop-answer", "drop-answer"),
            ("SubmitBatch/drop-answer*3", "SubmitBatch/drop-answer*3"),
            ("GetReceipt/delay=2s", "GetReceipt/delay=2000ms"),
            ("delay=1ms*always", "delay=1ms*always"),
            ("busy*1", "busy"),
            ("frozen", "frozen*always"),
            ("frozen*2", "frozen*2"),
            ("skewed-clock=-5m", "skewed-clock=-300s"),
            ("skewed-clock=1h", "skewed-clock=3600s"),
            ("error-before", "error-before=INTERNAL"),
            ("error-after=UNAVAILABLE", "error-after=UNAVAILABLE"),
            ("reject", "reject"),
            ("reject=2", "reject=2"),
            ("SubmitBatch/reject-number=044002600111/00000007", ""),
        ] {
            let strike: Strike = text.parse().unwrap();
            let expect = if expect.is_empty() { text } else { expect };
            assert_eq!(strike.to_string(), expect);
            assert_eq!(expect.parse(), Ok(strike), "{text}");
        }
        for row in MENU {
            let value = match row.value {
                "[=CODE]" => "=ABORTED",
                "[=PLACE]" => "=3",
                "=CODE/NUMBER" => "=1/2",
                example => example,
            };
            let strike: Strike = format!("{}{value}", row.name).parse().unwrap();
            assert_eq!(strike.fault.name(), row.name);
            assert!(menu().contains(&format!("  {}", row.name)));
        }
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            "",
            "sleep",
            "delay",
            "pending",
            "delay=1",
            "delay=xs",
            "busy=1s",
            "/busy",
            "Submit/busy",
            "submitbatch/busy",
            "busy*0",
            "busy*",
            "busy*-1",
            "busy*2*2",
            "skewed-clock",
            "skewed-clock=--5m",
            "error-before=OK",
            "error-before=Internal",
            "reject=0",
            "reject-number",
            "reject-number=1",
            "reject-number=a/b",
            "GetMonitor/reject",
            "ListHeld/wrong-signature",
            "GetReceipt/pending=1s",
        ] {
            assert!(text.parse::<Strike>().is_err(), "{text}");
        }
    }
}
