//! What of a bake has been done before: the layers it can stand on, and the finished image if nothing changed at all.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::build_stage::QUICK_SETTINGS;
use super::plan::{BakePlan, CachePolicy, PlannedComponent, normalise};
use super::provisions::Provisions;
use super::sanitise;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::guest::agent;
use crate::layers::{Inputs, Layer, LayerId, LayerKey, Lookup, Shelf};
use crate::machine;
use crate::output::manifest::{Boot, Manifest};

/// Room for layers; beyond it the longest unused go.
pub const LAYER_LIMIT: u64 = 20 << 30;

/// The name of the first layer: the parent, booted once, with the agent in place.
pub const BOOT: &str = "boot";

/// A layer that a bake wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// [`BOOT`], or the component's name.
    pub name: String,
    /// The component that makes it; none for the first.
    pub component: Option<usize>,
    /// All inputs but the layer beneath.
    inputs: Inputs,
    /// How long it holds.
    policy: CachePolicy,
}

impl Wanted {
    /// All inputs, and their key, on top of a layer.
    pub fn on(&self, beneath: Option<&LayerId>) -> (Inputs, LayerKey) {
        let mut inputs = self.inputs.clone();
        if let Some(beneath) = beneath {
            inputs.set(Inputs::BENEATH, beneath.to_string());
        }
        let key = inputs.key();
        (inputs, key)
    }

    /// Whether it may be kept at all.
    pub fn is_kept(&self) -> bool {
        self.policy != CachePolicy::Never
    }
}

/// How far a bake gets without doing anything.
#[derive(Debug)]
pub struct Walk {
    /// All layers that it wants, in order.
    pub wanted: Vec<Wanted>,
    /// Those that are there, from the first on.
    pub found: Vec<Layer>,
    /// Why the next one is not; `None` if all are.
    pub reason: Option<String>,
    /// The next one, if somebody else is making it right now.
    pub busy: Option<LayerKey>,
}

/// What a recipe was made from the last time.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Remembered {
    layers: Vec<Made>,
    /// Seconds of everything but the layers: clean-up, outputs, tests.
    rest: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    name: String,
    inputs: Inputs,
    seconds: f64,
}

/// A guest that goes on from its memory is there after so many seconds, as a forecast.
const RESUME_SECONDS: f64 = 5.0;

/// A finished image by what it was made from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finished {
    image: String,
    folder: Utf8PathBuf,
}

/// Where it stands that a disk passed its tests.
#[derive(Debug)]
pub struct SeenTests(Utf8PathBuf);

impl SeenTests {
    /// The boots that were seen; `None` if there were none, or they can't be read any more.
    pub fn read(&self) -> Option<Vec<Boot>> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    /// Keeps the boots. A failure costs another test, nothing else.
    pub fn write(&self, boots: &[Boot]) {
        if let (Some(folder), Ok(text)) = (self.0.parent(), serde_json::to_vec(boots)) {
            let _ = std::fs::create_dir_all(folder);
            let _ = std::fs::write(&self.0, text);
        }
    }
}

/// The cache of one home.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Utf8PathBuf,
    shelf: Shelf,
}

impl Cache {
    /// The cache below a home's cache folder.
    pub fn new(folder: &Utf8Path) -> Self {
        Self {
            folder: folder.to_owned(),
            shelf: Shelf::new(folder),
        }
    }

    /// The layers.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Says which layers a plan wants, and which of them are there.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the cache can't be read.
    pub fn walk(&self, plan: &BakePlan, provisions: &Provisions) -> Result<Walk> {
        let wanted = self.wanted(plan, provisions)?;
        let mut found: Vec<Layer> = Vec::new();
        let mut walk_reason = None;
        let mut busy = None;
        for want in &wanted {
            let beneath = found.last().map(|layer| &layer.record().id);
            let (inputs, key) = want.on(beneath);
            let reason = match want.policy {
                CachePolicy::Never => "the recipe says not to keep it".into(),
                CachePolicy::Again => {
                    if self.shelf.is_being_made(&key) {
                        busy = Some(key);
                    }
                    "it was asked to be made again".into()
                }
                policy => match self.shelf.find(&key, policy.max_age())? {
                    Lookup::Hit(layer) => {
                        found.push(*layer);
                        continue;
                    }
                    Lookup::Expired { age, allowed } => format!(
                        "expired: it is {} old, {} are allowed",
                        hours(age),
                        hours(allowed)
                    ),
                    Lookup::Miss => {
                        if self.shelf.is_being_made(&key) {
                            busy = Some(key);
                        }
                        self.explain(plan, &want.name, &inputs)
                    }
                },
            };
            walk_reason = Some(reason);
            break;
        }
        Ok(Walk {
            wanted,
            found,
            reason: walk_reason,
            busy,
        })
    }

    /// Remembers what this bake's layers were made from, for the explanations of the next one.
    /// `rest` are the seconds of what comes after the layers, where it is known.
    pub fn remember(&self, plan: &BakePlan, layers: &[Layer], rest: Option<f64>) {
        let path = self.recipe_file(plan);
        let mut remembered = self.remembered(plan);
        remembered.layers = layers
            .iter()
            .map(|layer| layer.record())
            .map(|record| Made {
                name: record.name.clone(),
                inputs: record.inputs.clone(),
                seconds: record.seconds,
            })
            .collect();
        if let Some(rest) = rest {
            remembered.rest = Some(rest);
        }
        // Only explanations get worse if this fails.
        if let (Some(folder), Ok(text)) = (path.parent(), serde_json::to_string(&remembered)) {
            let _ = std::fs::create_dir_all(folder);
            let _ = std::fs::write(&path, text);
        }
    }

    /// The image that was made from exactly this, if it is still there: its name and folder.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the cache can't be read.
    pub fn finished(&self, plan: &BakePlan, walk: &Walk) -> Result<Option<(String, Utf8PathBuf)>> {
        let Some(top) = walk.found.last().filter(|_| walk.reason.is_none()) else {
            return Ok(None);
        };
        let key = image_key(plan, &top.record().id);
        let Ok(text) = std::fs::read(self.image_file(&key)) else {
            return Ok(None);
        };
        let Ok(finished) = serde_json::from_slice::<Finished>(&text) else {
            return Ok(None);
        };
        let whole = Manifest::read(&finished.folder).is_ok_and(|manifest| {
            manifest.listed().all(|file| {
                let path = finished.folder.join(file.path);
                std::fs::metadata(path).is_ok_and(|found| found.len() == file.size)
            })
        });
        Ok(whole.then_some((finished.image, finished.folder)))
    }

    /// Remembers an image that was finished on a layer.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if it can't be written.
    pub fn keep_finished(
        &self,
        plan: &BakePlan,
        top: &LayerId,
        image: &str,
        folder: &Utf8Path,
    ) -> Result<()> {
        let path = self.image_file(&image_key(plan, top));
        let finished = Finished {
            image: image.to_owned(),
            folder: folder.to_owned(),
        };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
            std::fs::write(&path, serde_json::to_vec(&finished)?)
        };
        write().or_failure(FailureKind::Environment, || format!("cannot write {path}"))
    }

    /// The record of tests that passed on a disk.
    pub fn tests(&self, plan: &BakePlan, disk_digest: &str) -> SeenTests {
        let mut inputs = Inputs::default();
        inputs.set("the disk", disk_digest);
        inputs.set("the tests", format!("{:?}", plan.tests));
        inputs.set("the machine", format!("{:?}", plan.machine));
        inputs.set("the working directory", plan.working_directory.clone());
        inputs.set("the agent", agent::digest());
        for (index, component) in plan.components.iter().enumerate() {
            inputs.set(
                format!("component {index}"),
                format!(
                    "{} {} {:?}",
                    component.name, component.digest, component.parameters
                ),
            );
        }
        SeenTests(
            self.folder
                .join("tests")
                .join(format!("{}.json", inputs.key())),
        )
    }

    /// How long a build would take, judged by the last one; `None` if that is not known.
    pub fn expected_seconds(&self, plan: &BakePlan, walk: &Walk) -> Option<f64> {
        let remembered = self.remembered(plan);
        let missing = &walk.wanted[walk.found.len()..];
        let mut seconds = remembered.rest?;
        if !walk.found.is_empty() {
            seconds += RESUME_SECONDS;
        }
        for wanted in missing {
            let made = remembered
                .layers
                .iter()
                .find(|made| made.name == wanted.name)?;
            seconds += made.seconds;
        }
        Some(seconds)
    }

    fn remembered(&self, plan: &BakePlan) -> Remembered {
        std::fs::read(self.recipe_file(plan))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    fn recipe_file(&self, plan: &BakePlan) -> Utf8PathBuf {
        self.folder
            .join("recipes")
            .join(format!("{}.json", normalise(&plan.name)))
    }

    fn image_file(&self, key: &LayerKey) -> Utf8PathBuf {
        self.folder.join("images").join(format!("{key}.json"))
    }

    fn wanted(&self, plan: &BakePlan, provisions: &Provisions) -> Result<Vec<Wanted>> {
        let secret = if provisions.is_empty() {
            None
        } else {
            Some(self.secret()?)
        };
        Ok(wanted(plan, |component| {
            component_inputs(plan, component, provisions, secret.as_ref())
        }))
    }

    /// Why a layer is not there, by comparing with the last bake of the recipe.
    fn explain(&self, plan: &BakePlan, name: &str, inputs: &Inputs) -> String {
        let remembered = self.remembered(plan);
        if remembered.layers.is_empty() {
            return "never made".into();
        }
        let same: Vec<&Inputs> = remembered
            .layers
            .iter()
            .filter(|made| made.name == name)
            .map(|made| &made.inputs)
            .collect();
        let Some(nearest) = same
            .iter()
            .min_by_key(|before| inputs.changes_since(before).len())
        else {
            return "new in the recipe".into();
        };
        let changes = inputs.changes_since(nearest);
        if changes.is_empty() {
            "made before, but no longer kept".into()
        } else if inputs.differs_only_beneath(nearest) {
            "what lies beneath it changed".into()
        } else {
            let told: Vec<String> = changes
                .into_iter()
                .filter(|change| !change.starts_with(Inputs::BENEATH))
                .collect();
            told.join(", ")
        }
    }

    /// The key with which secret values enter layer keys: a plain digest of a short secret could be guessed.
    fn secret(&self) -> Result<[u8; 32]> {
        use rand::Rng as _;
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.folder.join("secret.key");
        let make = || -> std::io::Result<[u8; 32]> {
            std::fs::create_dir_all(&self.folder)?;
            if let Ok(bytes) = std::fs::read(&path)
                && let Ok(key) = bytes.try_into()
            {
                return Ok(key);
            }
            let mut key = [0; 32];
            rand::rng().fill_bytes(&mut key);
            let part = self
                .folder
                .join(format!(".secret-{}", uuid::Uuid::new_v4()));
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&part)?
                .write_all(&key)?;
            // The first one wins; who comes second takes the first one's.
            let _ = std::fs::hard_link(&part, &path);
            std::fs::remove_file(&part)?;
            std::fs::read(&path)?
                .try_into()
                .map_err(|_| std::io::Error::other("it has not 32 bytes"))
        };
        make().or_failure(FailureKind::Environment, || format!("cannot use {path}"))
    }
}

/// What a bake without a cache goes through: the same steps, of which nothing is kept.
pub fn uncached(plan: &BakePlan) -> Vec<Wanted> {
    wanted(plan, |_| Inputs::default())
}

fn wanted(plan: &BakePlan, inputs_of: impl Fn(&PlannedComponent) -> Inputs) -> Vec<Wanted> {
    let mut boot = Inputs::default();
    boot.set("the parent image", plan.parent.sha256.clone());
    boot.set("the agent", agent::digest());
    boot.set("Ovenbird", env!("CARGO_PKG_VERSION"));
    boot.set(
        "the bake's settings",
        blake3::hash(QUICK_SETTINGS.as_bytes()).to_hex().as_str(),
    );
    boot.set("the architecture", plan.machine.arch.to_string());
    boot.set("the firmware", plan.machine.firmware.to_string());
    boot.set(
        "the root volume",
        plan.root_size
            .map_or_else(|| "as the parent's".into(), |size| format!("{size} bytes")),
    );
    if let Some(machine::Boot::Kernel { cmdline, .. }) = &plan.parent.kernel {
        boot.set("the kernel's command line", cmdline.clone());
    }
    let mut wanted = vec![Wanted {
        name: BOOT.into(),
        component: None,
        inputs: boot,
        policy: CachePolicy::Keep,
    }];
    for (index, component) in plan.components.iter().enumerate() {
        if component.has_phase("build") {
            wanted.push(Wanted {
                name: component.name.clone(),
                component: Some(index),
                inputs: inputs_of(component),
                policy: component.cache,
            });
        }
    }
    wanted
}

fn component_inputs(
    plan: &BakePlan,
    component: &PlannedComponent,
    provisions: &Provisions,
    secret: Option<&[u8; 32]>,
) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.set(
        "the component's build phase",
        component.build_digest.clone(),
    );
    for (name, values) in &component.parameters {
        inputs.set(format!("parameter {name}"), values.join(","));
    }
    for file in &component.files {
        inputs.set(format!("file {}", file.to), file.digest.clone());
    }
    for name in &component.stored {
        if let (Some(secret), Some(value)) = (secret, provisions.value(name)) {
            let digest = blake3::keyed_hash(secret, value.as_bytes());
            inputs.set(
                format!("stored value {}", name.first()),
                hex::encode(&digest.as_bytes()[..20]),
            );
        }
    }
    inputs.set("the working directory", plan.working_directory.clone());
    inputs.set("the network", plan.machine.network.as_str());
    inputs
}

/// The key of the whole image that stands on a layer.
fn image_key(plan: &BakePlan, top: &LayerId) -> LayerKey {
    let mut inputs = Inputs::default();
    inputs.set(Inputs::BENEATH, top.to_string());
    inputs.set("the name", format!("{}/{}", plan.name, plan.version));
    inputs.set("the recipe", plan.recipe.to_string());
    inputs.set("sanitising", sanitise::digest());
    inputs.set(
        "the clean-up's choice",
        format!("{:?} {:?}", plan.sanitise, plan.residue_allowed),
    );
    // A newer database may know more of the same image.
    inputs.set("the vulnerabilities", format!("{:?}", plan.vulnerabilities));
    inputs.set("the outputs", format!("{:?}", plan.outputs));
    inputs.set("the tests", format!("{:?}", plan.tests));
    inputs.set("the destination", format!("{:?}", plan.destination));
    for (index, component) in plan.components.iter().enumerate() {
        inputs.set(
            format!("component {index}"),
            format!("{} {}", component.name, component.digest),
        );
    }
    let tags: &BTreeMap<String, String> = &plan.tags;
    inputs.set("the tags", format!("{tags:?}"));
    inputs.key()
}

fn hours(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
