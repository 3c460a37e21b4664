//! Whether an image is what was signed: signature, every file, the disks themselves, and who the image says it is.

use std::collections::BTreeSet;
use std::io::Read as _;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use ovenbird_disk::{NoProgress, OpenOptions, disk_digest, open_with};
use ovenbird_provenance::folder::{self, FILE, Problem, Verified};
use ovenbird_provenance::key::PublicKey;
use ovenbird_provenance::statement::{SHA256, Statement};
use serde::Serialize;

use super::policy::Policy;
use super::statement::{BUILD_TYPE, DISK_DIGEST};
use crate::distribute::folder::MADE;
use crate::documents::arn::normalise_name;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;
use crate::registry::sha256_of_bytes;

/// The checksums among the files that a destination makes.
const CHECKSUMS: &str = "SHA256SUMS";
/// A line of it has some hundred bytes, and an image a few thousand files; more is not read into memory.
const LARGEST_CHECKSUMS: u64 = 16 << 20;

/// What the image must be, besides unchanged.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `NAME/VERSION/BUILD`; of what is in a registry also `REGISTRY/REPOSITORY`.
    pub image: Option<String>,
    /// Only this file of the folder, by its path in it.
    pub only: Option<String>,
    /// The path by which that file was asked for: with links in it, it may claim another image than the folder does.
    pub path: Option<Utf8PathBuf>,
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
    let (mut faults, unsigned) = match &wanted.only {
        Some(only) => (faults_of_file(&verified, only), Vec::new()),
        None => faults_of_folder(folder, &verified),
    };
    let definition = &verified.statement.predicate.build_definition;
    if definition.build_type != BUILD_TYPE {
        faults.push(format!(
            "the build type is {:?}, not {BUILD_TYPE:?}",
            definition.build_type
        ));
    }
    let image = identity(&verified.statement);
    match &wanted.image {
        Some(wanted) if is_same(wanted, &image) => {}
        Some(wanted) => faults.push(format!("it is {image}, not {wanted}")),
        None => {
            let others = places(folder, wanted.path.as_deref())
                .into_iter()
                .filter(|place| !is_same(place, &image));
            faults.extend(
                others.map(|place| format!("it is {image}, but lies where {place} belongs")),
            );
        }
    }
    let disks = disks(folder, &verified, wanted, &mut faults);
    if let Some(policy) = &wanted.policy {
        match signed_manifest(folder, &verified) {
            Some(manifest) => {
                let signers = verified.signers.len();
                faults.extend(policy.faults(&manifest, signers, Timestamp::now()));
            }
            None => faults.push(format!(
                "{} is not as signed, or of another version, so the policy can't be checked",
                Manifest::FILE
            )),
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
        unsigned,
    })
}

/// What is wrong with a single file: also that nobody has signed it.
fn faults_of_file(verified: &Verified, only: &str) -> Vec<String> {
    let about = |problem: &&Problem| problem.path() == only;
    let mut faults: Vec<String> = verified
        .problems
        .iter()
        .filter(about)
        .map(ToString::to_string)
        .collect();
    // The envelope is proven by its signatures alone. Not every file that wasn't compared has a problem of its own: that of a
    // file in too deep a folder is its folder's.
    let is_right = only == FILE || verified.files.iter().any(|file| file == only);
    if faults.is_empty() && !is_right {
        faults.push(format!("{only:?} is not among the files that were signed"));
    }
    faults
}

/// What is wrong with the files of a folder, and what a destination has put there unsigned.
fn faults_of_folder(folder: &Utf8Path, verified: &Verified) -> (Vec<String>, Vec<String>) {
    let (mut faults, mut unsigned) = (Vec::new(), Vec::new());
    for problem in &verified.problems {
        match problem {
            Problem::Unnamed { path } if MADE.contains(&path.as_str()) => {
                unsigned.push(path.clone());
            }
            _ => faults.push(problem.to_string()),
        }
    }
    if unsigned.iter().any(|file| file == CHECKSUMS) {
        let mut text = Vec::new();
        let read = std::fs::File::open(folder.join(CHECKSUMS))
            .and_then(|file| file.take(LARGEST_CHECKSUMS + 1).read_to_end(&mut text));
        match read {
            Ok(length) if length as u64 > LARGEST_CHECKSUMS => faults.push(format!(
                "{CHECKSUMS:?} has more than {LARGEST_CHECKSUMS} bytes"
            )),
            Ok(_) => faults.extend(checksums(&text, &verified.statement)),
            Err(error) => faults.push(format!("{CHECKSUMS:?}: {error}")),
        }
    }
    (faults, unsigned)
}

/// Where checksums differ from what was signed: whoever goes by them alone must not be led to another file.
fn checksums(text: &[u8], statement: &Statement) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let fault = |line: &str| {
        // `DIGEST  PATH`, or `DIGEST *PATH`; with a backslash before it if the path is escaped.
        let (digest, path) = line.split_once(' ').unwrap_or((line, ""));
        let path = path.strip_prefix([' ', '*']).unwrap_or(path);
        let path = path.strip_prefix("./").unwrap_or(path);
        if path == FILE || MADE.contains(&path) {
            return None;
        }
        match signed_digest(statement, path) {
            Some(signed) if digest.eq_ignore_ascii_case(signed) => None,
            Some(signed) => Some(format!(
                "{CHECKSUMS:?} has the sha256 {digest:?} for {path:?}, signed is {signed}"
            )),
            None => Some(format!(
                "{CHECKSUMS:?} has a line for {path:?}, which was not signed"
            )),
        }
    };
    text.lines()
        .filter(|line| !line.is_empty())
        .filter_map(fault)
        .collect()
}

fn signed_digest<'a>(statement: &'a Statement, path: &str) -> Option<&'a String> {
    statement
        .subject
        .iter()
        .find(|subject| subject.name == path)
        .and_then(|subject| subject.digest.get(SHA256))
}

/// The manifest, of bytes that are as signed: the file is read once for that and for what it says, so that nobody can exchange
/// it between.
fn signed_manifest(folder: &Utf8Path, verified: &Verified) -> Option<Manifest> {
    // What was found by walking the folder is a plain file.
    verified
        .files
        .iter()
        .find(|file| *file == Manifest::FILE)
        .and_then(|file| std::fs::read(folder.join(file)).ok())
        .and_then(|bytes| manifest_of(&bytes, &verified.statement))
}

/// Reads a manifest, if it is the one that was signed.
pub(super) fn manifest_of(bytes: &[u8], statement: &Statement) -> Option<Manifest> {
    let signed = signed_digest(statement, Manifest::FILE)?;
    (sha256_of_bytes(bytes) == format!("sha256:{signed}"))
        .then(|| serde_json::from_slice(bytes).ok())
        .flatten()
}

/// The `NAME/VERSION/BUILD` of which a statement is.
pub(super) fn identity(statement: &Statement) -> String {
    let parameters = &statement.predicate.build_definition.external_parameters;
    let text = |key: &str| parameters[key].as_str().unwrap_or("?");
    format!(
        "{}/{}/{}",
        text("name"),
        text("version"),
        parameters["build"]
    )
}

/// Whether two `NAME/VERSION/BUILD` are one image: folders have names as ARNs do, statements as the recipe.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    normalise_name(one) == normalise_name(other)
}

/// Whether a text is `NAME/VERSION/BUILD` in full.
pub(super) fn is_identity(text: &str) -> bool {
    let parts: Vec<_> = text.split('/').collect();
    let [name, version, build] = parts[..] else {
        return false;
    };
    let numbers: Vec<_> = version.split('.').collect();
    let is_version = numbers.len() == 3 && numbers.iter().all(|part| part.parse::<u64>().is_ok());
    !name.is_empty() && is_version && build.parse::<u32>().is_ok()
}

/// Each `NAME/VERSION/BUILD` that the folder's place claims, where it lies as a home and the layout of folders have it. What was
/// typed counts as well as what it leads to: a newer name may be a link to an older image, and `latest` to a place that tells.
fn places(folder: &Utf8Path, file: Option<&Utf8Path>) -> BTreeSet<String> {
    let mut claims: Vec<_> = folder.canonicalize_utf8().ok().into_iter().collect();
    match file {
        None => claims.extend(absolute(folder)),
        // A file by a link can be typed as if it lay in any folder above; the one with an envelope is its own.
        Some(file) => {
            for above in absolute(file)
                .iter()
                .flat_map(|file| file.ancestors().skip(1))
            {
                claims.push(above.to_owned());
                if above.join(FILE).is_file() {
                    break;
                }
            }
        }
    }
    claims.iter().filter_map(|claim| place(claim)).collect()
}

/// The path from the root, links in it not followed.
fn absolute(path: &Utf8Path) -> Option<Utf8PathBuf> {
    let path = Utf8PathBuf::from_path_buf(std::path::absolute(path).ok()?).ok()?;
    let mut plain = Utf8PathBuf::new();
    for part in path.components() {
        match part {
            Utf8Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    Some(plain)
}

fn place(folder: &Utf8Path) -> Option<String> {
    let mut parts = folder.components().rev().map(|part| part.as_str());
    let (build, version, name) = (parts.next()?, parts.next()?, parts.next()?);
    let claim = format!("{name}/{version}/{build}");
    is_identity(&claim).then_some(claim)
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

#[cfg(test)]
mod tests {
    use ovenbird_provenance::statement::{
        BuildDefinition, Builder, Metadata, Provenance, Resource, RunDetails,
    };
    use serde_json::json;

    use super::*;

    /// The file may be exchanged after it was compared: what is parsed must be what is signed.
    #[test]
    fn a_manifest_of_other_bytes_is_none() {
        let manifest = json!({
            "manifestVersion": 1, "name": "web", "version": "1.2.3", "build": 4, "run": "r", "arn": "a",
            "created": "2026-01-02T03:04:05Z", "generator": "ovenbird 0.1.0", "architecture": "x86_64",
            "firmware": ["bios"], "parent": {"name": "debian-12", "version": "12.1.0", "sha256": "ab"},
            "components": [], "os": {"id": "debian", "version": "12", "prettyName": "Debian"}, "packages": [],
            "sanitised": [], "virtualSize": 1, "diskDigest": "00", "boots": [], "files": [],
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = sha256_of_bytes(&bytes);
        let subject = Resource {
            name: Manifest::FILE.into(),
            digest: [(SHA256.to_owned(), digest[7..].to_owned())].into(),
            ..Resource::default()
        };
        let statement = Statement::new(
            vec![subject],
            Provenance {
                build_definition: BuildDefinition {
                    build_type: BUILD_TYPE.into(),
                    external_parameters: json!({}),
                    internal_parameters: json!({}),
                    resolved_dependencies: Vec::new(),
                },
                run_details: RunDetails {
                    builder: Builder {
                        id: "x".into(),
                        version: Default::default(),
                    },
                    metadata: Metadata::default(),
                    byproducts: Vec::new(),
                },
            },
        );
        assert_eq!(manifest_of(&bytes, &statement).unwrap().build, 4);
        let mut other = bytes;
        other.push(b' ');
        assert_eq!(manifest_of(&other, &statement), None);
    }

    #[test]
    fn an_identity_has_a_name_a_version_and_a_build() {
        for text in ["web/1.0.0/3", "Web Server/10.20.30/1"] {
            assert!(is_identity(text), "{text}");
        }
        for text in [
            "registry.test/web",
            "registry.test/images/web",
            "web/1.0/3",
            "web/1.0.0/x",
            "/1.0.0/3",
            "registry.test/web/1.0.0/3",
        ] {
            assert!(!is_identity(text), "{text}");
        }
    }
}
