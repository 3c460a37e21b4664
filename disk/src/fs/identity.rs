//! UUID and label of a filesystem, as `/etc/fstab` names them.

use super::FsKind;
use super::ext4::Superblock;
use crate::bytes::{Fields, hex};
use crate::reader::read_vec;
use crate::{DiskReader, Result};

/// Names of a filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// UUID in the form that `blkid` prints.
    pub uuid: String,
    /// Label.
    pub label: String,
}

impl Identity {
    /// Reads the names of a volume of a known kind; empty for kinds without names.
    pub fn read(volume: &dyn DiskReader, kind: FsKind) -> Result<Self> {
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
        };
        Ok(match kind {
            FsKind::Ext => {
                let superblock = Superblock::read(volume)?;
                Self {
                    uuid: superblock.uuid,
                    label: superblock.label,
                }
            }
            FsKind::Xfs => {
                let sb = read_vec(volume, 0, 512)?;
                Self {
                    uuid: dashed(&sb.array::<16>(32)?),
                    label: text(&sb.array::<12>(108)?),
                }
            }
            FsKind::Btrfs => {
                let sb = read_vec(volume, 0x1_0000, 4096)?;
                Self {
                    uuid: dashed(&sb.array::<16>(32)?),
                    label: text(&sb.array::<256>(299)?),
                }
            }
            FsKind::Swap => {
                let sb = read_vec(volume, 0, 4096)?;
                Self {
                    uuid: dashed(&sb.array::<16>(1036)?),
                    label: text(&sb.array::<16>(1052)?),
                }
            }
            FsKind::Fat => {
                let boot = read_vec(volume, 0, 512)?;
                // FAT32 has no 16-bit count of table sectors, and its serial number elsewhere.
                let at = if boot.le16(22)? == 0 { 67 } else { 39 };
                let serial = boot.le32(at)?;
                let label = text(&boot.array::<11>(at + 4)?);
                let label = if label == "NO NAME" {
                    String::new()
                } else {
                    label
                };
                Self {
                    uuid: format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff),
                    label,
                }
            }
            _ => Self::default(),
        })
    }
}

fn dashed(uuid: &[u8; 16]) -> String {
    let digits = hex(uuid);
    format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    )
}
