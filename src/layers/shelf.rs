//! The folder in which layers stand: `<home>/cache/layers/<key>.<generation>/`.
//!
//! A layer's disk is written in its final place by the guest that makes it; the record, renamed into place last, makes it
//! a layer. Whoever makes one holds its lock, so two bakes that need the same layer make it once, and what a killed bake
//! left behind is told apart by a lock that nobody holds. Whoever stands on a layer holds a shared lock on its record.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::key::{Inputs, LayerId, LayerKey};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::{Accelerator, Arch, Firmware};

const RECORD: &str = "layer.json";
const DISK: &str = "disk.qcow2";
const MEMORY: &str = "memory.zst";
/// Touched at each use: the order in which layers go when room is needed.
const USED: &str = ".used";

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Who it is.
    pub id: LayerId,
    /// What was done: `boot`, or the component's name.
    pub name: String,
    /// What it was made from.
    pub inputs: Inputs,
    /// The layer beneath; none for the first one, which stands on the parent image.
    pub beneath: Option<LayerId>,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// Seconds that making it took.
    pub seconds: f64,
    /// The guest's memory at that moment.
    pub memory: Option<Memory>,
}

/// A saved memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memory {
    /// The machine that it fits.
    pub fit: MemoryFit,
    /// The keys of the guest at that moment, in OpenSSH's format: the user's and the host's.
    pub user_key: String,
    /// The guest's host key.
    pub host_key: String,
    /// cloud-init's id of the guest.
    pub instance: String,
    /// Whether the guest was booted through the kernel beside the parent disk rather than from its own disk.
    pub direct_kernel: bool,
    /// Seconds that saving it took.
    pub seconds: f64,
}

/// What must be equal for a memory to be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemoryFit {
    /// QEMU's version.
    pub qemu: String,
    /// How guest code runs.
    pub accelerator: Accelerator,
    /// The host's processor, where the guest sees it.
    pub processor: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// The firmware.
    pub firmware: Firmware,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The arguments' layout, by its version.
    pub layout: u32,
}

impl MemoryFit {
    /// Why a memory of `self` does not fit a machine of `wanted`; `None` if it does.
    pub fn mismatch(&self, wanted: &Self) -> Option<String> {
        let pairs: [(&str, String, String); 8] = [
            ("QEMU", self.qemu.clone(), wanted.qemu.clone()),
            (
                "the accelerator",
                self.accelerator.to_string(),
                wanted.accelerator.to_string(),
            ),
            (
                "the processor",
                self.processor.clone(),
                wanted.processor.clone(),
            ),
            (
                "the architecture",
                self.arch.to_string(),
                wanted.arch.to_string(),
            ),
            (
                "the firmware",
                self.firmware.to_string(),
                wanted.firmware.to_string(),
            ),
            (
                "the number of CPUs",
                self.cpus.to_string(),
                wanted.cpus.to_string(),
            ),
            (
                "the memory",
                format!("{} MiB", self.memory_mib),
                format!("{} MiB", wanted.memory_mib),
            ),
            (
                "the machine's layout",
                self.layout.to_string(),
                wanted.layout.to_string(),
            ),
        ];
        pairs.into_iter().find_map(|(what, saved, now)| {
            (saved != now).then(|| format!("{what} was {saved}, now is {now}"))
        })
    }
}

/// How the disk at `overlay` names the disk at `below` as its backing file: between two layers relative to each other,
/// so that a home can be moved or reached by another way.
pub fn backing_name(overlay: &Utf8Path, below: &Utf8Path) -> Utf8PathBuf {
    let shelf = |path: &Utf8Path| {
        path.parent()
            .and_then(Utf8Path::parent)
            .map(Utf8Path::to_owned)
    };
    match (
        below.parent().and_then(Utf8Path::file_name),
        below.file_name(),
    ) {
        (Some(folder), Some(name)) if shelf(overlay) == shelf(below) => {
            Utf8Path::new("..").join(folder).join(name)
        }
        _ => below
            .canonicalize_utf8()
            .unwrap_or_else(|_| below.to_owned()),
    }
}

/// A layer, held so that nobody removes it.
#[derive(Debug)]
pub struct Layer {
    folder: Utf8PathBuf,
    record: Record,
    _in_use: File,
}

impl Layer {
    /// What is known of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Its disk.
    pub fn disk(&self) -> Utf8PathBuf {
        self.folder.join(DISK)
    }

    /// The file of its memory, if it has one.
    pub fn memory(&self) -> Option<(Utf8PathBuf, &Memory)> {
        let memory = self.record.memory.as_ref()?;
        let file = self.folder.join(MEMORY);
        file.is_file().then_some((file, memory))
    }

    /// The variable store of its firmware, beside the memory.
    pub fn vars(&self) -> Utf8PathBuf {
        self.folder.join(VARS)
    }

    /// Forgets the memory: it did not work, or is not worth its room.
    pub fn forget_memory(&self) {
        let _ = fs::remove_file(self.folder.join(MEMORY));
        let _ = fs::remove_file(self.folder.join(VARS));
    }
}

const VARS: &str = "vars.fd";

/// What was found for a key.
#[derive(Debug)]
pub enum Lookup {
    /// A layer to stand on.
    Hit(Box<Layer>),
    /// There is one, but it is older than its component allows.
    Expired {
        /// How old.
        age: Duration,
        /// How old it may be.
        allowed: Duration,
    },
    /// There is none.
    Miss,
}

/// A layer in the making. Dropped without [`Draft::publish`], it is removed.
#[derive(Debug)]
pub struct Draft {
    folder: Utf8PathBuf,
    id: LayerId,
    published: bool,
    _lock: File,
}

impl Draft {
    /// Who it will be.
    pub fn id(&self) -> &LayerId {
        &self.id
    }

    /// Where its disk is written.
    pub fn disk(&self) -> Utf8PathBuf {
        self.folder.join(DISK)
    }

    /// Where its memory is written.
    pub fn memory(&self) -> Utf8PathBuf {
        self.folder.join(MEMORY)
    }

    /// Where the variable store of its firmware is written.
    pub fn vars(&self) -> Utf8PathBuf {
        self.folder.join(VARS)
    }

    /// Makes it a layer.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the record can't be written; nothing is published then.
    pub fn publish(mut self, record: Record) -> Result<Layer> {
        let write = || -> std::io::Result<()> {
            let part = self.folder.join(".layer.json");
            let mut file = private_file(&part)?;
            serde_json::to_writer_pretty(&mut file, &record)?;
            fs::write(self.folder.join(USED), b"")?;
            fs::rename(part, self.folder.join(RECORD))
        };
        write().or_failure(FailureKind::Environment, || {
            format!("cannot write the layer in {}", self.folder)
        })?;
        self.published = true;
        hold(&self.folder)?.ok_or_else(|| {
            Failure::environment(format!(
                "the layer in {} vanished while it was published",
                self.folder
            ))
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// Layers that go, with the bytes that they free.
    pub removed: Vec<(String, u64)>,
    /// Bytes of what stays.
    pub kept_bytes: u64,
    /// Layers that something stands on right now.
    pub in_use: Vec<String>,
}

/// The shelf of one home.
#[derive(Debug, Clone)]
pub struct Shelf {
    root: Utf8PathBuf,
}

impl Shelf {
    /// The shelf below a home's cache folder. Nothing is created before a layer is made.
    pub fn new(cache: &Utf8Path) -> Self {
        // Disks name the files below them: by the way that leads there without links.
        let cache = cache
            .canonicalize_utf8()
            .unwrap_or_else(|_| cache.to_owned());
        Self {
            root: cache.join("layers"),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    /// Looks a layer up: its newest generation, if that is young enough.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the folder can't be read.
    pub fn find(&self, key: &LayerKey, max_age: Option<Duration>) -> Result<Lookup> {
        for generation in self.generations(key).into_iter().rev() {
            let folder = self.folder(&LayerId {
                key: key.clone(),
                generation,
            });
            let Some(layer) = hold(&folder)? else {
                continue;
            };
            if let Some(allowed) = max_age {
                let now = jiff::Timestamp::now();
                let seconds = now.as_second() - layer.record.created.as_second();
                let age = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                if age > allowed {
                    return Ok(Lookup::Expired { age, allowed });
                }
            }
            return Ok(Lookup::Hit(Box::new(layer)));
        }
        Ok(Lookup::Miss)
    }

    /// Begins a layer; `None` if somebody else is making it right now.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the folder can't be made.
    pub fn begin(&self, key: &LayerKey) -> Result<Option<Draft>> {
        let failed = || format!("cannot make a layer below {}", self.root);
        fs::create_dir_all(&self.root).or_failure(FailureKind::Environment, failed)?;
        let Some(lock) = self
            .lock(key)
            .or_failure(FailureKind::Environment, failed)?
        else {
            return Ok(None);
        };
        let generation = self.generations(key).last().map_or(1, |last| last + 1);
        let id = LayerId {
            key: key.clone(),
            generation,
        };
        let folder = self.folder(&id);
        // What a killed process left: nobody else can be at it, the lock is ours.
        let _ = fs::remove_dir_all(&folder);
        private_folder(&folder).or_failure(FailureKind::Environment, failed)?;
        Ok(Some(Draft {
            folder,
            id,
            published: false,
            _lock: lock,
        }))
    }

    /// Whether somebody is making this layer right now.
    pub fn is_being_made(&self, key: &LayerKey) -> bool {
        self.root.is_dir() && matches!(self.lock(key), Ok(None))
    }

    /// Removes what killed processes left, and beyond `limit` bytes the layers that were not used for the longest time.
    /// Nothing goes that something stands on: a running bake, or another layer that stays.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the folder can't be read.
    pub fn collect(&self, limit: u64, dry_run: bool) -> Result<Collected> {
        let mut layers = self.entries()?;
        if !dry_run {
            self.sweep();
        }
        let mut total: u64 = layers.iter().map(|entry| entry.bytes).sum();
        let mut collected = Collected::default();
        layers.sort_by_key(|entry| entry.used);
        while total > limit {
            // The oldest one on which no other stands.
            let Some(index) = layers.iter().position(|entry| {
                !layers
                    .iter()
                    .any(|other| other.record.beneath.as_ref() == Some(&entry.record.id))
                    && !collected.in_use.contains(&entry.name())
            }) else {
                break;
            };
            let entry = &layers[index];
            let name = entry.name();
            match exclusive(&entry.folder) {
                Some(_lock) => {
                    if !dry_run {
                        remove(&entry.folder);
                    }
                    total -= entry.bytes;
                    collected.removed.push((name, entry.bytes));
                    layers.remove(index);
                }
                None => collected.in_use.push(name),
            }
        }
        collected.kept_bytes = total;
        Ok(collected)
    }

    /// Removes every layer that is not in use.
    ///
    /// # Errors
    /// See [`Shelf::collect`].
    pub fn clear(&self) -> Result<Collected> {
        self.collect(0, false)
    }

    /// The layers with their records, in no order.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if the folder can't be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        Ok(self
            .entries()?
            .into_iter()
            .map(|entry| entry.record)
            .collect())
    }

    fn folder(&self, id: &LayerId) -> Utf8PathBuf {
        self.root.join(id.to_string())
    }

    /// The generations that have a folder, rising; also those without a record.
    fn generations(&self, key: &LayerKey) -> Vec<u32> {
        let prefix = format!("{key}.");
        let mut found: Vec<u32> = self
            .root
            .read_dir_utf8()
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().strip_prefix(&prefix)?.parse().ok())
            .collect();
        found.sort_unstable();
        found
    }

    fn lock(&self, key: &LayerKey) -> std::io::Result<Option<File>> {
        let path = self.root.join(format!(".{key}.lock"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes folders without a record whose lock is free, and locks without a folder.
    fn sweep(&self) {
        let entries: Vec<_> = self
            .root
            .read_dir_utf8()
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        for entry in &entries {
            let Some((key, _)) = entry.file_name().split_once('.') else {
                continue;
            };
            if key.is_empty() || entry.path().join(RECORD).exists() {
                continue;
            }
            let Ok(key) = serde_json::from_value::<LayerKey>(key.into()) else {
                continue;
            };
            if let Ok(Some(_lock)) = self.lock(&key) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        if !self.root.is_dir() {
            return Ok(Vec::new());
        }
        let entries = self
            .root
            .read_dir_utf8()
            .or_failure(FailureKind::Environment, || {
                format!("cannot read {}", self.root)
            })?;
        Ok(entries
            .flatten()
            .filter_map(|entry| Entry::read(entry.path()))
            .collect())
    }
}

struct Entry {
    folder: Utf8PathBuf,
    record: Record,
    bytes: u64,
    used: SystemTime,
}

impl Entry {
    fn read(folder: &Utf8Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let record = read_record(folder)?;
        // Blocks, not lengths: overlays are sparse.
        let bytes = folder
            .read_dir_utf8()
            .ok()?
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|metadata| metadata.blocks() * 512)
            .sum();
        let used = fs::metadata(folder.join(USED))
            .and_then(|metadata| metadata.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Self {
            folder: folder.to_owned(),
            record,
            bytes,
            used,
        })
    }

    fn name(&self) -> String {
        format!(
            "{} ({})",
            self.record.name,
            &self.record.id.key.as_str()[..12]
        )
    }
}

fn read_record(folder: &Utf8Path) -> Option<Record> {
    let bytes = fs::read(folder.join(RECORD)).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    // A folder that somebody renamed is not the layer that its name says.
    (folder.file_name() == Some(record.id.to_string().as_str())).then_some(record)
}

/// Takes a shared lock on a layer; `None` if it is no layer, or is being removed.
fn hold(folder: &Utf8Path) -> Result<Option<Layer>> {
    let Ok(file) = File::open(folder.join(RECORD)) else {
        return Ok(None);
    };
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => {
            return Err(Failure::environment(format!("cannot lock {folder}")).caused_by(error));
        }
    }
    // Only now: it may have been removed between opening and locking.
    let Some(record) = read_record(folder).filter(|_| folder.join(DISK).is_file()) else {
        return Ok(None);
    };
    if let Ok(used) = OpenOptions::new().write(true).open(folder.join(USED)) {
        let _ = used.set_modified(SystemTime::now());
    }
    Ok(Some(Layer {
        folder: folder.to_owned(),
        record,
        _in_use: file,
    }))
}

fn exclusive(folder: &Utf8Path) -> Option<File> {
    let file = File::open(folder.join(RECORD)).ok()?;
    file.try_lock().ok().map(|()| file)
}

/// The record first: what is half removed is no layer any more.
fn remove(folder: &Utf8Path) {
    let _ = fs::remove_file(folder.join(RECORD));
    let _ = fs::remove_dir_all(folder);
}

fn private_folder(path: &Utf8Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(path)
}

fn private_file(path: &Utf8Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(root: &tempfile::TempDir) -> Shelf {
        Shelf::new(Utf8Path::from_path(root.path()).unwrap())
    }

    fn inputs(name: &str) -> Inputs {
        let mut inputs = Inputs::default();
        inputs.set("name", name);
        inputs
    }

    fn make(shelf: &Shelf, name: &str, beneath: Option<&Layer>) -> Layer {
        let inputs = inputs(name);
        let draft = shelf.begin(&inputs.key()).unwrap().unwrap();
        fs::write(draft.disk(), vec![1; 100_000]).unwrap();
        let record = Record {
            id: draft.id().clone(),
            name: name.into(),
            inputs,
            beneath: beneath.map(|layer| layer.record().id.clone()),
            created: jiff::Timestamp::now(),
            seconds: 1.0,
            memory: None,
        };
        draft.publish(record).unwrap()
    }

    fn hit(shelf: &Shelf, name: &str) -> Option<Layer> {
        match shelf.find(&inputs(name).key(), None).unwrap() {
            Lookup::Hit(layer) => Some(*layer),
            _ => None,
        }
    }

    #[test]
    fn a_draft_is_no_layer_until_it_is_published() {
        let root = tempfile::tempdir().unwrap();
        let shelf = shelf(&root);
        let key = inputs("a").key();
        assert!(hit(&shelf, "a").is_none());
        let draft = shelf.begin(&key).unwrap().unwrap();
        fs::write(draft.disk(), "half").unwrap();
        assert!(shelf.is_being_made(&key));
        assert!(shelf.begin(&key).unwrap().is_none(), "made once, not twice");
        assert!(hit(&shelf, "a").is_none());
        let folder = draft.disk().parent().unwrap().to_owned();
        drop(draft);
        assert!(!folder.exists() && !shelf.is_being_made(&key));
        make(&shelf, "a", None);
        assert_eq!(hit(&shelf, "a").unwrap().record().name, "a");
    }

    #[test]
    fn what_a_killed_process_left_is_cleared() {
        let root = tempfile::tempdir().unwrap();
        let shelf = shelf(&root);
        let draft = shelf.begin(&inputs("a").key()).unwrap().unwrap();
        fs::write(draft.disk(), "half").unwrap();
        // A folder without a record, and nobody holds its lock.
        let left = shelf.folder(&LayerId {
            key: inputs("b").key(),
            generation: 1,
        });
        fs::create_dir(&left).unwrap();
        shelf.collect(u64::MAX, false).unwrap();
        assert!(draft.disk().exists(), "this one is being made");
        assert!(!left.exists());
    }

    #[test]
    fn an_old_layer_is_made_anew_beside_the_old_one() {
        let root = tempfile::tempdir().unwrap();
        let shelf = shelf(&root);
        let first = make(&shelf, "a", None);
        let key = inputs("a").key();
        std::thread::sleep(Duration::from_millis(2100));
        assert!(matches!(
            shelf.find(&key, Some(Duration::from_secs(1))).unwrap(),
            Lookup::Expired { .. }
        ));
        let second = make(&shelf, "a", None);
        assert_ne!(first.record().id, second.record().id);
        assert_eq!(hit(&shelf, "a").unwrap().record().id.generation, 2);
    }

    #[test]
    fn the_longest_unused_goes_first_and_nothing_that_is_stood_on() {
        let root = tempfile::tempdir().unwrap();
        let shelf = shelf(&root);
        let base = make(&shelf, "base", None);
        let held = make(&shelf, "held", Some(&base));
        drop(make(&shelf, "free", Some(&base)));
        let planned = shelf.collect(0, true).unwrap();
        assert_eq!(planned.removed.len(), 1);
        assert!(hit(&shelf, "free").is_some(), "a dry run removes nothing");
        let done = shelf.collect(0, false).unwrap();
        assert_eq!(done.removed, planned.removed);
        assert!(done.removed[0].0.starts_with("free"));
        assert!(hit(&shelf, "free").is_none());
        assert!(hit(&shelf, "base").is_some() && hit(&shelf, "held").is_some());
        drop((held, base));
        assert_eq!(shelf.clear().unwrap().removed.len(), 2);
        assert!(shelf.records().unwrap().is_empty());
    }

    #[test]
    fn layers_name_each_other_relatively() {
        let name = |overlay: &str, below: &str| {
            backing_name(Utf8Path::new(overlay), Utf8Path::new(below)).into_string()
        };
        let below = "/h/cache/layers/a.1/disk.qcow2";
        assert_eq!(
            name("/h/cache/layers/b.1/disk.qcow2", below),
            "../a.1/disk.qcow2"
        );
        assert_eq!(name("/h/runs/r/root.qcow2", below), below);
    }

    #[test]
    fn a_memory_tells_why_it_does_not_fit() {
        let fit = MemoryFit {
            qemu: "7.2.0".into(),
            accelerator: Accelerator::Tcg,
            processor: String::new(),
            arch: Arch::X86_64,
            firmware: Firmware::Bios,
            cpus: 2,
            memory_mib: 1024,
            layout: 1,
        };
        assert_eq!(fit.mismatch(&fit), None);
        let mut other = fit.clone();
        other.qemu = "8.0.0".into();
        assert_eq!(
            fit.mismatch(&other).unwrap(),
            "QEMU was 7.2.0, now is 8.0.0"
        );
    }
}
