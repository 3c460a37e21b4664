//! `kind: Workflow`: the service's CreateWorkflow request.

use std::collections::BTreeMap;

use ovenbird_component::source::{Diagnostics, Source};
use serde::Deserialize;

use super::arn::WorkflowType;
use super::shape::{ANY, Field, Rule, Shape, Text, Type};
use super::version::Version;
use super::vocabulary;
use super::workflow_document::{self, WorkflowDocument};

/// The fields of a workflow.
pub static SHAPE: Shape = Shape {
    name: "Workflow",
    what: "the workflow",
    fields: &[
        vocabulary::kind(&["Workflow"]),
        vocabulary::name(),
        vocabulary::exact_version(),
        Field::new(
            "type",
            Type::Word(&["BUILD", "TEST", "DISTRIBUTION"]),
            "What it is for.",
        )
        .required(),
        vocabulary::description(),
        vocabulary::change_description(),
        Field::new(
            "data",
            vocabulary::INLINE_DOCUMENT,
            "The workflow document.",
        ),
        Field::new(
            "uri",
            Type::Text(Text::of(1, ANY)),
            "Where the workflow document is: s3://BUCKET/KEY, or file:///PATH.",
        ),
        Field::new(
            "path",
            Type::Text(Text::of(1, ANY)),
            "The workflow document's file, relative to this file.",
        ),
        vocabulary::kms_key(),
        vocabulary::tags(),
        vocabulary::client_token(),
        vocabulary::dry_run(),
    ],
    rules: &[Rule::ExactlyOne(&["data", "uri", "path"])],
};

/// A workflow.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// Its version.
    pub semantic_version: Version,
    /// What it is for.
    pub r#type: WorkflowType,
    /// Free text.
    pub description: Option<String>,
    /// What is new in this version.
    pub change_description: Option<String>,
    /// The workflow document; `None` if it is elsewhere.
    pub data: Option<String>,
    /// Where the workflow document is.
    pub uri: Option<String>,
    /// A key of the service.
    pub kms_key_id: Option<String>,
    /// Tags of the workflow.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Workflow {
    /// Reads and checks the workflow document; `None` if it is elsewhere.
    pub fn validate(&self, name: &str) -> Option<(Option<WorkflowDocument>, Diagnostics)> {
        let source = Source::new(name, self.data.as_deref()?);
        Some(workflow_document::read(&source, Some(self.r#type)))
    }
}
