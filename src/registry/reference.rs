//! `registry/repository:tag` and `registry/repository@sha256:…`

use std::fmt;
use std::str::FromStr;

use super::RegistryError;

/// Where Docker Hub's API is; its name in references is another one.
const HUB: &str = "docker.io";
const HUB_API: &str = "registry-1.docker.io";

/// Something in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// The host, with its port where it is not the usual one.
    pub registry: String,
    /// The repository, without a slash at either end.
    pub repository: String,
    /// The tag, if one was given.
    pub tag: Option<String>,
    /// `sha256:…`, if one was given; it goes before the tag.
    pub digest: Option<String>,
}

impl ImageReference {
    /// What stands after `manifests/` in addresses: the digest, else the tag, else `latest`.
    pub fn target(&self) -> &str {
        self.digest
            .as_deref()
            .or(self.tag.as_deref())
            .unwrap_or("latest")
    }

    /// The host that is really asked.
    pub fn api_host(&self) -> &str {
        if self.registry == HUB {
            HUB_API
        } else {
            &self.registry
        }
    }

    /// The same repository with a digest in place of the tag.
    #[must_use]
    pub fn at_digest(&self, digest: &str) -> Self {
        Self {
            tag: None,
            digest: Some(digest.to_owned()),
            ..self.clone()
        }
    }

    /// Whether the registry is on this machine, where nobody listens on the way.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.registry.split(':').next().unwrap_or_default(),
        };
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let bad = |reason: &str| RegistryError::BadReference {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let rest = text.strip_prefix("oci://").unwrap_or(text);
        if rest.contains("://") {
            return Err(bad("it begins with a scheme that is not oci://"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(bad("after @ comes sha256: and 64 lower-case digits")),
            None => (rest, None),
        };
        let (registry, path) = rest
            .split_once('/')
            .ok_or_else(|| bad("it has no repository"))?;
        let is_host = registry == "localhost" || registry.contains(['.', ':']);
        if !is_host || !is_authority(registry) {
            return Err(bad("it begins with no registry's host"));
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) if is_tag(tag) => (repository, Some(tag.to_owned())),
            Some(_) => {
                return Err(bad(
                    "a tag has up to 128 letters, digits, '_', '.' and '-', and begins with none of the last two",
                ));
            }
            None => (path, None),
        };
        if !is_repository(repository) {
            return Err(bad(
                "a repository has lower-case letters and digits, with '.', '_', '-' between them and '/' between its parts",
            ));
        }
        let repository = if registry == HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// The specification's rule for tags.
pub fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// Whether a text is a SHA-256 digest with its prefix. Others exist, but no registry makes them.
pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    })
}

fn is_repository(text: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 255
        && text.split('/').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(edge)
                && bytes.last().is_some_and(edge)
                && bytes
                    .iter()
                    .all(|byte| edge(byte) || matches!(byte, b'.' | b'_' | b'-'))
        })
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let host_is_good = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        }
    };
    host_is_good && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, registry, repository, target) in [
            ("localhost:5000/a/b:1.0", "localhost:5000", "a/b", "1.0"),
            ("oci://r.example/web", "r.example", "web", "latest"),
            ("docker.io/debian:12", "docker.io", "library/debian", "12"),
            ("[::1]:5000/a:t", "[::1]:5000", "a", "t"),
            (
                &format!("r.example/a:t@{digest}"),
                "r.example",
                "a",
                &digest,
            ),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(
                (
                    reference.registry.as_str(),
                    reference.repository.as_str(),
                    reference.target()
                ),
                (registry, repository, target)
            );
            assert_eq!(
                reference.to_string().parse::<ImageReference>().unwrap(),
                reference
            );
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "web",
            "web:1",
            "images/web:1",
            "https://r.example/web",
            "r.example/Web",
            "r.example/a//b",
            "r.example/../b",
            "r.example/a:-tag",
            "r.example/a@sha256:123",
            "r.example:port/a",
            "user@r.example/a",
            "r.example/a:b:c",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_known_by_its_address() {
        for (text, loopback) in [
            ("localhost:5000/a", true),
            ("127.1.2.3/a", true),
            ("[::1]:1/a", true),
            ("localhost.example/a", false),
            ("10.0.0.1:5000/a", false),
        ] {
            assert_eq!(
                text.parse::<ImageReference>().unwrap().is_loopback(),
                loopback,
                "{text}"
            );
        }
    }
}
