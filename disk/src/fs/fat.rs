//! FAT12, FAT16 and FAT32 with long names, read only: EFI system partitions and seed disks.
//!
//! By Microsoft's "FAT32 File System Specification", version 1.03.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{CachedReader, Entry, FileData, FileSystem, Node, NodeId, NodeKind, Xattr};
use crate::bytes::{Fields, index, len64};
use crate::{DiskReader, Error, Result};

/// An open FAT filesystem.
pub struct Fat {
    disk: CachedReader,
    cluster_size: u64,
    data_start: u64,
    clusters: u32,
    /// Next cluster of each, or the end mark.
    table: Vec<u32>,
    root: Place,
    /// What entries said about their files; FAT keeps attributes in folders only.
    known: Mutex<HashMap<u64, Known>>,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The root folder of FAT12 and FAT16: offset and bytes.
    Fixed(u64, u64),
    /// A chain of clusters; 0 for an empty file.
    Chain(u32),
}

#[derive(Debug, Clone, Copy)]
struct Known {
    cluster: u32,
    size: u64,
    is_dir: bool,
    is_read_only: bool,
    mtime: i64,
}

const ROOT: NodeId = NodeId(0);
/// The end of a chain, whatever the width of the table's entries.
const END: u32 = u32::MAX;
/// The specification's bound on the entries of a folder is 65536.
const MAX_FOLDER: u64 = 65_536 * 32;
/// A table of FAT32 for 256 GiB in 32 KiB clusters; system partitions and seeds are smaller by far.
const MAX_TABLE: u64 = 32 << 20;

impl Fat {
    /// Reads the boot sector and the allocation table.
    pub fn open(disk: Arc<dyn DiskReader>) -> Result<Self> {
        let mut boot = [0u8; 512];
        disk.read_at(&mut boot, 0)?;
        let boot = boot.as_slice();
        let bytes_per_sector = u64::from(boot.le16(11)?);
        let sectors_per_cluster = u64::from(boot.byte(13)?);
        if !matches!(bytes_per_sector, 512 | 1024 | 2048 | 4096)
            || !sectors_per_cluster.is_power_of_two()
        {
            return Err(Error::invalid(format!(
                "FAT with sectors of {bytes_per_sector} bytes, {sectors_per_cluster} to a cluster"
            )));
        }
        let reserved = u64::from(boot.le16(14)?);
        let tables = u64::from(boot.byte(16)?);
        let root_entries = u64::from(boot.le16(17)?);
        let total = match boot.le16(19)? {
            0 => u64::from(boot.le32(32)?),
            small => u64::from(small),
        };
        let table_sectors = match boot.le16(22)? {
            0 => u64::from(boot.le32(36)?),
            small => u64::from(small),
        };
        let root_sectors = (root_entries * 32).div_ceil(bytes_per_sector);
        let first_data = reserved + tables * table_sectors + root_sectors;
        let clusters = total
            .checked_sub(first_data)
            .map(|sectors| sectors / sectors_per_cluster)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|&n| n < 0x0fff_fff5)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "FAT of {total} sectors with data from sector {first_data}"
                ))
            })?;
        let table_bytes = table_sectors * bytes_per_sector;
        if reserved == 0 || tables == 0 || table_bytes > MAX_TABLE {
            return Err(Error::invalid(format!(
                "FAT with {tables} tables of {table_bytes} bytes"
            )));
        }
        let bits = match clusters {
            0..4085 => 12,
            4085..65_525 => 16,
            _ => 32,
        };
        let raw = crate::reader::read_vec(&*disk, reserved * bytes_per_sector, table_bytes)?;
        let table = decode_table(&raw, bits, clusters);
        let root = if bits == 32 {
            Place::Chain(boot.le32(44)?)
        } else {
            Place::Fixed(
                (reserved + tables * table_sectors) * bytes_per_sector,
                root_entries * 32,
            )
        };
        Ok(Self {
            disk: CachedReader::new(disk),
            cluster_size: sectors_per_cluster * bytes_per_sector,
            data_start: first_data * bytes_per_sector,
            clusters,
            table,
            root,
            known: Mutex::default(),
        })
    }

    /// The clusters of a chain, at most so many.
    fn chain(&self, first: u32, most: u64) -> Result<Vec<u32>> {
        let mut chain = Vec::new();
        let mut next = first;
        while next != END && len64(chain.len()) < most {
            if next < 2 || next - 2 >= self.clusters {
                return Err(Error::invalid(format!(
                    "cluster {next} of {}",
                    self.clusters
                )));
            }
            chain.push(next);
            if chain.len() > index(self.clusters.into()) {
                return Err(Error::invalid("a chain of clusters loops"));
            }
            next = self.table.get(index(next.into())).copied().unwrap_or(END);
        }
        Ok(chain)
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.data_start + u64::from(cluster - 2) * self.cluster_size
    }

    fn folder_bytes(&self, place: Place) -> Result<Vec<u8>> {
        match place {
            Place::Fixed(offset, length) => crate::reader::read_vec(&self.disk, offset, length),
            Place::Chain(first) => {
                let mut bytes = Vec::new();
                for cluster in self.chain(first, MAX_FOLDER.div_ceil(self.cluster_size))? {
                    let start = bytes.len();
                    bytes.resize(start + index(self.cluster_size), 0);
                    self.disk
                        .read_at(&mut bytes[start..], self.offset(cluster))?;
                }
                Ok(bytes)
            }
        }
    }

    fn known(&self, id: NodeId) -> Result<Known> {
        let known = self
            .known
            .lock()
            .ok()
            .and_then(|known| known.get(&id.0).copied());
        known.ok_or_else(|| Error::not_found(format!("no file {:#x} was listed", id.0)))
    }
}

fn decode_table(raw: &[u8], bits: u32, clusters: u32) -> Vec<u32> {
    let entries = u64::from(clusters) + 2;
    (0..entries)
        .map_while(|i| {
            let value = match bits {
                12 => {
                    let pair = raw.le16(index(i * 3 / 2)).ok()?;
                    u32::from(if i % 2 == 0 { pair & 0xfff } else { pair >> 4 })
                }
                16 => u32::from(raw.le16(index(i * 2)).ok()?),
                _ => raw.le32(index(i * 4)).ok()? & 0x0fff_ffff,
            };
            let end = match bits {
                12 => 0xff8,
                16 => 0xfff8,
                _ => 0x0fff_fff8,
            };
            Some(if value >= end { END } else { value })
        })
        .collect()
}

const ATTRIBUTE_READ_ONLY: u8 = 0x01;
const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
const DELETED: u8 = 0xe5;

/// Parts of a long name, gathered from the entries in front of the short one.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    checksum: Option<u8>,
}

impl LongName {
    fn push(&mut self, entry: &[u8]) -> Result<()> {
        let (order, checksum) = (entry.byte(0)?, entry.byte(13)?);
        if order & 0x40 != 0 || self.checksum != Some(checksum) {
            self.units.clear();
            self.checksum = Some(checksum);
        }
        let mut part = Vec::with_capacity(13);
        for at in [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30] {
            part.push(entry.le16(at)?);
        }
        // Entries come last part first.
        part.extend(std::mem::take(&mut self.units));
        self.units = part;
        Ok(())
    }

    fn take(&mut self, short: &[u8]) -> Option<String> {
        let units = std::mem::take(&mut self.units);
        let checksum = self.checksum.take()?;
        let computed = short
            .iter()
            .fold(0u8, |sum, &b| sum.rotate_right(1).wrapping_add(b));
        if computed != checksum || units.is_empty() {
            return None;
        }
        let end = units.iter().position(|&u| u == 0).unwrap_or(units.len());
        Some(String::from_utf16_lossy(&units[..end]))
    }
}

/// `NAME    EXT` as `NAME.EXT`, in the case that the entry's flags give it.
fn short_name(entry: &[u8]) -> String {
    let flags = entry.get(12).copied().unwrap_or(0);
    let part = |range: std::ops::Range<usize>, lower: bool| -> String {
        let bytes = entry.get(range).unwrap_or_default();
        let text: String = bytes
            .iter()
            .map(|&b| if b.is_ascii() { char::from(b) } else { '_' })
            .collect();
        let text = text.trim_end();
        if lower {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let (base, extension) = (
        part(0..8, flags & 0x08 != 0),
        part(8..11, flags & 0x10 != 0),
    );
    if extension.is_empty() {
        base
    } else {
        format!("{base}.{extension}")
    }
}

/// DOS date and time, taken as UTC.
fn mtime(date: u16, time: u16) -> i64 {
    let (year, month, day) = (
        1980 + i64::from(date >> 9),
        i64::from(date >> 5 & 15),
        i64::from(date & 31),
    );
    // Days since 1970 by Hinnant's algorithm, years beginning in March.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let of_era = year.rem_euclid(400) * 365 + year.rem_euclid(400) / 4 - year.rem_euclid(400) / 100
        + of_year;
    let days = year.div_euclid(400) * 146_097 + of_era - 719_468;
    days * 86_400
        + i64::from(time >> 11) * 3600
        + i64::from(time >> 5 & 63) * 60
        + i64::from(time & 31) * 2
}

impl FileSystem for Fat {
    fn root(&self) -> NodeId {
        ROOT
    }

    fn node(&self, id: NodeId) -> Result<Node> {
        if id == ROOT {
            return Ok(Node {
                id,
                kind: NodeKind::Directory,
                mode: 0o755,
                uid: 0,
                gid: 0,
                size: 0,
                mtime: 0,
                links: 1,
            });
        }
        let known = self.known(id)?;
        let (kind, mode) = if known.is_dir {
            (NodeKind::Directory, 0o755)
        } else {
            (NodeKind::File, 0o644)
        };
        let mode = if known.is_read_only {
            mode & !0o222
        } else {
            mode
        };
        Ok(Node {
            id,
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: known.size,
            mtime: known.mtime,
            links: 1,
        })
    }

    fn read_dir(&self, node: &Node) -> Result<Vec<Entry>> {
        let place = if node.id == ROOT {
            self.root
        } else {
            Place::Chain(self.known(node.id)?.cluster)
        };
        let bytes = self.folder_bytes(place)?;
        let mut entries = Vec::new();
        let mut long = LongName::default();
        for (i, entry) in bytes.chunks_exact(32).enumerate() {
            let attributes = entry.byte(11)?;
            match entry.byte(0)? {
                0 => break,
                DELETED => {
                    long = LongName::default();
                    continue;
                }
                _ if attributes & 0x3f == ATTRIBUTE_LONG_NAME => {
                    long.push(entry)?;
                    continue;
                }
                _ => {}
            }
            let name = long.take(&entry[..11]).unwrap_or_else(|| short_name(entry));
            if attributes & ATTRIBUTE_LABEL != 0 || matches!(name.as_str(), "." | ".." | "") {
                continue;
            }
            if name.contains('/') || name.contains('\0') {
                return Err(Error::invalid(format!("name {name:?}")));
            }
            let cluster = u32::from(entry.le16(20)?) << 16 | u32::from(entry.le16(26)?);
            let is_dir = attributes & ATTRIBUTE_DIRECTORY != 0;
            // An empty file has no cluster: its place in the folder makes an identity that no other file has.
            let id = match (cluster, place) {
                (0, Place::Fixed(..)) => 1 << 63 | len64(i),
                (0, Place::Chain(folder)) => 1 << 63 | u64::from(folder) << 24 | len64(i),
                (cluster, _) => u64::from(cluster),
            };
            let known = Known {
                cluster: if cluster == 0 { END } else { cluster },
                size: if is_dir { 0 } else { entry.le32(28)?.into() },
                is_dir,
                is_read_only: attributes & ATTRIBUTE_READ_ONLY != 0,
                mtime: mtime(entry.le16(24)?, entry.le16(22)?),
            };
            if let Ok(mut all) = self.known.lock() {
                all.insert(id, known);
            }
            entries.push(Entry {
                name: name.into_bytes(),
                id: NodeId(id),
            });
        }
        Ok(entries)
    }

    fn read_link(&self, _: &Node) -> Result<Vec<u8>> {
        Err(Error::invalid("FAT has no symbolic links"))
    }

    fn xattrs(&self, _: &Node) -> Result<Vec<Xattr>> {
        Ok(Vec::new())
    }

    fn open(&self, node: &Node) -> Result<Box<dyn FileData + '_>> {
        let known = self.known(node.id)?;
        if known.is_dir {
            return Err(Error::invalid("a folder has no content"));
        }
        let needed = known.size.div_ceil(self.cluster_size);
        let chain = self.chain(known.cluster, needed)?;
        if len64(chain.len()) < needed {
            return Err(Error::invalid(format!(
                "a file of {} bytes has only {} clusters",
                known.size,
                chain.len()
            )));
        }
        Ok(Box::new(Content {
            fs: self,
            chain,
            size: known.size,
        }))
    }

    fn space(&self) -> (u64, u64) {
        let free = self.table.iter().skip(2).filter(|&&next| next == 0).count();
        (
            len64(free) * self.cluster_size,
            u64::from(self.clusters) * self.cluster_size,
        )
    }
}

struct Content<'a> {
    fs: &'a Fat,
    chain: Vec<u32>,
    size: u64,
}

impl FileData for Content<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        crate::reader::check_bounds(self.size, buffer.len(), offset)?;
        let size = self.fs.cluster_size;
        let (mut rest, mut at) = (buffer, offset);
        while !rest.is_empty() {
            let cluster = self.chain.get(index(at / size)).copied().unwrap_or(2);
            let take = index((size - at % size).min(len64(rest.len())));
            let (now, later) = rest.split_at_mut(take);
            self.fs
                .disk
                .read_at(now, self.fs.offset(cluster) + at % size)?;
            rest = later;
            at += len64(take);
        }
        Ok(())
    }
}
