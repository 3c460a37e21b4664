//! Reads a parsed document by a table: checks everything in one pass, and makes the canonical value.
//!
//! The canonical value has the service's keys in camelCase whatever the document's casing, numbers and booleans as such
//! even if they were quoted, texts as texts even if they look like numbers, and neither nulls nor defaults.

use std::borrow::Cow;
use std::cell::RefCell;

use camino::Utf8Path;
use ovenbird_component::source::{
    Diagnostic, Entry, Mapping, Node, Reading, Severity, Span, join_words, nearest,
};
use serde_json::{Map, Value};

use super::places::{Places, child};
use super::{ANY, Field, Shape, StringMap, Text, Type, rules};
use crate::documents::reference::{Complaint, Refers};

/// How a document spells its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Casing {
    /// `imageRecipeArn`, as in requests.
    Camel,
    /// `ImageRecipeArn`, as in CloudFormation.
    Pascal,
}

/// A reference met while reading, good or not.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it should refer to.
    pub refers: Refers,
    /// The field.
    pub field: &'static str,
    /// The JSON pointer of the field.
    pub pointer: String,
    /// What it says.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// One pass over one resource.
#[derive(Debug)]
pub struct Reader<'r> {
    reading: &'r Reading<'r>,
    casing: Casing,
    records: bool,
    places: RefCell<Places>,
    found: RefCell<Vec<Found>>,
}

impl<'r> Reader<'r> {
    /// Starts a pass.
    pub fn new(reading: &'r Reading<'r>, casing: Casing) -> Self {
        Self {
            reading,
            casing,
            records: false,
            places: RefCell::default(),
            found: RefCell::default(),
        }
    }

    /// … over a resource of our own records, in which texts may be as long as those of files.
    pub fn of_records(self) -> Self {
        Self {
            records: true,
            ..self
        }
    }

    /// Reads a whole resource; all problems are reported to the reading.
    pub fn resource(&self, node: &Node, shape: &'static Shape) -> Option<Value> {
        self.object(node, shape, shape.what, "").map(Value::Object)
    }

    /// Where everything that has been read stands, and the references in it.
    pub fn into_parts(self) -> (Places, Vec<Found>) {
        (self.places.into_inner(), self.found.into_inner())
    }

    /// Reports paths behind which there is no file.
    pub fn check_files(&self, folder: &Utf8Path) {
        let found = self.found.borrow();
        for reference in found.iter() {
            let path = folder.join(&reference.text);
            if reference.refers == Refers::ComponentFile && !path.is_file() {
                self.report(
                    self.error(
                        "missing-reference",
                        reference.span,
                        format!("there is no file {path}"),
                    )
                    .expected("the path of a component document, relative to this file"),
                );
            }
        }
    }

    /// The place of a value that has been read.
    pub fn place(&self, pointer: &str) -> Span {
        self.places.borrow().get(pointer)
    }

    /// How the document spells a key.
    pub fn spelling(&self, field: &Field) -> Cow<'static, str> {
        match self.casing {
            Casing::Camel => Cow::Borrowed(field.key),
            Casing::Pascal => match field.cloudformation {
                Some(key) => Cow::Borrowed(key),
                None => Cow::Owned(pascal(field.key)),
            },
        }
    }

    /// Adds a problem.
    pub fn report(&self, diagnostic: Diagnostic) {
        self.reading.report(diagnostic);
    }

    /// A new error at a place.
    pub fn error(&self, code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, code, message).at(self.reading.source(), span)
    }

    /// A new warning at a place.
    pub fn warning(
        &self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(Severity::Warning, code, message).at(self.reading.source(), span)
    }

    fn object(
        &self,
        node: &Node,
        shape: &Shape,
        what: &str,
        pointer: &str,
    ) -> Option<Map<String, Value>> {
        self.places
            .borrow_mut()
            .insert(pointer.to_owned(), node.span);
        let Some(mapping) = node.as_mapping() else {
            self.reading.wrong_type(node, what, "a map");
            return None;
        };
        let mut value = Map::new();
        for field in shape.fields {
            let spelling = self.spelling(field);
            let entry = mapping.entry(&spelling);
            // A key with nothing behind it counts as absent.
            match entry.filter(|entry| !entry.value.is_null()) {
                Some(entry) => {
                    let pointer = child(pointer, field.key);
                    let label = format!("`{spelling}` of {what}");
                    let read = match &field.takes {
                        Type::Reference(refers) => {
                            self.reference(&entry.value, *refers, field.key, &label, &pointer)
                        }
                        takes => self.value(&entry.value, takes, &label, &pointer),
                    };
                    if let Some(read) = read
                        && !field.dropped
                    {
                        value.insert(field.key.to_owned(), read);
                    }
                }
                None if field.required => self.missing(node, mapping, field, what),
                None => {}
            }
        }
        for entry in &mapping.entries {
            self.unknown(entry, mapping, shape, what);
        }
        rules::check(self, shape, mapping, node.span, what);
        Some(value)
    }

    fn missing(&self, node: &Node, mapping: &Mapping, field: &Field, what: &str) {
        let spelling = self.spelling(field);
        let key = spelling.as_ref();
        let entry = mapping.entry(key);
        // The first key stands for the map: a caret under a whole map helps nobody.
        let span = entry
            .or(mapping.entries.first())
            .map_or(node.span, |entry| entry.key.span);
        let message = match entry {
            Some(_) => format!("`{key}` of {what} is empty"),
            None => format!("{what} has no `{key}`"),
        };
        let mut diagnostic = self
            .error("missing-key", span, message)
            .expected(format!("`{key}`: {}", describe(&field.takes)));
        let strangers = mapping.entries.iter().map(|entry| entry.key.text.as_str());
        if entry.is_none()
            && let Some(near) = nearest(key, strangers)
        {
            diagnostic = diagnostic.hint(format!("`{near}` looks like it"));
        }
        self.report(diagnostic);
    }

    fn unknown(&self, entry: &Entry, mapping: &Mapping, shape: &Shape, what: &str) {
        let key = entry.key.text.as_str();
        let spellings: Vec<Cow<'static, str>> = shape
            .fields
            .iter()
            .map(|field| self.spelling(field))
            .collect();
        if spellings.iter().any(|spelling| spelling == key) {
            return;
        }
        // What belongs to a call of the API is taken, but not recommended.
        let offered = |field: &&Field| !field.dropped || field.key == "kind";
        let offered: Vec<Cow<'static, str>> = shape
            .fields
            .iter()
            .filter(offered)
            .map(|field| self.spelling(field))
            .collect();
        let known: Vec<&str> = offered.iter().map(AsRef::as_ref).collect();
        let mut diagnostic = self
            .error(
                "unknown-key",
                entry.key.span,
                format!("unknown key `{key}` in {what}"),
            )
            .expected(join_words(&known));
        let absent = known
            .iter()
            .copied()
            .filter(|known| mapping.entry(known).is_none());
        if let Some(near) = nearest(key, absent) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        self.report(diagnostic);
    }

    fn value(&self, node: &Node, takes: &Type, label: &str, pointer: &str) -> Option<Value> {
        self.places
            .borrow_mut()
            .insert(pointer.to_owned(), node.span);
        match takes {
            Type::Text(limits) => self.text(node, limits, label).map(Value::from),
            Type::Integer(least, most) => self
                .reading
                .integer(node, label, *least..=*most)
                .map(Value::from),
            Type::Boolean => self.reading.boolean(node, label).map(Value::from),
            Type::Word(words) => {
                let table: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
                self.reading.one_of(node, label, &table).map(Value::from)
            }
            Type::List(item, least, most) => {
                let items = self.reading.list(node, label)?;
                self.count(node, items.get(*most), items.len(), *least, *most, label);
                let what = item_name(item, label);
                let read = items.iter().enumerate().filter_map(|(index, node)| {
                    self.value(node, item, &what, &child(pointer, &index.to_string()))
                });
                Some(Value::Array(read.collect()))
            }
            Type::Values(limits) => {
                let what = format!("an item of {label}");
                let one = [node.clone()];
                let items = node.as_sequence().unwrap_or(&one);
                let what = if node.as_sequence().is_some() {
                    &what
                } else {
                    label
                };
                let read = items
                    .iter()
                    .filter_map(|node| self.text(node, limits, what).map(Value::from));
                Some(Value::Array(read.collect()))
            }
            Type::Object(shape) => {
                let what = object_name(shape, label);
                self.object(node, shape, &what, pointer).map(Value::Object)
            }
            Type::Map(limits) => self.map(node, limits, label, pointer),
            Type::Checked(limits, check) => {
                // First the check, which knows more words than the pattern.
                let text = self.reading.string(node, label)?;
                if let Err(complaint) = check(&text) {
                    self.complain(node.span, label, complaint);
                    return None;
                }
                let fits = self.limits(&text, node.span, limits, label);
                fits.then(|| Value::from(text))
            }
            Type::Free => Some(node.to_json()),
            Type::Reference(refers) => self.reference(node, *refers, "", label, pointer),
        }
    }

    fn reference(
        &self,
        node: &Node,
        refers: Refers,
        field: &'static str,
        label: &str,
        pointer: &str,
    ) -> Option<Value> {
        self.places
            .borrow_mut()
            .insert(pointer.to_owned(), node.span);
        let text = self.text(node, &super::SHORT, label)?;
        if let Err(complaint) = refers.parse(&text, Utf8Path::new("")) {
            self.complain(node.span, label, complaint);
            return None;
        }
        self.found.borrow_mut().push(Found {
            refers,
            field,
            pointer: pointer.to_owned(),
            text: text.clone(),
            span: node.span,
        });
        Some(Value::from(text))
    }

    fn complain(&self, span: Span, label: &str, complaint: Complaint) {
        let mut diagnostic = self
            .error(
                complaint.code,
                span,
                format!("{label}: {}", complaint.message),
            )
            .expected(complaint.expected);
        if let Some(hint) = complaint.hint {
            diagnostic = diagnostic.hint(hint);
        }
        self.report(diagnostic);
    }

    fn map(&self, node: &Node, limits: &StringMap, label: &str, pointer: &str) -> Option<Value> {
        let Some(mapping) = node.as_mapping() else {
            self.reading.wrong_type(node, label, "a map");
            return None;
        };
        let entries = &mapping.entries;
        let surplus = entries.get(limits.most).map(|entry| &entry.value);
        self.count(
            node,
            surplus,
            entries.len(),
            limits.least,
            limits.most,
            label,
        );
        let mut value = Map::new();
        for entry in entries {
            let key = &entry.key.text;
            self.limits(
                key,
                entry.key.span,
                &limits.key,
                &format!("a key of {label}"),
            );
            let what = format!("`{key}` of {label}");
            let pointer = child(pointer, key);
            self.places.borrow_mut().insert(pointer, entry.value.span);
            // An empty value is a value here: tags need not have one.
            let text = if entry.value.is_null() {
                Some(String::new())
            } else {
                self.text(&entry.value, &limits.value, &what)
            };
            if let Some(text) = text {
                value.insert(key.clone(), Value::from(text));
            }
        }
        Some(Value::Object(value))
    }

    fn text(&self, node: &Node, limits: &Text, label: &str) -> Option<String> {
        let text = self.reading.string(node, label)?;
        self.limits(&text, node.span, limits, label).then_some(text)
    }

    fn limits(&self, text: &str, span: Span, limits: &Text, label: &str) -> bool {
        let length = text.chars().count();
        let longest = match limits.longest_from_file {
            Some(longest) if self.records => longest,
            _ => limits.longest,
        };
        if let Some(pattern) = limits.pattern
            && !pattern.fits(text)
        {
            self.report(
                self.error(
                    pattern.code(),
                    span,
                    format!("{label} is `{}`", shorten(text)),
                )
                .expected(pattern.expected()),
            );
            return false;
        }
        if length >= limits.shortest && length <= longest {
            return true;
        }
        let diagnostic = if length == 0 {
            self.error("empty-value", span, format!("{label} is empty"))
        } else {
            self.error(
                "wrong-length",
                span,
                format!("{label} has {length} characters"),
            )
        };
        self.report(diagnostic.expected(span_of_counts(limits.shortest, longest, "character")));
        false
    }

    fn count(
        &self,
        node: &Node,
        surplus: Option<&Node>,
        count: usize,
        least: usize,
        most: usize,
        label: &str,
    ) {
        let (code, span) = if count < least {
            ("too-few", node.span)
        } else if count > most {
            ("too-many", surplus.map_or(node.span, |node| node.span))
        } else {
            return;
        };
        let items = if count == 1 { "item" } else { "items" };
        self.report(
            self.error(code, span, format!("{label} has {count} {items}"))
                .expected(span_of_counts(least, most, "item")),
        );
    }
}

/// What a field takes, in a few words.
fn describe(takes: &Type) -> String {
    match takes {
        Type::Text(Text {
            pattern: Some(pattern),
            ..
        })
        | Type::Checked(
            Text {
                pattern: Some(pattern),
                ..
            },
            _,
        ) => pattern.expected().to_owned(),
        Type::Text(_) | Type::Checked(..) => "text".to_owned(),
        Type::Integer(least, most) => format!("a whole number from {least} to {most}"),
        Type::Boolean => "true or false".to_owned(),
        Type::Word(words) => join_words(words),
        Type::List(..) | Type::Values(_) => "a list".to_owned(),
        Type::Object(_) | Type::Map(_) => "a map".to_owned(),
        Type::Free => "a value".to_owned(),
        Type::Reference(refers) => refers.expected(),
    }
}

/// The key with a capital.
pub fn pascal(key: &str) -> String {
    let mut chars = key.chars();
    match chars.next() {
        Some(first) => first.to_ascii_uppercase().to_string() + chars.as_str(),
        None => String::new(),
    }
}

fn item_name(item: &Type, label: &str) -> String {
    match item {
        Type::Object(shape) => shape.what.to_owned(),
        _ => format!("an item of {label}"),
    }
}

/// A map under a key is called by its key; a map in a list by its shape, which `label` already is.
fn object_name(shape: &Shape, label: &str) -> String {
    if label == shape.what || label.starts_with("an item of") {
        return shape.what.to_owned();
    }
    label
        .strip_prefix('`')
        .and_then(|rest| rest.split_once('`'))
        .map_or_else(|| label.to_owned(), |(key, _)| format!("`{key}`"))
}

fn span_of_counts(least: usize, most: usize, unit: &str) -> String {
    match (least, most) {
        (least, ANY) => format!("{least} or more {unit}s"),
        (0, 1) => format!("at most one {unit}"),
        (0, most) => format!("at most {most} {unit}s"),
        (least, most) if least == most => format!("{most} {unit}s"),
        (least, most) => format!("{least} to {most} {unit}s"),
    }
}

fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= LONGEST && line.len() == text.len() {
        return text.to_owned();
    }
    let mut short: String = line.chars().take(LONGEST).collect();
    short.push('…');
    short
}
