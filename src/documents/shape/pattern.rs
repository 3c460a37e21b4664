//! Patterns of texts: one regular expression for reading and for JSON Schemas.

use std::sync::OnceLock;

use regex_lite::Regex;

/// A regular expression with the words that explain it.
#[derive(Debug)]
pub struct Pattern {
    /// The expression, in the syntax that Rust and ECMA 262 share; it says itself whether it is anchored.
    expression: &'static str,
    /// A beginning that is refused although the expression fits: lookahead has no place in the shared syntax.
    refused_start: Option<&'static str>,
    /// What would have been right, for messages.
    expected: &'static str,
    /// The code of the diagnostic.
    code: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// A pattern, its diagnostic's code, and what a good text looks like.
    pub const fn new(expression: &'static str, code: &'static str, expected: &'static str) -> Self {
        Self {
            expression,
            refused_start: None,
            expected,
            code,
            compiled: OnceLock::new(),
        }
    }

    /// … whose texts do not start so.
    pub const fn not_starting(mut self, refused: &'static str) -> Self {
        self.refused_start = Some(refused);
        self
    }

    /// Whether a text fits.
    pub fn fits(&self, text: &str) -> bool {
        let refused = self
            .refused_start
            .is_some_and(|start| text.starts_with(start));
        // An expression that does not compile fits nothing; a test compiles every one.
        !refused && self.regex().is_some_and(|regex| regex.is_match(text))
    }

    /// Whether the expression is one.
    pub fn compiles(&self) -> bool {
        self.regex().is_some()
    }

    fn regex(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| Regex::new(self.expression).ok())
            .as_ref()
    }

    /// What would have been right.
    pub fn expected(&self) -> &'static str {
        self.expected
    }

    /// The code of the diagnostic.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The expression for a JSON Schema.
    pub fn ecma(&self) -> String {
        match (self.refused_start, self.expression.strip_prefix('^')) {
            (Some(start), Some(rest)) => format!("^(?!{start}){rest}"),
            _ => self.expression.to_owned(),
        }
    }
}
