//! The catalogue: one entry for each release of a distribution, as data under `base-images/`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::digest::Algorithm;
use super::{CatalogError, Result};
use crate::machine::{Arch, Firmware};

/// The root device's name in an AMI where nobody said otherwise. Only a label, but registration wants one.
pub const DEFAULT_ROOT_DEVICE: &str = "/dev/xvda";

/// The files of `base-images/`, part of the binary.
const SOURCES: &[(&str, &str)] = &[
    (
        "almalinux-9.toml",
        include_str!("../../base-images/almalinux-9.toml"),
    ),
    (
        "almalinux-10.toml",
        include_str!("../../base-images/almalinux-10.toml"),
    ),
    (
        "alpine-3.22.toml",
        include_str!("../../base-images/alpine-3.22.toml"),
    ),
    (
        "amazon-linux-2023.toml",
        include_str!("../../base-images/amazon-linux-2023.toml"),
    ),
    (
        "debian-12.toml",
        include_str!("../../base-images/debian-12.toml"),
    ),
    (
        "debian-13.toml",
        include_str!("../../base-images/debian-13.toml"),
    ),
    (
        "fedora-42.toml",
        include_str!("../../base-images/fedora-42.toml"),
    ),
    (
        "fedora-43.toml",
        include_str!("../../base-images/fedora-43.toml"),
    ),
    (
        "opensuse-leap-15.6.toml",
        include_str!("../../base-images/opensuse-leap-15.6.toml"),
    ),
    (
        "rocky-9.toml",
        include_str!("../../base-images/rocky-9.toml"),
    ),
    (
        "rocky-10.toml",
        include_str!("../../base-images/rocky-10.toml"),
    ),
    (
        "ubuntu-22.04.toml",
        include_str!("../../base-images/ubuntu-22.04.toml"),
    ),
    (
        "ubuntu-24.04.toml",
        include_str!("../../base-images/ubuntu-24.04.toml"),
    ),
];

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    SOURCES
        .iter()
        .filter_map(|(file, text)| match toml::from_str(text) {
            Ok(entry) => Some(entry),
            // A test reads every file, so only a broken build comes here.
            Err(error) => {
                tracing::error!(file, %error, "a catalogue entry is broken");
                None
            }
        })
        .collect()
});

/// A release of a distribution and the ways to get an image of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// The name in references, such as `debian-12`.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// The user that the distribution's cloud-init makes.
    pub default_user: String,
    /// The root device's name in the distribution's own AMIs.
    pub root_device: String,
    /// The distribution's public cloud image.
    pub download: Option<Download>,
    /// How to make an image from a package mirror.
    pub bootstrap: Option<Bootstrap>,
}

/// Where a distribution publishes its cloud images. In all texts `{name}` stands for a value: of the architecture, or, where
/// a version is known, of a named group of [`pattern`](Self::pattern).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Download {
    /// A page or list on which every version leaves a trace.
    pub listing: String,
    /// The trace: a regular expression with named groups. A group that took no part counts as `0`.
    pub pattern: String,
    /// How the groups make our version; must sort as the images were made.
    pub version: String,
    /// The disk.
    pub image: String,
    /// The list of digests.
    pub digests: DigestSource,
    /// By which firmware the disk boots on x86_64; on Arm there is only UEFI.
    pub firmware: Vec<Firmware>,
    /// The number of the root partition, where it never changed.
    pub root_partition: Option<u32>,
    /// The architectures and their own values.
    pub architectures: BTreeMap<String, Architecture>,
}

/// Where the digest of a downloaded disk stands.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DigestSource {
    /// The list's address.
    pub url: String,
    /// Which of its digests to take.
    pub algorithm: Algorithm,
}

/// What differs between a download's architectures.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Architecture {
    /// Values for the placeholders.
    pub values: BTreeMap<String, String>,
}

/// How to make an image from a package mirror.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bootstrap {
    /// The release's code name on the mirror.
    pub suite: String,
    /// The first part of our version.
    pub major: u64,
    /// Which components of the mirror.
    pub components: Vec<String>,
    /// What to install beyond the essential packages.
    pub packages: Vec<String>,
    /// The disk's size.
    pub disk_mib: u64,
    /// The kernel's command line without `root=`.
    pub kernel_cmdline: String,
}

/// All entries, by name.
pub fn all() -> &'static [Entry] {
    &ENTRIES
}

/// The entry of a name. A name of the shelf with an architecture (`debian-12-aarch64`) finds the entry too.
///
/// # Errors
/// [`CatalogError::UnknownName`] with the most similar name.
pub fn by_name(name: &str) -> Result<&'static Entry> {
    let bare = name.strip_suffix("-aarch64").unwrap_or(name);
    ENTRIES
        .iter()
        .find(|entry| entry.name == bare)
        .ok_or_else(|| CatalogError::UnknownName {
            name: name.to_owned(),
            suggestion: nearest(bare).map(str::to_owned),
        })
}

/// The name that is most likely meant by a misspelt one.
pub fn nearest(name: &str) -> Option<&'static str> {
    ENTRIES
        .iter()
        .map(|entry| (distance(name, &entry.name), entry.name.as_str()))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, name)| name)
}

/// The name under which an entry's image of an architecture stands on the shelf.
pub fn shelf_name(entry: &Entry, architecture: Arch) -> String {
    match architecture {
        Arch::X86_64 => entry.name.clone(),
        Arch::Aarch64 => format!("{}-{architecture}", entry.name),
    }
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|word| word.chars().collect::<Vec<_>>());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_an_entry_of_its_name() {
        for (file, text) in SOURCES {
            let entry: Entry =
                toml::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(*file, format!("{}.toml", entry.name));
            assert!(super::super::reference::is_name(&entry.name), "{file}");
            assert!(
                entry.download.is_some() || entry.bootstrap.is_some(),
                "{file}"
            );
            for name in entry
                .download
                .iter()
                .flat_map(|download| download.architectures.keys())
            {
                let known: Result<Arch, _> =
                    serde_json::from_value(serde_json::Value::String(name.clone()));
                assert!(known.is_ok(), "{file}: {name}");
            }
        }
        let on_disk =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/base-images")).unwrap();
        let files = on_disk.filter(|file| {
            file.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|ext| ext == "toml")
        });
        assert_eq!(
            files.count(),
            SOURCES.len(),
            "a file of base-images/ is not in the list"
        );
    }

    #[test]
    fn misspelt_names() {
        let table = [
            ("debain-12", Some("debian-12")),
            ("fedroa-42", Some("fedora-42")),
            ("ubuntu-2404", Some("ubuntu-24.04")),
            ("windows", None),
        ];
        for (name, expected) in table {
            assert_eq!(nearest(name), expected, "{name}");
        }
        assert_eq!(by_name("debian-12-aarch64").unwrap().name, "debian-12");
    }
}
