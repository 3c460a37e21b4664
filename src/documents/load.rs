//! Reads files and folders of documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_component::source::{
    Diagnostic, Diagnostics, Entry, Key, Mapping, Node, NodeKind, Scalar, Severity, Source, Span,
    Style, join_words, nearest, parse,
};

use super::document::Document;
use super::read::Incoming;
use super::shape::Casing;
use super::version::Version;
use super::{Kind, guess, template, vocabulary, workflow_document};

/// Folders below folders: deeper trees are loops or mistakes.
const DEEPEST_FOLDER: usize = 16;

/// Reads every document of a file, or of the files below a folder in the order of their paths. `parameters` are those of
/// CloudFormation templates.
///
/// In a folder, files that hold no resource document are passed over with a warning; a file that is named itself must
/// hold one. Hidden files and folders are never read.
pub fn load(
    path: &Utf8Path,
    parameters: &BTreeMap<String, String>,
) -> (Vec<Document>, Diagnostics) {
    let mut loading = Loading::new(parameters);
    if path.is_dir() {
        let mut files = Vec::new();
        loading.collect(path, 0, &mut files);
        files.sort();
        for file in files {
            loading.file(&file, true);
        }
    } else {
        loading.file(path, false);
    }
    loading.check_parameters(path);
    (loading.documents, loading.diagnostics)
}

/// Reads the documents of a text, as if it were a file of that name.
pub fn load_text(
    name: &Utf8Path,
    text: &str,
    parameters: &BTreeMap<String, String>,
) -> (Vec<Document>, Diagnostics) {
    let mut loading = Loading::new(parameters);
    loading.text(&Arc::new(Source::new(name.as_str(), text)), false);
    loading.check_parameters(name);
    (loading.documents, loading.diagnostics)
}

struct Loading<'p> {
    parameters: &'p BTreeMap<String, String>,
    documents: Vec<Document>,
    diagnostics: Diagnostics,
    templates: bool,
    declared: Vec<String>,
}

impl<'p> Loading<'p> {
    fn new(parameters: &'p BTreeMap<String, String>) -> Self {
        Self {
            parameters,
            documents: Vec::new(),
            diagnostics: Diagnostics::new(),
            templates: false,
            declared: Vec::new(),
        }
    }

    fn collect(&mut self, folder: &Utf8Path, depth: usize, files: &mut Vec<Utf8PathBuf>) {
        let entries = match folder.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) => {
                self.problem(
                    "unreadable-file",
                    folder,
                    format!("cannot read {folder}: {error}"),
                );
                return;
            }
        };
        if depth > DEEPEST_FOLDER {
            let message = format!("{folder} lies more than {DEEPEST_FOLDER} folders deep");
            self.problem("nested-too-deeply", folder, message);
            return;
        }
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name().starts_with('.') {
                continue;
            }
            // Links to folders are not followed: they are how loops are made.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.collect(path, depth + 1, files),
                Ok(_) if is_document_name(path) && path.is_file() => files.push(path.to_owned()),
                _ => {}
            }
        }
    }

    fn problem(&mut self, code: &'static str, file: &Utf8Path, message: String) {
        self.diagnostics
            .push(Diagnostic::new(Severity::Error, code, message).in_file(file.as_str()));
    }

    /// A parameter that no template takes is a misspelling.
    fn check_parameters(&mut self, path: &Utf8Path) {
        for name in self.parameters.keys() {
            if name.starts_with("AWS::") || self.declared.contains(name) {
                continue;
            }
            let message = if self.templates {
                format!("no template has a parameter `{name}`")
            } else {
                format!("`{name}` is given as a parameter, but there is no template")
            };
            let known: Vec<&str> = self.declared.iter().map(String::as_str).collect();
            let expected = match known[..] {
                [] => "no parameters".to_owned(),
                _ => join_words(&known),
            };
            let mut diagnostic = Diagnostic::new(Severity::Error, "unknown-parameter", message)
                .in_file(path.as_str())
                .expected(expected);
            if let Some(near) = nearest(name, self.declared.iter().map(String::as_str)) {
                diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
            }
            self.diagnostics.push(diagnostic);
        }
    }

    fn file(&mut self, file: &Utf8Path, in_folder: bool) {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.problem(
                    "unreadable-file",
                    file,
                    format!("cannot read {file}: {error}"),
                );
                return;
            }
        };
        match Source::from_bytes(file.as_str(), &bytes) {
            Ok(source) => self.text(&Arc::new(source), in_folder),
            Err(problem) => self.diagnostics.push(*problem),
        }
    }

    fn text(&mut self, source: &Arc<Source>, in_folder: bool) {
        let stream = parse(source);
        let broken = stream.diagnostics.has_errors();
        self.diagnostics.append(stream.diagnostics);
        if stream.documents.is_empty() && !broken && !in_folder {
            self.diagnostics.push(
                Diagnostic::new(Severity::Error, "empty-document", "the document is empty")
                    .at(source, Span::START)
                    .expected("a map with `kind`"),
            );
        }
        for node in &stream.documents {
            self.document(source, node, in_folder);
        }
    }

    fn document(&mut self, source: &Arc<Source>, node: &Node, in_folder: bool) {
        let Some(mapping) = node.as_mapping() else {
            self.stranger(source, node.span, in_folder);
            return;
        };
        if guess::is_template(mapping) {
            self.templates = true;
            let read = template::read(
                source,
                node,
                self.parameters,
                &mut self.declared,
                &mut self.diagnostics,
            );
            self.documents.extend(read);
            return;
        }
        if guess::is_component_document(mapping) {
            self.component_document(source, node);
            return;
        }
        if guess::is_workflow_document(mapping) {
            // It says neither type nor version, so it is no resource; a document of `kind: Workflow` names it.
            if !in_folder {
                self.diagnostics
                    .append(workflow_document::read(source, None).1);
            }
            return;
        }
        let kind = match mapping.entry("kind") {
            Some(entry) => match self.kind(source, entry, in_folder) {
                Some(kind) => kind,
                None => return,
            },
            None => match guess::kind(mapping) {
                Some(kind) => kind,
                None => {
                    let span = mapping
                        .entries
                        .first()
                        .map_or(node.span, |entry| entry.key.span);
                    self.stranger(source, span, in_folder);
                    return;
                }
            },
        };
        self.read(source, node, kind);
    }

    fn read(&mut self, source: &Arc<Source>, node: &Node, kind: Kind) {
        let incoming = Incoming {
            source,
            node,
            kind,
            casing: Casing::Camel,
            logical_id: None,
            stored: false,
        };
        let document = incoming.read(&mut self.diagnostics);
        self.documents.extend(document);
    }

    /// `apiVersion` beside `kind` is another tool's; without it a wrong word is a misspelling.
    fn kind(&mut self, source: &Source, entry: &Entry, in_folder: bool) -> Option<Kind> {
        let word = entry
            .value
            .as_scalar()
            .map_or("", |scalar| scalar.value.as_str());
        let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
        if known.is_none() {
            let words = Kind::ALL.map(Kind::as_str);
            let near = Kind::from_word(word)
                .map(Kind::as_str)
                .or_else(|| nearest(word, words));
            if near.is_none() && in_folder {
                self.stranger(source, entry.value.span, true);
                return None;
            }
            let mut diagnostic = Diagnostic::new(
                Severity::Error,
                "unknown-kind",
                format!("there is no kind of document `{word}`"),
            )
            .at(source, entry.value.span)
            .expected(words.join(", "));
            if let Some(near) = near {
                diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
            }
            self.diagnostics.push(diagnostic);
        }
        known
    }

    fn stranger(&mut self, source: &Source, span: Span, in_folder: bool) {
        let severity = if in_folder {
            Severity::Warning
        } else {
            Severity::Error
        };
        self.diagnostics.push(
            Diagnostic::new(severity, "not-a-document", "this is no resource document")
                .at(source, span)
                .expected("a map with `kind`, a component document with `phases`, or a CloudFormation template"),
        );
    }

    /// A plain component document is a component of its own: `NAME/VERSION.yml` and `NAME/VERSION/component.yml` say name
    /// and version; elsewhere the name is the document's or the file's, and the version 1.0.0.
    fn component_document(&mut self, source: &Arc<Source>, node: &Node) {
        let path = Utf8Path::new(source.name());
        let (name, version) = name_and_version(path, node);
        let platform = super::component::platform_of(node);
        // The document's text goes in as it is, so that its digest is that of the file.
        let scalar = |value: &str, style: Style| Node {
            span: node.span,
            tag: None,
            kind: Arc::new(NodeKind::Scalar(Scalar {
                value: value.to_owned(),
                style,
            })),
        };
        let entry = |key: &str, value: &str| Entry {
            key: Key {
                text: key.to_owned(),
                span: node.span,
                style: Style::Plain,
            },
            value: scalar(value, Style::DoubleQuoted),
        };
        let wrapped = Node {
            span: node.span,
            tag: None,
            kind: Arc::new(NodeKind::Mapping(Mapping {
                entries: vec![
                    entry("name", &name),
                    entry("semanticVersion", &version.to_string()),
                    entry("platform", platform.as_str()),
                    entry("data", source.text()),
                ],
            })),
        };
        let validated = super::component::validate_plain(source, platform);
        let failed = validated.has_errors();
        self.diagnostics.append(validated);
        if failed {
            return;
        }
        let incoming = Incoming {
            source,
            node: &wrapped,
            kind: Kind::Component,
            casing: Casing::Camel,
            logical_id: None,
            // Checked just now, with better places.
            stored: true,
        };
        let document = incoming.read(&mut self.diagnostics);
        self.documents.extend(document);
    }
}

fn is_document_name(path: &Utf8Path) -> bool {
    matches!(
        path.extension(),
        Some("yml" | "yaml" | "json" | "template" | "cfn")
    )
}

fn name_and_version(path: &Utf8Path, node: &Node) -> (String, Version) {
    let stem = path.file_stem().unwrap_or_default();
    let name_of = |folder: Option<&Utf8Path>| {
        folder
            .and_then(Utf8Path::file_name)
            .filter(|name| vocabulary::NAME_PATTERN.fits(name))
            .map(str::to_owned)
    };
    let folder = path.parent();
    if let (Ok(version), Some(name)) = (stem.parse(), name_of(folder)) {
        return (name, version);
    }
    let version_folder = folder.and_then(Utf8Path::file_name).map(str::parse);
    if let (Some(Ok(version)), Some(name)) =
        (version_folder, name_of(folder.and_then(Utf8Path::parent)))
    {
        return (name, version);
    }
    let own = node
        .as_mapping()
        .and_then(|mapping| mapping.get("name"))
        .and_then(Node::as_scalar)
        .map(|scalar| scalar.value.clone())
        .filter(|name| vocabulary::NAME_PATTERN.fits(name));
    let name = own
        .or_else(|| Some(stem.to_owned()).filter(|name| vocabulary::NAME_PATTERN.fits(name)))
        .unwrap_or_else(|| format!("component-{stem}"));
    (name, Version::new(1, 0, 0))
}
