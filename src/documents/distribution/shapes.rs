//! The tables of a distribution configuration.

use crate::documents::container_recipe::TARGET_REPOSITORY;
use crate::documents::image_recipe::FORMATS;
use crate::documents::shape::{ANY, Field, Pattern, Rule, SHORT_TEXT, Shape, Text, Type};
use crate::documents::vocabulary;

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
    fields: &[
        Field::new(
            "destinations",
            Type::List(&Type::Object(&DESTINATION), 1, ANY),
            "Where images go besides regions.",
        ),
        Field::new("amis", Type::Object(&AMIS), "How AMIs are made."),
    ],
    rules: &[Rule::AtLeastOne(&["destinations", "amis"])],
};

static AMIS: Shape = Shape {
    name: "amis",
    what: "`amis`",
    fields: &[
        Field::new(
            "road",
            Type::Word(&["ebsDirect", "importSnapshot", "importImage"]),
            "How the disk becomes a snapshot: block by block (the default), as a file in a bucket, or by ImportImage, which changes what is in it.",
        ),
        Field::new(
            "bucket",
            Type::Text(Text::of(3, 63).like(&BUCKET)),
            "The bucket in the first region where the disk waits for its import.",
        ),
        Field::new(
            "prefix",
            Type::Text(Text::of(0, 1024)),
            "The beginning of its key.",
        ),
        Field::new(
            "roleName",
            SHORT_TEXT,
            "The role that the import reads the disk with; vmimport if nothing is said.",
        ),
        Field::new(
            "keepUpload",
            Type::Boolean,
            "Whether the disk stays in the bucket when it was imported.",
        ),
        Field::new(
            "profile",
            SHORT_TEXT,
            "The profile of the AWS configuration whose credentials are used.",
        ),
        Field::new(
            "endpoint",
            Type::Text(Text::of(1, 2048).like(&URL)),
            "The server, if it is not AWS.",
        ),
        Field::new(
            "imdsSupport",
            Type::Word(&["v2.0", "optional"]),
            "Which requests for metadata instances answer: those with a session token alone (the default), or all.",
        ),
        Field::new(
            "tpmSupport",
            Type::Word(&["v2.0", "none"]),
            "Whether instances have a TPM; they have one if nothing is said and the image boots by UEFI alone.",
        ),
        Field::new(
            "uefiData",
            SHORT_TEXT,
            "A file with the UEFI variables of new instances in base64, such as Secure Boot keys; relative to this file.",
        ),
    ],
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
        Field::new(
            "createRepository",
            Type::Boolean,
            "Whether the repository is made if there is none (ECR).",
        ),
        Field::new(
            "profile",
            SHORT_TEXT,
            "The profile of the AWS configuration whose credentials are used (ECR).",
        ),
    ],
    rules: &[],
};
