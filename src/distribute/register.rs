//! The parameters of RegisterImage.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::Source;
use crate::documents::distribution::{AmiLocal, ImdsSupport, TpmSupport};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::{Arch, Firmware};

/// The label of the root disk in AMIs.
const ROOT_DEVICE: &str = "/dev/xvda";
const GIB: u64 = 1 << 30;
/// The version of metadata service and TPM that EC2 knows.
const V2: &str = "v2.0";
/// The longest text that RegisterImage takes for UEFI variables.
const LONGEST_UEFI_DATA: usize = 64_000;

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
    /// `v2.0`: instances answer metadata requests with a session token alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imds_support: Option<String>,
    /// `v2.0`: instances have a NitroTPM; for images that boot by UEFI alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm_support: Option<String>,
    /// The UEFI variables of new instances, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uefi_data: Option<String>,
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
    /// What a configuration asks for, `base` being the folder that its paths are relative to.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the image does not boot as that needs, or the UEFI variables can't be used.
    pub(super) fn new(
        source: &Source,
        name: String,
        description: String,
        wanted: &AmiLocal,
        base: &Utf8Path,
    ) -> Result<Self> {
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
        let tpm = match wanted.tpm_support {
            None => boot_mode == "uefi",
            Some(TpmSupport::None) => false,
            Some(TpmSupport::V2) if boot_mode == "uefi" => true,
            Some(TpmSupport::V2) => {
                return Err(Failure::config(format!(
                    "a TPM needs an AMI that boots by UEFI alone, and {} is registered as {boot_mode}",
                    source.image()
                ))
                .with_hint("bake it with `firmware: uefi` and no other, or leave `tpmSupport` out"));
            }
        };
        let uefi_data = wanted.uefi_data.as_ref();
        Ok(Self {
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
            imds_support: match wanted.imds_support {
                ImdsSupport::V2 => Some(V2.into()),
                ImdsSupport::Optional => None,
            },
            tpm_support: tpm.then(|| V2.into()),
            uefi_data: uefi_data
                .map(|file| uefi_variables(&base.join(file), boot_mode))
                .transpose()?,
            boot_mode: boot_mode.into(),
        })
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
        for (key, value) in [
            ("ImdsSupport", &self.imds_support),
            ("TpmSupport", &self.tpm_support),
            ("UefiData", &self.uefi_data),
        ] {
            parameters.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
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

/// Reads what `uefivars` or GetInstanceUefiData gave: base64, which EC2 looks into only when an instance starts.
fn uefi_variables(file: &Utf8Path, boot_mode: &str) -> Result<String> {
    if boot_mode == "legacy-bios" {
        return Err(Failure::config(format!(
            "{file} holds UEFI variables, and the AMI boots by {boot_mode}"
        )));
    }
    let text = std::fs::read_to_string(file)
        .or_failure(FailureKind::Config, || format!("cannot read {file}"))?;
    let text: String = text.split_whitespace().collect();
    let is_base64 = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    if text.is_empty() || text.len() > LONGEST_UEFI_DATA || !is_base64 {
        return Err(Failure::config(format!(
            "{file} is no text in base64 of at most {LONGEST_UEFI_DATA} characters"
        ))
        .with_hint(
            "`uefivars --output aws` makes one, and so does `aws ec2 get-instance-uefi-data`",
        ));
    }
    Ok(text)
}
