//! `kind: ImageRecipe`: the service's CreateImageRecipe request, and under `local:` what only a local baker has.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::{Deserialize, Deserializer};

use super::parent::ParentImage;
use super::quota::default_of;
pub use super::recipe_component::{COMPONENT, ComponentConfiguration, ParameterValue};
use super::reference::{Complaint, Refers};
use super::shape::{ANY, Field, Pattern, Reader, Rule, SHORT_TEXT, Shape, Text, Type};
use super::version::VersionSpec;
use super::vocabulary;
use super::vulnerabilities::{self, Vulnerabilities};
use crate::machine::args::Network;
use crate::machine::{Arch, Firmware};
use crate::output::OutputFormat;

/// The service's default working directory.
const WORKING_DIRECTORY: &str = "/tmp";

static USER_DATA: Pattern = Pattern::new(
    r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    "bad-base64",
    "base64",
);

/// A folder in the guest: absolute, or with a drive letter.
static GUEST_FOLDER: Pattern = Pattern::new(
    r"^(?:/|[A-Za-z]:)",
    "bad-path",
    "an absolute path in the guest",
);

static MEMORY: Pattern = Pattern::new(
    r"^[0-9]{1,9} ?(?:MiB|GiB)?$",
    "bad-size",
    "MiB as a number, or a size such as 2GiB, from 128 MiB to 1 TiB",
);

static WATERMARK: Pattern = Pattern::new(
    r"^[A-Za-z0-9()\[\]./'@_-][A-Za-z0-9 ()\[\]./'@_-]{1,126}[A-Za-z0-9()\[\]./'@_-]$",
    "bad-name",
    "3 to 128 letters, digits, inner spaces and ( ) [ ] . / - ' @ _",
);

/// The fields of an image recipe.
pub static SHAPE: Shape = Shape {
    name: "ImageRecipe",
    what: "the recipe",
    fields: &[
        vocabulary::kind(&["ImageRecipe"]),
        vocabulary::name(),
        vocabulary::description(),
        vocabulary::version_or_next(),
        Field::new(
            "parentImage",
            Type::Reference(Refers::ParentImage),
            "What to start from: an image by name and version, an image's ARN, a disk's path, or an address with its digest.",
        )
        .required(),
        Field::new(
            "components",
            Type::List(&Type::Object(&COMPONENT), 0, ANY),
            "What to run in the guest, in this order.",
        ),
        Field::new(
            "blockDeviceMappings",
            Type::List(&Type::Object(&vocabulary::BLOCK_DEVICE), 0, ANY),
            "The disks; the first one is the root disk.",
        ),
        WORKING_DIRECTORY_FIELD,
        Field::new(
            "additionalInstanceConfiguration",
            Type::Object(&ADDITIONAL),
            "Further settings of the build instance.",
        ),
        Field::new("amiTags", Type::Map(&vocabulary::TAGS), "Tags of the AMI."),
        Field::new(
            "amiWatermarks",
            Type::List(&Type::Text(Text::of(3, 128).like(&WATERMARK)), 1, 5),
            "Watermarks of the AMI on EC2.",
        ),
        vocabulary::tags(),
        Field::new("local", Type::Object(&LOCAL), "What only Ovenbird has."),
        vocabulary::client_token(),
        vocabulary::dry_run(),
    ],
    rules: &[],
};

/// `workingDirectory`.
pub const WORKING_DIRECTORY_FIELD: Field = Field::new(
    "workingDirectory",
    Type::Text(Text::of(1, 1024).like(&GUEST_FOLDER)),
    "Where components work in the guest; /tmp if nothing is said.",
);

static ADDITIONAL: Shape = Shape {
    name: "additionalInstanceConfiguration",
    what: "`additionalInstanceConfiguration`",
    fields: &[
        Field::new(
            "systemsManagerAgent",
            Type::Object(&AGENT),
            "Settings of the service's agent in the guest.",
        ),
        Field::new(
            "userDataOverride",
            Type::Text(Text::of(1, 21_847).like(&USER_DATA)),
            "User data of the build instance, base64.",
        ),
    ],
    rules: &[],
};

static AGENT: Shape = Shape {
    name: "systemsManagerAgent",
    what: "`systemsManagerAgent`",
    fields: &[Field::new(
        "uninstallAfterBuild",
        Type::Boolean,
        "Whether the agent is removed before the image is made.",
    )],
    rules: &[],
};

/// Words for `local.network`.
pub const NETWORK: &[&str] = &[
    Network::User.as_str(),
    Network::Packages.as_str(),
    Network::None.as_str(),
];
const FIRMWARE: &[&str] = &[Firmware::Bios.as_str(), Firmware::Uefi.as_str()];
/// The formats of outputs, as documents name them.
pub const FORMATS: &[&str] = &[
    OutputFormat::Raw.as_str(),
    OutputFormat::Qcow2.as_str(),
    OutputFormat::Vmdk.as_str(),
    OutputFormat::Vhd.as_str(),
    OutputFormat::Vhdx.as_str(),
    OutputFormat::Ova.as_str(),
    OutputFormat::Oci.as_str(),
];

static LOCAL: Shape = Shape {
    name: "imageRecipeLocal",
    what: "`local`",
    fields: &[
        Field::new(
            "firmware",
            Type::Word(FIRMWARE),
            "How the build guest boots.",
        ),
        Field::new(
            "architecture",
            Type::Word(&["x86_64", "amd64", "aarch64", "arm64"]),
            "The guest's architecture; the parent's if nothing is said.",
        ),
        CPUS_FIELD,
        MEMORY_FIELD,
        Field::new(
            "outputs",
            Type::List(&Type::Word(FORMATS), 0, ANY),
            "What to make; qcow2 if nothing is said.",
        ),
        Field::new(
            "destination",
            SHORT_TEXT,
            "The final folder, relative to this file.",
        ),
        Field::new(
            "tests",
            Type::Boolean,
            "Whether the finished image is booted and tested; true if nothing is said.",
        ),
        Field::new(
            "testFirmware",
            Type::List(&Type::Word(FIRMWARE), 0, ANY),
            "Firmware of further test boots.",
        ),
        Field::new(
            "testNvme",
            Type::Boolean,
            "Whether further test boots use an NVMe controller, as EC2 does.",
        ),
        Field::new(
            "testCopies",
            Type::Boolean,
            "Whether a second copy is booted with another seed, and must be another machine; true if nothing is said and the image becomes an AMI.",
        ),
        Field::new(
            "network",
            Type::Word(NETWORK),
            "How far the guest reaches: as far as this machine (`user`, if nothing is said), to the cache of packages on it, or nowhere.",
        ),
        Field::new(
            "storedValues",
            Type::List(&Type::Object(&STORED_VALUE), 0, ANY),
            "Values that documents name as `aws:ssm` and that come from elsewhere: this machine, or Secrets Manager; secret, all of them.",
        ),
        Field::new(
            "sanitise",
            Type::Object(&SANITISE),
            "The clean-up before the image is made.",
        ),
        Field::new(
            "vulnerabilities",
            Type::Object(&vulnerabilities::SHAPE),
            "Known vulnerabilities are looked up in the local database, and reported with the image.",
        ),
    ],
    rules: &[],
};

/// `cpus` under `local`.
pub const CPUS_FIELD: Field =
    Field::new("cpus", Type::Integer(1, 256), "Virtual CPUs of the guest.");

/// `memory` under `local`.
pub const MEMORY_FIELD: Field = Field::new(
    "memory",
    Type::Checked(Text::of(1, 16).like(&MEMORY).or_number(), check_memory),
    "Memory of the guest: MiB as a number, or a size such as 2GiB.",
);

static STORED_VALUE: Shape = Shape {
    name: "storedValue",
    what: "the stored value",
    fields: &[
        Field::new(
            "name",
            SHORT_TEXT,
            "The name by which documents ask for it.",
        )
        .required(),
        Field::new("env", SHORT_TEXT, "The environment variable that holds it."),
        Field::new(
            "file",
            SHORT_TEXT,
            "The file that holds it, relative to this file.",
        ),
        Field::new(
            "command",
            Type::List(&SHORT_TEXT, 1, ANY),
            "The command that prints it, as a list of words; no shell.",
        ),
        Field::new(
            "keyring",
            Type::Object(&KEYRING),
            "The password in the kernel's keyring or in the desktop's (Secret Service) that holds it.",
        ),
        Field::new(
            "secretsManager",
            Type::Object(&SECRETS_MANAGER),
            "The secret of AWS Secrets Manager that holds it.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&[
        "env",
        "file",
        "command",
        "keyring",
        "secretsManager",
    ])],
};

static KEYRING: Shape = Shape {
    name: "keyring",
    what: "`keyring`",
    fields: &[
        Field::new("service", SHORT_TEXT, "What the password is for.").required(),
        Field::new("account", SHORT_TEXT, "Whose password it is.").required(),
    ],
    rules: &[],
};

static SECRETS_MANAGER: Shape = Shape {
    name: "secretsManager",
    what: "`secretsManager`",
    fields: &[
        Field::new(
            "secret",
            SHORT_TEXT,
            "The secret's name, or its ARN, which says the region too.",
        )
        .required(),
        Field::new(
            "key",
            SHORT_TEXT,
            "The key whose value is meant, of a secret that is a JSON object; the whole secret if nothing is said.",
        ),
    ],
    rules: &[],
};

static SANITISE: Shape = Shape {
    name: "sanitise",
    what: "`sanitise`",
    fields: &[
        Field::new(
            "skip",
            Type::List(&SHORT_TEXT, 0, ANY),
            "Rules that are left out, by their ids.",
        ),
        Field::new(
            "also",
            Type::List(&SHORT_TEXT, 0, ANY),
            "Optional rules that are applied, by their ids.",
        ),
        Field::new(
            "allow",
            Type::List(&SHORT_TEXT, 0, ANY),
            "What may stay although it looks like a secret: RULE:PATH, or a path for all rules; * stands for any part of a name.",
        ),
    ],
    rules: &[],
};

/// An image recipe.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRecipe {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Exact, or the next free number.
    pub semantic_version: VersionSpec,
    /// As the document says it; [`Self::parent`] reads it.
    pub parent_image: String,
    /// In order.
    #[serde(default)]
    pub components: Vec<ComponentConfiguration>,
    /// The disks; the first one is the root disk.
    #[serde(default)]
    pub block_device_mappings: Vec<BlockDeviceMapping>,
    /// Where components work in the guest, if something is said.
    pub working_directory: Option<String>,
    /// Further settings of the build instance.
    pub additional_instance_configuration: Option<AdditionalInstanceConfiguration>,
    /// Tags of the AMI.
    #[serde(default)]
    pub ami_tags: BTreeMap<String, String>,
    /// Watermarks of the AMI.
    #[serde(default)]
    pub ami_watermarks: Vec<String>,
    /// Tags of the recipe.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What only a local baker has.
    #[serde(default)]
    pub local: ImageRecipeLocal,
}

impl ImageRecipe {
    /// The parent image.
    ///
    /// # Errors
    /// What is wrong with it; a recipe that was read has a good one.
    pub fn parent(&self) -> Result<ParentImage, Complaint> {
        ParentImage::parse(&self.parent_image)
    }

    /// Size of the root volume in GiB, if the first mapping says one.
    pub fn root_volume_gib(&self) -> Option<u64> {
        self.block_device_mappings
            .first()
            .and_then(|mapping| mapping.ebs.as_ref())
            .and_then(|ebs| ebs.volume_size)
    }

    /// Where components work in the guest.
    pub fn working_directory(&self) -> &str {
        self.working_directory
            .as_deref()
            .unwrap_or(WORKING_DIRECTORY)
    }
}

/// A disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockDeviceMapping {
    /// Such as `/dev/sda1`.
    pub device_name: Option<String>,
    /// A volume.
    pub ebs: Option<Ebs>,
    /// An instance store volume.
    pub virtual_name: Option<String>,
    /// Empty text removes a mapping of the parent.
    pub no_device: Option<String>,
}

/// A volume.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ebs {
    /// GiB.
    pub volume_size: Option<u64>,
    /// `gp3` and so on.
    pub volume_type: Option<String>,
    /// Whether it is encrypted.
    pub encrypted: Option<bool>,
    /// Whether it goes with its instance.
    pub delete_on_termination: Option<bool>,
    /// Operations per second.
    pub iops: Option<u32>,
    /// MiB/s.
    pub throughput: Option<u32>,
    /// The key it is encrypted with.
    pub kms_key_id: Option<String>,
    /// The snapshot it is made of.
    pub snapshot_id: Option<String>,
}

/// Further settings of the build instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdditionalInstanceConfiguration {
    /// Settings of the service's agent.
    pub systems_manager_agent: Option<SystemsManagerAgent>,
    /// User data, base64.
    pub user_data_override: Option<String>,
}

/// Settings of the service's agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemsManagerAgent {
    /// Whether it is removed before the image is made.
    pub uninstall_after_build: Option<bool>,
}

/// What only a local baker has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageRecipeLocal {
    /// How the build guest boots.
    pub firmware: Option<Firmware>,
    /// The guest's architecture.
    #[serde(deserialize_with = "architecture")]
    pub architecture: Option<Arch>,
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory in MiB.
    #[serde(rename = "memory", deserialize_with = "memory")]
    pub memory_mib: Option<u32>,
    /// What to make; qcow2 if nothing is said.
    pub outputs: Vec<OutputFormat>,
    /// Final folder, relative to the recipe.
    pub destination: Option<Utf8PathBuf>,
    /// Whether the finished image is booted and tested; true if nothing is said.
    pub tests: Option<bool>,
    /// Firmware of further test boots.
    pub test_firmware: Vec<Firmware>,
    /// Whether further test boots use an NVMe controller as EC2 does.
    pub test_nvme: bool,
    /// Whether a second copy is booted with another seed, and must be another machine; if nothing is said, that of an AMI.
    pub test_copies: Option<bool>,
    /// How far the guest reaches; as far as this machine if nothing is said.
    pub network: Option<Network>,
    /// Values that come from elsewhere than Parameter Store.
    pub stored_values: Vec<LocalValue>,
    /// The clean-up before the image is made.
    pub sanitise: Sanitise,
    /// Known vulnerabilities are looked up, and what fails the bake.
    pub vulnerabilities: Option<Vulnerabilities>,
}

/// A value that comes from elsewhere than Parameter Store; exactly one place is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalValue {
    /// The name by which documents ask for it.
    pub name: String,
    /// An environment variable.
    pub env: Option<String>,
    /// A file, relative to the recipe.
    pub file: Option<Utf8PathBuf>,
    /// A command, word by word.
    pub command: Option<Vec<String>>,
    /// A password in a keyring.
    pub keyring: Option<KeyringAccount>,
    /// A secret of AWS.
    pub secrets_manager: Option<SecretsManagerValue>,
}

/// A password in a keyring.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyringAccount {
    /// What it is for.
    pub service: String,
    /// Whose it is.
    pub account: String,
}

/// A secret of AWS Secrets Manager, or one value of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretsManagerValue {
    /// Its name or its ARN.
    pub secret: String,
    /// The key of a JSON object.
    pub key: Option<String>,
}

/// The clean-up before the image is made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sanitise {
    /// Rules that are left out.
    pub skip: Vec<String>,
    /// Optional rules that are applied.
    pub also: Vec<String>,
    /// What may stay although it looks like a secret.
    pub allow: Vec<String>,
}

/// Checks what the tables cannot say.
pub fn check(reader: &Reader<'_>, recipe: &ImageRecipe) {
    check_count(reader, recipe.components.len());
}

/// A recipe with more components than the service takes is good here, if the home's quota allows it.
pub fn check_count(reader: &Reader<'_>, count: usize) {
    let quota = default_of("componentsPerRecipe").unwrap_or(u64::MAX);
    if u64::try_from(count).unwrap_or(u64::MAX) > quota {
        reader.report(
            reader
                .warning(
                    "over-quota",
                    reader.place("/components"),
                    format!("the recipe has {count} components"),
                )
                .expected(format!("at most {quota} by the service's default quota")),
        );
    }
}

/// `2048` (MiB), `2048MiB` or `2GiB`, in MiB.
fn parse_memory(text: &str) -> Option<u32> {
    let (number, unit) = text
        .strip_suffix("GiB")
        .map(|number| (number, 1024))
        .or_else(|| text.strip_suffix("MiB").map(|number| (number, 1)))
        .unwrap_or((text, 1));
    let mib = number.trim().parse::<u32>().ok()?.checked_mul(unit)?;
    (128..=1_048_576).contains(&mib).then_some(mib)
}

fn check_memory(text: &str) -> Result<(), Complaint> {
    parse_memory(text).map(|_| ()).ok_or_else(|| {
        Complaint::new(
            "bad-size",
            format!("`{text}` is no size that a guest can have"),
            MEMORY.expected(),
        )
    })
}

/// Reads `memory` of `local` in MiB.
///
/// # Errors
/// If it is no size; a document that was read has a good one.
pub fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|text| parse_memory(&text).ok_or_else(|| serde::de::Error::custom(MEMORY.expected())))
        .transpose()
}

fn architecture<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arch>, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?;
    Ok(word.map(|word| match word.as_str() {
        "aarch64" | "arm64" => Arch::Aarch64,
        _ => Arch::X86_64,
    }))
}
