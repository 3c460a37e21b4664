//! The kinds of output and how each is named.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of output file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// A sparse raw disk.
    Raw,
    /// qcow2 version 3, compressed.
    Qcow2,
    /// VMDK streamOptimized, as AWS and vSphere import it.
    Vmdk,
    /// Dynamic VHD of exactly the disk's size.
    Vhd,
    /// An OCI image layout with the root filesystem as one layer.
    Oci,
}

impl OutputFormat {
    /// All kinds, in the order in which they are made: cheap ones that others can be tested on first.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhd, Self::Oci];

    /// The name in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Oci => "oci",
        }
    }

    /// Whether it is a disk that a machine can boot.
    pub const fn is_disk(self) -> bool {
        !matches!(self, Self::Oci)
    }

    /// The name of QEMU's block driver, for disks.
    pub const fn qemu_driver(self) -> Option<&'static str> {
        match self {
            Self::Raw => Some("raw"),
            Self::Qcow2 => Some("qcow2"),
            Self::Vmdk => Some("vmdk"),
            Self::Vhd => Some("vpc"),
            Self::Oci => None,
        }
    }

    /// The file's or folder's name for an image called `stem`.
    pub fn file_name(self, stem: &str) -> String {
        match self {
            Self::Oci => format!("{stem}.oci"),
            disk => format!("{stem}.{}", disk.as_str()),
        }
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
                format!("unknown output `{text}`: expected one of raw, qcow2, vmdk, vhd, oci")
            })
    }
}
