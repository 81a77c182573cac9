//! Profiles: every reconstructed constant as versioned data (`deploy/profiles`), so that a rule of
//! a vendor is a line of text and never a branch in the code. Three are embedded; `baiwang` is the
//! default.

mod leqi;
mod load;
mod locate;
mod rates;
mod severity;
mod tax_codes;

pub use leqi::{Leqi, OriginField};
pub use load::{DEFAULT_PROFILE, ProfileError, ProfileMistake, Profiles};
pub use rates::{Day, RatePeriod, RateVerdict, Rates};
pub use severity::{Severities, Softening, softening};
pub(super) use tax_codes::TAX_CODE_DIGITS;
pub use tax_codes::{TaxCode, TaxCodeRules, TaxCodes};

use crate::{contract::decimal::DIGITS_MAX, model::Kind, registry::ZeroLimit};
use serde::Deserialize;

/// The constants of one vendor's rules. Sections of docs/domain.md stand in `deploy/profiles`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name that devices refer to.
    pub name: String,
    /// Counts changes of the constants, from 1.
    pub version: u32,
    /// Longest texts.
    pub lengths: Lengths,
    /// What differs between kinds.
    pub kinds: Kinds,
    /// Taxpayer ids.
    pub taxpayer_id: TaxpayerIds,
    /// Fields that must not be empty.
    pub required: Required,
    /// Amounts.
    pub amounts: Amounts,
    /// Lines.
    pub lines: Lines,
    /// Tax rates.
    pub rates: Rates,
    /// Preferences.
    pub preferences: Preferences,
    /// Phrases of the remark.
    pub remark: Remark,
    /// Cipher text.
    pub cipher: Cipher,
    /// What limits mean.
    #[serde(default)]
    pub limits: LimitRules,
    /// The table of tax codes; left out, none.
    #[serde(default)]
    pub tax_codes: TaxCodeRules,
    /// What 乐企 asks for; left out, nothing of it.
    #[serde(default)]
    pub leqi: Leqi,
    /// Rules that do not do what they do by default.
    #[serde(default)]
    pub severity: Severities,
}

/// What the limits in monitor data mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRules {
    /// What a limit of zero means. Public sources show devices with zero hours that issue.
    pub zero: ZeroLimit,
}

/// Longest texts. Unit: GBK bytes unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lengths {
    /// Seller's and buyer's name (XSF_MC, GMF_MC).
    pub party_name: usize,
    /// Address and telephone (XSF_DZDH, GMF_DZDH).
    pub address_phone: usize,
    /// Bank and account (XSF_YHZH, GMF_YHZH).
    pub bank_account: usize,
    /// Drawer, payee, checker (KPR, SKR, FHR).
    pub person: usize,
    /// Version of the tax code table (BMB_BBH).
    pub tax_code_version: usize,
    /// Own code (ZXBM).
    pub own_code: usize,
    /// Item name (XMMC).
    pub item_name: usize,
    /// Specification (GGXH).
    pub specification: usize,
    /// Unit (DW).
    pub unit: usize,
    /// Text of the preference (ZZSTSGL).
    pub preference_text: usize,
    /// Issuing terminal (KPZDDM).
    pub terminal: usize,
    /// Quantity and price (XMSL, XMDJ). Unit: characters with sign and point, 1 to 18.
    pub number: usize,
}

/// What differs between kinds, by the legacy code (FPLXDM).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kinds {
    /// Special paper (专票).
    #[serde(rename = "004")]
    pub special_paper: KindRules,
    /// Normal paper (普票).
    #[serde(rename = "007")]
    pub normal_paper: KindRules,
    /// Roll (卷票).
    #[serde(rename = "025")]
    pub roll: KindRules,
    /// Electronic normal (电子普票).
    #[serde(rename = "026")]
    pub e_normal: KindRules,
    /// Electronic special (电子专票).
    #[serde(rename = "028")]
    pub e_special: KindRules,
}

/// What holds for one kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindRules {
    /// Longest remark (BZ). Unit: GBK bytes.
    pub remark_max: usize,
    /// Most lines, 1 to 2000.
    pub lines_max: usize,
    /// Whether what the face has no room for goes to a list (清单, QDBZ).
    pub list: bool,
    /// Lengths of an invoice code (发票代码). Unit: digits.
    pub code_lengths: Vec<usize>,
    /// Last two digits of a 12-digit code of this kind; empty: any.
    pub code_suffixes: Vec<String>,
    /// Second field of the two-dimensional code (二维码), two digits.
    pub qr_type: String,
}

impl KindRules {
    /// Whether an invoice code may be one of this kind: length, digits, and what the last two of
    /// twelve say. The region in it is not looked at.
    #[must_use]
    pub fn fits_code(&self, code: &str) -> bool {
        let digits = code.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || !self.code_lengths.contains(&code.len()) {
            return false;
        }
        let suffixes = &self.code_suffixes;
        code.len() != SUFFIXED_CODE_LEN
            || suffixes.is_empty()
            || suffixes.iter().any(|suffix| code.ends_with(suffix.as_str()))
    }
}

/// Length of a code whose last two digits tell the kind. Unit: digits.
const SUFFIXED_CODE_LEN: usize = 12;

/// Rules of taxpayer ids (纳税人识别号).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaxpayerIds {
    /// Lengths of a seller's. Unit: characters.
    pub seller_lengths: Vec<usize>,
    /// Lengths of a buyer's, who may also have none. Unit: characters.
    pub buyer_lengths: Vec<usize>,
    /// Well-formed ids that devices refuse all the same.
    pub refused: Vec<String>,
}

/// Fields that must not be empty, beyond those that every profile needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Required {
    /// Seller's address and telephone (XSF_DZDH).
    pub seller_address_phone: bool,
    /// Drawer (KPR).
    pub drawer: bool,
    /// Version of the tax code table (BMB_BBH).
    pub tax_code_version: bool,
    /// Buyer's id, address and bank on special kinds (专票).
    pub special_buyer_details: bool,
}

/// Amounts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// How far XMJE may be from XMSL * XMDJ. Unit: fen.
    pub line_amount_tolerance_fen: u64,
    /// How far SE may be from XMJE * SL. Unit: fen.
    pub line_tax_tolerance_fen: u64,
    /// How far HJSE may be from the sum of SE. Unit: fen.
    pub total_tax_tolerance_fen: u64,
    /// Largest amount of either sign. Unit: fen, at least 1.
    pub amount_max_fen: i64,
    /// Whether the tax of a red differential invoice (红字差额) is checked too.
    pub red_differential_tax: bool,
}

/// Lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// Lines that fit the face (票面), 1 to 2000.
    pub face_max: usize,
    /// Most digits after the point of quantity and price.
    pub decimals_max: usize,
    /// Whether a discount line must leave out quantity, price, specification and unit.
    pub bare_discount: bool,
    /// Whether a red invoice may have discount lines.
    pub red_discount: bool,
}

/// Preferences (优惠政策).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// Every text of a preference (ZZSTSGL).
    pub texts: Vec<String>,
    /// The text that only an exempt (免税) line has.
    pub exempt_text: String,
    /// The text that only an untaxed (不征税) line has.
    pub not_taxed_text: String,
}

/// Phrases of the remark (BZ) that mean something to a device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remark {
    /// Before the code of a red invoice's blue one.
    pub original_code: String,
    /// Between that code and its number.
    pub original_number: String,
    /// Before a red-notice number.
    pub notice: String,
    /// Before the deduction of a differential invoice; its remark starts with it.
    pub differential: String,
    /// After that deduction.
    pub differential_end: String,
    /// Further phrases that no remark may hold.
    pub reserved: Vec<String>,
}

/// Shape of the cipher text (FP_MW).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cipher {
    /// Length. Unit: characters, at least as long as `prefix`.
    pub length: usize,
    /// What it starts with; may be empty.
    pub prefix: String,
}

impl Profile {
    /// The rules of a kind.
    #[must_use]
    pub fn kind(&self, kind: Kind) -> &KindRules {
        match kind {
            Kind::SpecialPaper => &self.kinds.special_paper,
            Kind::NormalPaper => &self.kinds.normal_paper,
            Kind::Roll => &self.kinds.roll,
            Kind::ENormal => &self.kinds.e_normal,
            Kind::ESpecial => &self.kinds.e_special,
        }
    }

    /// Whether an invoice of so many lines has a list (清单, QDBZ) beside its face.
    #[must_use]
    pub fn needs_list(&self, kind: Kind, line_count: usize) -> bool {
        self.kind(kind).list && line_count > self.lines.face_max
    }

    /// The first key that is impossible, with what it must be.
    fn impossible(&self) -> Option<(String, &'static str)> {
        let ids = &self.taxpayer_id;
        let texts = &self.preferences.texts;
        let remark = &self.remark;
        let phrases = [&remark.original_code, &remark.notice, &remark.differential];
        let rules = [
            (!self.name.is_empty(), "name", "given"),
            (self.version >= 1, "version", "at least 1"),
            ((1..=DIGITS_MAX).contains(&self.lengths.number), "lengths.number", "1 to 18"),
            (!ids.seller_lengths.is_empty(), "taxpayer_id.seller_lengths", "one length or more"),
            (!ids.buyer_lengths.is_empty(), "taxpayer_id.buyer_lengths", "one length or more"),
            (self.amounts.amount_max_fen >= 1, "amounts.amount_max_fen", "at least 1"),
            ((1..=2000).contains(&self.lines.face_max), "lines.face_max", "1 to 2000"),
            (
                (0..=1_000_000).contains(&self.rates.max_millionths),
                "rates.max_millionths",
                "0 to 1000000",
            ),
            (
                texts.contains(&self.preferences.exempt_text),
                "preferences.exempt_text",
                "one of preferences.texts",
            ),
            (
                texts.contains(&self.preferences.not_taxed_text),
                "preferences.not_taxed_text",
                "one of preferences.texts",
            ),
            (phrases.iter().all(|phrase| !phrase.is_empty()), "remark", "of non-empty phrases"),
            (
                self.cipher.length >= self.cipher.prefix.len(),
                "cipher.length",
                "at least as long as the prefix",
            ),
        ];
        let wrong = rules.into_iter().find(|(holds, ..)| !holds);
        wrong
            .map(|(_, key, must)| (key.to_owned(), must))
            .or_else(|| self.impossible_kind())
            .or_else(|| self.leqi.impossible())
            .or_else(|| self.impossible_rule())
    }

    fn impossible_kind(&self) -> Option<(String, &'static str)> {
        Kind::ALL.into_iter().find_map(|kind| {
            let rules = self.kind(kind);
            let two_digits =
                |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            let checks = [
                ((1..=2000).contains(&rules.lines_max), "lines_max", "1 to 2000"),
                (!rules.code_lengths.is_empty(), "code_lengths", "one length or more"),
                (
                    rules.code_suffixes.iter().all(|suffix| two_digits(suffix)),
                    "code_suffixes",
                    "of two digits each",
                ),
                (two_digits(&rules.qr_type), "qr_type", "two digits"),
            ];
            let (_, key, must) = checks.into_iter().find(|(holds, ..)| !holds)?;
            Some((format!("kinds.{:03}.{key}", kind.legacy_code()), must))
        })
    }

    fn impossible_rule(&self) -> Option<(String, &'static str)> {
        if let Some((index, must)) = self.rates.wrong_period() {
            return Some((format!("rates.periods[{index}]"), must));
        }
        let reason = self.severity.too_soft()?;
        Some((format!("severity.{reason}"), softening(reason).words))
    }
}

#[cfg(test)]
mod tests;
