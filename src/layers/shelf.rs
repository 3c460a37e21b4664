//! The folder in which layers stand: `<home>/cache/layers/<key>.<generation>/`.
//!
//! A layer's disk is written in its final place by the guest that makes it; the record, renamed into place last, makes it
//! a layer. Whoever makes one holds its lock, so two bakes that need the same layer make it once, and what a killed bake
//! left behind is told apart by a lock that nobody holds. Whoever stands on a layer holds a shared lock on its record.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::key::{LayerId, LayerKey};
use super::layer::{Draft, Layer, RECORD, SYNCED, hold, private_folder, settle};
use crate::error::{FailureContext as _, FailureKind, Result};

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

/// The shelf of one home.
#[derive(Debug, Clone)]
pub struct Shelf {
    pub(super) root: Utf8PathBuf,
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
                let seconds = now.as_second() - layer.record().created.as_second();
                let age = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                if age >= allowed {
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

    /// Takes up what earlier processes left undone.
    pub fn settle(&self) {
        let entries = self.root.read_dir_utf8().into_iter().flatten().flatten();
        for folder in entries.map(|entry| entry.into_path()) {
            if folder.join(RECORD).is_file() && !folder.join(SYNCED).exists() {
                settle(&folder);
            }
        }
    }

    /// Whether somebody is making this layer right now.
    pub fn is_being_made(&self, key: &LayerKey) -> bool {
        self.root.is_dir() && matches!(self.lock(key), Ok(None))
    }

    pub(super) fn folder(&self, id: &LayerId) -> Utf8PathBuf {
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

    pub(super) fn lock(&self, key: &LayerKey) -> std::io::Result<Option<File>> {
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
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
