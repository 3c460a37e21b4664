//! What can go wrong, as the person at the terminal sees it.
//!
//! Every room has its own error enum; at the border to the command line each becomes a [`Failure`]: a kind
//! (which decides the exit code), a message, the chain of causes, and, where we know one, a hint.

use std::error::Error as StdError;
use std::fmt;

/// What sort of failure it is. Each kind has one documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureKind {
    /// A bug or a condition that we did not foresee.
    Internal,
    /// The command line makes no sense (clap uses the same code).
    Usage,
    /// A document, a reference or a digest is wrong.
    Config,
    /// Something is missing or broken on this machine: a tool, space, permissions.
    Environment,
    /// The guest did not come up, or went away.
    Guest,
    /// A component failed in its build or validate phase.
    Component,
    /// The finished image failed its tests.
    Test,
    /// An output could not be written or did not verify.
    Output,
    /// What is installed has known vulnerabilities that a threshold does not let pass.
    Vulnerable,
    /// The person pressed Ctrl-C or another process asked us to stop.
    Cancelled,
}

impl FailureKind {
    /// The process's exit code for this kind.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Environment => 4,
            Self::Guest => 5,
            Self::Component => 6,
            Self::Test => 7,
            Self::Output => 8,
            Self::Vulnerable => 9,
            Self::Cancelled => 130,
        }
    }
}

/// An error on its way to the person: kind, message, causes and hint.
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    message: String,
    hint: Option<String>,
    details: Option<String>,
    data: serde_json::Map<String, serde_json::Value>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of everything that the command line calls.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Makes a failure of a kind with a lower-case message that reads well in a chain.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            details: None,
            data: serde_json::Map::new(),
            source: None,
        }
    }

    /// Makes a [`FailureKind::Config`] failure.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Config, message)
    }

    /// Makes a [`FailureKind::Environment`] failure.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Environment, message)
    }

    /// Makes a [`FailureKind::Guest`] failure.
    pub fn guest(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Guest, message)
    }

    /// Makes a [`FailureKind::Cancelled`] failure.
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "cancelled")
    }

    /// Adds what the person can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds several lines of evidence (the end of a log, a rendered diagnostic), printed as they are.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        let details = details.into();
        if !details.trim().is_empty() {
            self.details = Some(details);
        }
        self
    }

    /// Adds a field for programs: part of the value that `--json` prints.
    #[must_use]
    pub fn with_data(mut self, field: &str, value: serde_json::Value) -> Self {
        self.data.insert(field.to_owned(), value);
        self
    }

    /// Fields for programs.
    pub fn data(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.data
    }

    /// Adds further evidence after what is there.
    #[must_use]
    pub fn and_details(mut self, details: &str) -> Self {
        self.details = Some(match self.details {
            Some(known) => format!("{known}\n{details}"),
            None => details.to_owned(),
        });
        self
    }

    /// Adds the error beneath this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts a sentence before the message, keeping kind, hint, details and causes.
    #[must_use]
    pub fn context(mut self, message: impl fmt::Display) -> Self {
        self.message = format!("{message}: {}", self.message);
        self
    }

    /// Which sort of failure this is.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What the person can do about it, if we know.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Evidence of several lines, if there is any.
    pub fn details(&self) -> Option<&str> {
        self.details.as_deref()
    }

    /// Message and causes on one line: `cannot do x: because y: because z`.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // Many libraries repeat their source in their own message.
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds context to the error of a system call or a library where no richer type is called for.
pub trait FailureContext<T> {
    /// Turns the error into a [`Failure`] of `kind` with `message` in front.
    ///
    /// # Errors
    /// The error of `self`, wrapped.
    fn or_failure(self, kind: FailureKind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> FailureContext<T> for std::result::Result<T, E> {
    fn or_failure(self, kind: FailureKind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::new(kind, message()).caused_by(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_joins_causes_once() {
        let io = std::io::Error::other("disk full");
        let failure = Failure::environment("cannot write x").caused_by(io);
        assert_eq!(failure.chain(), "cannot write x: disk full");
    }

    #[test]
    fn exit_codes_are_distinct() {
        use FailureKind::*;
        let codes = [
            Internal,
            Usage,
            Config,
            Environment,
            Guest,
            Component,
            Test,
            Output,
            Vulnerable,
            Cancelled,
        ]
        .map(FailureKind::exit_code);
        let unique: std::collections::BTreeSet<_> = codes.iter().collect();
        assert_eq!(unique.len(), codes.len());
        assert!(!codes.contains(&0));
    }
}
