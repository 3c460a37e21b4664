//! `ovenbird schema [KIND]`

use std::process::ExitCode;

use clap::builder::PossibleValue;
use serde_json::Value;

use super::printer::Printer;
use crate::documents::shape::schema;
use crate::documents::{Kind, workflow_document};
use crate::error::Result;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the schema is for; documents of every kind, told apart by `kind`, if nothing is said
    kind: Option<Subject>,
}

/// What there is a schema for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Kind(Kind),
    ComponentDocument,
    WorkflowDocument,
}

const SUBJECTS: [Subject; 10] = [
    Subject::Kind(Kind::Component),
    Subject::ComponentDocument,
    Subject::Kind(Kind::ImageRecipe),
    Subject::Kind(Kind::ContainerRecipe),
    Subject::Kind(Kind::InfrastructureConfiguration),
    Subject::Kind(Kind::DistributionConfiguration),
    Subject::Kind(Kind::ImagePipeline),
    Subject::Kind(Kind::LifecyclePolicy),
    Subject::Kind(Kind::Workflow),
    Subject::WorkflowDocument,
];

impl clap::ValueEnum for Subject {
    fn value_variants<'a>() -> &'a [Self] {
        &SUBJECTS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Kind(kind) => PossibleValue::new(kind.arn_type()).alias(kind.as_str()),
            Self::ComponentDocument => PossibleValue::new("component-document"),
            Self::WorkflowDocument => PossibleValue::new("workflow-document"),
        })
    }
}

/// Runs the verb.
///
/// # Errors
/// None.
pub fn run(args: &Args, printer: Printer) -> Result<ExitCode> {
    let schema = of(args.kind);
    if printer.json {
        printer.value(&schema);
    } else {
        printer.line(format!("{schema:#}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn of(subject: Option<Subject>) -> Value {
    match subject {
        None => schema::any_of(&Kind::ALL.map(Kind::shape)),
        Some(Subject::Kind(kind)) => schema::document(kind.shape()),
        Some(Subject::ComponentDocument) => ovenbird_component::schema::document(),
        Some(Subject::WorkflowDocument) => schema::document(&workflow_document::SHAPE),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_subject_is_named_once_and_has_a_valid_schema() {
        let mut names: Vec<String> = SUBJECTS
            .iter()
            .filter_map(|subject| subject.to_possible_value())
            .map(|value| value.get_name().to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SUBJECTS.len());
        for subject in SUBJECTS.map(Some).into_iter().chain([None]) {
            let schema = of(subject);
            assert!(jsonschema::meta::is_valid(&schema), "{subject:?}");
        }
        assert!(Subject::from_str("ImageRecipe", false).is_ok());
    }
}
