//! The encoding of a legacy message: what its XML declaration says must be true of its bytes, and
//! the answer goes out in the same encoding. Nothing is replaced on the way in; on the way out a
//! character that the caller's encoding lacks becomes a numeric character reference.

use crate::gbk::{gbk_len, is_gbk_form};
use encoding_rs::{GB18030, GBK};
use std::borrow::Cow;

/// Bytes at the start among which the XML declaration must end.
const DECLARATION_MAX: usize = 200;

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";
/// U+FEFF in GB 18030.
const GB18030_BOM: &[u8] = b"\x84\x31\x95\x33";

/// Encoding of a message and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// UTF-8, also when nothing is declared (XML 1.0, 4.3.3).
    #[default]
    Utf8,
    /// One- and two-byte forms of code page 936 without 0x80. A `gb2312` caller means this.
    Gbk,
    /// GB 18030 with its four-byte forms.
    Gb18030,
}

impl Charset {
    /// The name that an answer declares.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Utf8 => "utf-8",
            Self::Gbk => "gbk",
            Self::Gb18030 => "gb18030",
        }
    }

    /// Reads a declared name of any case.
    fn of_label(label: &str) -> Option<Self> {
        const LABELS: [(&str, Charset); 8] = [
            ("utf-8", Charset::Utf8),
            ("utf8", Charset::Utf8),
            ("gbk", Charset::Gbk),
            ("gb2312", Charset::Gbk),
            ("gb_2312-80", Charset::Gbk),
            ("cp936", Charset::Gbk),
            ("ms936", Charset::Gbk),
            ("gb18030", Charset::Gb18030),
        ];
        let found = LABELS.iter().find(|(name, _)| label.eq_ignore_ascii_case(name));
        found.map(|(_, charset)| *charset)
    }

    /// Encodes an answer.
    ///
    /// A character that the encoding lacks becomes a numeric character reference (`&#14019;`). The
    /// alternative, to refuse the answer, would hide an issued invoice from the platform that asks
    /// for it, which then issues it twice. Element names are ASCII and no CDATA is printed, so a
    /// reference may stand wherever such a character can.
    #[must_use]
    pub fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Gbk if gbk_len(text).is_some() => GBK.encode(text).0.into_owned(),
            Self::Gbk => GBK.encode(&referenced(text)).0.into_owned(),
            Self::Gb18030 => GB18030.encode(text).0.into_owned(),
        }
    }
}

/// The same text with a reference for each character outside GBK. The encoder's own references
/// would not do: it writes the euro sign as 0x80, and forms that only GB 18030 has.
fn referenced(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        if gbk_len(c.encode_utf8(&mut buffer)).is_some() {
            out.push(c);
        } else {
            out.push_str(&format!("&#{};", u32::from(c)));
        }
    }
    out
}

/// Why the bytes are not what the message says of itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CharsetError {
    /// Declared with a name that is not offered.
    #[error("encoding {0:?} is not offered; use utf-8, gbk, gb2312 or gb18030")]
    Unknown(String),
    /// The declaration cannot be read.
    #[error("the XML declaration cannot be read")]
    Declaration,
    /// A byte order mark of another encoding.
    #[error("the byte order mark is not that of {declared}")]
    ByteOrderMark {
        /// What is declared.
        declared: &'static str,
    },
    /// Bytes that are not of the encoding.
    #[error("declared {declared}, but the bytes at {at} are not")]
    Bytes {
        /// What is declared.
        declared: &'static str,
        /// Offset of the first wrong byte, from 0; 0 when the whole is another encoding's.
        at: usize,
    },
    /// Declared GBK with four-byte forms.
    #[error("declared gbk, but the bytes at {at} are a four-byte form of gb18030")]
    FourBytes {
        /// Offset, from 0.
        at: usize,
    },
    /// Declared GBK or GB 18030 while the bytes are UTF-8.
    #[error("declared {declared}, but the bytes are utf-8")]
    IsUtf8 {
        /// What is declared.
        declared: &'static str,
    },
    /// Holds U+FFFD: an earlier hop replaced what it could not read.
    #[error("holds replacement characters (U+FFFD)")]
    Replaced,
}

/// Decodes a message by its own declaration, which stays in the text; a byte order mark does not.
///
/// # Errors
/// When the declaration is not true of every byte. The encoding to answer in comes along.
pub fn decode(bytes: &[u8]) -> Result<(Cow<'_, str>, Charset), (CharsetError, Charset)> {
    let (bom, body) = split_bom(bytes);
    if [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(*mark)) {
        return Err((CharsetError::ByteOrderMark { declared: "utf-8" }, Charset::Utf8));
    }
    let label = declared(body).map_err(|error| (error, bom.unwrap_or_default()))?;
    let charset = match label {
        None => bom.unwrap_or_default(),
        Some(label) => Charset::of_label(label)
            .ok_or_else(|| (CharsetError::Unknown(shortened(label)), Charset::Utf8))?,
    };
    if bom.is_some_and(|bom| bom != charset) {
        return Err((CharsetError::ByteOrderMark { declared: charset.label() }, charset));
    }
    let text = decode_as(body, charset).map_err(|error| (error, charset))?;
    if text.contains('\u{fffd}') {
        return Err((CharsetError::Replaced, charset));
    }
    Ok((text, charset))
}

fn split_bom(bytes: &[u8]) -> (Option<Charset>, &[u8]) {
    if let Some(body) = bytes.strip_prefix(UTF8_BOM) {
        (Some(Charset::Utf8), body)
    } else if let Some(body) = bytes.strip_prefix(GB18030_BOM) {
        (Some(Charset::Gb18030), body)
    } else {
        (None, bytes)
    }
}

fn shortened(label: &str) -> String {
    label.chars().take(20).collect()
}

/// The declared name, if any. Every encoding offered has ASCII as it is, so the declaration can be
/// read before the encoding is known; it is read by its grammar (XML 1.0, 2.8), since a name found
/// by searching could stand anywhere.
fn declared(body: &[u8]) -> Result<Option<&str>, CharsetError> {
    let Some(rest) = body.strip_prefix(b"<?xml") else { return Ok(None) };
    let head = &rest[..rest.len().min(DECLARATION_MAX)];
    let end = head.windows(2).position(|pair| pair == b"?>").ok_or(CharsetError::Declaration)?;
    let text = str::from_utf8(&head[..end]).map_err(|_| CharsetError::Declaration)?;
    let (version, rest) = assigned(text, "version").ok_or(CharsetError::Declaration)?;
    let (label, rest) = match assigned(rest, "encoding") {
        Some((label, rest)) => (Some(label), rest),
        None => (None, rest),
    };
    let rest = assigned(rest, "standalone").map_or(rest, |(_, rest)| rest);
    if version != "1.0" || !rest.trim_ascii().is_empty() {
        return Err(CharsetError::Declaration);
    }
    Ok(label)
}

/// Reads ` name = "value"`: the value, and what follows it.
fn assigned<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let inner = text.trim_ascii_start();
    let after = inner.strip_prefix(name).filter(|_| inner.len() < text.len())?;
    let value = after.trim_ascii_start().strip_prefix('=')?.trim_ascii_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value.get(1..)?.split_once(quote)
}

fn decode_as(body: &[u8], charset: Charset) -> Result<Cow<'_, str>, CharsetError> {
    let declared = charset.label();
    if charset == Charset::Utf8 {
        let text = str::from_utf8(body);
        return text
            .map(Cow::Borrowed)
            .map_err(|error| CharsetError::Bytes { declared, at: error.valid_up_to() });
    }
    if is_surely_utf8(body) {
        return Err(CharsetError::IsUtf8 { declared });
    }
    check_forms(body, charset)?;
    let encoding = if charset == Charset::Gbk { GBK } else { GB18030 };
    encoding
        .decode_without_bom_handling_and_without_replacement(body)
        .ok_or(CharsetError::Bytes { declared, at: 0 })
}

/// Whether the bytes are UTF-8 beyond doubt. "`gbk` in the declaration, UTF-8 in the bytes" is
/// common, and most of such bytes also pass as GBK, as the wrong characters. Honest GBK of a whole
/// message hardly ever is valid UTF-8 with a form of three bytes; two bytes prove nothing (小).
fn is_surely_utf8(body: &[u8]) -> bool {
    !body.is_ascii() && str::from_utf8(body).is_ok_and(|text| text.chars().any(|c| c >= '\u{800}'))
}

/// Walks the forms of one, two and four bytes. The decoder alone would not do: it takes 0x80, and
/// the forms that GB 18030 has more than GBK under either name.
fn check_forms(body: &[u8], charset: Charset) -> Result<(), CharsetError> {
    let mut at = 0;
    let ascii = |at: usize| body.get(at..)?.iter().position(|byte| !byte.is_ascii());
    while let Some(plain) = ascii(at) {
        at += plain;
        let wrong = CharsetError::Bytes { declared: charset.label(), at };
        at += match (body[at], body.get(at.saturating_add(1))) {
            // GB 18030 added two-byte forms, and some are of private use.
            (lead, Some(trail)) if charset == Charset::Gbk && is_gbk_form([lead, *trail]) => 2,
            (0x81..=0xfe, Some(0x40..=0x7e | 0x80..=0xfe)) if charset == Charset::Gb18030 => 2,
            (0x81..=0xfe, Some(0x30..=0x39)) if charset == Charset::Gb18030 => 4,
            (0x81..=0xfe, Some(0x30..=0x39)) => return Err(CharsetError::FourBytes { at }),
            _ => return Err(wrong),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(label: &str, body: &[u8]) -> Vec<u8> {
        [format!("<?xml version=\"1.0\" encoding=\"{label}\"?><a>").as_bytes(), body, b"</a>"]
            .concat()
    }

    #[track_caller]
    fn good(label: &str, body: &[u8], expect: &str, charset: Charset) {
        let bytes = message(label, body);
        let (text, found) = decode(&bytes).unwrap();
        assert!(text.ends_with(&format!("<a>{expect}</a>")), "{text}");
        assert_eq!(found, charset, "{label}");
    }

    #[test]
    fn a_true_declaration_is_believed() {
        good("utf-8", "税票𠮷".as_bytes(), "税票𠮷", Charset::Utf8);
        good("UTF-8", b"abc", "abc", Charset::Utf8);
        good("gbk", b"\xcb\xb0\xc6\xb1\xe9F", "税票镕", Charset::Gbk);
        good("GB2312", b"\xcb\xb0", "税", Charset::Gbk);
        good("gb18030", b"\xcb\xb0\x95\x34\xb2\x35", "税𠮷", Charset::Gb18030);
        // 小 is two bytes in both encodings; the declaration decides.
        good("gbk", b"\xd0\xa1", "小", Charset::Gbk);
    }

    #[track_caller]
    fn bad(bytes: &[u8], expect: &str) {
        let (error, _) = decode(bytes).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
    }

    #[test]
    fn a_false_declaration_is_refused() {
        bad(&message("gbk", "电子发票".as_bytes()), "declared gbk, but the bytes are utf-8");
        bad(&message("gb18030", "电子发票".as_bytes()), "but the bytes are utf-8");
        bad(&message("gbk", b"\xef\xbf\xbd\xef\xbf\xbd"), "but the bytes are utf-8");
        bad(&message("utf-8", b"\xb5\xe7\xd7\xd3"), "declared utf-8, but the bytes at 41 are not");
        bad(&message("gbk", b"\x95\x34\xa1\x31"), "four-byte form of gb18030");
        bad(&message("gbk", b"\x80"), "declared gbk, but the bytes at 39 are not");
        bad(&message("gb18030", b"\x80"), "declared gb18030");
        bad(&message("gbk", b"\xff\xfe"), "declared gbk");
        // The euro sign and private use: two bytes, but not of code page 936.
        bad(&message("gbk", b"a\xa2\xe3"), "declared gbk, but the bytes at 40 are not");
        bad(&message("gbk", b"\xaa\xa1"), "declared gbk");
        bad(&message("utf-8", "\u{fffd}".as_bytes()), "replacement");
        bad(&message("latin1", b"a"), "\"latin1\" is not offered");
        bad(b"\xb5\xe7", "declared utf-8");
    }

    #[test]
    fn a_byte_order_mark_must_agree() {
        let with = |bom: &[u8], label, body: &[u8]| [bom, &message(label, body)].concat();
        assert_eq!(decode(&with(UTF8_BOM, "utf-8", b"a")).unwrap().1, Charset::Utf8);
        assert_eq!(decode(&with(GB18030_BOM, "gb18030", b"a")).unwrap().1, Charset::Gb18030);
        assert!(!decode(&with(UTF8_BOM, "utf-8", b"a")).unwrap().0.starts_with('\u{feff}'));
        assert_eq!(decode(&[GB18030_BOM, b"<a/>"].concat()).unwrap().1, Charset::Gb18030);
        bad(&with(UTF8_BOM, "gbk", b"a"), "byte order mark");
        bad(&with(GB18030_BOM, "gbk", b"a"), "byte order mark");
        bad(b"\xff\xfe<\0a\0", "byte order mark");
        bad(b"\xfe\xff\0<\0a", "byte order mark");
    }

    #[test]
    fn a_declaration_that_cannot_be_read_is_refused() {
        for head in [
            "<?xml encoding?>",
            "<?xml version='1.0' encoding",
            "<?xml version='1.0' encoding=gbk?>",
            "<?xml version='1.0' encoding='gbk?>",
            "<?xml version='1.0' xencoding='gbk'?>",
            "<?xml version='1.0' standalone='encoding=\"gbk\"' x?>",
            "<?xml version='1.0'encoding='gbk'?>",
            "<?xml version='1.0' encoding='gbk' encoding='utf-8'?>",
            "<?xml version='1.1' encoding='gbk'?>",
            "<?xml-stylesheet encoding='gbk'?>",
            "<?xml encoding='gbk'?>",
        ] {
            bad(head.as_bytes(), "declaration");
        }
        bad(&[b"<?xml ".as_slice(), &b" ".repeat(300), b"?>"].concat(), "declaration");
        assert_eq!(decode(b"<?xml version='1.0'?><a/>").unwrap().1, Charset::Utf8);
        let spaced = b"<?xml\tversion='1.0'\n encoding = \"GBK\" standalone='yes' ?><a/>";
        assert_eq!(decode(spaced).unwrap().1, Charset::Gbk);
    }

    #[test]
    fn what_an_encoding_lacks_becomes_a_reference() {
        let encode = |charset: Charset, text| charset.encode(text);
        assert_eq!(encode(Charset::Gbk, "税a"), b"\xcb\xb0a");
        assert_eq!(encode(Charset::Gbk, "税㛃𠮷€"), b"\xcb\xb0&#14019;&#134071;&#8364;");
        assert_eq!(encode(Charset::Gb18030, "𠮷"), b"\x95\x34\xb2\x35".as_slice());
        assert_eq!(encode(Charset::Utf8, "𠮷"), "𠮷".as_bytes());
    }

    #[test]
    fn answers_go_there_and_back_in_every_encoding() {
        for charset in [Charset::Utf8, Charset::Gbk, Charset::Gb18030] {
            let head = format!("<?xml version=\"1.0\" encoding=\"{}\"?>", charset.label());
            let text = format!("{head}<a>税票（示例）镕￥</a>");
            assert_eq!(decode(&charset.encode(&text)).unwrap(), (text.into(), charset));
        }
    }
}
