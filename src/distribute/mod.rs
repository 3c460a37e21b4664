//! Bringing a finished image to where it runs: what a distribution configuration asks for is planned first, without
//! asking anybody, and then done destination by destination.

mod ami;
pub mod calls;
mod delta;
mod finish;
pub mod folder;
mod import;
mod journal;
mod names;
pub mod notices;
mod order;
pub mod plan;
mod preflight;
pub mod record;
pub mod register;
mod registry;
mod s3;
mod site;
mod snapshot;
mod sparse_copy;
mod task;
mod verify;

use std::sync::Arc;

use aws_config::SdkConfig;
use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_disk::DiskReader;
use serde::Serialize;

use crate::documents::arn::normalise_name;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::{Manifest, OutputFormat};
use crate::store::Home;
pub use journal::Journal;
pub use order::Order;
pub use plan::{Delivery, Plan};
pub use verify::{Verified, verify};

/// A finished image: its folder and what that says of itself.
#[derive(Debug, Clone)]
pub struct Source {
    /// The folder with the manifest.
    pub folder: Utf8PathBuf,
    /// The manifest.
    pub manifest: Manifest,
}

impl Source {
    /// Reads the manifest of an image's folder.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if it holds no image.
    pub fn read(folder: &Utf8Path) -> Result<Self> {
        Ok(Self {
            manifest: Manifest::read(folder)?,
            folder: folder.to_owned(),
        })
    }

    /// `name/version/build`, the name as in ARNs.
    pub fn image(&self) -> String {
        let Manifest {
            name,
            version,
            build,
            ..
        } = &self.manifest;
        format!("{}/{version}/{build}", normalise_name(name))
    }

    /// The disk, from the output that is quickest to read.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the image has no disk among its outputs, [`FailureKind::Output`] if it can't be read.
    pub fn disk(&self) -> Result<Arc<dyn DiskReader>> {
        let quickest = [
            OutputFormat::Raw,
            OutputFormat::Qcow2,
            OutputFormat::Vhd,
            OutputFormat::Vhdx,
            OutputFormat::Vmdk,
        ];
        let file = quickest
            .into_iter()
            .find_map(|format| {
                self.manifest
                    .files
                    .iter()
                    .find(|file| file.format == format)
            })
            .ok_or_else(|| {
                Failure::config(format!("{} has no disk among its outputs", self.image()))
                    .with_hint("bake it with `raw` or `qcow2` under `local.formats`")
            })?;
        let path = self.folder.join(&file.path);
        ovenbird_disk::open(path.as_std_path())
            .or_failure(FailureKind::Output, || format!("cannot open {path}"))
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// The destination's name in the plan.
    pub destination: String,
    /// Where it is now: a folder, or an AMI for each region.
    pub places: Vec<String>,
    /// Bytes that were sent or written.
    pub bytes: u64,
}

/// Told how far a destination is.
pub trait Watcher: Send + Sync {
    /// So many bytes of so many were sent to a destination.
    fn sent(&self, destination: &str, bytes: u64, total: u64);
    /// Something that took place.
    fn note(&self, destination: &str, text: &str);
}

/// How a destination ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its name in the plan, or its region.
    pub destination: String,
    /// Where the image is, or why it is not.
    pub result: Result<Delivered>,
}

/// Does what a plan says, one destination after the other. One that fails does not hold the others back; the journals keep
/// what was done, and the next run goes on from there.
///
/// # Errors
/// Only if nothing can be noted; what a destination says is its outcome.
pub async fn run(
    plan: &Plan,
    source: &Source,
    home: &Home,
    aws: &SdkConfig,
    watcher: &dyn Watcher,
) -> Result<Vec<Outcome>> {
    let run = &source.manifest.run;
    let journals = &*home.distributions();
    let mut record = record::begin(journals, run, plan)?;
    let mut outcomes = Vec::new();
    for delivery in &plan.deliveries {
        let one = match delivery {
            Delivery::Folder(folder) => vec![Outcome {
                destination: folder.name.clone(),
                result: folder::deliver(folder, source, watcher).await,
            }],
            Delivery::S3(bucket) => vec![Outcome {
                destination: bucket.name.clone(),
                result: s3::deliver(bucket, source, journals, aws, watcher).await,
            }],
            Delivery::Registry(plan) => vec![Outcome {
                destination: plan.name.clone(),
                result: registry::deliver(plan, source, home, aws, watcher).await,
            }],
            Delivery::Ami(plan) => ami::deliver(plan, source, journals, aws, watcher).await,
        };
        record::end(journals, &mut record, &one)?;
        outcomes.extend(one);
    }
    Ok(outcomes)
}

/// What was delivered, if everything was; else one failure that names each destination that failed.
///
/// # Errors
/// The failure of the only destination that failed, or one of the first's kind that lists them all.
pub fn verdict(outcomes: Vec<Outcome>) -> Result<Vec<Delivered>> {
    let all = outcomes.len();
    let mut done = Vec::new();
    let mut failed = Vec::new();
    for outcome in outcomes {
        match outcome.result {
            Ok(delivered) => done.push(delivered),
            Err(failure) => {
                failed.push(failure.context(format!("destination {}", outcome.destination)));
            }
        }
    }
    let Some(first) = failed.first() else {
        return Ok(done);
    };
    let (kind, hint) = (first.kind(), first.hint().map(str::to_owned));
    let failure = if failed.len() == 1 {
        failed.remove(0)
    } else {
        let lines: Vec<String> = failed.iter().map(Failure::chain).collect();
        let message = format!("{} of {all} destinations were not reached", failed.len());
        let failure = Failure::new(kind, message).with_details(lines.join("\n"));
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    };
    Err(failure)
}

/// Gives up what must not be left lying when a person cancels: parts of uploads, which cost money and which nobody sees.
/// Snapshots that were begun stay; the service drops them in time, and the next run goes on with them until then.
///
/// # Errors
/// What the first bucket says.
pub async fn cancelled(
    plan: &Plan,
    source: &Source,
    journals: &Utf8Path,
    aws: &SdkConfig,
) -> Result<()> {
    for delivery in &plan.deliveries {
        let run = &source.manifest.run;
        match delivery {
            Delivery::S3(bucket) => s3::abort(bucket, run, journals, aws).await?,
            Delivery::Ami(plan) => ami::abort(plan, run, journals, aws).await?,
            Delivery::Folder(_) | Delivery::Registry(_) => {}
        }
    }
    Ok(())
}

/// Asks AWS whether the calls of a plan would be allowed; nothing is made.
///
/// # Errors
/// The first call that would be refused.
pub async fn rehearse(plan: &Plan, aws: &SdkConfig) -> Result<()> {
    for delivery in &plan.deliveries {
        match delivery {
            Delivery::Ami(ami) => ami::rehearse(ami, aws).await?,
            Delivery::S3(bucket) => {
                let client = s3::bucket(bucket, aws).await?;
                let key = format!("{}{}", bucket.prefix, Manifest::FILE);
                client.head(&key).await.map_err(|error| {
                    error.into_failure(&format!("look into the bucket {}", client.name()))
                })?;
            }
            Delivery::Folder(_) | Delivery::Registry(_) => {}
        }
    }
    Ok(())
}
