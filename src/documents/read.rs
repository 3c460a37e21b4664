//! From a parsed tree to a document.

use std::sync::Arc;

use camino::Utf8PathBuf;
use ovenbird_component::source::{
    Diagnostic, Diagnostics, Node, Reading, Severity, Source, parse_one,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::document::{Body, Document, Origin};
use super::shape::{Casing, Reader};
use super::version::VersionSpec;
use super::{Kind, container_recipe, distribution, image_recipe, inline, lifecycle};

/// A tree that is to become a document.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The text it is from.
    pub source: &'a Arc<Source>,
    /// The tree.
    pub node: &'a Node,
    /// The kind.
    pub kind: Kind,
    /// How it spells its keys.
    pub casing: Casing,
    /// Its logical id, in a template.
    pub logical_id: Option<&'a str>,
    /// Whether it comes from our own records, so that files have been taken in already.
    pub stored: bool,
}

impl Incoming<'_> {
    /// Reads the document; all problems are added to the list.
    pub fn read(&self, diagnostics: &mut Diagnostics) -> Option<Document> {
        let reading = Reading::new(self.source);
        let reader = Reader::new(&reading, self.casing);
        let reader = if self.stored {
            reader.of_records()
        } else {
            reader
        };
        let value = reader.resource(self.node, self.kind.shape());
        let complete = value.filter(|_| !reading.has_errors());
        let read = complete.and_then(|mut value| {
            let file = Utf8PathBuf::from(self.source.name());
            if !self.stored {
                inline::take_in(&reader, self.kind, &file, &mut value);
            }
            if reading.has_errors() {
                return None;
            }
            let body = self.body(&reader, &value)?;
            if !self.stored {
                check(&reader, self.node, self.source, &body);
                reader.check_files(file.parent().unwrap_or("".into()));
            }
            Some((body, value, file))
        });
        let (places, found) = reader.into_parts();
        let failed = reading.has_errors();
        diagnostics.append(reading.finish());
        let (body, value, file) = read.filter(|_| !failed)?;
        let version = value
            .get("semanticVersion")
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<VersionSpec>().ok());
        Some(Document {
            body,
            origin: Origin {
                file,
                line: self.node.span.start.line,
                logical_id: self.logical_id.map(str::to_owned),
            },
            value,
            version,
            source: Arc::clone(self.source),
            places,
            found,
        })
    }

    fn body(&self, reader: &Reader<'_>, value: &Value) -> Option<Body> {
        let body = match self.kind {
            Kind::Component => typed(value).map(Body::Component),
            Kind::ImageRecipe => typed(value).map(Body::ImageRecipe),
            Kind::ContainerRecipe => typed(value).map(Body::ContainerRecipe),
            Kind::InfrastructureConfiguration => {
                typed(value).map(Body::InfrastructureConfiguration)
            }
            Kind::DistributionConfiguration => typed(value).map(Body::DistributionConfiguration),
            Kind::ImagePipeline => typed(value).map(Body::ImagePipeline),
            Kind::LifecyclePolicy => typed(value).map(Body::LifecyclePolicy),
            Kind::Workflow => typed(value).map(Body::Workflow),
        };
        // The table has let it pass, so this is a table and a type that disagree.
        body.map_err(|error| {
            reader.report(reader.error(
                "unreadable",
                self.node.span,
                format!("the {} cannot be read: {error}", self.kind.words()),
            ));
        })
        .ok()
    }
}

fn typed<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    T::deserialize(value)
}

/// Checks what the tables cannot say.
fn check(reader: &Reader<'_>, node: &Node, source: &Source, body: &Body) {
    match body {
        Body::Component(component) => inline::check_component(reader, node, source, component),
        Body::ContainerRecipe(recipe) => container_recipe::check(reader, recipe),
        Body::DistributionConfiguration(configuration) => {
            distribution::check(reader, configuration);
        }
        Body::LifecyclePolicy(policy) => lifecycle::check(reader, policy),
        Body::Workflow(workflow) => inline::check_workflow(reader, node, source, workflow),
        Body::ImageRecipe(recipe) => image_recipe::check(reader, recipe),
        Body::InfrastructureConfiguration(_) | Body::ImagePipeline(_) => {}
    }
}

/// Reads a document of our own records.
pub fn stored(kind: Kind, value: &Value, name: &str) -> Result<Document, Diagnostics> {
    // Read through the same road as a file, so that there is only one reader to trust.
    let source = Arc::new(Source::new(name, value.to_string()));
    let (node, mut diagnostics) = parse_one(&source);
    let Some(node) = node else {
        return Err(diagnostics);
    };
    let incoming = Incoming {
        source: &source,
        node: &node,
        kind,
        casing: Casing::Camel,
        logical_id: None,
        stored: true,
    };
    let document = incoming.read(&mut diagnostics);
    document.ok_or_else(|| {
        if diagnostics.is_empty() {
            diagnostics.push(Diagnostic::new(
                Severity::Error,
                "unreadable",
                format!("the record of the {} cannot be read", kind.words()),
            ));
        }
        diagnostics
    })
}
