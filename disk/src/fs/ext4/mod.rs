//! ext2, ext3 and ext4, read only.
//!
//! Field offsets follow the kernel's `Documentation/filesystems/ext4`. Written for walking whole trees at disk speed
//! and for what a faithful copy needs: extended attributes, hard links, device numbers, inline data.

mod dir;
mod free;
mod inode;
mod mapping;
mod superblock;
mod xattr;

use std::ops::Range;
use std::sync::Arc;

use self::inode::Inode;
use self::mapping::Run;
pub use self::superblock::Superblock;
use super::{CachedReader, Entry, FileData, FileSystem, Node, NodeId, NodeKind, Xattr};
use crate::bytes::{index, len64};
use crate::error::Context;
use crate::{DiskReader, Error, Result};

/// Number of the root folder.
const ROOT: u32 = 2;
/// The kernel reads targets of at most one page.
const MAX_SYMLINK: u64 = 4096;

/// An open ext filesystem.
pub struct Ext4 {
    disk: CachedReader,
    superblock: Superblock,
}

impl Ext4 {
    /// Reads the superblock. A filesystem whose journal has to be replayed is refused: what it shows would be stale.
    pub fn open(disk: Arc<dyn DiskReader>) -> Result<Self> {
        let superblock = Superblock::read(&*disk).map_err(|e| e.context("ext4 superblock"))?;
        if superblock.needs_recovery() {
            return Err(Error::refused(
                "the filesystem was not unmounted cleanly and its journal has to be replayed; boot and shut it down first",
            ));
        }
        Ok(Self {
            disk: CachedReader::new(disk),
            superblock,
        })
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    fn block_size(&self) -> u64 {
        self.superblock.block_size
    }

    /// Reads bytes of one block; the block number is checked against the filesystem's size.
    fn read_block(&self, block: u64, buffer: &mut [u8], within: u64) -> Result<()> {
        if block == 0 || block >= self.superblock.blocks {
            return Err(Error::invalid(format!(
                "block {block} of {}",
                self.superblock.blocks
            )));
        }
        self.disk
            .read_at(buffer, block * self.block_size() + within)
    }

    fn inode(&self, number: u32) -> Result<Inode> {
        inode::read(self, number).context_with(|| format!("inode {number}"))
    }

    fn inode_of(&self, node: &Node) -> Result<Inode> {
        let number =
            u32::try_from(node.id.0).map_err(|_| Error::invalid(format!("inode {}", node.id.0)))?;
        self.inode(number)
    }

    fn content(&self, inode: Inode) -> Result<Content<'_>> {
        if inode.is_encrypted() {
            return Err(Error::unsupported(format!(
                "inode {}: encrypted by the filesystem",
                inode.number
            )));
        }
        if inode.has_inline_data() {
            let data = xattr::inline_data(self, &inode)?;
            return Ok(Content {
                fs: self,
                size: inode.size,
                place: Place::Inline(data),
            });
        }
        let runs =
            mapping::runs(self, &inode).context_with(|| format!("inode {}", inode.number))?;
        Ok(Content {
            fs: self,
            size: inode.size,
            place: Place::Runs(runs),
        })
    }

    /// Reads a whole file that is known to be small.
    fn read_all(&self, inode: Inode, limit: u64) -> Result<Vec<u8>> {
        if inode.size > limit {
            return Err(Error::limit(format!(
                "inode {}: {} bytes, at most {limit}",
                inode.number, inode.size
            )));
        }
        let mut data = vec![0; index(inode.size)];
        self.content(inode)?.read_at(&mut data, 0)?;
        Ok(data)
    }
}

enum Place {
    Inline(Vec<u8>),
    Runs(Vec<Run>),
}

/// A file's content by its extents.
struct Content<'a> {
    fs: &'a Ext4,
    size: u64,
    place: Place,
}

impl FileData for Content<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        crate::reader::check_bounds(self.size, buffer.len(), offset)?;
        let runs = match &self.place {
            Place::Inline(data) => {
                let start = index(offset);
                let stored = data.get(start..).unwrap_or_default();
                let take = stored.len().min(buffer.len());
                buffer[..take].copy_from_slice(&stored[..take]);
                buffer[take..].fill(0);
                return Ok(());
            }
            Place::Runs(runs) => runs,
        };
        let size = self.fs.block_size();
        let mut at = offset;
        let mut rest = buffer;
        // The first run that ends behind the offset.
        let mut next = runs.partition_point(|r| (r.logical + r.blocks) * size <= at);
        while !rest.is_empty() {
            let run = runs.get(next);
            let start = run.map_or(u64::MAX, |r| r.logical * size);
            if at < start {
                let hole = index((start - at).min(len64(rest.len())));
                let (part, tail) = rest.split_at_mut(hole);
                part.fill(0);
                (rest, at) = (tail, at + len64(hole));
                continue;
            }
            let Some(run) = run else { break };
            let within = at - start;
            let take = index((run.blocks * size - within).min(len64(rest.len())));
            let (part, tail) = rest.split_at_mut(take);
            match run.physical {
                Some(block) => self.fs.disk.read_at(part, block * size + within)?,
                None => part.fill(0),
            }
            (rest, at) = (tail, at + len64(take));
            next += 1;
        }
        Ok(())
    }
}

impl FileSystem for Ext4 {
    fn root(&self) -> NodeId {
        NodeId(ROOT.into())
    }

    fn node(&self, id: NodeId) -> Result<Node> {
        let number = u32::try_from(id.0).map_err(|_| Error::invalid(format!("inode {}", id.0)))?;
        self.inode(number)?.node()
    }

    fn read_dir(&self, node: &Node) -> Result<Vec<Entry>> {
        dir::read(self, self.inode_of(node)?)
            .context_with(|| format!("folder of inode {}", node.id.0))
    }

    fn read_link(&self, node: &Node) -> Result<Vec<u8>> {
        let inode = self.inode_of(node)?;
        if node.kind != NodeKind::Symlink {
            return Err(Error::invalid(format!(
                "inode {} is no symbolic link",
                node.id.0
            )));
        }
        match inode.fast_symlink()? {
            Some(target) => Ok(target),
            None => self.read_all(inode, MAX_SYMLINK),
        }
    }

    fn xattrs(&self, node: &Node) -> Result<Vec<Xattr>> {
        xattr::list(self, &self.inode_of(node)?)
            .context_with(|| format!("attributes of inode {}", node.id.0))
    }

    fn open(&self, node: &Node) -> Result<Box<dyn FileData + '_>> {
        if node.kind != NodeKind::File {
            return Err(Error::invalid(format!(
                "inode {} is no regular file",
                node.id.0
            )));
        }
        Ok(Box::new(self.content(self.inode_of(node)?)?))
    }

    fn space(&self) -> (u64, u64) {
        (
            self.superblock
                .free_blocks
                .saturating_mul(self.block_size()),
            self.superblock.blocks * self.block_size(),
        )
    }

    fn free_space(&self, sink: &mut dyn FnMut(Range<u64>) -> Result<()>) -> Result<bool> {
        free::ranges(self, sink)
    }
}
