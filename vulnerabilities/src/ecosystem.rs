//! Whose packages an advisory is about: OSV's names for ecosystems, and those that an inventory has.

use std::fmt;

use ovenbird_inventory::{Distro, Ecosystem, Package};

use crate::version::Scheme;

/// An ecosystem, with the release of a distribution where it is one: `debian:12`, `pypi`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(String);

/// Families of distributions: our name, OSV's, the rules of its versions.
const FAMILIES: [(&str, &str, Scheme); 12] = [
    ("debian", "Debian", Scheme::Dpkg),
    ("ubuntu", "Ubuntu", Scheme::Dpkg),
    ("alpine", "Alpine", Scheme::Apk),
    ("wolfi", "Wolfi", Scheme::Apk),
    ("chainguard", "Chainguard", Scheme::Apk),
    ("almalinux", "AlmaLinux", Scheme::Rpm),
    ("rocky", "Rocky Linux", Scheme::Rpm),
    ("rhel", "Red Hat", Scheme::Rpm),
    ("suse", "SUSE", Scheme::Rpm),
    ("opensuse", "openSUSE", Scheme::Rpm),
    ("mageia", "Mageia", Scheme::Rpm),
    ("photon", "Photon OS", Scheme::Rpm),
];

/// Code names that Debian's tracker has for releases.
const DEBIAN: [(&str, &str); 9] = [
    ("jessie", "8"),
    ("stretch", "9"),
    ("buster", "10"),
    ("bullseye", "11"),
    ("bookworm", "12"),
    ("trixie", "13"),
    ("forky", "14"),
    ("duke", "15"),
    ("sid", "sid"),
];

impl Release {
    /// Reads OSV's name of an ecosystem; none if nothing here can use it.
    ///
    /// The names: <https://ossf.github.io/osv-schema/#defined-ecosystems>.
    pub fn of_osv(name: &str) -> Option<Self> {
        let (family, release) = name.split_once(':').unwrap_or((name, ""));
        let language = match family {
            "PyPI" => Some(Ecosystem::PyPi),
            "npm" => Some(Ecosystem::Npm),
            "crates.io" => Some(Ecosystem::Cargo),
            "Go" => Some(Ecosystem::Go),
            _ => None,
        };
        if let Some(language) = language {
            return Some(Self(language.purl_type().to_owned()));
        }
        let (id, _, _) = FAMILIES.into_iter().find(|known| known.1 == family)?;
        let release = match id {
            "ubuntu" => ubuntu(release)?,
            "alpine" => release.strip_prefix('v').unwrap_or(release).to_owned(),
            "rhel" => red_hat(release)?,
            "suse" => suse(release)?,
            "opensuse" => release
                .strip_prefix("Leap ")
                .unwrap_or(release)
                .to_lowercase(),
            "rocky" | "almalinux" => release.split('.').next().unwrap_or(release).to_owned(),
            _ => release.to_owned(),
        };
        // Distributions without releases are one ecosystem; of the others a name without one says nothing.
        let rolls = matches!(id, "wolfi" | "chainguard");
        match (rolls, release.as_str()) {
            (true, _) => Some(Self(id.to_owned())),
            (false, "") => None,
            (false, release) => Some(Self(format!("{id}:{release}"))),
        }
    }

    /// A release of Debian by its code name, as the tracker has it.
    pub fn of_debian(codename: &str) -> Option<Self> {
        let (_, version) = DEBIAN.into_iter().find(|known| known.0 == codename)?;
        Some(Self(format!("debian:{version}")))
    }

    /// Whose package it is; none if that can't be told, or advisories are not about it.
    pub fn of_package(package: &Package, distro: &Distro) -> Option<Self> {
        if !package.ecosystem.is_of_a_distribution() {
            return Some(Self(package.ecosystem.purl_type().to_owned()));
        }
        Self::of_distro(distro)
    }

    /// A distribution as its `os-release` names it.
    pub fn of_distro(distro: &Distro) -> Option<Self> {
        let version = distro.version.as_str();
        let (id, release) = match distro.id.as_str() {
            // What is not released yet has a name and no number.
            "debian" if version.is_empty() => {
                return Self::of_debian(&distro.codename);
            }
            "debian" => ("debian", distro.major().to_owned()),
            "alpine" => {
                let minor: Vec<&str> = version.split('.').take(2).collect();
                ("alpine", minor.join("."))
            }
            id @ ("rhel" | "rocky" | "almalinux") => (id, distro.major().to_owned()),
            "sles" | "sled" | "sles_sap" => ("suse", version.to_owned()),
            "opensuse-leap" => ("opensuse", version.to_owned()),
            "opensuse-tumbleweed" => ("opensuse", "tumbleweed".to_owned()),
            id @ ("wolfi" | "chainguard") => return Some(Self(id.to_owned())),
            id @ ("ubuntu" | "mageia" | "photon") => (id, version.to_owned()),
            _ => return None,
        };
        (!release.is_empty()).then(|| Self(format!("{id}:{release}")))
    }

    /// What a database kept.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name in databases and reports.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The rules of its versions.
    pub fn scheme(&self) -> Scheme {
        let family = self.0.split(':').next().unwrap_or(&self.0);
        FAMILIES.into_iter().find(|known| known.0 == family).map_or(
            if family == Ecosystem::PyPi.purl_type() {
                Scheme::Pep440
            } else {
                Scheme::Semantic
            },
            |known| known.2,
        )
    }

    /// Whether it is one of Debian's, about which the tracker has the last word.
    pub fn is_debian(&self) -> bool {
        self.0.starts_with("debian:")
    }

    /// The sources that a signed kernel was made from, by the name of the sources of its signatures; none if it is no such name.
    ///
    /// Advisories know only those. Debian signs per architecture, <https://wiki.debian.org/SecureBoot>; Ubuntu per flavour.
    pub(crate) fn unsigned_kernel(&self, source: &str) -> Option<String> {
        let rest = source.strip_prefix("linux-signed")?;
        let flavour = if self.is_debian() {
            ["-amd64", "-arm64", "-i386"]
                .iter()
                .find_map(|architecture| rest.strip_suffix(architecture))?
        } else if self.0.starts_with("ubuntu:") {
            rest
        } else {
            return None;
        };
        (flavour.is_empty() || flavour.starts_with('-')).then(|| format!("linux{flavour}"))
    }

    /// A package's name as advisories are looked up by it.
    pub fn package_name(&self, name: &str) -> String {
        if self.0 == Ecosystem::PyPi.purl_type() {
            return python_name(name);
        }
        name.to_owned()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `22.04:LTS`, `24.10`. What only subscribers of Pro get has a name of its own, and is left out.
fn ubuntu(release: &str) -> Option<String> {
    let number = release.split(':').next()?;
    (number.starts_with(|first: char| first.is_ascii_digit())).then(|| number.to_owned())
}

/// `enterprise_linux:9::appstream`. Streams with support of their own are left out: their corrections are other ones.
fn red_hat(release: &str) -> Option<String> {
    let rest = release.strip_prefix("enterprise_linux:")?;
    let major = rest.split([':', '.']).next()?;
    (!major.is_empty()).then(|| major.to_owned())
}

/// `Linux Enterprise Server 15 SP5`, `Linux Enterprise Module for Basesystem 15 SP5` as `15.5`.
fn suse(release: &str) -> Option<String> {
    let rest = release.strip_prefix("Linux Enterprise ")?;
    let (rest, pack) = match rest.rsplit_once(" SP") {
        Some((rest, pack)) => (rest, Some(pack)),
        None => (rest, None),
    };
    let (product, major) = rest.rsplit_once(' ')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let known = product.starts_with("Server")
        || product.starts_with("Desktop")
        || product.starts_with("Module for");
    if !known || !number(major) || !pack.is_none_or(number) {
        return None;
    }
    Some(match pack {
        Some(pack) => format!("{major}.{pack}"),
        None => major.to_owned(),
    })
}

/// <https://packaging.python.org/en/latest/specifications/name-normalization/>
fn python_name(name: &str) -> String {
    let mut found = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '-' | '_' | '.' if found.ends_with('-') => {}
            '-' | '_' | '.' => found.push('-'),
            letter => found.extend(letter.to_lowercase()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_osv_are_those_of_os_release() {
        let distro = |id: &str, version: &str| Distro {
            id: id.into(),
            version: version.into(),
            ..Distro::default()
        };
        for (osv, id, version) in [
            ("Debian:12", "debian", "12"),
            ("Debian:11", "debian", "11.9"),
            ("Ubuntu:22.04:LTS", "ubuntu", "22.04"),
            ("Ubuntu:24.10", "ubuntu", "24.10"),
            ("Alpine:v3.19", "alpine", "3.19.1"),
            ("Rocky Linux:9", "rocky", "9.4"),
            ("AlmaLinux:9", "almalinux", "9.5"),
            ("Red Hat:enterprise_linux:9::baseos", "rhel", "9.2"),
            ("SUSE:Linux Enterprise Server 15 SP5", "sles", "15.5"),
            (
                "SUSE:Linux Enterprise Module for Basesystem 15 SP5",
                "sles",
                "15.5",
            ),
            ("SUSE:Linux Enterprise Server 12", "sles", "12"),
            ("openSUSE:Leap 15.6", "opensuse-leap", "15.6"),
            ("openSUSE:Tumbleweed", "opensuse-tumbleweed", "20241101"),
            ("Wolfi", "wolfi", "20230201"),
            ("Photon OS:5.0", "photon", "5.0"),
        ] {
            let found = Release::of_osv(osv);
            assert!(found.is_some(), "{osv}");
            assert_eq!(found, Release::of_distro(&distro(id, version)), "{osv}");
        }
        for other in [
            "Debian",
            "Ubuntu:Pro:18.04:LTS",
            "Red Hat:rhel_eus:9.4::appstream",
            "SUSE:Linux Enterprise Server 15 SP3-LTSS",
            "SUSE:Linux Enterprise Micro 5.5",
            "Maven",
            "",
        ] {
            assert_eq!(Release::of_osv(other), None, "{other}");
        }
    }

    #[test]
    fn a_debian_that_is_not_released_has_only_a_name() {
        let mut distro = Distro {
            id: "debian".into(),
            codename: "forky".into(),
            ..Distro::default()
        };
        assert_eq!(Release::of_distro(&distro).unwrap().as_str(), "debian:14");
        distro.codename.clear();
        assert_eq!(Release::of_distro(&distro), None);
    }

    #[test]
    fn signed_kernels_have_the_name_of_what_was_signed() {
        let debian = Release::of_osv("Debian:12").unwrap();
        let ubuntu = Release::of_osv("Ubuntu:22.04:LTS").unwrap();
        let rocky = Release::of_osv("Rocky Linux:9").unwrap();
        for (release, source, kernel) in [
            (&debian, "linux-signed-amd64", Some("linux")),
            (&debian, "linux-signed-arm64", Some("linux")),
            (&debian, "linux-signed-i386", Some("linux")),
            (&debian, "linux-signed-6.1-amd64", Some("linux-6.1")),
            (&debian, "linux-signed-aws", None),
            (&debian, "linux", None),
            (&debian, "linux-latest", None),
            (&ubuntu, "linux-signed", Some("linux")),
            (&ubuntu, "linux-signed-aws", Some("linux-aws")),
            (&ubuntu, "linux-signed-hwe-6.5", Some("linux-hwe-6.5")),
            (&ubuntu, "linux-signedness", None),
            (&ubuntu, "linux-meta-aws", None),
            (&rocky, "linux-signed", None),
        ] {
            assert_eq!(
                release.unsigned_kernel(source).as_deref(),
                kernel,
                "{release} {source}"
            );
        }
    }

    #[test]
    fn names_of_python_have_one_form() {
        let pypi = Release::of_osv("PyPI").unwrap();
        assert_eq!(pypi.package_name("Zope.Interface"), "zope-interface");
        assert_eq!(pypi.package_name("a__b-.c"), "a-b-c");
        assert_eq!(pypi.scheme(), Scheme::Pep440);
        assert_eq!(Release::of_osv("Go").unwrap().scheme(), Scheme::Semantic);
        assert_eq!(Release::of_osv("Wolfi").unwrap().scheme(), Scheme::Apk);
    }
}
