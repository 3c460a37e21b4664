//! Semantic versions: three numbers given by people, a build number given by the store, and patterns of them.
//!
//! The rules are the service's: each number is below 2^30, a wildcard `x` may be followed only by `x`, and of several
//! fitting versions the one with the highest number at the first differing node is the newest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest number that a node of a version may have: the service packs versions into integers of 30 bits a node.
pub const LARGEST_NODE: u32 = (1 << 30) - 1;

/// What a text says that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not three parts between dots.
    #[error("`{0}` has not three numbers between dots")]
    Form(String),
    /// A part that is no number, or one with a sign.
    #[error("`{part}` in `{text}` is not a number")]
    Number {
        /// The whole text.
        text: String,
        /// The part.
        part: String,
    },
    /// A number above [`LARGEST_NODE`].
    #[error("`{part}` in `{text}` is larger than {LARGEST_NODE}")]
    TooLarge {
        /// The whole text.
        text: String,
        /// The part.
        part: String,
    },
    /// A wildcard where a version has to be exact.
    #[error("`{0}` has a wildcard")]
    Wildcard(String),
    /// A number after an `x`.
    #[error("`{0}` has a number after an `x`")]
    NumberAfterWildcard(String),
    /// A build number after a wildcard, or none where one is needed.
    #[error("`{0}` has no place for a build number, or lacks one")]
    Build(String),
}

impl VersionError {
    /// What would have been right.
    pub fn expected(&self) -> &'static str {
        match self {
            Self::Form(_) | Self::Number { .. } => "three numbers, such as 1.0.0",
            Self::TooLarge { .. } => "numbers from 0 to 1073741823 (2^30 - 1)",
            Self::Wildcard(_) => "three numbers without `x`",
            Self::NumberAfterWildcard(_) => "`x` only at the end: x.x.x, 1.x.x or 1.2.x",
            Self::Build(_) => "a build number after an exact version, such as 1.0.0/1",
        }
    }
}

/// `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl Version {
    /// Makes a version; numbers above [`LARGEST_NODE`] are cut to it.
    pub fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major: major.min(LARGEST_NODE),
            minor: minor.min(LARGEST_NODE),
            patch: patch.min(LARGEST_NODE),
        }
    }

    /// The numbers in order of weight.
    pub fn nodes(self) -> [u32; 3] {
        [self.major, self.minor, self.patch]
    }

    /// This version with a build number.
    pub fn build(self, build: u32) -> BuildVersion {
        BuildVersion {
            version: self,
            build,
        }
    }

    /// The three patterns in which this version may be the newest: `x.x.x`, `1.x.x`, `1.2.x`.
    pub fn wildcards(self) -> [VersionPattern; 3] {
        let [major, minor, _] = self.nodes();
        [
            VersionPattern::ANY,
            VersionPattern::of([Some(major), None, None]),
            VersionPattern::of([Some(major), Some(minor), None]),
        ]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        match nodes(text)? {
            [Some(major), Some(minor), Some(patch)] => Ok(Self {
                major,
                minor,
                patch,
            }),
            _ => Err(VersionError::Wildcard(text.to_owned())),
        }
    }
}

/// A version with its build number: `1.0.0/2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuildVersion {
    /// The version.
    pub version: Version,
    /// The number that the store gave, from 1.
    pub build: u32,
}

impl fmt::Display for BuildVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.build)
    }
}

impl FromStr for BuildVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let pattern: VersionPattern = text.parse()?;
        pattern
            .exact()
            .zip(pattern.build)
            .map(|(version, build)| version.build(build))
            .ok_or_else(|| VersionError::Build(text.to_owned()))
    }
}

/// What a reference asks for: `x.x.x`, `1.x.x`, `1.2.x`, `1.2.3` or `1.2.3/4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionPattern {
    nodes: [Option<u32>; 3],
    build: Option<u32>,
}

impl VersionPattern {
    /// The pattern that every version fits.
    pub const ANY: Self = Self::of([None; 3]);

    const fn of(nodes: [Option<u32>; 3]) -> Self {
        Self { nodes, build: None }
    }

    /// The pattern of one version, whatever its build.
    pub fn exactly(version: Version) -> Self {
        Self::of(version.nodes().map(Some))
    }

    /// The version, if no node is open.
    pub fn exact(&self) -> Option<Version> {
        match self.nodes {
            [Some(major), Some(minor), Some(patch)] => Some(Version {
                major,
                minor,
                patch,
            }),
            _ => None,
        }
    }

    /// The build number, if one is asked for.
    pub fn build(&self) -> Option<u32> {
        self.build
    }

    /// Whether a node is open.
    pub fn has_wildcard(&self) -> bool {
        self.exact().is_none()
    }

    /// The nodes; `None` is an `x`.
    pub fn nodes(&self) -> [Option<u32>; 3] {
        self.nodes
    }

    /// Whether a version fits; a build number that the pattern asks for is left out of account.
    pub fn matches(&self, version: Version) -> bool {
        self.nodes
            .iter()
            .zip(version.nodes())
            .all(|(node, number)| node.is_none_or(|node| node == number))
    }

    /// Whether a build of a version fits.
    pub fn matches_build(&self, version: BuildVersion) -> bool {
        self.matches(version.version) && self.build.is_none_or(|build| build == version.build)
    }

    /// The newest of the fitting builds: the highest version, and of that the highest build.
    pub fn newest(&self, versions: impl IntoIterator<Item = BuildVersion>) -> Option<BuildVersion> {
        versions
            .into_iter()
            .filter(|version| self.matches_build(*version))
            .max()
    }

    /// The number that auto-increment gives: the first open node becomes one more than its highest under the fixed nodes
    /// (0 if there is none), nodes after it become 0. `None` if the pattern is exact or the numbers have run out.
    pub fn next(&self, existing: impl IntoIterator<Item = Version>) -> Option<Version> {
        let open = self.nodes.iter().position(Option::is_none)?;
        let highest = existing
            .into_iter()
            .filter(|version| self.matches(*version))
            .map(|version| version.nodes()[open])
            .max();
        let number = match highest {
            Some(highest) if highest >= LARGEST_NODE => return None,
            Some(highest) => highest + 1,
            None => 0,
        };
        let mut nodes = self.nodes.map(|node| node.unwrap_or(0));
        nodes[open] = number;
        Some(Version::new(nodes[0], nodes[1], nodes[2]))
    }
}

impl fmt::Display for VersionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, node) in self.nodes.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            match node {
                Some(number) => write!(f, "{number}")?,
                None => f.write_str("x")?,
            }
        }
        match self.build {
            Some(build) => write!(f, "/{build}"),
            None => Ok(()),
        }
    }
}

impl FromStr for VersionPattern {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let Some((version, build)) = text.split_once('/') else {
            return Ok(Self::of(nodes(text)?));
        };
        let nodes = nodes(version)?;
        if nodes.iter().any(Option::is_none) {
            return Err(VersionError::Build(text.to_owned()));
        }
        let build = number(text, build)?;
        if build == 0 {
            return Err(VersionError::Build(text.to_owned()));
        }
        Ok(Self {
            nodes,
            build: Some(build),
        })
    }
}

impl From<Version> for VersionPattern {
    fn from(version: Version) -> Self {
        Self::exactly(version)
    }
}

impl From<BuildVersion> for VersionPattern {
    fn from(version: BuildVersion) -> Self {
        Self {
            build: Some(version.build),
            ..Self::exactly(version.version)
        }
    }
}

/// The version that a document gives itself: exact, or with trailing `x` for "the next free number" (recipes only).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionSpec {
    /// This version.
    Exact(Version),
    /// The next free number under these nodes.
    Next(VersionPattern),
}

impl VersionSpec {
    /// The version, if it is exact.
    pub fn exact(&self) -> Option<Version> {
        match self {
            Self::Exact(version) => Some(*version),
            Self::Next(_) => None,
        }
    }

    /// What a reference to this document would ask for.
    pub fn pattern(&self) -> VersionPattern {
        match self {
            Self::Exact(version) => VersionPattern::exactly(*version),
            Self::Next(pattern) => *pattern,
        }
    }
}

impl fmt::Display for VersionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern().fmt(f)
    }
}

impl FromStr for VersionSpec {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let pattern = VersionPattern::of(nodes(text)?);
        Ok(pattern.exact().map_or(Self::Next(pattern), Self::Exact))
    }
}

/// Three nodes between dots, `None` for an `x`, which only another `x` may follow.
fn nodes(text: &str) -> Result<[Option<u32>; 3], VersionError> {
    if text.split('.').count() != 3 {
        return Err(VersionError::Form(text.to_owned()));
    }
    let mut nodes = [None; 3];
    for (node, part) in nodes.iter_mut().zip(text.split('.')) {
        *node = if part == "x" {
            None
        } else {
            Some(number(text, part)?)
        };
    }
    let number_after_wildcard = nodes
        .windows(2)
        .any(|pair| pair[0].is_none() && pair[1].is_some());
    if number_after_wildcard {
        return Err(VersionError::NumberAfterWildcard(text.to_owned()));
    }
    Ok(nodes)
}

/// Leading zeros are taken, for people who write dates (`2021.01.01`); the number counts, so that is `2021.1.1`.
fn number(text: &str, part: &str) -> Result<u32, VersionError> {
    if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VersionError::Number {
            text: text.to_owned(),
            part: part.to_owned(),
        });
    }
    let digits = part.trim_start_matches('0');
    let parsed = if digits.is_empty() {
        Ok(0)
    } else {
        digits.parse()
    };
    parsed
        .ok()
        .filter(|number| *number <= LARGEST_NODE)
        .ok_or_else(|| VersionError::TooLarge {
            text: text.to_owned(),
            part: part.to_owned(),
        })
}

/// Versions are texts in documents and records.
macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    )+};
}

as_text!(Version, BuildVersion, VersionPattern, VersionSpec);
