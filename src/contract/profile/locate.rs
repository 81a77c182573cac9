//! Where a key stands in a profile's text, for complaints about values that TOML itself finds
//! right.

/// Line and column of a key, both from 1; `path` is like `lengths.number` or `rates.periods[3]`.
///
/// Looks for lines as people write them: `[table]` and `key = value`, and for an element of a list
/// its brace. The best it finds of the path wins: a key, else its table, else the top.
pub(super) fn locate(text: &str, path: &str) -> (usize, usize) {
    let (path, index) = match path.strip_suffix(']').and_then(|path| path.rsplit_once('[')) {
        Some((path, index)) => (path, index.parse::<usize>().ok()),
        None => (path, None),
    };
    let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = (1, 1);
    let mut inside = table.is_empty();
    let mut elements = None;
    for (line, text) in (1..).zip(text.lines()) {
        let start = text.len() - text.trim_start().len();
        let trimmed = text.trim();
        let here = (line, start.saturating_add(1));
        if let Some(left) = elements.as_mut().filter(|_| trimmed.starts_with('{')) {
            if *left == 0_usize {
                return here;
            }
            *left -= 1;
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            inside = header.0 == table;
            if inside || header.0 == path {
                at = here;
            }
        } else if inside && name_of(trimmed) == Some(key) {
            match index {
                None => return here,
                Some(index) => (at, elements) = (here, Some(index)),
            }
        }
    }
    at
}

fn name_of(line: &str) -> Option<&str> {
    line.split_once('=').map(|(name, _)| name.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_own_table() {
        let text = [
            "# a = 1",
            "name = \"x\"",
            "[one]",
            "a = 1",
            "",
            "[two]",
            "  a = 2",
            "list = [",
            "  { a = 1 },",
            "  { a = 2 },",
            "]",
            "[two.three]",
            "a = 3",
        ];
        let text = text.join("\n");
        for (path, expect) in [
            ("name", (2, 1)),
            ("one.a", (4, 1)),
            ("two.a", (7, 3)),
            ("two.list[0]", (9, 3)),
            ("two.list[1]", (10, 3)),
            ("two.list[9]", (8, 1)),
            ("two.three.a", (13, 1)),
            ("two", (6, 1)),
            ("two.b", (6, 1)),
            ("four.a", (1, 1)),
        ] {
            assert_eq!(locate(&text, path), expect, "{path}");
        }
    }
}
