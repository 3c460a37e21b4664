//! Microsoft's VHDX format, dynamic. Little-endian; by MS-VHDX.

mod layout;
mod reader;
mod writer;

pub(crate) use reader::VhdxReader;
pub(crate) use writer::VhdxWriter;

/// 16 TiB, EC2's bound on a disk; the format ends at 64 TiB.
pub(crate) const MAX_SIZE: u64 = 16 << 40;
