//! From a recipe to a plan: parent image, components, machine, outputs, tests.

mod component;

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_vulnerabilities::Policy;

pub use component::{component_of_file, declared_parameters};

use super::files;
use super::local_values::LocalSource;
use super::plan::{BakePlan, CachePolicy, MachinePlan, Parent, PlannedComponent, TestBoot};
use super::sanitise::Choice;
use crate::catalog::BaseImage;
use crate::documents::recipe_component::ComponentLocal;
use crate::documents::vulnerabilities::Vulnerabilities;
use crate::documents::{Document, ImageRecipe};
use crate::error::{Failure, Result};
use crate::machine::{Arch, DiskBus, Firmware, Network};
use crate::output::OutputFormat;
use crate::store::Store;
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

/// Resolves a recipe.
///
/// # Errors
/// [`FailureKind::Config`](crate::error::FailureKind::Config) if a component or parameter is missing or wrong.
pub fn plan(
    document: &Document,
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
                None => component::resolve(component, folder, overrides),
                Some(Some(pinned)) => component::component_of_text(
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
