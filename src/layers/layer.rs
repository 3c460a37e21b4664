//! A layer on the shelf, and one in the making.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};

use super::key::LayerId;
use super::record::{Memory, Record};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

pub(super) const RECORD: &str = "layer.json";
pub(super) const DISK: &str = "disk.qcow2";
const MEMORY: &str = "memory.zst";
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
        // Beside the bake: it would wait for the disk for seconds.
        let folder = self.folder.clone();
        std::thread::spawn(move || sync(&folder));
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

/// Brings a layer to the platter and marks it.
fn sync(folder: &Utf8Path) -> std::io::Result<()> {
    for name in [DISK, MEMORY, VARS, RECORD] {
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
