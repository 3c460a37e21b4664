//! The one error type of the crate: a stable kind, a message that names the place, and the source.

use std::fmt;
use std::path::Path;

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a file operation.
    Io,
    /// The bytes break the rules of their format: corrupt or hostile.
    Invalid,
    /// A valid image that uses a feature this crate does not read or write.
    Unsupported,
    /// A size or count is beyond a limit that this crate or the format sets.
    Limit,
    /// A path, partition or filesystem asked for is not there.
    NotFound,
    /// The request was understood and refused, such as a backing file outside of the allowed folders.
    Refused,
    /// The caller cancelled the operation.
    Cancelled,
}

/// An error with its kind, its place and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of a kind with a lower-case fragment as its message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Says that foreign bytes break their format.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Says that a feature is not carried.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Says that a size or count is beyond its limit.
    pub fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    /// Says that something asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Says that a request is refused.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Says that the caller cancelled.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Wraps a failed system call: `cannot <operation>`.
    pub fn io(operation: impl fmt::Display, source: std::io::Error) -> Self {
        Self {
            kind: ErrorKind::Io,
            message: format!("cannot {operation}"),
            source: Some(Box::new(source)),
        }
    }

    /// Wraps a failed system call on a path: `cannot <operation> <path>`.
    pub fn path(operation: &str, path: &Path, source: std::io::Error) -> Self {
        Self::io(format_args!("{operation} {}", path.display()), source)
    }

    /// Puts a context in front; the kind stays.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        Self {
            kind: self.kind,
            message: context.to_string(),
            source: Some(Box::new(self)),
        }
    }

    /// The stable kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message with its chain of causes, as one line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|s| s as &(dyn std::error::Error + 'static))
    }
}

/// Puts a context in front of a result's error, made only when there is one.
pub(crate) trait Context<T> {
    fn context_with<D: fmt::Display>(self, context: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context_with<D: fmt::Display>(self, context: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.context(context()))
    }
}
