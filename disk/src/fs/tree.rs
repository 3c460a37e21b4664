//! The files of a disk as the running system sees them: its root filesystem, and what `/etc/fstab` mounts into it from
//! the same disk.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Entry, FileData, FileSystem, FsKind, Identity, Node, NodeId, NodeKind, Volume, Xattr,
    find_root, read_file, resolve,
};
use crate::table::PartitionTable;
use crate::{DiskReader, Error, ErrorKind, Result, Window};

/// Where the volume stands in an identity; below it is the identity within the volume.
const VOLUME_SHIFT: u32 = 56;
/// Lines of `/etc/fstab` that are followed; nobody has more, and each costs a look.
const MOST_MOUNTS: usize = 64;
/// No `/etc/fstab` is larger.
const LARGEST_FSTAB: u64 = 1 << 20;

/// A place at which something is mounted that could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Where, such as `/var`.
    pub at: String,
    /// Why not, for people.
    pub why: String,
}

/// Several filesystems of one disk as one.
pub struct Tree {
    /// The root's first.
    parts: Vec<Part>,
    /// By the folder on which it is mounted, which part.
    mounts: HashMap<NodeId, usize>,
    unread: Vec<Unread>,
}

struct Part {
    volume: Volume,
    fs: Box<dyn FileSystem>,
}

impl Tree {
    /// Opens the root filesystem of a disk and what is mounted in it. What can't be opened is listed in [`FileSystem::unread`].
    ///
    /// # Errors
    /// As [`find_root`], and if `/etc/fstab` or the partition table is damaged.
    pub fn open(disk: &Arc<dyn DiskReader>) -> Result<Self> {
        Self::with(disk, &|_| true)
    }

    /// The same, with no other kinds of filesystems than those wanted beside the root's.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with(disk: &Arc<dyn DiskReader>, wanted: &dyn Fn(FsKind) -> bool) -> Result<Self> {
        let (volume, fs) = find_root(disk)?;
        let mut tree = Self {
            parts: vec![Part { volume, fs }],
            mounts: HashMap::new(),
            unread: Vec::new(),
        };
        let fstab = match read_file(&tree, "/etc/fstab", LARGEST_FSTAB) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(tree),
            Err(error) => return Err(error),
        };
        let mut lines: Vec<Line> = String::from_utf8_lossy(&fstab)
            .lines()
            .filter_map(Line::parse)
            .take(MOST_MOUNTS)
            .collect();
        // Nearer to the root first, as they are mounted.
        lines.sort_by_key(|line| line.at.matches('/').count());
        let volumes = Named::list(disk)?;
        for line in lines {
            tree.mount(disk, &volumes, &line, wanted);
        }
        Ok(tree)
    }

    fn mount(
        &mut self,
        disk: &Arc<dyn DiskReader>,
        volumes: &[Named],
        line: &Line,
        wanted: &dyn Fn(FsKind) -> bool,
    ) {
        let Some(found) = volumes.iter().find(|volume| volume.is(&line.source)) else {
            // Another disk is not copied with this one; what lies in a container of this one is.
            if let Some(container) = volumes.iter().find(|named| named.is_container()) {
                self.unread.push(Unread {
                    at: line.at.clone(),
                    why: format!("{} may lie in {}", line.source, container.volume.kind),
                });
            }
            return;
        };
        // Once is enough to see all of it, and a guest must not make us look many times.
        let is_there = |part: &Part| part.volume.start == found.volume.start;
        if self.parts.iter().any(is_there) || !wanted(found.volume.kind) {
            return;
        }
        let mounted = found.volume.open(Arc::clone(disk)).and_then(|fs| {
            let folder = resolve(self, line.at.as_bytes(), true)?;
            if folder.kind != NodeKind::Directory {
                return Err(Error::not_found(format!("{} is no folder", line.at)));
            }
            Ok((folder.id, fs))
        });
        match mounted {
            Ok((folder, fs)) => {
                self.mounts.insert(folder, self.parts.len());
                self.parts.push(Part {
                    volume: found.volume.clone(),
                    fs,
                });
            }
            Err(error) => self.unread.push(Unread {
                at: line.at.clone(),
                why: match error.kind() {
                    ErrorKind::Unsupported => format!("{} is not supported", found.volume.kind),
                    _ => error.to_string(),
                },
            }),
        }
    }

    /// The volumes with their filesystems, the root's first.
    pub fn volumes(&self) -> impl Iterator<Item = (&Volume, &dyn FileSystem)> {
        self.parts.iter().map(|part| (&part.volume, &*part.fs))
    }

    fn part(&self, id: NodeId) -> Result<(usize, &dyn FileSystem, NodeId)> {
        let number = crate::bytes::index(id.0 >> VOLUME_SHIFT);
        let inner = NodeId(id.0 & ((1 << VOLUME_SHIFT) - 1));
        match self.parts.get(number) {
            Some(part) => Ok((number, &*part.fs, inner)),
            None => Err(Error::invalid(format!("there is no file {}", id.0))),
        }
    }

    /// The part of a node, and the node as that filesystem knows it.
    fn inner(&self, node: &Node) -> Result<(usize, &dyn FileSystem, Node)> {
        let (part, fs, id) = self.part(node.id)?;
        Ok((part, fs, Node { id, ..node.clone() }))
    }
}

/// The identity within the whole of a file of one part.
fn outer(part: usize, id: NodeId) -> Result<NodeId> {
    if id.0 >> VOLUME_SHIFT != 0 {
        return Err(Error::limit(format!("a file has the number {}", id.0)));
    }
    Ok(NodeId(crate::bytes::len64(part) << VOLUME_SHIFT | id.0))
}

impl FileSystem for Tree {
    fn root(&self) -> NodeId {
        // The first part's identities are the same within the whole.
        self.parts[0].fs.root()
    }

    fn node(&self, id: NodeId) -> Result<Node> {
        if let Some(&part) = self.mounts.get(&id) {
            let fs = &self.parts[part].fs;
            let node = fs.node(fs.root())?;
            return Ok(Node {
                id: outer(part, node.id)?,
                ..node
            });
        }
        let (part, fs, id) = self.part(id)?;
        let node = fs.node(id)?;
        Ok(Node {
            id: outer(part, node.id)?,
            ..node
        })
    }

    fn read_dir(&self, node: &Node) -> Result<Vec<Entry>> {
        let (part, fs, node) = self.inner(node)?;
        fs.read_dir(&node)?
            .into_iter()
            .map(|entry| {
                Ok(Entry {
                    id: outer(part, entry.id)?,
                    name: entry.name,
                })
            })
            .collect()
    }

    fn read_link(&self, node: &Node) -> Result<Vec<u8>> {
        let (_, fs, node) = self.inner(node)?;
        fs.read_link(&node)
    }

    fn xattrs(&self, node: &Node) -> Result<Vec<Xattr>> {
        let (_, fs, node) = self.inner(node)?;
        fs.xattrs(&node)
    }

    fn open(&self, node: &Node) -> Result<Box<dyn FileData + '_>> {
        let (_, fs, node) = self.inner(node)?;
        fs.open(&node)
    }

    fn space(&self) -> (u64, u64) {
        self.parts[0].fs.space()
    }

    fn unread(&self) -> &[Unread] {
        &self.unread
    }
}

/// What a line of `/etc/fstab` says of a mount from a disk.
struct Line {
    source: String,
    at: String,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let source = fields.next().filter(|source| !source.starts_with('#'))?;
        let at = unescaped(fields.next()?);
        let options = fields.nth(1).unwrap_or_default();
        let is_disk = source.starts_with("/dev/") || source.contains('=');
        let is_bind = options
            .split(',')
            .any(|option| matches!(option, "bind" | "rbind"));
        // The root is where we are already; swap is mounted on `none`.
        let is_place = at.starts_with('/') && at != "/";
        (is_disk && !is_bind && is_place).then(|| Self {
            source: unescaped(source),
            at,
        })
    }
}

/// Spaces and the like stand as three octal digits behind a backslash.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A volume with all names by which `/etc/fstab` may call it.
struct Named {
    volume: Volume,
    identity: Identity,
    /// `PARTUUID` of an MBR's partition comes from the disk's signature.
    partition_uuid: String,
}

impl Named {
    fn list(disk: &Arc<dyn DiskReader>) -> Result<Vec<Self>> {
        let table = PartitionTable::read(disk)?;
        Volume::list(disk)?
            .into_iter()
            .map(|volume| {
                let window = Window::new(disk, volume.start, volume.length)?;
                // A volume whose names can't be read has none.
                let identity = Identity::read(&window, volume.kind).unwrap_or_default();
                let partition_uuid = match &volume.partition {
                    None => String::new(),
                    Some(partition) => partition.guid.as_ref().map_or_else(
                        || format!("{}-{:02x}", table.disk_id, partition.number),
                        ToString::to_string,
                    ),
                };
                Ok(Self {
                    volume,
                    identity,
                    partition_uuid,
                })
            })
            .collect()
    }

    fn is(&self, source: &str) -> bool {
        const TAGS: [(&str, &str); 4] = [
            ("UUID=", "/dev/disk/by-uuid/"),
            ("LABEL=", "/dev/disk/by-label/"),
            ("PARTUUID=", "/dev/disk/by-partuuid/"),
            ("PARTLABEL=", "/dev/disk/by-partlabel/"),
        ];
        let partition = self.volume.partition.as_ref();
        let names = [
            self.identity.uuid.as_str(),
            &self.identity.label,
            &self.partition_uuid,
            partition.map_or("", |partition| &partition.name),
        ];
        for ((tag, folder), name) in TAGS.iter().zip(names) {
            let by_tag = source.strip_prefix(tag);
            if let Some(wanted) = by_tag.or_else(|| source.strip_prefix(folder)) {
                return !name.is_empty() && wanted.trim_matches('"').eq_ignore_ascii_case(name);
            }
        }
        // The first disk, whatever drives it.
        let number = ["sda", "vda", "xvda", "hda", "nvme0n1p", "mmcblk0p"]
            .iter()
            .find_map(|disk| source.strip_prefix("/dev/")?.strip_prefix(disk));
        match (number, partition) {
            (Some(number), Some(partition)) => number == partition.number.to_string(),
            _ => false,
        }
    }

    fn is_container(&self) -> bool {
        matches!(self.volume.kind, FsKind::Lvm | FsKind::Luks | FsKind::Raid)
    }
}
