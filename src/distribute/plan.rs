//! What will be done, computed from the documents and the image's manifest alone.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::Source;
use super::names::{DEFAULT_NAME, check_name, rendered};
use super::register::RegisterImage;
use crate::aws::query::Parameters;
use crate::aws::s3::Checksums;
use crate::documents::arn::normalise_name;
use crate::documents::distribution::{
    AmiDistributionConfiguration, Destination, Distribution, DistributionConfiguration,
    FastLaunchConfiguration, FolderDestination, FolderLayout, LaunchPermission,
    LaunchTemplateConfiguration, S3Destination, SsmParameterConfiguration,
};
use crate::error::{Failure, Result};
use crate::output::OutputFormat;

/// All destinations of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// `name/version/build`.
    pub image: String,
    /// In the order in which they are done: what is near first.
    pub deliveries: Vec<Delivery>,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Delivery {
    /// Files in a folder.
    Folder(FolderPlan),
    /// Files in a bucket.
    S3(S3Plan),
    /// AMIs in regions.
    Ami(AmiPlan),
}

/// Files in a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Files in a bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Plan {
    /// The destination's name.
    pub name: String,
    /// The bucket.
    pub bucket: String,
    /// The beginning of all keys; ends with a slash.
    pub prefix: String,
    /// The server, if it is not AWS.
    pub endpoint: Option<String>,
    /// The region, if it is not that of the environment.
    pub region: Option<String>,
    /// The profile whose credentials are used.
    pub profile: Option<String>,
    /// Whether the bucket stands in the path.
    pub path_style: bool,
    /// The checksum that goes with each part.
    pub checksums: Checksums,
    /// Files, relative to the image's folder.
    pub files: Vec<Utf8PathBuf>,
}

/// AMIs in regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AmiPlan {
    /// Bytes of the disk.
    pub virtual_size: u64,
    /// The first gets the disk, the others a copy of its AMI.
    pub regions: Vec<RegionPlan>,
}

/// An AMI in a region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionPlan {
    /// The region.
    pub region: String,
    /// The AMI.
    pub register: RegisterImage,
    /// Tags of AMI and snapshot.
    pub tags: BTreeMap<String, String>,
    /// The key that encrypts snapshot or copy: an id, an alias or an ARN.
    pub kms_key_id: Option<String>,
    /// Parameters of ModifyImageAttribute; none if it stays private.
    pub launch_permission: Parameters,
    /// Parameters of ModifySnapshotAttribute: accounts that may launch may also make volumes.
    pub volume_permission: Parameters,
    /// Launch templates: id, and whether the new version becomes the default.
    pub launch_templates: Vec<(String, bool)>,
    /// SSM parameters: name and data type.
    pub parameters: Vec<(String, String)>,
    /// Parameters of EnableFastLaunch besides the AMI.
    pub fast_launch: Option<Parameters>,
    /// License configurations of the AMI.
    pub licenses: Vec<String>,
}

impl Plan {
    /// Plans the distribution of an image. `base` is the folder that paths of the configuration are relative to.
    ///
    /// # Errors
    /// [`FailureKind::Config`](crate::error::FailureKind::Config) if the configuration asks for what the image has not, or
    /// what can't be done.
    pub fn new(
        configuration: &DistributionConfiguration,
        base: &Utf8Path,
        source: &Source,
    ) -> Result<Self> {
        let mut deliveries = Vec::new();
        for (number, destination) in (1..).zip(&configuration.local.destinations) {
            let name = destination
                .name
                .clone()
                .unwrap_or_else(|| format!("destination-{number}"));
            deliveries.push(local(name, destination, base, source)?);
        }
        let regions = configuration
            .distributions
            .iter()
            .map(|distribution| region(distribution, source))
            .collect::<Result<Vec<_>>>()?;
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

fn local(
    name: String,
    destination: &Destination,
    base: &Utf8Path,
    source: &Source,
) -> Result<Delivery> {
    if let Some(wanted) = &destination.folder {
        return Ok(Delivery::Folder(folder(name, wanted, base, source)?));
    }
    if let Some(wanted) = &destination.s3 {
        return Ok(Delivery::S3(bucket(name, wanted, source)?));
    }
    Err(not_done(&format!("destination {name}"), "a registry"))
}

fn folder(
    name: String,
    wanted: &FolderDestination,
    base: &Utf8Path,
    source: &Source,
) -> Result<FolderPlan> {
    let root = base.join(&wanted.path);
    let slug = normalise_name(&source.manifest.name);
    let own = wanted.layout == FolderLayout::Versioned;
    Ok(FolderPlan {
        latest: wanted.latest.then(|| root.join(&slug).join("latest")),
        folder: if own {
            root.join(&slug)
                .join(&source.manifest.version)
                .join(source.manifest.build.to_string())
        } else {
            root
        },
        own,
        files: files(&name, &wanted.formats, source)?,
        name,
        checksums: wanted.checksums,
        register: RegisterImage::new(source, rendered(DEFAULT_NAME, source)?, String::new()),
    })
}

fn bucket(name: String, wanted: &S3Destination, source: &Source) -> Result<S3Plan> {
    let manifest = &source.manifest;
    let mut prefix = rendered(&wanted.prefix, source)?;
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    let checksums = match wanted.checksums.as_deref() {
        None => Checksums::default(),
        Some(word) => word.parse().map_err(Failure::config)?,
    };
    Ok(S3Plan {
        files: files(&name, &wanted.formats, source)?,
        name,
        bucket: wanted.bucket.clone(),
        prefix: format!(
            "{prefix}{}/{}/{}/",
            normalise_name(&manifest.name),
            manifest.version,
            manifest.build
        ),
        endpoint: wanted.endpoint.clone(),
        region: wanted.region.clone(),
        profile: wanted.profile.clone(),
        path_style: wanted.path_style,
        checksums,
    })
}

/// The files of the formats that a destination wants; of all formats if it names none.
fn files(name: &str, formats: &[OutputFormat], source: &Source) -> Result<Vec<Utf8PathBuf>> {
    let there = &source.manifest.files;
    if let Some(format) = formats
        .iter()
        .find(|format| !there.iter().any(|file| file.format == **format))
    {
        return Err(Failure::config(format!(
            "destination {name} wants {format}, which {} was not baked as",
            source.image()
        )));
    }
    Ok(there
        .iter()
        .filter(|file| formats.is_empty() || formats.contains(&file.format))
        .map(|file| file.path.clone())
        .collect())
}

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
    let foreign = distribution
        .launch_template_configurations
        .iter()
        .any(|template| template.account_id.is_some())
        || distribution
            .ssm_parameter_configurations
            .iter()
            .any(|parameter| parameter.ami_account_id.is_some())
        || distribution
            .fast_launch_configurations
            .iter()
            .any(|launch| launch.account_id.is_some());
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
            distribution.fast_launch_configurations.len() > 1,
            "several fast launch configurations",
        ),
        (accounts, "copies in other accounts"),
        (
            foreign,
            "launch templates, parameters or fast launch of other accounts",
        ),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(not_done(&format!("region {}", distribution.region), what)),
        None => Ok(()),
    }
}

fn region(distribution: &Distribution, source: &Source) -> Result<RegionPlan> {
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
    let name = rendered(ami.name.as_deref().unwrap_or(DEFAULT_NAME), source)?;
    check_name(&name)?;
    check_key(ami.kms_key_id.as_deref(), &distribution.region)?;
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
    let description = ami.description.as_deref().unwrap_or_default();
    Ok(RegionPlan {
        region: distribution.region.clone(),
        register: RegisterImage::new(source, name, rendered(description, source)?),
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
        fast_launch: distribution
            .fast_launch_configurations
            .first()
            .filter(|launch| launch.enabled)
            .map(fast_launch),
        licenses: distribution.license_configuration_arns.clone(),
    })
}

/// A key of another region is refused by the service only after all blocks have been sent.
fn check_key(key: Option<&str>, region: &str) -> Result<()> {
    match key.and_then(|key| key.strip_prefix("arn:")) {
        Some(arn) if arn.split(':').nth(2) != Some(region) => Err(Failure::config(format!(
            "kmsKeyId {} is not a key of the region {region}",
            key.unwrap_or_default()
        ))
        .with_hint("keys are used in their own region only; each region of a configuration has its own `kmsKeyId`")),
        _ => Ok(()),
    }
}

fn fast_launch(launch: &FastLaunchConfiguration) -> Parameters {
    let mut parameters = vec![("ResourceType".to_owned(), "snapshot".to_owned())];
    let mut put = |key: &str, value: Option<String>| {
        parameters.extend(value.map(|value| (key.to_owned(), value)));
    };
    let resources = launch.snapshot_configuration.as_ref();
    put(
        "SnapshotConfiguration.TargetResourceCount",
        resources.and_then(|snapshots| Some(snapshots.target_resource_count?.to_string())),
    );
    put(
        "MaxParallelLaunches",
        launch.max_parallel_launches.map(|most| most.to_string()),
    );
    if let Some(template) = &launch.launch_template {
        put(
            "LaunchTemplate.LaunchTemplateId",
            template.launch_template_id.clone(),
        );
        put(
            "LaunchTemplate.LaunchTemplateName",
            template.launch_template_name.clone(),
        );
        put(
            "LaunchTemplate.Version",
            template.launch_template_version.clone(),
        );
    }
    parameters
}

fn permissions(permission: &LaunchPermission) -> (Parameters, Parameters) {
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

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;
