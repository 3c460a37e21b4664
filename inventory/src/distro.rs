//! Which distribution a disk holds, as `/etc/os-release` says.

/// A distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distro {
    /// `debian`, `alpine`, `rocky`; empty if the disk does not say.
    pub id: String,
    /// `12`, `3.20.1`, `9.4`; empty for one that rolls.
    pub version: String,
    /// `bookworm`, where there is one.
    pub codename: String,
    /// For people.
    pub pretty_name: String,
}

/// Longer than any value that people write; the rest is cut off.
const LONGEST: usize = 200;

impl Distro {
    /// Reads the text of an `os-release` file.
    pub fn parse(text: &str) -> Self {
        let mut distro = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            let value: String = value
                .chars()
                .filter(|letter| !letter.is_control())
                .take(LONGEST)
                .collect();
            match key.trim() {
                "ID" => distro.id = value.to_lowercase(),
                "VERSION_ID" => distro.version = value,
                "VERSION_CODENAME" => distro.codename = value,
                "PRETTY_NAME" => distro.pretty_name = value,
                _ => {}
            }
        }
        distro
    }

    /// The vendor in package URLs.
    pub fn vendor(&self) -> &str {
        match self.id.as_str() {
            "" => "unknown",
            "rhel" => "redhat",
            id if id.starts_with("opensuse") => "opensuse",
            id => id,
        }
    }

    /// The `distro` qualifier of package URLs: `debian-12`.
    pub fn qualifier(&self) -> Option<String> {
        let version = if self.version.is_empty() {
            &self.codename
        } else {
            &self.version
        };
        match (self.id.as_str(), version.as_str()) {
            ("", _) => None,
            (id, "") => Some(id.to_owned()),
            (id, version) => Some(format!("{id}-{version}")),
        }
    }

    /// What [`qualifier`](Self::qualifier) gave.
    pub fn from_qualifier(text: &str) -> Self {
        // Some ids have hyphens of their own; versions begin with a digit.
        let cut = text
            .match_indices('-')
            .map(|(at, _)| at)
            .find(|&at| text[at + 1..].starts_with(|first: char| first.is_ascii_digit()));
        let (id, version) = cut.map_or((text, ""), |at| (&text[..at], &text[at + 1..]));
        Self {
            id: id.to_owned(),
            version: version.to_owned(),
            ..Self::default()
        }
    }

    /// The first part of the version: `9` of `9.4`.
    pub fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or(&self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_with_and_without_quotes() {
        let distro = Distro::parse(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID='12'\nVERSION_CODENAME=bookworm\nX\n=\n",
        );
        assert_eq!(distro.id, "debian");
        assert_eq!(distro.pretty_name, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(distro.codename, "bookworm");
        assert_eq!(distro.qualifier().unwrap(), "debian-12");
        assert_eq!(Distro::default().qualifier(), None);
    }

    #[test]
    fn qualifiers_are_read_back() {
        for (text, id, version) in [
            ("debian-12", "debian", "12"),
            ("opensuse-leap-15.6", "opensuse-leap", "15.6"),
            ("arch", "arch", ""),
            ("opensuse-tumbleweed", "opensuse-tumbleweed", ""),
        ] {
            let distro = Distro::from_qualifier(text);
            assert_eq!((distro.id.as_str(), distro.version.as_str()), (id, version));
        }
    }
}
