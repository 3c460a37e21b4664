//! From text to trees: duplicate keys, anchors, merge keys and limits are handled here.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as ParserSpan, Tag};

use super::code::Code;
use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::hint::explain_syntax_error;
use super::json::as_yaml;
use super::node::{Entry, Key, Mapping, Node, NodeKind, Scalar, Style};
use super::text::{Source, Span};

/// Bounds that keep a hostile document from using up memory or stack.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Deepest nesting of lists and maps.
    pub depth: usize,
    /// Most nodes after aliases have been expanded.
    pub nodes: usize,
}

impl Default for Limits {
    /// 64 levels and 500,000 nodes: real documents have fewer than 20 levels and 5,000 nodes.
    fn default() -> Self {
        Self {
            depth: 64,
            nodes: 500_000,
        }
    }
}

/// The documents of a text that could be read, and all problems found on the way.
#[derive(Debug)]
pub struct ParsedStream {
    /// One tree per YAML document; empty documents are left out.
    pub documents: Vec<Node>,
    /// Syntax errors, duplicate keys, limits passed.
    pub diagnostics: Diagnostics,
}

/// Parses every document of a text under the default limits.
pub fn parse(source: &Source) -> ParsedStream {
    parse_with_limits(source, Limits::default())
}

/// Parses a text that must hold exactly one document.
pub fn parse_one(source: &Source) -> (Option<Node>, Diagnostics) {
    let ParsedStream {
        documents,
        mut diagnostics,
    } = parse(source);
    let mut documents = documents.into_iter();
    let first = documents.next();
    if first.is_none() && !diagnostics.has_errors() {
        diagnostics.push(
            Diagnostic::new(
                Severity::Error,
                Code::EmptyDocument,
                "the document is empty",
            )
            .at(source, Span::START)
            .expected("a map"),
        );
    }
    if let Some(second) = documents.next() {
        diagnostics.push(
            Diagnostic::new(
                Severity::Error,
                Code::SeveralDocuments,
                "a second YAML document starts here",
            )
            .at(source, second.span)
            .expected("one document per file")
            .hint("a line with `---` starts a new document; put it into a file of its own"),
        );
    }
    (first, diagnostics)
}

/// Parses every document of a text under given limits.
pub fn parse_with_limits(source: &Source, limits: Limits) -> ParsedStream {
    let mut loader = Loader {
        source,
        limits,
        offsets: Offsets::new(source.text()),
        stack: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        documents: Vec::new(),
        diagnostics: Diagnostics::new(),
    };
    loader.run();
    ParsedStream {
        documents: loader.documents,
        diagnostics: loader.diagnostics,
    }
}

/// The parser counts characters; everything else here counts bytes.
enum Offsets {
    /// Characters are bytes.
    Ascii,
    /// The byte offset of each 64th character.
    Marks(Vec<usize>),
}

const CHARS_PER_MARK: usize = 64;

impl Offsets {
    fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Self::Ascii;
        }
        let marks = text
            .char_indices()
            .step_by(CHARS_PER_MARK)
            .map(|(offset, _)| offset)
            .collect();
        Self::Marks(marks)
    }

    fn byte(&self, text: &str, index: usize) -> usize {
        match self {
            Self::Ascii => index,
            Self::Marks(marks) => {
                let Some(&mark) = marks.get(index / CHARS_PER_MARK) else {
                    return text.len();
                };
                text[mark..]
                    .char_indices()
                    .nth(index % CHARS_PER_MARK)
                    .map_or(text.len(), |(offset, _)| mark + offset)
            }
        }
    }
}

/// A list or map whose end has not been seen yet.
struct Open {
    start: usize,
    tag: Option<Arc<str>>,
    anchor: usize,
    nodes_before: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping {
        mapping: Mapping,
        seen: HashSet<String>,
        key: PendingKey,
        merges: Vec<Node>,
    },
}

/// What the next child of an open mapping is.
enum PendingKey {
    /// A key.
    None,
    /// The value of this key.
    Some(Key),
    /// The value of a key that was not usable.
    Dropped,
}

struct Anchored {
    node: Node,
    weight: usize,
}

struct Loader<'s> {
    source: &'s Source,
    limits: Limits,
    offsets: Offsets,
    stack: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    documents: Vec<Node>,
    diagnostics: Diagnostics,
}

/// Ends the parse early; the reason has been reported.
struct Stop;

impl Loader<'_> {
    fn run(&mut self) {
        let source = self.source;
        let text = as_yaml(source.text());
        let mut parser = Parser::new_from_str(&text);
        while let Some(next) = parser.next_event() {
            let outcome = match next {
                Ok((event, span)) => self.accept(event, span),
                Err(error) => self.syntax_error(&error),
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    fn syntax_error(&mut self, error: &ScanError) -> Result<(), Stop> {
        let offset = self.byte(error.marker().index());
        let explained = explain_syntax_error(self.source, offset, error.info());
        // `{{ x }}/y` is first a strange key and then a syntax error; one message about it is enough.
        let known = self.diagnostics.iter().any(|earlier| {
            earlier.code == Code::UnquotedReference.word() && earlier.line == explained.line
        });
        if !known {
            self.diagnostics.push(explained);
        }
        Err(Stop)
    }

    fn byte(&self, index: usize) -> usize {
        self.offsets.byte(self.source.text(), index)
    }

    fn span(&self, span: ParserSpan) -> Span {
        self.source
            .span(self.byte(span.start.index()), self.byte(span.end.index()))
    }

    fn error(&mut self, code: Code, span: Span, message: impl Into<String>) -> &mut Self {
        let diagnostic = Diagnostic::new(Severity::Error, code, message).at(self.source, span);
        self.diagnostics.push(diagnostic);
        self
    }

    fn accept(&mut self, event: Event<'_>, span: ParserSpan) -> Result<(), Stop> {
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let span = self.span(span);
                self.count(span, 1)?;
                let scalar = Scalar {
                    value: value.into_owned(),
                    style: style_of(style),
                };
                let node = Node::new(span, tag_name(tag.as_deref()), NodeKind::Scalar(scalar));
                self.finish(node, anchor, 1);
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(span, anchor, tag.as_deref(), Content::Sequence(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Mapping {
                    mapping: Mapping::default(),
                    seen: HashSet::new(),
                    key: PendingKey::None,
                    merges: Vec::new(),
                };
                self.open(span, anchor, tag.as_deref(), content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => {
                let span = self.span(span);
                self.alias(anchor, span)?;
            }
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn count(&mut self, span: Span, added: usize) -> Result<(), Stop> {
        self.nodes += added;
        if self.nodes > self.limits.nodes {
            let message = format!("the document has more than {} values", self.limits.nodes);
            self.error(Code::DocumentTooComplex, span, message);
            return Err(Stop);
        }
        Ok(())
    }

    fn open(
        &mut self,
        span: ParserSpan,
        anchor: usize,
        tag: Option<&Tag>,
        content: Content,
    ) -> Result<(), Stop> {
        let place = self.span(span);
        self.count(place, 1)?;
        if self.stack.len() >= self.limits.depth {
            let message = format!(
                "lists and maps are nested more than {} deep",
                self.limits.depth
            );
            self.error(Code::NestedTooDeeply, place, message);
            return Err(Stop);
        }
        self.stack.push(Open {
            start: place.start.offset as usize,
            tag: tag_name(tag),
            anchor,
            nodes_before: self.nodes - 1,
            content,
        });
        Ok(())
    }

    fn close(&mut self, span: ParserSpan) {
        let Some(open) = self.stack.pop() else { return };
        let end = self.byte(span.end.index());
        // A block collection ends where its last child ends, not where the parser noticed it.
        let kind = match open.content {
            Content::Sequence(items) => NodeKind::Sequence(items),
            Content::Mapping {
                mut mapping,
                merges,
                ..
            } => {
                self.merge(&mut mapping, merges);
                NodeKind::Mapping(mapping)
            }
        };
        let text = self.source.text();
        let flow = text[open.start..].starts_with(['{', '[']);
        let end = if flow {
            end
        } else {
            let trimmed = text.get(open.start..end).map_or("", str::trim_end);
            open.start + trimmed.len()
        };
        let span = self.source.span(open.start, end);
        let node = Node::new(span, open.tag, kind);
        let weight = self.nodes - open.nodes_before;
        self.finish(node, open.anchor, weight);
    }

    /// YAML 1.1 merge keys: entries of the mapping itself win over merged ones, earlier sources over later ones.
    fn merge(&mut self, mapping: &mut Mapping, merges: Vec<Node>) {
        for source in merges {
            let sources: Vec<Node> = match &*source.kind {
                NodeKind::Mapping(_) => vec![source.clone()],
                NodeKind::Sequence(items) => items.clone(),
                NodeKind::Scalar(_) => Vec::new(),
            };
            if sources.is_empty() || sources.iter().any(|item| item.as_mapping().is_none()) {
                self.error(
                    Code::BadMerge,
                    source.span,
                    "`<<` takes a map or a list of maps",
                );
                continue;
            }
            for entry in sources
                .iter()
                .filter_map(Node::as_mapping)
                .flat_map(|m| &m.entries)
            {
                if mapping.get(&entry.key.text).is_none() {
                    mapping.entries.push(entry.clone());
                }
            }
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        match self.anchors.get(&anchor) {
            Some(anchored) => {
                let node = anchored.node.clone();
                let weight = anchored.weight;
                self.count(span, weight)?;
                self.finish(node, 0, weight);
                Ok(())
            }
            None => {
                self.error(
                    Code::RecursiveAlias,
                    span,
                    "an alias stands inside the value it refers to",
                );
                Err(Stop)
            }
        }
    }

    /// Hands a complete node to the collection it stands in.
    fn finish(&mut self, node: Node, anchor: usize, weight: usize) {
        if anchor > 0 {
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    weight,
                },
            );
        }
        let source = self.source;
        let Some(open) = self.stack.last_mut() else {
            self.documents.push(node);
            return;
        };
        match &mut open.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping {
                mapping,
                seen,
                key,
                merges,
            } => match std::mem::replace(key, PendingKey::None) {
                PendingKey::None => match usable_key(source, mapping, seen, node) {
                    Ok(good) => *key = PendingKey::Some(good),
                    Err(problem) => {
                        *key = PendingKey::Dropped;
                        self.diagnostics.push(*problem);
                    }
                },
                PendingKey::Some(found) if found.text == "<<" && found.style == Style::Plain => {
                    merges.push(node)
                }
                PendingKey::Some(found) => mapping.entries.push(Entry {
                    key: found,
                    value: node,
                }),
                PendingKey::Dropped => {}
            },
        }
    }
}

/// Checks that a node can be a key and has not been one before.
fn usable_key(
    source: &Source,
    mapping: &Mapping,
    seen: &mut HashSet<String>,
    node: Node,
) -> Result<Key, Box<Diagnostic>> {
    let Some(scalar) = node.as_scalar() else {
        return Err(Box::new(complex_key(source, &node)));
    };
    if !seen.insert(scalar.value.clone()) {
        let first = mapping
            .entry(&scalar.value)
            .map_or(0, |entry| entry.key.span.start.line);
        let message = format!("duplicate key `{}`", scalar.value);
        return Err(Box::new(
            Diagnostic::new(Severity::Error, Code::DuplicateKey, message)
                .at(source, node.span)
                .hint(format!(
                    "it is already set on line {first}; remove one of the two"
                )),
        ));
    }
    Ok(Key {
        text: scalar.value.clone(),
        span: node.span,
        style: scalar.style,
    })
}

/// A map as a key is, in practice, always a reference that somebody forgot to quote.
fn complex_key(source: &Source, node: &Node) -> Diagnostic {
    let before = source.text()[..node.span.start.offset as usize].trim_end();
    let diagnostic = Diagnostic::new(
        Severity::Error,
        Code::UnquotedReference,
        "a map or list stands where a key is expected",
    )
    .at(source, node.span);
    if node.as_mapping().is_some() && before.ends_with('{') {
        diagnostic
            .expected("a reference in quotes, such as '{{ name }}'")
            .hint("without quotes YAML reads `{{ … }}` as a map; put the whole value in quotes")
    } else {
        diagnostic.expected("a plain or quoted word")
    }
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
    }
}

fn tag_name(tag: Option<&Tag>) -> Option<Arc<str>> {
    tag.map(|tag| Arc::from(format!("{}{}", tag.handle, tag.suffix)))
}
