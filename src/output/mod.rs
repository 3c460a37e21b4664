//! From a disk chain to files: formats, planner, conversions, manifest, delivery.

pub mod deliver;
pub mod format;
pub mod manifest;
pub mod oci;
pub mod planner;
pub mod qemu_img;

pub use format::OutputFormat;
pub use manifest::Manifest;
