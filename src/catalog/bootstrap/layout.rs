//! The partitions of a disk that we make, and their identities.
//!
//! A BIOS boot partition for GRUB's core image, an EFI system partition, and the root filesystem last, so that it can grow. The identities
//! follow from name and version: the same build gives the same disk.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::catalog::Version;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// First sector of the BIOS boot partition: one MiB in, as all partitioning tools align.
pub(super) const BIOS_START: u64 = 2048;
/// Its size. The core image needs 55 sectors today.
pub(super) const BIOS_SECTORS: u64 = 2048;
/// First sector of the EFI system partition.
pub(super) const ESP_START: u64 = BIOS_START + BIOS_SECTORS;
/// Its size: two boot loaders need 10 MB; below 33 MiB it could not be FAT32.
pub(super) const ESP_BYTES: u64 = 64 << 20;
const ROOT_START: u64 = ESP_START + ESP_BYTES / SECTOR;
/// Room for the second partition table at the end of the disk, rounded up to the alignment.
const TAIL: u64 = 2048;
/// The number of the root partition.
pub(super) const ROOT_PARTITION: u32 = 3;

/// One disk's sizes and identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    sectors: u64,
    disk_id: Uuid,
    bios_id: Uuid,
    esp_id: Uuid,
    root_id: Uuid,
    /// Of the root filesystem.
    pub(super) root_uuid: Uuid,
    /// Of the EFI system partition's filesystem.
    pub(super) esp_serial: u32,
}

impl Layout {
    /// The layout of an image's disk.
    pub(super) fn new(name: &str, version: &Version, mib: u64) -> Self {
        let id = |what: &str| identity(&format!("{name}/{version} {what}"));
        let [a, b, c, d, ..] = *id("esp filesystem").as_bytes();
        Self {
            sectors: (mib << 20) / SECTOR,
            disk_id: id("disk"),
            bios_id: id("bios boot partition"),
            esp_id: id("efi system partition"),
            root_id: id("root partition"),
            root_uuid: id("root filesystem"),
            esp_serial: u32::from_be_bytes([a, b, c, d]),
        }
    }

    /// Bytes of the disk.
    pub(super) fn size(&self) -> u64 {
        self.sectors * SECTOR
    }

    /// Where the root filesystem begins, in bytes.
    pub(super) fn root_offset(&self) -> u64 {
        ROOT_START * SECTOR
    }

    fn root_sectors(&self) -> u64 {
        self.sectors.saturating_sub(ROOT_START + TAIL)
    }

    /// The root filesystem's size. It must not reach past its partition: the kernel would not mount it.
    pub(super) fn root_kib(&self) -> u64 {
        self.root_sectors() * SECTOR / 1024
    }

    /// What sfdisk is told.
    pub(super) fn sfdisk_script(&self) -> String {
        let Self {
            disk_id,
            bios_id,
            esp_id,
            root_id,
            ..
        } = self;
        let (esp_sectors, root_sectors) = (ESP_BYTES / SECTOR, self.root_sectors());
        // The types are "BIOS boot", "EFI system" and "Linux filesystem". The last one rather than "Linux root (x86-64)", which
        // would invite systemd to mount by type what /etc/fstab names already.
        format!(
            "label: gpt\n\
             label-id: {disk_id}\n\
             start={BIOS_START}, size={BIOS_SECTORS}, type=21686148-6449-6E6F-744E-656564454649, uuid={bios_id}, name=\"bios\"\n\
             start={ESP_START}, size={esp_sectors}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={esp_id}, name=\"esp\"\n\
             start={ROOT_START}, size={root_sectors}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid={root_id}, name=\"root\"\n"
        )
    }
}

/// A UUID of version 8 (RFC 9562: ours to define) from a text.
fn identity(text: &str) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(format!("ovenbird base image {text}"))[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A FAT serial number as /etc/fstab writes it.
pub(super) fn serial_text(serial: u32) -> String {
    format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_for_two_gib() {
        let layout = Layout::new("debian-12", &Version::new(12, 20260101, 0), 2048);
        insta::assert_snapshot!(layout.sfdisk_script());
        assert_eq!(layout.size(), 2 << 30);
        assert!(layout.root_offset() + layout.root_kib() * 1024 <= layout.size() - 33 * SECTOR);
    }

    #[test]
    fn identities_follow_from_name_and_version() {
        let layout = |name, patch| Layout::new(name, &Version::new(12, 1, patch), 2048);
        assert_eq!(layout("a", 0), layout("a", 0));
        assert_ne!(layout("a", 0).root_uuid, layout("a", 1).root_uuid);
        assert_ne!(layout("a", 0).root_uuid, layout("b", 0).root_uuid);
        assert_eq!(serial_text(0x00ab_0c0d), "00AB-0C0D");
    }
}
