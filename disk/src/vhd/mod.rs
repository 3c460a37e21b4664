//! Microsoft's virtual hard disk format, fixed and dynamic. Big-endian.
//!
//! By "Virtual Hard Disk Image Format Specification", version 1.0.

mod footer;
mod reader;
mod writer;

pub(crate) use footer::fixed_footer;
pub use footer::{DiskType, Footer};
pub(crate) use reader::VhdReader;
pub(crate) use writer::{DynamicWriter, FixedWriter};

/// 2040 GiB: what Hyper-V, EC2 and QEMU agree on.
pub(crate) const MAX_SIZE: u64 = 2040 << 30;
/// Bytes of a block of a dynamic disk as everybody writes it.
pub(crate) const BLOCK_SIZE: u64 = 2 << 20;
/// Table entry of a block that is not there.
pub(crate) const UNUSED: u32 = u32::MAX;
