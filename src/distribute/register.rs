//! The parameters of RegisterImage.

use serde::{Deserialize, Serialize};

use super::Source;
use crate::machine::{Arch, Firmware};

/// The label of the root disk in AMIs.
const ROOT_DEVICE: &str = "/dev/xvda";
const GIB: u64 = 1 << 30;

/// What RegisterImage is told; nothing is left to its defaults, which are those of 2006.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterImage {
    /// Unique in the account and region.
    pub name: String,
    /// The description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Always `hvm`.
    pub virtualization_type: String,
    /// The label of the root disk.
    pub root_device_name: String,
    /// The root disk; the snapshot's id is put in when there is one.
    pub block_device_mappings: Vec<BlockDeviceMapping>,
    /// Instance types of today need it.
    pub ena_support: bool,
    /// Enhanced networking of older types.
    pub sriov_net_support: String,
    /// As the image says that it boots.
    pub boot_mode: String,
}

/// The root disk of an AMI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockDeviceMapping {
    /// The same as the root device's name.
    pub device_name: String,
    /// The volume.
    pub ebs: EbsDevice,
}

/// The volume of a root disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EbsDevice {
    /// GiB.
    pub volume_size: u64,
    /// `gp3`.
    pub volume_type: String,
    /// It goes with its instance.
    pub delete_on_termination: bool,
}

impl RegisterImage {
    pub(super) fn new(source: &Source, name: String, description: String) -> Self {
        let manifest = &source.manifest;
        let arm = manifest.architecture == Arch::Aarch64;
        let (bios, uefi) = (
            manifest.firmware.contains(&Firmware::Bios),
            manifest.firmware.contains(&Firmware::Uefi),
        );
        let boot_mode = match (bios, uefi) {
            _ if arm => "uefi",
            (true, true) => "uefi-preferred",
            (false, true) => "uefi",
            _ => "legacy-bios",
        };
        Self {
            name,
            description,
            architecture: if arm { "arm64" } else { "x86_64" }.into(),
            virtualization_type: "hvm".into(),
            root_device_name: ROOT_DEVICE.into(),
            block_device_mappings: vec![BlockDeviceMapping {
                device_name: ROOT_DEVICE.into(),
                ebs: EbsDevice {
                    volume_size: manifest.virtual_size.div_ceil(GIB).max(1),
                    volume_type: "gp3".into(),
                    delete_on_termination: true,
                },
            }],
            ena_support: true,
            sriov_net_support: "simple".into(),
            boot_mode: boot_mode.into(),
        }
    }

    /// The parameters of EC2's query protocol for a snapshot.
    pub fn parameters(&self, snapshot: &str) -> Vec<(String, String)> {
        let mut parameters = vec![
            ("Name".to_owned(), self.name.clone()),
            ("Architecture".into(), self.architecture.clone()),
            (
                "VirtualizationType".into(),
                self.virtualization_type.clone(),
            ),
            ("RootDeviceName".into(), self.root_device_name.clone()),
            ("EnaSupport".into(), self.ena_support.to_string()),
            ("SriovNetSupport".into(), self.sriov_net_support.clone()),
            ("BootMode".into(), self.boot_mode.clone()),
        ];
        if !self.description.is_empty() {
            parameters.push(("Description".into(), self.description.clone()));
        }
        for (number, device) in (1..).zip(&self.block_device_mappings) {
            let at = |field: &str| format!("BlockDeviceMapping.{number}.{field}");
            parameters.extend([
                (at("DeviceName"), device.device_name.clone()),
                (at("Ebs.SnapshotId"), snapshot.to_owned()),
                (at("Ebs.VolumeSize"), device.ebs.volume_size.to_string()),
                (at("Ebs.VolumeType"), device.ebs.volume_type.clone()),
                (
                    at("Ebs.DeleteOnTermination"),
                    device.ebs.delete_on_termination.to_string(),
                ),
            ]);
        }
        parameters
    }
}
