//! Versions of base images: three numbers, and patterns of them.
//!
//! Distributions number their images in a dozen ways; each catalogue entry maps its own to three numbers that sort as the
//! images were made, such as `12.20260101.0` (release, date, serial).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{CatalogError, Result};

/// The version of one base image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// Mostly the release of the distribution.
    pub major: u64,
    /// Mostly the date.
    pub minor: u64,
    /// Mostly the serial on that date.
    pub patch: u64,
}

impl Version {
    /// Makes a version of three numbers.
    pub const fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self> {
        match VersionPattern::from_str(text) {
            Ok(VersionPattern {
                parts: [Some(major), Some(minor), Some(patch)],
            }) => Ok(Self {
                major,
                minor,
                patch,
            }),
            _ => Err(CatalogError::BadVersion {
                text: text.to_owned(),
                wildcards: false,
            }),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = CatalogError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// A version in which the last parts may be open: `x.x.x`, `12.x.x`, `12.20260101.x`, `12.20260101.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionPattern {
    parts: [Option<u64>; 3],
}

impl VersionPattern {
    /// The pattern that every version fits.
    pub const ANY: Self = Self { parts: [None; 3] };

    /// The pattern that only one version fits.
    pub const fn exactly(version: Version) -> Self {
        Self {
            parts: [
                Some(version.major),
                Some(version.minor),
                Some(version.patch),
            ],
        }
    }

    /// Whether no part is open.
    pub fn is_exact(&self) -> bool {
        self.parts.iter().all(Option::is_some)
    }

    /// Whether a version fits.
    pub fn matches(&self, version: &Version) -> bool {
        let numbers = [version.major, version.minor, version.patch];
        self.parts
            .iter()
            .zip(numbers)
            .all(|(part, number)| part.is_none_or(|part| part == number))
    }
}

impl fmt::Display for VersionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            match part {
                Some(number) => write!(f, "{number}")?,
                None => f.write_str("x")?,
            }
        }
        Ok(())
    }
}

impl FromStr for VersionPattern {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || CatalogError::BadVersion {
            text: text.to_owned(),
            wildcards: true,
        };
        let mut parts = [None; 3];
        let mut pieces = text.split('.');
        for part in &mut parts {
            *part = match pieces.next().ok_or_else(bad)? {
                "x" => None,
                // Leading zeros and signs would let two texts name one version.
                digits
                    if digits.bytes().all(|b| b.is_ascii_digit())
                        && (digits == "0" || !digits.starts_with('0')) =>
                {
                    Some(digits.parse().map_err(|_| bad())?)
                }
                _ => return Err(bad()),
            };
        }
        // As in the service: after an open part all following ones are open too.
        let open_then_fixed = parts
            .windows(2)
            .any(|pair| pair[0].is_none() && pair[1].is_some());
        if pieces.next().is_some() || open_then_fixed {
            return Err(bad());
        }
        Ok(Self { parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        let table = [
            ("x.x.x", "1.2.3", Some(true)),
            ("1.x.x", "1.2.3", Some(true)),
            ("1.x.x", "2.2.3", Some(false)),
            ("1.2.x", "1.2.99", Some(true)),
            ("1.2.3", "1.2.3", Some(true)),
            ("1.2.3", "1.2.4", Some(false)),
            ("x.2.x", "1.2.3", None),
            ("1.2", "1.2.3", None),
            ("1.2.3.4", "1.2.3", None),
            ("01.2.3", "1.2.3", None),
            ("+1.2.3", "1.2.3", None),
            ("", "1.2.3", None),
            ("99999999999999999999.0.0", "1.2.3", None),
        ];
        for (pattern, version, expected) in table {
            let version: Version = version.parse().unwrap();
            let got = pattern
                .parse::<VersionPattern>()
                .ok()
                .map(|pattern| pattern.matches(&version));
            assert_eq!(got, expected, "{pattern} on {version}");
        }
    }

    #[test]
    fn a_version_has_no_wildcards() {
        let error = "12.x.x".parse::<Version>().unwrap_err();
        insta::assert_snapshot!(error, @r#""12.x.x" is no version: want three numbers such as 12.20260101.0"#);
    }

    proptest! {
        #[test]
        fn text_and_order_agree(a in any::<[u64; 3]>(), b in any::<[u64; 3]>()) {
            let [x, y] = [a, b].map(|n| Version::new(n[0], n[1], n[2]));
            prop_assert_eq!(x.to_string().parse::<Version>().unwrap(), x);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert!(x.to_string().parse::<VersionPattern>().unwrap().matches(&x));
        }
    }
}
