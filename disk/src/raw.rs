//! Raw disks: a file, or a block device, read as it is, with the holes that the filesystem knows of.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::bytes::{SECTOR, index, len64};
use crate::convert::{BLOCK, Block, Encoding, Sequential, Writer, set_length};
use crate::digest::DiskDigest;
use crate::reader::check_bounds;
use crate::{DiskReader, Error, Extent, ExtentKind, Result, Sha256Digest};

/// A raw disk image.
///
/// A length that is no whole number of sectors is rounded up and the missing bytes read as zero, as hypervisors do.
#[derive(Debug)]
pub struct RawReader {
    file: File,
    length: u64,
    size: u64,
}

impl RawReader {
    /// Opens a raw image.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::path("open", path, e))?;
        Self::new(file)
    }

    /// Takes an open file. Its seek position is used to find holes, so the handle should not be shared.
    pub fn new(file: File) -> Result<Self> {
        // Block devices have no length in their metadata; seeking to the end answers for both.
        let end = lseek(&file, 0, Whence::SeekEnd)
            .map_err(|e| Error::io("find the end of a raw image", e.into()))?;
        let length = u64::try_from(end).map_err(|_| Error::invalid("negative file length"))?;
        let size = length
            .checked_next_multiple_of(SECTOR)
            .ok_or_else(|| Error::limit(format!("raw image of {length} bytes")))?;
        Ok(Self { file, length, size })
    }

    fn seek(&self, offset: u64, whence: Whence) -> Result<Option<u64>> {
        let at =
            i64::try_from(offset).map_err(|_| Error::limit(format!("file offset {offset:#x}")))?;
        match lseek(&self.file, at, whence) {
            Ok(found) => Ok(u64::try_from(found).ok()),
            Err(Errno::ENXIO) => Ok(None),
            Err(e) => Err(Error::io(
                format_args!("look for data at {offset:#x}"),
                e.into(),
            )),
        }
    }
}

impl DiskReader for RawReader {
    fn virtual_size(&self) -> u64 {
        self.size
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_bounds(self.size, 1, offset)?;
        let extent = |end: u64, kind| Extent {
            offset,
            length: end.min(self.size).max(offset + 1) - offset,
            kind,
        };
        if offset >= self.length {
            return Ok(extent(self.size, ExtentKind::Hole));
        }
        let data = match self.seek(offset, Whence::SeekData) {
            Ok(data) => data,
            // Filesystems and devices without hole support: everything is data.
            Err(_) => return Ok(extent(self.size, ExtentKind::Data)),
        };
        match data {
            None => Ok(extent(self.size, ExtentKind::Hole)),
            Some(at) if at > offset => Ok(extent(at, ExtentKind::Hole)),
            Some(_) => {
                let end = self.seek(offset, Whence::SeekHole)?.unwrap_or(self.size);
                // The implicit hole at the end of the file is part of the last sector.
                let end = if end >= self.length { self.size } else { end };
                Ok(extent(end, ExtentKind::Data))
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.size, buffer.len(), offset)?;
        read_padded(&self.file, buffer, offset, self.length)
    }
}

/// Reads from a file of `length` bytes; what lies behind its end reads as zero.
pub(crate) fn read_padded(file: &File, buffer: &mut [u8], offset: u64, length: u64) -> Result<()> {
    let stored = index(length.saturating_sub(offset).min(len64(buffer.len())));
    let (head, tail) = buffer.split_at_mut(stored);
    file.read_exact_at(head, offset)
        .map_err(|e| Error::io(format_args!("read {stored} bytes at {offset:#x}"), e))?;
    tail.fill(0);
    Ok(())
}

/// Writes a sparse raw file.
pub(crate) struct RawWriter<'a> {
    file: &'a File,
}

impl<'a> RawWriter<'a> {
    pub(crate) fn new(file: &'a File, size: u64) -> Result<Self> {
        set_length(file, size)?;
        Ok(Self { file })
    }
}

impl Writer for RawWriter<'_> {
    fn encoding(&self) -> Encoding {
        Encoding::Plain
    }

    fn in_place(&self) -> Result<Option<File>> {
        let file = self.file.try_clone();
        file.map(Some).map_err(|e| Error::io("share the file", e))
    }

    fn block(&mut self, _: &Block) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &DiskDigest) -> Result<Option<Sha256Digest>> {
        Ok(None)
    }
}

/// Sends a raw disk, zeros and all, with the footer of a fixed VHD behind it when asked.
pub(crate) struct RawStream<'a> {
    sink: Sequential<'a>,
    size: u64,
    vhd: bool,
}

impl<'a> RawStream<'a> {
    pub(crate) fn new(sink: Sequential<'a>, size: u64, vhd: bool) -> Self {
        Self { sink, size, vhd }
    }
}

impl Writer for RawStream<'_> {
    fn encoding(&self) -> Encoding {
        Encoding::Plain
    }

    fn zeros(&mut self, first: u64, count: u64) -> Result<()> {
        self.sink
            .zeros((count * BLOCK).min(self.size - first * BLOCK))
    }

    fn block(&mut self, block: &Block) -> Result<()> {
        self.sink.put(&block.data)
    }

    fn finish(&mut self, digest: &DiskDigest) -> Result<Option<Sha256Digest>> {
        if self.vhd {
            self.sink
                .put(&crate::vhd::fixed_footer(self.size, digest))?;
        }
        self.sink.finish()
    }

    fn position(&self) -> u64 {
        self.sink.position()
    }
}
