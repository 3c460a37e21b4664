//! What goes on record when a build begins: every input as it was resolved.

use serde_json::json;

use super::plan::BakePlan;
use crate::store::{ImageInput, InputRole, NewImage, ResourceRecord};

/// Where the recipe of a build came from.
#[derive(Debug, Clone, Default)]
pub struct RecipeOrigin {
    /// Its ARN, if it came from the store.
    pub arn: Option<String>,
    /// The file it was read from.
    pub file: Option<String>,
    /// SHA-256 of its content.
    pub digest: String,
}

/// The record of an image that is to be made by a plan. `configurations` are the infrastructure and so on.
pub fn new_image(
    plan: &BakePlan,
    origin: &RecipeOrigin,
    configurations: Vec<ImageInput>,
) -> NewImage {
    let mut inputs = vec![
        ImageInput {
            role: InputRole::Recipe,
            name: plan.name.clone(),
            version: Some(plan.version.clone()),
            arn: origin.arn.clone(),
            source: origin.file.clone(),
            digest: Some(origin.digest.clone()),
            detail: json!({}),
            text: None,
        },
        ImageInput {
            role: InputRole::Parent,
            name: plan.parent.name.clone(),
            version: Some(plan.parent.version.clone()),
            arn: None,
            source: Some(plan.parent.disk.to_string()),
            digest: Some(plan.parent.sha256.clone()),
            detail: json!({}),
            text: None,
        },
    ];
    inputs.extend(plan.components.iter().map(|component| ImageInput {
        role: InputRole::Component,
        name: component.name.clone(),
        version: component.version.clone(),
        arn: component.arn.clone(),
        source: Some(component.path.to_string()),
        digest: Some(component.sha256.clone()),
        detail: if component.files.is_empty() {
            json!({ "parameters": component.parameters })
        } else {
            json!({ "parameters": component.parameters, "files": component.files })
        },
        text: Some(component.text.clone()),
    }));
    inputs.extend(configurations);
    NewImage {
        name: plan.name.clone(),
        version: plan.version.clone(),
        parent: format!("{}/{}", plan.parent.name, plan.parent.version),
        recipe: plan.recipe.to_string(),
        folder: plan.destination.clone(),
        architecture: Some(plan.machine.arch.to_string()),
        inputs,
        tags: plan.tags.clone(),
    }
}

/// A configuration of the store as an input.
///
/// # Errors
/// [`crate::error::FailureKind::Environment`] if its record is damaged.
pub fn configuration(role: InputRole, record: &ResourceRecord) -> crate::error::Result<ImageInput> {
    Ok(ImageInput {
        role,
        name: record.name.clone(),
        // Configurations have no versions; the revision says which of their contents it was.
        version: Some(record.revision.to_string()),
        arn: Some(record.arn.clone()),
        source: record.file.as_ref().map(ToString::to_string),
        digest: Some(record.digest.clone()),
        detail: record.value()?,
        text: None,
    })
}
