//! The reader trait that every format implements and every consumer takes.

use std::fmt;
use std::sync::Arc;

use crate::bytes::index;
use crate::{Error, Result};

/// What a stretch of a virtual disk is known to hold without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Stored bytes; they may still be zero.
    Data,
    /// Marked as reading zero by the image.
    Zero,
    /// Nothing stored; reads as zero.
    Hole,
}

impl ExtentKind {
    /// True for what reads as zero without being stored.
    pub fn is_empty(self) -> bool {
        !matches!(self, Self::Data)
    }
}

/// A stretch of a virtual disk with one kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes; never zero.
    pub length: u64,
    /// What is there.
    pub kind: ExtentKind,
}

impl Extent {
    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// A virtual disk that can be read at any position from many threads.
pub trait DiskReader: Send + Sync {
    /// Size of the virtual disk in bytes; a multiple of 512.
    fn virtual_size(&self) -> u64;

    /// The extent that begins at `offset` (which lies inside of the disk). It may end before its content changes,
    /// but always covers at least one byte and never reaches past the end of the disk.
    fn extent_at(&self, offset: u64) -> Result<Extent>;

    /// Fills `buffer` from `offset`. Reading past the end is an error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;
}

impl fmt::Debug for dyn DiskReader + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskReader({} bytes)", self.virtual_size())
    }
}

impl<T: DiskReader + ?Sized> DiskReader for Arc<T> {
    fn virtual_size(&self) -> u64 {
        (**self).virtual_size()
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        (**self).extent_at(offset)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        (**self).read_at(buffer, offset)
    }
}

impl<T: DiskReader + ?Sized> DiskReader for &T {
    fn virtual_size(&self) -> u64 {
        (**self).virtual_size()
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        (**self).extent_at(offset)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        (**self).read_at(buffer, offset)
    }
}

/// Checks that a read lies inside of a disk.
pub(crate) fn check_bounds(size: u64, length: usize, offset: u64) -> Result<()> {
    match offset.checked_add(crate::bytes::len64(length)) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::invalid(format!(
            "read of {length} bytes at {offset:#x} reaches past the end of the disk at {size:#x}"
        ))),
    }
}

/// Reads a whole range into a new buffer. The caller vouches for a sane `length`.
pub(crate) fn read_vec(reader: &dyn DiskReader, offset: u64, length: u64) -> Result<Vec<u8>> {
    check_bounds(reader.virtual_size(), index(length), offset)?;
    let mut buffer = vec![0; index(length)];
    reader.read_at(&mut buffer, offset)?;
    Ok(buffer)
}

/// The allocation map of a range: neighbouring extents of one kind come joined.
pub struct Extents<'a> {
    reader: &'a dyn DiskReader,
    next: u64,
    end: u64,
    held: Option<Extent>,
}

impl<'a> Extents<'a> {
    /// The map of the whole disk.
    pub fn new(reader: &'a dyn DiskReader) -> Self {
        Self {
            reader,
            next: 0,
            end: reader.virtual_size(),
            held: None,
        }
    }

    /// The map of `offset..offset + length`, cut at the end of the disk.
    pub fn range(reader: &'a dyn DiskReader, offset: u64, length: u64) -> Self {
        let end = offset.saturating_add(length).min(reader.virtual_size());
        Self {
            reader,
            next: offset,
            end,
            held: None,
        }
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.end {
            let mut extent = match self.reader.extent_at(self.next) {
                Ok(extent) => extent,
                Err(e) => {
                    self.next = self.end;
                    self.held = None;
                    return Some(Err(e));
                }
            };
            // A reader that broke its promise would loop here for ever.
            extent.length = extent.length.min(self.end - self.next);
            if extent.length == 0 || extent.offset != self.next {
                self.next = self.end;
                return Some(Err(Error::invalid(format!(
                    "allocation map does not advance at {:#x}",
                    extent.offset
                ))));
            }
            self.next = extent.end();
            match &mut self.held {
                Some(held) if held.kind == extent.kind => held.length += extent.length,
                held => {
                    if let Some(done) = held.replace(extent) {
                        return Some(Ok(done));
                    }
                }
            }
        }
        self.held.take().map(Ok)
    }
}

/// A part of a disk, such as a partition, as a disk of its own.
#[derive(Clone)]
pub struct Window<R> {
    reader: R,
    start: u64,
    length: u64,
}

impl<R: DiskReader> Window<R> {
    /// The bytes `start..start + length` of a reader.
    pub fn new(reader: R, start: u64, length: u64) -> Result<Self> {
        check_bounds(reader.virtual_size(), index(length), start)?;
        Ok(Self {
            reader,
            start,
            length,
        })
    }
}

impl<R: DiskReader> DiskReader for Window<R> {
    fn virtual_size(&self) -> u64 {
        self.length
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_bounds(self.length, 1, offset)?;
        let inner = self.reader.extent_at(self.start + offset)?;
        Ok(Extent {
            offset,
            length: inner.length.min(self.length - offset),
            kind: inner.kind,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        check_bounds(self.length, buffer.len(), offset)?;
        self.reader.read_at(buffer, self.start + offset)
    }
}
