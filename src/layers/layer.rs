//! A layer on the shelf, and one in the making.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::statvfs::statvfs;

use super::key::LayerId;
use super::record::{Memory, Record};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::memory::StateFiles;
use crate::machine::ram;

pub(super) const RECORD: &str = "layer.json";
pub(super) const DISK: &str = "disk.qcow2";
/// What the guest's devices and processors held.
const DEVICES: &str = "devices.zst";
/// The guest's memory as it was saved.
const MEMORY: &str = "memory.raw";
/// The same, made small when there was time.
const PACKED: &str = "memory.qcow2";
const VARS: &str = "vars.fd";
/// Touched at each use: the order in which layers go when room is needed.
pub(super) const USED: &str = ".used";
/// There once everything of the layer is on the platter. A layer without it is trusted until the host's next start only:
/// a power cut may have taken parts of it.
pub(super) const SYNCED: &str = ".synced";

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

    /// The guest's state, if it was saved.
    pub fn state(&self) -> Option<(StateFiles, &Memory)> {
        let memory = self.record.memory.as_ref()?;
        let files = StateFiles {
            devices: self.folder.join(DEVICES),
            memory: [PACKED, MEMORY]
                .map(|name| self.folder.join(name))
                .into_iter()
                .find(|file| file.is_file())?,
        };
        files.devices.is_file().then_some((files, memory))
    }

    /// The variable store of its firmware, beside the state.
    pub fn vars(&self) -> Utf8PathBuf {
        self.folder.join(VARS)
    }

    /// Forgets the guest's state: it did not work, or is not worth its room.
    pub fn forget_state(&self) {
        for name in [DEVICES, MEMORY, PACKED, VARS] {
            let _ = fs::remove_file(self.folder.join(name));
        }
    }
}

/// A layer in the making. Dropped without [`Draft::publish`], it is removed.
#[derive(Debug)]
pub struct Draft {
    pub(super) folder: Utf8PathBuf,
    pub(super) id: LayerId,
    pub(super) published: bool,
    pub(super) _lock: File,
}

impl Draft {
    /// Who it will be.
    pub fn id(&self) -> &LayerId {
        &self.id
    }

    /// Where it grows.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Where its disk is written.
    pub fn disk(&self) -> Utf8PathBuf {
        self.folder.join(DISK)
    }

    /// Where the guest's state is written.
    pub fn state(&self) -> StateFiles {
        StateFiles {
            devices: self.folder.join(DEVICES),
            memory: self.folder.join(MEMORY),
        }
    }

    /// Whether there is room for the memory of a guest with so many MiB, and as much again: the bake itself comes first.
    pub fn has_room_for_memory(&self, mib: u32) -> bool {
        statvfs(self.folder.as_std_path()).is_ok_and(|disk| {
            let free = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
            free >> 20 >= 2 * u128::from(mib)
        })
    }

    /// Takes away what was written of a state that can't be saved.
    pub fn forget_state(&self) {
        let StateFiles { devices, memory } = self.state();
        let _ = fs::remove_file(devices);
        let _ = fs::remove_file(memory);
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
        settle(&self.folder);
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

/// Makes a new layer small and brings it to the platter, beside the bake and at the lowest priority. What is cut off by
/// the end of the process is taken up by the next one.
pub(super) fn settle(folder: &Utf8Path) {
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        let _ = rustix::process::nice(19);
        // Nobody asks for what becomes of it: the layer is of use as it is.
        if pack(&folder).is_ok() {
            let _ = sync(&folder);
        }
    });
}

/// Puts a small file of the memory in the place of the one that was quick to write.
fn pack(folder: &Utf8Path) -> std::io::Result<()> {
    // One at a time: more would only take the processors from the guest.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let saved = folder.join(MEMORY);
    if !saved.is_file() {
        return Ok(());
    }
    // Held, so that nobody removes the layer meanwhile.
    let Ok(Some(_layer)) = hold(folder) else {
        return Err(std::io::ErrorKind::NotFound.into());
    };
    let alone = private_file(&folder.join(".packing"))?;
    alone.try_lock()?;
    // What was cut off by the end of a process.
    for entry in folder.read_dir_utf8()?.flatten() {
        if entry.file_name().ends_with(".partial") {
            fs::remove_file(entry.path())?;
        }
    }
    ram::pack(&saved, &folder.join(PACKED)).map_err(std::io::Error::other)?;
    fs::remove_file(saved)
}

/// Brings a layer to the platter and marks it.
fn sync(folder: &Utf8Path) -> std::io::Result<()> {
    for name in [DISK, DEVICES, PACKED, VARS, RECORD] {
        let path = folder.join(name);
        if path.exists() {
            File::open(path)?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()?;
    fs::write(folder.join(SYNCED), b"")
}

pub(super) fn read_record(folder: &Utf8Path) -> Option<Record> {
    let bytes = fs::read(folder.join(RECORD)).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    // What was not brought to the platter before the host went down may be in pieces.
    if record.host_start != host_start() && !folder.join(SYNCED).exists() {
        return None;
    }
    // A folder that somebody renamed is not the layer that its name says.
    (folder.file_name() == Some(record.id.to_string().as_str())).then_some(record)
}

/// Takes a shared lock on a layer; `None` if it is no layer, or is being removed.
pub(super) fn hold(folder: &Utf8Path) -> Result<Option<Layer>> {
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

/// The host's current start, by the kernel's id for it.
pub fn host_start() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

pub(super) fn private_folder(path: &Utf8Path) -> std::io::Result<()> {
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
