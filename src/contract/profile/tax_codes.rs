//! The table of tax classification codes (税收分类编码表), as an operator has it: which codes there are,
//! which of them stand for goods, and at which rates. Source: docs/domain.md, rule 16. The table is
//! published by the tax office and changes; none is embedded. Texts in, a table or the first
//! mistake out.

use crate::contract::decimal::rate_as_millionths;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Digits of a tax classification code (商品编码, SPBM).
pub(in crate::contract) const TAX_CODE_DIGITS: usize = 19;

/// The columns of a table, in the first line that is no comment.
const HEAD: &str = "code,name,rates,preference";

/// The `[tax_codes]` table of a profile. Left out, only the shape of a code is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaxCodeRules {
    /// File with the table, beside the profile's own file; CSV, UTF-8.
    pub file: Option<String>,
    /// Version of the table (BMB_BBH); empty: whatever version a draft names.
    #[serde(default)]
    pub version: String,
    /// Rates that a line of any code may have, such as the levy rates (征收率) of small taxpayers.
    /// Unit: millionths.
    #[serde(default)]
    pub any_code_rates: Vec<i32>,
    /// The table, once somebody has read it.
    #[serde(skip)]
    pub table: Option<TaxCodes>,
}

/// A table of codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxCodes(BTreeMap<String, TaxCode>);

/// What a table says of one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxCode {
    /// Rates that it may have, in millionths; none: any.
    pub rates: Vec<i32>,
    /// Preferences (增值税特殊管理) that it may have; none: any.
    pub preferences: Vec<String>,
    /// Whether it stands for goods or services, not for a group of codes.
    pub is_leaf: bool,
}

impl TaxCodes {
    /// Reads a table: a head line `code,name,rates,preference`, then a line for each code. Rates
    /// are decimals, preferences texts, each with `|` between them. Lines that start with `#` are
    /// comments; names hold no comma.
    ///
    /// # Errors
    /// The first line that is none of this, from 1, with what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = (1..).zip(text.lines().map(str::trim));
        let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        if lines.next().is_none_or(|(_, line)| line != HEAD) {
            return Err(format!("the first line must be {HEAD}"));
        }
        let mut codes = BTreeMap::new();
        for (line, text) in lines {
            let (code, row) = row(text).map_err(|what| format!("line {line}: {what}"))?;
            if codes.insert(code.to_owned(), row).is_some() {
                return Err(format!("line {line}: {code} is there twice"));
            }
        }
        let groups: Vec<String> = groups(&codes).map(ToOwned::to_owned).collect();
        for group in groups {
            codes.entry(group).and_modify(|code| code.is_leaf = false);
        }
        Ok(Self(codes))
    }

    /// What the table says of a code.
    #[must_use]
    pub fn get(&self, code: &str) -> Option<&TaxCode> {
        self.0.get(code)
    }

    /// Codes in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the table has no code.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn row(text: &str) -> Result<(&str, TaxCode), String> {
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    let [code, name, rates, preferences] = fields.as_slice() else {
        return Err(format!("has {} fields, not 4", fields.len()));
    };
    if code.len() != TAX_CODE_DIGITS || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{code:?} is no code of {TAX_CODE_DIGITS} digits"));
    }
    if name.is_empty() {
        return Err("the name is missing".to_owned());
    }
    let rate = |text: &str| rate_as_millionths(text).ok_or_else(|| format!("{text:?} is no rate"));
    let rates = parts(rates).map(rate).collect::<Result<_, _>>()?;
    let preferences = parts(preferences).map(ToOwned::to_owned).collect();
    Ok((code, TaxCode { rates, preferences, is_leaf: true }))
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split('|').map(str::trim).filter(|part| !part.is_empty())
}

/// The codes that are groups of others: one digit, then nine pairs, and what a code does not tell
/// apart is zero. In ascending order a group comes right before its first member.
fn groups(codes: &BTreeMap<String, TaxCode>) -> impl Iterator<Item = &str> {
    let next = codes.keys().skip(1);
    codes
        .keys()
        .zip(next)
        .filter(|(code, next)| next.starts_with(stem(code)))
        .map(|(code, _)| code.as_str())
}

/// A code without the pairs of zeros at its end.
fn stem(code: &str) -> &str {
    let mut stem = code;
    while stem.len() > 1
        && let Some(shorter) = stem.strip_suffix("00")
    {
        stem = shorter;
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../deploy/profiles/tax-codes.sample.csv");

    #[test]
    fn the_sample_parses_and_its_groups_are_no_leaves() {
        let codes = TaxCodes::parse(SAMPLE).unwrap();
        for (code, is_leaf) in [
            ("1000000000000000000", false),
            ("1060000000000000000", false),
            ("1060105000000000000", false),
            ("1060105040000000000", true),
            ("3040200000000000000", false),
            ("3040201020000000000", true),
            ("3040203000000000000", true),
        ] {
            assert_eq!(codes.get(code).map(|code| code.is_leaf), Some(is_leaf), "{code}");
        }
        assert!(codes.get("1060105990000000000").is_none());
        assert_eq!(codes.get("1060105040000000000").unwrap().rates, [130_000]);
        assert_eq!(codes.get("3040201020000000000").unwrap().preferences, ["免税", "即征即退100%"]);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for (text, expect) in [
            ("", "the first line must be code,name,rates,preference"),
            ("code,name\n", "the first line must be"),
            ("code,name,rates,preference\n1,a,,", "line 2: \"1\" is no code of 19 digits"),
            ("# c\n\ncode,name,rates,preference\n1060105040000000000,a,", "line 4: has 3 fields"),
            ("code,name,rates,preference\n1060105040000000000,,,", "line 2: the name is missing"),
            (
                "code,name,rates,preference\n1060105040000000000,a,13%,",
                "line 2: \"13%\" is no rate",
            ),
            ("code,name,rates,preference\n1060105040000000000,a,1.3,", "\"1.3\" is no rate"),
            (
                "code,name,rates,preference\n1060105040000000000,a,,\n1060105040000000000,b,,",
                "line 3: 1060105040000000000 is there twice",
            ),
        ] {
            let error = TaxCodes::parse(text).unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
        assert!(TaxCodes::parse("\u{feff}code,name,rates,preference\r\n").unwrap().is_empty());
    }
}
