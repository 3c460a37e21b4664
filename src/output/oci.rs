//! An OCI image layout of the root filesystem, read from the disk without mounting it.

use std::sync::Arc;

use camino::Utf8Path;
use ovenbird_disk::oci::{Config, ExportOptions, TreeOptions};
use ovenbird_disk::{DiskReader, Progress};

use super::planner::{OciConfig, failed};
use crate::error::Result;

/// How a disk's root filesystem becomes a container image.
pub fn options(config: &OciConfig) -> ExportOptions {
    ExportOptions {
        tree: TreeOptions {
            // A container shares the host's kernel.
            boot: false,
            ..TreeOptions::default()
        },
        config: Config {
            architecture: config.architecture.clone(),
            labels: config.labels.clone(),
            created: Some(config.created),
            cmd: vec!["/bin/sh".into()],
            ..Config::default()
        },
        annotations: config.annotations.clone(),
        reference: Some(config.reference.clone()),
        ..ExportOptions::default()
    }
}

/// Writes the layout to the folder `target`, which must not exist.
///
/// # Errors
/// [`FailureKind::Output`](crate::error::FailureKind::Output) if the disk has no root filesystem that we read, or the
/// layout can't be written.
pub fn export(
    disk: Arc<dyn DiskReader>,
    target: &Utf8Path,
    config: &OciConfig,
    progress: &dyn Progress,
) -> Result<()> {
    ovenbird_disk::oci::export(disk, &options(config), target.as_std_path(), progress)
        .map(drop)
        .map_err(|error| failed(error, "cannot write the container image"))
}
