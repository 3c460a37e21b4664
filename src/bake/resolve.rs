//! From a recipe to a plan: parent image, components, machine, outputs, tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_component::action::Action;
use ovenbird_component::document::{Document, Step};
use ovenbird_component::reference::Stored;
use ovenbird_component::source::Source;
use ovenbird_component::value::Input;
use ovenbird_component::{Options, Validated, validate_source};
use ovenbird_vulnerabilities::Policy;
use sha2::{Digest as _, Sha256};

use super::local_values::LocalSource;
use super::plan::{BakePlan, CachePolicy, MachinePlan, Parent, PlannedComponent, TestBoot};
use super::sanitise::Choice;
use super::{files, managed};
use crate::aws::stored_values::StoredName;
use crate::catalog::BaseImage;
use crate::documents::recipe_component::{ComponentConfiguration, ComponentLocal};
use crate::documents::vulnerabilities::Vulnerabilities;
use crate::documents::{
    Body, Component, Document as Resource, ImageRecipe, Kind, ResourceReference, Version,
};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::{Arch, DiskBus, Firmware, Network};
use crate::output::OutputFormat;
use crate::store::{ResourceRecord, Store};
use crate::vulnerabilities::Check;

/// What the command line may overrule.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Final folder.
    pub destination: Option<Utf8PathBuf>,
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u32>,
    /// Whether the image becomes an AMI.
    pub makes_amis: bool,
    /// The database of known vulnerabilities; nothing is looked up without one.
    pub vulnerabilities: Option<Utf8PathBuf>,
    /// Whether known vulnerabilities are looked up even if the recipe does not say so.
    pub scan: bool,
    /// No test boots.
    pub no_tests: bool,
    /// Further folders with components, searched before the recipe's own.
    pub component_folders: Vec<Utf8PathBuf>,
    /// Where components are looked for before the recipe's own folders.
    pub store: Option<Arc<Store>>,
    /// For a build that repeats another: its components, in the order of the recipe.
    pub pinned: Option<Vec<Pinned>>,
}

/// A component that was resolved before.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// Its version, where it has one.
    pub version: Option<String>,
    /// Its ARN, if it came from the store.
    pub arn: Option<String>,
    /// Where it was read from.
    pub path: Utf8PathBuf,
    /// The document.
    pub text: String,
}

/// More virtual CPUs than these make a bake slower, not faster, when two run side by side.
const MOST_CPUS: usize = 4;
/// apt and dnf starve in the 512 MiB that other builders give them.
const DEFAULT_MEMORY_MIB: u32 = 2048;
/// A document must not be larger in the service.
const LARGEST_DOCUMENT: u64 = 64 * 1024;

/// Resolves a recipe.
///
/// # Errors
/// [`FailureKind::Config`] if a component or parameter is missing or wrong.
pub fn plan(
    document: &Resource,
    recipe: &ImageRecipe,
    base: &BaseImage,
    overrides: &Overrides,
) -> Result<BakePlan> {
    let folder = document.folder();
    let local = &recipe.local;
    let arch = local.architecture.unwrap_or(base.architecture);
    if arch != base.architecture {
        return Err(Failure::config(format!(
            "the recipe wants a guest of {arch}, the parent {} is one of {}",
            base.label(),
            base.architecture
        )));
    }
    let firmware = local.firmware.unwrap_or_else(|| default_firmware(base));
    if !base.firmware.is_empty() && !base.firmware.contains(&firmware) {
        let known: Vec<&str> = base
            .firmware
            .iter()
            .map(|firmware| firmware.as_str())
            .collect();
        return Err(Failure::config(format!(
            "the parent {} does not boot by {firmware}",
            base.label()
        ))
        .with_hint(format!("it boots by {}", known.join(" and "))));
    }
    let components = recipe
        .components
        .iter()
        .enumerate()
        .map(|(index, component)| {
            let pinned = overrides.pinned.as_ref().map(|pinned| pinned.get(index));
            let mut planned = match pinned {
                None => resolve_component(component, folder, overrides),
                Some(Some(pinned)) => component_of_text(
                    pinned.path.clone(),
                    pinned.text.clone(),
                    pinned.version.clone(),
                    pinned.arn.clone(),
                    component.parameters(),
                ),
                Some(None) => Err(Failure::config(
                    "the record of the earlier build lacks one of the recipe's components",
                )),
            }?;
            apply_local(&mut planned, &component.local, folder)?;
            Ok(planned)
        })
        .collect::<Result<Vec<_>>>()?;
    let root_size = recipe
        .root_volume_gib()
        .map(|gib| gib << 30)
        .filter(|size| *size != base.virtual_size);
    if let Some(size) = root_size
        && size < base.virtual_size
    {
        return Err(Failure::config(format!(
            "the root volume of {} GiB is smaller than the parent's disk of {:.1} GiB",
            size >> 30,
            base.virtual_size as f64 / f64::from(1 << 30)
        ))
        .with_hint("`volumeSize` in `blockDeviceMappings` can only grow the disk"));
    }
    let outputs = if local.outputs.is_empty() {
        vec![OutputFormat::Qcow2]
    } else {
        local.outputs.clone()
    };
    let sanitise = Choice {
        skip: local.sanitise.skip.clone(),
        also: local.sanitise.also.clone(),
    };
    sanitise.check()?;
    let destination = overrides.destination.clone().or_else(|| {
        local
            .destination
            .as_ref()
            .map(|destination| folder.join(destination))
    });
    Ok(BakePlan {
        name: recipe.name.clone(),
        version: recipe.semantic_version.to_string(),
        recipe: document.to_document(),
        parent: parent_of(base),
        components,
        root_size,
        working_directory: recipe.working_directory().to_owned(),
        machine: MachinePlan {
            arch,
            firmware,
            cpus: overrides.cpus.or(local.cpus).unwrap_or_else(default_cpus),
            memory_mib: overrides
                .memory_mib
                .or(local.memory_mib)
                .unwrap_or(DEFAULT_MEMORY_MIB),
            network: local.network.unwrap_or_default(),
        },
        outputs,
        destination,
        tests: test_boots(recipe, firmware, overrides),
        sanitise,
        residue_allowed: local.sanitise.allow.clone(),
        vulnerabilities: vulnerability_check(recipe, overrides),
        local_values: local
            .stored_values
            .iter()
            .filter_map(|value| LocalSource::new(value, folder))
            .collect(),
        tags: recipe.tags.clone(),
    })
}

/// What the recipe says of a component beyond the service's fields.
fn apply_local(
    planned: &mut PlannedComponent,
    local: &ComponentLocal,
    folder: &Utf8Path,
) -> Result<()> {
    planned.cache = match (local.cache, local.max_age) {
        (Some(false), _) => CachePolicy::Never,
        (_, Some(age)) => CachePolicy::MaxAge(age),
        (Some(true), None) => CachePolicy::Keep,
        (None, None) => planned.cache,
    };
    planned.files = local
        .files
        .iter()
        .map(|file| files::plan(&folder.join(&file.from), &file.to))
        .collect::<Result<_>>()?;
    if !planned.files.is_empty() && !planned.has_phase("build") {
        return Err(Failure::config(format!(
            "the component {} gets files, but has no build phase that could use them",
            planned.name
        )));
    }
    Ok(())
}

/// A base image as the disk to start from.
pub fn parent_of(base: &BaseImage) -> Parent {
    Parent {
        name: base.name.clone(),
        version: base
            .version
            .map_or_else(|| "0.0.0".to_owned(), |version| version.to_string()),
        disk: base.disk.clone(),
        format: base.format.clone(),
        sha256: base.sha256.clone(),
        firmware: base.firmware.clone(),
        kernel: base.kernel.as_ref().map(super::kernel::for_bake),
    }
}

/// The machine that a base image gets when nobody says anything else.
pub fn machine_for(base: &BaseImage, overrides: &Overrides) -> MachinePlan {
    MachinePlan {
        arch: base.architecture,
        firmware: default_firmware(base),
        cpus: overrides.cpus.unwrap_or_else(default_cpus),
        memory_mib: overrides.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB),
        network: Network::User,
    }
}

fn default_firmware(base: &BaseImage) -> Firmware {
    match base.architecture {
        Arch::Aarch64 => Firmware::Uefi,
        Arch::X86_64 => base.firmware.first().copied().unwrap_or(Firmware::Bios),
    }
}

fn default_cpus() -> u32 {
    let host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(host.min(MOST_CPUS)).unwrap_or(1)
}

/// What the recipe wants, or the pipeline around it.
fn vulnerability_check(recipe: &ImageRecipe, overrides: &Overrides) -> Option<Check> {
    let said = recipe.local.vulnerabilities.as_ref();
    let policy = said.map(Vulnerabilities::policy);
    let policy = policy.or_else(|| overrides.scan.then(Policy::default))?;
    let database = overrides.vulnerabilities.as_ref()?;
    Some(Check::new(policy, database))
}

/// The first boot runs the test phases; the others show that the image comes up under what else it claims.
fn test_boots(recipe: &ImageRecipe, firmware: Firmware, overrides: &Overrides) -> Vec<TestBoot> {
    if overrides.no_tests || recipe.local.tests == Some(false) {
        return Vec::new();
    }
    let first = TestBoot {
        firmware,
        bus: DiskBus::Virtio,
        components: true,
        copy: false,
    };
    let mut boots = vec![first];
    let bus = if recipe.local.test_nvme {
        DiskBus::Nvme
    } else {
        DiskBus::Virtio
    };
    let mut further = recipe.local.test_firmware.clone();
    if further.is_empty() && recipe.local.test_nvme {
        further.push(firmware);
    }
    for firmware in further {
        let boot = TestBoot {
            firmware,
            bus,
            components: false,
            copy: false,
        };
        if !boots
            .iter()
            .any(|known| known.firmware == boot.firmware && known.bus == boot.bus)
        {
            boots.push(boot);
        }
    }
    // An AMI is copied into many machines: that they differ is worth a boot.
    if recipe.local.test_copies.unwrap_or(overrides.makes_amis) {
        boots.push(TestBoot {
            components: false,
            copy: true,
            ..first
        });
    }
    boots
}

fn resolve_component(
    component: &ComponentConfiguration,
    folder: &Utf8Path,
    overrides: &Overrides,
) -> Result<PlannedComponent> {
    let (path, version) = match &component.path {
        Some(path) => (folder.join(path), None),
        None => {
            let arn = component.component_arn.as_deref().unwrap_or_default();
            let reference = ResourceReference::parse(Kind::Component, arn)
                .map_err(|complaint| Failure::config(complaint.message))?;
            // A folder that was named on the command line is meant; then comes the store, then what lies about, then
            // what this program carries.
            let named = find_component(&overrides.component_folders, &reference);
            let stored = || match &overrides.store {
                Some(store) if !reference.managed => store.find_resource(&reference),
                _ => Ok(None),
            };
            match named {
                Ok(found) => (found.0, Some(found.1)),
                Err(_) => match stored()? {
                    Some(record) => return component_of_store(&record, component.parameters()),
                    None => {
                        let mut folders = overrides.component_folders.clone();
                        folders.push(folder.join("components"));
                        folders.push(folder.to_owned());
                        match find_component(&folders, &reference) {
                            Ok(found) => (found.0, Some(found.1)),
                            Err(failure) => {
                                return managed_component(&reference, component.parameters())?
                                    .ok_or(failure);
                            }
                        }
                    }
                },
            }
        }
    };
    component_of_file(path, version, component.parameters())
}

/// Reads and checks a component document.
///
/// # Errors
/// [`FailureKind::Config`] if it can't be read, is not valid, or doesn't take these parameters.
pub fn component_of_file(
    path: Utf8PathBuf,
    version: Option<String>,
    parameters: BTreeMap<String, Vec<String>>,
) -> Result<PlannedComponent> {
    let text = read_document(&path)?;
    component_of_text(path, text, version, None, parameters)
}

fn managed_component(
    reference: &ResourceReference,
    parameters: BTreeMap<String, Vec<String>>,
) -> Result<Option<PlannedComponent>> {
    let Some((version, text)) = managed::find(&reference.name, reference.version) else {
        return Ok(None);
    };
    let label = format!("{}/{version} (managed)", reference.name);
    component_of_text(
        label.into(),
        text.to_owned(),
        Some(version.to_string()),
        None,
        parameters,
    )
    .map(Some)
}

fn component_of_store(
    record: &ResourceRecord,
    parameters: BTreeMap<String, Vec<String>>,
) -> Result<PlannedComponent> {
    let document = record.read()?;
    let Body::Component(Component {
        data: Some(text), ..
    }) = document.body
    else {
        return Err(Failure::config(format!(
            "the document of {} is not in the store but elsewhere (`uri`)",
            record.label()
        )));
    };
    let mut component = component_of_text(
        record.label().into(),
        text,
        record.version_text(),
        Some(record.arn.clone()),
        parameters,
    )?;
    // The resource's name is the one that people know; the document inside may have another, or none.
    component.name.clone_from(&record.name);
    Ok(component)
}

/// Checks the text of a component document.
///
/// # Errors
/// [`FailureKind::Config`] if it is not valid, or doesn't take these parameters.
fn component_of_text(
    path: Utf8PathBuf,
    text: String,
    version: Option<String>,
    arn: Option<String>,
    parameters: BTreeMap<String, Vec<String>>,
) -> Result<PlannedComponent> {
    let document = valid_text(&path, &text)?;
    let (digest, build_digest) = digests(&path, &text);
    check_parameters(&path, &document, &parameters)?;
    Ok(PlannedComponent {
        name: document
            .name
            .clone()
            .unwrap_or_else(|| path.file_stem().unwrap_or("component").to_owned()),
        version,
        arn,
        sha256: hex::encode(Sha256::digest(text.as_bytes())),
        phases: document
            .phases
            .iter()
            .map(|phase| phase.name.value.clone())
            .collect(),
        digest,
        build_digest,
        cache: cache_policy(&document),
        stored: stored_names(&document, &parameters),
        object_storage: uses_object_storage(&document),
        files: Vec::new(),
        parameters,
        path,
        text,
    })
}

/// What is fetched without a checksum, and what `apt-get upgrade` finds, is another thing tomorrow.
const FETCHED_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A component that takes something from outside whose content it does not pin is run again after a day.
fn cache_policy(document: &Document) -> CachePolicy {
    let fetches = document
        .phase("build")
        .is_some_and(|phase| phase.steps.iter().any(fetches_unpinned));
    if fetches {
        CachePolicy::MaxAge(FETCHED_MAX_AGE)
    } else {
        CachePolicy::Keep
    }
}

fn fetches_unpinned(step: &Step) -> bool {
    match step.action {
        Action::UpdateOS | Action::S3Download => true,
        Action::WebDownload => match &step.inputs {
            Input::List(items) => !items.iter().all(has_checksum),
            other => !has_checksum(other),
        },
        _ => false,
    }
}

fn has_checksum(input: &Input) -> bool {
    matches!(input, Input::Map(entries) if entries.iter().any(|(key, _)| key == "checksum"))
}

/// The digests of the document as data: whole, and without the phases that come after the build.
fn digests(path: &Utf8Path, text: &str) -> (String, String) {
    let source = Source::new(path.as_str(), text.to_owned());
    let (node, _) = ovenbird_component::source::parse_one(&source);
    let mut value = node.map(|node| node.to_json()).unwrap_or_default();
    let digest = |value: &serde_json::Value| hex::encode(Sha256::digest(value.to_string()));
    let whole = digest(&value);
    if let Some(phases) = value["phases"].as_array_mut() {
        for phase in phases {
            // The others stay by their names: steps are told apart by the position of their phase.
            if phase["name"] != "build" {
                *phase = phase["name"].take();
            }
        }
    }
    if let Some(map) = value.as_object_mut() {
        map.remove("description");
    }
    (whole, digest(&value))
}

/// The names of stored values, as far as the host can know them: those that stand in the document, and those that a
/// parameter or constant gives.
fn stored_names(
    document: &Document,
    parameters: &BTreeMap<String, Vec<String>>,
) -> BTreeSet<StoredName> {
    document
        .stored_values()
        .into_iter()
        .filter_map(|stored| match stored {
            Stored::Named(name) => Some(StoredName::Direct(name)),
            Stored::ByStored(name) => Some(StoredName::Through(name)),
            Stored::ByParameter(parameter) => {
                let given = parameters.get(&parameter).map(|values| values.join(","));
                let default = || {
                    let found = document
                        .parameters
                        .iter()
                        .find(|known| known.name.value == parameter)?;
                    found.default.clone()
                };
                let constant = || {
                    let found = document
                        .constants
                        .iter()
                        .find(|known| known.name.value == parameter)?;
                    Some(found.value.clone())
                };
                given
                    .or_else(default)
                    .or_else(constant)
                    .map(StoredName::Direct)
            }
        })
        .collect()
}

fn uses_object_storage(document: &Document) -> bool {
    document
        .phases
        .iter()
        .flat_map(|phase| &phase.steps)
        .any(|step| matches!(step.action, Action::S3Download | Action::S3Upload))
}

/// The names of a document's parameters.
///
/// # Errors
/// [`FailureKind::Config`] if it can't be read or is not valid.
pub fn declared_parameters(path: &Utf8Path) -> Result<Vec<String>> {
    let (_, document) = valid_document(path)?;
    Ok(document
        .parameters
        .into_iter()
        .map(|parameter| parameter.name.value)
        .collect())
}

fn valid_document(path: &Utf8Path) -> Result<(String, Document)> {
    let text = read_document(path)?;
    let document = valid_text(path, &text)?;
    Ok((text, document))
}

fn valid_text(path: &Utf8Path, text: &str) -> Result<Document> {
    let source = Source::new(path.as_str(), text.to_owned());
    let Validated {
        document,
        diagnostics,
    } = validate_source(&source, &Options::default());
    let document = document
        .filter(|_| !diagnostics.has_errors())
        .ok_or_else(|| {
            Failure::config(format!(
                "{path} is not a valid component document ({})",
                diagnostics.counts()
            ))
            .with_details(diagnostics.render())
        })?;
    Ok(document)
}

fn read_document(path: &Utf8Path) -> Result<String> {
    let length = std::fs::metadata(path)
        .or_failure(FailureKind::Config, || {
            format!("cannot read the component {path}")
        })?
        .len();
    if length > LARGEST_DOCUMENT {
        return Err(Failure::config(format!(
            "the component {path} has {length} bytes, at most {LARGEST_DOCUMENT} are allowed"
        )));
    }
    std::fs::read_to_string(path).or_failure(FailureKind::Config, || {
        format!("cannot read the component {path}")
    })
}

/// The service rejects a recipe that gives an unknown parameter, or leaves one without a value.
fn check_parameters(
    path: &Utf8Path,
    document: &Document,
    given: &BTreeMap<String, Vec<String>>,
) -> Result<()> {
    let known: Vec<&str> = document
        .parameters
        .iter()
        .map(|parameter| parameter.name.value.as_str())
        .collect();
    for name in given.keys() {
        if !known.contains(&name.as_str()) {
            let failure = Failure::config(format!("{path} has no parameter `{name}`"));
            return Err(
                match ovenbird_component::source::nearest(name, known.iter().copied()) {
                    Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
                    None => failure,
                },
            );
        }
    }
    for parameter in &document.parameters {
        let name = &parameter.name.value;
        match given.get(name) {
            None if parameter.default.is_none() => {
                return Err(Failure::config(format!(
                    "{path}: the parameter `{name}` has no default and no value"
                ))
                .with_hint("give it under `parameters:` of the component in the recipe"));
            }
            None => {}
            Some(values) => {
                for value in values {
                    parameter
                        .check(value)
                        .map_err(|problem| Failure::config(format!("{path}: {problem}")))?;
                }
            }
        }
    }
    Ok(())
}

/// Looks a component up in folders: `NAME/VERSION.yml`, `NAME/VERSION/component.yml`, or `NAME.yml` for `x.x.x`.
fn find_component(
    folders: &[Utf8PathBuf],
    reference: &ResourceReference,
) -> Result<(Utf8PathBuf, String)> {
    let (name, pattern) = (&reference.name, reference.version);
    let mut best: Option<(Version, Utf8PathBuf)> = None;
    for folder in folders {
        let Ok(entries) = folder.join(name).read_dir_utf8() else {
            continue;
        };
        for entry in entries.flatten() {
            let stem = entry.path().file_name().unwrap_or_default();
            let stem = stem
                .strip_suffix(".yml")
                .or_else(|| stem.strip_suffix(".yaml"))
                .unwrap_or(stem);
            let Ok(version) = stem.parse::<Version>() else {
                continue;
            };
            let file = if entry.path().is_dir() {
                entry.path().join("component.yml")
            } else {
                entry.path().to_owned()
            };
            if file.is_file()
                && pattern.matches(version)
                && best.as_ref().is_none_or(|(known, _)| version > *known)
            {
                best = Some((version, file));
            }
        }
        // The first folder that has a fitting version wins: nearer folders hide farther ones.
        if best.is_some() {
            break;
        }
    }
    best.map(|(version, path)| (path, version.to_string()))
        .ok_or_else(|| {
            let places: Vec<&str> = folders.iter().map(|folder| folder.as_str()).collect();
            Failure::config(format!("no component {name}/{pattern}"))
                .with_details(format!("looked in:\n  {}", places.join("\n  ")))
                .with_hint("components lie in NAME/VERSION.yml; `--components DIR` adds a folder")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: &str) -> ResourceReference {
        ResourceReference::parse(Kind::Component, &format!("hello/{version}")).unwrap()
    }

    #[test]
    fn copies_of_an_ami_are_compared_unless_the_recipe_says_no() {
        let copies = |local: &str, makes_amis: bool| {
            let text = format!(
                "{{\"name\":\"web\",\"semanticVersion\":\"1.0.0\",\"parentImage\":\"debian-12\",\"components\":[],\"local\":{local}}}"
            );
            let recipe: ImageRecipe = serde_json::from_str(&text).unwrap();
            let overrides = Overrides {
                makes_amis,
                ..Overrides::default()
            };
            let boots = test_boots(&recipe, Firmware::Uefi, &overrides);
            boots.iter().filter(|boot| boot.copy).count()
        };
        assert_eq!(copies("{}", false), 0);
        assert_eq!(copies("{}", true), 1);
        assert_eq!(copies("{\"testCopies\":true}", false), 1);
        assert_eq!(copies("{\"testCopies\":false}", true), 0);
        assert_eq!(copies("{\"tests\":false}", true), 0);
    }

    #[test]
    fn newest_fitting_version_wins() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        for version in ["1.0.0", "1.2.0", "1.10.0", "2.0.0"] {
            let folder = root.join("hello").join(version);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("component.yml"), "x").unwrap();
        }
        let folders = [root.to_owned()];
        for (pattern, wanted) in [
            ("x.x.x", "2.0.0"),
            ("1.x.x", "1.10.0"),
            ("1.2.x", "1.2.0"),
            ("1.0.0", "1.0.0"),
        ] {
            assert_eq!(find_component(&folders, &hello(pattern)).unwrap().1, wanted);
        }
        let failure = find_component(&folders, &hello("3.x.x")).unwrap_err();
        assert_eq!(failure.to_string(), "no component hello/3.x.x");
    }
}
