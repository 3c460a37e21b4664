//! From blocks of a file to blocks of the disk: extent trees and the block maps of ext2 and ext3.

use super::Ext4;
use super::inode::Inode;
use crate::bytes::{Fields, index, len64};
use crate::{Error, Result};

/// Neighbouring blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// First block of the file.
    pub(super) logical: u64,
    /// Blocks.
    pub(super) blocks: u64,
    /// First block of the disk; `None` for space that is reserved but reads as zero.
    pub(super) physical: Option<u64>,
}

const EXTENT_MAGIC: u16 = 0xf30a;
/// The kernel's bound on the depth of the tree.
const MAX_DEPTH: u16 = 5;
/// An extent of more blocks than this is one that was never written.
const MAX_WRITTEN: u16 = 32768;
/// Tree blocks of one file: covers 340 million extents; a tree that shares its nodes to blow itself up ends here.
const MAX_TREE_BLOCKS: u32 = 1 << 20;

/// All runs of a file, in order and without overlaps.
pub(super) fn runs(fs: &Ext4, inode: &Inode) -> Result<Vec<Run>> {
    let mut walk = Walk {
        fs,
        runs: Vec::new(),
        visited: 0,
    };
    let root = inode.block_field()?;
    if inode.has_extents() {
        let depth = root.as_slice().le16(6)?;
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!("extent tree of depth {depth}")));
        }
        walk.extents(&root, depth)?;
    } else {
        walk.block_map(&root, inode.size.div_ceil(fs.block_size()))?;
    }
    Ok(walk.runs)
}

struct Walk<'a> {
    fs: &'a Ext4,
    runs: Vec<Run>,
    visited: u32,
}

impl Walk<'_> {
    fn push(&mut self, run: Run) -> Result<()> {
        let limit = self.fs.superblock().blocks;
        if let Some(start) = run.physical
            && (start == 0 || start.checked_add(run.blocks).is_none_or(|end| end > limit))
        {
            return Err(Error::invalid(format!(
                "extent of {} blocks at {start}, of {limit}",
                run.blocks
            )));
        }
        if let Some(last) = self.runs.last_mut() {
            let end = last.logical + last.blocks;
            if run.logical < end {
                return Err(Error::invalid(format!(
                    "extents out of order at block {}",
                    run.logical
                )));
            }
            let follows = match (last.physical, run.physical) {
                (Some(a), Some(b)) => a + last.blocks == b,
                (None, None) => true,
                _ => false,
            };
            if run.logical == end && follows {
                last.blocks += run.blocks;
                return Ok(());
            }
        }
        self.runs.push(run);
        Ok(())
    }

    fn block(&mut self, number: u64) -> Result<Vec<u8>> {
        self.visited += 1;
        if self.visited > MAX_TREE_BLOCKS {
            return Err(Error::limit("too many blocks in the map of one file"));
        }
        let mut data = vec![0; index(self.fs.block_size())];
        self.fs.read_block(number, &mut data, 0)?;
        Ok(data)
    }

    fn extents(&mut self, node: &[u8], depth: u16) -> Result<()> {
        if node.le16(0)? != EXTENT_MAGIC {
            return Err(Error::invalid("no magic in a node of the extent tree"));
        }
        let (entries, stored_depth) = (usize::from(node.le16(2)?), node.le16(6)?);
        if stored_depth != depth {
            return Err(Error::invalid(format!(
                "node of depth {stored_depth} where {depth} is due"
            )));
        }
        if 12 + entries * 12 > node.len() {
            return Err(Error::invalid(format!(
                "{entries} entries in one node of the extent tree"
            )));
        }
        for at in (0..entries).map(|i| 12 + i * 12) {
            let logical = u64::from(node.le32(at)?);
            if depth > 0 {
                let child = u64::from(node.le16(at + 8)?) << 32 | u64::from(node.le32(at + 4)?);
                let child = self.block(child)?;
                self.extents(&child, depth - 1)?;
                continue;
            }
            let length = node.le16(at + 4)?;
            let start = u64::from(node.le16(at + 6)?) << 32 | u64::from(node.le32(at + 8)?);
            let (blocks, physical) = if length > MAX_WRITTEN {
                (length - MAX_WRITTEN, None)
            } else {
                (length, Some(start))
            };
            if blocks > 0 {
                self.push(Run {
                    logical,
                    blocks: blocks.into(),
                    physical,
                })?;
            }
        }
        Ok(())
    }

    fn block_map(&mut self, root: &[u8], blocks: u64) -> Result<()> {
        let per_block = self.fs.block_size() / 4;
        let mut logical = 0;
        for i in 0..12 {
            self.mapped(u64::from(root.le32(i * 4)?), &mut logical, 0, blocks)?;
        }
        for level in 1..=3u32 {
            let at = 44 + 4 * index(level.into());
            self.mapped(u64::from(root.le32(at)?), &mut logical, level, blocks)?;
            if logical >= blocks {
                break;
            }
        }
        debug_assert!(per_block >= 256);
        Ok(())
    }

    /// One entry of the map: a data block at level 0, a block of entries above.
    fn mapped(&mut self, block: u64, logical: &mut u64, level: u32, end: u64) -> Result<()> {
        let covers = (self.fs.block_size() / 4).pow(level);
        if *logical >= end {
            return Ok(());
        }
        if block == 0 {
            *logical += covers;
            return Ok(());
        }
        if level == 0 {
            self.push(Run {
                logical: *logical,
                blocks: 1,
                physical: Some(block),
            })?;
            *logical += 1;
            return Ok(());
        }
        let table = self.block(block)?;
        for at in (0..len64(table.len())).step_by(4) {
            self.mapped(u64::from(table.le32(index(at))?), logical, level - 1, end)?;
        }
        Ok(())
    }
}
