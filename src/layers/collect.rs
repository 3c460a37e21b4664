//! Keeping the shelf in bounds.

use std::fs::{self, File};
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::key::LayerKey;
use super::layer::{RECORD, USED, read_record};
use super::record::Record;
use super::shelf::Shelf;
use crate::error::{FailureContext as _, FailureKind, Result};

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

impl Shelf {
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

    /// Removes folders without a record that can be trusted, if nobody is at work on them.
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
            if key.is_empty() || read_record(entry.path()).is_some() {
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

fn exclusive(folder: &Utf8Path) -> Option<File> {
    let file = File::open(folder.join(RECORD)).ok()?;
    file.try_lock().ok().map(|()| file)
}

/// The record first: what is half removed is no layer any more.
fn remove(folder: &Utf8Path) {
    let _ = fs::remove_file(folder.join(RECORD));
    let _ = fs::remove_dir_all(folder);
}
