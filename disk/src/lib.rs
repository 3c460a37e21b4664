//! Disk images, partition tables and filesystems, read and written without mounting anything.
//!
//! The crate knows nothing of terminals, networks, hypervisors or clouds. Everything starts at [`open`], which probes
//! a file's format and gives a [`DiskReader`]; [`convert()`] writes any reader out in another format; [`fs`] looks into
//! the partitions; [`oci`] turns the root filesystem into a container image.

// Offsets and lengths move between `u64` (file formats) and `usize` (memory) everywhere; only on 64-bit targets can
// that never truncate.
#[cfg(not(target_pointer_width = "64"))]
compile_error!("ovenbird-disk needs a 64-bit target");

pub mod bytes;
pub mod checksums;
mod convert;
mod digest;
mod error;
pub mod fs;
pub mod oci;
mod output;
pub mod ova;
mod patched;
mod pipeline;
pub mod preflight;
mod probe;
mod progress;
pub mod qcow2;
pub mod raw;
pub mod reader;
pub mod resize;
mod scrubbed;
pub mod shrink;
pub mod table;
mod tar;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;

pub use convert::{
    ConvertOptions, DEFAULT_DEFLATE_LEVEL, Profile, QcowCompression, Target, Written, convert,
    convert_many, fill, stream,
};
pub use digest::{DiskDigest, disk_digest};
pub use error::{Error, ErrorKind, Result};
pub use output::Sha256Digest;
pub use patched::PatchedDisk;
pub use probe::{Format, Image, OpenOptions, open, open_image, open_with};
pub use progress::{NoProgress, Progress};
pub use reader::{DiskReader, Extent, ExtentKind, Extents, Window};
pub use scrubbed::ScrubbedDisk;
