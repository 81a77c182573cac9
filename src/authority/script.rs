//! The script file of `skproxy authority-sim`: what it does wrong from the start, how long it
//! judges, and what it tells of limits. TOML; `deploy/authority-sim.toml` has every key.

use super::{
    faults::{Strike, duration, skew},
    monitor::{Changes, Defaults, built_in, check, read_kind},
};
use crate::model::{CstTime, Kind};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// How a simulator behaves; honest, quick and generous by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Script {
    /// How long every batch is judged: its receipt is not told before. Zero: it comes with the
    /// answer.
    pub judging: Duration,
    /// Added to the clock. Unit: seconds.
    pub clock_skew_s: i64,
    /// Faults that wait from the start.
    pub faults: Vec<Strike>,
    /// Monitor data that nobody set.
    pub(super) monitors: Defaults,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// What is wrong with it, with the place where TOML tells one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: Raw = toml::from_str(text).map_err(|error| error.to_string())?;
        let read = |key, text: Option<String>| match text {
            None => Ok(Duration::ZERO),
            Some(text) => duration(&text).map_err(|error| format!("{key}: {error}")),
        };
        let clock_skew_s = match raw.clock_skew {
            None => 0,
            Some(text) => skew(&text).map_err(|error| format!("clock_skew: {error}"))?,
        };
        let mut series = BTreeMap::new();
        for entry in raw.series {
            let kind = read_kind(&entry.kind)
                .ok_or_else(|| format!("series: {:?} is no name of an InvoiceKind", entry.kind))?;
            let changes = changes(entry.monitor)
                .map_err(|field| format!("series {}: {field} is malformed", entry.device))?;
            if series.insert((entry.device.clone(), kind), changes).is_some() {
                return Err(format!("series {}: {} is there twice", entry.device, entry.kind));
            }
        }
        let all = changes(raw.monitor).map_err(|field| format!("monitor: {field} is malformed"))?;
        Ok(Self {
            judging: read("judging", raw.judging)?,
            clock_skew_s,
            faults: raw.faults,
            monitors: Defaults { all, series },
        })
    }
}

/// Reads faults, one a line; `#` starts a comment.
///
/// # Errors
/// What is wrong, with the line.
pub fn read_faults(text: &str) -> Result<Vec<Strike>, String> {
    let lines = (1_u32..).zip(text.lines());
    let written = lines.map(|(at, line)| (at, line.split('#').next().unwrap_or_default().trim()));
    let wanted = written.filter(|(_, line)| !line.is_empty());
    wanted.map(|(at, line)| line.parse().map_err(|error| format!("line {at}: {error}"))).collect()
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    judging: Option<String>,
    clock_skew: Option<String>,
    #[serde(default)]
    faults: Vec<Strike>,
    #[serde(default)]
    monitor: RawMonitor,
    #[serde(default)]
    series: Vec<RawSeries>,
}

/// `[[series]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeries {
    device: String,
    kind: String,
    monitor: RawMonitor,
}

/// `[monitor]` and `[series.monitor]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMonitor {
    issue_deadline: Option<Limit<String>>,
    single_limit_fen: Option<Limit<i64>>,
    blue_limit_fen: Option<Limit<i64>>,
    red_limit_fen: Option<Limit<i64>>,
    red_days: Option<Limit<u32>>,
    red_needs_original: Option<Limit<bool>>,
    upload_day: Option<Limit<u32>>,
    offline_hours: Option<Limit<u64>>,
    offline_count: Option<Limit<u64>>,
    offline_blue_fen: Option<Limit<i64>>,
    offline_red_fen: Option<Limit<i64>>,
    rates_millionths: Option<Vec<i32>>,
}

/// A limit, or "none".
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Limit<T> {
    None(Word),
    Some(T),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    None,
}

impl<T> From<Limit<T>> for Option<T> {
    fn from(limit: Limit<T>) -> Self {
        match limit {
            Limit::None(Word::None) => None,
            Limit::Some(value) => Some(value),
        }
    }
}

fn changes(raw: RawMonitor) -> Result<Changes, &'static str> {
    let deadline = raw.issue_deadline.map(Option::from);
    let changes = Changes {
        issue_deadline: deadline.map(Option::unwrap_or_default),
        single_limit_fen: raw.single_limit_fen.map(Option::from),
        blue_limit_fen: raw.blue_limit_fen.map(Option::from),
        red_limit_fen: raw.red_limit_fen.map(Option::from),
        red_days: raw.red_days.map(Option::from),
        red_needs_original: raw.red_needs_original.map(Option::from),
        upload_day: raw.upload_day.map(Option::from),
        offline_hours: raw.offline_hours.map(Option::from),
        offline_count: raw.offline_count.map(Option::from),
        offline_blue_fen: raw.offline_blue_fen.map(Option::from),
        offline_red_fen: raw.offline_red_fen.map(Option::from),
        rates_millionths: raw.rates_millionths,
    };
    let any = CstTime::from_unix(0).ok_or("issue_deadline")?;
    let mut example = built_in(("", Kind::ENormal), any);
    changes.apply(&mut example);
    check(&example).map(|()| changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotated_script_reads_and_changes_what_it_says() {
        let text = include_str!("../../deploy/authority-sim.toml");
        let script = Script::parse(text).unwrap();
        assert_eq!(script.judging, Duration::ZERO);
        assert!(script.faults.is_empty() && script.clock_skew_s == 0);
        assert_eq!(script.monitors.all.offline_hours, Some(Some(72)));
        let key = ("91000000TEST000001~D1".to_owned(), Kind::ENormal);
        assert_eq!(script.monitors.series[&key].offline_count, Some(None));
        // What is commented out reads, too.
        let all: String = text
            .lines()
            .map(|line| line.strip_prefix("#= ").unwrap_or(line))
            .fold(String::new(), |all, line| all + line + "\n");
        let script = Script::parse(&all).unwrap();
        assert!(!script.judging.is_zero() && script.clock_skew_s != 0);
        assert!(!script.faults.is_empty());
    }

    #[test]
    fn a_script_with_a_mistake_is_refused_with_its_place() {
        for (text, part) in [
            ("judge = \"2s\"", "judge"),
            ("judging = \"2\"", "judging"),
            ("clock_skew = \"soon\"", "clock_skew"),
            ("faults = [\"sleep\"]", "sleep"),
            ("[monitor]\nofline_hours = 1", "ofline_hours"),
            ("[monitor]\noffline_hours = \"some\"", "offline_hours"),
            ("[monitor]\nissue_deadline = \"tomorrow\"", "issue_deadline"),
            ("[monitor]\nsingle_limit_fen = -1", "single_limit_fen"),
            ("[[series]]\ndevice = \"d\"\nkind = \"x\"\nmonitor = {}", "InvoiceKind"),
        ] {
            let error = Script::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(Script::parse("").unwrap(), Script::default());
        let script = Script::parse("[monitor]\nissue_deadline = \"none\"").unwrap();
        assert_eq!(script.monitors.all.issue_deadline.as_deref(), Some(""));
    }

    #[test]
    fn a_file_of_faults_has_one_a_line() {
        let faults = read_faults("# first\ndrop-answer\n\nGetMonitor/busy*2 # slow\n").unwrap();
        let printed: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(printed, ["drop-answer", "GetMonitor/busy*2"]);
        assert!(read_faults("busy\nsleep\n").unwrap_err().starts_with("line 2"));
    }
}
