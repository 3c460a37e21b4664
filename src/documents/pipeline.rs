//! `kind: ImagePipeline`: the service's CreateImagePipeline request.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::reference::{Complaint, Refers};
use super::shape::{ANY, Field, Pattern, Rule, SHORT_TEXT, Shape, Text, Type};
use super::{Kind, vocabulary};
use crate::schedule::{self, ScheduleError};

static TIMEZONE: Pattern = Pattern::new(
    r"^[a-zA-Z0-9]{2,}(?:/[a-zA-Z0-9\-_+]+)*$",
    "bad-timezone",
    "a time zone's name, such as Europe/Berlin or UTC",
);

static SCHEDULE_EXPRESSION: Pattern = Pattern::new(
    r"^(?:cron|rate)\(.*\)$",
    "bad-schedule",
    "cron(minutes hours day-of-month month day-of-week year) or rate(number unit)",
);

/// The fields of a pipeline.
pub static SHAPE: Shape = Shape {
    name: "ImagePipeline",
    what: "the pipeline",
    fields: &[
        vocabulary::kind(&["ImagePipeline"]),
        vocabulary::name(),
        vocabulary::description(),
        Field::new(
            "imageRecipeArn",
            Type::Reference(Refers::Resource(Kind::ImageRecipe)),
            "The image recipe, by NAME/VERSION or ARN; the version may end in x.",
        ),
        Field::new(
            "containerRecipeArn",
            Type::Reference(Refers::Resource(Kind::ContainerRecipe)),
            "The container recipe, by NAME/VERSION or ARN; the version may end in x.",
        ),
        Field::new(
            "infrastructureConfigurationArn",
            Type::Reference(Refers::Resource(Kind::InfrastructureConfiguration)),
            "The infrastructure configuration, by name or ARN.",
        )
        .required(),
        Field::new(
            "distributionConfigurationArn",
            Type::Reference(Refers::Resource(Kind::DistributionConfiguration)),
            "The distribution configuration, by name or ARN.",
        ),
        Field::new(
            "imageTestsConfiguration",
            Type::Object(&TESTS),
            "Whether and how long the image is tested.",
        ),
        Field::new(
            "enhancedImageMetadataEnabled",
            Type::Boolean,
            "Whether the packages of the image are recorded; true if nothing is said.",
        ),
        Field::new(
            "schedule",
            Type::Object(&SCHEDULE),
            "When the pipeline runs by itself.",
        ),
        Field::new(
            "status",
            Type::Word(&["ENABLED", "DISABLED"]),
            "Whether the schedule counts; ENABLED if nothing is said.",
        ),
        Field::new(
            "imageScanningConfiguration",
            Type::Object(&SCANNING),
            "Scanning for known vulnerabilities.",
        ),
        Field::new(
            "workflows",
            Type::List(&Type::Object(&WORKFLOW), 0, MOST_WORKFLOWS),
            "Workflows of its own instead of the usual ones.",
        ),
        Field::new(
            "executionRole",
            vocabulary::ROLE_TEXT,
            "The role that workflows run under in the service.",
        ),
        Field::new(
            "loggingConfiguration",
            Type::Object(&LOGGING),
            "Names of the logs.",
        ),
        Field::new(
            "imageTags",
            Type::Map(&vocabulary::TAGS),
            "Tags of the images that it makes.",
        ),
        vocabulary::tags(),
        Field::new("local", Type::Object(&LOCAL), "What only Ovenbird has."),
        vocabulary::client_token(),
        vocabulary::dry_run(),
    ],
    rules: &[Rule::ExactlyOne(&["imageRecipeArn", "containerRecipeArn"])],
};

/// Ten for tests, one for the build, one for distribution.
const MOST_WORKFLOWS: usize = 12;

static TESTS: Shape = Shape {
    name: "imageTestsConfiguration",
    what: "`imageTestsConfiguration`",
    fields: &[
        Field::new(
            "imageTestsEnabled",
            Type::Boolean,
            "Whether the image is tested; true if nothing is said.",
        ),
        Field::new(
            "timeoutMinutes",
            Type::Integer(60, 1440),
            "How long the tests may take; 720 if nothing is said.",
        ),
    ],
    rules: &[],
};

static SCHEDULE: Shape = Shape {
    name: "schedule",
    what: "`schedule`",
    fields: &[
        Field::new(
            "scheduleExpression",
            Type::Checked(Text::of(1, 1024).like(&SCHEDULE_EXPRESSION), expression),
            "cron(minutes hours day-of-month month day-of-week year) or rate(number unit).",
        ),
        Field::new(
            "timezone",
            Type::Checked(Text::of(3, 100).like(&TIMEZONE), time_zone),
            "The IANA time zone of the expression; UTC if nothing is said.",
        ),
        Field::new(
            "pipelineExecutionStartCondition",
            Type::Word(&[
                "EXPRESSION_MATCH_ONLY",
                "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE",
            ]),
            "Whether it runs each time, or only when the parent or a component is newer than in the last build (the default).",
        ),
        Field::new(
            "autoDisablePolicy",
            Type::Object(&AUTO_DISABLE),
            "When to stop trying.",
        ),
    ],
    rules: &[],
};

fn expression(text: &str) -> Result<(), Complaint> {
    schedule::Schedule::parse(text, None)
        .map(drop)
        .map_err(bad_schedule)
}

fn time_zone(name: &str) -> Result<(), Complaint> {
    schedule::Schedule::parse("rate(1 day)", Some(name))
        .map(drop)
        .map_err(bad_schedule)
}

fn bad_schedule(error: ScheduleError) -> Complaint {
    let place = match error.column {
        0 | 1 => String::new(),
        column => format!("column {column}: "),
    };
    Complaint {
        code: "bad-schedule",
        message: format!("{place}{} is `{}`", error.what, error.got),
        expected: error.expected,
        hint: error.hint,
    }
}

static AUTO_DISABLE: Shape = Shape {
    name: "autoDisablePolicy",
    what: "`autoDisablePolicy`",
    fields: &[Field::new(
        "failureCount",
        Type::Integer(1, 10),
        "After so many failed scheduled runs in a row the pipeline is disabled.",
    )
    .required()],
    rules: &[],
};

static SCANNING: Shape = Shape {
    name: "imageScanningConfiguration",
    what: "`imageScanningConfiguration`",
    fields: &[
        Field::new(
            "imageScanningEnabled",
            Type::Boolean,
            "Whether images are scanned; false if nothing is said.",
        ),
        Field::new(
            "ecrConfiguration",
            Type::Object(&ECR),
            "Where container images are put for the scan.",
        ),
    ],
    rules: &[],
};

static ECR: Shape = Shape {
    name: "ecrConfiguration",
    what: "`ecrConfiguration`",
    fields: &[
        Field::new("repositoryName", SHORT_TEXT, "The repository."),
        Field::new(
            "containerTags",
            Type::List(&SHORT_TEXT, 0, ANY),
            "Tags for the image.",
        ),
    ],
    rules: &[],
};

static WORKFLOW: Shape = Shape {
    name: "workflowConfiguration",
    what: "the workflow",
    fields: &[
        Field::new(
            "workflowArn",
            Type::Reference(Refers::Resource(Kind::Workflow)),
            "The workflow, by NAME/VERSION or ARN; the version may end in x.",
        )
        .required(),
        Field::new(
            "parameters",
            Type::List(&Type::Object(&vocabulary::WORKFLOW_PARAMETER), 1, ANY),
            "Values for the workflow's parameters.",
        ),
        Field::new(
            "parallelGroup",
            vocabulary::PARALLEL_GROUP_TEXT,
            "Test workflows of one group run side by side.",
        ),
        Field::new(
            "onFailure",
            Type::Word(&["CONTINUE", "ABORT"]),
            "What a failed test workflow means for the rest.",
        ),
    ],
    rules: &[],
};

static LOGGING: Shape = Shape {
    name: "pipelineLoggingConfiguration",
    what: "`loggingConfiguration`",
    fields: &[
        Field::new(
            "imageLogGroupName",
            vocabulary::LOG_GROUP_TEXT,
            "The log group of images; /aws/imagebuilder/IMAGE if nothing is said.",
        ),
        Field::new(
            "pipelineLogGroupName",
            vocabulary::LOG_GROUP_TEXT,
            "The log group of the pipeline; /aws/imagebuilder/pipeline/NAME if nothing is said.",
        ),
    ],
    rules: &[],
};

static LOCAL: Shape = Shape {
    name: "imagePipelineLocal",
    what: "`local`",
    fields: &[
        Field::new(
            "catchUp",
            Type::Boolean,
            "Whether a run that was missed (the machine slept) is made up for once; false if nothing is said.",
        ),
        Field::new(
            "whileRunning",
            Type::Word(&["skip", "start"]),
            "What to do when the time comes while the last run still goes: skip it (the default) or start another.",
        ),
    ],
    rules: &[],
};

/// A pipeline.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImagePipeline {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// The image recipe; either this or the container recipe is there.
    pub image_recipe_arn: Option<String>,
    /// The container recipe.
    pub container_recipe_arn: Option<String>,
    /// The infrastructure configuration.
    pub infrastructure_configuration_arn: String,
    /// The distribution configuration.
    pub distribution_configuration_arn: Option<String>,
    /// Whether and how long the image is tested.
    #[serde(default)]
    pub image_tests_configuration: ImageTestsConfiguration,
    /// Whether the packages of the image are recorded.
    #[serde(default = "yes")]
    pub enhanced_image_metadata_enabled: bool,
    /// When the pipeline runs by itself; only by hand if nothing is said.
    pub schedule: Option<Schedule>,
    /// Whether the schedule counts.
    #[serde(default)]
    pub status: PipelineStatus,
    /// Scanning.
    pub image_scanning_configuration: Option<ImageScanningConfiguration>,
    /// Workflows of its own.
    #[serde(default)]
    pub workflows: Vec<WorkflowConfiguration>,
    /// The role of workflows in the service.
    pub execution_role: Option<String>,
    /// Names of the logs.
    pub logging_configuration: Option<PipelineLoggingConfiguration>,
    /// Tags of the images that it makes.
    #[serde(default)]
    pub image_tags: BTreeMap<String, String>,
    /// Tags of the pipeline.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What only Ovenbird has.
    #[serde(default)]
    pub local: ImagePipelineLocal,
}

fn yes() -> bool {
    true
}

/// Whether and how long an image is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageTestsConfiguration {
    /// Whether it is tested.
    pub image_tests_enabled: bool,
    /// How long that may take.
    pub timeout_minutes: u32,
}

impl Default for ImageTestsConfiguration {
    fn default() -> Self {
        Self {
            image_tests_enabled: true,
            timeout_minutes: 720,
        }
    }
}

/// When a pipeline runs by itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// `cron(…)` or `rate(…)`; without it the pipeline runs only by hand.
    pub schedule_expression: Option<String>,
    /// IANA name; UTC if nothing is said.
    pub timezone: Option<String>,
    /// When a fitting time starts a run.
    #[serde(default)]
    pub pipeline_execution_start_condition: StartCondition,
    /// When to stop trying.
    pub auto_disable_policy: Option<AutoDisablePolicy>,
}

/// When a fitting time starts a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StartCondition {
    /// Each time.
    ExpressionMatchOnly,
    /// Only if the parent or a component is newer than in the last build.
    #[default]
    ExpressionMatchAndDependencyUpdatesAvailable,
}

/// When to stop trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AutoDisablePolicy {
    /// After so many failed scheduled runs in a row.
    pub failure_count: u32,
}

/// Whether a pipeline's schedule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PipelineStatus {
    /// It counts.
    #[default]
    Enabled,
    /// It does not.
    Disabled,
}

/// Scanning for known vulnerabilities.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageScanningConfiguration {
    /// Whether images are scanned.
    #[serde(default)]
    pub image_scanning_enabled: bool,
    /// Where container images are put for the scan.
    pub ecr_configuration: Option<EcrConfiguration>,
}

/// Where container images are put for a scan.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EcrConfiguration {
    /// The repository.
    pub repository_name: Option<String>,
    /// Tags for the image.
    #[serde(default)]
    pub container_tags: Vec<String>,
}

/// A workflow of a pipeline.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowConfiguration {
    /// The workflow.
    pub workflow_arn: String,
    /// Values for its parameters.
    #[serde(default)]
    pub parameters: Vec<super::image_recipe::ParameterValue>,
    /// Test workflows of one group run side by side.
    pub parallel_group: Option<String>,
    /// What a failed test workflow means for the rest.
    pub on_failure: Option<OnWorkflowFailure>,
}

/// What a failed test workflow means for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OnWorkflowFailure {
    /// The rest runs.
    Continue,
    /// Nothing more runs.
    Abort,
}

/// Names of a pipeline's logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineLoggingConfiguration {
    /// The log group of images.
    pub image_log_group_name: Option<String>,
    /// The log group of the pipeline.
    pub pipeline_log_group_name: Option<String>,
}

/// What only Ovenbird has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImagePipelineLocal {
    /// Whether a missed run is made up for once.
    pub catch_up: bool,
    /// What to do when the time comes while the last run still goes.
    pub while_running: WhileRunning,
}

/// What to do when the time comes while the last run still goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhileRunning {
    /// Leave this time out, and say so in the history.
    #[default]
    Skip,
    /// Start another run beside it.
    Start,
}
