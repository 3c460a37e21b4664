//! Microsoft's VHDX format, dynamic. Little-endian; by MS-VHDX.

mod layout;
mod reader;
mod writer;

pub(crate) use reader::VhdxReader;
pub(crate) use writer::VhdxWriter;

/// 64 TiB, the format's bound.
pub(crate) const MAX_SIZE: u64 = 64 << 40;
