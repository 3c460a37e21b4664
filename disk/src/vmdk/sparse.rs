//! The binary header of a sparse extent.

use crate::bytes::{Fields, SECTOR};
use crate::{Error, Result};

/// Line ends are what an ASCII transfer of the file would have spoilt.
const NEWLINE_TEST: u32 = 1;
const REDUNDANT_TABLES: u32 = 1 << 1;
const ZEROED_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;
const DEFLATE: u16 = 1;

/// A sparse extent's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseHeader {
    /// 1 to 3.
    pub version: u32,
    /// Flag bits.
    pub flags: u32,
    /// Sectors of the disk.
    pub capacity: u64,
    /// Sectors of a grain.
    pub grain_sectors: u64,
    /// Sector of the embedded descriptor; 0 for none.
    pub descriptor_offset: u64,
    /// Sectors of the embedded descriptor.
    pub descriptor_sectors: u64,
    /// Entries of a grain table.
    pub table_entries: u32,
    /// Sector of the redundant grain directory.
    pub redundant_directory: u64,
    /// Sector of the grain directory; all ones when only the footer knows.
    pub directory: u64,
    /// First sector of data.
    pub overhead: u64,
    /// 1 for deflate.
    pub compression: u16,
}

impl SparseHeader {
    /// The header of a stream-optimised extent.
    pub(crate) fn stream(capacity: u64, descriptor_sectors: u64, overhead: u64) -> Self {
        Self {
            version: 3,
            flags: NEWLINE_TEST | COMPRESSED | MARKERS,
            capacity,
            grain_sectors: super::GRAIN_SECTORS,
            descriptor_offset: 1,
            descriptor_sectors,
            table_entries: 512,
            redundant_directory: 0,
            directory: super::GD_AT_END,
            overhead,
            compression: DEFLATE,
        }
    }

    /// The header's sector.
    pub(crate) fn encode(&self) -> [u8; 512] {
        let mut sector = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"KDMV");
        put(4, &self.version.to_le_bytes());
        put(8, &self.flags.to_le_bytes());
        put(12, &self.capacity.to_le_bytes());
        put(20, &self.grain_sectors.to_le_bytes());
        put(28, &self.descriptor_offset.to_le_bytes());
        put(36, &self.descriptor_sectors.to_le_bytes());
        put(44, &self.table_entries.to_le_bytes());
        put(48, &self.redundant_directory.to_le_bytes());
        put(56, &self.directory.to_le_bytes());
        put(64, &self.overhead.to_le_bytes());
        put(73, b"\n \r\n");
        put(77, &self.compression.to_le_bytes());
        sector
    }

    /// Reads a header and checks its limits.
    pub fn parse(sector: &[u8]) -> Result<Self> {
        if !sector.starts_with(b"KDMV") {
            return Err(Error::invalid("no KDMV magic"));
        }
        let this = Self {
            version: sector.le32(4)?,
            flags: sector.le32(8)?,
            capacity: sector.le64(12)?,
            grain_sectors: sector.le64(20)?,
            descriptor_offset: sector.le64(28)?,
            descriptor_sectors: sector.le64(36)?,
            table_entries: sector.le32(44)?,
            redundant_directory: sector.le64(48)?,
            directory: sector.le64(56)?,
            overhead: sector.le64(64)?,
            compression: sector.le16(77)?,
        };
        if !(1..=3).contains(&this.version) {
            return Err(Error::unsupported(format!("VMDK version {}", this.version)));
        }
        if this.flags & NEWLINE_TEST != 0 && sector.array::<4>(73)? != *b"\n \r\n" {
            return Err(Error::invalid(
                "the line ends of the header are spoilt: the file went through a text transfer",
            ));
        }
        if this.is_compressed() && this.compression != DEFLATE {
            return Err(Error::unsupported(format!(
                "VMDK compression algorithm {}",
                this.compression
            )));
        }
        if !this.grain_sectors.is_power_of_two() || !(1..=2048).contains(&this.grain_sectors) {
            return Err(Error::invalid(format!(
                "grains of {} sectors",
                this.grain_sectors
            )));
        }
        if !(1..=4096).contains(&this.table_entries) {
            return Err(Error::invalid(format!(
                "grain tables of {} entries",
                this.table_entries
            )));
        }
        if this.capacity > 1 << 43 {
            return Err(Error::limit(format!("a disk of {} sectors", this.capacity)));
        }
        Ok(this)
    }

    /// True when grains are deflated.
    pub fn is_compressed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }

    /// True when data and tables are announced by markers.
    pub fn has_markers(&self) -> bool {
        self.flags & MARKERS != 0
    }

    /// True when a table entry of 1 means a grain of zeros.
    pub fn has_zeroed_grains(&self) -> bool {
        self.flags & ZEROED_GRAINS != 0
    }

    /// True when there is a second copy of the tables.
    pub fn has_redundant_tables(&self) -> bool {
        self.flags & REDUNDANT_TABLES != 0
    }

    /// Bytes of a grain.
    pub fn grain_size(&self) -> u64 {
        self.grain_sectors * SECTOR
    }
}
