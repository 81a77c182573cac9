//! The fault menu: what the simulator does wrong on purpose, by script, by chance from a seed, or
//! as an admin call says. Reproducible: one seed gives one sequence.

use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Faults that may wait; more are refused.
const SCRIPT_MAX: usize = 10_000;
/// Chances at a time.
const RANDOM_MAX: usize = 100;
/// The operation that a fault strikes when it names none: issuing.
const ISSUE: &str = "10008";
/// How far a clock goes back when nothing else is said.
const CLOCK_BACK: Duration = Duration::from_secs(86_400);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing does; keeps a place in a script.
    None,
    /// The answer comes later.
    Delay(Duration),
    /// The request is not heard; no answer.
    DropRequest,
    /// What is asked is done; no answer.
    DropAnswer,
    /// What is asked is done, but only after this time; no answer.
    Late(Duration),
    /// The previous answer to the same operation comes once more, though this request is done.
    AnswerTwice,
    /// Issuing: booked under another serial. Query: told with another serial.
    WrongSerial,
    /// Issuing: booked with a total that is one fen higher. Query: told so.
    WrongTotal,
    /// The answer declares GBK and is UTF-8.
    WrongEncoding,
    /// A number outside every segment is drawn.
    OutsideNumber,
    /// An invoice of somebody else is booked first.
    IssuedByAnother,
    /// The device's clock is back by this much.
    ClockBack(Duration),
    /// The device's PIN is locked; nothing is done.
    Locked,
    /// The device is in use; nothing is done.
    Busy,
    /// It is done, and answered with a code that nobody knows.
    UnknownCode,
    /// HTTP status 500; nothing is done.
    Http500,
    /// It is done, and answered with HTTP status 500.
    Http500After,
    /// The connection is reset; nothing is done.
    ResetBefore,
    /// It is done, and the connection is reset.
    ResetAfter,
    /// It is done, and answered with what is no XML.
    Garbage,
}

/// Every fault's name, in the order of `--help`.
const NAMES: &[(&str, Fault)] = &[
    ("none", Fault::None),
    ("delay", Fault::Delay(Duration::ZERO)),
    ("drop-request", Fault::DropRequest),
    ("drop-answer", Fault::DropAnswer),
    ("late", Fault::Late(Duration::ZERO)),
    ("answer-twice", Fault::AnswerTwice),
    ("wrong-serial", Fault::WrongSerial),
    ("wrong-total", Fault::WrongTotal),
    ("wrong-encoding", Fault::WrongEncoding),
    ("outside-number", Fault::OutsideNumber),
    ("issued-by-another", Fault::IssuedByAnother),
    ("clock-back", Fault::ClockBack(CLOCK_BACK)),
    ("locked", Fault::Locked),
    ("busy", Fault::Busy),
    ("unknown-code", Fault::UnknownCode),
    ("http-500", Fault::Http500),
    ("http-500-after", Fault::Http500After),
    ("reset-before", Fault::ResetBefore),
    ("reset-after", Fault::ResetAfter),
    ("garbage", Fault::Garbage),
];

/// A fault and the operation that it strikes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Strike {
    /// Id of the operation; `*` for any.
    operation: String,
    fault: Fault,
}

/// A strike by chance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chance {
    strike: Strike,
    /// Unit: millionths, 1 to 1,000,000.
    probability: u32,
}

impl FromStr for Strike {
    type Err = String;

    /// Reads `[ID/]NAME[=DURATION]`, for example `10010/delay=50ms`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (operation, rest) = text.split_once('/').unwrap_or((ISSUE, text));
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(duration(value)?)),
            None => (rest, None),
        };
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let (_, fault) = known.ok_or_else(|| format!("no fault is named {name:?}"))?;
        let fault = match (fault, value) {
            (Fault::Delay(_), Some(time)) => Fault::Delay(time),
            (Fault::Late(_), Some(time)) => Fault::Late(time),
            (Fault::ClockBack(_), Some(time)) => Fault::ClockBack(time),
            (Fault::Delay(_) | Fault::Late(_), None) => {
                return Err(format!("{name} needs a duration, for example {name}=50ms"));
            }
            (_, Some(_)) => return Err(format!("{name} takes no duration")),
            (fault, None) => *fault,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '*';
        if operation.is_empty() || !operation.chars().all(plain) {
            return Err(format!("{operation:?} is no id of an operation"));
        }
        Ok(Self { operation: operation.to_owned(), fault })
    }
}

impl FromStr for Chance {
    type Err = String;

    /// Reads `STRIKE[:PROBABILITY]`; without a probability it strikes always.
    fn from_str(text: &str) -> Result<Self, String> {
        let (strike, probability) = match text.rsplit_once(':') {
            None => (text, 1_000_000),
            Some((strike, probability)) => (strike, millionths(probability)?),
        };
        Ok(Self { strike: strike.parse()?, probability })
    }
}

fn millionths(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no probability between 0 and 1");
    let decimal: rust_decimal::Decimal = text.parse().map_err(|_| wrong())?;
    let scaled = decimal * rust_decimal::Decimal::from(1_000_000);
    let whole = u32::try_from(scaled.trunc()).map_err(|_| wrong())?;
    (1..=1_000_000).contains(&whole).then_some(whole).ok_or_else(wrong)
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 50ms, 2s or 1h");
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

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same =
            |known: &Fault| std::mem::discriminant(known) == std::mem::discriminant(&self.fault);
        let name = NAMES.iter().find(|(_, known)| same(known)).map_or("none", |(name, _)| name);
        write!(f, "{}/{name}", self.operation)?;
        match self.fault {
            Fault::Delay(time) | Fault::Late(time) | Fault::ClockBack(time) => {
                write!(f, "={}ms", time.as_millis())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}.{:06}",
            self.strike,
            self.probability / 1_000_000,
            self.probability % 1_000_000
        )
    }
}

impl TryFrom<String> for Strike {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Chance {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Strike> for String {
    fn from(strike: Strike) -> Self {
        strike.to_string()
    }
}

impl From<Chance> for String {
    fn from(chance: Chance) -> Self {
        chance.to_string()
    }
}

/// A change of the menu, as JSON: `{"script": […], "random": […], "seed": 7}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Strikes to add at the end of the script, each for one request.
    #[serde(default)]
    pub script: Vec<Strike>,
    /// Chances from now on, in place of those before; unchanged when absent.
    #[serde(default)]
    pub random: Option<Vec<Chance>>,
    /// Starts the sequence of chances again; goes on when absent.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Whether the script is emptied first.
    #[serde(default)]
    pub clear: bool,
}

/// The menu, shared between server, admin call and tests.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Strike>,
    random: Vec<Chance>,
    seed: u64,
}

impl Faults {
    /// Adds a strike at the end of the script; `text` as in `--help`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn push(&self, text: &str) -> Result<(), String> {
        self.change(Change { script: vec![text.parse()?], ..Change::default() })
    }

    /// Changes the menu.
    ///
    /// # Errors
    /// When it would hold too much; nothing is changed then.
    pub fn change(&self, change: Change) -> Result<(), String> {
        let mut state = self.lock();
        let kept = if change.clear { 0 } else { state.script.len() };
        let random = change.random.as_ref().map_or(0, Vec::len);
        if kept.saturating_add(change.script.len()) > SCRIPT_MAX || random > RANDOM_MAX {
            return Err("too many faults".into());
        }
        if change.clear {
            state.script.clear();
        }
        state.script.extend(change.script);
        if let Some(random) = change.random {
            state.random = random;
        }
        if let Some(seed) = change.seed {
            state.seed = seed;
        }
        Ok(())
    }

    /// What is still to come.
    #[must_use]
    pub fn pending(&self) -> Change {
        let state = self.lock();
        Change {
            script: state.script.iter().cloned().collect(),
            random: Some(state.random.clone()),
            ..Change::default()
        }
    }

    /// The fault of the next request of an operation. The script goes before chance; its first
    /// strike waits for a request that it fits.
    pub(super) fn next(&self, operation: &str) -> Fault {
        let mut state = self.lock();
        let fits = |strike: &Strike| ["*", operation].contains(&strike.operation.as_str());
        if state.script.front().is_some_and(fits) {
            return state.script.pop_front().map_or(Fault::None, |strike| strike.fault);
        }
        for chance in state.random.clone().iter().filter(|chance| fits(&chance.strike)) {
            if state.random() % 1_000_000 < u64::from(chance.probability) {
                return chance.strike.fault;
            }
        }
        Fault::None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// SplitMix64 (Steele, Lea, Flood 2014): reproducible, and good enough to choose faults.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_written_as_it_is_read() {
        for (text, expect) in [
            ("drop-answer", "10008/drop-answer"),
            ("10010/delay=2s", "10010/delay=2000ms"),
            ("*/clock-back=1h", "*/clock-back=3600000ms"),
            ("clock-back", "10008/clock-back=86400000ms"),
        ] {
            let strike: Strike = text.parse().unwrap();
            assert_eq!(strike.to_string(), expect);
            assert_eq!(expect.parse(), Ok(strike), "{text}");
        }
        for (name, _) in NAMES {
            let text = if ["delay", "late"].contains(name) {
                format!("{name}=1ms")
            } else {
                name.to_string()
            };
            assert!(text.parse::<Strike>().unwrap().to_string().contains(name));
        }
        let chance: Chance = "delay=50ms:0.1".parse().unwrap();
        assert_eq!(chance.to_string(), "10008/delay=50ms:0.100000");
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in
            ["", "sleep", "delay", "late", "delay=1", "delay=xs", "garbage=1s", "/none", "a b/none"]
        {
            assert!(text.parse::<Strike>().is_err(), "{text}");
        }
        for text in ["none:0", "none:1.1", "none:-1", "none:x", "none:"] {
            assert!(text.parse::<Chance>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Change>(r#"{"scripts": []}"#).is_err());
    }

    #[test]
    fn the_script_waits_for_its_operation_and_goes_before_chance() {
        let faults = Faults::default();
        let random = Some(vec!["busy".parse().unwrap()]);
        faults.change(Change { random, ..Change::default() }).unwrap();
        faults.push("10010/garbage").unwrap();
        faults.push("none").unwrap();
        assert_eq!(faults.next("10008"), Fault::Busy);
        assert_eq!(faults.next("10010"), Fault::Garbage);
        assert_eq!(faults.next("10010"), Fault::None);
        assert_eq!(faults.next("10008"), Fault::None);
        assert_eq!(faults.next("10008"), Fault::Busy);
    }

    #[test]
    fn a_seed_gives_the_same_faults_and_about_as_many_as_asked_for() {
        let run = |seed| {
            let faults = Faults::default();
            let random = Some(vec!["*/locked:0.1".parse().unwrap()]);
            faults.change(Change { random, seed: Some(seed), ..Change::default() }).unwrap();
            (0..2000).map(|_| faults.next("10004")).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let count = run(7).iter().filter(|fault| **fault == Fault::Locked).count();
        assert!((120..=280).contains(&count), "{count} of 2000");
    }
}
