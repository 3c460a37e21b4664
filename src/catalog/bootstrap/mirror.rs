//! The package mirror that this machine is set up with, read from apt's own sources.

use camino::{Utf8Path, Utf8PathBuf};

use crate::catalog::{CatalogError, Result};

/// Where Debian's keys lie, by its package debian-archive-keyring.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The names by which a source can be told to be Debian's own and not Ubuntu's or a vendor's.
const DEBIAN_SUITES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// A mirror of Debian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The archive.
    pub archive: String,
    /// The archive of security updates, a separate one.
    pub security: Option<String>,
    /// The keys that may sign it.
    pub keyring: Utf8PathBuf,
}

/// An entry of apt's sources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    keyring: Option<String>,
}

impl Mirror {
    /// A mirror at an address, without security updates unless its packages come with them.
    pub fn at(uri: &str) -> Self {
        Self {
            archive: uri.trim_end_matches('/').to_owned(),
            security: None,
            keyring: DEBIAN_KEYRING.into(),
        }
    }

    /// The mirror that this machine takes its own packages from.
    ///
    /// # Errors
    /// [`CatalogError::NoMirror`] if this is not a Debian, or not set up with a network mirror.
    pub fn of_this_machine() -> Result<Self> {
        Self::of(&read(Utf8Path::new("/etc/apt"))).ok_or_else(|| CatalogError::NoMirror {
            distribution: "Debian".into(),
        })
    }

    fn of(sources: &[Source]) -> Option<Self> {
        let serving = |security: bool| {
            sources.iter().find_map(|source| {
                let suite = source.suites.iter().any(|suite| {
                    let (name, pocket) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
                    // Until Debian 10 the pocket was called "updates", on an archive of its own.
                    DEBIAN_SUITES.contains(&name)
                        && (pocket == "security") == security
                        && (security || pocket.is_empty())
                });
                let uri = source.uris.iter().find(|uri| {
                    ["http://", "https://", "file:"]
                        .iter()
                        .any(|scheme| uri.starts_with(scheme))
                });
                uri.filter(|_| {
                    suite
                        && source
                            .components
                            .iter()
                            .any(|component| component == "main")
                })
                .map(|uri| (uri, source))
            })
        };
        let (archive, source) = serving(false)?;
        let keyring = source
            .keyring
            .as_deref()
            .filter(|path| path.starts_with('/'))
            .unwrap_or(DEBIAN_KEYRING);
        Some(Self {
            archive: archive.trim_end_matches('/').to_owned(),
            security: serving(true).map(|(uri, _)| uri.trim_end_matches('/').to_owned()),
            keyring: keyring.into(),
        })
    }

    /// The lines of a sources.list for a release, which need not be this machine's.
    pub fn lines(&self, suite: &str, components: &[String]) -> Vec<String> {
        let components = components.join(" ");
        let archive = &self.archive;
        let mut lines = vec![
            format!("deb {archive} {suite} {components}"),
            format!("deb {archive} {suite}-updates {components}"),
        ];
        if let Some(security) = &self.security {
            lines.push(format!("deb {security} {suite}-security {components}"));
        }
        lines
    }
}

/// All sources of a configuration folder; what can't be read is left out, as apt would warn and go on.
fn read(apt: &Utf8Path) -> Vec<Source> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = apt.join("sources.list.d").read_dir_utf8() {
        files.extend(
            entries
                .filter_map(|entry| entry.ok())
                .map(camino::Utf8DirEntry::into_path),
        );
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        match file.extension() {
            Some("list") => sources.extend(text.lines().filter_map(one_line)),
            Some("sources") => sources.extend(deb822(&text)),
            _ => {}
        }
    }
    sources
}

/// `deb [signed-by=/key] http://host/debian bookworm main contrib`
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim().strip_prefix("deb")?;
    // Not deb-src.
    let line = line.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match line.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", line),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        keyring: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned),
    })
}

/// Stanzas of `Key: value`, where a line that begins with a blank goes on.
fn deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let mut source = Source::default();
        let (mut is_deb, mut enabled, mut key) = (false, true, String::new());
        for line in stanza {
            let value = if line.starts_with([' ', '\t']) {
                line
            } else if let Some((name, value)) = line.split_once(':') {
                key = name.trim().to_ascii_lowercase();
                value
            } else {
                continue;
            };
            let words = value.split_whitespace().map(str::to_owned);
            match key.as_str() {
                "types" => is_deb |= words.into_iter().any(|word| word == "deb"),
                "uris" => source.uris.extend(words),
                "suites" => source.suites.extend(words),
                "components" => source.components.extend(words),
                "signed-by" if source.keyring.is_none() => {
                    source.keyring = words.into_iter().next()
                }
                "enabled" => enabled = !value.trim().eq_ignore_ascii_case("no"),
                _ => {}
            }
        }
        if is_deb && enabled {
            sources.push(source);
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(files: &[(&str, &str)]) -> Option<Mirror> {
        let folder = tempfile::tempdir().unwrap();
        let apt = Utf8Path::from_path(folder.path()).unwrap();
        std::fs::create_dir(apt.join("sources.list.d")).unwrap();
        for (name, text) in files {
            std::fs::write(apt.join(name), text).unwrap();
        }
        Mirror::of(&read(apt))
    }

    fn expected(security: bool) -> Option<Mirror> {
        Some(Mirror {
            archive: "http://mirror.example/debian".into(),
            security: security.then(|| "http://mirror.example/debian-security".into()),
            keyring: DEBIAN_KEYRING.into(),
        })
    }

    #[test]
    fn deb822_stanzas() {
        let text = "\
Types: deb
# http://old.example/archive
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main
";
        assert_eq!(
            mirror(&[("sources.list.d/debian.sources", text)]),
            expected(true)
        );
        let off = text.replace("Types: deb\n# ", "Enabled: no\nTypes: deb\n# ");
        assert_eq!(mirror(&[("sources.list.d/debian.sources", &off)]), None);
        assert_eq!(
            mirror(&[("sources.list.d/debian.sources.disabled", text)]),
            None
        );
    }

    #[test]
    fn one_line_entries() {
        let text = "\
# deb http://old.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.example/apt nodistro main
deb cdrom:[Debian]/ bookworm main
deb http://mirror.example/debian/ bookworm main non-free # comment
deb http://mirror.example/debian-security bookworm-security main
";
        assert_eq!(mirror(&[("sources.list", text)]), expected(true));
        let own_key = "deb [signed-by=/k.gpg] http://mirror.example/debian stable main\n";
        assert_eq!(
            mirror(&[("sources.list", own_key)]).unwrap().keyring,
            "/k.gpg"
        );
    }

    #[test]
    fn other_distributions_are_not_debian() {
        let ubuntu = "deb http://mirror.example/ubuntu noble main\ndeb http://mirror.example/ubuntu noble-security main\n";
        assert_eq!(mirror(&[("sources.list", ubuntu)]), None);
        let only_updates = "deb http://mirror.example/debian bookworm-backports main\n";
        assert_eq!(mirror(&[("sources.list", only_updates)]), None);
        assert_eq!(mirror(&[]), None);
    }

    #[test]
    fn lines_are_for_the_release_that_is_built() {
        let lines = expected(true)
            .unwrap()
            .lines("trixie", &["main".into(), "contrib".into()]);
        insta::assert_snapshot!(lines.join("\n"), @"
        deb http://mirror.example/debian trixie main contrib
        deb http://mirror.example/debian trixie-updates main contrib
        deb http://mirror.example/debian-security trixie-security main contrib
        ");
    }
}
