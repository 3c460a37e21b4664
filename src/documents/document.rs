//! A document after reading.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_component::source::{Diagnostic, Diagnostics, Severity, Source, Span};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::arn::{self, Arn, ResourceType};
use super::reference::{Reference, Target};
use super::shape::{Found, Places};
use super::version::VersionSpec;
use super::{
    Component, ContainerRecipe, DistributionConfiguration, ImagePipeline, ImageRecipe,
    InfrastructureConfiguration, Kind, LifecyclePolicy, Workflow,
};

/// The content of a document.
#[derive(Debug, Clone)]
pub enum Body {
    /// What to do inside a guest.
    Component(Component),
    /// Parent image and components of a machine image.
    ImageRecipe(ImageRecipe),
    /// Parent image and components of a container image.
    ContainerRecipe(ContainerRecipe),
    /// The machine that builds.
    InfrastructureConfiguration(InfrastructureConfiguration),
    /// Where finished images go.
    DistributionConfiguration(DistributionConfiguration),
    /// All of these with a schedule.
    ImagePipeline(ImagePipeline),
    /// What happens to old images.
    LifecyclePolicy(LifecyclePolicy),
    /// The steps of a build, test or distribution.
    Workflow(Workflow),
}

/// Where a document was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: Utf8PathBuf,
    /// The line on which it begins, from 1.
    pub line: u32,
    /// The resource's logical id, in a CloudFormation template.
    pub logical_id: Option<String>,
}

/// SHA-256 of a document's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// A resource document.
#[derive(Debug, Clone)]
pub struct Document {
    /// The content.
    pub body: Body,
    /// Where it was read.
    pub origin: Origin,
    /// The canonical value: the fields of the service's request (and `local`) in camelCase, without `kind`, without what
    /// belongs to a call of the API, without nulls, and with nothing added but the text of files named by `path` or `uri`.
    pub value: Value,
    pub(super) version: Option<VersionSpec>,
    pub(super) source: Arc<Source>,
    pub(super) places: Places,
    pub(super) found: Vec<Found>,
}

/// Fields that are no part of the content: tags change without a new version, the version is a part of the key.
const NOT_CONTENT: [&str; 2] = ["tags", "semanticVersion"];

impl Document {
    /// Reads a document again from its canonical value, as records keep it. `name` is what messages call it.
    ///
    /// # Errors
    /// The problems; there are none if the value came from a document of this kind.
    pub fn from_value(kind: Kind, value: &Value, name: &str) -> Result<Self, Diagnostics> {
        super::read::stored(kind, value, name)
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Component(_) => Kind::Component,
            Body::ImageRecipe(_) => Kind::ImageRecipe,
            Body::ContainerRecipe(_) => Kind::ContainerRecipe,
            Body::InfrastructureConfiguration(_) => Kind::InfrastructureConfiguration,
            Body::DistributionConfiguration(_) => Kind::DistributionConfiguration,
            Body::ImagePipeline(_) => Kind::ImagePipeline,
            Body::LifecyclePolicy(_) => Kind::LifecyclePolicy,
            Body::Workflow(_) => Kind::Workflow,
        }
    }

    /// The name as it is written.
    pub fn name(&self) -> &str {
        match &self.body {
            Body::Component(body) => &body.name,
            Body::ImageRecipe(body) => &body.name,
            Body::ContainerRecipe(body) => &body.name,
            Body::InfrastructureConfiguration(body) => &body.name,
            Body::DistributionConfiguration(body) => &body.name,
            Body::ImagePipeline(body) => &body.name,
            Body::LifecyclePolicy(body) => &body.name,
            Body::Workflow(body) => &body.name,
        }
    }

    /// The name in its normal form, which is unique among resources of a kind.
    pub fn slug(&self) -> String {
        arn::normalise_name(self.name())
    }

    /// The version; `None` for kinds that have none.
    pub fn version(&self) -> Option<&VersionSpec> {
        self.version.as_ref()
    }

    /// The tags.
    pub fn tags(&self) -> &BTreeMap<String, String> {
        match &self.body {
            Body::Component(body) => &body.tags,
            Body::ImageRecipe(body) => &body.tags,
            Body::ContainerRecipe(body) => &body.tags,
            Body::InfrastructureConfiguration(body) => &body.tags,
            Body::DistributionConfiguration(body) => &body.tags,
            Body::ImagePipeline(body) => &body.tags,
            Body::LifecyclePolicy(body) => &body.tags,
            Body::Workflow(body) => &body.tags,
        }
    }

    /// The type in ARNs.
    pub fn resource_type(&self) -> ResourceType {
        match &self.body {
            Body::Component(_) => ResourceType::Component,
            Body::ImageRecipe(_) => ResourceType::ImageRecipe,
            Body::ContainerRecipe(_) => ResourceType::ContainerRecipe,
            Body::InfrastructureConfiguration(_) => ResourceType::InfrastructureConfiguration,
            Body::DistributionConfiguration(_) => ResourceType::DistributionConfiguration,
            Body::ImagePipeline(_) => ResourceType::ImagePipeline,
            Body::LifecyclePolicy(_) => ResourceType::LifecyclePolicy,
            Body::Workflow(body) => ResourceType::Workflow(body.r#type),
        }
    }

    /// The local ARN, with the version as the document says it.
    pub fn arn(&self) -> Arn {
        let version = self.version.map(|version| version.pattern());
        Arn::local(self.resource_type(), self.name(), version)
    }

    /// SHA-256 of the content: kind and canonical value with sorted keys, without tags and without the version. Two
    /// documents with one digest differ in nothing that a build can see.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.kind().as_str());
        hash.update([0]);
        if let Value::Object(fields) = &self.value {
            let content: Value = fields
                .iter()
                .filter(|(key, _)| !NOT_CONTENT.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            hash.update(canonical(&content));
        }
        Digest(hash.finalize().into())
    }

    /// The canonical value with `kind` first, as people write it.
    pub fn to_document(&self) -> Value {
        let mut document = serde_json::Map::new();
        document.insert("kind".to_owned(), Value::from(self.kind().as_str()));
        if let Value::Object(fields) = &self.value {
            document.extend(fields.clone());
        }
        Value::Object(document)
    }

    /// What the document refers to, in the order of its fields.
    pub fn references(&self) -> Vec<Reference> {
        let folder = self.folder();
        self.found
            .iter()
            .filter_map(|found| {
                let to = found.refers.parse(&found.text, folder).ok()?;
                Some(Reference {
                    to,
                    field: found.field,
                    pointer: found.pointer.clone(),
                    text: found.text.clone(),
                    span: found.span,
                })
            })
            .collect()
    }

    /// The references to other resources of the store or to managed ones.
    pub fn resource_references(&self) -> Vec<(super::ResourceReference, Reference)> {
        self.references()
            .into_iter()
            .filter_map(|reference| match &reference.to {
                Target::Resource(resource) => Some((resource.clone(), reference)),
                Target::Path(_) | Target::Image(_) => None,
            })
            .collect()
    }

    /// The folder that relative paths of the document start from.
    pub fn folder(&self) -> &Utf8Path {
        self.origin.file.parent().unwrap_or(Utf8Path::new(""))
    }

    /// Where a value of the document stands, by its JSON pointer.
    pub fn place(&self, pointer: &str) -> Span {
        self.places.get(pointer)
    }

    /// An error about a value of the document, with file, line and an excerpt.
    pub fn error(
        &self,
        code: &'static str,
        pointer: &str,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(Severity::Error, code, message).at(&self.source, self.place(pointer))
    }

    /// A warning about a value of the document.
    pub fn warning(
        &self,
        code: &'static str,
        pointer: &str,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(Severity::Warning, code, message).at(&self.source, self.place(pointer))
    }
}

/// JSON with sorted keys and no spaces: one text for one value, whatever order maps keep.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            text.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(&map[key], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}
