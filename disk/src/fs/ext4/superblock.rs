//! The superblock and the group descriptors.

use std::ops::Range;

use super::Ext4;
use crate::bytes::{Fields, hex, index};
use crate::reader::read_vec;
use crate::{DiskReader, Error, Result};

const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_MMP: u32 = 0x100;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const INCOMPAT_EA_INODE: u32 = 0x400;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const INCOMPAT_LARGEDIR: u32 = 0x4000;
const INCOMPAT_INLINE_DATA: u32 = 0x8000;
const INCOMPAT_ENCRYPT: u32 = 0x1_0000;
const INCOMPAT_CASEFOLD: u32 = 0x2_0000;
/// What this reader understands. Encrypted and folded names are refused file by file.
const INCOMPAT_KNOWN: u32 = INCOMPAT_FILETYPE
    | INCOMPAT_RECOVER
    | INCOMPAT_META_BG
    | INCOMPAT_EXTENTS
    | INCOMPAT_64BIT
    | INCOMPAT_MMP
    | INCOMPAT_FLEX_BG
    | INCOMPAT_EA_INODE
    | INCOMPAT_CSUM_SEED
    | INCOMPAT_LARGEDIR
    | INCOMPAT_INLINE_DATA
    | INCOMPAT_ENCRYPT
    | INCOMPAT_CASEFOLD;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_BIGALLOC: u32 = 0x200;

/// What reading needs of a superblock.
#[derive(Debug, Clone)]
pub struct Superblock {
    /// Bytes of a block.
    pub block_size: u64,
    /// Blocks of the filesystem.
    pub blocks: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Inodes of the filesystem.
    pub inodes: u32,
    /// UUID in its usual form.
    pub uuid: String,
    /// Volume label.
    pub label: String,
    /// Time of the last check, seconds since 1970.
    pub last_check: u32,
    /// True when the filesystem was marked clean.
    pub is_clean: bool,
    pub(super) inode_size: u64,
    pub(super) inodes_per_group: u32,
    first_data_block: u64,
    blocks_per_group: u64,
    descriptor_size: u64,
    first_meta_bg: u64,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
    backup_groups: [u32; 2],
}

impl Superblock {
    /// Reads and checks the superblock of a volume.
    pub fn read(disk: &dyn DiskReader) -> Result<Self> {
        let sb = read_vec(disk, 1024, 1024)?;
        let sb = sb.as_slice();
        if sb.le16(0x38)? != 0xef53 {
            return Err(Error::invalid("no ext2/3/4 magic"));
        }
        let log_size = sb.le32(0x18)?;
        if log_size > 6 {
            return Err(Error::invalid(format!(
                "blocks of 2^{} bytes",
                u64::from(log_size) + 10
            )));
        }
        let block_size = 1024u64 << log_size;
        let dynamic = sb.le32(0x4c)? >= 1;
        let (compat, incompat, ro_compat) = if dynamic {
            (sb.le32(0x5c)?, sb.le32(0x60)?, sb.le32(0x64)?)
        } else {
            (0, 0, 0)
        };
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(Error::unsupported(format!(
                "ext4 features {:#x}",
                incompat & !INCOMPAT_KNOWN
            )));
        }
        let is_64bit = incompat & INCOMPAT_64BIT != 0;
        let wide = |low: usize, high: usize| -> Result<u64> {
            let high = if is_64bit {
                u64::from(sb.le32(high)?)
            } else {
                0
            };
            Ok(high << 32 | u64::from(sb.le32(low)?))
        };
        let uuid = hex(&sb.array::<16>(0x68)?);
        let label = sb.array::<16>(0x78)?;
        let label = label.split(|&b| b == 0).next().unwrap_or_default();
        let this = Self {
            block_size,
            blocks: wide(0x4, 0x150)?,
            free_blocks: wide(0xc, 0x158)?,
            inodes: sb.le32(0)?,
            uuid: format!(
                "{}-{}-{}-{}-{}",
                &uuid[..8],
                &uuid[8..12],
                &uuid[12..16],
                &uuid[16..20],
                &uuid[20..]
            ),
            label: String::from_utf8_lossy(label).into_owned(),
            last_check: sb.le32(0x40)?,
            is_clean: sb.le16(0x3a)? & 1 != 0,
            inode_size: if dynamic {
                u64::from(sb.le16(0x58)?)
            } else {
                128
            },
            inodes_per_group: sb.le32(0x28)?,
            first_data_block: u64::from(sb.le32(0x14)?),
            blocks_per_group: u64::from(sb.le32(0x20)?),
            descriptor_size: if is_64bit {
                u64::from(sb.le16(0xfe)?)
            } else {
                32
            },
            first_meta_bg: u64::from(sb.le32(0x104)?),
            compat,
            incompat,
            ro_compat,
            backup_groups: [sb.le32(0x24c)?, sb.le32(0x250)?],
        };
        this.check(disk.virtual_size())?;
        Ok(this)
    }

    fn check(&self, volume: u64) -> Result<()> {
        if self
            .blocks
            .checked_mul(self.block_size)
            .is_none_or(|bytes| bytes > volume)
        {
            return Err(Error::invalid(format!(
                "{} blocks of {} bytes on a volume of {volume} bytes",
                self.blocks, self.block_size
            )));
        }
        if !self.inode_size.is_power_of_two() || !(128..=self.block_size).contains(&self.inode_size)
        {
            return Err(Error::invalid(format!(
                "inodes of {} bytes",
                self.inode_size
            )));
        }
        if self.inodes_per_group == 0 || self.blocks_per_group == 0 {
            return Err(Error::invalid("empty block groups"));
        }
        if !self.descriptor_size.is_power_of_two() || !(32..=1024).contains(&self.descriptor_size) {
            return Err(Error::invalid(format!(
                "group descriptors of {} bytes",
                self.descriptor_size
            )));
        }
        if self.first_data_block > 1 {
            return Err(Error::invalid(format!(
                "first data block {}",
                self.first_data_block
            )));
        }
        Ok(())
    }

    /// True when the journal holds changes that the filesystem does not.
    pub fn needs_recovery(&self) -> bool {
        self.incompat & INCOMPAT_RECOVER != 0
    }

    /// True when entries of folders have a file type byte instead of a long name length.
    pub(super) fn has_file_types(&self) -> bool {
        self.incompat & INCOMPAT_FILETYPE != 0
    }

    /// True when a bit of a block bitmap stands for several blocks.
    pub(super) fn has_clusters(&self) -> bool {
        self.ro_compat & RO_COMPAT_BIGALLOC != 0
    }

    /// The blocks of each group.
    pub(super) fn groups(&self) -> impl Iterator<Item = Range<u64>> {
        let (end, step) = (self.blocks, self.blocks_per_group);
        let mut start = self.first_data_block;
        std::iter::from_fn(move || {
            let group = start..start.saturating_add(step).min(end);
            start = group.end;
            (!group.is_empty()).then_some(group)
        })
    }

    /// First block of the inode table of a group.
    pub(super) fn inode_table(&self, fs: &Ext4, group: u32) -> Result<u64> {
        let descriptor = self.descriptor(fs, group.into())?;
        let high = if self.descriptor_size >= 64 {
            u64::from(descriptor.le32(0x28)?)
        } else {
            0
        };
        Ok(high << 32 | u64::from(descriptor.le32(0x8)?))
    }

    /// The descriptor of a group.
    pub(super) fn descriptor(&self, fs: &Ext4, group: u64) -> Result<Vec<u8>> {
        let per_block = self.block_size / self.descriptor_size;
        let (meta, within) = (group / per_block, group % per_block);
        let block = if self.incompat & INCOMPAT_META_BG != 0 && meta >= self.first_meta_bg {
            let first_group = meta * per_block;
            let skip = u64::from(self.has_backup(first_group));
            self.first_data_block + first_group * self.blocks_per_group + skip
        } else {
            self.first_data_block + 1 + meta
        };
        let mut descriptor = vec![0u8; index(self.descriptor_size)];
        fs.read_block(block, &mut descriptor, within * self.descriptor_size)?;
        Ok(descriptor)
    }

    /// True when a group begins with a copy of the superblock.
    fn has_backup(&self, group: u64) -> bool {
        if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            return group == 0 || self.backup_groups.iter().any(|&g| u64::from(g) == group);
        }
        if self.ro_compat & RO_COMPAT_SPARSE_SUPER == 0 || group <= 1 {
            return true;
        }
        let is_power = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group % 2 == 1 && (is_power(3) || is_power(5) || is_power(7))
    }
}
