//! Which module may name which: dependencies point down, and of another stage a stage names only
//! the type that it is handed. A new edge is a new row here, so that it is seen in review.

use super::{Source, paths};

/// Modules from the bottom up; a module may name those of lower layers.
/// `cli` is above `daemon`, because `serve` and `demo` start one.
const LAYERS: &[&[&str]] = &[
    &[
        "clock",
        "config",
        "convert",
        "gbk",
        "health",
        "metrics",
        "model",
        "package",
        "pb",
        "refusal",
        "registry",
        "secret",
        "status",
        "tasks",
        "transport",
        "xml",
    ],
    &["store"],
    &["admission", "contract", "delivery", "identity", "numbering", "report", "signer"],
    &["engine", "pipeline"],
    &["admin", "authority", "legacy", "listener", "skserver_sim"],
    &["daemon", "resume"],
    &["cli"],
    &["main", "lib"],
];

/// Modules that may name less than their layer allows.
const ONLY: &[(&str, &[&str])] = &[
    ("contract", &["convert", "gbk", "model", "pb", "refusal", "registry"]),
    ("authority", LAYERS[0]),
    ("skserver_sim", LAYERS[0]),
    // The foundations: what everything names must not name much itself.
    ("convert", &[]),
    ("gbk", &[]),
    ("refusal", &[]),
    ("secret", &[]),
    ("tasks", &[]),
    ("model", &["convert", "pb", "refusal"]),
    ("pb", &["status"]),
    ("xml", &["gbk"]),
];

/// Edges that go sideways or up, for the types that a module is handed: (who, of whom, which).
const HANDED: &[(&str, &str, &[&str])] = &[
    ("store", "contract", &["Checked", "ContentDigest", "Draft"]),
    ("store", "signer", &["DeviceAnswer", "Signed"]),
    ("admission", "identity", &["Platform"]),
    // What a void is judged by is state, and the commit's own time; an answer's code is judged
    // before it is adopted.
    (
        "numbering",
        "contract",
        &[
            "Checked",
            "ContentDigest",
            "Draft",
            "Profiles",
            "QrFacts",
            "VoidCase",
            "check_qr",
            "digest",
            "may_void",
        ],
    ),
    (
        "numbering",
        "signer",
        &[
            "DeviceAnswer",
            "Finished",
            "Job",
            "Pool",
            "Question",
            "Said",
            "Signed",
            "SignerError",
            "Takes",
            "Threads",
        ],
    ),
    ("legacy", "listener", &["HttpAnswer", "HttpApi"]),
    (
        "delivery",
        "numbering",
        &["Finisher", "Heard", "Numbering", "Round", "SeriesWitness", "Taken"],
    ),
    (
        "delivery",
        "report",
        &["Filter", "Sums", "UsageDifference", "Window", "check_usage", "summarise", "whole_days"],
    ),
    ("delivery", "signer", &["DeviceKey", "KeyError", "Question", "SignerError"]),
];

/// The rule of dependencies, for a file of `src`. Tests at the end of a file may name anything.
#[must_use]
pub fn points_down(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    let Some(own) = layer_of(module) else {
        return vec![format!("{}: {module} is in no layer of tests/tidy/layers.rs", source.path)];
    };
    if is_test(&source.path) {
        return Vec::new();
    }
    paths::crate_paths(source.product())
        .into_iter()
        .filter(|(_, path)| !may_name(module, own, path))
        .map(|(at, path)| {
            format!("{}:{at}: {module} must not name crate::{}", source.path, path.join("::"))
        })
        .collect()
}

/// The rule that only the store and the two simulators, servers of their own, open SQLite.
#[must_use]
pub fn opens_sqlite(source: &Source) -> Vec<String> {
    let opens = paths::has_word(&paths::without_comments(source.product()), "rusqlite");
    if opens && !["store", "authority", "skserver_sim"].contains(&module_of(&source.path)) {
        return vec![format!("{}: only the store and the simulators open SQLite", source.path)];
    }
    Vec::new()
}

fn may_name(module: &str, own: usize, path: &[String]) -> bool {
    let Some(target) = path.first().map(String::as_str) else { return true };
    // A name that is no module is an item or macro of the crate's root.
    let Some(layer) = layer_of(target) else { return true };
    if target == module {
        return true;
    }
    if let Some((_, only)) = ONLY.iter().find(|(who, _)| *who == module) {
        return only.contains(&target);
    }
    // The tools are one layer and may name each other.
    layer < own || (own == 0 && layer == 0) || is_handed(module, target, path)
}

fn is_handed(module: &str, target: &str, path: &[String]) -> bool {
    let row = HANDED.iter().find(|(who, whose, _)| *who == module && *whose == target);
    row.is_some_and(|(_, _, types)| path.iter().skip(1).any(|name| types.contains(&name.as_str())))
}

fn module_of(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// A file that only tests compile.
fn is_test(path: &str) -> bool {
    let files = ["/tests.rs", "/actor_tests.rs", "/fixtures.rs", "/round_trip.rs"];
    let folders = ["/tests/", "/laws/"];
    files.iter().any(|file| path.ends_with(file)) || folders.iter().any(|dir| path.contains(dir))
}
