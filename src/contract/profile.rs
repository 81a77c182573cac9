//! Profiles: every reconstructed constant as versioned data (`deploy/profiles`), so that a rule of
//! a vendor is a line of text and never a branch in the code. Two are embedded; `baiwang` is the
//! default.

use crate::{contract::decimal::DIGITS_MAX, model::Kind};
use serde::Deserialize;

/// Name of the profile that a device has unless told otherwise.
pub const DEFAULT_PROFILE: &str = "baiwang";

const EMBEDDED: [&str; 2] = [
    include_str!("../../deploy/profiles/baiwang.toml"),
    include_str!("../../deploy/profiles/aisino.toml"),
];

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The text is no profile; the message names line and column.
    #[error("profile does not parse: {0}")]
    Syntax(toml::de::Error),
    /// A value is outside its range.
    #[error("profile {profile}: {key} must be {range}")]
    Range {
        /// Name of the profile.
        profile: String,
        /// Key.
        key: &'static str,
        /// What it may be.
        range: &'static str,
    },
}

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
    /// Longest remark by kind.
    pub remark: RemarkLengths,
    /// Taxpayer ids.
    pub taxpayer_id: TaxpayerIds,
    /// Fields that must not be empty.
    pub required: Required,
    /// Amounts and rates.
    pub amounts: Amounts,
    /// Lines.
    pub lines: Lines,
    /// Cipher text.
    pub cipher: Cipher,
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

/// Longest remark (BZ) by kind. Unit: GBK bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemarkLengths {
    /// 004.
    pub special_paper: usize,
    /// 007.
    pub normal_paper: usize,
    /// 025.
    pub roll: usize,
    /// 026.
    pub e_normal: usize,
    /// 028.
    pub e_special: usize,
}

impl RemarkLengths {
    /// The limit of a kind. Unit: GBK bytes.
    #[must_use]
    pub fn of(&self, kind: Kind) -> usize {
        match kind {
            Kind::SpecialPaper => self.special_paper,
            Kind::NormalPaper => self.normal_paper,
            Kind::Roll => self.roll,
            Kind::ENormal => self.e_normal,
            Kind::ESpecial => self.e_special,
        }
    }
}

/// Rules of taxpayer ids (纳税人识别号).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaxpayerIds {
    /// Lengths of a seller's. Unit: characters.
    pub seller_lengths: Vec<usize>,
    /// Lengths of a buyer's, who may also have none. Unit: characters.
    pub buyer_lengths: Vec<usize>,
    /// Whether the check character of 18-character ids counts.
    pub checksum: Severity,
}

/// What a violated rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing.
    Off,
    /// Refuses the request.
    Refuse,
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

/// Amounts and rates.
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
    /// Highest rate. Unit: millionths, 0 to 1,000,000.
    pub rate_max_millionths: i32,
}

/// Lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// Most lines, 1 to 2000.
    pub count_max: usize,
    /// Most digits after the point of quantity and price.
    pub decimals_max: usize,
    /// Whether a discount line must leave out quantity, price, specification and unit.
    pub bare_discount: bool,
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
    /// Reads a profile.
    ///
    /// # Errors
    /// `Syntax` with line and column for unknown, missing or ill-typed keys, `Range` for impossible
    /// values.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(ProfileError::Syntax)?;
        profile.check_ranges()?;
        Ok(profile)
    }

    fn check_ranges(&self) -> Result<(), ProfileError> {
        let ids = &self.taxpayer_id;
        let rules = [
            (!self.name.is_empty(), "name", "given"),
            (self.version >= 1, "version", "at least 1"),
            ((1..=DIGITS_MAX).contains(&self.lengths.number), "lengths.number", "1 to 18"),
            (!ids.seller_lengths.is_empty(), "taxpayer_id.seller_lengths", "one length or more"),
            (!ids.buyer_lengths.is_empty(), "taxpayer_id.buyer_lengths", "one length or more"),
            (self.amounts.amount_max_fen >= 1, "amounts.amount_max_fen", "at least 1"),
            (
                (0..=1_000_000).contains(&self.amounts.rate_max_millionths),
                "amounts.rate_max_millionths",
                "0 to 1000000",
            ),
            ((1..=2000).contains(&self.lines.count_max), "lines.count_max", "1 to 2000"),
            (
                self.cipher.length >= self.cipher.prefix.len(),
                "cipher.length",
                "at least as long as the prefix",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, key, range)) => {
                Err(ProfileError::Range { profile: self.name.clone(), key, range })
            }
        }
    }
}

/// The profiles that devices may name.
#[derive(Debug, Clone)]
pub struct Profiles(Vec<Profile>);

impl Profiles {
    /// The embedded ones.
    ///
    /// # Panics
    /// Never: a test parses them.
    #[must_use]
    pub fn embedded() -> Self {
        let parse = |text| Profile::parse(text).expect("embedded profiles parse");
        Self(EMBEDDED.into_iter().map(parse).collect())
    }

    /// A profile by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.0.iter().find(|profile| profile.name == name)
    }

    /// Names, the default first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|profile| profile.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_profiles_parse_and_the_first_is_the_default() {
        let profiles = Profiles::embedded();
        assert_eq!(profiles.names().collect::<Vec<_>>(), [DEFAULT_PROFILE, "aisino"]);
        assert_eq!(profiles.get("baiwang").unwrap().cipher.length, 112);
        assert_eq!(profiles.get("aisino").unwrap().cipher.length, 108);
        assert!(profiles.get("Baiwang").is_none());
    }

    #[track_caller]
    fn check(from: &str, to: &str, expect: &str) {
        let text = EMBEDDED[0].replacen(from, to, 1);
        assert_ne!(text, EMBEDDED[0], "{from} is not in the profile");
        let error = Profile::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_wrong_profile_says_where_and_what() {
        check("version = 1", "version = \"1\"", "line 4, column 11");
        check("[cipher]", "[cipher]\ncolour = 1", "unknown field `colour`");
        check("drawer = true", "", "missing field `drawer`");
        check("checksum = \"off\"", "checksum = \"maybe\"", "unknown variant `maybe`");
    }

    #[test]
    fn a_constant_outside_its_range_is_named() {
        check("version = 1", "version = 0", "baiwang: version must be at least 1");
        check("number = 16", "number = 19", "lengths.number must be 1 to 18");
        check("count_max = 100", "count_max = 0", "lines.count_max must be 1 to 2000");
        check("amount_max_fen = 99", "amount_max_fen = -99", "amounts.amount_max_fen");
        check("rate_max_millionths = 1", "rate_max_millionths = 9_1", "0 to 1000000");
        check("length = 112", "length = 1", "at least as long as the prefix");
    }
}
