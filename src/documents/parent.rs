//! What an image recipe may start from.

use std::fmt;

use camino::Utf8PathBuf;

use super::arn::{Arn, ArnError, ResourceType};
use super::reference::Complaint;
use super::version::VersionPattern;

/// A parent image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParentImage {
    /// An image of the store, the catalogue or the service, by name and version: `debian-12`, `debian-12/12.x.x`,
    /// `arn:aws:imagebuilder:eu-west-1:aws:image/amazon-linux-2023-x86/x.x.x`.
    Image {
        /// The name.
        name: String,
        /// Which versions will do.
        version: VersionPattern,
        /// Whether an ARN with the account `aws` was given.
        managed: bool,
    },
    /// A disk on this machine: `./disk.qcow2`, `/images/disk.raw`, `file:///disk.raw#sha256:…`.
    File {
        /// The text as the catalogue takes it.
        text: String,
    },
    /// A disk to fetch: `https://…/disk.qcow2#sha256:…`.
    Url {
        /// The address without the digest.
        url: String,
        /// SHA-256 as 64 hexadecimal digits.
        sha256: String,
    },
    /// `ami-…`: only EC2 has it.
    Ami(String),
    /// `ssm:…`: a parameter in the service that holds an AMI's id.
    SsmParameter(String),
}

impl ParentImage {
    /// Reads what `parentImage` says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        if Arn::is_meant(text) {
            return Self::from_arn(text);
        }
        if let Some(parameter) = text.strip_prefix("ssm:") {
            return Ok(Self::SsmParameter(parameter.to_owned()));
        }
        if is_ami(text) {
            return Ok(Self::Ami(text.to_owned()));
        }
        if text.starts_with(['/', '.']) || text.starts_with("file:") {
            return Ok(Self::File {
                text: text.to_owned(),
            });
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Self::from_url(text);
        }
        let (name, version) = match text.split_once('/') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        if !is_image_name(name) {
            return Err(Complaint::new(
                "bad-reference",
                format!("`{text}` names no image"),
                EXPECTED,
            ));
        }
        Ok(Self::Image {
            name: name.to_owned(),
            version: match version {
                Some(version) => version.parse::<VersionPattern>()?,
                None => VersionPattern::ANY,
            },
            managed: false,
        })
    }

    fn from_arn(text: &str) -> Result<Self, Complaint> {
        let arn: Arn = text.parse().map_err(|error: ArnError| match error {
            ArnError::Version(error) => Complaint::from(error),
            error => Complaint::new("bad-arn", error.to_string(), EXPECTED),
        })?;
        if arn.resource != ResourceType::Image {
            return Err(Complaint::new(
                "bad-reference",
                format!("`{text}` is the ARN of a resource of type {}", arn.resource),
                "an image's ARN",
            ));
        }
        Ok(Self::Image {
            managed: arn.is_managed(),
            version: arn.version.unwrap_or(VersionPattern::ANY),
            name: arn.name,
        })
    }

    fn from_url(text: &str) -> Result<Self, Complaint> {
        let digest = text
            .split_once('#')
            .and_then(|(url, fragment)| Some((url, fragment.strip_prefix("sha256:")?)));
        match digest {
            Some((url, sha256))
                if sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Ok(Self::Url {
                    url: url.to_owned(),
                    sha256: sha256.to_ascii_lowercase(),
                })
            }
            _ => Err(Complaint {
                hint: Some(
                    "`sha256sum` prints it; without it another disk could come tomorrow".to_owned(),
                ),
                ..Complaint::new(
                    "bad-reference",
                    format!("`{text}` has no digest"),
                    "an address that ends in #sha256: and 64 hexadecimal digits",
                )
            }),
        }
    }

    /// The file, if a path was given.
    pub fn path(&self) -> Option<Utf8PathBuf> {
        match self {
            Self::File { text } if !text.starts_with("file:") => Some(text.into()),
            _ => None,
        }
    }
}

impl fmt::Display for ParentImage {
    /// As the catalogue takes it: ARNs of images become their names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { name, version, .. } if *version == VersionPattern::ANY => {
                f.write_str(name)
            }
            Self::Image { name, version, .. } => write!(f, "{name}/{version}"),
            Self::File { text } => f.write_str(text),
            Self::Url { url, sha256 } => write!(f, "{url}#sha256:{sha256}"),
            Self::Ami(id) => f.write_str(id),
            Self::SsmParameter(name) => write!(f, "ssm:{name}"),
        }
    }
}

/// What a parent image may be, in words.
pub(super) const EXPECTED: &str = "a name such as debian-12 or debian-12/12.x.x, an image's ARN, a path that begins with / or ./, \
                        or an address with #sha256:";

fn is_ami(text: &str) -> bool {
    text.strip_prefix("ami-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Image names become names of folders, so nothing that could climb or hide.
fn is_image_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
