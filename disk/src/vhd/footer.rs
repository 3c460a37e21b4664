//! The footer, which dynamic disks also have as their first sector.

use sha2::{Digest as _, Sha256};

use crate::bytes::{Fields, SECTOR};
use crate::digest::DiskDigest;
use crate::{Error, Result};

/// Kind of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskType {
    /// Every byte is stored.
    Fixed,
    /// Blocks are stored as they are used.
    Dynamic,
    /// Blocks that are not stored come from a parent.
    Differencing,
}

/// What the footer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Kind of disk.
    pub kind: DiskType,
    /// Bytes of the disk.
    pub size: u64,
    /// Where the dynamic header is.
    pub data_offset: u64,
    /// Program that made the disk.
    pub creator: [u8; 4],
    /// Identity of the disk.
    pub id: [u8; 16],
}

/// One's complement of the sum of all bytes, the checksum's own four left out.
pub(super) fn checksum(bytes: &[u8], at: usize) -> u32 {
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .filter(|(i, _)| !(at..at + 4).contains(i))
        .map(|(_, &b)| u32::from(b))
        .sum();
    !sum
}

const CHECKSUM: usize = 64;

impl Footer {
    /// A footer for a disk; its identity follows from the content, so that two exports are the same.
    pub(super) fn new(kind: DiskType, size: u64, digest: &DiskDigest) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"vhd");
        hash.update(digest.0);
        let hash: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self {
            kind,
            size,
            data_offset: if kind == DiskType::Fixed {
                u64::MAX
            } else {
                SECTOR
            },
            // Readers such as QEMU take the exact size only from programs that they know, and else compute a
            // rounded one from the geometry.
            creator: *b"win ",
            id,
        }
    }

    /// The footer's sector.
    pub(super) fn encode(&self) -> [u8; 512] {
        let mut sector = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"conectix");
        put(8, &2u32.to_be_bytes());
        put(12, &0x0001_0000u32.to_be_bytes());
        put(16, &self.data_offset.to_be_bytes());
        put(28, &self.creator);
        put(32, &0x000a_0000u32.to_be_bytes());
        put(36, b"Wi2k");
        put(40, &self.size.to_be_bytes());
        put(48, &self.size.to_be_bytes());
        put(56, &geometry(self.size / SECTOR));
        let kind: u32 = match self.kind {
            DiskType::Fixed => 2,
            DiskType::Dynamic => 3,
            DiskType::Differencing => 4,
        };
        put(60, &kind.to_be_bytes());
        put(68, &self.id);
        let sum = checksum(&sector, CHECKSUM);
        sector[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_be_bytes());
        sector
    }

    /// Reads a footer and checks it.
    pub fn parse(sector: &[u8]) -> Result<Self> {
        if !sector.starts_with(b"conectix") {
            return Err(Error::invalid("no VHD footer"));
        }
        let (stored, computed) = (sector.be32(CHECKSUM)?, checksum(sector, CHECKSUM));
        if stored != computed {
            return Err(Error::invalid(format!(
                "VHD footer checksum is {stored:08x}, computed {computed:08x}"
            )));
        }
        let kind = match sector.be32(60)? {
            2 => DiskType::Fixed,
            3 => DiskType::Dynamic,
            4 => DiskType::Differencing,
            other => return Err(Error::unsupported(format!("VHD of type {other}"))),
        };
        let size = sector.be64(48)?;
        if size > MAX_PARSED {
            return Err(Error::limit(format!("a VHD of {size} bytes")));
        }
        Ok(Self {
            kind,
            size,
            data_offset: sector.be64(16)?,
            creator: sector.array(28)?,
            id: sector.array(68)?,
        })
    }
}

/// Tables of the format count sectors in 32 bits.
const MAX_PARSED: u64 = SECTOR << 32;

/// Cylinders, heads and sectors by the appendix of the specification.
fn geometry(sectors: u64) -> [u8; 4] {
    let total = sectors.min(65_535 * 16 * 255);
    let (mut per_track, mut heads, mut tracks);
    if total >= 65_535 * 16 * 63 {
        (per_track, heads) = (255, 16);
        tracks = total / per_track;
    } else {
        per_track = 17;
        tracks = total / per_track;
        heads = tracks.div_ceil(1024).max(4);
        if tracks >= heads * 1024 || heads > 16 {
            (per_track, heads) = (31, 16);
            tracks = total / per_track;
        }
        if tracks >= heads * 1024 {
            (per_track, heads) = (63, 16);
            tracks = total / per_track;
        }
    }
    let cylinders = u16::try_from(tracks / heads)
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
    [cylinders[0], cylinders[1], byte(heads), byte(per_track)]
}

/// The sector that makes a raw disk a fixed VHD.
pub(crate) fn fixed_footer(size: u64, digest: &DiskDigest) -> [u8; 512] {
    Footer::new(DiskType::Fixed, size, digest).encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footers_round_trip_and_notice_damage() {
        let footer = Footer::new(DiskType::Dynamic, 5 << 30, &DiskDigest([7; 32]));
        let mut sector = footer.encode();
        assert_eq!(Footer::parse(&sector).unwrap(), footer);
        sector[50] ^= 1;
        assert!(Footer::parse(&sector).is_err());
    }

    #[test]
    fn geometry_follows_the_appendix() {
        assert_eq!(geometry(1 << 40), [0xff, 0xff, 16, 255]);
        assert_eq!(geometry((1 << 30) / 512), [0x08, 0x20, 16, 63]);
    }
}
