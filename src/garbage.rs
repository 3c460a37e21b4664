//! What nothing in a home needs any more, and what holds the rest.

use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::bake::run_folder::{self, ProcessId};
use crate::catalog;
use crate::documents::{Body, Kind};
use crate::error::{Failure, Result};
use crate::layers;
use crate::store::{Home, ImageRecord, InputRole, ResourceFilter, Store};

/// A run's folder stands for a moment before its record does.
const UNRECORDED: Duration = Duration::from_secs(60 * 60);

/// What is looked at beyond leftovers and logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// Base images.
    pub bases: bool,
    /// Layers, the accelerator's probe, and whatever else can be made again.
    pub cache: bool,
}

/// What sort of thing it is; decides how it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sort {
    /// A run's folder.
    Run,
    /// An output that was being written.
    Staging,
    /// The logs of a build.
    Logs,
    /// Layers.
    Layers,
    /// Another part of the cache.
    Cache,
    /// A base image.
    Base,
    /// A finished image.
    Image,
}

/// A folder or file of the home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// What it is.
    pub sort: Sort,
    /// Where it is.
    pub path: Utf8PathBuf,
    /// What it takes on the disk.
    pub bytes: u64,
    /// Why it goes, or what holds it.
    pub reason: String,
}

/// What a collection finds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// What goes.
    pub garbage: Vec<Item>,
    /// What stays.
    pub held: Vec<Item>,
}

impl Found {
    fn goes(&mut self, sort: Sort, path: &Utf8Path, reason: impl Into<String>) {
        self.garbage.push(item(sort, path, reason));
    }

    fn stays(&mut self, sort: Sort, path: &Utf8Path, reason: impl Into<String>) {
        self.held.push(item(sort, path, reason));
    }
}

fn item(sort: Sort, path: &Utf8Path, reason: impl Into<String>) -> Item {
    Item {
        sort,
        path: path.to_owned(),
        bytes: bytes_of(path),
        reason: reason.into(),
    }
}

/// Looks for garbage; changes nothing.
///
/// # Errors
/// [`crate::error::FailureKind::Environment`] if the store or the catalogue can't be read.
pub fn find(store: &Store, scope: Scope) -> Result<Found> {
    let home = store.home();
    let images = store.list_images()?;
    let mut found = Found::default();
    runs(home, &mut found);
    staging(home, &images, &mut found);
    outputs(&images, &mut found);
    logs(home, &images, store.settings().log_age(), &mut found);
    cache(home, scope, &mut found)?;
    bases(store, &images, scope, &mut found)?;
    Ok(found)
}

/// Removes what was found. What can't be removed moves to what stays, with the reason.
pub fn remove(home: &Home, found: &mut Found) {
    let (gone, left): (Vec<_>, Vec<_>) = found
        .garbage
        .drain(..)
        .map(|item| {
            let result = remove_one(home, &item);
            (item, result)
        })
        .partition(|(_, result)| result.is_ok());
    found.garbage = gone.into_iter().map(|(item, _)| item).collect();
    found.held.extend(left.into_iter().map(|(item, result)| {
        let reason = result
            .err()
            .map_or_else(String::new, |failure| failure.chain());
        Item { reason, ..item }
    }));
}

fn remove_one(home: &Home, item: &Item) -> Result<()> {
    match item.sort {
        Sort::Layers => layers::Shelf::new(&home.cache()).clear().map(drop),
        Sort::Base => {
            let shelf = catalog::Shelf::new(home.path());
            let stored = shelf
                .list()?
                .into_iter()
                .find(|stored| stored.folder == item.path)
                .ok_or_else(|| Failure::config(format!("{} is gone already", item.path)))?;
            Ok(shelf.remove(&stored)?)
        }
        _ => {
            let result = if item.path.is_dir() {
                std::fs::remove_dir_all(&item.path)
            } else {
                std::fs::remove_file(&item.path)
            };
            result.map_err(|error| {
                Failure::environment(format!("cannot remove {}", item.path)).caused_by(error)
            })
        }
    }
}

fn runs(home: &Home, found: &mut Found) {
    let recorded = run_folder::list(&home.runs());
    for (folder, record) in &recorded {
        if record.owner.is_alive() {
            found.stays(
                Sort::Run,
                folder,
                format!("{} is being built", record.image),
            );
        } else if record.kept && record.qemu.is_some_and(ProcessId::is_alive) {
            found.stays(
                Sort::Run,
                folder,
                format!(
                    "the guest of {} was kept and runs; `ovenbird image rm` ends it",
                    record.image
                ),
            );
        } else {
            found.goes(
                Sort::Run,
                folder,
                format!("the build of {} died", record.image),
            );
        }
    }
    for folder in entries(&home.runs()) {
        if recorded.iter().all(|(known, _)| known != &folder) && older_than(&folder, UNRECORDED) {
            found.goes(Sort::Run, &folder, "a run without a record");
        }
    }
}

/// `.NAME.RUN.part` beside an image's final folder.
fn staging(home: &Home, images: &[ImageRecord], found: &mut Found) {
    let mut places: Vec<Utf8PathBuf> = images
        .iter()
        .filter_map(|image| image.folder.parent().map(Utf8Path::to_owned))
        .collect();
    for name in entries(&home.images()) {
        places.extend(entries(&name));
    }
    places.sort();
    places.dedup();
    for path in places.iter().flat_map(|place| entries(place)) {
        let Some(run) = path
            .file_name()
            .and_then(|name| name.strip_prefix('.')?.strip_suffix(".part"))
            .and_then(|name| name.rsplit_once('.'))
            .map(|(_, run)| run)
        else {
            continue;
        };
        // Outside of the home only what one of our own runs made is ours to remove.
        match images.iter().find(|image| image.run == run) {
            Some(image) if image.state.is_running() => {
                found.stays(
                    Sort::Staging,
                    &path,
                    format!("{} is being built", image.id()),
                );
            }
            Some(image) => found.goes(
                Sort::Staging,
                &path,
                format!("{} is {}", image.id(), image.state),
            ),
            None if path.starts_with(home.images()) => {
                found.goes(Sort::Staging, &path, "its image is not on record");
            }
            None => {}
        }
    }
}

fn outputs(images: &[ImageRecord], found: &mut Found) {
    for image in images.iter().filter(|image| image.state.is_finished()) {
        found.stays(
            Sort::Image,
            &image.folder,
            format!(
                "{} is {}; `ovenbird image rm` removes it",
                image.id(),
                image.state
            ),
        );
    }
}

/// `logs/NAME/VERSION/BUILD` of images that are gone, or failed long ago.
fn logs(home: &Home, images: &[ImageRecord], age: Duration, found: &mut Found) {
    for name in entries(&home.logs()) {
        for version in entries(&name) {
            for folder in entries(&version) {
                let number = folder
                    .file_name()
                    .is_some_and(|name| name.parse::<u32>().is_ok());
                if !number {
                    continue;
                }
                let image = images.iter().find(|image| image.logs == folder);
                let holder = match image {
                    Some(image) if image.state.is_running() || image.state.is_finished() => {
                        Some(format!("{} is {}", image.id(), image.state))
                    }
                    _ if !older_than(&folder, age) => {
                        Some(format!("younger than {} days", age.as_secs() / 86_400))
                    }
                    _ => None,
                };
                match holder {
                    Some(reason) => found.stays(Sort::Logs, &folder, reason),
                    None => found.goes(
                        Sort::Logs,
                        &folder,
                        image.map_or_else(
                            || "its image is not on record".to_owned(),
                            |image| format!("{} is {}", image.id(), image.state),
                        ),
                    ),
                }
            }
        }
    }
}

fn cache(home: &Home, scope: Scope, found: &mut Found) -> Result<()> {
    let shelf = layers::Shelf::new(&home.cache());
    for path in entries(&home.cache()) {
        if path == shelf.root() {
            let would = shelf.collect(0, true)?;
            let bytes: u64 = would.removed.iter().map(|(_, bytes)| bytes).sum();
            let layers = format!("{} layers", would.removed.len());
            let part = |bytes, reason| Item {
                sort: Sort::Layers,
                path: path.clone(),
                bytes,
                reason,
            };
            if scope.cache {
                found.garbage.push(part(bytes, layers));
            } else {
                found
                    .held
                    .push(part(bytes, format!("{layers}; --cache removes them")));
            }
            if would.kept_bytes > 0 {
                let reason = format!("in use: {}", would.in_use.join(", "));
                found.held.push(part(would.kept_bytes, reason));
            }
        } else if scope.cache {
            found.goes(Sort::Cache, &path, "can be made again");
        } else {
            found.stays(Sort::Cache, &path, "a cache; --cache removes it");
        }
    }
    Ok(())
}

fn bases(store: &Store, images: &[ImageRecord], scope: Scope, found: &mut Found) -> Result<()> {
    let shelf = catalog::Shelf::new(store.home().path());
    let recipes = store.resources(Kind::ImageRecipe, &ResourceFilter::default())?;
    let mut parents = Vec::new();
    for recipe in &recipes {
        if let Body::ImageRecipe(body) = recipe.read()?.body {
            parents.push((recipe.label(), body.parent_image));
        }
    }
    let mut stood_on = Vec::new();
    for image in images {
        for input in store.inputs_of(image)? {
            if input.role == InputRole::Parent {
                stood_on.push((image.id(), input.label()));
            }
        }
    }
    for stored in shelf.list()? {
        let label = format!("{}/{}", stored.record.name, stored.record.version);
        let image = stood_on.iter().find(|(_, parent)| *parent == label);
        let recipe = parents.iter().find(|(_, parent)| {
            catalog::resolve(store.home().path(), parent)
                .is_ok_and(|base| base.disk.starts_with(&stored.folder))
        });
        match (image, recipe) {
            (Some((image, _)), _) => {
                found.stays(Sort::Base, &stored.folder, format!("{image} stands on it"));
            }
            (None, Some((recipe, _))) => {
                found.stays(
                    Sort::Base,
                    &stored.folder,
                    format!("{recipe} starts from it"),
                );
            }
            (None, None) if scope.bases => {
                found.goes(Sort::Base, &stored.folder, "no image or recipe needs it");
            }
            (None, None) => found.stays(
                Sort::Base,
                &stored.folder,
                "a base image; --bases removes it",
            ),
        }
    }
    Ok(())
}

fn entries(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let Ok(entries) = folder.read_dir_utf8() else {
        return Vec::new();
    };
    let mut paths: Vec<Utf8PathBuf> = entries
        .flatten()
        .map(|entry| entry.path().to_owned())
        .collect();
    paths.sort();
    paths
}

fn older_than(path: &Utf8Path, age: Duration) -> bool {
    std::fs::symlink_metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| {
            SystemTime::now()
                .duration_since(modified)
                .is_ok_and(|passed| passed > age)
        })
}

/// What a file or folder takes on the disk: holes take nothing, and links are not followed.
fn bytes_of(path: &Utf8Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let own = metadata.blocks() * 512;
    if metadata.is_dir() {
        own + entries(path)
            .iter()
            .map(|entry| bytes_of(entry))
            .sum::<u64>()
    } else {
        own
    }
}
