//! QEMU's copy-on-write format, versions 2 and 3.
//!
//! Layout by the format's own specification (`docs/interop/qcow2.txt` of QEMU): big-endian, a header in the first
//! cluster, a two-level table from guest clusters to host clusters, reference counts beside it.

mod header;
mod reader;
mod writer;

pub use header::{Compression, Header};
pub use reader::Qcow2Reader;
pub(crate) use writer::{OverlayWriter, Qcow2Writer};

/// First four bytes of every image.
pub(crate) const MAGIC: u32 = 0x5146_49fb;
/// Bit of an L1 or L2 entry that says that the cluster has one reference.
pub(crate) const COPIED: u64 = 1 << 63;
/// Bit of an L2 entry that marks a compressed cluster.
pub(crate) const COMPRESSED: u64 = 1 << 62;
/// Bit of a standard L2 entry of version 3: the cluster reads as zero.
pub(crate) const ZERO: u64 = 1;
/// The bits of a table entry that hold a host offset.
pub(crate) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
