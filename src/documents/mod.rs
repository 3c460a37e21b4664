//! Resource documents: the service's own shapes, from YAML, JSON, CloudFormation templates, and folders of these.
//!
//! [`load()`] reads files and gives [`Document`]s: a typed [`Body`], the canonical value that digests and records are made
//! of, and the references to other resources. What a document may hold stands in one table for each kind
//! ([`Kind::shape`]), from which the JSON Schemas for editors are made too (`shape::schema`).

pub mod arn;
pub mod component;
pub mod container_recipe;
pub mod distribution;
mod document;
mod guess;
pub mod image_recipe;
pub mod infrastructure;
mod inline;
mod kind;
pub mod lifecycle;
mod load;
pub mod parent;
pub mod pipeline;
pub mod quota;
mod read;
pub mod recipe_component;
pub mod reference;
pub mod shape;
mod template;
pub mod version;
mod vocabulary;
pub mod vulnerabilities;
pub mod workflow;
pub mod workflow_actions;
pub mod workflow_document;

#[cfg(test)]
mod tests;

pub use component::Component;
pub use container_recipe::ContainerRecipe;
pub use distribution::DistributionConfiguration;
pub use document::{Body, Digest, Document, Origin};
pub use image_recipe::ImageRecipe;
pub use infrastructure::InfrastructureConfiguration;
pub use kind::Kind;
pub use lifecycle::LifecyclePolicy;
pub use load::{load, load_text};
pub use parent::ParentImage;
pub use pipeline::ImagePipeline;
pub use reference::{Reference, ResourceReference, Target};
pub use version::{BuildVersion, Version, VersionPattern, VersionSpec};
pub use workflow::Workflow;
