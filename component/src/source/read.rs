//! Typed reading of nodes. Every reader reports what is wrong and goes on, so one pass shows all problems of a document.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::code::Code;
use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::node::{Mapping, Node, Plain};
use super::suggest::nearest;
use super::text::{Source, Span};

/// A value and the place it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// One pass over a source: where problems are collected.
#[derive(Debug)]
pub struct Reading<'s> {
    source: &'s Source,
    diagnostics: RefCell<Diagnostics>,
}

impl<'s> Reading<'s> {
    /// Starts a pass.
    pub fn new(source: &'s Source) -> Self {
        Self {
            source,
            diagnostics: RefCell::new(Diagnostics::new()),
        }
    }

    /// The source being read.
    pub fn source(&self) -> &'s Source {
        self.source
    }

    /// Adds a finished diagnostic.
    pub fn report(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    /// A new error at a place; pass it to [`Self::report`] when complete.
    pub fn error(
        &self,
        code: impl Into<Cow<'static, str>>,
        span: Span,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(Severity::Error, code, message).at(self.source, span)
    }

    /// A new warning at a place; pass it to [`Self::report`] when complete.
    pub fn warning(
        &self,
        code: impl Into<Cow<'static, str>>,
        span: Span,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(Severity::Warning, code, message).at(self.source, span)
    }

    /// Whether an error has been reported so far.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.borrow().has_errors()
    }

    /// Ends the pass; problems come in the order of the text.
    pub fn finish(self) -> Diagnostics {
        let mut diagnostics = self.diagnostics.into_inner();
        diagnostics.sort();
        diagnostics
    }

    /// Reports a value of the wrong type.
    pub fn wrong_type(&self, node: &Node, what: &str, expected: &str) {
        let mut diagnostic = self
            .error(
                Code::WrongType,
                node.span,
                format!("{what} is {}", node.describe()),
            )
            .expected(expected);
        let braces = self.source.slice(node.span).starts_with("{{");
        if node.as_mapping().is_some() && braces {
            diagnostic = diagnostic.hint("put `{{ … }}` in quotes");
        }
        self.report(diagnostic);
    }

    /// Reads text. Numbers and booleans are taken by their source text, as the service's own parser does.
    pub fn string(&self, node: &Node, what: &str) -> Option<String> {
        match (node.as_scalar(), node.plain()) {
            (Some(scalar), Some(plain)) if plain != Plain::Null => Some(scalar.value.clone()),
            _ => {
                self.wrong_type(node, what, "text");
                None
            }
        }
    }

    /// Reads a boolean: `true` or `false`, quoted or not.
    pub fn boolean(&self, node: &Node, what: &str) -> Option<bool> {
        let found =
            node.as_scalar()
                .and_then(|scalar| match scalar.value.to_ascii_lowercase().as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => None,
                });
        if found.is_none() {
            let mut diagnostic = self
                .error(
                    Code::WrongType,
                    node.span,
                    format!("{what} is not a boolean"),
                )
                .expected("true or false");
            if let Some(scalar) = node.as_scalar()
                && matches!(
                    scalar.value.to_ascii_lowercase().as_str(),
                    "yes" | "no" | "on" | "off"
                )
            {
                let word = if matches!(scalar.value.to_ascii_lowercase().as_str(), "yes" | "on") {
                    "true"
                } else {
                    "false"
                };
                diagnostic = diagnostic.hint(format!("write `{word}`"));
            }
            self.report(diagnostic);
        }
        found
    }

    /// Reads a whole number within a range. Quoted numbers are accepted.
    pub fn integer(&self, node: &Node, what: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let number = node.as_scalar().and_then(|scalar| match node.plain() {
            Some(Plain::Integer(value)) => Some(value),
            Some(Plain::Text) => scalar.value.trim().parse().ok(),
            _ => None,
        });
        let Some(number) = number else {
            self.wrong_type(node, what, "a whole number");
            return None;
        };
        if !range.contains(&number) {
            self.report(
                self.error(Code::OutOfRange, node.span, format!("{what} is {number}"))
                    .expected(describe_range(&range)),
            );
            return None;
        }
        Some(number)
    }

    /// Reads a list; a null is an error.
    pub fn list<'n>(&self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        let items = node.as_sequence();
        if items.is_none() {
            let mut diagnostic = self
                .error(
                    Code::WrongType,
                    node.span,
                    format!("{what} is {}", node.describe()),
                )
                .expected("a list");
            if node.as_mapping().is_some() {
                diagnostic = diagnostic.hint("start each item with `- `");
            }
            self.report(diagnostic);
        }
        items
    }

    /// Reads a list of texts.
    pub fn strings(&self, node: &Node, what: &str) -> Option<Vec<Spanned<String>>> {
        let item = format!("an item of {what}");
        let items = self.list(node, what)?;
        Some(
            items
                .iter()
                .filter_map(|node| {
                    self.string(node, &item).map(|value| Spanned {
                        value,
                        span: node.span,
                    })
                })
                .collect(),
        )
    }

    /// Reads one word of a closed set; the comparison is exact, the suggestion is not.
    pub fn one_of<T: Clone>(&self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(node, what)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let mut diagnostic = self
            .error(Code::UnknownWord, node.span, format!("{what} is `{text}`"))
            .expected(join_words(&names));
        if let Some(near) = nearest(&text, names.iter().copied()) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        self.report(diagnostic);
        None
    }
}

/// `a, b or c`, each in back ticks.
pub fn join_words(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

fn describe_range(range: &RangeInclusive<i64>) -> String {
    match (*range.start(), *range.end()) {
        (i64::MIN, i64::MAX) => "a whole number".to_owned(),
        (low, i64::MAX) => format!("{low} or more"),
        (i64::MIN, high) => format!("{high} or less"),
        (low, high) => format!("a whole number from {low} to {high}"),
    }
}

/// Takes the fields of a map one by one; [`MapReader::finish`] reports the keys that nobody asked for.
#[derive(Debug)]
pub struct MapReader<'r, 's> {
    reading: &'r Reading<'s>,
    mapping: &'r Mapping,
    span: Span,
    what: String,
    known: Vec<&'static str>,
    taken: HashSet<&'static str>,
}

impl<'r, 's> MapReader<'r, 's> {
    /// Starts reading a map; reports anything else. `what` names the map in messages ("the step `Install`").
    pub fn new(reading: &'r Reading<'s>, node: &'r Node, what: impl Into<String>) -> Option<Self> {
        let what = what.into();
        let Some(mapping) = node.as_mapping() else {
            reading.wrong_type(node, &what, "a map");
            return None;
        };
        Some(Self {
            reading,
            mapping,
            span: node.span,
            what,
            known: Vec::new(),
            taken: HashSet::new(),
        })
    }

    /// The pass this reader belongs to.
    pub fn reading(&self) -> &'r Reading<'s> {
        self.reading
    }

    /// Place of the whole map.
    pub fn span(&self) -> Span {
        self.span
    }

    /// What the map is called in messages.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Renames the map in later messages, once its name is known.
    pub fn rename(&mut self, what: impl Into<String>) {
        self.what = what.into();
    }

    /// The place of a key, for errors about the field as a whole.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.mapping.entry(key).map(|entry| entry.key.span)
    }

    /// Whether a key is present, even with nothing behind it. Does not count as taking it.
    pub fn has(&self, key: &str) -> bool {
        self.mapping.entry(key).is_some()
    }

    /// Takes a field. A field with nothing behind it (`key:`) counts as absent.
    pub fn take(&mut self, key: &'static str) -> Option<&'r Node> {
        self.take_with_null(key).filter(|node| !node.is_null())
    }

    /// Takes a field, also when nothing stands behind it.
    pub fn take_with_null(&mut self, key: &'static str) -> Option<&'r Node> {
        if self.taken.insert(key) {
            self.known.push(key);
        }
        self.mapping.get(key)
    }

    /// Takes a field that must be there.
    pub fn require(&mut self, key: &'static str) -> Option<&'r Node> {
        let found = self.take(key);
        if found.is_none() {
            let span = self.key_span(key).unwrap_or(self.first_key_span());
            let message = if self.has(key) {
                format!("`{key}` of {} is empty", self.what)
            } else {
                format!("{} has no `{key}`", self.what)
            };
            let mut diagnostic = self.reading.error(Code::MissingKey, span, message);
            let strangers: Vec<&str> = self
                .mapping
                .entries
                .iter()
                .map(|entry| entry.key.text.as_str())
                .collect();
            if !self.has(key)
                && let Some(near) = nearest(key, strangers)
            {
                diagnostic = diagnostic.hint(format!("`{near}` looks like it"));
            }
            self.reading.report(diagnostic);
        }
        found
    }

    /// The first key stands for the map: a caret under a whole map helps nobody.
    fn first_key_span(&self) -> Span {
        self.mapping
            .entries
            .first()
            .map_or(self.span, |entry| entry.key.span)
    }

    fn label(&self, key: &str) -> String {
        format!("`{key}` of {}", self.what)
    }

    /// Takes optional text.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        self.spanned_string(key).map(|found| found.value)
    }

    /// Takes optional text with its place.
    pub fn spanned_string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let node = self.take(key)?;
        let value = self.reading.string(node, &self.label(key))?;
        Some(Spanned {
            value,
            span: node.span,
        })
    }

    /// Takes required text.
    pub fn require_string(&mut self, key: &'static str) -> Option<String> {
        self.require_spanned_string(key).map(|found| found.value)
    }

    /// Takes required text with its place; empty text is reported.
    pub fn require_spanned_string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let node = self.require(key)?;
        let value = self.reading.string(node, &self.label(key))?;
        if value.is_empty() {
            self.reading.report(self.reading.error(
                Code::EmptyValue,
                node.span,
                format!("{} is empty", self.label(key)),
            ));
            return None;
        }
        Some(Spanned {
            value,
            span: node.span,
        })
    }

    /// Takes an optional boolean.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.take(key)?;
        self.reading.boolean(node, &self.label(key))
    }

    /// Takes an optional whole number within a range.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let node = self.take(key)?;
        self.reading.integer(node, &self.label(key), range)
    }

    /// Takes an optional word of a closed set.
    pub fn one_of<T: Clone>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let node = self.take(key)?;
        self.reading.one_of(node, &self.label(key), words)
    }

    /// Takes an optional list of texts; `None` when absent or not a list.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<Spanned<String>>> {
        let node = self.take(key)?;
        self.reading.strings(node, &self.label(key))
    }

    /// Takes an optional list; absent and wrong lists are empty.
    pub fn list(&mut self, key: &'static str) -> &'r [Node] {
        let Some(node) = self.take(key) else {
            return &[];
        };
        self.reading.list(node, &self.label(key)).unwrap_or(&[])
    }

    /// Takes a required list.
    pub fn require_list(&mut self, key: &'static str) -> Option<&'r [Node]> {
        let node = self.require(key)?;
        self.reading.list(node, &self.label(key))
    }

    /// Takes an optional map and starts reading it.
    pub fn map(&mut self, key: &'static str) -> Option<MapReader<'r, 's>> {
        let node = self.take(key)?;
        MapReader::new(self.reading, node, self.label(key))
    }

    /// Takes a required map and starts reading it.
    pub fn require_map(&mut self, key: &'static str) -> Option<MapReader<'r, 's>> {
        let node = self.require(key)?;
        MapReader::new(self.reading, node, self.label(key))
    }

    /// Reports every key that was not taken, with the nearest known one as a hint.
    pub fn finish(self) {
        for entry in &self.mapping.entries {
            if self.taken.contains(entry.key.text.as_str()) {
                continue;
            }
            let message = format!("unknown key `{}` in {}", entry.key.text, self.what);
            let mut diagnostic = self
                .reading
                .error(Code::UnknownKey, entry.key.span, message)
                .expected(join_words(&self.known));
            let absent = self.known.iter().copied().filter(|key| !self.has(key));
            if let Some(near) = nearest(&entry.key.text, absent) {
                diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
            }
            self.reading.report(diagnostic);
        }
    }
}
