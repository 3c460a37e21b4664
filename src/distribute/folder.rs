//! A folder: everything that somebody on the other side of an air gap needs.

use std::time::Duration;

use camino::Utf8Path;
use ovenbird_provenance::folder::FILE as PROVENANCE;

use super::plan::FolderPlan;
use super::sparse_copy::{self, Tally};
use super::{Delivered, Source, Watcher};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::deliver::Staging;
use crate::output::{Manifest, OutputFormat};

/// What a folder has besides the image's own files: made for it, so that nobody has signed it.
pub const MADE: [&str; 3] = ["SHA256SUMS", "register-image.json", "register-image.sh"];
/// How often whoever watches is told how far the copy is.
const TOLD: Duration = Duration::from_millis(200);

/// Copies the files, verifies them and puts them in their place. Nothing is left of a copy that is given up.
pub(super) async fn deliver(
    plan: &FolderPlan,
    source: &Source,
    watcher: &dyn Watcher,
) -> Result<Delivered> {
    let tally = Tally::default();
    let _stop = tally.stop_when_dropped();
    let mut copy = {
        let (plan, source, tally) = (plan.clone(), source.clone(), tally.clone());
        tokio::task::spawn_blocking(move || {
            place(&plan, &source, &tally).map_err(|failure| advise(failure, &plan.folder))
        })
    };
    let files = source.manifest.files.iter();
    let total = files
        .filter(|file| plan.files.contains(&file.path))
        .map(|file| file.size)
        .sum();
    loop {
        match tokio::time::timeout(TOLD, &mut copy).await {
            Ok(done) => {
                return done.or_failure(FailureKind::Internal, || "the copy was cut off".into())?;
            }
            Err(_) => watcher.sent(&plan.name, tally.bytes(), total),
        }
    }
}

/// Says what to do about a folder that can't be written.
fn advise(failure: Failure, folder: &Utf8Path) -> Failure {
    use std::io::ErrorKind;
    let kind = std::error::Error::source(&failure)
        .and_then(|cause| cause.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind);
    let hint = match kind {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            format!(
                "there is no room for the files in {folder}: make some, or name fewer `formats`"
            )
        }
        Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
            format!("{folder} can't be written by this user: is it mounted read-only?")
        }
        Some(ErrorKind::NotADirectory) => format!("a part of {folder} is a file"),
        _ => return failure,
    };
    failure.with_hint(hint)
}

fn place(plan: &FolderPlan, source: &Source, tally: &Tally) -> Result<Delivered> {
    let run = &source.manifest.run;
    // A folder of others' files gets these one by one; the manifest comes last and says that they are all there.
    let target = if plan.own {
        plan.folder.clone()
    } else {
        plan.folder.join(format!("{}-{run}", source.manifest.name))
    };
    if plan.own && Manifest::read(&target).is_ok_and(|there| there.run == *run) {
        return Ok(delivered(plan, 0));
    }
    let staging = Staging::create(&target, run)?;
    let mut bytes = 0;
    let mut sums = String::new();
    let mut manifest = source.manifest.clone();
    manifest
        .files
        .retain(|file| plan.files.contains(&file.path));
    for file in manifest.listed() {
        let (from, to) = (
            source.folder.join(file.path),
            staging.folder().join(file.path),
        );
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)
                .or_failure(FailureKind::Output, || format!("cannot create {parent}"))?;
        }
        bytes += sparse_copy::copy(&from, &to, tally).or_failure(FailureKind::Output, || {
            format!("cannot copy {from} to {to}")
        })?;
        let digest = sparse_copy::digest_of(&to, tally)
            .or_failure(FailureKind::Output, || format!("cannot read {to} back"))?;
        if digest != file.sha256 {
            return Err(Failure::new(
                FailureKind::Output,
                format!(
                    "the copy of {from} has the SHA-256 {digest}, its manifest says {}",
                    file.sha256
                ),
            ));
        }
        sums.push_str(&format!("{digest}  {}\n", file.path));
    }
    if plan.checksums {
        write(&staging.folder().join("SHA256SUMS"), &sums)?;
    }
    let register = serde_json::to_string_pretty(&plan.register)
        .or_failure(FailureKind::Internal, || {
            "cannot encode the parameters".into()
        })?;
    write(
        &staging.folder().join("register-image.json"),
        &(register + "\n"),
    )?;
    if let Some(script) = script(&manifest) {
        write(&staging.folder().join("register-image.sh"), &script)?;
    }
    if manifest == source.manifest && source.folder.join(Manifest::FILE).is_file() {
        // As it is, byte for byte: it is signed.
        for name in [Manifest::FILE, PROVENANCE] {
            let (from, to) = (source.folder.join(name), staging.folder().join(name));
            if from.is_file() {
                std::fs::copy(&from, &to).or_failure(FailureKind::Output, || {
                    format!("cannot copy {from} to {to}")
                })?;
            }
        }
    } else {
        manifest.write(staging.folder())?;
    }
    if plan.own {
        staging.publish()?;
    } else {
        spread(staging.folder(), &plan.folder)?;
    }
    if let Some(link) = &plan.latest {
        point(link, &target)?;
    }
    Ok(delivered(plan, bytes))
}

fn delivered(plan: &FolderPlan, bytes: u64) -> Delivered {
    Delivered {
        destination: plan.name.clone(),
        places: vec![plan.folder.to_string()],
        bytes,
    }
}

fn write(path: &Utf8Path, text: &str) -> Result<()> {
    std::fs::write(path, text).or_failure(FailureKind::Output, || format!("cannot write {path}"))
}

/// Moves what was staged into a folder that has other files too; the manifest last.
fn spread(staged: &Utf8Path, folder: &Utf8Path) -> Result<()> {
    let cannot = || format!("cannot put the files into {folder}");
    let mut entries = staged
        .read_dir_utf8()
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .or_failure(FailureKind::Output, cannot)?;
    entries.sort_by_key(|entry| entry.file_name() == Manifest::FILE);
    for entry in entries {
        let to = folder.join(entry.file_name());
        if to.is_dir() {
            std::fs::remove_dir_all(&to).or_failure(FailureKind::Output, cannot)?;
        }
        std::fs::rename(entry.path(), &to).or_failure(FailureKind::Output, cannot)?;
    }
    Ok(())
}

/// Lets a link point to a folder below its own, in one step.
fn point(link: &Utf8Path, target: &Utf8Path) -> Result<()> {
    let parent = link.parent().unwrap_or(Utf8Path::new("."));
    let relative = target.strip_prefix(parent).unwrap_or(target);
    let fresh = parent.join(".latest.new");
    let cannot = || format!("cannot let {link} point to {target}");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .and_then(|()| std::os::unix::fs::symlink(relative, &fresh))
    .and_then(|()| std::fs::rename(&fresh, link))
    .or_failure(FailureKind::Output, cannot)
}

/// The calls of the AWS CLI that register the disk, for where Ovenbird is not.
fn script(manifest: &Manifest) -> Option<String> {
    let (file, format) = [
        (OutputFormat::Vmdk, "VMDK"),
        (OutputFormat::Raw, "RAW"),
        (OutputFormat::Vhd, "VHD"),
    ]
    .into_iter()
    .find_map(|(wanted, word)| {
        let file = manifest.files.iter().find(|file| file.format == wanted)?;
        Some((&file.path, word))
    })?;
    Some(format!(
        r#"#!/bin/sh
# Registers the disk beside this file as an AMI. Needs the AWS CLI, jq, a bucket in the region and the role `vmimport`.
#
#   sh register-image.sh BUCKET
set -eu

cd "$(dirname "$0")"
bucket=${{1:?the bucket is missing}}
sha256sum -c SHA256SUMS
aws s3 cp '{file}' "s3://$bucket/{file}"
task=$(aws ec2 import-snapshot --disk-container "Format={format},UserBucket={{S3Bucket=$bucket,S3Key={file}}}" \
    --query ImportTaskId --output text)
while :; do
    set -- $(aws ec2 describe-import-snapshot-tasks --import-task-ids "$task" \
        --query 'ImportSnapshotTasks[0].SnapshotTaskDetail.[Status,SnapshotId,StatusMessage]' --output text)
    case $1 in
    completed) break ;;
    delet* | cancel*) echo "the import failed: $*" >&2; exit 1 ;;
    esac
    sleep 20
done
jq --arg snapshot "$2" '.BlockDeviceMappings[0].Ebs.SnapshotId = $snapshot' register-image.json > registered.json
aws ec2 register-image --cli-input-json file://registered.json
"#
    ))
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
