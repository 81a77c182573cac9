//! Text as the device sees it: GBK bytes. GBK here means the one- and two-byte forms of code page
//! 936 without 0x80 (the euro sign), which is what every known device takes.

use encoding_rs::GBK;
use std::sync::LazyLock;

/// What text comes to on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// Length. Unit: GBK bytes; a character outside GBK counts as two.
    pub gbk_bytes: usize,
    /// The first control character.
    pub control: Option<char>,
    /// The first character outside GBK.
    pub foreign: Option<char>,
}

/// Length of `text` on the device. Unit: GBK bytes. `None` when a character is outside GBK.
#[must_use]
pub fn gbk_len(text: &str) -> Option<usize> {
    let measured = measure(text);
    measured.foreign.is_none().then_some(measured.gbk_bytes)
}

/// Whether two bytes are one of GBK's two-byte forms.
#[must_use]
pub fn is_gbk_form(form: [u8; 2]) -> bool {
    form[0] >= 0x80 && TABLE.has_form(form)
}

/// Measures text. Plain ASCII, the common case and most of a whole legacy message, meets no table.
pub fn measure(text: &str) -> Measured {
    let mut measured = Measured::default();
    let mut rest = text;
    loop {
        let plain = rest.bytes().position(|byte| !matches!(byte, 0x20..0x7f));
        let plain = plain.unwrap_or(rest.len());
        let mut chars = rest[plain..].chars();
        measured.gbk_bytes += plain;
        let Some(c) = chars.next() else { return measured };
        measured.gbk_bytes += if c.is_ascii() { 1 } else { 2 };
        if c.is_control() {
            measured.control.get_or_insert(c);
        } else if !TABLE.contains(c) {
            measured.foreign.get_or_insert(c);
        }
        rest = chars.as_str();
    }
}

/// What code page 936 has in two bytes.
struct Table {
    /// One bit for each character of the basic plane.
    chars: Box<[u64; 1024]>,
    /// One bit for each two-byte form, by its number without the highest bit.
    forms: Box<[u64; 512]>,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::build);

impl Table {
    fn contains(&self, c: char) -> bool {
        let Ok(unit) = u16::try_from(u32::from(c)) else { return false };
        (self.chars[usize::from(unit >> 6)] >> (unit & 63)) & 1 == 1
    }

    fn has_form(&self, form: [u8; 2]) -> bool {
        let unit = u16::from_be_bytes(form) & 0x7fff;
        (self.forms[usize::from(unit >> 6)] >> (unit & 63)) & 1 == 1
    }

    /// Asks the decoder for every two-byte form, once: 24 thousand of them, about a millisecond.
    fn build() -> Self {
        let (mut chars, mut forms) = (Box::new([0_u64; 1024]), Box::new([0_u64; 512]));
        for lead in 0x81..=0xfe_u8 {
            for trail in 0x40..=0xfe_u8 {
                let form = [lead, trail];
                let decoded = GBK.decode_without_bom_handling_and_without_replacement(&form);
                let unit = decoded.as_deref().and_then(only_unit);
                if let Some(unit) = unit.filter(|_| !is_gb18030_only(lead, trail)) {
                    chars[usize::from(unit >> 6)] |= 1 << (unit & 63);
                    let unit = u16::from_be_bytes(form) & 0x7fff;
                    forms[usize::from(unit >> 6)] |= 1 << (unit & 63);
                }
            }
        }
        Self { chars, forms }
    }
}

/// The UTF-16 unit of a text of one character outside the private use area, whose characters mean
/// whatever two parties agree on.
fn only_unit(text: &str) -> Option<u16> {
    let mut chars = text.chars();
    let c = chars.next().filter(|_| chars.next().is_none())?;
    let private = ('\u{e000}'..='\u{f8ff}').contains(&c);
    u16::try_from(u32::from(c)).ok().filter(|_| !private)
}

/// Two-byte forms that GB 18030 added after code page 936; the decoder knows them, devices do not.
fn is_gb18030_only(lead: u8, trail: u8) -> bool {
    match lead {
        0xa2 => trail == 0xe3,
        0xa6 => matches!(trail, 0xd9..=0xdf | 0xec..=0xed | 0xf3 | 0xf6..=0xfe),
        0xa8 => matches!(trail, 0xbc | 0xbf),
        0xa9 => matches!(trail, 0x89..=0x95),
        0xfe => trail >= 0x50,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_gbk_bytes() {
        for (text, expect) in
            [("", 0), ("abc", 3), ("税票", 4), ("a税b", 4), ("（）", 4), ("镕", 2), ("￥", 2)]
        {
            assert_eq!(gbk_len(text), Some(expect), "{text}");
        }
    }

    #[test]
    fn the_euro_sign_private_use_and_rare_characters_are_outside_gbk() {
        for text in ["€", "\u{e5e5}", "\u{e000}", "㐂", "𠮷", "😀", "ǹ", "⿰", "é́", "ü한"]
        {
            assert_eq!(gbk_len(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_control_character_is_named() {
        for (text, expect) in [("a\nb", '\n'), ("\u{7f}", '\u{7f}'), ("税\u{85}", '\u{85}')] {
            assert_eq!(measure(text).control, Some(expect), "{text:?}");
        }
    }

    #[test]
    fn a_form_counts_as_its_character() {
        for form in (0..=u16::MAX).map(u16::to_be_bytes) {
            let decoded = GBK.decode_without_bom_handling_and_without_replacement(&form);
            let one = decoded.as_deref().filter(|text| text.chars().count() == 1);
            let expect = one.is_some_and(|text| gbk_len(text).is_some());
            // One character may have two forms; those that GB 18030 added are not ours.
            let expect = expect && !is_gb18030_only(form[0], form[1]);
            assert_eq!(is_gbk_form(form), expect, "{form:02x?}");
        }
    }

    /// The count and the hash were made with Python's `gbk` codec, which is code page 936 without
    /// 0x80.
    #[test]
    fn the_table_is_code_page_936() {
        let all: String = ('\u{80}'..='\u{ffff}').filter(|c| TABLE.contains(*c)).collect();
        assert_eq!(all.chars().count(), 21_791);
        assert_eq!(
            crate::convert::hex(&crate::convert::sha256(all.as_bytes())),
            "1e31260ba45336527a55e93db373e363d8ad290d55b80900b8b87408e4596726"
        );
    }
}
