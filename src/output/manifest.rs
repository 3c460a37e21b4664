//! `manifest.json`: what an image is, what it was made from, and what was seen while making it.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::format::OutputFormat;
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::machine::{Accelerator, Arch, Firmware};

/// The version of the manifest's format.
pub const VERSION: u32 = 1;

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub manifest_version: u32,
    /// The image's name.
    pub name: String,
    /// `major.minor.patch`.
    pub version: String,
    /// The build number.
    pub build: u32,
    /// The image's ARN-like id.
    pub arn: String,
    /// The run that made it.
    pub run: String,
    /// RFC 3339.
    pub created: String,
    /// The version of Ovenbird.
    pub generator: String,
    /// The guest's architecture.
    pub architecture: Arch,
    /// The firmware modes that the image is said to boot with; see `boots` for those that were seen.
    pub firmware: Vec<Firmware>,
    /// What it was made from.
    pub parent: Parent,
    /// In the order of the recipe.
    pub components: Vec<Component>,
    /// The guest's operating system.
    pub os: OsRelease,
    /// Installed packages, sorted by name.
    pub packages: Vec<Package>,
    /// What sanitising did, by rule.
    pub sanitised: Vec<SanitiseResult>,
    /// What looks like a secret and came with this bake, and was allowed by the recipe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residue: Vec<Residue>,
    /// Size of the virtual disk in bytes.
    pub virtual_size: u64,
    /// The identity of the virtual disk (see `docs/formats.md`): the same for every disk among `files`.
    pub disk_digest: String,
    /// Every boot of the bake: the build guest first, then the tests of the finished output.
    pub boots: Vec<Boot>,
    /// Every file, sorted by path.
    pub files: Vec<OutputFile>,
    /// Files about the image, sorted by path; they go wherever it goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Tags of the recipe.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// The parent image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its disk file.
    pub sha256: String,
}

/// A component that was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Component {
    /// The document's name.
    pub name: String,
    /// Its version, where it has one.
    pub version: Option<String>,
    /// SHA-256 of the document.
    pub sha256: String,
    /// The parameters given by the recipe.
    pub parameters: BTreeMap<String, Vec<String>>,
}

/// What `/etc/os-release` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OsRelease {
    /// `debian`.
    pub id: String,
    /// `12`.
    pub version: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: String,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version in the package manager's own form.
    pub version: String,
    /// Its architecture in the package manager's own word.
    pub architecture: String,
}

/// What a sanitising rule did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SanitiseResult {
    /// The rule.
    pub id: String,
    /// Whether it ran; false if its skip marker was there, or the recipe left it out.
    pub done: bool,
    /// Whether its effect was seen on the finished disk, from outside.
    #[serde(default)]
    pub verified: bool,
}

/// Something on the disk that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Residue {
    /// By what it was recognised.
    pub rule: String,
    /// Where.
    pub path: String,
}

/// A boot that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Boot {
    /// `build`, `test`, or `copy` for a second copy that was compared with the first.
    pub purpose: String,
    /// The output that was booted; none for the build guest.
    pub output: Option<OutputFormat>,
    /// What the guest itself says how it was booted.
    pub firmware: Firmware,
    /// `virtio` or `nvme`.
    pub disk: String,
    /// How guest code was executed.
    pub accelerator: Accelerator,
    /// QEMU's machine type.
    pub machine: String,
    /// QEMU's version.
    pub qemu: String,
    /// Whether it went on from a saved memory instead of booting; never so in a test.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// Seconds from QEMU's start to the login.
    pub seconds: f64,
    /// Of a copy: what it has of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputFile {
    /// Relative to the manifest's folder.
    pub path: Utf8PathBuf,
    /// What it belongs to.
    pub format: OutputFormat,
    /// Length in bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// A file about the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    /// Relative to the manifest's folder.
    pub path: Utf8PathBuf,
    /// What it is.
    pub kind: AttachmentKind,
    /// Length in bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// What a file about an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachmentKind {
    /// A bill of materials as SPDX.
    Spdx,
    /// A bill of materials as CycloneDX.
    CycloneDx,
    /// Known vulnerabilities of what is installed.
    Vulnerabilities,
    /// What a component left for people to see: reports, results of scanners.
    Evidence,
}

impl Attachment {
    /// Describes a file of an image's folder.
    ///
    /// # Errors
    /// [`FailureKind::Output`] if it can't be read.
    pub fn of(folder: &Utf8Path, path: &Utf8Path, kind: AttachmentKind) -> Result<Self> {
        let place = folder.join(path);
        let failed = || format!("cannot read {place}");
        let size = std::fs::metadata(&place)
            .or_failure(FailureKind::Output, failed)?
            .len();
        let sha256 = ovenbird_provenance::folder::digest_of(&place)
            .or_failure(FailureKind::Output, failed)?;
        Ok(Self {
            path: path.to_owned(),
            kind,
            size,
            sha256,
        })
    }
}

/// A file that belongs to an image, whatever it is.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Relative to the manifest's folder.
    pub path: &'a Utf8Path,
    /// Length in bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: &'a str,
}

impl Manifest {
    /// Outputs and attachments.
    pub fn listed(&self) -> impl Iterator<Item = Listed<'_>> {
        let outputs = self.files.iter().map(|file| Listed {
            path: &file.path,
            size: file.size,
            sha256: &file.sha256,
        });
        let attachments = self.attachments.iter().map(|file| Listed {
            path: &file.path,
            size: file.size,
            sha256: &file.sha256,
        });
        outputs.chain(attachments)
    }

    /// The file's name.
    pub const FILE: &'static str = "manifest.json";

    /// Reads the manifest of an image's folder.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if it is missing or not a manifest.
    pub fn read(folder: &Utf8Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let text = std::fs::read(&path)
            .or_failure(FailureKind::Config, || format!("cannot read {path}"))?;
        serde_json::from_slice(&text)
            .or_failure(FailureKind::Config, || format!("{path} is not a manifest"))
    }

    /// Writes the manifest into a folder, synced.
    ///
    /// # Errors
    /// [`FailureKind::Output`] if it can't be written.
    pub fn write(&self, folder: &Utf8Path) -> Result<()> {
        use std::io::Write as _;
        let path = folder.join(Self::FILE);
        let mut text = serde_json::to_vec_pretty(self).or_failure(FailureKind::Internal, || {
            "cannot encode the manifest".into()
        })?;
        text.push(b'\n');
        std::fs::File::create(&path)
            .and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()
            })
            .or_failure(FailureKind::Output, || format!("cannot write {path}"))
    }
}
