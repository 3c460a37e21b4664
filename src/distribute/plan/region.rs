//! AMIs in one region, and copies of them in other accounts.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::super::Source;
use super::super::names::{DEFAULT_NAME, check_name, rendered};
use super::super::register::RegisterImage;
use crate::aws::query::Parameters;
use crate::documents::distribution::{
    AmiDistributionConfiguration, AmiLocal, Distribution, FastLaunchConfiguration, LaunchPermission,
};
use crate::error::{Failure, Result};

/// An AMI in a region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionPlan {
    /// The region.
    pub region: String,
    /// The account that gets a copy; none for the account that distributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Accounts that the configuration takes for the one that distributes: it has to be that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_accounts: Vec<String>,
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
    /// A disk file of the AMI in a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportPlan>,
    /// Copies in other accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<RegionPlan>,
}

/// A disk file of an AMI in a bucket, written by the service (ExportImage).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportPlan {
    /// `VMDK`, `RAW` or `VHD`.
    pub format: String,
    /// The bucket.
    pub bucket: String,
    /// The beginning of the key; the task's id and the format follow.
    pub prefix: String,
    /// The role that writes it.
    pub role: String,
}

impl RegionPlan {
    /// Plans the AMI of a region, and its copies.
    pub(super) fn new(
        distribution: &Distribution,
        local: &AmiLocal,
        base: &Utf8Path,
        source: &Source,
    ) -> Result<Self> {
        // Nothing about the root disk depends on the account.
        let register =
            |name, description| RegisterImage::new(source, name, description, local, base);
        let nothing = AmiDistributionConfiguration::default();
        let ami = distribution
            .ami_distribution_configuration
            .as_ref()
            .unwrap_or(&nothing);
        check_key(ami.kms_key_id.as_deref(), &distribution.region)?;
        let mut own = Self::of_account(None, distribution, ami, source, &register)?;
        own.accounts = ami
            .target_account_ids
            .iter()
            .map(|account| Self::of_account(Some(account), distribution, ami, source, &register))
            .collect::<Result<_>>()?;
        Ok(own)
    }

    fn of_account(
        account: Option<&String>,
        distribution: &Distribution,
        ami: &AmiDistributionConfiguration,
        source: &Source,
        register: &dyn Fn(String, String) -> Result<RegisterImage>,
    ) -> Result<Self> {
        let is_own = account.is_none();
        let targets = &ami.target_account_ids;
        // What names no account, or none that gets a copy, is about the account that distributes.
        let belongs = |named: Option<&String>| match account {
            Some(_) => named == account,
            None => named.is_none_or(|named| !targets.contains(named)),
        };
        let templates = || distribution.launch_template_configurations.iter();
        let parameters = || distribution.ssm_parameter_configurations.iter();
        let launches = || distribution.fast_launch_configurations.iter();
        let named = templates()
            .filter_map(|template| template.account_id.as_ref())
            .chain(parameters().filter_map(|parameter| parameter.ami_account_id.as_ref()))
            .chain(launches().filter_map(|launch| launch.account_id.as_ref()));
        let mut own_accounts: Vec<String> = named
            .filter(|named| is_own && !targets.contains(named))
            .cloned()
            .collect();
        own_accounts.sort();
        own_accounts.dedup();
        if let [first, second, ..] = own_accounts.as_slice() {
            return Err(Failure::config(format!(
                "region {} has settings for the accounts {first} and {second}, and a copy goes to neither",
                distribution.region
            ))
            .with_hint("list an account that gets a copy in `targetAccountIds`"));
        }
        let mut fast_launches = launches().filter(|launch| belongs(launch.account_id.as_ref()));
        let fast_launch = fast_launches.next();
        if fast_launches.next().is_some() {
            return Err(Failure::config(format!(
                "region {} has two fast launch configurations for the same account",
                distribution.region
            )));
        }
        let name = rendered(ami.name.as_deref().unwrap_or(DEFAULT_NAME), source)?;
        check_name(&name)?;
        let description = rendered(ami.description.as_deref().unwrap_or_default(), source)?;
        let tags = ami
            .ami_tags
            .iter()
            .map(|(key, value)| Ok((key.clone(), rendered(value, source)?)))
            .collect::<Result<_>>()?;
        let permission = ami.launch_permission.as_ref();
        Ok(Self {
            region: distribution.region.clone(),
            account: account.cloned(),
            own_accounts,
            register: register(name, description)?,
            tags,
            kms_key_id: ami.kms_key_id.clone(),
            launch_permission: permission.map(launch_permission).unwrap_or_default(),
            // The service's role in other accounts has no right to the snapshots there.
            volume_permission: permission
                .filter(|_| is_own)
                .map(volume_permission)
                .unwrap_or_default(),
            launch_templates: templates()
                .filter(|template| belongs(template.account_id.as_ref()))
                .map(|template| {
                    (
                        template.launch_template_id.clone(),
                        template.set_default_version,
                    )
                })
                .collect(),
            parameters: parameters()
                .filter(|parameter| belongs(parameter.ami_account_id.as_ref()))
                .map(|parameter| {
                    let data_type = parameter.data_type.clone();
                    (
                        parameter.parameter_name.clone(),
                        data_type.unwrap_or_else(|| "aws:ec2:image".into()),
                    )
                })
                .collect(),
            fast_launch: fast_launch
                .filter(|launch| launch.enabled)
                .map(self::fast_launch),
            licenses: match is_own {
                true => distribution.license_configuration_arns.clone(),
                false => Vec::new(),
            },
            export: distribution
                .s3_export_configuration
                .as_ref()
                .filter(|_| is_own)
                .map(|export| {
                    Ok::<_, Failure>(ExportPlan {
                        format: export.disk_image_format.clone(),
                        bucket: export.s3_bucket.clone(),
                        prefix: rendered(export.s3_prefix.as_deref().unwrap_or_default(), source)?,
                        role: export.role_name.clone(),
                    })
                })
                .transpose()?,
            accounts: Vec::new(),
        })
    }

    /// Its name in reports and journals: the region, before it the account if that is another one.
    pub fn destination(&self) -> String {
        match &self.account {
            Some(account) => format!("{account}@{}", self.region),
            None => self.region.clone(),
        }
    }

    /// Whether an account may launch the AMI for good.
    pub fn permits(&self, account: &str) -> bool {
        self.launch_permission
            .iter()
            .any(|(key, value)| key.ends_with(".UserId") && value == account)
    }
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

fn launch_permission(permission: &LaunchPermission) -> Parameters {
    let grantees = [
        ("UserId", &permission.user_ids),
        ("Group", &permission.user_groups),
        ("OrganizationArn", &permission.organization_arns),
        (
            "OrganizationalUnitArn",
            &permission.organizational_unit_arns,
        ),
    ];
    grantees
        .iter()
        .flat_map(|(key, values)| values.iter().map(move |value| (*key, value)))
        .zip(1..)
        .map(|((key, value), number)| {
            (
                format!("LaunchPermission.Add.{number}.{key}"),
                value.clone(),
            )
        })
        .collect()
}

/// Volumes can be permitted to accounts alone; a snapshot that was put by blocks can't be public.
fn volume_permission(permission: &LaunchPermission) -> Parameters {
    permission
        .user_ids
        .iter()
        .zip(1..)
        .map(|(user, number)| {
            (
                format!("CreateVolumePermission.Add.{number}.UserId"),
                user.clone(),
            )
        })
        .collect()
}
