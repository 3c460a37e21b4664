//! `qemu-img`, for what concerns QEMU's own files: overlays, and the format of disks that it will open.

use std::process::Stdio;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use tokio::process::Command;

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

/// Creates an empty qcow2 overlay of `size` bytes on a disk that a running machine has open, without opening it.
///
/// # Errors
/// [`FailureKind::Environment`] with qemu-img's words.
pub async fn create_overlay_unopened(
    overlay: &Utf8Path,
    backing: &Utf8Path,
    size: u64,
) -> Result<()> {
    let arguments = [
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-o",
        "lazy_refcounts=on",
        "-F",
        "qcow2",
        "-b",
        backing.as_str(),
        overlay.as_str(),
        &size.to_string(),
    ];
    run(&arguments)
        .await
        .map(drop)
        .map_err(|failure| failure.context(format!("cannot create {overlay}")))
}

/// The disks of a chain with their formats, from the one at the top to the one at the bottom.
///
/// # Errors
/// [`FailureKind::Environment`] with qemu-img's words.
pub async fn chain(disk: &Utf8Path) -> Result<Vec<(Utf8PathBuf, String)>> {
    #[derive(Deserialize)]
    struct Link {
        filename: Utf8PathBuf,
        format: String,
    }
    let arguments = [
        "info",
        "-U",
        "--backing-chain",
        "--output=json",
        disk.as_str(),
    ];
    let output = run(&arguments)
        .await
        .map_err(|failure| failure.context(format!("cannot read the disk {disk}")))?;
    let links: Vec<Link> = serde_json::from_slice(&output)
        .or_failure(FailureKind::Internal, || {
            "qemu-img info printed no JSON".into()
        })?;
    Ok(links
        .into_iter()
        .map(|link| (link.filename, link.format))
        .collect())
}

/// Lets an overlay stand on a disk farther down in its chain: what lies between is copied into it. The disk at `overlay`
/// must be nobody else's.
///
/// # Errors
/// [`FailureKind::Environment`] with qemu-img's words.
pub async fn rebase(overlay: &Utf8Path, onto: &(Utf8PathBuf, String)) -> Result<()> {
    // Not `convert -B`: that copies only what the topmost overlay holds itself.
    let (below, format) = onto;
    let arguments = [
        "rebase",
        "-f",
        "qcow2",
        "-F",
        format,
        "-b",
        below.as_str(),
        overlay.as_str(),
    ];
    run(&arguments)
        .await
        .map(drop)
        .map_err(|failure| failure.context(format!("cannot flatten {overlay}")))
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
