//! What can go wrong with registries.

use std::time::Duration;

use camino::Utf8PathBuf;

use crate::error::{Failure, FailureKind};

/// The result of everything that talks to registries.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// An error of a registry, or on the way there. Each names what it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A text that names nothing in a registry.
    #[error("{text:?} is no registry reference: {reason}")]
    BadReference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection could not be made, or broke.
    #[error("cannot reach {registry}")]
    Unreachable {
        /// The host.
        registry: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing moved for a long time.
    #[error("{registry} went silent for {} s while {what}", .after.as_secs_f64())]
    Stalled {
        /// The host.
        registry: String,
        /// What was being done.
        what: String,
        /// How long we waited.
        after: Duration,
    },
    /// The registry wants a login that we don't have, or refuses ours.
    #[error("{registry} refuses the login{}", .reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Login {
        /// The host.
        registry: String,
        /// As whom; none if nobody's credentials were found.
        user: Option<String>,
        /// The registry's words.
        reason: Option<String>,
    },
    /// The login is good, but not for this.
    #[error("{registry} does not allow {what}{}", .reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Denied {
        /// The host.
        registry: String,
        /// What was being done.
        what: String,
        /// The registry's words.
        reason: Option<String>,
    },
    /// It is not there.
    #[error("{registry} has no {what}")]
    NotFound {
        /// The host.
        registry: String,
        /// What was looked for.
        what: String,
    },
    /// Any other answer that is no success.
    #[error("{registry} answered {status} while {what}{}", .reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// The host.
        registry: String,
        /// What was being done.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's error code, such as `DIGEST_INVALID`.
        code: Option<String>,
        /// Code and message in the registry's words.
        reason: Option<String>,
    },
    /// It was tried long enough.
    #[error("gave up {what} after {attempts} attempts in {} s", .spent.as_secs())]
    GaveUp {
        /// What was being done.
        what: String,
        /// How often.
        attempts: u32,
        /// How long.
        spent: Duration,
        /// How the last attempt ended.
        #[source]
        last: Box<RegistryError>,
    },
    /// The bytes are not those that were asked for or promised.
    #[error("{what} has the digest {actual}, expected {expected}")]
    DigestMismatch {
        /// Blob, manifest or file.
        what: String,
        /// As promised.
        expected: String,
        /// As computed.
        actual: String,
    },
    /// Content that makes no sense, or of a kind that is not meant.
    #[error("{what} {reason}")]
    BadContent {
        /// Manifest, layout or file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file with logins, or a program that keeps them, is of no use.
    #[error("cannot get credentials from {from}: {reason}")]
    Credentials {
        /// The file or the program.
        from: String,
        /// What is wrong.
        reason: String,
    },
    /// Amazon's API answered with an error.
    #[error("ECR refuses {what}: {reason}")]
    Ecr {
        /// What was being done.
        what: String,
        /// Code and message.
        reason: String,
    },
    /// A disk can't be read or written.
    #[error("cannot {action}")]
    Disk {
        /// What was being done.
        action: String,
        /// Why.
        #[source]
        source: ovenbird_disk::Error,
    },
    /// A file can't be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl RegistryError {
    /// Makes an [`Io`](Self::Io) of an I/O error.
    pub(super) fn io(
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

    /// Makes a [`BadContent`](Self::BadContent).
    pub(super) fn content(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::BadContent {
            what: what.into(),
            reason: reason.into(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BadReference { .. } => {
                "expected REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:..., such as localhost:5000/images/web:1.0.0".into()
            }
            Self::Unreachable { registry, source } => {
                let cause = causes(source.as_ref());
                if cause.contains("CaUsedAsEndEntity") {
                    "the registry shows an authority's certificate as its own; give it one made with basicConstraints=CA:FALSE".into()
                } else if cause.contains("certificate") || cause.contains("UnknownIssuer") {
                    "name the authority that signed the registry's certificate with --ca-file".into()
                } else if cause.contains("corrupt message") || cause.contains("InvalidContentType") {
                    format!("{registry} does not speak TLS there; --plain-http talks without it")
                } else {
                    "check the registry's name and port, and that it runs".into()
                }
            }
            Self::Stalled { .. } => "what has arrived stays there: the same command sends only the rest".into(),
            Self::Login { registry, user: None, .. } => {
                format!("no login for {registry} was found; `podman login {registry}` or `docker login {registry}` stores one")
            }
            Self::Login { registry, user: Some(user), .. } => {
                format!("the login of {user} was tried; `podman login {registry}` stores another one")
            }
            Self::Denied { .. } => "the login needs the right to pull and push in this repository".into(),
            Self::NotFound { .. } => "check repository and tag; some registries also say so when the login may not see it".into(),
            Self::Refused { status: 413, .. } => "a proxy before the registry limits the size of uploads; --chunk 16 sends smaller parts".into(),
            Self::Refused { status: 400, code: None, .. } => {
                "a registry that speaks TLS answers so when it is asked without; on loopback TLS is spoken if --ca-file names the authority".into()
            }
            Self::Refused { code: Some(code), .. } => return explained(code).map(str::to_owned),
            Self::GaveUp { last, .. } => {
                return last.hint().or_else(|| Some("what has arrived stays there: the same command sends only the rest".into()));
            }
            Self::DigestMismatch { .. } => "the content was changed or damaged; nothing was taken over".into(),
            Self::Credentials { from, .. } if from.starts_with("docker-credential-") => {
                "a login file names this helper; unlock or install it, or take it out of the file".into()
            }
            Self::Credentials { .. } => "REGISTRY_AUTH_FILE names another file; `podman login` writes one".into(),
            Self::Ecr { .. } => "pushing needs ecr:GetAuthorizationToken and, to create a repository, ecr:CreateRepository".into(),
            _ => return None,
        })
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::BadReference { .. } => FailureKind::Usage,
            Self::BadContent { .. } | Self::DigestMismatch { .. } | Self::NotFound { .. } => {
                FailureKind::Config
            }
            Self::Credentials { .. } | Self::Login { .. } | Self::Denied { .. } => {
                FailureKind::Environment
            }
            Self::Unreachable { .. } | Self::Io { .. } | Self::Ecr { .. } => {
                FailureKind::Environment
            }
            Self::GaveUp { last, .. } => last.kind(),
            Self::Disk { .. } | Self::Stalled { .. } | Self::Refused { .. } => FailureKind::Output,
        }
    }
}

/// What the distribution specification's error codes mean to the person.
fn explained(code: &str) -> Option<&'static str> {
    Some(match code {
        "BLOB_UNKNOWN" | "MANIFEST_BLOB_UNKNOWN" => {
            "the registry has lost a blob that it had; the same command sends it again"
        }
        "BLOB_UPLOAD_INVALID" | "BLOB_UPLOAD_UNKNOWN" | "RANGE_INVALID" => {
            "the upload's session is gone; the same command begins a new one"
        }
        "DIGEST_INVALID" => {
            "the bytes were damaged on their way; the same command sends them again"
        }
        "MANIFEST_INVALID" => {
            "the registry does not take manifests of this kind: artifacts need one that follows OCI 1.0 or later"
        }
        "NAME_INVALID" => "registries take lower-case letters, digits and . _ - / in repositories",
        "NAME_UNKNOWN" => {
            "the repository does not exist; create it first, on ECR with --create-repository"
        }
        "SIZE_INVALID" => {
            "the registry got another number of bytes than announced: a proxy may cut uploads"
        }
        "TAG_INVALID" | "TAG_IMMUTABLE" | "ImageTagAlreadyExistsException" => {
            "the registry does not let a tag move; push under another tag"
        }
        "TOOMANYREQUESTS" => {
            "the registry limits the number of requests; wait, or log in for a higher limit"
        }
        "UNSUPPORTED" => "the registry runs read-only or lacks this operation",
        _ => return None,
    })
}

/// All causes on one line.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let failure = Self::new(error.kind(), error.to_string());
        let failure = match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        };
        match std::error::Error::source(&error) {
            // The message is ours already; only what lies beneath is the cause.
            Some(_) => failure.caused_by(Beneath(error)),
            None => failure,
        }
    }
}

/// The causes of an error without the error itself.
#[derive(Debug)]
struct Beneath(RegistryError);

impl std::fmt::Display for Beneath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::error::Error::source(&self.0) {
            Some(source) => write!(f, "{source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Beneath {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0).and_then(std::error::Error::source)
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
