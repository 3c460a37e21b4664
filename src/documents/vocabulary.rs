//! The fields, lengths and patterns that several kinds share.

use super::reference::Complaint;
use super::shape::{ANY, Field, Pattern, Rule, SHORT_TEXT, Shape, StringMap, Text, Type};
use super::version::{Version, VersionSpec};

/// The service's ResourceName.
pub static NAME_PATTERN: Pattern = Pattern::new(
    "^[-_A-Za-z0-9][-_A-Za-z0-9 ]{1,126}[-_A-Za-z0-9]$",
    "bad-name",
    "3 to 128 letters, digits, `-`, `_` or inner spaces",
);

static TAG_KEY: Pattern = Pattern::new(
    r"^[a-zA-Z0-9\s_.:/=+\-@]*$",
    "bad-tag",
    "letters, digits, spaces and _ . : / = + - @, not beginning with `aws:`",
)
.not_starting("aws:");

static VERSION: Pattern = Pattern::new(
    r"^[0-9]+\.[0-9]+\.[0-9]+$",
    "bad-version",
    "three numbers, such as 1.0.0",
);

/// A version that may end in `x`, whether for the next free one or for all that fit.
static VERSION_OR_NEXT: Pattern = Pattern::new(
    r"^(?:[0-9]+\.[0-9]+\.(?:[0-9]+|x)|(?:[0-9]+|x)\.x\.x)$",
    "bad-version",
    "three numbers, such as 1.0.0, which may end in `x`, such as 1.0.x",
);

static ACCOUNT: Pattern = Pattern::new("^[0-9]{12}$", "bad-account", "twelve digits");

static ROLE: Pattern = Pattern::new(
    r"^(?:arn:aws(?:-[a-z]+)*:iam::[0-9]{12}:role/)?[a-zA-Z_0-9+=,.@\-_/]+$",
    "bad-role",
    "a role's name or ARN",
);

static LOG_GROUP: Pattern = Pattern::new(
    r"^[a-zA-Z0-9\-_/\.]{1,512}$",
    "bad-name",
    "1 to 512 letters, digits and - _ / .",
);

static NO_NUL: Pattern = Pattern::new(r"^[^\x00]*$", "bad-text", "text without NUL characters");

static PARALLEL_GROUP: Pattern = Pattern::new(
    r"^[A-Za-z0-9][A-Za-z0-9\-_+#]{0,99}$",
    "bad-name",
    "1 to 100 letters, digits and - _ + #",
);

/// `kind`, which a document may have whatever it is.
pub const fn kind(words: &'static [&'static str]) -> Field {
    Field::new("kind", Type::Word(words), "What the document describes.").dropped()
}

/// `name`.
pub const fn name() -> Field {
    Field::new(
        "name",
        NAME_TYPE,
        "Its name; in ARNs in lower case, with dashes for spaces.",
    )
    .required()
}

/// `Type::Text` of a resource's name.
pub const NAME_TYPE: Type = Type::Text(Text::of(3, 128).like(&NAME_PATTERN));

/// `description`.
pub const fn description() -> Field {
    Field::new("description", SHORT_TEXT, "What it is for.")
}

/// `changeDescription`.
pub const fn change_description() -> Field {
    Field::new(
        "changeDescription",
        SHORT_TEXT,
        "What is new in this version.",
    )
}

/// `semanticVersion` of kinds whose version is exact.
pub const fn exact_version() -> Field {
    Field::new(
        "semanticVersion",
        Type::Checked(Text::of(0, ANY).like(&VERSION), check_version),
        "Its version: major.minor.patch, each from 0 to 1073741823.",
    )
    .required()
    .in_cloudformation("Version")
}

/// A version that may end in `x`.
pub const OPEN_VERSION: Type = Type::Checked(Text::of(0, ANY).like(&VERSION_OR_NEXT), check_spec);

/// `semanticVersion` of recipes.
pub const fn version_or_next() -> Field {
    Field::new(
        "semanticVersion",
        OPEN_VERSION,
        "Its version: major.minor.patch, each from 0 to 1073741823; `x` at the end takes the next free number.",
    )
    .required()
    .in_cloudformation("Version")
}

/// `kmsKeyId`.
pub const fn kms_key() -> Field {
    Field::new(
        "kmsKeyId",
        SHORT_TEXT,
        "A key of the service; nothing is encrypted here.",
    )
}

/// `tags`.
pub const fn tags() -> Field {
    Field::new("tags", Type::Map(&TAGS), "Tags of the resource.")
}

/// `clientToken`, which belongs to the call.
pub const fn client_token() -> Field {
    Field::new(
        "clientToken",
        Type::Text(Text::of(1, 64)),
        "Makes a call of the API idempotent; not needed here.",
    )
    .dropped()
}

/// `dryRun`, which belongs to the call.
pub const fn dry_run() -> Field {
    Field::new(
        "dryRun",
        Type::Boolean,
        "Makes a call of the API a trial; `--dry-run` here.",
    )
    .dropped()
}

/// Tags: at most 50.
pub static TAGS: StringMap = tag_map(50);

/// Tags of build hosts: at most 30.
pub static RESOURCE_TAGS: StringMap = tag_map(30);

const fn tag_map(most: usize) -> StringMap {
    StringMap {
        key: Text::of(1, 128).like(&TAG_KEY),
        value: Text::of(0, 256).or_number(),
        least: 1,
        most,
    }
}

/// An AWS account.
pub const ACCOUNT_TEXT: Type = Type::Text(Text::of(0, ANY).like(&ACCOUNT).or_number());

/// A role's name or ARN.
pub const ROLE_TEXT: Type = Type::Text(Text::of(1, 2048).like(&ROLE));

/// A log group's name.
pub const LOG_GROUP_TEXT: Type = Type::Text(Text::of(1, 512).like(&LOG_GROUP));

/// A group of workflows that run side by side.
pub const PARALLEL_GROUP_TEXT: Type = Type::Text(Text::of(1, 100).like(&PARALLEL_GROUP));

/// A document that stands in the request, or was taken from a file.
pub const INLINE_DOCUMENT: Type =
    Type::Text(Text::of(1, 16_000).from_file(64 * 1024).like(&NO_NUL));

/// Platforms.
pub const PLATFORMS: &[&str] = &["Windows", "Linux", "macOS"];

/// A parameter that a recipe gives a component.
pub static COMPONENT_PARAMETER: Shape = Shape {
    name: "componentParameter",
    what: "the parameter",
    fields: &[
        Field::new(
            "name",
            Type::Text(Text::of(1, 256).like(&NO_NUL)),
            "The parameter's name in the component.",
        )
        .required(),
        Field::new(
            "value",
            Type::Values(Text::of(0, ANY).like(&NO_NUL).or_number()),
            "Its value: a list, with one item for plain types.",
        )
        .required(),
    ],
    rules: &[],
};

/// A disk of the build instance.
pub static BLOCK_DEVICE: Shape = Shape {
    name: "blockDeviceMapping",
    what: "the block device mapping",
    fields: &[
        Field::new("deviceName", SHORT_TEXT, "Such as /dev/sda1."),
        Field::new("ebs", Type::Object(&EBS), "A volume."),
        Field::new(
            "virtualName",
            SHORT_TEXT,
            "An instance store volume of EC2, such as ephemeral0.",
        ),
        Field::new(
            "noDevice",
            Type::Text(Text::of(0, 0)),
            "Empty text removes a mapping of the parent.",
        ),
    ],
    rules: &[Rule::AtMostOne(&["ebs", "virtualName"])],
};

static EBS: Shape = Shape {
    name: "ebs",
    what: "`ebs`",
    fields: &[
        Field::new(
            "volumeSize",
            Type::Integer(1, 16_000),
            "GiB; the first mapping is the root disk.",
        ),
        Field::new(
            "volumeType",
            Type::Word(&["standard", "io1", "io2", "gp2", "gp3", "sc1", "st1"]),
            "Type of the volume on EC2.",
        ),
        Field::new(
            "encrypted",
            Type::Boolean,
            "Whether the volume is encrypted on EC2.",
        ),
        Field::new(
            "deleteOnTermination",
            Type::Boolean,
            "Whether the volume goes with its instance on EC2.",
        ),
        Field::new(
            "iops",
            Type::Integer(100, 64_000),
            "Operations per second on EC2.",
        ),
        Field::new(
            "throughput",
            Type::Integer(125, 1_000),
            "MiB/s on EC2 (gp3).",
        ),
        kms_key(),
        Field::new(
            "snapshotId",
            SHORT_TEXT,
            "The snapshot that the volume is made of on EC2.",
        ),
    ],
    rules: &[],
};

/// A workflow of a pipeline.
pub static WORKFLOW_PARAMETER: Shape = Shape {
    name: "workflowParameter",
    what: "the parameter",
    fields: &[
        Field::new(
            "name",
            Type::Text(Text::of(1, 128).like(&NO_NUL)),
            "The parameter's name in the workflow.",
        )
        .required(),
        Field::new(
            "value",
            Type::Values(Text::of(0, ANY).like(&NO_NUL).or_number()),
            "Its value: a list, with one item for plain types.",
        )
        .required(),
    ],
    rules: &[],
};

fn check_version(text: &str) -> Result<(), Complaint> {
    text.parse::<Version>().map(|_| ()).map_err(Complaint::from)
}

fn check_spec(text: &str) -> Result<(), Complaint> {
    text.parse::<VersionSpec>()
        .map(|_| ())
        .map_err(Complaint::from)
}
