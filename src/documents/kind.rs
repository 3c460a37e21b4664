//! The kinds of resource documents.

use std::fmt;

use super::shape::Shape;
use super::{
    component, container_recipe, distribution, image_recipe, infrastructure, lifecycle, pipeline,
    workflow,
};

/// A kind of resource document: the word behind `kind:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum Kind {
    /// What to do inside a guest.
    Component,
    /// Parent image and components of a machine image.
    ImageRecipe,
    /// Parent image and components of a container image.
    ContainerRecipe,
    /// The machine that builds.
    InfrastructureConfiguration,
    /// Where finished images go.
    DistributionConfiguration,
    /// All of these with a schedule.
    ImagePipeline,
    /// What happens to old images.
    LifecyclePolicy,
    /// The steps of a build, test or distribution.
    Workflow,
}

impl Kind {
    /// All kinds, in the order in which a set of documents can be created: what is referred to comes first.
    pub const ALL: [Self; 8] = [
        Self::Component,
        Self::Workflow,
        Self::ImageRecipe,
        Self::ContainerRecipe,
        Self::InfrastructureConfiguration,
        Self::DistributionConfiguration,
        Self::ImagePipeline,
        Self::LifecyclePolicy,
    ];

    /// The word behind `kind:`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Component => "Component",
            Self::ImageRecipe => "ImageRecipe",
            Self::ContainerRecipe => "ContainerRecipe",
            Self::InfrastructureConfiguration => "InfrastructureConfiguration",
            Self::DistributionConfiguration => "DistributionConfiguration",
            Self::ImagePipeline => "ImagePipeline",
            Self::LifecyclePolicy => "LifecyclePolicy",
            Self::Workflow => "Workflow",
        }
    }

    /// The word in ARNs; a workflow's has its type after it.
    pub const fn arn_type(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::ImageRecipe => "image-recipe",
            Self::ContainerRecipe => "container-recipe",
            Self::InfrastructureConfiguration => "infrastructure-configuration",
            Self::DistributionConfiguration => "distribution-configuration",
            Self::ImagePipeline => "image-pipeline",
            Self::LifecyclePolicy => "lifecycle-policy",
            Self::Workflow => "workflow",
        }
    }

    /// What people call it: "image recipe".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::ImageRecipe => "image recipe",
            Self::ContainerRecipe => "container recipe",
            Self::InfrastructureConfiguration => "infrastructure configuration",
            Self::DistributionConfiguration => "distribution configuration",
            Self::ImagePipeline => "image pipeline",
            Self::LifecyclePolicy => "lifecycle policy",
            Self::Workflow => "workflow",
        }
    }

    /// Whether its resources have versions and never change.
    pub const fn is_versioned(self) -> bool {
        matches!(
            self,
            Self::Component | Self::ImageRecipe | Self::ContainerRecipe | Self::Workflow
        )
    }

    /// Whether the store gives a version build numbers (else the same version again is refused).
    pub const fn has_builds(self) -> bool {
        matches!(self, Self::Component | Self::Workflow)
    }

    /// The kind of a word: `ImageRecipe`, `image-recipe`, `imagerecipe`, `image recipe` and so on.
    pub fn from_word(word: &str) -> Option<Self> {
        let fold = |text: &str| -> String {
            text.chars()
                .filter(|c| !matches!(c, '-' | '_' | ' '))
                .flat_map(char::to_lowercase)
                .collect()
        };
        let wanted = fold(word);
        Self::ALL
            .into_iter()
            .find(|kind| fold(kind.as_str()) == wanted)
    }

    /// The table that its documents are read by.
    pub fn shape(self) -> &'static Shape {
        match self {
            Self::Component => &component::SHAPE,
            Self::ImageRecipe => &image_recipe::SHAPE,
            Self::ContainerRecipe => &container_recipe::SHAPE,
            Self::InfrastructureConfiguration => &infrastructure::SHAPE,
            Self::DistributionConfiguration => &distribution::SHAPE,
            Self::ImagePipeline => &pipeline::SHAPE,
            Self::LifecyclePolicy => &lifecycle::SHAPE,
            Self::Workflow => &workflow::SHAPE,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
