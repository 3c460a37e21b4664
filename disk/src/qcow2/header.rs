//! The qcow2 header and its extensions.

use std::fs::File;

use crate::bytes::{Fields, index, len64};
use crate::raw::read_padded;
use crate::{Error, Result};

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate with a window of 4 KiB.
    Zlib,
    /// Zstandard frames.
    Zstd,
}

/// The fields of a header that reading needs.
#[derive(Debug, Clone)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Binary logarithm of the cluster size; 9 to 21.
    pub cluster_bits: u32,
    /// Virtual size in bytes.
    pub size: u64,
    /// Entries of the L1 table.
    pub l1_entries: u64,
    /// Host offset of the L1 table.
    pub l1_offset: u64,
    /// Compression of compressed clusters.
    pub compression: Compression,
    /// True when L2 entries carry a bitmap of 32 subclusters.
    pub extended_l2: bool,
    /// Name of the backing file.
    pub backing_file: Option<String>,
    /// Format of the backing file as the header extension names it.
    pub backing_format: Option<String>,
    /// Internal snapshots.
    pub snapshots: u32,
    /// True when reference counts may be stale after a crash; reading does not use them.
    pub dirty: bool,
}

const INCOMPATIBLE_DIRTY: u64 = 1;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;

/// QEMU's own bound on the L1 table; with 64 KiB clusters it covers 2 PiB.
const MAX_L1_BYTES: u64 = 32 << 20;
/// The format's bound on the name of the backing file.
const MAX_BACKING_NAME: u32 = 1023;

impl Header {
    /// Cluster size in bytes.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of one L2 entry.
    pub(crate) fn l2_entry_size(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Binary logarithm of the entries of one L2 table.
    pub(crate) fn l2_bits(&self) -> u32 {
        self.cluster_bits - if self.extended_l2 { 4 } else { 3 }
    }

    /// Reads and checks a header.
    pub(crate) fn read(file: &File, length: u64) -> Result<Self> {
        let mut head = vec![0u8; 104];
        read_padded(file, &mut head, 0, length)?;
        let head = head.as_slice();
        if head.be32(0)? != super::MAGIC {
            return Err(Error::invalid("no qcow2 magic in the first bytes"));
        }
        let version = head.be32(4)?;
        if !(2..=3).contains(&version) {
            return Err(Error::unsupported(format!("qcow2 version {version}")));
        }
        let cluster_bits = head.be32(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(Error::invalid(format!(
                "cluster size of 2^{cluster_bits} bytes; 2^9 to 2^21 are allowed"
            )));
        }
        if head.be32(32)? != 0 {
            return Err(Error::unsupported("encrypted qcow2"));
        }
        let (features, header_length) = if version == 3 {
            (head.be64(72)?, head.be32(100)?)
        } else {
            (0, 72)
        };
        if features & INCOMPATIBLE_CORRUPT != 0 {
            return Err(Error::invalid("the image is marked as corrupt"));
        }
        if features & INCOMPATIBLE_DATA_FILE != 0 {
            return Err(Error::unsupported("qcow2 with an external data file"));
        }
        let known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_EXTENDED_L2;
        if features & !known != 0 {
            return Err(Error::unsupported(format!(
                "qcow2 with unknown incompatible features {:#x}",
                features & !known
            )));
        }
        if version == 3 && !(104..=4096).contains(&header_length) {
            return Err(Error::invalid(format!(
                "header length of {header_length} bytes"
            )));
        }
        let compression = match Self::compression_type(file, length, features, header_length)? {
            0 => Compression::Zlib,
            1 => Compression::Zstd,
            other => {
                return Err(Error::unsupported(format!(
                    "qcow2 compression type {other}"
                )));
            }
        };
        let extended_l2 = features & INCOMPATIBLE_EXTENDED_L2 != 0;
        if extended_l2 && cluster_bits < 14 {
            return Err(Error::invalid(
                "extended L2 entries need clusters of at least 16 KiB",
            ));
        }
        let size = head.be64(24)?;
        let mut header = Self {
            version,
            cluster_bits,
            size,
            l1_entries: u64::from(head.be32(36)?),
            l1_offset: head.be64(40)?,
            compression,
            extended_l2,
            backing_file: None,
            backing_format: None,
            snapshots: head.be32(60)?,
            dirty: features & INCOMPATIBLE_DIRTY != 0,
        };
        header.check_tables(length)?;
        header.read_extensions(file, length, head.be64(8)?, head.be32(16)?, header_length)?;
        Ok(header)
    }

    fn compression_type(file: &File, length: u64, features: u64, header_length: u32) -> Result<u8> {
        if features & INCOMPATIBLE_COMPRESSION == 0 {
            return Ok(0);
        }
        if header_length < 112 {
            return Err(Error::invalid("header too short for its compression type"));
        }
        let mut byte = [0u8];
        read_padded(file, &mut byte, 104, length)?;
        Ok(byte[0])
    }

    fn check_tables(&self, length: u64) -> Result<()> {
        if self.size > 1 << 62 {
            return Err(Error::limit(format!("virtual size of {} bytes", self.size)));
        }
        let bytes_per_l1 = 1u64 << (self.l2_bits() + self.cluster_bits);
        let needed = self.size.div_ceil(bytes_per_l1);
        if self.l1_entries < needed {
            return Err(Error::invalid(format!(
                "L1 table of {} entries; the size needs {needed}",
                self.l1_entries
            )));
        }
        if self.l1_entries * 8 > MAX_L1_BYTES {
            return Err(Error::limit(format!(
                "L1 table of {} entries",
                self.l1_entries
            )));
        }
        if !self.l1_offset.is_multiple_of(self.cluster_size()) {
            return Err(Error::invalid(format!(
                "L1 table at {:#x} is not aligned to a cluster",
                self.l1_offset
            )));
        }
        if needed > 0
            && self
                .l1_offset
                .checked_add(needed * 8)
                .is_none_or(|end| end > length)
        {
            return Err(Error::invalid(format!(
                "L1 table at {:#x} reaches past the end of the file",
                self.l1_offset
            )));
        }
        Ok(())
    }

    fn read_extensions(
        &mut self,
        file: &File,
        length: u64,
        name_offset: u64,
        name_length: u32,
        header_length: u32,
    ) -> Result<()> {
        // Extensions and the backing name lie in the first cluster, at most 2 MiB.
        let first = self.cluster_size().min(length);
        let mut cluster = vec![0u8; index(first)];
        read_padded(file, &mut cluster, 0, length)?;
        if name_offset != 0 {
            if name_length > MAX_BACKING_NAME {
                return Err(Error::invalid(format!(
                    "backing file name of {name_length} bytes"
                )));
            }
            let name = usize::try_from(name_offset)
                .ok()
                .and_then(|start| cluster.get(start..start.checked_add(index(name_length.into()))?))
                .ok_or_else(|| Error::invalid("backing file name outside of the first cluster"))?;
            let name = std::str::from_utf8(name)
                .map_err(|_| Error::unsupported("backing file name that is no UTF-8"))?;
            if name.is_empty() || name.contains('\0') {
                return Err(Error::invalid("empty backing file name"));
            }
            self.backing_file = Some(name.to_owned());
        }
        let mut at = index(header_length.into());
        let end = if name_offset == 0 {
            cluster.len()
        } else {
            index(name_offset).min(cluster.len())
        };
        // Extensions are optional: a table that runs out of the cluster ends them, as in QEMU.
        while at + 8 <= end {
            let (kind, size) = (cluster.be32(at)?, cluster.be32(at + 4)?);
            if kind == EXTENSION_END {
                break;
            }
            let Some(data) = cluster.get(at + 8..at + 8 + index(size.into())) else {
                return Err(Error::invalid(format!(
                    "header extension {kind:#x} of {size} bytes at {at}"
                )));
            };
            if kind == EXTENSION_BACKING_FORMAT {
                self.backing_format = Some(String::from_utf8_lossy(data).into_owned());
            }
            at += 8 + index(u64::from(size).next_multiple_of(8));
        }
        debug_assert!(len64(at) <= length.saturating_add(1 << 32));
        Ok(())
    }
}
