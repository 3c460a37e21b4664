//! All packages of a disk.

use crate::{Distro, Ecosystem, Package};

/// What was found on a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The distribution.
    pub distro: Distro,
    /// Sorted, each once.
    pub packages: Vec<Package>,
    /// What could not be read, so that packages may be missing: for people.
    pub notes: Vec<String>,
}

impl Inventory {
    /// Sorts packages, and makes one of those that are the same at several places.
    pub fn new(distro: Distro, mut packages: Vec<Package>, notes: Vec<String>) -> Self {
        let key = |package: &Package| {
            (
                package.ecosystem,
                package.name.clone(),
                package.version.clone(),
                package.architecture.clone(),
                package.owner.clone(),
            )
        };
        packages.sort_by_cached_key(key);
        packages.dedup_by(|next, kept| {
            let same = key(next) == key(kept);
            if same {
                kept.paths.append(&mut next.paths);
                if kept.licenses.is_empty() {
                    kept.licenses = std::mem::take(&mut next.licenses);
                }
            }
            same
        });
        Self {
            distro,
            packages,
            notes,
        }
    }

    /// What a guest's own package manager listed, where the disk itself can't be looked into: names, versions, architectures.
    pub fn from_listing(
        distro: Distro,
        listing: impl IntoIterator<Item = (String, String, String)>,
    ) -> Self {
        let ecosystem = match distro.id.as_str() {
            "alpine" | "wolfi" | "chainguard" | "postmarketos" => Ecosystem::Apk,
            "debian" | "ubuntu" | "raspbian" | "linuxmint" | "pop" | "kali" | "devuan" => {
                Ecosystem::Deb
            }
            _ => Ecosystem::Rpm,
        };
        let packages = listing
            .into_iter()
            .map(|(name, version, architecture)| Package {
                architecture: Some(architecture),
                ..Package::new(ecosystem, name, version)
            })
            .collect();
        Self::new(distro, packages, Vec::new())
    }

    /// The packages of one ecosystem.
    pub fn of(&self, ecosystem: Ecosystem) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(move |package| package.ecosystem == ecosystem)
    }
}
