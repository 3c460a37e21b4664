//! The allocation map as blocks to read and runs of zeros to skip.

use super::BLOCK;
use crate::{DiskReader, Extent, Extents, Result};

/// A step of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Blocks that are known to be zero.
    Zeros {
        /// Number of the first block.
        first: u64,
        /// Blocks, at least one.
        count: u64,
    },
    /// One block to read.
    Block(u64),
}

/// Walks a disk's map from its first block to its last.
pub(crate) struct Units<'a> {
    extents: Extents<'a>,
    current: Option<Extent>,
    next: u64,
    total: u64,
    size: u64,
}

impl<'a> Units<'a> {
    pub(crate) fn new(reader: &'a dyn DiskReader) -> Self {
        let size = reader.virtual_size();
        Self {
            extents: Extents::new(reader),
            current: None,
            next: 0,
            total: size.div_ceil(BLOCK),
            size,
        }
    }
}

impl Iterator for Units<'_> {
    type Item = Result<Unit>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.total {
            return None;
        }
        let start = self.next * BLOCK;
        while self.current.is_none_or(|e| e.end() <= start) {
            match self.extents.next()? {
                Ok(extent) => self.current = Some(extent),
                Err(e) => {
                    self.next = self.total;
                    return Some(Err(e));
                }
            }
        }
        let first = self.next;
        if let Some(extent) = self.current
            && extent.kind.is_empty()
        {
            let end = if extent.end() >= self.size {
                self.total
            } else {
                extent.end() / BLOCK
            };
            if end > first {
                self.next = end;
                return Some(Ok(Unit::Zeros {
                    first,
                    count: end - first,
                }));
            }
        }
        self.next += 1;
        Some(Ok(Unit::Block(first)))
    }
}
