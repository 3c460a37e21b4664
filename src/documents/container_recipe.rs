//! `kind: ContainerRecipe`: the service's CreateContainerRecipe request.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;

use super::component::Platform;
use super::image_recipe::{
    BlockDeviceMapping, COMPONENT, ComponentConfiguration, WORKING_DIRECTORY_FIELD, check_count,
};
use super::shape::{ANY, Field, Reader, Rule, SHORT_TEXT, Shape, Text, Type};
use super::version::VersionSpec;
use super::vocabulary;

/// The fields of a container recipe.
pub static SHAPE: Shape = Shape {
    name: "ContainerRecipe",
    what: "the container recipe",
    fields: &[
        vocabulary::kind(&["ContainerRecipe"]),
        Field::new(
            "containerType",
            Type::Word(&["DOCKER"]),
            "The type of container.",
        )
        .required(),
        vocabulary::name(),
        vocabulary::description(),
        vocabulary::version_or_next(),
        Field::new(
            "components",
            Type::List(&Type::Object(&COMPONENT), 0, ANY),
            "What to run in the container, in this order.",
        ),
        Field::new(
            "instanceConfiguration",
            Type::Object(&INSTANCE),
            "The machine that builds the container.",
        ),
        Field::new(
            "dockerfileTemplateData",
            vocabulary::INLINE_DOCUMENT,
            "The Dockerfile's template.",
        ),
        Field::new(
            "dockerfileTemplateUri",
            Type::Text(Text::of(1, ANY)),
            "Where the template is: s3://BUCKET/KEY, or file:///PATH.",
        ),
        Field::new(
            "dockerfileTemplatePath",
            Type::Text(Text::of(1, ANY)),
            "The template's file, relative to this file.",
        ),
        Field::new(
            "platformOverride",
            Type::Word(vocabulary::PLATFORMS),
            "The operating system, where the parent does not say it.",
        ),
        Field::new(
            "imageOsVersionOverride",
            SHORT_TEXT,
            "The operating system's version, where the parent does not say it.",
        ),
        Field::new(
            "parentImage",
            SHORT_TEXT,
            "The container image to start from: a reference such as debian:12, or an image's ARN.",
        )
        .required(),
        WORKING_DIRECTORY_FIELD,
        Field::new(
            "targetRepository",
            Type::Object(&TARGET_REPOSITORY),
            "Where the image goes.",
        )
        .required(),
        vocabulary::kms_key(),
        vocabulary::tags(),
        vocabulary::client_token(),
        vocabulary::dry_run(),
    ],
    rules: &[Rule::ExactlyOne(&[
        "dockerfileTemplateData",
        "dockerfileTemplateUri",
        "dockerfileTemplatePath",
    ])],
};

static INSTANCE: Shape = Shape {
    name: "instanceConfiguration",
    what: "`instanceConfiguration`",
    fields: &[
        Field::new("image", SHORT_TEXT, "The image of the machine that builds."),
        Field::new(
            "blockDeviceMappings",
            Type::List(&Type::Object(&vocabulary::BLOCK_DEVICE), 0, ANY),
            "Its disks.",
        ),
    ],
    rules: &[],
};

/// A repository for container images.
pub static TARGET_REPOSITORY: Shape = Shape {
    name: "targetRepository",
    what: "`targetRepository`",
    fields: &[
        Field::new(
            "service",
            Type::Word(&["ECR"]),
            "The service that holds it.",
        )
        .required(),
        Field::new("repositoryName", SHORT_TEXT, "Its name.").required(),
    ],
    rules: &[],
};

/// A container recipe.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerRecipe {
    /// `DOCKER`.
    pub container_type: String,
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Exact, or the next free number.
    pub semantic_version: VersionSpec,
    /// In order.
    #[serde(default)]
    pub components: Vec<ComponentConfiguration>,
    /// The machine that builds.
    pub instance_configuration: Option<InstanceConfiguration>,
    /// The Dockerfile's template; `None` if it is elsewhere.
    pub dockerfile_template_data: Option<String>,
    /// Where the template is.
    pub dockerfile_template_uri: Option<String>,
    /// The operating system, where the parent does not say it.
    pub platform_override: Option<Platform>,
    /// The operating system's version, where the parent does not say it.
    pub image_os_version_override: Option<String>,
    /// The container image to start from.
    pub parent_image: String,
    /// Where components work in the container, if something is said.
    pub working_directory: Option<Utf8PathBuf>,
    /// Where the image goes.
    pub target_repository: TargetRepository,
    /// A key of the service.
    pub kms_key_id: Option<String>,
    /// Tags of the recipe.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// The machine that builds a container.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceConfiguration {
    /// Its image.
    pub image: Option<String>,
    /// Its disks.
    #[serde(default)]
    pub block_device_mappings: Vec<BlockDeviceMapping>,
}

/// A repository for container images.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRepository {
    /// `ECR`.
    pub service: String,
    /// Its name.
    pub repository_name: String,
}

/// The variables that a template must have, and whether only with components.
const VARIABLES: [(&str, bool); 3] = [
    ("imagebuilder:parentImage", false),
    ("imagebuilder:environments", true),
    ("imagebuilder:components", true),
];

/// Checks what the tables cannot say.
pub fn check(reader: &Reader<'_>, recipe: &ContainerRecipe) {
    check_count(reader, recipe.components.len());
    let Some(template) = &recipe.dockerfile_template_data else {
        return;
    };
    for (variable, only_with_components) in VARIABLES {
        let needed = !only_with_components || !recipe.components.is_empty();
        if needed && !has_variable(template, variable) {
            reader.report(
                reader
                    .error(
                        "missing-variable",
                        reader.place("/dockerfileTemplateData"),
                        format!("the Dockerfile template has no `{{{{{{ {variable} }}}}}}`"),
                    )
                    .expected(if only_with_components {
                        "the variable, because the recipe has components"
                    } else {
                        "the variable, behind FROM"
                    }),
            );
        }
    }
}

fn has_variable(template: &str, variable: &str) -> bool {
    template.split("{{{").skip(1).any(|rest| {
        rest.split_once("}}}")
            .is_some_and(|(inner, _)| inner.trim() == variable)
    })
}
