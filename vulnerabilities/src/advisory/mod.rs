//! What is said about vulnerabilities, whoever says it.

pub(crate) mod osv;
pub(crate) mod tracker;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::ecosystem::Release;
use crate::severity::{Score, Severity};
use crate::version::{Scheme, compare, compare_with_named, is_version};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A record of the OSV schema.
    Osv,
    /// Debian's security tracker.
    DebianTracker,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advisory {
    /// Its own name: `CVE-2024-1`, `DSA-1-1`, `GHSA-…`.
    pub id: String,
    /// Who speaks.
    pub kind: Kind,
    /// Other names of the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The vulnerabilities that it tells of; an advisory of a distribution may tell of many.
    pub about: Vec<String>,
    /// One line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// Vectors with their scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// What its vendor says in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// Addresses to read on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Which packages it is about.
    #[serde(skip)]
    pub affected: Vec<Affected>,
}

/// What a record says of one package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Affected {
    /// Whose package.
    #[serde(skip, default = "nobody")]
    pub release: Release,
    /// Its name; of distributions mostly that of the source package.
    #[serde(skip)]
    pub package: String,
    /// Stretches of versions. None, and no versions either: never affected.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    /// Single versions that are in no range.
    #[serde(rename = "v", default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// What the vendor says of it in a word.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// For people, such as why there will be no correction.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

fn nobody() -> Release {
    Release::stored(String::new())
}

/// A stretch of versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Range {
    /// In any order.
    pub events: Vec<Event>,
}

/// Where something changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Affected from here; `0` stands for all before.
    #[serde(rename = "i")]
    Introduced(String),
    /// Not affected from here.
    #[serde(rename = "f")]
    Fixed(String),
    /// Not affected after this.
    #[serde(rename = "l")]
    LastAffected(String),
    /// Nothing is said from here on.
    #[serde(rename = "m")]
    Limit(String),
}

/// What a record says of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It is vulnerable, up to the version that corrects it, if there is one.
    Affected {
        /// The next version without it.
        fixed: Option<String>,
    },
    /// It is not.
    NotAffected,
    /// A version of the record or the installed one can't be compared.
    Unknown,
}

impl Event {
    /// The version at which something changes.
    pub fn version(&self) -> &str {
        match self {
            Self::Introduced(version)
            | Self::Fixed(version)
            | Self::LastAffected(version)
            | Self::Limit(version) => version,
        }
    }

    /// Before every version, or after every one.
    fn is_unbounded(&self) -> bool {
        matches!(self, Self::Introduced(version) if version == "0")
            || matches!(self, Self::Limit(version) if version == "*")
    }
}

impl Range {
    /// What it says of a version: <https://ossf.github.io/osv-schema/#evaluation>.
    pub fn status(&self, scheme: Scheme, version: &str) -> Status {
        let comparable =
            |event: &Event| event.is_unbounded() || is_version(scheme, event.version());
        if !is_version(scheme, version) || !self.events.iter().all(comparable) {
            return Status::Unknown;
        }
        let order =
            |left: &str, right: &str| compare(scheme, left, right).unwrap_or(Ordering::Equal);
        let mut limits = self.events.iter().filter_map(|event| match event {
            Event::Limit(limit) => Some(limit.as_str()),
            _ => None,
        });
        let has_limits = limits.clone().next().is_some();
        if has_limits && !limits.any(|limit| limit == "*" || order(version, limit).is_lt()) {
            return Status::NotAffected;
        }
        let mut events: Vec<&Event> = self
            .events
            .iter()
            .filter(|event| !matches!(event, Event::Limit(_)))
            .collect();
        events.sort_by(
            |one, other| match (one.is_unbounded(), other.is_unbounded()) {
                (false, false) => order(one.version(), other.version()),
                (one, other) => other.cmp(&one),
            },
        );
        let mut affected = false;
        for event in events {
            let at = event.version();
            match event {
                Event::Introduced(_) if event.is_unbounded() || order(version, at).is_ge() => {
                    affected = true;
                }
                Event::Fixed(_) if order(version, at).is_ge() => affected = false,
                Event::Fixed(_) if affected => {
                    return Status::Affected {
                        fixed: Some(at.to_owned()),
                    };
                }
                Event::LastAffected(_)
                    if compare_with_named(scheme, version, at).is_some_and(Ordering::is_gt) =>
                {
                    affected = false;
                }
                _ => {}
            }
        }
        if affected {
            Status::Affected { fixed: None }
        } else {
            Status::NotAffected
        }
    }
}

impl Affected {
    /// What it says of a version of its package.
    pub fn status(&self, version: &str) -> Status {
        let scheme = self.release.scheme();
        let mut unknown = false;
        for range in &self.ranges {
            match range.status(scheme, version) {
                Status::NotAffected => {}
                Status::Unknown => unknown = true,
                affected @ Status::Affected { .. } => return affected,
            }
        }
        let same = |listed: &String| {
            listed == version
                || compare_with_named(scheme, version, listed).is_some_and(Ordering::is_eq)
        };
        if self.versions.iter().any(same) {
            return Status::Affected {
                fixed: self.next_fix(scheme, version),
            };
        }
        if unknown {
            Status::Unknown
        } else {
            Status::NotAffected
        }
    }

    /// The first correction after a version that is in no range.
    fn next_fix(&self, scheme: Scheme, version: &str) -> Option<String> {
        let fixes = self.ranges.iter().flat_map(|range| &range.events);
        fixes
            .filter_map(|event| match event {
                Event::Fixed(fixed) if compare(scheme, fixed, version)?.is_gt() => Some(fixed),
                _ => None,
            })
            .min_by(|one, other| compare(scheme, one, other).unwrap_or(Ordering::Equal))
            .cloned()
    }
}

/// Names of vulnerabilities in the order in which they are preferred: CVE, then GitHub's, then any other.
pub(crate) fn preference(id: &str) -> (u8, &str) {
    let rank = if id.starts_with("CVE-") {
        0
    } else if id.starts_with("GHSA-") {
        1
    } else {
        2
    };
    (rank, id)
}

/// Whether a text can be a name.
pub(crate) fn is_name(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && !text
            .chars()
            .any(|letter| letter.is_control() || letter == ' ')
}

/// The first line of a text, without control characters, not longer than a summary should be.
pub(crate) fn line(text: &str) -> String {
    const LONGEST: usize = 300;
    let first = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let mut line: String = first
        .chars()
        .filter(|letter| !letter.is_control())
        .take(LONGEST + 1)
        .collect();
    if line.chars().count() > LONGEST {
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
