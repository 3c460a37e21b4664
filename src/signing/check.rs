//! Whether an image is what was signed: signature, every file, the disks themselves, and who the image says it is.

use camino::Utf8Path;
use jiff::Timestamp;
use ovenbird_disk::{NoProgress, OpenOptions, disk_digest, open_with};
use ovenbird_provenance::folder::{self, Problem, Verified};
use ovenbird_provenance::key::PublicKey;
use serde::Serialize;

use super::policy::Policy;
use super::statement::{BUILD_TYPE, DISK_DIGEST};
use crate::distribute::folder::MADE;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;

/// What the image must be, besides unchanged.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `NAME/VERSION/BUILD`.
    pub image: Option<String>,
    /// Only this file of the folder, by its path in it.
    pub only: Option<String>,
    /// What else is demanded of it.
    pub policy: Option<Policy>,
}

/// What was found to be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// `NAME/VERSION/BUILD`, as signed.
    pub image: String,
    /// Ids of the trusted keys that signed it.
    pub signers: Vec<String>,
    /// Files that are as signed.
    pub files: Vec<String>,
    /// Disks whose content has the signed disk digest.
    pub disks: Vec<String>,
    /// What a destination has made for itself: nobody has signed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsigned: Vec<String>,
}

/// Checks the image in a folder against the keys that are trusted.
///
/// # Errors
/// [`FailureKind::Output`] with everything that is not as signed.
pub fn check(folder: &Utf8Path, trusted: &[PublicKey], wanted: &Wanted) -> Result<Checked> {
    let verified = folder::verify(folder, trusted).or_failure(FailureKind::Output, || {
        format!("the image in {folder} is not proven")
    })?;
    let is_made = |problem: &&Problem| matches!(problem, Problem::Unnamed { path } if MADE.contains(&path.as_str()));
    let mut faults: Vec<String> = verified
        .problems
        .iter()
        .filter(|problem| !is_made(problem))
        .filter(|problem| {
            wanted
                .only
                .as_ref()
                .is_none_or(|only| problem.path() == only)
        })
        .map(ToString::to_string)
        .collect();
    let definition = &verified.statement.predicate.build_definition;
    if definition.build_type != BUILD_TYPE {
        faults.push(format!(
            "the build type is {:?}, not {BUILD_TYPE:?}",
            definition.build_type
        ));
    }
    let image = identity(&definition.external_parameters);
    if let Some(wanted) = &wanted.image
        && *wanted != image
    {
        faults.push(format!("it is {image}, not {wanted}"));
    }
    if let Some(place) = place(folder)
        && wanted.image.is_none()
        && place != image
    {
        faults.push(format!("it is {image}, but lies where {place} belongs"));
    }
    let disks = disks(folder, &verified, wanted, &mut faults);
    if let Some(policy) = &wanted.policy {
        // Only what is signed is believed.
        if verified.files.iter().any(|file| file == Manifest::FILE) {
            let signers = verified.signers.len();
            faults.extend(policy.faults(&Manifest::read(folder)?, signers, Timestamp::now()));
        } else {
            faults.push(format!(
                "{} is not as signed, so the policy can't be checked",
                Manifest::FILE
            ));
        }
    }
    if !faults.is_empty() {
        return Err(Failure::new(
            FailureKind::Output,
            format!("the image in {folder} is not what was signed"),
        )
        .with_details(faults.join("\n")));
    }
    Ok(Checked {
        image,
        signers: verified.signers.iter().map(ToString::to_string).collect(),
        files: verified
            .files
            .into_iter()
            .filter(|file| wanted.only.as_ref().is_none_or(|only| only == file))
            .collect(),
        disks,
        unsigned: verified
            .problems
            .iter()
            .filter(is_made)
            .map(|problem| problem.path().to_owned())
            .collect(),
    })
}

pub(super) fn identity(parameters: &serde_json::Value) -> String {
    let text = |key: &str| parameters[key].as_str().unwrap_or("?");
    format!(
        "{}/{}/{}",
        text("name"),
        text("version"),
        parameters["build"]
    )
}

/// `NAME/VERSION/BUILD` by the folder's place, if it lies as a home and the layout of folders has it.
fn place(folder: &Utf8Path) -> Option<String> {
    let folder = folder.canonicalize_utf8().ok()?;
    let mut parts = folder.components().rev().map(|part| part.as_str());
    let (build, version, name) = (parts.next()?, parts.next()?, parts.next()?);
    let numbers: Vec<_> = version.split('.').collect();
    let is_version = numbers.len() == 3 && numbers.iter().all(|part| part.parse::<u64>().is_ok());
    (is_version && build.parse::<u32>().is_ok()).then(|| format!("{name}/{version}/{build}"))
}

/// Reads every disk that is as signed, and compares what is on it.
fn disks(
    folder: &Utf8Path,
    verified: &Verified,
    wanted: &Wanted,
    faults: &mut Vec<String>,
) -> Vec<String> {
    let mut right = Vec::new();
    for subject in &verified.statement.subject {
        let Some(signed) = subject.digest.get(DISK_DIGEST) else {
            continue;
        };
        let is_asked = wanted
            .only
            .as_ref()
            .is_none_or(|only| *only == subject.name);
        if !is_asked || !verified.files.contains(&subject.name) {
            continue;
        }
        let path = folder.join(&subject.name);
        let digest = open_with(path.as_std_path(), &OpenOptions::new().no_backing())
            .and_then(|disk| disk_digest(&*disk, &NoProgress));
        match digest {
            Ok(digest) if digest.to_string() == *signed => right.push(subject.name.clone()),
            Ok(digest) => faults.push(format!(
                "{}: its disk digest is {digest}, signed is {signed}",
                subject.name
            )),
            Err(error) => faults.push(format!("{}: {error}", subject.name)),
        }
    }
    right
}
