//! Which kind a document without `kind:` is: JSON made for `aws imagebuilder create-* --cli-input-json` has none.

use ovenbird_component::source::Mapping;

use super::Kind;

/// Keys that only one kind has, in the order in which they decide: a pipeline has no `parentImage`, a recipe no
/// `infrastructureConfigurationArn`, and what is left is told apart by where its document stands.
const MARKS: &[(&[&str], Kind)] = &[
    (&["containerType"], Kind::ContainerRecipe),
    (&["targetRepository"], Kind::ContainerRecipe),
    (&["dockerfileTemplateData"], Kind::ContainerRecipe),
    (&["infrastructureConfigurationArn"], Kind::ImagePipeline),
    (&["imageRecipeArn"], Kind::ImagePipeline),
    (&["containerRecipeArn"], Kind::ImagePipeline),
    (&["policyDetails"], Kind::LifecyclePolicy),
    (&["resourceSelection"], Kind::LifecyclePolicy),
    (&["parentImage"], Kind::ImageRecipe),
    (&["distributions"], Kind::DistributionConfiguration),
    (&["instanceProfileName"], Kind::InfrastructureConfiguration),
    (&["instanceTypes"], Kind::InfrastructureConfiguration),
    (
        &["terminateInstanceOnFailure"],
        Kind::InfrastructureConfiguration,
    ),
    (&["semanticVersion", "platform"], Kind::Component),
    (&["semanticVersion", "type"], Kind::Workflow),
    (&["semanticVersion", "components"], Kind::ImageRecipe),
];

/// The kind, if the keys tell it.
pub fn kind(mapping: &Mapping) -> Option<Kind> {
    MARKS
        .iter()
        .find(|(keys, _)| keys.iter().all(|key| mapping.entry(key).is_some()))
        .map(|(_, kind)| *kind)
}

/// Whether a map is a plain component document.
pub fn is_component_document(mapping: &Mapping) -> bool {
    mapping.entry("phases").is_some() && mapping.entry("kind").is_none()
}

/// Whether a map is a plain workflow document.
pub fn is_workflow_document(mapping: &Mapping) -> bool {
    ["schemaVersion", "steps"]
        .iter()
        .all(|key| mapping.entry(key).is_some())
        && mapping.entry("kind").is_none()
}

/// Whether a map is a CloudFormation template.
pub fn is_template(mapping: &Mapping) -> bool {
    mapping.entry("AWSTemplateFormatVersion").is_some()
        || (mapping.entry("kind").is_none()
            && mapping
                .get("Resources")
                .is_some_and(|resources| resources.as_mapping().is_some()))
}
