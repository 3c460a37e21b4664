//! AMIs: the disk as a snapshot in the first region, an AMI of it, copies in other regions and accounts, and what points to
//! them.

use aws_config::SdkConfig;
use camino::Utf8Path;
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};

use super::plan::{AmiPlan, RegionPlan, Road};
use super::site::Site;
use super::{Delivered, Journal, Outcome, Source, Watcher, s3};
use crate::aws::as_role;
use crate::aws::ec2::Ec2;
use crate::aws::query::Query;
use crate::aws::xml;
use crate::error::{Failure, Result};

/// A snapshot's id that is well-formed and nobody's, for rehearsals.
const NO_SNAPSHOT: &str = "snap-00000000000000000";
/// The role that another account has for whom it lets distribute; the service's own name for it.
const ROLE: &str = "EC2ImageBuilderDistributionCrossAccountRole";

/// The ARN of the role of an account.
pub(super) fn role(region: &str, account: &str) -> String {
    let partition = crate::aws::partition(region);
    format!("arn:{partition}:iam::{account}:role/{ROLE}")
}

/// Asks whether the AMIs could be registered.
pub(super) async fn rehearse(plan: &AmiPlan, aws: &SdkConfig) -> Result<()> {
    let aws = plan.access.to(aws).await;
    check_owner(plan, &aws).await?;
    for region in &plan.regions {
        let call = region.register_call(NO_SNAPSHOT);
        Ec2::new(&aws, &region.region)?
            .rehearse(call.doing, call.action, &call.parameters)
            .await?;
    }
    Ok(())
}

/// An AMI that was made.
struct Made {
    image: String,
    /// Bytes that were sent for it.
    bytes: u64,
    /// Where it was exported to.
    export: Option<String>,
}

/// What an AMI is made of.
enum From<'f> {
    /// The disk.
    Disk(&'f Road),
    /// An AMI of a region.
    Copy(&'f str, &'f str),
}

/// All that does not differ between regions.
struct Means<'m> {
    source: &'m Source,
    journals: &'m Utf8Path,
    aws: SdkConfig,
    watcher: &'m dyn Watcher,
}

/// Makes the AMIs of all regions: the first gets the disk, then the others get their copies at the same time, then other
/// accounts theirs. One that fails does not hold the others back.
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
    let means = Means {
        source,
        journals,
        aws: plan.access.to(aws).await,
        watcher,
    };
    let origin = match check_owner(plan, &means.aws).await {
        Ok(()) => means.one(first, From::Disk(&plan.road), &means.aws).await,
        Err(failure) => Err(failure),
    };
    let copies = match &origin {
        Ok(made) => {
            let copy = |region| {
                let from = From::Copy(&first.region, &made.image);
                means.one(region, from, &means.aws)
            };
            join_all(others.iter().map(copy)).await
        }
        Err(_) => others.iter().map(|_| no_origin(first)).collect(),
    };
    let own: Vec<_> = std::iter::once(origin).chain(copies).collect();
    let accounts = join_all(own.iter().zip(&plan.regions).flat_map(|(own, region)| {
        let means = &means;
        region.accounts.iter().map(move |account| async move {
            match own {
                Ok(made) => means.share(region, &made.image, account).await,
                Err(_) => no_origin(region),
            }
        })
    }))
    .await;
    let all = plan.regions.iter().chain(
        plan.regions
            .iter()
            .flat_map(|region| region.accounts.iter()),
    );
    own.into_iter()
        .chain(accounts)
        .zip(all)
        .map(|(result, region)| outcome(region, result))
        .collect()
}

fn no_origin(region: &RegionPlan) -> Result<Made> {
    Err(Failure::environment(format!(
        "there is no AMI in {} to copy",
        region.region
    )))
}

fn outcome(region: &RegionPlan, result: Result<Made>) -> Outcome {
    let destination = region.destination();
    Outcome {
        result: result.map(|made| Delivered {
            destination: destination.clone(),
            places: std::iter::once(format!("{destination}:{}", made.image))
                .chain(made.export)
                .collect(),
            bytes: made.bytes,
        }),
        destination,
    }
}

/// A configuration may name the account that distributes. If it takes another one for it, nothing is done.
async fn check_owner(plan: &AmiPlan, aws: &SdkConfig) -> Result<()> {
    let named = plan.regions.iter().find_map(|region| {
        let account = region.own_accounts.first()?;
        Some((region, account))
    });
    let Some((region, _)) = named else {
        return Ok(());
    };
    let answer = Query::new(aws, "sts", "2011-06-15", &region.region)?
        .call("GetCallerIdentity", &Vec::new())
        .await
        .map_err(|error| error.into_failure("ask whose credentials these are"))?;
    let own = xml::texts(&answer, "Account").into_iter().next();
    for region in &plan.regions {
        for account in &region.own_accounts {
            if own.as_ref() != Some(account) {
                return Err(Failure::config(format!(
                    "region {} has settings for the account {account}, which gets no copy, and the credentials are those of {}",
                    region.region,
                    own.as_deref().unwrap_or("nobody")
                ))
                .with_hint("list the account in `targetAccountIds`, or distribute with its credentials"));
            }
        }
    }
    Ok(())
}

/// The digest of what is asked for in a region: another one means that tags or permissions are to be set again.
fn digest(region: &RegionPlan) -> String {
    let text = serde_json::to_string(region).unwrap_or_default();
    hex::encode(Sha256::digest(text))
}

impl Means<'_> {
    /// An AMI in one region.
    async fn one(&self, region: &RegionPlan, from: From<'_>, aws: &SdkConfig) -> Result<Made> {
        let site = Site {
            plan: region,
            import: match &from {
                From::Disk(road) => road.import(),
                From::Copy(..) => None,
            },
            source: self.source,
            journals: self.journals,
            aws: aws.clone(),
            ec2: Ec2::new(aws, &region.region)?,
            watcher: self.watcher,
        };
        let mut journal = site.journal()?;
        let name = &region.register.name;
        if let Some(image) = journal.images.get(name).cloned() {
            // It may have been deregistered by somebody since.
            if matches!(
                site.ec2.state(&image).await?.as_deref(),
                None | Some("deregistered" | "failed" | "error")
            ) {
                site.note(&format!("{image} is no longer there"));
                journal.gone(&image)?;
            }
        }
        let mut bytes = 0;
        let image = match journal.images.get(name).cloned() {
            Some(image) => image,
            None => {
                let image = match from {
                    From::Disk(Road::EbsDirect) => {
                        let snapshot;
                        (snapshot, bytes) = site.snapshot(&mut journal).await?;
                        site.made(&region.register_call(&snapshot)).await?
                    }
                    From::Disk(Road::ImportSnapshot(import)) => {
                        let snapshot;
                        (snapshot, bytes) = site.import_snapshot(import, &mut journal).await?;
                        site.made(&region.register_call(&snapshot)).await?
                    }
                    From::Disk(Road::ImportImage(import)) => {
                        let image;
                        (image, bytes) = site.import_image(import, &mut journal).await?;
                        image
                    }
                    From::Copy(from, image) => {
                        let token = journal.starting()?;
                        site.made(&region.copy_call(from, image, &token)).await?
                    }
                };
                journal.registered(name, &image)?;
                image
            }
        };
        site.ec2.wait(&image).await?;
        site.note(&image);
        site.clear_import(&mut journal).await?;
        let digest = digest(region);
        if journal.finished.as_ref() != Some(&digest) {
            site.finish(&image, &mut journal).await?;
            journal.finished(&digest)?;
        }
        Ok(Made {
            export: site.export(&image, &mut journal).await?,
            image,
            bytes,
        })
    }

    /// A copy of a region's AMI in another account, which has to see it for that long.
    async fn share(&self, from: &RegionPlan, image: &str, to: &RegionPlan) -> Result<Made> {
        let account = to.account.as_deref().unwrap_or_default();
        let theirs = as_role(&self.aws, &to.region, &role(&to.region, account)).await;
        let run = &self.source.manifest.run;
        let journal = Journal::read(self.journals, run, &to.destination())?;
        let copied = journal.images.contains_key(&to.register.name);
        let ours = Ec2::new(&self.aws, &from.region)?;
        if !copied {
            permit(&ours, image, account, "Add").await?;
        }
        let origin = From::Copy(&from.region, image);
        let made = self.one(to, origin, &theirs).await.map_err(|failure| {
            let failure = failure.context(format!("with the role {ROLE} of {account}"));
            match failure.chain().contains("AssumeRole") {
                true => failure.with_hint(format!(
                    "{account} has to have this role, and it has to trust the account that distributes; docs/distribution.md says more"
                )),
                false => failure,
            }
        })?;
        if !from.permits(account) {
            permit(&ours, image, account, "Remove").await?;
        }
        Ok(made)
    }
}

/// Lets an account see an AMI and its snapshot, or no longer.
async fn permit(ec2: &Ec2, image: &str, account: &str, how: &str) -> Result<()> {
    let one = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let snapshot = ec2
        .one(
            "ask for the AMI",
            "DescribeImages",
            &vec![one("ImageId.1", image)],
            "snapshotId",
        )
        .await?;
    ec2.must(
        "share the snapshot",
        "ModifySnapshotAttribute",
        &vec![
            one("SnapshotId", &snapshot),
            one("Attribute", "createVolumePermission"),
            one(&format!("CreateVolumePermission.{how}.1.UserId"), account),
        ],
    )
    .await?;
    ec2.must(
        "share the AMI",
        "ModifyImageAttribute",
        &vec![
            one("ImageId", image),
            one(&format!("LaunchPermission.{how}.1.UserId"), account),
        ],
    )
    .await?;
    Ok(())
}

/// Gives up uploads of files that wait for an import.
pub(super) async fn abort(
    plan: &AmiPlan,
    run: &str,
    journals: &Utf8Path,
    aws: &SdkConfig,
) -> Result<()> {
    if let Some(import) = plan.road.import() {
        s3::abort(&import.upload, run, journals, &plan.access.to(aws).await).await?;
    }
    Ok(())
}

/// Removes what was made: AMIs first, then the snapshots that they held.
pub(super) async fn remove(
    plan: &AmiPlan,
    run: &str,
    journals: &Utf8Path,
    aws: &SdkConfig,
) -> Result<Vec<String>> {
    let aws = plan.access.to(aws).await;
    let mut removed = Vec::new();
    for region in &plan.regions {
        for account in &region.accounts {
            let id = account.account.as_deref().unwrap_or_default();
            let theirs = as_role(&aws, &region.region, &role(&region.region, id)).await;
            removed.extend(remove_from(account, run, journals, &theirs).await?);
        }
        removed.extend(remove_from(region, run, journals, &aws).await?);
    }
    if let Some(import) = plan.road.import() {
        removed.extend(s3::remove(&import.upload, run, journals, &aws).await?);
    }
    Ok(removed)
}

async fn remove_from(
    plan: &RegionPlan,
    run: &str,
    journals: &Utf8Path,
    aws: &SdkConfig,
) -> Result<Vec<String>> {
    let region = plan.destination();
    let ec2 = Ec2::new(aws, &plan.region)?;
    let mut journal = Journal::open(journals, run, &region)?;
    let mut removed = Vec::new();
    let mut snapshots: Vec<String> = journal.snapshot.iter().cloned().collect();
    for image in journal
        .images
        .clone()
        .into_values()
        .chain(journal.imported.clone())
    {
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
