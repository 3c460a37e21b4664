//! `AWS::ImageBuilder::*` resources of CloudFormation templates, read as documents.
//!
//! Functions are evaluated before a resource is read, and every value keeps the place that it has in the template, so that
//! messages about a resource are as good as those about a document. What can only be known in the service (exports,
//! dynamic references, macros) is refused with a hint; resources of other services get a stand-in ([`stand_in`]), because
//! instance profiles and topics have no effect here but stand in every template.

mod evaluate;
mod functions;
mod graph;
mod names;
mod parameters;
mod stand_in;

use std::collections::BTreeMap;
use std::sync::Arc;

use ovenbird_component::source::{
    Diagnostics, Entry, Key, Mapping, Node, NodeKind, Reading, Scalar, Source, Span, Style,
    join_words, nearest,
};

use super::Kind;
use super::document::Document;
use super::read::Incoming;
use super::shape::Casing;
use evaluate::{Evaluator, Scope};

/// The sections of a template.
const SECTIONS: [&str; 11] = [
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Rules",
    "Mappings",
    "Conditions",
    "Transform",
    "Resources",
    "Outputs",
    "Hooks",
];

/// The keys of a resource besides its properties.
const RESOURCE_KEYS: [&str; 9] = [
    "Type",
    "Properties",
    "Condition",
    "DependsOn",
    "Metadata",
    "DeletionPolicy",
    "UpdateReplacePolicy",
    "UpdatePolicy",
    "CreationPolicy",
];

/// The transform that only adds functions, all of which are known here or refused one by one.
const LANGUAGE_EXTENSIONS: &str = "AWS::LanguageExtensions";

/// The prefix of the types that are read.
const PREFIX: &str = "AWS::ImageBuilder::";

/// Reads the resources of a template. `declared` gets the names of its parameters.
pub fn read(
    source: &Arc<Source>,
    node: &Node,
    given: &BTreeMap<String, String>,
    declared: &mut Vec<String>,
    diagnostics: &mut Diagnostics,
) -> Vec<Document> {
    let reading = Reading::new(source);
    let resolved = resolve(&reading, node, given, declared);
    let failed = reading.has_errors();
    diagnostics.append(reading.finish());
    if failed {
        return Vec::new();
    }
    resolved
        .iter()
        .filter_map(|resource| {
            let incoming = Incoming {
                source,
                node: &resource.properties,
                kind: resource.kind,
                casing: Casing::Pascal,
                logical_id: Some(&resource.logical_id),
                stored: false,
            };
            incoming.read(diagnostics)
        })
        .collect()
}

/// A resource whose functions have been evaluated.
struct Resolved {
    logical_id: String,
    kind: Kind,
    properties: Node,
}

fn resolve(
    reading: &Reading<'_>,
    node: &Node,
    given: &BTreeMap<String, String>,
    declared: &mut Vec<String>,
) -> Vec<Resolved> {
    let Some(template) = node.as_mapping() else {
        return Vec::new();
    };
    check_keys(reading, template, &SECTIONS, "the template");
    check_transform(reading, template);
    let section = |name: &str| template.get(name).and_then(Node::as_mapping);
    let empty = Mapping::default();
    let parameters = parameters::read(reading, section("Parameters").unwrap_or(&empty), given);
    declared.extend(parameters.keys().cloned());
    let Some(resources) = section("Resources") else {
        reading.report(
            reading
                .error("missing-key", node.span, "the template has no `Resources`")
                .expected("a map of resources"),
        );
        return Vec::new();
    };
    if reading.has_errors() {
        return Vec::new();
    }
    let scope = Scope {
        parameters,
        pseudo: evaluate::pseudo_parameters(reading.source().name(), given),
        mappings: section("Mappings").unwrap_or(&empty),
        conditions: section("Conditions").unwrap_or(&empty),
        resources,
    };
    let evaluator = Evaluator::new(reading, &scope);
    let mut resolved = Vec::new();
    for entry in &resources.entries {
        resolved.extend(resource(reading, &evaluator, entry));
    }
    // A name that depends on itself has been told already, and is a circle too.
    if !reading.has_errors() {
        graph::check(reading, resources, &evaluator.into_edges());
    }
    resolved
}

fn resource(
    reading: &Reading<'_>,
    evaluator: &Evaluator<'_, '_>,
    entry: &Entry,
) -> Option<Resolved> {
    let id = &entry.key.text;
    let what = format!("the resource `{id}`");
    let Some(resource) = entry.value.as_mapping() else {
        if id.starts_with("Fn::") {
            reading.report(evaluator.refusal(id, entry.key.span));
        } else {
            reading.wrong_type(&entry.value, &what, "a map");
        }
        return None;
    };
    let Some(word) = resource.get("Type").and_then(Node::as_scalar) else {
        reading.report(
            reading
                .error(
                    "missing-key",
                    entry.key.span,
                    format!("{what} has no `Type`"),
                )
                .expected("a type such as AWS::ImageBuilder::ImageRecipe"),
        );
        return None;
    };
    let name = word.value.strip_prefix(PREFIX)?;
    let span = resource
        .get("Type")
        .map_or(entry.key.span, |node| node.span);
    let kind = match kind_of(name) {
        Some(kind) => kind,
        None => {
            reading.report(unreadable_type(reading, id, name, span));
            return None;
        }
    };
    check_keys(reading, resource, &RESOURCE_KEYS, &what);
    if let Some(condition) = resource.get("Condition").and_then(Node::as_scalar) {
        let span = resource
            .get("Condition")
            .map_or(entry.key.span, |node| node.span);
        if !evaluator.condition(&condition.value, span).ok()? {
            return None;
        }
    }
    evaluator.begin(id);
    if let Some(node) = resource.get("DependsOn") {
        evaluator.depends_on(node);
    }
    let properties = match resource.get("Properties") {
        Some(node) => evaluator.node(node).ok()??,
        None => Node {
            span: entry.key.span,
            tag: None,
            kind: Arc::new(NodeKind::Mapping(Mapping::default())),
        },
    };
    Some(Resolved {
        logical_id: id.clone(),
        kind,
        properties: named(properties, id, entry.key.span),
    })
}

/// A resource without a name is called by its logical id.
fn named(node: Node, id: &str, span: Span) -> Node {
    let NodeKind::Mapping(mapping) = &*node.kind else {
        return node;
    };
    if mapping.entry("Name").is_some() {
        return node;
    }
    let mut entries = mapping.entries.clone();
    entries.push(Entry {
        key: Key {
            text: "Name".to_owned(),
            span,
            style: Style::Plain,
        },
        value: text(id, span, Style::DoubleQuoted),
    });
    Node {
        kind: Arc::new(NodeKind::Mapping(Mapping { entries })),
        ..node
    }
}

fn kind_of(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
}

fn unreadable_type(
    reading: &Reading<'_>,
    id: &str,
    name: &str,
    span: Span,
) -> ovenbird_component::source::Diagnostic {
    if name == "Image" {
        return reading
            .warning(
                "not-read",
                span,
                format!("the resource `{id}` is a build, not a description, and is left out"),
            )
            .hint("`ovenbird build` or `ovenbird pipeline run` makes the image");
    }
    let words = Kind::ALL.map(Kind::as_str);
    let diagnostic = reading
        .error(
            "unknown-kind",
            span,
            format!("there is no resource type `{PREFIX}{name}`"),
        )
        .expected(words.map(|word| format!("{PREFIX}{word}")).join(", "));
    match nearest(name, words) {
        Some(near) => diagnostic.hint(format!("did you mean `{PREFIX}{near}`?")),
        None => diagnostic,
    }
}

fn check_keys(reading: &Reading<'_>, mapping: &Mapping, known: &[&str], what: &str) {
    for entry in &mapping.entries {
        let key = entry.key.text.as_str();
        if known.contains(&key) || key.starts_with("Fn::") {
            continue;
        }
        let mut diagnostic = reading
            .error(
                "unknown-key",
                entry.key.span,
                format!("unknown key `{key}` in {what}"),
            )
            .expected(join_words(known));
        if let Some(near) = nearest(key, known.iter().copied()) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        reading.report(diagnostic);
    }
}

/// Macros are programs in an account; what they would make of the template cannot be known.
fn check_transform(reading: &Reading<'_>, template: &Mapping) {
    let Some(node) = template.get("Transform") else {
        return;
    };
    let one = [node.clone()];
    for node in node.as_sequence().unwrap_or(&one) {
        let name = node.as_scalar().map_or("", |scalar| scalar.value.as_str());
        if name != LANGUAGE_EXTENSIONS {
            reading.report(
                reading
                    .error("not-supported", node.span, format!("the macro `{name}` cannot be run here"))
                    .expected(format!("a template without `Transform`, or with {LANGUAGE_EXTENSIONS}"))
                    .hint("`aws cloudformation get-template --template-stage Processed` prints what a macro has made"),
            );
        }
    }
}

/// A text at a place.
fn text(value: &str, span: Span, style: Style) -> Node {
    Node {
        span,
        tag: None,
        kind: Arc::new(NodeKind::Scalar(Scalar {
            value: value.to_owned(),
            style,
        })),
    }
}

/// A list at a place.
fn list(items: Vec<Node>, span: Span) -> Node {
    Node {
        span,
        tag: None,
        kind: Arc::new(NodeKind::Sequence(items)),
    }
}
