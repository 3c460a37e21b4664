//! VMware disks: hosted sparse extents, the stream-optimised kind, and flat files behind a text descriptor.
//!
//! Field offsets by VMware's "Virtual Disk Format 5.0" note. Everything counts in sectors, little-endian.

mod descriptor;
mod reader;
mod sparse;
mod writer;

pub use descriptor::Descriptor;
pub(crate) use reader::{SparseReader, open};
pub use sparse::SparseHeader;
pub(crate) use writer::{VmdkSettings, VmdkWriter};

/// Grain directory offset of a header whose real one is in the footer.
pub(crate) const GD_AT_END: u64 = u64::MAX;
/// 2 TiB, the disk whose grain tables are kept in 128 MiB.
pub(crate) const MAX_SIZE: u64 = 2 << 40;
/// Sectors of a grain as everybody writes it.
pub(crate) const GRAIN_SECTORS: u64 = 128;
/// Entries of a grain table.
pub(crate) const TABLE_ENTRIES: u64 = 512;

/// What a marker of a stream announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    EndOfStream,
    GrainTable,
    GrainDirectory,
    Footer,
}

impl Marker {
    /// A marker's sector; `sectors` is what follows it.
    pub(crate) fn encode(self, sectors: u64) -> [u8; 512] {
        let kind: u32 = match self {
            Self::EndOfStream => 0,
            Self::GrainTable => 1,
            Self::GrainDirectory => 2,
            Self::Footer => 3,
        };
        let mut sector = [0u8; 512];
        sector[..8].copy_from_slice(&sectors.to_le_bytes());
        sector[12..16].copy_from_slice(&kind.to_le_bytes());
        sector
    }
}
