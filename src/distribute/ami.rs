//! AMIs: the disk as a snapshot in the first region, an AMI of it, copies in the others, and what points to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_config::{Region, SdkConfig};
use aws_sdk_ssm::error::DisplayErrorContext;
use aws_sdk_ssm::types::ParameterType;
use camino::Utf8Path;
use serde::Serialize;

use super::plan::{AmiPlan, RegionPlan};
use super::{Delivered, Journal, Source, Watcher};
use crate::aws::ebs::{self, BLOCK, Ebs, StartSnapshot};
use crate::aws::ec2::{Ec2, Parameters};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// A snapshot's id that is well-formed and nobody's, for rehearsals.
const NO_SNAPSHOT: &str = "snap-00000000000000000";

/// Asks whether the AMIs could be registered.
pub(super) async fn rehearse(plan: &AmiPlan, aws: &SdkConfig) -> Result<()> {
    for region in &plan.regions {
        Ec2::new(aws, &region.region)?
            .rehearse(
                "register an AMI",
                "RegisterImage",
                &region.register.parameters(NO_SNAPSHOT),
            )
            .await?;
    }
    Ok(())
}

/// Makes the AMIs of all regions.
pub(super) async fn deliver(
    plan: &AmiPlan,
    source: &Source,
    journals: &Utf8Path,
    aws: &SdkConfig,
    watcher: &dyn Watcher,
) -> Result<Delivered> {
    let run = &source.manifest.run;
    let mut bytes = 0;
    let mut places = Vec::new();
    let mut origin: Option<(String, String)> = None;
    for region in &plan.regions {
        let ec2 = Ec2::new(aws, &region.region)?;
        let mut journal = Journal::open(journals, run, &region.region)?;
        let image = match (journal.image.clone(), &origin) {
            (Some(image), _) => image,
            (None, None) => {
                bytes += snapshot(region, source, &mut journal, aws, &ec2, watcher).await?;
                register(region, &mut journal, &ec2).await?
            }
            (None, Some((from, image))) => {
                copy(region, from, image, run, &mut journal, &ec2).await?
            }
        };
        ec2.wait(&image).await?;
        watcher.note("ami", &format!("{} in {}", image, region.region));
        if !journal.finished {
            let described = vec![("ImageId.1".to_owned(), image.clone())];
            let snapshot = ec2
                .one(
                    "ask for the AMI",
                    "DescribeImages",
                    &described,
                    "snapshotId",
                )
                .await?;
            finish(region, &image, &snapshot, aws, &ec2).await?;
            journal.finished()?;
        }
        places.push(format!("{}:{image}", region.region));
        if origin.is_none() {
            origin = Some((region.region.clone(), image));
        }
    }
    Ok(Delivered {
        destination: "ami".into(),
        places,
        bytes,
    })
}

/// Puts the disk into a snapshot and waits for it; gives the bytes that were sent.
async fn snapshot(
    region: &RegionPlan,
    source: &Source,
    journal: &mut Journal,
    aws: &SdkConfig,
    ec2: &Ec2,
    watcher: &dyn Watcher,
) -> Result<u64> {
    let ebs = Ebs::new(aws, &region.region)?;
    let disk = source.disk()?;
    let sent = AtomicU64::new(0);
    if !journal.completed {
        let id = match journal.snapshot.clone() {
            Some(id) => id,
            None => {
                let start = StartSnapshot {
                    description: format!("{} ({})", source.image(), source.manifest.disk_digest),
                    kms_key_id: region.kms_key_id.clone(),
                    tags: region.tags.clone(),
                    token: format!("{}-{}", source.manifest.run, region.region),
                };
                let id = ebs.start(ebs::volume_gib(&*disk), &start).await?;
                journal.started(&id)?;
                id
            }
        };
        let stored = ebs::stored_blocks(&*disk)
            .or_failure(FailureKind::Output, || "cannot read the disk".into())?;
        let count = |blocks: usize| u64::try_from(blocks).unwrap_or(0) * BLOCK;
        let total = count(stored.len()).saturating_sub(count(journal.blocks.len()));
        let known = journal.blocks.clone();
        let blocks = ebs
            .put_blocks(&id, Arc::clone(&disk), known, |index, digest| {
                journal.put(index, digest)?;
                let now = sent.fetch_add(BLOCK, Ordering::Relaxed) + BLOCK;
                watcher.sent("ami", now, total);
                Ok(())
            })
            .await?;
        ebs.complete(&id, &blocks).await?;
        journal.completed()?;
        watcher.note("ami", &format!("{id} has {} blocks", blocks.len()));
    }
    if let Some(id) = &journal.snapshot {
        ec2.wait(id).await?;
    }
    Ok(sent.into_inner())
}

async fn register(region: &RegionPlan, journal: &mut Journal, ec2: &Ec2) -> Result<String> {
    let snapshot = journal
        .snapshot
        .clone()
        .ok_or_else(|| Failure::new(FailureKind::Internal, "there is no snapshot to register"))?;
    let parameters = region.register.parameters(&snapshot);
    let image = ec2
        .one("register the AMI", "RegisterImage", &parameters, "imageId")
        .await?;
    journal.registered(&image)?;
    Ok(image)
}

async fn copy(
    region: &RegionPlan,
    from: &str,
    image: &str,
    run: &str,
    journal: &mut Journal,
    ec2: &Ec2,
) -> Result<String> {
    let mut parameters: Parameters = vec![
        ("SourceRegion".into(), from.to_owned()),
        ("SourceImageId".into(), image.to_owned()),
        ("Name".into(), region.register.name.clone()),
        ("ClientToken".into(), format!("{run}-{}", region.region)),
    ];
    if !region.register.description.is_empty() {
        parameters.push(("Description".into(), region.register.description.clone()));
    }
    if let Some(key) = &region.kms_key_id {
        parameters.push(("Encrypted".into(), "true".into()));
        parameters.push(("KmsKeyId".into(), key.clone()));
    }
    let copied = ec2
        .one("copy the AMI", "CopyImage", &parameters, "imageId")
        .await?;
    journal.registered(&copied)?;
    Ok(copied)
}

/// Tags, permissions, launch templates and parameters; all of them may be done twice without harm.
async fn finish(
    region: &RegionPlan,
    image: &str,
    snapshot: &str,
    aws: &SdkConfig,
    ec2: &Ec2,
) -> Result<()> {
    if !region.tags.is_empty() {
        let mut parameters: Parameters = vec![
            ("ResourceId.1".into(), image.to_owned()),
            ("ResourceId.2".into(), snapshot.to_owned()),
        ];
        for (number, (key, value)) in (1..).zip(&region.tags) {
            parameters.push((format!("Tag.{number}.Key"), key.clone()));
            parameters.push((format!("Tag.{number}.Value"), value.clone()));
        }
        ec2.must("tag the AMI", "CreateTags", &parameters).await?;
    }
    if !region.launch_permission.is_empty() {
        let mut parameters = vec![("ImageId".to_owned(), image.to_owned())];
        parameters.extend(region.launch_permission.iter().cloned());
        ec2.must(
            "permit launching the AMI",
            "ModifyImageAttribute",
            &parameters,
        )
        .await?;
    }
    if !region.volume_permission.is_empty() {
        let mut parameters = vec![
            ("SnapshotId".to_owned(), snapshot.to_owned()),
            ("Attribute".into(), "createVolumePermission".into()),
        ];
        parameters.extend(region.volume_permission.iter().cloned());
        ec2.must(
            "permit volumes of the snapshot",
            "ModifySnapshotAttribute",
            &parameters,
        )
        .await?;
    }
    for (template, set_default) in &region.launch_templates {
        let parameters = vec![
            ("LaunchTemplateId".to_owned(), template.clone()),
            ("SourceVersion".into(), "$Latest".into()),
            ("LaunchTemplateData.ImageId".into(), image.to_owned()),
            ("ClientToken".into(), image.to_owned()),
        ];
        let version = ec2
            .one(
                "add a version to the launch template",
                "CreateLaunchTemplateVersion",
                &parameters,
                "versionNumber",
            )
            .await?;
        if *set_default {
            let parameters = vec![
                ("LaunchTemplateId".to_owned(), template.clone()),
                ("SetDefaultVersion".into(), version),
            ];
            ec2.must(
                "set the launch template's default",
                "ModifyLaunchTemplate",
                &parameters,
            )
            .await?;
        }
    }
    let config = aws_sdk_ssm::config::Builder::from(aws)
        .region(Region::new(region.region.clone()))
        .build();
    let ssm = aws_sdk_ssm::Client::from_conf(config);
    for (name, data_type) in &region.parameters {
        ssm.put_parameter()
            .name(name)
            .value(image)
            .r#type(ParameterType::String)
            .data_type(data_type)
            .overwrite(true)
            .send()
            .await
            .map_err(|error| {
                Failure::environment(format!(
                    "cannot set the SSM parameter {name} in {}: {}",
                    region.region,
                    DisplayErrorContext(&error)
                ))
            })?;
    }
    Ok(())
}

/// What a comparison of a snapshot with the disk saw.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The region.
    pub region: String,
    /// The snapshot.
    pub snapshot: String,
    /// Blocks that were read back.
    pub blocks: usize,
}

/// Reads the snapshot of a run back from a region and compares every block with the disk.
///
/// # Errors
/// [`FailureKind::Output`] for the first block that is not as on the disk; what the service says.
pub async fn verify(
    source: &Source,
    journals: &Utf8Path,
    region: &str,
    aws: &SdkConfig,
) -> Result<Verified> {
    let journal = Journal::open(journals, &source.manifest.run, region)?;
    let snapshot = journal.snapshot.ok_or_else(|| {
        Failure::config(format!("{} has no snapshot in {region}", source.image()))
            .with_hint("`ovenbird distribute` makes one in the first region of its configuration")
    })?;
    let ebs = Ebs::new(aws, region)?;
    let disk = source.disk()?;
    let there = ebs.list(&snapshot).await?;
    let differs = |index: u64| {
        Failure::new(
            FailureKind::Output,
            format!(
                "block {index} of {snapshot} is not as on the disk of {}",
                source.image()
            ),
        )
    };
    let unreadable = || "cannot read the disk".to_owned();
    let stored = ebs::stored_blocks(&*disk).or_failure(FailureKind::Output, unreadable)?;
    // Blocks of the disk that the snapshot lacks must be zeros.
    for index in stored
        .into_iter()
        .filter(|index| !there.contains_key(index))
    {
        if ebs::read_block(&*disk, index)
            .or_failure(FailureKind::Output, unreadable)?
            .is_some()
        {
            return Err(differs(index));
        }
    }
    let end = disk.virtual_size().div_ceil(BLOCK);
    for (index, token) in &there {
        let (body, digest) = ebs.get(&snapshot, *index, token).await?;
        let ours = if *index < end {
            ebs::read_block(&*disk, *index).or_failure(FailureKind::Output, unreadable)?
        } else {
            None
        };
        let same = match ours {
            Some((_, ours)) => ours == digest,
            None => body.iter().all(|byte| *byte == 0),
        };
        if !same {
            return Err(differs(*index));
        }
    }
    Ok(Verified {
        region: region.to_owned(),
        snapshot,
        blocks: there.len(),
    })
}
