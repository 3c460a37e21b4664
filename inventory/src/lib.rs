//! What is installed on a disk, and bills of materials of it.
//!
//! Everything is read from a finished disk without mounting it and without running anything of it, and nothing that the disk
//! holds is trusted: every file has a limit, every count has a limit, and what is damaged is told instead of believed.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod distro;
mod inventory;
mod license;
mod package;
mod purl;
mod read;
pub mod sbom;

pub use distro::Distro;
pub use inventory::Inventory;
pub use license::{Licence, licence};
pub use package::{Ecosystem, Package, Source};
pub use purl::{Purl, PurlError};
pub use read::read;
