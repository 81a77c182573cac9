//! The house rules that no compiler checks, over our own source: layout, dependencies that point
//! down, words that do not merge, and a glossary that tells the truth.
//!
//! Each rule is a function from one file to its violations, and has a table that shows it can fail.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "tidy/layers.rs"]
pub mod layers;
#[path = "tidy/paths.rs"]
pub mod paths;

const LINES_MAX: usize = 600;
const PIPELINE_LINES_MAX: usize = 120;
const MAIN_LINES_MAX: usize = 80;
const COLUMNS_MAX: usize = 100;

/// One of our files.
#[derive(Debug)]
pub struct Source {
    /// Path from the root of the package, with `/`.
    pub path: String,
    /// Content.
    pub text: String,
}

impl Source {
    /// A made-up file, for the tables.
    #[must_use]
    pub fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Lines before the tests at the end of the file.
    #[must_use]
    pub fn product(&self) -> &str {
        let tests = self.text.find("#[cfg(test)]\nmod tests");
        &self.text[..tests.unwrap_or(self.text.len())]
    }

    fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

fn has_extension(path: &str, wanted: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == wanted)
}

/// Every file below `dir` that people write by hand.
fn files_of(dir: &str) -> Vec<Source> {
    const EXTENSIONS: &[&str] =
        &["rs", "proto", "py", "js", "mjs", "sh", "c", "sql", "toml", "yaml"];
    const NOT_OURS: &[&str] = &["node_modules", "target", "results", "corpus", "__pycache__"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open = vec![root.join(dir)];
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !NOT_OURS.contains(&name.as_str()) && !name.starts_with('.') {
            let entries = fs::read_dir(&path).expect("our folders can be listed");
            open.extend(entries.map(|entry| entry.expect("our folders can be listed").path()));
        } else if EXTENSIONS.iter().any(|extension| has_extension(&name, extension)) {
            found.push(read(root, &path));
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn read(root: &Path, path: &PathBuf) -> Source {
    let inner = path.strip_prefix(root).expect("our files are below the root");
    let text = fs::read_to_string(path).expect("our files are text");
    Source { path: inner.display().to_string(), text }
}

fn everything() -> Vec<Source> {
    let mut all = Vec::new();
    for dir in ["src", "tests", "bench", "proto", "deploy", "build.rs"] {
        if Path::new(env!("CARGO_MANIFEST_DIR")).join(dir).exists() {
            all.extend(files_of(dir));
        }
    }
    assert!(all.len() > 20, "the walk finds our files");
    all
}

#[track_caller]
fn holds(files: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let found: Vec<_> = files.iter().flat_map(rule).collect();
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

/// Checks that a rule finds as many violations in a made-up file as it should.
#[track_caller]
fn finds(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str, expect: usize) {
    let found = rule(&Source::sample(path, text));
    assert_eq!(found.len(), expect, "{path}: {text:?} gave {found:?}");
}

fn header(source: &Source) -> Vec<String> {
    if source.is_rust() && !source.text.starts_with("//!") {
        return vec![source.at(1, "does not start with //!, what the file is for")];
    }
    Vec::new()
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    holds(&everything(), header);
    finds(header, "src/a.rs", "//! For tests.\nfn a() {}", 0);
    finds(header, "src/a.rs", "// For tests.\nfn a() {}", 1);
    finds(header, "src/a.rs", "", 1);
}

fn length(source: &Source) -> Vec<String> {
    let (lines, limit) = if source.path == "src/main.rs" {
        (source.text.lines().count(), MAIN_LINES_MAX)
    } else if source.path.starts_with("src/pipeline/") {
        (source.product().lines().count(), PIPELINE_LINES_MAX)
    } else {
        (source.text.lines().count(), LINES_MAX)
    };
    if lines > limit {
        return vec![source.at(limit, &format!("{lines} lines, the limit is {limit}"))];
    }
    Vec::new()
}

#[test]
fn files_stay_short() {
    holds(&everything(), length);
    finds(length, "src/a.rs", &"x\n".repeat(600), 0);
    finds(length, "src/a.rs", &"x\n".repeat(601), 1);
    finds(length, "src/main.rs", &"x\n".repeat(81), 1);
    finds(length, "src/pipeline/issue.rs", &"x\n".repeat(121), 1);
    let tests = format!("x\n#[cfg(test)]\nmod tests {{\n{}}}", "x\n".repeat(200));
    finds(length, "src/pipeline/issue.rs", &tests, 0);
}

fn columns(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    let wide = source.lines().filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
    wide.map(|(at, line)| source.at(at, &format!("{} columns", line.chars().count()))).collect()
}

#[test]
fn lines_stay_within_100_columns() {
    holds(&everything(), columns);
    finds(columns, "src/a.rs", &"票".repeat(100), 0);
    finds(columns, "src/a.rs", &"x".repeat(101), 1);
}

/// Words that do not merge, in two halves so that this file may hold them.
const NEVER: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "open an issue instead"),
    (concat!("FIX", "ME"), "open an issue instead"),
    (concat!("#[al", "low("), "use #[expect(…, reason)]"),
    (concat!("#![al", "low("), "use #[expect(…, reason)]"),
    (concat!("#[ig", "nore"), "a test runs or does not exist"),
    (concat!("#[should", "_panic"), "say what it panics with"),
];

fn words(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in source.lines() {
        let bad = NEVER.iter().filter(|(word, _)| line.contains(word));
        found.extend(bad.map(|(word, why)| source.at(at, &format!("{word}: {why}"))));
    }
    found
}

#[test]
fn no_word_merges_that_puts_work_off() {
    holds(&everything(), words);
    for (word, _) in NEVER {
        finds(words, "src/a.rs", &format!("x\n// {word} later"), 1);
    }
    finds(words, "src/a.rs", "#[expect(dead_code, reason = \"why\")]", 0);
}

fn one_use_line(source: &Source) -> Vec<String> {
    if !source.is_rust() {
        return Vec::new();
    }
    let twice = paths::used_twice(&source.text);
    twice.into_iter().map(|(at, name)| source.at(at, &format!("a second use of {name}"))).collect()
}

#[test]
fn a_module_is_used_in_one_line() {
    holds(&files_of("src"), one_use_line);
    let rule = one_use_line;
    finds(rule, "src/a.rs", "use crate::model::A;\nuse crate::store::B;", 0);
    finds(rule, "src/a.rs", "use crate::model::A;\nuse crate::model::B;", 1);
    finds(rule, "src/a.rs", "use crate::model::A;\npub use crate::model::B;", 0);
    finds(rule, "src/a.rs", "use crate::{\n    model::A,\n    model::B,\n};", 1);
    finds(rule, "src/a.rs", "use crate::{model::{A, C}, store::B};", 0);
    finds(rule, "src/a.rs", "use crate::{model::A, store::B};\nuse crate::store::C;", 1);
    finds(rule, "src/a.rs", "use crate::model::A;\nmod tests {\n    use crate::model::B;\n}", 0);
    let two = "mod one {\n    use crate::model::A;\n}\nmod two {\n    use crate::model::A;\n}";
    finds(rule, "src/a.rs", two, 0);
}

#[test]
fn dependencies_point_down() {
    holds(&files_of("src"), layers::points_down);
    let rule = layers::points_down;
    finds(rule, "src/pipeline/issue.rs", "use crate::{identity::A, model::B, store::C};", 0);
    finds(rule, "src/pipeline/issue.rs", "use crate::listener::A;", 1);
    finds(rule, "src/store/mod.rs", "use crate::{model::A, numbering::B};", 1);
    finds(rule, "src/store/mod.rs", "use crate::contract::ContentDigest;", 0);
    finds(rule, "src/store/mod.rs", "use crate::contract::check;", 1);
    finds(rule, "src/signer/mod.rs", "use crate::store::{Claim, Durable};", 0);
    finds(rule, "src/signer/mod.rs", "use crate::delivery::Worker;", 1);
    finds(rule, "src/signer/mod.rs", "fn a() { crate::delivery::now(); }", 1);
    finds(rule, "src/signer/mod.rs", "// crate::delivery is the next stage\n", 0);
    finds(rule, "src/signer/mod.rs", "//! x\n#[cfg(test)]\nmod tests { use crate::daemon::A; }", 0);
    finds(rule, "src/contract/mod.rs", "use crate::{convert::a, model::B, pb::v1 as pb};", 0);
    finds(rule, "src/contract/mod.rs", "use crate::clock::Clock;", 1);
    finds(rule, "src/contract/mod.rs", "use crate::store::Claim;", 1);
    finds(rule, "src/authority/mod.rs", "use crate::{clock::A, convert::B, pb};", 0);
    finds(rule, "src/authority/mod.rs", "use crate::store::Claim;", 1);
    finds(rule, "src/authority/mod.rs", "use crate::listener::Listener;", 1);
    finds(rule, "src/skserver_sim/mod.rs", "use crate::signer::SkServer;", 1);
    finds(rule, "src/model.rs", "use crate::{store::Claim, convert::hex};", 1);
    finds(rule, "src/daemon.rs", "use crate::cli::Arguments;", 1);
    finds(rule, "src/cli/demo.rs", "use crate::{authority::A, daemon::B};", 0);
    finds(rule, "src/strange/mod.rs", "", 1);
}

#[test]
fn nothing_but_the_store_and_the_simulators_opens_sqlite() {
    holds(&files_of("src"), layers::opens_sqlite);
    let rule = layers::opens_sqlite;
    finds(rule, "src/store/embedded.rs", "use rusqlite::Connection;", 0);
    finds(rule, "src/authority/books.rs", "use rusqlite::Connection;", 0);
    finds(rule, "src/skserver_sim/memory.rs", "use rusqlite::Connection;", 0);
    finds(rule, "src/numbering/mod.rs", "fn a(books: &rusqlite::Connection) {}", 1);
    finds(rule, "src/numbering/mod.rs", "// rusqlite is for the store", 0);
}

/// Identifiers of the glossary's rows (the backticked words of the first column) that no file has.
fn untrue_rows(architecture: &str, files: &[Source]) -> Vec<String> {
    let rows = glossary(architecture);
    assert!(!rows.is_empty(), "ARCHITECTURE.md has a table under a heading Glossary");
    let known = |name: &str| files.iter().any(|file| paths::has_word(&file.text, name));
    rows.into_iter().filter(|name| !known(name)).collect()
}

fn glossary(architecture: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in architecture.lines() {
        if line.starts_with('#') {
            inside = line.to_lowercase().contains("glossary");
        } else if inside && line.starts_with('|') {
            let cell = line.trim_start_matches('|').split('|').next().unwrap_or_default();
            let quoted = cell.split('`').skip(1).step_by(2);
            names.extend(quoted.map(|name| name.rsplit("::").next().unwrap_or(name).to_owned()));
        }
    }
    names
}

#[test]
fn each_row_of_the_glossary_exists_in_the_source() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let architecture = fs::read_to_string(path).expect("ARCHITECTURE.md is there");
    assert_eq!(untrue_rows(&architecture, &files_of("src")), Vec::<String>::new());
}

#[test]
fn a_glossary_row_without_an_identifier_in_the_source_is_found() {
    let files = [Source::sample("src/a.rs", "struct TotalFen(i64); struct Serials;")];
    let rows = [
        "| identifier | 中文 |",
        "|---|---|",
        "| `model::TotalFen` | 价税合计 |",
        "| `Serial` | x |",
    ];
    let table = rows.join("\n");
    let text = format!("| `Elsewhere` | x |\n## 9 Glossary\n{table}\n## 10 More\n| `Other` | y |");
    assert_eq!(untrue_rows(&text, &files), ["Serial"]);
}
