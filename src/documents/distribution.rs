//! `kind: DistributionConfiguration`: the service's CreateDistributionConfiguration request, and under `local:` the
//! destinations that have nothing to do with a region.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;

use super::container_recipe::{TARGET_REPOSITORY, TargetRepository};
use super::image_recipe::FORMATS;
use super::shape::{ANY, Field, Pattern, Reader, Rule, SHORT_TEXT, Shape, Text, Type};
use super::vocabulary;
use crate::output::OutputFormat;

static AMI_NAME: Pattern = Pattern::new(
    r"^[-_A-Za-z0-9{][-_A-Za-z0-9\s:{}.]+[-_A-Za-z0-9}]$",
    "bad-name",
    "3 to 127 letters, digits, spaces and - _ : . { }",
);

static LAUNCH_TEMPLATE: Pattern = Pattern::new(
    r"^lt-[a-z0-9\-_]{17}$",
    "bad-id",
    "lt- and 17 letters and digits",
);

static LICENSE: Pattern = Pattern::new(
    r"^arn:aws[^:]*:license-manager:[^:]+:[0-9]{12}:license-configuration:lic-[a-z0-9\-_]{32}$",
    "bad-arn",
    "a license configuration's ARN",
);

static ORGANIZATION: Pattern = Pattern::new(
    r"^arn:aws[^:]*:organizations::[0-9]{12}:organization/o-[a-z0-9]{10,32}$",
    "bad-arn",
    "an organization's ARN",
);

static UNIT: Pattern = Pattern::new(
    r"^arn:aws[^:]*:organizations::[0-9]{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}",
    "bad-arn",
    "an organizational unit's ARN",
);

static SSM_PARAMETER: Pattern = Pattern::new(
    r"^[a-zA-Z0-9_.\-/]+$",
    "bad-name",
    "letters, digits and _ . - /",
);

static BUCKET: Pattern = Pattern::new(
    r"^[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]$",
    "bad-name",
    "3 to 63 small letters, digits, dots and dashes",
);

static URL: Pattern = Pattern::new(
    "^https?://[^/]+",
    "bad-url",
    "an address that begins with http:// or https://",
);

static REPOSITORY: Pattern = Pattern::new(
    r"^[a-z0-9][a-z0-9.\-]*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._\-]+[a-z0-9]+)*)+$",
    "bad-name",
    "HOST[:PORT]/NAME, such as registry.example.org/images/web",
);

static DESTINATION_NAME: Pattern = Pattern::new(
    r"^[A-Za-z0-9][A-Za-z0-9_\-]{0,63}$",
    "bad-name",
    "1 to 64 letters, digits, - and _",
);

/// The fields of a distribution configuration.
pub static SHAPE: Shape = Shape {
    name: "DistributionConfiguration",
    what: "the distribution configuration",
    fields: &[
        vocabulary::kind(&["DistributionConfiguration"]),
        vocabulary::name(),
        vocabulary::description(),
        Field::new(
            "distributions",
            Type::List(&Type::Object(&DISTRIBUTION), 0, ANY),
            "Where images go in the service: one entry for each region.",
        ),
        vocabulary::tags(),
        Field::new("local", Type::Object(&LOCAL), "What only Ovenbird has."),
        vocabulary::client_token(),
        vocabulary::dry_run(),
    ],
    rules: &[Rule::AtLeastOne(&["distributions", "local"])],
};

static DISTRIBUTION: Shape = Shape {
    name: "distribution",
    what: "the distribution",
    fields: &[
        Field::new("region", SHORT_TEXT, "The region, such as eu-west-1.").required(),
        Field::new(
            "amiDistributionConfiguration",
            Type::Object(&AMI),
            "The AMI.",
        ),
        Field::new(
            "containerDistributionConfiguration",
            Type::Object(&CONTAINER),
            "The container image.",
        ),
        Field::new(
            "licenseConfigurationArns",
            Type::List(&Type::Text(Text::of(0, ANY).like(&LICENSE)), 1, 50),
            "Licenses of the AMI.",
        ),
        Field::new(
            "launchTemplateConfigurations",
            Type::List(&Type::Object(&LAUNCH_TEMPLATE_SHAPE), 1, 100),
            "Launch templates that get a version with the new AMI.",
        ),
        Field::new(
            "s3ExportConfiguration",
            Type::Object(&EXPORT),
            "A disk file of the AMI in a bucket.",
        ),
        Field::new(
            "fastLaunchConfigurations",
            Type::List(&Type::Object(&FAST_LAUNCH), 1, 1000),
            "Faster launching of Windows AMIs.",
        ),
        Field::new(
            "ssmParameterConfigurations",
            Type::List(&Type::Object(&SSM), 0, ANY),
            "Parameters that get the AMI's id.",
        ),
    ],
    rules: &[],
};

static AMI: Shape = Shape {
    name: "amiDistributionConfiguration",
    what: "`amiDistributionConfiguration`",
    fields: &[
        Field::new(
            "name",
            Type::Text(Text::of(1, 127).like(&AMI_NAME)),
            "The AMI's name with {{ imagebuilder:buildDate }} in it.",
        ),
        Field::new("description", SHORT_TEXT, "The AMI's description."),
        Field::new(
            "targetAccountIds",
            Type::List(&vocabulary::ACCOUNT_TEXT, 1, 1536),
            "Accounts that get a copy.",
        ),
        Field::new("amiTags", Type::Map(&vocabulary::TAGS), "Tags of the AMI."),
        vocabulary::kms_key(),
        Field::new(
            "launchPermission",
            Type::Object(&PERMISSION),
            "Who may launch it.",
        )
        .in_cloudformation("LaunchPermissionConfiguration"),
    ],
    rules: &[],
};

static PERMISSION: Shape = Shape {
    name: "launchPermission",
    what: "`launchPermission`",
    fields: &[
        Field::new(
            "userIds",
            Type::List(&vocabulary::ACCOUNT_TEXT, 1, 1536),
            "Accounts.",
        ),
        Field::new(
            "userGroups",
            Type::List(&SHORT_TEXT, 0, ANY),
            "`all` for everybody.",
        ),
        Field::new(
            "organizationArns",
            Type::List(&Type::Text(Text::of(0, ANY).like(&ORGANIZATION)), 1, 25),
            "Organizations.",
        ),
        Field::new(
            "organizationalUnitArns",
            Type::List(&Type::Text(Text::of(0, ANY).like(&UNIT)), 1, 25),
            "Organizational units.",
        ),
    ],
    rules: &[],
};

static CONTAINER: Shape = Shape {
    name: "containerDistributionConfiguration",
    what: "`containerDistributionConfiguration`",
    fields: &[
        Field::new("description", SHORT_TEXT, "The description."),
        Field::new(
            "containerTags",
            Type::List(&SHORT_TEXT, 0, ANY),
            "Tags of the container image.",
        ),
        Field::new(
            "targetRepository",
            Type::Object(&TARGET_REPOSITORY),
            "Where it goes.",
        )
        .required(),
    ],
    rules: &[],
};

static LAUNCH_TEMPLATE_SHAPE: Shape = Shape {
    name: "launchTemplateConfiguration",
    what: "the launch template",
    fields: &[
        Field::new(
            "launchTemplateId",
            Type::Text(Text::of(0, ANY).like(&LAUNCH_TEMPLATE)),
            "Its id.",
        )
        .required(),
        Field::new(
            "accountId",
            vocabulary::ACCOUNT_TEXT,
            "The account it belongs to.",
        ),
        Field::new(
            "setDefaultVersion",
            Type::Boolean,
            "Whether the new version becomes the default; true if nothing is said.",
        ),
    ],
    rules: &[],
};

static EXPORT: Shape = Shape {
    name: "s3ExportConfiguration",
    what: "`s3ExportConfiguration`",
    fields: &[
        Field::new(
            "roleName",
            SHORT_TEXT,
            "The role that exports, usually vmimport.",
        )
        .required(),
        Field::new(
            "diskImageFormat",
            Type::Word(&["VMDK", "RAW", "VHD"]),
            "The format.",
        )
        .required(),
        Field::new("s3Bucket", SHORT_TEXT, "The bucket.").required(),
        Field::new("s3Prefix", SHORT_TEXT, "The beginning of the key."),
    ],
    rules: &[],
};

static FAST_LAUNCH: Shape = Shape {
    name: "fastLaunchConfiguration",
    what: "the fast launch configuration",
    fields: &[
        Field::new("enabled", Type::Boolean, "Whether it is switched on.").required(),
        Field::new(
            "snapshotConfiguration",
            Type::Object(&FAST_SNAPSHOT),
            "Prepared snapshots.",
        ),
        Field::new(
            "maxParallelLaunches",
            Type::Integer(1, i64::MAX),
            "Instances that prepare snapshots at a time; EC2 wants 6 or more.",
        ),
        Field::new(
            "launchTemplate",
            Type::Object(&FAST_TEMPLATE),
            "The launch template of these instances.",
        ),
        Field::new(
            "accountId",
            vocabulary::ACCOUNT_TEXT,
            "The account that owns the AMI.",
        ),
    ],
    rules: &[],
};

static FAST_SNAPSHOT: Shape = Shape {
    name: "fastLaunchSnapshotConfiguration",
    what: "`snapshotConfiguration`",
    fields: &[Field::new(
        "targetResourceCount",
        Type::Integer(1, 10_000),
        "How many are kept ready.",
    )],
    rules: &[],
};

static FAST_TEMPLATE: Shape = Shape {
    name: "fastLaunchLaunchTemplate",
    what: "`launchTemplate`",
    fields: &[
        Field::new(
            "launchTemplateId",
            Type::Text(Text::of(0, ANY).like(&LAUNCH_TEMPLATE)),
            "Its id.",
        ),
        Field::new("launchTemplateName", SHORT_TEXT, "Its name."),
        Field::new("launchTemplateVersion", SHORT_TEXT, "Its version."),
    ],
    rules: &[Rule::AtMostOne(&["launchTemplateId", "launchTemplateName"])],
};

static SSM: Shape = Shape {
    name: "ssmParameterConfiguration",
    what: "the SSM parameter",
    fields: &[
        Field::new(
            "amiAccountId",
            vocabulary::ACCOUNT_TEXT,
            "The account that owns the AMI.",
        ),
        Field::new(
            "parameterName",
            Type::Text(Text::of(1, 1011).like(&SSM_PARAMETER)),
            "The parameter's name.",
        )
        .required(),
        Field::new(
            "dataType",
            Type::Word(&["text", "aws:ec2:image"]),
            "Its type; aws:ec2:image if nothing is said.",
        ),
    ],
    rules: &[],
};

static LOCAL: Shape = Shape {
    name: "distributionConfigurationLocal",
    what: "`local`",
    fields: &[Field::new(
        "destinations",
        Type::List(&Type::Object(&DESTINATION), 1, ANY),
        "Where images go besides regions.",
    )
    .required()],
    rules: &[],
};

static DESTINATION: Shape = Shape {
    name: "destination",
    what: "the destination",
    fields: &[
        Field::new(
            "name",
            Type::Text(Text::of(1, 64).like(&DESTINATION_NAME)),
            "What it is called in reports; its type and number if nothing is said.",
        ),
        Field::new(
            "folder",
            Type::Object(&FOLDER),
            "A folder of this machine, or of a disk that is plugged in.",
        ),
        Field::new(
            "s3",
            Type::Object(&S3),
            "A bucket of any S3-compatible server.",
        ),
        Field::new(
            "registry",
            Type::Object(&REGISTRY),
            "A repository of any OCI registry.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&["folder", "s3", "registry"])],
};

const FORMAT_LIST: Type = Type::List(&Type::Word(FORMATS), 1, ANY);

static FOLDER: Shape = Shape {
    name: "folderDestination",
    what: "`folder`",
    fields: &[
        Field::new("path", SHORT_TEXT, "The folder, relative to this file.").required(),
        Field::new(
            "formats",
            FORMAT_LIST,
            "Which outputs go there; all if nothing is said.",
        ),
        Field::new(
            "layout",
            Type::Word(&["plain", "versioned"]),
            "Files side by side (the default), or in NAME/VERSION/BUILD.",
        ),
        Field::new(
            "latest",
            Type::Boolean,
            "Whether a link `latest` points to the newest; needs the versioned layout.",
        ),
        Field::new(
            "checksums",
            Type::Boolean,
            "Whether a file SHA256SUMS is written; true if nothing is said.",
        ),
    ],
    rules: &[],
};

static S3: Shape = Shape {
    name: "s3Destination",
    what: "`s3`",
    fields: &[
        Field::new(
            "bucket",
            Type::Text(Text::of(3, 63).like(&BUCKET)),
            "The bucket.",
        )
        .required(),
        Field::new(
            "prefix",
            Type::Text(Text::of(0, 1024)),
            "The beginning of the keys; may hold {{ imagebuilder:buildVersion }} and {{ imagebuilder:buildDate }}.",
        ),
        Field::new(
            "formats",
            FORMAT_LIST,
            "Which outputs go there; all if nothing is said.",
        ),
        Field::new(
            "endpoint",
            Type::Text(Text::of(1, 2048).like(&URL)),
            "The server, if it is not AWS.",
        ),
        Field::new("region", SHORT_TEXT, "The region."),
        Field::new(
            "profile",
            SHORT_TEXT,
            "The profile of the AWS configuration whose credentials are used.",
        ),
        Field::new(
            "pathStyle",
            Type::Boolean,
            "Whether the bucket stands in the path instead of the host name.",
        ),
        Field::new(
            "checksums",
            Type::Word(&["sha256", "crc32c", "md5", "none"]),
            "The checksums that are sent; older servers know only md5.",
        ),
    ],
    rules: &[],
};

static REGISTRY: Shape = Shape {
    name: "registryDestination",
    what: "`registry`",
    fields: &[
        Field::new(
            "repository",
            Type::Text(Text::of(3, 1024).like(&REPOSITORY)),
            "HOST[:PORT]/NAME.",
        )
        .required(),
        Field::new(
            "tags",
            Type::List(&Type::Text(Text::of(1, 128)), 1, ANY),
            "Tags; VERSION-BUILD if nothing is said.",
        ),
        Field::new(
            "as",
            Type::Word(&["container", "containerDisk", "artifact"]),
            "The root filesystem as a container image (the default), the disk as a containerDisk, or the disk as an artifact.",
        ),
        Field::new(
            "insecure",
            Type::Boolean,
            "Whether the registry speaks plain HTTP.",
        ),
    ],
    rules: &[],
};

/// A distribution configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DistributionConfiguration {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// One entry for each region.
    #[serde(default)]
    pub distributions: Vec<Distribution>,
    /// Tags of the configuration.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What only Ovenbird has.
    #[serde(default)]
    pub local: DistributionLocal,
}

/// What happens in one region.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Distribution {
    /// The region.
    pub region: String,
    /// The AMI.
    pub ami_distribution_configuration: Option<AmiDistributionConfiguration>,
    /// The container image.
    pub container_distribution_configuration: Option<ContainerDistributionConfiguration>,
    /// Licenses of the AMI.
    #[serde(default)]
    pub license_configuration_arns: Vec<String>,
    /// Launch templates that get a version with the new AMI.
    #[serde(default)]
    pub launch_template_configurations: Vec<LaunchTemplateConfiguration>,
    /// A disk file of the AMI in a bucket.
    pub s3_export_configuration: Option<S3ExportConfiguration>,
    /// Faster launching of Windows AMIs.
    #[serde(default)]
    pub fast_launch_configurations: Vec<FastLaunchConfiguration>,
    /// Parameters that get the AMI's id.
    #[serde(default)]
    pub ssm_parameter_configurations: Vec<SsmParameterConfiguration>,
}

/// An AMI in a region.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AmiDistributionConfiguration {
    /// The name's template.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Accounts that get a copy.
    #[serde(default)]
    pub target_account_ids: Vec<String>,
    /// Tags.
    #[serde(default)]
    pub ami_tags: BTreeMap<String, String>,
    /// The key it is encrypted with.
    pub kms_key_id: Option<String>,
    /// Who may launch it.
    pub launch_permission: Option<LaunchPermission>,
}

/// Who may launch an AMI.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LaunchPermission {
    /// Accounts.
    pub user_ids: Vec<String>,
    /// `all` for everybody.
    pub user_groups: Vec<String>,
    /// Organizations.
    pub organization_arns: Vec<String>,
    /// Organizational units.
    pub organizational_unit_arns: Vec<String>,
}

/// A container image in a region.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerDistributionConfiguration {
    /// The description.
    pub description: Option<String>,
    /// Tags.
    #[serde(default)]
    pub container_tags: Vec<String>,
    /// Where it goes.
    pub target_repository: TargetRepository,
}

/// A launch template that gets a version with the new AMI.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchTemplateConfiguration {
    /// Its id.
    pub launch_template_id: String,
    /// The account it belongs to.
    pub account_id: Option<String>,
    /// Whether the new version becomes the default.
    #[serde(default = "yes")]
    pub set_default_version: bool,
}

fn yes() -> bool {
    true
}

/// A disk file of an AMI in a bucket.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3ExportConfiguration {
    /// The role that exports.
    pub role_name: String,
    /// `VMDK`, `RAW` or `VHD`.
    pub disk_image_format: String,
    /// The bucket.
    pub s3_bucket: String,
    /// The beginning of the key.
    pub s3_prefix: Option<String>,
}

/// Faster launching of a Windows AMI.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FastLaunchConfiguration {
    /// Whether it is switched on.
    pub enabled: bool,
    /// Prepared snapshots.
    pub snapshot_configuration: Option<FastLaunchSnapshotConfiguration>,
    /// Instances that prepare snapshots at a time.
    pub max_parallel_launches: Option<u64>,
    /// The launch template of these instances.
    pub launch_template: Option<FastLaunchTemplate>,
    /// The account that owns the AMI.
    pub account_id: Option<String>,
}

/// Prepared snapshots.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FastLaunchSnapshotConfiguration {
    /// How many are kept ready.
    pub target_resource_count: Option<u32>,
}

/// The launch template of instances that prepare snapshots.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FastLaunchTemplate {
    /// Its id.
    pub launch_template_id: Option<String>,
    /// Its name.
    pub launch_template_name: Option<String>,
    /// Its version.
    pub launch_template_version: Option<String>,
}

/// A parameter that gets an AMI's id.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SsmParameterConfiguration {
    /// The account that owns the AMI.
    pub ami_account_id: Option<String>,
    /// The parameter's name.
    pub parameter_name: String,
    /// `text` or `aws:ec2:image`.
    pub data_type: Option<String>,
}

/// What only Ovenbird has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DistributionLocal {
    /// Where images go besides regions.
    pub destinations: Vec<Destination>,
}

/// A destination; one of folder, S3 and registry is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// What it is called in reports.
    pub name: Option<String>,
    /// A folder.
    pub folder: Option<FolderDestination>,
    /// A bucket.
    pub s3: Option<S3Destination>,
    /// A repository.
    pub registry: Option<RegistryDestination>,
}

/// A folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderDestination {
    /// The folder, relative to the document.
    pub path: Utf8PathBuf,
    /// Which outputs go there; all if empty.
    #[serde(default)]
    pub formats: Vec<OutputFormat>,
    /// How files lie in it.
    #[serde(default)]
    pub layout: FolderLayout,
    /// Whether a link points to the newest.
    #[serde(default)]
    pub latest: bool,
    /// Whether a file with checksums is written.
    #[serde(default = "yes")]
    pub checksums: bool,
}

/// How files lie in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderLayout {
    /// Side by side.
    #[default]
    Plain,
    /// In `NAME/VERSION/BUILD`.
    Versioned,
}

/// A bucket.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Destination {
    /// The bucket.
    pub bucket: String,
    /// The beginning of the keys.
    #[serde(default)]
    pub prefix: String,
    /// Which outputs go there; all if empty.
    #[serde(default)]
    pub formats: Vec<OutputFormat>,
    /// The server, if it is not AWS.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The profile whose credentials are used.
    pub profile: Option<String>,
    /// Whether the bucket stands in the path.
    #[serde(default)]
    pub path_style: bool,
    /// The checksums that are sent: `sha256`, `crc32c`, `md5` or `none`.
    pub checksums: Option<String>,
}

/// A repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryDestination {
    /// `HOST[:PORT]/NAME`.
    pub repository: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What goes there.
    #[serde(default, rename = "as")]
    pub form: RegistryForm,
    /// Whether the registry speaks plain HTTP.
    #[serde(default)]
    pub insecure: bool,
}

/// What goes to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RegistryForm {
    /// The root filesystem as a container image.
    #[default]
    Container,
    /// The disk as a containerDisk.
    ContainerDisk,
    /// The disk as an artifact.
    Artifact,
}

/// Most launch templates and SSM parameters of one region, and most copies of an AMI, by the service's quotas.
const MOST_TEMPLATES: usize = 5;
const MOST_PARAMETERS: usize = 10;
const MOST_COPIES: usize = 50;

/// Checks what the tables cannot say.
pub fn check(reader: &Reader<'_>, configuration: &DistributionConfiguration) {
    let mut regions: Vec<&str> = Vec::new();
    let mut copies = 0;
    for (index, distribution) in configuration.distributions.iter().enumerate() {
        let at = |field: &str| reader.place(&format!("/distributions/{index}/{field}"));
        if regions.contains(&distribution.region.as_str()) {
            reader.report(
                reader
                    .error(
                        "duplicate-region",
                        at("region"),
                        format!(
                            "a second distribution for the region {}",
                            distribution.region
                        ),
                    )
                    .expected("one distribution for each region"),
            );
        }
        regions.push(&distribution.region);
        for (field, count, most) in [
            (
                "launchTemplateConfigurations",
                distribution.launch_template_configurations.len(),
                MOST_TEMPLATES,
            ),
            (
                "ssmParameterConfigurations",
                distribution.ssm_parameter_configurations.len(),
                MOST_PARAMETERS,
            ),
        ] {
            if count > most {
                reader.report(
                    reader
                        .warning(
                            "over-quota",
                            at(field),
                            format!("the distribution has {count} {field}"),
                        )
                        .expected(format!(
                            "at most {most} for one region by the service's default quota"
                        )),
                );
            }
        }
        let Some(ami) = &distribution.ami_distribution_configuration else {
            continue;
        };
        copies += 1 + ami.target_account_ids.len();
        if let Some(name) = &ami.name
            && !name.contains("imagebuilder:buildDate")
        {
            reader.report(
                reader
                    .error(
                        "missing-variable",
                        at("amiDistributionConfiguration/name"),
                        "the AMI's name has no `{{ imagebuilder:buildDate }}`",
                    )
                    .expected("the variable, such as web-{{ imagebuilder:buildDate }}")
                    .hint("an AMI's name is unique in its region: the next build could not be registered"),
            );
        }
    }
    if copies > MOST_COPIES {
        reader.report(
            reader
                .warning(
                    "over-quota",
                    reader.place("/distributions"),
                    format!("the distribution configuration makes {copies} copies of the AMI"),
                )
                .expected(format!(
                    "at most {MOST_COPIES} by the service's default quota"
                )),
        );
    }
    check_destinations(reader, &configuration.local.destinations);
}

fn check_destinations(reader: &Reader<'_>, destinations: &[Destination]) {
    let mut names: Vec<&str> = Vec::new();
    for (index, destination) in destinations.iter().enumerate() {
        let at = |field: &str| reader.place(&format!("/local/destinations/{index}/{field}"));
        if let Some(name) = &destination.name {
            if names.contains(&name.as_str()) {
                reader.report(
                    reader
                        .error(
                            "duplicate-name",
                            at("name"),
                            format!("a second destination is called `{name}`"),
                        )
                        .expected("a name of its own"),
                );
            }
            names.push(name);
        }
        if let Some(folder) = &destination.folder
            && folder.latest
            && folder.layout == FolderLayout::Plain
        {
            reader.report(
                reader
                    .error(
                        "conflict",
                        at("folder/latest"),
                        "`latest` of `folder` needs folders to point to",
                    )
                    .expected("`layout: versioned` beside it"),
            );
        }
    }
}
