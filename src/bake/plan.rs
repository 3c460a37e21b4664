//! What a bake is going to do: everything resolved, nothing left to look up.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;

use super::local_values::LocalSource;
use super::sanitise::Choice;
use crate::aws::stored_values::StoredName;
use crate::machine::{Arch, Boot, DiskBus, Firmware, Network};
use crate::output::OutputFormat;
use crate::vulnerabilities::Check;

/// A bake with all its inputs.
#[derive(Debug, Clone)]
pub struct BakePlan {
    /// The image's name.
    pub name: String,
    /// `major.minor.patch`; the build number is given when the bake begins.
    pub version: String,
    /// The recipe as it was read, for the records.
    pub recipe: serde_json::Value,
    /// The disk to start from.
    pub parent: Parent,
    /// In the order of the recipe.
    pub components: Vec<PlannedComponent>,
    /// Size of the root disk in bytes, if it shall be larger than the parent's.
    pub root_size: Option<u64>,
    /// Where components work in the guest, and where skip markers are looked for.
    pub working_directory: String,
    /// The machine for build and test.
    pub machine: MachinePlan,
    /// What to make.
    pub outputs: Vec<OutputFormat>,
    /// The final folder; the store's image folder if none is given.
    pub destination: Option<Utf8PathBuf>,
    /// Fresh boots of the finished output; empty if tests are off.
    pub tests: Vec<TestBoot>,
    /// Sanitising rules that the recipe switches off or on.
    pub sanitise: Choice,
    /// What the recipe allows to stay although it looks like a secret.
    pub residue_allowed: Vec<String>,
    /// Known vulnerabilities are looked up; none: nobody asks for it.
    pub vulnerabilities: Option<Check>,
    /// Stored values that come from this machine.
    pub local_values: Vec<LocalSource>,
    /// Tags of the recipe.
    pub tags: BTreeMap<String, String>,
}

/// The parent image.
#[derive(Debug, Clone)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The disk's file.
    pub disk: Utf8PathBuf,
    /// The disk's format.
    pub format: String,
    /// The disk file's SHA-256.
    pub sha256: String,
    /// Firmware that it boots with.
    pub firmware: Vec<Firmware>,
    /// Kernel and initrd beside the disk, if it has them: the build guest then needs no firmware and boot loader.
    pub kernel: Option<Boot>,
}

/// A component document, resolved.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedComponent {
    /// The document's name.
    pub name: String,
    /// Its version, where it has one; with the build number, if it came from the store.
    pub version: Option<String>,
    /// Its ARN, if it came from the store.
    pub arn: Option<String>,
    /// Where it was read from.
    pub path: Utf8PathBuf,
    /// The document.
    #[serde(skip)]
    pub text: String,
    /// SHA-256 of the document.
    pub sha256: String,
    /// The phases that it has.
    pub phases: Vec<String>,
    /// Parameters given by the recipe.
    pub parameters: BTreeMap<String, Vec<String>>,
    /// What is put into the guest before its build phase.
    pub files: Vec<PlannedFile>,
    /// Digest of what decides over the result of its build phase: the document without comments, order of keys and the
    /// other phases.
    #[serde(skip)]
    pub build_digest: String,
    /// The same of the whole document.
    #[serde(skip)]
    pub digest: String,
    /// How long the result of its build phase may be used again.
    #[serde(skip)]
    pub cache: CachePolicy,
    /// The stored values that it refers to.
    #[serde(skip)]
    pub stored: BTreeSet<StoredName>,
    /// Whether it reads or writes object storage.
    #[serde(skip)]
    pub object_storage: bool,
}

impl PlannedComponent {
    /// Whether the document has a phase.
    pub fn has_phase(&self, phase: &str) -> bool {
        self.phases.iter().any(|name| name == phase)
    }
}

/// A file or folder of this machine that a component gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedFile {
    /// Where it lies.
    pub from: Utf8PathBuf,
    /// Where it goes in the guest, absolute.
    pub to: String,
    /// The digest of its content and modes, of all that is in it if it is a folder.
    pub digest: String,
}

/// How long the result of a component may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CachePolicy {
    /// As long as its inputs are the same.
    #[default]
    Keep,
    /// The same, but not longer than this: it takes something from outside that can change.
    MaxAge(Duration),
    /// It is made anew this time, and kept then.
    Again,
    /// It is run each time.
    Never,
}

impl CachePolicy {
    /// The age, if there is a limit.
    pub const fn max_age(self) -> Option<Duration> {
        match self {
            Self::MaxAge(age) => Some(age),
            Self::Keep | Self::Again | Self::Never => None,
        }
    }
}

/// The machine of build and test.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MachinePlan {
    /// The guest's architecture.
    pub arch: Arch,
    /// How the build guest boots.
    pub firmware: Firmware,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// How far the guest reaches.
    pub network: Network,
}

/// A fresh boot of the finished output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestBoot {
    /// How it boots.
    pub firmware: Firmware,
    /// The disk's controller.
    pub bus: DiskBus,
    /// Whether the test phases run in it; the other boots show only that the image comes up.
    pub components: bool,
    /// Whether it is a second copy, which must be another machine than the first.
    pub copy: bool,
}

impl BakePlan {
    /// The file name's stem for a build number: `name-version-build`.
    pub fn stem(&self, build: u32) -> String {
        format!("{}-{}-{build}", normalise(&self.name), self.version)
    }
}

/// A name as the service writes it in ARNs: lower case, spaces as dashes.
pub fn normalise(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

/// A component with a build phase, for tests.
#[cfg(test)]
pub(super) fn planned(name: &str) -> PlannedComponent {
    PlannedComponent {
        name: name.into(),
        version: None,
        arn: None,
        path: "x.yml".into(),
        text: String::new(),
        sha256: String::new(),
        phases: vec!["build".into()],
        parameters: BTreeMap::new(),
        digest: String::new(),
        build_digest: format!("build phase of {name}"),
        cache: CachePolicy::Keep,
        stored: BTreeSet::new(),
        object_storage: false,
        files: Vec::new(),
    }
}

/// A plan with nothing else than these components.
#[cfg(test)]
pub(super) fn plain(components: Vec<PlannedComponent>) -> BakePlan {
    BakePlan {
        name: "web".into(),
        version: "1.0.0".into(),
        recipe: serde_json::json!({}),
        parent: Parent {
            name: "debian-12".into(),
            version: "12.0.0".into(),
            disk: "/bases/disk.qcow2".into(),
            format: "qcow2".into(),
            sha256: "a".repeat(64),
            firmware: vec![Firmware::Bios],
            kernel: None,
        },
        components,
        root_size: None,
        working_directory: "/tmp".into(),
        machine: MachinePlan {
            arch: Arch::X86_64,
            firmware: Firmware::Bios,
            cpus: 2,
            memory_mib: 1024,
            network: Network::User,
        },
        outputs: Vec::new(),
        destination: None,
        tests: Vec::new(),
        sanitise: Choice::default(),
        vulnerabilities: None,
        residue_allowed: Vec::new(),
        local_values: Vec::new(),
        tags: BTreeMap::new(),
    }
}
