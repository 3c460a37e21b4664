//! The formats that can be written, with their settings.

use std::fs::File;
use std::path::Path;

use super::writer::{Sequential, Writer};
use crate::ova::{Hardware, OvaWriter};
use crate::qcow2::Qcow2Writer;
use crate::raw::{RawStream, RawWriter};
use crate::vhd::{DynamicWriter, FixedWriter};
use crate::vhdx::VhdxWriter;
use crate::vmdk::{VmdkSettings, VmdkWriter};
use crate::{Error, Format, Result};

/// Compression of a qcow2 image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QcowCompression {
    /// Every reader takes it; level 1 to 9.
    Zlib(u8),
    /// QEMU 5.1 and later; level 1 to 19.
    Zstd(u8),
}

/// For whom a VMDK or OVA is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// EC2's import: hardware version 6, LSI Logic, as the images that are known to pass have it.
    #[default]
    Aws,
    /// ESXi and vCenter: hardware version 13 and VMware's own descriptor lines.
    Vsphere,
}

/// A format to write.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Target {
    /// Sparse raw disk.
    Raw,
    /// qcow2 version 3.
    Qcow2 {
        /// Compression; none gives a disk that is quick to boot from.
        compression: Option<QcowCompression>,
    },
    /// Stream-optimised VMDK, the kind that EC2 imports and OVAs carry.
    Vmdk {
        /// For whom.
        profile: Profile,
        /// Deflate level, 1 to 12.
        level: u8,
    },
    /// VHD that holds every byte.
    VhdFixed,
    /// VHD that holds what is used.
    VhdDynamic,
    /// VHDX that holds what is used.
    Vhdx,
    /// Virtual machine in one archive.
    Ova {
        /// For whom.
        profile: Profile,
        /// Deflate level of its disk, 1 to 12.
        level: u8,
        /// The machine that it describes.
        hardware: Hardware,
    },
}

/// Within two percent of the size that zlib makes at its usual level 6, at half the time of the next level that is
/// smaller by more than that.
pub const DEFAULT_DEFLATE_LEVEL: u8 = 3;

impl Target {
    /// The format with its usual settings.
    pub fn of(format: Format) -> Self {
        match format {
            Format::Raw => Self::Raw,
            Format::Qcow2 => Self::Qcow2 { compression: None },
            Format::Vmdk => Self::Vmdk {
                profile: Profile::Aws,
                level: DEFAULT_DEFLATE_LEVEL,
            },
            Format::Vhd => Self::VhdDynamic,
            Format::Vhdx => Self::Vhdx,
        }
    }

    /// The disk format that comes out; `None` for an archive that holds a disk.
    pub fn format(&self) -> Option<Format> {
        Some(match self {
            Self::Raw => Format::Raw,
            Self::Qcow2 { .. } => Format::Qcow2,
            Self::Vmdk { .. } => Format::Vmdk,
            Self::VhdFixed | Self::VhdDynamic => Format::Vhd,
            Self::Vhdx => Format::Vhdx,
            Self::Ova { .. } => return None,
        })
    }

    /// The usual ending of a file name.
    pub fn extension(&self) -> &'static str {
        self.format().map_or("ova", Format::name)
    }

    /// Refuses settings and sizes that the format cannot carry, before anything is written.
    pub(super) fn check(&self, size: u64) -> Result<()> {
        let level = |level: u8, most: u8| {
            if (1..=most).contains(&level) {
                Ok(())
            } else {
                Err(Error::refused(format!(
                    "compression level {level}; 1 to {most} are there"
                )))
            }
        };
        let limit = |most: u64| {
            if size <= most {
                Ok(())
            } else {
                Err(Error::limit(format!(
                    "a disk of {size} bytes; the format carries {most}"
                )))
            }
        };
        match self {
            Self::Raw => Ok(()),
            Self::Qcow2 { compression: None } => limit(1 << 50),
            Self::Qcow2 {
                compression: Some(QcowCompression::Zlib(l)),
            } => level(*l, 9).and(limit(1 << 50)),
            Self::Qcow2 {
                compression: Some(QcowCompression::Zstd(l)),
            } => level(*l, 19).and(limit(1 << 50)),
            Self::Vmdk { level: l, .. } | Self::Ova { level: l, .. } => {
                level(*l, 12).and(limit(crate::vmdk::MAX_SIZE))
            }
            Self::VhdFixed | Self::VhdDynamic => limit(crate::vhd::MAX_SIZE),
            Self::Vhdx => limit(crate::vhdx::MAX_SIZE),
        }
    }

    pub(super) fn writer<'a>(
        &self,
        file: &'a File,
        path: &Path,
        size: u64,
        hashed: bool,
    ) -> Result<Box<dyn Writer + 'a>> {
        let name = path
            .file_name()
            .map_or_else(|| "disk".into(), |n| n.to_string_lossy().into_owned());
        Ok(match self {
            Self::Raw => Box::new(RawWriter::new(file, size)?),
            Self::Qcow2 { compression } => Box::new(Qcow2Writer::new(file, size, *compression)?),
            Self::Vmdk { profile, level } => {
                let settings = VmdkSettings {
                    profile: *profile,
                    level: *level,
                    name,
                };
                Box::new(VmdkWriter::new(
                    Sequential::file(file, 0, hashed)?,
                    size,
                    &settings,
                )?)
            }
            Self::VhdFixed => Box::new(FixedWriter::new(file, size)?),
            Self::VhdDynamic => Box::new(DynamicWriter::new(file, size)?),
            Self::Vhdx => Box::new(VhdxWriter::new(file, size)?),
            Self::Ova {
                profile,
                level,
                hardware,
            } => {
                let stem = name.strip_suffix(".ova").unwrap_or(&name);
                Box::new(OvaWriter::new(
                    file, size, *profile, *level, hardware, stem,
                )?)
            }
        })
    }

    /// Whether its bytes are known in their order.
    pub(super) fn is_sequential(&self) -> bool {
        matches!(self, Self::Raw | Self::VhdFixed | Self::Vmdk { .. })
    }

    pub(super) fn stream_writer<'a>(
        &self,
        sink: Sequential<'a>,
        size: u64,
    ) -> Result<Box<dyn Writer + 'a>> {
        Ok(match self {
            Self::Raw => Box::new(RawStream::new(sink, size, false)),
            Self::VhdFixed => Box::new(RawStream::new(sink, size, true)),
            Self::Vmdk { profile, level } => {
                let settings = VmdkSettings {
                    profile: *profile,
                    level: *level,
                    name: "disk.vmdk".to_owned(),
                };
                Box::new(VmdkWriter::new(sink, size, &settings)?)
            }
            other => {
                return Err(Error::unsupported(format!(
                    "writing {} to a stream: its tables are known last and come first",
                    other.extension()
                )));
            }
        })
    }
}
