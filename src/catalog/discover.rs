//! From a catalogue entry and a listing to the addresses of one version.

use std::collections::BTreeMap;

use regex_lite::Regex;

use super::entry::{Download, Entry};
use super::{CatalogError, Result, Version, VersionPattern};
use crate::machine::Arch;

type Values = BTreeMap<String, String>;

/// One version of a downloadable image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Our version.
    pub version: Version,
    /// The disk's address.
    pub image: String,
    /// The address of the list of digests.
    pub digests: String,
}

impl Release {
    /// The disk's file name, under which the list of digests has it.
    pub fn file_name(&self) -> &str {
        self.image.rsplit('/').next().unwrap_or(&self.image)
    }
}

/// Replaces `{name}` by its value. Braces around anything that is no name, as in `\d{8}`, stay.
fn fill(template: &str, values: &Values) -> std::result::Result<String, String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        filled.push_str(&rest[..start]);
        let inner = &rest[start + 1..];
        let name = inner.split_once('}').map(|(name, _)| name).filter(|name| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        });
        match name {
            Some(name) => {
                filled.push_str(
                    values
                        .get(name)
                        .ok_or_else(|| format!("{{{name}}} has no value"))?,
                );
                rest = &inner[name.len() + 1..];
            }
            None => {
                filled.push('{');
                rest = inner;
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The way from an entry's listing to its versions, for one architecture.
#[derive(Debug)]
pub struct Discovery<'a> {
    entry: &'a Entry,
    download: &'a Download,
    values: Values,
    pattern: Regex,
    listing: String,
}

impl<'a> Discovery<'a> {
    /// Prepares the way.
    ///
    /// # Errors
    /// [`CatalogError::Unsupported`] if the entry can't be downloaded for this architecture.
    pub fn new(entry: &'a Entry, architecture: Arch) -> Result<Self> {
        let unsupported = |what: String| CatalogError::Unsupported {
            name: entry.name.clone(),
            what,
        };
        let download = entry
            .download
            .as_ref()
            .ok_or_else(|| unsupported("can't be downloaded".into()))?;
        let own = download
            .architectures
            .get(architecture.as_str())
            .ok_or_else(|| unsupported(format!("is not published for {architecture}")))?;
        let values = own.values.clone();
        let broken = |what: String| unsupported(format!("has a broken catalogue entry: {what}"));
        let pattern = fill(&download.pattern, &values).map_err(broken)?;
        Ok(Self {
            entry,
            download,
            pattern: Regex::new(&pattern).map_err(|error| broken(error.to_string()))?,
            listing: fill(&download.listing, &values).map_err(broken)?,
            values,
        })
    }

    /// The address of the listing.
    pub fn listing(&self) -> &str {
        &self.listing
    }

    /// Finds the highest version in the text of the listing that fits.
    ///
    /// # Errors
    /// [`CatalogError::NoVersionListed`].
    pub fn find(&self, text: &str, wanted: &VersionPattern) -> Result<Release> {
        self.releases(text)
            .filter(|release| wanted.matches(&release.version))
            .max_by_key(|release| release.version)
            .ok_or_else(|| CatalogError::NoVersionListed {
                url: self.listing.clone(),
                name: self.entry.name.clone(),
                wanted: wanted.to_string(),
            })
    }

    fn releases<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Release> + 't {
        self.pattern.captures_iter(text).filter_map(|found| {
            let mut values = self.values.clone();
            for name in self.pattern.capture_names().flatten() {
                let value = found.name(name).map_or("0", |group| group.as_str());
                values.insert(name.to_owned(), value.to_owned());
            }
            let version = fill(&self.download.version, &values).ok()?;
            let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
            // Numbers and not text, because some distributions pad theirs with zeros.
            let version = Version::new(numbers.next()??, numbers.next()??, numbers.next()??);
            Some(Release {
                version,
                image: fill(&self.download.image, &values).ok()?,
                digests: fill(&self.download.digests.url, &values).ok()?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::entry;

    /// A piece of each distribution's listing as it is published, older versions, other variants and all.
    const LISTINGS: &[(&str, Arch, &str)] = &[
        (
            "debian-12",
            Arch::X86_64,
            r#"<a href="20230612-1409/">20230612-1409/</a> <a href="20240702-1796/">x</a> <a href="20240211-1654/">x</a> <a href="daily/">daily/</a> <a href="latest/">latest/</a>"#,
        ),
        (
            "debian-13",
            Arch::Aarch64,
            r#"<a href="20250814-2204/">20250814-2204/</a>"#,
        ),
        (
            "ubuntu-24.04",
            Arch::X86_64,
            r#"<a href="release-20240423/">r</a><a href="release-20240608/">r</a><a href="release-20240608.1/">r</a><a href="release/">r</a>"#,
        ),
        (
            "ubuntu-22.04",
            Arch::Aarch64,
            r#"<a href="release-20220420/">r</a>"#,
        ),
        (
            "fedora-42",
            Arch::X86_64,
            r#"<a href="Fedora-Cloud-42-1.1-x86_64-CHECKSUM">c</a> <a href="Fedora-Cloud-Base-AmazonEC2-42-1.1.x86_64.raw.xz">e</a> <a href="Fedora-Cloud-Base-Generic-42-1.1.x86_64.qcow2">g</a>"#,
        ),
        (
            "fedora-43",
            Arch::Aarch64,
            r#"<a href="Fedora-Cloud-Base-Generic-43-1.6.aarch64.qcow2">g</a>"#,
        ),
        (
            "amazon-linux-2023",
            Arch::X86_64,
            "0f0b23c0b64e0d1a4a7cbb4c2b6a7f0d7c2a5d0a8c4a1f8b53b2ad0f7f0f1e2a  al2023-kvm-2023.7.20250331.0-kernel-6.1-x86_64.xfs.gpt.qcow2\n",
        ),
        (
            "amazon-linux-2023",
            Arch::Aarch64,
            "0f0b23c0b64e0d1a4a7cbb4c2b6a7f0d7c2a5d0a8c4a1f8b53b2ad0f7f0f1e2a  al2023-kvm-2023.7.20250331.0-kernel-6.1-arm64.xfs.gpt.qcow2\n",
        ),
        (
            "rocky-9",
            Arch::X86_64,
            r#"<a href="Rocky-9-GenericCloud-Base-9.5-20241118.0.x86_64.qcow2">a</a> <a href="Rocky-9-GenericCloud-LVM-9.6-20250531.0.x86_64.qcow2">l</a> <a href="Rocky-9-GenericCloud-Base-9.6-20250531.0.x86_64.qcow2.CHECKSUM">c</a> <a href="Rocky-9-GenericCloud-Base.latest.x86_64.qcow2">c</a>"#,
        ),
        (
            "rocky-10",
            Arch::X86_64,
            r#"<a href="Rocky-10-GenericCloud-Base-10.2-20260525.0.x86_64.qcow2">a</a>"#,
        ),
        (
            "almalinux-9",
            Arch::X86_64,
            r#"<a href="AlmaLinux-9-GenericCloud-9.5-20241120.x86_64.qcow2">a</a> <a href="AlmaLinux-9-GenericCloud-latest.x86_64.qcow2">l</a>"#,
        ),
        (
            "almalinux-10",
            Arch::X86_64,
            r#"<a href="AlmaLinux-10-GenericCloud-ext4-10.2-20260526.0.x86_64.qcow2">e</a> <a href="AlmaLinux-10-GenericCloud-10.2-20260526.0.x86_64.qcow2">a</a>"#,
        ),
        (
            "opensuse-leap-15.6",
            Arch::X86_64,
            r#"<a href="openSUSE-Leap-15.6-Minimal-VM.x86_64-15.6.0-Cloud-Build16.38.qcow2">a</a> <a href="openSUSE-Leap-15.6-Minimal-VM.x86_64-15.6.0-kvm-and-xen-Build19.1.qcow2">k</a>"#,
        ),
        (
            "alpine-3.22",
            Arch::X86_64,
            r#"<a href="generic_alpine-3.22.1-x86_64-bios-cloudinit-r0.qcow2">a</a> <a href="generic_alpine-3.22.2-x86_64-uefi-cloudinit-r0.qcow2">u</a> <a href="generic_alpine-3.22.2-x86_64-bios-tiny-r0.qcow2">t</a>"#,
        ),
        (
            "alpine-3.22",
            Arch::Aarch64,
            r#"<a href="generic_alpine-3.22.2-aarch64-uefi-cloudinit-r0.qcow2">u</a>"#,
        ),
    ];

    #[test]
    fn listings() {
        let mut report = String::new();
        for (name, architecture, text) in LISTINGS {
            let discovery = Discovery::new(entry::by_name(name).unwrap(), *architecture).unwrap();
            let release = discovery.find(text, &VersionPattern::ANY).unwrap();
            let Release {
                version,
                image,
                digests,
            } = release;
            report += &format!(
                "{name} {architecture}: {version}\n  {}\n  {image}\n  {digests}\n",
                discovery.listing()
            );
        }
        insta::assert_snapshot!(report);
    }

    #[test]
    fn every_download_has_a_listing_here() {
        for entry in entry::all().iter().filter(|entry| entry.download.is_some()) {
            assert!(
                LISTINGS.iter().any(|(name, ..)| *name == entry.name),
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn an_older_version_can_be_asked_for() {
        let (name, architecture, text) = LISTINGS[0];
        let discovery = Discovery::new(entry::by_name(name).unwrap(), architecture).unwrap();
        let find = |wanted: &str| {
            discovery
                .find(text, &wanted.parse().unwrap())
                .map(|release| release.version.to_string())
        };
        assert_eq!(find("12.20240211.x").unwrap(), "12.20240211.1654");
        assert_eq!(find("x.x.x").unwrap(), "12.20240702.1796");
        let error = find("11.x.x").unwrap_err();
        assert!(
            matches!(error, CatalogError::NoVersionListed { .. }),
            "{error}"
        );
        assert!(
            discovery
                .find("<html>an error page</html>", &VersionPattern::ANY)
                .is_err()
        );
    }

    #[test]
    fn templates() {
        let values = Values::from([("date".into(), "1".into())]);
        assert_eq!(fill(r"\d{8} {date}{", &values).unwrap(), r"\d{8} 1{");
        assert_eq!(
            fill("{other}", &values).unwrap_err(),
            "{other} has no value"
        );
    }
}
