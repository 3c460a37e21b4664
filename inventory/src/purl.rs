//! Package URLs: one way to name a package, whoever made it.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Distro, Ecosystem, Package, Source};

/// A package URL in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Purl {
    kind: String,
    namespace: Vec<String>,
    name: String,
    version: Option<String>,
    qualifiers: BTreeMap<String, String>,
}

/// Why a text is not a package URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PurlError {
    /// It begins otherwise.
    #[error("a package URL begins with `pkg:`")]
    Scheme,
    /// A type or a name is missing.
    #[error("a package URL has a type and a name")]
    Incomplete,
    /// A percent sign without two digits, or bytes that are no text.
    #[error("a part of the package URL is not encoded as it must be")]
    Encoding,
}

impl Purl {
    pub(crate) fn of(package: &Package, distro: &Distro) -> Self {
        let mut qualifiers = BTreeMap::new();
        let mut add = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                qualifiers.insert(key.to_owned(), value);
            }
        };
        let mut version = package.version.as_str();
        let (namespace, name) = match package.ecosystem {
            Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk => {
                add("arch", package.architecture.clone());
                add("distro", distro.qualifier());
                add("upstream", package.source.as_ref().map(upstream));
                if package.ecosystem == Ecosystem::Rpm
                    && let Some((epoch, rest)) = version.split_once(':')
                {
                    add("epoch", Some(epoch.to_owned()));
                    version = rest;
                }
                let name = match package.ecosystem {
                    Ecosystem::Rpm => package.name.clone(),
                    _ => package.name.to_lowercase(),
                };
                (vec![distro.vendor().to_owned()], name)
            }
            Ecosystem::PyPi => (Vec::new(), package.name.to_lowercase().replace('_', "-")),
            Ecosystem::Npm => split_path(&package.name),
            Ecosystem::Cargo => (Vec::new(), package.name.clone()),
            Ecosystem::Go => split_path(&package.name.to_lowercase()),
        };
        Self {
            kind: package.ecosystem.purl_type().to_owned(),
            namespace,
            name,
            version: (!version.is_empty()).then(|| version.to_owned()),
            qualifiers,
        }
    }

    /// Reads a package URL.
    ///
    /// # Errors
    /// [`PurlError`] says what it lacks.
    pub fn parse(text: &str) -> Result<Self, PurlError> {
        let rest = text.strip_prefix("pkg:").ok_or(PurlError::Scheme)?;
        // Two slashes as other URLs have them are tolerated.
        let rest = rest.trim_start_matches('/');
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, rest) = rest.split_once('/').ok_or(PurlError::Incomplete)?;
        let (path, version) = match rest.rsplit_once('@') {
            // The scope of npm begins with the same character, and not everybody encodes it.
            Some((path, version)) if !path.is_empty() && !path.ends_with('/') => {
                (path, Some(decode(version)?))
            }
            _ => (rest, None),
        };
        let mut segments = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(decode)
            .collect::<Result<Vec<_>, _>>()?;
        let name = segments.pop().ok_or(PurlError::Incomplete)?;
        let qualifiers = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| Ok((key.to_lowercase(), decode(value)?)))
            .collect::<Result<_, PurlError>>()?;
        if kind.is_empty() {
            return Err(PurlError::Incomplete);
        }
        Ok(Self {
            kind: kind.to_lowercase(),
            namespace: segments,
            name,
            version: version.filter(|version| !version.is_empty()),
            qualifiers,
        })
    }

    /// The package and its distribution that the URL names; none if it is of an ecosystem that is not known here.
    pub fn package(&self) -> Option<(Package, Distro)> {
        let ecosystem = Ecosystem::ALL
            .into_iter()
            .find(|ecosystem| ecosystem.purl_type() == self.kind)?;
        let get = |key: &str| self.qualifiers.get(key).cloned();
        let version = self.version.clone().unwrap_or_default();
        let mut package = Package::new(ecosystem, self.name.clone(), version);
        if !ecosystem.is_of_a_distribution() {
            let mut parts = self.namespace.clone();
            parts.push(self.name.clone());
            package.name = parts.join("/");
            return Some((package, Distro::default()));
        }
        if let Some(epoch) = get("epoch")
            && ecosystem == Ecosystem::Rpm
        {
            package.version = format!("{epoch}:{}", package.version);
        }
        package.architecture = get("arch");
        package.source = get("upstream").map(|upstream| match upstream.split_once('@') {
            Some((name, version)) => Source {
                name: name.to_owned(),
                version: Some(version.to_owned()),
            },
            None => Source {
                name: upstream,
                version: None,
            },
        });
        let distro = match get("distro") {
            Some(distro) => Distro::from_qualifier(&distro),
            None => Distro {
                id: self.namespace.first().cloned().unwrap_or_default(),
                ..Distro::default()
            },
        };
        Some((package, distro))
    }
}

fn upstream(source: &Source) -> String {
    match &source.version {
        Some(version) => format!("{}@{version}", source.name),
        None => source.name.clone(),
    }
}

fn split_path(name: &str) -> (Vec<String>, String) {
    let mut parts: Vec<String> = name
        .split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    let last = parts.pop().unwrap_or_default();
    (parts, last)
}

impl fmt::Display for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pkg:{}/", self.kind)?;
        for part in &self.namespace {
            write!(f, "{}/", Encoded(part))?;
        }
        write!(f, "{}", Encoded(&self.name))?;
        if let Some(version) = &self.version {
            write!(f, "@{}", Encoded(version))?;
        }
        for (at, (key, value)) in self.qualifiers.iter().enumerate() {
            let between = if at == 0 { '?' } else { '&' };
            write!(f, "{between}{key}={}", Encoded(value))?;
        }
        Ok(())
    }
}

struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            // The colon is the one separator that is never encoded.
            if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

fn decode(text: &str) -> Result<String, PurlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || {
                let digit = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(digit).ok()
            };
            let (high, low) = digit().zip(digit()).ok_or(PurlError::Encoding)?;
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| PurlError::Encoding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn debian() -> Distro {
        Distro::parse("ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm")
    }

    #[test]
    fn each_type_by_its_own_rules() {
        let fedora = Distro::parse("ID=fedora\nVERSION_ID=40");
        let alpine = Distro::parse("ID=alpine\nVERSION_ID=3.20.1");
        let deb = Package {
            architecture: Some("amd64".into()),
            source: Some(Source {
                name: "gcc-12".into(),
                version: Some("12.2.0-14+deb12u1".into()),
            }),
            ..Package::new(Ecosystem::Deb, "libstdc++6", "12.2.0-14")
        };
        let epoch = Package::new(Ecosystem::Deb, "vim", "2:9.0~rc1-1");
        let rpm = Package {
            architecture: Some("x86_64".into()),
            ..Package::new(Ecosystem::Rpm, "NetworkManager", "1:1.46.0-2.fc40")
        };
        let apk = Package::new(Ecosystem::Apk, "musl", "1.2.5-r0");
        let plain = |ecosystem, name: &str| Package::new(ecosystem, name, "1.0");
        for (package, distro, url) in [
            (
                deb,
                debian(),
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2.0-14%2Bdeb12u1",
            ),
            (
                epoch,
                debian(),
                "pkg:deb/debian/vim@2:9.0~rc1-1?distro=debian-12",
            ),
            (
                rpm,
                fedora,
                "pkg:rpm/fedora/NetworkManager@1.46.0-2.fc40?arch=x86_64&distro=fedora-40&epoch=1",
            ),
            (
                apk,
                alpine,
                "pkg:apk/alpine/musl@1.2.5-r0?distro=alpine-3.20.1",
            ),
            (
                plain(Ecosystem::PyPi, "Typing_Extensions"),
                debian(),
                "pkg:pypi/typing-extensions@1.0",
            ),
            (
                plain(Ecosystem::Npm, "@babel/core"),
                debian(),
                "pkg:npm/%40babel/core@1.0",
            ),
            (
                plain(Ecosystem::Cargo, "serde_json"),
                debian(),
                "pkg:cargo/serde_json@1.0",
            ),
            (
                plain(Ecosystem::Go, "github.com/Masterminds/semver/v3"),
                debian(),
                "pkg:golang/github.com/masterminds/semver/v3@1.0",
            ),
        ] {
            assert_eq!(package.purl(&distro).to_string(), url);
            let read = Purl::parse(url).unwrap();
            assert_eq!(read.to_string(), url);
            let (back, _) = read.package().unwrap();
            assert_eq!(back.version, package.version);
            if package.ecosystem.is_of_a_distribution() {
                assert_eq!(back.source_name(), package.source_name());
            }
            assert_eq!(back.purl(&distro).to_string(), url);
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for (text, error) in [
            ("", PurlError::Scheme),
            ("http://x/y", PurlError::Scheme),
            ("pkg:deb", PurlError::Incomplete),
            ("pkg:/", PurlError::Incomplete),
            ("pkg:deb/", PurlError::Incomplete),
            ("pkg:deb/debian/x%2", PurlError::Encoding),
            ("pkg:deb/debian/%ff", PurlError::Encoding),
        ] {
            assert_eq!(Purl::parse(text), Err(error), "{text}");
        }
        assert_eq!(Purl::parse("pkg:gem/rails@7.0").unwrap().package(), None);
        // As some write it.
        let scoped = Purl::parse("pkg:npm/@babel/core").unwrap();
        assert_eq!(scoped.to_string(), "pkg:npm/%40babel/core");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(pkg:)?[a-z%@/?&=#:0-9\\PC]{0,40}") {
            if let Ok(purl) = Purl::parse(&text) {
                let once = purl.to_string();
                prop_assert_eq!(Purl::parse(&once).unwrap().to_string(), once);
            }
        }

        #[test]
        fn any_name_and_version_come_back(name in "\\PC{1,12}", version in "\\PC{1,12}") {
            let package = Package::new(Ecosystem::Cargo, name.clone(), version.clone());
            let (back, _) = Purl::parse(&package.purl(&debian()).to_string()).unwrap().package().unwrap();
            prop_assert_eq!(back, package);
        }
    }
}
