//! A disk with a few bytes changed and another size, without copying it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::bytes::{SECTOR, index, len64};
use crate::convert::write_at;
use crate::output::TemporaryFile;
use crate::qcow2::OverlayWriter;
use crate::reader::check_bounds;
use crate::{DiskReader, Error, Extent, ExtentKind, Format, Result};

/// Changes are kept in pieces of this size.
const PIECE: u64 = 4096;

/// A disk as it would be after some changes.
#[derive(Clone)]
pub struct PatchedDisk {
    inner: Arc<dyn DiskReader>,
    size: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl PatchedDisk {
    /// A disk of another size: cut, or followed by a hole.
    pub fn new(inner: Arc<dyn DiskReader>, size: u64) -> Result<Self> {
        if !size.is_multiple_of(SECTOR) {
            return Err(Error::refused(format!(
                "a disk of {size} bytes; sectors have {SECTOR}"
            )));
        }
        Ok(Self {
            inner,
            size,
            pieces: BTreeMap::new(),
        })
    }

    /// Changes bytes.
    pub fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        check_bounds(self.size, bytes.len(), offset)?;
        let (mut rest, mut at) = (bytes, offset);
        while !rest.is_empty() {
            let number = at / PIECE;
            let start = number * PIECE;
            if !self.pieces.contains_key(&number) {
                let mut piece = vec![0; index(PIECE.min(self.size - start))];
                self.read_inner(&mut piece, start)?;
                self.pieces.insert(number, piece);
            }
            let Some(piece) = self.pieces.get_mut(&number) else {
                break;
            };
            let within = index(at - start);
            let take = rest.len().min(piece.len() - within);
            piece[within..within + take].copy_from_slice(&rest[..take]);
            rest = &rest[take..];
            at += len64(take);
        }
        Ok(())
    }

    /// True when nothing but the size may differ.
    pub fn is_unchanged(&self) -> bool {
        self.pieces.is_empty()
    }

    fn read_inner(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let there = self
            .inner
            .virtual_size()
            .saturating_sub(offset)
            .min(len64(buffer.len()));
        let (head, tail) = buffer.split_at_mut(index(there));
        tail.fill(0);
        if head.is_empty() {
            Ok(())
        } else {
            self.inner.read_at(head, offset)
        }
    }

    /// Writes the changes, and the size, into a raw file that is the inner disk.
    pub fn apply_to_raw(&self, path: &Path) -> Result<()> {
        let file = std::fs::File::options()
            .write(true)
            .open(path)
            .map_err(|e| Error::path("open", path, e))?;
        crate::convert::set_length(&file, self.size)?;
        for (number, piece) in &self.pieces {
            write_at(&file, piece, number * PIECE)?;
        }
        file.sync_all().map_err(|e| Error::path("sync", path, e))
    }

    /// Writes the changes as a qcow2 overlay over the file that is the inner disk. `backing` is its name as the
    /// overlay shall have it: relative names count from the overlay's folder.
    pub fn write_overlay(&self, path: &Path, backing: &str, format: Format) -> Result<()> {
        let temporary = TemporaryFile::create(path)?;
        let mut writer = OverlayWriter::new(temporary.file(), self.size)?;
        let cluster = OverlayWriter::CLUSTER;
        let mut clusters: Vec<u64> = self
            .pieces
            .keys()
            .map(|number| number * PIECE / cluster)
            .collect();
        clusters.dedup();
        for number in clusters {
            let start = number * cluster;
            let mut data = vec![0; index(cluster)];
            let length = index(cluster.min(self.size - start));
            self.read_at(&mut data[..length], start)?;
            writer.cluster(number, &data)?;
        }
        writer.finish(backing, qemu_name(format))?;
        temporary.commit(true)
    }
}

/// The name that QEMU has for a format.
fn qemu_name(format: Format) -> &'static str {
    match format {
        Format::Vhd => "vpc",
        other => other.name(),
    }
}

impl DiskReader for PatchedDisk {
    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_bounds(self.size, 1, offset)?;
        let number = offset / PIECE;
        if self.pieces.contains_key(&number) {
            let end = ((number + 1) * PIECE).min(self.size);
            return Ok(Extent {
                offset,
                length: end - offset,
                kind: ExtentKind::Data,
            });
        }
        let next = self
            .pieces
            .range(number..)
            .next()
            .map_or(self.size, |(number, _)| number * PIECE);
        let inner_size = self.inner.virtual_size();
        if offset >= inner_size {
            return Ok(Extent {
                offset,
                length: next - offset,
                kind: ExtentKind::Hole,
            });
        }
        let inner = self.inner.extent_at(offset)?;
        Ok(Extent {
            offset,
            length: inner.length.min(next - offset),
            kind: inner.kind,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.size, buffer.len(), offset)?;
        self.read_inner(buffer, offset)?;
        let end = offset + len64(buffer.len());
        for (number, piece) in self.pieces.range(offset / PIECE..end.div_ceil(PIECE)) {
            let start = number * PIECE;
            let (from, to) = (start.max(offset), (start + len64(piece.len())).min(end));
            if from < to {
                buffer[index(from - offset)..index(to - offset)]
                    .copy_from_slice(&piece[index(from - start)..index(to - start)]);
            }
        }
        Ok(())
    }
}
