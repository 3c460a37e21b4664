//! What was found.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::policy::Spared;
use crate::severity::{Counts, Score, Severity};

/// A vulnerability in what is installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Finding {
    /// Its best known name: the CVE, if there is one.
    pub id: String,
    /// Its other names, and those of the records that tell of it; sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// One line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// How bad it is.
    pub severity: Severity,
    /// The CVSS base score that the severity is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Its vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<String>,
    /// All vectors that are known, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// Whose package: `debian:12`, `pypi`.
    pub ecosystem: String,
    /// The package that advisories speak of; of distributions mostly the source package.
    pub package: String,
    /// Its version; that of what is installed, where advisories name only this and it has one of its own.
    pub installed: String,
    /// The versions that correct it, lowest first; none if there is none yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<String>,
    /// What is installed of it.
    pub packages: Vec<Installed>,
    /// The records that say so, sorted.
    pub sources: Vec<String>,
    /// Addresses to read on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// What the distribution says of it, such as why there will be no correction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<Spared>,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture in its ecosystem's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Its package URL.
    pub purl: String,
    /// Who installs it, in the word of package URLs: `deb`, `npm`.
    pub kind: String,
    /// Files of the disk by which it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// What was found altogether.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// Worst first; in the same order for the same disk and database.
    pub findings: Vec<Finding>,
    /// What could not be looked up, for people.
    pub remarks: Vec<String>,
    /// Packages that were looked up.
    pub checked: usize,
}

impl Finding {
    /// Whether a version corrects it.
    pub fn is_fixable(&self) -> bool {
        !self.fixed.is_empty()
    }

    /// Whether it has a name.
    pub fn is_named(&self, id: &str) -> bool {
        self.id == id || self.aliases.iter().any(|alias| alias == id)
    }

    /// Whether it is about a package, by the name of its sources or that of what is installed.
    pub fn is_about(&self, package: &str) -> bool {
        self.package == package
            || self
                .packages
                .iter()
                .any(|installed| installed.name == package)
    }

    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let score = |finding: &Self| finding.score.unwrap_or_default();
        other
            .severity
            .cmp(&self.severity)
            .then_with(|| score(other).total_cmp(&score(self)))
            .then_with(|| self.id.cmp(&other.id))
            .then_with(|| self.ecosystem.cmp(&other.ecosystem))
            .then_with(|| self.package.cmp(&other.package))
            .then_with(|| self.installed.cmp(&other.installed))
    }
}

impl Findings {
    /// How many there are, but for those that an exception spares.
    pub fn counts(&self) -> Counts {
        Counts::of(
            self.findings
                .iter()
                .filter(|finding| finding.exception.is_none())
                .map(|finding| finding.severity),
        )
    }
}
