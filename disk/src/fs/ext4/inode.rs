//! Inodes.

use super::super::{Node, NodeId, NodeKind};
use super::Ext4;
use crate::bytes::{Fields, index};
use crate::{Error, Result};

const FLAG_ENCRYPT: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE_DATA: u32 = 0x1000_0000;

/// An inode as stored, with the fields that are needed everywhere.
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) raw: Vec<u8>,
    pub(super) size: u64,
    mode: u16,
    flags: u32,
}

/// Reads an inode by its number.
pub(super) fn read(fs: &Ext4, number: u32) -> Result<Inode> {
    let superblock = fs.superblock();
    if number == 0 || number > superblock.inodes {
        return Err(Error::invalid(format!(
            "there are {} inodes",
            superblock.inodes
        )));
    }
    let group = (number - 1) / superblock.inodes_per_group;
    let place = u64::from((number - 1) % superblock.inodes_per_group) * superblock.inode_size;
    let table = superblock.inode_table(fs, group)?;
    let block = table
        .checked_add(place / superblock.block_size)
        .ok_or_else(|| Error::invalid(format!("inode table at block {table}")))?;
    let mut raw = vec![0; index(superblock.inode_size)];
    fs.read_block(block, &mut raw, place % superblock.block_size)?;
    let fields = raw.as_slice();
    let mode = fields.le16(0)?;
    let is_file_or_dir = matches!(mode & 0xf000, 0x8000 | 0x4000 | 0xa000);
    // The high half means something else for special files of old filesystems.
    let size_high = if is_file_or_dir {
        u64::from(fields.le32(0x6c)?)
    } else {
        0
    };
    let size = size_high << 32 | u64::from(fields.le32(0x4)?);
    if size > 1 << 60 {
        return Err(Error::invalid(format!("size of {size} bytes")));
    }
    let flags = fields.le32(0x20)?;
    Ok(Inode {
        number,
        size,
        mode,
        flags,
        raw,
    })
}

impl Inode {
    pub(super) fn is_encrypted(&self) -> bool {
        self.flags & FLAG_ENCRYPT != 0
    }

    pub(super) fn has_extents(&self) -> bool {
        self.flags & FLAG_EXTENTS != 0
    }

    pub(super) fn has_inline_data(&self) -> bool {
        self.flags & FLAG_INLINE_DATA != 0
    }

    pub(super) fn is_directory(&self) -> bool {
        self.mode & 0xf000 == 0x4000
    }

    /// The 60 bytes that hold the block map, the extent root, a short symlink or inline data.
    pub(super) fn block_field(&self) -> Result<[u8; 60]> {
        self.raw.array(0x28)
    }

    /// Block with further extended attributes; 0 for none.
    pub(super) fn xattr_block(&self) -> Result<u64> {
        Ok(u64::from(self.raw.le16(0x76)?) << 32 | u64::from(self.raw.le32(0x68)?))
    }

    /// Bytes of fields behind the first 128.
    pub(super) fn extra_size(&self) -> Result<usize> {
        if self.raw.len() > 128 {
            Ok(usize::from(self.raw.le16(0x80)?))
        } else {
            Ok(0)
        }
    }

    /// The target, when it is short enough to be stored in the inode.
    pub(super) fn fast_symlink(&self) -> Result<Option<Vec<u8>>> {
        if self.size >= 60 || self.has_extents() || self.has_inline_data() || self.is_encrypted() {
            return Ok(None);
        }
        Ok(Some(self.block_field()?[..index(self.size)].to_vec()))
    }

    fn mtime(&self) -> Result<i64> {
        let low = i64::from(self.raw.le32(0x10)?.cast_signed());
        // Two bits extend the 32-bit seconds until the year 2446.
        let epoch = if self.extra_size()? >= 12 {
            i64::from(self.raw.le32(0x88)? & 3)
        } else {
            0
        };
        Ok(low + (epoch << 32))
    }

    fn device(&self) -> Result<(u32, u32)> {
        let block = self.block_field()?;
        let old = block.as_slice().le32(0)?;
        if old != 0 {
            return Ok((old >> 8 & 0xff, old & 0xff));
        }
        let new = block.as_slice().le32(4)?;
        Ok((new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00))
    }

    /// The attributes that every filesystem has.
    pub(super) fn node(&self) -> Result<Node> {
        let raw = self.raw.as_slice();
        let kind = match self.mode & 0xf000 {
            0x8000 => NodeKind::File,
            0x4000 => NodeKind::Directory,
            0xa000 => NodeKind::Symlink,
            0x2000 => self.device().map(|(a, b)| NodeKind::CharDevice(a, b))?,
            0x6000 => self.device().map(|(a, b)| NodeKind::BlockDevice(a, b))?,
            0x1000 => NodeKind::Fifo,
            0xc000 => NodeKind::Socket,
            other => {
                return Err(Error::invalid(format!(
                    "inode {} has the file type {other:#x}",
                    self.number
                )));
            }
        };
        Ok(Node {
            id: NodeId(self.number.into()),
            kind,
            mode: u32::from(self.mode & 0o7777),
            uid: u32::from(raw.le16(0x78)?) << 16 | u32::from(raw.le16(0x2)?),
            gid: u32::from(raw.le16(0x7a)?) << 16 | u32::from(raw.le16(0x18)?),
            size: self.size,
            mtime: self.mtime()?,
            links: raw.le16(0x1a)?.into(),
        })
    }
}
