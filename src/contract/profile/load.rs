//! Reads profiles from text: the embedded ones, and those of an operator, which may replace them.
//! Reads no file itself: texts in, profiles or every mistake out.

use super::{Profile, TaxCodes, locate::locate};
use std::fmt;

/// Name of the profile that a device has unless told otherwise.
pub const DEFAULT_PROFILE: &str = "baiwang";

pub(super) const EMBEDDED: [&str; 3] = [
    include_str!("../../../deploy/profiles/baiwang.toml"),
    include_str!("../../../deploy/profiles/aisino.toml"),
    include_str!("../../../deploy/profiles/leqi.toml"),
];

/// Why a text is no profile. Each message names line and column, from 1.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Unknown, missing or ill-typed keys, days, severities and reasons.
    #[error("{0}")]
    Syntax(toml::de::Error),
    /// A value is impossible.
    #[error("line {line}, column {column}: {key} must be {must}")]
    Value {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// Key, for example `lengths.number`.
        key: String,
        /// What it may be.
        must: &'static str,
    },
}

/// A profile that cannot be used, by the name of its file.
#[derive(Debug)]
pub struct ProfileMistake {
    /// The file.
    pub file: String,
    /// What is wrong, with line and column.
    pub problem: String,
}

impl fmt::Display for ProfileMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// `Syntax` for what does not parse, `Value` for what parses and cannot be.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(ProfileError::Syntax)?;
        match profile.impossible() {
            None => Ok(profile),
            Some((key, must)) => {
                let (line, column) = locate(text, &key);
                Err(ProfileError::Value { line, column, key, must })
            }
        }
    }
}

/// The profiles that devices may name.
#[derive(Debug, Clone, Default)]
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

    /// The embedded ones and those of an operator: (file name, text). One with the name of an
    /// embedded profile takes its place.
    ///
    /// # Errors
    /// Every file that is no profile, and every second file with one name.
    pub fn with_files<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<ProfileMistake>> {
        let mut profiles = Self::embedded();
        let mut named: Vec<(String, &str)> = Vec::new();
        let mut mistakes = Vec::new();
        for (file, text) in files {
            let mut mistake =
                |problem| mistakes.push(ProfileMistake { file: file.to_owned(), problem });
            match Profile::parse(text) {
                Err(error) => mistake(error.to_string().trim_end().to_owned()),
                Ok(profile) => match named.iter().find(|(name, _)| *name == profile.name) {
                    Some((name, first)) => {
                        mistake(format!("the profile {name:?} stands in {first} already"));
                    }
                    None => {
                        named.push((profile.name.clone(), file));
                        profiles.put(profile);
                    }
                },
            }
        }
        if mistakes.is_empty() { Ok(profiles) } else { Err(mistakes) }
    }

    /// The files with tables of tax codes that profiles name, each once, in the order of the
    /// profiles.
    #[must_use]
    pub fn tax_code_files(&self) -> Vec<String> {
        let mut files: Vec<String> = Vec::new();
        for file in self.0.iter().filter_map(|profile| profile.tax_codes.file.as_ref()) {
            if !files.contains(file) {
                files.push(file.clone());
            }
        }
        files
    }

    /// Hands a table to every profile that names its file.
    #[must_use]
    pub fn with_tax_codes(mut self, file: &str, table: &TaxCodes) -> Self {
        for profile in &mut self.0 {
            if profile.tax_codes.file.as_deref() == Some(file) {
                profile.tax_codes.table = Some(table.clone());
            }
        }
        self
    }

    fn put(&mut self, profile: Profile) {
        match self.0.iter_mut().find(|known| known.name == profile.name) {
            Some(known) => *known = profile,
            None => self.0.push(profile),
        }
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
