//! The service's quotas, as defaults that a home's configuration may change.

/// A quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The key in a home's configuration.
    pub key: &'static str,
    /// The service's value.
    pub default: u64,
    /// What is counted.
    pub about: &'static str,
}

/// All quotas.
pub const QUOTAS: &[Quota] = &[
    quota("components", 1_000, "components (names)"),
    quota("imageRecipes", 1_000, "image recipes"),
    quota("containerRecipes", 1_000, "container recipes"),
    quota(
        "infrastructureConfigurations",
        1_000,
        "infrastructure configurations",
    ),
    quota(
        "distributionConfigurations",
        1_000,
        "distribution configurations",
    ),
    quota("workflows", 1_000, "workflows"),
    quota("imagePipelines", 75, "image pipelines"),
    quota("lifecyclePolicies", 50, "lifecycle policies"),
    quota("concurrentBuilds", 100, "builds at a time"),
    quota("concurrentStateUpdates", 50, "state updates at a time"),
    quota("componentsPerRecipe", 20, "components in a recipe"),
    quota("componentBytes", 64 * 1024, "bytes of a component document"),
    quota("componentParameters", 25, "parameters of a component"),
    quota(
        "parameterValueLength",
        1_024,
        "characters of a parameter's value",
    ),
    quota(
        "dockerfileBytes",
        64 * 1024,
        "bytes of a Dockerfile template",
    ),
    quota("workflowBytes", 64 * 1024, "bytes of a workflow document"),
    quota("workflowSteps", 15, "steps of a workflow"),
    quota("workflowParameters", 25, "parameters of a workflow"),
    quota("testWorkflowsPerImage", 10, "test workflows of an image"),
    quota(
        "amiCopiesPerDistribution",
        50,
        "AMI copies in a distribution configuration",
    ),
    quota(
        "launchTemplatesPerRegion",
        5,
        "launch templates for a region",
    ),
    quota("ssmParametersPerRegion", 10, "SSM parameters for a region"),
    quota("tagsPerResource", 50, "tags of a resource"),
    quota(
        "tagsPerBuildHost",
        30,
        "resource tags of an infrastructure configuration",
    ),
];

const fn quota(key: &'static str, default: u64, about: &'static str) -> Quota {
    Quota {
        key,
        default,
        about,
    }
}

/// The default of a quota; `None` for an unknown key.
pub fn default_of(key: &str) -> Option<u64> {
    QUOTAS
        .iter()
        .find(|quota| quota.key == key)
        .map(|quota| quota.default)
}

/// The key of the quota that counts resources of a kind.
pub const fn key_of(kind: super::Kind) -> &'static str {
    use super::Kind;
    match kind {
        Kind::Component => "components",
        Kind::ImageRecipe => "imageRecipes",
        Kind::ContainerRecipe => "containerRecipes",
        Kind::InfrastructureConfiguration => "infrastructureConfigurations",
        Kind::DistributionConfiguration => "distributionConfigurations",
        Kind::ImagePipeline => "imagePipelines",
        Kind::LifecyclePolicy => "lifecyclePolicies",
        Kind::Workflow => "workflows",
    }
}
