//! `kind: DistributionConfiguration`: the service's CreateDistributionConfiguration request, and under `local:` the
//! destinations that have nothing to do with a region.

mod check;
mod shapes;

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;

pub use check::check;
pub use shapes::SHAPE;

use super::container_recipe::TargetRepository;
use crate::output::OutputFormat;

/// A distribution configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DistributionConfiguration {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// One entry for each region.
    #[serde(default)]
    pub distributions: Vec<Distribution>,
    /// Tags of the configuration.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What only Ovenbird has.
    #[serde(default)]
    pub local: DistributionLocal,
}

impl DistributionConfiguration {
    /// Whether the image becomes an AMI somewhere.
    pub fn makes_amis(&self) -> bool {
        self.distributions.iter().any(Distribution::makes_ami)
    }
}

/// What happens in one region.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Distribution {
    /// The region.
    pub region: String,
    /// The AMI.
    pub ami_distribution_configuration: Option<AmiDistributionConfiguration>,
    /// The container image.
    pub container_distribution_configuration: Option<ContainerDistributionConfiguration>,
    /// Licenses of the AMI.
    #[serde(default)]
    pub license_configuration_arns: Vec<String>,
    /// Launch templates that get a version with the new AMI.
    #[serde(default)]
    pub launch_template_configurations: Vec<LaunchTemplateConfiguration>,
    /// A disk file of the AMI in a bucket.
    pub s3_export_configuration: Option<S3ExportConfiguration>,
    /// Faster launching of Windows AMIs.
    #[serde(default)]
    pub fast_launch_configurations: Vec<FastLaunchConfiguration>,
    /// Parameters that get the AMI's id.
    #[serde(default)]
    pub ssm_parameter_configurations: Vec<SsmParameterConfiguration>,
}

impl Distribution {
    /// Whether the image becomes an AMI there. A region that is named alone gets one; a region for a container image gets one
    /// only if something is said of it.
    pub fn makes_ami(&self) -> bool {
        self.container_distribution_configuration.is_none()
            || self.ami_distribution_configuration.is_some()
            || self.s3_export_configuration.is_some()
            || !self.license_configuration_arns.is_empty()
            || !self.launch_template_configurations.is_empty()
            || !self.fast_launch_configurations.is_empty()
            || !self.ssm_parameter_configurations.is_empty()
    }
}

/// An AMI in a region.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AmiDistributionConfiguration {
    /// The name's template.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Accounts that get a copy.
    #[serde(default)]
    pub target_account_ids: Vec<String>,
    /// Tags.
    #[serde(default)]
    pub ami_tags: BTreeMap<String, String>,
    /// The key it is encrypted with.
    pub kms_key_id: Option<String>,
    /// Who may launch it.
    pub launch_permission: Option<LaunchPermission>,
}

/// Who may launch an AMI.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LaunchPermission {
    /// Accounts.
    pub user_ids: Vec<String>,
    /// `all` for everybody.
    pub user_groups: Vec<String>,
    /// Organizations.
    pub organization_arns: Vec<String>,
    /// Organizational units.
    pub organizational_unit_arns: Vec<String>,
}

/// A container image in a region.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerDistributionConfiguration {
    /// The description.
    pub description: Option<String>,
    /// Tags.
    #[serde(default)]
    pub container_tags: Vec<String>,
    /// Where it goes.
    pub target_repository: TargetRepository,
}

/// A launch template that gets a version with the new AMI.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchTemplateConfiguration {
    /// Its id.
    pub launch_template_id: String,
    /// The account it belongs to.
    pub account_id: Option<String>,
    /// Whether the new version becomes the default.
    #[serde(default = "yes")]
    pub set_default_version: bool,
}

fn yes() -> bool {
    true
}

/// A disk file of an AMI in a bucket.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3ExportConfiguration {
    /// The role that exports.
    pub role_name: String,
    /// `VMDK`, `RAW` or `VHD`.
    pub disk_image_format: String,
    /// The bucket.
    pub s3_bucket: String,
    /// The beginning of the key.
    pub s3_prefix: Option<String>,
}

/// Faster launching of a Windows AMI.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FastLaunchConfiguration {
    /// Whether it is switched on.
    pub enabled: bool,
    /// Prepared snapshots.
    pub snapshot_configuration: Option<FastLaunchSnapshotConfiguration>,
    /// Instances that prepare snapshots at a time.
    pub max_parallel_launches: Option<u64>,
    /// The launch template of these instances.
    pub launch_template: Option<FastLaunchTemplate>,
    /// The account that owns the AMI.
    pub account_id: Option<String>,
}

/// Prepared snapshots.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FastLaunchSnapshotConfiguration {
    /// How many are kept ready.
    pub target_resource_count: Option<u32>,
}

/// The launch template of instances that prepare snapshots.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FastLaunchTemplate {
    /// Its id.
    pub launch_template_id: Option<String>,
    /// Its name.
    pub launch_template_name: Option<String>,
    /// Its version.
    pub launch_template_version: Option<String>,
}

/// A parameter that gets an AMI's id.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SsmParameterConfiguration {
    /// The account that owns the AMI.
    pub ami_account_id: Option<String>,
    /// The parameter's name.
    pub parameter_name: String,
    /// `text` or `aws:ec2:image`.
    pub data_type: Option<String>,
}

/// What only Ovenbird has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DistributionLocal {
    /// Where images go besides regions.
    pub destinations: Vec<Destination>,
    /// How AMIs are made.
    pub amis: AmiLocal,
}

/// How AMIs are made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AmiLocal {
    /// How the disk becomes a snapshot.
    pub road: AmiRoad,
    /// The bucket in which the disk waits for its import.
    pub bucket: Option<String>,
    /// The beginning of its key.
    pub prefix: Option<String>,
    /// The role that the import reads it with.
    pub role_name: Option<String>,
    /// Whether it stays in the bucket.
    pub keep_upload: bool,
    /// The profile whose credentials are used.
    pub profile: Option<String>,
    /// The server, if it is not AWS.
    pub endpoint: Option<String>,
    /// Which requests for metadata instances answer.
    pub imds_support: ImdsSupport,
    /// Whether instances have a TPM; if nothing is said, where it is possible.
    pub tpm_support: Option<TpmSupport>,
    /// A file with the UEFI variables of new instances.
    pub uefi_data: Option<Utf8PathBuf>,
}

/// Which requests for metadata the instances of an AMI answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ImdsSupport {
    /// Those with a session token.
    #[default]
    #[serde(rename = "v2.0")]
    V2,
    /// Those without one as well.
    #[serde(rename = "optional")]
    Optional,
}

/// Whether the instances of an AMI have a TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TpmSupport {
    /// A NitroTPM.
    #[serde(rename = "v2.0")]
    V2,
    /// None.
    #[serde(rename = "none")]
    None,
}

/// How a disk becomes a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AmiRoad {
    /// Block by block.
    #[default]
    EbsDirect,
    /// A file in a bucket becomes a snapshot.
    ImportSnapshot,
    /// A file in a bucket becomes an AMI, and the service changes what is in it.
    ImportImage,
}

/// A destination; one of folder, S3 and registry is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Destination {
    /// What it is called in reports.
    pub name: Option<String>,
    /// A folder.
    pub folder: Option<FolderDestination>,
    /// A bucket.
    pub s3: Option<S3Destination>,
    /// A repository.
    pub registry: Option<RegistryDestination>,
}

/// A folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderDestination {
    /// The folder, relative to the document.
    pub path: Utf8PathBuf,
    /// Which outputs go there; all if empty.
    #[serde(default)]
    pub formats: Vec<OutputFormat>,
    /// How files lie in it.
    #[serde(default)]
    pub layout: FolderLayout,
    /// Whether a link points to the newest.
    #[serde(default)]
    pub latest: bool,
    /// Whether a file with checksums is written.
    #[serde(default = "yes")]
    pub checksums: bool,
}

/// How files lie in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderLayout {
    /// Side by side.
    #[default]
    Plain,
    /// In `NAME/VERSION/BUILD`.
    Versioned,
}

/// A bucket.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Destination {
    /// The bucket.
    pub bucket: String,
    /// The beginning of the keys.
    #[serde(default)]
    pub prefix: String,
    /// Which outputs go there; all if empty.
    #[serde(default)]
    pub formats: Vec<OutputFormat>,
    /// The server, if it is not AWS.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The profile whose credentials are used.
    pub profile: Option<String>,
    /// Whether the bucket stands in the path.
    #[serde(default)]
    pub path_style: bool,
    /// The checksums that are sent: `sha256`, `crc32c`, `md5` or `none`.
    pub checksums: Option<String>,
}

/// A repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryDestination {
    /// `HOST[:PORT]/NAME`.
    pub repository: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What goes there.
    #[serde(default, rename = "as")]
    pub form: RegistryForm,
    /// Whether the registry speaks plain HTTP.
    #[serde(default)]
    pub insecure: bool,
    /// Whether the repository is made if there is none (ECR).
    #[serde(default)]
    pub create_repository: bool,
    /// The profile whose credentials are used (ECR).
    pub profile: Option<String>,
}

/// What goes to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RegistryForm {
    /// The root filesystem as a container image.
    #[default]
    Container,
    /// The disk as a containerDisk.
    ContainerDisk,
    /// The disk as an artifact.
    Artifact,
}
