//! How a disk becomes a snapshot in the first region.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::super::Source;
use super::super::names::rendered;
use super::S3Plan;
use crate::aws::s3::Checksums;
use crate::documents::arn::normalise_name;
use crate::documents::distribution::{AmiLocal, AmiRoad};
use crate::error::{Failure, Result};
use crate::machine::{Arch, Firmware};
use crate::output::OutputFormat;

/// The role that the service takes if none is named.
const ROLE: &str = "vmimport";
/// What the service imports, the smallest first.
const IMPORTED: [(OutputFormat, &str); 4] = [
    (OutputFormat::Vmdk, "VMDK"),
    (OutputFormat::Vhd, "VHD"),
    (OutputFormat::Raw, "RAW"),
    (OutputFormat::Ova, "OVA"),
];

/// How a disk becomes a snapshot in the first region.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "by")]
pub enum Road {
    /// Block by block, with the EBS direct APIs.
    #[default]
    EbsDirect,
    /// A file in a bucket, of which the service makes a snapshot (ImportSnapshot).
    ImportSnapshot(ImportPlan),
    /// A file in a bucket, of which the service makes an AMI after changing it (ImportImage).
    ImportImage(ImportPlan),
}

/// A file in a bucket that the service reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportPlan {
    /// Where it is put.
    pub upload: S3Plan,
    /// The file, relative to the image's folder.
    pub file: Utf8PathBuf,
    /// `VMDK`, `VHD`, `RAW` or `OVA`.
    pub format: String,
    /// The role that the service reads it with.
    pub role: String,
    /// Whether the file stays in the bucket afterwards.
    pub keep: bool,
    /// `legacy-bios` or `uefi`, for ImportImage.
    pub boot_mode: String,
}

impl Road {
    /// The file that waits for an import, if the road has one.
    pub fn import(&self) -> Option<&ImportPlan> {
        match self {
            Self::EbsDirect => None,
            Self::ImportSnapshot(import) | Self::ImportImage(import) => Some(import),
        }
    }

    pub(super) fn new(wanted: &AmiLocal, region: &str, source: &Source) -> Result<Self> {
        let of_image = match wanted.road {
            AmiRoad::EbsDirect => return Ok(Self::EbsDirect),
            AmiRoad::ImportSnapshot => false,
            AmiRoad::ImportImage => true,
        };
        let manifest = &source.manifest;
        if of_image && manifest.architecture != Arch::X86_64 {
            return Err(Failure::config(format!(
                "{} is for {}, and ImportImage takes x86_64 alone",
                source.image(),
                manifest.architecture
            ))
            .with_hint("take `road: ebsDirect` or `importSnapshot`"));
        }
        let there = |format| manifest.files.iter().find(|file| file.format == format);
        let (file, format) = IMPORTED
            .into_iter()
            // A snapshot is made of one disk, not of an appliance.
            .filter(|(format, _)| of_image || *format != OutputFormat::Ova)
            .find_map(|(format, name)| Some((there(format)?, name)))
            .ok_or_else(|| {
                Failure::config(format!(
                    "{} has no file that the service imports",
                    source.image()
                ))
                .with_hint("bake it with `vmdk` under `local.outputs`, or take `road: ebsDirect`")
            })?;
        let bucket = wanted.bucket.clone().ok_or_else(|| {
            Failure::config("the road of `local.amis` needs a bucket").with_hint(format!(
                "name a `bucket` in {region}, where the disk waits for the import"
            ))
        })?;
        let mut prefix = rendered(wanted.prefix.as_deref().unwrap_or_default(), source)?;
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        let has = |firmware| manifest.firmware.contains(&firmware);
        let import = ImportPlan {
            upload: S3Plan {
                name: "import".into(),
                bucket,
                prefix: format!(
                    "{prefix}{}/{}/{}/",
                    normalise_name(&manifest.name),
                    manifest.version,
                    manifest.build
                ),
                endpoint: None,
                region: Some(region.to_owned()),
                profile: None,
                path_style: false,
                checksums: Checksums::default(),
                files: vec![file.path.clone()],
            },
            file: file.path.clone(),
            format: format.to_owned(),
            role: wanted.role_name.clone().unwrap_or_else(|| ROLE.into()),
            keep: wanted.keep_upload,
            boot_mode: if has(Firmware::Bios) || !has(Firmware::Uefi) {
                "legacy-bios"
            } else {
                "uefi"
            }
            .into(),
        };
        Ok(match of_image {
            true => Self::ImportImage(import),
            false => Self::ImportSnapshot(import),
        })
    }
}
