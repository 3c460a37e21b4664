//! What can go wrong with base images.

use camino::Utf8PathBuf;

use crate::error::{Failure, FailureKind};

/// The result of everything in the catalogue.
pub type Result<T, E = CatalogError> = std::result::Result<T, E>;

/// An error of the catalogue. Each names the file, the address or the image that it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A reference that is no name, no path and no address.
    #[error("{reference:?} is no base image reference: {reason}")]
    BadReference {
        /// What was given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A text that is no version and no version pattern.
    #[error("{text:?} is no version: want three numbers such as 12.20260101.0{}", if *.wildcards { ", each of them or the last ones `x`" } else { "" })]
    BadVersion {
        /// What was given.
        text: String,
        /// Whether wildcards would have been allowed.
        wildcards: bool,
    },
    /// The catalogue has no entry of this name.
    #[error("there is no base image {name:?} in the catalogue")]
    UnknownName {
        /// The name.
        name: String,
        /// The most similar name that exists.
        suggestion: Option<String>,
    },
    /// The catalogue knows the image, but there is no way of the kind asked for.
    #[error("{name} {what}")]
    Unsupported {
        /// The entry.
        name: String,
        /// What it can't do.
        what: String,
    },
    /// Nothing on the shelf matches.
    #[error("no base image {reference} is on the shelf")]
    NotOnShelf {
        /// What was looked for.
        reference: String,
        /// How to get it.
        hint: String,
    },
    /// The version is there already.
    #[error("{name}/{version} is on the shelf already")]
    Exists {
        /// The name.
        name: String,
        /// The version.
        version: String,
    },
    /// Another process uses or writes the image.
    #[error("{name}/{version} is in use by another process")]
    InUse {
        /// The name.
        name: String,
        /// The version.
        version: String,
    },
    /// The bytes are not what they should be.
    #[error("{path} has the digest {actual}, expected {expected}")]
    DigestMismatch {
        /// File or address.
        path: String,
        /// As published or recorded.
        expected: String,
        /// As computed.
        actual: String,
    },
    /// A text that is no digest.
    #[error("{0:?} is no digest: want sha256: or sha512: and hexadecimal digits")]
    BadDigest(String),
    /// The list of digests does not have the file.
    #[error("{url} lists no {algorithm} digest for {file}")]
    DigestNotListed {
        /// The list.
        url: String,
        /// What was looked for.
        algorithm: &'static str,
        /// The file's name.
        file: String,
    },
    /// The place where versions are listed has none that fits.
    #[error("{url} lists no version of {name} that fits {wanted}")]
    NoVersionListed {
        /// The listing.
        url: String,
        /// The entry.
        name: String,
        /// The pattern.
        wanted: String,
    },
    /// A request failed.
    #[error("cannot fetch {url}")]
    Fetch {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: Box<reqwest::Error>,
    },
    /// A server answered, but not with what was asked for.
    #[error("cannot fetch {url}: the server answered {answer}")]
    Refused {
        /// The address.
        url: String,
        /// Status or the odd header.
        answer: String,
    },
    /// The connection broke more often than we try.
    #[error(
        "cannot fetch {url}: the connection broke {attempts} times in a row without progress, last at byte {at}"
    )]
    Interrupted {
        /// The address.
        url: String,
        /// How often in a row.
        attempts: u32,
        /// How far it got.
        at: u64,
    },
    /// A file could not be read, written or renamed.
    #[error("cannot {action} {path}")]
    Io {
        /// Verb.
        action: &'static str,
        /// File.
        path: Utf8PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// A record that is not one of ours.
    #[error("{path} is no base image record")]
    BadRecord {
        /// The file.
        path: Utf8PathBuf,
        /// Line and column.
        #[source]
        source: serde_json::Error,
    },
    /// A program is not installed.
    #[error("the program {program} is missing")]
    ToolMissing {
        /// Its name.
        program: String,
    },
    /// A program failed.
    #[error("{program} failed ({status})")]
    ToolFailed {
        /// Its name.
        program: String,
        /// Exit status or signal.
        status: String,
        /// The last lines that it printed.
        output: String,
    },
    /// A boot loader's image is not what we know how to place.
    #[error("cannot place the boot loader: {0}")]
    BootLoader(String),
    /// The machine's package sources don't say where a distribution comes from.
    #[error("no package source of this machine serves {distribution}")]
    NoMirror {
        /// Debian.
        distribution: String,
    },
    /// A disk that we can't use.
    #[error("{path}: {reason}")]
    BadDisk {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        reason: String,
    },
}

impl CatalogError {
    /// Makes the `map_err` of a file operation.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<Utf8PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownName { suggestion: Some(name), .. } => {
                Some(format!("did you mean {name:?}? `ovenbird base list --all` shows all names"))
            }
            Self::UnknownName { .. } => Some("`ovenbird base list --all` shows all names".into()),
            Self::NotOnShelf { hint, .. } => Some(hint.clone()),
            Self::Exists { name, version } => {
                Some(format!("`ovenbird base rm {name}/{version}` removes it, or give another --version"))
            }
            Self::InUse { .. } => Some("wait until the other process has finished, or stop it".into()),
            Self::DigestMismatch { .. } => {
                Some("the file was damaged or replaced: remove it with `ovenbird base rm` and get it again".into())
            }
            Self::ToolMissing { .. } => {
                Some("`ovenbird doctor` says what to install; `make setup` in the source tree installs it".into())
            }
            Self::NoMirror { .. } => Some("name one with --mirror URL".into()),
            Self::Fetch { .. } | Self::Interrupted { .. } => {
                Some("run the same command again: it goes on where it stopped; --from URL uses a mirror".into())
            }
            _ => None,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::BadReference { .. }
            | Self::BadVersion { .. }
            | Self::UnknownName { .. }
            | Self::Unsupported { .. }
            | Self::NotOnShelf { .. }
            | Self::Exists { .. }
            | Self::DigestMismatch { .. }
            | Self::BadDigest(_)
            | Self::BadDisk { .. }
            | Self::BadRecord { .. } => FailureKind::Config,
            Self::BootLoader(_) => FailureKind::Internal,
            Self::InUse { .. }
            | Self::DigestNotListed { .. }
            | Self::NoVersionListed { .. }
            | Self::Fetch { .. }
            | Self::Refused { .. }
            | Self::Interrupted { .. }
            | Self::Io { .. }
            | Self::ToolMissing { .. }
            | Self::ToolFailed { .. }
            | Self::NoMirror { .. } => FailureKind::Environment,
        }
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        let mut failure = Self::new(error.kind(), error.to_string());
        if let Some(hint) = error.hint() {
            failure = failure.with_hint(hint);
        }
        match error {
            CatalogError::ToolFailed { output, .. } => failure.with_details(output),
            CatalogError::Fetch { source, .. } => failure.caused_by(*source),
            CatalogError::Io { source, .. } => failure.caused_by(source),
            CatalogError::BadRecord { source, .. } => failure.caused_by(source),
            _ => failure,
        }
    }
}
