//! `kind: ImageRecipe`: the service's CreateImageRecipe request, and under `local:` what only a local baker has.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_component::source::{Diagnostics, MapReader, Node, Reading, Source, Spanned};

use crate::machine::{Arch, Firmware};
use crate::output::OutputFormat;

/// The service's limit of components in a recipe.
const MOST_COMPONENTS: usize = 20;
/// The service's default working directory.
const WORKING_DIRECTORY: &str = "/tmp";

/// An image recipe.
#[derive(Debug, Clone)]
pub struct ImageRecipe {
    /// 3 to 128 letters, digits, `-`, `_` and inner spaces.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// `major.minor.patch`.
    pub semantic_version: String,
    /// A catalogue name, a name with version, or a path.
    pub parent_image: Spanned<String>,
    /// In order.
    pub components: Vec<RecipeComponent>,
    /// Size of the root volume in GiB.
    pub root_volume_gib: Option<u64>,
    /// Where components work in the guest.
    pub working_directory: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// What only a local baker has.
    pub local: Local,
    /// The document as it was read, for the records.
    pub document: serde_json::Value,
}

/// A component of a recipe.
#[derive(Debug, Clone)]
pub struct RecipeComponent {
    /// Where the document is.
    pub reference: Spanned<ComponentReference>,
    /// Parameters by name; each value is a list, as in the service.
    pub parameters: BTreeMap<String, Vec<String>>,
}

/// How a component is referred to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentReference {
    /// A document, relative to the recipe.
    Path(Utf8PathBuf),
    /// By name and version (or the service's ARN) from a component folder; the version may end in `x`.
    Name {
        /// The component's name.
        name: String,
        /// Its version or wildcard.
        version: String,
    },
}

/// What only a local baker has.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// How the build guest boots.
    pub firmware: Option<Firmware>,
    /// The guest's architecture.
    pub architecture: Option<Arch>,
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory in MiB.
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
    /// Whether the guest may reach the network; true if nothing is said.
    pub network: Option<bool>,
    /// Sanitising rules that are left out.
    pub sanitise_skip: Vec<String>,
}

/// Reads a recipe; all problems in one go.
pub fn read(source: &Source) -> (Option<ImageRecipe>, Diagnostics) {
    let (node, mut diagnostics) = ovenbird_component::source::parse_one(source);
    let Some(node) = node else {
        return (None, diagnostics);
    };
    let reading = Reading::new(source);
    let recipe = read_recipe(&reading, &node);
    diagnostics.append(reading.finish());
    let recipe = recipe.filter(|_| !diagnostics.has_errors());
    (recipe, diagnostics)
}

fn read_recipe(reading: &Reading<'_>, node: &Node) -> Option<ImageRecipe> {
    let mut map = MapReader::new(reading, node, "the recipe")?;
    map.require("kind");
    map.one_of("kind", &[("ImageRecipe", ())]);
    let name = map.require_spanned_string("name");
    if let Some(name) = &name
        && let Some(problem) = name_problem(&name.value)
    {
        reading.report(
            reading
                .error("bad-name", name.span, format!("`name` {problem}"))
                .expected("3 to 128 letters, digits, `-`, `_` or inner spaces"),
        );
    }
    let description = map.string("description");
    let version = map.require_spanned_string("semanticVersion");
    if let Some(version) = &version
        && !is_version(&version.value)
    {
        reading.report(
            reading
                .error(
                    "bad-version",
                    version.span,
                    format!("`{}` is not a version", version.value),
                )
                .expected("three numbers, such as 1.0.0"),
        );
    }
    let parent_image = map.require_spanned_string("parentImage");
    let list = map.list("components");
    if list.len() > MOST_COMPONENTS {
        reading.report(
            reading
                .error(
                    "too-many",
                    list[MOST_COMPONENTS].span,
                    format!("the recipe has {} components", list.len()),
                )
                .expected(format!("at most {MOST_COMPONENTS}")),
        );
    }
    let components = list
        .iter()
        .filter_map(|node| read_component(reading, node))
        .collect();
    let root_volume_gib = read_block_devices(reading, map.list("blockDeviceMappings"));
    let working_directory = map.spanned_string("workingDirectory");
    if let Some(folder) = &working_directory
        && !folder.value.starts_with('/')
    {
        reading.report(
            reading
                .error(
                    "bad-path",
                    folder.span,
                    format!("`workingDirectory` is `{}`", folder.value),
                )
                .expected("an absolute path in the guest"),
        );
    }
    let tags = map
        .take("tags")
        .map(|node| read_strings_map(reading, node, "`tags`"))
        .unwrap_or_default();
    let local = map
        .map("local")
        .map(|local| read_local(reading, local))
        .unwrap_or_default();
    map.finish();
    Some(ImageRecipe {
        name: name?.value,
        description,
        semantic_version: version?.value,
        parent_image: parent_image?,
        components,
        root_volume_gib,
        working_directory: working_directory
            .map_or_else(|| WORKING_DIRECTORY.into(), |folder| folder.value),
        tags,
        local,
        document: node.to_json(),
    })
}

fn read_component(reading: &Reading<'_>, node: &Node) -> Option<RecipeComponent> {
    let mut map = MapReader::new(reading, node, "the component")?;
    let arn = map.spanned_string("componentArn");
    let path = map.spanned_string("path");
    let mut parameters = BTreeMap::new();
    for node in map.list("parameters") {
        let Some(mut parameter) = MapReader::new(reading, node, "the parameter") else {
            continue;
        };
        let name = parameter.require_string("name");
        let value = parameter.require("value").and_then(|value| {
            if value.as_sequence().is_some() {
                let values = reading.strings(value, "`value`")?;
                Some(values.into_iter().map(|value| value.value).collect())
            } else {
                reading.string(value, "`value`").map(|value| vec![value])
            }
        });
        parameter.finish();
        if let (Some(name), Some(value)) = (name, value) {
            parameters.insert(name, value);
        }
    }
    let span = map.span();
    map.finish();
    let reference = match (arn, path) {
        (Some(arn), None) => Spanned {
            value: component_reference(reading, &arn)?,
            span: arn.span,
        },
        (None, Some(path)) => Spanned {
            value: ComponentReference::Path(path.value.into()),
            span: path.span,
        },
        (Some(_), Some(path)) => {
            reading.report(
                reading
                    .error(
                        "conflict",
                        path.span,
                        "the component has both `componentArn` and `path`",
                    )
                    .expected("one of them"),
            );
            return None;
        }
        (None, None) => {
            reading.report(
                reading
                    .error(
                        "missing-key",
                        span,
                        "the component has neither `componentArn` nor `path`",
                    )
                    .expected("one of them"),
            );
            return None;
        }
    };
    Some(RecipeComponent {
        reference,
        parameters,
    })
}

/// `arn:aws:imagebuilder:eu-west-1:aws:component/update-linux/x.x.x`, `update-linux/1.0.x` or `update-linux`.
fn component_reference(reading: &Reading<'_>, arn: &Spanned<String>) -> Option<ComponentReference> {
    let text = arn
        .value
        .rsplit_once(":component/")
        .map_or(arn.value.as_str(), |(_, rest)| rest);
    let mut parts = text.split('/');
    let name = parts.next().unwrap_or_default();
    let version = parts.next().unwrap_or("x.x.x");
    if name.is_empty() || !is_pattern(version) {
        reading.report(
            reading
                .error(
                    "bad-reference",
                    arn.span,
                    format!("`{}` names no component", arn.value),
                )
                .expected("NAME/VERSION, such as update-linux/1.0.x, or a component's ARN"),
        );
        return None;
    }
    Some(ComponentReference::Name {
        name: name.to_owned(),
        version: version.to_owned(),
    })
}

fn read_block_devices(reading: &Reading<'_>, nodes: &[Node]) -> Option<u64> {
    let mut size = None;
    for (index, node) in nodes.iter().enumerate() {
        let Some(mut map) = MapReader::new(reading, node, "the block device mapping") else {
            continue;
        };
        map.string("deviceName");
        map.string("virtualName");
        map.string("noDevice");
        if let Some(mut ebs) = map.map("ebs") {
            // The root device is the first mapping; the others exist only on EC2.
            let volume = ebs.integer("volumeSize", 1..=16_000);
            if index == 0 {
                size = volume.and_then(|gib| u64::try_from(gib).ok());
            }
            ebs.boolean("encrypted");
            ebs.boolean("deleteOnTermination");
            ebs.integer("iops", 100..=64_000);
            ebs.integer("throughput", 125..=1_000);
            ebs.string("kmsKeyId");
            ebs.string("snapshotId");
            ebs.string("volumeType");
            ebs.finish();
        }
        map.finish();
    }
    size
}

fn read_local(reading: &Reading<'_>, mut map: MapReader<'_, '_>) -> Local {
    const FIRMWARE: [(&str, Firmware); 2] = [("bios", Firmware::Bios), ("uefi", Firmware::Uefi)];
    map.rename("`local`");
    let firmware = map.one_of("firmware", &FIRMWARE);
    let architecture = map.one_of(
        "architecture",
        &[
            ("x86_64", Arch::X86_64),
            ("amd64", Arch::X86_64),
            ("aarch64", Arch::Aarch64),
            ("arm64", Arch::Aarch64),
        ],
    );
    let cpus = map
        .integer("cpus", 1..=256)
        .and_then(|cpus| u32::try_from(cpus).ok());
    let memory_mib = map
        .take("memory")
        .and_then(|node| read_memory(reading, node));
    let words: Vec<(&str, OutputFormat)> = OutputFormat::ALL
        .map(|format| (format.as_str(), format))
        .into();
    let outputs = map
        .list("outputs")
        .iter()
        .filter_map(|node| reading.one_of(node, "the output", &words))
        .collect();
    let test_firmware = map
        .list("testFirmware")
        .iter()
        .filter_map(|node| reading.one_of(node, "the firmware", &FIRMWARE))
        .collect();
    let sanitise_skip = map
        .map("sanitise")
        .map(|mut sanitise| {
            let skip = sanitise.strings("skip").unwrap_or_default();
            sanitise.finish();
            skip.into_iter().map(|id| id.value).collect()
        })
        .unwrap_or_default();
    let local = Local {
        firmware,
        architecture,
        cpus,
        memory_mib,
        outputs,
        destination: map.string("destination").map(Utf8PathBuf::from),
        tests: map.boolean("tests"),
        test_firmware,
        test_nvme: map.boolean("testNvme").unwrap_or(false),
        network: map.boolean("network"),
        sanitise_skip,
    };
    map.finish();
    local
}

/// `2048` (MiB), `2048MiB` or `2GiB`.
fn read_memory(reading: &Reading<'_>, node: &Node) -> Option<u32> {
    let text = reading.string(node, "`memory` of `local`")?;
    let parsed = text
        .strip_suffix("GiB")
        .map(|number| (number, 1024))
        .or_else(|| text.strip_suffix("MiB").map(|number| (number, 1)))
        .unwrap_or((&text, 1));
    let mib = parsed
        .0
        .trim()
        .parse::<u32>()
        .ok()
        .and_then(|number| number.checked_mul(parsed.1));
    match mib {
        Some(mib) if (128..=1_048_576).contains(&mib) => Some(mib),
        _ => {
            reading.report(
                reading
                    .error("bad-size", node.span, format!("`memory` is `{text}`"))
                    .expected("MiB as a number, or a size such as 2GiB, from 128 MiB to 1 TiB"),
            );
            None
        }
    }
}

fn read_strings_map(reading: &Reading<'_>, node: &Node, what: &str) -> BTreeMap<String, String> {
    let Some(mapping) = node.as_mapping() else {
        reading.wrong_type(node, what, "a map");
        return BTreeMap::new();
    };
    mapping
        .entries
        .iter()
        .filter_map(|entry| Some((entry.key.text.clone(), reading.string(&entry.value, what)?)))
        .collect()
}

fn name_problem(name: &str) -> Option<&'static str> {
    let length = name.chars().count();
    if !(3..=128).contains(&length) {
        return Some("has the wrong length");
    }
    if name.starts_with(' ') || name.ends_with(' ') {
        return Some("begins or ends with a space");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ' ');
    (!name.chars().all(plain)).then_some("has a character that names may not have")
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3
        && parts
            .iter()
            .all(|part| part.parse::<u32>().is_ok_and(|number| number < 1 << 30))
}

fn is_pattern(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let first_x = parts
        .iter()
        .position(|part| *part == "x")
        .unwrap_or(parts.len());
    parts.len() == 3
        && parts[..first_x]
            .iter()
            .all(|part| part.parse::<u32>().is_ok())
        && parts[first_x..].iter().all(|part| *part == "x")
}

/// Reads a recipe's file.
///
/// # Errors
/// What reading the file says.
pub fn source_of(path: &Utf8Path) -> std::io::Result<Source> {
    std::fs::read_to_string(path).map(|text| Source::new(path.as_str(), text))
}
