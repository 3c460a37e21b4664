//! Bringing a finished image to where it runs: what a distribution configuration asks for is planned first, without
//! asking anybody, and then done destination by destination.

mod ami;
mod folder;
mod journal;
pub mod plan;

use std::sync::Arc;

use aws_config::SdkConfig;
use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_disk::DiskReader;
use serde::Serialize;

use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::{Manifest, OutputFormat};
pub use ami::{Verified, verify};
pub use journal::Journal;
pub use plan::{Delivery, Plan};

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

    /// `name/version/build`.
    pub fn image(&self) -> String {
        let Manifest {
            name,
            version,
            build,
            ..
        } = &self.manifest;
        format!("{name}/{version}/{build}")
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

/// Does what a plan says, one destination after the other. A destination that fails ends it; the journal keeps what was
/// done, and the next run goes on from there.
///
/// # Errors
/// The failure of the first destination that could not be reached or written.
pub async fn run(
    plan: &Plan,
    source: &Source,
    journals: &Utf8Path,
    aws: &SdkConfig,
    watcher: &dyn Watcher,
) -> Result<Vec<Delivered>> {
    let mut done = Vec::new();
    for delivery in &plan.deliveries {
        let delivered = match delivery {
            Delivery::Folder(folder) => {
                let (plan, source) = (folder.clone(), source.clone());
                tokio::task::spawn_blocking(move || folder::deliver(&plan, &source))
                    .await
                    .or_failure(FailureKind::Internal, || "the copy was cut off".into())?
            }
            Delivery::Ami(ami) => ami::deliver(ami, source, journals, aws, watcher).await,
        };
        done.push(
            delivered
                .map_err(|failure| failure.context(format!("destination {}", delivery.name())))?,
        );
    }
    Ok(done)
}

/// Asks AWS whether the calls of a plan would be allowed; nothing is made.
///
/// # Errors
/// The first call that would be refused.
pub async fn rehearse(plan: &Plan, aws: &SdkConfig) -> Result<()> {
    for delivery in &plan.deliveries {
        if let Delivery::Ami(ami) = delivery {
            ami::rehearse(ami, aws).await?;
        }
    }
    Ok(())
}
