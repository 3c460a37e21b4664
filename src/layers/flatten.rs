//! Long chains are made short: QEMU looks for each block in every overlay from the top down, and opens all of them.

use std::collections::BTreeMap;
use std::fs;

use super::key::LayerId;
use super::layer::DISK;
use super::record::Record;
use super::shelf::Shelf;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::output::qemu_img;

/// More overlays than these are not put on top of each other.
pub const LONGEST_CHAIN: usize = 12;
/// There if the disk stands on the parent image itself, with all that the layers beneath hold.
const FLAT: &str = ".flat";
const PART: &str = ".flat.part";

impl Shelf {
    /// Gives layers that end a chain of `longest` overlays a disk of their own on the parent image, with the same content.
    /// Guests that run on the old disk have it open and go on with it. Returns how many were rewritten.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if a disk can't be read or written; the layer is left as it was.
    pub async fn flatten(&self, longest: usize) -> Result<usize> {
        let records: BTreeMap<LayerId, Record> = self
            .records()?
            .into_iter()
            .map(|record| (record.id.clone(), record))
            .collect();
        let mut done = 0;
        for record in records.values() {
            // Those above become short with it.
            if self.length(&records, record).is_multiple_of(longest)
                && !self.is_flat(&record.id)
                && self.make_flat(&record.id).await?
            {
                done += 1;
            }
        }
        Ok(done)
    }

    fn is_flat(&self, id: &LayerId) -> bool {
        self.folder(id).join(FLAT).exists()
    }

    /// How many layers there are from the first one to this.
    fn length(&self, records: &BTreeMap<LayerId, Record>, record: &Record) -> usize {
        let mut length = 1;
        let mut at = record;
        while let Some(beneath) = at.beneath.as_ref().and_then(|id| records.get(id)) {
            length += 1;
            at = beneath;
        }
        length
    }

    /// False if somebody else is at it.
    async fn make_flat(&self, id: &LayerId) -> Result<bool> {
        let folder = self.folder(id);
        let failed = || format!("cannot flatten the layer in {folder}");
        let Some(_lock) = self
            .lock(&id.key)
            .or_failure(FailureKind::Environment, failed)?
        else {
            return Ok(false);
        };
        let (disk, part) = (folder.join(DISK), folder.join(PART));
        let chain = qemu_img::chain(&disk).await?;
        // The last one that is not a layer's.
        let Some(parent) = chain.last().filter(|_| chain.len() > 2) else {
            return Ok(false);
        };
        let copied = fs::copy(&disk, &part).or_failure(FailureKind::Environment, failed);
        let written = match copied {
            Ok(_) => qemu_img::rebase(&part, parent).await,
            Err(failure) => Err(failure),
        };
        let replaced = written.and_then(|()| {
            let replace = || {
                fs::File::open(&part)?.sync_all()?;
                fs::rename(&part, &disk)?;
                fs::write(folder.join(FLAT), b"")
            };
            replace().or_failure(FailureKind::Environment, failed)
        });
        if replaced.is_err() {
            let _ = fs::remove_file(&part);
        }
        replaced.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use camino::Utf8Path;

    use super::super::layer::{Layer, backing_name, host_start};
    use super::super::{Inputs, Lookup};
    use super::*;

    /// A layer that writes a byte of its own at a place of its own, over one of its predecessor.
    async fn layer(shelf: &Shelf, number: u64, below: &Utf8Path, beneath: Option<&Layer>) -> Layer {
        let mut inputs = Inputs::default();
        inputs.set("number", number.to_string());
        let draft = shelf.begin(&inputs.key()).unwrap().unwrap();
        let format = if beneath.is_some() { "qcow2" } else { "raw" };
        let name = backing_name(&draft.disk(), below);
        qemu_img::create_overlay(&draft.disk(), &name, format, None)
            .await
            .unwrap();
        let place = number * 65_536;
        let write = format!("write -q -P {number} {place} 131072");
        let done = std::process::Command::new("qemu-io")
            .args(["-f", "qcow2", "-c", &write, draft.disk().as_str()])
            .status()
            .unwrap();
        assert!(done.success());
        let record = Record {
            id: draft.id().clone(),
            name: number.to_string(),
            inputs,
            beneath: beneath.map(|layer| layer.record().id.clone()),
            created: jiff::Timestamp::now(),
            host_start: host_start(),
            seconds: 0.0,
            memory: None,
        };
        draft.publish(record).unwrap()
    }

    #[tokio::test]
    async fn a_long_chain_becomes_short_and_holds_the_same() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let base = root.join("base.raw");
        let file = fs::File::create(&base).unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(b"the parent", 3 << 20).unwrap();
        let shelf = Shelf::new(root);
        let mut layers: Vec<Layer> = Vec::new();
        for number in 1..=7 {
            let below = layers.last().map_or_else(|| base.clone(), Layer::disk);
            let made = layer(&shelf, number, &below, layers.last()).await;
            layers.push(made);
        }
        let content = |layer: &Layer| {
            let raw = root.join("content.raw");
            let done = std::process::Command::new("qemu-img")
                .args([
                    "convert",
                    "-U",
                    "-O",
                    "raw",
                    layer.disk().as_str(),
                    raw.as_str(),
                ])
                .status()
                .unwrap();
            assert!(done.success());
            blake3::hash(&fs::read(&raw).unwrap())
        };
        let before: Vec<_> = layers.iter().map(content).collect();
        assert_eq!(qemu_img::chain(&layers[6].disk()).await.unwrap().len(), 8);

        assert_eq!(shelf.flatten(3).await.unwrap(), 2);
        let lengths = [2, 3, 2, 3, 4, 2, 3];
        for (layer, length) in layers.iter().zip(lengths) {
            let chain = qemu_img::chain(&layer.disk()).await.unwrap();
            assert_eq!(chain.len(), length, "{chain:?}");
        }
        let after: Vec<_> = layers.iter().map(content).collect();
        assert_eq!(after, before);
        assert_eq!(shelf.flatten(3).await.unwrap(), 0, "once is enough");
        let key = &layers[5].record().id.key;
        assert!(matches!(shelf.find(key, None).unwrap(), Lookup::Hit(_)));
    }
}
