//! An OCI image layout of the root filesystem, read from the disk without mounting it.

use camino::Utf8Path;
use ovenbird_disk::NoProgress;
use ovenbird_disk::oci::{Config, ExportOptions, TreeOptions};

use super::planner::OciConfig;
use crate::error::{FailureContext as _, FailureKind, Result};

/// Writes the layout to the folder `target`, which must not exist.
///
/// # Errors
/// [`FailureKind::Output`] if the disk has no root filesystem that we read, or the layout can't be written.
pub fn export(disk: &Utf8Path, target: &Utf8Path, config: &OciConfig) -> Result<()> {
    let reader = ovenbird_disk::open(disk.as_std_path())
        .or_failure(FailureKind::Output, || format!("cannot open {disk}"))?;
    let options = ExportOptions {
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
        reference: Some(config.reference.clone()),
        ..ExportOptions::default()
    };
    ovenbird_disk::oci::export(reader, &options, target.as_std_path(), &NoProgress)
        .map(drop)
        .or_failure(FailureKind::Output, || {
            format!("cannot write the container image {target}")
        })
}
