//! The catalogue.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A way into a cloud or hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Road {
    /// Blocks put by the EBS direct API, or a snapshot imported, then registered: nobody looks inside.
    AwsEbs,
    /// ImportImage: the service looks inside and edits the disk.
    AwsImport,
    /// vCenter and ESXi.
    Vsphere,
}

impl Road {
    /// The name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::AwsEbs => "aws-ebs",
            Self::AwsImport => "aws-import",
            Self::Vsphere => "vsphere",
        }
    }
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Road {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::AwsEbs, Self::AwsImport, Self::Vsphere]
            .into_iter()
            .find(|road| road.name() == name)
            .ok_or_else(|| {
                Error::not_found(format!(
                    "unknown road {name:?}; aws-ebs, aws-import or vsphere"
                ))
            })
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The import fails, or the machine does not start.
    Error,
    /// It works, and somebody will be sorry.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Lint {
    /// Stable name.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Roads on which it matters.
    pub roads: &'static [Road],
    /// What to do.
    pub fix: &'static str,
    /// What the service would have answered.
    pub answer: Option<&'static str>,
}

const ALL: &[Road] = &[Road::AwsEbs, Road::AwsImport, Road::Vsphere];
const AWS: &[Road] = &[Road::AwsEbs, Road::AwsImport];
const IMPORT: &[Road] = &[Road::AwsImport];
const FILES: &[Road] = &[Road::AwsImport, Road::Vsphere];

const fn error(
    id: &'static str,
    roads: &'static [Road],
    fix: &'static str,
    answer: &'static str,
) -> Lint {
    let answer = if answer.is_empty() {
        None
    } else {
        Some(answer)
    };
    Lint {
        id,
        severity: Severity::Error,
        roads,
        fix,
        answer,
    }
}

const fn warning(id: &'static str, roads: &'static [Road], fix: &'static str) -> Lint {
    Lint {
        id,
        severity: Severity::Warning,
        roads,
        fix,
        answer: None,
    }
}

/// Every rule, by the part of the disk that it is about.
pub const LINTS: &[Lint] = &[
    // The file.
    error(
        "format.known",
        IMPORT,
        "convert it: `ovenbird convert IN OUT.vmdk`",
        "ClientError: Parameter disk-image-size=0 has an invalid format.",
    ),
    error(
        "vmdk.subformat",
        FILES,
        "write a stream-optimised VMDK: `ovenbird convert IN OUT.vmdk`",
        "ClientError: Disk validation failed [Unsupported VMDK File Format]",
    ),
    error(
        "vmdk.compress",
        FILES,
        "write it again: `ovenbird convert IN OUT.vmdk`",
        "ClientError: File uses unsupported compression algorithm 0",
    ),
    error(
        "disk.readable",
        ALL,
        "the file is damaged: make it again from its source",
        "ClientError: Uncompressed data has invalid length",
    ),
    error(
        "vhd.footer",
        FILES,
        "write it again: `ovenbird convert IN OUT.vhd`",
        "ClientError: Footers not identical",
    ),
    error(
        "ova.layout",
        FILES,
        "the .ovf comes first, in a ustar archive: `ovenbird convert IN OUT.ova`",
        "ClientError: Disk validation failed [Unsupported OVA format]",
    ),
    error(
        "ova.chunks",
        FILES,
        "one file for each disk: `ovenbird convert IN OUT.ova`",
        "ClientError: Disk validation failed [OVF file parsing error: OVA with chunked disk files is not supported]",
    ),
    error(
        "ova.digest",
        FILES,
        "the archive is damaged or was edited: make it again",
        "ClientError: Disk validation failed [OVF file parsing error]",
    ),
    error(
        "disk.size",
        AWS,
        "EC2 takes disks below 16 TiB, ImportImage below 8 TiB",
        "ClientError: Disk image size exceeds the limit",
    ),
    warning(
        "disk.whole-mib",
        AWS,
        "round the size up: `ovenbird convert --resize`",
    ),
    // Partitions.
    error(
        "disk.ptable",
        ALL,
        "give the disk a GPT or an MBR; a filesystem on the bare disk does not boot",
        "ClientError: No valid partitions. Not a valid volume.",
    ),
    warning(
        "disk.gpt-backup",
        ALL,
        "move the backup to the end: `ovenbird disk resize`, or `sgdisk -e`",
    ),
    error(
        "disk.boot",
        ALL,
        "a BIOS-boot partition or active partition for BIOS, an EFI system partition for UEFI",
        "ClientError: No bootable partition found.",
    ),
    error(
        "disk.esp",
        ALL,
        "install the loader to its removable path: `grub-install --removable`",
        "",
    ),
    warning(
        "disk.root-last",
        AWS,
        "put the root partition last, so that it can grow with the volume",
    ),
    error(
        "lvm.readable",
        IMPORT,
        "use a plain partition for the root filesystem",
        "ClientError: Logical volume group activation failed",
    ),
    error(
        "disk.encrypted",
        IMPORT,
        "import an unencrypted disk and let EBS encrypt the volume",
        "ClientError: Unknown OS / Missing OS files.",
    ),
    // Filesystems.
    error("fs.clean", ALL, "boot the disk and shut it down once", ""),
    error(
        "fs.single-root",
        IMPORT,
        "one system to a disk: remove the other partitions",
        "ClientError: Multiple directories found with /etc/fstab",
    ),
    error(
        "fs.root",
        ALL,
        "the disk needs a root filesystem with /etc",
        "ClientError: Unable to find an etc directory with fstab.",
    ),
    error(
        "fs.space",
        IMPORT,
        "leave 250 MB free on the root filesystem: grow the disk",
        "ClientError: There is not enough space on the disk",
    ),
    error(
        "fstab.present",
        IMPORT,
        "write /etc/fstab with the root filesystem by UUID or LABEL",
        "ClientError: Invalid configuration - Could not read fstab",
    ),
    error(
        "fstab.devices",
        ALL,
        "name filesystems of this disk by UUID or LABEL, or take the line out",
        "",
    ),
    warning(
        "fstab.names",
        ALL,
        "device names change between hypervisors: use UUID= or LABEL=",
    ),
    warning("fstab.network", AWS, "add `nofail`, or take the line out"),
    // System.
    error(
        "os.known",
        IMPORT,
        "take the aws-ebs road, which has no list of systems",
        "ClientError: Unknown OS / Missing OS files.",
    ),
    error(
        "os.kernel",
        ALL,
        "install a kernel package",
        "ClientError: Unable to determine kernel version.",
    ),
    error(
        "os.width",
        AWS,
        "use a 64-bit system",
        "ClientError: Linux is not supported on the requested instance",
    ),
    error(
        "os.arm64-import",
        IMPORT,
        "take the aws-ebs road for arm64",
        "ClientError: Unsupported architecture",
    ),
    error(
        "grub.single",
        IMPORT,
        "keep one grub.cfg or menu.lst",
        "ClientError: Multiple different grub/menu.lst files found.",
    ),
    error(
        "grub.bls",
        IMPORT,
        "set saved_entry in grubenv to an entry that exists: `grub2-set-default`",
        "ClientError: BLSC-style GRUB found, but unable to detect default kernel",
    ),
    error(
        "initramfs.readable",
        ALL,
        "rebuild it with gzip, xz, zstd or lz4",
        "ClientError: We were unable to read your import's initramfs/initrd to determine what drivers your import requires to run in EC2.",
    ),
    error(
        "driver.nvme",
        AWS,
        "build the initramfs with MODULES=most, or dracut's add_drivers+=\" nvme \"",
        "",
    ),
    warning(
        "driver.xen",
        AWS,
        "needed on Xen instance types (t2, m4): build xen-blkfront into the initramfs",
    ),
    error(
        "driver.ena",
        AWS,
        "install a kernel with the ena module; without it Nitro instances have no network",
        "",
    ),
    error(
        "driver.vmware",
        &[Road::Vsphere],
        "needs mptspi or vmw_pvscsi in the initramfs, and vmxnet3",
        "",
    ),
    // Network.
    error(
        "net.names",
        IMPORT,
        "boot with net.ifnames=0 biosdevname=0",
        "",
    ),
    error(
        "net.mac",
        ALL,
        "remove rules and files that name the build machine's MAC address",
        "",
    ),
    warning("net.static", AWS, "use DHCP"),
    // First boot.
    error(
        "cloudinit.disabled",
        AWS,
        "remove /etc/cloud/cloud-init.disabled",
        "",
    ),
    error(
        "cloudinit.datasource",
        AWS,
        "add Ec2 to datasource_list",
        "",
    ),
    warning(
        "cloudinit.residue",
        ALL,
        "run `cloud-init clean --logs --seed`",
    ),
    warning(
        "console.serial",
        AWS,
        "boot with console=ttyS0,115200n8, or the serial console stays dark",
    ),
    // Residue.
    error(
        "residue.host-keys",
        ALL,
        "remove /etc/ssh/ssh_host_*: every machine of this image would share them",
        "",
    ),
    error(
        "residue.authorized-keys",
        ALL,
        "remove the file: whoever holds the key enters every machine of this image",
        "",
    ),
    error(
        "residue.machine-id",
        ALL,
        "empty /etc/machine-id: DHCP and journals tell machines apart by it",
        "",
    ),
    error(
        "residue.root-password",
        ALL,
        "lock the password: `passwd -l root`",
        "",
    ),
    warning("residue.history", ALL, "remove shell histories"),
    error(
        "residue.credentials",
        ALL,
        "remove credentials from the image",
        "",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_lint_blocks_somewhere() {
        for (i, lint) in LINTS.iter().enumerate() {
            assert!(
                !lint.roads.is_empty() && !lint.fix.is_empty(),
                "{}",
                lint.id
            );
            assert!(
                LINTS[i + 1..].iter().all(|other| other.id != lint.id),
                "{}",
                lint.id
            );
        }
    }
}
