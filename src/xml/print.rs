//! Printing XML: one line, no white space between elements, every value escaped. Decides nothing.

/// Writes an answer. Elements are closed in the order in which they were opened.
#[derive(Debug)]
pub struct Printer {
    out: String,
    open: Vec<&'static str>,
}

impl Printer {
    /// Starts with a declaration of `label`.
    #[must_use]
    pub fn new(label: &str) -> Self {
        let out = format!("<?xml version=\"1.0\" encoding=\"{label}\"?>");
        Self { out, open: Vec::new() }
    }

    /// Opens an element.
    pub fn open(&mut self, name: &'static str) {
        self.open_with(name, &[]);
    }

    /// Opens an element with attributes.
    pub fn open_with(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (key, value) in attributes {
            self.out.push(' ');
            self.out.push_str(key);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('>');
        self.open.push(name);
    }

    /// Closes the innermost element.
    pub fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push('>');
        }
    }

    /// An element with text.
    pub fn leaf(&mut self, name: &'static str, value: &str) {
        self.open(name);
        escape(&mut self.out, value);
        self.close();
    }

    /// Closes what is open.
    #[must_use]
    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }
}

/// XML 1.0 cannot hold most control characters at all; they can only come from text that was never
/// checked, such as a hint that echoes it, and are shown as `\u{1}` so that none vanishes.
fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            // A reader would turn a bare CR into LF.
            '\r' => out.push_str("&#13;"),
            '\n' | '\t' => out.push(c),
            _ if c.is_control() => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml;
    use proptest::prelude::*;

    #[test]
    fn values_are_escaped() {
        let mut printer = Printer::new("gbk");
        printer.open_with("a", &[("b", "\"<&>\"")]);
        printer.leaf("c", "03+<*>/-&\u{1}\r");
        assert_eq!(
            printer.finish(),
            "<?xml version=\"1.0\" encoding=\"gbk\"?><a b=\"&quot;&lt;&amp;&gt;&quot;\">\
             <c>03+&lt;*&gt;/-&amp;\\u{1}&#13;</c></a>"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_printed_is_read_back(value in "[^\\p{Cc}\\u{fffe}\\u{ffff}]*") {
            let mut printer = Printer::new("utf-8");
            printer.leaf("a", &value);
            let printed = printer.finish();
            let root = xml::parse(&printed);
            let root = root.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let blank = value.chars().all(|c| c == ' ');
            prop_assert_eq!(root.text(), if blank { "" } else { &value });
        }
    }
}
