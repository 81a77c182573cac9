//! Strict reading of XML into a small tree, and printing it. Refuses what the contracts do not need
//! and attackers do: document types, entities of one's own, processing instructions, depth, mixed
//! content. Knows nothing of invoices. The tree holds what a caller sent, so it has no `Debug`.

pub mod charset;
pub mod print;

pub use charset::Charset;

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
};
use std::borrow::Cow;

/// Elements within elements; the contracts need 8.
const DEPTH_MAX: usize = 16;
/// Elements of a message: 2000 lines of 24 fields, and some.
const ELEMENTS_MAX: usize = 50_000;
/// Attributes of an element; the contracts need 4.
const ATTRIBUTES_MAX: usize = 8;
/// Letters of a name; the longest of the contracts has 22.
const NAME_MAX: usize = 64;

/// Why a text is not the XML that is read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} (byte {at})")]
pub struct XmlError {
    /// What is wrong. Holds nothing of the message.
    what: &'static str,
    /// Where, in bytes of the decoded text, from 0.
    at: u64,
}

/// An element: attributes, and either text or elements.
pub struct Element<'a> {
    /// Its name, ASCII.
    pub name: &'a str,
    attributes: Vec<(String, String)>,
    text: Cow<'a, str>,
    /// The elements in it, in order.
    pub children: Vec<Element<'a>>,
    /// A comment stood in it, which text may not be split by: readers disagree on what is left.
    commented: bool,
}

impl<'a> Element<'a> {
    /// Its text, whole. Nothing but white space, as pretty-printers leave it, is empty.
    #[must_use]
    pub fn text(&self) -> &str {
        if is_blank(&self.text) { "" } else { &self.text }
    }

    /// An attribute's value.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first element of a name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Element<'a>> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first element of a name; empty without it.
    #[must_use]
    pub fn child_text(&self, name: &str) -> &str {
        self.child(name).map_or("", Element::text)
    }
}

/// White space of XML.
fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Reads a text with exactly one root element.
///
/// # Errors
/// What is wrong and where; nothing of what was sent.
pub fn parse(text: &str) -> Result<Element<'_>, XmlError> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.check_comments = true;
    config.check_end_names = true;
    let mut tree = Tree { source: text, open: Vec::new(), root: None, count: 0, first: true };
    loop {
        let at = reader.buffer_position();
        let fail = |what| XmlError { what, at };
        let event = reader.read_event().map_err(|_| fail("not well-formed"))?;
        if matches!(event, Event::Eof) {
            return tree.finish().map_err(fail);
        }
        tree.take(event, at).map_err(fail)?;
    }
}

struct Tree<'a> {
    source: &'a str,
    /// Elements not yet closed, outermost first.
    open: Vec<Element<'a>>,
    root: Option<Element<'a>>,
    count: usize,
    /// Nothing was read yet.
    first: bool,
}

type Wrong = &'static str;

impl<'a> Tree<'a> {
    fn take(&mut self, event: Event<'a>, at: u64) -> Result<(), Wrong> {
        let first = std::mem::replace(&mut self.first, false);
        match event {
            Event::Decl(_) if first => Ok(()),
            Event::Decl(_) => Err("an XML declaration that is not at the start"),
            Event::Start(start) => self.open(&start, at),
            Event::Empty(start) => {
                self.open(&start, at)?;
                self.close()
            }
            Event::End(_) => self.close(),
            Event::Text(text) => {
                let text = text.into_inner();
                if text.as_bytes().contains(&b']') && text.contains("]]>") {
                    return Err("not well-formed");
                }
                self.text(text)
            }
            Event::CData(text) if self.open.is_empty() => {
                drop(text);
                Err("text outside the root element")
            }
            Event::CData(text) => self.text(text.into_inner()),
            Event::GeneralRef(reference) => {
                let c = referenced(&reference)?;
                self.text(Cow::Owned(c.to_string()))
            }
            Event::Comment(_) => {
                if let Some(element) = self.open.last_mut() {
                    element.commented = true;
                }
                Ok(())
            }
            Event::DocType(_) => Err("a document type is not taken"),
            Event::PI(_) => Err("a processing instruction is not taken"),
            Event::Eof => Err("not well-formed"),
        }
    }

    fn open(&mut self, start: &BytesStart<'a>, at: u64) -> Result<(), Wrong> {
        self.count += 1;
        if self.open.len() >= DEPTH_MAX {
            return Err("elements are nested too deeply");
        }
        if self.count > ELEMENTS_MAX {
            return Err("too many elements");
        }
        if self.root.is_some() {
            return Err("more than one root element");
        }
        if !is_name(start.name().into_inner()) {
            return Err("an element's name is not of the contract");
        }
        self.open.push(Element {
            name: self.borrowed(start.name().into_inner(), at).ok_or("not well-formed")?,
            attributes: attributes(start)?,
            text: Cow::Borrowed(""),
            children: Vec::new(),
            commented: false,
        });
        Ok(())
    }

    /// The same name as it stands in the source behind its `<`, which outlives the event.
    fn borrowed(&self, name: &str, at: u64) -> Option<&'a str> {
        let from = usize::try_from(at).ok()?.checked_add(1)?;
        let found = self.source.get(from..from.checked_add(name.len())?)?;
        (found == name).then_some(found)
    }

    fn text(&mut self, text: Cow<'a, str>) -> Result<(), Wrong> {
        let plain = |byte: u8| matches!(byte, b' '..=b'~');
        if !text.bytes().all(plain) && !text.chars().all(is_allowed) {
            return Err("a control character");
        }
        match self.open.last_mut() {
            None if is_blank(&text) => Ok(()),
            None => Err("text outside the root element"),
            Some(element) if element.text.is_empty() => {
                element.text = text;
                Ok(())
            }
            Some(element) => {
                element.text.to_mut().push_str(&text);
                Ok(())
            }
        }
    }

    fn close(&mut self) -> Result<(), Wrong> {
        let element = self.open.pop().ok_or("not well-formed")?;
        if !is_blank(&element.text) {
            if !element.children.is_empty() {
                return Err("text beside elements");
            }
            if element.commented {
                return Err("a comment within text");
            }
        }
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Element<'a>, Wrong> {
        if !self.open.is_empty() {
            return Err("the message ends within an element");
        }
        self.root.take().ok_or("no root element")
    }
}

/// Names of the contracts are ASCII.
fn is_name(name: &str) -> bool {
    let start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b':');
    start && name.len() <= NAME_MAX && name.bytes().all(inner)
}

/// Characters of XML 1.0 (2.2) without the controls 0x7f to 0x9f.
fn is_allowed(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => !c.is_control(),
    }
}

fn attributes(start: &BytesStart<'_>) -> Result<Vec<(String, String)>, Wrong> {
    if start.attributes_raw().is_empty() {
        return Ok(Vec::new());
    }
    if !is_spaced(start.attributes_raw()) {
        return Err("attributes stand without white space between them");
    }
    let mut found = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| "an attribute is malformed or given twice")?;
        let name = attribute.key.into_inner();
        let value = attribute
            .normalized_value(XmlVersion::Explicit1_0)
            .map_err(|_| "an attribute's value is malformed")?;
        if found.len() >= ATTRIBUTES_MAX || !is_name(name) {
            return Err("an attribute is not of the contract");
        }
        if value.contains('<') || !value.chars().all(is_allowed) {
            return Err("an attribute's value is malformed");
        }
        found.push((name.to_owned(), value.into_owned()));
    }
    Ok(found)
}

/// Whether white space follows each value (XML 1.0, 3.1), which the parser does not ask for.
fn is_spaced(attributes: &str) -> bool {
    let mut quote = None;
    let mut rest = attributes.chars().peekable();
    while let Some(c) = rest.next() {
        match quote {
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(open) if open == c => {
                quote = None;
                if rest.peek().is_some_and(|next| !matches!(next, ' ' | '\t' | '\r' | '\n')) {
                    return false;
                }
            }
            None | Some(_) => {}
        }
    }
    true
}

/// A numeric character or one of the five entities.
fn referenced(reference: &BytesRef<'_>) -> Result<char, Wrong> {
    let wrong = "a reference to an entity that is not taken";
    if reference.is_char_ref() {
        let c = reference.resolve_char_ref().ok().flatten().ok_or(wrong)?;
        return Ok(c);
    }
    match &*reference.borrow().into_inner() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(element: &Element<'_>) -> String {
        let inner: String = element.children.iter().map(shape).collect();
        format!("{}({}{inner})", element.name, element.text())
    }

    #[track_caller]
    fn good(text: &str, expect: &str) {
        match parse(text) {
            Ok(root) => assert_eq!(shape(&root), expect),
            Err(error) => panic!("{text}: {error}"),
        }
    }

    #[track_caller]
    fn bad(text: &str, expect: &str) {
        match parse(text) {
            Ok(root) => panic!("{text:?} is read as {}", shape(&root)),
            Err(error) => assert!(error.to_string().contains(expect), "{text:?}: {error}"),
        }
    }

    #[test]
    fn what_the_contracts_need_is_read() {
        good(
            "<?xml version='1.0' encoding='gbk'?>\r\n<a>\n <b>税 </b>\t<c/>\n</a>\n",
            "a(b(税 )c())",
        );
        good("<a><b>&lt;&gt;&amp;&apos;&quot;&#31246;&#x7a0e;</b></a>", "a(b(<>&'\"税税))");
        good("<a><b><![CDATA[<x> & ]]>y</b></a>", "a(b(<x> & y))");
        good("<!-- head --><a><!-- between --><b>1</b></a><!-- tail -->", "a(b(1))");
        good("<a><b>\n\t </b></a>", "a(b())");
        let root = parse("<a size='2' class=\"A;\" xmlns:xsi='http://x'/>");
        let root = root.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((root.attribute("size"), root.attribute("count")), (Some("2"), None));
    }

    #[test]
    fn what_attackers_need_is_refused() {
        bad("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "document type");
        bad("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "document type");
        bad("<a>&x;</a>", "entity");
        bad("<a>&#0;</a>", "entity");
        bad("<a>&#1;</a>", "control character");
        bad("<a>&#xD800;</a>", "entity");
        bad("<a>&#xFFFE;</a>", "control character");
        bad("<a>a & b</a>", "well-formed");
        bad("<a><?php x ?></a>", "processing instruction");
        bad("<a/><?xml version='1.0'?>", "declaration");
        bad(" <?xml version='1.0'?><a/>", "declaration");
    }

    #[test]
    fn what_two_readers_may_read_differently_is_refused() {
        bad("<a>text<b/></a>", "beside elements");
        bad("<a><b/>text</a>", "beside elements");
        bad("<a><b>10<!-- x -->0</b></a>", "comment within text");
        bad("<a/><b/>", "more than one root");
        bad("<a/>text", "outside the root");
        bad("text<a/>", "outside the root");
        bad("<a/><![CDATA[x]]>", "outside the root");
        bad("<a b='1' b='2'/>", "given twice");
        bad("<a b=1/>", "malformed");
        bad("<a b='1'c='2'/>", "white space");
        bad("<a><b>x]]>y</b></a>", "well-formed");
        bad("<a><b></a></b>", "well-formed");
        bad("<税/>", "name");
        bad("", "no root");
        bad("  ", "no root");
        bad("<!-- a -- b --><a/>", "well-formed");
    }

    #[test]
    fn control_characters_are_refused() {
        for c in ['\u{0}', '\u{1}', '\u{8}', '\u{b}', '\u{1f}', '\u{7f}', '\u{85}', '\u{ffff}'] {
            bad(&format!("<a>x{c}</a>"), "control character");
            bad(&format!("<a><![CDATA[{c}]]></a>"), "control character");
            bad(&format!("<a b='{c}'/>"), "malformed");
        }
    }

    #[test]
    fn depth_and_counts_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        bad(&nested(DEPTH_MAX + 1), "too deeply");
        bad(&nested(100_000), "too deeply");
        bad(&"<a>".repeat(100_000), "too deeply");
        bad(&format!("<r>{}</r>", "<a/>".repeat(ELEMENTS_MAX)), "too many elements");
        assert!(parse(&format!("<r>{}</r>", "<a/>".repeat(ELEMENTS_MAX - 1))).is_ok());
        bad(&format!("<{}/>", "a".repeat(NAME_MAX + 1)), "name");
        let attributes: String = (0..=ATTRIBUTES_MAX).map(|at| format!(" a{at}=''")).collect();
        bad(&format!("<a{attributes}/>"), "attribute");
    }
}
