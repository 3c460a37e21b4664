//! Problems in documents, each with a code, a place, what was expected and a hint.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use super::text::{Source, Span};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the document works.
    Warning,
    /// The document cannot be used.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One problem. Self-contained: it can be shown after its source is gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for scripts, such as `unknown-key`.
    pub code: Cow<'static, str>,
    /// Name of the source.
    pub file: String,
    /// Line of the first offending character, from 1.
    pub line: u32,
    /// Column of the first offending character, from 1.
    pub column: u32,
    /// The offending stretch.
    pub span: Span,
    /// The offending text (its first line, shortened).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// What would have been right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The whole line, for the excerpt.
    #[serde(skip)]
    excerpt: String,
}

/// The parts of a rendered diagnostic, for callers that colour them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `error[code]`.
    Error,
    /// `warning[code]`.
    Warning,
    /// The message.
    Message,
    /// Line numbers and arrows.
    Frame,
    /// The text of the document.
    Excerpt,
    /// The carets under it.
    Caret,
    /// The lines with what was expected and the hint.
    Note,
}

/// Longer offending texts are cut; a diagnostic points, it does not quote a document.
const LONGEST_TEXT: usize = 120;

impl Diagnostic {
    /// A problem that has no place yet.
    pub fn new(
        severity: Severity,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code: code.into(),
            file: String::new(),
            line: 1,
            column: 1,
            span: Span::START,
            text: String::new(),
            message: message.into(),
            expected: None,
            hint: None,
            excerpt: String::new(),
        }
    }

    /// Puts the problem at a place of a source.
    #[must_use]
    pub fn at(mut self, source: &Source, span: Span) -> Self {
        source.name().clone_into(&mut self.file);
        self.line = span.start.line;
        self.column = span.start.column;
        self.span = span;
        let first_line = source.slice(span).lines().next().unwrap_or("");
        self.text = shorten(first_line.trim_end(), LONGEST_TEXT);
        source.line(span.start.line).clone_into(&mut self.excerpt);
        self
    }

    /// Names the file of a problem that has no place in it.
    #[must_use]
    pub fn in_file(mut self, file: &str) -> Self {
        file.clone_into(&mut self.file);
        self
    }

    /// Says what would have been right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Writes the problem with an excerpt of its source; `paint` may wrap each part, for instance in colour.
    pub fn render(&self, out: &mut String, paint: &dyn Fn(Role, &str) -> String) {
        let role = match self.severity {
            Severity::Error => Role::Error,
            Severity::Warning => Role::Warning,
        };
        let title = format!("{}[{}]", self.severity, self.code);
        out.push_str(&format!(
            "{}: {}\n",
            paint(role, &title),
            paint(Role::Message, &self.message)
        ));
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        if !self.file.is_empty() {
            let place = format!("{}:{}:{}", self.file, self.line, self.column);
            out.push_str(&format!("{margin}{} {place}\n", paint(Role::Frame, "-->")));
        }
        if !self.excerpt.trim().is_empty() {
            self.render_excerpt(out, &number, paint);
        }
        for (word, note) in [("expected", &self.expected), ("hint", &self.hint)] {
            if let Some(note) = note {
                let frame = paint(Role::Frame, "=");
                let word = paint(Role::Note, &format!("{word}:"));
                out.push_str(&format!("{margin} {frame} {word} {note}\n"));
            }
        }
    }

    fn render_excerpt(&self, out: &mut String, number: &str, paint: &dyn Fn(Role, &str) -> String) {
        let margin = " ".repeat(number.len());
        // A window keeps a one-line JSON document from flooding the terminal.
        let column = self.column.saturating_sub(1) as usize;
        let skipped = column.saturating_sub(80);
        let shown: String = self
            .excerpt
            .chars()
            .skip(skipped)
            .take(LONGEST_TEXT)
            .map(|c| if c == '\t' { ' ' } else { c })
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        let width = if self.span.end.line == self.span.start.line {
            self.span.end.column.saturating_sub(self.span.start.column) as usize
        } else {
            shown
                .trim_end()
                .chars()
                .count()
                .saturating_sub(column - skipped)
        };
        let width = width.clamp(
            1,
            shown
                .chars()
                .count()
                .saturating_sub(column - skipped)
                .max(1),
        );
        let bar = paint(Role::Frame, "|");
        let carets = paint(Role::Caret, &"^".repeat(width));
        let indent = " ".repeat(column - skipped);
        let excerpt = paint(Role::Excerpt, shown.trim_end());
        let line = paint(Role::Frame, number);
        out.push_str(&format!(
            "{margin} {bar}\n{line} {bar} {excerpt}\n{margin} {bar} {indent}{carets}\n"
        ));
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: error[code]: message (hint)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}[{}]: {}",
            self.file, self.line, self.column, self.severity, self.code, self.message
        )?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

fn shorten(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(longest).collect();
    short.push('…');
    short
}

/// All problems of one or more documents.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// An empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.items.push(diagnostic);
    }

    /// Adds all problems of another collection.
    pub fn append(&mut self, mut other: Self) {
        self.items.append(&mut other.items);
    }

    /// Sorts by file and place, errors before warnings at one place, and drops exact repetitions.
    pub fn sort(&mut self) {
        self.items.sort_by(|a, b| {
            (&a.file, a.line, a.column, b.severity, &a.code)
                .cmp(&(&b.file, b.line, b.column, a.severity, &b.code))
        });
        self.items.dedup();
    }

    /// The problems in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// Number of problems.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no problems at all.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether at least one is an error.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.items
            .iter()
            .filter(|item| item.severity == severity)
            .count()
    }

    /// All problems with excerpts and a closing count, without colour.
    pub fn render(&self) -> String {
        self.render_with(&|_, text| text.to_owned())
    }

    /// As [`Self::render`], with a hook that may wrap each part.
    pub fn render_with(&self, paint: &dyn Fn(Role, &str) -> String) -> String {
        let mut out = String::new();
        for item in &self.items {
            item.render(&mut out, paint);
            out.push('\n');
        }
        if !self.items.is_empty() {
            out.push_str(&self.counts());
            out.push('\n');
        }
        out
    }

    /// `2 errors, 1 warning`.
    pub fn counts(&self) -> String {
        let plural = |count: usize, word: &str| {
            format!("{count} {word}{}", if count == 1 { "" } else { "s" })
        };
        match (self.errors(), self.warnings()) {
            (errors, 0) => plural(errors, "error"),
            (0, warnings) => plural(warnings, "warning"),
            (errors, warnings) => format!(
                "{}, {}",
                plural(errors, "error"),
                plural(warnings, "warning")
            ),
        }
    }

    /// The problems as a JSON array.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(item: Diagnostic) -> Self {
        Self { items: vec![item] }
    }
}

impl From<Box<Diagnostic>> for Diagnostics {
    fn from(item: Box<Diagnostic>) -> Self {
        Self::from(*item)
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(items: I) -> Self {
        Self {
            items: items.into_iter().collect(),
        }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}
