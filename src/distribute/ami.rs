//! AMIs: the disk as a snapshot in the first region, an AMI of it, copies in the others, and what points to them.

use aws_config::{Region, SdkConfig};
use aws_sdk_ssm::error::DisplayErrorContext;
use aws_sdk_ssm::types::ParameterType;
use camino::Utf8Path;
use sha2::{Digest as _, Sha256};

use super::calls::Ec2Call;
use super::plan::{AmiPlan, RegionPlan};
use super::{Delivered, Journal, Outcome, Source, Watcher, delta};
use crate::aws::ebs::{self, BLOCK, BlockMap, Ebs};
use crate::aws::ec2::Ec2;
use crate::aws::json::{Json, key_arn};
use crate::aws::xml;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// A snapshot's id that is well-formed and nobody's, for rehearsals.
const NO_SNAPSHOT: &str = "snap-00000000000000000";

/// Asks whether the AMIs could be registered.
pub(super) async fn rehearse(plan: &AmiPlan, aws: &SdkConfig) -> Result<()> {
    for region in &plan.regions {
        let call = region.register_call(NO_SNAPSHOT);
        Ec2::new(aws, &region.region)?
            .rehearse(call.doing, call.action, &call.parameters)
            .await?;
    }
    Ok(())
}

/// Makes the AMIs of all regions: the first gets the disk, then the others get their copies at the same time. One that
/// fails does not hold the others back.
pub(super) async fn deliver(
    plan: &AmiPlan,
    source: &Source,
    journals: &Utf8Path,
    aws: &SdkConfig,
    watcher: &dyn Watcher,
) -> Vec<Outcome> {
    let Some((first, others)) = plan.regions.split_first() else {
        return Vec::new();
    };
    let origin = one(first, None, source, journals, aws, watcher).await;
    let copies = match &origin {
        Ok((image, _)) => {
            let from = (first.region.as_str(), image.as_str());
            let copies = others
                .iter()
                .map(|region| one(region, Some(from), source, journals, aws, watcher));
            futures_util::future::join_all(copies).await
        }
        Err(_) => others
            .iter()
            .map(|_| {
                Err(Failure::environment(format!(
                    "there is no AMI in {} to copy",
                    first.region
                )))
            })
            .collect(),
    };
    std::iter::once(origin)
        .chain(copies)
        .zip(&plan.regions)
        .map(|(result, region)| Outcome {
            destination: region.region.clone(),
            result: result.map(|(image, bytes)| Delivered {
                destination: region.region.clone(),
                places: vec![format!("{}:{image}", region.region)],
                bytes,
            }),
        })
        .collect()
}

/// The digest of what is asked for in a region: another one means that tags or permissions are to be set again.
fn digest(region: &RegionPlan) -> String {
    let text = serde_json::to_string(region).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}

/// An AMI in one region, copied from another region's if one is given; gives its id and the bytes that were sent.
async fn one(
    region: &RegionPlan,
    from: Option<(&str, &str)>,
    source: &Source,
    journals: &Utf8Path,
    aws: &SdkConfig,
    watcher: &dyn Watcher,
) -> Result<(String, u64)> {
    let ec2 = Ec2::new(aws, &region.region)?;
    let mut journal = Journal::open(journals, &source.manifest.run, &region.region)?;
    let name = &region.register.name;
    if let Some(image) = journal.images.get(name).cloned() {
        // It may have been deregistered by somebody since.
        if matches!(
            ec2.state(&image).await?.as_deref(),
            None | Some("deregistered" | "failed" | "error")
        ) {
            watcher.note(&region.region, &format!("{image} is no longer there"));
            journal.gone(&image)?;
        }
    }
    let mut bytes = 0;
    let image = match (journal.images.get(name).cloned(), from) {
        (Some(image), _) => image,
        (None, None) => {
            let site = Site {
                region,
                source,
                journals,
                aws,
                ec2: &ec2,
                watcher,
            };
            let (snapshot, sent) = site.snapshot(&mut journal).await?;
            bytes = sent;
            let image = made(&ec2, &region.register_call(&snapshot), name).await?;
            journal.registered(name, &image)?;
            image
        }
        (None, Some((from, image))) => {
            let token = journal.starting()?;
            let image = made(&ec2, &region.copy_call(from, image, &token), name).await?;
            journal.registered(name, &image)?;
            image
        }
    };
    ec2.wait(&image).await?;
    watcher.note(&region.region, &image);
    let digest = digest(region);
    if journal.finished.as_ref() != Some(&digest) {
        finish(region, &image, aws, &ec2, &mut journal).await?;
        journal.finished(&digest)?;
    }
    Ok((image, bytes))
}

/// Registers or copies. A name that is taken may be our own doing: the answer to an earlier attempt got lost.
async fn made(ec2: &Ec2, call: &Ec2Call, name: &str) -> Result<String> {
    match ec2
        .one(call.doing, call.action, &call.parameters, "imageId")
        .await
    {
        Err(failure) if failure.chain().contains("InvalidAMIName.Duplicate") => {
            let snapshot = call
                .parameters
                .iter()
                .find(|(key, _)| key == "BlockDeviceMapping.1.Ebs.SnapshotId");
            let Some((_, snapshot)) = snapshot else {
                return Err(failure);
            };
            let filters = vec![
                ("Owner.1".to_owned(), "self".to_owned()),
                ("Filter.1.Name".into(), "name".into()),
                ("Filter.1.Value.1".into(), name.to_owned()),
                (
                    "Filter.2.Name".into(),
                    "block-device-mapping.snapshot-id".into(),
                ),
                ("Filter.2.Value.1".into(), snapshot.clone()),
            ];
            let found = ec2
                .one(
                    "look for the AMI of this name",
                    "DescribeImages",
                    &filters,
                    "imageId",
                )
                .await;
            found.map_err(|_| failure)
        }
        made => made,
    }
}

/// Where a disk becomes a snapshot.
struct Site<'s> {
    region: &'s RegionPlan,
    source: &'s Source,
    journals: &'s Utf8Path,
    aws: &'s SdkConfig,
    ec2: &'s Ec2,
    watcher: &'s dyn Watcher,
}

impl Site<'_> {
    /// Puts the disk into a snapshot and waits for it; gives its id and the bytes that were sent.
    async fn snapshot(&self, journal: &mut Journal) -> Result<(String, u64)> {
        let region = &self.region.region;
        self.forget_if_gone(journal).await?;
        if let (Some(id), true) = (&journal.snapshot, journal.completed) {
            self.ec2.wait(id).await?;
            return Ok((id.clone(), 0));
        }
        let ebs = Ebs::new(self.aws, region)?;
        let disk = self.source.disk()?;
        let gib = ebs::volume_gib(&*disk);
        let (id, base) = match &journal.snapshot {
            Some(id) => {
                let base = match &journal.parent {
                    None => BlockMap::new(),
                    Some(parent) => {
                        delta::content(self.journals, region, parent).ok_or_else(|| {
                            Failure::environment(format!(
                                "the journal of {parent}, on which {id} stands, is no longer there"
                            ))
                            .with_hint(format!("delete {id} in {region}, then run this again"))
                        })?
                    }
                };
                (id.clone(), base)
            }
            None => self.start(&ebs, gib, journal).await?,
        };
        let stored = ebs::stored_blocks(&*disk)
            .or_failure(FailureKind::Output, || "cannot read the disk".into())?;
        let count = |blocks: usize| u64::try_from(blocks).unwrap_or(0) * BLOCK;
        let total = count(stored.len()).saturating_sub(count(journal.blocks.len()));
        let mut sent = 0;
        let blocks = ebs
            .put_blocks(&id, disk, journal.blocks.clone(), base, |index, digest| {
                journal.put(index, digest)?;
                sent += BLOCK;
                self.watcher.sent(region, sent, total);
                Ok(())
            })
            .await?;
        ebs.complete(&id, &blocks).await?;
        journal.completed()?;
        self.watcher
            .note(region, &format!("{id} got {} blocks", blocks.len()));
        self.ec2.wait(&id).await?;
        Ok((id, sent))
    }

    /// A snapshot that expired, failed or was deleted is begun anew.
    async fn forget_if_gone(&self, journal: &mut Journal) -> Result<()> {
        let Some(id) = journal.snapshot.clone() else {
            return Ok(());
        };
        let state = self.ec2.state(&id).await?;
        let age = jiff::Timestamp::now().as_second() - journal.started;
        let fresh = u64::try_from(age).is_ok_and(|age| age < ebs::UNKNOWN.as_secs());
        match state.as_deref() {
            Some("error" | "recoverable" | "recovering") => {}
            Some(_) => return Ok(()),
            // A part of the service may not know it yet.
            None if fresh && !journal.completed => return Ok(()),
            None => {}
        }
        self.watcher.note(
            &self.region.region,
            &format!("{id} is no longer there: the disk is sent anew"),
        );
        journal.gone(&id)
    }

    /// Starts a snapshot, above that of an earlier build if there is one; gives its id and what it holds already.
    async fn start(
        &self,
        ebs: &Ebs,
        gib: u64,
        journal: &mut Journal,
    ) -> Result<(String, BlockMap)> {
        let region = &self.region.region;
        let token = journal.starting()?;
        let mut start = self.region.start(self.source, &token);
        let mut base = BlockMap::new();
        if let Some(key) = &start.kms_key {
            start.kms_key = Some(key_arn(self.aws, region, key).await?);
        } else if let Some((parent, content)) =
            delta::parent(self.source, self.journals, region, gib, self.ec2).await?
        {
            self.watcher
                .note(region, &format!("only what differs from {parent} is sent"));
            start.parent = Some(parent);
            base = content;
        }
        let id = ebs.start(gib, &start).await?;
        journal.started(&id, start.parent.as_deref())?;
        Ok((id, base))
    }
}

/// Tags, permissions, launch templates, licenses and parameters; all of them may be done twice without harm.
async fn finish(
    region: &RegionPlan,
    image: &str,
    aws: &SdkConfig,
    ec2: &Ec2,
    journal: &mut Journal,
) -> Result<()> {
    let described = vec![("ImageId.1".to_owned(), image.to_owned())];
    let snapshot = ec2
        .one(
            "ask for the AMI",
            "DescribeImages",
            &described,
            "snapshotId",
        )
        .await?;
    for call in region.attribute_calls(image, &snapshot) {
        ec2.must(call.doing, call.action, &call.parameters).await?;
    }
    for (template, set_default) in &region.launch_templates {
        let key = (template.clone(), image.to_owned());
        let version = match journal.templates.get(&key) {
            Some(version) => version.clone(),
            None => {
                let call = RegionPlan::template_call(template, image);
                let version = ec2
                    .one(call.doing, call.action, &call.parameters, "versionNumber")
                    .await?;
                journal.templated(template, image, &version)?;
                version
            }
        };
        if *set_default {
            let call = RegionPlan::default_call(template, &version);
            ec2.must(call.doing, call.action, &call.parameters).await?;
        }
    }
    if !region.licenses.is_empty() {
        license(region, image, aws).await?;
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

/// Attaches license configurations to an AMI.
async fn license(region: &RegionPlan, image: &str, aws: &SdkConfig) -> Result<()> {
    let partition = match region.region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("us") if region.region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let add: Vec<_> = region
        .licenses
        .iter()
        .map(|license| serde_json::json!({"LicenseConfigurationArn": license}))
        .collect();
    let body = serde_json::json!({
        "ResourceArn": format!("arn:{partition}:ec2:{}::image/{image}", region.region),
        "AddLicenseSpecifications": add,
    });
    Json::new(aws, "license-manager", "AWSLicenseManager", &region.region)?
        .call("UpdateLicenseSpecificationsForResource", &body)
        .await
        .map(drop)
        .map_err(|error| {
            error.into_failure(&format!("attach licenses to the AMI in {}", region.region))
        })
}

/// Removes what was made in a region: AMIs first, then the snapshots that they held.
pub(super) async fn remove(
    run: &str,
    region: &str,
    journals: &Utf8Path,
    aws: &SdkConfig,
) -> Result<Vec<String>> {
    let ec2 = Ec2::new(aws, region)?;
    let mut journal = Journal::open(journals, run, region)?;
    let mut removed = Vec::new();
    let mut snapshots: Vec<String> = journal.snapshot.iter().cloned().collect();
    for image in journal.images.clone().into_values() {
        let one = |key: &str, id: &str| vec![(key.to_owned(), id.to_owned())];
        if ec2.state(&image).await?.is_some() {
            let answer = ec2
                .must(
                    "ask for the AMI",
                    "DescribeImages",
                    &one("ImageId.1", &image),
                )
                .await?;
            for snapshot in xml::texts(&answer, "snapshotId") {
                if !snapshots.contains(&snapshot) {
                    snapshots.push(snapshot);
                }
            }
            ec2.must(
                "deregister the AMI",
                "DeregisterImage",
                &one("ImageId", &image),
            )
            .await?;
        }
        removed.push(format!("{region}:{image}"));
        journal.gone(&image)?;
    }
    for snapshot in snapshots {
        if ec2.state(&snapshot).await?.is_some() {
            ec2.must(
                "delete the snapshot",
                "DeleteSnapshot",
                &vec![("SnapshotId".to_owned(), snapshot.clone())],
            )
            .await?;
        }
        removed.push(format!("{region}:{snapshot}"));
        journal.gone(&snapshot)?;
    }
    Ok(removed)
}
