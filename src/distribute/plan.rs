//! What will be done, computed from the documents and the image's manifest alone.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::Source;
use crate::documents::arn::normalise_name;
use crate::documents::distribution::{
    AmiDistributionConfiguration, Distribution, DistributionConfiguration, FolderLayout,
    LaunchPermission, LaunchTemplateConfiguration, SsmParameterConfiguration,
};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::machine::{Arch, Firmware};
use crate::output::OutputFormat;

/// The label of the root disk in AMIs.
const ROOT_DEVICE: &str = "/dev/xvda";
const GIB: u64 = 1 << 30;

/// All destinations of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// `name/version/build`.
    pub image: String,
    /// In the order in which they are done: what is near first.
    pub deliveries: Vec<Delivery>,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Delivery {
    /// Files in a folder.
    Folder(FolderPlan),
    /// AMIs in regions.
    Ami(AmiPlan),
}

impl Delivery {
    /// What it is called in reports.
    pub fn name(&self) -> &str {
        match self {
            Self::Folder(folder) => &folder.name,
            Self::Ami(_) => "ami",
        }
    }
}

/// Files in a folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderPlan {
    /// The destination's name.
    pub name: String,
    /// The folder that the files lie in at the end.
    pub folder: Utf8PathBuf,
    /// Whether the folder is this image's alone.
    pub own: bool,
    /// A link that points to the folder afterwards.
    pub latest: Option<Utf8PathBuf>,
    /// Files, relative to the image's folder.
    pub files: Vec<Utf8PathBuf>,
    /// Whether `SHA256SUMS` is written.
    pub checksums: bool,
    /// What the disk would be registered with.
    pub register: RegisterImage,
}

/// AMIs in regions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AmiPlan {
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// The first gets the disk, the others a copy of its AMI.
    pub regions: Vec<RegionPlan>,
}

/// An AMI in a region.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionPlan {
    /// The region.
    pub region: String,
    /// The AMI.
    pub register: RegisterImage,
    /// Tags of AMI and snapshot.
    pub tags: BTreeMap<String, String>,
    /// The key that encrypts the copy.
    pub kms_key_id: Option<String>,
    /// Parameters of ModifyImageAttribute; none if it stays private.
    pub launch_permission: Vec<(String, String)>,
    /// Parameters of ModifySnapshotAttribute: accounts that may launch may also make volumes.
    pub volume_permission: Vec<(String, String)>,
    /// Launch templates: id, and whether the new version becomes the default.
    pub launch_templates: Vec<(String, bool)>,
    /// SSM parameters: name and data type.
    pub parameters: Vec<(String, String)>,
}

/// What RegisterImage is told; nothing is left to its defaults, which are those of 2006.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterImage {
    /// Unique in the account and region.
    pub name: String,
    /// The description.
    #[serde(skip_serializing_if = "String::is_empty")]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BlockDeviceMapping {
    /// The same as the root device's name.
    pub device_name: String,
    /// The volume.
    pub ebs: EbsDevice,
}

/// The volume of a root disk.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    fn new(source: &Source, name: String, description: String) -> Self {
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

impl Plan {
    /// Plans the distribution of an image. `base` is the folder that paths of the configuration are relative to.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the configuration asks for what the image has not, or what can't be done.
    pub fn new(
        configuration: &DistributionConfiguration,
        base: &Utf8Path,
        source: &Source,
    ) -> Result<Self> {
        let mut deliveries = Vec::new();
        for (index, destination) in configuration.local.destinations.iter().enumerate() {
            let name = destination
                .name
                .clone()
                .unwrap_or_else(|| format!("destination-{}", index + 1));
            let Some(folder) = &destination.folder else {
                let kind = if destination.s3.is_some() {
                    "a bucket"
                } else {
                    "a registry"
                };
                return Err(not_done(&name, kind));
            };
            let wanted = |format: OutputFormat| {
                folder.formats.is_empty() || folder.formats.contains(&format)
            };
            for format in &folder.formats {
                if !source
                    .manifest
                    .files
                    .iter()
                    .any(|file| file.format == *format)
                {
                    return Err(Failure::config(format!(
                        "destination {name} wants {format}, which {} was not baked as",
                        source.image()
                    )));
                }
            }
            let root = base.join(&folder.path);
            let slug = normalise_name(&source.manifest.name);
            let own = folder.layout == FolderLayout::Versioned;
            deliveries.push(Delivery::Folder(FolderPlan {
                latest: folder.latest.then(|| root.join(&slug).join("latest")),
                folder: if own {
                    root.join(&slug)
                        .join(&source.manifest.version)
                        .join(source.manifest.build.to_string())
                } else {
                    root
                },
                name,
                own,
                files: source
                    .manifest
                    .files
                    .iter()
                    .filter(|file| wanted(file.format))
                    .map(|file| file.path.clone())
                    .collect(),
                checksums: folder.checksums,
                register: RegisterImage::new(
                    source,
                    rendered(DEFAULT_NAME, source)?,
                    String::new(),
                ),
            }));
        }
        let mut regions = Vec::new();
        for distribution in &configuration.distributions {
            refuse_what_is_not_done(distribution)?;
            let nothing = AmiDistributionConfiguration {
                name: None,
                description: None,
                target_account_ids: Vec::new(),
                ami_tags: BTreeMap::new(),
                kms_key_id: None,
                launch_permission: None,
            };
            let ami = distribution
                .ami_distribution_configuration
                .as_ref()
                .unwrap_or(&nothing);
            regions.push(region(distribution, ami, source)?);
        }
        if !regions.is_empty() {
            deliveries.push(Delivery::Ami(AmiPlan {
                virtual_size: source.manifest.virtual_size,
                regions,
            }));
        }
        Ok(Self {
            image: source.image(),
            deliveries,
        })
    }
}

/// The service's own name where none is given.
const DEFAULT_NAME: &str = "{{ imagebuilder:name }} {{ imagebuilder:buildDate }}";

fn not_done(place: &str, what: &str) -> Failure {
    Failure::config(format!(
        "{place} asks for {what}, which Ovenbird can't distribute to yet"
    ))
    .with_hint("take it out of the configuration; nothing was distributed")
}

/// What is read but not carried out must not be passed over in silence.
fn refuse_what_is_not_done(distribution: &Distribution) -> Result<()> {
    let accounts = distribution
        .ami_distribution_configuration
        .as_ref()
        .is_some_and(|ami| !ami.target_account_ids.is_empty());
    let asked = [
        (
            distribution.container_distribution_configuration.is_some(),
            "a container repository",
        ),
        (
            distribution.s3_export_configuration.is_some(),
            "an export to S3",
        ),
        (
            !distribution.license_configuration_arns.is_empty(),
            "license configurations",
        ),
        (
            !distribution.fast_launch_configurations.is_empty(),
            "fast launch",
        ),
        (accounts, "copies in other accounts"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(not_done(&format!("region {}", distribution.region), what)),
        None => Ok(()),
    }
}

fn region(
    distribution: &Distribution,
    ami: &AmiDistributionConfiguration,
    source: &Source,
) -> Result<RegionPlan> {
    let name = rendered(ami.name.as_deref().unwrap_or(DEFAULT_NAME), source)?;
    check_name(&name)?;
    let tags = ami
        .ami_tags
        .iter()
        .map(|(key, value)| Ok((key.clone(), rendered(value, source)?)))
        .collect::<Result<_>>()?;
    let (launch_permission, volume_permission) = ami
        .launch_permission
        .as_ref()
        .map(permissions)
        .unwrap_or_default();
    Ok(RegionPlan {
        region: distribution.region.clone(),
        register: RegisterImage::new(source, name, ami.description.clone().unwrap_or_default()),
        tags,
        kms_key_id: ami.kms_key_id.clone(),
        launch_permission,
        volume_permission,
        launch_templates: distribution
            .launch_template_configurations
            .iter()
            .map(
                |LaunchTemplateConfiguration {
                     launch_template_id,
                     set_default_version,
                     ..
                 }| { (launch_template_id.clone(), *set_default_version) },
            )
            .collect(),
        parameters: distribution
            .ssm_parameter_configurations
            .iter()
            .map(
                |SsmParameterConfiguration {
                     parameter_name,
                     data_type,
                     ..
                 }| {
                    let data_type = data_type.clone().unwrap_or_else(|| "aws:ec2:image".into());
                    (parameter_name.clone(), data_type)
                },
            )
            .collect(),
    })
}

fn permissions(permission: &LaunchPermission) -> (Vec<(String, String)>, Vec<(String, String)>) {
    let grantees = [
        ("UserId", &permission.user_ids),
        ("Group", &permission.user_groups),
        ("OrganizationArn", &permission.organization_arns),
        (
            "OrganizationalUnitArn",
            &permission.organizational_unit_arns,
        ),
    ];
    let launch = grantees
        .iter()
        .flat_map(|(key, values)| values.iter().map(move |value| (*key, value)))
        .zip(1..)
        .map(|((key, value), number)| {
            (
                format!("LaunchPermission.Add.{number}.{key}"),
                value.clone(),
            )
        })
        .collect();
    // Volumes can be permitted to accounts alone; a snapshot that was put by blocks can't be public.
    let volume = permission
        .user_ids
        .iter()
        .zip(1..)
        .map(|(user, number)| {
            (
                format!("CreateVolumePermission.Add.{number}.UserId"),
                user.clone(),
            )
        })
        .collect();
    (launch, volume)
}

/// Puts the values of the service's variables into a text.
fn rendered(template: &str, source: &Source) -> Result<String> {
    let manifest = &source.manifest;
    let created: jiff::Timestamp = manifest
        .created
        .parse()
        .or_failure(FailureKind::Config, || {
            format!("`{}` in the manifest is no time", manifest.created)
        })?;
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (variable, behind) = after.split_once("}}").ok_or_else(|| {
            Failure::config(format!(
                "`{template}` opens a variable that it does not close"
            ))
        })?;
        text.push_str(before);
        match variable.trim() {
            // The time of the image and not of today: a second attempt gets the same name.
            "imagebuilder:buildDate" => {
                text.push_str(&created.strftime("%Y-%m-%dT%H-%M-%S%.3fZ").to_string());
            }
            "imagebuilder:buildVersion" => {
                text.push_str(&format!("{}/{}", manifest.version, manifest.build));
            }
            "imagebuilder:name" => text.push_str(&normalise_name(&manifest.name)),
            other => {
                return Err(Failure::config(format!(
                    "`{template}` has the unknown variable `{other}`"
                ))
                .with_hint("there are imagebuilder:buildDate and imagebuilder:buildVersion"));
            }
        }
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

/// EC2's rule for names of AMIs, checked before anything is sent.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || " ()[]./-'@_".contains(c);
    if (3..=128).contains(&name.chars().count()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(
        Failure::config(format!("`{name}` can't be the name of an AMI")).with_hint(
            "an AMI's name has 3 to 128 of letters, digits, spaces and ( ) [ ] . / - ' @ _",
        ),
    )
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
