//! Which conversions make the wanted outputs, in which order, and their execution.
//!
//! The source is the frozen overlay chain of a bake. Disks are made straight from the chain; the OCI image is read from
//! the filesystem on the disk, without mounting it.

use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::format::OutputFormat;
use super::manifest::OutputFile;
use super::qemu_img;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// One conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedOutput {
    /// What is made.
    pub format: OutputFormat,
    /// Its name in the image's folder.
    pub name: String,
}

/// The conversions of an image, in order.
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
    /// QEMU reads streamOptimized VMDK only sequentially well; raw and qcow2 come first in [`OutputFormat::ALL`].
    pub fn bootable(&self) -> Option<&PlannedOutput> {
        self.outputs.iter().find(|output| output.format.is_disk())
    }
}

/// The disk that the outputs are made from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The top of the chain.
    pub disk: &'a Utf8Path,
    /// Its format.
    pub format: &'a str,
}

/// What is written into an OCI image's configuration.
#[derive(Debug, Clone, Default)]
pub struct OciConfig {
    /// OCI's word for the architecture.
    pub architecture: String,
    /// `name:version-build`, the reference in the layout's index.
    pub reference: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Labels, sorted by the caller's map.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// Makes one output in `folder` and returns its files with sizes and digests.
///
/// # Errors
/// [`FailureKind::Output`] if it can't be written or doesn't verify against the source.
pub async fn make(
    planned: &PlannedOutput,
    source: Source<'_>,
    folder: &Utf8Path,
    oci: &OciConfig,
) -> Result<Made> {
    let start = Instant::now();
    let target = folder.join(&planned.name);
    let files = match planned.format.qemu_driver() {
        Some(driver) => {
            qemu_img::convert(source.disk, source.format, planned.format, &target).await?;
            qemu_img::compare(source.disk, source.format, &target, driver).await?;
            vec![target]
        }
        None => {
            let (disk, layout, oci) = (source.disk.to_owned(), target.clone(), oci.clone());
            blocking(move || super::oci::export(&disk, &layout, &oci)).await?;
            files_below(&target)?
        }
    };
    let format = planned.format;
    let root = folder.to_owned();
    let files = blocking(move || {
        files
            .into_iter()
            .map(|path| digest_file(&root, path, format))
            .collect::<Result<Vec<_>>>()
    })
    .await?;
    Ok(Made {
        files,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// What an output became.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its files.
    pub files: Vec<OutputFile>,
    /// Seconds it took, verification and digests included.
    pub seconds: f64,
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .or_failure(FailureKind::Internal, || "a worker thread failed".into())?
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
    files.sort();
    Ok(files)
}

/// Computes a file's length and SHA-256.
///
/// # Errors
/// [`FailureKind::Output`] if it can't be read.
pub fn digest_file(root: &Utf8Path, path: Utf8PathBuf, format: OutputFormat) -> Result<OutputFile> {
    let sha256 = sha256_of(&path)?;
    let size = std::fs::metadata(&path)
        .or_failure(FailureKind::Output, || format!("cannot read {path}"))?
        .len();
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

/// The SHA-256 of a file, lower-case hexadecimal.
///
/// # Errors
/// [`FailureKind::Output`] if it can't be read.
pub fn sha256_of(path: &Utf8Path) -> Result<String> {
    use std::io::Read as _;
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(hex::encode(digest.finalize()));
            }
            digest.update(&buffer[..count]);
        }
    };
    read().or_failure(FailureKind::Output, || format!("cannot read {path}"))
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
            OutputPlan::new(&[OutputFormat::Oci], "x")
                .bootable()
                .is_none()
        );
    }
}
