//! Reads `crate::` paths and `use` lines out of Rust text. Leans on rustfmt: scopes are told by
//! their indentation.

/// Every path that starts with `crate::`, without that start, groups taken apart. Line comments do
/// not count.
#[must_use]
pub fn crate_paths(text: &str) -> Vec<(usize, Vec<String>)> {
    let code = without_comments(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c == '$' || is_word(c)) {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let mut paths = Vec::new();
        tree(&code[at + "crate::".len()..], &[], &mut paths);
        found.extend(paths.into_iter().map(|path| (line, path)));
    }
    found
}

/// Modules of this crate that a scope uses in two `use` statements of one visibility, or twice in
/// one.
#[must_use]
pub fn used_twice(text: &str) -> Vec<(usize, String)> {
    let code = without_comments(text);
    let lines: Vec<&str> = code.lines().collect();
    let mut seen: Vec<(usize, String, String)> = Vec::new();
    let mut twice = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((visibility, path)) = line.split_once("use crate::") else { continue };
        let rest = lines[index..].join("\n");
        let path_at = rest.find("use crate::").map_or(0, |at| at + "use crate::".len());
        let scope = scope_of(&lines, index);
        for name in top_names(if path.is_empty() { path } else { &rest[path_at..] }) {
            let key = (scope, visibility.trim().to_owned(), name.clone());
            if seen.contains(&key) {
                twice.push((index + 1, name));
            } else {
                seen.push(key);
            }
        }
    }
    twice
}

/// Whether `text` has `word` as a whole word.
#[must_use]
pub fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The text with line comments blanked out; line numbers stay. A `//` in a string ends its line
/// too, which hides nothing that matters here.
#[must_use]
pub fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line that opens the scope of line `index`: the nearest above that is indented less.
fn scope_of(lines: &[&str], index: usize) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(lines[index]);
    let above =
        lines[..index].iter().rposition(|line| !line.trim().is_empty() && indent(line) < own);
    above.map_or(0, |line| line + 1)
}

/// The modules that a use tree names, one entry for each item.
fn top_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let text = text.trim_start();
    let Some(inner) = text.strip_prefix('{') else {
        names.extend(word(text).map(ToOwned::to_owned));
        return names;
    };
    for item in items(inner) {
        names.extend(word(item.trim_start()).map(ToOwned::to_owned));
    }
    names
}

/// Takes a use tree or path apart into whole paths.
fn tree(text: &str, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let text = text.trim_start();
    if let Some(inner) = text.strip_prefix('{') {
        for item in items(inner) {
            tree(item, prefix, found);
        }
        return;
    }
    let Some(name) = word(text) else {
        // A glob, or the empty item after a last comma.
        if text.starts_with('*') {
            found.push(prefix.iter().cloned().chain(["*".to_owned()]).collect());
        }
        return;
    };
    let path: Vec<_> = prefix.iter().cloned().chain([name.to_owned()]).collect();
    match text[name.len()..].strip_prefix("::") {
        Some(rest) if rest.trim_start().starts_with(|c| is_word(c) || c == '{' || c == '*') => {
            tree(rest, &path, found);
        }
        _ => found.push(path),
    }
}

/// The items of a group whose opening brace was taken, up to its closing one.
fn items(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0_u32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&text[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

fn word(text: &str) -> Option<&str> {
    let len = text.find(|c| !is_word(c)).unwrap_or(text.len());
    (len > 0).then(|| &text[..len])
}
