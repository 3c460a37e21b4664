//! What is wrong with a schedule, and where.

/// A schedule that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}`, column {column}: {what} is {}, expected {expected}",
    quoted(got)
)]
pub struct ScheduleError {
    /// The whole expression, or the name of a zone.
    pub text: String,
    /// Where it goes wrong, counted in characters from 1.
    pub column: usize,
    /// What stands there: "hours", "the number".
    pub what: String,
    /// What it says.
    pub got: String,
    /// What would have been right.
    pub expected: String,
    /// What to do about it.
    pub hint: Option<String>,
}

fn quoted(got: &str) -> String {
    if got.is_empty() {
        "empty".to_owned()
    } else {
        format!("`{got}`")
    }
}

impl ScheduleError {
    pub(super) fn zone(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            column: 1,
            what: "the time zone".into(),
            got: name.to_owned(),
            expected: "an IANA name, such as Europe/Berlin or UTC".into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<ScheduleError> for crate::error::Failure {
    fn from(error: ScheduleError) -> Self {
        let failure = Self::config(error.to_string());
        match error.hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

/// A part of an expression that knows where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'t> {
    whole: &'t str,
    start: usize,
    /// The part itself.
    pub(super) text: &'t str,
}

impl<'t> At<'t> {
    pub(super) fn whole(text: &'t str) -> Self {
        Self {
            whole: text,
            start: 0,
            text,
        }
    }

    /// A part that begins `offset` bytes after this one.
    pub(super) fn part(self, offset: usize, text: &'t str) -> Self {
        Self {
            start: self.start + offset,
            text,
            ..self
        }
    }

    /// The words of this part.
    pub(super) fn words(self) -> Vec<Self> {
        self.split(char::is_whitespace)
            .into_iter()
            .filter(|word| !word.text.is_empty())
            .collect()
    }

    /// What stands between single-byte separators.
    pub(super) fn split(self, separator: impl Fn(char) -> bool) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut start = 0;
        for (index, found) in self.text.char_indices() {
            if separator(found) {
                parts.push(self.part(start, &self.text[start..index]));
                start = index + found.len_utf8();
            }
        }
        parts.push(self.part(start, &self.text[start..]));
        parts
    }

    /// What stands before and after a separator.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let (before, after) = self.text.split_once(separator)?;
        Some((
            self.part(0, before),
            self.part(before.len() + separator.len_utf8(), after),
        ))
    }

    pub(super) fn error(
        self,
        what: impl Into<String>,
        expected: impl Into<String>,
    ) -> ScheduleError {
        ScheduleError {
            text: self.whole.to_owned(),
            column: self.whole[..self.start].chars().count() + 1,
            what: what.into(),
            got: self.text.to_owned(),
            expected: expected.into(),
            hint: None,
        }
    }
}
