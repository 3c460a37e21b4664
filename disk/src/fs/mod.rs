//! Filesystems read from a disk without mounting it.

pub mod cache;
pub mod ext4;
pub mod fat;
mod identity;
mod tree;
mod walk;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use cache::CachedReader;
pub use identity::Identity;
pub use tree::{Tree, Unread};
pub use walk::{Change, DiffOptions, copy_out, copy_to, diff, walk};

use crate::table::{Partition, PartitionTable};
use crate::{DiskReader, Error, Result, Window};

/// Identity of a file inside of its filesystem: the inode number where there are inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Regular file.
    File,
    /// Folder.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character device with its major and minor number.
    CharDevice(u32, u32),
    /// Block device with its major and minor number.
    BlockDevice(u32, u32),
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

/// A file's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Identity.
    pub id: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits with set-id and sticky, without the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content.
    pub size: u64,
    /// Last change of the content, seconds since 1970.
    pub mtime: i64,
    /// Names that it has.
    pub links: u32,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name as stored; never empty, without `/` and NUL.
    pub name: Vec<u8>,
    /// The file.
    pub id: NodeId,
}

/// An extended attribute: full name with its namespace, and value as the kernel would give it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Such as `security.capability`.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// A filesystem that can be looked into.
pub trait FileSystem: Send + Sync {
    /// The root folder.
    fn root(&self) -> NodeId;
    /// Attributes of a file.
    fn node(&self, id: NodeId) -> Result<Node>;
    /// Entries of a folder, without `.` and `..`, in the order of storage.
    fn read_dir(&self, node: &Node) -> Result<Vec<Entry>>;
    /// Target of a symbolic link.
    fn read_link(&self, node: &Node) -> Result<Vec<u8>>;
    /// Extended attributes, sorted by name.
    fn xattrs(&self, node: &Node) -> Result<Vec<Xattr>>;
    /// Opens a regular file for reading.
    fn open(&self, node: &Node) -> Result<Box<dyn FileData + '_>>;
    /// Free and total bytes.
    fn space(&self) -> (u64, u64);
    /// Hands each stretch of free space that the filesystem has used to `sink`, in bytes of the volume, neighbours joined.
    /// False, and nothing is handed out, where that is not known of this filesystem.
    fn free_space(&self, sink: &mut dyn FnMut(Range<u64>) -> Result<()>) -> Result<bool> {
        let _ = sink;
        Ok(false)
    }
    /// What is mounted in it and could not be looked into.
    fn unread(&self) -> &[Unread] {
        &[]
    }
}

/// The content of one file.
pub trait FileData: Send {
    /// Bytes.
    fn size(&self) -> u64;
    /// Fills the buffer from `offset`; reading past the end is an error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;
}

/// What a partition, or a whole disk, holds, told by its signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FsKind {
    /// ext2, ext3 or ext4.
    Ext,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// Swap space.
    Swap,
    /// LVM physical volume.
    Lvm,
    /// LUKS container.
    Luks,
    /// Linux software RAID member.
    Raid,
    /// SquashFS.
    Squashfs,
    /// ISO 9660.
    Iso9660,
    /// NTFS.
    Ntfs,
    /// None of the known ones.
    Unknown,
}

impl FsKind {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Fat => "fat",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Swap => "swap",
            Self::Lvm => "LVM",
            Self::Luks => "LUKS",
            Self::Raid => "RAID",
            Self::Squashfs => "squashfs",
            Self::Iso9660 => "iso9660",
            Self::Ntfs => "ntfs",
            Self::Unknown => "unknown",
        }
    }

    /// Looks at the signatures of a volume.
    pub fn detect(volume: &dyn DiskReader) -> Result<Self> {
        let at = |offset: u64, magic: &[u8]| -> Result<bool> {
            if volume.virtual_size() < offset + crate::bytes::len64(magic.len()) {
                return Ok(false);
            }
            let mut found = vec![0; magic.len()];
            volume.read_at(&mut found, offset)?;
            Ok(found == magic)
        };
        // Containers first: what is inside of them may begin at the same place.
        let signatures: &[(u64, &[u8], Self)] = &[
            (0, b"LUKS\xba\xbe", Self::Luks),
            (512, b"LABELONE", Self::Lvm),
            (0, b"LABELONE", Self::Lvm),
            (4096, &[0xfc, 0x4e, 0x2b, 0xa9], Self::Raid),
            (0, b"XFSB", Self::Xfs),
            (0x1_0040, b"_BHRfS_M", Self::Btrfs),
            (1080, &[0x53, 0xef], Self::Ext),
            (4086, b"SWAPSPACE2", Self::Swap),
            (0, b"hsqs", Self::Squashfs),
            (0x8001, b"CD001", Self::Iso9660),
            (3, b"NTFS    ", Self::Ntfs),
            (54, b"FAT", Self::Fat),
            (82, b"FAT32", Self::Fat),
        ];
        for (offset, magic, kind) in signatures {
            if at(*offset, magic)? {
                return Ok(*kind);
            }
        }
        Ok(Self::Unknown)
    }
}

impl fmt::Display for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A part of a disk with what is in it.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The partition; `None` when the filesystem begins at the first byte of the disk.
    pub partition: Option<Partition>,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// What it holds.
    pub kind: FsKind,
}

impl Volume {
    /// Lists the partitions of a disk with what they hold; a disk without a table is one volume.
    pub fn list(disk: &dyn DiskReader) -> Result<Vec<Self>> {
        let table = PartitionTable::read(disk)?;
        if table.partitions.is_empty() {
            let kind = FsKind::detect(disk)?;
            return Ok(vec![Self {
                partition: None,
                start: 0,
                length: disk.virtual_size(),
                kind,
            }]);
        }
        table
            .partitions
            .into_iter()
            .filter(|p| {
                p.start
                    .checked_add(p.length)
                    .is_some_and(|end| end <= disk.virtual_size())
            })
            .map(|partition| {
                let (start, length) = (partition.start, partition.length);
                let kind = FsKind::detect(&Window::new(disk, start, length)?)?;
                Ok(Self {
                    partition: Some(partition),
                    start,
                    length,
                    kind,
                })
            })
            .collect()
    }

    /// Opens the filesystem.
    pub fn open(&self, disk: Arc<dyn DiskReader>) -> Result<Box<dyn FileSystem>> {
        let window: Arc<dyn DiskReader> = Arc::new(Window::new(disk, self.start, self.length)?);
        match self.kind {
            FsKind::Ext => Ok(Box::new(ext4::Ext4::open(window)?)),
            FsKind::Fat => Ok(Box::new(fat::Fat::open(window)?)),
            kind => Err(Error::unsupported(format!("reading a {kind} filesystem"))),
        }
    }
}

/// Follows a path from the root. Symbolic links are followed inside of the filesystem only: an absolute target begins
/// at its root, and `..` never leaves it.
pub fn resolve(fs: &dyn FileSystem, path: &[u8], follow_last: bool) -> Result<Node> {
    /// Linux gives up at 40.
    const MAX_LINKS: u32 = 40;
    let shown = String::from_utf8_lossy(path).into_owned();
    let mut todo: Vec<Vec<u8>> = split(path);
    todo.reverse();
    let mut trail = vec![fs.node(fs.root())?];
    let mut links = 0;
    while let Some(name) = todo.pop() {
        let Some(folder) = trail.last() else { break };
        if folder.kind != NodeKind::Directory {
            return Err(Error::not_found(format!(
                "{shown}: a part of the path is no folder"
            )));
        }
        if name == b".." {
            if trail.len() > 1 {
                trail.pop();
            }
            continue;
        }
        let entry = fs.read_dir(folder)?.into_iter().find(|e| e.name == name);
        let Some(entry) = entry else {
            return Err(Error::not_found(format!("{shown}: no such file")));
        };
        let node = fs.node(entry.id)?;
        if node.kind == NodeKind::Symlink && (follow_last || !todo.is_empty()) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::invalid(format!("{shown}: too many symbolic links")));
            }
            let target = fs.read_link(&node)?;
            if target.starts_with(b"/") {
                trail.truncate(1);
            }
            todo.extend(split(&target).into_iter().rev());
        } else {
            trail.push(node);
        }
    }
    trail.pop().ok_or_else(|| Error::not_found(shown))
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|p| !p.is_empty() && *p != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Reads a whole file of at most `limit` bytes.
pub fn read_file(fs: &dyn FileSystem, path: &str, limit: u64) -> Result<Vec<u8>> {
    let node = resolve(fs, path.as_bytes(), true)?;
    if node.kind != NodeKind::File {
        return Err(Error::not_found(format!("{path}: no regular file")));
    }
    if node.size > limit {
        return Err(Error::limit(format!(
            "{path}: {} bytes; at most {limit} are read",
            node.size
        )));
    }
    let mut content = vec![0; crate::bytes::index(node.size)];
    fs.open(&node)?.read_at(&mut content, 0)?;
    Ok(content)
}

/// Finds the root filesystem of a disk: the one that has `/etc` with an `os-release` or an `fstab`.
pub fn find_root(disk: &Arc<dyn DiskReader>) -> Result<(Volume, Box<dyn FileSystem>)> {
    let volumes = Volume::list(disk)?;
    let mut seen = Vec::new();
    for volume in volumes {
        let number = volume.partition.as_ref().map_or(0, |p| p.number);
        seen.push(format!("{number}: {}", volume.kind));
        if volume.kind != FsKind::Ext {
            continue;
        }
        let fs = volume.open(Arc::clone(disk))?;
        let has = |path: &str| resolve(&*fs, path.as_bytes(), true).is_ok();
        if has("/etc/os-release") || has("/etc/fstab") || has("/usr/lib/os-release") {
            return Ok((volume, fs));
        }
    }
    Err(Error::not_found(format!(
        "no root filesystem that can be read; partitions: {}",
        seen.join(", ")
    )))
}
