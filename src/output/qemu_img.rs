//! Conversions by `qemu-img`: the general tool, one process for each output.

use std::process::Stdio;

use camino::Utf8Path;
use serde::Deserialize;
use tokio::process::Command;

use super::format::OutputFormat;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// What `qemu-img info` says about a disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageInfo {
    /// Bytes that the guest sees.
    pub virtual_size: u64,
    /// The driver's name.
    pub format: String,
}

/// Asks for a disk's format and size.
///
/// # Errors
/// [`FailureKind::Environment`] if `qemu-img` is missing, [`FailureKind::Config`] if it can't read the disk.
pub async fn info(disk: &Utf8Path) -> Result<ImageInfo> {
    // -U: somebody else may have it open.
    let output = run(&["info", "-U", "--output=json", disk.as_str()])
        .await
        .map_err(|failure| failure.context(format!("cannot read the disk {disk}")))?;
    serde_json::from_slice(&output).or_failure(FailureKind::Internal, || {
        "qemu-img info printed no JSON".into()
    })
}

/// Creates a qcow2 overlay on a disk, grown to `size` bytes if given.
///
/// # Errors
/// [`FailureKind::Environment`] with qemu-img's words.
pub async fn create_overlay(
    overlay: &Utf8Path,
    backing: &Utf8Path,
    backing_format: &str,
    size: Option<u64>,
) -> Result<()> {
    // The backing format is always named: QEMU 6.1 and newer refuse to guess, older ones could be tricked.
    let mut arguments = vec![
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        "lazy_refcounts=on",
        "-F",
        backing_format,
        "-b",
        backing.as_str(),
        overlay.as_str(),
    ];
    let size = size.map(|bytes| bytes.to_string());
    if let Some(size) = &size {
        arguments.push(size);
    }
    run(&arguments)
        .await
        .map(drop)
        .map_err(|failure| failure.context(format!("cannot create {overlay}")))
}

/// Converts a disk (with its backing chain) to `format`.
///
/// # Errors
/// [`FailureKind::Output`] with qemu-img's words.
pub async fn convert(
    source: &Utf8Path,
    source_format: &str,
    format: OutputFormat,
    target: &Utf8Path,
) -> Result<()> {
    let Some(driver) = format.qemu_driver() else {
        return Err(Failure::new(
            FailureKind::Internal,
            format!("{format} is not a disk format of qemu-img"),
        ));
    };
    let mut arguments = vec!["convert", "-f", source_format, "-O", driver];
    arguments.extend(options(format));
    arguments.extend([source.as_str(), target.as_str()]);
    run(&arguments).await.map(drop).map_err(|failure| {
        Failure::new(FailureKind::Output, format!("cannot write {target}")).caused_by(failure)
    })
}

fn options(format: OutputFormat) -> &'static [&'static str] {
    match format {
        OutputFormat::Raw => &["-S", "4k"],
        // Out of order and with 16 coroutines: measured 3.2 s instead of 5.9 s for a Debian disk.
        OutputFormat::Qcow2 => &["-c", "-m", "16", "-W", "-o", "compression_type=zstd"],
        // What AWS and vSphere import: LSI Logic, hardware version 6.
        OutputFormat::Vmdk => &[
            "-o",
            "subformat=streamOptimized,adapter_type=lsilogic,compat6=on",
        ],
        // Without force_size the disk would be rounded up to a CHS geometry.
        OutputFormat::Vhd => &["-o", "subformat=dynamic,force_size=on"],
        OutputFormat::Oci => &[],
    }
}

/// Proves that two disks have the same content.
///
/// # Errors
/// [`FailureKind::Output`] if they differ, with the first difference.
pub async fn compare(a: &Utf8Path, a_format: &str, b: &Utf8Path, b_format: &str) -> Result<()> {
    run(&[
        "compare",
        "-U",
        "-f",
        a_format,
        "-F",
        b_format,
        a.as_str(),
        b.as_str(),
    ])
    .await
    .map(drop)
    .map_err(|failure| {
        Failure::new(
            FailureKind::Output,
            format!("{b} differs from the disk that it was made from"),
        )
        .caused_by(failure)
    })
}

async fn run(arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("qemu-img")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            Failure::environment("cannot run qemu-img")
                .caused_by(error)
                .with_hint(
                    "install the package qemu-utils (or qemu-img); `ovenbird doctor` names it",
                )
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut words = String::from_utf8_lossy(&output.stderr).into_owned();
    if words.trim().is_empty() {
        words = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    Err(
        Failure::environment(format!("qemu-img {} failed", arguments[0]))
            .with_details(words.trim().to_owned()),
    )
}
