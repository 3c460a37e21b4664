//! What a recipe or a command line may say when it means a base image.

use std::fmt;
use std::str::FromStr;

use camino::Utf8PathBuf;

use super::digest::Digest;
use super::{CatalogError, Result, VersionPattern};

/// A reference to a base image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `debian-12`, `debian-12/x.x.x`, `debian-12/12.20260101.0`: an image on the shelf, the highest version that fits.
    Shelf {
        /// The name.
        name: String,
        /// Which versions will do.
        pattern: VersionPattern,
    },
    /// `./disk.qcow2`, `/images/disk.raw`, `file:///images/disk.raw#sha256:…`: a disk where it is.
    File {
        /// The disk.
        path: Utf8PathBuf,
        /// What it must be.
        digest: Option<Digest>,
    },
}

/// Whether a text can be a base image's name: it becomes a folder's name, so nothing that could climb or hide.
pub fn is_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

impl FromStr for Reference {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |reason: &str| CatalogError::BadReference {
            reference: text.to_owned(),
            reason: reason.to_owned(),
        };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if let Some(rest) = text.strip_prefix("file:") {
            // file:///path and file:/path mean the same; a host other than this one can't be meant.
            let rest = rest
                .strip_prefix("//localhost")
                .or_else(|| rest.strip_prefix("//"))
                .unwrap_or(rest);
            if !rest.starts_with('/') {
                return Err(bad(
                    "a file: address needs an absolute path, as in file:///images/disk.qcow2",
                ));
            }
            let (path, digest) = match rest.split_once('#') {
                Some((path, digest)) => (path, Some(digest.parse()?)),
                None => (rest, None),
            };
            let path = percent_decode(path).ok_or_else(|| bad("the path has a broken % escape"))?;
            return Ok(Self::File {
                path: path.into(),
                digest,
            });
        }
        if text.contains("://") {
            return Err(bad(
                "only file: addresses can be used directly; download the disk and name the file",
            ));
        }
        if text.starts_with(['/', '.']) {
            return Ok(Self::File {
                path: text.into(),
                digest: None,
            });
        }
        let (name, pattern) = match text.split_once('/') {
            None => (text, VersionPattern::ANY),
            Some((name, pattern)) => (name, pattern.parse()?),
        };
        if !is_name(name) {
            return Err(bad(
                "a name has letters, digits, '-', '_' and '.'; a path begins with '/' or './'",
            ));
        }
        Ok(Self::Shelf {
            name: name.to_owned(),
            pattern,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shelf { name, pattern } if *pattern == VersionPattern::ANY => f.write_str(name),
            Self::Shelf { name, pattern } => write!(f, "{name}/{pattern}"),
            Self::File { path, .. } => f.write_str(path.as_str()),
        }
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = "a".repeat(64);
        let table: &[(&str, Option<Reference>)] = &[
            (
                "debian-12",
                Some(Reference::Shelf {
                    name: "debian-12".into(),
                    pattern: VersionPattern::ANY,
                }),
            ),
            (
                "debian-12/x.x.x",
                Some(Reference::Shelf {
                    name: "debian-12".into(),
                    pattern: VersionPattern::ANY,
                }),
            ),
            (
                "ubuntu-24.04/24.x.x",
                Some(Reference::Shelf {
                    name: "ubuntu-24.04".into(),
                    pattern: "24.x.x".parse().unwrap(),
                }),
            ),
            (
                "./a.raw",
                Some(Reference::File {
                    path: "./a.raw".into(),
                    digest: None,
                }),
            ),
            (
                "../a.raw",
                Some(Reference::File {
                    path: "../a.raw".into(),
                    digest: None,
                }),
            ),
            (
                "/a b.raw",
                Some(Reference::File {
                    path: "/a b.raw".into(),
                    digest: None,
                }),
            ),
            (
                "file:///a%20b.raw",
                Some(Reference::File {
                    path: "/a b.raw".into(),
                    digest: None,
                }),
            ),
            (
                "file://localhost/a.raw",
                Some(Reference::File {
                    path: "/a.raw".into(),
                    digest: None,
                }),
            ),
            ("file://other/a.raw", None),
            ("file:///a%2", None),
            ("file:///a.raw#md5:aa", None),
            ("https://example.org/a.raw", None),
            ("debian-12/latest", None),
            ("debian 12", None),
            ("-rf", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(
                text.parse::<Reference>().ok().as_ref(),
                expected.as_ref(),
                "{text:?}"
            );
        }
        let with_digest: Reference = format!("file:///a.raw#sha256:{digest}").parse().unwrap();
        assert!(
            matches!(with_digest, Reference::File { digest: Some(found), .. } if found.hex() == digest)
        );
    }

    #[test]
    fn a_name_is_a_harmless_folder_name() {
        for (name, good) in [
            ("debian-12", true),
            ("a", true),
            ("..", false),
            (".work", false),
            ("a/b", false),
            ("", false),
            ("a\0", false),
        ] {
            assert_eq!(is_name(name), good, "{name:?}");
        }
    }
}
