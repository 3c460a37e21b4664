//! Cutting a disk down to what its last filesystem holds.
//!
//! Shrinking ext4 means moving blocks, which is e2fsprogs' trade: the partition is copied, as a sparse file, beside the
//! output, `resize2fs` shrinks that file, and the disk is read with the file in the partition's place. No root rights,
//! no loop device, and the source is not touched.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::bytes::{MIB, index, len64};
use crate::fs::ext4::Superblock;
use crate::fs::{FsKind, Volume};
use crate::output::{TemporaryFile, temporary_name};
use crate::raw::RawReader;
use crate::reader::check_bounds;
use crate::resize;
use crate::{
    ConvertOptions, DiskReader, Error, Extent, ExtentKind, Progress, Result, Window, convert,
};

/// Free space that is left, so that the first boot has room before it grows the filesystem: the greater of this and
/// a twentieth of the content.
const LEAST_FREE: u64 = 64 * MIB;
const FREE_SHARE: u64 = 20;

/// What fitting came to.
pub struct Fitted {
    /// The smaller disk.
    pub disk: Arc<dyn DiskReader>,
    /// Why the last filesystem was left as it is, when it was.
    pub kept: Option<String>,
}

/// Fits a disk to its content.
///
/// When the last partition holds ext2, ext3 or ext4, its filesystem is shrunk to its content and 64 MiB or five percent,
/// whichever is more, the partition with it, and the disk ends behind it. Numbers, GUIDs, UUIDs, starts of partitions
/// and boot loader areas stay; it grows again at the first boot like any cloud image. Any other last partition stays,
/// and the disk is cut behind it. `scratch_beside` names a place for a sparse copy of the partition, for as long as
/// the disk is in use.
///
/// # Errors
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) without `e2fsck` and `resize2fs`, or when one of them fails.
pub fn fit(
    disk: Arc<dyn DiskReader>,
    scratch_beside: &Path,
    progress: &dyn Progress,
) -> Result<Fitted> {
    let volumes = Volume::list(&*disk)?;
    let last = volumes
        .iter()
        .filter(|v| v.partition.is_some())
        .max_by_key(|v| v.start + v.length);
    let kept = match last {
        None => Some("the disk has no partitions".to_owned()),
        Some(volume) if volume.kind != FsKind::Ext => {
            Some(format!("the last partition holds {}", volume.kind))
        }
        Some(volume) if !volume.start.is_multiple_of(MIB) => {
            Some("the last partition does not begin at a whole mebibyte".to_owned())
        }
        Some(volume) => match shrink(&disk, volume, scratch_beside, progress)? {
            Some(disk) => {
                return Ok(Fitted { disk, kept: None });
            }
            None => Some("the last filesystem is full".to_owned()),
        },
    };
    let size = resize::fitted_size(&*disk, MIB)?.min(disk.virtual_size());
    let disk = Arc::new(resize::resize(disk, size, false)?);
    Ok(Fitted { disk, kept })
}

/// The disk with its last filesystem shrunk; `None` when that would gain nothing.
fn shrink(
    disk: &Arc<dyn DiskReader>,
    volume: &Volume,
    scratch_beside: &Path,
    progress: &dyn Progress,
) -> Result<Option<Arc<dyn DiskReader>>> {
    let scratch = extract(disk, volume, scratch_beside, progress)?;
    let path = scratch.path();
    // resize2fs wants a filesystem that was just checked; 1 says that something was put right.
    run("e2fsck", &["-f", "-p"], path, &[], 1)?;
    run("resize2fs", &["-M"], path, &[], 0)?;
    let least = filesystem_size(&scratch)?;
    let free = LEAST_FREE.max(least / FREE_SHARE);
    let length = (least + free).next_multiple_of(MIB);
    if length >= volume.length {
        return Ok(None);
    }
    run("resize2fs", &[], path, &[&format!("{}K", length / 1024)], 0)?;
    run("e2fsck", &["-f", "-n"], path, &[], 0)?;
    scratch
        .file()
        .set_len(length)
        .map_err(|e| Error::path("cut", path, e))?;
    let file = scratch
        .file()
        .try_clone()
        .map_err(|e| Error::path("open", path, e))?;
    let spliced = Spliced {
        inner: Arc::clone(disk),
        start: volume.start,
        end: volume.start + volume.length,
        replacement: RawReader::new(file)?,
        _scratch: scratch,
    };
    let cut = resize::end_last_partition(Arc::new(spliced), volume.start + length)?;
    Ok(Some(Arc::new(cut)))
}

/// A sparse copy of a partition that goes away with its handle.
fn extract(
    disk: &Arc<dyn DiskReader>,
    volume: &Volume,
    beside: &Path,
    progress: &dyn Progress,
) -> Result<TemporaryFile> {
    let window = Window::new(Arc::clone(disk), volume.start, volume.length)?;
    let scratch = TemporaryFile::create(&temporary_name(beside))?;
    let options = ConvertOptions {
        durable: false,
        sha256: false,
        verify: false,
        ..ConvertOptions::default()
    };
    convert::fill(&window, scratch.file(), &options, progress)?;
    Ok(scratch)
}

fn filesystem_size(scratch: &TemporaryFile) -> Result<u64> {
    let file = scratch
        .file()
        .try_clone()
        .map_err(|e| Error::path("open", scratch.path(), e))?;
    let superblock = Superblock::read(&RawReader::new(file)?)?;
    superblock
        .blocks
        .checked_mul(superblock.block_size)
        .ok_or_else(|| Error::invalid("more blocks than bytes can count"))
}

/// Runs a tool of e2fsprogs on the scratch file; exit codes up to `highest` are fine.
fn run(program: &str, before: &[&str], path: &Path, after: &[&str], highest: i32) -> Result<()> {
    // They live in sbin, which is not on everybody's path.
    let places = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::join_paths(
        std::env::split_paths(&places).chain(["/usr/sbin".into(), "/sbin".into()]),
    )
    .unwrap_or(places);
    let output = Command::new(program)
        .args(before)
        .arg(path)
        .args(after)
        .env("PATH", places)
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| {
            Error::refused(format!(
                "{program} (of e2fsprogs) is needed to fit a disk: {e}"
            ))
        })?;
    match output.status.code() {
        Some(code) if code <= highest => Ok(()),
        _ => Err(Error::refused(format!(
            "{program}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

/// A disk with a file in the place of a part of it.
struct Spliced {
    inner: Arc<dyn DiskReader>,
    start: u64,
    end: u64,
    replacement: RawReader,
    /// Removes the file when the disk is no longer in use.
    _scratch: TemporaryFile,
}

impl DiskReader for Spliced {
    fn virtual_size(&self) -> u64 {
        self.inner.virtual_size()
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_bounds(self.virtual_size(), 1, offset)?;
        if (self.start..self.end).contains(&offset) {
            let within = offset - self.start;
            if within >= self.replacement.virtual_size() {
                return Ok(Extent {
                    offset,
                    length: self.end - offset,
                    kind: ExtentKind::Hole,
                });
            }
            let extent = self.replacement.extent_at(within)?;
            return Ok(Extent { offset, ..extent });
        }
        let mut extent = self.inner.extent_at(offset)?;
        if offset < self.start {
            extent.length = extent.length.min(self.start - offset);
        }
        Ok(extent)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.virtual_size(), buffer.len(), offset)?;
        self.inner.read_at(buffer, offset)?;
        let end = offset + len64(buffer.len());
        let (from, to) = (offset.max(self.start), end.min(self.end));
        if from < to {
            let part = &mut buffer[index(from - offset)..index(to - offset)];
            part.fill(0);
            let stored = self
                .replacement
                .virtual_size()
                .saturating_sub(from - self.start);
            let stored = index(stored.min(len64(part.len())));
            if stored > 0 {
                self.replacement
                    .read_at(&mut part[..stored], from - self.start)?;
            }
        }
        Ok(())
    }
}
