//! The kinds of output and how each is named.

use std::fmt;
use std::str::FromStr;

use ovenbird_disk::ova::Hardware;
use ovenbird_disk::{Profile, QcowCompression, Target};
use serde::{Deserialize, Serialize};

/// A kind of output file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// A sparse raw disk.
    Raw,
    /// qcow2 version 3, compressed with zstd.
    Qcow2,
    /// VMDK streamOptimized, as AWS and vSphere import it.
    Vmdk,
    /// Dynamic VHD of exactly the disk's size.
    Vhd,
    /// Dynamic VHDX.
    Vhdx,
    /// An OVA with a VMDK, as AWS imports it.
    Ova,
    /// An OCI image layout with the root filesystem as one layer.
    Oci,
}

impl OutputFormat {
    /// All kinds, in the order in which they are made: cheap ones that others can be tested on first.
    pub const ALL: [Self; 7] = [
        Self::Raw,
        Self::Qcow2,
        Self::Vhd,
        Self::Vhdx,
        Self::Vmdk,
        Self::Ova,
        Self::Oci,
    ];

    /// The name in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Ova => "ova",
            Self::Oci => "oci",
        }
    }

    /// How the disk is written; `None` for what is no disk. `name` and `memory_mib` describe the machine of an OVA.
    pub fn target(self) -> Option<Target> {
        Some(match self {
            Self::Raw => Target::Raw,
            // Level 3 is zstd's own middle: as small as zlib, several times as fast.
            Self::Qcow2 => Target::Qcow2 {
                compression: Some(QcowCompression::Zstd(3)),
            },
            Self::Vmdk => Target::of(ovenbird_disk::Format::Vmdk),
            Self::Vhd => Target::VhdDynamic,
            Self::Vhdx => Target::Vhdx,
            Self::Ova => Target::Ova {
                profile: Profile::Aws,
                level: 6,
                hardware: Hardware::default(),
            },
            Self::Oci => return None,
        })
    }

    /// The name of QEMU's block driver, for disks that a machine can boot.
    pub const fn qemu_driver(self) -> Option<&'static str> {
        match self {
            Self::Raw => Some("raw"),
            Self::Qcow2 => Some("qcow2"),
            Self::Vmdk => Some("vmdk"),
            Self::Vhd => Some("vpc"),
            Self::Vhdx => Some("vhdx"),
            Self::Ova | Self::Oci => None,
        }
    }

    /// The file's or folder's name for an image called `stem`.
    pub fn file_name(self, stem: &str) -> String {
        format!("{stem}.{}", self.as_str())
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OutputFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "unknown output `{text}`: expected one of {}",
                    Self::ALL.map(Self::as_str).join(", ")
                )
            })
    }
}
