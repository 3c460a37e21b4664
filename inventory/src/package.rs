//! A package, whoever installed it.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Distro, Purl};

/// Who gives a package its name and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecosystem {
    /// Debian and its derivatives.
    Deb,
    /// Those that use RPM.
    Rpm,
    /// Alpine and its derivatives.
    Apk,
    /// The Python Package Index.
    PyPi,
    /// The npm registry.
    Npm,
    /// crates.io.
    Cargo,
    /// Go modules, and Go's own library.
    Go,
}

impl Ecosystem {
    /// All, in their order.
    pub const ALL: [Self; 7] = [
        Self::Deb,
        Self::Rpm,
        Self::Apk,
        Self::PyPi,
        Self::Npm,
        Self::Cargo,
        Self::Go,
    ];

    /// The type in a package URL.
    pub const fn purl_type(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
            Self::PyPi => "pypi",
            Self::Npm => "npm",
            Self::Cargo => "cargo",
            Self::Go => "golang",
        }
    }

    /// Whether a distribution makes these packages, with versions and corrections of its own.
    pub const fn is_of_a_distribution(self) -> bool {
        matches!(self, Self::Deb | Self::Rpm | Self::Apk)
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.purl_type())
    }
}

/// The package of sources that a package was built from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its version, where it is known.
    pub version: Option<String>,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Who names it.
    pub ecosystem: Ecosystem,
    /// Its name, as its ecosystem writes it; a scope or path belongs to it.
    pub name: String,
    /// Its version in the ecosystem's own form, with the epoch.
    pub version: String,
    /// Its architecture in the ecosystem's own word.
    pub architecture: Option<String>,
    /// What it was built from; none if that has the same name and version.
    pub source: Option<Source>,
    /// The licences that it declares, all of which apply.
    pub licenses: Vec<String>,
    /// Who made it.
    pub supplier: Option<String>,
    /// The checksum by which its ecosystem knows it, in that one's own form: `h1:…` of a Go module.
    pub checksum: Option<String>,
    /// The package of the distribution that brought it along, for a package inside of another.
    pub owner: Option<String>,
    /// By which files of the disk it is known.
    pub paths: BTreeSet<String>,
}

impl Package {
    /// A package of which no more is known.
    pub fn new(ecosystem: Ecosystem, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            ecosystem,
            name: name.into(),
            version: version.into(),
            architecture: None,
            source: None,
            licenses: Vec::new(),
            supplier: None,
            checksum: None,
            owner: None,
            paths: BTreeSet::new(),
        }
    }

    /// The name under which sources of it are known: advisories of distributions are about these.
    pub fn source_name(&self) -> &str {
        self.source
            .as_ref()
            .map_or(&self.name, |source| &source.name)
    }

    /// The version of its sources.
    pub fn source_version(&self) -> &str {
        self.source
            .as_ref()
            .and_then(|source| source.version.as_deref())
            .unwrap_or(&self.version)
    }

    /// Its package URL.
    pub fn purl(&self, distro: &Distro) -> Purl {
        Purl::of(self, distro)
    }
}
