//! Which passes over the source make the wanted outputs, and their execution.
//!
//! The source is the frozen overlay chain of a bake. All disks are written in one pass over what is allocated in the
//! chain, each is read back and compared by its disk digest; the OCI image is read from the filesystem on the disk,
//! without mounting it.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_disk::{
    ConvertOptions, DiskReader, Format, OpenOptions, Progress, ScrubbedDisk, Target,
};
use ovenbird_provenance::folder::digest_of;
use serde::Serialize;

use super::format::OutputFormat;
use super::manifest::OutputFile;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedOutput {
    /// What is made.
    pub format: OutputFormat,
    /// Its name in the image's folder.
    pub name: String,
}

/// The outputs of an image, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputPlan {
    /// Each output once, disks first.
    pub outputs: Vec<PlannedOutput>,
}

impl OutputPlan {
    /// Plans the wanted formats for an image called `stem`.
    pub fn new(formats: &[OutputFormat], stem: &str) -> Self {
        let outputs = OutputFormat::ALL
            .into_iter()
            .filter(|format| formats.contains(format))
            .map(|format| PlannedOutput {
                format,
                name: format.file_name(stem),
            })
            .collect();
        Self { outputs }
    }

    /// The output on which the test boots stand: the cheapest disk to boot from, or none if no disk is wanted.
    ///
    /// QEMU reads a streamOptimized VMDK well only in order; raw and qcow2 come first in [`OutputFormat::ALL`].
    pub fn bootable(&self) -> Option<&PlannedOutput> {
        self.outputs
            .iter()
            .find(|output| output.format.qemu_driver().is_some())
    }

    /// The outputs that one pass over the source writes, with their settings.
    fn disks(&self) -> Vec<(&PlannedOutput, Target)> {
        self.outputs
            .iter()
            .filter_map(|output| Some((output, output.format.target()?)))
            .collect()
    }
}

/// What is written into an OCI image's configuration.
#[derive(Debug, Clone, Default)]
pub struct OciConfig {
    /// OCI's word for the architecture.
    pub architecture: String,
    /// `version-build`, the reference in the layout's index.
    pub reference: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// The disk that the outputs are made from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The top of the chain, a qcow2 overlay.
    pub disk: Utf8PathBuf,
    /// Where the chain's other files lie.
    pub folders: Vec<Utf8PathBuf>,
}

impl Source {
    /// Opens the disk with all that lies beneath. What was deleted on it is not there any more: a trim in the guest reaches
    /// whole clusters only.
    ///
    /// # Errors
    /// [`FailureKind::Output`] if the chain can't be read.
    pub fn open(&self) -> Result<Arc<dyn DiskReader>> {
        // The chain may lead to these folders, and nowhere else on this host.
        let options = self.folders.iter().fold(
            OpenOptions::new().format(Format::Qcow2),
            |options, folder| options.backing_root(folder),
        );
        let cannot = || format!("cannot open {}", self.disk);
        let disk = ovenbird_disk::open_with(self.disk.as_std_path(), &options)
            .or_failure(FailureKind::Output, cannot)?;
        let scrubbed = ScrubbedDisk::new(disk).or_failure(FailureKind::Output, cannot)?;
        Ok(Arc::new(scrubbed))
    }
}

/// What the outputs became.
#[derive(Debug, Clone)]
pub struct Made {
    /// All files, sorted by path.
    pub files: Vec<OutputFile>,
    /// Bytes that the guest sees.
    pub virtual_size: u64,
    /// The identity of the virtual disk, the same in every format.
    pub disk_digest: String,
}

/// Makes the planned outputs from the disk `source` (with its backing chain) in `folder`. Blocks.
///
/// # Errors
/// [`FailureKind::Output`] if one can't be written or doesn't verify against the source; [`FailureKind::Cancelled`].
pub fn make(
    plan: &OutputPlan,
    source: &Source,
    folder: &Utf8Path,
    oci: &OciConfig,
    progress: &dyn Progress,
) -> Result<Made> {
    let reader = source.open()?;
    let virtual_size = reader.virtual_size();
    let disks = plan.disks();
    let targets: Vec<_> = disks
        .iter()
        .map(|(output, target)| {
            (
                target.clone(),
                folder.join(&output.name).into_std_path_buf(),
            )
        })
        .collect();
    let mut files = Vec::new();
    let disk_digest = if targets.is_empty() {
        ovenbird_disk::disk_digest(&*reader, progress)
            .map_err(|error| failed(error, "cannot read the disk"))?
    } else {
        // The folder is synced as a whole when it is published.
        let options = ConvertOptions {
            durable: false,
            ..ConvertOptions::default()
        };
        let written = ovenbird_disk::convert_many(&*reader, &targets, &options, progress)
            .map_err(|error| failed(error, "cannot write the disks"))?;
        let digest = written.first().map(|written| written.disk_digest);
        for ((output, _), written) in disks.iter().zip(written) {
            let sha256 = written
                .sha256
                .map(|digest| digest.to_string())
                .unwrap_or_default();
            files.push(OutputFile {
                path: Utf8PathBuf::from(&output.name),
                format: output.format,
                size: written.bytes,
                sha256,
            });
        }
        digest.ok_or_else(|| Failure::new(FailureKind::Internal, "no disk was written"))?
    };
    for output in plan
        .outputs
        .iter()
        .filter(|output| output.format == OutputFormat::Oci)
    {
        let layout = folder.join(&output.name);
        super::oci::export(reader.clone(), &layout, oci, progress)?;
        for path in files_below(&layout)? {
            files.push(digest_file(folder, path, OutputFormat::Oci)?);
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Made {
        files,
        virtual_size,
        disk_digest: disk_digest.to_string(),
    })
}

/// An error of the disk room as a failure; a cancelled pass is the person's wish.
pub(super) fn failed(error: ovenbird_disk::Error, what: &str) -> Failure {
    if error.kind() == ovenbird_disk::ErrorKind::Cancelled {
        return Failure::cancelled();
    }
    Failure::new(FailureKind::Output, what).caused_by(error)
}

fn files_below(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let mut files = Vec::new();
    let entries = folder
        .read_dir_utf8()
        .or_failure(FailureKind::Output, || format!("cannot read {folder}"))?;
    for entry in entries {
        let entry = entry.or_failure(FailureKind::Output, || format!("cannot read {folder}"))?;
        if entry.path().is_dir() {
            files.extend(files_below(entry.path())?);
        } else {
            files.push(entry.path().to_owned());
        }
    }
    Ok(files)
}

/// Describes an output file below `root`.
fn digest_file(root: &Utf8Path, path: Utf8PathBuf, format: OutputFormat) -> Result<OutputFile> {
    let failed = || format!("cannot read {path}");
    let size = std::fs::metadata(&path)
        .or_failure(FailureKind::Output, failed)?
        .len();
    let sha256 = digest_of(&path).or_failure(FailureKind::Output, failed)?;
    let relative = path
        .strip_prefix(root)
        .map_err(|_| Failure::new(FailureKind::Internal, format!("{path} is not below {root}")))?
        .to_owned();
    Ok(OutputFile {
        path: relative,
        format,
        size,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_once_disks_first() {
        let plan = OutputPlan::new(
            &[
                OutputFormat::Oci,
                OutputFormat::Vmdk,
                OutputFormat::Raw,
                OutputFormat::Vmdk,
            ],
            "web-1.0.0-1",
        );
        let names: Vec<&str> = plan
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["web-1.0.0-1.raw", "web-1.0.0-1.vmdk", "web-1.0.0-1.oci"]
        );
        assert_eq!(plan.bootable().unwrap().format, OutputFormat::Raw);
        assert!(
            OutputPlan::new(&[OutputFormat::Oci, OutputFormat::Ova], "x")
                .bootable()
                .is_none()
        );
    }
}
