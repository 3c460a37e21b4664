//! `kind: InfrastructureConfiguration`: the service's CreateInfrastructureConfiguration request, and the machine and
//! notifications of a local baker.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;

use super::image_recipe::NETWORK;
use super::image_recipe::{CPUS_FIELD, MEMORY_FIELD, memory};
use super::shape::{ANY, Field, Pattern, Rule, SHORT_TEXT, Shape, Text, Type};
use super::vocabulary;
use crate::machine::Accelerator;
use crate::machine::args::Network;

static PROFILE: Pattern = Pattern::new(
    r"^[A-Za-z0-9_+=,.@-]+$",
    "bad-name",
    "1 to 256 letters, digits and _ + = , . @ -",
);

static TOPIC: Pattern = Pattern::new(
    r"^arn:aws[^:]*:sns:[^:]+:[0-9]{12}:[a-zA-Z0-9\-_]{1,256}$",
    "bad-arn",
    "a topic's ARN, such as arn:aws:sns:eu-west-1:123456789012:images",
);

static URL: Pattern = Pattern::new(
    "^https?://[^/]+",
    "bad-url",
    "an address that begins with http:// or https://",
);

static HEADER: Pattern = Pattern::new(
    "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
    "bad-name",
    "the name of an HTTP header",
);

static ENVIRONMENT: Pattern = Pattern::new(
    "^[A-Za-z_][A-Za-z0-9_]*$",
    "bad-name",
    "the name of an environment variable",
);

/// The fields of an infrastructure configuration.
pub static SHAPE: Shape = Shape {
    name: "InfrastructureConfiguration",
    what: "the infrastructure configuration",
    fields: &[
        vocabulary::kind(&["InfrastructureConfiguration"]),
        vocabulary::name(),
        vocabulary::description(),
        Field::new(
            "instanceTypes",
            Type::List(&SHORT_TEXT, 0, ANY),
            "Types of EC2 instances; the first whose CPUs and memory this machine has is taken.",
        ),
        Field::new(
            "instanceProfileName",
            Type::Text(Text::of(1, 256).like(&PROFILE)),
            "The instance profile of build hosts; the service requires it, nothing here needs it.",
        ),
        Field::new(
            "securityGroupIds",
            Type::List(&SHORT_TEXT, 0, ANY),
            "Security groups of build hosts on EC2.",
        ),
        Field::new("subnetId", SHORT_TEXT, "The subnet of build hosts on EC2."),
        Field::new(
            "logging",
            Type::Object(&LOGGING),
            "Where logs go besides the home.",
        ),
        Field::new(
            "keyPair",
            SHORT_TEXT,
            "The key pair of build hosts on EC2; guests here always get keys of their own.",
        ),
        Field::new(
            "terminateInstanceOnFailure",
            Type::Boolean,
            "Whether the guest is stopped when a build fails; true if nothing is said.",
        ),
        Field::new(
            "snsTopicArn",
            Type::Text(Text::of(0, ANY).like(&TOPIC)),
            "A topic that is told of finished and failed images.",
        ),
        Field::new(
            "resourceTags",
            Type::Map(&vocabulary::RESOURCE_TAGS),
            "Tags of build hosts.",
        ),
        Field::new(
            "instanceMetadataOptions",
            Type::Object(&METADATA),
            "The metadata service of build hosts on EC2.",
        ),
        Field::new(
            "placement",
            Type::Object(&PLACEMENT),
            "Where build hosts stand on EC2.",
        ),
        vocabulary::tags(),
        Field::new("local", Type::Object(&LOCAL), "What only Ovenbird has."),
        vocabulary::client_token(),
        vocabulary::dry_run(),
    ],
    rules: &[Rule::Needs("subnetId", "securityGroupIds")],
};

static LOGGING: Shape = Shape {
    name: "logging",
    what: "`logging`",
    fields: &[Field::new(
        "s3Logs",
        Type::Object(&S3_LOGS),
        "A bucket for logs.",
    )],
    rules: &[],
};

static S3_LOGS: Shape = Shape {
    name: "s3Logs",
    what: "`s3Logs`",
    fields: &[
        Field::new("s3BucketName", SHORT_TEXT, "The bucket."),
        Field::new("s3KeyPrefix", SHORT_TEXT, "The beginning of the keys."),
    ],
    rules: &[],
};

static METADATA: Shape = Shape {
    name: "instanceMetadataOptions",
    what: "`instanceMetadataOptions`",
    fields: &[
        Field::new(
            "httpTokens",
            Type::Word(&["optional", "required"]),
            "Whether requests need a token.",
        ),
        Field::new(
            "httpPutResponseHopLimit",
            Type::Integer(1, 64),
            "How many hops a token may go; containers need 2.",
        ),
    ],
    rules: &[],
};

static PLACEMENT: Shape = Shape {
    name: "placement",
    what: "`placement`",
    fields: &[
        Field::new("availabilityZone", SHORT_TEXT, "The zone."),
        Field::new(
            "tenancy",
            Type::Word(&["default", "dedicated", "host"]),
            "Whether the hardware is shared.",
        ),
        Field::new("hostId", SHORT_TEXT, "A dedicated host."),
        Field::new(
            "hostResourceGroupArn",
            SHORT_TEXT,
            "A group of dedicated hosts.",
        ),
    ],
    rules: &[Rule::AtMostOne(&["hostId", "hostResourceGroupArn"])],
};

static LOCAL: Shape = Shape {
    name: "infrastructureConfigurationLocal",
    what: "`local`",
    fields: &[
        CPUS_FIELD,
        MEMORY_FIELD,
        Field::new(
            "accelerator",
            Type::Word(ACCELERATORS),
            "Instead of the one that the probe finds.",
        ),
        Field::new(
            "network",
            Type::Word(NETWORK),
            "How far guests reach: as far as this machine, to the cache of packages on it, or nowhere.",
        ),
        Field::new(
            "logFolder",
            SHORT_TEXT,
            "A folder that gets a copy of every build's logs.",
        ),
        Field::new(
            "cloudWatchLogs",
            Type::Boolean,
            "Whether CloudWatch gets the events of builds, in the group /aws/imagebuilder/NAME if the pipeline names none; so it is if nothing is said and there is an s3Logs or an snsTopicArn.",
        ),
        Field::new(
            "notifications",
            Type::List(&Type::Object(&NOTIFICATION), 0, ANY),
            "Who is told when an image becomes AVAILABLE or FAILED.",
        ),
    ],
    rules: &[],
};

const ACCELERATORS: &[&str] = &["kvm", "hvf", "tcg"];

static NOTIFICATION: Shape = Shape {
    name: "notification",
    what: "the notification",
    fields: &[
        Field::new(
            "webhook",
            Type::Object(&WEBHOOK),
            "An address that gets the service's JSON by POST.",
        ),
        Field::new(
            "command",
            Type::List(&Type::Text(Text::of(0, ANY)), 1, ANY),
            "A command with its arguments that gets the service's JSON on its standard input.",
        ),
        Field::new(
            "on",
            Type::List(&Type::Word(&["AVAILABLE", "FAILED"]), 1, 2),
            "The states that are told; both if nothing is said.",
        ),
        Field::new(
            "timeoutSeconds",
            Type::Integer(1, 3600),
            "How long one attempt may take; 30 if nothing is said.",
        ),
        Field::new(
            "attempts",
            Type::Integer(1, 10),
            "How often it is tried; 3 if nothing is said.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&["webhook", "command"])],
};

static WEBHOOK: Shape = Shape {
    name: "webhook",
    what: "`webhook`",
    fields: &[
        Field::new(
            "url",
            Type::Text(Text::of(1, 2048).like(&URL)),
            "The address.",
        )
        .required(),
        Field::new(
            "headers",
            Type::List(&Type::Object(&HEADER_SHAPE), 0, ANY),
            "Headers to send.",
        ),
    ],
    rules: &[],
};

static HEADER_SHAPE: Shape = Shape {
    name: "header",
    what: "the header",
    fields: &[
        Field::new(
            "name",
            Type::Text(Text::of(1, 256).like(&HEADER)),
            "The header's name.",
        )
        .required(),
        Field::new(
            "value",
            Type::Text(Text::of(0, 4096).or_number()),
            "Its value, if that is no secret.",
        ),
        Field::new(
            "valueFromEnvironment",
            Type::Text(Text::of(1, 256).like(&ENVIRONMENT)),
            "The environment variable that holds its value.",
        ),
        Field::new(
            "valueFromFile",
            SHORT_TEXT,
            "The file that holds its value.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&[
        "value",
        "valueFromEnvironment",
        "valueFromFile",
    ])],
};

/// An infrastructure configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InfrastructureConfiguration {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Types of EC2 instances, tried in order.
    #[serde(default)]
    pub instance_types: Vec<String>,
    /// The instance profile of build hosts.
    pub instance_profile_name: Option<String>,
    /// Security groups of build hosts.
    #[serde(default)]
    pub security_group_ids: Vec<String>,
    /// The subnet of build hosts.
    pub subnet_id: Option<String>,
    /// Where logs go besides the home.
    pub logging: Option<Logging>,
    /// The key pair of build hosts.
    pub key_pair: Option<String>,
    /// Whether the guest is stopped when a build fails.
    #[serde(default = "yes")]
    pub terminate_instance_on_failure: bool,
    /// A topic that is told of finished and failed images.
    pub sns_topic_arn: Option<String>,
    /// Tags of build hosts.
    #[serde(default)]
    pub resource_tags: BTreeMap<String, String>,
    /// The metadata service of build hosts.
    pub instance_metadata_options: Option<InstanceMetadataOptions>,
    /// Where build hosts stand.
    pub placement: Option<Placement>,
    /// Tags of the configuration.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What only Ovenbird has.
    #[serde(default)]
    pub local: InfrastructureLocal,
}

fn yes() -> bool {
    true
}

/// Where logs go.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Logging {
    /// A bucket.
    pub s3_logs: Option<S3Logs>,
}

/// A bucket for logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Logs {
    /// The bucket.
    pub s3_bucket_name: Option<String>,
    /// The beginning of the keys.
    pub s3_key_prefix: Option<String>,
}

/// The metadata service of build hosts.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceMetadataOptions {
    /// `optional` or `required`.
    pub http_tokens: Option<String>,
    /// How many hops a token may go.
    pub http_put_response_hop_limit: Option<u32>,
}

/// Where build hosts stand.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placement {
    /// The zone.
    pub availability_zone: Option<String>,
    /// `default`, `dedicated` or `host`.
    pub tenancy: Option<String>,
    /// A dedicated host.
    pub host_id: Option<String>,
    /// A group of dedicated hosts.
    pub host_resource_group_arn: Option<String>,
}

/// What only Ovenbird has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InfrastructureLocal {
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory in MiB.
    #[serde(rename = "memory", deserialize_with = "memory")]
    pub memory_mib: Option<u32>,
    /// Instead of the one that the probe finds.
    pub accelerator: Option<Accelerator>,
    /// Whether guests may reach the network.
    pub network: Option<Network>,
    /// A folder that gets a copy of every build's logs.
    pub log_folder: Option<Utf8PathBuf>,
    /// Whether CloudWatch gets the events of builds.
    pub cloud_watch_logs: Option<bool>,
    /// Who is told when an image becomes AVAILABLE or FAILED.
    pub notifications: Vec<Notification>,
}

/// Somebody who is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Notification {
    /// An address; either this or the command is there.
    pub webhook: Option<Webhook>,
    /// A command with its arguments.
    pub command: Option<Vec<String>>,
    /// The states that are told.
    #[serde(default = "both_states")]
    pub on: Vec<NotifiedState>,
    /// How long one attempt may take.
    #[serde(default = "thirty")]
    pub timeout_seconds: u32,
    /// How often it is tried.
    #[serde(default = "three")]
    pub attempts: u32,
}

/// A state that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NotifiedState {
    /// The image is finished.
    Available,
    /// The build failed.
    Failed,
}

impl NotifiedState {
    /// The service's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Failed => "FAILED",
        }
    }
}

fn both_states() -> Vec<NotifiedState> {
    vec![NotifiedState::Available, NotifiedState::Failed]
}

fn thirty() -> u32 {
    30
}

fn three() -> u32 {
    3
}

/// An address that gets the service's JSON by POST.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// The address.
    pub url: String,
    /// Headers to send.
    #[serde(default)]
    pub headers: Vec<Header>,
}

/// A header to send; one of the three values is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// The header's name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// The environment variable that holds its value.
    pub value_from_environment: Option<String>,
    /// The file that holds its value.
    pub value_from_file: Option<Utf8PathBuf>,
}
